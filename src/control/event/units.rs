//! The words for what only happens to units: the commands around a worker, starts by traffic, limits.

use super::{About, Level};
use crate::control::status::ended;
use crate::plan::ServiceId;
use crate::supervise::{UnitHappening, Who};

/// How loud, and the name for machines.
pub(super) fn kind(happening: &UnitHappening) -> (Level, &'static str) {
    match happening {
        UnitHappening::StepBegun(..) => (Level::Debug, "step_begun"),
        UnitHappening::StepFailed { .. } => (Level::Warn, "step_failed"),
        UnitHappening::Skipped(_) => (Level::Info, "worker_skipped"),
        UnitHappening::StartLimit { .. } => (Level::Error, "start_limit"),
        UnitHappening::RuntimeOver(_) => (Level::Warn, "worker_runtime_over"),
        UnitHappening::Activated(_) => (Level::Info, "service_activated"),
        UnitHappening::Listening(_) => (Level::Info, "service_listening"),
        UnitHappening::ServiceFailed(..) => (Level::Error, "service_failed"),
        UnitHappening::ConnectionRefused(..) => (Level::Warn, "connection_refused"),
        UnitHappening::Reloading(_) => (Level::Debug, "worker_reloading"),
        UnitHappening::Reloaded(_, true) => (Level::Debug, "worker_reloaded"),
        UnitHappening::Reloaded(_, false) => (Level::Warn, "worker_not_reloaded"),
    }
}

pub(super) fn about(happening: &UnitHappening) -> About {
    match happening {
        UnitHappening::StepBegun(who, _)
        | UnitHappening::StepFailed { who, .. }
        | UnitHappening::Skipped(who)
        | UnitHappening::RuntimeOver(who)
        | UnitHappening::Reloading(who)
        | UnitHappening::Reloaded(who, _) => About::Worker(*who),
        UnitHappening::StartLimit { service, .. }
        | UnitHappening::Activated(service)
        | UnitHappening::Listening(service)
        | UnitHappening::ServiceFailed(service, _)
        | UnitHappening::ConnectionRefused(service, _) => About::Service(*service),
    }
}

/// `name` and `worker` say which service, which worker.
pub(super) fn message<'a>(
    happening: &UnitHappening,
    name: &dyn Fn(ServiceId) -> &'a str,
    worker: &dyn Fn(&Who) -> String,
) -> String {
    match happening {
        UnitHappening::StepBegun(who, step) => format!("{}: {}= runs", worker(who), step.key()),
        UnitHappening::StepFailed { who, step, how: None } => {
            format!("{}: {}= did not end in time", worker(who), step.key())
        }
        UnitHappening::StepFailed { who, step, how: Some(how) } => {
            let how = match ended(*how) {
                (Some(code), _) => format!("exited with code {code}"),
                (None, Some(signal)) => format!("was killed by {signal}"),
                (None, None) => "ended unseen".into(),
            };
            format!("{}: {}= {how}", worker(who), step.key())
        }
        UnitHappening::Skipped(who) => format!("{} is not started: ExecCondition= says no", worker(who)),
        UnitHappening::StartLimit { service, slot } => {
            format!("{}: slot {slot} was started too often in too short a time (StartLimitBurst=)", name(*service))
        }
        UnitHappening::RuntimeOver(who) => format!("{} ran for as long as it may (RuntimeMaxSec=)", worker(who)),
        UnitHappening::Activated(service) => format!("{}: there is traffic, it starts", name(*service)),
        UnitHappening::Listening(service) => format!("{}: nothing runs, waiting for traffic", name(*service)),
        UnitHappening::ServiceFailed(service, why) => {
            format!("{}: failed ({why}), its sockets are closed", name(*service))
        }
        UnitHappening::ConnectionRefused(service, most) => {
            format!("{}: a connection was closed, so many are served already (MaxConnections={most})", name(*service))
        }
        UnitHappening::Reloading(who) => format!("{} is to read its configuration again", worker(who)),
        UnitHappening::Reloaded(who, true) => format!("{} has read its configuration again", worker(who)),
        UnitHappening::Reloaded(who, false) => format!("{} did not read its configuration again", worker(who)),
    }
}
