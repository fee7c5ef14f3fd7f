//! `--check`, of a service that units asked for: what the command line has no words for.

use super::{line, seconds};
use crate::plan::{KillMode, Kind, NotifyAccess, Plan, Rotation, ServiceSpec, StartWhen, Stdio, Unit};
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
    rows.push(("streams", streams(service).join(", ")));
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
        let words: Vec<String> = step.exec.words.iter().map(|word| word.shown(plan)).collect();
        json!({"key": step.step.key(), "command": words, "may_fail": step.exec.may_fail})
    });
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
        "streams": streams(service),
        "directories": process.directories.iter().map(|one| one.path.display().to_string()).collect::<Vec<_>>(),
        "fd_store_max": service.fd_store_max,
    })
}

pub(super) fn start(service: &ServiceSpec) -> String {
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

/// Descriptors 0, 1 and 2.
pub(super) fn streams(service: &ServiceSpec) -> [String; 3] {
    let process = &service.process;
    [&process.stdin, &process.stdout, &process.stderr].map(stream)
}

fn stream(stdio: &Stdio) -> String {
    match stdio {
        Stdio::Own => "prebind's own".into(),
        Stdio::Null => "null".into(),
        Stdio::Input => "inherit".into(),
        Stdio::Socket => "socket".into(),
        Stdio::File(path) => format!("file:{}", path.display()),
        Stdio::Append(path) => format!("append:{}", path.display()),
        Stdio::Log(file) => format!("log:{}{}", file.path.display(), rotation(file.rotation)),
        Stdio::Truncate(path) => format!("truncate:{}", path.display()),
        Stdio::Named(name) => format!("fd:{name}"),
        Stdio::Data(bytes) => format!("data ({} bytes)", bytes.len()),
    }
}

/// Behind a file's name.
fn rotation(rotation: Rotation) -> String {
    match rotation {
        Rotation::Never => String::new(),
        Rotation::Size { max_bytes, backups } => format!(" (put aside at {max_bytes} bytes, {backups} kept)"),
        Rotation::Watched => " (opened anew where it was moved)".into(),
        Rotation::Time { unit, interval, backups, utc } => {
            let unit = match unit {
                Unit::Second => "seconds",
                Unit::Minute => "minutes",
                Unit::Hour => "hours",
                Unit::Day => "days",
                Unit::Midnight => "days of the calendar",
                Unit::Week(_) => "weeks",
            };
            let kept = if backups == 0 { "all".to_string() } else { backups.to_string() };
            let zone = if utc { ", by UTC" } else { "" };
            format!(" (put aside every {interval} {unit}{zone}, {kept} kept)")
        }
    }
}
