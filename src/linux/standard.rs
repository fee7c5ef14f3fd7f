//! What std's own start does before `main`, for a program that is entered without it.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::Mode;
use std::os::fd::{BorrowedFd, IntoRawFd};

/// Descriptors 0 to 2 are open, so that nothing else gets their numbers, and who does not read is an error, no death.
pub fn begin() {
    open_standard_fds();
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal is a valid action and runs no code.
    let _ = unsafe { sigaction(Signal::SIGPIPE, &ignore) };
}

fn open_standard_fds() {
    // SAFETY: only asked about; whether they are open is the question.
    let borrowed = [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    let mut asked = borrowed.each_ref().map(|fd| PollFd::new(*fd, PollFlags::empty()));
    while poll(&mut asked, PollTimeout::ZERO) == Err(Errno::EINTR) {}
    for one in &asked {
        let closed = one.revents().is_some_and(|said| said.contains(PollFlags::POLLNVAL));
        // The lowest number that is free: the ones before it are open by now.
        if closed && let Ok(null) = open("/dev/null", OFlag::O_RDWR, Mode::empty()) {
            let _ = null.into_raw_fd();
        }
    }
}
