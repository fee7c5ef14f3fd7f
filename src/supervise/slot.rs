//! A worker's place: who holds it, what it waits for, and how it fared lately.

use super::{ChildId, Ended, Next};
use crate::plan::{Nanos, SECOND};
use serde::{Deserialize, Serialize};

/// A slot whose worker had been ready is filled at once, unless that happened so often within [`WINDOW_NS`].
const REPLACED_MAX: usize = 5;
/// The window of [`REPLACED_MAX`]; also how long a worker must be ready for its slot's deaths to be forgotten.
const WINDOW_NS: Nanos = 10 * SECOND;
/// The longest back-off.
const BACKOFF_MAX_NS: Nanos = 30 * SECOND;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Slot {
    /// The worker that serves here or will: starting or ready.
    pub(super) holder: Option<ChildId>,
    /// In a restart: the worker that takes over when it is ready.
    pub(super) successor: Option<ChildId>,
    pub(super) pending: Pending,
    /// Whether it ever had a worker.
    pub(super) used: bool,
    /// Consecutive ends before 10 s of being ready.
    pub(super) deaths: u32,
    /// When its ready workers were replaced at once, the latest last; 0: not yet.
    replaced_at: [Nanos; REPLACED_MAX],
    pub(super) last_exit: Option<(Ended, Nanos)>,
    /// Of a unit with a start limit: when it was started lately.
    pub(super) starts: Vec<Nanos>,
    /// It was started too often.
    pub(super) limit_hit: bool,
}

/// What an empty slot waits for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Pending {
    /// Nothing: it has a holder, or is not wanted.
    #[default]
    Nothing,
    /// Its turn: as soon as fewer are starting.
    Due,
    /// Its back-off.
    Waiting { until: Nanos },
    /// Its worker is to be gone, with all that comes after it.
    Behind {
        /// Of whom.
        child: ChildId,
        /// Then it is its turn; else how the worker's life went decides.
        decided: bool,
    },
    /// Its worker ended and is not to be started again.
    Over,
}

impl Slot {
    /// A new slot, to be filled.
    pub(super) fn due() -> Slot {
        Slot { pending: Pending::Due, ..Slot::default() }
    }

    /// Whether a start more is within the limit; counts it if so.
    pub(super) fn may_start(&mut self, now: Nanos, limit: Option<(u32, Nanos)>) -> bool {
        let Some((burst, interval)) = limit else { return true };
        self.starts.retain(|at| at.saturating_add(interval) > now);
        let may = self.starts.len() < burst as usize;
        if may {
            self.starts.push(now);
        }
        may
    }

    /// What becomes of the slot now that its holder failed. `ready_ns`: how long it had been ready, if it ever was.
    pub(super) fn after_failure(&mut self, now: Nanos, ready_ns: Option<Nanos>, base_ns: Nanos) -> Next {
        if ready_ns.is_some_and(|ready| ready >= WINDOW_NS) {
            self.deaths = 0;
        }
        let oldest = self.replaced_at[0];
        if ready_ns.is_some() && (oldest == 0 || oldest + WINDOW_NS <= now) {
            self.replaced_at.rotate_left(1);
            self.replaced_at[REPLACED_MAX - 1] = now;
            self.pending = Pending::Due;
            return Next::Now;
        }
        let wait = self.back_off(base_ns);
        self.pending = Pending::Waiting { until: now + wait };
        Next::After(wait)
    }

    /// One more death: base x 1.5^deaths, at most 30 s.
    pub(super) fn back_off(&mut self, base_ns: Nanos) -> Nanos {
        if super::planted::is(super::planted::Bug::NoBackOff) {
            return 1;
        }
        self.deaths = self.deaths.saturating_add(1);
        let factor = 1.5_f64.powi(self.deaths.min(64) as i32);
        ((base_ns as f64 * factor) as Nanos).min(BACKOFF_MAX_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_and_is_capped() {
        let mut slot = Slot::default();
        let start = 100 * SECOND;
        let waits: Vec<_> = (0..12)
            .map(|_| match slot.after_failure(start, None, SECOND) {
                Next::After(wait) => wait / (SECOND / 1000),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(waits[..4], [1500, 2250, 3375, 5062]);
        assert_eq!(waits[11], 30_000);
    }

    #[test]
    fn a_ready_worker_is_replaced_at_once_but_not_for_ever() {
        let mut slot = Slot::default();
        let start = 100 * SECOND;
        for n in 0..5 {
            assert_eq!(slot.after_failure(start + n, Some(1), SECOND), Next::Now, "{n}");
        }
        assert_eq!(slot.after_failure(start + 5, Some(1), SECOND), Next::After(SECOND * 3 / 2));
        assert_eq!(slot.after_failure(start + 10 * SECOND, Some(1), SECOND), Next::Now);
    }

    #[test]
    fn ten_seconds_of_being_ready_forget_the_deaths() {
        let mut slot = Slot::default();
        let start = 100 * SECOND;
        for _ in 0..8 {
            slot.after_failure(start, None, SECOND);
        }
        assert_eq!(slot.after_failure(start, Some(10 * SECOND), SECOND), Next::Now);
        assert_eq!(slot.after_failure(start, None, SECOND), Next::After(SECOND * 3 / 2));
    }
}
