//! What must hold after the calm, and at the very end.

use crate::checker::Checker;
use crate::child::Child;
use crate::script::END;
use prebind::exit::Exit;
use prebind::plan::{Nanos, Restart, SECOND};
use prebind::supervise::Ended;

impl Checker {
    /// After the calm everything is as it was asked for.
    pub(crate) fn before_the_last_stop(&mut self, now: Nanos) {
        if self.children.values().map(|child| child.at).min().is_none_or(|first| now < first + END - SECOND) {
            return;
        }
        for service in &self.services {
            let own = || self.children.values().filter(|child| self.of(child).spec.name == service.spec.name);
            let late = |child: &Child| child.accepts_at.is_none_or(|at| at > now);
            let stuck = own().any(|child| child.active() && !child.ready && (!child.holds || late(child)));
            let ready = own().filter(|child| child.active() && child.ready).count();
            // Workers that are replaced at an age are never calm: none is much too old.
            if let Some((age, variance)) = service.spec.max_age {
                let oldest = own().filter(|child| child.active() && child.ready).map(|child| now - child.at).max();
                let old = oldest.is_some_and(|oldest| oldest > 2 * (age + variance) + 100 * SECOND);
                let waits = stuck || service.number > 6 || service.spec.restart != Restart::Always;
                assert!(waits || !old, "a worker of {} is {oldest:?} ns old", service.spec.name);
                continue;
            }
            if service.spec.restart == Restart::Always && !stuck {
                assert_eq!(ready, service.number as usize, "ready workers of {} after the calm", service.spec.name);
                assert!(!service.restarting, "a restart never came to its end");
            }
            let watched = service.spec.watchdog_ns.is_some();
            assert!(watched || stuck || self.last_until.is_none() || self.services.len() > 1, "an idle timer");
        }
        self.see("calm");
    }

    /// At the very end.
    pub(crate) fn end(&self, exit: Exit) {
        assert!(self.children.is_empty(), "left behind: {:?}", self.children.keys());
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        let expected = match self.services.iter().any(|service| service.spec.restart == Restart::No) {
            _ if self.very_first_failure => vec![Exit::System, Exit::Failed],
            false if self.first_failure => vec![Exit::System, Exit::Done, Exit::Failed],
            false => vec![Exit::Done, Exit::Failed],
            true => {
                let own = self.ended_codes.iter().map(|how| match how {
                    Ended::Code(0) => Exit::Done,
                    Ended::Code(code) => Exit::Code(*code),
                    Ended::Signal(signal) | Ended::Dumped(signal) => Exit::Signal(signal.0 as u8),
                    Ended::Unseen => Exit::Failed,
                });
                own.chain([Exit::Done, Exit::Failed, Exit::System]).collect()
            }
        };
        assert!(expected.contains(&exit), "it ends with {exit:?}, not one of {expected:?}");
        let given_up = self.services.iter().any(|service| service.given_up);
        assert!(exit != Exit::Failed || self.interrupts >= 2 || given_up, "exit 1 for no reason");
        assert!(!self.probes_ready, "probes are told that it is ready at the end");
    }
}
