//! All that is wrong with a plan, at once; and what only a whole plan can tell: names to ids, `auto` to a value.

use super::{Plan, Problem};

/// What `check` has to know of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The CPUs that this process may use.
    pub cpus: u32,
    /// Whether prebind is PID 1.
    pub pid1: bool,
}

/// Resolves every name to an id and every `auto` to a value, or returns every problem.
pub fn check(plan: Plan, facts: Facts) -> Result<Plan, Vec<Problem>> {
    let _ = (plan, facts);
    unimplemented!()
}
