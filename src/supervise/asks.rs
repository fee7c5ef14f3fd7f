//! Requests that are answered when what they ask for is done, in one service or in several.

use super::planted::{self, Bug};
use super::rollout::{Rollout, Stage};
use super::{Action, Answer, AskId, ChildId, Supervisor, Wait};
use crate::plan::{Nanos, Strategy};
use serde::{Deserialize, Serialize};

/// Somebody waits for a service's rollout.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) id: AskId,
    /// Until the old workers are gone, not only told to stop.
    pub(super) drained: bool,
}

/// A request and what is known of its outcome.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    id: AskId,
    /// Services that it still waits for.
    left: usize,
    failed: bool,
    lines: Vec<String>,
}

/// It waits for workers that were told to stop.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Draining {
    id: AskId,
    /// Workers older than this child are to be gone.
    before: ChildId,
    line: String,
}

impl Supervisor {
    /// A request that waits for so many services.
    pub(super) fn open_ask(&mut self, id: AskId, services: usize) {
        self.open.push(Open { id, left: services, failed: false, lines: Vec::new() });
    }

    /// One service's part of a request is over.
    pub(super) fn settle_ask(&mut self, id: AskId, done: bool, line: &str, out: &mut Vec<Action>) {
        let Some(at) = self.open.iter().position(|open| open.id == id) else { return };
        let open = &mut self.open[at];
        open.left -= 1;
        open.failed |= !done;
        open.lines.push(line.to_string());
        if open.left > 0 {
            return;
        }
        let Open { failed, lines, .. } = self.open.swap_remove(at);
        let message = lines.join("; ");
        let answer = if failed { Answer::Refused(message) } else { Answer::Done(message) };
        if planted::is(Bug::AnswerLost) && failed {
            return;
        }
        if planted::is(Bug::AnsweredTwice) {
            out.push(Action::Answer(id, answer.clone()));
        }
        out.push(Action::Answer(id, answer));
    }

    /// A rollout of service `n` did what it was to do: who waits for the old workers' end waits on.
    pub(super) fn settle_done(&mut self, n: usize, asks: Vec<Ask>, before: ChildId, line: &str, out: &mut Vec<Action>) {
        for ask in asks {
            if ask.drained {
                self.services[n].draining.push(Draining { id: ask.id, before, line: line.to_string() });
            } else {
                self.settle_ask(ask.id, true, line, out);
            }
        }
    }

    /// Answers who waits for workers that are gone now.
    pub(super) fn notice_drained(&mut self, n: usize, out: &mut Vec<Action>) {
        if self.services[n].draining.is_empty() {
            return;
        }
        let id = self.services[n].id;
        let own = self.children.iter().filter(|(_, worker)| worker.service == id);
        let oldest = own.map(|(child, _)| *child).min();
        let gone = |wait: &Draining| oldest.is_none_or(|oldest| oldest >= wait.before);
        let (over, rest) = std::mem::take(&mut self.services[n].draining).into_iter().partition(gone);
        self.services[n].draining = rest;
        let over: Vec<Draining> = over;
        for wait in over {
            self.settle_ask(wait.id, true, &wait.line, out);
        }
    }

    pub(super) fn asked_to_restart(
        &mut self,
        now: Nanos,
        id: AskId,
        service: Option<&str>,
        slot: Option<u32>,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        self.refused_while_stopping()?;
        let meant = self.meant(service)?;
        if meant.len() != 1 && slot.is_some() {
            return Err("which service? (restart SERVICE --slot N)".into());
        }
        for n in &meant {
            let service = &self.services[*n];
            let (name, number) = (&service.name, service.number);
            if service.rollout.as_ref().is_some_and(Rollout::is_upgrade) {
                return Err(format!("{name}: an upgrade is under way (upgrade again, or rollback)"));
            }
            match slot {
                Some(_) if number == 0 => return Err(format!("{name} has no workers")),
                Some(slot) if slot >= number => {
                    return Err(format!("no slot {slot}: {name} has slots 0 to {}", number - 1));
                }
                Some(_) | None => {}
            }
        }
        self.open_ask(id, meant.len());
        for n in meant {
            self.begin_restart(now, n, slot, Some(Ask { id, drained: false }), out);
        }
        Ok(())
    }

    pub(super) fn asked_to_upgrade(
        &mut self,
        now: Nanos,
        id: AskId,
        service: Option<&str>,
        (strategy, timeout_ns): (Option<Strategy>, Option<Nanos>),
        wait: Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        self.refused_while_stopping()?;
        let meant = self.meant(service)?;
        for n in &meant {
            let service = &self.services[*n];
            let room = service.policy.max_additional.filter(|most| *most < service.number);
            if let (Some(Strategy::Fleet), Some(most)) = (strategy, room) {
                let (name, number) = (&service.name, service.number);
                return Err(format!(
                    "{name}: a fleet needs room for {number} more processes, --max-upgrade-additional is {most}"
                ));
            }
        }
        let ask = (wait != Wait::No).then_some(Ask { id, drained: wait == Wait::Drained });
        if ask.is_some() {
            self.open_ask(id, meant.len());
        }
        let mut begun = Vec::new();
        for n in meant {
            self.begin_upgrade(now, n, strategy, timeout_ns, ask.into_iter().collect(), out);
            let service = &self.services[n];
            begun.push(format!("{}: generation {} begins", service.name, service.generation));
        }
        if ask.is_none() {
            out.push(Action::Answer(id, Answer::Done(begun.join("; "))));
        }
        Ok(())
    }

    /// The named services, or all, that have an upgrade under way which fits.
    fn upgrading(&self, service: Option<&str>, fits: impl Fn(&Rollout) -> bool) -> Result<Vec<usize>, String> {
        let mut meant = self.meant(service)?;
        meant.retain(|n| self.services[*n].rollout.as_ref().is_some_and(&fits));
        Ok(meant)
    }

    pub(super) fn asked_to_promote(
        &mut self,
        now: Nanos,
        service: Option<&str>,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let on_trial = |rollout: &Rollout| matches!(rollout.stage, Stage::Canary { until: Some(_), .. });
        let meant = self.upgrading(service, on_trial)?;
        if meant.is_empty() {
            return Err("no worker is on trial".into());
        }
        meant.iter().for_each(|n| self.end_bake(now, *n, out));
        Ok("promoted: the other workers follow".into())
    }

    pub(super) fn asked_to_roll_back(
        &mut self,
        now: Nanos,
        service: Option<&str>,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let meant = self.upgrading(service, Rollout::is_upgrade)?;
        if meant.is_empty() {
            return Err("no upgrade is under way".into());
        }
        let mut reasons = Vec::new();
        for n in meant {
            self.halt_rollout(now, n, "asked for", out);
            let service = &self.services[n];
            let reason = service.last_upgrade.as_ref().map_or("", |last| last.reason.as_str());
            reasons.push(format!("{}: rolled back: {reason}", service.name));
        }
        Ok(reasons.join("; "))
    }
}
