//! The open sockets as data, for the program that replaces this one in the same process: descriptors keep their numbers.

use super::facts::{self, Bound};
use super::keeper::Keeper;
use super::slots::Slots;
use super::{Inherited, Open, Sockets};
use crate::plan::{Origin, Plan, SocketKind, SocketSpec};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

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
    name: String,
    named: bool,
    /// It came with LISTEN_FDS, and no `-b` asked for it.
    from_environment: bool,
    inherited: bool,
    kind: SocketKind,
    fd: i32,
    path: Option<PathBuf>,
    /// Of slot 1 and on, and which slots are wanted.
    slots: Option<(Vec<i32>, Vec<bool>)>,
}

impl Sockets {
    /// As data. The descriptors' numbers are put into `fds`: they must be open in the next program.
    pub fn freeze(&self, plan: &Plan, fds: &mut Vec<i32>) -> FrozenSockets {
        let freeze = |(spec, open): (&SocketSpec, &Open)| {
            fds.extend(open.members().map(|fd| fd.as_raw_fd()));
            FrozenSocket {
                name: spec.name.clone(),
                named: spec.named,
                from_environment: matches!(spec.origin, Origin::Environment(_)),
                inherited: open.facts.inherited,
                kind: spec.kind,
                fd: open.fd.as_raw_fd(),
                path: open.facts.path.clone(),
                slots: open.slots.as_ref().map(Slots::freeze),
            }
        };
        FrozenSockets { open: plan.sockets.iter().zip(&self.open).map(freeze).collect(), nodes: self.keeper.freeze() }
    }

    /// In the next program. `claim` takes a descriptor over by its number.
    pub fn thaw(plan: &Plan, frozen: FrozenSockets, claim: &mut dyn FnMut(i32) -> OwnedFd) -> Result<Sockets, String> {
        let mut open = Vec::new();
        for (spec, one) in plan.sockets.iter().zip(frozen.open) {
            let fd = claim(one.fd);
            let mut found = facts::describe(fd.as_fd()).map_err(|error| format!("{}: {error}", one.name))?;
            match (&mut found.bound, one.path) {
                (Bound::Path(path), Some(known)) => *path = known,
                (Bound::Fifo(path), Some(known)) => *path = Some(known),
                _ => {}
            }
            let rest = one.slots.map(|(rest, wanted)| (rest.into_iter().map(&mut *claim).collect(), wanted));
            let slots = rest.map(|(rest, wanted)| Slots::thaw(spec, &found.bound, plan.sockets.len(), rest, wanted));
            let slots = slots.transpose().map_err(|error| error.to_string())?;
            open.push(Open { fd, facts: found.facts(&one.name, one.inherited), slots });
        }
        Ok(Sockets { open, keeper: Keeper::thaw(frozen.nodes) })
    }
}

impl FrozenSockets {
    /// The plan as it is read now has the same sockets; those that came with LISTEN_FDS are put into it.
    pub fn fit(&self, plan: &mut Plan) -> Result<(), String> {
        if plan.sockets.is_empty() && self.open.iter().all(|one| one.from_environment) {
            for one in &self.open {
                plan.sockets.push(Inherited::spec(one.named.then(|| one.name.clone()), &one.name, one.kind, one.fd));
            }
        }
        let names = |names: Vec<&str>| names.join(", ");
        let found = names(self.open.iter().map(|one| one.name.as_str()).collect());
        let planned = names(plan.sockets.iter().map(|spec| spec.name.as_str()).collect());
        if found == planned { Ok(()) } else { Err(format!("the sockets are {planned}, not {found}")) }
    }
}
