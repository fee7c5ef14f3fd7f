//! What workers leave when they end: processes that are prebind's, some of which do not hear TERM, some of which fork.

use crate::rng::Rng;
use crate::script::MS;
use prebind::plan::{Nanos, Signal};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Orphans {
    next: u64,
    /// Whether it ends when it is told to.
    alive: BTreeMap<u64, bool>,
    told: bool,
    forked: bool,
}

impl Orphans {
    pub(crate) fn number(&self) -> u32 {
        self.alive.len() as u32
    }

    pub(crate) fn add(&mut self, hears: bool) {
        self.next += 1;
        self.alive.insert(self.next, hears);
    }

    pub(crate) fn ends(&mut self, orphan: u64) -> bool {
        self.alive.remove(&orphan).is_some()
    }

    /// Who ends of it, and how much later.
    pub(crate) fn signal(&mut self, signal: Signal, rng: &mut Rng) -> Vec<(u64, Nanos)> {
        let kill = signal == Signal::KILL;
        assert!(!kill || self.told, "killed and never told");
        self.told |= signal == Signal::TERM;
        let longest = if kill { 60 } else { 3000 };
        let hear = |(orphan, hears): (&u64, &bool)| (kill || (signal == Signal::TERM && *hears)).then_some(*orphan);
        let end: Vec<u64> = self.alive.iter().filter_map(hear).collect();
        if !end.is_empty() && kill && !self.forked && rng.percent(20) {
            self.forked = true;
            self.add(false);
        }
        end.into_iter().map(|orphan| (orphan, rng.range(0, longest) * MS)).collect()
    }
}
