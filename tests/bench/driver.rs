//! Measures the launcher next to the least that any launcher could do (limit.c): one table, and exit 1
//! when a figure is missed. Started by tests/bench/run. The two are run in turns, so that a busy
//! moment of the machine meets both; medians are compared, ratios judged.

#![allow(unsafe_code)] // kill, mkfifo, poll and pidfd_open, which std does not offer

mod harness;
mod idle;
mod kill;
mod load;
mod memory;
mod startup;
mod table;
mod upgrade;

use harness::Paths;
use std::process::ExitCode;
use table::Table;

fn main() -> ExitCode {
    let paths = match Paths::from_environment() {
        Ok(paths) => paths,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::from(2);
        }
    };
    // A word picks the rows whose measure has it in its name: `tests/bench/run kill`.
    let only: Vec<String> = std::env::args().skip(1).collect();
    let mut table = Table::default();
    let mut measure = |name: &str, run: fn(&Paths, &mut Table) -> harness::Answer<()>| {
        if only.is_empty() || only.iter().any(|word| word == name) {
            table.attempt(name, |table| run(&paths, table));
        }
    };
    measure("answer", startup::first_answer_row);
    measure("up", startup::up_row);
    measure("kill", kill::rows);
    measure("memory", memory::rows);
    measure("idle", idle::rows);
    measure("many", memory::many_row);
    measure("upgrade", upgrade::quick_rows);
    measure("slow", upgrade::slow_rows);
    measure("load", upgrade::under_load_rows);
    measure("slots", upgrade::slots_rows);
    measure("reexec", upgrade::reexec_rows);
    let _ = std::fs::remove_dir_all(&paths.scratch);
    if table.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
