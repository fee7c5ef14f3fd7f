//! The supervisor's answers as replies: receives [`Answer`] and what only linux/ knows ([`Facts`]), hands on the
//! message for people and the data for machines. Pure. The names and shapes here are scripted against: they only grow.

use super::options;
use crate::plan::{Nanos, ServiceId};
use crate::supervise::{Answer, ChildId, Ended, ServiceStatus, Status, WorkerStatus};
use serde_json::{Value, json};

/// A socket as `status` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketLine {
    /// Its name.
    pub name: String,
    /// The word for its kind: tcp, udp, unix ...
    pub kind: &'static str,
    /// Where it is bound, with the real port where 0 was asked for.
    pub address: String,
    /// Adopted, not bound by this prebind.
    pub inherited: bool,
    /// Connections that wait to be accepted; `None`: not known for this kind.
    pub queue: Option<u32>,
}

/// What the supervisor does not know of itself.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Of this prebind.
    pub pid: u32,
    /// Of this prebind.
    pub version: &'a str,
    /// Since the start.
    pub uptime_ns: Nanos,
    /// In plan order.
    pub sockets: &'a [SocketLine],
    /// A service's name.
    pub service_name: &'a dyn Fn(ServiceId) -> &'a str,
    /// A child's pid while it lives.
    pub pid_of: &'a dyn Fn(ChildId) -> Option<i32>,
    /// The data of `options`, of a service with so many workers.
    pub options_of: &'a dyn Fn(ServiceId, u32) -> Value,
}

/// A reply to a request: `ok`, the message, the data.
pub fn reply_to(answer: &Answer, facts: &Facts<'_>) -> (bool, String, Option<Value>) {
    match answer {
        Answer::Status(status) => (true, summary(status, facts), Some(status_json(status, facts))),
        Answer::Ready(ready, message) => (*ready, message.clone(), None),
        Answer::Scaled { service, from, to } => {
            (true, format!("{}: {from} -> {to} workers", (facts.service_name)(*service)), None)
        }
        Answer::Options { service, number } => {
            let data = (facts.options_of)(*service, *number);
            (true, options::lines(&data["options"]).join("\n"), Some(data))
        }
        Answer::Done(message) => (true, message.clone(), None),
        Answer::Refused(message) => (false, message.clone(), None),
    }
}

/// One line for clients that show messages only.
fn summary(status: &Status, facts: &Facts<'_>) -> String {
    let services = status.services.iter().map(|service| {
        let name = (facts.service_name)(service.service);
        format!("; {name}: {} of {} ready", service.ready, service.number)
    });
    format!("prebind {} (pid {}) is {}{}", facts.version, facts.pid, status.phase.word(), services.collect::<String>())
}

/// The data of `status`.
pub fn status_json(status: &Status, facts: &Facts<'_>) -> Value {
    let sockets: Vec<Value> = facts.sockets.iter().map(socket_json).collect();
    let services: Vec<Value> = status.services.iter().map(|service| service_json(service, facts)).collect();
    json!({
        "pid": facts.pid,
        "version": facts.version,
        "state": status.phase.word(),
        "uptime_seconds": seconds(facts.uptime_ns),
        "sockets": sockets,
        "services": services,
    })
}

fn socket_json(socket: &SocketLine) -> Value {
    json!({
        "name": socket.name,
        "kind": socket.kind,
        "address": socket.address,
        "inherited": socket.inherited,
        "queue": socket.queue,
    })
}

fn service_json(service: &ServiceStatus, facts: &Facts<'_>) -> Value {
    let workers: Vec<Value> = service.workers.iter().map(|worker| worker_json(worker, facts)).collect();
    json!({
        "name": (facts.service_name)(service.service),
        "state": service.state,
        "number": service.number,
        "ready": service.ready,
        "generation": service.generation,
        "restarts": service.restarts,
        "last_upgrade": service.last_upgrade.as_ref().map(|last| {
            json!({ "result": last.outcome.word(), "reason": last.reason })
        }),
        "workers": workers,
    })
}

fn worker_json(worker: &WorkerStatus, facts: &Facts<'_>) -> Value {
    let last_exit = worker.last_exit.map(|(how, ago)| {
        let (code, signal) = ended(how);
        json!({ "code": code, "signal": signal, "seconds_ago": seconds(ago) })
    });
    json!({
        "slot": worker.slot,
        "pid": worker.child.and_then(facts.pid_of),
        "generation": worker.generation,
        "state": worker.state,
        "age_seconds": seconds(worker.age_ns),
        "status": worker.status,
        "next_try_seconds": worker.next_try_ns.map(seconds),
        "last_exit": last_exit,
    })
}

/// The exit code or the signal's name.
pub(super) fn ended(how: Ended) -> (Option<u8>, Option<String>) {
    match how {
        Ended::Code(code) => (Some(code), None),
        Ended::Signal(signal) | Ended::Dumped(signal) => (None, Some(signal.to_string())),
        Ended::Unseen => (None, None),
    }
}

/// Seconds with milliseconds.
pub(super) fn seconds(ns: Nanos) -> f64 {
    (ns / 1_000_000) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Signal;
    use crate::supervise::{LastUpgrade, Outcome, Phase};

    #[test]
    fn the_data_is_the_documented_one() {
        let worker = |slot, child, state, last_exit, next_try_ns| WorkerStatus {
            slot,
            child,
            generation: 1,
            state,
            age_ns: 1_400_999_999,
            status: "text".into(),
            index: slot,
            told: Vec::new(),
            told_ago: None,
            next_try_ns,
            last_exit,
        };
        let killed = Some((Ended::Signal(Signal::KILL), 3_200_000_000));
        let service = ServiceStatus {
            service: ServiceId(0),
            state: "active",
            number: 2,
            ready: 1,
            generation: 1,
            restarts: 5,
            last_upgrade: Some(LastUpgrade { outcome: Outcome::RolledBack, reason: "why".into() }),
            deaths: 0,
            settings: Default::default(),
            workers: vec![
                worker(0, Some(ChildId(9)), "ready", killed, None),
                worker(1, None, "waiting", Some((Ended::Code(7), 0)), Some(1_500_000_000)),
            ],
        };
        let status = Status { phase: Phase::Running, services: vec![service] };
        let sockets = [SocketLine {
            name: "web".into(),
            kind: "tcp",
            address: "127.0.0.1:8080".into(),
            inherited: false,
            queue: Some(0),
        }];
        let facts = Facts {
            pid: 1,
            version: "0.1.0",
            uptime_ns: 1_500_000_000,
            sockets: &sockets,
            service_name: &|_| "web",
            pid_of: &|child| Some(child.0 as i32 + 1),
            options_of: &|_, number| json!({ "options": { "numprocesses": number } }),
        };
        let wanted = json!({
            "pid": 1, "version": "0.1.0", "state": "running", "uptime_seconds": 1.5,
            "sockets": [{"name": "web", "kind": "tcp", "address": "127.0.0.1:8080", "inherited": false, "queue": 0}],
            "services": [{
                "name": "web", "state": "active", "number": 2, "ready": 1, "generation": 1, "restarts": 5,
                "last_upgrade": {"result": "rolled back", "reason": "why"},
                "workers": [
                    {"slot": 0, "pid": 10, "generation": 1, "state": "ready", "age_seconds": 1.4, "status": "text",
                     "next_try_seconds": null, "last_exit": {"code": null, "signal": "KILL", "seconds_ago": 3.2}},
                    {"slot": 1, "pid": null, "generation": 1, "state": "waiting", "age_seconds": 1.4, "status": "text",
                     "next_try_seconds": 1.5, "last_exit": {"code": 7, "signal": null, "seconds_ago": 0.0}},
                ],
            }],
        });
        let message = "prebind 0.1.0 (pid 1) is running; web: 1 of 2 ready";
        assert_eq!(reply_to(&Answer::Status(status), &facts), (true, message.into(), Some(wanted)));
        assert_eq!(reply_to(&Answer::Ready(false, "web: 1 of 2".into()), &facts), (false, "web: 1 of 2".into(), None));
        let (ok, text, data) = reply_to(&Answer::Options { service: ServiceId(0), number: 3 }, &facts);
        assert_eq!((ok, text.as_str(), data.is_some()), (true, "numprocesses: 3", true));
        assert_eq!(reply_to(&Answer::Done("done".into()), &facts), (true, "done".into(), None));
        assert_eq!(reply_to(&Answer::Refused("no".into()), &facts), (false, "no".into(), None));
    }
}
