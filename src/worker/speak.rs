//! One datagram to NOTIFY_SOCKET. The sd-notify crate gives the words; it sends to paths only and reads the process
//! environment at each call, so the sending is here.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A launcher that is busy is waited for, one that hangs is not.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends one line; a line break in a text would start another key.
pub(super) fn send(address: &OsStr, word: &str) -> io::Result<()> {
    let to = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(address),
    }?;
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.send_to_addr(word.replace(['\n', '\0'], " ").as_bytes(), &to).map(drop)
}
