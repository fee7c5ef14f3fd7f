//! The children by pid: signals to them, their exits, what is left of their process groups. A pid of an unreaped
//! child of ours cannot be reused; once it is reaped, its group is reached through a pidfd taken before.

#![allow(unsafe_code)]

use super::cgroup::Cgroup;
use super::group::{Group, pidfd_open};
use super::tree::Mark;
use super::{proc, tree};
use crate::plan::{Change, ServiceId, Signal};
use crate::supervise::{ChildId, Ended};
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

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
    /// How its processes outside of that group are known.
    strays: Strays,
    /// What a unit's worker has beside.
    unit: Option<Box<Unit>>,
}

/// How processes of a worker that left its process group are known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) enum Strays {
    /// Not at all: orphans are not prebind's.
    #[default]
    Unknown,
    /// As descendants, and as orphans that became prebind's, by PREBIND_INVOCATION_ID.
    Marked(#[serde(with = "super::units::hex")] u128),
    /// They are in its control group.
    Grouped(Cgroup),
}

/// A unit's worker: `pid` is 0 while it has no main process, and its group is all that belongs to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Unit {
    #[serde(with = "super::units::hex")]
    invocation: u128,
    /// The command that runs around it, the leader of its own group.
    step: Option<i32>,
    /// Those of its processes that prebind started, which may live on without the one that began them.
    #[serde(default)]
    sessions: Vec<i32>,
}

impl Unit {
    /// Of many commands, the last ones: of the others nothing is left as a rule, and it is known by its environment.
    const SESSIONS_MAX: usize = 16;

    /// `main`: the main process, whose session stays known however many commands run around it.
    fn begins(&mut self, session: i32, main: i32) {
        if self.sessions.len() >= Unit::SESSIONS_MAX
            && let Some(oldest) = self.sessions.iter().position(|one| *one != main)
        {
            self.sessions.remove(oldest);
        }
        self.sessions.push(session);
    }
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
    #[serde(default)]
    strays: Strays,
    unit: Option<Unit>,
}

impl Strays {
    /// The worker is gone, or never was.
    pub(super) fn leave(&self) {
        if let Strays::Grouped(group) = self {
            group.remove();
        }
    }
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
            let Child { pid, service, slot, ref group, ref strays, ref unit } = *one;
            let (strays, unit) = (strays.clone(), unit.as_deref().cloned());
            FrozenChild { child: *child, pid, service, slot, pidfd, reaped: group.is_some(), strays, unit }
        };
        self.by_id.iter().map(freeze).collect()
    }

    /// In the next program: they are its children, too.
    pub(super) fn thaw(&mut self, frozen: FrozenChild, change: &Change, claim: &mut dyn FnMut(i32) -> OwnedFd) {
        let FrozenChild { child, pid, service, slot, pidfd, reaped, strays, unit } = frozen;
        let service = change.services.get(usize::from(service.0)).copied().flatten().unwrap_or(service);
        let group = reaped.then(|| pidfd.map_or(Group::Number, |fd| Group::Pidfd(claim(fd))));
        if !reaped && pid != 0 {
            self.by_pid.insert(pid, (child, Role::Main));
        }
        if let Some(step) = unit.as_ref().and_then(|unit| unit.step) {
            self.by_pid.insert(step, (child, Role::Step));
        }
        self.by_id.insert(child, Child { pid, service, slot, group, strays, unit: unit.map(Box::new) });
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

    pub(super) fn add(&mut self, child: ChildId, (service, slot): (ServiceId, u32), strays: Strays, pid: i32) {
        self.by_id.insert(child, Child { pid, service, slot, group: None, strays, unit: None });
        self.by_pid.insert(pid, (child, Role::Main));
    }

    /// A process of a unit's worker, which may have others.
    pub(super) fn add_of_unit(
        &mut self,
        (child, role): (ChildId, Role),
        (service, slot): (ServiceId, u32),
        (invocation, strays): (u128, Strays),
        pid: i32,
    ) {
        let unit = Some(Box::new(Unit { invocation, step: None, sessions: Vec::new() }));
        let new = Child { pid: 0, service, slot, group: None, strays, unit };
        let entry = self.by_id.entry(child).or_insert(new);
        if let Some(unit) = &mut entry.unit {
            unit.begins(pid, entry.pid);
        }
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
        let tracked = |pid| self.by_pid.contains_key(&pid);
        let mut all = tree::of_worker(&roots, &unit.sessions, Mark::Unit(unit.invocation), &tracked);
        if let Strays::Grouped(group) = &one.strays {
            all.extend(group.members());
            all.sort_unstable();
            all.dedup();
        }
        all
    }

    /// The processes of a worker that left its process group.
    fn strays(&self, one: &Child) -> Vec<i32> {
        let mut all = match &one.strays {
            Strays::Unknown => return Vec::new(),
            Strays::Grouped(group) => group.members(),
            Strays::Marked(id) => {
                let root = one.group.is_none().then_some(one.pid);
                let tracked = |pid| self.by_pid.contains_key(&pid);
                tree::of_worker(root.as_slice(), &[], Mark::Worker(*id), &tracked)
            }
        };
        all.retain(|pid| proc::group_of(*pid) != Some(one.pid));
        all
    }

    /// Of a worker whose first process ended: those that are left and lead the others, who are their affair.
    pub(super) fn leaders_left(&self, child: ChildId) -> Vec<i32> {
        let Some((one, unit)) = self.by_id.get(&child).and_then(|one| Some((one, one.unit.as_deref()?))) else {
            return Vec::new();
        };
        let own = std::process::id().cast_signed();
        let mut left = self.tree(one, unit);
        left.retain(|pid| proc::stat(*pid).is_some_and(|(parent, _)| parent == own));
        left
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

    /// Whether no worker is left.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
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

    /// A signal to the whole process group, and to whoever left it. False: there is nobody.
    pub(super) fn signal_group(&self, child: ChildId, signal: i32) -> bool {
        let Some(one) = self.by_id.get(&child) else { return false };
        let others = match &one.unit {
            Some(unit) => self.tree(one, unit),
            None => self.strays(one),
        };
        let group = match one {
            Child { unit: Some(_), .. } => false,
            // SAFETY: a plain system call; the leader is an unreaped child of ours.
            Child { pid, group: None, .. } => unsafe { libc::kill(-pid, signal) == 0 },
            Child { pid, group: Some(group), .. } => group.signal(*pid, signal),
        };
        // SAFETY: a plain system call; they were alive a moment ago.
        others.iter().for_each(|pid| {
            unsafe { libc::kill(*pid, signal) };
        });
        if let (libc::SIGKILL, Strays::Grouped(all)) = (signal, &one.strays) {
            all.kill();
        }
        group || !others.is_empty()
    }

    /// Drops what is known of a child that ended.
    pub(super) fn forget(&mut self, child: ChildId) {
        let Some(gone) = self.by_id.remove(&child) else { return };
        gone.strays.leave();
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
            self.ended((child, role), pid.as_raw(), group);
            let group_left = self.signal_group(child, 0);
            return Some(Exit { child, role, pid: pid.as_raw(), how, group_left });
        }
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
