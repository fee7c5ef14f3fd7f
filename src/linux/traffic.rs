//! Sockets that somebody waits for traffic on: one epoll set, itself one descriptor in the runtime. Says which sockets are
//! readable; whether anybody starts for that is the supervisor's affair.

use crate::plan::{ServiceId, SocketId};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

/// Sockets in one turn: traffic on many does not keep the loop from the rest.
const EVENTS_PER_TURN: usize = 32;
/// A socket that cannot be accepted from (no descriptors are left) is left alone so long.
const PAUSE: Duration = Duration::from_millis(200);

/// Who listens on what.
#[derive(Debug)]
pub(super) struct Traffic {
    epoll: Epoll,
    /// Of each socket, the services that listen on it.
    listeners: BTreeMap<SocketId, Vec<ServiceId>>,
    /// Sockets that are left alone for a while.
    paused: BTreeMap<SocketId, Instant>,
}

impl Traffic {
    pub(super) fn new() -> Result<Traffic, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Traffic { epoll, listeners: BTreeMap::new(), paused: BTreeMap::new() })
    }

    /// A service listens on a socket from now on. The descriptors are all that the socket has.
    pub(super) fn listen<'a>(
        &mut self,
        service: ServiceId,
        socket: SocketId,
        fds: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> Result<(), Errno> {
        let listeners = self.listeners.entry(socket).or_default();
        if !listeners.contains(&service) {
            listeners.push(service);
        }
        self.watch(socket, fds)
    }

    fn watch<'a>(&self, socket: SocketId, fds: impl Iterator<Item = BorrowedFd<'a>>) -> Result<(), Errno> {
        for fd in fds {
            match self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(socket.0))) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn leave<'a>(&self, fds: impl Iterator<Item = BorrowedFd<'a>>) {
        fds.for_each(|fd| {
            // Who was not in it is not any more, too.
            let _ = self.epoll.delete(fd);
        });
    }

    /// It does not any more.
    pub(super) fn ignore<'a>(
        &mut self,
        service: ServiceId,
        socket: SocketId,
        fds: impl Iterator<Item = BorrowedFd<'a>>,
    ) {
        let Some(listeners) = self.listeners.get_mut(&socket) else { return };
        listeners.retain(|one| *one != service);
        if listeners.is_empty() {
            self.listeners.remove(&socket);
            self.paused.remove(&socket);
            self.leave(fds);
        }
    }

    /// The socket is left alone for a while: what waits on it cannot be taken now.
    pub(super) fn pause<'a>(&mut self, socket: SocketId, fds: impl Iterator<Item = BorrowedFd<'a>>) {
        self.paused.insert(socket, Instant::now() + PAUSE);
        self.leave(fds);
    }

    /// When a pause is over next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.paused.values().min().copied()
    }

    /// The sockets whose pause is over; to be watched again.
    pub(super) fn take_rested(&mut self) -> Vec<SocketId> {
        let now = Instant::now();
        let rested: Vec<SocketId> =
            self.paused.iter().filter(|(_, until)| **until <= now).map(|(socket, _)| *socket).collect();
        self.paused.retain(|socket, _| !rested.contains(socket));
        rested
    }

    pub(super) fn watch_again<'a>(&self, socket: SocketId, fds: impl Iterator<Item = BorrowedFd<'a>>) {
        if self.listeners.contains_key(&socket) {
            let _ = self.watch(socket, fds);
        }
    }

    /// Who listens on a socket.
    pub(super) fn listeners(&self, socket: SocketId) -> &[ServiceId] {
        self.listeners.get(&socket).map_or(&[], Vec::as_slice)
    }

    /// The sockets that have something now.
    pub(super) fn ready(&self) -> Vec<SocketId> {
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let mut sockets: Vec<SocketId> = events[..count].iter().map(|event| SocketId(event.data() as u16)).collect();
        sockets.dedup();
        sockets
    }
}

impl AsRawFd for Traffic {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn only_what_is_listened_on_is_told() {
        let listeners: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut traffic = Traffic::new().unwrap();
        let fd = |n: usize| std::iter::once(listeners[n].as_fd());
        let (one, other) = (ServiceId(0), ServiceId(1));
        traffic.listen(one, SocketId(0), fd(0)).unwrap();
        traffic.listen(other, SocketId(0), fd(0)).unwrap();
        traffic.listen(one, SocketId(1), fd(1)).unwrap();
        assert_eq!(traffic.ready(), []);
        let _client = TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        assert_eq!(traffic.ready(), [SocketId(0)]);
        traffic.ignore(one, SocketId(0), fd(0));
        assert_eq!(traffic.ready(), [SocketId(0)], "the other one still listens");
        traffic.pause(SocketId(0), fd(0));
        assert_eq!(traffic.ready(), []);
        assert!(traffic.next_deadline().is_some() && traffic.take_rested().is_empty());
        traffic.watch_again(SocketId(0), fd(0));
        assert_eq!((traffic.ready(), traffic.listeners(SocketId(0))), (vec![SocketId(0)], &[other][..]));
        traffic.ignore(other, SocketId(0), fd(0));
        assert_eq!(traffic.ready(), []);
        traffic.watch_again(SocketId(0), fd(0));
        assert_eq!(traffic.ready(), [], "nobody listens any more");
    }
}
