//! Files of Circus run by Circus itself and by `prebind --circus`: what their processes report of themselves, and what
//! becomes of them, is equal but for what [`report::lines`] leaves out and what the file says of itself. Each file of
//! tests/real/circus is one case and one test; together they use every option that is honoured.

mod case;
mod daemon;
mod report;
mod run;

use crate::harness::{TempDir, compiled, is_root};
use case::{Case, Place, Whose};
use daemon::{ByPrebind, Circusd, Daemon};
use prebind::front::circus::keys::{Class, rows};
use prebind::front::pattern::fits;
use run::Run;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;

type Results = Vec<Vec<String>>;

fn carry_out(case: &Case, start: impl FnOnce(TempDir, Place) -> Box<dyn Daemon>) -> Results {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    let probe = PROBE.get_or_init(|| compiled("unit_probe.c", &["-lrt"]));
    let dir = TempDir::new();
    let place = Place::new(case, &dir, probe);
    let mut daemon = start(dir, place.clone());
    let mut run = Run { daemon: daemon.as_mut(), place: &place, seen: Vec::new(), clients: Vec::new() };
    case.steps.iter().map(|step| run.step(step)).collect()
}

/// Whether this system has what the case needs; what it lacks is said.
fn can(name: &str, case: &Case) -> bool {
    case.needs.iter().all(|what| match what.as_str() {
        "root" => is_root(name),
        "mptcp" => {
            let has = has_mptcp();
            if !has {
                eprintln!("{name}: skipped, this kernel has no MPTCP");
            }
            has
        }
        _ => panic!("{name}: what is '{what}'?"),
    })
}

fn has_mptcp() -> bool {
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP) };
    fd >= 0 && unsafe { libc::close(fd) } == 0
}

fn check(name: &str) {
    let case = Case::read(name);
    if !can(name, &case) {
        return;
    }
    let (ours, theirs) = std::thread::scope(|scope| {
        let circus = || carry_out(&case, |dir, place| Box::new(Circusd::start(dir, place)));
        let theirs = (!case.alone).then(|| scope.spawn(circus));
        let ours = carry_out(&case, |dir, place| Box::new(ByPrebind::start(dir, place)));
        (ours, theirs.map(|run| run.join().expect("Circus's run")))
    });
    let text = differences(&case, &ours, theirs.as_ref());
    assert!(text.is_empty(), "{name}:\n{text}");
}

/// Every line that one side has and the other has not, but for those that the case knows, and those that it knows and
/// that are not there.
fn differences(case: &Case, ours: &Results, theirs: Option<&Results>) -> String {
    let mut text = String::new();
    for (n, step) in case.steps.iter().enumerate() {
        let words = step.words.join(" ");
        let own = only(&ours[n], theirs.map_or(&[], |theirs| &theirs[n]));
        let other = theirs.map(|theirs| only(&theirs[n], &ours[n])).unwrap_or_default();
        let sides = [(Whose::Circus, "circus", &other), (Whose::Prebind, "prebind", &own)];
        for (whose, side, lines) in sides {
            let mut known = step.known.iter().filter(|(of, _)| *of == whose).map(|(_, line)| line);
            let unknown = lines.iter().filter(|line| !known.clone().any(|known| is(known, line)));
            if theirs.is_some() {
                unknown.for_each(|line| _ = writeln!(text, "{words}: only {side}: {line}"));
            }
            known.by_ref().filter(|known| !lines.iter().any(|line| is(known, line))).for_each(|line| {
                _ = writeln!(text, "{words}: it is not so that only {side} has: {line}");
            });
        }
        for (_, line) in step.known.iter().filter(|(whose, _)| *whose == Whose::Both) {
            if !ours[n].iter().any(|own| is(line, own)) {
                let start = line.split_whitespace().next().unwrap_or_default();
                let like: Vec<&String> = ours[n].iter().filter(|own| own.starts_with(start)).collect();
                let there = if like.is_empty() { ours[n].iter().collect() } else { like };
                _ = writeln!(text, "{words}: missing: {line}; there is {there:?}");
            }
        }
    }
    text
}

fn is(known: &str, line: &str) -> bool {
    match known.strip_suffix('*') {
        Some(start) => line.starts_with(start),
        None => line == known,
    }
}

/// The lines that `others` lacks; a line that stands twice needs two.
fn only(lines: &[String], others: &[String]) -> Vec<String> {
    let mut left = others.to_vec();
    let missing = |line: &&String| match left.iter().position(|other| other == *line) {
        Some(at) => left.swap_remove(at) != **line,
        None => true,
    };
    lines.iter().filter(missing).cloned().collect()
}

/// A test for each case.
macro_rules! cases {
    ($($test:ident: $name:literal,)*) => {
        const CASES: &[&str] = &[$($name),*];
        $(
            #[test]
            fn $test() {
                check($name);
            }
        )*
    };
}

cases! {
    tcp: "01-tcp",
    localhost: "02-localhost",
    ipv6: "03-ipv6",
    unix: "04-unix",
    types: "05-types",
    backlog_blocking: "06-backlog-blocking",
    proto: "07-proto",
    interface: "08-interface",
    reuseport: "09-reuseport",
    named_sockets: "10-named-sockets",
    words: "11-words",
    shell: "12-shell",
    shell_line: "13-shell-line",
    shell_args: "14-shell-args",
    numprocesses: "15-numprocesses",
    singleton: "16-singleton",
    stdin_socket: "17-stdin-socket",
    working_dir: "18-working-dir",
    user: "19-user",
    user_and_more: "20-user-and-more",
    environment: "21-environment",
    environment_copied: "22-environment-copied",
    environment_unsaid: "23-environment-unsaid",
    virtualenv: "24-virtualenv",
    autostart: "25-autostart",
    respawn: "26-respawn",
    warmup_delay: "27-warmup-delay",
    graceful_timeout: "28-graceful-timeout",
    stop_signal: "29-stop-signal",
    stop_children: "30-stop-children",
    send_hup: "31-send-hup",
    max_age: "32-max-age",
    on_demand: "33-on-demand",
    priority: "34-priority",
    limits: "35-limits",
    streams_closed: "36-streams-closed",
    flapping_of_a_watcher: "37-flapping-of-a-watcher",
    flapping_of_all: "38-flapping-of-all",
    include: "39-include",
    pidfile_umask: "40-pidfile-umask",
    loglevel_error: "41-loglevel-error",
    loglevel_debug: "42-loglevel-debug",
    loglevel_usual: "43-loglevel-usual",
    dialect: "44-dialect",
    twice: "45-twice",
    log_files: "46-log-files",
}

#[test]
fn every_case_is_a_test() {
    assert_eq!(case::names(), CASES);
    assert!(CASES.len() >= 30);
}

/// The kinds of sections with the options that the files of all cases use, as they stand there.
fn used() -> Vec<(String, String)> {
    let mut used = Vec::new();
    for name in case::names() {
        for (file, text) in Case::read(&name).files {
            let mut kind = String::new();
            for line in text.lines().filter(|_| file.ends_with(".ini")) {
                if let Some(header) = line.strip_prefix('[') {
                    kind = header.split([':', ']']).next().unwrap_or_default().to_owned();
                } else if let Some((key, _)) =
                    line.split_once(['=', ':']).filter(|_| !line.starts_with([' ', '#', ';']))
                {
                    used.push((kind.clone(), key.trim_end().to_owned()));
                }
            }
        }
    }
    used
}

#[test]
fn every_honoured_option_is_used_by_a_case() {
    let used = used();
    let honoured = rows().filter(|(_, class, ..)| *class == Class::Honoured);
    let options = honoured.flat_map(|(kind, _, keys, _)| keys.split_whitespace().map(move |key| (kind, key)));
    let unused: Vec<(&str, &str)> =
        options.filter(|(kind, key)| !used.iter().any(|(of, own)| of == kind && fits(key, own))).collect();
    assert!(unused.is_empty(), "no file of tests/real/circus uses {unused:?}");
}
