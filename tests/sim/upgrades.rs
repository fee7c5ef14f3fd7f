//! The invariants of upgrades and of steering.

use crate::checker::Checker;
use crate::child::Child;
use prebind::plan::{Nanos, Restart, ServiceId, Strategy};
use prebind::supervise::{ChildId, Upward, Who};

/// An upgrade under way.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) strategy: Strategy,
    /// Workers older than this child are the old ones.
    pub(crate) before: ChildId,
    /// What new workers were labelled with before.
    pub(crate) earlier: Vec<u32>,
    pub(crate) failures: u32,
}

/// What the manager above was told.
#[derive(Debug, Default)]
pub(crate) struct ToldAbove {
    ready: bool,
    reloading: bool,
    stopping: bool,
}

impl Checker {
    /// READY=1 once, and once after each RELOADING=1; nothing of it after STOPPING=1.
    pub(crate) fn upward(&mut self, what: &Upward) {
        let told = &mut self.told_above;
        match what {
            Upward::Ready => {
                assert!(!told.ready || told.reloading, "READY=1 is said again for nothing");
                assert!(!told.stopping, "READY=1 after STOPPING=1");
                let again = std::mem::take(&mut told.reloading);
                told.ready = true;
                if again {
                    self.see("reloaded");
                }
            }
            Upward::Reloading => {
                assert!(told.ready && !told.stopping, "RELOADING=1 of what does not run");
                told.reloading = true;
            }
            Upward::Stopping => assert!(!std::mem::replace(&mut told.stopping, true), "STOPPING=1 twice"),
            Upward::Status(_) | Upward::Watchdog => {}
        }
    }

    /// A ready worker that did nothing wrong is told to stop only when its slot is given up or has another one.
    pub(crate) fn told_to_stop(&mut self, now: Nanos, who: &Who) {
        let child = &self.children[&who.child];
        let mate = self.children.values().any(|other| {
            other.start.service == who.service
                && other.start.slot == who.slot
                && other.start.child != who.child
                && other.active()
                && other.ready
                && (other.start.child < who.child || other.ready_at + self.of(child).spec.min_ready_ns <= now)
        });
        let fine = self.stopping_at.is_some()
            || child.failed
            || child.draining
            || !child.ready
            || who.slot >= self.of(child).number;
        assert!(fine || mate, "{:?} is told to stop before another one is ready in its slot", who.child);
        if !fine {
            self.whole_fleet(who);
        }
        let child = self.child(who.child);
        child.told_at = child.told_at.or(Some(now));
    }

    pub(crate) fn begun(&mut self, id: ServiceId, generation: u32, strategy: Strategy) {
        let before = ChildId(self.children.keys().map(|child| child.0 + 1).max().unwrap_or(0).max(self.next_child));
        let replaced = self.replaced(id);
        self.upgrades_due = false;
        let service = &mut self.services[usize::from(id.0)];
        // An upgrade that takes another's place goes back to where that one would have.
        let earlier = match service.upgrade.take() {
            Some(upgrade) if replaced == Some(0) => upgrade.earlier,
            Some(upgrade) if replaced.is_none() => [upgrade.earlier, service.generations.clone()].concat(),
            Some(_) | None => service.generations.clone(),
        };
        service.upgrade = Some(Upgrade { strategy, before, earlier, failures: 0 });
        service.generations = vec![generation];
        service.restarting = true;
        service.not_before.clear();
    }

    /// How many slots the new workers hold; `None`: it cannot be told from outside.
    fn replaced(&self, id: ServiceId) -> Option<usize> {
        let before = self.services[usize::from(id.0)].upgrade.as_ref()?.before;
        let new = || {
            let own = self.children.iter().filter(|(_, child)| child.start.service == id);
            own.filter(|(child, state)| **child >= before && state.active())
        };
        let unsure = |child: &Child| child.failed || child.ended || child.never_was;
        if new().any(|(_, child)| unsure(child)) { None } else { Some(new().count()) }
    }

    pub(crate) fn rolled_back(&mut self, id: ServiceId) {
        let replaced = self.replaced(id);
        let service = &mut self.services[usize::from(id.0)];
        service.restarting = false;
        let Some(upgrade) = service.upgrade.take() else { panic!("no upgrade was under way") };
        match replaced {
            Some(0) => service.generations = upgrade.earlier,
            None => service.generations.extend(upgrade.earlier),
            Some(_) => {}
        }
    }

    /// A new worker that ends counts.
    pub(crate) fn upgrade_failure(&mut self, who: &Who, unexpected: bool) {
        let counts = unexpected && self.children[&who.child].active();
        let service = &mut self.services[usize::from(who.service.0)];
        if let Some(upgrade) = &mut service.upgrade
            && counts
            && who.child >= upgrade.before
            && who.slot < service.number
            && service.spec.restart == Restart::Always
        {
            upgrade.failures += 1;
        }
    }

    /// An old worker that serves is told to stop: in a fleet, every new one must be ready.
    fn whole_fleet(&self, who: &Who) {
        let service = &self.services[usize::from(who.service.0)];
        let Some(upgrade) = service.upgrade.as_ref().filter(|one| one.strategy == Strategy::Fleet) else { return };
        if who.child >= upgrade.before {
            return;
        }
        let own = || self.children.iter().filter(|(_, child)| child.start.service == who.service && child.active());
        for (_, old) in own().filter(|(child, old)| **child < upgrade.before && old.start.slot < service.number) {
            let mut mates = own().filter(|(child, _)| **child >= upgrade.before);
            let mate = mates.any(|(_, mate)| mate.start.slot == old.start.slot && mate.ready);
            assert!(mate, "one of a fleet takes over though slot {} is not ready", old.start.slot);
        }
    }

    /// What holds whenever everything that happened was handled.
    pub(crate) fn settled(&self) {
        if self.stopping_at.is_some() {
            return;
        }
        assert!(!self.upgrades_due, "HUP replaced prebind, and no upgrade follows");
        let busy = self.upgrade_told || self.services.iter().any(|service| service.restarting);
        assert!(!self.told_above.reloading || busy, "RELOADING=1 was said, READY=1 is not though nothing goes on");
        for (n, service) in self.services.iter().enumerate() {
            let own = || {
                let own = self.children.values().filter(|child| usize::from(child.start.service.0) == n);
                own.filter(|child| child.active() && !child.never_was)
            };
            if let Some(upgrade) = &service.upgrade {
                assert!(upgrade.failures < service.spec.upgrade_retries, "an upgrade goes on though it failed");
            }
            for slot in 0..service.number {
                let count = own().filter(|child| child.start.slot == slot).count();
                assert!(count < 2 || service.restarting, "two workers in slot {slot}");
                let ready = own().any(|child| child.start.slot == slot && child.ready);
                let slots = service.spec.sockets.iter().any(|_| self.slots);
                let steered = service.steered.get(slot as usize) == Some(&ready);
                assert!(!slots || steered, "slot {slot}: ready is {ready}, steered is {:?}", service.steered);
            }
        }
    }
}
