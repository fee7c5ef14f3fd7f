//! Chapter "Inheriting": sockets that somebody else bound are passed on, by name, by address, or all of them.

use crate::harness::{Setup, free_port, get, prebind_path, probe, wait_for};
use std::net::{SocketAddr, TcpListener};

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

/// Under systemd-socket-activate, with these options: the worker's sockets are those that it was given.
fn under_systemd(options: &[&str], address: SocketAddr, name: &str) {
    let listen = address.to_string();
    let mut prebind = Setup::probe(options, &[])
        .wrapped(&["systemd-socket-activate", "-l", &listen, "--fdname=web", "-E", "REAL_TEST"])
        .start();
    // It starts prebind at the first connection, which a worker then answers.
    let first = wait_for("the first answer", || get(address, "/").ok());
    let answer = serde_json::from_str(&first).expect("JSON");
    assert_eq!(probe::numbers(&answer), [0, 1, 2, 3]);
    assert_eq!(probe::environ(&answer)["LISTEN_FDNAMES"], name);
    let status = prebind.wait_ready();
    let socket = &status["sockets"][0];
    assert_eq!((&socket["inherited"], socket["address"].as_str()), (&true.into(), Some(listen.as_str())), "{socket}");
    prebind.stop();
}

#[test]
fn under_systemd_socket_activate_all_are_passed_on() {
    under_systemd(&["-n", "2"], SocketAddr::from(([127, 0, 0, 1], free_port())), "web");
}

#[test]
fn under_systemd_socket_activate_by_name() {
    // The name matches: the address may say anything that fits.
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    under_systemd(&["-b", &format!("web={address}")], address, "web");
}

#[test]
fn under_systemd_socket_activate_by_address() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    under_systemd(&["-b", &format!("site={address}")], address, "site");
}

#[test]
fn prebind_under_prebind() {
    let dir = crate::harness::TempDir::new();
    let inner = dir.join("inner.sock");
    let prebind = prebind_path();
    let command = [prebind.to_str().expect("UTF-8"), "-d", &inner, "-n", "2", "--", probe::path()];
    let mut outer = Setup::in_dir(dir, &["-b", "web=127.0.0.1:0", "-m", "notify", "--"]).and(&command).start();
    outer.wait_ready(); // the inner one says READY=1 upward when its workers are ready
    let inner_status = crate::harness::Control::at(&inner).status().expect("the inner one's status");
    assert_eq!(inner_status["sockets"][0]["inherited"], true);
    assert_eq!(inner_status["sockets"][0]["name"], "web");
    assert_eq!(inner_status["services"][0]["ready"], 2);
    let answer = outer.probe("web");
    assert_eq!(probe::numbers(&answer), [0, 1, 2, 3]);
    let env = probe::environ(&answer);
    let pid = answer["pid"].to_string();
    assert_eq!((env["LISTEN_PID"].as_str(), env["LISTEN_FDS"].as_str()), (pid.as_str(), "1"));
    let inner_pid = outer.worker_pids()[0];
    let environ = std::fs::read(format!("/proc/{inner_pid}/environ")).expect("environ");
    let own = format!("NOTIFY_SOCKET={}", env["NOTIFY_SOCKET"]);
    assert!(!environ.split(|byte| *byte == 0).any(|word| word == own.as_bytes()), "workers see the inner socket only");
    outer.stop();
}

#[test]
fn all_in_their_order_and_names() {
    let ((one, _), (two, address)) = (listener(), listener());
    let mut prebind = Setup::probe(&[], &[]).activated(&[&one, &two], "zeta:alpha").start();
    prebind.wait_ready();
    let answer: serde_json::Value = serde_json::from_str(&get(address, "/").expect("an answer")).expect("JSON");
    assert_eq!(probe::environ(&answer)["LISTEN_FDNAMES"], "zeta:alpha");
    assert_eq!(prebind.inet("alpha"), address);
    prebind.stop();
}

#[test]
fn by_name_in_the_order_asked_for_beside_one_of_its_own() {
    let ((one, first), (two, second)) = (listener(), listener());
    let binds = ["-b", &format!("b={second}"), "-b", "own=127.0.0.1:0", "-b", &format!("a={first}")];
    let mut prebind = Setup::probe(&binds, &[]).activated(&[&one, &two], "a:b").start();
    let status = prebind.wait_ready();
    let inherited: Vec<_> = status["sockets"]
        .as_array()
        .expect("sockets")
        .iter()
        .map(|s| (s["name"].clone(), s["inherited"].clone()))
        .collect();
    assert_eq!(inherited, [("b".into(), true.into()), ("own".into(), false.into()), ("a".into(), true.into())]);
    assert_eq!((prebind.inet("a"), prebind.inet("b")), (first, second));
    assert_eq!(probe::numbers(&prebind.probe("own")), [0, 1, 2, 3, 4, 5]);
    prebind.stop();
}

#[test]
fn what_nobody_asked_for_is_a_problem() {
    let ((one, first), (two, second)) = (listener(), listener());
    Setup::probe(&["-b", &format!("a={first}")], &[])
        .activated(&[&one, &two], "a:extra")
        .finish()
        .code(100)
        .says(&["extra", &second.to_string()]);
}

#[test]
fn a_listen_pid_that_is_not_ours_means_no_sockets() {
    for pid in [Some("1"), None] {
        let (one, _) = listener();
        let mut setup = Setup::probe(&["-b", "ear=127.0.0.1:0"], &[]).descriptors(3, &[&one]).env("LISTEN_FDS", "1");
        if let Some(pid) = pid {
            setup = setup.env("LISTEN_PID", pid);
        }
        let mut prebind = setup.start();
        prebind.wait_ready();
        let answer = prebind.probe("ear");
        assert_eq!(probe::numbers(&answer), [0, 1, 2, 3], "the stray descriptor stays with prebind");
        assert_eq!(probe::environ(&answer)["LISTEN_FDNAMES"], "ear");
        prebind.stop();
    }
}

#[test]
fn an_absurd_count_is_refused() {
    for count in ["2000000000", "-1", "many", "3"] {
        let (one, _) = listener();
        let finished =
            Setup::new(&["--restart", "no", "--", "true"]).activated(&[&one], "a").env("LISTEN_FDS", count).finish();
        let code = finished.status.code();
        assert!(matches!(code, Some(100 | 111)), "LISTEN_FDS={count}: {finished:?}");
        finished.says(&["LISTEN_FDS"]);
    }
}

#[test]
fn another_launchers_pidfdid_does_not_reach_workers() {
    let (one, address) = listener();
    let mut prebind = Setup::probe(&[], &[]).activated(&[&one], "web").start();
    prebind.wait_ready();
    let answer: serde_json::Value = serde_json::from_str(&get(address, "/").expect("an answer")).expect("JSON");
    if let Some(id) = probe::environ(&answer).get("LISTEN_PIDFDID") {
        assert_eq!(*id, pidfd_inode(answer["pid"].as_i64().expect("pid")), "absent, or the worker's own");
    }
    prebind.stop();
}

/// The inode of a pidfd of that process: what LISTEN_PIDFDID names.
fn pidfd_inode(pid: i64) -> String {
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    assert!(fd >= 0, "pidfd_open {pid}");
    let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.metadata().expect("fstat").ino().to_string()
}
