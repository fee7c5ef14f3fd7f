//! address -> bound descriptor: adopts what was inherited, else binds. The sole owner of the sockets' descriptors.
//! Receives a checked Plan; hands out borrowed descriptors and facts. It never decides when.
//!
//! `bind` and `unix` make new ones, `adopt` and `inherit` take open ones, `options` is what both then get; `keeper`
//! guards the paths, `slots` has one socket per slot, `facts` and `queue` ask the kernel, `holder` tells who is in the way.

mod adopt;
mod bind;
mod error;
mod facts;
mod freeze;
mod holder;
mod inherit;
mod keeper;
mod options;
mod queue;
mod slots;
mod sys;
#[cfg(test)]
mod tests;
mod unix;

pub use error::SocketError;
pub use facts::SocketFacts;
pub use freeze::{Added, FrozenSockets};
pub use inherit::{Assigned, Inherited};

use crate::plan::{Address, Plan, SocketId, SocketKind, SocketSpec};
use facts::{Bound, Description};
use keeper::{Keeper, OwnNode};
use nix::fcntl::{FcntlArg, fcntl};
use options::Family;
use slots::Slots;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Marks every descriptor from 3 up as close-on-exec, so that what the caller left open never reaches a worker.
/// To be called first of all.
pub fn seal() {
    sys::seal();
}

/// The open sockets, by [`SocketId`]. Dropping it closes them and removes the paths that are still ours.
#[derive(Debug)]
pub struct Sockets {
    open: Vec<Open>,
    keeper: Keeper,
}

/// One open socket.
#[derive(Debug)]
struct Open {
    /// With the option slots, slot 0's.
    fd: OwnedFd,
    facts: SocketFacts,
    /// The other slots' sockets.
    slots: Option<Slots>,
}

impl Open {
    /// All its descriptors, the first one first.
    fn members(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let rest = self.slots.iter().flat_map(|slots| slots.rest());
        std::iter::once(&self.fd).chain(rest).map(AsFd::as_fd)
    }
}

/// What opening makes beside descriptors.
#[derive(Default)]
struct Made {
    nodes: Vec<OwnNode>,
    directories: Vec<PathBuf>,
    remarks: Vec<String>,
}

impl Sockets {
    /// Opens all, or none: on failure every error is listed and whatever was opened is closed and removed again.
    /// The lines that come with the sockets say what the kernel did otherwise than asked.
    pub fn open(plan: &Plan, assigned: Assigned) -> Result<(Sockets, Vec<String>), Vec<SocketError>> {
        let specs = &plan.sockets;
        let mut given = assigned.fds;
        given.resize_with(specs.len(), || None);
        let mut errors = adopt::claim_named(specs, &mut given);
        let mut made = Made::default();
        let mut open = Vec::new();
        for ((spec, given), id) in specs.iter().zip(given).zip(0..) {
            if given.is_none() && matches!(spec.address, Address::Fd(_)) {
                continue; // Its error is there already.
            }
            match open_one(plan, SocketId(id), given, &mut made) {
                Ok(one) => open.push(one),
                Err(error) => errors.push(error.at(&spec.origin)),
            }
        }
        if errors.is_empty() {
            let keeper = Keeper::new(made.nodes, &mut made.remarks);
            return Ok((Sockets { open, keeper }, made.remarks));
        }
        drop(made.nodes);
        for directory in made.directories.iter().rev() {
            let _ = std::fs::remove_dir(directory);
        }
        Err(errors)
    }

    /// The descriptor, close-on-exec, its number above every number that workers get; with slots the first slot's.
    pub fn fd(&self, id: SocketId) -> BorrowedFd<'_> {
        self.one(id).fd.as_fd()
    }

    /// The descriptor for the worker in that slot: with the option slots the slot's own, else the one that all share.
    /// A slot for which no socket was made (see [`Sockets::steer`]) shares another slot's.
    pub fn fd_for(&self, id: SocketId, slot: u32) -> BorrowedFd<'_> {
        let one = self.one(id);
        one.slots.as_ref().and_then(|slots| slots.member(slot)).unwrap_or(&one.fd).as_fd()
    }

    /// Device and inode of [`Sockets::fd_for`]: what tells in /proc/PID/fd that a process holds it.
    pub fn node_for(&self, id: SocketId, slot: u32) -> (u64, u64) {
        facts::node(self.fd_for(id, slot)).unwrap_or(self.facts(id).node)
    }

    /// Whether each slot has a socket of its own.
    pub fn is_slots(&self, id: SocketId) -> bool {
        self.one(id).slots.is_some()
    }

    /// Says which slots of a slots socket may get new connections or datagrams: slot i where `wanted[i]`, and where no
    /// slot is wanted, all. `wanted` is as long as the highest slot that has, or shall have, a worker; missing sockets
    /// are opened, none is closed, and what is queued stays where it is. It does nothing to a socket without slots.
    /// After an error the group is as it was.
    pub fn steer(&mut self, id: SocketId, wanted: &[bool]) -> Result<(), SocketError> {
        let Open { fd, slots, .. } = &mut self.open[usize::from(id.0)];
        slots.as_mut().map_or(Ok(()), |slots| slots.steer(fd.as_fd(), wanted))
    }

    /// Closes the sockets of the slots from `number` on (the first stays); the others go on as last steered. What waits
    /// in a closed one is lost: it was to be steered around, and its worker to accept what was left. Copies of its
    /// descriptor that other processes have accept nothing any more; of a datagram socket they go on drawing their part.
    pub fn close_slots(&mut self, id: SocketId, number: u32) -> Result<(), SocketError> {
        let Open { fd, slots, .. } = &mut self.open[usize::from(id.0)];
        slots.as_mut().map_or(Ok(()), |slots| slots.close(fd.as_fd(), number))
    }

    /// What is known of it.
    pub fn facts(&self, id: SocketId) -> &SocketFacts {
        &self.one(id).facts
    }

    /// Connections that wait to be accepted, in all slots; `None` where the kernel does not tell.
    pub fn queue(&self, id: SocketId) -> Option<u32> {
        let facts = self.facts(id);
        match (facts.kind, facts.family) {
            ("tcp", _) => self.one(id).members().map(sys::tcp_waiting).sum(),
            ("unix" | "seqpacket", Some("AF_UNIX")) => queue::of_unix(facts.node.1),
            _ => None,
        }
    }

    fn one(&self, id: SocketId) -> &Open {
        &self.open[usize::from(id.0)]
    }

    /// An inotify descriptor that becomes readable when one of our own unix paths may have been unlinked; `None`
    /// where there is no such path.
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.keeper.watch()
    }

    /// To be called when `watch` is readable: drains it and links every vanished path back from its spare link.
    /// Returns one line for each path that was put back, or could not be.
    pub fn restore_paths(&mut self) -> Vec<String> {
        self.keeper.restore()
    }
}

/// One socket: adopted or bound, with its options, lifted, described.
fn open_one(plan: &Plan, id: SocketId, given: Option<OwnedFd>, made: &mut Made) -> Result<Open, SocketError> {
    let (spec, sockets) = (plan.socket(id), plan.sockets.len());
    let inherited = given.is_some();
    let (fd, mut found) = match given {
        Some(_) if spec.options.slots => {
            let why = "an open socket cannot be made into one per slot (leave slots out, or do not pass the socket in)";
            return Err(SocketError::new(format!("cannot adopt {} ({}): {why}", spec.address, spec.name)));
        }
        Some(fd) => {
            let found = adopt::adopt(spec, &fd, &mut made.remarks)?;
            (fd, found)
        }
        None => bound(spec, made)?,
    };
    let what = format!("{} ({})", spec.name, found.address());
    let failed =
        |option: &str, errno| SocketError::new(format!("cannot set {option} on {what}: {}", error::reason(errno)));
    if let (SocketKind::Fifo, Some(bytes)) = (found.kind, spec.options.pipe_size_bytes) {
        let size = i32::try_from(bytes).unwrap_or(i32::MAX);
        fcntl(&fd, FcntlArg::F_SETPIPE_SZ(size)).map_err(|errno| failed("pipe size", errno))?;
    }
    options::set_blocking(fd.as_fd(), spec.options.nonblock).map_err(|errno| failed("o_nonblock", errno))?;
    let fd = bind::lift(fd, sockets)?;
    let slots = spec.options.slots.then(|| Slots::open(spec, fd.as_fd(), &found.bound, sockets, slots_of(plan, id)));
    // A relative path means nothing to a worker with another working directory.
    if let (false, Bound::Path(path)) = (inherited, &mut found.bound) {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
    let facts = found.facts(&spec.name, inherited);
    Ok(Open { fd, facts, slots: slots.transpose()? })
}

/// How many workers the service wants that gets this socket.
fn slots_of(plan: &Plan, id: SocketId) -> u32 {
    let service = plan.services.iter().find(|service| service.sockets.contains(&id));
    service.map_or(1, |service| service.number.get())
}

/// A new socket, bound and listening. A node that it made is ours from then on, also when a later step fails.
fn bound(spec: &SocketSpec, made: &mut Made) -> Result<(OwnedFd, Description), SocketError> {
    let fd = match &spec.address {
        Address::Inet { host, port } => bind::inet(spec, host, *port, &mut made.remarks)?,
        Address::Unix(path) if spec.kind == SocketKind::Fifo => {
            let (fd, node) = unix::fifo(path, &spec.options, &mut made.directories)?;
            made.nodes.extend(node);
            fd
        }
        Address::Unix(path) => {
            let (fd, node) = unix::bind(path, spec.kind, &spec.options, &mut made.directories)?;
            made.nodes.push(node);
            fd
        }
        Address::Abstract(name) => bind::abstract_name(spec, name)?,
        Address::Vsock { cid, port } => bind::vsock(spec, *cid, *port)?,
        Address::Netlink { .. } | Address::MessageQueue(_) => {
            return Err(SocketError::new(format!("cannot bind {}: not of this kind yet", spec.address)));
        }
        Address::Fd(number) => return Err(SocketError::new(format!("cannot adopt fd:{number}: it is not open"))),
    };
    let found = facts::describe(fd.as_fd())?;
    let what = format!("{} ({})", spec.name, spec.address);
    if found.accepts() {
        options::listen(&fd, spec.options.backlog, &what, &mut made.remarks)?;
    }
    let settings = options::after_listen(&spec.options, Family::of(found.domain));
    options::apply(fd.as_fd(), &settings, &what, &mut made.remarks)?;
    Ok((fd, found))
}
