//! One client's connection: its two buffers and what it waits for. Reads whole lines, writes whole replies, never
//! blocks and holds no more than its bounds. Which line may do what is the server's business.

use super::einhorn::Word;
use super::wire::{LINE_BYTES_MAX, Reply};
use crate::supervise::{AskId, ChildId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// How long half a line, or a reply that nobody reads, may lie.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Unsent bytes up to which a connection is read and sent events.
pub(super) const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Requests of one connection that wait for their answers at the same time.
const ASKS_MAX: usize = 8;
/// Reads of one connection in one turn.
const READS_PER_TURN: usize = 4;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Peer {
    /// A process, by SO_PEERCRED; `trusted`: of our own uid, or root.
    Process { pid: i32, uid: u32, trusted: bool },
    /// The `-g` connection of a worker.
    Own(ChildId),
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) ask: AskId,
    pub(super) id: Option<Value>,
    /// It was asked in einhorn's words, and is answered so.
    pub(super) word: Option<Word>,
}

/// What reading led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line, without its newline.
    Whole(Vec<u8>),
    /// More than a line may have.
    TooLong,
    /// The client ended in the middle of one.
    Half,
    /// Nothing more for now.
    None,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    pub(super) peer: Peer,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// Requests that wait for their answers.
    pub(super) asks: Vec<Waiting>,
    /// Whether events go here, and under which request's id.
    pub(super) subscribed: Option<Option<Value>>,
    /// Whether it ever sent a whole request.
    pub(super) asked: bool,
    /// The server's count when it last did anything.
    pub(super) last_used: u64,
    half_since: Option<Instant>,
    unsent_since: Option<Instant>,
    /// Nothing more is read: the client ended, or we have had enough of it.
    input_over: bool,
    broken: bool,
}

/// A connection as data, for the next program in this process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrozenConnection {
    pub(super) fd: i32,
    peer: Peer,
    /// Read, and not understood yet.
    input: Vec<u8>,
    /// Not sent yet.
    output: Vec<u8>,
    asks: Vec<Waiting>,
    #[serde(with = "subscription")]
    subscribed: Option<Option<Value>>,
    asked: bool,
    last_used: u64,
    input_over: bool,
}

/// JSON has one null: a subscription without an id is a list of nothing.
mod subscription {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Option<Option<Value>>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|id| id.iter().collect::<Vec<_>>()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Value>>, D::Error> {
        Ok(Option::<Vec<Value>>::deserialize(from)?.map(|id| id.into_iter().next()))
    }
}

impl Connection {
    pub(super) fn freeze(&self) -> FrozenConnection {
        FrozenConnection {
            fd: self.stream.as_raw_fd(),
            peer: self.peer,
            input: self.input.clone(),
            output: self.output[self.sent..].to_vec(),
            asks: self.asks.clone(),
            subscribed: self.subscribed.clone(),
            asked: self.asked,
            last_used: self.last_used,
            input_over: self.input_over,
        }
    }

    /// Whether its client is gone.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn thaw(stream: UnixStream, frozen: FrozenConnection) -> Connection {
        let mut one = Connection::new(stream, frozen.peer, frozen.last_used);
        (one.input, one.output) = (frozen.input, frozen.output);
        (one.asks, one.subscribed, one.asked) = (frozen.asks, frozen.subscribed, frozen.asked);
        one.input_over = frozen.input_over;
        one
    }

    pub(super) fn new(stream: UnixStream, peer: Peer, last_used: u64) -> Connection {
        Connection {
            stream,
            peer,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            asks: Vec::new(),
            subscribed: None,
            asked: false,
            last_used,
            half_since: None,
            unsent_since: None,
            input_over: false,
            broken: false,
        }
    }

    /// Reads what is there, at most so much that others get their turn. Returns whether there may be more.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..READS_PER_TURN {
            if !self.wants_input() || self.input.contains(&b'\n') {
                return false;
            }
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => self.broken = true,
                Poll::Ready(Ok(())) => self.read_once(),
            }
        }
        true
    }

    fn read_once(&mut self) {
        let mut chunk = [0; 4096];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => {
                self.input_over = true;
                // A client that only ended its requests still reads replies; one that is gone does not.
                self.broken |= self.hung_up();
            }
            Ok(length) => self.input.extend_from_slice(&chunk[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.broken = true,
        }
    }

    fn hung_up(&self) -> bool {
        let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// Whether it may ask for more: not while it lets replies pile up.
    fn wants_input(&self) -> bool {
        !self.input_over && !self.broken && self.may_ask()
    }

    /// Whether another request of it may be taken.
    pub(super) fn may_ask(&self) -> bool {
        self.asks.len() < ASKS_MAX && self.unsent() < UNSENT_BYTES_MAX
    }

    /// The next line that was read.
    pub(super) fn next_line(&mut self) -> Line {
        if self.broken || !self.may_ask() {
            return Line::None;
        }
        let line = match self.input.iter().position(|byte| *byte == b'\n') {
            Some(end) if end <= LINE_BYTES_MAX => {
                let rest = self.input.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.input, rest);
                line.truncate(end);
                Line::Whole(line)
            }
            Some(_) => Line::TooLong,
            None if self.input.len() > LINE_BYTES_MAX => Line::TooLong,
            None if self.input_over && !self.input.is_empty() => {
                self.input = Vec::new();
                Line::Half
            }
            None => Line::None,
        };
        self.half_since = match (&line, self.input.is_empty()) {
            (Line::None, false) => self.half_since.or_else(|| Some(Instant::now())),
            _ => None,
        };
        line
    }

    /// Reads nothing more; goes once every reply is out.
    pub(super) fn end_input(&mut self) {
        self.input_over = true;
        self.input = Vec::new();
        self.half_since = None;
    }

    /// Tells a `-g` client that nothing will come, as einhorn's closing does, and goes on listening to it.
    pub(super) fn end_output(&mut self) {
        self.output = Vec::new();
        self.sent = 0;
        // It may be gone already; then the next read says so.
        let _ = nix::sys::socket::shutdown(self.stream.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    /// Queues a reply and sends what goes out at once.
    pub(super) fn reply(&mut self, reply: Reply<'_>) {
        self.send(reply.line().as_bytes());
    }

    pub(super) fn send(&mut self, line: &[u8]) {
        if self.broken {
            return;
        }
        self.output.extend_from_slice(line);
        self.write();
    }

    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    fn write(&mut self) {
        while self.unsent() > 0 {
            match self.stream.try_write(&self.output[self.sent..]) {
                Ok(length) => {
                    self.sent += length;
                    self.unsent_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.output.drain(..self.sent);
                    self.sent = 0;
                    self.unsent_since = self.unsent_since.or_else(|| Some(Instant::now()));
                    return;
                }
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        self.unsent_since = None;
    }

    /// Sends until everything is out (`Ready`) or the client does not take more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.unsent() > 0 && !self.broken {
            match self.stream.poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => self.write(),
                Poll::Ready(Err(_)) => self.broken = true,
            }
        }
        Poll::Ready(())
    }

    /// When we lose patience with it, if it is in the middle of something. Subscribers may pause: their bound is size.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let unsent = if self.subscribed.is_some() { None } else { self.unsent_since };
        let since = match (self.half_since, unsent) {
            (Some(half), Some(unsent)) => Some(half.min(unsent)),
            (half, unsent) => half.or(unsent),
        };
        since.map(|since| since + PATIENCE)
    }

    /// Whether nothing can come of it any more.
    pub(super) fn finished(&self) -> bool {
        let idle = self.unsent() == 0 && self.asks.is_empty() && self.subscribed.is_none();
        self.broken || (self.input_over && self.input.is_empty() && idle)
    }

    /// Who goes first when there are too many: 0, never asked anything; 3, waits for an answer.
    pub(super) fn worth(&self) -> (u8, u64) {
        let rank = match self {
            connection if !connection.asks.is_empty() => 3,
            connection if connection.subscribed.is_some() => 2,
            connection if connection.asked => 1,
            _ => 0,
        };
        (rank, self.last_used)
    }

    /// Bytes in both buffers.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.input.len() + self.output.len()
    }

    /// Makes what it is in the middle of older.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        for since in [&mut self.half_since, &mut self.unsent_since] {
            *since = since.and_then(|since| since.checked_sub(by));
        }
    }
}
