//! The supervisor: every decision, no resource. Receives events with the time as an argument, hands out actions; it
//! never reads a clock, knows no pid and makes no system call. [`Supervisor::step`] takes one event; time passes by
//! [`Event::Tick`], needed no later than [`Supervisor::next_deadline`]; a tick that comes too early is harmless.
//!
//! # Specification
//!
//! A *slot* (0..number-1) of a service has at most one *holder*: a worker that is starting or ready. While workers are
//! restarted one by one, one slot at a time also has a *successor*. Workers that are on the way out hold no slot: the
//! next one may start while they end. An empty slot is *due* (filled as soon as fewer than `max_unacked` workers are
//! starting), *waiting* (back-off), or *over* (its worker ended and `--restart` says so).
//!
//! | worker | event | becomes |
//! |---|---|---|
//! | starting | READY=1, ack (modes auto, manual, notify) | ready |
//! | starting | its time passed (auto: 1 s; `-m SECONDS`) and it holds a socket, or its service has none | ready |
//! | starting | its time passed and it holds no socket | starting for ever: only READY=1 helps (auto); does not count as unacked |
//! | starting | `--start-timeout` (manual, notify), or EXTEND_TIMEOUT_USEC before it | told to stop (a unit: as TimeoutStartFailureMode= says); slot: back-off |
//! | ready | WATCHDOG=1 not in time, WATCHDOG=trigger | ABRT, stopping; slot: as if it had died |
//! | starting, ready | STOPPING=1 unasked | stopping (told after `-t`; a unit: killed then); slot: as if it had died |
//! | ready | as old as it may be (max_age) | goes on; a successor takes its slot over |
//! | starting, ready | scaled away, replaced, stop | told to stop: the stop signal to the main process alone |
//! | stopping | `-t` passed, or EXTEND_TIMEOUT_USEC before it | SIGKILL to the group |
//! | any alive | main process ended, group empty | gone |
//! | any alive | main process ended, others that it started live | lingering: stop signal to all of them, SIGKILL after `-t` |
//! | lingering | nothing left of the group | gone |
//!
//! When a holder fails, its slot is due at once if the worker had been ready and the slot was not replaced more than
//! 5 times in 10 s; else it waits `-s` x 1.5^deaths, at most 30 s. Deaths are forgotten after 10 s of being ready.
//! A successor that fails is tried again after the same back-off, 3 times in all; then the restart halts and the old
//! workers serve on. If the old holder dies meanwhile, the successor holds the slot.
//!
//! # Units
//!
//! A unit's worker is one run of the unit: commands around the main process, one at a time, in this order.
//!
//! | state | what runs | ends well | ends badly, or not in time |
//! |---|---|---|---|
//! | preparing | ExecCondition=, ExecStartPre= | the next one; then the main process: starting | fails; a condition that says no is no failure: the slot is over |
//! | starting | the main process (of a oneshot: one part after the other; of a daemon: the one that leaves it behind) | as above; a oneshot when the last part succeeded, a daemon when the main process was found | fails |
//! | posting | ExecStartPost= | ready | fails, without ExecStop= |
//! | ready | the main process, or nothing (`remain`); ExecReload= on demand | stays | fails |
//! | asked | ExecStop= | told to stop | told to stop |
//! | stopping, lingering | as above | cleaning | killed |
//! | cleaning | ExecStopPost= | what it left is lingering; then gone | the same |
//!
//! Who is ready as soon as it runs (a simple service) was ready, however short that was. A daemon that leaves several
//! processes has no main one: it is ready while any is left. A main process that ends while ExecStartPost= runs does not cut
//! that short. What may have been left behind is looked for first, and told to stop if it is there.
//!
//! What went wrong first is the worker's *result*; `Restart=` and the lists of exit statuses decide by it, once the worker
//! is gone and nothing can be added to it. Its slot is filled again when the delay after that is over; where it was started too often it is over for
//! good. Workers of a daemon or a oneshot do not overlap: an upgrade stops the old one first.
//!
//! A service that starts by traffic is *asleep* until there is some, and again when all its slots are over; traffic too often
//! in too short a time ends it. A service with a worker for each connection has no slots; connections beyond its limits are
//! closed at once.
//!
//! HUP asks for prebind's own replacement first; the next program begins an upgrade of every service. What its plan does
//! not ask for any more is *retired*: a service has no slots, a socket no new worker, and both are closed when every
//! worker older than the replacement is gone.
//!
//! Stopping is final: nothing is spawned, every request is answered, and the end comes when no child is left, and, where
//! orphans are prebind's, nobody else (remains.rs).

mod asks;
mod begin;
mod entry;
mod event;
mod limits;
pub mod planted;
mod policy;
mod ready;
mod reload;
mod remains;
mod replace;
mod request;
mod rollout;
mod service;
mod slot;
mod status;
mod steer;
mod steps;
mod stop;
mod traffic;
mod unit;
mod upgrade;
mod verdict;
mod worker;

pub use event::{
    Accepting, Action, AskId, ChildId, Command, ConnectionId, Ended, Event, Found, Run, SpawnFailure, Start, Told,
    Upward, Wait,
};
pub use status::{
    Answer, Happening, HowReady, LastUpgrade, Next, Outcome, Phase, ServiceStatus, Settings, Status, UnitHappening,
    Who, WorkerStatus,
};
pub use verdict::RunResult;

use crate::exit::Exit;
use crate::plan::{Nanos, Plan, ServiceId};
use serde::{Deserialize, Serialize};
use service::Service;
use std::collections::BTreeMap;
use worker::{State, Worker, soonest};

/// What the manager above us wants.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Above {
    /// There is one: it is told READY=1 and so on.
    pub present: bool,
    /// Its WATCHDOG_USEC in nanoseconds, if it watches us: pinged at half of it.
    pub watchdog_ns: Option<Nanos>,
}

/// Decides everything, does nothing.
#[derive(Debug, Serialize, Deserialize)]
pub struct Supervisor {
    services: Vec<Service>,
    children: BTreeMap<ChildId, Worker>,
    next_child: u32,
    /// Requests that are answered when what they ask for is done.
    open: Vec<asks::Open>,
    /// prebind's own program is to be replaced.
    replacing: Option<replace::Replacing>,
    /// Sockets and services are retired: closed when every worker from the one child to before the other is gone.
    closing: Option<(ChildId, ChildId)>,
    /// Set once, by whatever ends it all.
    stopping: Option<stop::Stop>,
    /// Orphans become prebind's children, who is to see to their end.
    #[serde(default)]
    reaps: bool,
    all_were_ready: bool,
    /// What probes are told.
    #[serde(default)]
    told_ready: bool,
    /// The manager above us was told RELOADING=1, and is to be told READY=1.
    reloading: bool,
    above: Above,
    /// When the manager above us is told WATCHDOG=1 next.
    ping_at: Option<Nanos>,
    /// The last STATUS= sent upward.
    told_status: String,
    ended: Option<Exit>,
}

impl Supervisor {
    /// For a checked plan. Nothing starts before the first `step`.
    pub fn new(plan: &Plan, above: Above) -> Supervisor {
        let services = (0..plan.services.len()).map(|n| Service::new(ServiceId(n as u16), plan));
        Supervisor {
            services: services.collect(),
            children: BTreeMap::new(),
            next_child: 0,
            open: Vec::new(),
            replacing: None,
            closing: None,
            stopping: None,
            reaps: plan.entry.reaps(),
            all_were_ready: false,
            told_ready: false,
            reloading: false,
            above,
            ping_at: None,
            told_status: String::new(),
            ended: None,
        }
    }

    /// Takes one event at `now` and appends what is to be done.
    pub fn step(&mut self, now: Nanos, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Spawned(child) => {
                let started = self.children.get(&child).map(|worker| worker.who(child));
                out.extend(started.map(|who| Action::Report(Happening::Started(who))));
            }
            Event::SpawnFailed(child, failure) => self.spawn_failed(now, child, failure, out),
            Event::Exited { child, how, group_left, foreground } => {
                self.exited(now, child, how, group_left, foreground, out);
            }
            Event::GroupGone(child) => self.group_gone(now, child, out),
            Event::StepEnded { child, how, group_left } => self.step_ended(now, child, how, group_left, out),
            Event::StepFailed(child, failure) => self.step_failed(now, child, failure.message, failure.code, out),
            Event::MainFound(child, found) => self.main_found(now, child, found, out),
            Event::Traffic(socket) => self.traffic(now, socket, out),
            Event::Connected { service, connection, source } => {
                self.connected(now, usize::from(service.0), connection, source, out);
            }
            Event::HoldsSockets(child, holds) => self.sockets_seen(now, child, holds, out),
            Event::Accepting(child, accepting) => self.accepting_seen(now, child, accepting, out),
            Event::OrphansLeft(number) => self.orphans_left(now, number, out),
            Event::Replaced => self.replaced(now, out),
            Event::ReplaceFailed(why) => self.replace_failed(&why, out),
            Event::Said(child, note) => self.said(now, child, &note, out),
            Event::Acked(child) => self.acked(now, child, HowReady::Acked, out),
            Event::Told(told) => self.told(now, told, out),
            Event::Asked(ask, command) => self.asked(now, ask, command, out),
            Event::Tick => self.tick(now, out),
        }
        self.settle(now, out);
        self.check_limits();
    }

    /// When `Event::Tick` is next needed; `None`: not before something else happens.
    pub fn next_deadline(&self) -> Option<Nanos> {
        let workers = self.children.values().filter_map(Worker::deadline).min();
        let services = self.services.iter().filter_map(|service| self.service_deadline(service)).min();
        let remains = self.stopping.as_ref().and_then(|stop| stop.remains?.deadline());
        soonest(remains, soonest(self.ping_at, soonest(workers, services)))
    }

    /// How many workers the first service is asked for.
    pub fn number(&self) -> u32 {
        self.services.first().map_or(0, |service| service.number)
    }

    /// Set once everything is over.
    pub fn ended(&self) -> Option<Exit> {
        self.ended
    }

    /// What follows from any event: slots are filled, restarts go on, the end is noticed, the manager above is told.
    fn settle(&mut self, now: Nanos, out: &mut Vec<Action>) {
        if self.ended.is_some() {
            return;
        }
        for n in 0..self.services.len() {
            self.advance_rollout(now, n, out);
            self.steer(n, out);
            self.fill(now, n, out);
            self.notice_drained(n, out);
            self.notice_listening(n, out);
            self.notice_inactive(n, out);
        }
        self.notice_retired(out);
        self.notice_reloaded(out);
        self.notice_all_ready(now, out);
        self.notice_given_up(now, out);
        self.notice_end(now, out);
        self.notice_health(out);
        self.tell_status(out);
    }

    /// Everything whose time has come.
    fn tick(&mut self, now: Nanos, out: &mut Vec<Action>) {
        let due: Vec<ChildId> = self
            .children
            .iter()
            .filter(|(_, worker)| worker.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(child, _)| *child)
            .collect();
        for child in due {
            self.worker_deadline(now, child, out);
        }
        for service in &mut self.services {
            service.end_waits(now);
        }
        self.remains_due(now, out);
        if self.ping_at.is_some_and(|at| at <= now) {
            out.push(Action::Upward(Upward::Watchdog));
            self.ping_at = self.above.watchdog_ns.map(|interval| now + interval / 2);
        }
    }

    fn service(&self, id: ServiceId) -> &Service {
        &self.services[usize::from(id.0)]
    }

    fn service_mut(&mut self, id: ServiceId) -> &mut Service {
        &mut self.services[usize::from(id.0)]
    }

    fn notice_all_ready(&mut self, now: Nanos, out: &mut Vec<Action>) {
        if self.all_were_ready || self.stopping.is_some() || !self.services.iter().all(Service::is_ready) {
            return;
        }
        self.all_were_ready = true;
        out.push(Action::Report(Happening::AllReady));
        out.push(Action::Upward(Upward::Ready));
        self.ping_at = self.above.watchdog_ns.map(|interval| now + interval / 2);
    }

    fn tell_status(&mut self, out: &mut Vec<Action>) {
        if !self.above.present || self.ended.is_some() {
            return;
        }
        let status = self.status_line();
        if status != self.told_status {
            self.told_status.clone_from(&status);
            out.push(Action::Upward(Upward::Status(status)));
        }
    }

    /// A worker's own deadline is over.
    fn worker_deadline(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        match worker.state {
            State::Preparing { .. } | State::Posting { .. } | State::Asked { .. } | State::Cleaning { .. } => {
                self.step_overdue(now, child, out);
            }
            State::Starting { look: Some(look), .. } if look.at <= now && self.is_finding(child) => {
                out.push(Action::FindMain(child));
            }
            State::Starting { ready_at, deadline, look, .. } => {
                if ready_at.is_some_and(|at| at <= now) {
                    self.time_has_come(now, child, out);
                } else if deadline.is_some_and(|at| at <= now) {
                    self.start_timed_out(now, child, out);
                } else if look.is_some_and(|look| look.at <= now) {
                    out.push(Action::LookAccepting(child));
                }
            }
            State::Ready { watchdog_at, .. } if watchdog_at.is_none_or(|at| at > now) => {
                if worker.expires_at.is_some_and(|at| at <= now) {
                    self.expired(now, child, out);
                } else {
                    self.ready_overdue(now, child, out);
                }
            }
            State::Ready { .. } => self.watchdog_missed(now, child, out),
            State::Stopping { told, .. } => self.patience_over(now, child, told, out),
            State::Lingering { .. } => self.look_again(now, child, out),
        }
    }
}
