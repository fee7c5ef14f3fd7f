//! Every way of waiting, by a program of its own that inherits the socket.

use super::*;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
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
            let seen = looked_at(self.0.id() as i32, sockets);
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

/// One look, at a worker that is new.
fn looked_at(pid: i32, sockets: &[u64]) -> Accepting {
    Known::default().accepting(pid, sockets, &|_| None)
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
    assert_eq!(looked_at(std::process::id() as i32, &[]), Accepting::Unknown);
    assert_eq!(looked_at(i32::MAX, &sockets), Accepting::None, "a process that is gone");
}

/// Takes what comes, and never sleeps in accept, poll or select on its listening socket.
const BUSY: &str = "s[0].setblocking(False)
had = []
while True:
    try: had.append(s[0].accept())
    except BlockingIOError: time.sleep(0.003)
";

/// A worker that is looked at again and again.
struct Watched<'a> {
    program: Program,
    listener: &'a dyn AsFd,
    known: Known,
    /// So many sockets it had from the start, also some of other tests.
    had: usize,
}

impl<'a> Watched<'a> {
    fn run(script: &str, listener: &'a (impl AsFd + AsRawFd), more: &[&dyn AsFd]) -> Watched<'a> {
        let sockets: Vec<&dyn AsFd> = [listener as &dyn AsFd].into_iter().chain(more.iter().copied()).collect();
        let mut watched =
            Watched { program: Program::run(script, &sockets), listener, known: Known::default(), had: 0 };
        watched.had = watched.sockets();
        assert_eq!(watched.look(), Accepting::None);
        watched
    }

    fn look(&mut self) -> Accepting {
        let listener = self.listener.as_fd();
        let sockets = [inode(&listener)];
        self.known.accepting(self.program.0.id() as i32, &sockets, &|_| established(listener))
    }

    fn sockets(&self) -> usize {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.program.0.id())).expect("it lives").flatten();
        let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.filter(|link| link.to_str().is_some_and(|link| socket(link).is_some())).count()
    }

    fn wait_for_more(&self, count: usize) {
        let start = Instant::now();
        while self.sockets() < self.had + count {
            assert!(start.elapsed() < Duration::from_secs(30), "{} and not {count} more", self.sockets());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ready with the second connection that comes.
    fn accepts(&mut self, connect: &dyn Fn() -> Box<dyn AsFd>) {
        let _first = connect();
        self.wait_for_more(1);
        assert_eq!(self.look(), Accepting::None, "it may have been passed");
        assert_eq!(self.look(), Accepting::None, "no other came");
        let _second = connect();
        self.wait_for_more(2);
        assert_eq!(self.look(), Accepting::Each);
        assert_eq!(self.look(), Accepting::Each, "whatever becomes of the connection");
    }
}

#[test]
fn who_accepts_is_ready_though_it_never_waits() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("bound");
    Watched::run(BUSY, &tcp, &[])
        .accepts(&|| Box::new(TcpStream::connect_timeout(&address, Duration::from_secs(9)).expect("connects")));
    let path = std::env::temp_dir().join(format!("prebind-accepted-{}", std::process::id()));
    let unix = UnixListener::bind(&path).expect("bind");
    Watched::run(BUSY, &unix, &[]).accepts(&|| Box::new(UnixStream::connect(&path).expect("connects")));
    std::fs::remove_file(path).expect("remove");
}

#[test]
fn connections_of_others_are_no_proof() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let connection = || {
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        (client, listener.accept().expect("it waits").0)
    };
    // One that it was started with, one that is passed to it later, one more that was there before that.
    let (here, there) = UnixStream::pair().expect("a pair");
    let (inherited, early, late) = (connection(), connection(), connection());
    let script = format!(
        "got = []\nfor n in range(2): got.extend(socket.recv_fds(s[1], 1, 1)[1])\nos.read(s[1].fileno(), 1)\n{BUSY}"
    );
    let mut watched = Watched::run(&script, &listener, &[&there, &inherited.1]);
    for (passed, more) in [(&early.1, 1), (&late.1, 2)] {
        let fds = [passed.as_raw_fd()];
        let rights = [nix::sys::socket::ControlMessage::ScmRights(&fds)];
        let text = [std::io::IoSlice::new(b"x")];
        nix::sys::socket::sendmsg::<()>(here.as_raw_fd(), &text, &rights, nix::sys::socket::MsgFlags::empty(), None)
            .expect("passed");
        watched.wait_for_more(more);
        assert_eq!(watched.look(), Accepting::None);
    }
    // What it accepts itself is.
    std::io::Write::write_all(&mut &here, b"x").expect("told");
    let _client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    watched.wait_for_more(3);
    assert_eq!(watched.look(), Accepting::Each);
}

#[test]
fn connections_that_it_makes_are_no_proof() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let script = "made = []
for n in range(5):
    made.append(socket.create_connection(s[0].getsockname())); os.read(s[1].fileno(), 1)
time.sleep(1000)";
    let (here, there) = UnixStream::pair().expect("a pair");
    let mut watched = Watched::run(script, &listener, &[&there]);
    for made in 1..=5 {
        watched.wait_for_more(made);
        assert_eq!(watched.look(), Accepting::None);
        std::io::Write::write_all(&mut &here, b"x").expect("told");
    }
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
