//! Variables in the words of a unit's command, as systemd fills them in (systemd.service(5), COMMAND LINES; what the
//! manual leaves open is as systemd 252 was seen to do it). No shell: only `$NAME` as a whole word, `${NAME}` and `$$`.

use std::borrow::Cow;

/// A word and where in it the pid of the process is to stand.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) bytes: Vec<u8>,
    pub(super) pids: Vec<usize>,
}

/// A variable's value, and whether it is the pid of the process.
pub(super) type Value<'a> = (Cow<'a, [u8]>, bool);

/// The words that `word` becomes. `get` knows the variables.
pub(super) fn expand<'a>(word: &[u8], get: &impl Fn(&[u8]) -> Option<Value<'a>>, words: &mut Vec<Word>) {
    match word {
        [b'$', b'{' | b'$', ..] => words.push(in_place(word, get)),
        // The whole rest is the name; what is no name has no value, and the word is gone.
        [b'$', name @ ..] => match get(name) {
            Some((value, true)) => words.push(Word { bytes: value.into_owned(), pids: vec![0] }),
            Some((value, false)) => words.extend(split(&value).map(|bytes| Word { bytes, pids: Vec::new() })),
            None => {}
        },
        _ => words.push(in_place(word, get)),
    }
}

/// `${NAME}` is replaced, whatever is in the braces but for a `:`; `$$` is a `$`. All else stays as it is.
fn in_place<'a>(word: &[u8], get: &impl Fn(&[u8]) -> Option<Value<'a>>) -> Word {
    let mut made = Word::default();
    let mut rest = word;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'$', [b'$', after @ ..]) => {
                made.bytes.push(b'$');
                rest = after;
            }
            (b'$', [b'{', after @ ..]) => match after.iter().position(|byte| matches!(byte, b'}' | b':')) {
                Some(end) if after[end] == b'}' => {
                    if let Some((value, is_pid)) = get(&after[..end]) {
                        made.pids.extend(is_pid.then_some(made.bytes.len()));
                        made.bytes.extend_from_slice(&value);
                    }
                    rest = &after[end + 1..];
                }
                _ => made.bytes.push(b'$'),
            },
            _ => made.bytes.push(*first),
        }
    }
    made
}

/// The words of a value: blanks part them, quotes of both kinds hold them together, a backslash saves the next byte;
/// a quote that is left open ends with the value.
fn split(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut bytes = value.iter().copied();
    std::iter::from_fn(move || {
        let mut word: Option<Vec<u8>> = None;
        let mut quote = None;
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => {
                    let word = word.get_or_insert_default();
                    word.extend(bytes.next());
                }
                _ if quote == Some(byte) => quote = None,
                _ if quote.is_some() => word.get_or_insert_default().push(byte),
                b'\'' | b'"' => {
                    quote = Some(byte);
                    word.get_or_insert_default();
                }
                b' ' | b'\t' | b'\n' | b'\r' if word.is_some() => return word,
                b' ' | b'\t' | b'\n' | b'\r' => {}
                _ => word.get_or_insert_default().push(byte),
            }
        }
        word
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: [(&str, &str); 18] = [
        ("ONE", "a b  c"),
        ("TWO", "x"),
        ("QQ", "\"p q\" r"),
        ("EMPTY", ""),
        ("SQ", "'u v' w"),
        ("BAD", "\"open"),
        ("ESC", "a\\ b"),
        ("BLANKS", " a\tb\nc\rd\x0be "),
        ("SEMI", "a;b"),
        ("DOL", "$ONE"),
        ("BS", "x\\ny"),
        ("MIX", "a\"b c\"d"),
        ("BSL", "x\\"),
        ("EQ", "a '' b"),
        ("EQ2", "''"),
        ("Q3", "a'b c'\"d e\"f"),
        ("Q4", "'a\\'b' c"),
        ("Q5", "\"a\\\"b\" c"),
    ];

    fn get(name: &[u8]) -> Option<Value<'static>> {
        let value = VARIABLES.iter().find(|(key, _)| key.as_bytes() == name);
        match name {
            b"PID" => Some((b"0000000000".as_slice().into(), true)),
            _ => value.map(|(_, value)| (value.as_bytes().into(), false)),
        }
    }

    fn expanded(word: &str) -> Vec<Word> {
        let mut words = Vec::new();
        expand(word.as_bytes(), &get, &mut words);
        words
    }

    /// Each line was run by systemd 252 as a command of a unit.
    #[test]
    fn words_as_systemd_makes_them() {
        let table: &[(&str, &[&str])] = &[
            ("$ONE", &["a", "b", "c"]),
            ("${ONE}", &["a b  c"]),
            ("pre$ONE", &["pre$ONE"]),
            ("pre${ONE}post", &["prea b  cpost"]),
            ("$NOPE", &[]),
            ("x${NOPE}y", &["xy"]),
            ("${NOPE}", &[""]),
            ("$EMPTY", &[]),
            ("${EMPTY}", &[""]),
            ("$$", &["$"]),
            ("$$ONE", &["$ONE"]),
            ("$${ONE}", &["${ONE}"]),
            ("a$$b", &["a$b"]),
            ("$$$$", &["$$"]),
            ("$ONE$TWO", &[]),
            ("${ONE}${TWO}", &["a b  cx"]),
            ("$ONE,x", &[]),
            ("$TWO end", &[]),
            ("$ $", &[]),
            ("$", &[]),
            ("$1", &[]),
            ("${1}", &[""]),
            ("${", &["${"]),
            ("${}", &[""]),
            ("${ONE", &["${ONE"]),
            ("${ONE:-d}", &["${ONE:-d}"]),
            ("${NOPE:+d}", &["${NOPE:+d}"]),
            ("$QQ", &["p q", "r"]),
            ("${QQ}", &["\"p q\" r"]),
            ("$SQ", &["u v", "w"]),
            ("$BAD", &["open"]),
            ("$ESC", &["a b"]),
            ("$BLANKS", &["a", "b", "c", "d\x0be"]),
            ("$SEMI", &["a;b"]),
            ("$DOL", &["$ONE"]),
            ("${DOL}", &["$ONE"]),
            ("$BS", &["xny"]),
            ("$MIX", &["ab cd"]),
            ("$BSL", &["x"]),
            ("$EQ", &["a", "", "b"]),
            ("$EQ2", &[""]),
            ("$Q3", &["ab cd ef"]),
            ("$Q4", &["a'b", "c"]),
            ("$Q5", &["a\"b", "c"]),
            ("$ONE-x", &[]),
            ("${ONE}$", &["a b  c$"]),
            ("a${TWO", &["a${TWO"]),
            ("{$TWO}", &["{$TWO}"]),
            ("\\$ONE", &["\\$ONE"]),
            ("$UNSET${TWO}", &[]),
            ("${TWO}$ONE", &["x$ONE"]),
            ("${TWO}$$", &["x$"]),
            ("$TWO$$", &[]),
            ("x$${TWO}", &["x${TWO}"]),
            ("$${TWO}${TWO}", &["${TWO}x"]),
            ("${TWO$ONE}", &[""]),
            ("${O-E}", &[""]),
            ("a${O-E}b", &["ab"]),
            ("", &[""]),
        ];
        for (word, expected) in table {
            let words: Vec<String> =
                expanded(word).into_iter().map(|word| String::from_utf8(word.bytes).unwrap()).collect();
            assert_eq!(words, *expected, "{word}");
        }
    }

    #[test]
    fn places_of_the_pid() {
        let word = |text: &str, pids: &[usize]| Word { bytes: text.into(), pids: pids.into() };
        assert_eq!(expanded("$PID"), [word("0000000000", &[0])]);
        assert_eq!(expanded("<${PID}|${PID}>"), [word("<0000000000|0000000000>", &[1, 12])]);
    }
}
