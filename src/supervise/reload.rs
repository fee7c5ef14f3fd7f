//! Workers that read their configuration again: by ExecReload=, or by a signal and a word (`Type=notify-reload`). Where a
//! service has neither, a reload is an upgrade.

use super::asks::Ask;
use super::{Action, AskId, ChildId, Happening, Supervisor, UnitHappening};
use crate::notify::Note;
use crate::plan::{Nanos, Reload, Signal, Step};
use serde::{Deserialize, Serialize};

/// A reload of one worker under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reloading {
    /// Failed then.
    pub(super) deadline: Nanos,
    /// When the signal was sent: a word that is older is not about it.
    told_at: Nanos,
    /// RELOADING=1 came.
    said: bool,
    /// READY=1 after it: nothing more is to be heard from it. From the start where there is only ExecReload=.
    heard: bool,
}

/// A reload of a service that somebody waits for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reloads {
    left: Vec<ChildId>,
    failed: u32,
    of: usize,
    asks: Vec<AskId>,
}

impl Supervisor {
    pub(super) fn asked_to_reload(
        &mut self,
        now: Nanos,
        id: AskId,
        service: Option<&str>,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        self.refused_while_stopping()?;
        let meant = self.meant(service)?;
        if let Some(n) = meant.iter().find(|n| self.services[**n].reloads.is_some()) {
            return Err(format!("{}: a reload is under way", self.services[*n].name));
        }
        self.open_ask(id, meant.len());
        for n in meant {
            let policy = &self.services[n].policy;
            let how = policy.unit.as_ref().map_or(Reload::None, |unit| unit.reload);
            if let (None, Some(signal)) = (&policy.unit, policy.reload_signal) {
                self.signal_reload(n, signal, id, out);
            } else if how == Reload::None {
                let ask = Ask { id, drained: false };
                self.begin_upgrade(now, n, None, None, vec![ask], out);
            } else {
                self.begin_reload(now, n, how, id, out);
            }
        }
        Ok(())
    }

    /// A signal to each worker that serves: it says nothing of what came of it.
    fn signal_reload(&mut self, n: usize, signal: Signal, id: AskId, out: &mut Vec<Action>) {
        let own = self.children.iter().filter(|(_, worker)| usize::from(worker.service.0) == n);
        let ready: Vec<ChildId> =
            own.filter(|(_, worker)| worker.ready_since().is_some()).map(|(child, _)| *child).collect();
        out.extend(ready.iter().map(|child| Action::SignalMain(*child, signal)));
        let line = format!("{}: {signal} sent to {}", self.services[n].name, ready.len());
        self.settle_ask(id, true, &line, out);
    }

    fn begin_reload(&mut self, now: Nanos, n: usize, how: Reload, id: AskId, out: &mut Vec<Action>) {
        let own = self.children.iter().filter(|(_, worker)| usize::from(worker.service.0) == n);
        let ready = own.filter(|(_, worker)| worker.ready_since().is_some());
        // Who has not come to the end of the last reload does not begin another one.
        let busy = |child: &ChildId| self.run_of(*child).is_some_and(|run| run.step.is_some());
        let (busy, those): (Vec<ChildId>, Vec<ChildId>) = ready.map(|(child, _)| *child).partition(busy);
        let failed = busy.len() as u32;
        let deadline = now.saturating_add(self.services[n].policy.start_timeout_ns);
        self.services[n].reloads =
            Some(Reloads { left: those.clone(), failed, of: those.len() + busy.len(), asks: vec![id] });
        for child in those {
            out.push(Action::Report(Happening::Unit(UnitHappening::Reloading(self.children[&child].who(child)))));
            let heard = !matches!(how, Reload::Notify(_));
            self.run_mut(child).reload = Some(Reloading { deadline, told_at: now, said: false, heard });
            if let Reload::Notify(signal) = how {
                out.push(Action::SignalMain(child, signal));
            }
            if self.unit_of(child).count(Step::Reload) > 0 {
                self.run_step(now, child, Step::Reload, 0, out);
            }
        }
        self.settle_reload(n, out);
    }

    /// A command of ExecReload= ended.
    pub(super) fn reload_step_ended(&mut self, now: Nanos, child: ChildId, at: u16, good: bool, out: &mut Vec<Action>) {
        let worker = &self.children[&child];
        let count = self.service(worker.service).unit().count(Step::Reload);
        let Some(reload) = worker.run.as_ref().and_then(|run| run.reload.as_ref()) else { return };
        match (good, reload.heard) {
            (true, _) if at + 1 < count => self.run_step(now, child, Step::Reload, at + 1, out),
            // READY=1 is still to come.
            (true, false) => {}
            (true, true) | (false, _) => self.reload_ended(child, good, out),
        }
    }

    /// What a worker says of its reload.
    pub(super) fn reload_said(&mut self, child: ChildId, note: &Note, out: &mut Vec<Action>) {
        let Some(run) = self.children.get_mut(&child).and_then(|worker| worker.run.as_deref_mut()) else { return };
        let Some(reload) = &mut run.reload else { return };
        // Without a time the word may be about anything: it does not count (systemd.service(5), notify-reload).
        let is_about_it = note.monotonic_usec.is_some_and(|usec| usec.saturating_mul(1000) >= reload.told_at);
        reload.said |= note.reloading && is_about_it;
        reload.heard |= reload.said && note.ready;
        if reload.heard && run.step.is_none() {
            self.reload_ended(child, true, out);
        }
    }

    /// A worker's reload is over, well or not; also because the worker is.
    pub(super) fn reload_ended(&mut self, child: ChildId, good: bool, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get_mut(&child) else { return };
        let Some(_) = worker.run.as_mut().and_then(|run| run.reload.take()) else { return };
        let (who, n) = (worker.who(child), usize::from(worker.service.0));
        out.push(Action::Report(Happening::Unit(UnitHappening::Reloaded(who, good))));
        if let Some(reloads) = &mut self.services[n].reloads {
            reloads.left.retain(|one| *one != child);
            reloads.failed += u32::from(!good);
        }
        self.settle_reload(n, out);
    }

    fn settle_reload(&mut self, n: usize, out: &mut Vec<Action>) {
        let service = &mut self.services[n];
        let Some(reloads) = service.reloads.take_if(|reloads| reloads.left.is_empty()) else { return };
        let Reloads { failed, of, asks, .. } = reloads;
        let line = match (of, failed) {
            (0, _) => format!("{}: no worker is there to reload", service.name),
            (_, 0) => format!("{}: {of} reloaded", service.name),
            _ => format!("{}: {failed} of {of} did not reload, they serve on", service.name),
        };
        for ask in asks {
            self.settle_ask(ask, failed == 0, &line, out);
        }
    }
}
