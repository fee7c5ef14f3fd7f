//! A word with placeholders: `{SOCKET:web}`, `{PORT:web}`, `{SLOT}`. The front doors parse it, `check` resolves the
//! names, spawn/ fills it in.

use super::SocketId;
use std::ffi::OsString;

/// Literal text and placeholders, in order.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Template(pub Vec<Piece>);

/// A part of a word.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// As it is.
    Text(OsString),
    /// The number of the worker's slot.
    Slot,
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
}

/// Which socket a placeholder means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketRef {
    /// By name, before `check`.
    Named(String),
    /// The only one there is (`{SOCKET}`), before `check`.
    Only,
    /// After `check`.
    At(SocketId),
}
