//! A waiting connection -> accepted descriptor, with the name that systemd gives the unit instance that serves it and who
//! is at the other end. Never blocks; a client that is gone already is passed over.

use super::facts::{self, Bound};
use super::sys;
use nix::errno::Errno;
use nix::sys::socket::{
    SockFlag, SockaddrIn, SockaddrIn6, UnixAddr, VsockAddr, accept4, getpeername, getsockname, getsockopt, sockopt,
};
use std::net::{IpAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Connections that are gone before they are accepted, and tries that went wrong by themselves, in a row.
const TRIES: usize = 64;

/// A connection that was accepted.
#[derive(Debug)]
pub struct Connection {
    /// Close-on-exec and non-blocking.
    pub fd: OwnedFd,
    /// `N-LOCALIP:LPORT-REMOTEIP:RPORT`, `N-PID-UID` of a unix one, `N-unknown` where the other end is not known.
    pub instance: String,
    /// Whom it counts for.
    pub source: Source,
    /// REMOTE_ADDR and REMOTE_PORT; `None` where the other end has no name.
    pub remote: Option<(String, Option<u16>)>,
}

/// Where a connection comes from, as far as limits count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An address; IPv4 as such, also on an IPv6 socket.
    Ip(IpAddr),
    /// A user of this machine.
    Uid(u32),
    /// A virtual machine.
    Cid(u32),
    /// The kernel does not tell.
    Unknown,
}

/// Accepts from the first of the listeners that has something.
pub(super) fn accept<'a>(
    listeners: impl Iterator<Item = BorrowedFd<'a>>,
    number: u64,
) -> Result<Option<Connection>, Errno> {
    for listener in listeners {
        for _ in 0..TRIES {
            match one(listener) {
                Ok(None) => break,
                Ok(Some(fd)) => {
                    if let Some(connection) = describe(fd, number) {
                        return Ok(Some(connection));
                    }
                }
                Err(errno) if is_passing(errno) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(None)
}

/// One connection, if one waits. Asked first: the listener may be a blocking one.
pub(super) fn one(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    if !sys::is_readable(listener) {
        return Ok(None);
    }
    match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
        Ok(number) => Ok(Some(sys::claim(number))),
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What accept(2) says of one connection only, after which the next may be fine.
pub(super) fn is_passing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINTR
            | Errno::ECONNABORTED
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENONET
            | Errno::ETIMEDOUT
            | Errno::EPERM
    )
}

/// `None`: nobody is at the other end any more.
fn describe(fd: OwnedFd, number: u64) -> Option<Connection> {
    let raw = fd.as_raw_fd();
    let (instance, source, remote) = match sys::int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN) {
        Ok(libc::AF_INET) => {
            let (here, there) = (getsockname::<SockaddrIn>(raw).ok()?, getpeername::<SockaddrIn>(raw).ok()?);
            inet(number, (here.ip().into(), here.port()), (there.ip().into(), there.port()), None)
        }
        Ok(libc::AF_INET6) => {
            let here: SocketAddrV6 = getsockname::<SockaddrIn6>(raw).ok()?.into();
            let there: SocketAddrV6 = getpeername::<SockaddrIn6>(raw).ok()?.into();
            let address = |at: &SocketAddrV6| (at.ip().to_canonical(), at.port());
            inet(number, address(&here), address(&there), scope(&there))
        }
        Ok(libc::AF_UNIX) => unix(&fd, number),
        Ok(libc::AF_VSOCK) => vsock(number, getsockname::<VsockAddr>(raw).ok()?, getpeername::<VsockAddr>(raw).ok()?),
        _ => (format!("{number}-unknown"), Source::Unknown, None),
    };
    Some(Connection { fd, instance, source, remote })
}

type Described = (String, Source, Option<(String, Option<u16>)>);

fn inet(number: u64, here: (IpAddr, u16), there: (IpAddr, u16), scope: Option<String>) -> Described {
    let instance = format!("{number}-{}:{}-{}:{}", here.0, here.1, there.0, there.1);
    let scope = scope.map(|name| format!("%{name}")).unwrap_or_default();
    (instance, Source::Ip(there.0), Some((format!("{}{scope}", there.0), Some(there.1))))
}

/// The interface of a link-local address.
fn scope(at: &SocketAddrV6) -> Option<String> {
    let index = Some(at.scope_id()).filter(|index| *index != 0)?;
    let name = nix::net::if_::if_indextoname(index).ok();
    Some(name.map_or(index.to_string(), |name| name.to_string_lossy().into_owned()))
}

fn unix(fd: &OwnedFd, number: u64) -> Described {
    // A process of another namespace has no pid here, or no user.
    let known = getsockopt(fd, sockopt::PeerCredentials).ok().filter(|peer| peer.pid() > 0 && peer.uid() != u32::MAX);
    let (instance, source) = match known {
        Some(peer) => (format!("{number}-{}-{}", peer.pid(), peer.uid()), Source::Uid(peer.uid())),
        None => (format!("{number}-unknown"), Source::Unknown),
    };
    let name = getpeername::<UnixAddr>(fd.as_raw_fd()).ok().map(|address| facts::unix(&address));
    let name = match name {
        Some(Bound::Path(path)) => Some(path.display().to_string()),
        Some(Bound::Abstract(name)) => Some(format!("@{name}")),
        _ => None,
    };
    (instance, source, name.map(|name| (name, None)))
}

fn vsock(number: u64, here: VsockAddr, there: VsockAddr) -> Described {
    let ends = format!("{}:{}-{}:{}", here.cid(), here.port(), there.cid(), there.port());
    let remote = format!("vsock:{}:{}", there.cid(), there.port());
    (format!("{number}-{ends}"), Source::Cid(there.cid()), Some((remote, None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_named_as_systemd_does() {
        let v6 = |text: &str| text.parse::<SocketAddrV6>().unwrap();
        let at = |at: SocketAddrV6| (at.ip().to_canonical(), at.port());
        for (here, there, instance, remote) in [
            ("[::1]:80", "[::1]:9", "4-::1:80-::1:9", "::1"),
            ("[::ffff:127.0.0.1]:80", "[::ffff:10.0.0.2]:9", "4-127.0.0.1:80-10.0.0.2:9", "10.0.0.2"),
            ("[2001:db8::a]:80", "[2001:db8::b]:65535", "4-2001:db8::a:80-2001:db8::b:65535", "2001:db8::b"),
        ] {
            let (name, source, end) = inet(4, at(v6(here)), at(v6(there)), None);
            let port = v6(there).port();
            assert_eq!((name.as_str(), end), (instance, Some((remote.to_string(), Some(port)))));
            assert_eq!(source, Source::Ip(remote.parse().unwrap()));
        }
        let link_local = v6("[fe80::1]:9");
        let (_, source, end) = inet(0, at(v6("[fe80::2]:8")), at(link_local), Some("eth0".into()));
        assert_eq!((source, end.unwrap().0.as_str()), (Source::Ip("fe80::1".parse().unwrap()), "fe80::1%eth0"));
        let (name, source, end) = vsock(7, VsockAddr::new(2, 80), VsockAddr::new(3, 4_000_000));
        assert_eq!((name.as_str(), source), ("7-2:80-3:4000000", Source::Cid(3)));
        assert_eq!(end, Some(("vsock:3:4000000".into(), None)));
    }
}
