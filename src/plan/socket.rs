//! One socket that was asked for: kind, address, options. The text forms are read by the front doors.

use super::Origin;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// `-b [NAME=]ADDR[,OPT]...`, one socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketSpec {
    /// `[A-Za-z0-9_.-]+`; unnamed: its position, "0", "1".
    pub name: String,
    /// Whether the name was given, not made from the position: inherited sockets are matched by given names only.
    pub named: bool,
    /// What kind of descriptor.
    pub kind: SocketKind,
    /// Where it is bound.
    pub address: Address,
    /// How.
    pub options: SocketOptions,
    /// Where it was asked for.
    pub origin: Origin,
    /// Nobody asks for it any more: held until the workers that have it are gone.
    pub retired: bool,
    /// Children of the supervisor from this number on may have it.
    pub since: u32,
}

/// The kind of a socket. With [`Address::Fd`] it is what the descriptor turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SocketKind {
    /// SOCK_STREAM, listening: `tcp:`, `unix:`, `vsock:`.
    #[default]
    Stream,
    /// SOCK_DGRAM: `udp:`, `unixgram:`.
    Datagram,
    /// SOCK_SEQPACKET, listening: `seqpacket:`.
    SeqPacket,
    /// A named pipe, opened for reading and writing: `fifo:`.
    Fifo,
    /// A character device or a file of /proc or /sys, opened for reading (`ListenSpecial=`).
    Special,
    /// AF_NETLINK (`ListenNetlink=`).
    Netlink,
    /// A POSIX message queue, opened for reading (`ListenMessageQueue=`).
    MessageQueue,
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// TCP or UDP.
    Inet {
        /// The host part.
        host: Host,
        /// 0: any free port; the real one is shown by `status`.
        port: u16,
    },
    /// A path of the file system.
    Unix(PathBuf),
    /// The abstract namespace of unix sockets, without the leading NUL.
    Abstract(String),
    /// A vsock address; `u32::MAX` as CID is any.
    Vsock {
        /// Context id.
        cid: u32,
        /// Port.
        port: u32,
    },
    /// A netlink family by number, and its multicast groups as bind(2) takes them.
    Netlink {
        /// NETLINK_ROUTE 0, NETLINK_AUDIT 9 ...
        family: i32,
        /// A bit each.
        groups: u32,
    },
    /// A message queue's name, `/name`.
    MessageQueue(String),
    /// `fd:N`: adopt the open descriptor N.
    Fd(i32),
}

/// The host part of an inet address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host {
    /// `*`: IPv6 and IPv4 in one socket.
    Dual,
    /// An IPv4 address; a bare port is 0.0.0.0.
    V4(Ipv4Addr),
    /// An IPv6 address with its scope, `[fe80::1%eth0]`.
    V6(Ipv6Addr, Option<String>),
    /// A name, looked up when the socket is bound: its first IPv4 address, else IPv6.
    Name(String),
}

/// `,OPT` of `-b`, and the settings of `[Socket]`. Absent means what the kernel does by itself.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketOptions {
    /// `r`, `so_reuseaddr`. Listening inet sockets get SO_REUSEADDR anyway, as systemd does; datagram ones only if asked.
    pub reuse_address: bool,
    /// `n`, `o_nonblock`: workers get it with O_NONBLOCK. It belongs to the open file description, so to all of them.
    pub nonblock: bool,
    /// Connections that may wait; `None`: what the kernel allows.
    pub backlog: Option<u32>,
    /// SO_REUSEPORT: other processes of the same user may bind the address too.
    pub reuse_port: bool,
    /// One SO_REUSEPORT socket per slot.
    pub slots: bool,
    /// Mode of the path, by umask around bind; default 0666 less prebind's umask.
    pub mode: Option<u32>,
    /// Owner of the path, name or number.
    pub user: Option<String>,
    /// Group of the path, name or number.
    pub group: Option<String>,
    /// Mode of parent directories that have to be made; default 0755.
    pub directory_mode: Option<u32>,
    /// IPV6_V6ONLY.
    pub v6only: Option<bool>,
    /// TCP_DEFER_ACCEPT, seconds.
    pub defer_accept_seconds: Option<u32>,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// SO_KEEPALIVE.
    pub keepalive: bool,
    /// TCP_KEEPIDLE, seconds.
    pub keepalive_idle_seconds: Option<u32>,
    /// TCP_KEEPINTVL, seconds.
    pub keepalive_interval_seconds: Option<u32>,
    /// TCP_KEEPCNT.
    pub keepalive_probes: Option<u32>,
    /// IP_FREEBIND: the address need not exist yet.
    pub freebind: bool,
    /// IP_TRANSPARENT.
    pub transparent: bool,
    /// Of a host by name, its first IPv6 address.
    pub prefer_v6: bool,
    /// SO_BINDTODEVICE.
    pub device: Option<String>,
    /// SO_RCVBUF, bytes.
    pub receive_buffer_bytes: Option<u64>,
    /// SO_SNDBUF, bytes.
    pub send_buffer_bytes: Option<u64>,
    /// SO_MARK.
    pub mark: Option<u32>,
    /// SO_PRIORITY.
    pub priority: Option<i32>,
    /// IP_TOS.
    pub tos: Option<i32>,
    /// IP_TTL or IPV6_UNICAST_HOPS.
    pub ttl: Option<i32>,
    /// TCP_CONGESTION.
    pub congestion: Option<String>,
    /// SO_BROADCAST.
    pub broadcast: bool,
    /// SO_PASSCRED.
    pub pass_credentials: bool,
    /// SO_PASSSEC.
    pub pass_security: bool,
    /// IP_PKTINFO or IPV6_RECVPKTINFO.
    pub pass_packet_info: bool,
    /// SO_TIMESTAMP or SO_TIMESTAMPNS.
    pub timestamp: Option<Timestamp>,
    /// F_SETPIPE_SZ of a FIFO, bytes.
    pub pipe_size_bytes: Option<u64>,
    /// The third argument of socket(2): IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_MPTCP.
    pub protocol: Option<i32>,
    /// A special file is opened for writing too.
    pub writable: bool,
    /// Messages that a queue may hold, and the bytes of one; both or none.
    pub queue_limits: Option<(i64, i64)>,
    /// SO_PASSPIDFD.
    pub pass_pidfd: bool,
    /// SO_PASSRIGHTS=0: no descriptors are received.
    pub refuse_descriptors: bool,
    /// Links to the path, absolute.
    pub symlinks: Vec<PathBuf>,
    /// The path (and its links) stays when prebind ends.
    pub keep_path: bool,
    /// As systemd takes a `[Socket]`: an option that the kind does not have, or that the kernel refuses once it is bound,
    /// is a remark and no failure; SO_REUSEADDR is always set; the mode is 0666 whatever the umask.
    pub lenient: bool,
}

/// Which clock a datagram is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timestamp {
    /// SO_TIMESTAMP.
    Microseconds,
    /// SO_TIMESTAMPNS.
    Nanoseconds,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet { host: Host::Dual, port } => write!(f, "*:{port}"),
            Address::Inet { host: Host::V4(ip), port } => write!(f, "{ip}:{port}"),
            Address::Inet { host: Host::V6(ip, None), port } => write!(f, "[{ip}]:{port}"),
            Address::Inet { host: Host::V6(ip, Some(scope)), port } => write!(f, "[{ip}%{scope}]:{port}"),
            Address::Inet { host: Host::Name(name), port } => write!(f, "{name}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Abstract(name) => write!(f, "@{name}"),
            Address::Vsock { cid: u32::MAX, port } => write!(f, "vsock::{port}"),
            Address::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Address::Netlink { family, groups } => write!(f, "netlink:{family}:{groups}"),
            Address::MessageQueue(name) => write!(f, "mq:{name}"),
            Address::Fd(number) => write!(f, "fd:{number}"),
        }
    }
}

impl SocketSpec {
    /// The word for its kind in `status`: tcp, udp, unix, unixgram, seqpacket, fifo, special, netlink, mq, vsock, fd.
    pub fn kind_word(&self) -> &'static str {
        match (&self.address, self.kind) {
            (_, SocketKind::Fifo) => "fifo",
            (_, SocketKind::SeqPacket) => "seqpacket",
            (_, SocketKind::Special) => "special",
            (_, SocketKind::Netlink) | (Address::Netlink { .. }, _) => "netlink",
            (_, SocketKind::MessageQueue) | (Address::MessageQueue(_), _) => "mq",
            (Address::Inet { .. }, SocketKind::Stream) => "tcp",
            (Address::Inet { .. }, SocketKind::Datagram) => "udp",
            (Address::Unix(_) | Address::Abstract(_), SocketKind::Stream) => "unix",
            (Address::Unix(_) | Address::Abstract(_), SocketKind::Datagram) => "unixgram",
            (Address::Vsock { .. }, _) => "vsock",
            (Address::Fd(_), _) => "fd",
        }
    }
}
