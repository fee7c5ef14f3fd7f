//! A socket with the option slots: one SO_REUSEPORT socket per slot, the members of one group in the kernel, all kept
//! open here. Binds and closes members, and has a program steer what is new away from slots that are not wanted.
//!
//! The kernel counts a group's members in the order of listen(2) (bind(2) for datagrams), and moves the last one into
//! the place of one that goes. New members therefore come last and only the last ones go: slot n is member n, always.

mod program;
#[cfg(test)]
mod tests;

use super::error::{SocketError, reason};
use super::facts::Bound;
use super::options::{self, Family};
use super::{bind, sys};
use crate::plan::{SocketKind, SocketSpec};
use nix::sys::socket::{Shutdown, shutdown};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The members of a slots socket beside the first, and what is known of all.
#[derive(Debug)]
pub(super) struct Slots {
    spec: SocketSpec,
    /// Where the first is bound, with its real port.
    at: SocketAddr,
    /// How many sockets the plan has: what members are lifted above.
    sockets: usize,
    /// Slot 1 and on.
    rest: Vec<OwnedFd>,
    /// Which slots may get something new, as it was last asked for; what is not in it may not.
    wanted: Vec<bool>,
}

/// Where the first member is bound.
fn address(spec: &SocketSpec, bound: &Bound) -> Result<SocketAddr, SocketError> {
    match bound {
        Bound::V4(at) => Ok((*at).into()),
        Bound::V6(at) => Ok((*at).into()),
        _ => Err(SocketError::new(format!("cannot bind {}: slots needs tcp or udp", spec.address))),
    }
}

impl Slots {
    /// Opens the others beside the first one, which listens already, `number` in all.
    pub(super) fn open(
        spec: &SocketSpec,
        first: BorrowedFd<'_>,
        bound: &Bound,
        sockets: usize,
        number: u32,
    ) -> Result<Slots, SocketError> {
        let at = address(spec, bound)?;
        // Only now: nobody else got in between, since bind and listen were refused or done without it. A member that
        // listens later makes the group, and the first its member 0.
        sys::set_option(first, libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32.to_ne_bytes())
            .map_err(|errno| SocketError::new(format!("cannot set slots on {}: {}", spec.address, reason(errno))))?;
        let mut slots = Slots { spec: spec.clone(), at, sockets, rest: Vec::new(), wanted: Vec::new() };
        slots.grow(number as usize)?;
        slots.wanted = vec![true; slots.len()];
        slots.apply(first)?;
        Ok(slots)
    }

    /// The descriptors of slot 1 and on, and which slots are wanted: for the next program in this process.
    pub(super) fn freeze(&self) -> (Vec<i32>, Vec<bool>) {
        (self.rest.iter().map(AsRawFd::as_raw_fd).collect(), self.wanted.clone())
    }

    /// In the next program: the kernel's group and its program go on as they are.
    pub(super) fn thaw(
        spec: &SocketSpec,
        bound: &Bound,
        sockets: usize,
        rest: Vec<OwnedFd>,
        wanted: Vec<bool>,
    ) -> Result<Slots, SocketError> {
        Ok(Slots { spec: spec.clone(), at: address(spec, bound)?, sockets, rest, wanted })
    }

    /// How many members there are, the first among them.
    fn len(&self) -> usize {
        1 + self.rest.len()
    }

    /// All members but the first.
    pub(super) fn rest(&self) -> &[OwnedFd] {
        &self.rest
    }

    /// The member of that slot, `None` for the first one. Where one could not be made, slots share one.
    pub(super) fn member(&self, slot: u32) -> Option<&OwnedFd> {
        (slot as usize % self.len()).checked_sub(1).map(|index| &self.rest[index])
    }

    /// See [`super::Sockets::steer`].
    pub(super) fn steer(&mut self, first: BorrowedFd<'_>, wanted: &[bool]) -> Result<(), SocketError> {
        if wanted.len() > self.len() {
            // A new member gets its share from the moment when it listens, unless a program names the old ones only. A
            // single one is not a group yet and cannot have a program.
            if !self.rest.is_empty() {
                self.attach(first, &self.allowed(self.len()))?;
            }
            if let Err(error) = self.grow(wanted.len()) {
                self.apply(first)?;
                return Err(error);
            }
        }
        self.wanted = wanted.to_vec();
        self.apply(first)
    }

    /// See [`super::Sockets::close_slots`].
    pub(super) fn close(&mut self, first: BorrowedFd<'_>, number: u32) -> Result<(), SocketError> {
        let number = (number as usize).max(1);
        if number >= self.len() {
            return Ok(());
        }
        self.wanted.truncate(number);
        let mut allowed = self.allowed(number);
        allowed.resize(self.len(), false);
        self.attach(first, &allowed)?;
        while self.len() > number {
            let Some(last) = self.rest.pop() else { break };
            // A close leaves the socket in the group as long as any process has a copy of the descriptor, and nobody
            // would accept what it still draws. This takes it out; datagram sockets have nothing like it.
            if self.spec.kind == SocketKind::Stream {
                let _ = shutdown(last.as_raw_fd(), Shutdown::Read);
            }
        }
        self.apply(first)
    }

    /// Which of the first `slots` members may get something new: as asked for, but all where that is none.
    fn allowed(&self, slots: usize) -> Vec<bool> {
        let wanted = |slot: usize| self.wanted.get(slot).copied().unwrap_or(false);
        let any = (0..slots).any(wanted);
        (0..slots).map(|slot| !any || wanted(slot)).collect()
    }

    /// Gives the kernel the program that the group needs now, if it needs one.
    fn apply(&self, first: BorrowedFd<'_>) -> Result<(), SocketError> {
        let allowed = self.allowed(self.len());
        // The kernel spreads connections well by itself. Flows of datagrams must not move when a program comes or goes.
        let by_kernel = self.spec.kind == SocketKind::Stream && allowed.iter().all(|allowed| *allowed);
        if by_kernel || self.rest.is_empty() {
            return sys::detach_reuseport(first).map_err(|errno| self.cannot_steer(errno));
        }
        self.attach(first, &allowed)
    }

    fn attach(&self, first: BorrowedFd<'_>, allowed: &[bool]) -> Result<(), SocketError> {
        sys::attach_reuseport(first, &program::program(allowed)).map_err(|errno| self.cannot_steer(errno))
    }

    fn cannot_steer(&self, errno: nix::errno::Errno) -> SocketError {
        SocketError::new(format!(
            "cannot steer between the slots of {} ({}): {}",
            self.spec.name,
            self.at,
            reason(errno)
        ))
    }

    /// Opens members until there are so many, or none at all.
    fn grow(&mut self, members: usize) -> Result<(), SocketError> {
        let before = self.rest.len();
        let made: Result<(), SocketError> = (self.len()..members).try_for_each(|_| {
            self.rest.push(self.one_more()?);
            Ok(())
        });
        if made.is_err() {
            // From the last to the first: the others keep their places.
            while self.rest.len() > before {
                self.rest.pop();
            }
        }
        made
    }

    /// A socket like the first one, at the same address. What the kernel remarks was remarked for the first.
    fn one_more(&self) -> Result<OwnedFd, SocketError> {
        let (spec, mut unsaid) = (&self.spec, Vec::new());
        let what = format!("{} ({})", spec.name, self.at);
        let fd = bind::inet_again(spec, self.at, &mut unsaid)?;
        options::set_blocking(fd.as_fd(), spec.options.nonblock)
            .map_err(|errno| SocketError::new(format!("cannot set o_nonblock on {what}: {}", reason(errno))))?;
        let fd = bind::lift(fd, self.sockets)?;
        let family = if self.at.is_ipv6() { Family::V6 } else { Family::V4 };
        options::apply(
            fd.as_fd(),
            &options::after_listen(&spec.options, family),
            spec.options.lenient,
            &what,
            &mut unsaid,
        )?;
        if spec.kind == SocketKind::Stream {
            options::listen(&fd, &spec.options, &what, &mut unsaid)?;
        }
        Ok(fd)
    }
}
