//! `--check`, of a service that units asked for: what the command line has no words for.

use super::{line, seconds, template};
use crate::plan::{KillMode, Kind, NotifyAccess, Plan, ServiceSpec, StartWhen, Stdio};
use serde_json::{Value, json};

/// For people.
pub(super) fn rows(plan: &Plan, service: &ServiceSpec) -> Vec<(&'static str, String)> {
    if !service.process.unit {
        return Vec::new();
    }
    let process = &service.process;
    let mut rows = vec![("start", start(service)), ("type", kind(service).to_string())];
    for step in &service.steps {
        let fails = if step.exec.may_fail { " (may fail)" } else { "" };
        rows.push(("runs", format!("{} {}{fails}", step.step.key(), line(plan, &step.exec.words))));
    }
    rows.push(("kill", kill_mode(service).to_string()));
    if service.notify_access != NotifyAccess::None {
        rows.push(("notify", notify_access(service).to_string()));
    }
    let began = if process.clean_environment { "empty" } else { "prebind's" };
    rows.push(("environment", format!("begins {began}, {} set, {} files", service.env.len(), service.env_files.len())));
    let streams = [&process.stdin, &process.stdout, &process.stderr].map(stream);
    rows.push(("streams", streams.join(", ")));
    rows.extend(process.directories.iter().map(|one| ("makes", format!("{} {:04o}", one.path.display(), one.mode))));
    rows
}

/// For machines; null where it is no unit's.
pub(super) fn json(plan: &Plan, service: &ServiceSpec) -> Value {
    if !service.process.unit {
        return Value::Null;
    }
    let process = &service.process;
    let steps = service.steps.iter().map(|step| {
        let words: Vec<String> = step.exec.words.iter().map(|word| template(plan, word)).collect();
        json!({"key": step.step.key(), "command": words, "may_fail": step.exec.may_fail})
    });
    let streams = [&process.stdin, &process.stdout, &process.stderr].map(stream);
    json!({
        "origin": service.origin.to_string(),
        "type": kind(service),
        "start": start(service),
        "steps": steps.collect::<Vec<_>>(),
        "kill_mode": kill_mode(service),
        "notify_access": notify_access(service),
        "start_limit": service.start_limit.map(|(burst, span)| json!({"burst": burst, "seconds": seconds(span)})),
        "remain_after_exit": service.remain_after_exit,
        "clean_environment": process.clean_environment,
        "streams": streams,
        "directories": process.directories.iter().map(|one| one.path.display().to_string()).collect::<Vec<_>>(),
        "fd_store_max": service.fd_store_max,
    })
}

fn start(service: &ServiceSpec) -> String {
    match service.start {
        StartWhen::AtOnce => "at once".into(),
        StartWhen::OnTraffic { also_at_once: true, .. } => "at once, then on traffic".into(),
        StartWhen::OnTraffic { also_at_once: false, .. } => "on traffic".into(),
        StartWhen::PerConnection { most, .. } => format!("for each connection, at most {most}"),
    }
}

fn kind(service: &ServiceSpec) -> &'static str {
    match service.kind {
        Kind::Simple => "simple",
        Kind::Oneshot => "oneshot",
        Kind::Forking { .. } => "forking",
    }
}

fn kill_mode(service: &ServiceSpec) -> &'static str {
    match service.kill.mode {
        KillMode::Group => "control-group",
        KillMode::Mixed => "mixed",
        KillMode::Process => "process",
        KillMode::None => "none",
    }
}

fn notify_access(service: &ServiceSpec) -> &'static str {
    match service.notify_access {
        NotifyAccess::None => "none",
        NotifyAccess::Main => "main",
        NotifyAccess::Exec => "exec",
        NotifyAccess::All => "all",
    }
}

fn stream(stdio: &Stdio) -> String {
    match stdio {
        Stdio::Own => "prebind's own".into(),
        Stdio::Null => "null".into(),
        Stdio::Input => "inherit".into(),
        Stdio::Socket => "socket".into(),
        Stdio::File(path) => format!("file:{}", path.display()),
        Stdio::Append(path) => format!("append:{}", path.display()),
        Stdio::Truncate(path) => format!("truncate:{}", path.display()),
        Stdio::Named(name) => format!("fd:{name}"),
        Stdio::Data(bytes) => format!("data ({} bytes)", bytes.len()),
    }
}
