//! The command line: `prebind [OPTIONS] [--] COMMAND [ARG]...`. Receives the words, hands on a Plan with every problem
//! that it found on the way, or why the line cannot be understood at all (exit 2). It reads nothing else.

mod address;
mod circus;
mod einhorn;
mod given;
mod hints;
mod options;
mod table;
mod units;
mod values;
mod words;

pub use table::table;

use crate::front::{circus as circus_file, units::Request};
use crate::plan::{
    AckMode, Command, EntrySpec, Identity, Limit, ListenEnv, LogSpec, Nanos, Number, Origin, Plan, Problem, Resource,
    Restart, ServiceSpec, Signal, Strategy, Template, nearest,
};
use given::Given;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use words::Words;

/// What a command line asks for.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// Run a plan.
    Run(Box<Run>),
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `--generate WHAT`.
    Generate(String),
}

/// A plan, not checked yet.
#[derive(Debug, PartialEq)]
pub struct Run {
    /// What was asked for, as far as it could be read.
    pub plan: Plan,
    /// What could not.
    pub problems: Vec<Problem>,
    /// `--check`.
    pub check: bool,
    /// `--json`.
    pub json: bool,
    /// `--with-state-fd N`: this program takes another one's place.
    pub state_fd: Option<i32>,
    /// `--upgrade-check`: it would.
    pub upgrade_check: bool,
    /// `--unit`: its units take the place of the plan's service, which says only how they are upgraded.
    pub units: Option<Request>,
    /// `--circus`: its watchers do; the plan's service says what is the same for all of them.
    pub circus: Option<circus_file::Request>,
}

/// The command line cannot be understood: exit 2.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Reads the words after the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, Refusal> {
    parse_as(&Name::Prebind, args.into_iter().collect())
}

/// The name that prebind was started under.
#[derive(Debug, Clone, PartialEq)]
pub enum Name {
    /// Its own.
    Prebind,
    /// einhorn's; its files lie in that directory for temporary ones.
    Einhorn(PathBuf),
}

/// Reads the words after the program's name, as it is read under that name.
pub fn parse_as(program: &Name, args: Vec<OsString>) -> Result<Asked, Refusal> {
    let args = if *program == Name::Prebind { args } else { einhorn::in_full(args)? };
    let words = Words::split(args);
    let given = Given::read(&words.options).map_err(|error| hints::refusal(&error))?;
    if given.flag("help") {
        return Ok(Asked::Help);
    }
    if given.flag("version") {
        return Ok(Asked::Version);
    }
    if let Some(what) = given.one("generate") {
        return Ok(Asked::Generate(what));
    }
    if *program == Name::Prebind {
        hints::habits(&given, &words)?;
    }
    let mut reader = Reader { given: &given, words: &words, problems: Vec::new() };
    let mut plan = reader.plan();
    match program {
        Name::Prebind => reader.own_habits(&mut plan),
        Name::Einhorn(directory) => reader.einhorns_habits(&mut plan, directory),
    }
    let (check, json) = (given.flag("check"), given.flag("json"));
    if json && !check {
        return Err(Refusal("--json goes with --check (prebindctl has a --json of its own)".into()));
    }
    let units = reader.units(program)?;
    let circus = reader.circus(program)?;
    let state_fd = given.one::<u32>("with-state-fd").and_then(|fd| i32::try_from(fd).ok());
    let upgrade_check = given.flag("upgrade-check");
    Ok(Asked::Run(Box::new(Run {
        plan,
        problems: reader.problems,
        check,
        json,
        state_fd,
        upgrade_check,
        units,
        circus,
    })))
}

/// Reads what is given into a plan and collects what is wrong.
struct Reader<'a> {
    given: &'a Given,
    words: &'a Words,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// The words of a repeatable option, each with where it stands.
    fn many(&self, id: &'static str) -> Vec<(OsString, Origin)> {
        let values = self.given.all::<OsString>(id).into_iter();
        values.enumerate().map(|(n, word)| (word, Origin::Argument(self.words.place(id, n)))).collect()
    }

    fn problem(&mut self, origin: &Origin, message: impl Into<String>) {
        self.problems.push(Problem::new(origin.clone(), message));
    }

    fn plan(&mut self) -> Plan {
        let backlog = self.given.one::<u32>("backlog");
        let mut plan = Plan {
            identity: Identity {
                name: self.given.one("command-name"),
                stem: None,
                socket_path: self.given.one("socket-path"),
                pidfile: self.given.one("pidfile"),
                lockfile: self.given.one("lockfile"),
                no_control: self.given.flag("no-control"),
                mode_by_umask: false,
            },
            log: LogSpec {
                json: self.given.one::<String>("log-format").is_some_and(|format| format == "json"),
                verbosity: (i16::from(self.given.times("verbose")) - i16::from(self.given.times("quiet"))).clamp(-8, 8)
                    as i8,
            },
            reexec_as: self.reexec_as(),
            entry: self.entry(),
            ..Plan::default()
        };
        for (n, (word, origin)) in self.many("bind").into_iter().enumerate() {
            let (spec, problems) = address::socket(&word, n, backlog, &origin);
            plan.sockets.extend(spec);
            self.problems.extend(problems);
        }
        let mut service = self.service();
        if service.command == Command::Demo
            && plan.identity.name.is_none()
            && let Some(first) = plan.sockets.first().filter(|first| first.named)
        {
            service.name.clone_from(&first.name);
        }
        plan.services.push(service);
        plan
    }

    fn entry(&self) -> EntrySpec {
        EntrySpec {
            pid1: false,
            subreaper: self.given.flag("subreaper"),
            rewrite: self.given.all("rewrite"),
            forward: self.given.all("forward"),
            exit_codes: self.given.all("exit-code"),
            health_file: self.given.one("health-file"),
            health_listen: self.given.one("health-listen"),
        }
    }

    fn service(&mut self) -> ServiceSpec {
        let standard = ServiceSpec::default();
        let command = self.command();
        let restart = self.given.one::<String>("restart");
        let flags = |id| self.given.flag(id);
        let name = self.given.one("command-name").unwrap_or_else(|| default_name(&self.words.command));
        ServiceSpec {
            name,
            command,
            number: self.given.one::<Number>("number").unwrap_or(standard.number),
            listen_env: match self.given.one::<String>("listen-env").as_deref() {
                Some("full") => ListenEnv::Full,
                Some("no-pid") => ListenEnv::NoPid,
                Some("none") => ListenEnv::None,
                _ => ListenEnv::Auto,
            },
            ack: self.given.one::<AckMode>("ack-mode").unwrap_or(standard.ack),
            min_ready_ns: self.given.one::<Nanos>("min-ready").unwrap_or(standard.min_ready_ns),
            start_timeout_ns: self.given.one::<Nanos>("start-timeout").unwrap_or(standard.start_timeout_ns),
            backoff_base_ns: self.given.one::<Nanos>("seconds").unwrap_or(standard.backoff_base_ns),
            stop_timeout_ns: self.given.one::<Nanos>("signal-timeout").unwrap_or(standard.stop_timeout_ns),
            stop_timeout_given: self.given.has("signal-timeout"),
            stop_signal: self.given.one::<Signal>("stop-signal").unwrap_or(standard.stop_signal),
            watchdog_ns: self.given.one::<Nanos>("watchdog").filter(|span| *span > 0),
            max_unacked: self.given.one("max-unacked"),
            max_upgrade_additional: self.given.one("max-upgrade-additional"),
            strategy: self.strategy().unwrap_or(standard.strategy),
            bake_ns: self.given.one::<Nanos>("bake").unwrap_or(standard.bake_ns),
            upgrade_timeout_ns: self.given.one::<Nanos>("upgrade-timeout").unwrap_or(standard.upgrade_timeout_ns),
            upgrade_retries: self.given.one("upgrade-retries").unwrap_or(standard.upgrade_retries),
            drain_delay_ns: self.given.one("drain-delay"),
            give_up_after: self.given.one("give-up-after"),
            stop_passes_code: true,
            restart_given: restart.is_some(),
            restart: match restart.as_deref() {
                Some("on-failure") => Restart::OnFailure,
                Some("no") => Restart::No,
                _ => Restart::Always,
            },
            user: self.given.one("user"),
            group: self.given.one("group"),
            chdir: self.given.one("chdir"),
            umask: self.given.one("umask"),
            nice: self.given.one::<values::Nice>("nice").map(|nice| nice.first),
            control_fd: flags("command-socket-as-fd"),
            die_with_parent: flags("kill-children-on-exit"),
            env: self.env(),
            env_files: self.many("env-file").into_iter().map(|(word, _)| PathBuf::from(word)).collect(),
            drop_env: self.many("drop-env-var").into_iter().map(|(word, _)| lossy(&word)).collect(),
            limits: self.limits(),
            origin: Origin::Argument(self.words.command_at),
            ..standard
        }
    }

    fn strategy(&self) -> Option<Strategy> {
        let word = self.given.one::<String>("strategy")?;
        Strategy::ALL.iter().find(|(name, _)| *name == word).map(|(_, strategy)| *strategy)
    }

    fn reexec_as(&mut self) -> Vec<String> {
        let Some(text) = self.given.one::<String>("reexec-as") else { return Vec::new() };
        let words = shlex::split(&text).filter(|words| !words.is_empty());
        if words.is_none() {
            let origin = Origin::Argument(self.words.place("reexec-as", 0));
            self.problem(&origin, format!("--reexec-as '{text}' is no command line (is a quote left open?)"));
        }
        words.unwrap_or_default()
    }

    fn command(&mut self) -> Command {
        if self.words.command.is_empty() {
            return Command::Demo;
        }
        let mut argv = Vec::new();
        for (n, word) in self.words.command.iter().enumerate() {
            match Template::parse(word) {
                Ok(template) => argv.push(template),
                Err(message) => self.problem(&Origin::Argument(self.words.command_at + n), message),
            }
        }
        Command::Program(argv)
    }

    fn env(&mut self) -> Vec<(String, Template)> {
        let mut env = Vec::new();
        for (word, origin) in self.many("env") {
            let Some((key, value)) = word.to_str().and_then(|text| text.split_once('=')) else {
                self.problem(&origin, format!("'{}' is not K=V", lossy(&word)));
                continue;
            };
            match Template::parse(OsStr::new(value)) {
                Ok(template) => env.push((key.to_string(), template)),
                Err(message) => self.problem(&origin, message),
            }
        }
        env
    }

    fn limits(&mut self) -> Vec<Limit> {
        let mut limits = Vec::new();
        for (word, origin) in self.many("limit") {
            match limit(&lossy(&word)) {
                Ok(limit) => limits.push(limit),
                Err(message) => self.problem(&origin, message),
            }
        }
        limits
    }
}

/// `NAME=SOFT[:HARD]`; one number is both.
fn limit(text: &str) -> Result<Limit, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not NAME=SOFT[:HARD]"))?;
    let name = name.to_ascii_lowercase();
    let name = name.as_str();
    let names = Resource::ALL.iter().map(|(name, _)| *name);
    let Some((_, resource)) = Resource::ALL.iter().find(|(known, _)| *known == name) else {
        let hint = nearest(name, names).map(|near| format!(", did you mean {near}?")).unwrap_or_default();
        return Err(format!("unknown limit '{name}'{hint}"));
    };
    let number = |text: &str| match text {
        "infinity" | "unlimited" => Ok(None),
        _ => options::size(text).map(Some).map_err(|error| format!("limit {name}: {error}")),
    };
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    Ok(Limit { resource: *resource, soft: number(soft)?, hard: number(hard)? })
}

/// The command's base name; of the demonstration the first socket's, if it has one.
fn default_name(command: &[OsString]) -> String {
    let Some(word) = command.first() else { return "prebind".into() };
    let text = lossy(word);
    let base = text.rsplit('/').find(|part| !part.is_empty()).unwrap_or("prebind");
    base.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' }).collect()
}

fn lossy(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
