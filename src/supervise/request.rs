//! What clients of the control socket ask for, and the answers.

use super::service::Service;
use super::slot::Pending;
use super::{
    Action, Answer, AskId, ChildId, Command, Happening, Phase, ServiceStatus, Settings, Status, Supervisor,
    WorkerStatus,
};
use crate::plan::{Nanos, Signal, nearest};

/// The most workers of one service.
const NUMBER_MAX: u32 = 100_000;

impl Supervisor {
    /// One request; answered now, or when what it asks for is done.
    pub(super) fn asked(&mut self, now: Nanos, ask: AskId, command: Command, out: &mut Vec<Action>) {
        match command {
            Command::Status => out.push(Action::Answer(ask, Answer::Status(self.status(now)))),
            Command::Ready => {
                let ready = self.stopping.is_none() && self.services.iter().all(Service::is_ready);
                out.push(Action::Answer(ask, Answer::Ready(ready, self.status_line())));
            }
            Command::Stop { signal, wait: true } => self.stop(now, signal, Some(ask), out),
            Command::Stop { signal, wait: false } => {
                self.stop(now, signal, None, out);
                out.push(Action::Answer(ask, Answer::Done("stopping".into())));
            }
            Command::Options { service } => {
                let answer = self.asked_for_options(service.as_deref());
                out.push(Action::Answer(ask, answer.unwrap_or_else(Answer::Refused)));
            }
            Command::Scale { service, number } => {
                let answer = self.asked_to_scale(now, service.as_deref(), &|_| number, out);
                out.push(Action::Answer(ask, answer.unwrap_or_else(Answer::Refused)));
            }
            Command::Step { more } => {
                let answer = self.asked_to_scale(now, None, &|number| stepped(number, more), out);
                out.push(Action::Answer(ask, answer.unwrap_or_else(Answer::Refused)));
            }
            Command::Configure { number, settings } => {
                let answer = self.asked_to_configure(now, number, settings, out);
                out.push(Action::Answer(ask, either(answer)));
            }
            Command::Signal { service, signals } => {
                let answer = self.asked_to_signal(service.as_deref(), &signals, out);
                out.push(Action::Answer(ask, either(answer)));
            }
            Command::Restart { service, slot } => {
                let begun = self.asked_to_restart(now, ask, service.as_deref(), slot, out);
                out.extend(begun.err().map(|message| Action::Answer(ask, Answer::Refused(message))));
            }
            Command::Upgrade { service, strategy, timeout_ns, wait } => {
                let begun = self.asked_to_upgrade(now, ask, service.as_deref(), (strategy, timeout_ns), wait, out);
                out.extend(begun.err().map(|message| Action::Answer(ask, Answer::Refused(message))));
            }
            Command::Reload { service } => {
                let begun = self.asked_to_reload(now, ask, service.as_deref(), out);
                out.extend(begun.err().map(|message| Action::Answer(ask, Answer::Refused(message))));
            }
            Command::Reexec => {
                let begun = self.asked_to_replace(ask);
                out.extend(begun.err().map(|message| Action::Answer(ask, Answer::Refused(message))));
            }
            Command::ReplaceAndUpgrade { strategy } => {
                let begun = self.replace_and_upgrade(Some(strategy), Some(ask), out);
                out.extend(begun.err().map(|message| Action::Answer(ask, Answer::Refused(message))));
            }
            Command::Promote { service } => {
                let answer = self.asked_to_promote(now, service.as_deref(), out);
                out.push(Action::Answer(ask, either(answer)));
            }
            Command::Rollback { service } => {
                let answer = self.asked_to_roll_back(now, service.as_deref(), out);
                out.push(Action::Answer(ask, either(answer)));
            }
        }
    }

    /// The services that a request means: the named one, or all.
    pub(super) fn meant(&self, name: Option<&str>) -> Result<Vec<usize>, String> {
        let asked_for = || self.services.iter().enumerate().filter(|(_, service)| !service.retired);
        let Some(name) = name else { return Ok(asked_for().map(|(n, _)| n).collect()) };
        match asked_for().find(|(_, service)| service.name == name) {
            Some((n, _)) => Ok(vec![n]),
            None => {
                let names = asked_for().map(|(_, service)| service.name.as_str());
                let hint = nearest(name, names.clone()).or(names.min()).unwrap_or_default();
                Err(format!("no service '{name}' (there is {hint})"))
            }
        }
    }

    pub(super) fn refused_while_stopping(&self) -> Result<(), String> {
        match self.stopping {
            Some(_) => Err("prebind is stopping".into()),
            None => Ok(()),
        }
    }

    fn asked_for_options(&self, service: Option<&str>) -> Result<Answer, String> {
        let [n] = self.meant(service)?[..] else { return Err("which service? (options SERVICE)".into()) };
        let service = &self.services[n];
        Ok(Answer::Options { service: service.id, number: service.number })
    }

    fn asked_to_scale(
        &mut self,
        now: Nanos,
        service: Option<&str>,
        wanted: &dyn Fn(u32) -> u32,
        out: &mut Vec<Action>,
    ) -> Result<Answer, String> {
        self.refused_while_stopping()?;
        let [n] = self.meant(service)?[..] else { return Err("which service? (scale SERVICE N)".into()) };
        if self.services[n].per_connection() {
            return Err(format!("{} starts one worker for each connection", self.services[n].name));
        }
        let from = self.services[n].number;
        let to = wanted(from);
        if to > NUMBER_MAX {
            return Err(format!("{to} workers are too many (at most {NUMBER_MAX})"));
        }
        if to > 1 && self.services[n].policy.singleton {
            return Err(format!("{} is a singleton: one worker at most", self.services[n].name));
        }
        self.scale(now, n, to, out);
        Ok(Answer::Scaled { service: self.services[n].id, from, to })
    }

    fn asked_to_configure(
        &mut self,
        now: Nanos,
        number: Option<u32>,
        settings: Settings,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        if let Some(number) = number {
            self.asked_to_scale(now, None, &|_| number, out)?;
        }
        self.services.iter_mut().for_each(|service| service.configure(settings));
        Ok("configured".into())
    }

    /// Another number of workers: more slots are due, surplus ones are told to stop.
    pub(super) fn scale(&mut self, now: Nanos, n: usize, number: u32, out: &mut Vec<Action>) {
        let service = &mut self.services[n];
        if service.number == number {
            return;
        }
        let (id, from) = (service.id, service.number);
        out.push(Action::Report(Happening::Scaled { service: id, from, to: number }));
        // Whoever changes the number is there to see a worker that cannot be started: no reason to end everything.
        service.first_start = false;
        let surplus = service.resize(number);
        self.shrink_rollout(now, n, out);
        for child in surplus.iter().flat_map(|slot| [slot.holder, slot.successor]).flatten() {
            self.retire(now, child, out);
        }
    }

    /// TTIN, TTOU: one worker more or less of every service, never less than one.
    pub(super) fn step_number(&mut self, now: Nanos, more: bool, out: &mut Vec<Action>) {
        let numbered = |service: &Service| !service.retired && !service.per_connection();
        for n in (0..self.services.len()).filter(|n| numbered(&self.services[*n])).collect::<Vec<_>>() {
            let (number, name) = (self.services[n].number, &self.services[n].name);
            match number {
                1.. if more && self.services[n].policy.singleton => {}
                0 | 1 if !more => {
                    let message = format!("{name}: TTOU would leave no worker (prebindctl stop, or scale 0)");
                    out.push(Action::Report(Happening::Refused(message)));
                }
                _ if more => self.scale(now, n, (number + 1).min(NUMBER_MAX), out),
                _ => self.scale(now, n, number - 1, out),
            }
        }
    }

    fn asked_to_signal(
        &mut self,
        service: Option<&str>,
        signals: &[Signal],
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let meant = self.meant(service)?;
        let workers = self.children.iter().filter(|(_, worker)| worker.has_main());
        let those: Vec<ChildId> = workers
            .filter(|(_, worker)| meant.contains(&usize::from(worker.service.0)))
            .map(|(child, _)| *child)
            .collect();
        let each = signals.iter().flat_map(|signal| those.iter().map(move |child| (child, signal)));
        out.extend(each.map(|(child, signal)| Action::SignalMain(*child, *signal)));
        let words: Vec<String> = signals.iter().map(Signal::to_string).collect();
        let workers = if those.len() == 1 { "worker" } else { "workers" };
        Ok(format!("{} sent to {} {workers}", words.join(", "), those.len()))
    }

    /// One line: how many are ready.
    pub(super) fn status_line(&self) -> String {
        let counts: Vec<String> = self
            .services
            .iter()
            .map(|service| format!("{}: {}/{} ready", service.name, service.ready, service.number))
            .collect();
        let stopping = if self.stopping.is_some() { "; stopping" } else { "" };
        format!("{}{stopping}", counts.join(", "))
    }

    fn phase(&self) -> Phase {
        let upgrading = self.services.iter().any(|service| service.rollout.is_some());
        match (&self.stopping, upgrading, self.all_were_ready) {
            (Some(_), _, _) => Phase::Stopping,
            (None, true, _) => Phase::Upgrading,
            (None, false, true) => Phase::Running,
            (None, false, false) => Phase::Starting,
        }
    }

    /// The state of everything.
    pub(super) fn status(&self, now: Nanos) -> Status {
        let mut services: Vec<ServiceStatus> = self.services.iter().map(|service| empty_status(now, service)).collect();
        for (child, worker) in &self.children {
            let service = &self.services[usize::from(worker.service.0)];
            let last_exit = service.slots.get(worker.slot as usize).and_then(|slot| slot.last_exit);
            services[usize::from(worker.service.0)].workers.push(WorkerStatus {
                slot: worker.slot,
                child: Some(*child),
                generation: worker.generation,
                state: worker.word(),
                age_ns: now.saturating_sub(worker.born_at),
                status: worker.status.as_deref().unwrap_or_default().to_string(),
                index: worker.index,
                told: worker.told.as_ref().map(|told| told.signals.clone()).unwrap_or_default(),
                told_ago: worker.told.as_ref().map(|told| now.saturating_sub(told.at)),
                next_try_ns: None,
                last_exit: last_exit.map(|(how, at)| (how, now.saturating_sub(at))),
            });
        }
        for service in &mut services {
            service.workers.sort_by_key(|worker| (worker.slot, worker.child));
        }
        Status { phase: self.phase(), services }
    }
}

/// A service's status with a row for each slot that waits for a worker.
fn empty_status(now: Nanos, service: &Service) -> ServiceStatus {
    let waiting = (0..).zip(&service.slots).filter(|(_, slot)| slot.holder.is_none()).filter_map(|(number, slot)| {
        let next_try_ns = match slot.pending {
            Pending::Waiting { until } => Some(until.saturating_sub(now)),
            Pending::Due => Some(0),
            Pending::Behind { decided: true, .. } => Some(0),
            Pending::Behind { decided: false, .. } | Pending::Nothing | Pending::Over => return None,
        };
        let last_exit = slot.last_exit.map(|(how, at)| (how, now.saturating_sub(at)));
        Some(WorkerStatus {
            slot: number,
            child: None,
            generation: service.generation,
            state: "waiting",
            age_ns: last_exit.map_or(0, |(_, ago)| ago),
            status: String::new(),
            index: 0,
            told: Vec::new(),
            told_ago: None,
            next_try_ns,
            last_exit,
        })
    });
    ServiceStatus {
        service: service.id,
        state: service.state_word(),
        number: service.number,
        ready: service.ready,
        generation: service.generation,
        restarts: service.restarts,
        last_upgrade: service.last_upgrade.clone(),
        deaths: service.slots.iter().map(|slot| slot.deaths).max().unwrap_or(0),
        settings: service.settings(),
        workers: waiting.collect(),
    }
}

/// One more or one less, but never none.
fn stepped(number: u32, more: bool) -> u32 {
    match number {
        _ if more => number + 1,
        0 | 1 => number,
        _ => number - 1,
    }
}

fn either(answer: Result<String, String>) -> Answer {
    match answer {
        Ok(message) => Answer::Done(message),
        Err(message) => Answer::Refused(message),
    }
}
