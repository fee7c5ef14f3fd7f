//! The third `impl Kernel`: processes of units in virtual time.

use super::check::Check;
use super::script::{self, CALM};
use crate::rng::Rng;
use crate::script::MS;
use prebind::notify::Note;
use prebind::plan::{Change, Kind, Nanos, Plan, ServiceId, Signal, SocketId, StartWhen};
use prebind::run::Kernel;
use prebind::supervise::{
    Accepting, Action, ChildId, ConnectionId, Ended, Event, Found, Run, SpawnFailure, Start, Supervisor,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(crate) struct World {
    now: Nanos,
    origin: Nanos,
    rng: Rng,
    queue: BTreeMap<(Nanos, u64), Thing>,
    next_thing: u64,
    children: BTreeMap<ChildId, Child>,
    listening: BTreeSet<u16>,
    connections: u64,
    plan: Plan,
    spins: u32,
    pub(crate) check: Check,
    pub(crate) trace: Vec<String>,
    verbose: bool,
}

#[derive(Debug, Clone)]
enum Thing {
    Operator(Event),
    MainEnds(ChildId, u32, Ended),
    StepEnds(ChildId, u32, Ended),
    OthersEnd(ChildId),
    Say(ChildId, Note),
    Traffic(u16),
}

#[derive(Debug, Default)]
struct Child {
    /// Which of its main processes, and of its steps, lives: a thing about another one does not happen.
    main: Option<u32>,
    step: Option<u32>,
    count: u32,
    /// Others of it live on.
    others: bool,
}

impl Child {
    fn left(&self) -> bool {
        self.main.is_some() || self.step.is_some() || self.others
    }
}

impl World {
    pub(crate) fn new(mut rng: Rng, verbose: bool) -> (World, Plan) {
        let plan = script::plan(&mut rng);
        let origin = rng.pick(&[1, 3_000_000_000]);
        let acts = script::operator(&mut rng);
        let mut world = World {
            now: origin,
            origin,
            rng,
            queue: BTreeMap::new(),
            next_thing: 0,
            children: BTreeMap::new(),
            listening: BTreeSet::new(),
            connections: 0,
            plan: plan.clone(),
            spins: 0,
            check: Check::new(&plan),
            trace: Vec::new(),
            verbose,
        };
        acts.into_iter().for_each(|(at, event)| world.put(origin + at, Thing::Operator(event)));
        (world, plan)
    }

    fn put(&mut self, at: Nanos, thing: Thing) {
        self.next_thing += 1;
        self.queue.insert((at, self.next_thing), thing);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.verbose {
            let at = (self.now - self.origin) as f64 / 1e9;
            self.trace.push(format!("{at:10.4} {}", line()));
        }
    }

    fn calm(&self) -> bool {
        self.now >= self.origin + CALM
    }

    fn end_of(&mut self) -> Ended {
        match self.rng.range(0, 9) {
            0 if !self.calm() => Ended::Code(1),
            1 if !self.calm() => Ended::Signal(Signal(11)),
            2 if !self.calm() => Ended::Code(3),
            _ => Ended::Code(0),
        }
    }

    fn new_process(&mut self, child: ChildId) -> u32 {
        let child = self.children.entry(child).or_default();
        child.count += 1;
        child.count
    }

    fn spawn(&mut self, start: Start, events: &mut Vec<Event>) {
        let id = start.child;
        if !self.calm() && self.rng.percent(4) {
            let event = Event::SpawnFailed(id, SpawnFailure { message: "no".into(), code: 203 });
            self.check.event(self.now, &event);
            events.push(event);
            return;
        }
        let process = self.new_process(id);
        self.children.entry(id).or_default().main = Some(process);
        let spec = self.plan.service(start.service).clone();
        let connection = matches!(spec.start, StartWhen::PerConnection { .. });
        let soon = spec.kind != Kind::Simple || connection;
        if soon || (!self.calm() && self.rng.percent(50)) {
            let after = if soon { self.rng.range(0, 900) } else { self.rng.pick(&[0, 300, 3000, 20_000]) };
            let how = self.end_of();
            self.put(self.now + after * MS, Thing::MainEnds(id, process, how));
        }
        if self.calm() || self.rng.percent(85) {
            let ready = Note { ready: true, ..Note::default() };
            let after = self.rng.range(0, 400) * MS;
            self.put(self.now + after, Thing::Say(id, ready));
        }
        events.push(Event::Spawned(id));
    }

    fn run_step(&mut self, run: &Run, events: &mut Vec<Event>) {
        let id = run.start.child;
        if !self.calm() && self.rng.percent(3) {
            events.push(Event::StepFailed(id, SpawnFailure { message: "no".into(), code: 203 }));
            return;
        }
        let process = self.new_process(id);
        self.children.entry(id).or_default().step = Some(process);
        if self.calm() || self.rng.percent(92) {
            let how = if self.rng.percent(80) { Ended::Code(0) } else { self.end_of() };
            let after = self.rng.range(0, 300) * MS;
            self.put(self.now + after, Thing::StepEnds(id, process, how));
        }
    }

    /// A signal reaches the main process: the usual ones end it sooner or later, or it ignores them.
    fn signal_main(&mut self, id: ChildId, signal: Signal) {
        let Some(process) = self.children.get(&id).and_then(|child| child.main) else { return };
        match signal {
            Signal::HUP => {
                let usec = self.now / 1000 + 1;
                if self.rng.percent(80) {
                    let at = self.now + self.rng.range(1, 50) * MS;
                    let monotonic_usec = Some(usec + self.rng.range(0, 1000));
                    self.put(at, Thing::Say(id, Note { reloading: true, monotonic_usec, ..Note::default() }));
                    self.put(at + 20 * MS, Thing::Say(id, Note { ready: true, ..Note::default() }));
                }
            }
            Signal::CONT => {}
            Signal::KILL => self.put(self.now + MS, Thing::MainEnds(id, process, Ended::Signal(signal))),
            _ if self.calm() || self.rng.percent(85) => {
                let how = if self.rng.percent(50) { Ended::Code(0) } else { Ended::Signal(signal) };
                let after = self.rng.range(0, 200) * MS;
                self.put(self.now + after, Thing::MainEnds(id, process, how));
            }
            _ => {}
        }
    }

    fn signal_step(&mut self, id: ChildId, signal: Signal) {
        let Some(process) = self.children.get(&id).and_then(|child| child.step) else { return };
        if signal == Signal::KILL || (signal == Signal::TERM && self.rng.percent(85)) {
            let after = self.rng.range(0, 50) * MS;
            self.put(self.now + after, Thing::StepEnds(id, process, Ended::Signal(signal)));
        }
    }

    fn find_main(&mut self, id: ChildId) -> Found {
        if !self.calm() && self.rng.percent(20) {
            return if self.rng.percent(50) { Found::NotYet } else { Found::Nobody };
        }
        if !self.calm() && self.rng.percent(20) {
            self.children.entry(id).or_default().others = true;
            let after = self.rng.pick(&[5, 300, 20_000]) * MS;
            self.put(self.now + after, Thing::OthersEnd(id));
            return Found::Several;
        }
        let process = self.new_process(id);
        self.children.entry(id).or_default().main = Some(process);
        if !self.calm() && self.rng.percent(50) {
            let (after, how) = (self.rng.range(100, 20_000) * MS, self.end_of());
            self.put(self.now + after, Thing::MainEnds(id, process, how));
        }
        Found::Yes
    }

    fn listen(&mut self, service: ServiceId, on: bool) {
        if !on {
            self.listening.remove(&service.0);
        } else if self.listening.insert(service.0) {
            let after = self.rng.pick(&[0, 1, 200, 9000]) * MS;
            self.put(self.now + after, Thing::Traffic(service.0));
        }
    }

    fn happen(&mut self, thing: Thing) -> Option<Event> {
        match thing {
            Thing::Operator(event) => Some(event),
            Thing::MainEnds(id, process, how) => {
                let others = self.rng.percent(10) && !self.calm();
                let child = self.children.get_mut(&id).filter(|child| child.main == Some(process))?;
                child.main = None;
                child.others |= others;
                let group_left = child.left();
                Some(Event::Exited { child: id, how, group_left, foreground: false })
            }
            Thing::StepEnds(id, process, how) => {
                let child = self.children.get_mut(&id).filter(|child| child.step == Some(process))?;
                child.step = None;
                Some(Event::StepEnded { child: id, how, group_left: child.left() })
            }
            Thing::OthersEnd(id) => {
                if let Some(child) = self.children.get_mut(&id) {
                    child.others = false;
                }
                None
            }
            Thing::Say(id, note) => self.children.get(&id).map(|_| Event::Said(id, note)),
            Thing::Traffic(service) => {
                if !self.listening.contains(&service) {
                    return None;
                }
                let after = self.rng.pick(&[1, 5, 100, 3000]) * MS;
                self.put(self.now + after, Thing::Traffic(service));
                let id = ServiceId(service);
                if !matches!(self.plan.service(id).start, StartWhen::PerConnection { .. }) {
                    return Some(Event::Traffic(SocketId(0)));
                }
                self.connections += 1;
                let source = self.rng.range(0, 2);
                Some(Event::Connected { service: id, connection: ConnectionId(self.connections), source })
            }
        }
    }
}

impl Kernel for World {
    fn now(&self) -> Nanos {
        self.now
    }

    fn wait(&mut self, until: Option<Nanos>, events: &mut Vec<Event>) {
        let next = self.queue.keys().next().map(|(at, _)| *at);
        let target = match (until, next) {
            (None, None) => panic!("nothing will ever happen again, and it has not ended"),
            (Some(until), Some(next)) if next <= until => next,
            (None, Some(next)) => next,
            (Some(until), _) => until + self.rng.range(0, 5) * MS,
        };
        self.spins = if target <= self.now && next.is_none_or(|next| next > self.now) { self.spins + 1 } else { 0 };
        assert!(self.spins < 30, "the deadline does not move: {until:?} at {}", self.now);
        self.check.wait(self.now);
        self.now = self.now.max(target);
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let thing = entry.remove();
            if let Some(event) = self.happen(thing) {
                self.note(|| format!("-> {event:?}"));
                self.check.event(self.now, &event);
                events.push(event);
            }
        }
    }

    fn replace(&mut self, supervisor: &mut Supervisor, events: &mut Vec<Event>) {
        let state = supervisor.freeze().expect("it can be written");
        let mut next = Supervisor::thaw(serde_json::from_str(&state.to_string()).expect("JSON")).expect("understood");
        next.go_on(&self.plan, &self.plan, &Change::none(&self.plan));
        assert_eq!(next.freeze().expect("again"), state, "what is thawed is what was frozen");
        *supervisor = next;
        // The next program listens for nobody until it is told.
        self.listening.clear();
        self.check.listening.clear();
        events.push(Event::Replaced);
    }

    fn apply(&mut self, action: Action, events: &mut Vec<Event>) {
        self.note(|| format!("<- {action:?}"));
        self.check.action(self.now, &action);
        match action {
            Action::Spawn(start) => self.spawn(start, events),
            Action::Run(run) => self.run_step(&run, events),
            Action::SignalMain(child, signal) => self.signal_main(child, signal),
            Action::SignalStep(child, signal) => self.signal_step(child, signal),
            Action::SignalGroup(child, signal) => {
                self.signal_main(child, signal);
                self.signal_step(child, signal);
                let leaves = signal == Signal::KILL || self.rng.percent(70);
                if let Some(child) = self.children.get_mut(&child).filter(|_| leaves) {
                    child.others = false;
                }
            }
            Action::LookGroup(id) => {
                if self.children.get(&id).is_none_or(|child| !child.left()) {
                    events.push(Event::GroupGone(id));
                }
            }
            Action::FindMain(child) => {
                let found = self.find_main(child);
                let event = Event::MainFound(child, found);
                self.check.event(self.now, &event);
                events.push(event);
            }
            Action::Forget(child) => {
                self.children.remove(&child);
            }
            Action::Listen(service, on) => self.listen(service, on),
            Action::LookSockets(child) => events.push(Event::HoldsSockets(child, true)),
            Action::LookAccepting(child) => events.push(Event::Accepting(child, Accepting::Unknown)),
            Action::LookOrphans | Action::SignalOrphans(_) => unreachable!("not in this world"),
            Action::Flush(_)
            | Action::Refuse(_)
            | Action::CloseSockets(_)
            | Action::Inactive(_)
            | Action::CloseRetired
            | Action::Steer(..)
            | Action::CloseSlots(..)
            | Action::Answer(..)
            | Action::Report(_)
            | Action::Upward(_)
            | Action::Health(_) => {}
        }
    }
}
