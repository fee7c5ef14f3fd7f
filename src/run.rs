//! The kernel as three methods, and the only loop. The same loop runs on Linux and in the simulated world.

use crate::exit::Exit;
use crate::plan::Nanos;
use crate::supervise::{Action, Event, Supervisor};

/// What the loop needs of a world: a clock, something to wait for, and hands.
pub trait Kernel {
    /// The monotonic clock.
    fn now(&self) -> Nanos;

    /// Waits until something happened or `until` is reached, and appends what happened, in order.
    fn wait(&mut self, until: Option<Nanos>, events: &mut Vec<Event>);

    /// Replaces this program in place by the one on disk, with the supervisor's state. Returns only where that failed:
    /// then `Event::ReplaceFailed` is in `events`, and nothing changed.
    fn replace(&mut self, supervisor: &mut Supervisor, events: &mut Vec<Event>);

    /// Carries out one action. What it leads to at once (the outcome of a spawn) is appended to `events`.
    fn apply(&mut self, action: Action, events: &mut Vec<Event>);
}

/// Runs until the supervisor has ended everything.
pub fn run(supervisor: &mut Supervisor, kernel: &mut impl Kernel) -> Exit {
    run_from(supervisor, kernel, vec![Event::Tick])
}

/// The same with what is to be handled first.
pub fn run_from(supervisor: &mut Supervisor, kernel: &mut impl Kernel, mut events: Vec<Event>) -> Exit {
    let mut actions = Vec::new();
    loop {
        let now = kernel.now();
        let mut outcomes = Vec::new();
        while !events.is_empty() {
            for event in events.drain(..) {
                supervisor.step(now, event, &mut actions);
                for action in actions.drain(..) {
                    kernel.apply(action, &mut outcomes);
                }
            }
            std::mem::swap(&mut events, &mut outcomes);
        }
        if let Some(exit) = supervisor.ended() {
            return exit;
        }
        if supervisor.wants_replacement() {
            kernel.replace(supervisor, &mut events);
            continue;
        }
        kernel.wait(supervisor.next_deadline(), &mut events);
        events.push(Event::Tick);
    }
}
