//! The second `impl Kernel`: a world with a virtual clock, in which workers do what their behaviour says, and events
//! come late, at once and in any order. It tells the checker of everything that goes in and out.

use crate::checker::Checker;
use crate::orphans::Orphans;
use crate::rng::Rng;
use crate::script::{self, Behaviour, CALM, MS};
use prebind::notify::Note;
use prebind::plan::{Change, Nanos, Number, Plan, Signal, SocketSpec};
use prebind::run::Kernel;
use prebind::supervise::{Accepting, Action, ChildId, Ended, Event, SpawnFailure, Start, Supervisor};
use std::collections::BTreeMap;

/// The latest that a tick comes after its deadline.
pub(crate) const LATE: Nanos = 20 * MS;

#[derive(Debug)]
pub(crate) struct World {
    now: Nanos,
    origin: Nanos,
    rng: Rng,
    queue: BTreeMap<(Nanos, u64), Thing>,
    next_thing: u64,
    children: BTreeMap<ChildId, Child>,
    plan: Plan,
    spawns_fail: u64,
    /// What workers left.
    pub(crate) orphans: Orphans,
    pub(crate) check: Checker,
    spins: u32,
    pub(crate) trace: Vec<String>,
    pub(crate) verbose: bool,
}

#[derive(Debug, Clone)]
enum Thing {
    Operator(Event),
    Exit(ChildId, Ended),
    Ping(ChildId),
    Say(ChildId, Note),
    Ack(ChildId),
    GroupEnds(ChildId),
    OrphanEnds(u64),
}

#[derive(Debug)]
struct Child {
    start: Start,
    behaviour: Behaviour,
    born_at: Nanos,
    /// Its main process lives.
    alive: bool,
    /// Others of its group live.
    group: bool,
    ping_every: Option<Nanos>,
}

impl World {
    pub(crate) fn new(mut rng: Rng, verbose: bool) -> (World, Plan) {
        let plan = script::plan(&mut rng);
        let origin = rng.pick(&[1, 7 * script::MS, 3_000_000_000, 1 << 50]);
        let acts = script::operator(&mut rng, plan.services.len());
        let spawns_fail = if rng.percent(20) { rng.range(1, 15) } else { 0 };
        let check = Checker::new(&plan);
        let mut world = World {
            now: origin,
            origin,
            rng,
            queue: BTreeMap::new(),
            next_thing: 0,
            children: BTreeMap::new(),
            plan: plan.clone(),
            spawns_fail,
            orphans: Orphans::default(),
            check,
            spins: 0,
            trace: Vec::new(),
            verbose,
        };
        for (at, event) in acts {
            world.put(origin + at, Thing::Operator(event));
        }
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

    /// What a front door reads at a re-exec: mostly the same.
    fn next_plan(&mut self) -> Plan {
        let mut plan = self.plan.clone();
        if self.rng.percent(20) {
            let n = self.rng.range(0, plan.services.len() as u64 - 1) as usize;
            plan.services[n].number = Number::Fixed(self.rng.range(0, 7) as u32);
        }
        if self.rng.percent(20)
            && let Some(one) = plan.sockets.first().cloned()
        {
            plan.sockets.push(SocketSpec { retired: true, ..one });
        }
        plan
    }

    fn is_calm(&self) -> bool {
        self.now >= self.origin + CALM
    }

    fn spawn(&mut self, start: Start, events: &mut Vec<Event>) {
        if !self.is_calm() && self.rng.percent(self.spawns_fail) {
            self.check.spawn_failed(start.child);
            events.push(Event::SpawnFailed(start.child, SpawnFailure { message: "no".into(), code: 203 }));
            return;
        }
        let behaviour = if self.is_calm() { Behaviour::good(&mut self.rng) } else { Behaviour::random(&mut self.rng) };
        let (id, at) = (start.child, self.now);
        if let Some(after) = behaviour.ready_after {
            let ready = Thing::Say(id, Note { ready: true, ..Note::default() });
            self.put(at + after, if behaviour.acks { Thing::Ack(id) } else { ready });
        }
        if let Some((after, how)) = behaviour.dies {
            self.put(at + after, Thing::Exit(id, how));
        }
        if let Some(after) = behaviour.says_stopping {
            self.put(at + after, Thing::Say(id, Note { stopping: true, ..Note::default() }));
        }
        if let Some((after, usec)) = behaviour.extends {
            self.check.will_extend(id);
            self.put(at + after, Thing::Say(id, Note { extend_timeout_usec: Some(usec), ..Note::default() }));
        }
        if self.rng.percent(5) {
            let status = Some(self.rng.pick(&["", "busy"]).to_string());
            self.put(at + 5 * MS, Thing::Say(id, Note { status, ..Note::default() }));
        }
        let ping_every = self.plan.service(start.service).watchdog_ns.map(|interval| interval / 2);
        if let Some(every) = ping_every {
            self.put(at + every, Thing::Ping(id));
        }
        let accepts_at = behaviour.accepts_after.map(|after| at + after);
        self.check.spawned(id, behaviour.holds, accepts_at, behaviour.is_seen);
        self.children.insert(id, Child { start, behaviour, born_at: at, alive: true, group: false, ping_every });
        events.push(Event::Spawned(id));
    }

    fn signal_main(&mut self, id: ChildId, signal: Signal) {
        let Some(child) = self.children.get(&id) else { return };
        let stops = signal == self.plan.service(child.start.service).stop_signal
            || matches!(signal, Signal::QUIT | Signal::ABRT | Signal::TERM);
        if stops && let Some(after) = child.behaviour.obeys {
            let how = if self.rng.percent(50) { Ended::Code(0) } else { Ended::Signal(signal) };
            self.put(self.now + after, Thing::Exit(id, how));
        }
    }

    fn signal_group(&mut self, id: ChildId, signal: Signal) {
        let Some(child) = self.children.get(&id) else { return };
        let kill = signal == Signal::KILL;
        let group_ends = kill || (child.group && child.behaviour.leaves == Some(true));
        if kill && child.alive {
            let after = self.rng.range(0, 3) * MS;
            self.put(self.now + after, Thing::Exit(id, Ended::Signal(Signal::KILL)));
        }
        if group_ends {
            let after = self.rng.range(0, 60) * MS;
            self.put(self.now + after, Thing::GroupEnds(id));
        }
    }

    /// What /proc tells of a worker.
    fn accepting(&mut self, child: ChildId) -> Accepting {
        let Some(child) = self.children.get(&child).filter(|child| child.behaviour.is_seen) else {
            return Accepting::Unknown;
        };
        let accepts = child.behaviour.accepts_after.is_some_and(|after| child.born_at + after <= self.now);
        match accepts {
            false => Accepting::None,
            true if self.rng.percent(20) => Accepting::Some,
            true => Accepting::Each,
        }
    }

    /// What a thing means to the supervisor, if its child is still there to do it.
    fn happen(&mut self, thing: Thing) -> Option<Event> {
        match thing {
            Thing::Operator(event) => Some(event),
            Thing::Exit(id, how) => {
                let child = self.children.get_mut(&id).filter(|child| child.alive)?;
                child.alive = false;
                child.group = child.behaviour.leaves.is_some();
                let left = child.group;
                if self.plan.entry.subreaper && self.rng.percent(5) {
                    let hears = self.rng.percent(60);
                    self.orphans.add(hears);
                }
                Some(Event::Exited { child: id, how, group_left: left, foreground: false })
            }
            Thing::GroupEnds(id) => {
                if let Some(child) = self.children.get_mut(&id).filter(|child| !child.alive) {
                    child.group = false;
                }
                None
            }
            Thing::OrphanEnds(orphan) => {
                // Heard of where it was a child of prebind's.
                let heard = self.orphans.ends(orphan) && self.children.is_empty() && self.rng.percent(50);
                heard.then(|| Event::OrphansLeft(self.orphans.number()))
            }
            Thing::Ping(id) => {
                let child = self.children.get(&id).filter(|child| child.alive)?;
                let every = child.ping_every?;
                if self.now > child.behaviour.pings_until.saturating_add(self.origin) && !self.is_calm() {
                    return None;
                }
                self.put(self.now + every, Thing::Ping(id));
                Some(Event::Said(id, Note { watchdog: true, ..Note::default() }))
            }
            // A word may arrive when its worker is gone already.
            Thing::Say(id, note) => self.children.get(&id).map(|_| Event::Said(id, note)),
            Thing::Ack(id) => self.children.get(&id).map(|_| Event::Acked(id)),
        }
    }
}

impl Kernel for World {
    fn now(&self) -> Nanos {
        self.now
    }

    fn wait(&mut self, until: Option<Nanos>, events: &mut Vec<Event>) {
        let next = self.queue.keys().next().map(|(at, _)| *at);
        let lateness = self.rng.range(0, LATE);
        let target = match (until, next) {
            (None, None) => panic!("nothing will ever happen again, and it has not ended"),
            (Some(until), Some(next)) if next <= until => next,
            (None, Some(next)) => next,
            (Some(until), _) => until + lateness,
        };
        self.spins = if target <= self.now && next.is_none_or(|next| next > self.now) { self.spins + 1 } else { 0 };
        assert!(self.spins < 3, "the deadline does not move: {until:?} at {}", self.now);
        self.check.wait(self.now, until, self.origin);
        self.now = self.now.max(target);
        let mut things = Vec::new();
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            things.push(entry.remove());
        }
        if self.rng.percent(50) {
            self.rng.shuffle(&mut things);
        }
        for thing in things {
            let event = self.happen(thing);
            if let Some(event) = event {
                self.note(|| format!("-> {event:?}"));
                self.check.event(self.now, &event);
                events.push(event);
            }
        }
    }

    /// The next program thaws what this one froze, and goes on in its place.
    fn replace(&mut self, supervisor: &mut Supervisor, events: &mut Vec<Event>) {
        if self.rng.percent(30) {
            self.note(|| "-> not replaced".into());
            let failed = Event::ReplaceFailed("no".into());
            self.check.event(self.now, &failed);
            events.push(failed);
            return;
        }
        let state = supervisor.freeze().expect("it can be written");
        let text = state.to_string();
        let mut next = Supervisor::thaw(serde_json::from_str(&text).expect("JSON")).expect("understood");
        let plan = self.next_plan();
        let change = Change::none(&self.plan);
        next.go_on(&self.plan, &plan, &change);
        let same = plan == self.plan;
        assert!(!same || next.freeze().expect("again") == state, "what is thawed is what was frozen");
        if change.retires(&self.plan, &plan) {
            self.check.retired_before = Some(ChildId(self.check.next_child));
        }
        self.plan = plan;
        *supervisor = next;
        self.note(|| "-> replaced".into());
        self.check.event(self.now, &Event::Replaced);
        events.push(Event::Replaced);
    }

    fn apply(&mut self, action: Action, events: &mut Vec<Event>) {
        self.note(|| format!("<- {action:?}"));
        self.check.action(self.now, &action);
        match action {
            Action::Spawn(start) => self.spawn(start, events),
            Action::SignalMain(child, signal) => self.signal_main(child, signal),
            Action::SignalGroup(child, signal) => self.signal_group(child, signal),
            Action::LookGroup(child) => {
                if self.children.get(&child).is_none_or(|child| !child.alive && !child.group) {
                    events.push(Event::GroupGone(child));
                }
            }
            Action::Forget(child) => {
                self.children.remove(&child);
            }
            Action::LookSockets(child) => {
                let holds = self.children.get(&child).is_none_or(|child| child.behaviour.holds);
                events.push(Event::HoldsSockets(child, holds));
            }
            Action::LookAccepting(child) => {
                let seen = self.accepting(child);
                events.push(Event::Accepting(child, seen));
            }
            Action::LookOrphans => {
                assert!(self.children.is_empty(), "workers are no orphans");
                events.push(Event::OrphansLeft(self.orphans.number()));
            }
            Action::SignalOrphans(signal) => {
                assert!(self.children.is_empty(), "workers are no orphans");
                for (orphan, after) in self.orphans.signal(signal, &mut self.rng) {
                    self.put(self.now + after, Thing::OrphanEnds(orphan));
                }
            }
            Action::CloseRetired => self.plan.sockets.retain(|spec| !spec.retired),
            Action::Run(_)
            | Action::SignalStep(..)
            | Action::FindMain(_)
            | Action::Listen(..)
            | Action::Flush(_)
            | Action::Refuse(_)
            | Action::CloseSockets(_)
            | Action::Inactive(_) => unreachable!("not in this world: see units"),
            Action::Answer(..)
            | Action::Report(_)
            | Action::Upward(_)
            | Action::Health(_)
            | Action::Steer(..)
            | Action::CloseSlots(..) => {}
        }
    }
}
