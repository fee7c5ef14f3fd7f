//! Every way of waiting, by a program of its own that inherits the socket.

use super::*;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program in Python that has the sockets; killed with the test.
struct Program(Child);

impl Program {
    fn run(script: &str, sockets: &[&dyn AsFd]) -> Program {
        let fds: Vec<i32> = sockets.iter().map(|socket| socket.as_fd().as_raw_fd()).collect();
        for socket in sockets {
            fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).expect("children inherit it from here on");
        }
        let words: Vec<String> = fds.iter().map(ToString::to_string).collect();
        let mut command = Command::new("python3");
        let prelude =
            "import socket, sys, select, os, time\ns = [socket.socket(fileno=int(n)) for n in sys.argv[1:]]\n";
        command.args(["-c", &format!("{prelude}{script}")]).args(words).stdin(Stdio::null()).process_group(0);
        Program(command.spawn().expect("python3 (tests/setup installs it)"))
    }

    fn expect(&self, sockets: &[u64], wanted: Accepting) {
        let start = Instant::now();
        loop {
            let seen = accepting(self.0.id() as i32, sockets);
            if seen == wanted {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{seen:?}, not {wanted:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Its children too: it leads a group of its own.
        let _ = kill(Pid::from_raw(-self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn inode(socket: &impl AsRawFd) -> u64 {
    fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("it is open").ino()
}

#[test]
fn every_way_of_waiting_is_seen() {
    for script in [
        "s[0].accept()",
        "p = select.epoll(); p.register(s[0], select.EPOLLIN); p.poll()",
        "p = select.epoll(); p.register(s[0], select.EPOLLIN); time.sleep(1000)",
        "p = select.poll(); p.register(s[0], select.POLLIN); p.poll()",
        "select.select([s[0]], [], [])",
        "import threading; threading.Thread(target=s[0].accept).start(); time.sleep(1000)",
        // A child's child, while its parents wait for it.
        "pid = os.fork()\nif pid == 0 and os.fork() == 0: s[0].accept()\nos.wait()",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let sockets = [inode(&listener)];
        Program::run(script, &[&listener]).expect(&sockets, Accepting::Each);
    }
}

#[test]
fn unix_sockets_are_seen() {
    let path = std::env::temp_dir().join(format!("prebind-accepting-{}", std::process::id()));
    let listener = UnixListener::bind(&path).expect("bind");
    std::fs::remove_file(&path).expect("remove");
    Program::run("s[0].accept()", &[&listener]).expect(&[inode(&listener)], Accepting::Each);
}

#[test]
fn who_does_not_wait_is_not_taken_for_waiting() {
    let (one, other) =
        (TcpListener::bind("127.0.0.1:0").expect("a port"), TcpListener::bind("127.0.0.1:0").expect("one"));
    let sockets = [inode(&one), inode(&other)];
    // Once it waits on one, it has come as far as it ever does: the other one is not waited on.
    let half = Program::run("s[0].accept()", &[&one, &other]);
    half.expect(&sockets, Accepting::Some);
    half.expect(&sockets[1..], Accepting::None);
    let writes = "p = select.epoll(); p.register(s[0], select.EPOLLOUT); s[1].accept()";
    let writes = Program::run(writes, &[&one, &other]);
    writes.expect(&sockets[1..], Accepting::Each);
    writes.expect(&sockets[..1], Accepting::None);
    assert_eq!(accepting(std::process::id() as i32, &[]), Accepting::Unknown);
    assert_eq!(accepting(i32::MAX, &sockets), Accepting::None, "a process that is gone");
}

#[test]
fn texts_are_read() {
    let set = "pos:\t0\nflags:\t02\nmnt_id:\t15\ntfd:        5 events:       19 data:  5  pos:0 ino:61ef sdev:8\n\
               tfd: 6 events: 4 data: 6 pos:0 ino:61f0 sdev:8\ntfd: nonsense\n";
    assert_eq!(epoll_set(set).collect::<Vec<_>>(), [0x61ef]);
    assert_eq!(syscall("43 0x3 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f\n"), Some((43, [3, 0])));
    for none in ["running\n", "-1 0x7ffe 0x7f\n", "", "43 3 4"] {
        assert!(syscall(none).is_none_or(|(number, _)| number == -1), "{none}");
    }
    assert_eq!(socket("socket:[77]"), Some(77));
    assert_eq!(socket("/dev/null"), None);
}
