//! The dialect of circus.ini: lines -> sections with their options, each with where it stands. What is odd is said, what
//! cannot be read is a problem.
//!
//! `=` or `:`, whichever comes first. A line that begins with `#`, `;` or the word `rem` is a comment, and so is what
//! follows a `;` with a blank before it, unless an earlier `;` has none. An indented line goes on with the value above, be
//! it a comment or not. Of what is given twice the first counts. `[DEFAULT]` is part of every section.

use super::Said;
use crate::plan::Origin;

/// One `name = value`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// One `[name]` with what stands under it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
    pub(super) origin: Origin,
}

impl Section {
    /// What stands behind `kind:` in its name; of the kind itself nothing.
    pub(super) fn of_kind(&self, kind: &str) -> Option<&str> {
        Some(self.name.strip_prefix(kind)?.strip_prefix(':')?.trim())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// What an indented line belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// Nothing: the file or a section begins.
    Nothing,
    /// A line that could not be read, which was said.
    Lost,
    /// The last option.
    Option,
}

/// Reads the lines of one file, in their order.
pub(super) fn lex(name: &str, bytes: &[u8], said: &mut Said) -> Vec<Section> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut lexer = Lexer { sections: Vec::new(), before: Before::Nothing, lost: false };
    for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let origin = Origin::File { name: name.to_string(), line };
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let result = match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => lexer.line(text, &origin, said),
            Ok(_) => Err("there is a NUL byte in it".to_string()),
            Err(_) => Err("it is not UTF-8".to_string()),
        };
        if let Err(why) = result {
            lexer.before = Before::Lost;
            said.problem(&origin, why);
        }
    }
    lexer.sections
}

struct Lexer {
    sections: Vec<Section>,
    before: Before,
    /// The last header could not be read: what follows it is nobody's.
    lost: bool,
}

impl Lexer {
    fn line(&mut self, text: &str, origin: &Origin, said: &mut Said) -> Result<(), String> {
        let trimmed = text.trim();
        let rem = trimmed.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("rem"));
        if trimmed.is_empty() || text.starts_with(['#', ';']) || (rem && text.starts_with(['r', 'R'])) {
            return Ok(());
        }
        if text.starts_with(char::is_whitespace) {
            return self.goes_on(trimmed, origin, said);
        }
        self.before = Before::Nothing;
        match text.strip_prefix('[') {
            Some(rest) => self.header(rest, origin, said),
            None => self.option(text, origin),
        }
    }

    fn goes_on(&mut self, text: &str, origin: &Origin, said: &mut Said) -> Result<(), String> {
        match self.before {
            Before::Nothing => return Err("an indented line goes on with the option above, and there is none".into()),
            Before::Lost => return Ok(()),
            Before::Option => {}
        }
        let Some(entry) = self.sections.last_mut().and_then(|section| section.entries.last_mut()) else {
            return Ok(());
        };
        if text.starts_with(['#', ';']) {
            said.warn(origin, format!("an indented comment is part of the value of {}, as in Circus", entry.key));
        }
        entry.value.push('\n');
        entry.value.push_str(text);
        Ok(())
    }

    fn header(&mut self, rest: &str, origin: &Origin, said: &mut Said) -> Result<(), String> {
        // The last ] ends it, as a pattern of [env:...] may hold others; but one in a comment behind it does not.
        let comment = rest.match_indices([';', '#']).map(|(at, _)| at).find(|at| rest[..*at].trim_end().ends_with(']'));
        let end = rest[..comment.unwrap_or(rest.len())].rfind(']');
        let name = end.map(|at| (&rest[..at], &rest[at + 1..])).filter(|(name, _)| !name.trim().is_empty());
        self.lost = name.is_none();
        let Some((name, after)) = name else { return Err(format!("'[{rest}' is no section header")) };
        if !matches!(after.trim_start().chars().next(), None | Some('#' | ';')) {
            said.warn(origin, format!("'{}' behind [{name}] is left out", after.trim()));
        }
        self.sections.push(Section { name: name.to_string(), entries: Vec::new(), origin: origin.clone() });
        Ok(())
    }

    fn option(&mut self, text: &str, origin: &Origin) -> Result<(), String> {
        let Some((key, value)) = text.split_once(['=', ':']) else {
            return Err(format!("neither = nor : in '{}'", text.trim()));
        };
        let key = key.trim_end();
        if key.is_empty() {
            return Err(format!("no name before '{}'", text.trim()));
        }
        if self.lost {
            self.before = Before::Lost;
            return Ok(());
        }
        let Some(section) = self.sections.last_mut() else { return Err(format!("{key} stands before any [section]")) };
        let value = without_comment(value.trim());
        let value = if value == "\"\"" { "" } else { value };
        section.entries.push(Entry { key: key.to_string(), value: value.to_string(), origin: origin.clone() });
        self.before = Before::Option;
        Ok(())
    }
}

/// Only the first `;` is looked at.
fn without_comment(value: &str) -> &str {
    match value.split_once(';') {
        Some((before, _)) if before.ends_with(char::is_whitespace) => before.trim_end(),
        _ => value,
    }
}

/// One section for each name. Of equal options the first counts, and each has those of `[DEFAULT]` that it lacks.
pub(super) fn merge(sections: Vec<Section>, said: &mut Said) -> Vec<Section> {
    let mut merged: Vec<Section> = Vec::new();
    for Section { name, entries, origin } in sections {
        let at = merged.iter().position(|known| known.name == name).unwrap_or_else(|| {
            merged.push(Section { name, entries: Vec::new(), origin });
            merged.len() - 1
        });
        for entry in entries {
            match merged[at].get(&entry.key) {
                Some(first) => {
                    let message =
                        format!("{} was given before, and the first one counts ({})", entry.key, first.origin);
                    said.warn(&entry.origin, message);
                }
                None => merged[at].entries.push(entry),
            }
        }
    }
    if let Some(at) = merged.iter().position(|section| section.name == "DEFAULT") {
        let defaults = merged.remove(at).entries;
        for section in &mut merged {
            let missing = defaults.iter().filter(|entry| section.get(&entry.key).is_none());
            let missing: Vec<Entry> = missing.cloned().collect();
            section.entries.extend(missing);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> (Vec<String>, Said) {
        let mut said = Said::default();
        let raw = lex("c.ini", text, &mut said);
        let lines = |section: &Section| {
            let own = section.entries.iter().map(|entry| format!("{}.{}={}", section.name, entry.key, entry.value));
            own.collect::<Vec<String>>()
        };
        (merge(raw, &mut said).iter().flat_map(lines).collect(), said)
    }

    #[test]
    fn the_dialect() {
        let text =
            b"\xEF\xBB\xBF# c\n; c\nrem c\nREM\n[a]\r\nx = 1 ; c\r\ny: a=b;c ; d\nz=\"\"\nq = \"x\"\nt = a:%H#b\n\
                     list = 1\n  2\n\n# between\n\t3\nremark = 1\nX = big\n[ b ] # c\nempty =\nurl = tcp://h:1\n";
        let expected = [
            "a.x=1",
            "a.y=a=b;c ; d",
            "a.z=",
            "a.q=\"x\"",
            "a.t=a:%H#b",
            "a.list=1\n2\n3",
            "a.remark=1",
            "a.X=big",
            " b .empty=",
            " b .url=tcp://h:1",
        ];
        let (lines, said) = read(text);
        assert_eq!(lines, expected);
        assert_eq!((said.remarks.len(), said.problems), (0, vec![]));
    }

    #[test]
    fn the_first_of_two_counts_and_default_is_in_all() {
        let (lines, said) = read(b"[DEFAULT]\nx=0\nd=1\n[a]\nx=1\nx=2\n[b]\ny=1\n[a]\nx=3\nz=4\n");
        assert_eq!(lines, ["a.x=1", "a.z=4", "a.d=1", "b.y=1", "b.x=0", "b.d=1"]);
        let remarks: Vec<String> = said.remarks.iter().map(ToString::to_string).collect();
        assert_eq!(remarks[0], "c.ini:6: x was given before, and the first one counts (c.ini:5)");
        assert!(remarks[1].starts_with("c.ini:10: x") && remarks.len() == 2);
    }

    #[test]
    fn a_header_goes_to_its_last_bracket() {
        let (lines, said) =
            read(b"[env:[ab]*]\nx=1\n[env:a[!b]] ; see [c]\ny=1\n[d] # [e]\nz=1\n[f;g]\nu=1\n[h]]]\nv=1\n");
        assert_eq!(lines, ["env:[ab]*.x=1", "env:a[!b].y=1", "d.z=1", "f;g.u=1", "h]].v=1"]);
        assert_eq!((said.remarks.len(), said.problems), (0, vec![]));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        let text = b"early = 1\n[a]\n indented\n[broken\nlost = 1\n  lost\n[b] rest\nno delimiter\n  goes on\n= 1\nx = 1\n # no comment\n\xff=1\na\0=1\n";
        let (lines, said) = read(text);
        assert_eq!(lines, ["b.x=1\n# no comment"]);
        let problems: Vec<String> = said.problems.iter().map(ToString::to_string).collect();
        let expected = [
            "c.ini:1: early stands before any [section]",
            "c.ini:3: an indented line goes on with the option above, and there is none",
            "c.ini:4: '[broken' is no section header",
            "c.ini:8: neither = nor : in 'no delimiter'",
            "c.ini:10: no name before '= 1'",
            "c.ini:13: it is not UTF-8",
            "c.ini:14: there is a NUL byte in it",
        ];
        assert_eq!(problems, expected);
        let remarks: Vec<String> = said.remarks.iter().map(ToString::to_string).collect();
        assert_eq!(remarks.len(), 2, "{remarks:?}");
        assert!(remarks[0].starts_with("c.ini:7: 'rest'") && remarks[1].contains("part of the value of x"));
    }
}
