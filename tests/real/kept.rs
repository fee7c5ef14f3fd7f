//! Chapter "Under systemd": what prebind leaves with a manager that keeps descriptors, and takes back when it is started
//! again.

use crate::harness::{DEADLINE, Prebind, Setup, TempDir, exchange_unix, get, probe};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

/// A manager with FileDescriptorStoreMax=.
struct Keeper {
    socket: UnixDatagram,
    path: String,
    kept: BTreeMap<String, OwnedFd>,
}

impl Keeper {
    fn at(path: String) -> Keeper {
        let socket = UnixDatagram::bind(&path).expect("bind");
        socket.set_read_timeout(Some(DEADLINE)).expect("timeout");
        Keeper { socket, path, kept: BTreeMap::new() }
    }

    /// Does what it is told until it hears that word.
    fn until(&mut self, word: &str) {
        loop {
            let mut bytes = [0; 4096];
            let mut space = cmsg_space!([i32; 4]);
            let (length, fds) = {
                let mut parts = [IoSliceMut::new(&mut bytes)];
                let flags = MsgFlags::MSG_CMSG_CLOEXEC;
                let got = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags);
                let got = got.unwrap_or_else(|error| panic!("{error} before {word}; kept: {:?}", self.kept));
                let fds = got.cmsgs().expect("control messages").filter_map(|part| match part {
                    ControlMessageOwned::ScmRights(numbers) => Some(numbers),
                    _ => None,
                });
                // SAFETY: the kernel has just made them for us.
                let fds = fds.flatten().map(|number| unsafe { OwnedFd::from_raw_fd(number) });
                (got.bytes, fds.collect::<Vec<OwnedFd>>())
            };
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
            if text.starts_with("FDSTORE=1") {
                let name = name.expect("a name").to_owned();
                assert!(!name.contains(':') && text.contains("FDPOLL=0"), "{text}");
                self.kept.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
            } else if text.starts_with("FDSTOREREMOVE=1") {
                self.kept.remove(name.expect("a name"));
            }
            if text.lines().any(|line| line == word) {
                return;
            }
        }
    }

    /// Starts prebind with all that is kept.
    fn start(&self, options: &[&str]) -> Prebind {
        let given: Vec<&dyn AsRawFd> = self.kept.values().map(|fd| fd as &dyn AsRawFd).collect();
        let names: Vec<&str> = self.kept.keys().map(String::as_str).collect();
        let setup = Setup::in_dir(TempDir::new(), options).and(&["--", probe::path()]);
        let setup = setup.env("NOTIFY_SOCKET", &self.path).env("FDSTORE", "16");
        if names.is_empty() { setup.start() } else { setup.activated(&given, &names.join(":")).start() }
    }
}

#[test]
fn its_own_sockets_outlive_prebind() {
    let dir = TempDir::new();
    let mut keeper = Keeper::at(dir.join("up.sock"));
    let name = format!("web=@kept-{}", std::process::id());
    let options = ["-b", "web=127.0.0.1:0", "-b", &name.replace("web", "abstract")];
    let mut prebind = keeper.start(&options);
    keeper.until("READY=1");
    let address = prebind.inet("web");
    assert_eq!(keeper.kept.len(), 2, "{:?}", keeper.kept);
    assert!(keeper.kept.contains_key("prebind-socket/tcp/127.0.0.1%3A0/web"), "{:?}", keeper.kept);
    prebind.signal(libc::SIGTERM);
    keeper.until("STOPPING=1");
    assert_eq!(prebind.wait_exit().code(), Some(0));

    // Nobody serves; a client waits.
    let client = std::thread::spawn(move || get(address, "/pid"));
    let mut prebind = keeper.start(&options);
    assert_eq!(prebind.inet("web"), address);
    let answer = client.join().expect("the client").expect("an answer");
    keeper.until("READY=1");
    assert_eq!(prebind.worker_pids(), [answer.parse::<i32>().expect("a pid")]);
    assert_eq!(keeper.kept.len(), 2);
    let environ = probe::environ(&prebind.probe("web"));
    assert_eq!(environ["LISTEN_FDNAMES"], "web:abstract", "workers see their names, not the manager's");
    assert!(!environ.contains_key("FDSTORE"));
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

#[test]
fn what_is_not_asked_for_any_more_is_let_go() {
    let dir = TempDir::new();
    let mut keeper = Keeper::at(dir.join("up.sock"));
    let path = dir.join("web.unix");
    let at_path = format!("path={path}");
    let mut prebind = keeper.start(&["-b", "web=127.0.0.1:0", "-b", &at_path]);
    keeper.until("READY=1");
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    assert_eq!(keeper.kept.len(), 2, "{:?}", keeper.kept);

    // The same name, another address; and what was stored by a worker of a service that is no more.
    let stored = OwnedFd::from(UnixDatagram::unbound().expect("a socket"));
    keeper.kept.insert("prebind-stored/gone/0/1/x".into(), stored);
    let mut prebind = keeper.start(&["-b", "web=127.0.0.2:0", "-b", &at_path]);
    keeper.until("READY=1");
    let names: Vec<&str> = keeper.kept.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[0], "prebind-socket/tcp/127.0.0.2%3A0/web");
    assert_eq!(prebind.inet("web").ip().to_string(), "127.0.0.2");
    exchange_unix(UnixStream::connect(&path).expect("the path is there"), "/pid").expect("an answer");
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}
