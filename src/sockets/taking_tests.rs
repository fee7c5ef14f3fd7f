//! What waits: accepted one by one with its name, or thrown away; and sockets of all kinds going from one program to the
//! next. Loopback and own directories.

use super::tests::{Directory, ONE, has_v6, local, plan, spec, unix};
use super::*;
use crate::plan::{Change, Host, Plan, ServiceSpec, SocketOptions};
use nix::fcntl::OFlag;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

fn open_plan(plan: &Plan) -> Sockets {
    Sockets::open(plan, Assigned::default()).unwrap().0
}

fn open(spec: SocketSpec) -> Sockets {
    open_plan(&plan([spec]))
}

fn status(fd: BorrowedFd<'_>) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap())
}

#[test]
fn connections_come_with_their_names() {
    let sockets = open(spec("web", local(0), SocketKind::Stream));
    let address = sockets.facts(ONE).address.clone();
    assert!(sockets.accept(ONE, 0).unwrap().is_none(), "a blocking listener does not hold us");
    let mut client = TcpStream::connect(&address).unwrap();
    let connection = sockets.accept(ONE, 7).unwrap().unwrap();
    let port = client.local_addr().unwrap().port();
    assert_eq!(connection.instance, format!("7-{address}-127.0.0.1:{port}"));
    assert_eq!(connection.remote, Some(("127.0.0.1".into(), Some(port))));
    assert_eq!(connection.source, Source::Ip("127.0.0.1".parse().unwrap()));
    assert!(status(connection.fd.as_fd()).contains(OFlag::O_NONBLOCK));
    assert_eq!(fcntl(&connection.fd, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
    assert!(sockets.accept(ONE, 8).unwrap().is_none());
    drop(connection);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    if has_v6() {
        let sockets = open(spec("web", Address::Inet { host: Host::Dual, port: 0 }, SocketKind::Stream));
        let port = sockets.facts(ONE).port.unwrap();
        let client = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let from = client.local_addr().unwrap();
        let connection = sockets.accept(ONE, 0).unwrap().unwrap();
        assert_eq!(connection.instance, format!("0-127.0.0.1:{port}-{from}"));
        assert_eq!(connection.source, Source::Ip(from.ip()));
    }
}

#[test]
fn unix_connections_are_named_by_their_process() {
    let directory = Directory::new();
    let options = SocketOptions { lenient: true, receive_buffer_bytes: Some(65536), ..SocketOptions::default() };
    let sockets = open(SocketSpec { options, ..unix(&directory.0.join("s")) });
    let _client = UnixStream::connect(directory.0.join("s")).unwrap();
    let connection = sockets.accept(ONE, 3).unwrap().unwrap();
    let (pid, uid) = (std::process::id(), nix::unistd::getuid().as_raw());
    assert_eq!((connection.instance, connection.remote), (format!("3-{pid}-{uid}"), None));
    assert_eq!(connection.source, Source::Uid(uid));
    let bytes = sys::int_option(connection.fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF);
    assert_eq!(bytes, Ok(131072), "a connection does not inherit it");

    let name = directory.0.join("client");
    let client = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
    use nix::sys::socket::{UnixAddr, bind, connect};
    bind(client.as_raw_fd(), &UnixAddr::new(&name).unwrap()).unwrap();
    connect(client.as_raw_fd(), &UnixAddr::new(&directory.0.join("s")).unwrap()).unwrap();
    let connection = sockets.accept(ONE, 4).unwrap().unwrap();
    assert_eq!(connection.remote, Some((name.display().to_string(), None)));
}

#[test]
fn a_client_that_is_gone_is_no_trouble_and_what_does_not_accept_is() {
    let sockets = open(spec("web", local(0), SocketKind::Stream));
    let address = sockets.facts(ONE).address.clone();
    // Reset, while it waits.
    let gone = TcpStream::connect(&address).unwrap();
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&gone, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    drop(gone);
    let client = TcpStream::connect(&address).unwrap();
    let connection = sockets.accept(ONE, 0).unwrap().unwrap();
    assert!(connection.instance.ends_with(&format!("-{}", client.local_addr().unwrap())), "{connection:?}");

    let sockets = open(spec("dns", local(0), SocketKind::Datagram));
    let address = sockets.facts(ONE).address.clone();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", &address).unwrap();
    let error = sockets.accept(ONE, 0).unwrap_err();
    assert!(error.message.starts_with(&format!("cannot accept a connection on dns ({address}): ")), "{error}");
}

#[test]
fn every_slot_is_waited_on_and_accepted_from() {
    let options = SocketOptions { slots: true, ..SocketOptions::default() };
    let service = ServiceSpec { sockets: vec![ONE], number: crate::plan::Number::Fixed(3), ..ServiceSpec::default() };
    let one = SocketSpec { options, ..spec("web", local(0), SocketKind::Stream) };
    let sockets = open_plan(&Plan { sockets: vec![one], services: vec![service], ..Plan::default() });
    assert_eq!(sockets.poll_fds(ONE).count(), 3);
    let address = sockets.facts(ONE).address.clone();
    let _clients: Vec<_> = (0..30).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let accepted = (0..).map_while(|number| sockets.accept(ONE, number).unwrap()).count();
    assert_eq!(accepted, 30);
}

#[test]
fn a_listener_that_no_worker_gets_does_not_block() {
    let per_connection = StartWhen::PerConnection { most: 1, most_per_source: 0, limit: None };
    for (starts, nonblock) in [
        (vec![per_connection], true),
        (vec![per_connection, StartWhen::AtOnce], false),
        (vec![StartWhen::AtOnce], false),
        (vec![], false),
    ] {
        let service = |start| ServiceSpec { sockets: vec![ONE], start, ..ServiceSpec::default() };
        let services = starts.into_iter().map(service).collect();
        let sockets = vec![spec("web", local(0), SocketKind::Stream)];
        let sockets = open_plan(&Plan { sockets, services, ..Plan::default() });
        assert_eq!(status(sockets.fd(ONE)).contains(OFlag::O_NONBLOCK), nonblock);
    }
}

fn is_empty(sockets: &Sockets) -> bool {
    !sys::is_readable(sockets.fd(ONE))
}

#[test]
fn flushing_empties_every_kind_and_blocks_on_none() {
    let directory = Directory::new();
    let at = |name: &str, kind| SocketSpec { kind, ..unix(&directory.0.join(name)) };
    let sockets = open(spec("web", local(0), SocketKind::Stream));
    let mut client = TcpStream::connect(&sockets.facts(ONE).address).unwrap();
    assert!(!is_empty(&sockets));
    sockets.flush(ONE);
    sockets.flush(ONE);
    assert!(is_empty(&sockets));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed");

    let sockets = open(at("d", SocketKind::Datagram));
    let client = UnixDatagram::unbound().unwrap();
    for text in [b"".as_slice(), b"two", b"three"] {
        client.send_to(text, directory.0.join("d")).unwrap();
    }
    sockets.flush(ONE);
    assert!(is_empty(&sockets));

    let sockets = open(at("f", SocketKind::Fifo));
    let mut pipe = std::fs::OpenOptions::new().write(true).open(directory.0.join("f")).unwrap();
    pipe.write_all(&[7; 50_000]).unwrap();
    assert!(!is_empty(&sockets) && !status(sockets.fd(ONE)).contains(OFlag::O_NONBLOCK));
    sockets.flush(ONE);
    assert!(is_empty(&sockets));
    sockets.flush(ONE);

    let name = format!("/prebind-test-{}-flush", std::process::id());
    let sockets = open(spec("q", Address::MessageQueue(name.clone()), SocketKind::MessageQueue));
    let name = std::ffi::CString::new(name).unwrap();
    for _ in 0..3 {
        sys::mq_give(&name, b"message").unwrap();
    }
    assert!(!is_empty(&sockets));
    sockets.flush(ONE);
    assert!(is_empty(&sockets));

    // A file that is always readable has an end; a device that has none ends our patience.
    for path in ["/proc/self/mounts", "/dev/random"] {
        open(SocketSpec { kind: SocketKind::Special, ..unix(std::path::Path::new(path)) }).flush(ONE);
    }
}

/// Every kind that a unit has, one socket each.
fn every_kind(directory: &Directory) -> Plan {
    let options = SocketOptions { lenient: true, symlinks: vec![directory.0.join("link")], ..Default::default() };
    let at = |name: &str, kind| SocketSpec { kind, name: name.into(), ..unix(&directory.0.join(name)) };
    let queue = format!("/prebind-test-{}-frozen", std::process::id());
    let special = SocketSpec { kind: SocketKind::Special, ..unix(std::path::Path::new("/proc/self/mounts")) };
    plan([
        SocketSpec { options, ..at("s", SocketKind::Stream) },
        at("f", SocketKind::Fifo),
        special,
        spec("n", Address::Netlink { family: 15, groups: 1 }, SocketKind::Netlink),
        spec("q", Address::MessageQueue(queue), SocketKind::MessageQueue),
    ])
}

/// As the next program takes them over, under that plan. What the program before owned is forgotten, as by execve.
fn replaced(sockets: Sockets, old: &Plan, new: &Plan) -> (Sockets, Vec<String>) {
    let frozen = serde_json::to_string(&sockets.freeze(&mut Vec::new())).unwrap();
    std::mem::forget(sockets);
    let frozen = serde_json::from_str(&frozen).unwrap();
    Sockets::thaw((old, new), &Change::none(old), frozen, Added::default(), &mut sys::claim).unwrap()
}

#[test]
fn every_kind_goes_on_in_the_next_program_and_is_removed_by_it() {
    let directory = Directory::new();
    let plan = every_kind(&directory);
    let sockets = open_plan(&plan);
    let facts: Vec<SocketFacts> = (0..5).map(|id| sockets.facts(SocketId(id)).clone()).collect();
    let words: Vec<&str> = facts.iter().map(|facts| facts.kind).collect();
    assert_eq!(words, ["unix", "fifo", "special", "netlink", "mq"]);
    let (sockets, remarks) = replaced(sockets, &plan, &plan);
    assert_eq!(remarks, Vec::<String>::new());
    assert!((0..5).all(|id| *sockets.facts(SocketId(id)) == facts[usize::from(id)]));
    assert!(directory.names().contains(&"link".to_string()));
    drop(sockets);
    assert_eq!(directory.names(), Vec::<String>::new());
    let name = std::ffi::CString::new(facts[4].address.trim_start_matches("mq:")).unwrap();
    assert_eq!(sys::mq_open(&name, None).unwrap_err(), nix::errno::Errno::ENOENT);
}

#[test]
fn a_new_plan_decides_what_stays_and_which_links_there_are() {
    let directory = Directory::new();
    let old = plan([every_kind(&directory).sockets.remove(0)]);
    let mut new = old.clone();
    let options = &mut new.sockets[0].options;
    (options.keep_path, options.symlinks) = (true, vec![directory.0.join("other")]);
    (options.keepalive_idle_seconds, options.mode) = (Some(5), Some(0o666));
    let (sockets, remarks) = replaced(open_plan(&old), &old, &new);
    assert_eq!(remarks.len(), 1, "the mode is what it was: {remarks:?}");
    assert!(remarks[0].starts_with("cannot set keepalive time on s ("), "{remarks:?}");
    assert!(!directory.0.join("link").is_symlink());
    drop(sockets);
    assert_eq!(directory.names(), ["other", "s"]);
}

#[test]
fn a_listener_for_connections_blocks_again_for_workers() {
    let per_connection = StartWhen::PerConnection { most: 1, most_per_source: 0, limit: None };
    let service = ServiceSpec { sockets: vec![ONE], start: per_connection, ..ServiceSpec::default() };
    let old = Plan { services: vec![service], ..plan([spec("web", local(0), SocketKind::Stream)]) };
    let mut new = old.clone();
    let (sockets, _) = replaced(open_plan(&old), &old, &new);
    assert!(status(sockets.fd(ONE)).contains(OFlag::O_NONBLOCK));
    new.services[0].start = StartWhen::AtOnce;
    let (sockets, _) = replaced(sockets, &old, &new);
    assert!(!status(sockets.fd(ONE)).contains(OFlag::O_NONBLOCK));
}

#[test]
fn inherited_ones_are_matched_and_nothing_of_them_is_removed() {
    let directory = Directory::new();
    let mut plan = every_kind(&directory);
    let first = open_plan(&plan);
    let fds = (0..5).map(|id| (first.fd(SocketId(id)).try_clone_to_owned().unwrap(), None)).collect();
    let (assigned, problems) = Inherited { fds }.assign(&mut plan);
    assert_eq!(problems, []);
    let (sockets, remarks) = Sockets::open(&plan, assigned).unwrap();
    assert_eq!(remarks, Vec::<String>::new());
    assert!((0..5).all(|id| sockets.facts(SocketId(id)).inherited));
    let before = directory.names();
    drop(sockets);
    assert_eq!(directory.names(), before);
    let name = std::ffi::CString::new(first.facts(SocketId(4)).address.trim_start_matches("mq:")).unwrap();
    assert!(sys::mq_open(&name, None).is_ok());
}
