//! address -> bound descriptor: adopts what was inherited, else binds. The sole owner of the sockets' descriptors.
//! Receives a checked Plan; hands out borrowed descriptors and facts. It never decides when.
//!
//! `bind`, `unix`, `special` and `mqueue` make new ones, `adopt` and `inherit` take open ones, `options` is what both then
//! get; `owner` and `links` are what paths get and `keeper` guards them, `slots` has one socket per slot, `connection` and
//! `flush` take what waits, `facts` and `queue` ask the kernel, `holder` tells who is in the way.

mod adopt;
mod bind;
mod connection;
mod error;
mod established;
mod facts;
mod flush;
mod freeze;
mod holder;
mod inherit;
mod keeper;
mod links;
mod mqueue;
mod options;
mod owner;
mod queue;
mod slots;
mod special;
mod sys;
#[cfg(test)]
mod taking_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unit_tests;
mod unix;

pub use connection::{Connection, Source};
pub use error::SocketError;
pub use established::established;
pub use facts::SocketFacts;
pub use freeze::{Added, FrozenSockets};
pub use inherit::{Assigned, Inherited};

use crate::plan::{Address, Plan, SocketId, SocketKind, SocketSpec, StartWhen};
use facts::{Bound, Description};
use keeper::{Keeper, OwnNode};
use links::OwnLink;
use mqueue::OwnQueue;
use nix::fcntl::{FcntlArg, fcntl};
use options::{Family, Setting};
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
    /// What connections from it get as well: not all of it is inherited from a listening socket.
    settings: Vec<Setting>,
    links: Vec<OwnLink>,
    queue: Option<OwnQueue>,
}

impl Open {
    /// All its descriptors, the first one first.
    fn members(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let rest = self.slots.iter().flat_map(|slots| slots.rest());
        std::iter::once(&self.fd).chain(rest).map(AsFd::as_fd)
    }

    /// It is there to stay: from now on its links and its queue go at the end as was asked for, not when it is dropped
    /// because something else failed. Nothing of what was inherited is ours to remove.
    fn settle(&mut self, spec: &SocketSpec) {
        let stays = spec.options.keep_path || self.facts.inherited;
        self.links.iter_mut().for_each(|link| link.settle(stays));
        self.queue.iter_mut().for_each(|queue| queue.settle(stays));
    }
}

/// Whether the node at that path stays when prebind ends.
fn stays(plan: &Plan, path: &std::path::Path) -> bool {
    let at = |spec: &SocketSpec| match &spec.address {
        Address::Unix(one) => one == path || std::path::absolute(one).is_ok_and(|one| one == path),
        _ => false,
    };
    plan.sockets.iter().any(|spec| spec.options.keep_path && at(spec))
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
            open.iter_mut().zip(specs).for_each(|(one, spec): (&mut Open, _)| one.settle(spec));
            let keeper = Keeper::new(made.nodes, &|path| stays(plan, path), &mut made.remarks);
            return Ok((Sockets { open, keeper }, made.remarks));
        }
        drop((open, made.nodes));
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

    /// Closes it for good: clients are refused from now on. Its place stays, with /dev/null in it; its path stays too.
    pub fn shut(&mut self, id: SocketId) {
        let null = std::fs::File::open("/dev/null").map(OwnedFd::from);
        // Without a descriptor to spare it stays as it is: nobody accepts on it any more.
        if let Ok(null) = null {
            let one = &mut self.open[usize::from(id.0)];
            (one.fd, one.slots) = (null, None);
        }
    }

    /// What to wait on: its descriptor, with slots each slot's.
    pub fn poll_fds(&self, id: SocketId) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.one(id).members()
    }

    /// Accepts one waiting connection, without blocking; `None`: nothing waits any more. `number` is the first part of
    /// its instance's name. An error (too many open files) leaves the connection where it waits.
    pub fn accept(&self, id: SocketId, number: u64) -> Result<Option<Connection>, SocketError> {
        let one = self.one(id);
        let accepted = connection::accept(one.members(), number);
        let cannot = |errno| {
            let (name, address) = (&one.facts.name, &one.facts.address);
            SocketError::new(format!("cannot accept a connection on {name} ({address}): {}", error::reason(errno)))
        };
        let accepted = accepted.map_err(cannot)?;
        if let Some(connection) = &accepted {
            // What is refused was refused, and said, when the socket was opened.
            let _ = options::apply(connection.fd.as_fd(), &one.settings, true, "", &mut Vec::new());
        }
        Ok(accepted)
    }

    /// Throws away what waits: connections are accepted and closed, datagrams, messages and bytes are read. It never
    /// blocks, and ends after some thousands where more keeps coming.
    pub fn flush(&self, id: SocketId) {
        self.one(id).members().for_each(flush::flush);
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
    let (spec, sockets) = (&effective(plan, id), plan.sockets.len());
    let inherited = given.is_some();
    let (fd, mut found, queue) = match given {
        Some(_) if spec.options.slots => {
            let why = "an open socket cannot be made into one per slot (leave slots out, or do not pass the socket in)";
            return Err(SocketError::new(format!("cannot adopt {} ({}): {why}", spec.address, spec.name)));
        }
        Some(fd) => {
            let found = adopt::adopt(spec, &fd, &mut made.remarks)?;
            (fd, found, None)
        }
        None => bound(spec, made)?,
    };
    let what = format!("{} ({})", spec.name, found.address());
    let failed =
        |option: &str, errno| SocketError::new(format!("cannot set {option} on {what}: {}", error::reason(errno)));
    if let (SocketKind::Fifo, Some(bytes)) = (found.kind, spec.options.pipe_size_bytes) {
        let size = i32::try_from(bytes).unwrap_or(i32::MAX);
        match fcntl(&fd, FcntlArg::F_SETPIPE_SZ(size)).map_err(|errno| failed("pipe size", errno)) {
            Err(error) if spec.options.lenient => made.remarks.push(error.message),
            result => drop(result?),
        }
    }
    options::set_blocking(fd.as_fd(), spec.options.nonblock).map_err(|errno| failed("o_nonblock", errno))?;
    let fd = bind::lift(fd, sockets)?;
    let slots = spec.options.slots.then(|| Slots::open(spec, fd.as_fd(), &found.bound, sockets, slots_of(plan, id)));
    let slots = slots.transpose()?;
    // A relative path means nothing to a worker with another working directory.
    if let (false, Bound::Path(path)) = (inherited, &mut found.bound) {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
    let settings = options::after_listen(&spec.options, Family::of(found.domain));
    let target = found.bound.path();
    let links = links::make(target, &spec.options, &what, &mut made.directories, &mut made.remarks);
    let facts = found.facts(&spec.name, inherited);
    Ok(Open { fd, facts, slots, settings, links, queue })
}

/// The socket with O_NONBLOCK where no worker gets it but prebind accepts from it: a client that goes away between poll
/// and accept must not hold us.
fn effective(plan: &Plan, id: SocketId) -> SocketSpec {
    let mut spec = plan.socket(id).clone();
    spec.options.nonblock |= only_for_connections(plan, id);
    spec
}

/// Whether there are services that get it, and each of them gets connections from it only.
fn only_for_connections(plan: &Plan, id: SocketId) -> bool {
    let mut users = plan.services.iter().filter(|service| service.sockets.contains(&id)).peekable();
    users.peek().is_some() && users.all(|service| matches!(service.start, StartWhen::PerConnection { .. }))
}

/// How many workers the service wants that gets this socket.
fn slots_of(plan: &Plan, id: SocketId) -> u32 {
    let service = plan.services.iter().find(|service| service.sockets.contains(&id));
    service.map_or(1, |service| service.number.get())
}

/// A new socket, bound and listening. A node that it made is ours from then on, also when a later step fails.
fn bound(spec: &SocketSpec, made: &mut Made) -> Result<(OwnedFd, Description, Option<OwnQueue>), SocketError> {
    let mut queue = None;
    let fd = match &spec.address {
        Address::Inet { host, port } => bind::inet(spec, host, *port, &mut made.remarks)?,
        Address::Unix(path) if spec.kind == SocketKind::Special => special::open_at(path, spec.options.writable)?,
        Address::Unix(path) if spec.kind == SocketKind::Fifo => {
            let (fd, node) = unix::fifo(path, &spec.options, &mut made.directories)?;
            made.nodes.extend(node);
            fd
        }
        Address::Unix(path) => {
            let (fd, node) = unix::bind(path, spec.kind, &spec.options, &mut made.directories, &mut made.remarks)?;
            made.nodes.push(node);
            fd
        }
        Address::Abstract(name) => bind::abstract_name(spec, name, &mut made.remarks)?,
        Address::Vsock { cid, port } => bind::vsock(spec, *cid, *port, &mut made.remarks)?,
        Address::Netlink { family, groups } => bind::netlink(spec, *family, *groups, &mut made.remarks)?,
        Address::MessageQueue(name) => {
            let (fd, own) = mqueue::open(name, &spec.options, &mut made.remarks)?;
            queue = own;
            fd
        }
        Address::Fd(number) => return Err(SocketError::new(format!("cannot adopt fd:{number}: it is not open"))),
    };
    let mut found = facts::describe(fd.as_fd())?;
    // The kernel has other names for some: /proc/self/mounts is /proc/PID/mounts.
    if let (Address::Unix(path), Bound::Special(_)) = (&spec.address, &found.bound) {
        found.bound.call(path.clone());
    }
    let what = format!("{} ({})", spec.name, spec.address);
    if found.accepts() {
        options::listen(&fd, &spec.options, &what, &mut made.remarks)?;
    }
    adopt::set_late(spec, &fd, &found, &what, &mut made.remarks)?;
    Ok((fd, found, queue))
}
