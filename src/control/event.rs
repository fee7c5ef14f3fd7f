//! What happened, in words: receives a [`Happening`], hands on one line for the log and for the subscribers of
//! `events`. Pure. A message says what happened to which worker, why, and what comes next; a quiet log is the rule: what
//! every healthy worker does is [`Level::Debug`].

mod units;

use super::status::{ended, seconds};
use crate::plan::{Nanos, ServiceId, Signal};
use crate::supervise::{ChildId, Ended, Happening, HowReady, Next, Who};
use serde_json::{Map, Value};

/// How loud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something that was asked for cannot be had.
    Error,
    /// A worker misbehaved; prebind goes on.
    Warn,
    /// Somebody's wish, or a change of the whole.
    Info,
    /// What every healthy worker does.
    Debug,
}

impl Level {
    /// The word in the log.
    pub fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct EventLine {
    /// How loud.
    pub level: Level,
    /// What, for machines; never changes once published.
    pub event: &'static str,
    /// What, for people.
    pub message: String,
    /// Which and how, for machines.
    pub fields: Map<String, Value>,
}

impl EventLine {
    /// As one JSON object; `time` is the wall clock's text, which only linux/ knows.
    pub fn json(&self, time: Option<&str>) -> Value {
        let mut object = self.fields.clone();
        if let Some(time) = time {
            object.insert("time".into(), time.into());
        }
        object.insert("level".into(), self.level.word().into());
        object.insert("event".into(), self.event.into());
        object.insert("message".into(), self.message.as_str().into());
        Value::Object(object)
    }

    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(key.into(), value.into());
    }
}

/// The names that messages use.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// A service's name.
    pub service: &'a dyn Fn(ServiceId) -> &'a str,
    /// The names of a service's sockets.
    pub sockets: &'a dyn Fn(ServiceId) -> Vec<&'a str>,
}

/// Gives a happening its words.
pub fn event(happening: &Happening, names: &Names<'_>, pid_of: &dyn Fn(ChildId) -> Option<i32>) -> EventLine {
    let (level, event) = kind(happening);
    let mut line = EventLine { level, event, message: message(happening, names, pid_of), fields: Map::new() };
    match about(happening) {
        About::All => {}
        About::Service(service) => line.put("service", (names.service)(service)),
        About::Worker(who) => {
            line.put("service", (names.service)(who.service));
            line.put("slot", who.slot);
            line.put("generation", who.generation);
            line.put("pid", pid_of(who.child));
        }
    }
    details(&mut line, happening);
    line
}

/// How loud, and the name for machines.
fn kind(happening: &Happening) -> (Level, &'static str) {
    match happening {
        Happening::Started(_) => (Level::Debug, "worker_started"),
        Happening::Ready(..) => (Level::Debug, "worker_ready"),
        Happening::HoldsNoSocket(_) => (Level::Warn, "worker_holds_no_socket"),
        Happening::StartTimeout(_) => (Level::Warn, "worker_start_timeout"),
        Happening::WatchdogMissed(_) => (Level::Warn, "worker_watchdog"),
        Happening::SaidStopping(_) => (Level::Info, "worker_said_stopping"),
        Happening::AckIgnored(_) => (Level::Debug, "ack_ignored"),
        Happening::Draining(..) => (Level::Debug, "worker_draining"),
        Happening::ToldToStop(..) => (Level::Debug, "worker_told_to_stop"),
        Happening::Killed(_) => (Level::Warn, "worker_killed"),
        // It did what it was started for.
        Happening::Exited { unexpected: true, how: Ended::Code(0), next: Next::Nothing, .. } => {
            (Level::Info, "worker_exited")
        }
        Happening::Exited { unexpected: true, .. } => (Level::Warn, "worker_exited"),
        Happening::Exited { unexpected: false, .. } => (Level::Debug, "worker_exited"),
        Happening::Leftovers(..) => (Level::Warn, "worker_leftovers"),
        Happening::Orphans(_, Signal::KILL) => (Level::Warn, "orphans_killed"),
        Happening::Orphans(..) => (Level::Info, "orphans_told_to_stop"),
        Happening::SpawnFailed { .. } => (Level::Error, "spawn_failed"),
        Happening::Scaled { .. } => (Level::Info, "scaled"),
        Happening::Refused(_) => (Level::Error, "refused"),
        Happening::RestartBegun(_) => (Level::Info, "restart_begun"),
        Happening::RestartDone(_) => (Level::Info, "restart_done"),
        Happening::RestartHalted(..) => (Level::Error, "restart_halted"),
        Happening::UpgradeBegun { .. } => (Level::Info, "upgrade_begun"),
        Happening::Baking(..) => (Level::Info, "upgrade_baking"),
        Happening::UpgradeProgress { .. } => (Level::Debug, "upgrade_progress"),
        Happening::UpgradeDone { .. } => (Level::Info, "upgrade_done"),
        Happening::UpgradeRolledBack { .. } => (Level::Error, "upgrade_rolled_back"),
        Happening::Unit(one) => units::kind(one),
        Happening::Replaced => (Level::Info, "replaced"),
        Happening::ReplaceFailed(_) => (Level::Error, "replace_failed"),
        Happening::AllReady => (Level::Info, "all_ready"),
        Happening::GivenUp { .. } => (Level::Error, "given_up"),
        Happening::Stopping => (Level::Info, "stopping"),
        Happening::Stopped => (Level::Info, "stopped"),
    }
}

enum About {
    All,
    Service(ServiceId),
    Worker(Who),
}

fn about(happening: &Happening) -> About {
    match happening {
        Happening::Unit(one) => units::about(one),
        Happening::Replaced | Happening::ReplaceFailed(_) => About::All,
        Happening::Refused(_) | Happening::AllReady | Happening::Stopping | Happening::Stopped => About::All,
        Happening::Orphans(..) => About::All,
        Happening::Scaled { service, .. }
        | Happening::UpgradeBegun { service, .. }
        | Happening::Baking(service, _)
        | Happening::UpgradeProgress { service, .. }
        | Happening::UpgradeDone { service, .. }
        | Happening::GivenUp { service, .. }
        | Happening::UpgradeRolledBack { service, .. }
        | Happening::RestartBegun(service)
        | Happening::RestartDone(service)
        | Happening::RestartHalted(service, _) => About::Service(*service),
        Happening::Started(who)
        | Happening::Ready(who, _)
        | Happening::HoldsNoSocket(who)
        | Happening::StartTimeout(who)
        | Happening::WatchdogMissed(who)
        | Happening::SaidStopping(who)
        | Happening::AckIgnored(who)
        | Happening::Draining(who, _)
        | Happening::ToldToStop(who, _)
        | Happening::Killed(who)
        | Happening::Exited { who, .. }
        | Happening::Leftovers(who, _)
        | Happening::SpawnFailed { who, .. } => About::Worker(*who),
    }
}

fn message(happening: &Happening, names: &Names<'_>, pid_of: &dyn Fn(ChildId) -> Option<i32>) -> String {
    let name = |service: ServiceId| (names.service)(service);
    let worker = |who: &Who| match pid_of(who.child) {
        Some(pid) => format!("{}: worker {pid} (slot {})", name(who.service), who.slot),
        None => format!("{}: the worker of slot {}", name(who.service), who.slot),
    };
    match happening {
        Happening::Started(who) => format!("{} started, generation {}", worker(who), who.generation),
        Happening::Ready(who, how) => format!("{} is ready ({})", worker(who), how_ready(*how).1),
        Happening::HoldsNoSocket(who) => format!(
            "{} holds none of its sockets ({}): it bound its own, or a wrapper such as npm start closed them; \
             it is not ready",
            worker(who),
            (names.sockets)(who.service).join(", ")
        ),
        Happening::StartTimeout(who) => {
            format!("{} did not get ready in time and is stopped (--start-timeout, TimeoutStartSec=)", worker(who))
        }
        Happening::WatchdogMissed(who) => {
            format!("{} failed its watchdog and is stopped: no WATCHDOG=1 in time", worker(who))
        }
        Happening::AckIgnored(who) => format!("{}: an ack that changes nothing", worker(who)),
        Happening::SaidStopping(who) => format!("{} stops by itself (STOPPING=1)", worker(who)),
        Happening::Draining(who, delay) => {
            format!("{} is told to stop in {} s (--drain-delay)", worker(who), seconds(*delay))
        }
        Happening::ToldToStop(who, signal) => format!("{} is told to stop ({signal})", worker(who)),
        Happening::Killed(who) => {
            format!(
                "{} did not stop in time; its process group is killed (--signal-timeout, TimeoutStopSec=)",
                worker(who)
            )
        }
        Happening::Exited { who, how: Ended::Code(0), unexpected: true, next: Next::Nothing, .. } => {
            format!("{} is done (exit code 0)", worker(who))
        }
        Happening::Exited { who, how, unexpected, was_ready, next } => {
            format!("{} {}{}", worker(who), exited(*how, *unexpected, *was_ready), what_next(*next))
        }
        Happening::Leftovers(who, signal) => {
            format!("{} ended, but processes that it started live on; they are told to stop ({signal})", worker(who))
        }
        Happening::Orphans(number, signal) => orphans(*number, *signal),
        // At the start the reason says it all, and prebind ends.
        Happening::SpawnFailed { message, next: Next::Nothing, .. } => message.clone(),
        Happening::SpawnFailed { who, message, next } => {
            format!("{}: slot {}: {message}{}", name(who.service), who.slot, what_next(*next))
        }
        Happening::Scaled { service, from, to } => format!("{}: from {from} to {}", name(*service), workers(*to)),
        Happening::Refused(why) => why.clone(),
        Happening::RestartBegun(service) => format!("{}: replacing the workers one by one", name(*service)),
        Happening::RestartDone(service) => format!("{}: every worker is replaced", name(*service)),
        Happening::RestartHalted(service, why) => format!("{}: the restart is given up: {why}", name(*service)),
        Happening::UpgradeBegun { service, generation, strategy } => {
            format!("{}: upgrading to generation {generation} ({})", name(*service), strategy.word())
        }
        Happening::Baking(service, bake_ns) => {
            format!("{}: one new worker serves on trial for {} s", name(*service), seconds(*bake_ns))
        }
        Happening::UpgradeProgress { service, ready, replaced, of } => {
            format!("{}: {ready} of {of} new workers ready, {replaced} replaced", name(*service))
        }
        Happening::UpgradeDone { service, generation } => {
            format!("{}: generation {generation} serves", name(*service))
        }
        Happening::UpgradeRolledBack { service, generation, reason } => {
            format!("{}: generation {generation} is rolled back: {reason}", name(*service))
        }
        Happening::Unit(one) => units::message(one, &name, &worker),
        Happening::Replaced => "prebind was replaced in place, the workers went on".into(),
        Happening::ReplaceFailed(why) => format!("prebind was not replaced, nothing changed: {why}"),
        Happening::AllReady => "all workers are ready".into(),
        Happening::GivenUp { service, deaths } => format!(
            "{}: {deaths} workers in a row died before one was ready: giving up (--give-up-after)",
            name(*service)
        ),
        Happening::Stopping => "stopping".into(),
        Happening::Stopped => "stopped, every worker is gone".into(),
    }
}

fn orphans(number: u32, signal: Signal) -> String {
    match signal {
        Signal::KILL => format!("{number} processes that workers left are killed"),
        signal => format!("{number} processes that workers left are told to stop ({signal})"),
    }
}

/// The fields that only some happenings have.
fn details(line: &mut EventLine, happening: &Happening) {
    match happening {
        Happening::Ready(_, how) => line.put("how", how_ready(*how).0),
        Happening::ToldToStop(_, signal) | Happening::Leftovers(_, signal) => line.put("signal", signal.to_string()),
        Happening::Orphans(number, signal) => {
            line.put("number", *number);
            line.put("signal", signal.to_string());
        }
        Happening::SpawnFailed { next, .. } => line.put("next_try_seconds", next_try(*next)),
        Happening::Exited { how, unexpected, was_ready, next, .. } => {
            let (code, signal) = ended(*how);
            line.put("code", code);
            line.put("signal", signal);
            line.put("unexpected", *unexpected);
            line.put("was_ready", *was_ready);
            line.put("next_try_seconds", next_try(*next));
        }
        Happening::Scaled { from, to, .. } => {
            line.put("from", *from);
            line.put("to", *to);
        }
        Happening::RestartHalted(_, why) => line.put("reason", why.as_str()),
        Happening::UpgradeBegun { generation, strategy, .. } => {
            line.put("generation", *generation);
            line.put("strategy", strategy.word());
        }
        Happening::Baking(_, bake_ns) => line.put("bake_seconds", seconds(*bake_ns)),
        Happening::UpgradeProgress { ready, replaced, of, .. } => {
            line.put("ready", *ready);
            line.put("replaced", *replaced);
            line.put("of", *of);
        }
        Happening::UpgradeDone { generation, .. } => line.put("generation", *generation),
        Happening::UpgradeRolledBack { generation, reason, .. } => {
            line.put("generation", *generation);
            line.put("reason", reason.as_str());
        }
        _ => {}
    }
}

fn workers(number: u32) -> String {
    if number == 1 { "1 worker".into() } else { format!("{number} workers") }
}

fn how_ready(how: HowReady) -> (&'static str, &'static str) {
    match how {
        HowReady::Notified => ("notify", "READY=1"),
        HowReady::Acked => ("ack", "ack"),
        HowReady::Accepts => ("accept", "it waits on its sockets"),
        HowReady::Time => ("time", "its time passed"),
        HowReady::Ended => ("ended", "its commands succeeded"),
    }
}

fn exited(how: Ended, unexpected: bool, was_ready: bool) -> String {
    let how = match how {
        Ended::Code(code) => format!("exited with code {code}"),
        Ended::Signal(signal) => format!("was killed by {signal}"),
        Ended::Dumped(signal) => format!("was killed by {signal}, with a core dump,"),
        Ended::Unseen => "ended, seen by another program,".into(),
    };
    match (unexpected, was_ready) {
        (true, true) => format!("{how} though nobody told it to"),
        (true, false) => format!("{how} before it was ready"),
        (false, _) => format!("{how}, as told"),
    }
}

fn what_next(next: Next) -> String {
    match next {
        Next::Now => "; a successor starts now".into(),
        Next::After(ns) => format!("; next try in {}", span(ns)),
        Next::Nothing => String::new(),
    }
}

fn next_try(next: Next) -> Option<f64> {
    match next {
        Next::Now => Some(0.0),
        Next::After(ns) => Some(seconds(ns)),
        Next::Nothing => None,
    }
}

/// To the tenth of a second; shorter ones in milliseconds.
fn span(ns: Nanos) -> String {
    match ns / 1_000_000 {
        ms @ 0..1000 => format!("{ms} ms"),
        ms if (ms / 100) % 10 == 0 => format!("{} s", ms / 1000),
        ms => format!("{}.{} s", ms / 1000, (ms / 100) % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{SECOND, Signal};

    #[test]
    fn words() {
        let who = Who { service: ServiceId(0), slot: 0, generation: 2, index: 0, child: ChildId(7) };
        let exited = |how, unexpected, was_ready, next| Happening::Exited { who, how, unexpected, was_ready, next };
        let names = Names { service: &|_| "web", sockets: &|_| vec!["http", "https"] };
        for (happening, level, event_name, message) in [
            (
                Happening::Started(who),
                Level::Debug,
                "worker_started",
                "web: worker 4711 (slot 0) started, generation 2",
            ),
            (
                Happening::Ready(who, HowReady::Notified),
                Level::Debug,
                "worker_ready",
                "web: worker 4711 (slot 0) is ready (READY=1)",
            ),
            (
                Happening::HoldsNoSocket(who),
                Level::Warn,
                "worker_holds_no_socket",
                "web: worker 4711 (slot 0) holds none of its sockets (http, https): it bound its own, or a wrapper such \
                 as npm start closed them; it is not ready",
            ),
            (
                exited(Ended::Code(1), true, false, Next::After(SECOND * 3 / 2)),
                Level::Warn,
                "worker_exited",
                "web: worker 4711 (slot 0) exited with code 1 before it was ready; next try in 1.5 s",
            ),
            (
                exited(Ended::Signal(Signal::KILL), true, true, Next::Now),
                Level::Warn,
                "worker_exited",
                "web: worker 4711 (slot 0) was killed by KILL though nobody told it to; a successor starts now",
            ),
            (
                exited(Ended::Signal(Signal::TERM), false, true, Next::Nothing),
                Level::Debug,
                "worker_exited",
                "web: worker 4711 (slot 0) was killed by TERM, as told",
            ),
            (
                Happening::SpawnFailed {
                    who,
                    message: "cannot run 'x': no such file".into(),
                    next: Next::After(SECOND),
                },
                Level::Error,
                "spawn_failed",
                "web: slot 0: cannot run 'x': no such file; next try in 1 s",
            ),
            (
                Happening::Scaled { service: ServiceId(0), from: 4, to: 1 },
                Level::Info,
                "scaled",
                "web: from 4 to 1 worker",
            ),
            (Happening::Stopping, Level::Info, "stopping", "stopping"),
        ] {
            let line = event(&happening, &names, &|child| (child == ChildId(7)).then_some(4711));
            assert_eq!((line.level, line.event, line.message.as_str()), (level, event_name, message));
        }
    }

    #[test]
    fn fields() {
        let who = Who { service: ServiceId(0), slot: 0, generation: 2, index: 0, child: ChildId(7) };
        let names = Names { service: &|_| "web", sockets: &|_| Vec::new() };
        let how = Ended::Signal(Signal::KILL);
        let happening =
            Happening::Exited { who, how, unexpected: true, was_ready: true, next: Next::After(SECOND / 4) };
        let line = event(&happening, &names, &|_| None);
        assert_eq!(
            line.json(Some("now")),
            serde_json::json!({
                "time": "now", "level": "warn", "event": "worker_exited", "service": "web", "slot": 0, "generation": 2,
                "pid": null, "code": null, "signal": "KILL", "unexpected": true, "was_ready": true,
                "next_try_seconds": 0.25,
                "message": "web: the worker of slot 0 was killed by KILL though nobody told it to; next try in 250 ms",
            })
        );
    }
}
