//! Environment files in the syntax of systemd's EnvironmentFile= (systemd.exec(5)): `KEY=VALUE` lines, comments that
//! begin with `#` or `;`, quotes around the value, a backslash that joins lines. Text in, pairs out.

/// What a file says, and the lines that say nothing: their number from 1, and what is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) bad_lines: Vec<(usize, &'static str)>,
}

/// Reads bytes one by one and knows the line.
struct Reader<'a> {
    rest: std::slice::Iter<'a, u8>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.rest.next()?;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    /// The bytes up to the end of the line.
    fn skip_line(&mut self) {
        while self.next().is_some_and(|byte| !ends_line(byte)) {}
    }
}

fn ends_line(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// Reads a whole file. The last of equal keys is the one that counts; all are returned.
pub(super) fn parse(text: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let mut reader = Reader { rest: text.iter(), line: 1 };
    loop {
        let line = reader.line;
        let Some(first) = reader.next() else { return parsed };
        match first {
            b'#' | b';' => reader.skip_line(),
            _ if first.is_ascii_whitespace() => {}
            b'=' => {
                parsed.bad_lines.push((line, "no name before '='"));
                reader.skip_line();
            }
            _ => match key(first, &mut reader) {
                None => parsed.bad_lines.push((line, "no '='")),
                Some(key) => {
                    let value = value(&mut reader);
                    if is_name(&key) {
                        parsed.pairs.push((key, value));
                    } else {
                        parsed.bad_lines.push((line, "not a variable's name before '='"));
                    }
                }
            },
        }
    }
}

/// Up to the `=`; `None` where the line ends before.
fn key(first: u8, reader: &mut Reader) -> Option<Vec<u8>> {
    let mut key = vec![first];
    loop {
        match reader.next() {
            Some(b'=') => {
                key.truncate(key.trim_ascii_end().len());
                return Some(key);
            }
            Some(byte) if !ends_line(byte) => key.push(byte),
            _ => return None,
        }
    }
}

fn is_name(key: &[u8]) -> bool {
    key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') && !key[0].is_ascii_digit()
}

/// Up to the end of the line. White space around it goes, unless quoted or escaped; after a closing quote the value
/// goes on, as in a shell.
fn value(reader: &mut Reader) -> Vec<u8> {
    let mut value = Vec::new();
    let mut keep = 0; // trailing white space behind this is dropped
    let mut at_start = true; // quotes count only at the start, and after another quoted part
    while let Some(byte) = reader.next() {
        match byte {
            _ if ends_line(byte) => break,
            b'\'' if at_start => {
                while let Some(byte) = reader.next().filter(|byte| *byte != b'\'') {
                    value.push(byte);
                }
                keep = value.len();
            }
            b'"' if at_start => {
                double_quoted(reader, &mut value);
                keep = value.len();
            }
            b'\\' => {
                at_start = false;
                if let Some(byte) = reader.next().filter(|byte| !ends_line(*byte)) {
                    value.push(byte);
                }
                keep = value.len();
            }
            _ if byte.is_ascii_whitespace() => {
                if !at_start {
                    value.push(byte);
                }
            }
            _ => {
                at_start = false;
                value.push(byte);
                keep = value.len();
            }
        }
    }
    value.truncate(keep);
    value
}

fn double_quoted(reader: &mut Reader, value: &mut Vec<u8>) {
    while let Some(byte) = reader.next() {
        match byte {
            b'"' => return,
            b'\\' => match reader.next() {
                Some(b'\n') | None => {}
                Some(byte @ (b'"' | b'\\' | b'`' | b'$')) => value.push(byte),
                Some(byte) => value.extend([b'\\', byte]),
            },
            _ => value.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A=b\n", "b"),
            ("  A = b c \t\n", "b c"),
            ("A=\n", ""),
            ("A=b\r\n", "b"),
            ("A='b  c '\n", "b  c "),
            ("A=\"b  c \"  \n", "b  c "),
            ("A='b'\"c\"d\n", "bcd"),
            ("A=b'c'\n", "b'c'"),
            ("A='b\nc'\n", "b\nc"),
            ("A=b\\\nc\n", "bc"),
            ("A=\"b\\\nc\"\n", "bc"),
            ("A=b\\ \n", "b "),
            ("A=b\\nc\n", "bnc"),
            ("A=\"b\\n\\$\\\"\\`\\\\\"\n", "b\\n$\"`\\"),
            ("A='b\\'\n", "b\\"),
            ("A=b#c;d\n", "b#c;d"),
            ("A=b=c\n", "b=c"),
            ("A=$HOME\n", "$HOME"),
            ("# x \\\nA=b\n;A=c\n", "b"),
            ("A='open", "open"),
        ] {
            let parsed = parse(text.as_bytes());
            let expected = Parsed { pairs: vec![(b"A".to_vec(), expected.into())], bad_lines: vec![] };
            assert_eq!(parsed, expected, "{text:?}");
        }
    }

    #[test]
    fn bad_lines_are_named_and_the_others_count() {
        let parsed = parse(b"A=1\nnothing\nexport B=2\n\n=3\n9X=4\nC='5\n6'\nlast");
        let pairs: [(&[u8], &[u8]); 2] = [(b"A", b"1"), (b"C", b"5\n6")];
        assert_eq!(parsed.pairs, pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
        assert_eq!(parsed.bad_lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 5, 6, 9]);
    }

    #[test]
    fn no_bytes_break_it() {
        let mut seed = 7u32;
        for _ in 0..2000 {
            let text: Vec<u8> = (0..40)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"AB=='\"\\\n\r #;\t\0\xff"[(seed >> 16) as usize % 15]
                })
                .collect();
            let parsed = parse(&text);
            assert!(parsed.pairs.iter().all(|(key, _)| is_name(key)), "{text:?}");
        }
    }
}
