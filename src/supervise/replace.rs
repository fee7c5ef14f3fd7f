//! prebind's own replacement: the whole state as plain data, taken over by the next program in this process. Children,
//! requests and deadlines keep their names and times: the monotonic clock goes on.

use super::asks::Ask;
use super::planted::{self, Bug};
use super::service::Service;
use super::{Action, Answer, AskId, ChildId, Happening, Settings, Supervisor, Upward};
use crate::plan::{Change, Nanos, Plan, ServiceId, Strategy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The program is to be replaced before anything else happens.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Replacing {
    /// Who waits for it.
    asks: Vec<AskId>,
    /// What is to follow.
    then: Option<Upgrade>,
}

/// An upgrade of every service.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Upgrade {
    strategy: Option<Strategy>,
    /// Who waits for it.
    asks: Vec<AskId>,
}

impl Supervisor {
    /// Everything, as data.
    pub fn freeze(&self) -> Result<Value, String> {
        serde_json::to_value(self).map_err(|error| format!("the state cannot be written: {error}"))
    }

    /// What `freeze` gave, in the plan of then.
    pub fn thaw(state: Value) -> Result<Supervisor, String> {
        serde_json::from_value(state).map_err(|error| format!("the supervisor's state is not understood: {error}"))
    }

    /// The number of the next child.
    pub fn next_child(&self) -> u32 {
        self.next_child
    }

    /// Whether a service has workers.
    pub fn has_workers(&self, id: ServiceId) -> bool {
        self.children.values().any(|worker| worker.service == id)
    }

    /// Goes on in the plan as it is read now. The policies are the plan's; the number, too, where the plan's own is
    /// another one than before, else a number that was asked for meanwhile stays.
    pub fn go_on(&mut self, old: &Plan, plan: &Plan, change: &Change) {
        self.reaps = plan.entry.reaps();
        let mut before: Vec<Option<Service>> = std::mem::take(&mut self.services).into_iter().map(Some).collect();
        for (n, spec) in plan.services.iter().enumerate() {
            let id = ServiceId(n as u16);
            let mut service = Service::new(id, plan);
            (service.first, service.added) = (false, true);
            let Some(was) = change.services.iter().position(|heir| *heir == Some(id)) else {
                self.services.push(service);
                continue;
            };
            let Some(mut known) = before.get_mut(was).and_then(Option::take) else { continue };
            let number = service.number;
            if spec.retired || (old.services[was].number.get() != number && !service.per_connection()) {
                known.scale_to = Some(number);
            }
            Service { id: known.id, name: known.name, policy: known.policy, retired: known.retired, .. } = service;
            known.configure(Settings::default());
            self.services.push(known);
        }
        for worker in self.children.values_mut() {
            if let Some(Some(id)) = change.services.get(usize::from(worker.service.0)) {
                worker.service = *id;
                worker.run.iter_mut().for_each(|run| run.start.service = *id);
            }
        }
        if change.retires(old, plan) {
            let sockets = plan.sockets.iter().filter(|spec| spec.retired).map(|spec| spec.since).min();
            let services = plan.services.iter().any(|spec| spec.retired).then_some(0);
            let first = services.or(sockets).unwrap_or_default();
            self.closing = Some((ChildId(first), ChildId(self.next_child)));
        }
    }

    /// Whether the program is to be replaced before anything else happens.
    pub fn wants_replacement(&self) -> bool {
        self.replacing.is_some() && self.ended.is_none()
    }

    pub(super) fn asked_to_replace(&mut self, ask: AskId) -> Result<(), String> {
        self.refused_while_stopping()?;
        self.replacing.get_or_insert_default().asks.push(ask);
        Ok(())
    }

    /// HUP: prebind itself first, with the plan as it is then, and the workers after it. The last one's strategy counts.
    pub(super) fn replace_and_upgrade(
        &mut self,
        strategy: Option<Strategy>,
        ask: Option<AskId>,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        self.refused_while_stopping()?;
        // Before that it is starting, and READY=1 will say that it is not any more. Each request is told: a manager that
        // asked again waits for a word that is younger.
        if self.all_were_ready {
            self.reloading = true;
            out.push(Action::Upward(Upward::Reloading));
        }
        let then = self.replacing.get_or_insert_default().then.get_or_insert_default();
        then.strategy = strategy;
        then.asks.extend(ask);
        Ok(())
    }

    pub(super) fn replaced(&mut self, now: Nanos, out: &mut Vec<Action>) {
        let Replacing { asks, then } = self.replacing.take().unwrap_or_default();
        // The next program listens for nobody yet.
        self.services.iter_mut().for_each(|service| service.listening = false);
        out.push(Action::Report(Happening::Replaced));
        let message = "prebind was replaced in place, the workers went on";
        out.extend(asks.into_iter().map(|ask| Action::Answer(ask, Answer::Done(message.into()))));
        let mut begun = Vec::new();
        for n in 0..self.services.len() {
            if self.services[n].retired {
                self.halt_rollout(now, n, "it is not asked for any more", out);
            }
            if let Some(number) = self.services[n].scale_to.take() {
                self.scale(now, n, number, out);
            }
            let service = &mut self.services[n];
            let runs_new_code = std::mem::take(&mut service.added);
            if !service.retired && !runs_new_code && !planted::is(Bug::UpgradeForgotten) {
                begun.push(n);
            }
        }
        if let Some(Upgrade { strategy, asks }) = then {
            if begun.is_empty() {
                let done = |ask: &AskId| Action::Answer(*ask, Answer::Done("nothing was there to upgrade".into()));
                out.extend(asks.iter().map(done));
                return;
            }
            asks.iter().for_each(|ask| self.open_ask(*ask, begun.len()));
            for n in begun {
                let asks: Vec<Ask> = asks.iter().map(|id| Ask { id: *id, drained: false }).collect();
                self.begin_upgrade(now, n, strategy, None, asks, out);
            }
        }
    }

    pub(super) fn replace_failed(&mut self, why: &str, out: &mut Vec<Action>) {
        let Replacing { mut asks, then } = self.replacing.take().unwrap_or_default();
        asks.extend(then.unwrap_or_default().asks);
        self.services.iter_mut().for_each(|service| service.listening = false);
        out.push(Action::Report(Happening::ReplaceFailed(why.into())));
        let message = format!("prebind was not replaced, nothing changed: {why}");
        out.extend(asks.into_iter().map(|ask| Action::Answer(ask, Answer::Refused(message.clone()))));
    }

    /// The upgrade that HUP asked for is over, well or not: the manager above is told.
    pub(super) fn notice_reloaded(&mut self, out: &mut Vec<Action>) {
        let busy = self.replacing.is_some() || self.services.iter().any(|service| service.rollout.is_some());
        if self.reloading && !busy && self.stopping.is_none() {
            self.reloading = false;
            out.push(Action::Upward(Upward::Ready));
        }
    }

    /// What the plan does not ask for any more goes with the last worker that may have it.
    pub(super) fn notice_retired(&mut self, out: &mut Vec<Action>) {
        let left =
            |(first, before)| self.children.range(first..before).next().is_some() && !planted::is(Bug::RetiredTooSoon);
        if self.closing.is_some_and(|those| !left(those)) {
            self.closing = None;
            self.services.retain(|service| !service.retired);
            out.push(Action::CloseRetired);
        }
    }
}
