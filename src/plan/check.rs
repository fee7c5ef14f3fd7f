//! All that is wrong with a plan, at once; and what only a whole plan can tell: names to ids, `auto` to a value.

use super::{
    Address, Command, Exec, ListenEnv, LogFile, Manner, Nanos, Number, Origin, Piece, Plan, Problem, Restart, SECOND,
    ServiceSpec, SocketId, SocketRef, SocketSpec, Stdio, Strategy, Template, nearest,
};
use std::collections::BTreeMap;
use std::path::Path;

/// How long PID 1 waits before SIGKILL: container engines give it 10 s.
pub(super) const PID1_STOP_TIMEOUT_NS: Nanos = 8 * SECOND;

/// What `check` has to know of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The CPUs that this process may use.
    pub cpus: u32,
    /// Whether prebind is PID 1.
    pub pid1: bool,
}

/// Resolves every name to an id and every `auto` to a value, or returns every problem.
pub fn check(mut plan: Plan, facts: Facts) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    super::socket_check::sockets(&plan.sockets, &mut problems);
    let einhorn = plan.manner == Manner::Einhorn;
    let Plan { sockets, services, .. } = &mut plan;
    for service in services.iter_mut() {
        if einhorn {
            service.max_unacked = service.max_unacked.or(Some(facts.cpus.max(1)));
        }
        settle(service, sockets, facts, &mut problems);
    }
    super::socket_check::sharing(sockets, services, &mut problems);
    log_files(services, &mut problems);
    super::entry::settle(&mut plan, facts.pid1, &mut problems);
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

fn settle(service: &mut ServiceSpec, sockets: &[SocketSpec], facts: Facts, problems: &mut Vec<Problem>) {
    // A unit gets what its sockets units name, be it nothing.
    if service.sockets.is_empty() && !service.process.unit && !service.sockets_given {
        service.sockets = (0..sockets.len()).map(|n| SocketId(n as u16)).collect();
    }
    if service.number == Number::Auto {
        service.number = Number::Fixed(facts.cpus.max(1));
    }
    if facts.pid1 {
        if !service.stop_timeout_given {
            service.stop_timeout_ns = PID1_STOP_TIMEOUT_NS;
        }
        if !service.restart_given && service.number == Number::Fixed(1) && service.sockets.is_empty() {
            service.restart = Restart::No;
        }
    }
    resolve_all(service, sockets, problems);
    if service.listen_env == ListenEnv::Auto {
        service.listen_env = if names_a_socket(service) { ListenEnv::NoPid } else { ListenEnv::Full };
    }
    policy(service, problems);
}

/// Servers that take a descriptor by argument and look at LISTEN_FDS too trip over both.
fn names_a_socket(service: &ServiceSpec) -> bool {
    let named = |template: &Template| template.0.iter().any(|piece| matches!(piece, Piece::Socket(_)));
    let command = match &service.command {
        Command::Program(argv) => argv.iter().any(named),
        // A unit says how its sockets are taken: by LISTEN_FDS.
        Command::Execs(_) | Command::Demo => false,
    };
    command || service.env.iter().any(|(_, value)| named(value))
}

fn resolve_all(service: &mut ServiceSpec, sockets: &[SocketSpec], problems: &mut Vec<Problem>) {
    let first = match service.origin {
        Origin::Argument(first) => Some(first),
        _ => None,
    };
    let origin = &service.origin;
    if let Command::Program(argv) = &mut service.command {
        for (n, template) in argv.iter_mut().enumerate() {
            let origin = first.map_or_else(|| origin.clone(), |first| Origin::Argument(first + n));
            resolve(template, sockets, &origin, "", problems);
        }
    }
    if let Command::Execs(execs) = &mut service.command {
        execs.iter_mut().for_each(|exec| resolve_exec(exec, sockets, problems));
    }
    service.steps.iter_mut().for_each(|step| resolve_exec(&mut step.exec, sockets, problems));
    for (key, value) in &mut service.env {
        resolve(value, sockets, origin, &format!("variable {key}: "), problems);
    }
}

fn resolve_exec(exec: &mut Exec, sockets: &[SocketSpec], problems: &mut Vec<Problem>) {
    let origin = &exec.origin;
    for word in std::iter::once(&mut exec.path).chain(&mut exec.words) {
        resolve(word, sockets, origin, "", problems);
    }
}

/// Turns the names of a word into ids.
fn resolve(word: &mut Template, sockets: &[SocketSpec], origin: &Origin, what: &str, problems: &mut Vec<Problem>) {
    for piece in &mut word.0 {
        let Some(of) = piece.socket_mut() else { continue };
        match find(of, sockets) {
            Ok(id) => *of = SocketRef::At(id),
            Err(problem) => {
                problems.push(Problem {
                    origin: origin.clone(),
                    message: format!("{what}{}", problem.message),
                    ..problem
                });
                continue;
            }
        }
        if let Some(message) = misfit(piece, sockets) {
            problems.push(Problem::new(origin.clone(), format!("{what}{message}")));
        }
    }
}

fn find(of: &SocketRef, sockets: &[SocketSpec]) -> Result<SocketId, Problem> {
    let problem = |message: String| Problem::new(Origin::Default, message);
    match of {
        SocketRef::At(id) => Ok(*id),
        SocketRef::Only if sockets.len() == 1 => Ok(SocketId(0)),
        SocketRef::Only if sockets.is_empty() => {
            Err(problem("{SOCKET}: there is no socket".into()).remedy("-b ADDR makes one"))
        }
        SocketRef::Only => Err(problem(format!("{{SOCKET}}: which of {} sockets?", sockets.len()))
            .remedy(format!("{{SOCKET:{}}}", sockets[0].name))),
        SocketRef::Named(name) => match position(name, sockets) {
            Some(at) => Ok(SocketId(at as u16)),
            None => {
                let names = sockets.iter().map(|spec| spec.name.as_str());
                let unknown = problem(format!("unknown socket '{name}'"));
                Err(match nearest(name, names).or(sockets.first().map(|spec| spec.name.as_str())) {
                    Some(near) => unknown.remedy(format!("did you mean {near}?")),
                    None => unknown.remedy(format!("-b {name}=ADDR makes one")),
                })
            }
        },
    }
}

/// By name; a socket `web.socket` answers to `web` too.
fn position(name: &str, sockets: &[SocketSpec]) -> Option<usize> {
    let exact = sockets.iter().position(|spec| spec.name == name);
    exact.or_else(|| sockets.iter().position(|spec| spec.name.strip_suffix(".socket") == Some(name)))
}

/// A port of something that has none.
fn misfit(piece: &Piece, sockets: &[SocketSpec]) -> Option<String> {
    let Some(SocketRef::At(id)) = piece.socket() else { return None };
    let spec = sockets.get(usize::from(id.0))?;
    let inet = matches!(spec.address, Address::Inet { .. });
    let unknown = matches!(spec.address, Address::Fd(_));
    let vsock = matches!(spec.address, Address::Vsock { .. });
    let (what, fits) = match piece {
        Piece::Host(_) => ("host", inet),
        Piece::Port(_) => ("port", inet || vsock),
        Piece::Path(_) => ("path", matches!(spec.address, Address::Unix(_))),
        Piece::Text(_) | Piece::Slot | Piece::Wid | Piece::Instance { .. } => return None,
        Piece::Socket(_) | Piece::Addr(_) => return None,
    };
    (!fits && !unknown).then(|| format!("socket '{}' ({}) has no {what}", spec.name, spec.address))
}

/// One file is written in one way.
fn log_files(services: &[ServiceSpec], problems: &mut Vec<Problem>) {
    let mut known: BTreeMap<&Path, &LogFile> = BTreeMap::new();
    for service in services {
        for stream in [&service.process.stdout, &service.process.stderr] {
            let Stdio::Log(file) = stream else { continue };
            if *known.entry(&file.path).or_insert(file) != file {
                let message = format!("{}: is written in two different ways", file.path.display());
                let remedy = "the same class, rotation and time format wherever it is named, or another file";
                problems.push(Problem::new(service.origin.clone(), message).remedy(remedy));
            }
        }
    }
}

fn policy(service: &ServiceSpec, problems: &mut Vec<Problem>) {
    let origin = &service.origin;
    let mut say = |message: &str, remedy: &str| {
        problems.push(Problem::new(origin.clone(), message).remedy(remedy));
    };
    if service.number == Number::Fixed(0) && service.autostart {
        say("worker count 0: nothing would ever start", "-n 1 or more");
    }
    if service.backoff_base_ns == 0 {
        say("a back-off of 0 s would start a failing worker again without a pause", "-s 0.1 or more");
    }
    if service.max_unacked == Some(0) {
        say("--max-unacked 0: no worker could ever start", "1 or more");
    }
    if service.max_upgrade_additional == Some(0) {
        say("--max-upgrade-additional 0: no worker could be replaced", "1 or more");
    }
    let number = match service.number {
        Number::Fixed(number) => number,
        Number::Auto => 0,
    };
    if service.strategy == Strategy::Fleet && service.max_upgrade_additional.is_some_and(|most| most < number) {
        say(
            &format!("--strategy fleet starts {number} more workers, --max-upgrade-additional allows fewer"),
            "leave one of them out",
        );
    }
    if service.upgrade_timeout_ns == 0 {
        say("--upgrade-timeout 0: no new worker could be ready in time", "a few seconds or more");
    }
    if service.upgrade_retries == 0 {
        say("--upgrade-retries 0: an upgrade would end before it began", "1 or more: so many failures end it");
    }
    // A unit that asks for it knows.
    if service.stop_signal.0 == 9 && !service.process.unit {
        say("--stop-signal KILL leaves a worker no time to stop", "TERM; SIGKILL follows by itself after -t");
    }
    for limit in &service.limits {
        if limit.soft.unwrap_or(u64::MAX) > limit.hard.unwrap_or(u64::MAX) {
            say(&format!("limit {:?}: the soft limit is above the hard one", limit.resource), "NAME=SOFT:HARD");
        }
    }
    for key in service.env.iter().map(|(key, _)| key).chain(&service.drop_env) {
        if key.is_empty() || key.contains(['=', '\0']) {
            say(&format!("'{key}' is not the name of a variable"), "--env NAME=VALUE");
        }
    }
    for (key, _) in &service.env {
        if is_ours(key) {
            say(&format!("variable {key} is set by prebind itself for each worker"), "leave it out");
        }
    }
}

/// What every worker gets from prebind. LISTEN_* are not among them: with `--listen-env none` they are free.
fn is_ours(key: &str) -> bool {
    matches!(key, "NOTIFY_SOCKET" | "WATCHDOG_USEC" | "WATCHDOG_PID")
        || key.starts_with("EINHORN_")
        || matches!(key, "PREBIND_SLOT" | "PREBIND_GENERATION" | "PREBIND_SERVICE")
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
