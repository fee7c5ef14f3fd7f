//! What happens, in the words of einhorn's log. Keeps the few counts that its lines name.

use crate::control::event::{EventLine, Level};
use crate::plan::{AckMode, Nanos, SECOND, ServiceSpec, Strategy};
use crate::supervise::{ChildId, Happening, HowReady, Next, Who};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One line of einhorn's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// How loud.
    pub level: Level,
    /// Without the master's name and the level.
    pub text: String,
    /// Whoever asked for the upgrade is shown it.
    pub upgrade: bool,
}

/// Knows how many are up.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Teller {
    number: u32,
    ack_ns: Nanos,
    stop_timeout_ns: Nanos,
    /// Who acked, and which generation it is of.
    acked: BTreeMap<ChildId, u32>,
    /// Who was told to stop counts no more.
    told: BTreeSet<ChildId>,
    /// While an upgrade runs only its generation counts.
    upgrading_to: Option<u32>,
    /// Workers that ended before they were acked, since the last ack.
    streak: u32,
    /// The first ones were said to be launched.
    launched: bool,
}

impl Teller {
    /// Of a service with so many workers.
    pub fn new(spec: &ServiceSpec, number: u32) -> Teller {
        let ack_ns = if let AckMode::After(span) = spec.ack { span } else { AckMode::GRACE_NS };
        Teller { number, ack_ns, stop_timeout_ns: spec.stop_timeout_ns, ..Teller::default() }
    }

    /// The lines of a happening; `ours`: what prebind says of it.
    pub fn tell(
        &mut self,
        happening: &Happening,
        pid_of: &dyn Fn(ChildId) -> Option<i32>,
        ours: &EventLine,
    ) -> Vec<Line> {
        let pid = |who: &Who| pid_of(who.child).unwrap_or_default();
        let one = |level, text: String, upgrade| vec![Line { level, text, upgrade }];
        match happening {
            Happening::Started(who) => self.started(who, pid(who)),
            Happening::Ready(who, how) => self.ready(who, *how, pid(who)),
            Happening::Exited { who, next, .. } => {
                let acked = self.acked.remove(&who.child).is_some();
                self.told.remove(&who.child);
                self.streak += u32::from(!acked);
                let before = if acked { "" } else { " before it was ACKed" };
                let text = format!("===> Exited worker {}{before} ({})", pid(who), ours.message);
                let mut lines = one(Level::Info, text, true);
                lines.extend(self.wait(*next));
                lines
            }
            Happening::SpawnFailed { next, .. } => {
                let mut lines = one(Level::Error, ours.message.clone(), true);
                lines.extend(self.wait(*next));
                lines
            }
            Happening::ToldToStop(who, signal) if !self.told.insert(who.child) => {
                let text = format!("Re-sending {signal} to already-signaled child {}", pid(who));
                one(Level::Error, text, false)
            }
            Happening::ToldToStop(who, signal) => one(Level::Info, format!("Sending {signal} to [{}]", pid(who)), true),
            Happening::AckIgnored(who) => {
                let why = "it is acked already, or -m gives it a time";
                one(Level::Error, format!("Ignored a manual ACK from {}: {why}", pid(who)), false)
            }
            Happening::Killed(who) => {
                let span = seconds(self.stop_timeout_ns);
                one(Level::Info, format!("Child {} is still active after {span}s. Sending SIGKILL.", pid(who)), false)
            }
            Happening::Scaled { from, to, .. } => {
                self.number = *to;
                one(Level::Info, format!("Altering worker count, {from} -> {to}."), false)
            }
            Happening::UpgradeBegun { generation, strategy, .. } => {
                self.upgrading_to = Some(*generation);
                let how = if *strategy == Strategy::Fleet { "fleet" } else { "smooth" };
                let from = generation.saturating_sub(2);
                one(Level::Info, format!("Starting {how} upgrade from version {from}..."), true)
            }
            Happening::UpgradeProgress { ready, replaced, of, .. } => {
                let text = format!("Currently upgrading ({ready} / {of} ACKs; {replaced} old workers are replaced)");
                one(Level::Info, text, true)
            }
            Happening::UpgradeDone { generation, .. } => {
                self.upgrading_to = None;
                let version = generation.saturating_sub(1);
                let text = format!("Upgraded successfully to version {version} (Einhorn {}).", super::VERSION);
                one(Level::Info, text, true)
            }
            Happening::UpgradeRolledBack { generation, reason, .. } => {
                self.upgrading_to = None;
                let version = generation.saturating_sub(1);
                one(Level::Error, format!("The upgrade to version {version} failed: {reason}"), true)
            }
            Happening::Replaced => {
                one(Level::Info, "The einhorn master was reloaded, the workers went on.".into(), true)
            }
            Happening::ReplaceFailed(why) => {
                one(Level::Error, format!("Can not initiate einhorn master reload safely, aborting: {why}"), true)
            }
            _ => one(ours.level, ours.message.clone(), false),
        }
    }

    fn started(&mut self, who: &Who, pid: i32) -> Vec<Line> {
        let line = |text, upgrade| Line { level: Level::Info, text, upgrade };
        let count = if self.launched { 1 } else { self.number };
        let first = !self.launched || !self.acked.is_empty() || self.streak > 0;
        self.launched = true;
        let mut lines = Vec::new();
        if first {
            lines.push(line(format!("Launching {count} new workers"), true));
        }
        lines.push(line(format!("===> Launched {pid} (index: {})", who.index), true));
        lines
    }

    fn ready(&mut self, who: &Who, how: HowReady, pid: i32) -> Vec<Line> {
        let line = |text| Line { level: Level::Info, text, upgrade: true };
        let (kind, why) = match how {
            HowReady::Time => {
                let span = seconds(self.ack_ns);
                ("timer", format!("Worker {pid} has been up for {span}s, so we are considering it alive."))
            }
            _ => ("manual", format!("Received a manual ACK from {pid}")),
        };
        self.acked.insert(who.child, who.generation);
        let streak = match std::mem::take(&mut self.streak) {
            0 => String::new(),
            deaths => format!(", breaking the streak of {deaths} consecutive unacked workers dying"),
        };
        let counts = |(child, generation): &(&ChildId, &u32)| {
            !self.told.contains(child) && self.upgrading_to.is_none_or(|new| **generation == new)
        };
        let (up, number) = (self.acked.iter().filter(counts).count(), self.number);
        vec![line(why), line(format!("Up to {up} / {number} {kind} ACKs{streak}"))]
    }

    fn wait(&self, next: Next) -> Option<Line> {
        let Next::After(span) = next else { return None };
        let (span, streak) = (seconds(span), self.streak);
        let text = format!("spinup_interval is {span}s (there have been {streak} consecutive unacked worker deaths)");
        Some(Line { level: Level::Info, text: format!("Last spinup was just now, and {text}"), upgrade: true })
    }
}

fn seconds(span: Nanos) -> f64 {
    (span / (SECOND / 1000)) as f64 / 1000.0
}
