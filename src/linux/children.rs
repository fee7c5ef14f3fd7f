//! The children by pid: signals to them, their exits, what is left of their process groups. A pid of an unreaped
//! child of ours cannot be reused; once it is reaped, its group is reached through a pidfd taken before.

#![allow(unsafe_code)]

use super::{proc, tree};
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
    by_pid: BTreeMap<i32, (ChildId, Role)>,
}

/// Which of a worker's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Its own.
    Main,
    /// A command around it.
    Step,
}

#[derive(Debug)]
struct Child {
    pid: i32,
    service: ServiceId,
    slot: u32,
    /// Reaped: only its group may be left.
    group: Option<Group>,
    /// What a unit's worker has beside.
    unit: Option<Box<Unit>>,
}

/// A unit's worker: `pid` is 0 while it has no main process, and its group is all that belongs to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Unit {
    #[serde(with = "super::units::hex")]
    invocation: u128,
    /// The command that runs around it, the leader of its own group.
    step: Option<i32>,
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
    pub(super) role: Role,
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
    unit: Option<Unit>,
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
            let Child { pid, service, slot, ref group, ref unit } = *one;
            let unit = unit.as_deref().cloned();
            FrozenChild { child: *child, pid, service, slot, pidfd, reaped: group.is_some(), unit }
        };
        self.by_id.iter().map(freeze).collect()
    }

    /// In the next program: they are its children, too.
    pub(super) fn thaw(&mut self, frozen: FrozenChild, change: &Change, claim: &mut dyn FnMut(i32) -> OwnedFd) {
        let FrozenChild { child, pid, service, slot, pidfd, reaped, unit } = frozen;
        let service = change.services.get(usize::from(service.0)).copied().flatten().unwrap_or(service);
        let group = reaped.then(|| pidfd.map_or(Group::Number, |fd| Group::Pidfd(claim(fd))));
        if !reaped && pid != 0 {
            self.by_pid.insert(pid, (child, Role::Main));
        }
        if let Some(step) = unit.as_ref().and_then(|unit| unit.step) {
            self.by_pid.insert(step, (child, Role::Step));
        }
        self.by_id.insert(child, Child { pid, service, slot, group, unit: unit.map(Box::new) });
    }

    /// Those that a program in between, in this process, has reaped: no SIGCHLD will ever tell of them.
    /// `watched`: no children of ours, their ends are told otherwise.
    pub(super) fn take_missing(&mut self, watched: &[i32]) -> Vec<Exit> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let gone =
            |pid: i32| !watched.contains(&pid) && waitid(Id::Pid(Pid::from_raw(pid)), flags) == Err(Errno::ECHILD);
        let missing: Vec<(i32, (ChildId, Role))> =
            self.by_pid.iter().filter(|(pid, _)| gone(**pid)).map(|(pid, child)| (*pid, *child)).collect();
        let exits = missing.into_iter().map(|(pid, (child, role))| {
            // The pid may be somebody else's by now. A group of that number has members only if it is still this one's.
            self.ended((child, role), pid, Group::Number);
            Exit { child, role, pid, how: Ended::Unseen, group_left: false }
        });
        exits.collect()
    }

    pub(super) fn add(&mut self, child: ChildId, (service, slot): (ServiceId, u32), pid: i32) {
        self.by_id.insert(child, Child { pid, service, slot, group: None, unit: None });
        self.by_pid.insert(pid, (child, Role::Main));
    }

    /// A process of a unit's worker, which may have others.
    pub(super) fn add_of_unit(
        &mut self,
        (child, role): (ChildId, Role),
        (service, slot): (ServiceId, u32),
        invocation: u128,
        pid: i32,
    ) {
        let unit = Some(Box::new(Unit { invocation, step: None }));
        let entry = self.by_id.entry(child).or_insert(Child { pid: 0, service, slot, group: None, unit });
        match (role, &mut entry.unit) {
            (Role::Step, Some(unit)) => unit.step = Some(pid),
            (Role::Main | Role::Step, _) => entry.pid = pid,
        }
        self.by_pid.insert(pid, (child, role));
    }

    /// A process is no child that lives any more.
    fn ended(&mut self, (child, role): (ChildId, Role), pid: i32, group: Group) {
        self.by_pid.remove(&pid);
        let Some(entry) = self.by_id.get_mut(&child) else { return };
        match (role, &mut entry.unit) {
            (Role::Step, Some(unit)) => unit.step = None,
            (Role::Main, Some(_)) => entry.pid = 0,
            (_, None) => entry.group = Some(group),
        }
    }

    /// All processes of a unit's worker.
    fn tree(&self, one: &Child, unit: &Unit) -> Vec<i32> {
        let roots: Vec<i32> = [one.pid, unit.step.unwrap_or(0)].into_iter().filter(|pid| *pid > 0).collect();
        tree::of_worker(&roots, unit.invocation, &|pid| self.by_pid.contains_key(&pid))
    }

    /// Of a worker whose first process ended: the one that is left, if it is one alone or leads the others.
    pub(super) fn only_one_left(&self, child: ChildId) -> Option<i32> {
        let one = self.by_id.get(&child)?;
        let left = self.tree(one, one.unit.as_deref()?);
        let own = std::process::id().cast_signed();
        // Who was orphaned leads; who it started is its affair.
        let mut leaders = left.iter().filter(|pid| proc::stat(**pid).is_some_and(|(parent, _)| parent == own));
        let first = leaders.next()?;
        leaders.next().is_none().then_some(*first)
    }

    /// Whether a process belongs to a unit's worker.
    pub(super) fn belongs(&self, child: ChildId, pid: i32) -> bool {
        let Some(one) = self.by_id.get(&child) else { return false };
        one.unit.as_deref().is_some_and(|unit| self.tree(one, unit).contains(&pid))
    }

    /// Another process is the worker's own from now on.
    pub(super) fn set_main(&mut self, child: ChildId, pid: i32) {
        let Some(entry) = self.by_id.get_mut(&child) else { return };
        self.by_pid.remove(&entry.pid);
        entry.pid = pid;
        self.by_pid.insert(pid, (child, Role::Main));
    }

    /// A main process that is no child of ours ended; `None`: it is not that any more.
    pub(super) fn end_unseen(&mut self, child: ChildId, pid: i32) -> Option<Exit> {
        (self.role_of(pid) == Some((child, Role::Main))).then(|| {
            self.ended((child, Role::Main), pid, Group::Number);
            let group_left = self.signal_group(child, 0);
            Exit { child, role: Role::Main, pid, how: Ended::Unseen, group_left }
        })
    }

    /// Whose process this pid is, and which, alive or not reaped yet.
    pub(super) fn role_of(&self, pid: i32) -> Option<(ChildId, Role)> {
        self.by_pid.get(&pid).copied()
    }

    /// The unit's worker of that INVOCATION_ID.
    pub(super) fn by_invocation(&self, invocation: u128) -> Option<ChildId> {
        let is_it = |one: &Child| one.unit.as_ref().is_some_and(|unit| unit.invocation == invocation);
        self.by_id.iter().find(|(_, one)| is_it(one)).map(|(child, _)| *child)
    }

    /// Whether it is a unit's worker.
    pub(super) fn is_unit(&self, child: ChildId) -> bool {
        self.by_id.get(&child).is_some_and(|one| one.unit.is_some())
    }

    /// Whether others than that one have its slot.
    pub(super) fn others_at(&self, place: (ServiceId, u32), than: ChildId) -> bool {
        self.by_id.iter().any(|(child, one)| *child != than && (one.service, one.slot) == place)
    }

    /// A signal to the group of the command that runs around a worker.
    pub(super) fn signal_step(&self, child: ChildId, signal: Signal) {
        if let Some(step) = self.by_id.get(&child).and_then(|one| one.unit.as_ref()?.step) {
            // SAFETY: a plain system call; the pid is an unreaped child's, which leads its group.
            unsafe { libc::kill(-step, signal.0) };
        }
    }

    /// The pid of a child that was not forgotten yet.
    pub(super) fn pid(&self, child: ChildId) -> Option<i32> {
        self.by_id.get(&child).map(|child| child.pid).filter(|pid| *pid > 0)
    }

    /// Its service and its slot.
    pub(super) fn place(&self, child: ChildId) -> Option<(ServiceId, u32)> {
        self.by_id.get(&child).map(|child| (child.service, child.slot))
    }

    /// The child that this pid is, alive or not reaped yet.
    pub(super) fn by_pid(&self, pid: i32) -> Option<ChildId> {
        self.by_pid.get(&pid).map(|(child, _)| *child)
    }

    /// A signal to the main process, if it was not reaped.
    pub(super) fn signal_main(&self, child: ChildId, signal: Signal) {
        if let Some(Child { pid: pid @ 1.., group: None, .. }) = self.by_id.get(&child) {
            // SAFETY: a plain system call; the pid is an unreaped child's.
            unsafe { libc::kill(*pid, signal.0) };
        }
    }

    /// A signal to the whole process group. False: there is nobody in it.
    pub(super) fn signal_group(&self, child: ChildId, signal: i32) -> bool {
        match self.by_id.get(&child) {
            None => false,
            Some(one @ Child { unit: Some(unit), .. }) => {
                let all = self.tree(one, unit);
                // SAFETY: a plain system call; they were alive a moment ago.
                all.iter().for_each(|pid| {
                    unsafe { libc::kill(*pid, signal) };
                });
                !all.is_empty()
            }
            // SAFETY: a plain system call; the leader is an unreaped child of ours.
            Some(Child { pid, group: None, .. }) => unsafe { libc::kill(-pid, signal) == 0 },
            Some(Child { pid, group: Some(group), .. }) => group.signal(*pid, signal),
        }
    }

    /// Drops what is known of a child that ended.
    pub(super) fn forget(&mut self, child: ChildId) {
        let Some(gone) = self.by_id.remove(&child) else { return };
        for pid in [Some(gone.pid), gone.unit.and_then(|unit| unit.step)].into_iter().flatten() {
            if self.by_pid.get(&pid).is_some_and(|(of, _)| *of == child) {
                self.by_pid.remove(&pid);
            }
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
            let (Some((child, role)), Some(how)) = (ours, ended(status)) else { continue };
            let group = pidfd.map_or(Group::Number, Group::Pidfd);
            let is_unit = self.by_id.get(&child).is_some_and(|one| one.unit.is_some());
            let of_group = !is_unit && group.signal(pid.as_raw(), 0);
            self.ended((child, role), pid.as_raw(), group);
            let group_left = if is_unit { self.signal_group(child, 0) } else { of_group };
            return Some(Exit { child, role, pid: pid.as_raw(), how, group_left });
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

pub(super) fn pidfd_open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: a plain system call; the descriptor that it returns is new and ours, close-on-exec by itself.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn ended(status: WaitStatus) -> Option<Ended> {
    match status {
        WaitStatus::Exited(_, code) => Some(Ended::Code(code as u8)),
        WaitStatus::Signaled(_, signal, true) => Some(Ended::Dumped(Signal(signal as i32))),
        WaitStatus::Signaled(_, signal, false) => Some(Ended::Signal(Signal(signal as i32))),
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
