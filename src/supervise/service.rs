//! One service: its slots filled, its workers becoming ready, failing and being replaced.

use super::asks::Draining;
use super::planted::{self, Bug};
use super::policy::Policy;
use super::rollout::Rollout;
use super::slot::{Pending, Slot};
use super::status::LastUpgrade;
use super::upgrade::Failure;
use super::worker::{State, soonest};
use super::{Action, ChildId, Ended, Happening, Next, Settings, SpawnFailure, Supervisor, UnitHappening};
use crate::exit::Exit;
use crate::plan::{Nanos, Plan, Restart, ServiceId, StartWhen};
use serde::{Deserialize, Serialize};

/// A service's policy and state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) id: ServiceId,
    pub(super) name: String,
    pub(super) policy: Policy,
    /// Workers asked for, now.
    pub(super) number: u32,
    /// The version that starts now.
    pub(super) generation: u32,
    /// The highest that ever was.
    pub(super) generations: u32,
    pub(super) last_upgrade: Option<LastUpgrade>,
    pub(super) restarts: u64,
    pub(super) slots: Vec<Slot>,
    /// How many slots are due: saves looking for them.
    pub(super) due: u32,
    /// How many slots are over.
    over: u32,
    /// Workers that are starting and count against `max_unacked`.
    pub(super) unacked: u32,
    pub(super) ready: u32,
    /// Its processes whose main process lives.
    pub(super) alive: u32,
    /// Made at prebind's own start, not by a plan that was read later.
    pub(super) first: bool,
    /// It came with the plan that was read now.
    pub(super) added: bool,
    /// Nobody asks for it any more.
    pub(super) retired: bool,
    /// With a space between starts: the next one is not before.
    #[serde(default)]
    next_start_at: Nanos,
    /// What was configured meanwhile (einhorn's `config`), in the place of the plan's.
    pub(super) configured: Settings,
    /// The number that the plan asks for since it was read anew.
    pub(super) scale_to: Option<u32>,
    /// Until every slot was started once: all may start at once, and a spawn that fails ends prebind.
    pub(super) first_start: bool,
    pub(super) rollout: Option<Rollout>,
    /// With a socket for each slot: how many are open, and what was last asked of them.
    pub(super) slots_open: u32,
    pub(super) steered: Vec<bool>,
    /// Requests that wait until the workers of a finished rollout are gone.
    pub(super) draining: Vec<Draining>,
    /// The EINHORN_CHILD_INDEX numbers in use, a bit each.
    indexes: Vec<u64>,
    /// With slots that are over: the code to end with.
    pub(super) exit: Option<Exit>,
    /// Nothing runs: it waits for traffic.
    pub(super) asleep: bool,
    /// What linux/ was asked last: to listen on its sockets.
    pub(super) listening: bool,
    /// When traffic started it lately.
    pub(super) triggers: Vec<Nanos>,
    /// It is not started again; why.
    pub(super) failed: Option<String>,
    /// Something of it ran since it was last said to be inactive.
    pub(super) was_active: bool,
    /// Workers in a row that died before one was ready.
    #[serde(default)]
    pub(super) unready_deaths: u32,
    /// Its workers read their configuration again.
    pub(super) reloads: Option<super::reload::Reloads>,
}

impl Service {
    pub(super) fn new(id: ServiceId, plan: &Plan) -> Service {
        let spec = plan.service(id);
        let number = if matches!(spec.start, StartWhen::PerConnection { .. }) { 0 } else { spec.number.get() };
        let asleep = matches!(spec.start, StartWhen::OnTraffic { also_at_once: false, .. });
        let mut slots = Vec::with_capacity(number as usize);
        slots.resize_with(number as usize, if asleep { Slot::default } else { Slot::due });
        Service {
            id,
            name: spec.name.clone(),
            policy: Policy::of(spec, plan),
            number,
            generation: 1,
            generations: 1,
            last_upgrade: None,
            restarts: 0,
            slots,
            due: if asleep { 0 } else { number },
            over: 0,
            unacked: 0,
            ready: 0,
            alive: 0,
            first: true,
            added: false,
            retired: spec.retired,
            scale_to: None,
            next_start_at: 0,
            configured: Settings::default(),
            first_start: true,
            rollout: None,
            slots_open: number,
            steered: vec![true; number as usize],
            draining: Vec::new(),
            indexes: Vec::new(),
            exit: None,
            asleep,
            listening: false,
            triggers: Vec::new(),
            failed: None,
            was_active: false,
            unready_deaths: 0,
            reloads: None,
        }
    }

    /// Whether as many are ready as asked for.
    pub(super) fn is_ready(&self) -> bool {
        self.asleep || (self.ready >= self.number && self.failed.is_none())
    }

    /// How many workers above the number may be starting while others are replaced: a quarter, at least one.
    pub(super) fn surge(&self) -> u32 {
        (self.number / 4).max(1)
    }

    /// So many successors at once. einhorn's own bound is `--max-unacked` alone.
    pub(super) fn surge_max(&self) -> u32 {
        if self.policy.bounded_first { self.surge() } else { self.unacked_max() }
    }

    /// So many of a fleet at once: all, but where `--max-unacked` is a bound from the first start on.
    pub(super) fn fleet_max(&self) -> u32 {
        self.policy.max_unacked.filter(|_| self.policy.bounded_first).unwrap_or(u32::MAX)
    }

    pub(super) fn unacked_max(&self) -> u32 {
        match self.policy.max_unacked {
            Some(most) if self.policy.bounded_first || !self.first_start => most,
            _ if self.first_start => u32::MAX,
            _ => self.surge(),
        }
    }

    /// Whether `--max-upgrade-additional` leaves room for one more process.
    pub(super) fn has_room(&self) -> bool {
        self.policy.max_additional.is_none_or(|additional| self.alive < self.number.saturating_add(additional.max(1)))
    }

    /// Waits that are over become due.
    pub(super) fn end_waits(&mut self, now: Nanos) {
        for slot in &mut self.slots {
            if let Pending::Waiting { until } = slot.pending
                && until <= now
                && !planted::is(Bug::StuckDeadline)
            {
                slot.pending = Pending::Due;
                self.due += 1;
            }
        }
    }

    pub(super) fn set_pending(&mut self, slot: u32, pending: Pending) {
        let slot = &mut self.slots[slot as usize];
        self.due -= u32::from(slot.pending == Pending::Due);
        self.over -= u32::from(slot.pending == Pending::Over);
        slot.pending = pending;
        self.due += u32::from(slot.pending == Pending::Due);
        self.over += u32::from(slot.pending == Pending::Over);
    }

    /// Whether the worker of every slot ended and none is started again.
    pub(super) fn is_over(&self) -> bool {
        !self.slots.is_empty() && self.over as usize == self.slots.len()
    }

    /// The number changes: new slots are due; the ones from `number` on are cut off and returned.
    pub(super) fn resize(&mut self, number: u32) -> Vec<Slot> {
        self.number = number;
        for slot in number..self.slots.len() as u32 {
            self.set_pending(slot, Pending::Nothing);
        }
        let kept = if planted::is(Bug::SurplusKept) { self.slots.len() } else { number as usize };
        let surplus = self.slots.split_off(kept.min(self.slots.len()));
        while self.slots.len() < number as usize {
            self.slots.push(if self.asleep { Slot::default() } else { Slot::due() });
            self.due += u32::from(!self.asleep);
        }
        surplus
    }

    /// Nothing more is started, ever.
    pub(super) fn clear_pending(&mut self) {
        if planted::is(Bug::SpawnWhileStopping) {
            return;
        }
        for slot in &mut self.slots {
            slot.pending = Pending::Nothing;
        }
        (self.due, self.over) = (0, 0);
    }

    pub(super) fn take_index(&mut self) -> u32 {
        if self.indexes.iter().all(|word| *word == u64::MAX) {
            self.indexes.push(0);
        }
        let word = self.indexes.iter().position(|word| *word != u64::MAX).expect("there is room");
        let bit = self.indexes[word].trailing_ones();
        self.indexes[word] |= 1 << bit;
        word as u32 * 64 + bit
    }

    fn give_back_index(&mut self, index: u32) {
        self.indexes[index as usize / 64] &= !(1 << (index % 64));
    }
}

impl Supervisor {
    /// The soonest moment at which a service itself needs a tick.
    pub(super) fn service_deadline(&self, service: &Service) -> Option<Nanos> {
        let waits = service.slots.iter().filter_map(|slot| match slot.pending {
            Pending::Waiting { until } => Some(until),
            Pending::Nothing | Pending::Due | Pending::Over | Pending::Behind { .. } => None,
        });
        soonest(waits.min(), self.rollout_deadline(service))
    }

    /// Starts what is due, as far as the limits allow.
    pub(super) fn fill(&mut self, now: Nanos, n: usize, out: &mut Vec<Action>) {
        if self.stopping.is_some() && !planted::is(Bug::SpawnWhileStopping) {
            return;
        }
        let service = &self.services[n];
        if service.due == 0 {
            return;
        }
        let due: Vec<u32> =
            (0..service.number).filter(|slot| service.slots[*slot as usize].pending == Pending::Due).collect();
        for slot in due {
            let service = &mut self.services[n];
            if service.unacked >= service.unacked_max() || !service.has_room() {
                return;
            }
            if now < service.next_start_at {
                service.set_pending(slot, Pending::Waiting { until: service.next_start_at });
                continue;
            }
            let limit = service.policy.unit.as_ref().and_then(|unit| unit.start_limit);
            if !service.slots[slot as usize].may_start(now, limit) {
                service.slots[slot as usize].limit_hit = true;
                service.set_pending(slot, Pending::Over);
                service.exit = Some(Exit::Failed);
                out.push(Action::Report(Happening::Unit(UnitHappening::StartLimit { service: service.id, slot })));
                continue;
            }
            service.set_pending(slot, Pending::Nothing);
            service.next_start_at = if service.policy.spacing_ns > 0 { now + service.policy.spacing_ns } else { 0 };
            self.start(now, n, slot, out);
        }
        let service = &mut self.services[n];
        if service.first_start && service.slots.iter().all(|slot| slot.used) {
            service.first_start = false;
        }
    }

    /// Changes a worker's state and keeps its service's counts.
    pub(super) fn set_state(&mut self, child: ChildId, state: State) {
        let Some(worker) = self.children.get_mut(&child) else { return };
        let service = &mut self.services[usize::from(worker.service.0)];
        service.unacked -= u32::from(worker.unacked());
        service.ready -= u32::from(worker.ready_since().is_some());
        let was_alive = worker.alive();
        worker.state = state;
        if was_alive && !worker.alive() {
            service.alive -= 1;
            service.give_back_index(worker.index);
        }
        service.unacked += u32::from(worker.unacked());
        service.ready += u32::from(worker.ready_since().is_some());
        if worker.ready_since().is_some() {
            service.unready_deaths = 0;
        }
    }

    /// A child is no more.
    pub(super) fn gone(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        self.reload_ended(child, false, out);
        let Some(worker) = self.children.remove(&child) else { return };
        let service = &mut self.services[usize::from(worker.service.0)];
        service.unacked -= u32::from(worker.unacked());
        service.ready -= u32::from(worker.ready_since().is_some());
        if worker.alive() {
            service.alive -= 1;
            service.give_back_index(worker.index);
        }
        out.push(Action::Forget(child));
        self.free_slot(now, child, &worker);
    }

    /// A worker that was starting or ready no longer counts for its slot, by no will of ours. Says what becomes of it.
    pub(super) fn leave_slot(&mut self, now: Nanos, child: ChildId, failure: &Failure, out: &mut Vec<Action>) -> Next {
        let worker = &self.children[&child];
        let (id, slot_number) = (worker.service, worker.slot);
        let ready_ns = worker.ready_since().map(|since| now.saturating_sub(since));
        let stopping = self.stopping.is_some();
        let service = self.service_mut(id);
        // The slot may have been scaled away since.
        let Some(slot) = service.slots.get_mut(slot_number as usize) else { return Next::Nothing };
        if slot.successor == Some(child) {
            slot.successor = None;
            self.new_worker_failed(now, id, child, failure, out);
            return Next::Nothing;
        }
        if slot.holder != Some(child) {
            return Next::Nothing;
        }
        slot.holder = slot.successor.take();
        if slot.holder.is_some() || stopping || slot_number >= service.number {
            return Next::Nothing;
        }
        if planted::is(Bug::ForgottenSlot) && service.rollout.is_some() {
            return Next::Nothing;
        }
        if service.policy.unit.is_some() {
            let next = self.after_unit(id, slot_number, child, ready_ns);
            self.new_worker_failed(now, id, child, failure, out);
            return next;
        }
        service.due -= u32::from(slot.pending == Pending::Due);
        let next = slot.after_failure(now, ready_ns, service.policy.backoff_base_ns);
        service.due += u32::from(slot.pending == Pending::Due);
        service.unready_deaths += u32::from(ready_ns.is_none());
        self.new_worker_failed(now, id, child, failure, out);
        next
    }

    pub(super) fn spawn_failed(&mut self, now: Nanos, child: ChildId, failure: SpawnFailure, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        let who = worker.who(child);
        if worker.initial && self.stopping.is_none() {
            out.push(Action::Report(Happening::SpawnFailed { who, message: failure.message, next: Next::Nothing }));
            self.release(child);
            self.gone(now, child, out);
            self.begin_stop(now, Exit::System, None, out);
            return;
        }
        if worker.run.is_some() {
            out.push(Action::Report(Happening::SpawnFailed { who, message: failure.message, next: Next::Nothing }));
            return self.unit_exited(now, child, Ended::Code(failure.code), false, out);
        }
        let already_stopping = self.stopping.is_some();
        let message = failure.message;
        let failure = Failure::retry(format!("could not be started: {message}"));
        let next = self.leave_slot(now, child, &failure, out);
        self.gone(now, child, out);
        if !already_stopping {
            out.push(Action::Report(Happening::SpawnFailed { who, message, next }));
        }
    }

    /// Takes a child out of its slot without a successor.
    pub(super) fn release(&mut self, child: ChildId) {
        let worker = &self.children[&child];
        let (id, slot) = (worker.service, worker.slot);
        let Some(slot) = self.service_mut(id).slots.get_mut(slot as usize) else { return };
        if slot.holder == Some(child) {
            slot.holder = None;
        }
        if slot.successor == Some(child) {
            slot.successor = None;
        }
    }

    /// A slot's worker ended and `--restart` says that it stays so.
    pub(super) fn is_over(&self, id: ServiceId, how: Ended, foreground: bool) -> bool {
        let policy = &self.service(id).policy;
        let clean = how == Ended::Code(0);
        match policy.restart {
            Restart::Always => foreground && clean && !policy.restart_given,
            Restart::OnFailure => clean,
            Restart::OnSuccess | Restart::OnAbnormal | Restart::OnAbort | Restart::OnWatchdog | Restart::No => true,
        }
    }

    /// Whether the exit codes of workers are ours.
    pub(super) fn passes_exit_code(&self, id: ServiceId) -> bool {
        let policy = &self.service(id).policy;
        policy.restart == Restart::No && policy.unit.is_none()
    }
}
