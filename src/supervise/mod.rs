//! The state machine. (Specification to come.)

mod event;
mod status;

pub use event::{Action, AskId, ChildId, Command, Ended, Event, SpawnFailure, Start, Told, Upward};
pub use status::{Answer, Happening, HowReady, Next, Phase, ServiceStatus, Status, Who, WorkerStatus};

use crate::exit::Exit;
use crate::plan::{Nanos, Plan};

/// What the manager above us asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Above {
    /// Its WATCHDOG_USEC in nanoseconds, if it watches us.
    pub watchdog_ns: Option<Nanos>,
}

/// Decides everything, does nothing.
#[derive(Debug)]
pub struct Supervisor {}

impl Supervisor {
    /// For a checked plan. Nothing starts before the first `step`.
    pub fn new(plan: &Plan, above: Above) -> Supervisor {
        let _ = (plan, above);
        unimplemented!()
    }

    /// Takes one event at `now` and appends what is to be done.
    pub fn step(&mut self, now: Nanos, event: Event, out: &mut Vec<Action>) {
        let _ = (now, event, out);
    }

    /// When `Event::Tick` is next needed; `None`: not before something else happens.
    pub fn next_deadline(&self) -> Option<Nanos> {
        None
    }

    /// Set once everything is over.
    pub fn ended(&self) -> Option<Exit> {
        None
    }
}
