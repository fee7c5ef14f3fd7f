//! The invariants, on a model of its own: it sees what goes into the supervisor and what comes out, nothing else.

use crate::child::Child;
use crate::script::CALM;
use crate::seen::word;
use crate::upgrades::{ToldAbove, Upgrade};
use crate::world::LATE;
use prebind::plan::{AckMode, Nanos, Plan, SECOND, ServiceSpec, Signal, Strategy};
use prebind::supervise::{
    Action, Answer, AskId, ChildId, Command as Wish, Ended, Event, Happening, HowReady, Settings, Start, Told, Who,
};
use std::collections::{BTreeMap, BTreeSet};

/// Starts of one slot in 10 s that the rules allow without an operator: the first, five at once, and what a back-off
/// of 0.1 s and more lets through.
const STARTS_MAX: usize = 18;

#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) services: Vec<Service>,
    pub(crate) children: BTreeMap<ChildId, Child>,
    pub(crate) asked: BTreeSet<AskId>,
    /// Above every child that ever was.
    pub(crate) next_child: u32,
    /// The socket is one for each slot.
    pub(crate) slots: bool,
    /// Sockets were retired: children older than this one may have them.
    pub(crate) retired_before: Option<ChildId>,
    /// HUP was told; and then prebind was replaced, so that upgrades are to begin.
    pub(crate) upgrade_told: bool,
    pub(crate) upgrades_due: bool,
    pub(crate) told_above: ToldAbove,
    pub(crate) stopping_at: Option<Nanos>,
    pub(crate) interrupts: u32,
    /// A worker of the first round could not be started (one that a scale brought may look the same).
    pub(crate) first_failure: bool,
    /// The very first could not.
    pub(crate) very_first_failure: bool,
    pub(crate) ended_codes: Vec<Ended>,
    /// Who is to get a signal that is passed on.
    pub(crate) owed: BTreeSet<ChildId>,
    /// What probes were told last.
    pub(crate) probes_ready: bool,
    pub(crate) last_until: Option<Nanos>,
    /// What was seen: the histories together must see everything.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
    pub(crate) number: u32,
    /// When workers were started, by slot.
    pub(crate) starts: BTreeMap<u32, Vec<Nanos>>,
    /// Back-off: when a slot may be filled again at the soonest.
    pub(crate) not_before: BTreeMap<u32, Nanos>,
    pub(crate) operations: usize,
    pub(crate) restarting: bool,
    /// Workers in a row that failed before one was ready, at least.
    pub(crate) failures: u32,
    pub(crate) given_up: bool,
    pub(crate) upgrade: Option<Upgrade>,
    /// What new workers are labelled with; both where it cannot be told from outside.
    pub(crate) generations: Vec<u32>,
    /// With a socket for each slot: what was last asked for, and how many there are.
    pub(crate) steered: Vec<bool>,
    pub(crate) open: u32,
}

impl Service {
    fn gives_up(&mut self, deaths: u32) {
        let limit = self.spec.give_up_after;
        assert!(limit.is_some_and(|limit| deaths >= limit) && self.failures >= deaths, "given up too soon");
        self.given_up = true;
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
            failures: 0,
            given_up: false,
            upgrade: None,
            generations: vec![1],
            steered: vec![true; spec.number.get() as usize],
            open: spec.number.get(),
        };
        Checker {
            services: plan.services.iter().map(service).collect(),
            children: BTreeMap::new(),
            asked: BTreeSet::new(),
            next_child: 0,
            slots: plan.sockets.iter().any(|socket| socket.options.slots),
            retired_before: None,
            upgrade_told: false,
            upgrades_due: false,
            told_above: ToldAbove::default(),
            stopping_at: None,
            interrupts: 0,
            first_failure: false,
            very_first_failure: false,
            ended_codes: Vec::new(),
            owed: BTreeSet::new(),
            probes_ready: false,
            last_until: None,
            seen: BTreeMap::new(),
        }
    }

    pub(crate) fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn spawned(&mut self, id: ChildId, holds: bool, accepts_at: Option<Nanos>, is_seen: bool) {
        let child = self.child(id);
        (child.holds, child.accepts_at, child.is_seen) = (holds, accepts_at, is_seen);
    }

    pub(crate) fn spawn_failed(&mut self, id: ChildId) {
        self.child(id).never_was = true;
    }

    pub(crate) fn will_extend(&mut self, id: ChildId) {
        self.child(id).extends = true;
    }

    pub(crate) fn child(&mut self, id: ChildId) -> &mut Child {
        self.children.get_mut(&id).expect("a child that was asked for")
    }

    pub(crate) fn of(&self, child: &Child) -> &Service {
        &self.services[usize::from(child.start.service.0)]
    }

    /// Before the world sleeps: nothing that is due was left undone.
    pub(crate) fn wait(&mut self, now: Nanos, until: Option<Nanos>, origin: Nanos) {
        self.last_until = until;
        assert!(self.owed.is_empty(), "a signal is not passed on to {:?}", self.owed);
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
        self.settled();
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
            Event::Asked(ask, wish) => {
                self.upgrade_told |= self.stopping_at.is_none() && matches!(wish, Wish::ReplaceAndUpgrade { .. });
                if let Wish::Configure { settings: Settings { backoff_base_ns: Some(base), .. }, .. } = wish {
                    // It may be refused, and comes into force a little later: the milder one holds.
                    self.services
                        .iter_mut()
                        .for_each(|one| one.spec.backoff_base_ns = one.spec.backoff_base_ns.min(*base));
                }
                assert!(self.asked.insert(*ask));
                self.services.iter_mut().for_each(|service| service.operations += 1);
            }
            Event::Told(told) => {
                self.passed_on(told);
                self.services.iter_mut().for_each(|service| service.operations += 1);
                self.interrupts += u32::from(*told == Told::Interrupt);
                self.upgrade_told |= self.stopping_at.is_none() && *told == Told::Upgrade;
                if self.stopping_at.is_none() && matches!(told, Told::Stop | Told::Quit | Told::Interrupt) {
                    self.before_the_last_stop(now);
                }
            }
            Event::Exited { child: id, group_left, .. } => {
                let child = self.child(*id);
                (child.leaves, child.ended) = (*group_left, true);
                self.owed.remove(id);
            }
            Event::Replaced => self.upgrades_due = std::mem::take(&mut self.upgrade_told),
            Event::ReplaceFailed(_) => self.upgrade_told = false,
            Event::StepEnded { .. }
            | Event::StepFailed(..)
            | Event::MainFound(..)
            | Event::Traffic(_)
            | Event::Connected { .. } => unreachable!("not in this world: see units"),
            Event::Spawned(_)
            | Event::SpawnFailed(..)
            | Event::GroupGone(_)
            | Event::OrphansLeft(_)
            | Event::HoldsSockets(..)
            | Event::Accepting(..)
            | Event::Tick => {}
        }
    }

    /// What the supervisor wants.
    pub(crate) fn action(&mut self, now: Nanos, action: &Action) {
        match action {
            Action::Spawn(start) => self.spawn(now, *start),
            Action::SignalMain(id, signal) => {
                self.owed.retain(|owed| owed != id || *signal != Signal::CONT);
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
                    Answer::Status(_) | Answer::Options { .. } => "answered status",
                    Answer::Ready(..) => "answered ready",
                    Answer::Done(_) | Answer::Scaled { .. } => "answered done",
                    Answer::Refused(_) => "answered refused",
                });
            }
            Action::Report(happening) => self.report(now, happening),
            Action::Health(ready) => self.probes(*ready),
            Action::Upward(what) => self.upward(what),
            Action::Steer(service, wanted) => {
                self.see("steered");
                let service = &mut self.services[usize::from(service.0)];
                service.open = service.open.max(wanted.len() as u32);
                service.steered.clone_from(wanted);
            }
            Action::CloseSlots(service, wanted) => {
                let number = wanted.len() as u32;
                self.see("slots closed");
                let used = self.children.values().any(|c| c.start.service == *service && c.start.slot >= number);
                assert!(!used, "the socket of a slot is closed though a worker is left in it");
                self.services[usize::from(service.0)].open = number;
            }
            Action::CloseRetired => {
                self.see("retired closed");
                let before = self.retired_before.take().expect("something is retired");
                let left = self.children.keys().any(|child| *child < before);
                assert!(!left, "retired sockets are closed though a worker is left that may have them");
            }
            Action::LookOrphans | Action::SignalOrphans(_) => {
                assert!(self.stopping_at.is_some(), "orphans are ended with prebind");
            }
            Action::Run(_)
            | Action::SignalStep(..)
            | Action::FindMain(_)
            | Action::Listen(..)
            | Action::Flush(_)
            | Action::Refuse(_)
            | Action::CloseSockets(_)
            | Action::Inactive(_) => panic!("no unit is here: {action:?}"),
            Action::LookGroup(id) | Action::LookSockets(id) | Action::LookAccepting(id) => {
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
        let fleet = service.upgrade.as_ref().is_some_and(|upgrade| upgrade.strategy == Strategy::Fleet);
        let surge = if fleet { service.number } else { (service.number / 4).max(1) };
        assert!(service.generations.contains(&start.generation), "a worker of generation {}", start.generation);
        let slots = self.slots && !service.spec.sockets.is_empty();
        assert!(start.slot < service.open || !slots, "no socket for slot {}", start.slot);
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
            ready_at: 0,
            accepts_at: None,
            is_seen: true,
            successor: mates > 0,
            ended: false,
            draining: false,
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
        self.next_child = start.child.0 + 1;
        self.children.insert(start.child, child);
    }

    fn report(&mut self, now: Nanos, happening: &Happening) {
        self.see(word(happening));
        match happening {
            Happening::Ready(who, how) => self.ready(now, who, *how),
            Happening::StartTimeout(who) | Happening::WatchdogMissed(who) | Happening::HoldsNoSocket(who) => {
                self.child(who.child).failed = true;
                self.services[usize::from(who.service.0)].failures += 1;
            }
            Happening::GivenUp { service, deaths } => self.services[usize::from(service.0)].gives_up(*deaths),
            Happening::SaidStopping(who) => self.said_stopping(now, who),
            Happening::ToldToStop(who, _) => self.told_to_stop(now, who),
            Happening::Exited { who, how, unexpected, was_ready, .. } => {
                if *unexpected || self.stopping_at.is_some() {
                    self.ended_codes.push(*how);
                }
                self.services[usize::from(who.service.0)].failures += u32::from(*unexpected && !was_ready);
                let mate = self.children.values().any(|other| {
                    let place = (other.start.service, other.start.slot);
                    other.start.child != who.child && other.active() && place == (who.service, who.slot)
                });
                let own = &self.children[&who.child];
                if *unexpected && !was_ready && !mate && !own.draining && own.stopping_itself.is_none() {
                    let service = &mut self.services[usize::from(who.service.0)];
                    service.not_before.insert(who.slot, now + service.spec.backoff_base_ns * 3 / 2);
                }
                self.upgrade_failure(who, *unexpected);
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
            Happening::UpgradeBegun { service, generation, strategy } => self.begun(*service, *generation, *strategy),
            Happening::UpgradeDone { service, .. } => {
                let service = &mut self.services[usize::from(service.0)];
                (service.restarting, service.upgrade) = (false, None);
            }
            Happening::UpgradeRolledBack { service, .. } => self.rolled_back(*service),
            Happening::Draining(who, _) => {
                let fine = self.stopping_at.is_some() || who.slot >= self.of(&self.children[&who.child]).number;
                assert!(fine, "{:?} drains though its slot is wanted", who.child);
                self.child(who.child).draining = true;
            }
            Happening::SpawnFailed { who, .. } => {
                self.services[usize::from(who.service.0)].failures += 1;
                self.first_failure |= self.stopping_at.is_none() && self.is_first(who);
                self.very_first_failure |= self.stopping_at.is_none() && who.child == ChildId(0);
            }
            Happening::Stopping => self.stopping_at = self.stopping_at.or(Some(now)),
            Happening::Started(_)
            | Happening::Baking(..)
            | Happening::UpgradeProgress { .. }
            | Happening::Killed(_)
            | Happening::Leftovers(..)
            | Happening::Refused(_)
            | Happening::AllReady
            | Happening::Replaced
            | Happening::AckIgnored(_)
            | Happening::Unit(_)
            | Happening::ReplaceFailed(_)
            | Happening::Orphans(..)
            | Happening::Stopped => {}
        }
    }

    fn ready(&mut self, now: Nanos, who: &Who, how: HowReady) {
        let child = &self.children[&who.child];
        let spec = &self.of(child).spec;
        let holds = child.holds || spec.sockets.is_empty();
        match (spec.ack, how) {
            (AckMode::Manual | AckMode::Notify, HowReady::Time) => panic!("ready by time in manual mode"),
            (AckMode::After(span), HowReady::Time) => assert!(now >= child.at + span && holds, "ready too early"),
            (AckMode::After(_), _) => panic!("ready before its time"),
            (AckMode::Auto | AckMode::Accept, HowReady::Time) => {
                assert!(now >= child.at + AckMode::GRACE_NS && holds, "ready by time without a socket, or too early");
                let by_time = spec.ack == AckMode::Auto && !child.successor;
                assert!(by_time || !child.is_seen || spec.sockets.is_empty(), "by time, though /proc tells");
            }
            (AckMode::Auto | AckMode::Accept, HowReady::Accepts) => {
                let accepts = child.accepts_at.is_some_and(|at| at <= now);
                assert!(accepts && child.is_seen, "ready though it waits on no socket");
            }
            (AckMode::Manual | AckMode::Notify, HowReady::Accepts) => panic!("looked at in manual mode"),
            (_, HowReady::Ended) => panic!("no unit is here"),
            (_, HowReady::Notified | HowReady::Acked) => assert!(child.said_ready, "ready though it never said so"),
        }
        let watchdog_due = spec.watchdog_ns.map(|interval| now + interval);
        let child = self.child(who.child);
        (child.ready, child.ready_at, child.watchdog_due) = (true, now, watchdog_due);
        self.services[usize::from(who.service.0)].failures = 0;
    }
}
