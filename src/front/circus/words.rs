//! A command line into words, as Python's shlex does: blanks, both quotes and backslashes; no comments, no variables.
//! Placeholders are part of the word in which they stand.

use crate::plan::{Piece, Template};

/// The words, or why it is none.
pub(super) fn split(line: &Template) -> Result<Vec<Template>, String> {
    let mut splitter = Splitter::default();
    for piece in &line.0 {
        match piece {
            Piece::Text(text) => text.to_string_lossy().chars().for_each(|c| splitter.character(c)),
            other => splitter.piece(other),
        }
    }
    match (splitter.quote, splitter.escaped) {
        (Some(quote), _) => Err(format!("the quote {quote} is left open")),
        (None, true) => Err("it ends with a backslash".into()),
        (None, false) => {
            splitter.end();
            Ok(splitter.words)
        }
    }
}

#[derive(Default)]
struct Splitter {
    words: Vec<Template>,
    /// The word that is being read; `None`: between words.
    word: Option<Vec<Piece>>,
    /// Its text since the last placeholder.
    text: String,
    quote: Option<char>,
    escaped: bool,
}

impl Splitter {
    fn character(&mut self, c: char) {
        if std::mem::take(&mut self.escaped) {
            // Between double quotes it hides only these two.
            if self.quote == Some('"') && !matches!(c, '"' | '\\') {
                self.push('\\');
            }
            return self.push(c);
        }
        match (self.quote, c) {
            (None | Some('"'), '\\') => self.escaped = true,
            (Some(quote), _) if quote == c => self.quote = None,
            (Some(_), _) => self.push(c),
            (None, '"' | '\'') => {
                self.word.get_or_insert_default();
                self.quote = Some(c);
            }
            (None, _) if c.is_whitespace() => self.end(),
            (None, _) => self.push(c),
        }
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default();
        self.text.push(c);
    }

    fn piece(&mut self, piece: &Piece) {
        let word = self.word.get_or_insert_default();
        if !self.text.is_empty() {
            word.push(Piece::Text(std::mem::take(&mut self.text).into()));
        }
        word.push(piece.clone());
    }

    fn end(&mut self) {
        let Some(mut word) = self.word.take() else { return };
        if !self.text.is_empty() {
            word.push(Piece::Text(std::mem::take(&mut self.text).into()));
        }
        self.words.push(Template(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    #[test]
    fn words_as_python_splits_them() {
        for (line, words) in [
            ("", vec![]),
            ("  a  b\n\tc ", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\" f\\ g", vec!["a", "b c", "d e", "f g"]),
            ("'' \"\" x''y", vec!["", "", "xy"]),
            ("\"a\\\"b\\\\c\\d\" 'e\\f' \\'g", vec!["a\"b\\c\\d", "e\\f", "'g"]),
            ("#fff x#y", vec!["#fff", "x#y"]),
        ] {
            let split = split(&Template(vec![text(line)])).expect("words");
            let made: Vec<Template> =
                words.iter().map(|word| Template(if word.is_empty() { vec![] } else { vec![text(word)] })).collect();
            assert_eq!(split, made, "{line}");
        }
        for bad in ["'a", "a \"b", "a\\", "\"a\\"] {
            assert!(split(&Template(vec![text(bad)])).is_err(), "{bad}");
        }
    }

    #[test]
    fn placeholders_stay_in_their_words() {
        let line = Template(vec![text("x --fd "), Piece::Wid, text(" 'a "), Piece::Slot, text(" b'c "), Piece::Slot]);
        let expected = [
            vec![text("x")],
            vec![text("--fd")],
            vec![Piece::Wid],
            vec![text("a "), Piece::Slot, text(" bc")],
            vec![Piece::Slot],
        ];
        assert_eq!(split(&line), Ok(expected.map(Template).to_vec()));
    }
}
