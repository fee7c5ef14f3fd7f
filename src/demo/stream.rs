//! One accepted connection, tcp or unix, which makes no difference here. Its O_NONBLOCK is its own: accept4 made it.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A non-blocking stream socket on the runtime.
pub(super) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    /// To be called within the runtime.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Stream> {
        // SAFETY: the OwnedFd is open, and stays in the AsyncFd unreplaced until both are dropped.
        Ok(Stream(unsafe { AsyncFd::register(fd) }?))
    }

    /// Appends what comes next; 0: the client's end.
    pub(super) async fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let receive = |fd: &OwnedFd| {
            let mut bytes = [0; 2048];
            let length = recv(fd.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
            buffer.extend_from_slice(&bytes[..length]);
            Ok(length)
        };
        retry(&self.0, Interest::READABLE, receive).await
    }

    /// Writes everything.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let transmit = |fd: &OwnedFd| send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL);
            let length = retry(&self.0, Interest::WRITABLE, transmit).await?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// Tells the client that nothing more comes.
    pub(super) fn end(&self) -> io::Result<()> {
        Ok(shutdown(self.0.as_raw_fd(), Shutdown::Write)?)
    }
}

/// Waits and does; a signal (an acceptor's wake-up may land on any thread) is no reason to give up.
async fn retry<R>(
    fd: &AsyncFd<OwnedFd>,
    interest: Interest,
    mut attempt: impl FnMut(&OwnedFd) -> nix::Result<R>,
) -> io::Result<R> {
    fd.async_io(interest, |fd| {
        loop {
            match attempt(fd) {
                Err(Errno::EINTR) => {}
                done => return Ok(done?),
            }
        }
    })
    .await
}
