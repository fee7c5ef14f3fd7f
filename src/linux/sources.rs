//! Everything that can wake the loop, polled in one place: signals, the workers' notify socket, the control socket,
//! unix paths that vanish, time. Nothing is read while nothing happens.

#![allow(unsafe_code)]

use super::signals::{Heard, Signals};
use crate::control::einhorn::Word;
use crate::control::event::Level;
use crate::control::server::{Incoming, Judge, Server};
use crate::notify::socket::{Datagram, WorkersSocket};
use crate::supervise::{AskId, Event, Told};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Datagrams in one turn: a flood does not keep the loop from the rest.
const DATAGRAMS_PER_TURN: usize = 256;

#[derive(Debug)]
pub(super) struct Sources {
    signals: Signals,
    pub(super) control: Option<Server>,
    notify: Option<AsyncFd<WorkersSocket>>,
    paths: Option<AsyncFd<OwnedFd>>,
    /// The last turn left datagrams behind: the next one asks the system about the others first.
    more: bool,
    /// Datagrams that belonged to nobody; said at every power of ten.
    strangers: u64,
}

/// What woke the loop.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) events: Vec<Event>,
    /// What is asked of us, not of the supervisor.
    pub(super) asked: Vec<(AskId, Word)>,
    /// Children may have ended.
    pub(super) children: bool,
    /// Our unix paths may have vanished.
    pub(super) paths: bool,
    /// Lines for the log.
    pub(super) remarks: Vec<(Level, &'static str, String)>,
    timed_out: bool,
}

impl Turn {
    fn is_something(&self) -> bool {
        !self.events.is_empty()
            || !self.asked.is_empty()
            || self.children
            || self.paths
            || self.timed_out
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
    ) -> io::Result<Sources> {
        let (notify, paths) = (notify.map(readable).transpose()?, paths.map(readable).transpose()?);
        Ok(Sources { signals, control, notify, paths, more: false, strangers: 0 })
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

    /// Waits for the next thing to happen, `limit` at most.
    pub(super) async fn turn(&mut self, limit: Option<Duration>, who: &dyn Judge, keep: impl Fn(Vec<OwnedFd>)) -> Turn {
        if std::mem::take(&mut self.more) {
            tokio::task::yield_now().await;
        }
        let limit = limit.map(|limit| Instant::now() + limit);
        loop {
            let control = self.control.as_ref().and_then(Server::next_deadline).map(Instant::from_std);
            let until = [limit, control].into_iter().flatten().min();
            let woken = std::future::poll_fn(|cx| {
                let mut turn = Turn::default();
                self.poll(cx, who, &keep, &mut turn);
                if turn.is_something() { Poll::Ready(turn) } else { Poll::Pending }
            });
            let turn = match until {
                None => woken.await,
                Some(until) => tokio::time::timeout_at(until, woken).await.unwrap_or_default(),
            };
            if turn.is_something() || limit.is_some_and(|limit| limit <= Instant::now()) {
                return turn;
            }
        }
    }

    /// Notes before exits: what a worker said before it died counts.
    fn poll(&mut self, cx: &mut Context<'_>, who: &dyn Judge, keep: &dyn Fn(Vec<OwnedFd>), turn: &mut Turn) {
        self.poll_notify(cx, who, keep, turn);
        if let Poll::Ready(heard) = self.signals.poll(cx) {
            for one in heard {
                match one {
                    Heard::Child => turn.children = true,
                    Heard::Told(told) => turn.events.push(Event::Told(told)),
                    Heard::Reopen => {
                        let message = "USR1: there are no log files to reopen (the log is on stderr)";
                        turn.remarks.push((Level::Debug, "reopen", message.into()));
                    }
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
    }

    fn poll_notify(&mut self, cx: &mut Context<'_>, who: &dyn Judge, keep: &dyn Fn(Vec<OwnedFd>), turn: &mut Turn) {
        let Some(notify) = &self.notify else { return };
        let mut count = 0;
        while let Poll::Ready(Ok(mut guard)) = notify.poll_read_ready(cx) {
            match notify.get_ref().receive() {
                Ok(Some(datagram)) => {
                    count += 1;
                    let pid = datagram.pid;
                    if !hear(datagram, who, keep, turn) {
                        self.strangers += 1;
                        turn.remarks.extend(strangers_remark(self.strangers, pid));
                    }
                }
                Ok(None) => guard.clear_ready(),
                Err(error) => {
                    guard.clear_ready();
                    turn.remarks.push((Level::Warn, "notify_unreadable", format!("cannot read notes: {error}")));
                }
            }
            if count == DATAGRAMS_PER_TURN {
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

/// The n-th datagram of a stranger is worth a line when n is a power of ten.
fn strangers_remark(count: u64, pid: i32) -> Option<(Level, &'static str, String)> {
    let message = match count {
        1 => format!("a notification of process {pid} was dropped: it belongs to no worker"),
        _ if 10_u64.pow(count.ilog10()) == count => {
            format!("{count} notifications were dropped: they belong to no worker (the last: process {pid})")
        }
        _ => return None,
    };
    Some((Level::Warn, "note_dropped", message))
}

/// Hands a worker's note on. False: it belongs to nobody.
fn hear(datagram: Datagram, who: &dyn Judge, keep: &dyn Fn(Vec<OwnedFd>), turn: &mut Turn) -> bool {
    let pid = datagram.pid;
    let Some(child) = who.worker_of_pid(pid) else { return false };
    match datagram.note {
        Err(error) => turn.remarks.push((Level::Warn, "note_refused", format!("process {pid} notified: {error}"))),
        Ok(mut note) => {
            if let Some(main) = note.main_pid.take()
                && who.child_of_pid(main).is_none()
            {
                let message = format!("process {pid} says MAINPID={main}: refused, that is no child of prebind's");
                turn.remarks.push((Level::Warn, "mainpid_refused", message));
            }
            if note.barrier {
                keep(datagram.fds);
            }
            if note != crate::notify::Note::default() {
                turn.events.push(Event::Said(child, note));
            }
        }
    }
    true
}
