//! The signals of prebind while another program stands in for it on the way to the next one.

#![allow(unsafe_code)]

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

/// Blocked signals wait for the next program. A shell in between may unblock them (dash does): then none may kill it in
/// prebind's place. Ignoring a signal throws away what waits already, so that is sent again. Returns what stood before.
pub(super) fn ignore_signals() -> Vec<(Signal, SigAction)> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    let ignored = |signal: &Signal| {
        let waits = is_pending(*signal);
        // SAFETY: ignoring a signal is a valid action and runs no code.
        let before = unsafe { sigaction(*signal, &ignore) }.ok()?;
        if waits {
            let _ = raise(*signal);
        }
        Some((*signal, before))
    };
    IGNORED.iter().filter_map(ignored).collect()
}

fn is_pending(signal: Signal) -> bool {
    let mut pending = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigpending fills the set, which is read only if it did.
    unsafe {
        libc::sigpending(pending.as_mut_ptr()) == 0 && libc::sigismember(pending.as_ptr(), signal as libc::c_int) == 1
    }
}

pub(super) fn restore_signals(kept: &[(Signal, SigAction)]) {
    for (signal, action) in kept {
        // SAFETY: the action stood before, and its handler is still there.
        let _ = unsafe { sigaction(*signal, action) };
    }
}

/// Everything that prebind handles, but for the ends of its children.
const IGNORED: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];
