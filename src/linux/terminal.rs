//! The terminal's foreground: with one worker on a terminal, the worker is its foreground process group, as if it had
//! been started without prebind.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::{getpgrp, isatty, tcgetpgrp, tcsetpgrp};
use std::io::stdin;

/// Standard input, when it is a terminal and prebind is in its foreground.
#[derive(Debug)]
pub(super) struct Terminal(());

impl Terminal {
    pub(super) fn of_stdin() -> Option<Terminal> {
        let ours = isatty(stdin()).unwrap_or(false) && tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp());
        ours.then_some(Terminal(()))
    }

    /// The program before this one had it.
    pub(super) fn taken_over() -> Terminal {
        Terminal(())
    }

    /// Whether the process group `pgid` is in the foreground.
    pub(super) fn has(&self, pgid: i32) -> bool {
        tcgetpgrp(stdin()).is_ok_and(|group| group.as_raw() == pgid)
    }

    /// Takes the foreground back. A background process that does so is stopped by TTOU unless that is blocked.
    pub(super) fn take_back(&self) {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTTOU);
        let mut before = SigSet::empty();
        if pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut before)).is_ok() {
            let _ = tcsetpgrp(stdin(), getpgrp());
            let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        }
    }
}
