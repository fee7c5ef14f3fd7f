//! What workers say on the notify socket: who says it, whether it counts, what of it is settled here because it is about
//! pids and descriptors. The rest goes to the supervisor.

use super::access::{self, Sender};
use super::children::Role;
use super::judge::Judging;
use super::main_pid::{self, Named, Watch};
use super::store::FrozenStored;
use super::{Linux, proc};
use crate::control::event::Level;
use crate::control::server::Judge;
use crate::notify::socket::Datagram;
use crate::notify::{Note, StoreWords};
use crate::plan::{Change, NotifyAccess, Plan, Preserve, ServiceId};
use crate::supervise::{ChildId, Event};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// What is remembered of what was said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Said {
    /// NOTIFYACCESS=, of the workers that said so.
    access: BTreeMap<ChildId, NotifyAccess>,
    /// Datagrams that belonged to nobody; said at every power of ten.
    strangers: u64,
    /// Datagrams of processes that are not to be heard; the same.
    unheard: u64,
}

impl Said {
    /// A worker is gone.
    pub(super) fn forget(&mut self, child: ChildId) {
        self.access.remove(&child);
    }
}

/// All of it as data, for the next program in this process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrozenNotes {
    stored: Vec<FrozenStored>,
    said: Said,
    /// Main processes that are no children of ours: worker, pid, pidfd.
    mains: Vec<(ChildId, i32, RawFd)>,
}

impl Linux {
    /// As data; the descriptors' numbers are put into `fds`.
    pub(super) fn freeze_notes(&self, fds: &mut Vec<RawFd>) -> FrozenNotes {
        let mains = self.sources.mains().map(|(child, watch)| (child, watch.pid(), watch.as_raw_fd()));
        let mains: Vec<_> = mains.collect();
        fds.extend(mains.iter().map(|(_, _, fd)| *fd));
        FrozenNotes { stored: self.stores.freeze(fds), said: self.said.clone(), mains }
    }

    /// In the next program; `old` is the plan that ran before.
    pub(super) fn thaw_notes(
        &mut self,
        frozen: FrozenNotes,
        (old, change): (&Plan, &Change),
        claim: &mut dyn FnMut(RawFd) -> OwnedFd,
    ) -> io::Result<()> {
        let gone = self.stores.thaw(frozen.stored, change, &self.plan, claim);
        self.drop_above_of(old, &gone);
        self.keep_sockets_above();
        self.said = frozen.said;
        let _inside = self.runtime.enter();
        let mut mains = frozen.mains.into_iter();
        mains.try_for_each(|(child, pid, fd)| self.sources.watch_main(child, Watch::thaw(pid, claim(fd))))
    }

    /// In their order.
    pub(super) fn hear(&mut self, datagrams: Vec<Datagram>, events: &mut Vec<Event>) {
        for datagram in datagrams {
            self.hear_one(datagram, events);
        }
    }

    fn hear_one(&mut self, datagram: Datagram, events: &mut Vec<Event>) {
        let Datagram { pid, uid, note, fds } = datagram;
        if note.as_ref().is_ok_and(|note| note.barrier) {
            return self.hold_barrier(pid, fds);
        }
        let Some((child, sender)) = self.sender(pid) else {
            self.said.strangers += 1;
            return self.say_dropped(self.said.strangers, pid, "it belongs to no worker");
        };
        if !access::hears(self.access_of(child), sender) {
            self.said.unheard += 1;
            return self.say_dropped(self.said.unheard, pid, "NotifyAccess= does not allow it");
        }
        match note {
            Err(error) => self.say(Level::Warn, "note_refused", format!("process {pid} notified: {error}")),
            Ok(note) => {
                let rest = self.settle_note(child, (pid, uid), note, fds);
                if rest != Note::default() {
                    events.push(Event::Said(child, rest));
                }
            }
        }
    }

    /// Whoever it is of: its descriptor is closed when everything before it was handled.
    fn hold_barrier(&mut self, pid: i32, fds: Vec<OwnedFd>) {
        match fds.len() {
            1 => self.barriers.extend(fds),
            count => {
                let message = format!("process {pid} says BARRIER=1 with {count} descriptors, not 1: they are closed");
                self.say(Level::Warn, "barrier_refused", message);
            }
        }
    }

    /// The n-th datagram that is dropped for a reason is worth a line when n is a power of ten.
    fn say_dropped(&self, count: u64, pid: i32, why: &str) {
        let message = match count {
            1 => format!("a notification of process {pid} was dropped: {why}"),
            _ if 10_u64.pow(count.ilog10()) == count => {
                format!("{count} notifications were dropped: {why} (the last: process {pid})")
            }
            _ => return,
        };
        self.say(Level::Warn, "note_dropped", message);
    }

    /// Whose worker's process it is, and which.
    fn sender(&self, pid: i32) -> Option<(ChildId, Sender)> {
        if let Some((child, role)) = self.children.role_of(pid) {
            return Some((child, if role == Role::Main { Sender::Main } else { Sender::Step }));
        }
        let child = Judging(&self.children).worker_of_pid(pid)?;
        Some((child, Sender::Other))
    }

    fn access_of(&self, child: ChildId) -> NotifyAccess {
        let planned = || self.children.place(child).map(|(service, _)| self.plan.service(service).notify_access);
        self.said.access.get(&child).copied().or_else(planned).unwrap_or_default()
    }

    /// Takes out what is no affair of the supervisor's, and does it.
    fn settle_note(&mut self, child: ChildId, from: (i32, u32), mut note: Note, mut fds: Vec<OwnedFd>) -> Note {
        if let Some(access) = note.notify_access.take() {
            self.said.access.insert(child, access::asked(access));
        }
        let named = note.main_pid.take();
        let by_fd = std::mem::take(&mut note.main_pid_by_fd);
        if by_fd {
            match fds.pop().filter(|_| fds.is_empty()).and_then(|fd| main_pid::pid_of(fd.as_fd())) {
                Some(main) => self.name_main(child, from, main),
                None => {
                    let message = format!("process {} says MAINPIDFD=1 without exactly one pidfd: refused", from.0);
                    self.say(Level::Warn, "mainpid_refused", message);
                }
            }
            fds.clear();
        } else if let Some(main) = named {
            self.name_main(child, from, main);
        }
        let words = std::mem::take(&mut note.store);
        if words.is_something() {
            self.store(child, from.0, &words, fds);
        }
        note
    }

    /// Another process is to be the worker's main process.
    fn name_main(&mut self, child: ChildId, (sender, uid): (i32, u32), pid: i32) {
        if self.children.role_of(pid) == Some((child, Role::Main)) {
            return;
        }
        let named = Named {
            pid,
            own: std::process::id().cast_signed(),
            lives: proc::lives(pid),
            belongs: self.sender(pid).is_some_and(|(of, _)| of == child),
            taken: self.children.role_of(pid).is_some(),
            said_by_root: uid == 0,
        };
        // Of a plain command the process group is what is signalled, and its first process leads it.
        let plain = (!self.children.is_unit(child)).then_some("only a unit's worker may have another main process");
        if let Some(why) = named.refusal().or(plain) {
            let message = format!("process {sender} says MAINPID={pid}: refused, {why}");
            return self.say(Level::Warn, "mainpid_refused", message);
        }
        self.sources.leave_main(child);
        if !main_pid::is_child(pid) {
            let _inside = self.runtime.enter();
            let watched = Watch::new(pid).ok_or(io::ErrorKind::NotFound.into());
            if let Err(error) = watched.and_then(|watch| self.sources.watch_main(child, watch)) {
                let message = format!("process {sender} says MAINPID={pid}: it cannot be watched: {error}");
                return self.say(Level::Warn, "mainpid_refused", message);
            }
        }
        self.children.set_main(child, pid);
    }

    /// Main processes that are no children of ours and ended. One that became our child meanwhile is reaped.
    pub(super) fn mains_ended(&mut self, ended: &[(ChildId, i32)], events: &mut Vec<Event>) {
        for (child, pid) in ended {
            if !main_pid::is_child(*pid)
                && let Some(exit) = self.children.end_unseen(*child, *pid)
            {
                events.push(super::noticed::ended(exit, false));
            }
        }
    }

    /// FDSTORE=1 and FDSTOREREMOVE=1.
    fn store(&mut self, child: ChildId, sender: i32, words: &StoreWords, fds: Vec<OwnedFd>) {
        let Some((service, slot)) = self.children.place(child) else { return };
        if words.remove {
            match &words.name {
                Some(name) => {
                    let gone = self.stores.remove(service, slot, name);
                    self.drop_above(&gone);
                }
                None => {
                    let message = format!("process {sender} says FDSTOREREMOVE=1 without a name: refused");
                    self.say(Level::Warn, "store_refused", message);
                }
            }
            return;
        }
        let spec = self.plan.service(service);
        let (most, above) = (spec.fd_store_max, spec.fd_store_preserve != Preserve::No);
        let (kept, remark) = self.stores.keep((service, slot), most, words, fds);
        if let Some(remark) = remark {
            let message = format!("{}, slot {slot}: {remark}", self.plan.service(service).name);
            self.say(Level::Warn, "store_refused", message);
        }
        // The oldest first: it keeps the newest first, too.
        for at in (0..kept).rev().filter(|_| above) {
            self.keep_above((service, slot), at, words.unwatched);
        }
    }

    /// The worker is about to be forgotten: what is kept for its lifetime only goes, unless another one has the slot.
    pub(super) fn drop_unpreserved(&mut self, child: ChildId) {
        let Some((service, slot)) = self.children.place(child) else { return };
        let goes = self.plan.service(service).fd_store_preserve == Preserve::No;
        if goes && !self.children.others_at((service, slot), child) {
            self.stores.drop_slot(service, slot);
        }
    }

    /// Nothing of the service runs, or is about to.
    pub(super) fn drop_stored(&mut self, service: ServiceId) {
        if self.plan.service(service).fd_store_preserve != Preserve::Yes {
            let gone = self.stores.drop_service(service);
            self.drop_above(&gone);
        }
    }
}
