//! What prebind says to its own service manager. The words and the rules for WATCHDOG_PID are the sd-notify
//! crate's; the sending is done here, because the crate knows no `@abstract` address (an outer prebind may hand one
//! out) and waits without end for a manager that hangs. The environment is read once; nothing here changes it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

pub use sd_notify::NotifyState;

/// How long a manager that does not read may hold us up: prebind has one thread.
const SEND_TIMEOUT: Duration = Duration::from_millis(250);

/// The service manager above us, or nobody.
#[derive(Debug, Default)]
pub struct Upward {
    address: Option<OsString>,
    watchdog_ns: Option<u64>,
}

impl Upward {
    /// Looks once for NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    pub fn from_environment() -> Upward {
        let watchdog = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
        Upward::new(std::env::var_os("NOTIFY_SOCKET"), watchdog)
    }

    /// The same from values; a watchdog without anybody to speak to is none.
    pub fn new(address: Option<OsString>, watchdog: Option<Duration>) -> Upward {
        let address = address.filter(|address| !address.is_empty());
        let watchdog_ns = watchdog.map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        Upward { watchdog_ns: watchdog_ns.filter(|_| address.is_some()), address }
    }

    /// Whether there is a manager that listens.
    pub fn is_there(&self) -> bool {
        self.address.is_some()
    }

    /// Within how many nanoseconds the manager wants each WATCHDOG=1; one is best sent at half of it.
    pub fn watchdog_ns(&self) -> Option<u64> {
        self.watchdog_ns
    }

    /// Says all of `words` in one datagram. Without a manager nothing is sent and all is well. An error is worth one
    /// line of the log, never more.
    pub fn send(&self, words: &[NotifyState<'_>]) -> io::Result<()> {
        let Some(address) = &self.address else { return Ok(()) };
        // A line break in a text would start another key.
        let lines: Vec<String> = words.iter().map(|word| word.to_string().replace(['\n', '\0'], " ")).collect();
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        socket.connect_addr(&manager(address)?)?;
        socket.send(lines.join("\n").as_bytes()).map(drop)
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
    use super::{NotifyState, Upward};
    use std::io::ErrorKind;
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
