//! What the checker knows of a child.

use prebind::plan::Nanos;
use prebind::supervise::Start;

#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) start: Start,
    pub(crate) at: Nanos,
    pub(crate) holds: bool,
    pub(crate) said_ready: bool,
    pub(crate) ready: bool,
    pub(crate) ready_at: Nanos,
    /// When it waits on its sockets, and whether /proc tells.
    pub(crate) accepts_at: Option<Nanos>,
    pub(crate) is_seen: bool,
    /// It was started in the place of a worker that serves.
    pub(crate) successor: bool,
    /// It ended, which may not have been handled yet.
    pub(crate) ended: bool,
    pub(crate) draining: bool,
    /// When WATCHDOG=1 is due.
    pub(crate) watchdog_due: Option<Nanos>,
    /// It failed a deadline: it may be stopped though nobody takes its place.
    pub(crate) failed: bool,
    pub(crate) told_at: Option<Nanos>,
    pub(crate) stopping_itself: Option<Nanos>,
    pub(crate) killed: bool,
    pub(crate) extends: bool,
    /// When its exit was handled, and whether it left others behind.
    pub(crate) exited_at: Option<Nanos>,
    pub(crate) leaves: bool,
    pub(crate) leftovers_told: bool,
    /// It could not be spawned.
    pub(crate) never_was: bool,
}

impl Child {
    pub(crate) fn active(&self) -> bool {
        self.told_at.is_none() && !self.draining && self.stopping_itself.is_none() && self.exited_at.is_none()
    }
}
