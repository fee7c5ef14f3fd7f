//! The simulation: the real supervisor and the real loop in a world of virtual time, one seed a history.
//!
//! `PREBIND_SIM_SEEDS=N` runs so many (20 000 by default); `PREBIND_SIM_SEED=N` replays one and prints it.
//! With `--features planted` the bugs planted in the supervisor are switched on one by one: each must be caught.

mod checker;
mod child;
mod ends;
mod notes;
mod orphans;
mod rng;
mod script;
mod seen;
mod units;
mod upgrades;
mod world;

use prebind::run::run;
use prebind::supervise::{Above, Supervisor};
use rng::Rng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

type Seen = BTreeMap<&'static str, u64>;
/// A seed's history, with its trace or without.
type History = fn(u64, bool) -> Result<Seen, String>;

/// One history. `Err`: what was wrong, with the trace where it was asked for.
fn history(seed: u64, verbose: bool) -> Result<Seen, String> {
    let mut rng = Rng::new(seed);
    let above = Above { present: rng.percent(30), watchdog_ns: None };
    let (mut world, plan) = World::new(rng, verbose);
    let mut supervisor = Supervisor::new(&plan, above);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let exit = run(&mut supervisor, &mut world);
        world.check.end(exit);
        assert_eq!(world.orphans.number(), 0, "orphans outlive it");
    }));
    match outcome {
        Ok(()) => Ok(world.check.seen),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
            Err(format!("{}{}", world.trace.join("\n"), format_args!("\n{}", text.unwrap_or_default())))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs seeds on every CPU; the first failure of each thread comes back.
fn histories(seeds: std::ops::Range<u64>, history: History) -> (Seen, Vec<(u64, String)>) {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get()) as u64;
    let runs: Vec<_> = (0..threads)
        .map(|n| {
            let seeds = seeds.clone();
            std::thread::spawn(move || {
                let mut all = Seen::new();
                for seed in seeds.skip(n as usize).step_by(threads as usize) {
                    match history(seed, false) {
                        Ok(seen) => seen.into_iter().for_each(|(what, count)| *all.entry(what).or_default() += count),
                        Err(why) => return (all, Some((seed, why))),
                    }
                }
                (all, None)
            })
        })
        .collect();
    let (mut all, mut failures) = (Seen::new(), Vec::new());
    for run in runs {
        let (seen, failure) = run.join().expect("a thread");
        seen.into_iter().for_each(|(what, count)| *all.entry(what).or_default() += count);
        failures.extend(failure);
    }
    (all, failures)
}

#[test]
fn histories_keep_the_invariants() {
    keep_the_invariants(history, &seen::SITUATIONS);
}

#[test]
fn histories_of_units_keep_the_invariants() {
    keep_the_invariants(units::history, &units::SITUATIONS);
}

fn keep_the_invariants(history: History, situations: &[&'static str]) {
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = number("PREBIND_SIM_SEED") {
        let outcome = history(seed, true);
        let _ = std::panic::take_hook();
        match outcome {
            Ok(seen) => println!("seed {seed} is fine: {seen:?}"),
            Err(why) => panic!("seed {seed}:\n{why}"),
        }
        return;
    }
    let count = number("PREBIND_SIM_SEEDS").unwrap_or(20_000);
    let (seen, failures) = histories(0..count, history);
    let _ = std::panic::take_hook();
    if let Some((seed, why)) = failures.into_iter().min() {
        panic!("seed {seed} of {count}: {why}\n(replay: PREBIND_SIM_SEED={seed} cargo test --test sim -- --nocapture)");
    }
    println!("{count} histories: {seen:?}");
    if count >= 20_000 {
        for situation in situations {
            assert!(seen.contains_key(situation), "no history came to: {situation}");
        }
    }
}

#[test]
fn a_seed_is_a_history() {
    for seed in 0..50 {
        let trace = |seed| {
            let (mut world, plan) = World::new(Rng::new(seed), true);
            let mut supervisor = Supervisor::new(&plan, Above::default());
            run(&mut supervisor, &mut world);
            world.trace
        };
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}

/// A test of the test: each planted bug is caught within so many seeds.
#[cfg(feature = "planted")]
#[test]
fn planted_bugs_are_caught() {
    use prebind::supervise::planted::{Bug, choose};
    const SEEDS: u64 = 4000;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        choose(Some(bug));
        match (0..SEEDS).find_map(|seed| {
            let why = history(seed, false).err().or_else(|| units::history(seed, false).err())?;
            Some((seed, why))
        }) {
            Some((seed, why)) => println!("{bug:?}: seed {seed}: {}", why.trim()),
            None => missed.push(bug),
        }
        choose(None);
    }
    std::panic::set_hook(hook);
    assert!(missed.is_empty(), "not caught in {SEEDS} seeds: {missed:?}");
}
