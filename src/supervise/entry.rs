//! What a container's entrypoint has beside a launcher: signals that are passed on, a service that never becomes ready, what
//! probes are told, the command's own exit code after a stop.

use super::planted::{self, Bug};
use super::service::Service;
use super::{Action, Ended, Happening, Supervisor};
use crate::exit::Exit;
use crate::plan::{Nanos, ServiceId, Signal};

impl Supervisor {
    /// A signal that is not prebind's: every main process gets it.
    pub(super) fn forward(&mut self, signal: Signal, out: &mut Vec<Action>) {
        let alive = self.children.iter().filter(|(_, worker)| worker.has_main() && !planted::is(Bug::NotPassedOn));
        out.extend(alive.map(|(child, _)| Action::SignalMain(*child, signal)));
    }

    /// A service of which so many workers in a row died before one was ready ends everything.
    pub(super) fn notice_given_up(&mut self, now: Nanos, out: &mut Vec<Action>) {
        for service in self.services.iter_mut().filter(|service| service.ready > 0) {
            service.unready_deaths = 0;
        }
        let hopeless = |service: &&Service| {
            let limit = service.policy.give_up_after;
            let deaths = if planted::is(Bug::GivenUpTooSoon) { 1 } else { limit };
            limit > 0 && service.unready_deaths >= deaths && !service.retired
        };
        let Some(service) = self.services.iter().find(hopeless).filter(|_| self.stopping.is_none()) else { return };
        let (service, deaths) = (service.id, service.unready_deaths);
        out.push(Action::Report(Happening::GivenUp { service, deaths }));
        self.begin_stop(now, Exit::Failed, None, out);
    }

    /// What probes are told, where that changed.
    pub(super) fn notice_health(&mut self, out: &mut Vec<Action>) {
        let asked_for = || self.services.iter().filter(|service| !service.retired);
        let ready = self.stopping.is_none() && asked_for().all(Service::is_ready);
        if ready != self.told_ready && (ready || !planted::is(Bug::ProbesNotTold)) {
            self.told_ready = ready;
            out.push(Action::Health(ready));
        }
    }

    /// The code of a worker that ended for good, where that may be prebind's.
    pub(super) fn note_exit(&mut self, id: ServiceId, how: Ended) {
        let passes = self.passes_exit_code(id);
        let exit = match how {
            Ended::Code(0) => Exit::Done,
            _ if !passes => Exit::Done,
            Ended::Code(code) => Exit::Code(code),
            Ended::Signal(signal) | Ended::Dumped(signal) => Exit::Signal(signal.0.unsigned_abs() as u8),
            Ended::Unseen => Exit::Failed,
        };
        let service = self.service_mut(id);
        if service.exit.is_none_or(|before| before == Exit::Done) {
            service.exit = Some(exit);
        }
    }

    /// The first code of such a service that is none of success.
    pub(super) fn noted_exit(&self, counts: impl Fn(&Service) -> bool) -> Exit {
        let exits = self.services.iter().filter(|service| counts(service)).filter_map(|service| service.exit);
        exits.into_iter().find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Above, ChildId, Event, Told};
    use super::*;
    use crate::plan::{AckMode, Number, Plan, Restart, SECOND, ServiceSpec};

    /// A supervisor of two workers that become ready by what they say, and its first actions.
    struct World {
        supervisor: Supervisor,
        now: Nanos,
        out: Vec<Action>,
    }

    impl World {
        fn new(change: impl FnOnce(&mut ServiceSpec)) -> World {
            let mut spec = ServiceSpec {
                number: Number::Fixed(2),
                ack: AckMode::Manual,
                stop_passes_code: true,
                ..ServiceSpec::default()
            };
            change(&mut spec);
            let plan = Plan { services: vec![spec], ..Plan::default() };
            let mut world = World { supervisor: Supervisor::new(&plan, Above::default()), now: 0, out: Vec::new() };
            world.step(Event::Tick);
            world
        }

        fn step(&mut self, event: Event) {
            self.supervisor.step(self.now, event, &mut self.out);
        }

        /// Those that are to be started since it was asked last; they run now.
        fn started(&mut self) -> Vec<ChildId> {
            let spawn = |action: &Action| if let Action::Spawn(start) = action { Some(start.child) } else { None };
            let started: Vec<ChildId> = self.out.iter().filter_map(spawn).collect();
            self.out.clear();
            started.iter().for_each(|child| self.step(Event::Spawned(*child)));
            started
        }

        fn dies(&mut self, child: ChildId, how: Ended) {
            self.step(Event::Exited { child, how, group_left: false, foreground: false });
        }

        /// Past every back-off.
        fn later(&mut self) -> Vec<ChildId> {
            self.now += 100 * SECOND;
            self.step(Event::Tick);
            self.started()
        }

        fn health(&self) -> Vec<bool> {
            self.out
                .iter()
                .filter_map(|one| if let Action::Health(ready) = one { Some(*ready) } else { None })
                .collect()
        }
    }

    #[test]
    fn a_service_that_never_becomes_ready_is_given_up() {
        let mut world = World::new(|spec| spec.give_up_after = Some(5));
        let first = world.started();
        world.dies(first[0], Ended::Code(1));
        world.dies(first[1], Ended::Code(1));
        let second = world.later();
        // One is ready once: those before it are forgotten.
        world.step(Event::Acked(second[0]));
        world.dies(second[0], Ended::Code(1));
        let mut deaths = 0;
        while world.supervisor.ended().is_none() {
            let next = world.later();
            assert!(!next.is_empty() && deaths < 100, "nothing goes on");
            for child in next {
                deaths += 1;
                world.dies(child, Ended::Code(1));
            }
        }
        assert_eq!((deaths, world.supervisor.ended()), (5, Some(Exit::Failed)));
        let given_up = |one: &Action| matches!(one, Action::Report(Happening::GivenUp { deaths: 5, .. }));
        assert!(world.out.iter().any(given_up), "{:?}", world.out);
    }

    #[test]
    fn without_a_limit_it_goes_on() {
        let mut world = World::new(|spec| spec.give_up_after = Some(0));
        let mut next = world.started();
        for _ in 0..20 {
            next.into_iter().for_each(|child| world.dies(child, Ended::Code(1)));
            next = world.later();
        }
        assert_eq!(world.supervisor.ended(), None);
    }

    #[test]
    fn the_commands_own_code_also_after_a_stop() {
        for (restart, how, exit) in [
            (Restart::No, Ended::Signal(Signal::TERM), Exit::Signal(15)),
            (Restart::No, Ended::Code(3), Exit::Code(3)),
            (Restart::No, Ended::Code(0), Exit::Done),
            (Restart::Always, Ended::Code(3), Exit::Done),
            (Restart::OnFailure, Ended::Signal(Signal::TERM), Exit::Done),
        ] {
            let mut world = World::new(|spec| (spec.restart, spec.number) = (restart, Number::Fixed(1)));
            let child = world.started()[0];
            world.step(Event::Acked(child));
            assert_eq!(world.health(), [true], "{restart:?}");
            world.step(Event::Told(Told::Forward(Signal::USR1)));
            assert!(world.out.contains(&Action::SignalMain(child, Signal::USR1)), "passed on");
            world.step(Event::Told(Told::Stop));
            assert_eq!(world.health(), [true, false], "not ready as soon as it is to stop");
            world.dies(child, how);
            assert_eq!(world.supervisor.ended(), Some(exit), "{restart:?} {how:?}");
        }
    }
}
