//! `[watcher:NAME]` -> one service with its priority.

use super::environment;
use super::globals::pause;
use super::keys::{class, judge};
use super::lex::Section;
use super::options::Options;
use super::values::{number, seconds};
use super::variables::{Scope, Variables};
use super::{Said, streams, words};
use crate::plan::{
    Command, KillMode, KillSpec, Limit, Number, Piece, ProcessSpec, Reload, Resource, Restart, SECOND, ServiceSpec,
    Signal, SocketId, SocketRef, SocketSpec, StartWhen, Stdio, Template, nearest,
};
use std::collections::BTreeSet;

/// What all watchers share.
pub(super) struct World<'a> {
    /// prebind's own environment.
    pub(super) outside: &'a Variables,
    /// What the command line and the plugins say of every service.
    pub(super) base: &'a ServiceSpec,
    pub(super) sections: &'a [Section],
    pub(super) sockets: &'a [SocketSpec],
    pub(super) directory: &'a str,
    /// `umask` of `[circus]`.
    pub(super) umask: Option<u32>,
}

/// How often traffic may start a service whose workers end at once: as systemd bounds it.
const TRIGGER_LIMIT: (u32, u64) = (20, 2 * SECOND);
/// Circus's own.
const GRACEFUL_TIMEOUT_NS: u64 = 30 * SECOND;
const AGE_VARIANCE_NS: u64 = 30 * SECOND;

/// Reads one. `None`: it cannot be run, and why was said.
pub(super) fn read(section: &Section, world: &World, said: &mut Said) -> Option<(i64, ServiceSpec)> {
    let name = section.of_kind("watcher")?;
    if name.is_empty() {
        said.wrong(&section.origin, "a watcher without a name", "[watcher:NAME]");
        return None;
    }
    let variables = environment::of_watcher(name, world.sections, world.outside, said);
    let scope = Scope { variables: &variables, section, sockets: world.sockets };
    // What is named as circus.X may have any name.
    let free = |key: &str| class("watcher", key).is_none() && scope.names(key);
    section.entries.iter().filter(|entry| !free(&entry.key)).for_each(|entry| judge("watcher", entry, said));
    let mut options = Options::new(section, &variables, said);
    Some(service(name, &mut options, &scope, world))
}

/// Reads every option.
pub(super) fn service(name: &str, options: &mut Options, scope: &Scope, world: &World) -> (i64, ServiceSpec) {
    let (command, mut named) = command(options, scope);
    let env = env(name, options, scope, world);
    env.iter().for_each(|(_, value)| sockets_of(value, &mut named));
    let (sockets, stdin) = sockets(options, scope, named);
    let singleton = options.is("singleton", false);
    let (copies, idle_number, autostart) = number_of(options, singleton);
    let age = options.read("max_age", seconds).filter(|age| *age > 0);
    let variance = options.read("max_age_variance", seconds).unwrap_or(AGE_VARIANCE_NS);
    let graceful = options.read("graceful_timeout", seconds);
    let stops_group = options.is("stop_children", false);
    let respawn = options.is("respawn", true);
    let spec = ServiceSpec {
        name: name.to_string(),
        command,
        number: copies,
        idle_number,
        autostart,
        singleton,
        start: start(options, &sockets),
        sockets,
        sockets_given: true,
        stop_timeout_ns: graceful.unwrap_or(GRACEFUL_TIMEOUT_NS),
        stop_timeout_given: graceful.is_some(),
        stop_signal: options.read("stop_signal", str::parse::<Signal>).unwrap_or(Signal::TERM),
        kill: KillSpec { mode: if stops_group { KillMode::Group } else { KillMode::Mixed }, ..KillSpec::default() },
        reload: if options.is("send_hup", false) { Reload::Signal(Signal::HUP) } else { Reload::None },
        restart: if respawn { Restart::Always } else { Restart::No },
        restart_given: true,
        stop_passes_code: false,
        backoff_base_ns: pause(options, "flapping.retry_in").unwrap_or(world.base.backoff_base_ns),
        spacing_ns: options.read("warmup_delay", seconds).unwrap_or(0),
        max_age: age.map(|age| (age, variance)),
        user: options.some("uid"),
        group: options.some("gid"),
        chdir: options.some("working_dir").map(Into::into),
        umask: world.umask,
        env,
        limits: limits(options),
        process: process(options, stdin, world),
        origin: options.origin("cmd").clone(),
        ..world.base.clone()
    };
    (options.read("priority", number).unwrap_or(0), spec)
}

/// What is run, and the sockets that it names.
fn command(options: &mut Options, scope: &Scope) -> (Command, BTreeSet<SocketId>) {
    let mut named = BTreeSet::new();
    let mut line = |options: &mut Options, key: &str| {
        let entry = options.entry(key)?;
        let line = scope.fill(&entry.value, &entry.origin, options.said);
        sockets_of(&line, &mut named);
        Some(line)
    };
    let cmd = line(options, "cmd").filter(|line| !line.0.is_empty());
    let args = line(options, "args");
    let more = line(options, "shell_args");
    let Some(Template(mut text)) = cmd else {
        let name = scope.section.of_kind("watcher").unwrap_or_default();
        options.wrong("cmd", format!("watcher {name} has no command"), "cmd = ...");
        return (Command::Program(Vec::new()), named);
    };
    if let Some(Template(args)) = args.filter(|args| !args.0.is_empty()) {
        text.push(Piece::Text(" ".into()));
        text.extend(args);
    }
    let shell = options.is("shell", false);
    let split = |options: &mut Options, key: &str, line: &Template| match words::split(line) {
        Ok(words) => words,
        Err(why) => {
            options.said.problem(options.origin(key), format!("{key}: {why}"));
            Vec::new()
        }
    };
    let words = match (shell, more) {
        (true, more) => {
            let shell = ["/bin/sh", "-c"].map(|word| Template(vec![Piece::Text(word.into())]));
            let more = more.map(|more| split(options, "shell_args", &more)).unwrap_or_default();
            shell.into_iter().chain([Template(text)]).chain(more).collect()
        }
        (false, more) => {
            if more.is_some() {
                options.warn("shell_args", "shell_args means nothing without shell = yes: ignored");
            }
            split(options, "cmd", &Template(text))
        }
    };
    (Command::Program(words), named)
}

fn sockets_of(template: &Template, named: &mut BTreeSet<SocketId>) {
    named.extend(template.sockets().filter_map(|of| match of {
        SocketRef::At(id) => Some(*id),
        SocketRef::Named(_) | SocketRef::Only => None,
    }));
}

/// The sockets that it gets, in the order of the file, and what descriptor 0 is.
fn sockets(options: &mut Options, scope: &Scope, mut named: BTreeSet<SocketId>) -> (Vec<SocketId>, Option<Stdio>) {
    let wanted = options.is("use_sockets", false);
    let stdin = options.some("stdin_socket").map(|name| {
        let origin = options.origin("stdin_socket").clone();
        (scope.socket(&name.to_lowercase(), &origin, options.said), name.to_lowercase())
    });
    if !wanted && !named.is_empty() {
        options.note("cmd", "it names sockets, and gets them without use_sockets, too");
    }
    let stdin = stdin.map(|(id, name)| {
        // Without others it stands at descriptor 0 alone.
        let alone = !wanted && named.is_empty();
        named.insert(id);
        if alone { Stdio::Socket } else { Stdio::Named(name) }
    });
    match (wanted, named.is_empty()) {
        (true, true) => ((0..scope.sockets.len()).map(|n| SocketId(n as u16)).collect(), stdin),
        _ => (named.into_iter().collect(), stdin),
    }
}

/// How many, how many where that is none, and whether it may be none.
fn number_of(options: &mut Options, singleton: bool) -> (Number, u32, bool) {
    let asked = options.read("numprocesses", number::<u32>).unwrap_or(1);
    let name = options.section.of_kind("watcher").unwrap_or_default().to_string();
    if singleton && asked > 1 {
        options.wrong("singleton", format!("watcher {name} is a singleton with {asked} processes"), "numprocesses = 1");
    }
    let autostart = options.is("autostart", true);
    if autostart && asked > 0 {
        return (Number::Fixed(asked), 1, true);
    }
    let key = if autostart { "numprocesses" } else { "autostart" };
    options
        .note(key, format!("nothing of {name} runs until it is asked for: prebindctl scale {name} {}", asked.max(1)));
    (Number::Fixed(0), asked.max(1), false)
}

fn start(options: &mut Options, sockets: &[SocketId]) -> StartWhen {
    if !options.is("on_demand", false) {
        return StartWhen::AtOnce;
    }
    if sockets.is_empty() {
        options.wrong("on_demand", "on_demand, and no socket that could start it", "use_sockets = yes");
    }
    StartWhen::OnTraffic { also_at_once: false, limit: Some(TRIGGER_LIMIT), flush: false }
}

/// The variables that are set, and PATH with the virtualenv's programs first.
fn env(name: &str, options: &mut Options, scope: &Scope, world: &World) -> Vec<(String, Template)> {
    let mut env: Vec<(String, Template)> = Vec::new();
    for entry in environment::entries(name, world.sections) {
        let value = world.outside.fill_dollars(&entry.value);
        let value = scope.fill(&value, &entry.origin, options.said);
        env.retain(|(key, _)| *key != entry.key);
        env.push((entry.key.clone(), value));
    }
    if let Some(folder) = options.some("virtualenv") {
        let before = scope.variables.get("PATH").map(|path| format!(":{path}")).unwrap_or_default();
        env.retain(|(key, _)| key != "PATH");
        env.push(("PATH".into(), Template(vec![Piece::Text(format!("{folder}/bin{before}").into())])));
    }
    env
}

fn process(options: &mut Options, stdin: Option<Stdio>, world: &World) -> ProcessSpec {
    let null = |options: &mut Options, key: &str, otherwise: bool| options.is(key, otherwise).then_some(Stdio::Null);
    if options.entry("copy_env").is_none() {
        options.note("cmd", "workers have prebind's environment: copy_env is on where it is not said");
    }
    let closed = null(options, "close_child_stdin", true);
    let stdout = streams::read(options, "stdout_stream.", world.directory);
    let stderr = streams::read(options, "stderr_stream.", world.directory);
    ProcessSpec {
        clean_environment: !options.is("copy_env", true),
        stdin: stdin.or(closed).unwrap_or_default(),
        stdout: null(options, "close_child_stdout", false).unwrap_or(stdout),
        stderr: null(options, "close_child_stderr", false).unwrap_or(stderr),
        ..ProcessSpec::default()
    }
}

/// `rlimit_NAME`: soft and hard alike; an empty one is none.
fn limits(options: &mut Options) -> Vec<Limit> {
    let mut limits = Vec::new();
    for (name, entry) in options.beginning("rlimit_") {
        let known = Resource::ALL.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        let Some((_, resource)) = known else {
            let near = nearest(name, Resource::ALL.iter().map(|(known, _)| *known));
            let message = format!("unknown limit {}", entry.key);
            options.said.wrong(&entry.origin, message, format!("did you mean rlimit_{}?", near.unwrap_or("nofile")));
            continue;
        };
        let value = options.value(entry, |text| match text {
            "" if *resource == Resource::Nofile => Err("open files cannot be without limit: write a number".into()),
            "" => Ok(None),
            text => number(text).map(Some),
        });
        limits.extend(value.map(|value| Limit { resource: *resource, soft: value, hard: value }));
    }
    limits
}
