//! Fills the placeholders of a template from what is known of the sockets that a worker gets.

use super::{Copy, Given};
use crate::plan::{Piece, SocketId, SocketRef, Template};
use std::ffi::{OsStr, OsString};

/// A placeholder for a socket that the service does not have: `check` lets none through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoSuchSocket;

/// The number that a socket has in the worker.
pub(super) fn number(given: &[Given], id: SocketId) -> Option<usize> {
    given.iter().position(|socket| socket.id == id).map(|position| 3 + position)
}

/// The word that the template makes. A part that a socket does not have (the port of a path) is empty.
pub(super) fn fill(template: &Template, given: &[Given], copy: &Copy) -> Result<OsString, NoSuchSocket> {
    let find = |reference: &SocketRef| match reference {
        SocketRef::At(id) => number(given, *id).map(|number| (number, given[number - 3].facts)).ok_or(NoSuchSocket),
        SocketRef::Named(_) | SocketRef::Only => Err(NoSuchSocket),
    };
    let mut word = OsString::new();
    for piece in &template.0 {
        match piece {
            Piece::Text(text) => word.push(text),
            Piece::Slot => word.push(copy.slot.to_string()),
            Piece::Wid => word.push((u64::from(copy.index) + 1).to_string()),
            Piece::Socket(socket) => word.push(find(socket)?.0.to_string()),
            Piece::Addr(socket) => word.push(&find(socket)?.1.address),
            Piece::Host(socket) => word.push(find(socket)?.1.host.as_deref().unwrap_or_default()),
            Piece::Port(socket) => word.push(find(socket)?.1.port.map(|port| port.to_string()).unwrap_or_default()),
            Piece::Path(socket) => {
                word.push(find(socket)?.1.path.as_deref().map_or(OsStr::new(""), |path| path.as_os_str()))
            }
            Piece::Instance { unescaped } => {
                let instance = copy.connection.map(|connection| &connection.instance);
                word.push(instance.map(|name| name.text(*unescaped)).unwrap_or_default());
            }
        }
    }
    Ok(word)
}
