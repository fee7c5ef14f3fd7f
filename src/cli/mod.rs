//! What a person meets: choosing the door, help, manual and completions printed from the clap tables, the plan shown,
//! errors on stderr. It decides nothing about workers.

mod activate;
mod circus;
mod circus_manual;
mod containers;
pub mod ctl;
mod einhorn;
mod einhornsh;
pub mod generate;
mod manual;
mod pattern;
mod plan_view;
mod regular;
mod servers;
pub mod start;
mod units;
mod units_manual;

use crate::exit::Exit;
use crate::front::argv;
use crate::plan::{Command, Manner, Plan, Problem};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{Write, stderr, stdout};
use std::path::Path;

/// What a command line turns out to be.
#[derive(Debug)]
pub enum Asked {
    /// Answered already: help, a usage error, the control client.
    Answered(Exit),
    /// This process is a worker of the demonstration.
    DemoWorker,
    /// A plan.
    Run(Box<start::Wish>),
}

/// The hidden word that makes this binary the embedded worker.
const DEMO_WORKER: &str = "--demo-worker";

/// The words of a tool's command line. `Err`: answered already, by help or by what is wrong, which ends it with `wrong`.
fn matched(table: clap::Command, args: Vec<OsString>, wrong: Exit) -> Result<clap::ArgMatches, Exit> {
    table.try_get_matches_from(args).map_err(|error| {
        // Where even that cannot be printed, the exit code still says it.
        let _ = error.print();
        if error.use_stderr() { wrong } else { Exit::Done }
    })
}

/// Chooses the door by the program's name and the first words.
pub fn choose(args: Vec<OsString>) -> Asked {
    let name = args.first().map(Path::new).and_then(Path::file_name).unwrap_or(OsStr::new("prebind"));
    let first = args.get(1).and_then(|word| word.to_str());
    if name == "prebindctl" || name == "circusctl" {
        return Asked::Answered(ctl::main(args));
    }
    if name == "systemd-socket-activate" {
        crate::sockets::seal();
        return Asked::Answered(activate::main(args.into_iter().skip(1).collect()));
    }
    if name == "einhornsh" {
        return Asked::Answered(einhornsh::main(args));
    }
    match first {
        Some("--ctl") => return Asked::Answered(ctl::main(args.into_iter().skip(1).collect())),
        Some(DEMO_WORKER) => return Asked::DemoWorker,
        Some(_) | None => {}
    }
    let einhorn = name == "einhorn";
    let program = if einhorn { argv::Name::Einhorn(std::env::temp_dir()) } else { argv::Name::Prebind };
    match argv::parse_as(&program, args.into_iter().skip(1).collect()) {
        Ok(argv::Asked::Run(run)) if einhorn && run.plan.services.iter().all(|one| one.command == Command::Demo) => {
            einhorn::without_program(&run)
        }
        Ok(argv::Asked::Run(run)) => {
            let argv::Run { plan, problems, check, json, state_fd, upgrade_check, units, circus } = *run;
            Asked::Run(Box::new(start::Wish { plan, problems, check, json, state_fd, upgrade_check, units, circus }))
        }
        Ok(argv::Asked::Help) if einhorn => einhorn::help(),
        Ok(argv::Asked::Version) if einhorn => print(&einhorn::version()),
        Ok(argv::Asked::Help) => print(&argv::table().render_help().to_string()),
        Ok(argv::Asked::Version) => print(&format!("prebind {}\n", env!("CARGO_PKG_VERSION"))),
        Ok(argv::Asked::Generate(what)) => print(&generate::prebind(&what)),
        Err(refusal) => {
            let manner = if einhorn { Manner::Einhorn } else { Manner::Prebind };
            Asked::Answered(exit_in(manner, usage_error(&refusal.to_string())))
        }
    }
}

/// Under einhorn's name every failure is 1.
pub fn exit_in(manner: Manner, exit: Exit) -> Exit {
    match (manner, exit) {
        (Manner::Einhorn, Exit::Usage | Exit::Plan | Exit::System) => Exit::Failed,
        (_, exit) => exit,
    }
}

/// To stdout; a reader that went away is no error of ours.
fn print(text: &str) -> Asked {
    let _ = stdout().write_all(text.as_bytes());
    Asked::Answered(Exit::Done)
}

/// One line to stdout.
fn say(text: &str) {
    print(&format!("{text}\n"));
}

/// One line on stderr.
fn say_error(error: &dyn Display) {
    let _ = writeln!(stderr(), "prebind: {error}");
}

fn usage_error(message: &str) -> Exit {
    say_error(&message);
    Exit::Usage
}

/// Every problem of a plan on a line of its own; with `json` on stdout for machines.
/// What was said of the plan may be the reason for what is wrong with it: it comes first.
fn refuse_plan(remarks: &[String], problems: &[Problem], json: bool) -> Exit {
    if json {
        let list: Vec<_> = problems
            .iter()
            .map(|one| json!({"origin": one.origin.to_string(), "message": one.message, "remedy": one.remedy}))
            .collect();
        print(&format!("{}\n", json!({ "problems": list, "remarks": remarks })));
    } else {
        remarks.iter().for_each(|remark| say_error(remark));
        for problem in problems {
            say_error(problem);
        }
    }
    Exit::Plan
}

/// `--check`: what would be run.
fn show_plan(plan: &Plan, json: bool) {
    let text = if json { format!("{}\n", plan_view::json(plan)) } else { plan_view::text(plan) };
    print(&text);
}
