//! `--check`: a checked plan for people, and as JSON for machines.

mod circus;
mod unit;

use crate::plan::{Command, Delay, Nanos, Plan, SECOND, ServiceSpec, Signal, SocketSpec, Strategy, Template, remarks};
use serde_json::{Value, json};
use std::fmt::Write;

/// For people.
pub(super) fn text(plan: &Plan) -> String {
    let mut out = String::new();
    for service in &plan.services {
        let number = service.number.get();
        let workers = if number == 1 { "worker" } else { "workers" };
        let _ = writeln!(out, "service {}: {number} {workers}", service.name);
        let _ = writeln!(out, "  command     {}", command(plan, service));
        for (n, id) in service.sockets.iter().enumerate() {
            let spec = plan.socket(*id);
            let options = options(spec);
            let gap = if options.is_empty() { "" } else { "  " };
            let _ =
                writeln!(out, "  fd {:<8} {} {} {}{gap}{options}", n + 3, spec.name, spec.kind_word(), spec.address);
        }
        for (key, value) in rows(service).into_iter().chain(circus::rows(service)).chain(unit::rows(plan, service)) {
            let _ = writeln!(out, "  {key:<11} {value}");
        }
    }
    for remark in all_remarks(plan) {
        let _ = writeln!(out, "remark: {remark}");
    }
    out
}

/// For machines: stable names, spans in seconds.
pub(super) fn json(plan: &Plan) -> Value {
    let sockets: Vec<Value> = plan
        .sockets
        .iter()
        .map(|spec| {
            json!({
                "name": spec.name,
                "kind": spec.kind_word(),
                "address": spec.address.to_string(),
                "options": options(spec).split_whitespace().collect::<Vec<_>>(),
                "origin": spec.origin.to_string(),
            })
        })
        .collect();
    let services: Vec<Value> = plan.services.iter().map(|service| service_json(plan, service)).collect();
    json!({ "sockets": sockets, "services": services, "remarks": all_remarks(plan) })
}

/// What the front door said, then what the plan itself tells.
fn all_remarks(plan: &Plan) -> Vec<String> {
    plan.remarks.iter().cloned().chain(remarks(plan)).collect()
}

fn service_json(plan: &Plan, service: &ServiceSpec) -> Value {
    let argv: Vec<String> = match &service.command {
        Command::Execs(execs) => execs.iter().flat_map(|exec| &exec.words).map(|word| word.shown(plan)).collect(),
        Command::Demo => Vec::new(),
        Command::Program(words) => words.iter().map(|word| word.shown(plan)).collect(),
    };
    let sockets: Vec<&str> = service.sockets.iter().map(|id| plan.socket(*id).name.as_str()).collect();
    let env: serde_json::Map<String, Value> =
        service.env.iter().map(|(key, value)| (key.clone(), value.shown(plan).into())).collect();
    json!({
        "name": service.name,
        "command": argv,
        "demonstration": service.command == Command::Demo,
        "number": service.number.get(),
        "sockets": sockets,
        "listen_env": service.listen_env.word(),
        "ack_mode": service.ack.word(),
        "min_ready_seconds": seconds(service.min_ready_ns),
        "start_timeout_seconds": seconds(service.start_timeout_ns),
        "back_off_seconds": seconds(service.backoff_base_ns),
        "stop_timeout_seconds": seconds(service.stop_timeout_ns),
        "stop_signal": service.stop_signal.to_string(),
        "watchdog_seconds": service.watchdog_ns.map(seconds),
        "max_unacked": service.max_unacked,
        "max_upgrade_additional": service.max_upgrade_additional,
        "strategy": service.strategy.word(),
        "bake_seconds": seconds(service.bake_ns),
        "upgrade_timeout_seconds": seconds(service.upgrade_timeout_ns),
        "upgrade_retries": service.upgrade_retries,
        "drain_delay_seconds": service.drain_delay_ns.map(seconds),
        "restart": service.restart.word(),
        "user": service.user,
        "group": service.group,
        "chdir": service.chdir,
        "umask": service.umask.map(|mask| format!("{mask:03o}")),
        "env": env,
        "env_files": service.env_files,
        "drop_env": service.drop_env,
        "nice": service.nice,
        "limits": service.limits.iter().map(|limit| format!("{limit:?}")).collect::<Vec<_>>(),
        "start": unit::start(service),
        "autostart": service.autostart,
        "singleton": service.singleton,
        "spacing_seconds": seconds(service.spacing_ns),
        "max_age_seconds": service.max_age.map(|(age, variance)| [seconds(age), seconds(variance)]),
        "clean_environment": service.process.clean_environment,
        "streams": unit::streams(service),
        "unit": unit::json(plan, service),
    })
}

/// The policy: only what decides, and what was set.
fn rows(service: &ServiceSpec) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("listen-env", service.listen_env.word().to_string()),
        ("ready", service.ack.word()),
        ("upgrade", upgrade(service)),
        ("restart", format!("{}, {}", service.restart.word(), pause(service))),
        ("stop", stop(service)),
    ];
    rows.extend(service.watchdog_ns.map(|span| ("watchdog", format!("{} s", seconds(span)))));
    rows.extend(service.user.clone().map(|user| ("user", user)));
    rows.extend(service.group.clone().map(|group| ("group", group)));
    rows.extend(service.chdir.as_ref().map(|path| ("directory", path.display().to_string())));
    rows.extend(service.nice.map(|level| ("nice", level.to_string())));
    rows
}

fn pause(service: &ServiceSpec) -> String {
    match service.delay {
        Delay::BackOff => format!("back-off from {} s", seconds(service.backoff_base_ns)),
        Delay::Fixed { base_ns, max_ns: Some(max_ns), .. } => {
            format!("after {} s, growing to {} s", seconds(base_ns), seconds(max_ns))
        }
        Delay::Fixed { base_ns, .. } => format!("after {} s", seconds(base_ns)),
    }
}

fn stop(service: &ServiceSpec) -> String {
    let last = service.kill.final_signal;
    let last = if last == Signal::KILL { "SIGKILL".to_string() } else { last.to_string() };
    if !service.kill.kill || service.stop_timeout_ns >= ServiceSpec::NEVER_NS {
        return format!("{}, never {last}", service.stop_signal);
    }
    format!("{}, {last} after {} s", service.stop_signal, seconds(service.stop_timeout_ns))
}

fn command(plan: &Plan, service: &ServiceSpec) -> String {
    match &service.command {
        Command::Demo => "(the embedded demonstration)".into(),
        Command::Program(words) => line(plan, words),
        Command::Execs(execs) => execs.iter().map(|exec| line(plan, &exec.words)).collect::<Vec<_>>().join(" ; "),
    }
}

fn line(plan: &Plan, words: &[Template]) -> String {
    words.iter().map(|word| word.shown(plan)).collect::<Vec<_>>().join(" ")
}

fn upgrade(service: &ServiceSpec) -> String {
    let strategy = match service.strategy {
        Strategy::Canary => format!("canary, on trial for {} s", seconds(service.bake_ns)),
        Strategy::Rolling | Strategy::Fleet => service.strategy.word().to_string(),
    };
    let (timeout, retries) = (seconds(service.upgrade_timeout_ns), service.upgrade_retries);
    format!("{strategy}; given up after {timeout} s or {retries} failures")
}

fn seconds(span: Nanos) -> f64 {
    span as f64 / SECOND as f64
}

/// The options of a socket that were given, in the words of the command line.
fn options(spec: &SocketSpec) -> String {
    let set = &spec.options;
    let flags = [
        ("so_reuseaddr", set.reuse_address),
        ("o_nonblock", set.nonblock),
        ("reuseport", set.reuse_port),
        ("slots", set.slots),
        ("v6only", set.v6only == Some(true)),
        ("nodelay", set.nodelay),
        ("keepalive", set.keepalive),
        ("freebind", set.freebind),
        ("transparent", set.transparent),
        ("broadcast", set.broadcast),
        ("passcred", set.pass_credentials),
        ("passsec", set.pass_security),
        ("pktinfo", set.pass_packet_info),
        ("writable", set.writable),
        ("passpidfd", set.pass_pidfd),
        ("refusefds", set.refuse_descriptors),
    ];
    let octal = |mode: Option<u32>| mode.map(|mode| format!("{mode:04o}"));
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let signed = |number: Option<i32>| number.map(|number| number.to_string());
    let bytes = |number: Option<u64>| number.map(|number| number.to_string());
    let values = [
        ("backlog", number(set.backlog)),
        ("mode", octal(set.mode)),
        ("dirmode", octal(set.directory_mode)),
        ("user", set.user.clone()),
        ("group", set.group.clone()),
        ("defer", number(set.defer_accept_seconds)),
        ("keepidle", number(set.keepalive_idle_seconds)),
        ("keepintvl", number(set.keepalive_interval_seconds)),
        ("keepcnt", number(set.keepalive_probes)),
        ("device", set.device.clone()),
        ("rcvbuf", bytes(set.receive_buffer_bytes)),
        ("sndbuf", bytes(set.send_buffer_bytes)),
        ("mark", number(set.mark)),
        ("priority", signed(set.priority)),
        ("tos", signed(set.tos)),
        ("ttl", signed(set.ttl)),
        ("congestion", set.congestion.clone()),
        ("pipesize", bytes(set.pipe_size_bytes)),
        ("protocol", signed(set.protocol)),
        ("messages", set.queue_limits.map(|(messages, bytes)| format!("{messages}x{bytes}"))),
    ];
    let flags = flags.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_string());
    let values = values.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
    let stamp = set.timestamp.map(|stamp| match stamp {
        crate::plan::Timestamp::Microseconds => "timestamp=us".to_string(),
        crate::plan::Timestamp::Nanoseconds => "timestamp=ns".to_string(),
    });
    let links = set.symlinks.iter().map(|path| format!("link={}", path.display()));
    flags.chain(values).chain(stamp).chain(links).collect::<Vec<_>>().join(" ")
}
