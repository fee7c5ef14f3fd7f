//! Rust source as the checks see it: the code without its comments and the contents of its strings, each
//! character in its old line, so that line numbers stay true.

/// The text with comments, strings and character literals blanked.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = blank_end(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none does.
fn blank_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next == Some('/') => find(chars, at, "\n"),
        '/' if next == Some('*') => block_end(chars, at),
        '"' => string_end(chars, at + 1),
        '\'' => char_end(chars, at),
        'b' | 'c' if !in_word && next == Some('r') => raw_end(chars, at + 2).unwrap_or(at),
        'r' if !in_word => raw_end(chars, at + 1).unwrap_or(at),
        _ => at,
    }
}

/// The first place at or after `from` where `what` starts, else the end.
fn find(chars: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    (from..chars.len()).find(|&at| chars[at..].starts_with(&what)).unwrap_or(chars.len())
}

/// Block comments nest.
fn block_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// From after the `r`: the end of `##"..."##`, or nothing where no raw string starts.
fn raw_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from..].iter().take_while(|&&c| c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    Some((find(chars, from + hashes + 1, &close) + close.len()).min(chars.len()))
}

/// A character literal; a lifetime or a label is left alone.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), Some(_)) => (find(chars, at + 3, "'") + 1).min(chars.len()),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// The words of a line with the two characters that stand before and after each.
pub(crate) fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + line[from..].find(is_word)?;
        let end = line[start..].find(|c| !is_word(c)).map_or(line.len(), |length| start + length);
        from = end;
        Some((start, &line[start..end]))
    })
}

/// Whether the line holds `path` (`std::env`, `tokio`) as whole words.
pub(crate) fn names(line: &str, path: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + path.len()..].starts_with(is_word))
}

#[cfg(test)]
mod tests {
    use super::{code, names, words};

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        for (text, seen) in [
            ("a // crate::x\nb", "a\nb"),
            ("/* /* x */ y */ a\n/*\n*/b", "a\n\nb"),
            ("f(\"cr\\\"ate::x\", 'x', '\\'', \"y\") a", "f( , , , ) a"),
            ("r#\"un\"safe\"# br\"x\" a", "a"),
            ("fn f<'a>(x: &'a str) { 'b: loop {} }", "fn f<'a>(x: &'a str) { 'b: loop {} }"),
            ("bar\"x\" a", "bar a"),
        ] {
            let squeezed: Vec<String> =
                code(text).split('\n').map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            assert_eq!(squeezed.join("\n").replace("(,", "( ,"), seen, "{text}");
            assert_eq!(code(text).matches('\n').count(), text.matches('\n').count(), "{text}");
        }
    }

    #[test]
    fn whole_words_only() {
        assert_eq!(words("use a::b_c;").map(|(_, word)| word).collect::<Vec<_>>(), ["use", "a", "b_c"]);
        assert!(names("use std::env;", "std::env") && names("tokio::spawn", "tokio"));
        assert!(!names("my_tokio::x", "tokio") && !names("std::environment", "std::env"));
    }
}
