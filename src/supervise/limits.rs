//! What must hold after every step. Checked in debug builds and by the simulation.

use super::slot::Pending;
use super::worker::Worker;
use super::{Supervisor, planted};
use crate::exit::Exit;

impl Supervisor {
    /// Panics if a count drifted from what it counts, or a slot and its worker disagree.
    pub(super) fn check_limits(&self) {
        if !cfg!(any(debug_assertions, feature = "planted")) || planted::any() {
            return;
        }
        for (n, service) in self.services.iter().enumerate() {
            let own = || self.children.values().filter(move |worker| usize::from(worker.service.0) == n);
            assert_eq!(service.unacked as usize, own().filter(|worker| worker.unacked()).count(), "unacked");
            assert_eq!(service.alive as usize, own().filter(|worker| worker.alive()).count(), "alive");
            assert_eq!(service.ready as usize, own().filter(|w| w.ready_since().is_some()).count(), "ready");
            let numbered = if service.per_connection() { 0 } else { service.number };
            assert_eq!(service.slots.len(), numbered as usize, "slots");
            let due = service.slots.iter().filter(|slot| slot.pending == Pending::Due).count();
            assert_eq!(service.due as usize, due, "due");
            let holders = service.slots.iter().flat_map(|slot| [slot.holder, slot.successor]).flatten();
            let running = own().filter(|worker| worker.runs()).count();
            assert!(
                service.per_connection() || holders.clone().count() == running,
                "a worker that is starting or ready has its place in a slot"
            );
            for child in holders {
                assert!(self.children.get(&child).is_some_and(Worker::runs), "a slot's worker is starting or ready");
            }
            for slot in service.slots.iter().filter(|slot| slot.holder.is_some()) {
                assert!(matches!(slot.pending, Pending::Nothing), "a slot that has a holder waits for nothing");
            }
        }
        let abandoned = self.ended == Some(Exit::Failed);
        assert!(self.ended.is_none() || self.children.is_empty() || abandoned, "the end leaves no child behind");
    }
}
