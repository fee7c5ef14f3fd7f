//! Signals to prebind, through signal-hook: what each means. A kind is never lost; equal ones may merge. The handlers
//! stand from the moment this is made, so nothing that comes during the start kills prebind.

#![allow(unsafe_code)]

use crate::plan::{EntrySpec, Manner, Plan, Signal};
use crate::supervise::Told;
use nix::libc::{self, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as Unix, sigaction};
use nix::unistd::getppid;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::raw::WithRawSiginfo;
use std::collections::BTreeSet;
use std::io;
use std::mem::ManuallyDrop;
use std::task::{Context, Poll};
use tokio::net::UnixStream;

/// Signals that PID 1 passes on beside those with a meaning; the kernel keeps their default actions from it.
const PASSED: [i32; 14] = [
    libc::SIGCONT,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGURG,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGPROF,
    libc::SIGVTALRM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSTKFLT,
    libc::SIGPIPE,
    libc::SIGTRAP,
    libc::SIGABRT,
];

/// Every signal with a meaning, ALRM with none: its default action would end prebind.
const HEARD: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCHLD,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A child changed its state.
    Child,
    /// Something for the supervisor.
    Told(Told),
    /// USR1: reopen our own log files.
    Reopen,
}

#[derive(Debug)]
pub(super) struct Signals {
    /// Ends with the process: its registry copies itself for each signal that is taken back, and that takes longer than all
    /// else between TERM and the end.
    delivery: ManuallyDrop<SignalDelivery<UnixStream, WithRawSiginfo>>,
    habits: Habits,
    entry: EntrySpec,
}

/// What decides on a signal's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Habits {
    /// Started under nohup: a terminal that closes is no reason to stop.
    keeps_hup: bool,
    /// USR2 stops: under einhorn's name, or as an einhorn's worker.
    usr2_stops: bool,
    manner: Manner,
    /// What INT and USR2 send under einhorn's name.
    stop_signal: Signal,
}

impl Signals {
    /// Inside the runtime. `keeps_hup`: known from the program before.
    pub(super) fn new(keeps_hup: Option<bool>, plan: &Plan) -> io::Result<Signals> {
        let manner = plan.manner;
        let stop_signal = plan.services.first().map_or(Signal::USR2, |service| service.stop_signal);
        let keeps_hup = keeps_hup.map_or_else(hup_is_ignored, Ok)?;
        let master = std::env::var("EINHORN_MASTER_PID").ok().and_then(|pid| pid.parse().ok());
        let usr2_stops = manner == Manner::Einhorn || master == Some(getppid().as_raw());
        let habits = Habits { keeps_hup, usr2_stops, manner, stop_signal };
        let (read, write) = UnixStream::pair()?;
        let write = write.into_std()?;
        let delivery = SignalDelivery::with_pipe(read, write, WithRawSiginfo, all_heard(&plan.entry))?;
        // Whoever started us may have left signals blocked; what came meanwhile is heard now.
        SigSet::empty().thread_set_mask()?;
        Ok(Signals { delivery: ManuallyDrop::new(delivery), habits, entry: plan.entry.clone() })
    }

    pub(super) fn keeps_hup(&self) -> bool {
        self.habits.keeps_hup
    }

    /// What the handlers saw and nobody handled yet.
    pub(super) fn left(&mut self) -> Vec<Told> {
        let (habits, entry) = (self.habits, &self.entry);
        let heard = self.delivery.pending().filter_map(|info| meaning(&info, habits, entry));
        heard.filter_map(|one| if let Heard::Told(told) = one { Some(told) } else { None }).collect()
    }

    /// `Ready` only with at least one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Heard>> {
        let mut woken = false;
        let mut sink = [0_u8; 64];
        while self.delivery.get_read().poll_read_ready(cx).is_ready() {
            match self.delivery.get_read().try_read(&mut sink) {
                Ok(0) | Err(_) => {}
                Ok(_) => woken = true,
            }
        }
        if !woken {
            return Poll::Pending;
        }
        let (habits, entry) = (self.habits, &self.entry);
        let mut heard: Vec<Heard> = Vec::new();
        for info in self.delivery.pending() {
            if let Some(one) = meaning(&info, habits, entry)
                && !heard.contains(&one)
            {
                heard.push(one);
            }
        }
        if heard.is_empty() { Poll::Pending } else { Poll::Ready(heard) }
    }
}

/// What this process handles: as PID 1 everything that can be, else what has a meaning or was asked for.
fn all_heard(entry: &EntrySpec) -> BTreeSet<i32> {
    let asked = entry.rewrite.iter().map(|(from, _)| from).chain(&entry.forward).map(|signal| signal.0);
    let realtime = libc::SIGRTMIN()..=libc::SIGRTMAX();
    let as_pid1 = PASSED.into_iter().chain(realtime).filter(|_| entry.pid1);
    HEARD.into_iter().chain(asked).chain(as_pid1).collect()
}

/// What a signal means, by who sent it: the kernel sends HUP when the terminal closes, TTIN and TTOU when a
/// background process uses it.
fn meaning(info: &siginfo_t, habits: Habits, entry: &EntrySpec) -> Option<Heard> {
    let by_kernel = info.si_code > 0;
    let signal = Signal(info.si_signo);
    match (info.si_signo, entry.rewritten(signal)) {
        (libc::SIGCHLD, _) => {}
        (libc::SIGTERM | libc::SIGINT | libc::SIGQUIT, Some(Some(to))) => return Some(Heard::Told(Told::StopWith(to))),
        (_, Some(to)) => return to.map(|to| Heard::Told(Told::Forward(to))),
        (_, None) if entry.forward.contains(&signal) => return Some(Heard::Told(Told::Forward(signal))),
        (number, None) if !HEARD.contains(&number) => return Some(Heard::Told(Told::Forward(signal))),
        (_, None) => {}
    }
    let einhorn = habits.manner == Manner::Einhorn;
    match info.si_signo {
        libc::SIGCHLD => Some(Heard::Child),
        libc::SIGTERM if einhorn => Some(Heard::Told(Told::StopWith(Signal::TERM))),
        libc::SIGINT | libc::SIGUSR2 if einhorn => Some(Heard::Told(Told::StopWith(habits.stop_signal))),
        libc::SIGQUIT if einhorn => Some(Heard::Told(Told::Abandon(Signal::QUIT))),
        libc::SIGUSR2 if habits.usr2_stops => Some(Heard::Told(Told::Stop)),
        libc::SIGTERM => Some(Heard::Told(Told::Stop)),
        libc::SIGINT => Some(Heard::Told(Told::Interrupt)),
        libc::SIGQUIT => Some(Heard::Told(Told::Quit)),
        libc::SIGHUP if by_kernel => (!habits.keeps_hup).then_some(Heard::Told(Told::Stop)),
        libc::SIGHUP | libc::SIGUSR2 => Some(Heard::Told(Told::Upgrade)),
        libc::SIGTTIN if !by_kernel => Some(Heard::Told(Told::More)),
        libc::SIGTTOU if !by_kernel => Some(Heard::Told(Told::Fewer)),
        libc::SIGUSR1 => Some(Heard::Reopen),
        _ => None,
    }
}

fn hup_is_ignored() -> io::Result<bool> {
    let probe = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action and then the one that stood before are valid actions; no handler of ours runs.
    let before = unsafe { sigaction(Unix::SIGHUP, &probe) }?;
    // SAFETY: as above.
    unsafe { sigaction(Unix::SIGHUP, &before) }?;
    Ok(matches!(before.handler(), SigHandler::SigIgn))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(signo: i32, code: i32) -> siginfo_t {
        // SAFETY: all zeroes is a valid siginfo_t.
        let mut info: siginfo_t = unsafe { std::mem::zeroed() };
        (info.si_signo, info.si_code) = (signo, code);
        info
    }

    #[test]
    fn who_sent_it_decides() {
        let (user, kernel) = (0, 128);
        for (signo, code, keeps_hup, heard) in [
            (libc::SIGHUP, user, false, Some(Heard::Told(Told::Upgrade))),
            (libc::SIGHUP, kernel, false, Some(Heard::Told(Told::Stop))),
            (libc::SIGHUP, kernel, true, None),
            (libc::SIGTTIN, user, false, Some(Heard::Told(Told::More))),
            (libc::SIGTTIN, kernel, false, None),
            (libc::SIGTTOU, kernel, false, None),
            (libc::SIGALRM, user, false, None),
            (libc::SIGINT, kernel, false, Some(Heard::Told(Told::Interrupt))),
            (libc::SIGCHLD, 1, false, Some(Heard::Child)),
        ] {
            let stop_signal = Signal::USR2;
            let habits = Habits { keeps_hup, usr2_stops: false, manner: Manner::Prebind, stop_signal };
            assert_eq!(meaning(&info(signo, code), habits, &EntrySpec::default()), heard, "{signo} {code}");
        }
        for (signo, told) in [
            (libc::SIGTERM, Told::StopWith(Signal::TERM)),
            (libc::SIGINT, Told::StopWith(Signal::USR2)),
            (libc::SIGUSR2, Told::StopWith(Signal::USR2)),
            (libc::SIGQUIT, Told::Abandon(Signal::QUIT)),
            (libc::SIGHUP, Told::Upgrade),
        ] {
            let stop_signal = Signal::USR2;
            let habits = Habits { keeps_hup: false, usr2_stops: true, manner: Manner::Einhorn, stop_signal };
            assert_eq!(meaning(&info(signo, user), habits, &EntrySpec::default()), Some(Heard::Told(told)), "{signo}");
        }
    }

    #[test]
    fn what_is_rewritten_and_passed_on() {
        let entry = EntrySpec {
            pid1: true,
            rewrite: vec![(Signal::TERM, Some(Signal::QUIT)), (Signal::HUP, Some(Signal::USR1)), (Signal::USR2, None)],
            forward: vec![Signal::USR1],
            ..EntrySpec::default()
        };
        let habits = Habits { keeps_hup: false, usr2_stops: false, manner: Manner::Prebind, stop_signal: Signal::TERM };
        for (signo, heard) in [
            (libc::SIGTERM, Some(Told::StopWith(Signal::QUIT))),
            (libc::SIGHUP, Some(Told::Forward(Signal::USR1))),
            (libc::SIGUSR2, None),
            (libc::SIGUSR1, Some(Told::Forward(Signal::USR1))),
            (libc::SIGWINCH, Some(Told::Forward(Signal(libc::SIGWINCH)))),
            (libc::SIGRTMIN() + 3, Some(Told::Forward(Signal(libc::SIGRTMIN() + 3)))),
            (libc::SIGINT, Some(Told::Interrupt)),
        ] {
            assert_eq!(meaning(&info(signo, 0), habits, &entry), heard.map(Heard::Told), "{signo}");
        }
        let all = all_heard(&entry);
        assert!(all.contains(&libc::SIGWINCH) && all.contains(&libc::SIGRTMAX()) && all.len() > 50);
        assert_eq!(all_heard(&EntrySpec::default()), HEARD.into_iter().collect());
    }
}
