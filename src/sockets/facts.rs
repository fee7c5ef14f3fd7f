//! An open descriptor -> what is known of it: kind, real address, family, node. Asks the kernel, changes nothing.

use super::error::{SocketError, reason};
use super::{mqueue, special, sys};
use crate::plan::SocketKind;
use nix::errno::Errno;
use nix::sys::socket::{NetlinkAddr, SockaddrIn, SockaddrIn6, UnixAddr, VsockAddr, getsockname};
use nix::sys::stat::{FileStat, SFlag, fstat};
use std::net::{SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What is known of an open socket.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketFacts {
    /// Its name.
    pub name: String,
    /// tcp, udp, unix, unixgram, seqpacket, fifo, special, netlink, mq, vsock.
    pub kind: &'static str,
    /// The real address: `127.0.0.1:8080`, `[::]:8080`, `/run/web.sock`, `@web`, `vsock:2:80`,
    /// `netlink:0:1`, `mq:/name`.
    pub address: String,
    /// Its host, for inet sockets.
    pub host: Option<String>,
    /// Its real port.
    pub port: Option<u32>,
    /// Its path.
    pub path: Option<PathBuf>,
    /// AF_INET, AF_INET6, AF_UNIX, AF_VSOCK AF_NETLINK as einhorn's EINHORN_FD_FAMILY_n says it; None for what is no socket.
    pub family: Option<&'static str>,
    /// Whether it was passed to prebind, not bound by it.
    pub inherited: bool,
    /// Device and inode of the descriptor (fstat): what tells in /proc/PID/fd that a process holds it.
    pub node: (u64, u64),
}

/// Where a descriptor is bound, as the kernel says it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bound {
    V4(SocketAddrV4),
    V6(SocketAddrV6),
    Path(PathBuf),
    Abstract(String),
    /// A unix socket without a name.
    Unnamed,
    Vsock {
        cid: u32,
        port: u32,
    },
    Fifo(Option<PathBuf>),
    Special(Option<PathBuf>),
    Netlink {
        family: i32,
        groups: u32,
    },
    MessageQueue(Option<String>),
}

impl Bound {
    /// Its path in the file system, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Bound::Path(path) | Bound::Fifo(Some(path)) | Bound::Special(Some(path)) => Some(path),
            _ => None,
        }
    }

    /// Calls it by another path, if it is of a kind that has one.
    pub(super) fn call(&mut self, path: PathBuf) {
        match self {
            Bound::Path(old) => *old = path,
            Bound::Fifo(old) | Bound::Special(old) => *old = Some(path),
            _ => {}
        }
    }
}

/// A descriptor that prebind can pass on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Description {
    pub(super) kind: SocketKind,
    pub(super) word: &'static str,
    pub(super) bound: Bound,
    /// AF_ number; 0 for what is no socket.
    pub(super) domain: i32,
    pub(super) node: (u64, u64),
    /// A stream or seqpacket socket that listen(2) was called on.
    pub(super) listening: bool,
}

impl Description {
    /// Whether connections are accepted from it, not data read.
    pub(super) fn accepts(&self) -> bool {
        matches!(self.kind, SocketKind::Stream | SocketKind::SeqPacket)
    }

    /// Its address in words.
    pub(super) fn address(&self) -> String {
        match &self.bound {
            Bound::V4(address) => address.to_string(),
            Bound::V6(address) => address.to_string(),
            Bound::Path(path) | Bound::Fifo(Some(path)) | Bound::Special(Some(path)) => path.display().to_string(),
            Bound::Abstract(name) => format!("@{name}"),
            Bound::Vsock { cid: u32::MAX, port } => format!("vsock::{port}"),
            Bound::Vsock { cid, port } => format!("vsock:{cid}:{port}"),
            Bound::Unnamed => "unnamed".into(),
            Bound::Fifo(None) => "a pipe".into(),
            Bound::Special(None) => "a file".into(),
            Bound::Netlink { family, groups } => format!("netlink:{family}:{groups}"),
            Bound::MessageQueue(Some(name)) => format!("mq:{name}"),
            Bound::MessageQueue(None) => "a queue without a name".into(),
        }
    }

    /// As everybody outside this room sees it.
    pub(super) fn facts(&self, name: &str, inherited: bool) -> SocketFacts {
        let (host, port) = match &self.bound {
            Bound::V4(address) => (Some(address.ip().to_string()), Some(u32::from(address.port()))),
            Bound::V6(address) => (Some(address.ip().to_string()), Some(u32::from(address.port()))),
            Bound::Vsock { port, .. } => (None, Some(*port)),
            _ => (None, None),
        };
        let path = self.bound.path().map(PathBuf::from);
        let family = match self.domain {
            libc::AF_INET => Some("AF_INET"),
            libc::AF_INET6 => Some("AF_INET6"),
            libc::AF_UNIX => Some("AF_UNIX"),
            libc::AF_VSOCK => Some("AF_VSOCK"),
            libc::AF_NETLINK => Some("AF_NETLINK"),
            _ => None,
        };
        let (kind, address, node) = (self.word, self.address(), self.node);
        SocketFacts { name: name.into(), kind, address, host, port, path, family, inherited, node }
    }
}

/// Asks the kernel what the descriptor is; what is neither a socket of a family that we know nor a FIFO, nor a queue or a
/// file that can be waited for, is refused.
pub(super) fn describe(fd: BorrowedFd<'_>) -> Result<Description, SocketError> {
    let failed = |errno| SocketError::new(format!("cannot look at descriptor {}: {}", fd.as_raw_fd(), reason(errno)));
    let stat = fstat(fd).map_err(failed)?;
    let node = node_of(&stat);
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFSOCK => socket(fd, node).map_err(failed)?,
        SFlag::S_IFIFO => Ok(fifo(fd, node)),
        SFlag::S_IFREG if special::is_queue(fd) => {
            let bound = Bound::MessageQueue(mqueue::name_of(fd));
            Ok(file(SocketKind::MessageQueue, "mq", bound, node))
        }
        SFlag::S_IFREG | SFlag::S_IFCHR if special::tells(fd).map_err(failed)? => {
            Ok(file(SocketKind::Special, "special", Bound::Special(special::path_of(fd)), node))
        }
        _ => Err(SocketError::new("it is neither a socket nor a FIFO")),
    }
}

/// Device and inode of a descriptor.
pub(super) fn node(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    fstat(fd).map(|stat| node_of(&stat))
}

fn node_of(stat: &FileStat) -> (u64, u64) {
    // The types of the fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    let node = (stat.st_dev as u64, stat.st_ino as u64);
    node
}

fn fifo(fd: BorrowedFd<'_>, node: (u64, u64)) -> Description {
    // An unnamed pipe reads as `pipe:[123]`, which is no path.
    file(SocketKind::Fifo, "fifo", Bound::Fifo(special::path_of(fd)), node)
}

/// What is no socket.
fn file(kind: SocketKind, word: &'static str, bound: Bound, node: (u64, u64)) -> Description {
    Description { kind, word, bound, domain: 0, node, listening: false }
}

fn socket(fd: BorrowedFd<'_>, node: (u64, u64)) -> Result<Result<Description, SocketError>, Errno> {
    let raw = fd.as_raw_fd();
    let domain = sys::int_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)?;
    let bound = match domain {
        libc::AF_INET => Bound::V4(getsockname::<SockaddrIn>(raw)?.into()),
        libc::AF_INET6 => Bound::V6(getsockname::<SockaddrIn6>(raw)?.into()),
        libc::AF_UNIX => unix(&getsockname::<UnixAddr>(raw)?),
        libc::AF_VSOCK => {
            let address = getsockname::<VsockAddr>(raw)?;
            Bound::Vsock { cid: address.cid(), port: address.port() }
        }
        libc::AF_NETLINK => {
            let family = sys::int_option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
            Bound::Netlink { family, groups: getsockname::<NetlinkAddr>(raw)?.groups() }
        }
        other => {
            let message = format!("it is a socket of family {other}, not inet, unix, vsock or netlink");
            return Ok(Err(SocketError::new(message)));
        }
    };
    let kind = match sys::int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)? {
        // Raw or datagram is one to netlink.
        _ if domain == libc::AF_NETLINK => SocketKind::Netlink,
        libc::SOCK_STREAM => SocketKind::Stream,
        libc::SOCK_DGRAM => SocketKind::Datagram,
        libc::SOCK_SEQPACKET => SocketKind::SeqPacket,
        other => return Ok(Err(SocketError::new(format!("it is a socket of type {other}, not stream or datagram")))),
    };
    let word = match (kind, domain) {
        (SocketKind::SeqPacket, _) => "seqpacket",
        (SocketKind::Netlink, _) => "netlink",
        (_, libc::AF_VSOCK) => "vsock",
        (SocketKind::Datagram, libc::AF_UNIX) => "unixgram",
        (_, libc::AF_UNIX) => "unix",
        (SocketKind::Datagram, _) => "udp",
        _ => "tcp",
    };
    let listening = sys::int_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0;
    Ok(Ok(Description { kind, word, bound, domain, node, listening }))
}

/// Where a unix socket is bound.
pub(super) fn unix(address: &UnixAddr) -> Bound {
    if let Some(path) = address.path() {
        return Bound::Path(path.into());
    }
    match address.as_abstract() {
        Some(name) => Bound::Abstract(String::from_utf8_lossy(name).into_owned()),
        None => Bound::Unnamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn kinds_and_addresses_are_the_kernels() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = describe(tcp.as_fd()).unwrap();
        assert_eq!(found.address(), tcp.local_addr().unwrap().to_string());
        assert!(found.listening && found.accepts());
        let facts = found.facts("web", true);
        assert_eq!((facts.kind, facts.family, facts.host.as_deref()), ("tcp", Some("AF_INET"), Some("127.0.0.1")));
        assert_eq!(facts.port, Some(u32::from(tcp.local_addr().unwrap().port())));

        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert!(!describe(client.as_fd()).unwrap().listening);

        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let facts = describe(udp.as_fd()).unwrap().facts("dns", false);
        assert_eq!((facts.kind, facts.family, facts.host.as_deref()), ("udp", Some("AF_INET6"), Some("::1")));

        let datagram = UnixDatagram::unbound().unwrap();
        let facts = describe(datagram.as_fd()).unwrap().facts("log", false);
        assert_eq!((facts.kind, facts.family, facts.address.as_str()), ("unixgram", Some("AF_UNIX"), "unnamed"));
    }

    #[test]
    fn pipes_pass_and_files_do_not() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(describe(reader.as_fd()).unwrap().facts("p", true).kind, "fifo");
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(describe(file.as_fd()).unwrap_err().to_string(), "it is neither a socket nor a FIFO");
        let mounts = std::fs::File::open("/proc/self/mounts").unwrap();
        assert_eq!(describe(mounts.as_fd()).unwrap().word, "special");
        let packet = sys::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0);
        for alien in packet.into_iter() {
            assert!(describe(alien.as_fd()).unwrap_err().to_string().contains("family 17"));
        }
        let netlink = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).unwrap();
        let facts = describe(netlink.as_fd()).unwrap().facts("n", true);
        assert_eq!((facts.kind, facts.family, facts.address.as_str()), ("netlink", Some("AF_NETLINK"), "netlink:0:0"));
    }
}
