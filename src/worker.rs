//! For programs written in Rust: the sockets that the launcher passed, and the words that a worker says.
//!
//! ```no_run
//! use prebind::worker::Worker;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut worker = Worker::from_env();
//!     let listener = worker.tcp_listener("web")?;
//!     worker.ready()?;
//!     for stream in listener.incoming() {
//!         println!("slot {:?} serves {}", worker.slot(), stream?.peer_addr()?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Started with `prebind -b web=8080 -n 4 -- target/debug/program`. The protocols are the common ones, so it works
//! under systemd, systemd-socket-activate and einhorn too: LISTEN_FDS with LISTEN_FDNAMES, else EINHORN_FD_n;
//! NOTIFY_SOCKET; WATCHDOG_USEC. Without any launcher every call says what was missing, or says nothing to nobody.
//!
//! The sockets are shared with the other workers: close them, never `shutdown` them, and mind that `set_nonblocking`
//! changes them for all (ask for it with `-b web=8080,n`, or let all workers be of one mind).

#![allow(unsafe_code)]

mod error;
mod kind;
mod passed;
mod speak;

pub use error::Error;

use kind::Kind;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Which of the passed sockets: by its name or by its position, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// Its name in LISTEN_FDNAMES. A socket named `web.socket` answers to `web` too.
    Name(&'a str),
    /// Its position among the passed sockets.
    Position(usize),
}

impl<'a> From<&'a str> for Which<'a> {
    fn from(name: &'a str) -> Self {
        Which::Name(name)
    }
}

impl From<usize> for Which<'_> {
    fn from(position: usize) -> Self {
        Which::Position(position)
    }
}

impl fmt::Display for Which<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Name(name) => write!(f, "'{name}'"),
            Which::Position(position) => write!(f, "number {position}"),
        }
    }
}

/// One passed socket; its descriptor is gone once it was taken.
#[derive(Debug)]
struct Socket {
    name: Option<String>,
    fd: Option<OwnedFd>,
}

/// What this process was started with.
#[derive(Debug)]
pub struct Worker {
    sockets: Result<Vec<Socket>, String>,
    notify: Option<OsString>,
    watchdog: Option<Duration>,
    slot: Option<u32>,
    generation: Option<u32>,
    service: Option<String>,
}

/// The passed descriptors have one owner: the first [`Worker::from_env`].
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Worker {
    /// Reads the environment and takes ownership of the passed descriptors, now close-on-exec. Only the first call in
    /// a process gets them. It never fails: what is missing is said when it is asked for, so that a program can fall
    /// back to a socket of its own. The environment is left as it is.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut worker = prebind::worker::Worker::from_env();
    /// let listener = match worker.tcp_listener("web") {
    ///     Err(error) if error.is_not_launched() => TcpListener::bind("127.0.0.1:0")?,
    ///     other => other?,
    /// };
    /// # drop(listener); Ok(()) }
    /// ```
    pub fn from_env() -> Worker {
        let get = |name: &str| std::env::var_os(name);
        let mut worker = Worker::without_sockets(&get, std::process::id());
        worker.sockets = match TAKEN.swap(true, Ordering::Relaxed) {
            true => Err("the sockets belong to an earlier Worker::from_env of this process".to_owned()),
            false => passed::read(&get, std::process::id(), &kind::is_open).and_then(adopt),
        };
        worker
    }

    /// All but the sockets, from any environment.
    fn without_sockets(get: passed::Get<'_>, pid: u32) -> Worker {
        let text = |name| get(name).and_then(|value| value.into_string().ok());
        let number = |name| text(name)?.parse::<u32>().ok();
        let watched = number("WATCHDOG_PID").is_none_or(|watched| watched == pid);
        let watchdog_usec = text("WATCHDOG_USEC").and_then(|usec| usec.parse::<u64>().ok());
        Worker {
            sockets: Ok(Vec::new()),
            notify: get("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            watchdog: watchdog_usec.filter(|usec| watched && *usec > 0).map(Duration::from_micros),
            slot: number("PREBIND_SLOT"),
            generation: number("PREBIND_GENERATION"),
            service: text("PREBIND_SERVICE"),
        }
    }

    /// How many sockets were passed, taken or not.
    pub fn len(&self) -> usize {
        self.sockets.as_ref().map_or(0, Vec::len)
    }

    /// Whether no socket was passed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the passed sockets in their order; `None` for one without a name.
    pub fn names(&self) -> impl Iterator<Item = Option<&str>> {
        self.sockets.iter().flatten().map(|socket| socket.name.as_deref())
    }

    /// Takes a listening TCP socket. On an error it stays where it is; a second call for a taken one is an error.
    pub fn tcp_listener<'a>(&mut self, which: impl Into<Which<'a>>) -> Result<TcpListener, Error> {
        self.take(which.into(), Some(Kind::Tcp)).map(TcpListener::from)
    }

    /// Takes a listening unix stream socket.
    pub fn unix_listener<'a>(&mut self, which: impl Into<Which<'a>>) -> Result<UnixListener, Error> {
        self.take(which.into(), Some(Kind::Unix)).map(UnixListener::from)
    }

    /// Takes a UDP socket.
    pub fn udp_socket<'a>(&mut self, which: impl Into<Which<'a>>) -> Result<UdpSocket, Error> {
        self.take(which.into(), Some(Kind::Udp)).map(UdpSocket::from)
    }

    /// Takes a unix datagram socket.
    pub fn unix_datagram<'a>(&mut self, which: impl Into<Which<'a>>) -> Result<UnixDatagram, Error> {
        self.take(which.into(), Some(Kind::UnixDatagram)).map(UnixDatagram::from)
    }

    /// Takes a descriptor of any kind: seqpacket, FIFO, vsock.
    pub fn fd<'a>(&mut self, which: impl Into<Which<'a>>) -> Result<OwnedFd, Error> {
        self.take(which.into(), None)
    }

    /// Finds, checks, and only then takes.
    fn take(&mut self, which: Which<'_>, wanted: Option<Kind>) -> Result<OwnedFd, Error> {
        let sockets = self.sockets.as_mut().map_err(|why| Error::NotLaunched(why.clone()))?;
        let position = match which {
            Which::Position(position) => Some(position).filter(|position| *position < sockets.len()),
            Which::Name(name) => find(sockets, name),
        };
        let Some(position) = position else {
            let names = sockets.iter().map(|socket| socket.name.clone()).collect();
            return Err(Error::missing(which, names));
        };
        let place = &mut sockets[position].fd;
        let Some(fd) = place.take() else { return Err(Error::Taken(which.to_string())) };
        match wanted {
            Some(wanted) => match kind::of(fd.as_fd()) {
                Ok(found) if found == wanted => Ok(fd),
                found => {
                    *place = Some(fd);
                    let found = found.map_err(|error| Error::System(which.to_string(), error))?;
                    Err(Error::WrongKind { which: which.to_string(), wanted: wanted.words(), found: found.words() })
                }
            },
            None => Ok(fd),
        }
    }

    /// Says READY=1: from now on this worker serves. Without a launcher that listens, nothing is sent and all is well,
    /// here and in what follows.
    pub fn ready(&self) -> io::Result<()> {
        self.say(sd_notify::NotifyState::Ready)
    }

    /// Says STOPPING=1: this worker ends by its own will.
    pub fn stopping(&self) -> io::Result<()> {
        self.say(sd_notify::NotifyState::Stopping)
    }

    /// Says STATUS=, one line for people, shown by `prebindctl status`; an empty one clears.
    pub fn status(&self, text: &str) -> io::Result<()> {
        self.say(sd_notify::NotifyState::Status(text))
    }

    /// Says WATCHDOG=1: still well. To be called every [`Worker::watchdog_interval`].
    pub fn watchdog(&self) -> io::Result<()> {
        self.say(sd_notify::NotifyState::Watchdog)
    }

    fn say(&self, word: sd_notify::NotifyState<'_>) -> io::Result<()> {
        match &self.notify {
            Some(address) => speak::send(address, &word.to_string()),
            None => Ok(()),
        }
    }

    /// How often [`Worker::watchdog`] wants to be called: half of the time after which the launcher replaces a worker
    /// that kept silent. `None`: nobody watches.
    ///
    /// ```no_run
    /// # let worker = prebind::worker::Worker::from_env();
    /// if let Some(interval) = worker.watchdog_interval() {
    ///     std::thread::spawn(move || loop {
    ///         std::thread::sleep(interval);
    ///         let _ = worker.watchdog();
    ///     });
    /// }
    /// ```
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// PREBIND_SLOT: this worker's place, 0..N-1.
    pub fn slot(&self) -> Option<u32> {
        self.slot
    }

    /// PREBIND_GENERATION: the version of the service's code that it runs.
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// PREBIND_SERVICE: the name of its service.
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }
}

/// Says READY=1 to NOTIFY_SOCKET, for a program that got its sockets by other means (the `listenfd` crate).
pub fn ready() -> io::Result<()> {
    speaker().ready()
}

/// Says STOPPING=1 to NOTIFY_SOCKET, as [`ready`].
pub fn stopping() -> io::Result<()> {
    speaker().stopping()
}

/// Says STATUS= to NOTIFY_SOCKET, as [`ready`].
pub fn status(text: &str) -> io::Result<()> {
    speaker().status(text)
}

/// A worker that takes no descriptor.
fn speaker() -> Worker {
    Worker::without_sockets(&|name| std::env::var_os(name), std::process::id())
}

/// The first of that name that was not taken; failing that the first of that name.
fn find(sockets: &[Socket], name: &str) -> Option<usize> {
    let exact = |socket: &Socket| socket.name.as_deref() == Some(name);
    let suffixed = |socket: &Socket| socket.name.as_deref().and_then(|n| n.strip_suffix(".socket")) == Some(name);
    let here = |socket: &Socket| socket.fd.is_some();
    sockets
        .iter()
        .position(|s| exact(s) && here(s))
        .or_else(|| sockets.iter().position(exact))
        .or_else(|| sockets.iter().position(|s| suffixed(s) && here(s)))
        .or_else(|| sockets.iter().position(suffixed))
}

/// Makes the descriptors ours.
fn adopt(passed: Vec<passed::Passed>) -> Result<Vec<Socket>, String> {
    let own = |passed: passed::Passed| {
        // SAFETY: it is open, the launcher passed it to this process by number for it to own, and TAKEN sees to it
        // that this is done once.
        let fd = unsafe { OwnedFd::from_raw_fd(passed.fd) };
        kind::close_on_exec(fd.as_fd()).map_err(|error| format!("descriptor {}: {error}", passed.fd))?;
        Ok(Socket { name: passed.name, fd: Some(fd) })
    };
    passed.into_iter().map(own).collect()
}

#[cfg(test)]
mod tests {
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
        let mut worker =
            worker(&[], vec![(Some("web.socket"), tcp()), (Some("web"), tcp()), (None, tcp()), (None, unix)]);
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
}
