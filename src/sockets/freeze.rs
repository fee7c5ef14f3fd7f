//! The open sockets as data, for the program that replaces this one in the same process: descriptors keep their numbers.

use super::facts::{self, Bound};
use super::keeper::{Keeper, OwnNode};
use super::links::{self, OwnLink};
use super::mqueue::OwnQueue;
use super::options::{self, Family};
use super::slots::Slots;
use super::{Made, Open, SocketError, Sockets, adopt, bind, effective, only_for_connections, open_one, stays, sys};
use crate::plan::{Address, Change, Plan, SocketId, SocketSpec};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// What goes from one program to the next.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FrozenSockets {
    open: Vec<FrozenSocket>,
    /// Unix paths that are ours, with device and inode, and the spare link.
    nodes: Vec<FrozenNode>,
}

pub(super) type FrozenNode = (PathBuf, (u64, u64), Option<PathBuf>);

#[derive(Debug, Serialize, Deserialize)]
struct FrozenSocket {
    inherited: bool,
    fd: i32,
    path: Option<PathBuf>,
    /// Of slot 1 and on, and which slots are wanted.
    slots: Option<(Vec<i32>, Vec<bool>)>,
}

/// Sockets that the new plan has and the old one had not, open. Dropping them closes them again.
#[derive(Debug, Default)]
pub struct Added {
    open: Vec<(SocketId, Open)>,
    nodes: Vec<OwnNode>,
    directories: Vec<PathBuf>,
    /// What the kernel did otherwise than asked.
    pub remarks: Vec<String>,
}

impl Sockets {
    /// As data. The descriptors' numbers are put into `fds`: they must be open in the next program.
    pub fn freeze(&self, fds: &mut Vec<i32>) -> FrozenSockets {
        let freeze = |open: &Open| {
            fds.extend(open.members().map(|fd| fd.as_raw_fd()));
            FrozenSocket {
                inherited: open.facts.inherited,
                fd: open.fd.as_raw_fd(),
                path: open.facts.path.clone(),
                slots: open.slots.as_ref().map(Slots::freeze),
            }
        };
        FrozenSockets { open: self.open.iter().map(freeze).collect(), nodes: self.keeper.freeze() }
    }

    /// Opens what the new plan has beside the old one's sockets, all or none. The old ones are open in this process by
    /// the numbers that `frozen` tells, and are not taken over yet.
    pub fn open_added(plan: &Plan, change: &Change, frozen: &FrozenSockets) -> Result<Added, Vec<SocketError>> {
        let (mut made, mut open, mut errors) = (Made::default(), Vec::new(), Vec::new());
        let mut asked = plan.clone();
        for (id, spec) in (0..).map(SocketId).zip(&plan.sockets).filter(|(id, _)| !change.sockets.contains(id)) {
            // The kernel lets both stand when both have SO_REUSEPORT at the moment when the new one is bound and
            // listens. Neither keeps it, so that no stranger joins in.
            let beside = beside(plan, change, frozen, spec);
            asked.sockets[usize::from(id.0)].options.reuse_port |= !beside.is_empty();
            beside.iter().for_each(|number| sys::set_reuseport(*number, true));
            match open_one(&asked, id, None, &mut made) {
                Ok(one) if !beside.is_empty() && !spec.options.reuse_port => {
                    sys::set_reuseport(one.fd.as_raw_fd(), false);
                    open.push((id, one));
                }
                Ok(one) => open.push((id, one)),
                Err(error) => errors.push(error.at(&spec.origin)),
            }
            beside.iter().for_each(|number| sys::set_reuseport(*number, false));
        }
        let Made { nodes, directories, remarks } = made;
        let added = Added { open, nodes, directories, remarks };
        if errors.is_empty() {
            return Ok(added);
        }
        added.undo();
        Err(errors)
    }

    /// In the next program. `claim` takes a descriptor over by its number. Options of the plan that an open socket
    /// cannot get any more are put into the remarks.
    pub fn thaw(
        (old, plan): (&Plan, &Plan),
        change: &Change,
        frozen: FrozenSockets,
        mut added: Added,
        claim: &mut dyn FnMut(i32) -> OwnedFd,
    ) -> Result<(Sockets, Vec<String>), String> {
        let mut remarks = std::mem::take(&mut added.remarks);
        let mut open = std::mem::take(&mut added.open);
        for (((was, before), one), id) in (0..).map(SocketId).zip(&old.sockets).zip(frozen.open).zip(&change.sockets) {
            let spec = &effective(plan, *id);
            let mut one = go_on(spec, plan.sockets.len(), one, claim)?;
            if plan.socket(*id).options != before.options {
                adopt::adopt(spec, &one.fd, &mut remarks).map_err(|error| error.to_string())?;
            }
            if only_for_connections(old, was) && !spec.options.nonblock {
                // No worker has had it: it can be what workers expect.
                let _ = options::set_blocking(one.fd.as_fd(), false);
            }
            one.links = links_again(before, spec, &one, &mut remarks);
            open.push((*id, one));
        }
        open.sort_by_key(|(id, _)| *id);
        open.iter_mut().for_each(|(id, one)| one.settle(plan.socket(*id)));
        let open = open.into_iter().map(|(_, one)| one).collect();
        let (nodes, keep) = (std::mem::take(&mut added.nodes), |path: &Path| stays(plan, path));
        let keeper = Keeper::thaw(frozen.nodes, nodes, &keep, &mut remarks);
        Ok((Sockets { open, keeper }, remarks))
    }

    /// Closes the sockets from that one on, and removes the paths that are still ours.
    pub fn close_from(&mut self, first: SocketId) {
        for one in self.open.drain(usize::from(first.0).min(self.open.len())..) {
            if let Some(path) = &one.facts.path {
                self.keeper.let_go(path);
            }
        }
    }
}

/// One socket of the program before.
fn go_on(
    spec: &SocketSpec,
    sockets: usize,
    one: FrozenSocket,
    claim: &mut dyn FnMut(i32) -> OwnedFd,
) -> Result<Open, String> {
    let mut take = |number| bind::lift(claim(number), sockets).map_err(|error| error.to_string());
    let fd = take(one.fd)?;
    let mut found = facts::describe(fd.as_fd()).map_err(|error| format!("{}: {error}", spec.name))?;
    if let Some(known) = one.path {
        found.bound.call(known);
    }
    let slots = one.slots.map(|(rest, wanted)| {
        let rest = rest.into_iter().map(take).collect::<Result<Vec<OwnedFd>, String>>()?;
        Slots::thaw(spec, &found.bound, sockets, rest, wanted).map_err(|error| error.to_string())
    });
    let settings = options::after_listen(&spec.options, Family::of(found.domain));
    // Like a path it stays while it is not settled: nothing must go because this fails.
    let queue = match &found.bound {
        Bound::MessageQueue(Some(name)) if !one.inherited => OwnQueue::new(name, fd.as_fd(), true),
        _ => None,
    };
    let (facts, slots) = (found.facts(&spec.name, one.inherited), slots.transpose()?);
    Ok(Open { fd, facts, slots, settings, links: Vec::new(), queue })
}

/// The links that the plan asks for now; those that only the one before asked for go, unless they were to stay.
fn links_again(before: &SocketSpec, spec: &SocketSpec, one: &Open, remarks: &mut Vec<String>) -> Vec<OwnLink> {
    let target = one.facts.path.as_deref();
    if let (Some(target), false) = (target, before.options.keep_path || one.facts.inherited) {
        let gone = |link: &&PathBuf| !spec.options.symlinks.contains(link);
        for link in before.options.symlinks.iter().filter(gone) {
            OwnLink::there(link, target).settle(false);
        }
    }
    let what = format!("{} ({})", spec.name, one.facts.address);
    let mut links = links::make(target, &spec.options, &what, &mut Vec::new(), remarks);
    links.iter_mut().for_each(|link| link.settle(true));
    links
}

impl Added {
    /// As if they had never been opened.
    pub fn undo(self) {
        let Added { open, nodes, directories, .. } = self;
        drop((open, nodes));
        for directory in directories.iter().rev() {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// The old sockets whose address may overlap with the new one's (127.0.0.1:P and 0.0.0.0:P).
fn beside(plan: &Plan, change: &Change, frozen: &FrozenSockets, new: &SocketSpec) -> Vec<RawFd> {
    let Address::Inet { port, .. } = new.address else { return Vec::new() };
    let overlaps = |(one, id): &(&FrozenSocket, &SocketId)| {
        let spec = plan.socket(**id);
        let same = matches!(spec.address, Address::Inet { port: other, .. } if other == port) && port != 0;
        same && spec.kind == new.kind && spec.retired && one.slots.is_none() && !spec.options.reuse_port
    };
    frozen.open.iter().zip(&change.sockets).filter(overlaps).map(|(one, _)| one.fd).collect()
}
