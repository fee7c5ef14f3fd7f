//! Sockets as units ask for them: what is refused becomes a remark, the kinds that only units have, links and paths that
//! stay. Loopback and own directories.

use super::tests::{Directory, ONE, errors, has_v6, local, plan, spec, unix};
use super::*;
use crate::plan::{Host, SocketOptions};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The same socket as a unit has it.
fn lenient(spec: SocketSpec, options: SocketOptions) -> SocketSpec {
    SocketSpec { options: SocketOptions { lenient: true, ..options }, ..spec }
}

fn opened(specs: impl Into<Vec<SocketSpec>>) -> (Sockets, Vec<String>) {
    Sockets::open(&plan(specs), Assigned::default()).unwrap()
}

fn tells(sockets: &Sockets, level: i32, option: i32) -> i32 {
    sys::int_option(sockets.fd(ONE), level, option).unwrap()
}

fn everything() -> SocketOptions {
    SocketOptions {
        reuse_port: true,
        v6only: Some(true),
        defer_accept_seconds: Some(3),
        nodelay: true,
        keepalive_idle_seconds: Some(61),
        keepalive_interval_seconds: Some(0),
        freebind: true,
        receive_buffer_bytes: Some(65536),
        send_buffer_bytes: Some(32768),
        priority: Some(3),
        tos: Some(16),
        ttl: Some(9),
        congestion: Some("nonesuch".into()),
        broadcast: true,
        pass_credentials: true,
        pass_packet_info: true,
        timestamp: Some(crate::plan::Timestamp::Nanoseconds),
        pass_pidfd: true,
        refuse_descriptors: true,
        ..SocketOptions::default()
    }
}

#[test]
fn what_tcp_does_not_have_is_a_remark_and_the_rest_is_set() {
    let (sockets, remarks) = opened([lenient(spec("web", local(0), SocketKind::Stream), everything())]);
    let (socket, ip, tcp) = (libc::SOL_SOCKET, libc::IPPROTO_IP, libc::IPPROTO_TCP);
    for (level, option, value) in [
        (socket, libc::SO_REUSEADDR, 1),
        (socket, libc::SO_REUSEPORT, 1),
        (socket, libc::SO_KEEPALIVE, 0),
        (tcp, libc::TCP_KEEPIDLE, 61),
        (tcp, libc::TCP_DEFER_ACCEPT, 3),
        (tcp, libc::TCP_NODELAY, 1),
        (ip, libc::IP_FREEBIND, 1),
        (ip, libc::IP_PKTINFO, 1),
        (ip, libc::IP_TTL, 9),
        (ip, libc::IP_TOS, 16),
        (socket, libc::SO_RCVBUF, 131072),
        (socket, libc::SO_SNDBUF, 65536),
        (socket, libc::SO_BROADCAST, 1),
        (socket, libc::SO_TIMESTAMPNS, 1),
    ] {
        assert_eq!(tells(&sockets, level, option), value, "{level} {option}");
    }
    assert!(
        remarks.iter().any(|r| r.starts_with("cannot set congestion on web (127.0.0.1:0): no such algorithm")),
        "{remarks:?}"
    );
    assert!(remarks.iter().all(|remark| remark.contains("web (127.0.0.1:0)")), "{remarks:?}");
    assert!(!remarks.iter().any(|remark| remark.contains("interval")), "0 is the default: {remarks:?}");
}

#[test]
fn ipv6_has_its_own_numbers() {
    if !has_v6() {
        return;
    }
    let address = Address::Inet { host: Host::V6(std::net::Ipv6Addr::LOCALHOST, None), port: 0 };
    let (sockets, _) = opened([lenient(spec("dns", address, SocketKind::Datagram), everything())]);
    for (level, option, value) in [
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1),
        (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, 9),
        (libc::IPPROTO_IP, libc::IP_TOS, 16),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR, 1),
    ] {
        assert_eq!(tells(&sockets, level, option), value, "{level} {option}");
    }
}

#[test]
fn unix_netlink_and_pipes_get_what_they_have() {
    let directory = Directory::new();
    let (sockets, remarks) = opened([lenient(unix(&directory.0.join("s")), everything())]);
    for (option, value) in [(libc::SO_REUSEADDR, 1), (libc::SO_PASSCRED, 1), (libc::SO_RCVBUF, 131072)] {
        assert_eq!(tells(&sockets, libc::SOL_SOCKET, option), value, "{option}");
    }
    assert!(remarks.iter().any(|one| one.starts_with("cannot set keepalive time on web (")), "{remarks:?}");
    let left_out = "left out, this kind does not have it: freebind, packet info, ttl";
    assert!(remarks.last().unwrap().ends_with(left_out), "{remarks:?}");

    let netlink = spec("n", Address::Netlink { family: 15, groups: 1 }, SocketKind::Netlink);
    let (sockets, _) = opened([lenient(netlink, everything())]);
    assert_eq!(tells(&sockets, libc::SOL_SOCKET, libc::SO_PASSCRED), 1);
    assert_eq!(tells(&sockets, libc::SOL_SOCKET, libc::SO_REUSEADDR), 1);
    assert_eq!(tells(&sockets, libc::SOL_SOCKET, libc::SO_PROTOCOL), 15);

    let options = SocketOptions { pipe_size_bytes: Some(u64::MAX), ..everything() };
    let fifo = SocketSpec { kind: SocketKind::Fifo, ..unix(&directory.0.join("f")) };
    let (_sockets, remarks) = opened([lenient(fifo, options)]);
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(remarks[0].contains("this kind does not have it: freebind, keepalive time, defer"), "{remarks:?}");
    assert!(remarks[1].starts_with("cannot set pipe size on web ("), "{remarks:?}");
}

#[test]
fn what_decides_the_address_is_an_error_all_the_same() {
    let device = SocketOptions { device: Some("nonesuch0".into()), ..Default::default() };
    let messages = errors([lenient(spec("a", local(0), SocketKind::Stream), device.clone())]);
    assert_eq!(messages, ["argument 1: cannot set device on 127.0.0.1:0: no such interface"]);
    let directory = Directory::new();
    let (_sockets, remarks) = opened([lenient(unix(&directory.0.join("s")), device)]);
    assert!(remarks[0].ends_with("this kind does not have it: device"), "{remarks:?}");
    let path = directory.0.join("d/");
    let messages = errors([lenient(unix(&path), SocketOptions::default())]);
    assert!(messages[0].ends_with("a path that ends in '/' is a directory's"), "{messages:?}");
    let _living = std::os::unix::net::UnixListener::bind(directory.0.join("l")).unwrap();
    let messages = errors([lenient(unix(&directory.0.join("l")), SocketOptions::default())]);
    assert!(messages[0].contains("(by this prebind itself) (systemd takes a path from"), "{messages:?}");
}

#[test]
fn a_protocol_is_for_the_kinds_that_have_it() {
    let udplite = SocketOptions { protocol: Some(libc::IPPROTO_UDPLITE), ..Default::default() };
    let stream = lenient(spec("web", local(0), SocketKind::Stream), udplite.clone());
    assert_eq!(tells(&opened([stream]).0, libc::SOL_SOCKET, libc::SO_PROTOCOL), libc::IPPROTO_TCP);
    for (protocol, kind) in [(libc::IPPROTO_UDPLITE, SocketKind::Datagram), (libc::IPPROTO_MPTCP, SocketKind::Stream)] {
        let options = SocketOptions { protocol: Some(protocol), ..Default::default() };
        match Sockets::open(&plan([lenient(spec("x", local(0), kind), options)]), Assigned::default()) {
            Ok((sockets, _)) => assert_eq!(tells(&sockets, libc::SOL_SOCKET, libc::SO_PROTOCOL), protocol),
            Err(errors) => assert!(errors[0].message.contains("does not have its protocol"), "{errors:?}"),
        }
    }
}

#[test]
fn a_path_is_open_to_all_whatever_our_umask() {
    let directory = Directory::new();
    let (_sockets, _) = opened([lenient(unix(&directory.0.join("s")), SocketOptions::default())]);
    let found = fs::metadata(directory.0.join("s")).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o666);
}

#[test]
fn a_user_alone_brings_its_group() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    let directory = Directory::new();
    let path = directory.0.join("s");
    let queue = queue_name("owned");
    let options = SocketOptions { user: Some("daemon".into()), keep_path: false, ..Default::default() };
    let mq = spec("q", Address::MessageQueue(queue), SocketKind::MessageQueue);
    let (sockets, _) = opened([lenient(unix(&path), options.clone()), lenient(mq, options)]);
    let found = fs::metadata(&path).unwrap();
    let owner = (daemon.uid.as_raw(), daemon.gid.as_raw());
    assert_eq!((found.uid(), found.gid()), owner);
    let found = nix::sys::stat::fstat(sockets.fd(SocketId(1))).unwrap();
    assert_eq!((found.st_uid, found.st_gid), owner);
}

fn queue_name(what: &str) -> String {
    format!("/prebind-test-{}-{what}", std::process::id())
}

#[test]
fn a_queue_has_its_limits_and_its_mode_and_goes_or_stays() {
    let name = queue_name("kept");
    let queue = |keep_path, mode| {
        let options =
            SocketOptions { keep_path, mode: Some(mode), queue_limits: Some((3, 20)), ..SocketOptions::default() };
        lenient(spec("q", Address::MessageQueue(name.clone()), SocketKind::MessageQueue), options)
    };
    let (sockets, remarks) = opened([queue(true, 0o600)]);
    assert_eq!(remarks, Vec::<String>::new());
    let facts = sockets.facts(ONE);
    assert_eq!((facts.kind, facts.family, facts.address.clone()), ("mq", None, format!("mq:{name}")));
    assert_eq!(sys::mq_limits(sockets.fd(ONE)), Ok((3, 20)));
    assert_eq!(nix::sys::stat::fstat(sockets.fd(ONE)).unwrap().st_mode & 0o777, 0o600);
    assert_eq!(sockets.queue(ONE), None);
    drop(sockets);
    let messages = errors([queue(true, 0o660)]);
    assert!(messages[0].contains("it is there with mode 0600, not 06"), "{messages:?}");
    let c_name = std::ffi::CString::new(name.clone()).unwrap();
    drop(opened([queue(false, 0o600)]));
    assert_eq!(sys::mq_open(&c_name, None).unwrap_err(), nix::errno::Errno::ENOENT, "RemoveOnStop");
    let bad = lenient(spec("q", Address::MessageQueue("/a/b".into()), SocketKind::MessageQueue), Default::default());
    assert!(errors([bad])[0].contains("cannot open message queue /a/b: "));
    // What fails beside it leaves no queue.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    errors([queue(true, 0o600), spec("w", local(port), SocketKind::Stream)]);
    assert_eq!(sys::mq_open(&c_name, None).unwrap_err(), nix::errno::Errno::ENOENT);
}

#[test]
fn special_files_can_be_waited_for() {
    let special = |path: &Path| lenient(SocketSpec { kind: SocketKind::Special, ..unix(path) }, Default::default());
    let (sockets, remarks) = opened([special(Path::new("/proc/self/mounts"))]);
    let facts = sockets.facts(ONE);
    assert_eq!((facts.kind, facts.address.as_str(), remarks.len()), ("special", "/proc/self/mounts", 0));
    assert_eq!(facts.path.as_deref(), Some(Path::new("/proc/self/mounts")));
    assert!(bind::is_at(
        &Address::Unix("/proc/self/mounts".into()),
        &facts::describe(sockets.fd(ONE)).unwrap().bound,
        sockets.fd(ONE)
    ));
    let directory = Directory::new();
    let path = directory.0.join("plain");
    fs::write(&path, "x").unwrap();
    std::os::unix::fs::symlink(&path, directory.0.join("link")).unwrap();
    for (path, why) in [
        (path, "it does not tell when there is something to read"),
        (directory.0.join("link"), "it is a symbolic link, not a character device"),
        (directory.0.clone(), "it is a directory, not"),
        (directory.0.join("none"), "no such file"),
    ] {
        let messages = errors([special(&path)]);
        assert!(messages[0].contains("cannot open special file ") && messages[0].contains(why), "{messages:?}");
    }
    let writable = SocketOptions { writable: true, ..Default::default() };
    let tty = lenient(SocketSpec { kind: SocketKind::Special, ..unix(Path::new("/dev/ptmx")) }, writable);
    if let Ok((sockets, _)) = Sockets::open(&plan([tty]), Assigned::default()) {
        let flags = fcntl(sockets.fd(ONE), FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_ACCMODE, libc::O_RDWR);
    }
}

#[test]
fn links_and_paths_go_or_stay() {
    for keep_path in [true, false] {
        let directory = Directory::new();
        let at = |name: &str| directory.0.join(name);
        for there in ["file", "right"] {
            let _ = fs::remove_file(at(there));
        }
        fs::write(at("file"), "data").unwrap();
        std::os::unix::fs::symlink(at("s"), at("right")).unwrap();
        let symlinks = vec![at("deep/er"), at("right"), at("file")];
        let one = lenient(unix(&at("s")), SocketOptions { keep_path, symlinks, ..SocketOptions::default() });
        let (sockets, remarks) = opened([one.clone()]);
        assert_eq!(fs::read_link(at("deep/er")).unwrap(), at("s"));
        match keep_path {
            true => assert!(remarks[0].ends_with("to it: a file is in the way"), "{remarks:?}"),
            false => assert_eq!((remarks.len(), fs::read_link(at("file")).unwrap()), (0, at("s"))),
        }
        drop(sockets);
        let left = if keep_path { vec!["deep", "file", "right", "s"] } else { vec!["deep"] };
        assert_eq!(directory.names(), left);
        assert_eq!(at("deep/er").is_symlink(), keep_path);
        // What stayed is stale, and no hindrance.
        drop(opened([one]));
    }
}

#[test]
fn a_failure_beside_it_leaves_no_link_and_what_was_there() {
    let directory = Directory::new();
    let at = |name: &str| directory.0.join(name);
    nix::unistd::mkfifo(&at("f"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let options = SocketOptions { mode: Some(0o600), symlinks: vec![at("l")], ..SocketOptions::default() };
    let fifo = lenient(SocketSpec { kind: SocketKind::Fifo, ..unix(&at("f")) }, options.clone());
    let keeps = SocketOptions { keep_path: true, ..options };
    errors([fifo.clone(), lenient(unix(&at("s")), keeps), unix(&at("none").join("x".repeat(120)))]);
    assert_eq!(directory.names(), ["f"]);
    drop(opened([fifo]));
    assert_eq!(directory.names(), Vec::<String>::new(), "RemoveOnStop takes a FIFO that was there, as in systemd");
}

#[test]
fn a_bare_port_may_be_ipv4_where_there_is_no_other() {
    let any = Address::Inet { host: Host::V6(std::net::Ipv6Addr::UNSPECIFIED, None), port: 80 };
    let one = Address::Inet { host: Host::V6(std::net::Ipv6Addr::LOCALHOST, None), port: 80 };
    for (address, is_lenient, falls) in [(&any, true, true), (&any, false, false), (&one, true, false)] {
        let options = SocketOptions { lenient: is_lenient, ..SocketOptions::default() };
        let spec = SocketSpec { options, ..spec("web", address.clone(), SocketKind::Stream) };
        assert_eq!(bind::falls_back(&spec), falls, "{address} {is_lenient}");
    }
}
