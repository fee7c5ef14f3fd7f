//! address -> bound descriptor: adopts what was inherited, else binds. The sole owner of the sockets' descriptors.
//! Receives a checked Plan; hands out borrowed descriptors and facts. It never decides when.
//!
//! `bind` and `unix` make new ones, `adopt` and `inherit` take open ones, `options` is what both then get; `keeper`
//! guards the paths, `facts` and `queue` ask the kernel, `holder` tells who is in the way.

mod adopt;
mod bind;
mod error;
mod facts;
mod holder;
mod inherit;
mod keeper;
mod options;
mod queue;
mod sys;
#[cfg(test)]
mod tests;
mod unix;

pub use error::SocketError;
pub use facts::SocketFacts;
pub use inherit::{Assigned, Inherited};

use crate::plan::{Address, Plan, SocketId, SocketKind, SocketSpec};
use facts::{Bound, Description};
use keeper::{Keeper, OwnNode};
use nix::fcntl::{FcntlArg, fcntl};
use options::Family;
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
    open: Vec<(OwnedFd, SocketFacts)>,
    keeper: Keeper,
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
        for (spec, given) in specs.iter().zip(given) {
            if given.is_none() && matches!(spec.address, Address::Fd(_)) {
                continue; // Its error is there already.
            }
            match open_one(spec, given, specs.len(), &mut made) {
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

    /// The descriptor, close-on-exec, its number above every number that workers get.
    pub fn fd(&self, id: SocketId) -> BorrowedFd<'_> {
        self.open[usize::from(id.0)].0.as_fd()
    }

    /// What is known of it.
    pub fn facts(&self, id: SocketId) -> &SocketFacts {
        &self.open[usize::from(id.0)].1
    }

    /// Connections that wait to be accepted; `None` where the kernel does not tell.
    pub fn queue(&self, id: SocketId) -> Option<u32> {
        let facts = self.facts(id);
        match (facts.kind, facts.family) {
            ("tcp", _) => sys::tcp_waiting(self.fd(id)),
            ("unix" | "seqpacket", Some("AF_UNIX")) => queue::of_unix(facts.node.1),
            _ => None,
        }
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
fn open_one(
    spec: &SocketSpec,
    given: Option<OwnedFd>,
    sockets: usize,
    made: &mut Made,
) -> Result<(OwnedFd, SocketFacts), SocketError> {
    let inherited = given.is_some();
    let (fd, mut found) = match given {
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
    // A relative path means nothing to a worker with another working directory.
    if let (false, Bound::Path(path)) = (inherited, &mut found.bound) {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
    let facts = found.facts(&spec.name, inherited);
    Ok((fd, facts))
}

/// A new socket, bound and listening. A node that it made is ours from then on, also when a later step fails.
fn bound(spec: &SocketSpec, made: &mut Made) -> Result<(OwnedFd, Description), SocketError> {
    if spec.options.slots {
        return Err(SocketError::new(format!("cannot bind {}: slots is not supported yet", spec.address)));
    }
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
