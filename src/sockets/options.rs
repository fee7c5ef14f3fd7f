//! SocketOptions -> setsockopt calls as data, in systemd's order (what must precede bind, then the rest after listen);
//! and the one function that applies them. An option that was asked for and is refused is an error, never skipped; of a
//! lenient socket (a unit's) it is a remark, but for the few that decide what the address means.

use super::error::{SocketError, reason};
use super::sys;
use crate::plan::{SocketKind, SocketOptions, Timestamp};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{AsFd, BorrowedFd};

// Newer than what the libc crate names.
const SO_PASSPIDFD: i32 = 76;
const SO_PASSRIGHTS: i32 = 83;
const NETLINK_PKTINFO: i32 = 3;

/// One setsockopt call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// As it is called in messages.
    pub(super) name: &'static str,
    level: i32,
    option: i32,
    value: Value,
}

impl Setting {
    /// Whether the socket has it already; a text cannot be told.
    pub(super) fn is_set(&self, fd: BorrowedFd<'_>) -> bool {
        match &self.value {
            Value::Int(value) => sys::int_option(fd, self.level, self.option) == Ok(*value),
            Value::Text(_) | Value::Buffer(..) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Int(i32),
    Text(String),
    /// A buffer's size, with the option that ignores the kernel's cap.
    Buffer(u64, i32),
}

/// The address family, as far as options differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
    Netlink,
    /// Unix, vsock.
    Other,
    /// No socket at all.
    None,
}

impl Family {
    /// Of that AF_ number.
    pub(super) fn of(domain: i32) -> Family {
        match domain {
            libc::AF_INET => Family::V4,
            libc::AF_INET6 => Family::V6,
            libc::AF_NETLINK => Family::Netlink,
            0 => Family::None,
            _ => Family::Other,
        }
    }

    fn is_inet(self) -> bool {
        matches!(self, Family::V4 | Family::V6)
    }

    /// The level and option of a setting that IPv4 and IPv6 number differently.
    fn pick(self, v4: i32, v6: i32) -> (i32, i32) {
        if self == Family::V6 { (libc::IPPROTO_IPV6, v6) } else { (libc::IPPROTO_IP, v4) }
    }
}

/// Collects settings in order.
#[derive(Default)]
struct Settings(Vec<Setting>);

impl Settings {
    fn int(&mut self, name: &'static str, (level, option): (i32, i32), value: Option<i32>) {
        self.0.extend(value.map(|value| Setting { name, level, option, value: Value::Int(value) }));
    }

    fn flag(&mut self, name: &'static str, at: (i32, i32), on: bool) {
        self.int(name, at, on.then_some(1));
    }

    fn seconds(&mut self, name: &'static str, option: i32, value: Option<u32>) {
        self.int(name, (libc::IPPROTO_TCP, option), value.map(|v| i32::try_from(v).unwrap_or(i32::MAX)));
    }

    fn text(&mut self, name: &'static str, (level, option): (i32, i32), value: &Option<String>) {
        let value = value.clone().map(|text| Setting { name, level, option, value: Value::Text(text) });
        self.0.extend(value);
    }

    fn buffer(&mut self, name: &'static str, option: i32, force: i32, bytes: Option<u64>) {
        let value = bytes.map(|bytes| Value::Buffer(bytes, force));
        self.0.extend(value.map(|value| Setting { name, level: libc::SOL_SOCKET, option, value }));
    }
}

/// What has to be set before bind. A port that was just left must be free at once, so listening inet sockets get
/// SO_REUSEADDR unasked; for datagrams it would let a second process steal them. As in systemd every lenient one has it.
pub(super) fn before_bind(options: &SocketOptions, family: Family, kind: SocketKind) -> Vec<Setting> {
    let mut set = Settings::default();
    if family == Family::V6 {
        set.int("v6only", (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY), options.v6only.map(i32::from));
    }
    if family.is_inet() || !options.lenient {
        set.text("device", (libc::SOL_SOCKET, libc::SO_BINDTODEVICE), &options.device);
        set.flag("reuseport", (libc::SOL_SOCKET, libc::SO_REUSEPORT), options.reuse_port);
        set.flag("freebind", family.pick(libc::IP_FREEBIND, libc::IPV6_FREEBIND), options.freebind);
        set.flag("transparent", family.pick(libc::IP_TRANSPARENT, libc::IPV6_TRANSPARENT), options.transparent);
    }
    let unasked = options.lenient || (family.is_inet() && kind == SocketKind::Stream);
    set.flag("so_reuseaddr", (libc::SOL_SOCKET, libc::SO_REUSEADDR), unasked || options.reuse_address);
    set.0
}

/// What systemd sets after listen; the only settings that an adopted socket can still get.
pub(super) fn after_listen(options: &SocketOptions, family: Family) -> Vec<Setting> {
    let socket = |option| (libc::SOL_SOCKET, option);
    // To systemd 0 seconds, and -1 of the others, are the kernel's default.
    let seconds = |value: Option<u32>| value.filter(|value| *value > 0 || !options.lenient);
    let number = |value: Option<i32>| value.filter(|value| *value >= 0 || !options.lenient);
    let mut set = Settings::default();
    set.flag("keepalive", socket(libc::SO_KEEPALIVE), options.keepalive);
    set.seconds("keepalive time", libc::TCP_KEEPIDLE, seconds(options.keepalive_idle_seconds));
    set.seconds("keepalive interval", libc::TCP_KEEPINTVL, seconds(options.keepalive_interval_seconds));
    set.seconds("keepalive probes", libc::TCP_KEEPCNT, seconds(options.keepalive_probes));
    set.seconds("defer", libc::TCP_DEFER_ACCEPT, seconds(options.defer_accept_seconds));
    set.flag("nodelay", (libc::IPPROTO_TCP, libc::TCP_NODELAY), options.nodelay);
    set.flag("broadcast", socket(libc::SO_BROADCAST), options.broadcast);
    set.flag("credentials", socket(libc::SO_PASSCRED), options.pass_credentials);
    set.flag("pidfd", socket(SO_PASSPIDFD), options.pass_pidfd);
    set.flag("security", socket(libc::SO_PASSSEC), options.pass_security);
    set.int("refusing descriptors", socket(SO_PASSRIGHTS), options.refuse_descriptors.then_some(0));
    let packet_info = match family {
        Family::Netlink => (libc::SOL_NETLINK, NETLINK_PKTINFO),
        _ => family.pick(libc::IP_PKTINFO, libc::IPV6_RECVPKTINFO),
    };
    set.flag("packet info", packet_info, options.pass_packet_info);
    let stamp = options.timestamp.map(|timestamp| match timestamp {
        Timestamp::Microseconds => libc::SO_TIMESTAMP,
        Timestamp::Nanoseconds => libc::SO_TIMESTAMPNS,
    });
    if let Some(option) = stamp {
        set.flag("timestamp", socket(option), true);
    }
    set.int("priority", socket(libc::SO_PRIORITY), number(options.priority));
    set.buffer("rcvbuf", libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, options.receive_buffer_bytes);
    set.buffer("sndbuf", libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, options.send_buffer_bytes);
    // The mark is a bit pattern: all 32 bits count.
    set.int("mark", socket(libc::SO_MARK), options.mark.map(u32::cast_signed));
    set.int("tos", (libc::IPPROTO_IP, libc::IP_TOS), number(options.tos));
    set.int("ttl", family.pick(libc::IP_TTL, libc::IPV6_UNICAST_HOPS), number(options.ttl));
    // IP_TOS sets a priority by the way: the one that was asked for has the last word.
    set.int("priority", socket(libc::SO_PRIORITY), number(options.priority).filter(|_| options.tos.is_some()));
    set.text("congestion", (libc::IPPROTO_TCP, libc::TCP_CONGESTION), &options.congestion);
    if options.lenient {
        set.0.retain(|setting| means_something(setting.name, family));
    }
    set.0
}

/// By number, an option of one family may be quite another one of the next: these are set where they are meant only.
fn means_something(name: &str, family: Family) -> bool {
    match name {
        "device" | "freebind" | "transparent" | "ttl" => family.is_inet(),
        "packet info" => family.is_inet() || family == Family::Netlink,
        _ => family != Family::None,
    }
}

/// What a lenient socket was asked for and is not even tried; one line, if any.
pub(super) fn meaningless(options: &SocketOptions, family: Family, what: &str) -> Option<String> {
    // As if for IPv4, which has most.
    let mut all = before_bind(options, Family::V4, SocketKind::Stream);
    all.extend(after_listen(options, Family::V4));
    let unasked = |setting: &Setting| matches!(setting.name, "so_reuseaddr" | "reuseport");
    let mut names: Vec<&str> = Vec::new();
    for Setting { name, .. } in all.iter().filter(|one| !unasked(one) && !means_something(one.name, family)) {
        // The priority is set twice.
        if !names.contains(name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| format!("{what}: left out, this kind does not have it: {}", names.join(", ")))
}

/// Applies them in order. `what` names the socket in messages; what the kernel granted in part becomes a remark, and so
/// does what it refuses a lenient one.
pub(super) fn apply(
    fd: BorrowedFd<'_>,
    settings: &[Setting],
    lenient: bool,
    what: &str,
    remarks: &mut Vec<String>,
) -> Result<(), SocketError> {
    for setting in settings {
        let Setting { name, level, option, value } = setting;
        let result = match value {
            Value::Int(value) => sys::set_option(fd, *level, *option, &value.to_ne_bytes()),
            Value::Text(text) => sys::set_option(fd, *level, *option, text.as_bytes()),
            Value::Buffer(bytes, force) => buffer(fd, setting, *bytes, *force, what, remarks),
        };
        match result.map_err(|errno| refused(name, what, errno)) {
            Ok(()) => {}
            Err(error) if lenient && !matches!(*name, "v6only" | "device" | "so_reuseaddr") => {
                remarks.push(error.message);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refused(name: &str, what: &str, errno: Errno) -> SocketError {
    let (why, remedy) = match (name, errno) {
        ("device", Errno::ENODEV) => ("no such interface".into(), ""),
        ("congestion", Errno::ENOENT) => {
            ("no such algorithm".into(), " (see /proc/sys/net/ipv4/tcp_available_congestion_control)")
        }
        (_, Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => ("this kind of socket does not have it".into(), ""),
        ("mark" | "transparent" | "priority" | "device", Errno::EPERM) => (reason(errno), " (it needs CAP_NET_ADMIN)"),
        _ => (reason(errno), ""),
    };
    SocketError::new(format!("cannot set {name} on {what}: {why}{remedy}"))
}

/// Sets, reads back, and where the kernel capped it forces it, as systemd does. The kernel stores twice the number.
fn buffer(
    fd: BorrowedFd<'_>,
    setting: &Setting,
    bytes: u64,
    force: i32,
    what: &str,
    remarks: &mut Vec<String>,
) -> Result<(), Errno> {
    let granted = || sys::int_option(fd, libc::SOL_SOCKET, setting.option).map(|doubled| doubled as u64 / 2);
    let value = i32::try_from(bytes).unwrap_or(i32::MAX).to_ne_bytes();
    sys::set_option(fd, libc::SOL_SOCKET, setting.option, &value)?;
    if granted()? < bytes {
        // Without CAP_NET_ADMIN this fails, and the capped size stays.
        let _ = sys::set_option(fd, libc::SOL_SOCKET, force, &value);
    }
    let granted = granted()?;
    if granted < bytes {
        let name = setting.name;
        remarks.push(format!("{what}: {name}={bytes}: the kernel grants {granted} (more needs CAP_NET_ADMIN)"));
    }
    Ok(())
}

/// O_NONBLOCK as asked: set or cleared once, before any worker has the descriptor. It belongs to the file description,
/// and clearing it under a living worker would hang that worker in accept.
pub(super) fn set_blocking(fd: BorrowedFd<'_>, nonblock: bool) -> Result<(), Errno> {
    let now = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    let mut wanted = now;
    wanted.set(OFlag::O_NONBLOCK, nonblock);
    if wanted != now {
        fcntl(fd, FcntlArg::F_SETFL(wanted))?;
    }
    Ok(())
}

/// listen(2) with what was asked, else with what the kernel allows; a backlog that the kernel caps becomes a remark.
pub(super) fn listen(
    fd: impl AsFd,
    options: &SocketOptions,
    what: &str,
    remarks: &mut Vec<String>,
) -> Result<(), SocketError> {
    sys::listen(fd.as_fd(), options.backlog.unwrap_or(u32::MAX))
        .map_err(|errno| SocketError::new(format!("cannot listen on {what}: {}", reason(errno))))?;
    let allowed = || std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse::<u32>().ok();
    // In a unit the largest numbers are its way to say "what the kernel allows".
    let meant = |asked: &u32| !options.lenient || *asked < i32::MAX as u32;
    if let Some(asked) = options.backlog.filter(meant)
        && let Some(allowed) = allowed()
        && asked > allowed
    {
        remarks.push(format!("{what}: backlog={asked}: the kernel allows {allowed} (sysctl net.core.somaxconn)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_systemds() {
        let all = SocketOptions {
            reuse_address: true,
            reuse_port: true,
            v6only: Some(true),
            defer_accept_seconds: Some(1),
            nodelay: true,
            keepalive: true,
            keepalive_idle_seconds: Some(1),
            keepalive_interval_seconds: Some(1),
            keepalive_probes: Some(1),
            freebind: true,
            transparent: true,
            device: Some("lo".into()),
            receive_buffer_bytes: Some(1),
            send_buffer_bytes: Some(1),
            mark: Some(u32::MAX),
            priority: Some(1),
            tos: Some(1),
            ttl: Some(1),
            congestion: Some("reno".into()),
            broadcast: true,
            pass_credentials: true,
            pass_security: true,
            pass_packet_info: true,
            timestamp: Some(Timestamp::Nanoseconds),
            pass_pidfd: true,
            refuse_descriptors: true,
            ..SocketOptions::default()
        };
        let names = |settings: Vec<Setting>| settings.iter().map(|s| s.name).collect::<Vec<_>>().join(",");
        assert_eq!(
            names(before_bind(&all, Family::V6, SocketKind::Stream)),
            "v6only,device,reuseport,freebind,transparent,so_reuseaddr"
        );
        assert_eq!(
            names(after_listen(&all, Family::V6)),
            "keepalive,keepalive time,keepalive interval,keepalive probes,defer,nodelay,broadcast,credentials,\
             pidfd,security,refusing descriptors,packet info,timestamp,priority,rcvbuf,sndbuf,mark,tos,ttl,priority,congestion"
        );
    }

    #[test]
    fn only_listening_inet_sockets_get_reuseaddr_unasked() {
        let none = SocketOptions::default();
        let asked = SocketOptions { reuse_address: true, ..SocketOptions::default() };
        for (options, family, kind, count) in [
            (&none, Family::V4, SocketKind::Stream, 1),
            (&none, Family::V6, SocketKind::Stream, 1),
            (&none, Family::V4, SocketKind::Datagram, 0),
            (&asked, Family::V4, SocketKind::Datagram, 1),
            (&none, Family::Other, SocketKind::Stream, 0),
        ] {
            assert_eq!(before_bind(options, family, kind).len(), count, "{family:?} {kind:?}");
        }
        assert!(after_listen(&none, Family::V4).is_empty());
    }
}
