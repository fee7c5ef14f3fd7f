//! Workers replaced one by one: a successor starts in a slot, and the old worker is told to stop once it is ready.

use super::planted::{self, Bug};
use super::service::Service;
use super::slot::Slot;
use super::worker::{State, soonest};
use super::{Action, Answer, AskId, ChildId, Happening, Supervisor};
use crate::plan::{Nanos, ServiceId};

/// Successors that may fail before the restart halts.
const FAILURES_MAX: u32 = 3;

/// A restart under way.
#[derive(Debug)]
pub(super) struct Rollout {
    /// Workers older than this child are replaced.
    before: ChildId,
    /// Only these slots; `None`: all.
    only: Option<Vec<u32>>,
    /// Who waits for the outcome.
    asks: Vec<AskId>,
    /// The slot that has a successor.
    active: Option<u32>,
    failures: u32,
    /// Back-off after a successor that failed.
    retry_at: Option<Nanos>,
    /// How many were replaced.
    replaced: u32,
}

impl Rollout {
    fn wants(&self, number: u32, slot: &Slot) -> bool {
        slot.holder.is_some_and(|holder| holder < self.before)
            && self.only.as_ref().is_none_or(|only| only.contains(&number))
    }
}

impl Supervisor {
    /// Begins to replace the workers of service `n`, or starts over with the ones that have come since.
    pub(super) fn begin_rollout(&mut self, n: usize, slot: Option<u32>, ask: Option<AskId>, out: &mut Vec<Action>) {
        let before = ChildId(self.next_child);
        let service = &mut self.services[n];
        let rollout = service.rollout.get_or_insert_with(|| {
            out.push(Action::Report(Happening::RestartBegun(service.id)));
            Rollout {
                before,
                only: Some(Vec::new()),
                asks: Vec::new(),
                active: None,
                failures: 0,
                retry_at: None,
                replaced: 0,
            }
        });
        rollout.before = before;
        rollout.failures = 0;
        match (slot, &mut rollout.only) {
            (Some(slot), Some(only)) => only.push(slot),
            (None, only) => *only = None,
            (Some(_), None) => {}
        }
        rollout.asks.extend(ask);
    }

    /// Goes on with a restart as far as it goes now.
    pub(super) fn advance_rollout(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) {
        while self.stopping.is_none() && self.services[n].rollout.is_some() {
            if !self.promote(now, n, out) || !self.start_successor(now, n, out) {
                return;
            }
        }
    }

    /// Lets a successor that has been ready long enough take the slot over. False: it is not so far.
    fn promote(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) -> bool {
        let service = &self.services[n];
        let Some(active) = service.rollout.as_ref().and_then(|rollout| rollout.active) else { return true };
        let slot = &service.slots[active as usize];
        // Without a successor in its place it holds the slot already: the old worker died. With neither, it failed.
        let Some(child) = slot.successor.or(slot.holder) else {
            self.rollout_mut(n).active = None;
            return true;
        };
        let ready = self.children[&child].ready_since();
        let early = ready.is_none_or(|since| since + service.policy.min_ready_ns > now);
        if early && !planted::is(Bug::OldBeforeNew) {
            if matches!(self.children[&child].state, State::Starting { socketless: true, .. }) {
                self.halt_rollout(now, n, "the new worker holds none of its sockets", out);
            }
            return false;
        }
        let slot = &mut self.services[n].slots[active as usize];
        let old = if slot.successor.is_some() { slot.holder.replace(child) } else { None };
        slot.successor = None;
        if let Some(old) = old {
            self.tell_to_stop(now, old, None, out);
        }
        let rollout = self.rollout_mut(n);
        rollout.active = None;
        rollout.failures = 0;
        rollout.replaced += 1;
        true
    }

    /// Starts the next successor. False: there is nothing to do now, or no more.
    fn start_successor(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) -> bool {
        let service = &self.services[n];
        let rollout = service.rollout.as_ref().expect("checked by the caller");
        if rollout.retry_at.is_some_and(|at| at > now) {
            return false;
        }
        let next = (0..service.number).find(|slot| rollout.wants(*slot, &service.slots[*slot as usize]));
        let Some(slot) = next else {
            self.finish_rollout(n, out);
            return false;
        };
        self.rollout_mut(n).retry_at = None;
        let service = &self.services[n];
        if service.unacked >= service.unacked_max() || !service.has_room() {
            return false;
        }
        self.rollout_mut(n).active = Some(slot);
        let child = self.start(now, n, slot, out);
        self.services[n].slots[slot as usize].successor = Some(child);
        true
    }

    fn finish_rollout(&mut self, n: usize, out: &mut Vec<Action>) {
        let Some(rollout) = self.services[n].rollout.take() else { return };
        out.push(Action::Report(Happening::RestartDone(self.services[n].id)));
        let message = match rollout.replaced {
            1 => "1 worker restarted".to_string(),
            count => format!("{count} workers restarted"),
        };
        for ask in rollout.asks {
            if planted::is(Bug::AnsweredTwice) {
                out.push(Action::Answer(ask, Answer::Done(message.clone())));
            }
            out.push(Action::Answer(ask, Answer::Done(message.clone())));
        }
    }

    /// Gives a restart up: the old workers serve on, a successor that is not ready is told to stop.
    pub(super) fn halt_rollout(&mut self, now: Nanos, n: usize, why: &str, out: &mut Vec<Action>) {
        let Some(rollout) = self.services[n].rollout.take() else { return };
        let slot = rollout.active.and_then(|active| self.services[n].slots.get_mut(active as usize));
        if let Some(child) = slot.and_then(|slot| slot.successor.take()) {
            self.tell_to_stop(now, child, None, out);
        }
        let message = format!("{why}; {} replaced, the others serve on", rollout.replaced);
        out.push(Action::Report(Happening::RestartHalted(self.services[n].id, message.clone())));
        if !planted::is(Bug::AnswerLost) {
            out.extend(rollout.asks.iter().map(|ask| Action::Answer(*ask, Answer::Refused(message.clone()))));
        }
    }

    /// Slots from `number` on are no more: a restart that is busy with one of them goes on with the others.
    pub(super) fn shrink_rollout(&mut self, n: usize) {
        let service = &mut self.services[n];
        if let Some(rollout) = &mut service.rollout
            && rollout.active.is_some_and(|active| active >= service.number)
        {
            rollout.active = None;
        }
    }

    /// A successor ended, or was not ready in time, or could not be started.
    pub(super) fn successor_failed(&mut self, now: Nanos, id: ServiceId, child: ChildId, out: &mut Vec<Action>) {
        let slot = self.children[&child].slot;
        let service = self.service_mut(id);
        let base = service.policy.backoff_base_ns;
        let Some(rollout) = &mut service.rollout else { return };
        rollout.active = None;
        rollout.failures += 1;
        if rollout.failures >= FAILURES_MAX {
            let why = format!("the new worker of slot {slot} failed {FAILURES_MAX} times");
            self.halt_rollout(now, usize::from(id.0), &why, out);
            return;
        }
        let wait = service.slots[slot as usize].back_off(base);
        if let Some(rollout) = &mut service.rollout {
            rollout.retry_at = Some(now + wait);
        }
    }

    /// When a restart needs a tick: a retry, or the end of `--min-ready`.
    pub(super) fn rollout_deadline(&self, service: &Service) -> Option<Nanos> {
        let rollout = service.rollout.as_ref()?;
        let promotion = rollout.active.and_then(|active| {
            let slot = service.slots.get(active as usize)?;
            let since = self.children.get(&slot.successor.or(slot.holder)?)?.ready_since()?;
            Some(since + service.policy.min_ready_ns)
        });
        soonest(rollout.retry_at, promotion)
    }

    fn rollout_mut(&mut self, n: usize) -> &mut Rollout {
        self.services[n].rollout.as_mut().expect("a restart is under way")
    }
}
