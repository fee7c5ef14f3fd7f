//! Workers replaced by successors: who starts when, and when a successor takes its slot over. Why a rollout begins,
//! and how it ends, is in `upgrade`.

use super::asks::Ask;
use super::planted::{self, Bug};
use super::service::Service;
use super::slot::{Pending, Slot};
use super::worker::{Worker, soonest};
use super::{Action, ChildId, Happening, Supervisor};
use crate::plan::{Nanos, Strategy};
use serde::{Deserialize, Serialize};

/// Workers of a service are being replaced.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rollout {
    pub(super) kind: Kind,
    /// Workers older than this child are replaced.
    pub(super) before: ChildId,
    pub(super) stage: Stage,
    /// Who waits for the outcome.
    pub(super) asks: Vec<Ask>,
    /// New workers that failed.
    pub(super) failures: u32,
    /// Back-off after one that did.
    pub(super) retry_at: Option<Nanos>,
    /// How long a new worker may take to be ready.
    pub(super) timeout_ns: Nanos,
}

/// What it is for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    /// The same generation anew; only these slots, or all.
    Restart { only: Option<Vec<u32>> },
    /// The next generation. `from`: the one before, which serves on if this one does not come to serve.
    Upgrade { from: u32 },
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Each successor takes its slot over as soon as it may.
    Rolling,
    /// All take over when the last one may.
    Fleet,
    /// One is on trial: in this slot, until then. The others follow by rolling.
    Canary { slot: Option<u32>, until: Option<Nanos> },
}

impl Rollout {
    /// Whether this slot still has a worker to be replaced.
    pub(super) fn is_old(&self, number: u32, slot: &Slot) -> bool {
        self.covers(number) && slot.holder.is_some_and(|holder| holder < self.before)
    }

    /// Whether this slot's worker is a new one.
    pub(super) fn is_new(&self, number: u32, slot: &Slot) -> bool {
        self.covers(number) && slot.holder.is_some_and(|holder| holder >= self.before)
    }

    fn covers(&self, number: u32) -> bool {
        match &self.kind {
            Kind::Restart { only: Some(only) } => only.contains(&number),
            Kind::Restart { only: None } | Kind::Upgrade { .. } => true,
        }
    }

    pub(super) fn is_upgrade(&self) -> bool {
        matches!(self.kind, Kind::Upgrade { .. })
    }
}

impl From<Strategy> for Stage {
    fn from(strategy: Strategy) -> Stage {
        match strategy {
            Strategy::Rolling => Stage::Rolling,
            Strategy::Fleet => Stage::Fleet,
            Strategy::Canary => Stage::Canary { slot: None, until: None },
        }
    }
}

impl Supervisor {
    /// Goes on with a rollout as far as it goes now.
    pub(super) fn advance_rollout(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) {
        if self.stopping.is_some() || self.services[n].rollout.is_none() {
            return;
        }
        self.promote(now, n, out);
        self.start_successors(now, n, out);
        let service = &self.services[n];
        let Some(rollout) = &service.rollout else { return };
        let mut slots = (0..).zip(&service.slots);
        let starts = |slot: &Slot| match slot.holder {
            Some(child) => rollout.is_upgrade() && self.children[&child].ready_since().is_none(),
            None => rollout.is_upgrade() && !matches!(slot.pending, Pending::Nothing | Pending::Over),
        };
        let busy = slots.any(|(number, slot)| slot.successor.is_some() || rollout.is_old(number, slot) || starts(slot));
        if !busy && !matches!(rollout.stage, Stage::Canary { until: Some(_), .. }) {
            self.finish_rollout(n, out);
        }
    }

    /// Lets successors take their slots over, as the stage allows.
    fn promote(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) {
        let service = &self.services[n];
        let Some(rollout) = &service.rollout else { return };
        let slots = || (0..).zip(&service.slots);
        let prepared: Vec<u32> = slots()
            .filter(|(_, slot)| slot.successor.is_some_and(|child| self.may_take_over(service, child, now)))
            .map(|(number, _)| number)
            .collect();
        match rollout.stage {
            Stage::Rolling => prepared.into_iter().for_each(|slot| self.take_over(now, n, slot, out)),
            Stage::Fleet => {
                let waits = slots().any(|(number, slot)| {
                    let old = slot.successor.is_some() || rollout.is_old(number, slot);
                    old && !prepared.contains(&number)
                });
                if !waits || planted::is(Bug::FleetInPieces) {
                    prepared.into_iter().for_each(|slot| self.take_over(now, n, slot, out));
                }
            }
            Stage::Canary { slot: Some(slot), until } => self.bake(now, n, slot, until, out),
            Stage::Canary { slot: None, .. } => {}
        }
    }

    /// Whether a successor has been ready long enough.
    fn may_take_over(&self, service: &Service, child: ChildId, now: Nanos) -> bool {
        let since = self.children[&child].ready_since();
        since.is_some_and(|since| since + service.policy.min_ready_ns <= now || planted::is(Bug::MinReadyIgnored))
            || planted::is(Bug::OldBeforeNew)
    }

    /// One worker on trial: its time begins when it may take over.
    fn bake(&mut self, now: Nanos, n: usize, slot: u32, until: Option<Nanos>, out: &mut Vec<Action>) {
        let service = &self.services[n];
        let place = service.slots.get(slot as usize);
        // The worker that it was to replace may have died meanwhile: then it holds the slot already.
        let child = place.and_then(|slot| slot.successor.or(slot.holder));
        let Some(child) = child.filter(|child| *child >= self.rollout(n).before) else {
            self.rollout_mut(n).stage = Stage::Canary { slot: None, until: None };
            return;
        };
        let bake_ns = service.policy.bake_ns;
        match until {
            None if self.may_take_over(service, child, now) => {
                out.push(Action::Report(Happening::Baking(service.id, bake_ns)));
                self.rollout_mut(n).stage = Stage::Canary { slot: Some(slot), until: Some(now + bake_ns) };
            }
            Some(until) if until <= now => self.end_bake(now, n, out),
            None | Some(_) => {}
        }
    }

    /// The trial is passed: by time, or because somebody says so.
    pub(super) fn end_bake(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) {
        let rollout = self.rollout_mut(n);
        let Stage::Canary { slot: Some(slot), .. } = rollout.stage else { return };
        rollout.stage = Stage::Rolling;
        let ready = |child: ChildId| self.children[&child].ready_since().is_some();
        if self.services[n].slots[slot as usize].successor.is_some_and(ready) {
            self.take_over(now, n, slot, out);
        }
    }

    /// The successor holds the slot; the old worker is told to stop.
    fn take_over(&mut self, now: Nanos, n: usize, slot: u32, out: &mut Vec<Action>) {
        let service = &mut self.services[n];
        let slot = &mut service.slots[slot as usize];
        let Some(child) = slot.successor.take() else { return };
        let old = slot.holder.replace(child);
        if let Some(old) = old {
            self.tell_to_stop(now, old, None, out);
        }
        self.report_progress(n, out);
    }

    pub(super) fn report_progress(&self, n: usize, out: &mut Vec<Action>) {
        let service = &self.services[n];
        let Some(rollout) = service.rollout.as_ref().filter(|rollout| rollout.is_upgrade()) else { return };
        let ready = |child: Option<ChildId>| {
            let worker = child.filter(|child| *child >= rollout.before).and_then(|child| self.children.get(&child));
            worker.is_some_and(|worker| worker.ready_since().is_some())
        };
        let ready = service.slots.iter().filter(|slot| ready(slot.successor) || ready(slot.holder)).count() as u32;
        let replaced = service.replaced();
        out.push(Action::Report(Happening::UpgradeProgress {
            service: service.id,
            ready,
            replaced,
            of: service.number,
        }));
    }

    /// Starts as many successors as may be starting now.
    fn start_successors(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) {
        let service = &self.services[n];
        let Some(rollout) = &service.rollout else { return };
        if rollout.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let (most, unacked_max) = match rollout.stage {
            Stage::Rolling => (service.surge_max(), service.unacked_max()),
            Stage::Fleet => (u32::MAX, service.fleet_max()),
            Stage::Canary { slot: Some(_), .. } => return,
            Stage::Canary { slot: None, .. } => (1, service.unacked_max()),
        };
        let wanted: Vec<u32> = (0..)
            .zip(&service.slots)
            .filter(|(number, slot)| slot.successor.is_none() && rollout.is_old(*number, slot))
            .map(|(number, _)| number)
            .collect();
        let successors = service.slots.iter().filter(|slot| slot.successor.is_some()).count() as u32;
        self.rollout_mut(n).retry_at = None;
        for (successors, slot) in (successors..).zip(wanted) {
            let service = &self.services[n];
            let most = if planted::is(Bug::SurgeIgnored) { u32::MAX } else { most };
            if successors >= most || service.unacked >= unacked_max || !service.has_room() {
                return;
            }
            self.start(now, n, slot, out);
            if let Stage::Canary { slot: place, .. } = &mut self.rollout_mut(n).stage {
                *place = Some(slot);
            }
        }
    }

    /// Slots from `number` on are no more: a trial in one of them begins anew in another one, and successors that are
    /// now too many are told to stop.
    pub(super) fn shrink_rollout(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) {
        let service = &mut self.services[n];
        let (number, surge) = (service.number, service.surge() as usize);
        let Some(rollout) = &mut service.rollout else { return };
        match &mut rollout.stage {
            Stage::Canary { slot, until } if slot.is_some_and(|slot| slot >= number) => (*slot, *until) = (None, None),
            Stage::Rolling => self.withdraw_successors(now, n, surge, out),
            Stage::Fleet | Stage::Canary { .. } => {}
        }
    }

    /// When a rollout needs a tick: a retry, the end of `--min-ready`, the end of a trial.
    pub(super) fn rollout_deadline(&self, service: &Service) -> Option<Nanos> {
        let rollout = service.rollout.as_ref()?;
        let may_at = |child: ChildId| {
            let since = self.children.get(&child).and_then(Worker::ready_since);
            since.map(|since| since + service.policy.min_ready_ns)
        };
        let mut slots = (0..).zip(&service.slots);
        let promotion = match rollout.stage {
            Stage::Rolling => slots.filter_map(|(_, slot)| slot.successor.and_then(may_at)).min(),
            // The last one decides, once each slot has one that is ready.
            Stage::Fleet => slots
                .filter(|(number, slot)| slot.successor.is_some() || rollout.is_old(*number, slot))
                .map(|(_, slot)| slot.successor.and_then(may_at))
                .try_fold(0, |latest, at| at.map(|at| latest.max(at)))
                .filter(|at| *at > 0),
            Stage::Canary { until: Some(until), .. } => Some(until),
            Stage::Canary { slot, until: None } => slots
                .find(|(number, _)| Some(*number) == slot)
                .and_then(|(_, slot)| slot.successor.or(slot.holder))
                .and_then(may_at),
        };
        soonest(rollout.retry_at, promotion)
    }

    pub(super) fn rollout(&self, n: usize) -> &Rollout {
        self.services[n].rollout.as_ref().expect("a rollout is under way")
    }

    pub(super) fn rollout_mut(&mut self, n: usize) -> &mut Rollout {
        self.services[n].rollout.as_mut().expect("a rollout is under way")
    }
}

impl Service {
    /// How many slots the new workers of a rollout hold.
    pub(super) fn replaced(&self) -> u32 {
        let Some(rollout) = &self.rollout else { return 0 };
        (0..).zip(&self.slots).filter(|(number, slot)| rollout.is_new(*number, slot)).count() as u32
    }
}
