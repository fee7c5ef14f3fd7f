//! Descriptors that workers left in prebind's care (FDSTORE=1), for each slot of each service: the next worker there gets
//! them. One epoll set, itself one descriptor in the runtime, tells whose other end was closed: those are dropped.

#![allow(unsafe_code)]

use crate::notify::StoreWords;
use crate::plan::{Change, Plan, ServiceId};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::stat::{SFlag, fstat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// KCMP_FILE of kcmp(2): whether two descriptors are the same open file.
const KCMP_FILE: libc::c_int = 0;
/// Ends that are told at once.
const EVENTS: usize = 16;

/// Everything that is kept.
#[derive(Debug)]
pub(super) struct Stores {
    epoll: Epoll,
    slots: BTreeMap<(ServiceId, u32), Slot>,
    /// The mark of the next descriptor in the epoll set.
    next: u64,
}

/// What one slot's worker gets, the newest first.
#[derive(Debug, Default)]
struct Slot {
    fds: Vec<(String, OwnedFd)>,
    /// Of each in `fds`.
    marks: Vec<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    number: u64,
    /// FDPOLL=0: it stays when its other end is closed.
    unwatched: bool,
}

/// What a slot keeps under one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    pub(super) service: ServiceId,
    pub(super) slot: u32,
    pub(super) name: String,
    pub(super) unwatched: bool,
}

/// One descriptor as data, for the next program in this process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrozenStored {
    service: ServiceId,
    slot: u32,
    name: String,
    unwatched: bool,
    fd: RawFd,
}

impl Stores {
    pub(super) fn new() -> Result<Stores, Errno> {
        Ok(Stores { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, slots: BTreeMap::new(), next: 0 })
    }

    /// Keeps descriptors, the last one first. What the slot has already is closed, what is more than `most` as well; that
    /// is said in a line. Returns how many it kept: they are the first of [`Stores::of`].
    pub(super) fn keep(
        &mut self,
        place: (ServiceId, u32),
        most: u32,
        words: &StoreWords,
        fds: Vec<OwnedFd>,
    ) -> (usize, Option<String>) {
        let (mut kept, mut refused) = (0, 0);
        for fd in fds {
            let slot = self.slots.entry(place).or_default();
            if slot.fds.iter().any(|(_, known)| is_same(known.as_fd(), fd.as_fd())) {
                continue;
            }
            if slot.fds.len() >= most as usize {
                refused += 1;
                continue;
            }
            let name = words.name.clone().unwrap_or_else(|| StoreWords::NAME.into());
            self.insert(0, place, name, words.unwatched, fd);
            kept += 1;
        }
        self.slots.retain(|_, slot| !slot.fds.is_empty());
        let limit = match most {
            0 => "none may be kept (FileDescriptorStoreMax=)".to_string(),
            most => format!("{most} is the most (FileDescriptorStoreMax=)"),
        };
        (kept, (refused > 0).then(|| format!("{refused} of its descriptors closed, not kept: {limit}")))
    }

    /// One that the manager above kept for us, or the program before: the oldest so far.
    pub(super) fn restore(&mut self, label: Label, fd: OwnedFd) {
        let Label { service, slot, name, unwatched } = label;
        let place = (service, slot);
        let at = self.slots.get(&place).map_or(0, |slot| slot.fds.len());
        self.insert(at, place, name, unwatched, fd);
    }

    fn insert(&mut self, at: usize, place: (ServiceId, u32), name: String, unwatched: bool, fd: OwnedFd) {
        let number = self.next;
        self.next += 1;
        if !unwatched {
            // Of its own accord epoll tells of ends and of errors. What cannot be polled (a file) has none.
            let _ = self.epoll.add(&fd, EpollEvent::new(EpollFlags::empty(), number));
        }
        let slot = self.slots.entry(place).or_default();
        slot.fds.insert(at, (name, fd));
        slot.marks.insert(at, Mark { number, unwatched });
    }

    /// What the worker of that slot gets.
    pub(super) fn of(&self, service: ServiceId, slot: u32) -> &[(String, OwnedFd)] {
        self.slots.get(&(service, slot)).map_or(&[], |slot| &slot.fds)
    }

    /// Drops what the slot has under that name.
    pub(super) fn remove(&mut self, service: ServiceId, slot: u32, name: &str) -> Vec<Label> {
        self.drop_where(|label, _| label.service == service && label.slot == slot && label.name == name)
    }

    /// Drops what one slot has.
    pub(super) fn drop_slot(&mut self, service: ServiceId, slot: u32) -> Vec<Label> {
        self.drop_where(|label, _| label.service == service && label.slot == slot)
    }

    /// Drops what the slots from that number on have.
    pub(super) fn drop_slots_from(&mut self, service: ServiceId, number: u32) -> Vec<Label> {
        self.drop_where(|label, _| label.service == service && label.slot >= number)
    }

    /// Drops all that the service has.
    pub(super) fn drop_service(&mut self, service: ServiceId) -> Vec<Label> {
        self.drop_slots_from(service, 0)
    }

    /// To be called when the set is readable: drops what ended. Returns how many.
    pub(super) fn drop_ended(&mut self) -> usize {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut dropped = 0;
        loop {
            let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            let ended: Vec<u64> = events[..count].iter().map(EpollEvent::data).collect();
            let before = dropped;
            self.drop_where(|_, number| {
                let is_one = ended.contains(&number);
                dropped += usize::from(is_one);
                is_one
            });
            if dropped == before {
                return dropped;
            }
        }
    }

    /// The names under which something was dropped, each once.
    fn drop_where(&mut self, mut goes: impl FnMut(&Label, u64) -> bool) -> Vec<Label> {
        let mut labels = Vec::new();
        for ((service, place), slot) in &mut self.slots {
            for at in (0..slot.fds.len()).rev() {
                let (name, Mark { number, unwatched }) = (slot.fds[at].0.clone(), slot.marks[at]);
                let label = Label { service: *service, slot: *place, name, unwatched };
                if goes(&label, number) {
                    let (_, fd) = slot.fds.remove(at);
                    slot.marks.remove(at);
                    // Others may have the open file, too: closing our descriptor does not take it out of the set.
                    let _ = self.epoll.delete(&fd);
                    labels.push(label);
                }
            }
        }
        self.slots.retain(|_, slot| !slot.fds.is_empty());
        labels.sort();
        labels.dedup();
        labels
    }

    /// As data, each slot's newest first; the descriptors' numbers are put into `fds`.
    pub(super) fn freeze(&self, fds: &mut Vec<RawFd>) -> Vec<FrozenStored> {
        let mut frozen = Vec::new();
        for ((service, number), slot) in &self.slots {
            for ((name, fd), mark) in slot.fds.iter().zip(&slot.marks) {
                let (service, fd) = (*service, fd.as_raw_fd());
                fds.push(fd);
                frozen.push(FrozenStored { service, slot: *number, name: name.clone(), unwatched: mark.unwatched, fd });
            }
        }
        frozen
    }

    /// In the next program. What belongs to a service that keeps nothing any more is closed; its names are returned, in
    /// the old plan's numbers.
    pub(super) fn thaw(
        &mut self,
        frozen: Vec<FrozenStored>,
        change: &Change,
        plan: &Plan,
        claim: &mut dyn FnMut(RawFd) -> OwnedFd,
    ) -> Vec<Label> {
        let mut gone = Vec::new();
        for FrozenStored { service, slot, name, unwatched, fd } in frozen {
            let fd = claim(fd);
            let label = Label { service, slot, name, unwatched };
            let heir = change.services.get(usize::from(service.0)).copied().flatten();
            match heir.filter(|heir| plan.service(*heir).fd_store_max > 0) {
                Some(service) => self.restore(Label { service, ..label }, fd),
                None => gone.push(label),
            }
        }
        gone
    }
}

impl AsFd for Stores {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// Whether two descriptors are the same open file. Where the kernel does not tell, two sockets or files are when they are
/// the same node and opened alike.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let own = std::process::id();
    // SAFETY: a plain system call on two open descriptors of this process.
    let compared = unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd()) };
    if compared < 0 { is_same_node(one, other) } else { compared == 0 }
}

fn is_same_node(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let (Ok(a), Ok(b)) = (fstat(one), fstat(other)) else { return false };
    let kind = SFlag::from_bits_truncate(a.st_mode & SFlag::S_IFMT.bits());
    let flags = |fd: BorrowedFd<'_>| fcntl(fd, FcntlArg::F_GETFL);
    // Other kinds (eventfd, timerfd, pidfd) share one node.
    matches!(kind, SFlag::S_IFSOCK | SFlag::S_IFREG)
        && (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        && flags(one) == flags(other)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
