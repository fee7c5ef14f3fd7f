//! What the entrypoint of a container has beside a launcher.

use super::check::PID1_STOP_TIMEOUT_NS;
use super::{Origin, Plan, Problem, Restart, SECOND, Signal};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// So many deaths before ready in a row, and PID 1 gives up: an orchestrator starts it anew, or says so.
const PID1_GIVE_UP_AFTER: u32 = 5;

/// Of the whole prebind.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EntrySpec {
    /// prebind is PID 1; settled by `check`.
    pub pid1: bool,
    /// `--subreaper`: orphans of the workers become prebind's children, as they do where it is PID 1.
    pub subreaper: bool,
    /// `--rewrite FROM:TO`: what workers get in the place of a signal that prebind hears; `None`: nothing.
    pub rewrite: Vec<(Signal, Option<Signal>)>,
    /// `--forward SIGNAL`: passed to the workers, in the place of its meaning for prebind.
    pub forward: Vec<Signal>,
    /// `--exit-code FROM=TO`: of the command, and what prebind makes of it.
    pub exit_codes: Vec<(u8, u8)>,
    /// `--health-file`: is there while everything is ready.
    pub health_file: Option<PathBuf>,
    /// `--health-listen`: where /ready and /live are answered by HTTP.
    pub health_listen: Option<SocketAddr>,
}

impl EntrySpec {
    /// Whether orphans become prebind's children, who is to see to their end.
    pub fn reaps(&self) -> bool {
        self.pid1 || self.subreaper
    }

    /// What workers get of a signal: the one that is rewritten to; `None`: it is not rewritten.
    pub fn rewritten(&self, signal: Signal) -> Option<Option<Signal>> {
        self.rewrite.iter().rev().find(|(from, _)| *from == signal).map(|(_, to)| *to)
    }

    /// What prebind exits with where its command did with `code`.
    pub fn exit_code(&self, code: u8) -> u8 {
        self.exit_codes.iter().rev().find(|(from, _)| *from == code).map_or(code, |(_, to)| *to)
    }
}

/// What is another default where prebind is PID 1, and what cannot be asked for.
pub(super) fn settle(plan: &mut Plan, pid1: bool, problems: &mut Vec<Problem>) {
    plan.entry.pid1 = pid1;
    if pid1 {
        for service in plan.services.iter_mut().filter(|service| !service.process.unit) {
            service.give_up_after = service.give_up_after.or(Some(PID1_GIVE_UP_AFTER));
        }
        if plan.services.iter().any(|service| !service.stop_timeout_given && !service.process.unit) {
            let seconds = PID1_STOP_TIMEOUT_NS / SECOND;
            plan.remarks
                .push(format!("as PID 1: workers are killed {seconds} s after they were told to stop (-t SECONDS)"));
        }
    }
    let origin = plan.services.first().map_or(Origin::Argument(0), |service| service.origin.clone());
    let mut say = |message: String, remedy: &str| {
        problems.push(Problem::new(origin.clone(), message).remedy(remedy));
    };
    let stops = |signal: Signal| [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal);
    for (from, to) in &plan.entry.rewrite {
        if stops(*from) && to.is_none() {
            say(format!("--rewrite {from}:0: nothing would stop the workers"), "another signal that stops them");
        }
    }
    for signal in plan.entry.forward.iter().filter(|signal| stops(**signal)) {
        say(format!("--forward {signal}: it stops the workers, and so reaches them"), "leave it out");
    }
    let passes = plan.services.iter().any(|service| service.restart == Restart::No && !service.process.unit);
    if !plan.entry.exit_codes.is_empty() && !passes {
        say("--exit-code: the command's own code is prebind's with --restart no only".into(), "--restart no");
    }
}
