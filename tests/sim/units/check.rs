//! What must hold of units, on a model of its own: it sees what goes in and what comes out, nothing else.

use crate::Seen;
use prebind::exit::Exit;
use prebind::plan::{Command, Kind, Nanos, Plan, SECOND, ServiceId, ServiceSpec, StartWhen, Step};
use prebind::supervise::{
    Action, AskId, ChildId, ConnectionId, Ended, Event, Found, Happening, Run, Start, UnitHappening,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(crate) struct Check {
    plan: Plan,
    children: BTreeMap<ChildId, Child>,
    asked: BTreeSet<AskId>,
    /// Connections that nobody decided about yet.
    connections: BTreeSet<ConnectionId>,
    pub(crate) listening: BTreeSet<u16>,
    /// When traffic started a service.
    triggers: BTreeMap<u16, Vec<Nanos>>,
    failed: BTreeSet<u16>,
    active: BTreeSet<u16>,
    rolling: BTreeSet<u16>,
    stopping_at: Option<Nanos>,
    pub(crate) seen: Seen,
}

#[derive(Debug)]
struct Child {
    start: Start,
    /// The last command that was begun, as a rank, and which.
    last: Option<(Step, u16)>,
    step: Option<(Step, u16)>,
    /// The last one that ended was fine, or may fail.
    fine: bool,
    main: bool,
    mains: u16,
    ready: bool,
    killed: bool,
    told_at: Option<Nanos>,
    stop_posts: u16,
    /// A successor may have come beside it.
    overlapped: bool,
    /// Its main process could not be started, which was not said yet.
    main_failed: bool,
}

fn rank(step: Step) -> u8 {
    match step {
        Step::Condition => 0,
        Step::StartPre => 1,
        Step::StartPost => 3,
        Step::Reload => 4,
        Step::Stop => 5,
        Step::StopPost => 6,
    }
}

fn count(spec: &ServiceSpec, step: Step) -> u16 {
    spec.steps.iter().filter(|one| one.step == step).count() as u16
}

impl Check {
    pub(crate) fn new(plan: &Plan) -> Check {
        Check {
            plan: plan.clone(),
            children: BTreeMap::new(),
            asked: BTreeSet::new(),
            connections: BTreeSet::new(),
            listening: BTreeSet::new(),
            triggers: BTreeMap::new(),
            failed: BTreeSet::new(),
            active: BTreeSet::new(),
            rolling: BTreeSet::new(),
            stopping_at: None,
            seen: Seen::new(),
        }
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn spec(&self, service: ServiceId) -> &ServiceSpec {
        self.plan.service(service)
    }

    pub(crate) fn event(&mut self, now: Nanos, event: &Event) {
        match event {
            Event::Asked(ask, _) => assert!(self.asked.insert(*ask)),
            Event::StepEnded { child, how, .. } => self.step_ended(*child, *how),
            Event::Exited { child, .. } => self.child(*child).main = false,
            Event::SpawnFailed(child, _) => self.child(*child).main_failed = true,
            Event::MainFound(child, found) => {
                self.see(match found {
                    Found::Yes => "a daemon was found",
                    Found::Several => "a daemon left several",
                    Found::NotYet => "a daemon is not there yet",
                    Found::Nobody => "a daemon left nobody",
                });
                // It started well: that its processes are over is no failure.
                let child = self.child(*child);
                child.main = *found == Found::Yes;
                child.ready |= matches!(found, Found::Nobody | Found::Several);
            }
            Event::Traffic(_) => {}
            Event::Connected { connection, service, .. } => {
                assert!(self.connections.insert(*connection));
                self.triggers.entry(service.0).or_default().push(now);
            }
            _ => {}
        }
    }

    fn child(&mut self, id: ChildId) -> &mut Child {
        self.children.get_mut(&id).expect("a child that was asked for and not forgotten")
    }

    fn step_ended(&mut self, id: ChildId, how: Ended) {
        let child = &self.children[&id];
        let (step, at) = child.step.expect("a step that runs");
        let fine = self.may_fail(child.start.service, step, at) || self.is_clean(child.start.service, how);
        let child = self.child(id);
        (child.fine, child.step) = (fine, None);
    }

    fn may_fail(&self, service: ServiceId, step: Step, at: u16) -> bool {
        let those = self.spec(service).steps.iter().filter(|one| one.step == step);
        those.into_iter().nth(usize::from(at)).is_some_and(|one| one.exec.may_fail)
    }

    fn is_clean(&self, service: ServiceId, how: Ended) -> bool {
        matches!(how, Ended::Code(code) if code == 0 || self.spec(service).exits.success.codes.contains(&code))
    }

    /// A worker does its first thing.
    fn begin(&mut self, start: Start) {
        assert!(self.stopping_at.is_none(), "a worker begins after the stop began");
        assert!(self.children.keys().all(|other| *other < start.child), "{:?} was used before", start.child);
        let spec = self.spec(start.service);
        let own: Vec<&Child> = self.children.values().filter(|child| child.start.service == start.service).collect();
        let per_connection = matches!(spec.start, StartWhen::PerConnection { .. });
        let overlaps = self.rolling.contains(&start.service.0);
        if let StartWhen::PerConnection { most, .. } = spec.start {
            assert!((own.len() as u32) < most, "more than {most} connections are served");
        } else {
            let mates = own.iter().filter(|child| child.start.slot == start.slot && !child.overlapped).count();
            assert!(mates == 0 || overlaps, "slot {} has a worker that is not gone", start.slot);
        }
        if let Some(connection) = start.connection {
            assert!(per_connection && self.connections.remove(&connection), "a connection is decided about once");
            self.see("served a connection");
        }
        self.active.insert(start.service.0);
        let child = Child {
            start,
            last: None,
            step: None,
            fine: true,
            main: false,
            mains: 0,
            ready: false,
            killed: false,
            told_at: None,
            stop_posts: 0,
            overlapped: overlaps,
            main_failed: false,
        };
        self.children.insert(start.child, child);
    }

    fn run(&mut self, run: &Run) {
        let id = run.start.child;
        if !self.children.contains_key(&id) {
            self.begin(run.start);
        }
        let stopping = self.stopping_at.is_some();
        let spec = self.spec(run.start.service).clone();
        let child = self.child(id);
        assert_eq!(child.step, None, "two commands run around {id:?}");
        let before = child.last.filter(|(step, _)| *step == run.step).map(|(_, at)| at);
        let again = run.step == Step::Reload && run.at == 0;
        assert!(run.at == before.map_or(0, |at| at + 1) || again, "{:?} {} after {:?}", run.step, run.at, child.last);
        let ordered = child.last.is_none_or(|(step, _)| rank(step) <= rank(run.step));
        assert!(ordered, "{:?} after {:?}", run.step, child.last);
        let same = before.is_some() && !again;
        assert!(!same || child.fine, "{:?} {} though the one before failed", run.step, run.at);
        match run.step {
            Step::Condition | Step::StartPre => {
                assert!(!child.main && child.mains == 0 && !stopping, "{:?} though the main process ran", run.step);
                assert!(child.fine, "{:?} though the one before failed", run.step);
            }
            Step::StartPost => assert!(!stopping && child.told_at.is_none(), "ExecStartPost= while stopping"),
            Step::Reload => assert!(child.ready, "a reload of a worker that is not ready"),
            Step::Stop => assert!(child.ready, "ExecStop= of a worker that never was ready"),
            Step::StopPost => {
                assert!(!child.main, "ExecStopPost= while the main process lives");
                child.stop_posts += 1;
            }
        }
        assert!(run.at < count(&spec, run.step));
        child.last = Some((run.step, run.at));
        child.step = Some((run.step, run.at));
        self.see(match run.step {
            Step::Condition => "ran Condition",
            Step::StartPre => "ran StartPre",
            Step::StartPost => "ran StartPost",
            Step::Reload => "ran Reload",
            Step::Stop => "ran Stop",
            Step::StopPost => "ran StopPost",
        });
    }

    fn spawn(&mut self, start: Start) {
        if !self.children.contains_key(&start.child) {
            self.begin(start);
        }
        let spec = self.spec(start.service).clone();
        let parts = match &spec.command {
            Command::Execs(execs) => execs.len() as u16,
            Command::Program(_) | Command::Demo => 1,
        };
        let prepared = count(&spec, Step::Condition) + count(&spec, Step::StartPre);
        let stopping = self.stopping_at.is_some();
        let child = self.child(start.child);
        assert!(!child.main && child.step.is_none(), "two main processes");
        assert_eq!(child.mains, start.part, "the parts come in their order");
        assert!(start.part < parts && !stopping && child.told_at.is_none());
        assert!(child.fine && (prepared == 0 || child.last.is_some()), "the main process before what prepares it");
        child.main = true;
        child.mains += 1;
        if start.part > 0 {
            self.see("a oneshot's next part");
        }
    }

    pub(crate) fn action(&mut self, now: Nanos, action: &Action) {
        match action {
            Action::Run(run) => self.run(run),
            Action::Spawn(start) => self.spawn(*start),
            Action::SignalMain(id, _) => {
                let child = self.children.get(id).expect("only a child of ours is signalled");
                assert!(child.mains > 0, "{id:?} has no main process to be signalled");
            }
            Action::SignalStep(id, _) => assert!(self.children.contains_key(id)),
            Action::SignalGroup(id, signal) => self.child(*id).killed |= signal.0 == 9,
            Action::FindMain(id) => {
                let service = self.children[id].start.service;
                assert!(matches!(self.spec(service).kind, Kind::Forking { .. }));
            }
            Action::Forget(id) => self.forget(*id),
            Action::Listen(service, on) => {
                let changed = if *on { self.listening.insert(service.0) } else { self.listening.remove(&service.0) };
                assert!(changed, "it is asked to listen, or not to, twice");
                let none = !self.children.values().any(|child| child.start.service == *service);
                let per_connection = matches!(self.spec(*service).start, StartWhen::PerConnection { .. });
                assert!(!on || none || per_connection, "it listens while its workers live");
                assert!(!on || !self.failed.contains(&service.0), "it listens though it failed");
            }
            Action::Refuse(connection) => {
                assert!(self.connections.remove(connection), "a connection is decided about once");
                self.see("refused a connection");
            }
            Action::CloseSockets(service) => {
                assert!(self.failed.contains(&service.0));
                self.see("sockets closed");
            }
            Action::Inactive(service) => {
                assert!(self.active.remove(&service.0), "it was inactive already");
                assert!(!self.children.values().any(|child| child.start.service == *service), "inactive with workers");
                self.see("inactive");
            }
            Action::Answer(ask, _) => assert!(self.asked.remove(ask), "{ask:?} is answered twice, or was never asked"),
            Action::Report(happening) => self.report(now, happening),
            _ => {}
        }
    }

    fn forget(&mut self, id: ChildId) {
        let child = self.children.remove(&id).expect("a child is forgotten once");
        assert!(child.step.is_none() && !child.main, "{id:?} is forgotten though it lives");
        let due = count(self.spec(child.start.service), Step::StopPost);
        let cut = child.stop_posts > 0 && !child.fine;
        assert!(child.stop_posts == due || cut, "{} of {due} ExecStopPost= of {id:?} ran", child.stop_posts);
    }

    fn report(&mut self, now: Nanos, happening: &Happening) {
        match happening {
            Happening::Ready(who, _) => {
                // A oneshot without any command does nothing before.
                if !self.children.contains_key(&who.child) {
                    let (child, service, index) = (who.child, who.service, who.index);
                    let (slot, generation) = (who.slot, who.generation);
                    self.begin(Start { child, service, slot, generation, index, part: 0, connection: None });
                }
                let child = self.child(who.child);
                child.ready = true;
                let posts = count(&self.spec(who.service).clone(), Step::StartPost);
                let child = &self.children[&who.child];
                let posted = child.last.is_some_and(|(step, at)| step == Step::StartPost && at + 1 == posts);
                assert!(posts == 0 || (posted && child.fine), "ready before ExecStartPost= succeeded");
                if !child.main {
                    self.see("remains without a process");
                }
            }
            Happening::ToldToStop(who, _) => self.child(who.child).told_at = Some(now),
            Happening::SpawnFailed { who, .. } => {
                let child = self.child(who.child);
                let of_main = std::mem::take(&mut child.main_failed);
                if !of_main && child.step.take().is_some() {
                    let (step, at) = child.last.expect("it was begun");
                    self.child(who.child).fine = self.may_fail(who.service, step, at);
                    self.see("step could not be run");
                } else {
                    child.main = false;
                }
            }
            Happening::Stopping => self.stopping_at = self.stopping_at.or(Some(now)),
            Happening::RestartBegun(service) | Happening::UpgradeBegun { service, .. } => {
                self.rolling.insert(service.0);
                self.overlap(*service);
            }
            Happening::RestartDone(service) | Happening::RestartHalted(service, _) => {
                self.rolling.remove(&service.0);
            }
            Happening::UpgradeDone { service, .. } | Happening::UpgradeRolledBack { service, .. } => {
                self.rolling.remove(&service.0);
                self.see("upgrade done");
            }
            // Who takes workers away and brings them back does not wait for their end.
            Happening::Scaled { service, .. } => self.overlap(*service),
            Happening::Unit(one) => self.unit(now, one),
            _ => {}
        }
    }

    fn overlap(&mut self, service: ServiceId) {
        let own = self.children.values_mut().filter(|child| child.start.service == service);
        own.for_each(|child| child.overlapped = true);
    }

    fn unit(&mut self, now: Nanos, happening: &UnitHappening) {
        match happening {
            UnitHappening::StepFailed { how: None, .. } => self.see("a step took too long"),
            UnitHappening::StepFailed { who, .. } => {
                assert!(!self.children[&who.child].fine, "a step that may fail, or did not, counts as failed");
                self.see("a step failed");
            }
            UnitHappening::Skipped(_) => self.see("skipped"),
            UnitHappening::Activated(service) => {
                assert!(self.listening.contains(&service.0) || self.stopping_at.is_some());
                let StartWhen::OnTraffic { limit, .. } = self.spec(*service).start else { panic!("no traffic counts") };
                let times = self.triggers.entry(service.0).or_default();
                times.push(now);
                if let Some((burst, interval)) = limit {
                    times.retain(|at| at + interval > now);
                    assert!(times.len() <= burst as usize, "traffic starts it too often");
                }
                self.see("activated");
            }
            UnitHappening::Listening(_) => self.see("listening again"),
            UnitHappening::ServiceFailed(service, why) => {
                self.failed.insert(service.0);
                self.see(if *why == "trigger-limit-hit" { "trigger limit" } else { "start limit" });
            }
            UnitHappening::Reloaded(_, true) => self.see("reloaded"),
            UnitHappening::Reloaded(_, false) => self.see("did not reload"),
            UnitHappening::StepBegun(..)
            | UnitHappening::StartLimit { .. }
            | UnitHappening::RuntimeOver(_)
            | UnitHappening::ConnectionRefused(..)
            | UnitHappening::Reloading(_) => {}
        }
    }

    /// Before the world sleeps.
    pub(crate) fn wait(&mut self, now: Nanos) {
        assert!(self.connections.is_empty(), "a connection that nobody decided about");
        if let Some(at) = self.stopping_at {
            // The stop signal, ExecStop= and ExecStopPost=, each command with its time, and what a kill leaves.
            let longest = self.plan.services.iter().map(|spec| spec.stop_timeout_ns).max().unwrap_or(0);
            assert!(now <= at + 10 * longest + 30 * SECOND, "stopping takes longer than all its timeouts");
        }
    }

    pub(crate) fn end(&mut self, exit: Exit) {
        assert!(self.children.is_empty(), "left behind: {:?}", self.children);
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        assert!(self.active.is_empty(), "what was kept for {:?} was never given up", self.active);
        self.see(match exit {
            Exit::Done => "ended with 0",
            Exit::Failed => "ended with 1",
            _ => panic!("it ends with {exit:?}"),
        });
    }
}
