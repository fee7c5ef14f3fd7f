//! The server's end of the control socket. Receives connections, hands on what they ask ([`Incoming`]) and sends them
//! the answers; who may what is decided here, by SO_PEERCRED. One function is polled, nothing runs by itself: buffers
//! belong to the struct, there is no task and no timer per client, and none at all while no client is connected.
//! Bounded in everything: lines, unsent bytes, connections, waiting requests, work per turn.

use super::connection::{Connection, FrozenConnection, Line, PATIENCE, Peer, UNSENT_BYTES_MAX, Waiting};
use super::einhorn::{Ping, Word};
use super::wire::{self, Reply, Request, Wanted};
use crate::supervise::{AskId, ChildId, Command};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::{UnixListener, UnixStream};

/// Clients at the same time; `-g` connections do not count.
pub const CLIENTS_MAX: usize = 256;
/// Clients accepted in one turn.
const ACCEPTS_PER_TURN: usize = 32;
/// Lines of one connection in one turn.
const LINES_PER_TURN: usize = 8;
/// How long not to accept when the system has no descriptor left and no client could be closed for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What clients ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// To be answered once with [`Server::answer`].
    Ask(AskId, Command),
    /// einhorn's ack of that worker.
    Acked(ChildId),
    /// einhorn's ping of that worker; [`Server::ping_of`] tells more.
    Pinged(ChildId),
    /// To be answered as well, by whoever holds what is asked for: the supervisor does not.
    Local(AskId, Word),
}

/// What the server has to know of processes.
pub trait Judge {
    /// prebind's own effective uid.
    fn own_uid(&self) -> u32;
    /// The live worker that the pid is, or to whose process group it belongs.
    fn worker_of_pid(&self, pid: i32) -> Option<ChildId>;
    /// The child that the pid is.
    fn child_of_pid(&self, pid: i32) -> Option<ChildId>;
}

/// The server as data, for the next program in this process.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenServer {
    listener: i32,
    connections: Vec<FrozenConnection>,
    used: u64,
    next_ask: u64,
    pings: BTreeMap<ChildId, Ping>,
}

/// The control socket's server.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    connections: Vec<Connection>,
    /// Counts what connections do: a cheap clock for who was idle longest.
    used: u64,
    next_ask: u64,
    /// einhorn's language is the standard one.
    einhorn: bool,
    /// Acks and pings for nobody: einhorn answers none, and logs each.
    unheard: Vec<String>,
    /// Each worker's last ping.
    pings: BTreeMap<ChildId, Ping>,
    accept_after: Option<Instant>,
    /// The uid that stands for every uid without a mapping in our user namespace; it is nobody's same.
    overflow_uid: OnceCell<Option<u32>>,
}

impl Server {
    /// On a listener that does not block; inside the runtime.
    pub fn new(listener: StdListener) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        Ok(Server {
            listener: UnixListener::from_std(listener)?,
            connections: Vec::new(),
            used: 0,
            next_ask: 0,
            einhorn: false,
            unheard: Vec::new(),
            pings: BTreeMap::new(),
            accept_after: None,
            overflow_uid: OnceCell::new(),
        })
    }

    /// As data for the next program in this process; the descriptors' numbers are put into `fds`.
    pub fn freeze(&self, fds: &mut Vec<i32>) -> FrozenServer {
        let connections = self.connections.iter().filter(|one| !one.is_broken());
        let connections: Vec<FrozenConnection> = connections.map(Connection::freeze).collect();
        let listener = self.listener.as_raw_fd();
        fds.extend(connections.iter().map(|one| one.fd).chain([listener]));
        FrozenServer { listener, connections, used: self.used, next_ask: self.next_ask, pings: self.pings.clone() }
    }

    /// In the next program, inside the runtime: clients and what they wait for go on.
    pub fn thaw(frozen: FrozenServer, claim: &mut dyn FnMut(i32) -> OwnedFd) -> io::Result<Server> {
        let mut server = Server::new(claim(frozen.listener).into())?;
        (server.used, server.next_ask, server.pings) = (frozen.used, frozen.next_ask, frozen.pings);
        for one in frozen.connections {
            let stream = UnixStream::from_std(claim(one.fd).into())?;
            server.connections.push(Connection::thaw(stream, one));
        }
        Ok(server)
    }

    /// Takes our end of a worker's `-g` connection: ack and ping of that worker only.
    pub fn adopt_worker(&mut self, child: ChildId, stream: StdStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        self.connections.push(Connection::new(stream, Peer::Own(child), self.used));
        Ok(())
    }

    /// Closes the `-g` connection of a worker that is gone.
    pub fn forget_worker(&mut self, child: ChildId) {
        self.pings.remove(&child);
        self.connections.retain(|connection| connection.peer != Peer::Own(child));
        if self.connections.is_empty() {
            self.connections = Vec::new();
        }
    }

    /// Accepts, reads, writes and enforces the bounds; `Ready` only with at least one `Incoming`. Answers that did not
    /// go out at once are sent from here too, so it must be polled again after [`Server::answer`], before sleeping, and
    /// when [`Server::next_deadline`] has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>, who: &dyn Judge) -> Poll<Vec<Incoming>> {
        let mut incoming = Vec::new();
        self.expire();
        let mut again = self.accept(cx, who);
        for index in 0..self.connections.len() {
            again |= self.serve(index, cx, who, &mut incoming);
        }
        self.connections.retain(|connection| !connection.finished());
        if self.connections.is_empty() {
            self.connections = Vec::new();
        }
        if again {
            cx.waker().wake_by_ref();
        }
        if incoming.is_empty() { Poll::Pending } else { Poll::Ready(incoming) }
    }

    /// Answers a request; into nothing if its client is gone.
    pub fn answer(&mut self, ask: AskId, ok: bool, message: &str, data: Option<Value>) {
        for connection in &mut self.connections {
            if let Some(index) = connection.asks.iter().position(|one| one.ask == ask) {
                let Waiting { id, .. } = connection.asks.remove(index);
                connection.reply(Reply { id: id.as_ref(), ok, message, wait: false, data });
                return;
            }
        }
    }

    /// Whether anybody subscribed to the events: without, no line need be made.
    pub fn has_subscribers(&self) -> bool {
        self.connections.iter().any(|connection| connection.subscribed.is_some())
    }

    /// Sends an event to every subscriber. One that does not read is dropped, and told so behind what it was sent.
    pub fn publish(&mut self, event: &Value) {
        let message = event["message"].as_str().unwrap_or_default();
        for connection in &mut self.connections {
            let Some(id) = &connection.subscribed else { continue };
            let reply = Reply { id: id.as_ref(), ok: true, message, wait: true, data: Some(event.clone()) };
            let line = reply.line();
            if connection.unsent() + line.len() <= UNSENT_BYTES_MAX {
                connection.send(line.as_bytes());
            } else {
                let id = connection.subscribed.take().flatten();
                let message = "unsubscribed: events are not read as fast as they happen";
                connection.reply(Reply { id: id.as_ref(), ok: false, message, wait: false, data: None });
                connection.end_input();
            }
        }
    }

    /// When [`Server::poll`] is needed though nothing happens; `None` while no client is in the middle of something.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.connections.iter().filter_map(Connection::deadline).chain(self.accept_after).min()
    }

    /// Sends what is unsent; `Ready` when all is out, or nobody takes it.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut all = Poll::Ready(());
        for connection in &mut self.connections {
            if connection.poll_write(cx).is_pending() {
                all = Poll::Pending;
            }
        }
        all
    }

    /// Sends what is unsent, but waits no longer than `limit`. The runtime needs its timer.
    pub async fn flush_for(&mut self, limit: Duration) {
        // A client that does not read in time loses its reply: the service's end does not wait for it.
        let _ = tokio::time::timeout(limit, std::future::poll_fn(|cx| self.poll_flush(cx))).await;
    }

    fn expire(&mut self) {
        if self.next_deadline().is_none() {
            return;
        }
        let now = Instant::now();
        self.connections.retain_mut(|connection| {
            let late = connection.deadline().is_some_and(|deadline| deadline <= now);
            if late {
                let message = format!("closed: half a line, or an unread reply, for {} s", PATIENCE.as_secs());
                connection.reply(Reply { id: None, ok: false, message: &message, wait: false, data: None });
            }
            !late
        });
        self.accept_after = self.accept_after.filter(|after| *after > now);
    }

    /// Returns whether more may be waiting.
    fn accept(&mut self, cx: &mut Context<'_>, who: &dyn Judge) -> bool {
        if self.accept_after.is_some() {
            return false;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.poll_accept(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok((stream, _))) => self.welcome(stream, who),
                Poll::Ready(Err(error)) if matches!(error.kind(), io::ErrorKind::ConnectionAborted) => {}
                Poll::Ready(Err(_)) => {
                    // No descriptor or no memory left: make room, else try again later instead of spinning.
                    if !self.evict("closed: prebind has no descriptor left") {
                        self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
                        return false;
                    }
                }
            }
        }
        true
    }

    fn welcome(&mut self, stream: UnixStream, who: &dyn Judge) {
        let Ok(credentials) = stream.peer_cred() else { return };
        let (pid, uid) = (credentials.pid().unwrap_or(0), credentials.uid());
        let overflow = || *self.overflow_uid.get_or_init(overflow_uid);
        let trusted = self.einhorn || uid == 0 || (uid == who.own_uid() && Some(uid) != overflow());
        self.admit(stream, Peer::Process { pid, uid, trusted }, who);
    }

    fn admit(&mut self, stream: UnixStream, peer: Peer, who: &dyn Judge) {
        self.used += 1;
        let mut connection = Connection::new(stream, peer, self.used);
        if let Peer::Process { pid, uid, trusted: false } = peer
            && who.worker_of_pid(pid).is_none()
        {
            let message =
                format!("refused: uid {uid} (pid {pid}) is neither uid {} nor root nor a worker", who.own_uid());
            connection.reply(Reply { id: None, ok: false, message: &message, wait: false, data: None });
            return;
        }
        if self.connections.iter().filter(|other| !matches!(other.peer, Peer::Own(_))).count() >= CLIENTS_MAX {
            self.evict("closed: too many connections");
        }
        self.connections.push(connection);
    }

    /// Closes the connection that is worth least. Returns whether there was one.
    fn evict(&mut self, message: &str) -> bool {
        let clients = self.connections.iter().enumerate().filter(|(_, other)| !matches!(other.peer, Peer::Own(_)));
        let Some((index, _)) = clients.min_by_key(|(_, other)| other.worth()) else { return false };
        self.connections.remove(index).reply(Reply { id: None, ok: false, message, wait: false, data: None });
        true
    }

    /// One connection's turn. Returns whether it wants another one at once.
    fn serve(&mut self, index: usize, cx: &mut Context<'_>, who: &dyn Judge, incoming: &mut Vec<Incoming>) -> bool {
        // Writing first: what makes room for more requests comes before reading them.
        let _ = self.connections[index].poll_write(cx);
        let mut again = self.connections[index].poll_read(cx);
        for turn in 0.. {
            if turn == LINES_PER_TURN {
                again = true;
                break;
            }
            match self.connections[index].next_line() {
                // Reading stopped at a line's end and nobody will wake us for what came behind it.
                Line::None => {
                    again |= turn > 0;
                    break;
                }
                Line::Whole(line) => self.take(index, &line, who, incoming),
                Line::Half => self.refuse(index, None, "the last line has no end: a request ends with a newline"),
                Line::TooLong => {
                    self.refuse(
                        index,
                        None,
                        &format!("refused: the line is longer than {} bytes", wire::LINE_BYTES_MAX),
                    );
                    self.connections[index].end_input();
                }
            }
        }
        let connection = &mut self.connections[index];
        let was_full = !connection.may_ask();
        // Registers for the rest, if there is one.
        let _ = connection.poll_write(cx);
        again || (was_full && connection.may_ask())
    }

    fn take(&mut self, index: usize, line: &[u8], who: &dyn Judge, incoming: &mut Vec<Incoming>) {
        self.used += 1;
        self.connections[index].last_used = self.used;
        let Request { id, wanted } = match wire::parse(line, self.einhorn) {
            Ok(request) => request,
            Err(refused) => return self.refuse(index, refused.id.as_ref(), &refused.message),
        };
        self.connections[index].asked = true;
        let peer = self.connections[index].peer;
        match wanted {
            Wanted::Ack { pid } => incoming.extend(self.heard(index, pid, "worker:ack", who).map(Incoming::Acked)),
            Wanted::Ping { pid, request_id } => {
                let child = self.heard(index, pid, "worker:ping", who);
                let at_seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
                self.pings.extend(child.map(|child| (child, Ping { at_seconds, request_id })));
                incoming.extend(child.map(Incoming::Pinged));
            }
            Wanted::Supervisor(_) | Wanted::Einhorn(_) | Wanted::Events
                if !matches!(peer, Peer::Process { trusted: true, .. }) =>
            {
                self.refuse(index, id.as_ref(), "refused: a worker may send worker:ack and worker:ping only");
            }
            Wanted::Supervisor(command) => {
                let ask = self.waits(index, id, None);
                incoming.push(Incoming::Ask(ask, command));
            }
            Wanted::Einhorn(word) => incoming.push(self.spoken(index, id, word)),
            Wanted::Events => {
                let connection = &mut self.connections[index];
                connection.reply(Reply { id: id.as_ref(), ok: true, message: "subscribed", wait: true, data: None });
                connection.subscribed = Some(id);
            }
        }
    }

    /// An ack or ping: no reply, and the connection is closed, as einhorn does. One that counts for nobody is said.
    fn heard(&mut self, index: usize, pid: i32, command: &str, who: &dyn Judge) -> Option<ChildId> {
        let connection = &mut self.connections[index];
        let named = who.child_of_pid(pid).or_else(|| who.worker_of_pid(pid));
        let (own, trusted) = match connection.peer {
            Peer::Own(child) => (Some(child), false),
            Peer::Process { pid, trusted, .. } => (who.worker_of_pid(pid), trusted),
        };
        // A worker in a pid namespace of its own gives a number that is nobody's here: its connection tells who it is.
        let child = match (named, own) {
            (None, own) => own,
            (Some(named), own) if trusted || own == Some(named) => Some(named),
            (Some(_), _) => None,
        };
        if child.is_none() && self.einhorn {
            self.unheard.push(format!("{command} for {pid}, which is no worker"));
        } else if child.is_none() {
            let message = format!("{command}: pid {pid} is no worker that you may speak for");
            self.refuse(index, None, &message);
        }
        let connection = &mut self.connections[index];
        match connection.peer {
            Peer::Own(_) => connection.end_output(),
            Peer::Process { .. } => connection.end_input(),
        }
        child
    }

    /// A connection waits for an answer.
    fn waits(&mut self, index: usize, id: Option<Value>, word: Option<Word>) -> AskId {
        let ask = self.new_ask();
        self.connections[index].asks.push(Waiting { ask, id, word });
        ask
    }

    fn new_ask(&mut self) -> AskId {
        self.next_ask += 1;
        AskId(self.next_ask - 1)
    }

    fn refuse(&mut self, index: usize, id: Option<&Value>, message: &str) {
        self.connections[index].reply(Reply { id, ok: false, message, wait: false, data: None });
    }
}

/// The kernel's overflow uid, where some uid has no mapping here; `None` in a namespace that maps all.
fn overflow_uid() -> Option<u32> {
    const DEFAULT: u32 = 65534;
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return None;
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    Some(text.trim().parse().unwrap_or(DEFAULT))
}

mod spoken;

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
