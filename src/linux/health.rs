//! What probes see: a file that is there while everything is ready, and /ready and /live by HTTP. Each connection has one
//! answer; they are served by tasks beside the loop, so that a slow one costs nobody anything.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A longer request is none.
const REQUEST_MAX: usize = 4096;
/// One that takes longer is dropped.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// So many at once; others are dropped.
const CONNECTIONS_MAX: usize = 64;
/// Where accepting fails: for want of descriptors, or of memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every probe is answered by.
#[derive(Debug, Default)]
struct Probes {
    ready: AtomicBool,
    /// What each open connection has asked so far, by its descriptor: the program that takes this one's place answers.
    open: Mutex<BTreeMap<RawFd, Vec<u8>>>,
}

impl Probes {
    fn open(&self) -> MutexGuard<'_, BTreeMap<RawFd, Vec<u8>>> {
        // Whole at every moment.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Health {
    probes: Arc<Probes>,
    file: Option<PathBuf>,
    /// For the next program; the task has its copy.
    listener: Option<TcpListener>,
}

/// What the next program goes on with.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct FrozenHealth {
    pub(super) listener: Option<RawFd>,
    pub(super) ready: bool,
    /// Connections, and what they have asked so far.
    open: Vec<(RawFd, Vec<u8>)>,
}

impl Health {
    /// Serves probes from now on.
    pub(super) fn new(runtime: &Runtime, file: Option<PathBuf>, listener: Option<TcpListener>) -> io::Result<Health> {
        let health = Health { probes: Arc::default(), file, listener };
        if let Some(listener) = &health.listener {
            listener.set_nonblocking(true)?;
            let copy = listener.try_clone()?;
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(copy)?;
            runtime.spawn(serve(listener, Arc::clone(&health.probes)));
        }
        Ok(health)
    }

    /// Errors are for people.
    pub(super) fn tell(&self, ready: bool) -> Result<(), String> {
        self.probes.ready.store(ready, Ordering::Relaxed);
        let Some(path) = &self.file else { return Ok(()) };
        let done = match ready {
            true => std::fs::write(path, "ready\n"),
            false => std::fs::remove_file(path),
        };
        match done {
            Err(error) if ready || error.kind() != ErrorKind::NotFound => {
                Err(format!("--health-file {}: {error}", path.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn freeze(&self, fds: &mut Vec<RawFd>) -> FrozenHealth {
        let listener = self.listener.as_ref().map(AsRawFd::as_raw_fd);
        let open: Vec<_> = self.probes.open().iter().map(|(fd, asked)| (*fd, asked.clone())).collect();
        fds.extend(listener);
        fds.extend(open.iter().map(|(fd, _)| *fd));
        FrozenHealth { listener, ready: self.probes.ready.load(Ordering::Relaxed), open }
    }

    /// Goes on with the connections of the program before; its listener was taken already.
    pub(super) fn thaw(&self, runtime: &Runtime, frozen: FrozenHealth, claim: &mut dyn FnMut(RawFd) -> OwnedFd) {
        let _inside = runtime.enter();
        for (fd, asked) in frozen.open {
            if let Ok(stream) = TcpStream::from_std(claim(fd).into()) {
                begin(stream, asked, &self.probes);
            }
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, probes: Arc<Probes>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if probes.open().len() < CONNECTIONS_MAX => begin(stream, Vec::new(), &probes),
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers one connection, which has asked this much already.
fn begin(stream: TcpStream, asked: Vec<u8>, probes: &Arc<Probes>) {
    let probes = Arc::clone(probes);
    probes.open().insert(stream.as_raw_fd(), asked);
    tokio::spawn(async move {
        let _ = tokio::time::timeout(REQUEST_LIMIT, answer(&stream, &probes)).await;
        // Before its number is another one's.
        probes.open().remove(&stream.as_raw_fd());
    });
}

async fn answer(stream: &TcpStream, probes: &Probes) -> io::Result<()> {
    let mut left = loop {
        let asked = probes.open().get(&stream.as_raw_fd()).cloned().unwrap_or_default();
        if let Some(reply) = reply(&asked, probes.ready.load(Ordering::Relaxed)) {
            break reply.into_bytes();
        }
        stream.readable().await?;
        let mut chunk = [0; 1024];
        match stream.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => probes.open().entry(stream.as_raw_fd()).or_default().extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    };
    while !left.is_empty() {
        stream.writable().await?;
        match stream.try_write(&left) {
            Ok(length) => drop(left.drain(..length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `None`: more of the request is to come.
fn reply(request: &[u8], ready: bool) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let status = parsed.parse(request);
    let (line, body) = match (status, parsed.method, parsed.path) {
        (Ok(httparse::Status::Partial), ..) if request.len() < REQUEST_MAX => return None,
        (Ok(httparse::Status::Complete(_)), Some("GET" | "HEAD"), Some(path)) => {
            match (path.split('?').next().unwrap_or(path), ready) {
                ("/ready", true) => ("200 OK", "ready\n"),
                ("/ready", false) => ("503 Service Unavailable", "not ready\n"),
                ("/live", _) => ("200 OK", "live\n"),
                _ => ("404 Not Found", "/ready and /live are here\n"),
            }
        }
        (Ok(httparse::Status::Complete(_)), ..) => ("405 Method Not Allowed", "GET /ready or /live\n"),
        _ => ("400 Bad Request", "GET /ready or /live\n"),
    };
    let length = body.len();
    let body = if parsed.method == Some("HEAD") { "" } else { body };
    let allow = if line.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    Some(format!(
        "HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    ))
}

#[cfg(test)]
mod tests {
    use super::reply;

    #[test]
    fn probes_are_answered() {
        for (request, ready, line) in [
            ("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n", true, "200 OK"),
            ("GET /ready?verbose HTTP/1.0\r\n\r\n", false, "503 Service Unavailable"),
            ("GET /live HTTP/1.1\r\n\r\n", false, "200 OK"),
            ("HEAD /ready HTTP/1.1\r\n\r\n", true, "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", true, "404 Not Found"),
            ("POST /ready HTTP/1.1\r\n\r\n", true, "405 Method Not Allowed"),
            ("\u{16}\u{3}\u{1}", true, "400 Bad Request"),
        ] {
            let said = reply(request.as_bytes(), ready).expect("it is whole");
            assert_eq!(said.lines().next(), Some(format!("HTTP/1.1 {line}").as_str()), "{request}");
        }
        assert_eq!(reply(b"GET /ready HTTP/1.1\r\nHost:", true), None, "more is to come");
        let long = format!("GET /ready HTTP/1.1\r\nX: {}", "x".repeat(5000));
        assert!(reply(long.as_bytes(), true).expect("too long").starts_with("HTTP/1.1 400"));
        assert!(reply(b"HEAD /live HTTP/1.1\r\n\r\n", true).expect("whole").ends_with("\r\n\r\n"), "no body");
    }
}
