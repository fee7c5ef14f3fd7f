//! `[Service]`: a unit's assignments -> a [`ServiceSpec`] with its commands and policy; what its processes are set up with is
//! read by `process`, how they are stopped by `kill`. As everywhere in units a value that cannot be read is said and leaves
//! what stood before; only a command (or a user, a group, a folder) that cannot be read makes the unit unusable.

use super::Remark;
use super::directories::preserve;
use super::kill;
use super::lex::Assignment;
use super::name::UnitName;
use super::process::{self, Context, Process, is_vital, optional};
use super::statuses::statuses;
use super::values::{Span, boolean, count, set, span};
use super::words::commands;
use crate::plan::{
    Command, Delay, Exec, Kind, Nanos, NotifyAccess, Number, Origin, Problem, Reload, Restart, SECOND, ServiceSpec,
    Signal, Step, StepSpec, Strategy,
};
use std::path::PathBuf;

/// `Type=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Started as soon as it runs; `idle` is the same here.
    Simple,
    /// Started when its program was executed.
    Exec,
    /// Started when it says READY=1.
    Notify,
    /// The same, and a reload is a signal and a word.
    NotifyReload,
    /// Its commands one after the other, then it is over.
    Oneshot,
    /// Started when its first process ends.
    Forking,
}

/// A `.service` as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceUnit {
    /// All that it says of itself; which sockets it has, and so when it starts and is ready, is told by other units.
    pub spec: ServiceSpec,
    /// Its type, as systemd settles it.
    pub kind: Type,
    /// `Sockets=`, each with where it stands.
    pub sockets: Vec<(String, Origin)>,
    /// `NonBlocking=`.
    pub nonblock: bool,
    /// `X-Prebind-Slots=`.
    pub slots: bool,
    /// `X-Prebind-Strategy=` was given.
    pub has_strategy: bool,
}

/// What the lines have said so far.
#[derive(Default)]
struct Draft {
    kind: Option<Type>,
    starts: Vec<Exec>,
    /// Of each timeout: `None`: not said; `Some(None)`: without end.
    timeout_start: Option<Span>,
    timeout_stop: Option<Span>,
    restart_delay: Span,
    restart_steps: u32,
    restart_delay_max: Span,
    notify_access: Option<NotifyAccess>,
    reload_signal: Option<Signal>,
    pidfile: Option<PathBuf>,
    limit_burst: Option<u32>,
    limit_interval: Option<Span>,
}

struct Reader<'a> {
    context: Context<'a>,
    unit: ServiceUnit,
    draft: Draft,
    process: Process,
    problems: Vec<Problem>,
    remarks: &'a mut Vec<Remark>,
}

/// Reads the assignments of `[Service]` and `[Unit]` that it knows; hands the others back. Problems make the unit unusable.
pub fn read<'a>(
    name: &UnitName,
    assignments: &'a [Assignment],
    outside: &dyn Fn(char) -> Option<String>,
    remarks: &mut Vec<Remark>,
) -> (ServiceUnit, Vec<&'a Assignment>, Vec<Problem>) {
    let mut spec = ServiceSpec {
        name: name.to_string(),
        restart: Restart::No,
        restart_given: true,
        env: Vec::new(),
        ..ServiceSpec::default()
    };
    spec.exits.signals_are_clean = true;
    process::defaults(&mut spec);
    kill::defaults(&mut spec);
    let (sockets, kind) = (Vec::new(), Type::Simple);
    let unit = ServiceUnit { spec, kind, sockets, nonblock: false, slots: false, has_strategy: false };
    let mut reader = Reader {
        context: Context { name, outside },
        unit,
        draft: Draft { restart_delay: Some(SECOND / 10), ..Draft::default() },
        process: Process::default(),
        problems: Vec::new(),
        remarks,
    };
    let mut left = Vec::new();
    for one in assignments {
        match reader.take(one) {
            Some(Ok(())) => {}
            Some(Err(why)) if is_vital(&one.key, &one.value) => {
                reader.problems.push(Problem::new(one.origin.clone(), format!("{}: {why}", one.key)));
            }
            Some(Err(why)) => {
                reader.remarks.push(Remark::warn(one.origin.clone(), format!("{}: {why}: ignored", one.key)));
            }
            None => left.push(one),
        }
    }
    let (unit, problems) = reader.finish();
    (unit, left, problems)
}

impl Reader<'_> {
    /// `None`: the key is not of this table.
    fn take(&mut self, one: &Assignment) -> Option<Result<(), String>> {
        let (key, value) = (one.key.as_str(), one.value.as_str());
        match one.section.as_str() {
            "Unit" => self.limits(key, value),
            "Service" => self.commands(one).or_else(|| self.service(one)),
            _ => None,
        }
    }

    fn service(&mut self, one: &Assignment) -> Option<Result<(), String>> {
        let (key, value) = (one.key.as_str(), one.value.as_str());
        self.policy(one)
            .or_else(|| self.spans(key, value))
            .or_else(|| self.notify(key, value))
            .or_else(|| self.exits(key, value))
            .or_else(|| self.limits(key, value))
            .or_else(|| kill::take(&mut self.unit.spec, key, value))
            .or_else(|| self.process.take(&mut self.unit.spec, one, self.context, self.remarks))
    }

    /// A command that cannot be read is no remark: the unit would do something else than it says.
    fn commands(&mut self, one: &Assignment) -> Option<Result<(), String>> {
        let step = Step::ALL.iter().find(|(key, _)| *key == one.key).map(|(_, step)| *step);
        if step.is_none() && one.key != "ExecStart" {
            return None;
        }
        if one.value.is_empty() {
            match step {
                Some(step) => self.unit.spec.steps.retain(|other| other.step != step),
                None => self.draft.starts.clear(),
            }
            return Some(Ok(()));
        }
        let read = commands(&one.value).and_then(|all| all.into_iter().map(|exec| self.filled(exec, one)).collect());
        let read: Result<Vec<Exec>, String> = read;
        match (read, step) {
            (Ok(all), Some(step)) => {
                self.unit.spec.steps.extend(all.into_iter().map(|exec| StepSpec { step, exec }));
            }
            (Ok(all), None) => self.draft.starts.extend(all),
            (Err(why), _) => {
                let message = format!("'{}' is no command: {why}", one.value);
                self.problems.push(Problem::new(one.origin.clone(), message));
            }
        }
        Some(Ok(()))
    }

    fn filled(&self, exec: super::words::Exec, one: &Assignment) -> Result<Exec, String> {
        let Context { name, outside } = self.context;
        exec.fill(name, outside, &one.origin)
    }

    fn policy(&mut self, one: &Assignment) -> Option<Result<(), String>> {
        let (unit, value) = (&mut self.unit, one.value.as_str());
        Some(match one.key.as_str() {
            "Type" => set(&mut self.draft.kind, kind(value).map(Some)),
            "ExitType" => only(value, &["main"], "cgroup needs control groups"),
            "GuessMainPID" => boolean(value)
                .and_then(|yes| if yes { Ok(()) } else { Err("the main process is always looked for".into()) }),
            "PIDFile" if value.is_empty() => set(&mut self.draft.pidfile, Ok(None)),
            "PIDFile" => {
                let absolute = if value.starts_with('/') { value.to_string() } else { format!("%t/{value}") };
                set(&mut self.draft.pidfile, self.context.path(&absolute).map(Some))
            }
            "Restart" => set(&mut unit.spec.restart, when(value)),
            // They differ in what other units see.
            "RestartMode" => only(value, &["normal", "direct"], "not supported"),
            "NonBlocking" => set(&mut unit.nonblock, boolean(value)),
            "RemainAfterExit" => set(&mut unit.spec.remain_after_exit, boolean(value)),
            "X-Prebind-Slots" => set(&mut unit.slots, boolean(value)),
            "X-Prebind-Number" if value == "auto" => set(&mut unit.spec.number, Ok(Number::Auto)),
            "X-Prebind-Number" => match count(value) {
                Ok(number @ 1..=100_000) => set(&mut unit.spec.number, Ok(Number::Fixed(number))),
                Ok(_) | Err(_) => Err(format!("'{value}' is no number of workers (1 to 100000, or auto)")),
            },
            "X-Prebind-Strategy" => match Strategy::ALL.iter().find(|(word, _)| *word == value) {
                Some((_, strategy)) => {
                    (unit.spec.strategy, unit.has_strategy) = (*strategy, true);
                    Ok(())
                }
                None => Err(format!("'{value}' is none of {}", Strategy::ALL.map(|(word, _)| word).join(", "))),
            },
            "Sockets" => sockets(&mut unit.sockets, one, self.context),
            _ => return None,
        })
    }

    fn spans(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let (draft, spec) = (&mut self.draft, &mut self.unit.spec);
        Some(match key {
            "RestartSec" => set(&mut draft.restart_delay, span(value)),
            "RestartSteps" => set(&mut draft.restart_steps, count(value)),
            "RestartMaxDelaySec" => set(&mut draft.restart_delay_max, span(value)),
            "TimeoutStartSec" => set(&mut draft.timeout_start, timeout(value)),
            "TimeoutStopSec" => set(&mut draft.timeout_stop, timeout(value)),
            "TimeoutSec" => timeout(value).map(|span| (draft.timeout_start, draft.timeout_stop) = (span, span)),
            "TimeoutAbortSec" => {
                let span = optional(value, timeout).map(Option::flatten);
                set(&mut spec.kill.abort_timeout_ns, span.map(|span| span.map(or_never)))
            }
            "WatchdogSec" => set(&mut spec.watchdog_ns, optional(value, span).map(|span| finite(span.flatten()))),
            "RuntimeMaxSec" => set(&mut spec.runtime_max_ns, optional(value, span).map(|span| finite(span.flatten()))),
            _ => return None,
        })
    }

    fn notify(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let (draft, spec) = (&mut self.draft, &mut self.unit.spec);
        Some(match key {
            "NotifyAccess" => match value {
                "none" => set(&mut draft.notify_access, Ok(Some(NotifyAccess::None))),
                "main" => set(&mut draft.notify_access, Ok(Some(NotifyAccess::Main))),
                "exec" => set(&mut draft.notify_access, Ok(Some(NotifyAccess::Exec))),
                "all" => set(&mut draft.notify_access, Ok(Some(NotifyAccess::All))),
                _ => Err(format!("'{value}' is none of none, main, exec, all")),
            },
            "ReloadSignal" => set(&mut draft.reload_signal, optional(value, str::parse)),
            "FileDescriptorStoreMax" => set(&mut spec.fd_store_max, count(value)),
            "FileDescriptorStorePreserve" => set(&mut spec.fd_store_preserve, preserve(value)),
            _ => return None,
        })
    }

    fn exits(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let rules = &mut self.unit.spec.exits;
        Some(match key {
            "SuccessExitStatus" => statuses(&mut rules.success, value),
            "RestartPreventExitStatus" => statuses(&mut rules.prevent, value),
            "RestartForceExitStatus" => statuses(&mut rules.force, value),
            _ => return None,
        })
    }

    fn limits(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        Some(match key {
            "StartLimitBurst" => set(&mut self.draft.limit_burst, optional(value, count)),
            "StartLimitIntervalSec" | "StartLimitInterval" => {
                set(&mut self.draft.limit_interval, optional(value, span))
            }
            _ => return None,
        })
    }

    /// What only the whole unit tells.
    fn finish(self) -> (ServiceUnit, Vec<Problem>) {
        let Reader { context, mut unit, draft, process, mut problems, .. } = self;
        let unnamed = if draft.starts.is_empty() { Type::Oneshot } else { Type::Simple };
        unit.kind = draft.kind.unwrap_or(unnamed);
        let spec = &mut unit.spec;
        process.finish(spec);
        // A command that could not be read is not missing.
        if problems.is_empty() {
            problems.extend(wrong(context.name, unit.kind, &draft, spec));
        }
        let notifies = matches!(unit.kind, Type::Notify | Type::NotifyReload);
        spec.kind = match unit.kind {
            Type::Oneshot => Kind::Oneshot,
            Type::Forking => Kind::Forking { pidfile: draft.pidfile },
            Type::Simple | Type::Exec | Type::Notify | Type::NotifyReload => Kind::Simple,
        };
        spec.origin = draft.starts.first().map_or(Origin::Default, |exec| exec.origin.clone());
        spec.command = Command::Execs(draft.starts);
        let start = if unit.kind == Type::Oneshot { None } else { Some(90 * SECOND) };
        spec.start_timeout_ns = or_never(draft.timeout_start.unwrap_or(start));
        spec.stop_timeout_ns = or_never(draft.timeout_stop.unwrap_or(Some(90 * SECOND)));
        let (burst, interval) = (draft.limit_burst.unwrap_or(5), draft.limit_interval.unwrap_or(Some(10 * SECOND)));
        spec.start_limit = (burst > 0 && interval != Some(0)).then_some((burst, or_never(interval)));
        let base_ns = or_never(draft.restart_delay);
        let max_ns = draft.restart_delay_max.filter(|max| draft.restart_steps > 0 && *max > base_ns);
        let steps = if max_ns.is_some() { draft.restart_steps } else { 0 };
        spec.delay = Delay::Fixed { base_ns, steps, max_ns };
        let needed = notifies || spec.watchdog_ns.is_some() || spec.fd_store_max > 0;
        spec.notify_access = match draft.notify_access.unwrap_or(NotifyAccess::None) {
            NotifyAccess::None if needed => NotifyAccess::Main,
            access => access,
        };
        let reloads = spec.steps.iter().any(|step| step.step == Step::Reload);
        spec.reload = match unit.kind {
            Type::NotifyReload => Reload::Notify(draft.reload_signal.unwrap_or(Signal::HUP)),
            _ if reloads => Reload::Commands,
            _ => Reload::None,
        };
        (unit, problems)
    }
}

fn wrong(name: &UnitName, kind: Type, draft: &Draft, spec: &ServiceSpec) -> Option<Problem> {
    let oneshot = kind == Type::Oneshot;
    let message = match (draft.starts.len(), oneshot, spec.restart) {
        (0, false, _) => "it has no ExecStart=",
        (2.., false, _) => "it has several ExecStart=, which only Type=oneshot may have",
        (_, true, Restart::Always | Restart::OnSuccess) => "Type=oneshot cannot be restarted when it succeeds",
        (0, true, _) if spec.steps.is_empty() => "it has no command at all",
        (0, true, _) if !spec.remain_after_exit => "it has no ExecStart=, which only RemainAfterExit=yes makes up for",
        (0, true, _) if !spec.steps.iter().any(|step| step.step == Step::Stop) => {
            "it has neither ExecStart= nor ExecStop="
        }
        _ => return None,
    };
    let steps = spec.steps.iter().map(|step| &step.exec);
    let first = draft.starts.iter().chain(steps).next().map_or(Origin::Default, |exec| exec.origin.clone());
    Some(Problem::new(first, format!("{name}: {message}")))
}

/// 0 and infinity are without end.
fn timeout(value: &str) -> Result<Option<Span>, String> {
    span(value).map(finite).map(Some)
}

fn finite(span: Span) -> Span {
    span.filter(|span| *span > 0)
}

fn or_never(span: Span) -> Nanos {
    span.unwrap_or(ServiceSpec::NEVER_NS).min(ServiceSpec::NEVER_NS)
}

/// A setting of which only some words are honoured.
fn only(value: &str, honoured: &[&str], why: &str) -> Result<(), String> {
    if value.is_empty() || honoured.contains(&value) { Ok(()) } else { Err(format!("'{value}': {why}")) }
}

fn sockets(list: &mut Vec<(String, Origin)>, one: &Assignment, context: Context<'_>) -> Result<(), String> {
    for word in context.words(&one.value)? {
        match UnitName::parse(&word) {
            Ok(name) if name.kind == "socket" => list.push((word, one.origin.clone())),
            Ok(_) => return Err(format!("'{word}' is no socket")),
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

fn kind(value: &str) -> Result<Type, String> {
    Ok(match value {
        "simple" | "idle" => Type::Simple,
        "exec" => Type::Exec,
        "notify" => Type::Notify,
        "notify-reload" => Type::NotifyReload,
        "oneshot" => Type::Oneshot,
        "forking" => Type::Forking,
        "dbus" => return Err("Type=dbus needs a message bus".into()),
        _ => return Err(format!("'{value}' is no type")),
    })
}

fn when(value: &str) -> Result<Restart, String> {
    Ok(match value {
        "no" => Restart::No,
        "always" => Restart::Always,
        "on-success" => Restart::OnSuccess,
        "on-failure" => Restart::OnFailure,
        "on-abnormal" => Restart::OnAbnormal,
        "on-abort" => Restart::OnAbort,
        "on-watchdog" => Restart::OnWatchdog,
        _ => return Err(format!("'{value}' is none of systemd's words for it")),
    })
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
