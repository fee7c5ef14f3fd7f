//! `[Service]`: a unit's assignments -> its commands and policy, as plain data. As everywhere in units a value that cannot
//! be read is said and leaves what stood before; only a command that cannot be read makes the unit unusable.

use super::Remark;
use super::lex::Assignment;
use super::name::UnitName;
use super::values::{Span, boolean, count, set, span};
use super::words::{Exec, commands, split};
use crate::plan::{Nanos, Origin, Problem, SECOND, Signal};

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

/// `Restart=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum When {
    No,
    Always,
    OnSuccess,
    OnFailure,
    OnAbnormal,
    OnAbort,
    OnWatchdog,
}

/// Which commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Step {
    Condition,
    StartPre,
    Start,
    StartPost,
    Reload,
    Stop,
    StopPost,
}

/// One command with where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StepCommand {
    /// When it runs.
    pub step: Step,
    /// What.
    pub exec: Exec,
    /// Where it was asked for.
    pub origin: Origin,
}

/// Exit codes and signals that a list names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statuses {
    /// Exit codes.
    pub codes: Vec<u8>,
    /// Signals.
    pub signals: Vec<Signal>,
}

/// A `.service` as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceUnit {
    /// `Type=`; `None`: not said, which means oneshot without ExecStart.
    pub kind: Option<Type>,
    /// In the order of their lines.
    pub commands: Vec<StepCommand>,
    /// `Restart=`.
    pub restart: When,
    /// `RestartSec=` and, where the delay grows, in so many steps to that.
    pub restart_delay_ns: Nanos,
    /// `RestartSteps=`.
    pub restart_steps: u32,
    /// `RestartMaxDelaySec=`; `None`: infinity.
    pub restart_delay_max: Span,
    /// `TimeoutStartSec=`; the outer `None`: not said.
    pub timeout_start: Option<Span>,
    /// `TimeoutStopSec=`.
    pub timeout_stop: Option<Span>,
    /// `TimeoutAbortSec=`.
    pub timeout_abort: Option<Span>,
    /// `WatchdogSec=`.
    pub watchdog_ns: Option<Nanos>,
    /// `SuccessExitStatus=`.
    pub success: Statuses,
    /// `RestartPreventExitStatus=`.
    pub restart_prevented_by: Statuses,
    /// `RestartForceExitStatus=`.
    pub restart_forced_by: Statuses,
    /// `StartLimitBurst=` in `StartLimitIntervalSec=`; `None`: no limit.
    pub start_limit: Option<(u32, Nanos)>,
    /// `Sockets=`.
    pub sockets: Vec<String>,
    /// `NonBlocking=`.
    pub nonblock: bool,
    /// `RemainAfterExit=`.
    pub remain_after_exit: bool,
    /// `FileDescriptorStoreMax=`.
    pub fd_store_max: u32,
    /// `X-Prebind-Number=`, `auto` being 0.
    pub number: Option<u32>,
    /// `X-Prebind-Slots=`.
    pub slots: bool,
    /// `X-Prebind-Strategy=`.
    pub strategy: Option<String>,
}

struct Reader<'a> {
    name: &'a UnitName,
    outside: &'a dyn Fn(char) -> Option<String>,
    unit: ServiceUnit,
    limit: (u32, Span),
    problems: Vec<Problem>,
}

/// Reads the assignments of `[Service]` and `[Unit]` that it knows; hands the others back. Problems make the unit unusable.
pub fn read<'a>(
    name: &UnitName,
    assignments: &'a [Assignment],
    outside: &dyn Fn(char) -> Option<String>,
    remarks: &mut Vec<Remark>,
) -> (ServiceUnit, Vec<&'a Assignment>, Vec<Problem>) {
    let unit = ServiceUnit {
        kind: None,
        commands: Vec::new(),
        restart: When::No,
        restart_delay_ns: SECOND / 10,
        restart_steps: 0,
        restart_delay_max: None,
        timeout_start: None,
        timeout_stop: None,
        timeout_abort: None,
        watchdog_ns: None,
        success: Statuses::default(),
        restart_prevented_by: Statuses::default(),
        restart_forced_by: Statuses::default(),
        start_limit: None,
        sockets: Vec::new(),
        nonblock: false,
        remain_after_exit: false,
        fd_store_max: 0,
        number: None,
        slots: false,
        strategy: None,
    };
    let mut reader = Reader { name, outside, unit, limit: (5, Some(10 * SECOND)), problems: Vec::new() };
    let mut left = Vec::new();
    for one in assignments {
        match reader.take(one) {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                remarks.push(Remark::warn(one.origin.clone(), format!("{}: {why}: ignored", one.key)));
            }
            None => left.push(one),
        }
    }
    let Reader { mut unit, limit, mut problems, .. } = reader;
    unit.start_limit = (limit.0 > 0 && limit.1 != Some(0)).then_some((limit.0, limit.1.unwrap_or(Nanos::MAX)));
    problems.extend(unit.wrong(name));
    (unit, left, problems)
}

impl ServiceUnit {
    /// Its type, as systemd settles it.
    pub fn settled(&self) -> Type {
        let starts = self.commands.iter().any(|one| one.step == Step::Start);
        self.kind.unwrap_or(if starts { Type::Simple } else { Type::Oneshot })
    }

    /// What only the whole unit tells.
    fn wrong(&self, name: &UnitName) -> Option<Problem> {
        let starts = self.commands.iter().filter(|one| one.step == Step::Start).count();
        let oneshot = self.settled() == Type::Oneshot;
        let message = match (starts, oneshot, self.restart) {
            (0, false, _) => "it has no ExecStart=",
            (2.., false, _) => "it has several ExecStart=, which only Type=oneshot may have",
            (_, true, When::Always | When::OnSuccess) => "Type=oneshot cannot be restarted when it succeeds",
            (0, true, _) if self.commands.is_empty() && !self.remain_after_exit => "it has no command at all",
            _ => return None,
        };
        let first = self.commands.first().map_or(Origin::Default, |one| one.origin.clone());
        Some(Problem::new(first, format!("{name}: {message}")))
    }
}

impl Reader<'_> {
    /// `None`: the key is not of this table.
    fn take(&mut self, one: &Assignment) -> Option<Result<(), String>> {
        let (key, value) = (one.key.as_str(), one.value.as_str());
        match one.section.as_str() {
            "Unit" => self.limits(key, value),
            "Service" => match step(key) {
                Some(step) => {
                    self.step(step, value, &one.origin);
                    Some(Ok(()))
                }
                None => self.policy(key, value).or_else(|| self.spans(key, value)).or_else(|| self.limits(key, value)),
            },
            _ => None,
        }
    }

    /// A command that cannot be read is no remark: the unit would do something else than it says.
    fn step(&mut self, step: Step, value: &str, origin: &Origin) {
        if value.is_empty() {
            self.unit.commands.retain(|one| one.step != step);
            return;
        }
        let read = commands(value).and_then(|all| all.into_iter().map(|exec| self.expanded(exec)).collect());
        let read: Result<Vec<Exec>, String> = read;
        match read {
            Ok(all) => {
                let all = all.into_iter().map(|exec| StepCommand { step, exec, origin: origin.clone() });
                self.unit.commands.extend(all);
            }
            Err(why) => self.problems.push(Problem::new(origin.clone(), format!("'{value}' is no command: {why}"))),
        }
    }

    /// Specifiers come word by word, after the splitting.
    fn expanded(&self, exec: Exec) -> Result<Exec, String> {
        let words = exec.words.iter().map(|word| self.name.expand(word, self.outside)).collect::<Result<_, _>>()?;
        Ok(Exec { path: self.name.expand(&exec.path, self.outside)?, words, ..exec })
    }

    fn policy(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let unit = &mut self.unit;
        Some(match key {
            "Type" => set(&mut unit.kind, kind(value).map(Some)),
            "Restart" => set(&mut unit.restart, when(value)),
            "RestartSteps" => set(&mut unit.restart_steps, count(value)),
            "SuccessExitStatus" => statuses(&mut unit.success, value),
            "RestartPreventExitStatus" => statuses(&mut unit.restart_prevented_by, value),
            "RestartForceExitStatus" => statuses(&mut unit.restart_forced_by, value),
            "NonBlocking" => set(&mut unit.nonblock, boolean(value)),
            "RemainAfterExit" => set(&mut unit.remain_after_exit, boolean(value)),
            "FileDescriptorStoreMax" => set(&mut unit.fd_store_max, count(value)),
            "X-Prebind-Slots" => set(&mut unit.slots, boolean(value)),
            "X-Prebind-Number" if value == "auto" => set(&mut unit.number, Ok(Some(0))),
            "X-Prebind-Number" => match count(value) {
                Ok(0) | Err(_) => Err(format!("'{value}' is no number of workers")),
                Ok(number) => set(&mut unit.number, Ok(Some(number))),
            },
            "X-Prebind-Strategy" => set(&mut unit.strategy, Ok(Some(value.into()))),
            "Sockets" => split(value).and_then(|words| {
                let names = words.iter().map(|word| UnitName::parse(word).map(|name| (name.kind == "socket", word)));
                for name in names.collect::<Result<Vec<_>, _>>()? {
                    if !name.0 {
                        return Err(format!("'{}' is no socket", name.1));
                    }
                    unit.sockets.push(name.1.clone());
                }
                Ok(())
            }),
            _ => return None,
        })
    }

    fn spans(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let unit = &mut self.unit;
        // 0 turns a timeout off.
        let timeout = |value: &str| span(value).map(|span| Some(span.filter(|span| *span > 0)));
        Some(match key {
            "RestartSec" => span(value).map(|span| unit.restart_delay_ns = span.unwrap_or(Nanos::MAX)),
            "RestartMaxDelaySec" => set(&mut unit.restart_delay_max, span(value)),
            "TimeoutStartSec" => set(&mut unit.timeout_start, timeout(value)),
            "TimeoutStopSec" => set(&mut unit.timeout_stop, timeout(value)),
            "TimeoutAbortSec" if value.is_empty() => set(&mut unit.timeout_abort, Ok(None)),
            "TimeoutAbortSec" => set(&mut unit.timeout_abort, timeout(value)),
            "TimeoutSec" => timeout(value).map(|span| (unit.timeout_start, unit.timeout_stop) = (span, span)),
            "WatchdogSec" => set(&mut unit.watchdog_ns, span(value).map(|span| span.filter(|span| *span > 0))),
            _ => return None,
        })
    }

    fn limits(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        Some(match key {
            "StartLimitBurst" => set(&mut self.limit.0, count(value)),
            "StartLimitIntervalSec" | "StartLimitInterval" => set(&mut self.limit.1, span(value)),
            _ => return None,
        })
    }
}

fn step(key: &str) -> Option<Step> {
    Some(match key {
        "ExecCondition" => Step::Condition,
        "ExecStartPre" => Step::StartPre,
        "ExecStart" => Step::Start,
        "ExecStartPost" => Step::StartPost,
        "ExecReload" => Step::Reload,
        "ExecStop" => Step::Stop,
        "ExecStopPost" => Step::StopPost,
        _ => return None,
    })
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

fn when(value: &str) -> Result<When, String> {
    Ok(match value {
        "no" => When::No,
        "always" => When::Always,
        "on-success" => When::OnSuccess,
        "on-failure" => When::OnFailure,
        "on-abnormal" => When::OnAbnormal,
        "on-abort" => When::OnAbort,
        "on-watchdog" => When::OnWatchdog,
        _ => return Err(format!("'{value}' is none of systemd's words for it")),
    })
}

/// Numbers and names of signals, and the names of exit codes that sysexits.h and the C library have. Empty resets.
fn statuses(list: &mut Statuses, value: &str) -> Result<(), String> {
    const NAMES: [(&str, u8); 17] = [
        ("SUCCESS", 0),
        ("FAILURE", 1),
        ("USAGE", 64),
        ("DATAERR", 65),
        ("NOINPUT", 66),
        ("NOUSER", 67),
        ("NOHOST", 68),
        ("UNAVAILABLE", 69),
        ("SOFTWARE", 70),
        ("OSERR", 71),
        ("OSFILE", 72),
        ("CANTCREAT", 73),
        ("IOERR", 74),
        ("TEMPFAIL", 75),
        ("PROTOCOL", 76),
        ("NOPERM", 77),
        ("CONFIG", 78),
    ];
    if value.is_empty() {
        *list = Statuses::default();
    }
    let mut wrong = Vec::new();
    for word in split(value)? {
        let named = NAMES.iter().find(|(name, _)| *name == word).map(|(_, code)| *code);
        match (word.parse::<u8>().ok().or(named), word.parse::<Signal>()) {
            (Some(code), _) => list.codes.push(code),
            (None, Ok(signal)) => list.signals.push(signal),
            (None, Err(_)) => wrong.push(word),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("'{}' is neither an exit code nor a signal", wrong.join(" "))) }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
