//! `options`: how a service is run, as the plan says it, in Circus's words where the notion is Circus's. Pure. Of
//! variables it has the names: a value may be a secret.

use crate::plan::{
    Command, KillMode, Limit, LogFile, Nanos, Plan, Reload, Resource, Restart, Rotation, SECOND, ServiceSpec,
    StartWhen, Stdio, Template, Unit,
};
use serde_json::{Map, Value, json};

/// The options of a service that has so many workers now, and how many a start gives it where it has none.
pub fn data(plan: &Plan, service: &ServiceSpec, number: u32) -> Value {
    let start_number = Some(service.number.get()).filter(|number| *number > 0).unwrap_or(service.idle_number);
    let mut all = circus(plan, service, number);
    all.append(&mut own(service));
    // What is not set is not there.
    all.retain(|_, value| !matches!(value, Value::Null));
    json!({ "options": all, "start_number": start_number })
}

/// A line for each option, for people.
pub fn lines(options: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = |value: &Value| match value {
        Value::Array(list) => list.iter().map(word).collect::<Vec<_>>().join(", "),
        one => word(one),
    };
    let options = options.as_object().into_iter().flatten();
    options.map(|(key, value)| format!("{key}: {}", text(value)).trim_end().to_owned()).collect()
}

/// What Circus has a word for.
fn circus(plan: &Plan, service: &ServiceSpec, number: u32) -> Map<String, Value> {
    let process = &service.process;
    let sockets: Vec<&str> = service.sockets.iter().map(|id| plan.socket(*id).name.as_str()).collect();
    let mut names: Vec<&str> = service.env.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let stdin_socket = match &process.stdin {
        Stdio::Named(name) => Some(name.as_str()),
        Stdio::Socket => sockets.first().copied(),
        _ => None,
    };
    let mut all = object(json!({
        "numprocesses": number,
        "cmd": command(plan, service),
        "working_dir": service.chdir,
        "uid": service.user,
        "gid": service.group,
        "umask": service.umask.map(|mask| format!("{mask:03o}")),
        "use_sockets": !sockets.is_empty(),
        "sockets": sockets,
        "stdin_socket": stdin_socket,
        "copy_env": !process.clean_environment,
        "env": names,
        "autostart": service.autostart,
        "respawn": service.restart != Restart::No,
        "on_demand": matches!(service.start, StartWhen::OnTraffic { .. }),
        "graceful_timeout": stop_timeout(service),
        "stop_signal": service.stop_signal.to_string(),
        "stop_children": service.kill.mode == KillMode::Group,
        "send_hup": matches!(service.reload, Reload::Signal(_)),
        "max_age": seconds(service.max_age.map_or(0, |(age, _)| age)),
        "max_age_variance": service.max_age.map(|(_, variance)| seconds(variance)),
        "warmup_delay": seconds(service.spacing_ns),
        "close_child_stdin": process.stdin == Stdio::Null,
        "close_child_stdout": process.stdout == Stdio::Null,
        "close_child_stderr": process.stderr == Stdio::Null,
    }));
    for (start, stdio) in [("stdout_stream", &process.stdout), ("stderr_stream", &process.stderr)] {
        let file = if let Stdio::Log(file) = stdio { stream(file) } else { Map::new() };
        all.extend(file.into_iter().map(|(key, value)| (format!("{start}.{key}"), value)));
    }
    all.extend(service.limits.iter().map(limit));
    all
}

/// What only prebind has.
fn own(service: &ServiceSpec) -> Map<String, Value> {
    object(json!({
        "ack_mode": service.ack.word(),
        "back_off": seconds(service.backoff_base_ns),
        "drain_delay": service.drain_delay_ns.map(seconds),
        "drop_env": Some(&service.drop_env).filter(|names| !names.is_empty()),
        "env_files": Some(&service.env_files).filter(|files| !files.is_empty()),
        "listen_env": service.listen_env.word(),
        "max_unacked": service.max_unacked,
        "max_upgrade_additional": service.max_upgrade_additional,
        "min_ready": seconds(service.min_ready_ns),
        "nice": service.nice,
        "restart": service.restart.word(),
        "strategy": service.strategy.word(),
        "upgrade_retries": service.upgrade_retries,
        "upgrade_timeout": seconds(service.upgrade_timeout_ns),
        "watchdog": service.watchdog_ns.map(seconds),
    }))
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(object) = value { object } else { Map::new() }
}

/// One line; a word with blanks or quotes in it is quoted.
fn command(plan: &Plan, service: &ServiceSpec) -> String {
    let quoted = |word: &Template| {
        let text = word.shown(plan);
        let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "'\"\\".contains(c));
        if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
    };
    let line = |words: &[Template]| words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    match &service.command {
        Command::Demo => "(the embedded demonstration)".into(),
        Command::Program(words) => line(words),
        Command::Execs(execs) => execs.iter().map(|exec| line(&exec.words)).collect::<Vec<_>>().join(" ; "),
    }
}

fn stop_timeout(service: &ServiceSpec) -> Value {
    let never = !service.kill.kill || service.stop_timeout_ns >= ServiceSpec::NEVER_NS;
    if never { "never".into() } else { seconds(service.stop_timeout_ns) }
}

/// `rlimit_NAME`: a number where soft and hard are the same, else `SOFT:HARD`.
fn limit(limit: &Limit) -> (String, Value) {
    let name = Resource::ALL.iter().find(|(_, one)| *one == limit.resource).map_or("", |(name, _)| name);
    let one = |value: Option<u64>| value.map_or_else(|| json!("infinity"), Value::from);
    let value = match (one(limit.soft), one(limit.hard)) {
        (soft, hard) if soft == hard => soft,
        (soft, hard) => format!("{soft}:{hard}").replace('"', "").into(),
    };
    (format!("rlimit_{name}"), value)
}

/// A log file, as an option of each.
fn stream(file: &LogFile) -> Map<String, Value> {
    let (class, more) = match file.rotation {
        Rotation::Never => ("FileStream", json!({})),
        Rotation::Size { max_bytes, backups } => {
            ("FileStream", json!({ "max_bytes": max_bytes, "backup_count": backups }))
        }
        Rotation::Watched => ("WatchedFileStream", json!({})),
        Rotation::Time { unit, interval, backups, utc } => {
            let when = match unit {
                Unit::Second => "S".to_string(),
                Unit::Minute => "M".into(),
                Unit::Hour => "H".into(),
                Unit::Day => "D".into(),
                Unit::Midnight => "MIDNIGHT".into(),
                Unit::Week(day) => format!("W{day}"),
            };
            let more = json!({ "rotate_when": when, "rotate_interval": interval, "backup_count": backups, "utc": utc });
            ("TimedRotatingFileStream", more)
        }
    };
    let mut all = object(more);
    all.insert("class".into(), class.into());
    all.insert("filename".into(), file.path.to_string_lossy().into());
    all.extend(file.time_format.iter().map(|format| ("time_format".to_string(), json!(format))));
    all
}

/// Whole seconds without a point.
fn seconds(span: Nanos) -> Value {
    if span.is_multiple_of(SECOND) { (span / SECOND).into() } else { (span as f64 / SECOND as f64).into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Number, Piece};

    fn word(text: &str) -> Template {
        Template(vec![Piece::Text(text.into())])
    }

    #[test]
    fn what_is_said_of_a_service_is_shown_and_no_value() {
        let mut service = ServiceSpec { number: Number::Fixed(0), idle_number: 3, ..ServiceSpec::default() };
        service.command = Command::Program(vec![word("sh"), word("-c"), word("it's 1"), word("{}"), word("")]);
        service.env = vec![("TOKEN".into(), word("hush")), ("A".into(), word("b"))];
        (service.max_age, service.spacing_ns) = (Some((60 * SECOND, 30 * SECOND)), SECOND / 2);
        service.process.stdout = Stdio::Log(LogFile {
            path: "/x".into(),
            rotation: Rotation::Size { max_bytes: 9, backups: 2 },
            time_format: None,
        });
        service.limits = vec![Limit { resource: Resource::Nofile, soft: Some(7), hard: None }];
        service.stop_timeout_ns = ServiceSpec::NEVER_NS;
        let shown = data(&Plan::default(), &service, 4);
        assert_eq!(shown["start_number"], 3);
        let lines = lines(&shown["options"]);
        for line in [
            "numprocesses: 4",
            "cmd: sh -c 'it'\\''s 1' {} ''",
            "env: A, TOKEN",
            "max_age: 60",
            "max_age_variance: 30",
            "warmup_delay: 0.5",
            "stdout_stream.class: FileStream",
            "stdout_stream.filename: /x",
            "stdout_stream.max_bytes: 9",
            "rlimit_nofile: 7:infinity",
            "graceful_timeout: never",
            "stop_signal: TERM",
            "respawn: true",
            "ack_mode: auto",
        ] {
            assert!(lines.iter().any(|one| one == line), "{line}: {lines:#?}");
        }
        assert!(!shown.to_string().contains("hush"), "{shown}");
        assert!(!lines.iter().any(|line| line.starts_with("uid")), "what is not set is not there");
    }
}
