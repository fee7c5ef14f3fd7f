//! Upgrades and restarts: how a rollout begins, what its failures mean, how it ends.

use super::asks::Ask;
use super::planted::{self, Bug};
use super::rollout::{Kind, Rollout, Stage};
use super::status::{LastUpgrade, Outcome};
use super::{Action, ChildId, Ended, Happening, Supervisor};
use crate::plan::{Nanos, ServiceId, Strategy};

/// Why a worker left its slot by no will of ours.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What it did: `exited with 1`.
    pub(super) what: String,
    /// An upgrade need not try again.
    pub(super) fatal: bool,
}

impl Failure {
    pub(super) fn retry(what: impl Into<String>) -> Failure {
        Failure { what: what.into(), fatal: false }
    }

    pub(super) fn fatal(what: impl Into<String>) -> Failure {
        Failure { what: what.into(), fatal: true }
    }

    pub(super) fn ended(how: Ended) -> Failure {
        Failure::retry(match how {
            Ended::Code(code) => format!("exited with {code}"),
            Ended::Signal(signal) => format!("was killed by {signal}"),
            Ended::Dumped(signal) => format!("was killed by {signal} and dumped its core"),
            Ended::Unseen => "ended unseen".into(),
        })
    }
}

impl Supervisor {
    /// Begins to replace the workers of service `n`, or starts over with the ones that have come since.
    pub(super) fn begin_restart(
        &mut self,
        now: Nanos,
        n: usize,
        slot: Option<u32>,
        ask: Option<Ask>,
        out: &mut Vec<Action>,
    ) {
        if !self.services[n].overlaps() {
            let line = self.replaced_in_place(now, n, slot, out);
            return ask.into_iter().for_each(|ask| self.settle_ask(ask.id, true, &line, out));
        }
        let before = ChildId(self.next_child);
        let service = &mut self.services[n];
        let timeout_ns = service.policy.upgrade_timeout_ns;
        let rollout = service.rollout.get_or_insert_with(|| {
            out.push(Action::Report(Happening::RestartBegun(service.id)));
            Rollout {
                kind: Kind::Restart { only: Some(Vec::new()) },
                before,
                stage: Stage::Rolling,
                asks: Vec::new(),
                failures: 0,
                retry_at: None,
                timeout_ns,
            }
        });
        rollout.before = before;
        rollout.failures = 0;
        match (slot, &mut rollout.kind) {
            (Some(slot), Kind::Restart { only: Some(only) }) => only.push(slot),
            (None, kind) => *kind = Kind::Restart { only: None },
            (Some(_), Kind::Restart { only: None } | Kind::Upgrade { .. }) => {}
        }
        rollout.asks.extend(ask);
    }

    /// Begins an upgrade of service `n` to its next generation. One that is under way gets the new target.
    pub(super) fn begin_upgrade(
        &mut self,
        now: Nanos,
        n: usize,
        strategy: Option<Strategy>,
        timeout_ns: Option<Nanos>,
        asks: Vec<Ask>,
        out: &mut Vec<Action>,
    ) {
        if !self.services[n].overlaps() {
            let line = self.replaced_in_place(now, n, None, out);
            return asks.into_iter().for_each(|ask| self.settle_ask(ask.id, true, &line, out));
        }
        let from = self.supersede(now, n, out);
        let before = ChildId(self.next_child);
        let service = &mut self.services[n];
        let policy = &service.policy;
        let asked = strategy.unwrap_or(policy.strategy);
        // A bound on the processes that leaves no room for a whole generation more: one after the other.
        let bound = asked == Strategy::Fleet && policy.max_additional.is_some_and(|most| most < service.number);
        let strategy = if bound { Strategy::Rolling } else { asked };
        let timeout_ns = timeout_ns.unwrap_or(policy.upgrade_timeout_ns);
        service.generations += 1;
        service.generation = service.generations;
        let begun = Happening::UpgradeBegun { service: service.id, generation: service.generation, strategy };
        out.push(Action::Report(begun));
        service.rollout = Some(Rollout {
            kind: Kind::Upgrade { from },
            before,
            stage: strategy.into(),
            asks,
            failures: 0,
            retry_at: None,
            timeout_ns,
        });
    }

    /// Workers that cannot overlap end before the next ones start.
    fn replaced_in_place(&mut self, now: Nanos, n: usize, slot: Option<u32>, out: &mut Vec<Action>) -> String {
        let count = self.replace_in_place(now, n, slot, out);
        let workers = if count == 1 { "1 worker".to_string() } else { format!("{count} workers") };
        format!("{}: {workers} told to stop, to be started again (they cannot overlap)", self.services[n].name)
    }

    /// Another upgrade takes the place of what is under way. Returns the generation that serves.
    fn supersede(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) -> u32 {
        self.withdraw_successors(now, n, 0, out);
        let (replaced, generation) = (self.services[n].replaced(), self.services[n].generation);
        let Some(rollout) = self.services[n].rollout.take() else { return generation };
        let message = format!("{}: another upgrade took its place", self.services[n].name);
        for ask in rollout.asks {
            self.settle_ask(ask.id, false, &message, out);
        }
        match rollout.kind {
            Kind::Upgrade { from } if replaced == 0 => from,
            Kind::Upgrade { .. } | Kind::Restart { .. } => generation,
        }
    }

    /// Successors that did not take over are told to stop, all but so many.
    pub(super) fn withdraw_successors(&mut self, now: Nanos, n: usize, kept: usize, out: &mut Vec<Action>) {
        if planted::is(Bug::SuccessorsKept) && self.stopping.is_none() {
            let slots = self.services[n].slots.iter_mut();
            slots.for_each(|slot| slot.successor = None);
            return;
        }
        let ready = |child: &ChildId| self.children[child].ready_since().is_some();
        let mut gone = Vec::new();
        let successors = self.services[n].slots.iter_mut().filter(|slot| slot.successor.is_some());
        for slot in successors.skip(kept) {
            let Some(successor) = slot.successor.take() else { continue };
            // The old worker does not serve: the new one, which does, stays.
            let stays = ready(&successor) && !slot.holder.as_ref().is_some_and(ready);
            gone.extend(if stays { slot.holder.replace(successor) } else { Some(successor) });
        }
        for child in gone {
            self.tell_to_stop(now, child, None, out);
        }
    }

    /// Every worker that was to be replaced is.
    pub(super) fn finish_rollout(&mut self, n: usize, out: &mut Vec<Action>) {
        let replaced = self.services[n].replaced();
        let Some(rollout) = self.services[n].rollout.take() else { return };
        let service = &mut self.services[n];
        let workers = if replaced == 1 { "1 worker".to_string() } else { format!("{replaced} workers") };
        let message = if rollout.is_upgrade() {
            let generation = service.generation;
            out.push(Action::Report(Happening::UpgradeDone { service: service.id, generation }));
            service.last_upgrade = Some(LastUpgrade { outcome: Outcome::Done, reason: String::new() });
            format!("{}: generation {generation} serves, {workers} replaced", service.name)
        } else {
            out.push(Action::Report(Happening::RestartDone(service.id)));
            format!("{workers} restarted")
        };
        self.settle_done(n, rollout.asks, rollout.before, &message, out);
    }

    /// Gives a rollout up: whoever has not taken over is told to stop, the old workers serve on.
    pub(super) fn halt_rollout(&mut self, now: Nanos, n: usize, why: &str, out: &mut Vec<Action>) {
        if self.services[n].rollout.is_none() {
            return;
        }
        self.withdraw_successors(now, n, 0, out);
        let (replaced, service) = (self.services[n].replaced(), &mut self.services[n]);
        let Some(rollout) = service.rollout.take() else { return };
        let message = match rollout.kind {
            Kind::Restart { .. } => {
                let message = format!("{why}; {replaced} replaced, the others serve on");
                out.push(Action::Report(Happening::RestartHalted(service.id, message.clone())));
                message
            }
            Kind::Upgrade { from } => {
                let generation = service.generation;
                if replaced == 0 && !planted::is(Bug::GenerationKept) {
                    service.generation = from;
                }
                let extent = match replaced {
                    0 => format!("generation {from} serves on"),
                    _ => format!("{replaced} of {} replaced, the others serve on as they are", service.number),
                };
                let reason = format!("{why}; {extent}");
                service.last_upgrade = Some(LastUpgrade { outcome: Outcome::RolledBack, reason: reason.clone() });
                let service = service.id;
                out.push(Action::Report(Happening::UpgradeRolledBack { service, generation, reason: reason.clone() }));
                format!("{}: generation {generation} is rolled back: {reason}", self.services[n].name)
            }
        };
        for ask in rollout.asks {
            self.settle_ask(ask.id, false, &message, out);
        }
    }

    /// A new worker failed while a rollout runs: it is tried again, or the rollout is given up.
    pub(super) fn new_worker_failed(
        &mut self,
        now: Nanos,
        id: ServiceId,
        child: ChildId,
        failure: &Failure,
        out: &mut Vec<Action>,
    ) {
        let worker = &self.children[&child];
        let (slot, was_ready) = (worker.slot, worker.ready_since().is_some());
        let status = worker.status.as_deref().map_or(String::new(), |status| format!(" (its last status: {status})"));
        let service = self.service_mut(id);
        let (base, retries) = (service.policy.backoff_base_ns, service.policy.upgrade_retries);
        let Some(rollout) = &mut service.rollout else { return };
        if child < rollout.before {
            return;
        }
        rollout.failures += 1;
        let on_trial = matches!(rollout.stage, Stage::Canary { slot: Some(place), .. } if place == slot);
        if let (true, Stage::Canary { slot, until }) = (on_trial, &mut rollout.stage) {
            (*slot, *until) = (None, None);
        }
        let failures = rollout.failures;
        let enough = failure.fatal || failures >= retries || (on_trial && was_ready);
        if enough && !planted::is(Bug::NeverRolledBack) {
            let times = if failures > 1 { format!(", the last of {failures} that failed") } else { String::new() };
            let why = format!("the new worker of slot {slot} {}{status}{times}", failure.what);
            self.halt_rollout(now, usize::from(id.0), &why, out);
            return;
        }
        // Where it held the slot already, the slot's own back-off counts.
        let waits = service.slots.get_mut(slot as usize).filter(|slot| slot.holder.is_some());
        if let (Some(slot), Some(rollout)) = (waits, &mut service.rollout) {
            rollout.retry_at = Some(now + slot.back_off(base));
        }
    }
}
