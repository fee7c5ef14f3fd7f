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
mod tests;
