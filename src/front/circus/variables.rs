//! What may stand in a value for something else: `$(circus.X)`, `((circus.X))`, `${circus.X}`, `${socket:X}`, and prebind's
//! own `{SOCKET:X}` and its siblings. X is `env.NAME`, `sockets.NAME`, `wid` or an option of the watcher, in any case.
//!
//! The environment is filled in everywhere; the rest in cmd, args, shell_args and in variables. A word that is not known
//! stays as it stands, with a remark; a socket that is not known is a problem.

use super::Said;
use super::lex::Section;
use crate::plan::{Origin, Piece, SocketId, SocketRef, SocketSpec, Template, nearest};
use std::ffi::OsStr;

/// How a word may be written: what is before it, whether that is of `circus.` or `circus.sockets.`, what is behind it.
const SPELLINGS: [(&str, &str, &str); 4] =
    [("$(circus.", "", ")"), ("((circus.", "", "))"), ("${circus.", "", "}"), ("${socket:", "sockets.", "}")];

/// Names with their values, the later ones first in rank.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables(Vec<(String, String)>);

/// What a word of a watcher may name.
pub(super) struct Scope<'a> {
    pub(super) variables: &'a Variables,
    pub(super) section: &'a Section,
    pub(super) sockets: &'a [SocketSpec],
}

/// A part of a text: as it stands, or a word with how it is written.
enum Part<'a> {
    Text(&'a str),
    Word { written: &'a str, word: String },
}

impl Variables {
    pub(super) fn new(environment: &[(String, String)]) -> Variables {
        Variables(environment.to_vec())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.push((name.to_string(), value.to_string()));
    }

    /// By its very name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// By its name in any case, as Circus looks it up.
    fn in_any_case(&self, name: &str) -> Option<&str> {
        let mut all = self.0.iter().rev();
        all.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// With the environment filled in; nothing else is.
    pub(super) fn fill_environment(&self, text: &str, origin: &Origin, said: &mut Said) -> String {
        let mut out = String::new();
        for part in parts(text) {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Word { written, word } => match word.strip_prefix("env.").and_then(|name| self.in_any_case(name))
                {
                    Some(value) => out.push_str(value),
                    None => {
                        out.push_str(written);
                        let why = match word.starts_with("env.") {
                            true => "there is no such variable",
                            false => "here only $(circus.env.NAME) is filled in",
                        };
                        said.warn(origin, format!("{written} stays as it stands: {why}"));
                    }
                },
            }
        }
        out
    }

    /// `$NAME` of a variable's value, from prebind's own environment; what is not there is empty.
    pub(super) fn fill_dollars(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let first = after.starts_with(|c: char| c.is_ascii_uppercase());
            let name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let end = after.find(|c| !name(c)).unwrap_or(after.len());
            match first {
                true => out.push_str(self.get(&after[..end]).unwrap_or_default()),
                false => out.push('$'),
            }
            rest = if first { &after[end..] } else { after };
        }
        out + rest
    }
}

impl Scope<'_> {
    /// A text with everything in it that can be filled in.
    pub(super) fn fill(&self, text: &str, origin: &Origin, said: &mut Said) -> Template {
        let mut pieces = Vec::new();
        for part in parts(text) {
            match part {
                Part::Text(text) => self.own(text, origin, said, &mut pieces),
                Part::Word { written, word } => match self.find(&word, origin, said) {
                    Some(piece) => pieces.push(piece),
                    None => {
                        said.warn(origin, format!("{written} is not known: it stays as it stands"));
                        pieces.push(Piece::Text(written.into()));
                    }
                },
            }
        }
        pieces.retain(|piece| *piece != Piece::Text("".into()));
        Template(pieces)
    }

    /// prebind's own placeholders.
    fn own(&self, text: &str, origin: &Origin, said: &mut Said, pieces: &mut Vec<Piece>) {
        match Template::parse(OsStr::new(text)) {
            Ok(Template(found)) => pieces.extend(found.into_iter().map(|piece| self.resolved(piece, origin, said))),
            Err(why) => said.problem(origin, why),
        }
    }

    /// Names of sockets are looked up in any case, as Circus does.
    fn resolved(&self, mut piece: Piece, origin: &Origin, said: &mut Said) -> Piece {
        if let Some(SocketRef::Named(name)) = piece.socket() {
            let id = self.socket(&name.to_lowercase(), origin, said);
            piece.set_socket(id);
        }
        if let (Some(SocketRef::Only), [_]) = (piece.socket(), self.sockets) {
            piece.set_socket(SocketId(0));
        }
        piece
    }

    fn find(&self, word: &str, origin: &Origin, said: &mut Said) -> Option<Piece> {
        if word == "wid" {
            return Some(Piece::Wid);
        }
        if let Some(name) = word.strip_prefix("sockets.") {
            return Some(Piece::Socket(SocketRef::At(self.socket(name, origin, said))));
        }
        let text = match word.strip_prefix("env.") {
            Some(name) => self.variables.in_any_case(name).map(str::to_string),
            None => self.option(word, said),
        };
        text.map(|text| Piece::Text(text.into()))
    }

    fn option(&self, word: &str, said: &mut Said) -> Option<String> {
        let mut entries = self.section.entries.iter();
        if let Some(entry) = entries.find(|entry| entry.key.eq_ignore_ascii_case(word)) {
            return Some(self.variables.fill_environment(&entry.value, &entry.origin, said));
        }
        match word {
            "name" => self.section.of_kind("watcher").map(str::to_string),
            "numprocesses" => Some("1".into()),
            _ => None,
        }
    }

    /// The socket of that name; one that is not there is a problem, and then any will do.
    pub(super) fn socket(&self, name: &str, origin: &Origin, said: &mut Said) -> SocketId {
        if let Some(at) = self.sockets.iter().position(|spec| spec.name == name) {
            return SocketId(at as u16);
        }
        let names = || self.sockets.iter().map(|spec| spec.name.as_str());
        let remedy = match nearest(name, names()).or(names().next()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("[socket:{name}] makes one"),
        };
        said.wrong(origin, format!("unknown socket '{name}'"), remedy);
        SocketId(0)
    }

    /// Whether something names this option as `circus.X`.
    pub(super) fn names(&self, key: &str) -> bool {
        let named = |part: Part| matches!(part, Part::Word { word, .. } if word.eq_ignore_ascii_case(key));
        self.section.entries.iter().any(|entry| parts(&entry.value).into_iter().any(named))
    }
}

/// A text taken apart.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at < text.len() {
        match text.is_char_boundary(at).then(|| word(&text[at..])).flatten() {
            Some((word, length)) => {
                parts.push(Part::Text(&text[from..at]));
                parts.push(Part::Word { written: &text[at..at + length], word });
                at += length;
                from = at;
            }
            None => at += 1,
        }
    }
    parts.push(Part::Text(&text[from..]));
    parts
}

/// The word that a text begins with, in small letters, and how long it is as it is written.
fn word(text: &str) -> Option<(String, usize)> {
    SPELLINGS.iter().find_map(|(before, of, behind)| {
        let begins = text.get(..before.len()).is_some_and(|start| start.eq_ignore_ascii_case(before));
        let (name, _) = text.get(before.len()..).filter(|_| begins)?.split_once(behind)?;
        let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        good.then(|| (format!("{of}{}", name.to_ascii_lowercase()), before.len() + name.len() + behind.len()))
    })
}

#[cfg(test)]
#[path = "variables_tests.rs"]
mod tests;
