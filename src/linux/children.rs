//! The children by pid: signals to them, their exits, what is left of their process groups. A pid of an unreaped
//! child of ours cannot be reused; once it is reaped, its group is reached through a pidfd taken before.

#![allow(unsafe_code)]

use crate::plan::{Change, ServiceId, Signal};
use crate::supervise::{ChildId, Ended};
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// PIDFD_SIGNAL_PROCESS_GROUP of pidfd_send_signal(2), Linux 6.9.
const PROCESS_GROUP: libc::c_uint = 1 << 2;

#[derive(Debug, Default)]
pub(super) struct Children {
    by_id: BTreeMap<ChildId, Child>,
    by_pid: BTreeMap<i32, ChildId>,
}

#[derive(Debug)]
struct Child {
    pid: i32,
    service: ServiceId,
    slot: u32,
    /// Reaped: only its group may be left.
    group: Option<Group>,
}

/// The process group of a child that was reaped.
#[derive(Debug)]
enum Group {
    /// Reached by pidfd, whatever becomes of the number.
    Pidfd(OwnedFd),
    /// An older kernel: by number.
    Number,
}

/// A child's end.
#[derive(Debug, PartialEq)]
pub(super) struct Exit {
    pub(super) child: ChildId,
    pub(super) pid: i32,
    pub(super) how: Ended,
    pub(super) group_left: bool,
}

/// A child as data, for the next program in this process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrozenChild {
    child: ChildId,
    pid: i32,
    service: ServiceId,
    slot: u32,
    /// Reaped: its group is reached by this pidfd, or by number.
    pidfd: Option<i32>,
    reaped: bool,
}

impl Children {
    /// As data; the pidfds' numbers are put into `fds`.
    pub(super) fn freeze(&self, fds: &mut Vec<i32>) -> Vec<FrozenChild> {
        let freeze = |(child, one): (&ChildId, &Child)| {
            let pidfd = match &one.group {
                Some(Group::Pidfd(fd)) => Some(fd.as_raw_fd()),
                Some(Group::Number) | None => None,
            };
            fds.extend(pidfd);
            let Child { pid, service, slot, ref group } = *one;
            FrozenChild { child: *child, pid, service, slot, pidfd, reaped: group.is_some() }
        };
        self.by_id.iter().map(freeze).collect()
    }

    /// In the next program: they are its children, too.
    pub(super) fn thaw(&mut self, frozen: FrozenChild, change: &Change, claim: &mut dyn FnMut(i32) -> OwnedFd) {
        let FrozenChild { child, pid, service, slot, pidfd, reaped } = frozen;
        let service = change.services.get(usize::from(service.0)).copied().flatten().unwrap_or(service);
        let group = reaped.then(|| pidfd.map_or(Group::Number, |fd| Group::Pidfd(claim(fd))));
        if !reaped {
            self.by_pid.insert(pid, child);
        }
        self.by_id.insert(child, Child { pid, service, slot, group });
    }

    /// Those that a program in between, in this process, has reaped: no SIGCHLD will ever tell of them.
    pub(super) fn take_missing(&mut self) -> Vec<Exit> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let gone = |pid: i32| waitid(Id::Pid(Pid::from_raw(pid)), flags) == Err(Errno::ECHILD);
        let missing: Vec<(i32, ChildId)> =
            self.by_pid.iter().filter(|(pid, _)| gone(**pid)).map(|(pid, child)| (*pid, *child)).collect();
        let exits = missing.into_iter().map(|(pid, child)| {
            self.by_pid.remove(&pid);
            // The pid may be somebody else's by now. A group of that number has members only if it is still this one's.
            if let Some(entry) = self.by_id.get_mut(&child) {
                entry.group = Some(Group::Number);
            }
            Exit { child, pid, how: Ended::Unseen, group_left: false }
        });
        exits.collect()
    }

    pub(super) fn add(&mut self, child: ChildId, (service, slot): (ServiceId, u32), pid: i32) {
        self.by_id.insert(child, Child { pid, service, slot, group: None });
        self.by_pid.insert(pid, child);
    }

    /// The pid of a child that was not forgotten yet.
    pub(super) fn pid(&self, child: ChildId) -> Option<i32> {
        self.by_id.get(&child).map(|child| child.pid)
    }

    /// Its service and its slot.
    pub(super) fn place(&self, child: ChildId) -> Option<(ServiceId, u32)> {
        self.by_id.get(&child).map(|child| (child.service, child.slot))
    }

    /// The child that this pid is, alive or not reaped yet.
    pub(super) fn by_pid(&self, pid: i32) -> Option<ChildId> {
        self.by_pid.get(&pid).copied()
    }

    /// A signal to the main process, if it was not reaped.
    pub(super) fn signal_main(&self, child: ChildId, signal: Signal) {
        if let Some(Child { pid, group: None, .. }) = self.by_id.get(&child) {
            // SAFETY: a plain system call; the pid is an unreaped child's.
            unsafe { libc::kill(*pid, signal.0) };
        }
    }

    /// A signal to the whole process group. False: there is nobody in it.
    pub(super) fn signal_group(&self, child: ChildId, signal: i32) -> bool {
        match self.by_id.get(&child) {
            None => false,
            // SAFETY: a plain system call; the leader is an unreaped child of ours.
            Some(Child { pid, group: None, .. }) => unsafe { libc::kill(-pid, signal) == 0 },
            Some(Child { pid, group: Some(group), .. }) => group.signal(*pid, signal),
        }
    }

    /// Drops what is known of a child that ended.
    pub(super) fn forget(&mut self, child: ChildId) {
        if let Some(gone) = self.by_id.remove(&child)
            && self.by_pid.get(&gone.pid) == Some(&child)
        {
            self.by_pid.remove(&gone.pid);
        }
    }

    /// Reaps the next process that ended; strangers (orphans that were given to us) are reaped without a word.
    pub(super) fn reap(&mut self) -> Option<Exit> {
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            let pid = match waitid(Id::All, flags | WaitPidFlag::WNOWAIT) {
                Ok(status) => status.pid()?,
                Err(Errno::EINTR) => continue,
                Err(_) => return None,
            };
            let ours = self.by_pid.get(&pid.as_raw()).copied();
            // Before it is reaped: afterwards the number is no proof of whose group it is.
            let pidfd = ours.and_then(|_| pidfd_open(pid.as_raw()));
            let Ok(status) = waitid(Id::Pid(pid), flags) else { continue };
            let (Some(child), Some(how)) = (ours, ended(status)) else { continue };
            let group = pidfd.map_or(Group::Number, Group::Pidfd);
            let group_left = group.signal(pid.as_raw(), 0);
            self.by_pid.remove(&pid.as_raw());
            if let Some(entry) = self.by_id.get_mut(&child) {
                entry.group = Some(group);
            }
            return Some(Exit { child, pid: pid.as_raw(), how, group_left });
        }
    }
}

impl Group {
    fn signal(&self, pgid: i32, signal: i32) -> bool {
        match self {
            Group::Pidfd(fd) => {
                // SAFETY: a plain system call on a descriptor that we own; no siginfo is passed.
                let sent = unsafe {
                    libc::syscall(
                        libc::SYS_pidfd_send_signal,
                        fd.as_raw_fd(),
                        signal,
                        std::ptr::null::<libc::siginfo_t>(),
                        PROCESS_GROUP,
                    )
                };
                match sent {
                    0 => true,
                    _ if Errno::last() == Errno::EINVAL => Group::Number.signal(pgid, signal),
                    _ => Errno::last() == Errno::EPERM,
                }
            }
            // SAFETY: a plain system call.
            Group::Number => unsafe { libc::kill(-pgid, signal) == 0 || Errno::last() == Errno::EPERM },
        }
    }
}

fn pidfd_open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: a plain system call; the descriptor that it returns is new and ours, close-on-exec by itself.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn ended(status: WaitStatus) -> Option<Ended> {
    match status {
        WaitStatus::Exited(_, code) => Some(Ended::Code(code as u8)),
        WaitStatus::Signaled(_, signal, _) => Some(Ended::Signal(Signal(signal as i32))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// A reaper of everything would take the children of other tests: here each is waited for by its pid.
    #[test]
    fn a_group_outlives_its_leader_and_is_reached_by_pidfd() {
        let script = "sleep 1000 & echo; exit 0";
        let mut leader = Command::new("sh")
            .args(["-c", script])
            .process_group(0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sh runs");
        let pid = leader.id() as i32;
        let fd = pidfd_open(pid).expect("pidfd_open");
        leader.wait().expect("it ends");
        let group = Group::Pidfd(fd);
        assert!(group.signal(pid, 0), "the sleep is left");
        assert!(group.signal(pid, libc::SIGKILL));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while group.signal(pid, 0) {
            assert!(std::time::Instant::now() < deadline, "the killed sleep goes");
            std::thread::yield_now();
        }
    }
}
