//! Everything that can wake the loop, polled in one place: signals, the workers' notify socket, the control socket,
//! unix paths that vanish, time. Nothing is read while nothing happens.

#![allow(unsafe_code)]

use super::main_pid::Watch;
use super::signals::{Heard, Signals};
use super::traffic::Traffic;
use crate::control::einhorn::Word;
use crate::control::event::Level;
use crate::control::server::{Incoming, Judge, Server};
use crate::notify::socket::{Datagram, WorkersSocket};
use crate::plan::SocketId;
use crate::supervise::{AskId, ChildId, Event, Told};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Datagrams in one turn: a flood does not keep the loop from the rest.
const DATAGRAMS_PER_TURN: usize = 256;
/// And no more once so many descriptors came with them.
const DESCRIPTORS_PER_TURN: usize = 64;

#[derive(Debug)]
pub(super) struct Sources {
    signals: Signals,
    pub(super) control: Option<Server>,
    notify: Option<AsyncFd<WorkersSocket>>,
    paths: Option<AsyncFd<OwnedFd>>,
    traffic: Option<AsyncFd<Traffic>>,
    /// The last turn left datagrams behind: the next one asks the system about the others first.
    more: bool,
    /// Stored descriptors of which some ended.
    stored: Option<AsyncFd<OwnedFd>>,
    /// Main processes that are no children of ours.
    mains: BTreeMap<ChildId, AsyncFd<Watch>>,
}

/// What woke the loop.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) events: Vec<Event>,
    /// What is asked of us, not of the supervisor.
    pub(super) asked: Vec<(AskId, Word)>,
    /// Children may have ended.
    pub(super) children: bool,
    /// Log files are to be opened anew.
    pub(super) reopen: bool,
    /// Our unix paths may have vanished.
    pub(super) paths: bool,
    /// What was said on the notify socket, by whomever.
    pub(super) datagrams: Vec<Datagram>,
    /// Stored descriptors ended.
    pub(super) stored: bool,
    /// Main processes that are no children of ours ended; they are watched no more.
    pub(super) mains: Vec<(ChildId, i32)>,
    /// Sockets that have something, of those that are listened on.
    pub(super) traffic: Vec<SocketId>,
    /// Lines for the log.
    pub(super) remarks: Vec<(Level, &'static str, String)>,
}

impl Turn {
    fn is_something(&self) -> bool {
        !self.events.is_empty()
            || !self.asked.is_empty()
            || self.children
            || self.reopen
            || self.paths
            || !self.datagrams.is_empty()
            || self.stored
            || !self.mains.is_empty()
            || !self.traffic.is_empty()
            || !self.remarks.is_empty()
    }
}

impl Sources {
    /// Inside the runtime.
    pub(super) fn new(
        signals: Signals,
        control: Option<Server>,
        notify: Option<WorkersSocket>,
        paths: Option<OwnedFd>,
        traffic: bool,
        stored: Option<OwnedFd>,
    ) -> io::Result<Sources> {
        let (notify, paths) = (notify.map(readable).transpose()?, paths.map(readable).transpose()?);
        let traffic = if traffic { Some(readable(Traffic::new()?)?) } else { None };
        let (stored, mains) = (stored.map(readable).transpose()?, BTreeMap::new());
        Ok(Sources { signals, control, notify, paths, traffic, more: false, stored, mains })
    }

    /// Inside the runtime. A worker's main process is no child of ours.
    pub(super) fn watch_main(&mut self, child: ChildId, watch: Watch) -> io::Result<()> {
        self.mains.insert(child, readable(watch)?);
        Ok(())
    }

    /// It is not any more.
    pub(super) fn leave_main(&mut self, child: ChildId) {
        self.mains.remove(&child);
    }

    /// A worker's main process that is no child of ours.
    pub(super) fn main_of(&self, child: ChildId) -> Option<&Watch> {
        self.mains.get(&child).map(AsyncFd::get_ref)
    }

    /// All of them.
    pub(super) fn mains(&self) -> impl Iterator<Item = (ChildId, &Watch)> {
        self.mains.iter().map(|(child, watch)| (*child, watch.get_ref()))
    }

    /// Signals that were seen and not handled.
    pub(super) fn heard(&mut self) -> Vec<Told> {
        self.signals.left()
    }

    pub(super) fn keeps_hup(&self) -> bool {
        self.signals.keeps_hup()
    }

    pub(super) fn notify(&self) -> Option<&WorkersSocket> {
        self.notify.as_ref().map(AsyncFd::get_ref)
    }

    /// Where services listen for traffic; `None`: none does.
    pub(super) fn traffic_mut(&mut self) -> Option<&mut Traffic> {
        self.traffic.as_mut().map(AsyncFd::get_mut)
    }

    /// Waits for the next thing to happen, `limit` at most.
    pub(super) async fn turn(&mut self, limit: Option<Duration>, who: &dyn Judge) -> Turn {
        if std::mem::take(&mut self.more) {
            tokio::task::yield_now().await;
        }
        let limit = limit.map(|limit| Instant::now() + limit);
        loop {
            let control = self.control.as_ref().and_then(Server::next_deadline).map(Instant::from_std);
            let rested = self.traffic.as_ref().and_then(|traffic| traffic.get_ref().next_deadline());
            let until = [limit, control, rested.map(Instant::from_std)].into_iter().flatten().min();
            let woken = std::future::poll_fn(|cx| {
                let mut turn = Turn::default();
                self.poll(cx, who, &mut turn);
                if turn.is_something() { Poll::Ready(turn) } else { Poll::Pending }
            });
            let turn = match until {
                None => woken.await,
                Some(until) => tokio::time::timeout_at(until, woken).await.unwrap_or_default(),
            };
            let over = |at: Instant| at <= Instant::now();
            if turn.is_something() || limit.is_some_and(over) || rested.map(Instant::from_std).is_some_and(over) {
                return turn;
            }
        }
    }

    /// Notes before exits: what a worker said before it died counts.
    fn poll(&mut self, cx: &mut Context<'_>, who: &dyn Judge, turn: &mut Turn) {
        self.poll_notify(cx, turn);
        if let Poll::Ready(heard) = self.signals.poll(cx) {
            for one in heard {
                match one {
                    Heard::Child => turn.children = true,
                    Heard::Told(told) => turn.events.push(Event::Told(told)),
                    Heard::Reopen => turn.reopen = true,
                }
            }
        }
        if let Some(control) = &mut self.control
            && let Poll::Ready(incoming) = control.poll(cx, who)
        {
            for one in incoming {
                match one {
                    Incoming::Ask(ask, command) => turn.events.push(Event::Asked(ask, command)),
                    Incoming::Acked(child) => turn.events.push(Event::Acked(child)),
                    Incoming::Pinged(_) => {}
                    Incoming::Local(ask, word) => turn.asked.push((ask, word)),
                }
            }
        }
        let unheard = self.control.as_mut().map(Server::take_unheard).unwrap_or_default();
        turn.remarks.extend(unheard.into_iter().map(|line| (Level::Error, "ack_for_nobody", line)));
        if let Some(paths) = &self.paths
            && let Poll::Ready(Ok(mut guard)) = paths.poll_read_ready(cx)
        {
            guard.clear_ready();
            turn.paths = true;
        }
        self.poll_traffic(cx, turn);
        if let Some(stored) = &self.stored
            && let Poll::Ready(Ok(mut guard)) = stored.poll_read_ready(cx)
        {
            guard.clear_ready();
            turn.stored = true;
        }
        self.mains.retain(|child, watch| {
            let ended = watch.poll_read_ready(cx).is_ready();
            turn.mains.extend(ended.then(|| (*child, watch.get_ref().pid())));
            !ended
        });
    }

    /// Level-triggered: as long as something is there it is told again.
    fn poll_traffic(&self, cx: &mut Context<'_>, turn: &mut Turn) {
        let Some(traffic) = &self.traffic else { return };
        while let Poll::Ready(Ok(mut guard)) = traffic.poll_read_ready(cx) {
            turn.traffic = traffic.get_ref().ready();
            if !turn.traffic.is_empty() {
                return;
            }
            guard.clear_ready();
        }
    }

    fn poll_notify(&mut self, cx: &mut Context<'_>, turn: &mut Turn) {
        let Some(notify) = &self.notify else { return };
        let (mut count, mut descriptors) = (0, 0);
        while let Poll::Ready(Ok(mut guard)) = notify.poll_read_ready(cx) {
            match notify.get_ref().receive() {
                Ok(Some(datagram)) => {
                    count += 1;
                    descriptors += datagram.fds.len();
                    turn.datagrams.push(datagram);
                }
                Ok(None) => guard.clear_ready(),
                Err(error) => {
                    guard.clear_ready();
                    turn.remarks.push((Level::Warn, "notify_unreadable", format!("cannot read notes: {error}")));
                }
            }
            if count == DATAGRAMS_PER_TURN || descriptors >= DESCRIPTORS_PER_TURN {
                self.more = true;
                // The rest is read next time, whatever woke us until then.
                cx.waker().wake_by_ref();
                return;
            }
        }
    }
}

/// Puts a descriptor into the runtime's epoll set.
fn readable<T: AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: both kinds of source own one descriptor for as long as they live, and never exchange it.
    unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) }.map_err(Into::into)
}
