//! Whose worker's process a pid is.

use super::children::Children;
use super::{proc, tree};
use crate::control::server::Judge;
use crate::supervise::ChildId;

/// What the control server asks of processes.
pub(super) struct Judging<'a>(pub(super) &'a Children);

impl Judge for Judging<'_> {
    fn own_uid(&self) -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    /// By pid, by process group, by a parent that is one, or by what it was started with.
    fn worker_of_pid(&self, pid: i32) -> Option<ChildId> {
        const ANCESTORS_MAX: usize = 16;
        if let Some(child) = self.0.by_pid(pid) {
            return Some(child);
        }
        if let Some(child) = proc::group_of(pid).and_then(|group| self.0.by_pid(group)) {
            return Some(child);
        }
        let (sender, mut pid) = (pid, pid);
        for _ in 0..ANCESTORS_MAX {
            let (parent, _) = proc::stat(pid)?;
            if let Some(child) = self.0.by_pid(parent) {
                return Some(child);
            }
            if parent <= 1 {
                break;
            }
            pid = parent;
        }
        self.0.by_invocation(tree::invocation_of_orphan(sender)?)
    }

    fn child_of_pid(&self, pid: i32) -> Option<ChildId> {
        self.0.by_pid(pid)
    }
}
