//! Which room may know which: the arrows of the design, the pure places, and where `unsafe` and exit codes live.

use crate::source::{code, names, words};

/// Room -> the rooms that it may name. `exit` is a leaf that every room may name; `cli`, `main` and `bin` may name all.
const ARROWS: &[(&str, &[&str])] = &[
    ("linux", &["run", "supervise", "plan", "sockets", "spawn", "control", "notify", "logs"]),
    ("run", &["supervise", "plan"]),
    ("control", &["supervise", "plan"]),
    ("supervise", &["plan", "notify"]),
    ("spawn", &["plan", "sockets"]),
    ("sockets", &["plan"]),
    ("front", &["plan"]),
    ("plan", &[]),
    ("notify", &[]),
    ("logs", &["plan"]),
    ("exit", &[]),
    // How it is linked: no part of the program.
    ("build", &[]),
    ("demo", &["worker"]),
    ("worker", &[]),
];
const MAY_NAME_ALL: &[&str] = &["cli", "main", "bin", "lib"];

const PURE: &[&str] = &[
    "src/supervise/",
    "src/front/",
    "src/plan/",
    "src/notify/note.rs",
    "src/control/einhorn/",
    "src/control/wire.rs",
    "src/control/event.rs",
    "src/control/options.rs",
    "src/control/status.rs",
];
const IMPURE: &[&str] =
    &["Instant", "SystemTime", "std::env", "std::fs", "std::net::TcpListener", "std::process", "tokio", "nix", "libc"];

/// The mechanism, one file or folder each. A new one is a decision: say here why.
const UNSAFE: &[&str] = &[
    "src/spawn/",
    "src/linux/",
    "src/sockets/",
    "src/worker.rs",
    "src/worker/",
    // recvmsg with SCM_CREDENTIALS and SCM_RIGHTS.
    "src/notify/socket.rs",
    // sigaction, pthread_kill and a registration that borrows, for the smallest accept loop.
    "src/demo/accept.rs",
    "src/demo/stream.rs",
    // The probe workers and the terminals of the real tests.
    "tests/real/",
    // Signals to the measured launchers, and their FIFO.
    "tests/bench/",
];

fn room(path: &str) -> Option<&str> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// Every room that the code names as `crate::X` or `prebind::X`, also in `crate::{X, Y::Z}`, with its line.
fn named(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate::", "prebind::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(heads(group).into_iter().map(|head| (line, head))),
                None => {
                    found.extend(words(rest).next().filter(|&(at, _)| at == 0).map(|(_, word)| (line, word.into())))
                }
            }
        }
    }
    found
}

/// The first word of each entry of `X, Y::{a, b}}`.
fn heads(group: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut depth = 1;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => entries.push(String::new()),
            _ if depth == 1 => entries.last_mut().expect("never empty").push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    entries.iter().filter_map(|entry| words(entry).next().map(|(_, word)| word.to_string())).collect()
}

/// The arrows that this file draws against the design.
pub(crate) fn arrows(path: &str, text: &str) -> Vec<String> {
    let Some(room) = room(path) else { return Vec::new() };
    if MAY_NAME_ALL.contains(&room) {
        return Vec::new();
    }
    let Some((_, may)) = ARROWS.iter().find(|(from, _)| *from == room) else {
        return vec![format!("{path}: '{room}' is no room of the design (tests/tidy/rooms.rs)")];
    };
    let is_room = |name: &str| MAY_NAME_ALL.contains(&name) || ARROWS.iter().any(|(from, _)| *from == name);
    named(&code(text))
        .into_iter()
        .filter(|(_, to)| is_room(to) && to != room && to != "exit" && !may.contains(&to.as_str()))
        .map(|(line, to)| format!("{path}:{line}: {room} may not name {to}"))
        .collect()
}

fn lines_that(path: &str, text: &str, mut complaint: impl FnMut(&str) -> Option<String>) -> Vec<String> {
    let code = code(text);
    code.lines().enumerate().filter_map(|(n, line)| Some(format!("{path}:{}: {}", n + 1, complaint(line)?))).collect()
}

/// Clocks, environment and system calls named in a pure place.
pub(crate) fn purity(path: &str, text: &str) -> Vec<String> {
    if !PURE.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    lines_that(path, text, |line| {
        let word = IMPURE.iter().find(|word| names(line, word))?;
        Some(format!("a pure place may not name {word}"))
    })
}

/// `unsafe` outside the mechanism.
pub(crate) fn unsafety(path: &str, text: &str) -> Vec<String> {
    if UNSAFE.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    // A name for the C library to enter by is no code.
    let entry = |line: &str| path == "src/main.rs" && line.trim() == "#[unsafe(no_mangle)]";
    lines_that(path, text, |line| {
        (names(line, "unsafe") && !entry(line)).then(|| "unsafe belongs to the mechanism".into())
    })
}

/// A process that ends with a number of its own instead of one from exit.rs.
pub(crate) fn exit_codes(path: &str, text: &str) -> Vec<String> {
    // The child that could not execute is never seen to end with a number: its failure came back by memory.
    if !path.starts_with("src/") || path == "src/exit.rs" || path == "src/spawn/clone/mod.rs" {
        return Vec::new();
    }
    lines_that(path, text, |line| {
        ["process::exit(", "_exit(", "ExitCode::from("].iter().find_map(|call| {
            let (_, argument) = line.split_once(call)?;
            let number = argument.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '-');
            number.then(|| format!("{call}..) takes its number from exit.rs"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_can_fail() {
        for (path, text, count) in [
            ("src/plan/check.rs", "use crate::sockets::Bind;", 1),
            ("src/plan/check.rs", "// crate::sockets\nlet x = \"crate::sockets\";", 0),
            ("src/plan/check.rs", "use crate::plan::X; use crate::exit::Exit;", 0),
            ("src/run.rs", "use crate::{plan::Nanos, supervise::{Event, Action}, linux::Linux};", 1),
            ("src/supervise/mod.rs", "fn f() -> crate::spawn::Recipe { crate::linux::f() }", 2),
            ("src/supervise/mod.rs", "use crate::notify::Note;", 0),
            ("src/worker.rs", "use prebind::plan::X;", 1),
            ("src/demo.rs", "use crate::worker; use crate::cli::main;", 1),
            ("src/cli/mod.rs", "use crate::linux::Linux;", 0),
            ("src/bin/prebindctl.rs", "use prebind::cli;", 0),
            ("src/helpers/mod.rs", "", 1),
            ("tests/sim/main.rs", "use prebind::supervise;", 0),
        ] {
            assert_eq!(arrows(path, text).len(), count, "{path}: {text}");
        }
    }

    #[test]
    fn purity_can_fail() {
        for (path, text, count) in [
            ("src/supervise/mod.rs", "use std::time::Instant;\nlet t = Instant::now();", 2),
            ("src/control/wire.rs", "nix::unistd::getpid()", 1),
            ("src/front/mod.rs", "std::env::args()", 1),
            ("src/plan/mod.rs", "// libc\nuse std::time::Duration; \"tokio\"", 0),
            ("src/control/server.rs", "use tokio::net::UnixListener;", 0),
        ] {
            assert_eq!(purity(path, text).len(), count, "{path}: {text}");
        }
    }

    #[test]
    fn unsafety_can_fail() {
        for (path, text, count) in [
            ("src/plan/mod.rs", "unsafe { f() }", 1),
            ("src/plan/mod.rs", "#![deny(unsafe_code)] // unsafe", 0),
            ("src/demo/http.rs", "unsafe fn f() {}", 1),
            ("src/spawn/clone/mod.rs", "unsafe { f() }", 0),
            ("tests/sim/main.rs", "unsafe { f() }", 1),
            ("src/main.rs", "#[unsafe(no_mangle)]", 0),
            ("src/main.rs", "unsafe { f() }", 1),
        ] {
            assert_eq!(unsafety(path, text).len(), count, "{path}: {text}");
        }
    }

    #[test]
    fn exit_codes_can_fail() {
        for (path, text, count) in [
            ("src/main.rs", "std::process::exit(3)", 1),
            ("src/main.rs", "libc::_exit( 127)", 1),
            ("src/main.rs", "ExitCode::from(1)", 1),
            ("src/main.rs", "std::process::exit(exit.code().into())", 0),
            ("src/exit.rs", "std::process::exit(3)", 0),
        ] {
            assert_eq!(exit_codes(path, text).len(), count, "{path}: {text}");
        }
    }
}
