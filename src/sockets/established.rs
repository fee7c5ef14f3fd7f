//! The connections that somebody accepted from a listening socket and still has: a dump of NETLINK_SOCK_DIAG
//! (sock_diag(7)), told apart by their own address, which is the listening socket's. A connection that waits to be
//! accepted has no inode yet; one that was made from here has another address. `None` where the kernel does not tell.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, UnixAddr, getsockname, recv, send,
    socket,
};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// An attribute of the question: a program that is run for each TCP socket.
const INET_DIAG_REQ_BYTECODE: u16 = 1;
/// Its instructions: the port is not below, not above.
const BC_S_GE: u8 = 2;
const BC_S_LE: u8 = 3;
const UDIAG_SHOW_NAME: u32 = 1;
const UNIX_DIAG_NAME: u16 = 0;
/// TCP_ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT: the states in which a process may have it, a bit each.
const STATES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8;
/// struct nlmsghdr, inet_diag_msg, unix_diag_msg.
const HEADER_BYTES: usize = 16;
const INET_BYTES: usize = 72;
const UNIX_BYTES: usize = 16;
/// Of one question. More connections are not looked through: it would hold up everything else.
const ANSWERS_MAX: usize = 16_384;

/// Where it listens, as the kernel's answers have it.
#[derive(Debug, PartialEq)]
enum Local {
    V4(Ipv4Addr, u16),
    V6(Ipv6Addr, u16),
    /// A path, or a name that begins with NUL.
    Unix(Vec<u8>),
}

/// The inodes of the connections that were accepted from this listening socket.
pub fn established(listener: BorrowedFd<'_>) -> Option<BTreeSet<u64>> {
    let local = local(listener)?;
    let asked = SockProtocol::NetlinkSockDiag;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(asked)).ok()?;
    send(netlink.as_raw_fd(), &question(&local), MsgFlags::empty()).ok()?;
    let mut answers = Answers { local, found: BTreeSet::new(), left: ANSWERS_MAX };
    let mut bytes = vec![0u8; 32 * 1024];
    loop {
        // The kernel has the next part ready before it hands one out.
        let length = recv(netlink.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).ok()?;
        if answers.read(bytes.get(..length)?)? {
            return Some(answers.found);
        }
    }
}

fn local(listener: BorrowedFd<'_>) -> Option<Local> {
    let address: SockaddrStorage = getsockname(listener.as_raw_fd()).ok()?;
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(Local::V4(v4.ip(), v4.port()));
    }
    if let Some(v6) = address.as_sockaddr_in6() {
        return Some(Local::V6(v6.ip(), v6.port()));
    }
    let address: UnixAddr = getsockname(listener.as_raw_fd()).ok()?;
    match (address.path(), address.as_abstract()) {
        (Some(path), _) => Some(Local::Unix(path.as_os_str().as_bytes().to_vec())),
        (None, Some(name)) => Some(Local::Unix([b"\0", name].concat())),
        (None, None) => None,
    }
}

/// struct nlmsghdr with NLM_F_DUMP, then inet_diag_req_v2 with a program, or unix_diag_req.
fn question(local: &Local) -> Vec<u8> {
    let port = match local {
        Local::V4(_, port) | Local::V6(_, port) => *port,
        Local::Unix(_) => 0,
    };
    let mut body = Vec::with_capacity(80);
    match local {
        Local::Unix(_) => {
            body.extend([libc::AF_UNIX as u8, 0, 0, 0]);
            for word in [STATES, 0, UDIAG_SHOW_NAME, u32::MAX, u32::MAX] {
                body.extend(word.to_ne_bytes());
            }
        }
        Local::V4(..) | Local::V6(..) => {
            let family = if matches!(local, Local::V4(..)) { libc::AF_INET } else { libc::AF_INET6 };
            body.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
            body.extend(STATES.to_ne_bytes());
            body.extend([0; 48]);
            body.extend(20u16.to_ne_bytes());
            body.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
            // struct inet_diag_bc_op: code, where to go on, where if not (behind the end: no); the port is in a second one.
            for (code, yes, no) in [(BC_S_GE, 8u8, 20u16), (BC_S_LE, 8, 12)] {
                body.extend([code, yes]);
                body.extend(no.to_ne_bytes());
                body.extend([0, 0]);
                body.extend(port.to_ne_bytes());
            }
        }
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

struct Answers {
    local: Local,
    found: BTreeSet<u64>,
    /// So many more are looked at.
    left: usize,
}

impl Answers {
    /// One part of the dump: whether it was the last.
    fn read(&mut self, mut part: &[u8]) -> Option<bool> {
        while part.len() >= HEADER_BYTES {
            let length = usize::try_from(word32(part, 0)?).ok().filter(|length| *length >= HEADER_BYTES)?;
            let message = part.get(HEADER_BYTES..length)?;
            match word16(part, 4)? {
                NLMSG_DONE => return Some(true),
                NLMSG_ERROR => return None,
                SOCK_DIAG_BY_FAMILY => {
                    self.left = self.left.checked_sub(1)?;
                    self.found.extend(inode(message, &self.local).filter(|inode| *inode != 0));
                }
                _ => {}
            }
            part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(false)
    }
}

/// The inode of a connection, if it is one of that address.
fn inode(message: &[u8], local: &Local) -> Option<u64> {
    let (at, is_ours) = match local {
        Local::V4(ip, port) => {
            let own = Ipv4Addr::from(<[u8; 4]>::try_from(message.get(8..12)?).ok()?);
            (INET_BYTES - 4, source_port(message)? == *port && (ip.is_unspecified() || own == *ip))
        }
        Local::V6(ip, port) => {
            let own = Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?);
            (INET_BYTES - 4, source_port(message)? == *port && (ip.is_unspecified() || own == *ip))
        }
        Local::Unix(name) => (4, unix_name(message)? == name.as_slice()),
    };
    is_ours.then(|| word32(message, at).map(u64::from))?
}

fn source_port(message: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(4..6)?.try_into().ok()?))
}

/// The attribute with the name; a path ends with NUL.
fn unix_name(message: &[u8]) -> Option<&[u8]> {
    let mut at = UNIX_BYTES;
    loop {
        let length = usize::from(word16(message, at)?);
        if word16(message, at + 2)? == UNIX_DIAG_NAME {
            let name = message.get(at + 4..at + length)?;
            let is_path = name.first() != Some(&0);
            return Some(if is_path { name.strip_suffix(b"\0").unwrap_or(name) } else { name });
        }
        // An attribute counts its own four bytes and is padded to four.
        at += length.max(4).next_multiple_of(4);
    }
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    fn inode_of(socket: &impl AsFd) -> u64 {
        super::super::facts::node(socket.as_fd()).expect("it is open").1
    }

    #[test]
    fn only_what_was_accepted_from_it_is_found() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let listener = TcpListener::bind(address).expect("a port");
            let port = listener.local_addr().expect("bound").port();
            let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connects");
            let (client, other) = (connect(), TcpListener::bind("127.0.0.1:0").expect("a port"));
            let (accepted, _) = listener.accept().expect("it waits");
            let _queued = connect();
            assert_eq!(established(listener.as_fd()), Some([inode_of(&accepted)].into()), "{address}");
            assert_eq!(established(other.as_fd()), Some(BTreeSet::new()), "{address}");
            // Its other end closed: it is still had.
            drop(client);
            assert_eq!(established(listener.as_fd()), Some([inode_of(&accepted)].into()), "{address}");
        }
    }

    #[test]
    fn unix_sockets_have_names() {
        let path = std::env::temp_dir().join(format!("prebind-established-{}", std::process::id()));
        let at_path = SocketAddr::from_pathname(&path).expect("a path");
        let name = format!("prebind-established-{}", std::process::id());
        for address in [at_path, SocketAddr::from_abstract_name(&name).expect("a name")] {
            let listener = UnixListener::bind_addr(&address).expect("bind");
            let _client = UnixStream::connect_addr(&address).expect("connects");
            let (accepted, _) = listener.accept().expect("it waits");
            let _queued = UnixStream::connect_addr(&address).expect("connects");
            assert_eq!(established(listener.as_fd()), Some([inode_of(&accepted)].into()), "{address:?}");
        }
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn what_is_no_listening_socket_tells_nothing() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        assert_eq!(established(one.as_fd()), None);
        let pipe = std::io::pipe().expect("a pipe");
        assert_eq!(established(pipe.0.as_fd()), None);
    }

    #[test]
    fn answers_that_are_none_give_nothing() {
        let answers = |left| Answers { local: Local::Unix(b"x".to_vec()), found: BTreeSet::new(), left };
        assert_eq!(answers(1).read(&[]), Some(false));
        assert_eq!(answers(1).read(&[0; 40]), None);
        let mut done = question(&Local::Unix(Vec::new()));
        done[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        assert_eq!(answers(1).read(&done), Some(true));
        assert_eq!(answers(1).read(&done[..30]), None, "cut");
        let one = question(&Local::Unix(Vec::new()));
        assert_eq!(answers(1).read(&one), Some(false));
        assert_eq!(answers(0).read(&one), None, "too many");
    }
}
