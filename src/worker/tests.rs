//! Tests of the worker library.
use super::{Error, Socket, Which, Worker};
use std::ffi::OsString;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

fn worker(environment: &[(&str, &str)], sockets: Vec<(Option<&str>, OwnedFd)>) -> Worker {
    let get = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    let own = |(name, fd): (Option<&str>, OwnedFd)| Socket { name: name.map(str::to_owned), fd: Some(fd) };
    Worker { sockets: Ok(sockets.into_iter().map(own).collect()), ..Worker::without_sockets(&get, 7) }
}

fn tcp() -> OwnedFd {
    TcpListener::bind("127.0.0.1:0").unwrap().into()
}

#[test]
fn sockets_are_found_by_name_and_position_and_taken_once() {
    let name = format!("prebind-worker-taken-{}", std::process::id());
    let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap().into();
    let mut worker = worker(&[], vec![(Some("web.socket"), tcp()), (Some("web"), tcp()), (None, tcp()), (None, unix)]);
    let names: Vec<_> = worker.names().collect();
    assert_eq!(names, [Some("web.socket"), Some("web"), None, None]);
    worker.tcp_listener("web").unwrap();
    // The exact name was meant, and is gone; the other one has a name of its own.
    assert!(matches!(worker.tcp_listener("web"), Err(Error::Taken(_))));
    worker.tcp_listener("web.socket").unwrap();
    worker.tcp_listener(2).unwrap();
    assert_eq!(worker.tcp_listener(2).unwrap_err().to_string(), "socket number 2 was taken already");
    worker.unix_listener(3).unwrap();
    assert_eq!(worker.len(), 4);
}

#[test]
fn a_unit_name_answers_without_its_suffix_and_a_repeated_one_in_order() {
    let mut worker = worker(&[], vec![(Some("web.socket"), tcp()), (Some("web.socket"), tcp())]);
    worker.tcp_listener("web").unwrap();
    worker.tcp_listener("web").unwrap();
    assert!(matches!(worker.tcp_listener("web"), Err(Error::Taken(_))));
}

#[test]
fn a_socket_of_another_kind_stays_where_it_is() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let gram = UnixDatagram::unbound().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut worker = worker(
        &[],
        vec![
            (Some("web"), tcp()),
            (Some("dns"), udp.into()),
            (Some("pair"), pair.into()),
            (Some("gram"), gram.into()),
            (Some("null"), file.into()),
        ],
    );
    for (name, found) in [
        ("dns", "a udp socket"),
        ("pair", "a connected unix socket"),
        ("gram", "a unix datagram socket"),
        ("null", "no socket"),
    ] {
        let error = worker.tcp_listener(name).unwrap_err().to_string();
        assert_eq!(error, format!("socket '{name}' is {found}, not a listening tcp socket"));
    }
    assert_eq!(
        worker.unix_listener("web").unwrap_err().to_string(),
        "socket 'web' is a listening tcp socket, not a listening unix socket"
    );
    worker.tcp_listener("web").unwrap();
    worker.udp_socket("dns").unwrap();
    worker.unix_datagram("gram").unwrap();
    worker.fd("null").unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let mut some = worker(&[], vec![(Some("api"), tcp()), (None, tcp()), (Some("admin"), tcp())]);
    for (which, message) in [
        (Which::from("web"), r#"no socket named 'web': LISTEN_FDNAMES has "api::admin""#),
        (Which::from(3), "no socket number 3: 3 were passed, counted from 0"),
    ] {
        assert_eq!(some.tcp_listener(which).unwrap_err().to_string(), message);
    }
    let mut unnamed = worker(&[], vec![(None, tcp())]);
    assert_eq!(
        unnamed.tcp_listener("web").unwrap_err().to_string(),
        "no socket named 'web': 1 was passed, without a name (take it by position)"
    );
    let mut none = worker(&[], vec![]);
    assert_eq!(none.tcp_listener("web").unwrap_err().to_string(), "no socket named 'web': none was passed");
    assert!(!none.tcp_listener("web").unwrap_err().is_not_launched());
    none.sockets = Err("LISTEN_FDS is not set".to_owned());
    let error = none.tcp_listener("web").unwrap_err();
    assert_eq!(error.to_string(), "not started by a launcher: LISTEN_FDS is not set");
    assert!(error.is_not_launched());
}

#[test]
fn words_reach_the_launcher() {
    let name = format!("prebind-worker-{}", std::process::id());
    let launcher = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    launcher.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = format!("@{name}");
    let worker = worker(&[("NOTIFY_SOCKET", &address)], vec![]);
    let heard = || {
        let mut buffer = [0; 100];
        let length = launcher.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    worker.ready().unwrap();
    assert_eq!(heard(), "READY=1");
    worker.status("warm\nMAINPID=1").unwrap();
    assert_eq!(heard(), "STATUS=warm MAINPID=1");
    worker.watchdog().unwrap();
    assert_eq!(heard(), "WATCHDOG=1");
    worker.stopping().unwrap();
    assert_eq!(heard(), "STOPPING=1");
}

#[test]
fn without_a_launcher_words_go_nowhere() {
    let worker = worker(&[], vec![]);
    worker.ready().unwrap();
    assert_eq!((worker.slot(), worker.generation(), worker.service()), (None, None, None));
    assert_eq!(worker.watchdog_interval(), None);
}

#[test]
fn the_watchdog_is_ours_or_nobodys() {
    for (usec, pid, interval_ms) in [
        ("300000", None, Some(150)),
        ("300000", Some("7"), Some(150)),
        ("300000", Some("8"), None),
        ("0", None, None),
        ("soon", None, None),
    ] {
        let mut environment = vec![("WATCHDOG_USEC", usec), ("PREBIND_SLOT", "2"), ("PREBIND_SERVICE", "web")];
        environment.extend(pid.map(|pid| ("WATCHDOG_PID", pid)));
        let worker = worker(&environment, vec![]);
        assert_eq!(worker.watchdog_interval(), interval_ms.map(Duration::from_millis), "{usec} {pid:?}");
        assert_eq!((worker.slot(), worker.service()), (Some(2), Some("web")));
    }
}
