//! The lines of a unit file: sections and assignments, by systemd's rules. What cannot be read is said, never fatal.

use super::Remark;
use crate::plan::Origin;

/// systemd's bound on a line with its continuations, bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// One `Key=value` of a file, with its section.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Without its brackets.
    pub section: String,
    /// As it is written: case matters.
    pub key: String,
    /// Without the blanks around it.
    pub value: String,
    /// The line where it begins.
    pub origin: Origin,
}

/// Reads one file. `name` is how messages call it.
pub fn lex(name: &str, bytes: &[u8], remarks: &mut Vec<Remark>) -> Vec<Assignment> {
    let mut found = Vec::new();
    let mut section: Option<String> = None;
    for (line, text) in logical_lines(name, bytes, remarks) {
        let origin = Origin::File { name: name.to_string(), line };
        let text = text.trim_matches(BLANKS);
        if text.is_empty() {
            continue;
        }
        if let Some(rest) = text.strip_prefix('[') {
            section = rest.strip_suffix(']').map(str::to_string);
            if section.is_none() {
                remarks.push(Remark::warn(origin, format!("'{text}' is no section header: what follows is ignored")));
                section = Some("X-".into());
            }
            continue;
        }
        let Some((key, value)) = text.split_once('=') else {
            remarks.push(Remark::warn(origin, format!("no '=' in '{}': the line is ignored", start_of(text))));
            continue;
        };
        let (key, value) = (key.trim_end_matches(BLANKS), value.trim_start_matches(BLANKS));
        match &section {
            Some(section) if !key.is_empty() => {
                let (key, value) = (key.to_string(), value.to_string());
                found.push(Assignment { section: section.clone(), key, value, origin });
            }
            Some(_) => remarks.push(Remark::warn(origin, "no key before '=': the line is ignored")),
            None => remarks.push(Remark::warn(origin, format!("{key} stands before any section: ignored"))),
        }
    }
    found
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// What a message repeats of a line.
fn start_of(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

/// Lines with their continuations joined, each with the number of its first one. Comments inside a continuation are
/// left out, and it goes on behind them.
fn logical_lines(name: &str, bytes: &[u8], remarks: &mut Vec<Remark>) -> Vec<(usize, String)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let origin = || Origin::File { name: name.to_string(), line: number };
        let Ok(text) = std::str::from_utf8(line) else {
            remarks.push(Remark::warn(origin(), "not UTF-8: the line is ignored"));
            continue;
        };
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.trim_start_matches(BLANKS).starts_with(['#', ';']) {
            continue;
        }
        let (first, mut whole) = pending.take().unwrap_or_else(|| (number, String::new()));
        whole.push_str(text);
        if whole.len() > LINE_BYTES_MAX {
            remarks.push(Remark::warn(origin(), format!("longer than {LINE_BYTES_MAX} bytes: the line is ignored")));
            continue;
        }
        if whole.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
            whole.pop();
            whole.push(' ');
            pending = Some((first, whole));
        } else {
            lines.push((first, whole));
        }
    }
    lines.extend(pending);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> (Vec<String>, Vec<String>) {
        let mut remarks = Vec::new();
        let found = lex("a.service", text, &mut remarks);
        let found = found.iter().map(|one| format!("{} [{}]{}={}", one.origin, one.section, one.key, one.value));
        (found.collect(), remarks.iter().map(Remark::to_string).collect())
    }

    #[test]
    fn lines_are_joined_and_trimmed() {
        let text = b"\xef\xbb\xbf# head\n[Service]\n  Key = first \\\n# comment\n   second line  \n\n;x\nTwo=a\\\\\nThree=\r\n[X-Ours]\nA=b=c";
        let (found, remarks) = read(text);
        assert_eq!(
            found,
            [
                "a.service:3 [Service]Key=first     second line",
                "a.service:8 [Service]Two=a\\\\",
                "a.service:9 [Service]Three=",
                "a.service:11 [X-Ours]A=b=c",
            ]
        );
        assert_eq!(remarks, Vec::<String>::new());
        assert_eq!(read(b"[S]\nLast=a \\").0, ["a.service:2 [S]Last=a"]);
    }

    #[test]
    fn oddities_are_said_with_their_line() {
        let (found, remarks) = read(b"Early=1\n[Open\nLost=1\n[S]\nnothing\n=x\n\xff=1\nGood=1\n");
        assert_eq!(found, ["a.service:3 [X-]Lost=1", "a.service:8 [S]Good=1"]);
        assert_eq!(
            remarks,
            [
                "a.service:7: not UTF-8: the line is ignored",
                "a.service:1: Early stands before any section: ignored",
                "a.service:2: '[Open' is no section header: what follows is ignored",
                "a.service:5: no '=' in 'nothing': the line is ignored",
                "a.service:6: no key before '=': the line is ignored",
            ]
        );
        let long = [b"[S]\nA=".to_vec(), vec![b'x'; LINE_BYTES_MAX], b"\nB=1".to_vec()].concat();
        assert_eq!(read(&long).0, ["a.service:3 [S]B=1"]);
    }
}
