//! Services with a socket for each slot: where new connections may go, and when a slot's socket is closed.

use super::planted::{self, Bug};
use super::worker::State;
use super::{Action, ChildId, Happening, Supervisor};
use crate::plan::{Nanos, ServiceSpec};

impl Supervisor {
    /// New connections go where a worker is ready; a socket is closed when the last worker of its slot is gone.
    pub(super) fn steer(&mut self, n: usize, out: &mut Vec<Action>) {
        let service = &self.services[n];
        let slots = service.policy.slots;
        if !(slots || service.policy.keeps) || self.stopping.is_some() {
            return;
        }
        let ready = |child: Option<ChildId>| {
            child.is_some_and(|child| self.children[&child].ready_since().is_some())
                || planted::is(Bug::SteeredAnywhere)
        };
        let wanted: Vec<bool> = service.slots.iter().map(|slot| ready(slot.holder) || ready(slot.successor)).collect();
        let (id, number) = (service.id, service.number);
        if slots && wanted != service.steered {
            out.push(Action::Steer(id, wanted.clone()));
        }
        let beyond = |slot: u32| slot >= number;
        let used = self.children.values().any(|worker| worker.service == id && beyond(worker.slot));
        let service = &mut self.services[n];
        service.steered = wanted;
        service.slots_open = service.slots_open.max(number);
        if service.slots_open > number && (!used || planted::is(Bug::ClosedTooSoon)) {
            service.slots_open = number;
            out.push(Action::CloseSlots(id, service.steered.clone()));
        }
    }

    /// A worker that is not wanted any more is told to stop, after the time in which what is on its way to it arrives.
    /// It must be out of its slot.
    pub(super) fn retire(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        let policy = &self.service(worker.service).policy;
        let standard = if policy.slots { ServiceSpec::SLOT_DRAIN_NS } else { 0 };
        match policy.drain_delay_ns.unwrap_or(standard) {
            0 => self.tell_to_stop(now, child, None, out),
            delay => {
                out.push(Action::Report(Happening::Draining(worker.who(child), delay)));
                self.set_state(child, State::Stopping { told: None, patience_until: Some(now + delay) });
            }
        }
    }
}
