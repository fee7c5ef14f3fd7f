//! The same supervisor and the same loop with units: commands around the workers, oneshots, daemons, services that start
//! by traffic or for each connection. A world and a checker of their own; times, failures and the operator are random.

mod check;
mod script;
mod world;

use crate::Seen;
use crate::rng::Rng;
use prebind::run::run;
use prebind::supervise::{Above, Supervisor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// What the histories together must have seen.
pub(crate) const SITUATIONS: [&str; 28] = [
    "ran Condition",
    "ran StartPre",
    "ran StartPost",
    "ran Reload",
    "ran Stop",
    "ran StopPost",
    "step could not be run",
    "a step failed",
    "a step took too long",
    "skipped",
    "a oneshot's next part",
    "a daemon was found",
    "a daemon left nobody",
    "a daemon left several",
    "activated",
    "listening again",
    "trigger limit",
    "start limit",
    "served a connection",
    "refused a connection",
    "reloaded",
    "did not reload",
    "upgrade done",
    "inactive",
    "sockets closed",
    "remains without a process",
    "ended with 1",
    "ended with 0",
];

/// One history. `Err`: what was wrong, with the trace where it was asked for.
pub(crate) fn history(seed: u64, verbose: bool) -> Result<Seen, String> {
    let rng = Rng::new(seed ^ 0x5EED_0F00_0000_0000);
    let (mut world, plan) = World::new(rng, verbose);
    let mut supervisor = Supervisor::new(&plan, Above::default());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let exit = run(&mut supervisor, &mut world);
        world.check.end(exit);
    }));
    match outcome {
        Ok(()) => Ok(world.check.seen),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
            let trace = if verbose { format!("{}\n", world.trace.join("\n")) } else { String::new() };
            Err(format!("{trace}{}", text.unwrap_or_default()))
        }
    }
}
