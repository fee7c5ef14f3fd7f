//! Throws away what waits on a descriptor: connections, datagrams, messages, bytes. Never blocks, whatever O_NONBLOCK
//! says, and ends also where something always waits.

use super::facts::describe;
use super::{connection, sys};
use crate::plan::SocketKind;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::Mode;
use nix::unistd::read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// So much is thrown away at once; a flood goes on behind it.
const ROUNDS: usize = 4096;

/// What one try did.
type Taken = Result<(), Errno>;

/// Throws away what waits on that descriptor.
pub(super) fn flush(fd: BorrowedFd<'_>) {
    let Ok(found) = describe(fd) else { return };
    match found.kind {
        SocketKind::Stream | SocketKind::SeqPacket => repeat(|| match connection::one(fd) {
            Ok(Some(_closed)) => Ok(()),
            Ok(None) => Err(Errno::EAGAIN),
            Err(errno) if connection::is_passing(errno) => Ok(()),
            Err(errno) => Err(errno),
        }),
        // Descriptors that come along are closed by the kernel: nothing here takes them.
        SocketKind::Datagram | SocketKind::Netlink => repeat(|| {
            match recv(fd.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
                // An error that came back for a datagram of before, or an overflow, is taken by being told.
                Ok(_) | Err(Errno::ECONNREFUSED | Errno::ENOBUFS | Errno::EINTR) => Ok(()),
                Err(errno) => Err(errno),
            }
        }),
        SocketKind::MessageQueue => {
            let bytes = sys::mq_limits(fd).map_or(0, |(_, bytes)| usize::try_from(bytes).unwrap_or(0));
            let mut buffer = vec![0; bytes];
            repeat(|| sys::mq_take(fd, &mut buffer));
        }
        SocketKind::Fifo => {
            // Opened once more it is non-blocking for us alone: a reader that we share it with may be faster.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let again = open(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str(), flags, Mode::empty());
            bytes(again.as_ref().map_or(fd, AsFd::as_fd));
        }
        SocketKind::Special => bytes(fd),
    }
}

fn bytes(fd: BorrowedFd<'_>) {
    let mut buffer = [0; 4096];
    repeat(|| match sys::is_readable(fd) {
        false => Err(Errno::EAGAIN),
        true => match read(fd, &mut buffer) {
            Ok(0) => Err(Errno::EAGAIN),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        },
    });
}

/// Until nothing is left.
fn repeat(mut take: impl FnMut() -> Taken) {
    for _ in 0..ROUNDS {
        if take().is_err() {
            return;
        }
    }
}
