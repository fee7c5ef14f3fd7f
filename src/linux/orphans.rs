//! What workers left, where orphans become prebind's children (as PID 1, with --subreaper).

use super::{Linux, tree};
use crate::supervise::Event;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

impl Linux {
    /// An end was heard of: where no worker is left, how many others are.
    pub(super) fn count_orphans(&self, events: &mut Vec<Event>) {
        if self.plan.entry.reaps() && self.children.is_empty() {
            events.push(Event::OrphansLeft(left().len() as u32));
        }
    }

    pub(super) fn signal_orphans(&self, signal: crate::plan::Signal) {
        let Ok(signal) = Signal::try_from(signal.0) else { return };
        for pid in left() {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Everybody who descends from prebind.
pub(super) fn left() -> Vec<i32> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // Who has no child has no descendant: at the end there is not much time.
    match waitid(Id::All, flags) {
        Err(Errno::ECHILD) => Vec::new(),
        _ => tree::descendants(std::process::id().cast_signed()),
    }
}
