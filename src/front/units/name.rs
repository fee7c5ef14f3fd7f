//! Unit names and their specifiers: `foo@bar.service` is prefix, instance and type.

use crate::plan::{Piece, Template};
use std::fmt;

/// The longest name, bytes.
const NAME_BYTES_MAX: usize = 255;

/// A unit's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitName {
    /// Before `@`, or all before the type.
    pub prefix: String,
    /// Between `@` and the type; empty for the template itself.
    pub instance: Option<String>,
    /// `service`, `socket`.
    pub kind: String,
}

impl UnitName {
    /// `web.socket`, `foo@bar.service`, `foo@.service`.
    pub fn parse(text: &str) -> Result<UnitName, String> {
        let wrong = |why: &str| format!("'{text}' is no unit name: {why}");
        let (stem, kind) = text.rsplit_once('.').ok_or_else(|| wrong("it has no type (.socket, .service)"))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if text.len() > NAME_BYTES_MAX {
            return Err(wrong("it is longer than 255 bytes"));
        }
        if stem.is_empty() || kind.is_empty() || !text.chars().all(allowed) {
            return Err(wrong("letters, digits and :-_.\\@ only"));
        }
        let (prefix, instance) = match stem.split_once('@') {
            None => (stem, None),
            Some(("", _)) => return Err(wrong("nothing stands before @")),
            Some((prefix, instance)) => (prefix, Some(instance.to_string())),
        };
        Ok(UnitName { prefix: prefix.into(), instance, kind: kind.into() })
    }

    /// `foo@.service` of `foo@bar.service`.
    pub fn template(&self) -> Option<UnitName> {
        let instance = self.instance.as_ref().filter(|instance| !instance.is_empty());
        instance.map(|_| UnitName { instance: Some(String::new()), ..self.clone() })
    }

    /// The same name with another type.
    pub fn with_kind(&self, kind: &str) -> UnitName {
        UnitName { kind: kind.into(), ..self.clone() }
    }

    fn stem(&self) -> String {
        let at = self.instance.as_ref().map(|instance| format!("@{instance}"));
        format!("{}{}", self.prefix, at.unwrap_or_default())
    }

    /// Fills the specifiers of a value. `outside`: those that are not about the name. A `%` with an unknown letter is an
    /// error, as in systemd. The instance of a template itself is empty.
    pub fn expand(&self, text: &str, outside: &dyn Fn(char) -> Option<String>) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        for part in self.parts(text, outside)? {
            match part {
                Part::Text(text) => out.push_str(&text),
                Part::Instance { .. } => {}
            }
        }
        Ok(out)
    }

    /// The same as a word of the plan: of a template itself the instance is known only when it is started.
    pub fn fill(&self, text: &str, outside: &dyn Fn(char) -> Option<String>) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        for part in self.parts(text, outside)? {
            match part {
                Part::Text(text) => literal.push_str(&text),
                Part::Instance { unescaped } => {
                    flush(&mut literal, &mut pieces);
                    pieces.push(Piece::Instance { unescaped });
                }
            }
        }
        flush(&mut literal, &mut pieces);
        Ok(Template(pieces))
    }

    /// Whether it is `foo@.service`, of which only instances are started.
    pub fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    fn parts(&self, text: &str, outside: &dyn Fn(char) -> Option<String>) -> Result<Vec<Part>, String> {
        let mut out = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(Part::Text(c.into()));
                continue;
            }
            let Some(letter) = chars.next() else {
                return Err(format!("'{text}' ends with a single % (%% is a percent sign)"));
            };
            let last = self.prefix.rsplit('-').next().unwrap_or_default();
            match letter {
                '%' => out.push(Part::Text("%".into())),
                'n' | 'N' => {
                    let at = if self.instance.is_some() { "@" } else { "" };
                    out.extend([Part::Text(format!("{}{at}", self.prefix)), self.instance_part(false)]);
                    let kind = if letter == 'n' { format!(".{}", self.kind) } else { String::new() };
                    out.push(Part::Text(kind));
                }
                'p' => out.push(Part::Text(self.prefix.clone())),
                'P' => out.push(Part::Text(unescape(&self.prefix))),
                'i' => out.push(self.instance_part(false)),
                'I' => out.push(self.instance_part(true)),
                'j' => out.push(Part::Text(last.into())),
                'J' => out.push(Part::Text(unescape(last))),
                'f' => out.extend(self.path()),
                _ => match outside(letter) {
                    Some(value) => out.push(Part::Text(value)),
                    None => return Err(format!("unknown specifier %{letter} (%% is a percent sign)")),
                },
            }
        }
        Ok(out)
    }

    fn instance_part(&self, unescaped: bool) -> Part {
        match self.instance.as_deref() {
            Some("") => Part::Instance { unescaped },
            Some(known) if unescaped => Part::Text(unescape(known)),
            Some(known) => Part::Text(known.into()),
            None => Part::Text(String::new()),
        }
    }

    /// `%f`: the instance, else the prefix, as an absolute path.
    fn path(&self) -> [Part; 2] {
        let name = match self.instance_part(true) {
            Part::Text(text) if text.is_empty() => Part::Text(unescape(&self.prefix)),
            known => known,
        };
        let name = match name {
            Part::Text(text) => Part::Text(text.trim_start_matches('/').into()),
            later => later,
        };
        [Part::Text("/".into()), name]
    }
}

/// Whether a value has a specifier that is about the instance.
pub fn names_instance(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '%' && chars.next().is_some_and(|letter| "iInNf".contains(letter)) {
            return true;
        }
    }
    false
}

/// A part of a value whose specifiers are filled.
enum Part {
    Text(String),
    /// It is known when the unit is started.
    Instance {
        unescaped: bool,
    },
}

fn flush(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal).into()));
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stem(), self.kind)
    }
}

/// `-` is a slash, `\x2d` a byte.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.strip_prefix(b"x").filter(|_| byte == b'\\').and_then(|hex| {
            let digits = std::str::from_utf8(hex.get(..2)?).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, &hex[2..]))
        });
        (bytes, rest) = match escaped {
            Some((one, after)) => ([bytes, vec![one]].concat(), after),
            None => ([bytes, vec![if byte == b'-' { b'/' } else { byte }]].concat(), after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let name = UnitName::parse("foo-bar@a-b\\x2dc.service").unwrap();
        assert_eq!((name.prefix.as_str(), name.instance.as_deref()), ("foo-bar", Some("a-b\\x2dc")));
        assert_eq!(name.template().unwrap().to_string(), "foo-bar@.service");
        assert_eq!(UnitName::parse("web.socket").unwrap().with_kind("service").to_string(), "web.service");
        assert_eq!(UnitName::parse("a@.service").unwrap().template(), None);
        let long = "x".repeat(256) + ".service";
        for bad in ["web", ".socket", "web.", "@a.service", "a b.socket", "a/b.socket", &long] {
            assert!(UnitName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn specifiers_are_filled() {
        let name = UnitName::parse("foo-bar@a-b\\x2dc.service").unwrap();
        let outside = |letter| (letter == 't').then(|| "/run".to_string());
        let filled = name.expand("%n %N %p %P %i %I %j %J %f %t/x %%", &outside).unwrap();
        let stem = "foo-bar@a-b\\x2dc";
        let parts = format!("{stem}.service {stem} foo-bar foo/bar a-b\\x2dc a/b-c bar bar /a/b-c /run/x %");
        assert_eq!(filled, parts);
        assert!(name.expand("%Z", &outside).unwrap_err().contains("unknown specifier %Z"));
        assert!(name.expand("100%", &outside).is_err());
        let template = UnitName::parse("foo@.service").unwrap();
        let instance = |unescaped| Piece::Instance { unescaped };
        let text = |text: &str| Piece::Text(text.into());
        let pieces = [text("foo@"), instance(false), text(".service /"), instance(true), text(" foo")];
        assert_eq!(template.fill("%n %f %p", &outside), Ok(Template(pieces.to_vec())));
        assert_eq!(template.expand("%n|%i|%f", &outside).unwrap(), "foo@.service||/");
        assert_eq!(name.fill("%i", &outside), Ok(Template(vec![text("a-b\\x2dc")])));
        assert!(names_instance("a%%i%N") && !names_instance("%%i %p %") && template.is_template());
        let plain = UnitName::parse("a-b.socket").unwrap();
        assert_eq!(plain.expand("%i|%f", &outside).unwrap(), "|/a/b");
    }
}
