//! A word with placeholders: `{SOCKET:web}`, `{PORT:web}`, `{SLOT}`. The front doors parse it, `check` resolves the
//! names, spawn/ fills it in.

use super::{Plan, SocketId};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Literal text and placeholders, in order.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Template(pub Vec<Piece>);

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Piece {
    /// As it is.
    Text(OsString),
    /// The number of the worker's slot.
    Slot,
    /// The lowest number from 1 on that no live worker of its service has: Circus's `circus.wid`.
    Wid,
    /// The descriptor's number in the worker.
    Socket(SocketRef),
    /// HOST:PORT, or the path.
    Addr(SocketRef),
    /// The host.
    Host(SocketRef),
    /// The real port.
    Port(SocketRef),
    /// The path.
    Path(SocketRef),
    /// `%i` of the unit that is started for a connection, which is known only then; `unescaped`: `%I`.
    Instance {
        /// With `-` as `/` and `\x2d` as `-`.
        unescaped: bool,
    },
}

/// Which socket a placeholder means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketRef {
    /// By name, before `check`.
    Named(String),
    /// The only one there is (`{SOCKET}`), before `check`.
    Only,
    /// After `check`.
    At(SocketId),
}

/// The words that stand for something of a socket, and whether they may also stand in <>.
type Make = fn(SocketRef) -> Piece;
const WORDS: [(&str, Make, bool); 5] = [
    ("SOCKET", Piece::Socket, true),
    ("ADDR", Piece::Addr, false),
    ("HOST", Piece::Host, false),
    ("PORT", Piece::Port, false),
    ("PATH", Piece::Path, false),
];

impl Template {
    /// Reads a word. What stands in braces and is no placeholder is text: JSON and shell code pass unharmed.
    pub fn parse(word: &OsStr) -> Result<Template, String> {
        let bytes = word.as_bytes();
        let (mut pieces, mut text, mut at) = (Vec::new(), Vec::new(), 0);
        while at < bytes.len() {
            match placeholder(&bytes[at..])? {
                Some((piece, length)) => {
                    flush(&mut text, &mut pieces);
                    pieces.push(piece);
                    at += length;
                }
                None => {
                    text.push(bytes[at]);
                    at += 1;
                }
            }
        }
        flush(&mut text, &mut pieces);
        Ok(Template(pieces))
    }

    /// With its placeholders as the command line has them.
    pub fn shown(&self, plan: &Plan) -> String {
        let name = |of: &SocketRef| match of {
            SocketRef::At(id) => plan.socket(*id).name.clone(),
            SocketRef::Named(name) => name.clone(),
            SocketRef::Only => String::new(),
        };
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.to_string_lossy().into_owned(),
            Piece::Slot => "{SLOT}".into(),
            Piece::Wid => "$(circus.wid)".into(),
            Piece::Instance { unescaped } => if *unescaped { "%I" } else { "%i" }.into(),
            Piece::Socket(of) => format!("{{SOCKET:{}}}", name(of)),
            Piece::Addr(of) => format!("{{ADDR:{}}}", name(of)),
            Piece::Host(of) => format!("{{HOST:{}}}", name(of)),
            Piece::Port(of) => format!("{{PORT:{}}}", name(of)),
            Piece::Path(of) => format!("{{PATH:{}}}", name(of)),
        });
        pieces.collect()
    }

    /// The sockets that it names.
    pub fn sockets(&self) -> impl Iterator<Item = &SocketRef> {
        self.0.iter().filter_map(Piece::socket)
    }
}

impl Piece {
    /// The socket that it stands for.
    pub fn socket(&self) -> Option<&SocketRef> {
        match self {
            Piece::Text(_) | Piece::Slot | Piece::Wid | Piece::Instance { .. } => None,
            Piece::Socket(of) | Piece::Addr(of) | Piece::Host(of) | Piece::Port(of) | Piece::Path(of) => Some(of),
        }
    }

    /// The same placeholder, for that socket.
    pub fn set_socket(&mut self, id: SocketId) {
        if let Some(of) = self.socket_mut() {
            *of = SocketRef::At(id);
        }
    }

    /// The same, to be resolved.
    pub(super) fn socket_mut(&mut self) -> Option<&mut SocketRef> {
        match self {
            Piece::Text(_) | Piece::Slot | Piece::Wid | Piece::Instance { .. } => None,
            Piece::Socket(of) | Piece::Addr(of) | Piece::Host(of) | Piece::Port(of) | Piece::Path(of) => Some(of),
        }
    }
}

fn flush(text: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(OsString::from_vec(std::mem::take(text))));
    }
}

/// The placeholder that `bytes` begins with, and how long it is.
fn placeholder(bytes: &[u8]) -> Result<Option<(Piece, usize)>, String> {
    let (close, angle) = match bytes.first() {
        Some(b'{') => (b'}', false),
        Some(b'<') => (b'>', true),
        _ => return Ok(None),
    };
    let Some(end) = bytes.iter().position(|byte| *byte == close) else { return Ok(None) };
    let Ok(inner) = std::str::from_utf8(&bytes[1..end]) else { return Ok(None) };
    if inner == "SLOT" {
        return Ok(Some((Piece::Slot, end + 1)));
    }
    let (word, name) = match inner.split_once(':') {
        Some((word, name)) => (word, Some(name)),
        None => (inner, None),
    };
    let Some((_, make, _)) = WORDS.iter().find(|(known, _, in_angles)| *known == word && (*in_angles || !angle)) else {
        return Ok(None);
    };
    match name {
        Some("") => Err(format!("'{}' names no socket", &String::from_utf8_lossy(&bytes[..=end]))),
        Some(name) => Ok(Some((make(SocketRef::Named(name.to_string())), end + 1))),
        // `${PATH}` is a shell's: without a name only SOCKET is ours.
        None if word == "SOCKET" => Ok(Some((make(SocketRef::Only), end + 1))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> SocketRef {
        SocketRef::Named(name.into())
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    #[test]
    fn words_are_read() {
        let table: [(&str, Vec<Piece>); 11] = [
            ("", vec![]),
            ("plain", vec![text("plain")]),
            ("fd://{SOCKET:web}", vec![text("fd://"), Piece::Socket(named("web"))]),
            ("<SOCKET:web.socket>", vec![Piece::Socket(named("web.socket"))]),
            ("{SOCKET}<SOCKET>", vec![Piece::Socket(SocketRef::Only), Piece::Socket(SocketRef::Only)]),
            ("{HOST:a}:{PORT:a}", vec![Piece::Host(named("a")), text(":"), Piece::Port(named("a"))]),
            ("x{SLOT}<SLOT>", vec![text("x"), Piece::Slot, Piece::Slot]),
            ("{\"a\": {}}", vec![text("{\"a\": {}}")]),
            ("{SOCKETS:x}{socket:x}<PORT:x>{", vec![text("{SOCKETS:x}{socket:x}<PORT:x>{")]),
            ("${PATH}", vec![text("${PATH}")]),
            ("{ADDR:x}", vec![Piece::Addr(named("x"))]),
        ];
        for (word, pieces) in table {
            assert_eq!(Template::parse(OsStr::new(word)), Ok(Template(pieces)), "{word}");
        }
        assert_eq!(Template::parse(OsStr::new("{SOCKET:}")), Err("'{SOCKET:}' names no socket".into()));
    }

    #[test]
    fn any_bytes_survive() {
        let word = OsStr::from_bytes(b"\xff{SLOT}\xfe{\xff}");
        let Template(pieces) = Template::parse(word).expect("it is fine");
        let expected = [
            Piece::Text(OsStr::from_bytes(b"\xff").into()),
            Piece::Slot,
            Piece::Text(OsStr::from_bytes(b"\xfe{\xff}").into()),
        ];
        assert_eq!(pieces, expected);
    }
}
