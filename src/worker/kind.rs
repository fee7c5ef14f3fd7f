//! What a descriptor is, asked of the kernel. It changes nothing but close-on-exec, which belongs to this process.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The kinds that have a type in std, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Unix,
    Udp,
    UnixDatagram,
    TcpConnected,
    UnixConnected,
    OtherSocket,
    NoSocket,
}

impl Kind {
    /// As messages say it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Kind::Tcp => "a listening tcp socket",
            Kind::Unix => "a listening unix socket",
            Kind::Udp => "a udp socket",
            Kind::UnixDatagram => "a unix datagram socket",
            Kind::TcpConnected => "a connected tcp socket",
            Kind::UnixConnected => "a connected unix socket",
            Kind::OtherSocket => "a socket of another kind",
            Kind::NoSocket => "no socket",
        }
    }
}

/// What it is.
pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    let family = match option(fd, libc::SO_DOMAIN) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => return Ok(Kind::NoSocket),
        family => family?,
    };
    let listening = option(fd, libc::SO_ACCEPTCONN)? != 0;
    Ok(match (family, option(fd, libc::SO_TYPE)?, listening) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, true) => Kind::Tcp,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, false) => Kind::TcpConnected,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, _) => Kind::Udp,
        (libc::AF_UNIX, libc::SOCK_STREAM, true) => Kind::Unix,
        (libc::AF_UNIX, libc::SOCK_STREAM, false) => Kind::UnixConnected,
        (libc::AF_UNIX, libc::SOCK_DGRAM, _) => Kind::UnixDatagram,
        _ => Kind::OtherSocket,
    })
}

/// One option of SOL_SOCKET.
fn option(fd: BorrowedFd<'_>, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is as long as `length` says.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Whether the number is an open descriptor.
pub(super) fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD on any number is harmless.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Keeps it from programs that this one starts.
pub(super) fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open; FD_CLOEXEC is the only flag of its kind.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
