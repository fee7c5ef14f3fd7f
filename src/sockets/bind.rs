//! Address -> bound descriptor, close-on-exec from birth: inet, abstract and vsock here, paths through `unix`.
//! What the kernel does otherwise than asked becomes a remark; what it refuses, an error that names the address.

use super::error::{SocketError, reason};
use super::options::{self, Family};
use super::{holder, special, sys};
use crate::plan::{Address, Host, SocketKind, SocketOptions, SocketSpec};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{NetlinkAddr, SockType, SockaddrLike, SockaddrStorage, UnixAddr, VsockAddr, bind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The type of a socket of that kind.
pub(super) fn socket_type(kind: SocketKind) -> SockType {
    match kind {
        SocketKind::Datagram => SockType::Datagram,
        SocketKind::SeqPacket => SockType::SeqPacket,
        SocketKind::Netlink => SockType::Raw,
        SocketKind::Stream | SocketKind::Fifo | SocketKind::Special | SocketKind::MessageQueue => SockType::Stream,
    }
}

/// A fresh socket, close-on-exec, blocking, with the protocol that was asked for. UDP-Lite is one of datagrams, the others are of streams: as in systemd
/// it is for those sockets of a unit that can have it.
pub(super) fn open_socket(domain: i32, kind: SocketKind, options: &SocketOptions) -> Result<OwnedFd, Errno> {
    let of_kind = |protocol: &i32| (*protocol == libc::IPPROTO_UDPLITE) == (kind == SocketKind::Datagram);
    let protocol = options.protocol.filter(|protocol| !options.lenient || of_kind(protocol));
    sys::socket(domain, socket_type(kind) as i32, protocol.unwrap_or(0))
}

fn cannot_bind(what: impl std::fmt::Display, why: impl std::fmt::Display) -> SocketError {
    SocketError::new(format!("cannot bind {what}: {why}"))
}

/// Binds a TCP or UDP socket.
pub(super) fn inet(
    spec: &SocketSpec,
    host: &Host,
    port: u16,
    remarks: &mut Vec<String>,
) -> Result<OwnedFd, SocketError> {
    // The first of a group binds alone: a stranger on the port is an error.
    let reuse_port = spec.options.reuse_port && !spec.options.slots;
    let address = match host {
        Host::V4(ip) => SocketAddr::new((*ip).into(), port),
        Host::V6(ip, scope) => SocketAddrV6::new(*ip, port, 0, scope_id(spec, scope.as_deref())?).into(),
        Host::Name(name) => look_up(spec, name, port, remarks)?,
        Host::Dual => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
    };
    match inet_at(spec, address, v6only(spec), reuse_port, remarks) {
        Err(Refused::Family) if falls_back(spec) => {
            let only = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
            remarks.push(format!("{}: no IPv6 here: bound to {only}", spec.address));
            inet_at(spec, only, None, reuse_port, remarks)
        }
        result => result,
    }
    .map_err(|refused| refused.into_error(spec))
}

/// Of both families it is said, so that a system whose default is v6 only does not decide.
fn v6only(spec: &SocketSpec) -> Option<bool> {
    let dual = matches!(spec.address, Address::Inet { host: Host::Dual, .. });
    spec.options.v6only.or(dual.then_some(false))
}

/// Whether 0.0.0.0 will do where the kernel has no IPv6: for both families, and for a unit's bare port, which is `[::]`.
pub(super) fn falls_back(spec: &SocketSpec) -> bool {
    match &spec.address {
        Address::Inet { host: Host::Dual, .. } => true,
        Address::Inet { host: Host::V6(ip, None), .. } => spec.options.lenient && ip.is_unspecified(),
        _ => false,
    }
}

/// One more socket at the address that the first one of a slots socket has got.
pub(super) fn inet_again(
    spec: &SocketSpec,
    address: SocketAddr,
    remarks: &mut Vec<String>,
) -> Result<OwnedFd, SocketError> {
    inet_at(spec, address, v6only(spec), true, remarks).map_err(|refused| refused.into_error(spec))
}

/// Why an inet socket was not bound.
enum Refused {
    /// The kernel has no such family.
    Family,
    Otherwise(SocketError),
}

impl Refused {
    fn into_error(self, spec: &SocketSpec) -> SocketError {
        match self {
            Refused::Family => cannot_bind(&spec.address, reason(Errno::EAFNOSUPPORT)),
            Refused::Otherwise(error) => error,
        }
    }
}

fn inet_at(
    spec: &SocketSpec,
    address: SocketAddr,
    v6only: Option<bool>,
    reuse_port: bool,
    remarks: &mut Vec<String>,
) -> Result<OwnedFd, Refused> {
    let domain = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let what = spec.address.to_string();
    let fd = open_socket(domain, spec.kind, &spec.options).map_err(|errno| match errno {
        Errno::EAFNOSUPPORT => Refused::Family,
        Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT if spec.options.protocol.is_some() => {
            Refused::Otherwise(cannot_bind(&what, "the kernel does not have its protocol (a module may be missing)"))
        }
        errno => Refused::Otherwise(cannot_bind(&what, reason(errno))),
    })?;
    let asked = SocketOptions { v6only, reuse_port, ..spec.options.clone() };
    let settings = options::before_bind(&asked, Family::of(domain), spec.kind);
    options::apply(fd.as_fd(), &settings, asked.lenient, &what, remarks).map_err(Refused::Otherwise)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))
        .map_err(|errno| Refused::Otherwise(cannot_bind(&what, why_not(spec, address, errno))))?;
    Ok(fd)
}

/// The reason with what helps: who holds the address, or what would make it work.
fn why_not(spec: &SocketSpec, address: SocketAddr, errno: Errno) -> String {
    let help = match errno {
        Errno::EADDRINUSE => holder::of_inet(spec.kind_word(), address),
        Errno::EACCES if address.port() < 1024 => {
            " (ports below 1024 need root, CAP_NET_BIND_SERVICE or sysctl net.ipv4.ip_unprivileged_port_start)".into()
        }
        Errno::EADDRNOTAVAIL => " (no interface has it; the option freebind binds it all the same)".into(),
        _ => String::new(),
    };
    reason(errno) + &help
}

/// The first IPv4 address of a name, else its first IPv6 one, or the other way round; a remark when it has several.
pub(super) fn look_up(
    spec: &SocketSpec,
    name: &str,
    port: u16,
    remarks: &mut Vec<String>,
) -> Result<SocketAddr, SocketError> {
    let found: Vec<SocketAddr> = (name, port)
        .to_socket_addrs()
        .map_err(|error| {
            // "failed to lookup address information: Name or service not known"
            let text = error.to_string();
            cannot_bind(&spec.address, format!("no such host: {}", text.rsplit(": ").next().unwrap_or(&text)))
        })?
        .collect();
    let preferred = found.iter().find(|address| address.is_ipv6() == spec.options.prefer_v6);
    let chosen = preferred.or(found.first()).copied();
    let chosen = chosen.ok_or_else(|| cannot_bind(&spec.address, "the host has no address"))?;
    if found.len() > 1 {
        let list: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
        remarks.push(format!("{}: {name} is {}: bound to {}", spec.address, list.join(" and "), chosen.ip()));
    }
    Ok(chosen)
}

/// An IPv6 scope, by interface name or number.
fn scope_id(spec: &SocketSpec, scope: Option<&str>) -> Result<u32, SocketError> {
    let Some(scope) = scope else { return Ok(0) };
    if let Ok(number) = scope.parse() {
        return Ok(number);
    }
    nix::net::if_::if_nametoindex(scope).map_err(|_| cannot_bind(&spec.address, format!("no such interface '{scope}'")))
}

/// Binds a name in the abstract namespace of unix sockets.
pub(super) fn abstract_name(spec: &SocketSpec, name: &str, remarks: &mut Vec<String>) -> Result<OwnedFd, SocketError> {
    let (length, max) = (name.len(), sys::UNIX_NAME_BYTES_MAX);
    if length > max {
        let why = format!("the name is too long: {length} bytes, a unix socket's at most {max}");
        return Err(cannot_bind(&spec.address, why));
    }
    let refused = |errno| match errno {
        Errno::EADDRINUSE => cannot_bind(&spec.address, reason(errno) + &holder::of_unix(&format!("@{name}"))),
        errno => cannot_bind(&spec.address, reason(errno)),
    };
    let address = UnixAddr::new_abstract(name.as_bytes()).map_err(refused)?;
    bound(spec, libc::AF_UNIX, &address, remarks)?.map_err(refused)
}

/// Binds a vsock address.
pub(super) fn vsock(spec: &SocketSpec, cid: u32, port: u32, remarks: &mut Vec<String>) -> Result<OwnedFd, SocketError> {
    bound(spec, libc::AF_VSOCK, &VsockAddr::new(cid, port), remarks)?.map_err(|errno| {
        let why = match errno {
            Errno::EAFNOSUPPORT => "the kernel has no vsock (module vsock)".into(),
            Errno::ESOCKTNOSUPPORT | Errno::ENODEV => "the kernel has no vsock transport for this kind".into(),
            Errno::EADDRNOTAVAIL => "this machine does not have that CID (vsock::PORT is any)".into(),
            errno => reason(errno),
        };
        cannot_bind(&spec.address, why)
    })
}

/// Binds a netlink socket, in those groups.
pub(super) fn netlink(
    spec: &SocketSpec,
    family: i32,
    groups: u32,
    remarks: &mut Vec<String>,
) -> Result<OwnedFd, SocketError> {
    // Its family is what other sockets have as their protocol.
    let options = SocketOptions { protocol: Some(family), lenient: false, ..spec.options.clone() };
    let fd = open_socket(libc::AF_NETLINK, spec.kind, &options).map_err(|errno| {
        let why = match errno {
            Errno::EPROTONOSUPPORT => format!("the kernel has no netlink family {family} (a module may be missing)"),
            errno => reason(errno),
        };
        cannot_bind(&spec.address, why)
    })?;
    bind_to(spec, &fd, Family::Netlink, &NetlinkAddr::new(0, groups), remarks)?.map_err(|errno| {
        let help = if errno == Errno::EPERM { " (the groups of this family need CAP_NET_ADMIN)" } else { "" };
        cannot_bind(&spec.address, reason(errno) + help)
    })?;
    Ok(fd)
}

/// A fresh socket, bound. The inner error is the kernel's: what helps differs.
fn bound(
    spec: &SocketSpec,
    domain: i32,
    address: &dyn SockaddrLike,
    remarks: &mut Vec<String>,
) -> Result<Result<OwnedFd, Errno>, SocketError> {
    let fd = match open_socket(domain, spec.kind, &spec.options) {
        Ok(fd) => fd,
        Err(errno) => return Ok(Err(errno)),
    };
    Ok(bind_to(spec, &fd, Family::of(domain), address, remarks)?.map(|()| fd))
}

fn bind_to(
    spec: &SocketSpec,
    fd: &OwnedFd,
    family: Family,
    address: &dyn SockaddrLike,
    remarks: &mut Vec<String>,
) -> Result<Result<(), Errno>, SocketError> {
    if spec.options.lenient {
        let settings = options::before_bind(&spec.options, family, spec.kind);
        options::apply(fd.as_fd(), &settings, true, &spec.address.to_string(), remarks)?;
    }
    Ok(bind(fd.as_raw_fd(), address))
}

/// Lifts a descriptor out of the numbers that workers get, once, so that a worker's dup2 never meets its source.
pub(super) fn lift(fd: OwnedFd, sockets: usize) -> Result<OwnedFd, SocketError> {
    let lowest = i32::try_from(3 + sockets + 8).unwrap_or(i32::MAX).max(16);
    if fd.as_raw_fd() >= lowest {
        let sealed = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        return sealed.map(|_| fd).map_err(|errno| SocketError::new(format!("cannot keep it: {}", reason(errno))));
    }
    let number = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(lowest)).map_err(|errno| {
        let why = match errno {
            Errno::EINVAL | Errno::EMFILE => "the limit on open files is too low (raise it: ulimit -n)".into(),
            errno => reason(errno),
        };
        SocketError::new(format!("cannot move a descriptor to {lowest} or above: {why}"))
    })?;
    Ok(sys::claim(number))
}

/// Whether an open socket's address is the one that was asked for.
pub(super) fn is_at(address: &Address, bound: &super::facts::Bound, fd: std::os::fd::BorrowedFd<'_>) -> bool {
    use super::facts::Bound;
    match (address, bound) {
        (Address::Inet { host: Host::V4(ip), port }, Bound::V4(at)) => (ip, *port) == (at.ip(), at.port()),
        (Address::Inet { host: Host::V6(ip, _), port }, Bound::V6(at)) => (ip, *port) == (at.ip(), at.port()),
        (Address::Inet { host: Host::Dual, port }, Bound::V6(at)) => {
            let v6only = sys::int_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
            at.ip().is_unspecified() && at.port() == *port && v6only == Ok(0)
        }
        (Address::Inet { host: Host::Name(name), port }, Bound::V4(_) | Bound::V6(_)) => {
            let at: (IpAddr, u16) = match bound {
                Bound::V4(at) => ((*at.ip()).into(), at.port()),
                Bound::V6(at) => ((*at.ip()).into(), at.port()),
                _ => return false,
            };
            let found = (name.as_str(), *port).to_socket_addrs();
            at.1 == *port && found.is_ok_and(|mut all| all.any(|one| one.ip() == at.0))
        }
        (Address::Unix(path), Bound::Path(at) | Bound::Fifo(Some(at))) => {
            path == at || std::path::absolute(path).is_ok_and(|path| path == *at)
        }
        // /proc/self has another name for each process: what counts is the file behind the path.
        (Address::Unix(path), Bound::Special(at)) => Some(path) == at.as_ref() || special::is_behind(path, fd),
        (Address::Netlink { family, groups }, Bound::Netlink { family: at, groups: in_groups }) => {
            (family, groups) == (at, in_groups)
        }
        (Address::MessageQueue(name), Bound::MessageQueue(at)) => Some(name) == at.as_ref(),
        (Address::Abstract(name), Bound::Abstract(at)) => name == at,
        (Address::Vsock { cid, port }, Bound::Vsock { cid: at_cid, port: at_port }) => (cid, port) == (at_cid, at_port),
        (Address::Fd(number), _) => *number == fd.as_raw_fd(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Bound;
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn addresses_are_compared_as_they_are_bound() {
        let inet = |host, port| Address::Inet { host, port };
        let v4 = |text: &str| Host::V4(text.parse().unwrap());
        let v6 = |text: &str| Host::V6(text.parse().unwrap(), None);
        let at4 = |text: &str| Bound::V4(text.parse().unwrap());
        let at6 = |text: &str| Bound::V6(text.parse().unwrap());
        let path = |text: &str| Bound::Path(text.into());
        let here = std::path::absolute("s").unwrap();
        let fd: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
        for (asked, bound, same) in [
            (inet(v4("127.0.0.1"), 80), at4("127.0.0.1:80"), true),
            (inet(v4("127.0.0.1"), 80), at4("127.0.0.1:81"), false),
            (inet(v4("0.0.0.0"), 80), at4("127.0.0.1:80"), false),
            (inet(v4("0.0.0.0"), 80), at6("[::]:80"), false),
            (inet(v6("::1"), 80), at6("[::1]:80"), true),
            (inet(Host::Name("127.0.0.1".into()), 80), at4("127.0.0.1:80"), true),
            (inet(Host::Name("127.0.0.1".into()), 80), at4("127.0.0.2:80"), false),
            (Address::Unix("/run/s".into()), path("/run/s"), true),
            (Address::Unix("s".into()), Bound::Path(here), true),
            (Address::Unix("/run/s".into()), Bound::Abstract("/run/s".into()), false),
            (Address::Unix("/run/f".into()), Bound::Fifo(Some("/run/f".into())), true),
            (Address::Abstract("s".into()), Bound::Abstract("s".into()), true),
            (Address::Vsock { cid: 2, port: 9 }, Bound::Vsock { cid: 2, port: 9 }, true),
            (Address::Vsock { cid: 2, port: 9 }, Bound::Vsock { cid: 3, port: 9 }, false),
            (Address::Netlink { family: 0, groups: 1 }, Bound::Netlink { family: 0, groups: 1 }, true),
            (Address::Netlink { family: 0, groups: 1 }, Bound::Netlink { family: 0, groups: 2 }, false),
            (Address::Netlink { family: 0, groups: 1 }, Bound::Netlink { family: 15, groups: 1 }, false),
            (Address::MessageQueue("/q".into()), Bound::MessageQueue(Some("/q".into())), true),
            (Address::MessageQueue("/q".into()), Bound::MessageQueue(None), false),
            (Address::Unix("/dev/x".into()), Bound::Special(Some("/dev/x".into())), true),
            (Address::Unix("/dev/x".into()), Bound::Special(Some("/dev/y".into())), false),
            (Address::Fd(fd.as_raw_fd()), Bound::Unnamed, true),
            (Address::Fd(0), Bound::Unnamed, false),
        ] {
            assert_eq!(is_at(&asked, &bound, fd.as_fd()), same, "{asked:?} {bound:?}");
        }
    }

    #[test]
    fn both_families_in_one_socket_means_both() {
        let Ok(fd) = sys::socket(libc::AF_INET6, libc::SOCK_STREAM, 0) else { return };
        let asked = Address::Inet { host: Host::Dual, port: 80 };
        let bound = Bound::V6("[::]:80".parse().unwrap());
        for (v6only, same) in [(0i32, true), (1, false)] {
            sys::set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &v6only.to_ne_bytes()).unwrap();
            assert_eq!(is_at(&asked, &bound, fd.as_fd()), same, "{v6only}");
        }
    }

    #[test]
    fn low_descriptors_are_lifted_and_high_ones_stay() {
        let low: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
        let lifted = lift(low, 200).unwrap();
        assert!(lifted.as_raw_fd() >= 211);
        let number = lifted.as_raw_fd();
        assert_eq!(lift(lifted, 1).unwrap().as_raw_fd(), number);
        let low: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
        assert!(lift(low, 1 << 30).unwrap_err().message.contains("the limit on open files is too low"));
    }
}
