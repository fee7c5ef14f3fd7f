//! The room as a whole: every kind is bound, every option read back, paths come and go. Loopback and own directories.

use super::*;
use crate::plan::{Host, Origin, SocketOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed at the end.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("prebind-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    pub(super) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn spec(name: &str, address: Address, kind: SocketKind) -> SocketSpec {
    let options = SocketOptions::default();
    SocketSpec {
        name: name.into(),
        named: true,
        kind,
        address,
        options,
        origin: Origin::Argument(1),
        retired: false,
        since: 0,
    }
}

pub(super) fn plan(sockets: impl Into<Vec<SocketSpec>>) -> Plan {
    Plan { sockets: sockets.into(), ..Plan::default() }
}

pub(super) fn local(port: u16) -> Address {
    Address::Inet { host: Host::V4(std::net::Ipv4Addr::LOCALHOST), port }
}

pub(super) fn unix(path: &Path) -> SocketSpec {
    spec("web", Address::Unix(path.into()), SocketKind::Stream)
}

/// Opens one socket that must open without a remark.
fn open(spec: SocketSpec) -> Sockets {
    let (sockets, remarks) = Sockets::open(&plan([spec]), Assigned::default()).unwrap();
    assert_eq!(remarks, Vec::<String>::new());
    sockets
}

pub(super) fn errors(specs: impl Into<Vec<SocketSpec>>) -> Vec<String> {
    Sockets::open(&plan(specs), Assigned::default()).unwrap_err().into_iter().map(|error| error.message).collect()
}

pub(super) const ONE: SocketId = SocketId(0);

#[test]
fn every_kind_is_bound_described_and_lifted() {
    let directory = Directory::new();
    let path = |name: &str| Address::Unix(directory.0.join(name));
    let name = format!("prebind-test-{}", std::process::id());
    let any = |host| Address::Inet { host, port: 0 };
    use SocketKind::{Datagram, Fifo, SeqPacket, Stream};
    for (address, kind, word, family) in [
        (local(0), Stream, "tcp", Some("AF_INET")),
        (local(0), Datagram, "udp", Some("AF_INET")),
        (any(Host::V6(std::net::Ipv6Addr::LOCALHOST, None)), Stream, "tcp", Some("AF_INET6")),
        (any(Host::Dual), Stream, "tcp", Some("AF_INET6")),
        (path("stream"), Stream, "unix", Some("AF_UNIX")),
        (path("datagram"), Datagram, "unixgram", Some("AF_UNIX")),
        (path("seqpacket"), SeqPacket, "seqpacket", Some("AF_UNIX")),
        (path("fifo"), Fifo, "fifo", None),
        (Address::Abstract(name.clone()), Stream, "unix", Some("AF_UNIX")),
    ] {
        if family == Some("AF_INET6") && !has_v6() {
            continue;
        }
        let sockets = open(spec("web", address.clone(), kind));
        let facts = sockets.facts(ONE);
        assert_eq!((facts.kind, facts.family, facts.inherited), (word, family, false), "{address}");
        let number = std::os::fd::AsRawFd::as_raw_fd(&sockets.fd(ONE));
        assert!(number >= 16, "{address}: {number}");
        let flags = fcntl(sockets.fd(ONE), FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC, "{address}");
        let status = nix::fcntl::OFlag::from_bits_retain(fcntl(sockets.fd(ONE), FcntlArg::F_GETFL).unwrap());
        assert!(!status.contains(nix::fcntl::OFlag::O_NONBLOCK), "{address}");
        match &address {
            Address::Inet { .. } => assert!(facts.port.unwrap() > 0 && facts.host.is_some()),
            Address::Unix(path) => assert_eq!(facts.path.as_ref(), Some(path)),
            _ => assert_eq!(facts.address, format!("@{name}")),
        }
        let queue = matches!(kind, Stream | SeqPacket).then_some(0);
        assert_eq!(sockets.queue(ONE), queue, "{address}");
    }
    assert_eq!(directory.names(), Vec::<String>::new(), "dropping removes the paths");
}

#[test]
fn vsock_is_bound_or_the_kernel_is_blamed() {
    let vsock = spec("v", Address::Vsock { cid: u32::MAX, port: u32::MAX }, SocketKind::Stream);
    match Sockets::open(&plan([vsock]), Assigned::default()) {
        Ok((sockets, _)) => {
            let facts = sockets.facts(ONE);
            assert_eq!((facts.kind, facts.family), ("vsock", Some("AF_VSOCK")));
            assert!(facts.address.starts_with("vsock::") && facts.port.is_some(), "{facts:?}");
        }
        Err(errors) => assert!(errors[0].message.contains("the kernel has no vsock"), "{errors:?}"),
    }
}

#[test]
fn waiting_connections_are_counted() {
    let directory = Directory::new();
    let path = directory.0.join("s");
    let sockets = open(unix(&path));
    let _clients: Vec<_> = (0..3).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
    assert_eq!(sockets.queue(ONE), Some(3));
    let sockets = open(spec("web", local(0), SocketKind::Stream));
    let _client = std::net::TcpStream::connect(&sockets.facts(ONE).address).unwrap();
    assert_eq!(sockets.queue(ONE), Some(1));
}

/// A container may have none.
pub(super) fn has_v6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn dual_serves_both_and_v6only_does_not() {
    for (host, v6only, value) in
        [(Host::Dual, None, 0), (Host::V6(std::net::Ipv6Addr::UNSPECIFIED, None), Some(true), 1)]
    {
        let options = SocketOptions { v6only, ..Default::default() };
        if !has_v6() {
            continue;
        }
        let sockets = open(SocketSpec { options, ..spec("web", Address::Inet { host, port: 0 }, SocketKind::Stream) });
        assert_eq!(sys::int_option(sockets.fd(ONE), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY), Ok(value));
        let port = u16::try_from(sockets.facts(ONE).port.unwrap()).unwrap();
        // With v6only the port's v4 half is anybody's: only what must answer can be asked.
        assert!(value == 1 || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    }
}

#[test]
fn every_option_is_read_back() {
    let tcp = SocketOptions {
        nonblock: true,
        reuse_port: true,
        defer_accept_seconds: Some(3),
        nodelay: true,
        keepalive: true,
        keepalive_idle_seconds: Some(61),
        keepalive_interval_seconds: Some(62),
        keepalive_probes: Some(5),
        freebind: true,
        receive_buffer_bytes: Some(65536),
        send_buffer_bytes: Some(32768),
        priority: Some(3),
        tos: Some(16),
        ttl: Some(9),
        congestion: Some("reno".into()),
        ..Default::default()
    };
    let sockets = open(SocketSpec { options: tcp, ..spec("web", local(0), SocketKind::Stream) });
    let (socket, ip, tcp) = (libc::SOL_SOCKET, libc::IPPROTO_IP, libc::IPPROTO_TCP);
    for (level, option, value) in [
        (socket, libc::SO_REUSEADDR, 1),
        (socket, libc::SO_REUSEPORT, 1),
        (socket, libc::SO_KEEPALIVE, 1),
        (tcp, libc::TCP_KEEPIDLE, 61),
        (tcp, libc::TCP_KEEPINTVL, 62),
        (tcp, libc::TCP_KEEPCNT, 5),
        (tcp, libc::TCP_DEFER_ACCEPT, 3),
        (tcp, libc::TCP_NODELAY, 1),
        (ip, libc::IP_FREEBIND, 1),
        (socket, libc::SO_RCVBUF, 131072),
        (socket, libc::SO_SNDBUF, 65536),
        (socket, libc::SO_PRIORITY, 3),
        (ip, libc::IP_TOS, 16),
        (ip, libc::IP_TTL, 9),
    ] {
        assert_eq!(sys::int_option(sockets.fd(ONE), level, option), Ok(value), "{level} {option}");
    }
    let congestion = nix::sys::socket::getsockopt(&sockets.fd(ONE), nix::sys::socket::sockopt::TcpCongestion).unwrap();
    assert!(congestion.to_string_lossy().starts_with("reno"));
    let status = nix::fcntl::OFlag::from_bits_retain(fcntl(sockets.fd(ONE), FcntlArg::F_GETFL).unwrap());
    assert!(status.contains(nix::fcntl::OFlag::O_NONBLOCK));

    let udp = SocketOptions {
        reuse_address: true,
        broadcast: true,
        pass_packet_info: true,
        timestamp: Some(crate::plan::Timestamp::Nanoseconds),
        ..Default::default()
    };
    let sockets = open(SocketSpec { options: udp, ..spec("dns", local(0), SocketKind::Datagram) });
    for (level, option) in [
        (socket, libc::SO_REUSEADDR),
        (socket, libc::SO_BROADCAST),
        (ip, libc::IP_PKTINFO),
        (socket, libc::SO_TIMESTAMPNS),
    ] {
        assert_eq!(sys::int_option(sockets.fd(ONE), level, option), Ok(1), "{level} {option}");
    }

    let directory = Directory::new();
    let local = SocketOptions { pass_credentials: true, pass_security: true, ..Default::default() };
    let sockets = open(SocketSpec { options: local, ..unix(&directory.0.join("s")) });
    assert_eq!(sys::int_option(sockets.fd(ONE), socket, libc::SO_PASSCRED), Ok(1));
    assert_eq!(sys::int_option(sockets.fd(ONE), socket, libc::SO_PASSSEC), Ok(1));
    let pipe = SocketOptions { pipe_size_bytes: Some(131072), ..Default::default() };
    let fifo = spec("f", Address::Unix(directory.0.join("f")), SocketKind::Fifo);
    let sockets = open(SocketSpec { options: pipe, ..fifo });
    assert_eq!(fcntl(sockets.fd(ONE), FcntlArg::F_GETPIPE_SZ), Ok(131072));
}

#[test]
fn privileged_options_are_set_or_name_the_capability() {
    let device = SocketOptions { device: Some("lo".into()), ..Default::default() };
    let mark = SocketOptions { mark: Some(0xffff_fff0), ..Default::default() };
    let transparent = SocketOptions { transparent: true, ..Default::default() };
    for (options, level, option, value) in [
        (device, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, 1),
        (mark, libc::SOL_SOCKET, libc::SO_MARK, -16),
        (transparent, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1),
    ] {
        let spec = SocketSpec { options, ..spec("web", local(0), SocketKind::Stream) };
        match Sockets::open(&plan([spec]), Assigned::default()) {
            Ok((sockets, _)) => assert_eq!(sys::int_option(sockets.fd(ONE), level, option), Ok(value)),
            Err(errors) => assert!(errors[0].message.ends_with("(it needs CAP_NET_ADMIN)"), "{errors:?}"),
        }
    }
}

#[test]
fn refused_options_name_themselves_and_the_socket() {
    let congestion = SocketOptions { congestion: Some("nonesuch".into()), ..Default::default() };
    let device = SocketOptions { device: Some("nonesuch0".into()), ..Default::default() };
    let nodelay = SocketOptions { nodelay: true, ..Default::default() };
    let directory = Directory::new();
    let path = directory.0.join("s");
    let messages = errors([
        SocketSpec { options: congestion, ..spec("a", local(0), SocketKind::Stream) },
        SocketSpec { options: device, ..spec("b", local(0), SocketKind::Stream) },
        SocketSpec { options: nodelay, ..unix(&path) },
    ]);
    assert_eq!(messages.len(), 3);
    assert!(messages[0].starts_with("argument 1: cannot set congestion on a (127.0.0.1:0): no such algorithm"));
    assert_eq!(messages[1], "argument 1: cannot set device on 127.0.0.1:0: no such interface");
    assert!(messages[2].ends_with(": this kind of socket does not have it"), "{messages:?}");
    assert_eq!(directory.names(), Vec::<String>::new(), "a failure leaves nothing");
}

#[test]
fn capped_values_are_said() {
    let options = SocketOptions { backlog: Some(u32::MAX), receive_buffer_bytes: Some(1 << 33), ..Default::default() };
    let spec = SocketSpec { options, ..spec("web", local(0), SocketKind::Stream) };
    let (_sockets, remarks) = Sockets::open(&plan([spec]), Assigned::default()).unwrap();
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(remarks[0].contains("backlog=4294967295: the kernel allows"), "{remarks:?}");
    assert!(remarks[1].contains("rcvbuf=8589934592: the kernel grants"), "{remarks:?}");
}

#[test]
fn all_errors_are_listed_and_nothing_stays() {
    let directory = Directory::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let long = directory.0.join("x".repeat(120));
    let user = SocketOptions { user: Some("no-such-user".into()), ..Default::default() };
    // Too long for a label: no resolver has to be asked.
    let host = "x".repeat(64);
    let documentation = Host::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    let messages = errors([
        unix(&directory.0.join("deep/er/s")),
        spec("a", local(port), SocketKind::Stream),
        unix(&long),
        SocketSpec { options: user, ..unix(&directory.0.join("u")) },
        spec("b", Address::Inet { host: documentation, port: 0 }, SocketKind::Stream),
        spec("c", Address::Inet { host: Host::Name(host.clone()), port: 0 }, SocketKind::Stream),
        spec("d", Address::Abstract("x".repeat(108)), SocketKind::Stream),
    ]);
    let path = directory.0.display();
    assert_eq!(messages.len(), 6, "{messages:#?}");
    assert_eq!(
        messages[0],
        format!("argument 1: cannot bind 127.0.0.1:{port}: address in use (by this prebind itself)")
    );
    assert!(
        messages[1].ends_with("bytes, a unix socket's at most 107") && messages[1].contains("the path is too long: ")
    );
    assert_eq!(messages[2], format!("argument 1: cannot bind {path}/u: no such user 'no-such-user'"));
    assert!(messages[3].contains("cannot bind 192.0.2.1:0: address not available ("));
    assert!(messages[4].contains(&format!("cannot bind {host}:0: no such host: ")), "{messages:?}");
    assert!(messages[5].ends_with("the name is too long: 108 bytes, a unix socket's at most 107"));
    assert_eq!(directory.names(), Vec::<String>::new(), "directories that were made are removed");
}

#[test]
fn a_holder_is_named() {
    let directory = Directory::new();
    let path = directory.0.join("s");
    let _living = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let messages = errors([unix(&path)]);
    assert_eq!(
        messages,
        [format!("argument 1: cannot bind {}: address in use (by this prebind itself)", path.display())]
    );
    // cat waits for its standard input, and holds the listener as its standard output.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = std::process::Command::new("cat");
    let mut cat = command.stdin(std::process::Stdio::piped()).stdout(OwnedFd::from(listener)).spawn().unwrap();
    drop(command);
    let messages = errors([spec("web", local(port), SocketKind::Stream)]);
    let held = format!("address in use (pid {}, cat)", cat.id());
    drop(cat.stdin.take());
    cat.wait().unwrap();
    assert_eq!(messages, [format!("argument 1: cannot bind 127.0.0.1:{port}: {held}")]);
    let name = format!("prebind-test-held-{}", std::process::id());
    let one = spec("a", Address::Abstract(name), SocketKind::Stream);
    assert!(errors([one.clone(), one])[0].ends_with(": address in use (by this prebind itself)"));
}

#[test]
fn stale_sockets_are_replaced_and_other_nodes_are_not() {
    let directory = Directory::new();
    let path = directory.0.join("s");
    for kind in [SocketKind::Stream, SocketKind::Datagram, SocketKind::SeqPacket] {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        // As a killed prebind leaves it.
        std::fs::hard_link(&path, directory.0.join(".s.prebind-1")).unwrap();
        let sockets = open(SocketSpec { kind, ..unix(&path) });
        assert_eq!(directory.names(), [format!(".s.prebind-{}", std::process::id()), "s".into()]);
        drop(sockets);
        assert_eq!(directory.names(), Vec::<String>::new());
    }
    let _living = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    for kind in [SocketKind::Stream, SocketKind::Datagram] {
        assert!(errors([SocketSpec { kind, ..unix(&path) }])[0].contains("address in use"));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "data").unwrap();
    assert!(errors([unix(&path)])[0].ends_with(": a file is in the way (prebind replaces sockets only)"));
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
    let fifo = SocketSpec { kind: SocketKind::Fifo, ..unix(&path) };
    assert!(errors([fifo])[0].ends_with(": a file is in the way"));
}

#[test]
fn mode_owner_and_directories_are_as_asked() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let directory = Directory::new();
    let parent = directory.0.join("made/here");
    let uid = nix::unistd::getuid();
    let options = SocketOptions {
        mode: Some(0o640),
        user: Some(uid.to_string()),
        group: Some(nix::unistd::getgid().to_string()),
        directory_mode: Some(0o700),
        ..Default::default()
    };
    let fifo = SocketSpec { kind: SocketKind::Fifo, options: options.clone(), ..unix(&parent.join("f")) };
    let specs = [SocketSpec { options, ..unix(&parent.join("s")) }, fifo];
    let (sockets, _) = Sockets::open(&plan(specs), Assigned::default()).unwrap();
    for name in ["s", "f"] {
        let found = std::fs::metadata(parent.join(name)).unwrap();
        assert_eq!((found.permissions().mode() & 0o777, found.uid()), (0o640, uid.as_raw()), "{name}");
    }
    assert_eq!(std::fs::metadata(&parent).unwrap().permissions().mode() & 0o777, 0o700);
    drop(sockets);
    assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0);
}

#[test]
fn a_fifo_that_was_there_is_used_and_left() {
    let directory = Directory::new();
    let path = directory.0.join("f");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let fifo = SocketSpec { kind: SocketKind::Fifo, ..unix(&path) };
    drop(open(fifo.clone()));
    assert_eq!(directory.names(), ["f"]);
    let options = SocketOptions { mode: Some(0o660), ..Default::default() };
    let messages = errors([SocketSpec { options, ..fifo }]);
    assert!(messages[0].contains("it is there with mode 0600, not 0660"), "{messages:?}");
}

#[test]
fn an_unlinked_path_is_put_back_through_the_room() {
    let directory = Directory::new();
    let path = directory.0.join("s");
    let mut sockets = open(unix(&path));
    assert!(open(spec("web", local(0), SocketKind::Stream)).watch().is_none());
    std::fs::remove_file(&path).unwrap();
    let mut ready = [nix::poll::PollFd::new(sockets.watch().unwrap(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut ready, 5000u16), Ok(1));
    assert_eq!(sockets.restore_paths(), [format!("{} was removed: put back", path.display())]);
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    assert_eq!(sockets.queue(ONE), Some(1));
}
