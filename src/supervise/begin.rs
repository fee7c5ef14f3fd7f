//! How a worker begins: its place, its number, the state that it starts in.

use super::planted::{self, Bug};
use super::ready::starting;
use super::unit::Run;
use super::worker::{Look, State, Worker};
use super::{Action, ChildId, Start, Supervisor};
use crate::plan::{AckMode, Nanos, SECOND, StartWhen};

impl Supervisor {
    /// Asks for one worker, which holds the slot from now on, or waits for it where it has a holder.
    pub(super) fn start(&mut self, now: Nanos, n: usize, slot: u32, out: &mut Vec<Action>) {
        let child = ChildId(self.next_child);
        self.next_child += 1;
        let service = &mut self.services[n];
        let index = service.take_index();
        let used = &mut service.slots[slot as usize].used;
        service.restarts += u64::from(*used);
        // What traffic starts fails alone: prebind has been up for long.
        let at_once = matches!(service.policy.start, StartWhen::AtOnce);
        let initial = service.first && service.first_start && !*used && at_once;
        *used = true;
        let (id, generation) = (service.id, service.generation);
        let start = Start { child, service: id, slot, generation, index, part: 0, connection: None };
        let place = &mut service.slots[slot as usize];
        let place = if place.holder.is_none() { &mut place.holder } else { &mut place.successor };
        *place = Some(child);
        self.begin_worker(now, start, None, initial, out);
    }

    /// Makes the worker and does the first thing that it is made for: its process, or a unit's first command.
    pub(super) fn begin_worker(
        &mut self,
        now: Nanos,
        start: Start,
        source: Option<u64>,
        initial: bool,
        out: &mut Vec<Action>,
    ) {
        let (n, child) = (usize::from(start.service.0), start.child);
        let state = self.starting_state(now, n, start.slot, child);
        let service = &mut self.services[n];
        let is_unit = service.policy.unit.is_some();
        let mut worker = Worker::new(&start, now, state, service.policy.watchdog_ns, initial && !is_unit);
        worker.run = is_unit.then(|| Box::new(Run::new(start, source)));
        worker.expires_at = service.policy.expires_at(now, child);
        service.unacked += 1;
        service.alive += 1;
        service.was_active = true;
        self.children.insert(child, worker);
        if is_unit {
            self.begin_unit(now, child, out);
        } else {
            out.push(Action::Spawn(start));
        }
    }

    /// The state of a worker whose main process is to start.
    pub(super) fn starting_state(&self, now: Nanos, n: usize, slot: u32, child: ChildId) -> State {
        let service = &self.services[n];
        let policy = &service.policy;
        // A successor has a time to be ready in, whatever the mode; so has, while an upgrade waits for it, whoever takes
        // the place of a dead one.
        let place = service.slots.get(slot as usize);
        let successor = place.is_some_and(|slot| slot.holder.is_some_and(|holder| holder != child));
        let rollout = service.rollout.as_ref().filter(|rollout| successor || rollout.is_upgrade());
        let limit = rollout.map(|rollout| rollout.timeout_ns);
        let by = |span: Nanos| limit.map(|limit| now.saturating_add(limit.max(span.saturating_add(SECOND))));
        match policy.ack {
            AckMode::Auto | AckMode::Accept => {
                let look = policy.has_sockets.then(|| Look::first(now));
                // By time alone no worker takes the place of one that serves.
                let by_time = look.is_none() || (policy.ack == AckMode::Auto && !successor);
                starting(by_time.then_some(now + AckMode::GRACE_NS), by(AckMode::GRACE_NS), look)
            }
            // Not before it is known whether it runs at all.
            AckMode::After(span) => starting(Some(now + span.max(1)), by(span), None),
            AckMode::Manual | AckMode::Notify if planted::is(Bug::ReadyByTimeInManual) => {
                starting(Some(now + SECOND), None, None)
            }
            AckMode::Manual | AckMode::Notify => {
                let timeout = limit.map_or(policy.start_timeout_ns, |limit| limit.min(policy.start_timeout_ns));
                starting(None, Some(now + timeout), None)
            }
        }
    }
}
