//! The room's one error, and the short reasons that the messages of the room end with.

use crate::plan::Origin;
use nix::errno::Errno;

/// A socket that could not be opened: exit 111.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SocketError {
    /// `argument 2: cannot bind 127.0.0.1:8080: address in use (pid 4711, nginx)`.
    pub message: String,
}

impl SocketError {
    /// What was tried on which thing, and why it failed; the origin is put before it by [`SocketError::at`].
    pub(super) fn new(message: impl Into<String>) -> SocketError {
        SocketError { message: message.into() }
    }

    /// The same, saying where the socket was asked for.
    pub(super) fn at(self, origin: &Origin) -> SocketError {
        SocketError { message: format!("{origin}: {}", self.message) }
    }
}

/// Why a system call failed, in the few words that a message ends with.
pub(super) fn reason(errno: Errno) -> String {
    match errno {
        Errno::EADDRINUSE => "address in use".into(),
        Errno::EADDRNOTAVAIL => "address not available".into(),
        Errno::EAFNOSUPPORT => "the kernel lacks this kind of address".into(),
        Errno::ENOENT => "no such file".into(),
        Errno::EACCES => "permission denied".into(),
        Errno::EPERM => "not permitted".into(),
        Errno::EBADF => "not open".into(),
        Errno::EMFILE => "too many open files (raise the limit: ulimit -n)".into(),
        other => {
            let text = other.desc();
            text[..1].to_ascii_lowercase() + &text[1..]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_and_in_lower_case() {
        for (errno, text) in [
            (Errno::EADDRINUSE, "address in use"),
            (Errno::ENOENT, "no such file"),
            (Errno::EACCES, "permission denied"),
            (Errno::EROFS, "read-only file system"),
        ] {
            assert_eq!(reason(errno), text);
        }
    }
}
