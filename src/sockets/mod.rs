//! address -> bound descriptor: adopts what was inherited, else binds. The sole owner of the sockets' descriptors.
//! Receives a checked Plan; hands out borrowed descriptors and facts. It never decides when.

use crate::plan::{Plan, Problem, SocketId};
use std::os::fd::{BorrowedFd, OwnedFd};

/// What is known of an open socket.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketFacts {
    /// Its name.
    pub name: String,
    /// tcp, udp, unix, unixgram, seqpacket, fifo, vsock.
    pub kind: &'static str,
    /// The real address: `127.0.0.1:8080`, `[::]:8080`, `/run/web.sock`, `@web`, `vsock:2:80`.
    pub address: String,
    /// Its host, for inet sockets.
    pub host: Option<String>,
    /// Its real port.
    pub port: Option<u32>,
    /// Its path.
    pub path: Option<std::path::PathBuf>,
    /// AF_INET, AF_INET6, AF_UNIX, AF_VSOCK as einhorn's EINHORN_FD_FAMILY_n says it; None for a FIFO.
    pub family: Option<&'static str>,
    /// Whether it was passed to prebind, not bound by it.
    pub inherited: bool,
    /// Device and inode of the descriptor (fstat): what tells in /proc/PID/fd that a process holds it.
    pub node: (u64, u64),
}

/// The descriptors that prebind was given: LISTEN_FDS, checked.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Descriptor and LISTEN_FDNAMES name, in their order.
    pub fds: Vec<(OwnedFd, Option<String>)>,
}

impl Inherited {
    /// Fills an empty `plan.sockets` with all that was inherited, or matches each `-b` by name, then by address.
    /// What was inherited and not asked for is a problem.
    pub fn assign(self, plan: &mut Plan) -> (Assigned, Vec<Problem>) {
        let _ = plan;
        unimplemented!()
    }
}

/// Which inherited descriptor belongs to which socket of the plan, by position.
#[derive(Debug, Default)]
pub struct Assigned {
    /// One per socket of the plan; `None`: to be bound.
    pub fds: Vec<Option<OwnedFd>>,
}

/// A socket that could not be opened: exit 111.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SocketError {
    /// `argument 2: cannot bind 127.0.0.1:8080: address in use (pid 4711, nginx)`.
    pub message: String,
}

/// The open sockets, by [`SocketId`].
#[derive(Debug)]
pub struct Sockets {}

impl Sockets {
    /// Opens all, or none: on failure every error is listed and whatever was opened is closed and removed again.
    pub fn open(plan: &Plan, assigned: Assigned) -> Result<(Sockets, Vec<String>), Vec<SocketError>> {
        let _ = (plan, assigned);
        unimplemented!()
    }

    /// The descriptor, close-on-exec, its number above every number that workers get.
    pub fn fd(&self, id: SocketId) -> BorrowedFd<'_> {
        let _ = id;
        unimplemented!()
    }

    /// What is known of it.
    pub fn facts(&self, id: SocketId) -> &SocketFacts {
        let _ = id;
        unimplemented!()
    }

    /// Connections that wait to be accepted; `None` where the kernel does not tell.
    pub fn queue(&self, id: SocketId) -> Option<u32> {
        let _ = id;
        unimplemented!()
    }

    /// An inotify descriptor that becomes readable when one of our own unix paths may have been unlinked; `None`
    /// where there is no such path.
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        unimplemented!()
    }

    /// To be called when `watch` is readable: drains it and links every vanished path back from its spare link.
    /// Returns one line for each path that was put back, or could not be.
    pub fn restore_paths(&mut self) -> Vec<String> {
        unimplemented!()
    }
}
