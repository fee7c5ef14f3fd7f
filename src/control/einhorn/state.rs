//! `state`: YAML with symbols for keys, in the shape that einhorn's clients load.

use crate::plan::{AckMode, Nanos, Plan, SECOND};
use crate::supervise::{ChildId, Phase, ServiceStatus, Status, WorkerStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write;

/// A worker's last `worker:ping`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ping {
    /// The wall clock, seconds since 1970.
    pub at_seconds: f64,
    /// What it was at work on.
    pub request_id: Option<Value>,
}

/// What the supervisor does not know.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Of the master.
    pub pid: u32,
    /// prebind's.
    pub version: &'a str,
    /// `-c`.
    pub name: Option<&'a str>,
    /// einhorn's: 0 debug, 1 info, 2 errors only.
    pub verbosity: i8,
    /// What was asked for.
    pub plan: &'a Plan,
    /// `HOST:PORT` or path of each socket, with its real port.
    pub addresses: &'a [String],
    /// The control socket's path.
    pub socket_path: Option<&'a str>,
    /// A child's pid while it lives.
    pub pid_of: &'a dyn Fn(ChildId) -> Option<i32>,
    /// Its last ping.
    pub ping_of: &'a dyn Fn(ChildId) -> Option<&'a Ping>,
    /// The wall clock so long ago, as text.
    pub time_before: &'a dyn Fn(Nanos) -> String,
    /// That moment, in seconds since 1970, as text.
    pub time_at: &'a dyn Fn(f64) -> String,
}

/// The whole text. einhorn counts versions from 0.
pub(super) fn state(status: &Status, known: &Known<'_>) -> String {
    let mut text = String::from("---\n:state:\n");
    let Some(service) = status.services.first() else { return text };
    let workers = service.workers.iter().filter_map(|worker| Some((worker, (known.pid_of)(worker.child?)?)));
    let workers: Vec<(&WorkerStatus, i32)> = workers.collect();
    put(&mut text, 2, "children", if workers.is_empty() { "{}" } else { "" });
    for (worker, pid) in &workers {
        child(&mut text, worker, *pid, known);
    }
    settings(&mut text, service, known);
    let version = service.generation.saturating_sub(1);
    let upgrading = status.phase == Phase::Upgrading;
    let youngest = workers.iter().map(|(worker, _)| worker.age_ns).min();
    for (key, value) in [
        ("version", version.to_string()),
        ("upgrading", upgrading.to_string()),
        ("smooth_upgrade", upgrading.to_string()),
        ("respawn", (status.phase != Phase::Stopping).to_string()),
        ("generation", version.to_string()),
        ("last_spinup", youngest.map_or(String::new(), |age| (known.time_before)(age))),
        ("consecutive_deaths_before_ack", service.deaths.to_string()),
        ("last_upgraded", quoted_outcome(service)),
    ] {
        put(&mut text, 2, key, &value);
    }
    identity(&mut text, known);
    text
}

fn put(text: &mut String, indent: usize, key: &str, value: &str) {
    let space = if value.is_empty() { "" } else { " " };
    let _ = writeln!(text, "{:indent$}:{key}:{space}{value}", "");
}

fn child(text: &mut String, worker: &WorkerStatus, pid: i32, known: &Known<'_>) {
    let _ = writeln!(text, "    {pid}:");
    let signals: Vec<String> = worker.told.iter().map(|signal| quoted(&signal.to_string())).collect();
    let signaled = format!("[{}]", signals.join(", "));
    let ping = worker.child.and_then(known.ping_of);
    let mut fields = vec![
        ("type", ":worker".to_string()),
        ("version", worker.generation.saturating_sub(1).to_string()),
        ("acked", (worker.state == "ready" || worker.state == "stopping").to_string()),
        ("signaled", signaled),
        ("last_signaled_at", worker.told_ago.map(known.time_before).unwrap_or_default()),
        ("index", worker.index.to_string()),
        ("spinup_time", (known.time_before)(worker.age_ns)),
    ];
    if let Some(ping) = ping {
        fields.push(("pinged_at", (known.time_at)(ping.at_seconds)));
        fields.push(("pinged_request_id", ping.request_id.as_ref().map(Value::to_string).unwrap_or_default()));
    }
    for (key, value) in fields {
        put(text, 6, key, &value);
    }
}

fn settings(text: &mut String, service: &ServiceStatus, known: &Known<'_>) {
    let seconds = |ns: Nanos| format!("{:?}", ns as f64 / SECOND as f64);
    let backlog = known.plan.sockets.iter().find_map(|spec| spec.options.backlog);
    put(text, 2, "config", "");
    put(text, 4, "number", &service.number.to_string());
    put(text, 4, "backlog", &backlog.map(|backlog| backlog.to_string()).unwrap_or_default());
    put(text, 4, "seconds", &service.settings.backoff_base_ns.map(seconds).unwrap_or_default());
    for (key, value) in
        [("max_unacked", service.settings.max_unacked), ("max_upgrade_additional", service.settings.max_additional)]
    {
        if let Some(value) = value {
            put(text, 4, key, &value.to_string());
        }
    }
}

fn identity(text: &mut String, known: &Known<'_>) {
    let plan = known.plan;
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| quoted(&path.display().to_string()));
    let spec = plan.services.first();
    put(text, 2, "ack_mode", "");
    match spec.map(|spec| spec.ack) {
        Some(AckMode::After(span)) => {
            put(text, 4, "type", ":timer");
            put(text, 4, "timeout", &format!("{:?}", span as f64 / SECOND as f64));
        }
        _ => put(text, 4, "type", ":manual"),
    }
    let list =
        |words: Vec<String>| format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "));
    let ports = known.addresses.iter().map(|address| address.rsplit(':').next().unwrap_or_default().to_string());
    let timeout = spec.map(|spec| spec.stop_timeout_ns).filter(|span| *span < crate::plan::ServiceSpec::NEVER_NS);
    for (key, value) in [
        ("cmd_name", known.name.map(quoted).unwrap_or_default()),
        ("bind", list(known.addresses.to_vec())),
        ("bound_ports", format!("[{}]", ports.collect::<Vec<_>>().join(", "))),
        ("verbosity", known.verbosity.to_string()),
        ("kill_children_on_exit", spec.is_some_and(|spec| spec.die_with_parent).to_string()),
        ("command_socket_as_fd", spec.is_some_and(|spec| spec.control_fd).to_string()),
        ("socket_path", known.socket_path.map(quoted).unwrap_or_default()),
        ("pidfile", path(&plan.identity.pidfile).unwrap_or_default()),
        ("lockfile", path(&plan.identity.lockfile).unwrap_or_default()),
        ("reexec_commandline", list(plan.reexec_as.clone())),
        ("drop_environment_variables", list(spec.map(|spec| spec.drop_env.clone()).unwrap_or_default())),
        ("signal_timeout", timeout.map(|span| format!("{:?}", span as f64 / SECOND as f64)).unwrap_or_default()),
        ("preloaded", "false".into()),
    ] {
        put(text, 2, key, &value);
    }
}

fn quoted_outcome(service: &ServiceStatus) -> String {
    service.last_upgrade.as_ref().map(|last| quoted(last.outcome.word())).unwrap_or_default()
}

/// JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
