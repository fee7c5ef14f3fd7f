//! What the supervisor is told ([`Event`]) and what it wants done ([`Action`]). No pid, no descriptor, no time.

use super::{Answer, Happening};
use crate::notify::Note;
use crate::plan::{ServiceId, Signal};

/// A child, named by the supervisor when it asks for the spawn. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u32);

/// A request that waits for its answer, named by the control server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// A signal killed it.
    Signal(Signal),
}

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The outcome of [`Action::Spawn`]: it runs.
    Spawned(ChildId),
    /// The outcome of [`Action::Spawn`]: it could not be started. The child never was.
    SpawnFailed(ChildId, SpawnFailure),
    /// A child's main process ended. `group_left`: processes of its group live on.
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

/// What a signal to prebind means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// TERM, or HUP because the terminal closed.
    Stop,
    /// INT: the first stops gracefully, the second kills all.
    Interrupt,
    /// QUIT: QUIT is passed on, then as TERM.
    Quit,
    /// HUP, USR2.
    Upgrade,
    /// TTIN.
    More,
    /// TTOU.
    Fewer,
}

/// Why a spawn failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// The whole message, one line: what was tried, why it failed, the remedy.
    pub message: String,
}

/// What a client of the control socket wants of the supervisor. Service names are those of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The state of everything.
    Status,
    /// Whether every service has as many ready workers as asked for.
    Ready,
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
    /// Send a signal to the main process of every worker.
    Signal {
        /// `None`: all services.
        service: Option<String>,
        /// Which.
        signal: Signal,
    },
    /// Stop everything and end.
    Stop,
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
    /// Answer a request; each is answered exactly once.
    Answer(AskId, Answer),
    /// Tell log and subscribers.
    Report(Happening),
    /// Tell the manager above us.
    Upward(Upward),
}

/// A worker to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// What the manager above prebind is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upward {
    /// READY=1, once.
    Ready,
    /// STOPPING=1, once.
    Stopping,
    /// STATUS=.
    Status(String),
    /// WATCHDOG=1.
    Watchdog,
}
