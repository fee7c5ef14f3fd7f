//! What the supervisor is told ([`Event`]) and what it wants done ([`Action`]). No pid, no descriptor, no time.

use super::{Answer, Happening, RunResult, Settings};
use crate::notify::Note;
use crate::plan::{Nanos, ServiceId, Signal, SocketId, Step, Strategy};
use serde::{Deserialize, Serialize};

/// A child, named by the supervisor when it asks for the spawn. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChildId(pub u32);

/// A request that waits for its answer, named by the control server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AskId(pub u64);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// A signal killed it.
    Signal(Signal),
    /// The same, and it dumped its core.
    Dumped(Signal),
    /// Somebody else saw how: whatever ran in prebind's place for a moment.
    Unseen,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The outcome of [`Action::Spawn`]: it runs.
    Spawned(ChildId),
    /// The outcome of [`Action::Spawn`]: it could not be started. The child never was.
    SpawnFailed(ChildId, SpawnFailure),
    /// A child's main process ended. `group_left`: processes of its group, or others that it started, live on.
    Exited {
        /// Which.
        child: ChildId,
        /// How.
        how: Ended,
        /// Whether others of its process group are left.
        group_left: bool,
        /// Whether it held the terminal's foreground when it ended.
        foreground: bool,
    },
    /// The answer to [`Action::LookGroup`], only when nothing is left of the group.
    GroupGone(ChildId),
    /// The answer to [`Action::LookSockets`]: whether the child's group holds a socket of its service.
    HoldsSockets(ChildId, bool),
    /// The answer to [`Action::LookAccepting`].
    Accepting(ChildId, Accepting),
    /// This process is the new one: it took everything over.
    Replaced,
    /// The replacement of this process failed; nothing changed. Why.
    ReplaceFailed(String),
    /// So many processes that workers left are there: the answer to [`Action::LookOrphans`], and told where one ended.
    OrphansLeft(u32),
    /// A command around a unit's worker ended. `group_left`: processes of the worker, itself or others, live on.
    StepEnded {
        /// Of which worker.
        child: ChildId,
        /// How.
        how: Ended,
        /// Whether anything is left of the worker beside it.
        group_left: bool,
    },
    /// The outcome of [`Action::Run`], where that could not be started: as if it had ended with the failure's code.
    StepFailed(ChildId, SpawnFailure),
    /// The answer to [`Action::FindMain`].
    MainFound(ChildId, Found),
    /// Something waits on a socket that was asked to be listened to.
    Traffic(SocketId),
    /// A client connected to a service that starts a worker for each.
    Connected {
        /// Which service.
        service: ServiceId,
        /// The connection's name, never used twice.
        connection: ConnectionId,
        /// The same for clients that count as one source.
        source: u64,
    },
    /// A worker spoke on the notify socket.
    Said(ChildId, Note),
    /// A worker acknowledged by einhorn's protocol.
    Acked(ChildId),
    /// A signal to prebind itself.
    Told(Told),
    /// Somebody asks on the control socket.
    Asked(AskId, Command),
    /// Time passed; the deadline that `next_deadline` gave may be over. Harmless if not.
    Tick,
}

/// Whether a worker waits on its listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepting {
    /// On each.
    Each,
    /// On at least one.
    Some,
    /// On none.
    None,
    /// /proc does not tell, or none of its sockets listens.
    Unknown,
}

/// Whether the main process was found of a worker whose first process ended (`Type=forking`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is watched from now on.
    Yes,
    /// Several that could be it, and no pid file says which.
    Several,
    /// Its pid file does not name a live process yet.
    NotYet,
    /// Nothing is left that could be it.
    Nobody,
}

/// A connection that a worker is to be started for, named by linux/.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// What a signal to prebind means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// TERM, or HUP because the terminal closed.
    Stop,
    /// INT: the first stops gracefully, the second kills all.
    Interrupt,
    /// QUIT: QUIT is passed on, then as TERM.
    Quit,
    /// HUP, USR2.
    Upgrade,
    /// Stop, with this signal in the place of each service's own; told again, it is sent again.
    StopWith(Signal),
    /// Send this signal to all workers and end at once, with 1.
    Abandon(Signal),
    /// TTIN.
    More,
    /// TTOU.
    Fewer,
    /// One that workers are to get.
    Forward(Signal),
}

/// Why a spawn failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// The whole message, one line: what was tried, why it failed, the remedy.
    pub message: String,
    /// As which exit code it counts for a unit (systemd.exec(5), 200 and up).
    pub code: u8,
}

/// What a client of the control socket wants of the supervisor. Service names are those of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The state of everything.
    Status,
    /// Whether every service has as many ready workers as asked for.
    Ready,
    /// How a service is to be run.
    Options {
        /// `None`: the only one.
        service: Option<String>,
    },
    /// Another number of workers.
    Scale {
        /// `None`: the only one.
        service: Option<String>,
        /// So many.
        number: u32,
    },
    /// Replace workers one by one, the new one ready before the old one is told to stop.
    Restart {
        /// `None`: all services.
        service: Option<String>,
        /// Only this slot.
        slot: Option<u32>,
    },
    /// Replace the workers by those of the next generation, or take that back.
    Upgrade {
        /// `None`: all services.
        service: Option<String>,
        /// `None`: the service's own.
        strategy: Option<Strategy>,
        /// How long a new worker may take to be ready; `None`: the service's own.
        timeout_ns: Option<Nanos>,
        /// What to wait for.
        wait: Wait,
    },
    /// The worker on trial is fine: go on.
    Promote {
        /// `None`: all services that have one.
        service: Option<String>,
    },
    /// Give the upgrade up that is under way.
    Rollback {
        /// `None`: all services that have one.
        service: Option<String>,
    },
    /// Let the workers read their configuration again, or, where they cannot, upgrade.
    Reload {
        /// `None`: all services.
        service: Option<String>,
    },
    /// Replace prebind's own program in place.
    Reexec,
    /// Replace prebind's own program in place, then upgrade every service; answered when the upgrade is over.
    ReplaceAndUpgrade {
        /// How.
        strategy: Strategy,
    },
    /// Send signals to the main process of every worker.
    Signal {
        /// `None`: all services.
        service: Option<String>,
        /// Which, in order.
        signals: Vec<Signal>,
    },
    /// One worker more or less of the only service, never less than one.
    Step {
        /// More.
        more: bool,
    },
    /// Change policies while it runs.
    Configure {
        /// So many workers of the only service.
        number: Option<u32>,
        /// Of every service.
        settings: Settings,
    },
    /// Stop everything and end.
    Stop {
        /// Instead of each service's stop signal.
        signal: Option<Signal>,
        /// Answered at the end, not at once.
        wait: bool,
    },
}

/// What the answer to an upgrade waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    No,
    /// Every old worker was told to stop.
    Told,
    /// Every old worker is gone.
    Drained,
}

/// What the supervisor wants done. Every action is carried out, in order, before the next event is looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start a worker; answered at once by `Spawned` or `SpawnFailed`.
    Spawn(Start),
    /// Send a signal to a child's main process.
    SignalMain(ChildId, Signal),
    /// Send a signal to a child's whole process group.
    SignalGroup(ChildId, Signal),
    /// Look whether anything is left of the group of a child that ended.
    LookGroup(ChildId),
    /// The supervisor is done with a child that ended: its last resources can go.
    Forget(ChildId),
    /// Look whether a child's group holds any of its sockets; answered at once.
    LookSockets(ChildId),
    /// Look whether a child waits on its listening sockets; answered at once.
    LookAccepting(ChildId),
    /// A service with sockets for each slot: so many slots, and to which of them new connections may go.
    Steer(ServiceId, Vec<bool>),
    /// No worker is left in the slots beyond these: their sockets are closed. The rest as for `Steer`.
    CloseSlots(ServiceId, Vec<bool>),
    /// No worker is left that may have them: the retired sockets are closed, retired services forgotten.
    CloseRetired,
    /// Run a command around a unit's worker; answered by `StepEnded`, or at once by `StepFailed`.
    Run(Run),
    /// Send a signal to the process group of the command that runs around a worker.
    SignalStep(ChildId, Signal),
    /// Look for the main process that the first one left behind; answered at once.
    FindMain(ChildId),
    /// Listen for traffic on the sockets of a service, or for connections; or do not any more.
    Listen(ServiceId, bool),
    /// Throw away what waits on the sockets of a service.
    Flush(ServiceId),
    /// Close a connection: nobody is started for it.
    Refuse(ConnectionId),
    /// The service failed for good: sockets that nobody else has are closed.
    CloseSockets(ServiceId),
    /// Nothing runs or is about to for the service: what is kept for its workers only can go.
    Inactive(ServiceId),
    /// Answer a request; each is answered exactly once.
    Answer(AskId, Answer),
    /// Tell log and subscribers.
    Report(Happening),
    /// Tell the manager above us.
    Upward(Upward),
    /// Look how many processes descend from prebind though every worker is gone.
    LookOrphans,
    /// A signal to all of them.
    SignalOrphans(Signal),
    /// Whether every service is ready, for probes; told when it changes.
    Health(bool),
}

/// A worker to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its name from now on.
    pub child: ChildId,
    /// Of which service.
    pub service: ServiceId,
    /// Its place.
    pub slot: u32,
    /// The code's version.
    pub generation: u32,
    /// EINHORN_CHILD_INDEX: the lowest number that no live worker of the service uses.
    pub index: u32,
    /// Which of its commands: the n-th of a oneshot, else 0.
    pub part: u16,
    /// The connection that it is for.
    pub connection: Option<ConnectionId>,
}

/// A command to run around a unit's worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The worker.
    pub start: Start,
    /// Which command.
    pub step: Step,
    /// The n-th of that step.
    pub at: u16,
    /// How the worker went so far.
    pub result: RunResult,
    /// How its main process ended, if it did.
    pub main: Option<Ended>,
}

/// What the manager above prebind is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upward {
    /// READY=1: once when everything is ready first, and after each `Reloading`.
    Ready,
    /// RELOADING=1 with MONOTONIC_USEC=.
    Reloading,
    /// STOPPING=1, once.
    Stopping,
    /// STATUS=.
    Status(String),
    /// WATCHDOG=1.
    Watchdog,
}
