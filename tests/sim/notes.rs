//! What workers say, and what probes are told.

use crate::checker::Checker;
use prebind::notify::Note;
use prebind::plan::Nanos;
use prebind::supervise::{ChildId, Told, Who};

impl Checker {
    pub(crate) fn said(&mut self, now: Nanos, id: ChildId, note: &Note) {
        let watchdog = self.of(&self.children[&id]).spec.watchdog_ns;
        let child = self.child(id);
        child.said_ready |= note.ready;
        if note.watchdog && child.ready {
            child.watchdog_due = watchdog.map(|interval| now + interval);
        }
        if note.stopping && child.active() {
            // It may lie in the same batch as what ends it: the report decides.
            child.failed = true;
        }
    }

    pub(crate) fn said_stopping(&mut self, now: Nanos, who: &Who) {
        let unready = !self.children[&who.child].ready;
        self.services[usize::from(who.service.0)].failures += u32::from(unready);
        self.child(who.child).stopping_itself = Some(now);
    }

    pub(crate) fn is_first(&self, who: &Who) -> bool {
        self.services[usize::from(who.service.0)].starts.get(&who.slot).is_some_and(|starts| starts.len() == 1)
    }

    /// Every main process that lives is owed a signal that is passed on.
    pub(crate) fn passed_on(&mut self, told: &Told) {
        if matches!(told, Told::Forward(_)) {
            let alive = self.children.iter().filter(|(_, one)| one.exited_at.is_none() && !one.ended && !one.never_was);
            self.owed.extend(alive.map(|(child, _)| *child));
        }
    }

    /// What probes are told.
    pub(crate) fn probes(&mut self, ready: bool) {
        assert_ne!(ready, self.probes_ready, "probes are told what they know");
        self.probes_ready = ready;
        for (n, service) in self.services.iter().enumerate().filter(|_| ready) {
            let own = self.children.values().filter(|child| usize::from(child.start.service.0) == n);
            let count = own.filter(|child| child.ready && child.exited_at.is_none()).count();
            assert!(count >= service.number as usize && self.stopping_at.is_none(), "probes are told that it is ready");
        }
    }
}
