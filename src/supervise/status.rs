//! What the supervisor says of itself: answers to requests and things that happened, as plain data.
//! control/ turns them into text, and adds what only linux/ knows: pids, addresses, the wall clock.

use super::{ChildId, Ended};
use crate::plan::{Nanos, ServiceId, Signal, Step, Strategy};
use serde::{Deserialize, Serialize};

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To `Status`.
    Status(Status),
    /// To `Ready`: whether; the message says what is missing.
    Ready(bool, String),
    /// To `Scale` and `Step`.
    Scaled {
        /// Which.
        service: ServiceId,
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// To `Options`: the plan's, but for the number.
    Options {
        /// Which.
        service: ServiceId,
        /// So many workers are asked for now.
        number: u32,
    },
    /// Done as asked; a line for people.
    Done(String),
    /// Not done, and nothing changed (or as far as the line says).
    Refused(String),
}

/// What can be configured while it runs; `None`: as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `--seconds`.
    pub backoff_base_ns: Option<Nanos>,
    /// `--max-unacked`.
    pub max_unacked: Option<u32>,
    /// `--max-upgrade-additional`.
    pub max_additional: Option<u32>,
    /// `--signal-timeout`.
    pub stop_timeout_ns: Option<Nanos>,
}

/// The state of everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Of the whole.
    pub phase: Phase,
    /// One per service, in plan order.
    pub services: Vec<ServiceStatus>,
}

/// Where prebind is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not every service has been ready yet.
    Starting,
    /// Serving.
    Running,
    /// Workers are being replaced.
    Upgrading,
    /// On the way out.
    Stopping,
}

impl Phase {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Upgrading => "upgrading",
            Phase::Stopping => "stopping",
        }
    }
}

/// The state of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceStatus {
    /// Which.
    pub service: ServiceId,
    /// active, listening (nothing runs until there is traffic), over (everything ended), or failed (and is not started again).
    pub state: &'static str,
    /// Workers asked for.
    pub number: u32,
    /// Workers ready.
    pub ready: u32,
    /// The code's version.
    pub generation: u32,
    /// Workers started beyond the first of each slot, since the start.
    pub restarts: u64,
    /// How the last upgrade ended; `None` before the first.
    pub last_upgrade: Option<LastUpgrade>,
    /// Consecutive ends before 10 s of being ready, of the slot that has most.
    pub deaths: u32,
    /// As they are now.
    pub settings: Settings,
    /// By slot; a slot that overlaps has two.
    pub workers: Vec<WorkerStatus>,
}

/// How an upgrade ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUpgrade {
    /// Well or not.
    pub outcome: Outcome,
    /// Why it did not end well.
    pub reason: String,
}

/// How an upgrade ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The new generation serves.
    Done,
    /// It was given up.
    RolledBack,
}

impl Outcome {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::RolledBack => "rolled back",
        }
    }
}

/// The state of a worker, or of a slot that waits for one.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    /// Its place.
    pub slot: u32,
    /// `None` while the slot waits.
    pub child: Option<ChildId>,
    /// The code's version.
    pub generation: u32,
    /// waiting, starting, ready or stopping.
    pub state: &'static str,
    /// Since its start (while waiting: since the last end).
    pub age_ns: Nanos,
    /// Its STATUS=.
    pub status: String,
    /// Its EINHORN_CHILD_INDEX.
    pub index: u32,
    /// The signals that it was told to stop with, and how long ago it was last.
    pub told: Vec<Signal>,
    /// Since then.
    pub told_ago: Option<Nanos>,
    /// While waiting: until the next try.
    pub next_try_ns: Option<Nanos>,
    /// How the slot's last worker ended, and how long ago.
    pub last_exit: Option<(Ended, Nanos)>,
}

/// Something worth a log line and an event. `control` gives it its words.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A worker was started.
    Started(Who),
    /// A worker is ready.
    Ready(Who, HowReady),
    /// A worker that would be ready by time holds none of its sockets.
    HoldsNoSocket(Who),
    /// A worker did not get ready in time and is stopped.
    StartTimeout(Who),
    /// A worker did not say WATCHDOG=1 in time, or asked for it, and is stopped.
    WatchdogMissed(Who),
    /// A worker said STOPPING=1 by itself.
    SaidStopping(Who),
    /// A worker is to be told to stop after so long: what is on its way to it arrives first.
    Draining(Who, Nanos),
    /// A worker was told to stop.
    ToldToStop(Who, Signal),
    /// A worker did not stop in time and is killed.
    Killed(Who),
    /// A worker ended.
    Exited {
        /// Which.
        who: Who,
        /// How.
        how: Ended,
        /// Nobody told it to.
        unexpected: bool,
        /// It had been ready.
        was_ready: bool,
        /// What becomes of the slot.
        next: Next,
    },
    /// Processes that it started live on and are told to stop.
    Leftovers(Who, Signal),
    /// So many that workers left get that signal.
    Orphans(u32, Signal),
    /// A worker could not be started.
    SpawnFailed {
        /// Which service and slot (the child never was).
        who: Who,
        /// The whole message.
        message: String,
        /// What becomes of the slot.
        next: Next,
    },
    /// What only units have.
    Unit(UnitHappening),
    /// Another number of workers.
    Scaled {
        /// Which service.
        service: ServiceId,
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// An einhorn ack that changes nothing: it is ready already, or its mode is a time.
    AckIgnored(Who),
    /// Something that was asked by signal cannot be done.
    Refused(String),
    /// Workers are being replaced one by one.
    RestartBegun(ServiceId),
    /// Done.
    RestartDone(ServiceId),
    /// Given up; why.
    RestartHalted(ServiceId, String),
    /// The next generation is on its way.
    UpgradeBegun {
        /// Of which service.
        service: ServiceId,
        /// Which.
        generation: u32,
        /// How.
        strategy: Strategy,
    },
    /// The one worker on trial serves, so long.
    Baking(ServiceId, Nanos),
    /// A new worker became ready, or took over.
    UpgradeProgress {
        /// Of which service.
        service: ServiceId,
        /// New workers that are ready.
        ready: u32,
        /// Slots that they hold.
        replaced: u32,
        /// Of so many.
        of: u32,
    },
    /// The new generation serves.
    UpgradeDone {
        /// Of which service.
        service: ServiceId,
        /// Which.
        generation: u32,
    },
    /// The new generation was given up.
    UpgradeRolledBack {
        /// Of which service.
        service: ServiceId,
        /// Which.
        generation: u32,
        /// Why, and who serves now.
        reason: String,
    },
    /// prebind's own program was replaced in place.
    Replaced,
    /// It was not; why.
    ReplaceFailed(String),
    /// Every service has as many ready workers as asked for, for the first time.
    AllReady,
    /// A service is hopeless: so many of its workers in a row died before one was ready.
    GivenUp {
        /// Which.
        service: ServiceId,
        /// How many.
        deaths: u32,
    },
    /// Stopping begins.
    Stopping,
    /// Every worker is gone.
    Stopped,
}

/// Something that happens to units and to services that start by traffic.
#[derive(Clone, Debug, PartialEq)]
pub enum UnitHappening {
    /// A command around a unit's worker runs.
    StepBegun(Who, Step),
    /// It failed.
    StepFailed {
        /// Of which worker.
        who: Who,
        /// Which.
        step: Step,
        /// How it ended; `None`: it did not in time.
        how: Option<Ended>,
    },
    /// ExecCondition= said no.
    Skipped(Who),
    /// A slot was started too often in too short a time: it stays empty.
    StartLimit {
        /// Of which service.
        service: ServiceId,
        /// Which.
        slot: u32,
    },
    /// A worker was ready for as long as it may be.
    RuntimeOver(Who),
    /// There is traffic: the service starts.
    Activated(ServiceId),
    /// The service waits for traffic.
    Listening(ServiceId),
    /// The service is not started again; systemd's word for why.
    ServiceFailed(ServiceId, &'static str),
    /// A connection was closed: so many workers run already, of all or of its source.
    ConnectionRefused(ServiceId, u32),
    /// A worker is asked to read its configuration again.
    Reloading(Who),
    /// It did, or it did not.
    Reloaded(Who, bool),
}

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// Its service.
    pub service: ServiceId,
    /// Its slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// Its EINHORN_CHILD_INDEX.
    pub index: u32,
    /// Itself.
    pub child: ChildId,
}

/// By what a worker counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowReady {
    /// READY=1.
    Notified,
    /// An einhorn ack.
    Acked,
    /// It waits on its sockets.
    Accepts,
    /// Its time passed.
    Time,
    /// Its commands succeeded, or its first process left the main one behind.
    Ended,
}

/// What becomes of a slot whose worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A successor starts now (or as soon as fewer are starting).
    Now,
    /// A successor starts after so long.
    After(Nanos),
    /// A successor holds the slot already, or the slot is given up.
    Nothing,
}
