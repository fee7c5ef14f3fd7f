//! The invariants, on a model of its own: it sees what goes into the supervisor and what comes out, nothing else.

use crate::script::{CALM, END};
use crate::seen::word;
use crate::world::LATE;
use prebind::exit::Exit;
use prebind::notify::Note;
use prebind::plan::{AckMode, Nanos, Plan, Restart, SECOND, ServiceSpec, Signal};
use prebind::supervise::{Action, Answer, AskId, ChildId, Ended, Event, Happening, HowReady, Start, Told, Upward, Who};
use std::collections::{BTreeMap, BTreeSet};

/// Starts of one slot in 10 s that the rules allow without an operator: the first, five at once, and what a back-off
/// of 0.1 s and more lets through.
const STARTS_MAX: usize = 18;

#[derive(Debug)]
pub(crate) struct Checker {
    services: Vec<Service>,
    children: BTreeMap<ChildId, Child>,
    asked: BTreeSet<AskId>,
    stopping_at: Option<Nanos>,
    interrupts: u32,
    /// A worker of the first round could not be started (one that a scale brought may look the same).
    first_failure: bool,
    /// The very first could not.
    very_first_failure: bool,
    ended_codes: Vec<Ended>,
    last_until: Option<Nanos>,
    /// What was seen: the histories together must see everything.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Service {
    spec: ServiceSpec,
    number: u32,
    /// When workers were started, by slot.
    starts: BTreeMap<u32, Vec<Nanos>>,
    /// Back-off: when a slot may be filled again at the soonest.
    not_before: BTreeMap<u32, Nanos>,
    operations: usize,
    restarting: bool,
}

#[derive(Debug)]
struct Child {
    start: Start,
    at: Nanos,
    holds: bool,
    said_ready: bool,
    ready: bool,
    /// When WATCHDOG=1 is due.
    watchdog_due: Option<Nanos>,
    /// It failed a deadline: it may be stopped though nobody takes its place.
    failed: bool,
    told_at: Option<Nanos>,
    stopping_itself: Option<Nanos>,
    killed: bool,
    extends: bool,
    /// When its exit was handled, and whether it left others behind.
    exited_at: Option<Nanos>,
    leaves: bool,
    leftovers_told: bool,
    /// It could not be spawned.
    never_was: bool,
}

impl Child {
    fn active(&self) -> bool {
        self.told_at.is_none() && self.stopping_itself.is_none() && self.exited_at.is_none()
    }
}

impl Checker {
    pub(crate) fn new(plan: &Plan) -> Checker {
        let service = |spec: &ServiceSpec| Service {
            spec: spec.clone(),
            number: spec.number.get(),
            starts: BTreeMap::new(),
            not_before: BTreeMap::new(),
            operations: 0,
            restarting: false,
        };
        Checker {
            services: plan.services.iter().map(service).collect(),
            children: BTreeMap::new(),
            asked: BTreeSet::new(),
            stopping_at: None,
            interrupts: 0,
            first_failure: false,
            very_first_failure: false,
            ended_codes: Vec::new(),
            last_until: None,
            seen: BTreeMap::new(),
        }
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn spawned(&mut self, id: ChildId, holds: bool) {
        self.child(id).holds = holds;
    }

    pub(crate) fn spawn_failed(&mut self, id: ChildId) {
        self.child(id).never_was = true;
    }

    pub(crate) fn will_extend(&mut self, id: ChildId) {
        self.child(id).extends = true;
    }

    fn child(&mut self, id: ChildId) -> &mut Child {
        self.children.get_mut(&id).expect("a child that was asked for")
    }

    fn of(&self, child: &Child) -> &Service {
        &self.services[usize::from(child.start.service.0)]
    }

    /// Before the world sleeps: nothing that is due was left undone.
    pub(crate) fn wait(&mut self, now: Nanos, until: Option<Nanos>, origin: Nanos) {
        self.last_until = until;
        for (id, child) in self.children.iter().filter(|(_, child)| !child.never_was) {
            let spec = &self.of(child).spec;
            let patience = spec.stop_timeout_ns + 2 * LATE;
            if child.ready && child.active() && self.stopping_at.is_none() {
                let due = child.watchdog_due.unwrap_or(Nanos::MAX);
                assert!(now <= due.saturating_add(2 * LATE), "{id:?} missed its watchdog and lives on");
            }
            let limit = child.told_at.or(child.stopping_itself.map(|at| at + patience)).map(|at| at + patience);
            let due = limit.is_some_and(|limit| limit < now);
            assert!(
                !due || child.killed || child.exited_at.is_some() || child.extends,
                "{id:?} did not stop and is not killed"
            );
            if let Some(at) = child.exited_at.filter(|_| child.leaves) {
                assert!(child.leftovers_told, "{id:?} left others behind, and they are left alone");
                assert!(now <= at + patience + 7 * SECOND, "{id:?}: its leftovers are never done with");
            }
        }
        if let Some(at) = self.stopping_at {
            let longest = self.services.iter().map(|service| service.spec.stop_timeout_ns).max().unwrap_or(0);
            let extended = self.children.values().any(|child| child.extends);
            assert!(now <= at + 3 * longest + 20 * SECOND || extended, "stopping takes longer than all its timeouts");
        }
        if until.is_none() && now > origin + CALM + 100 * SECOND {
            self.see("idle without a deadline");
        }
    }

    /// What the world tells the supervisor.
    pub(crate) fn event(&mut self, now: Nanos, event: &Event) {
        match event {
            Event::Said(id, note) => self.said(now, *id, note),
            Event::Acked(id) => self.child(*id).said_ready = true,
            Event::Asked(ask, _) => {
                assert!(self.asked.insert(*ask));
                self.services.iter_mut().for_each(|service| service.operations += 1);
            }
            Event::Told(told) => {
                self.services.iter_mut().for_each(|service| service.operations += 1);
                self.interrupts += u32::from(*told == Told::Interrupt);
                if self.stopping_at.is_none() && matches!(told, Told::Stop | Told::Quit | Told::Interrupt) {
                    self.before_the_last_stop(now);
                }
            }
            Event::Exited { child, group_left, .. } => self.child(*child).leaves = *group_left,
            Event::Spawned(_)
            | Event::SpawnFailed(..)
            | Event::GroupGone(_)
            | Event::HoldsSockets(..)
            | Event::Tick => {}
        }
    }

    fn said(&mut self, now: Nanos, id: ChildId, note: &Note) {
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

    /// After the calm everything is as it was asked for.
    fn before_the_last_stop(&mut self, now: Nanos) {
        if self.children.values().map(|child| child.at).min().is_none_or(|first| now < first + END - SECOND) {
            return;
        }
        for service in &self.services {
            let own = || self.children.values().filter(|child| self.of(child).spec.name == service.spec.name);
            let stuck = own().any(|child| child.active() && !child.ready && !child.holds);
            let ready = own().filter(|child| child.active() && child.ready).count();
            if service.spec.restart == Restart::Always && !stuck {
                assert_eq!(ready, service.number as usize, "ready workers of {} after the calm", service.spec.name);
                assert!(!service.restarting, "a restart never came to its end");
            }
            let watched = service.spec.watchdog_ns.is_some();
            assert!(watched || stuck || self.last_until.is_none() || self.services.len() > 1, "an idle timer");
        }
        self.see("calm");
    }

    /// What the supervisor wants.
    pub(crate) fn action(&mut self, now: Nanos, action: &Action) {
        match action {
            Action::Spawn(start) => self.spawn(now, *start),
            Action::SignalMain(id, _) => {
                let child = self.children.get(id).expect("only a child of ours is signalled");
                assert!(child.exited_at.is_none(), "{id:?} is signalled though it ended");
            }
            Action::SignalGroup(id, signal) => {
                let child = self.children.get_mut(id).expect("only a group of ours is signalled");
                assert!(
                    child.exited_at.is_none() || child.leaves,
                    "the group of {id:?} is signalled though it is gone"
                );
                child.leftovers_told |= child.exited_at.is_some();
                child.killed |= *signal == Signal::KILL;
            }
            Action::Forget(id) => {
                let child = self.children.remove(id).expect("a child is forgotten once");
                assert!(child.exited_at.is_some() || child.never_was, "{id:?} is forgotten though it lives");
                assert!(!child.leaves || child.leftovers_told, "{id:?} left others behind, and they are left alone");
            }
            Action::Answer(ask, answer) => {
                assert!(self.asked.remove(ask), "{ask:?} is answered twice, or was never asked");
                self.see(match answer {
                    Answer::Status(_) => "answered status",
                    Answer::Ready(..) => "answered ready",
                    Answer::Done(_) => "answered done",
                    Answer::Refused(_) => "answered refused",
                });
            }
            Action::Report(happening) => self.report(now, happening),
            Action::Upward(Upward::Ready | Upward::Stopping | Upward::Status(_) | Upward::Watchdog) => {}
            Action::LookGroup(id) | Action::LookSockets(id) => {
                assert!(self.children.contains_key(id), "{id:?} is looked at though it is forgotten");
            }
        }
    }

    fn spawn(&mut self, now: Nanos, start: Start) {
        assert!(self.stopping_at.is_none(), "a spawn after the stop began");
        assert!(self.children.keys().all(|other| *other < start.child), "{:?} was used before", start.child);
        let service = &self.services[usize::from(start.service.0)];
        let own: Vec<&Child> = self.children.values().filter(|child| child.start.service == start.service).collect();
        let active = own.iter().filter(|child| child.active()).count() as u32;
        let surge = (service.number / 4).max(1);
        assert!(active < service.number + surge, "more than {} + {surge} starting or ready", service.number);
        let alive: Vec<u32> =
            own.iter().filter(|child| child.exited_at.is_none()).map(|child| child.start.index).collect();
        if let Some(additional) = service.spec.max_upgrade_additional {
            assert!((alive.len() as u32) < service.number + additional, "--max-upgrade-additional is exceeded");
        }
        let lowest = (0..).find(|index| !alive.contains(index)).expect("there is one");
        assert_eq!(start.index, lowest, "EINHORN_CHILD_INDEX is the lowest that no live worker uses");
        assert!(start.slot < service.number, "slot {} of {}", start.slot, service.number);
        let mates = own.iter().filter(|child| child.active() && child.start.slot == start.slot).count();
        assert!(mates < if service.restarting { 2 } else { 1 }, "slot {} has a holder already", start.slot);
        let service = &mut self.services[usize::from(start.service.0)];
        let pause = service.not_before.remove(&start.slot).filter(|_| !service.restarting);
        assert!(pause.is_none_or(|until| until <= now), "slot {} is filled again without back-off", start.slot);
        let starts = service.starts.entry(start.slot).or_default();
        starts.push(now);
        starts.retain(|at| *at + 10 * SECOND > now);
        assert!(starts.len() <= STARTS_MAX + 5 * service.operations, "slot {} is started in a loop", start.slot);
        let child = Child {
            start,
            at: now,
            holds: true,
            said_ready: false,
            ready: false,
            watchdog_due: None,
            failed: false,
            told_at: None,
            stopping_itself: None,
            killed: false,
            extends: false,
            exited_at: None,
            leaves: false,
            leftovers_told: false,
            never_was: false,
        };
        self.children.insert(start.child, child);
    }

    fn report(&mut self, now: Nanos, happening: &Happening) {
        self.see(word(happening));
        match happening {
            Happening::Ready(who, how) => self.ready(now, who, *how),
            Happening::StartTimeout(who) | Happening::WatchdogMissed(who) => self.child(who.child).failed = true,
            Happening::SaidStopping(who) => self.child(who.child).stopping_itself = Some(now),
            Happening::ToldToStop(who, _) => self.told_to_stop(now, who),
            Happening::Exited { who, how, unexpected, was_ready, .. } => {
                if *unexpected {
                    self.ended_codes.push(*how);
                }
                let mate = self.children.values().any(|other| {
                    let place = (other.start.service, other.start.slot);
                    other.start.child != who.child && other.active() && place == (who.service, who.slot)
                });
                if *unexpected && !was_ready && !mate && self.children[&who.child].stopping_itself.is_none() {
                    let service = &mut self.services[usize::from(who.service.0)];
                    service.not_before.insert(who.slot, now + service.spec.backoff_base_ns * 3 / 2);
                }
                self.child(who.child).exited_at = Some(now);
            }
            Happening::Scaled { service, to, .. } => {
                let service = &mut self.services[usize::from(service.0)];
                service.number = *to;
                service.not_before.clear();
            }
            Happening::RestartBegun(service) => {
                let service = &mut self.services[usize::from(service.0)];
                service.restarting = true;
                service.not_before.clear();
            }
            Happening::RestartDone(service) | Happening::RestartHalted(service, _) => {
                self.services[usize::from(service.0)].restarting = false;
            }
            Happening::SpawnFailed { who, .. } => {
                self.first_failure |= self.stopping_at.is_none() && self.is_first(who);
                self.very_first_failure |= self.stopping_at.is_none() && who.child == ChildId(0);
            }
            Happening::Stopping => self.stopping_at = self.stopping_at.or(Some(now)),
            Happening::Started(_)
            | Happening::HoldsNoSocket(_)
            | Happening::Killed(_)
            | Happening::Leftovers(..)
            | Happening::Refused(_)
            | Happening::AllReady
            | Happening::Stopped => {}
        }
    }

    fn is_first(&self, who: &Who) -> bool {
        self.services[usize::from(who.service.0)].starts.get(&who.slot).is_some_and(|starts| starts.len() == 1)
    }

    fn ready(&mut self, now: Nanos, who: &Who, how: HowReady) {
        let child = &self.children[&who.child];
        let spec = &self.of(child).spec;
        let holds = child.holds || spec.sockets.is_empty();
        match (spec.ack, how) {
            (AckMode::Manual | AckMode::Notify, HowReady::Time) => panic!("ready by time in manual mode"),
            (AckMode::After(span), HowReady::Time) => assert!(now >= child.at + span && holds, "ready too early"),
            (AckMode::After(_), _) => panic!("ready before its time"),
            (AckMode::Auto, HowReady::Time) => {
                assert!(now >= child.at + AckMode::GRACE_NS && holds, "ready by time without a socket, or too early");
            }
            (_, HowReady::Notified | HowReady::Acked) => assert!(child.said_ready, "ready though it never said so"),
        }
        let watchdog_due = spec.watchdog_ns.map(|interval| now + interval);
        let child = self.child(who.child);
        (child.ready, child.watchdog_due) = (true, watchdog_due);
    }

    /// A ready worker that did nothing wrong is told to stop only when its slot is given up or has another one.
    fn told_to_stop(&mut self, now: Nanos, who: &Who) {
        let child = &self.children[&who.child];
        let mate = self.children.values().any(|other| {
            other.start.service == who.service
                && other.start.slot == who.slot
                && other.start.child != who.child
                && other.active()
                && other.ready
        });
        let fine = self.stopping_at.is_some() || child.failed || !child.ready || who.slot >= self.of(child).number;
        assert!(fine || mate, "{:?} is told to stop before another one is ready in its slot", who.child);
        let child = self.child(who.child);
        child.told_at = child.told_at.or(Some(now));
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
                    Ended::Signal(signal) => Exit::Signal(signal.0 as u8),
                });
                own.chain([Exit::Done, Exit::Failed, Exit::System]).collect()
            }
        };
        assert!(expected.contains(&exit), "it ends with {exit:?}, not one of {expected:?}");
        assert!(exit != Exit::Failed || self.interrupts >= 2, "exit 1 without a second interrupt");
    }
}
