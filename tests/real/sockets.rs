//! Chapter "Sockets": every kind and every option, seen from the worker that got it.

use crate::harness::{Prebind, Setup, TempDir, exchange_unix, get, get_unix, is_root, probe, wait_for};
use serde_json::Value;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

const AF_VSOCK: i64 = libc::AF_VSOCK as i64;

fn start(binds: &[&str]) -> Prebind {
    let mut options = Vec::new();
    binds.iter().for_each(|bind| options.extend(["-b", bind]));
    let mut prebind = Setup::probe(&options, &[]).start();
    prebind.wait_ready();
    prebind
}

fn kind(prebind: &Prebind, name: &str) -> String {
    let status = prebind.status();
    let socket = status["sockets"].as_array().expect("sockets").iter().find(|socket| socket["name"] == name);
    socket.expect("the socket")["kind"].as_str().expect("kind").to_owned()
}

/// What the worker sees of its first descriptor, asked by a socket of our own beside it.
fn third(bind: &str) -> Value {
    let mut prebind = start(&[bind, "ear=127.0.0.1:0"]);
    let answer = prebind.probe("ear");
    let found = probe::fd(&answer, 3).clone();
    prebind.stop();
    found
}

#[test]
fn tcp_v4() {
    let mut prebind = start(&["web=127.0.0.1:0"]);
    assert_eq!(kind(&prebind, "web"), "tcp");
    assert_ne!(prebind.inet("web").port(), 0, "status shows the real port");
    let answer = prebind.probe("web");
    let web = probe::fd(&answer, 3);
    for (option, value) in
        [("domain", 2), ("type", 1), ("listening", 1), ("reuseaddr", 1), ("cloexec", 0), ("nonblock", 0)]
    {
        assert_eq!(web[option], value, "{option} of {web}");
    }
    prebind.stop();
}

#[test]
fn tcp_v6_and_prefix() {
    let mut prebind = start(&["web=tcp://[::1]:0"]);
    let address = prebind.inet("web");
    assert!(address.is_ipv6(), "{address}");
    assert_eq!(probe::fd(&prebind.probe("web"), 3)["domain"], libc::AF_INET6);
    prebind.stop();
}

#[test]
fn tcp_dual_serves_both_families() {
    let mut prebind = start(&["web=*:0"]);
    let address = prebind.address("web");
    let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    for host in ["127.0.0.1", "[::1]"] {
        let address = format!("{host}:{port}").parse().expect("address");
        let pid = get(address, "/pid").unwrap_or_else(|why| panic!("{address}: {why}"));
        assert_eq!(pid.parse::<i32>().ok(), prebind.worker_pids().first().copied());
    }
    assert_eq!(probe::fd(&prebind.probe("web"), 3)["v6only"], 0);
    prebind.stop();
}

#[test]
fn a_bare_port_is_every_v4_address() {
    for bind in ["web=:0", "web=0"] {
        let mut prebind = start(&[bind]);
        let address = prebind.address("web");
        assert!(address.starts_with("0.0.0.0:"), "{bind}: {address}");
        prebind.get("web", "/pid");
        prebind.stop();
    }
}

#[test]
fn a_host_name_is_its_v4_address() {
    let mut prebind = start(&["web=localhost:0"]);
    assert!(prebind.address("web").starts_with("127.0.0.1:"));
    prebind.stop();
}

#[test]
fn order_and_names_of_several() {
    let mut prebind = start(&["b=127.0.0.1:0", "a=127.0.0.1:0", "127.0.0.1:0"]);
    let answer = prebind.probe("2");
    let env = probe::environ(&answer);
    assert_eq!((env["LISTEN_FDS"].as_str(), env["LISTEN_FDNAMES"].as_str()), ("3", "b:a:2"));
    assert_eq!(probe::numbers(&answer), [0, 1, 2, 3, 4, 5]);
    let names: Vec<_> =
        prebind.status()["sockets"].as_array().expect("sockets").iter().map(|s| s["name"].clone()).collect();
    assert_eq!(names, ["b", "a", "2"]);
    prebind.stop();
}

#[test]
fn udp() {
    let mut prebind = start(&["dns=udp:127.0.0.1:0", "ear=127.0.0.1:0"]);
    assert_eq!(kind(&prebind, "dns"), "udp");
    let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
    client.send_to(b"hello", prebind.inet("dns")).expect("send");
    let mut reply = [0; 100];
    let n = client.recv(&mut reply).expect("a reply");
    assert!(String::from_utf8_lossy(&reply[..n]).ends_with(" got hello"));
    let answer = prebind.probe("ear");
    assert_eq!(probe::fd(&answer, 3)["type"], libc::SOCK_DGRAM);
    prebind.stop();
}

#[test]
fn unix_stream_path_comes_and_goes() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    let mut prebind = Setup::in_dir(dir, &["-b", &format!("web=unix:{path}"), "--", probe::path()]).start();
    prebind.wait_ready();
    assert_eq!((kind(&prebind, "web"), prebind.address("web")), ("unix".into(), path.clone()));
    assert!(std::fs::metadata(&path).expect("the path").file_type().is_socket());
    assert!(get_unix(&path, "/pid").is_ok());
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(prebind.dir.path()).expect("dir").flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "all that prebind made is gone at its end, not so {left:?}");
}

#[test]
fn a_plain_path_is_unix() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    let mut prebind = Setup::in_dir(dir, &["-b", &path, "--", probe::path()]).start();
    prebind.wait_ready();
    assert!(get_unix(&path, "/pid").is_ok());
    prebind.stop();
}

#[test]
fn unix_datagrams() {
    let dir = TempDir::new();
    let (path, own) = (dir.join("log.sock"), dir.join("client.sock"));
    let client = UnixDatagram::bind(&own).expect("bind");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
    let mut prebind = Setup::in_dir(dir, &["-b", &format!("log=unixgram:{path}"), "--", probe::path()]).start();
    prebind.wait_ready();
    assert_eq!(kind(&prebind, "log"), "unixgram");
    client.send_to(b"hello", &path).expect("send");
    let mut reply = [0; 100];
    let n = client.recv(&mut reply).expect("a reply");
    assert!(String::from_utf8_lossy(&reply[..n]).ends_with(" got hello"));
    prebind.stop();
}

#[test]
fn seqpacket() {
    let dir = TempDir::new();
    let path = dir.join("seq.sock");
    let mut prebind = Setup::in_dir(dir, &["-b", &format!("seq=seqpacket:{path}"), "--", probe::path()]).start();
    prebind.wait_ready();
    assert_eq!(kind(&prebind, "seq"), "seqpacket");
    let client = connect_seqpacket(&path);
    let body = exchange_unix(UnixStream::from(client), "/pid").expect("an answer");
    assert_eq!(body.parse::<i32>().ok(), prebind.worker_pids().first().copied());
    prebind.stop();
}

fn connect_seqpacket(path: &str) -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    connect(fd.as_raw_fd(), &UnixAddr::new(path).expect("address")).expect("connect");
    fd
}

#[test]
fn abstract_names() {
    let name = format!("@prebind-real-{}", std::process::id());
    let mut prebind = start(&[&format!("web={name}")]);
    assert_eq!((kind(&prebind, "web"), prebind.address("web")), ("unix".into(), name.clone()));
    assert!(get_unix(&name, "/pid").is_ok());
    prebind.stop();
}

#[test]
fn fifo_is_made_read_and_removed() {
    let dir = TempDir::new();
    let path = dir.join("in.fifo");
    let bind = format!("in=fifo:{path},mode=0640");
    let mut prebind = Setup::in_dir(dir, &["-b", &bind, "--umask", "0", "--", probe::path()]).start();
    prebind.wait_ready();
    let meta = std::fs::metadata(&path).expect("the path");
    assert!(meta.file_type().is_fifo());
    assert_eq!(meta.mode() & 0o7777, 0o640);
    for word in ["one", "two"] {
        std::fs::write(&path, format!("{word}\n")).expect("write"); // opened and closed: the worker sees no end of file
        prebind.lines.expect(&["probe:", &format!("read {word}")]);
    }
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    assert!(!Path::new(&path).exists(), "removed at the end");
}

#[test]
fn vsock() {
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        eprintln!("vsock: skipped, this kernel has no AF_VSOCK");
        return;
    }
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    let port = 40_000 + std::process::id() % 20_000;
    let socket = third(&format!("vm=vsock::{port}"));
    assert_eq!((&socket["domain"], &socket["listening"]), (&AF_VSOCK.into(), &1.into()), "{socket}");
}

#[test]
fn an_open_descriptor_is_adopted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let mut prebind = Setup::probe(&["-b", "web=fd:9"], &[]).descriptors(9, &[&listener]).start();
    prebind.wait_ready();
    assert_eq!(prebind.inet("web"), address);
    let status = prebind.status();
    assert_eq!((&status["sockets"][0]["kind"], &status["sockets"][0]["inherited"]), (&"tcp".into(), &true.into()));
    assert_eq!(probe::numbers(&prebind.probe("web")), [0, 1, 2, 3]);
    prebind.stop();
}

#[test]
fn every_option_reaches_the_socket() {
    let tcp = "127.0.0.1:0";
    for (bind, option, value) in [
        (format!("{tcp},r"), "reuseaddr", 1),
        (format!("{tcp},so_reuseaddr"), "reuseaddr", 1),
        (format!("udp:{tcp},r"), "reuseaddr", 1),
        (format!("{tcp},n"), "nonblock", 1),
        (format!("{tcp},o_nonblock"), "nonblock", 1),
        (format!("{tcp},rn"), "nonblock", 1),
        (format!("{tcp},backlog=17"), "backlog", 17),
        (format!("{tcp},reuseport"), "reuseport", 1),
        ("[::]:0,v6only".to_owned(), "v6only", 1),
        (format!("{tcp},nodelay"), "nodelay", 1),
        (format!("{tcp},keepalive"), "keepalive", 1),
        (format!("{tcp},freebind"), "freebind", 1),
        (format!("{tcp},rcvbuf=64K"), "rcvbuf", 2 * 64 * 1024), // the kernel doubles what is asked
        (format!("{tcp},sndbuf=32768"), "sndbuf", 2 * 32768),
        (format!("{tcp},keepidle=61"), "keepidle", 61),
        (format!("{tcp},keepintvl=7"), "keepintvl", 7),
        (format!("{tcp},keepcnt=4"), "keepcnt", 4),
        (format!("{tcp},priority=3"), "priority", 3),
        (format!("{tcp},tos=16"), "tos", 16),
        (format!("{tcp},ttl=33"), "ttl", 33),
        ("[::1]:0,ttl=34".to_owned(), "hops", 34),
        (format!("udp:{tcp},broadcast"), "broadcast", 1),
        (format!("udp:{tcp},pktinfo"), "pktinfo", 1),
        ("udp:[::1]:0,pktinfo".to_owned(), "pktinfo6", 1),
        (format!("udp:{tcp},timestamp=us"), "timestamp", 1),
        (format!("udp:{tcp},timestamp=ns"), "timestampns", 1),
        (format!("@prebind-real-cred-{},passcred", std::process::id()), "passcred", 1),
        (format!("@prebind-real-sec-{},passsec", std::process::id()), "passsec", 1),
    ] {
        let socket = third(&bind);
        assert_eq!(socket[option], value, "{bind}: {socket}");
    }
    let socket = third(&format!("{tcp},congestion=reno"));
    assert_eq!(socket["congestion"], "reno", "{socket}");
    let dir = TempDir::new();
    let socket = third(&format!("fifo:{},pipesize=128K", dir.join("in.fifo")));
    assert_eq!(socket["pipesize"], 128 * 1024, "{socket}");
    // Seconds become a number of SYN-ACK retransmissions, and come back rounded up.
    let socket = third(&format!("{tcp},defer=5"));
    assert!(socket["defer"].as_i64() >= Some(5), "{socket}");
}

#[test]
fn options_that_need_rights() {
    if !is_root("options_that_need_rights") {
        return;
    }
    for (bind, option, value) in [
        ("127.0.0.1:0,transparent", "transparent", Value::from(1)),
        ("127.0.0.1:0,mark=7", "mark", Value::from(7)),
        ("127.0.0.1:0,device=lo", "device", Value::from("lo")),
    ] {
        let socket = third(bind);
        assert_eq!(socket[option], value, "{bind}: {socket}");
    }
}

#[test]
fn one_backlog_for_all_by_dash_l() {
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0", "-l", "23"], &[]).start();
    prebind.wait_ready();
    assert_eq!(probe::fd(&prebind.probe("web"), 3)["backlog"], 23);
    prebind.stop();
}

#[test]
fn mode_and_owner_of_a_path() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    let mut options = format!("web={path},mode=0660");
    if is_root("the owner of a path") {
        options += ",user=daemon,group=daemon";
    }
    let mut prebind = Setup::in_dir(dir, &["-b", &options, "--", probe::path()]).start();
    prebind.wait_ready();
    let meta = std::fs::metadata(&path).expect("the path");
    assert_eq!(meta.mode() & 0o7777, 0o660);
    if options.contains("user=") {
        let daemon = nix::unistd::User::from_name("daemon").expect("look-up").expect("daemon");
        assert_eq!((meta.uid(), meta.gid()), (daemon.uid.as_raw(), daemon.gid.as_raw()));
    }
    prebind.stop();
}

#[test]
fn a_stale_path_is_replaced() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    drop(UnixListener::bind(&path).expect("bind")); // the node stays, nobody answers
    let mut prebind = Setup::in_dir(dir, &["-b", &path, "--", probe::path()]).start();
    prebind.wait_ready();
    assert!(get_unix(&path, "/pid").is_ok());
    prebind.stop();
}

#[test]
fn a_path_in_use_is_left_alone() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    let alive = UnixListener::bind(&path).expect("bind");
    let before = std::fs::metadata(&path).expect("the path").ino();
    Setup::in_dir(TempDir::new(), &["-b", &path, "--", probe::path()])
        .finish()
        .code(111)
        .says(&[&path, "address in use"]);
    assert_eq!(std::fs::metadata(&path).expect("still there").ino(), before);
    drop(alive);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = TempDir::new();
    let path = dir.join("notes.txt");
    std::fs::write(&path, "precious").expect("write");
    Setup::in_dir(TempDir::new(), &["-b", &path, "--", probe::path()]).finish().code(111).says(&[&path]);
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
}

#[test]
fn a_path_that_a_worker_unlinked_is_put_back() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    let mut prebind =
        Setup::in_dir(dir, &["-b", &format!("web={path}"), "-b", "ear=127.0.0.1:0", "--", probe::path()]).start();
    prebind.wait_ready();
    let before = std::fs::metadata(&path).expect("the path").ino();
    for _ in 0..2 {
        let from = prebind.lines.count();
        assert_eq!(prebind.get("ear", &format!("/unlink?path={path}")), "0");
        wait_for("the path to be put back", || std::fs::metadata(&path).ok());
        prebind.lines.expect_from(from, &[&path]);
        assert_eq!(std::fs::metadata(&path).expect("the path").ino(), before, "the same listener");
        assert!(get_unix(&path, "/pid").is_ok());
    }
    prebind.stop();
}

#[test]
fn all_or_nothing() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let busy = taken.local_addr().expect("address").to_string();
    Setup::in_dir(TempDir::new(), &["-b", &path, "-b", &busy, "--", probe::path()]).finish().code(111).says(&[&busy]);
    assert!(!Path::new(&path).exists(), "what was bound before the failure is removed again");
}
