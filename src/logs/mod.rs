//! What workers write, into files: each has a pipe for it, a thread of prebind's reads them all and writes whole lines. A
//! thread, because a disk may take its time and the supervisor has none. It begins with the first pipe.
//!
//! Pipes survive the replacement of prebind's program: [`Logs::freeze`] ends the thread, the next program's goes on.

mod calendar;
mod file;
mod follow;

use crate::plan::LogFile;
use follow::{Order, Source, Stopped};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long the thread may take to stop: a disk that does not answer holds nobody up for longer.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Tells the operator what the thread met. It runs in the thread.
pub type Say = Arc<dyn Fn(String) + Send + Sync>;

/// All outputs that are followed.
pub struct Logs {
    say: Say,
    running: Option<Running>,
}

struct Running {
    orders: Sender<Order>,
    wake: Arc<EventFd>,
}

/// The outputs, for the next program.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FrozenLogs(Vec<FrozenSource>);

#[derive(Debug, Serialize, Deserialize)]
struct FrozenSource {
    pipe: RawFd,
    pid: i32,
    spec: LogFile,
    /// The beginning of a line.
    held: Vec<u8>,
    in_line: bool,
}

/// What the thread followed; nobody reads it now.
#[derive(Debug, Default)]
pub struct Paused(Vec<Source>);

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("running", &self.running.is_some()).finish_non_exhaustive()
    }
}

impl Logs {
    /// None yet.
    pub fn new(say: Say) -> Logs {
        Logs { say, running: None }
    }

    /// Follows what is written to the worker's `pipe`, whose end here does not block, until its last writer closed it.
    /// `file`: the one of `spec`, open.
    pub fn follow(&mut self, pid: i32, spec: LogFile, file: File, pipe: OwnedFd) {
        self.order(Order::Follow(Source::new(pipe, pid, spec), Some(file)));
    }

    /// Opens every file anew.
    pub fn reopen(&mut self) -> bool {
        if self.running.is_some() {
            self.order(Order::Reopen);
        }
        self.running.is_some()
    }

    /// Writes what is there, and ends. At most for `limit`.
    pub fn finish(&mut self, limit: Duration) {
        let _ = self.stop(true, limit);
    }

    /// Reads nothing any more, until [`Logs::go_on`] or for the next program.
    pub fn pause(&mut self) -> Result<Paused, String> {
        let sources = self.stop(false, STOP_LIMIT).ok_or("a log file's disk does not answer")?;
        Ok(Paused(sources))
    }

    /// Follows them again.
    pub fn go_on(&mut self, paused: Paused) {
        for source in paused.0 {
            self.order(Order::Follow(source, None));
        }
    }

    /// For the next program, with the descriptors that it is to inherit.
    pub fn freeze(paused: &Paused, fds: &mut Vec<RawFd>) -> FrozenLogs {
        let freeze = |source: &Source| {
            fds.push(source.pipe.as_raw_fd());
            FrozenSource {
                pipe: source.pipe.as_raw_fd(),
                pid: source.pid,
                spec: source.spec.clone(),
                held: source.held.clone(),
                in_line: source.in_line,
            }
        };
        FrozenLogs(paused.0.iter().map(freeze).collect())
    }

    /// In the next program.
    pub fn thaw(&mut self, frozen: FrozenLogs, claim: &mut dyn FnMut(RawFd) -> OwnedFd) {
        for one in frozen.0 {
            let mut source = Source::new(claim(one.pipe), one.pid, one.spec);
            (source.held, source.in_line) = (one.held, one.in_line);
            self.order(Order::Follow(source, None));
        }
    }

    fn order(&mut self, order: Order) {
        if self.running.is_none() {
            self.running = self.start();
        }
        let Some(running) = &self.running else { return };
        // A thread that ended, ended because it was told to: then there is none.
        let _ = running.orders.send(order);
        let _ = running.wake.write(1);
    }

    fn start(&self) -> Option<Running> {
        let started = self.try_start();
        started.inspect_err(|error| (self.say)(format!("cannot follow the output of workers: {error}"))).ok()
    }

    fn try_start(&self) -> io::Result<Running> {
        let wake = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (orders, received) = channel();
        // Signals are the loop's: the thread inherits a mask that blocks all.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let spawned = self.spawn(received, Arc::clone(&wake));
        before.thread_set_mask()?;
        spawned?;
        Ok(Running { orders, wake })
    }

    fn spawn(&self, orders: Receiver<Order>, wake: Arc<EventFd>) -> io::Result<()> {
        let say = Arc::clone(&self.say);
        let mut follower = follow::Follower::new(orders, wake, say)?;
        std::thread::Builder::new().name("prebind-logs".into()).stack_size(128 << 10).spawn(move || follower.run())?;
        Ok(())
    }

    /// Ends the thread and takes what it followed; `None` where it does not answer: it goes on.
    fn stop(&mut self, drain: bool, limit: Duration) -> Option<Vec<Source>> {
        let Some(running) = &self.running else { return Some(Vec::new()) };
        let (answer, stopped): (Sender<Stopped>, Receiver<Stopped>) = channel();
        let _ = running.orders.send(Order::Stop { drain, answer });
        let _ = running.wake.write(1);
        let sources = stopped.recv_timeout(limit).ok()?;
        self.running = None;
        Some(sources)
    }
}

#[cfg(test)]
mod tests;
