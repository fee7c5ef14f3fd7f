//! The table of servers as the README and the manual show it.

use super::manual::escape;
use crate::plan::servers::{Drain, SERVERS, Server, WRAPPERS};
use std::fmt::Write;

/// `prebind --generate servers`: the README's table.
pub(super) fn table() -> String {
    let mut out = String::from("| server | behind `prebind` | drains on | tried with | to know |\n");
    out.push_str("|---|---|---|---|---|\n");
    for server in SERVERS {
        let command = if server.command.is_empty() { "cannot".into() } else { format!("`{}`", server.words()) };
        let known = known(server);
        let _ = writeln!(out, "| {} | {command} | {} | {} | {known} |", server.name, drains(server), server.tried);
    }
    for (name, say) in wrappers() {
        let _ = writeln!(out, "| {name} | | | | {say} |");
    }
    out
}

/// The terms of the manual's chapter, as roff.
pub(super) fn terms() -> String {
    let mut out = String::new();
    let mut term = |name: &str, lines: &[&str]| {
        let lines: Vec<String> = lines.iter().filter(|line| !line.is_empty()).map(|line| escape(line)).collect();
        let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", escape(name), lines.join("\n.br\n"));
    };
    for server in SERVERS {
        let drains = if server.command.is_empty() { String::new() } else { format!("Drains: {}.", drains(server)) };
        let tried = format!("Tried: {}.", server.tried);
        let words = if server.command.is_empty() { String::new() } else { server.words() };
        term(server.name, &[&words, &drains, &tried, &known(server)]);
    }
    for (names, say) in wrappers() {
        term(&names, &[say]);
    }
    out
}

fn drains(server: &Server) -> String {
    match server.drains {
        Drain::On(signal) => signal.to_string(),
        Drain::AsCoded(how) => how.into(),
        Drain::Never => "nothing".into(),
        Drain::Unused => String::new(),
    }
}

fn known(server: &Server) -> String {
    server.traps.iter().map(|trap| trap.say).collect::<Vec<_>>().join("; ")
}

fn wrappers() -> impl Iterator<Item = (String, &'static str)> {
    WRAPPERS.iter().map(|one| {
        (one.programs.join(", "), one.trap.as_ref().map_or("keeps descriptors and process", |trap| trap.say))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::argv::{self, Asked};
    use crate::plan::{Facts, check, remarks};

    /// Words as a shell splits them that knows single quotes only.
    fn split(line: &str) -> Vec<std::ffi::OsString> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().expect("one").push(c),
            }
        }
        words.into_iter().map(Into::into).collect()
    }

    /// The plan of each row's command is right, and nothing is remarked of it but what no option helps against.
    #[test]
    fn every_command_of_the_table_is_a_plan_without_a_remark() {
        for server in SERVERS.iter().filter(|server| !server.command.is_empty()) {
            let line = format!("-n 2 {}", server.words());
            let Ok(Asked::Run(run)) = argv::parse(split(&line)) else { panic!("{line}") };
            assert!(run.problems.is_empty(), "{line}");
            let plan = check(run.plan, Facts { cpus: 2, pid1: false }).unwrap_or_else(|why| panic!("{line}: {why:?}"));
            let mut said = remarks(&plan);
            said.retain(|one| server.drains != Drain::Never || !one.contains("no signal drains it"));
            assert_eq!(said, Vec::<String>::new(), "{line}");
            if let Some(program) = server.programs.first() {
                assert!(line.contains(program), "{line} runs no {program}");
            }
        }
    }

    #[test]
    fn no_cell_breaks_the_table() {
        for line in table().lines() {
            assert_eq!(line.matches('|').count(), 6, "{line}");
        }
    }
}
