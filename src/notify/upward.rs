//! What prebind says to its own service manager. The words and the rules for WATCHDOG_PID are the sd-notify
//! crate's; the sending is done here, because the crate knows no `@abstract` address (an outer prebind may hand one
//! out) and waits without end for a manager that hangs. The environment is read once; nothing here changes it.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

pub use sd_notify::NotifyState;

/// How long a manager that does not read may hold us up: prebind has one thread.
const SEND_TIMEOUT: Duration = Duration::from_millis(250);
/// The same, where nothing can go on before it has read.
const BARRIER_TIMEOUT_MS: u16 = 5_000;

/// The service manager above us, or nobody.
#[derive(Debug, Default)]
pub struct Upward {
    address: Option<OsString>,
    watchdog_ns: Option<u64>,
    /// It keeps descriptors for us.
    keeps: bool,
    /// We said STOPPING=1: what it keeps now is what comes back if it starts us again.
    left: bool,
}

impl Upward {
    /// Looks once for NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID and FDSTORE.
    pub fn from_environment() -> Upward {
        let watchdog = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
        let most = std::env::var("FDSTORE").ok().and_then(|text| text.parse::<u32>().ok());
        Upward::new(std::env::var_os("NOTIFY_SOCKET"), watchdog).keeping(most.unwrap_or(0))
    }

    /// The same, with a manager that keeps so many descriptors.
    pub fn keeping(self, most: u32) -> Upward {
        Upward { keeps: most > 0 && self.is_there(), ..self }
    }

    /// The same from values; a watchdog without anybody to speak to is none.
    pub fn new(address: Option<OsString>, watchdog: Option<Duration>) -> Upward {
        let address = address.filter(|address| !address.is_empty());
        let watchdog_ns = watchdog.map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        let watchdog_ns = watchdog_ns.filter(|_| address.is_some());
        Upward { watchdog_ns, address, ..Upward::default() }
    }

    /// Whether there is a manager that listens.
    pub fn is_there(&self) -> bool {
        self.address.is_some()
    }

    /// Within how many nanoseconds the manager wants each WATCHDOG=1; one is best sent at half of it.
    pub fn watchdog_ns(&self) -> Option<u64> {
        self.watchdog_ns
    }

    /// Whether it keeps descriptors for us (FileDescriptorStoreMax=).
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// Says all of `words` in one datagram. Without a manager nothing is sent and all is well. An error is worth one
    /// line of the log, never more.
    pub fn send(&self, words: &[NotifyState<'_>]) -> io::Result<()> {
        // A line break in a text would start another key.
        let lines: Vec<String> = words.iter().map(|word| word.to_string().replace(['\n', '\0'], " ")).collect();
        self.send_with(&lines.join("\n"), &[])
    }

    /// Leaves a descriptor with it, if it keeps any; one that it has already is not kept twice. `unwatched`: also when
    /// its other end is closed.
    pub fn keep(&self, name: &str, unwatched: bool, fd: BorrowedFd<'_>) -> io::Result<()> {
        if !self.keeps {
            return Ok(());
        }
        let poll = if unwatched { "\nFDPOLL=0" } else { "" };
        self.send_with(&format!("FDSTORE=1\nFDNAME={name}{poll}"), &[fd])
    }

    /// It need not keep what has that name any more; not once we stop.
    pub fn drop_kept(&self, name: &str) -> io::Result<()> {
        if !self.keeps || self.left {
            return Ok(());
        }
        self.send_with(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    /// Waits until all that was said is handled, for a moment at most: the manager then closes what came with BARRIER=1.
    pub fn barrier(&self) -> io::Result<()> {
        let (ours, theirs) = io::pipe()?;
        self.send_with("BARRIER=1", &[theirs.as_fd()])?;
        drop(theirs);
        let mut ended = [PollFd::new(ours.as_fd(), PollFlags::empty())];
        let count = poll(&mut ended, PollTimeout::from(BARRIER_TIMEOUT_MS))?;
        if count == 0 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// From now on it keeps what it has: we are about to end, and what ends with us comes back with us.
    pub fn leave_kept(&mut self) {
        self.left = true;
    }

    fn send_with(&self, text: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(address) = &self.address else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        socket.connect_addr(&manager(address)?)?;
        let numbers: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let beside: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
        let text = [IoSlice::new(text.as_bytes())];
        sendmsg::<()>(socket.as_raw_fd(), &text, beside, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }
}

/// NOTIFY_SOCKET as an address: `/path` or `@abstract`.
fn manager(address: &OsStr) -> io::Result<SocketAddr> {
    match address.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(address),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is neither a path nor an @abstract name")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StoreWords, WorkersSocket};
    use super::{NotifyState, Upward};
    use std::io::ErrorKind;
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::{Duration, Instant};

    fn outer(name: &str) -> (UnixDatagram, Upward) {
        let name = format!("prebind-upward-{}-{name}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (socket, Upward::new(Some(format!("@{name}").into()), Some(Duration::from_micros(300_000))))
    }

    #[test]
    fn words_arrive_in_one_datagram() {
        let (socket, upward) = outer("words");
        assert!(upward.is_there());
        assert_eq!(upward.watchdog_ns(), Some(300_000_000));
        upward.send(&[NotifyState::Ready, NotifyState::Status("4 of 4\nMAINPID=1")]).unwrap();
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=4 of 4 MAINPID=1");
    }

    #[test]
    fn descriptors_are_left_with_a_manager_that_keeps_them() {
        let name = format!("prebind-upward-{}-keeps", std::process::id());
        // Our own socket for workers reads what a manager reads.
        let socket = WorkersSocket::bind(None, &[]).unwrap();
        let mut upward = Upward::new(Some(socket.address().into()), None);
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        upward.keep(&name, false, file.as_fd()).unwrap();
        upward.drop_kept(&name).unwrap();
        assert!(socket.receive().unwrap().is_none() && !upward.keeps(), "it keeps none");
        upward = upward.keeping(16);
        upward.keep(&name, false, file.as_fd()).unwrap();
        upward.keep(&name, true, file.as_fd()).unwrap();
        upward.drop_kept(&name).unwrap();
        upward.leave_kept();
        upward.drop_kept(&name).unwrap();
        let words = |keep, unwatched| StoreWords { keep, remove: !keep, name: Some(name.clone()), unwatched };
        for (expected, fds) in [(words(true, false), 1), (words(true, true), 1), (words(false, false), 0)] {
            let got = socket.receive().unwrap().unwrap();
            assert_eq!((got.note.unwrap().store, got.fds.len()), (expected, fds));
        }
        assert!(socket.receive().unwrap().is_none());
        let waits = std::thread::spawn(move || upward.barrier());
        let barrier = std::iter::repeat_with(|| socket.receive().unwrap()).flatten().next().unwrap();
        assert!(barrier.note.unwrap().barrier && !waits.is_finished());
        drop(barrier.fds);
        waits.join().unwrap().unwrap();
        assert!(!Upward::new(None, None).keeping(16).keeps());
    }

    #[test]
    fn nobody_above_is_no_error() {
        for nobody in [None, Some("".into())] {
            let upward = Upward::new(nobody, Some(Duration::from_secs(1)));
            assert!(!upward.is_there());
            assert_eq!(upward.watchdog_ns(), None);
            upward.send(&[NotifyState::Stopping]).unwrap();
        }
    }

    #[test]
    fn wrong_addresses_are_errors() {
        for (address, kind) in [
            ("vsock:2:1", ErrorKind::Unsupported),
            ("/nonexistent/notify", ErrorKind::NotFound),
            ("@prebind-nobody-here", ErrorKind::ConnectionRefused),
        ] {
            let upward = Upward::new(Some(address.into()), None);
            assert_eq!(upward.send(&[NotifyState::Watchdog]).unwrap_err().kind(), kind, "{address}");
        }
    }

    #[test]
    fn a_manager_that_hangs_costs_a_bounded_time() {
        let (_socket, upward) = outer("hangs");
        let start = Instant::now();
        // The queue of a unix datagram socket is short; nobody reads this one.
        let full = (0..100_000).find_map(|_| upward.send(&[NotifyState::Watchdog]).err()).unwrap();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
