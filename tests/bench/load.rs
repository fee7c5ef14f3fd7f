//! Clients that ask all the time, and what became of every request.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than any answer takes unless it is lost.
const LOST: Duration = Duration::from_secs(10);

/// What clients saw.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) refused: usize,
    pub(crate) reset: usize,
    /// The connection ended without an answer.
    pub(crate) empty: usize,
    /// A kept connection was found closed when the next request was sent.
    pub(crate) stale: usize,
    pub(crate) other: Vec<String>,
    /// Of each answer: when it came, and after how long, in seconds.
    pub(crate) answers: Vec<(Instant, f64)>,
}

impl Seen {
    fn error(&mut self, error: &io::Error) {
        match error.kind() {
            ErrorKind::ConnectionRefused => self.refused += 1,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => self.reset += 1,
            ErrorKind::UnexpectedEof => self.empty += 1,
            _ => self.other.push(error.to_string()),
        }
    }

    fn add(&mut self, more: Seen) {
        self.refused += more.refused;
        self.reset += more.reset;
        self.empty += more.empty;
        self.stale += more.stale;
        self.other.extend(more.other);
        self.answers.extend(more.answers);
    }

    pub(crate) fn lost(&self) -> usize {
        self.refused + self.reset + self.empty + self.stale + self.other.len()
    }

    pub(crate) fn losses(&self) -> String {
        let Seen { refused, reset, empty, stale, other, .. } = self;
        let others = other.first().map_or(String::new(), |first| format!(", {} others ({first})", other.len()));
        format!("{refused} refused, {reset} reset, {empty} empty, {stale} stale{others}")
    }

    /// The answers' times between two moments, in seconds, sorted.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<f64> {
        let inside = self.answers.iter().filter(|(at, _)| (from..to).contains(at));
        let mut times: Vec<f64> = inside.map(|(_, seconds)| *seconds).collect();
        times.sort_by(f64::total_cmp);
        times
    }
}

/// The value below which that share of sorted values lies.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Clients at work.
pub(crate) struct Load {
    done: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// So many that connect anew for each request, so many that keep their connection; each pauses between requests.
    pub(crate) fn start(address: SocketAddr, anew: usize, keep: usize, pause: Duration) -> Load {
        let done = Arc::new(AtomicBool::new(false));
        let client = |kept: bool| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || work(address, kept, pause, &done))
        };
        let clients = (0..anew).map(|_| client(false)).chain((0..keep).map(|_| client(true))).collect();
        Load { done, clients }
    }

    pub(crate) fn stop(self) -> Seen {
        self.done.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            match client.join() {
                Ok(seen) => all.add(seen),
                Err(_) => all.other.push("a client panicked".into()),
            }
        }
        all
    }
}

fn work(address: SocketAddr, keep: bool, pause: Duration, done: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut kept: Option<TcpStream> = None;
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let old = kept.is_some();
        let stream = kept.take().map_or_else(|| TcpStream::connect(address), Ok);
        match stream.and_then(|stream| exchange(stream, keep)) {
            Ok(again) => {
                seen.answers.push((Instant::now(), begun.elapsed().as_secs_f64()));
                kept = again;
            }
            Err(_) if old => seen.stale += 1,
            // Our own side ran out of ports: no fault of the service.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {}
            Err(error) => seen.error(&error),
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    seen
}

/// One request; the connection back where it may be used again.
fn exchange(mut stream: TcpStream, keep: bool) -> io::Result<Option<TcpStream>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOST))?;
    let close = if keep { "" } else { "Connection: close\r\n" };
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: bench\r\n{close}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        if let Some(end) = whole(&answer) {
            let closes = answer[..end].to_ascii_lowercase().windows(17).any(|part| part == b"connection: close");
            return Ok((keep && !closes).then_some(stream));
        }
        match stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
}

/// Where the head ends, once the body is there.
fn whole(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let length: usize = head.split("content-length:").nth(1)?.lines().next()?.trim().parse().ok()?;
    (answer.len() >= end + 4 + length).then_some(end)
}
