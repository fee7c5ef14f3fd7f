//! One worker and its states. The specification stands at the top of the room.

use super::unit::Run;
use super::{ChildId, Start, Who};
use crate::plan::{Nanos, SECOND, ServiceId, Signal};
use serde::{Deserialize, Serialize};

/// One child of a service: from the spawn until nothing is left of its process group.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) service: ServiceId,
    pub(super) slot: u32,
    pub(super) generation: u32,
    pub(super) index: u32,
    /// One of the first round: if it cannot be spawned, prebind ends.
    pub(super) initial: bool,
    pub(super) born_at: Nanos,
    pub(super) state: State,
    /// The interval of its watchdog: from the plan, or its own WATCHDOG_USEC.
    pub(super) watchdog_ns: Option<Nanos>,
    pub(super) status: Option<Box<str>>,
    /// Few are told: a box is what the others have.
    pub(super) told: Option<Box<Told>>,
    /// What a unit's worker is beside its main process.
    pub(super) run: Option<Box<Run>>,
    /// It is to be replaced then, having served long enough.
    #[serde(default)]
    pub(super) expires_at: Option<Nanos>,
    /// It was to be replaced, and waits for its turn.
    #[serde(default)]
    pub(super) overdue: bool,
}

/// What a worker was told to stop with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) signals: Vec<Signal>,
    /// When it was last.
    pub(super) at: Nanos,
}

/// Where a worker is in its life. Deadlines are fields of the states that they belong to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum State {
    /// ExecCondition= and ExecStartPre= run, one after the other.
    Preparing {
        /// The one that runs must have ended by then.
        deadline: Nanos,
    },
    Starting {
        /// Ready by time at this moment, if it then holds a socket.
        ready_at: Option<Nanos>,
        /// Stopped if not ready by then.
        deadline: Option<Nanos>,
        /// When to look whether it waits on its sockets.
        look: Option<Look>,
        /// It would have been ready by time but holds none of its sockets.
        socketless: bool,
    },
    /// It is ready, and ExecStartPost= runs.
    Posting { deadline: Nanos },
    Ready {
        since: Nanos,
        /// When WATCHDOG=1 is due.
        watchdog_at: Option<Nanos>,
    },
    /// It is to stop, and ExecStop= runs.
    Asked { deadline: Nanos },
    Stopping {
        /// What it was told; `None`: it said STOPPING=1 by itself and was told nothing yet.
        told: Option<Signal>,
        /// When it is told (or, if it was, killed); `None` once killed.
        patience_until: Option<Nanos>,
    },
    /// Its main process ended; others that it started live on.
    Lingering {
        /// They were told to stop; else they are once they are seen.
        told: bool,
        /// When they are killed; `None` once done.
        kill_at: Option<Nanos>,
        /// When to look whether they are gone.
        look_at: Nanos,
        /// How long to wait before the look after that.
        pause_ns: Nanos,
        /// When to stop looking: nothing helps against a process that even SIGKILL does not end.
        give_up_at: Option<Nanos>,
    },
    /// Nothing is left of it, and ExecStopPost= runs.
    Cleaning {
        /// Killed then; `None`: it was.
        deadline: Option<Nanos>,
    },
}

/// A worker that says nothing is looked at, less and less often.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Look {
    pub(super) at: Nanos,
    pub(super) pause_ns: Nanos,
}

impl Look {
    /// Who is ready sooner than that by its own word is never looked at.
    const FIRST_NS: Nanos = SECOND / 20;
    const PAUSE_MAX_NS: Nanos = SECOND / 2;

    pub(super) fn first(now: Nanos) -> Look {
        Look { at: now + Look::FIRST_NS, pause_ns: Look::FIRST_NS }
    }

    pub(super) fn next(self, now: Nanos) -> Look {
        let pause_ns = (self.pause_ns * 3 / 2).min(Look::PAUSE_MAX_NS);
        Look { at: now + pause_ns, pause_ns }
    }
}

impl Worker {
    pub(super) fn who(&self, child: ChildId) -> Who {
        Who { service: self.service, slot: self.slot, generation: self.generation, index: self.index, child }
    }

    pub(super) fn new(
        start: &Start,
        born_at: Nanos,
        state: State,
        watchdog_ns: Option<Nanos>,
        initial: bool,
    ) -> Worker {
        Worker {
            service: start.service,
            slot: start.slot,
            generation: start.generation,
            index: start.index,
            initial,
            born_at,
            state,
            watchdog_ns,
            status: None,
            told: None,
            run: None,
            expires_at: None,
            overdue: false,
        }
    }

    /// It is told to stop.
    pub(super) fn note_told(&mut self, now: Nanos, signal: Signal) {
        let told = self.told.get_or_insert_with(|| Box::new(Told { signals: Vec::new(), at: now }));
        if !told.signals.contains(&signal) {
            told.signals.push(signal);
        }
        told.at = now;
    }

    /// EXTEND_TIMEOUT_USEC: whatever limit its start or its stop is under moves, never nearer.
    pub(super) fn extend(&mut self, until: Nanos) {
        match &mut self.state {
            State::Starting { deadline: Some(at), .. } | State::Stopping { patience_until: Some(at), .. } => {
                *at = until.max(*at);
            }
            State::Preparing { deadline } | State::Posting { deadline } | State::Asked { deadline } => {
                *deadline = until.max(*deadline);
            }
            State::Starting { .. }
            | State::Ready { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Cleaning { .. } => {}
        }
    }

    /// The soonest moment at which this worker needs a tick.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        match self.state {
            State::Starting { ready_at, deadline, look, .. } => {
                soonest(soonest(ready_at, deadline), look.map(|look| look.at))
            }
            State::Preparing { deadline } | State::Posting { deadline } | State::Asked { deadline } => Some(deadline),
            State::Ready { watchdog_at, .. } => {
                let unit = self.run.as_ref().and_then(|run| run.ready_deadline());
                soonest(soonest(watchdog_at, unit), self.expires_at)
            }
            State::Cleaning { deadline } => deadline,
            State::Stopping { patience_until, .. } => patience_until,
            State::Lingering { kill_at, look_at, give_up_at, .. } => {
                soonest(soonest(kill_at, give_up_at), Some(look_at))
            }
        }
    }

    /// Whether its main process is alive as far as we know.
    pub(super) fn alive(&self) -> bool {
        match self.state {
            State::Preparing { .. } | State::Starting { .. } | State::Posting { .. } | State::Ready { .. } => true,
            State::Asked { .. } | State::Stopping { .. } => true,
            State::Lingering { .. } | State::Cleaning { .. } => false,
        }
    }

    /// Whether it holds a slot, or will.
    pub(super) fn runs(&self) -> bool {
        match self.state {
            State::Preparing { .. } | State::Starting { .. } | State::Posting { .. } | State::Ready { .. } => true,
            State::Asked { .. } | State::Stopping { .. } | State::Lingering { .. } | State::Cleaning { .. } => false,
        }
    }

    /// Whether there is a main process to be signalled.
    pub(super) fn has_main(&self) -> bool {
        self.alive() && self.run.as_ref().is_none_or(|run| run.main)
    }

    /// Whether it counts against `--max-unacked`: one that cannot become ready by itself does not block the others.
    pub(super) fn unacked(&self) -> bool {
        matches!(
            self.state,
            State::Preparing { .. } | State::Starting { socketless: false, .. } | State::Posting { .. }
        )
    }

    pub(super) fn ready_since(&self) -> Option<Nanos> {
        match self.state {
            State::Ready { since, .. } => Some(since),
            State::Preparing { .. } | State::Starting { .. } | State::Posting { .. } => None,
            State::Asked { .. } | State::Stopping { .. } | State::Lingering { .. } | State::Cleaning { .. } => None,
        }
    }

    /// The word of `status`.
    pub(super) fn word(&self) -> &'static str {
        match self.state {
            State::Preparing { .. } | State::Starting { .. } | State::Posting { .. } => "starting",
            State::Ready { .. } => "ready",
            State::Asked { .. } | State::Stopping { .. } | State::Lingering { .. } | State::Cleaning { .. } => {
                "stopping"
            }
        }
    }
}

/// The sooner of two deadlines.
pub(super) fn soonest(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
