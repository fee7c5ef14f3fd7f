//! A worker's way to ready, and what it says of itself meanwhile and after.

use super::planted::{self, Bug};
use super::slot::Pending;
use super::upgrade::Failure;
use super::worker::{Look, State, Worker};
use super::{Accepting, Action, ChildId, Happening, HowReady, RunResult, Supervisor, UnitHappening};
use crate::notify::Note;
use crate::plan::{AckMode, Kind, Late, Nanos, SECOND, Signal};

impl Supervisor {
    /// READY=1 or an ack: counts unless the mode is a time.
    pub(super) fn acked(&mut self, now: Nanos, child: ChildId, how: HowReady, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        let policy = &self.service(worker.service).policy;
        let by_time = matches!(policy.ack, AckMode::After(_));
        // A oneshot and a daemon are ready by how their first process ends, whatever is said meanwhile.
        let by_end = policy.unit.as_ref().is_some_and(|unit| unit.kind != Kind::Simple);
        if matches!(worker.state, State::Starting { .. }) && !by_time && !by_end {
            self.becomes_ready(now, child, how, out);
        } else if how == HowReady::Acked {
            out.push(Action::Report(Happening::AckIgnored(worker.who(child))));
        }
    }

    /// As good as ready: ExecStartPost= of a unit comes before it counts.
    pub(super) fn becomes_ready(&mut self, now: Nanos, child: ChildId, how: HowReady, out: &mut Vec<Action>) {
        if !self.posts(now, child, out) {
            self.is_ready_now(now, child, how, out);
        }
    }

    pub(super) fn is_ready_now(&mut self, now: Nanos, child: ChildId, how: HowReady, out: &mut Vec<Action>) {
        let worker = &self.children[&child];
        let watchdog_at = worker.watchdog_ns.map(|interval| now + interval);
        out.push(Action::Report(Happening::Ready(worker.who(child), how)));
        let (id, slot) = (worker.service, worker.slot);
        self.set_state(child, State::Ready { since: now, watchdog_at });
        self.report_progress(usize::from(id.0), out);
        if self.children[&child].run.is_some() {
            self.unit_is_ready(now, child, out);
        }
        if planted::is(Bug::DoubleStart) && slot < self.service(id).number {
            self.service_mut(id).set_pending(slot, Pending::Due);
        }
    }

    /// A worker would be ready by time: if it has sockets, does it hold one?
    pub(super) fn time_has_come(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let worker = &self.children[&child];
        let look = self.service(worker.service).policy.has_sockets && !planted::is(Bug::SocketsNotLookedAt);
        if let (true, State::Starting { deadline, look, .. }) = (look, &worker.state) {
            let (deadline, look) = (*deadline, *look);
            self.set_state(child, starting(None, deadline, look));
            out.push(Action::LookSockets(child));
        } else {
            self.becomes_ready(now, child, HowReady::Time, out);
        }
    }

    /// The answer to that.
    pub(super) fn sockets_seen(&mut self, now: Nanos, child: ChildId, holds: bool, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        if !matches!(worker.state, State::Starting { .. }) {
            return;
        }
        if holds {
            self.becomes_ready(now, child, HowReady::Time, out);
        } else {
            out.push(Action::Report(Happening::HoldsNoSocket(worker.who(child))));
            let state = State::Starting { ready_at: None, deadline: None, look: None, socketless: true };
            self.set_state(child, state);
            if self.is_successor(child) {
                self.leave_slot(now, child, &Failure::fatal("holds none of its sockets"), out);
                self.tell_to_stop(now, child, None, out);
            }
        }
    }

    /// Whether a worker that is starting waits on its listening sockets.
    pub(super) fn accepting_seen(&mut self, now: Nanos, child: ChildId, seen: Accepting, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        let State::Starting { ready_at, deadline, look: Some(look), socketless } = worker.state else { return };
        let grace_over_at = worker.born_at + AckMode::GRACE_NS;
        let seen = if planted::is(Bug::NoneIsEach) { Accepting::Each } else { seen };
        match seen {
            Accepting::Each => self.becomes_ready(now, child, HowReady::Accepts, out),
            // It does not use the others: nothing more is to be waited for.
            Accepting::Some if now >= grace_over_at => self.becomes_ready(now, child, HowReady::Accepts, out),
            Accepting::Some | Accepting::None => {
                let look = Some(look.next(now));
                self.set_state(child, State::Starting { ready_at, deadline, look, socketless });
            }
            Accepting::Unknown => {
                let ready_at = Some(grace_over_at.max(now));
                self.set_state(child, State::Starting { ready_at, deadline, look: None, socketless });
            }
        }
    }

    /// Whether its main process is looked for.
    pub(super) fn is_finding(&self, child: ChildId) -> bool {
        self.run_of(child).is_some_and(|run| run.finding)
    }

    /// A worker is as old as it may be: a successor takes its slot over. If that fails it serves on, and another is tried
    /// later; while others are replaced it waits for its turn, and the oldest of those that wait is the next.
    pub(super) fn expired(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get_mut(&child) else { return };
        (worker.overdue, worker.expires_at) = (true, Some(now + SECOND));
        let n = usize::from(worker.service.0);
        if self.services[n].rollout.is_some() || self.stopping.is_some() {
            return;
        }
        let id = self.services[n].id;
        let waits =
            |worker: &Worker| worker.service == id && worker.overdue && matches!(worker.state, State::Ready { .. });
        let Some((oldest, worker)) = self.children.iter_mut().find(|(_, worker)| waits(worker)) else { return };
        (worker.overdue, worker.expires_at) = (false, self.services[n].policy.expires_at(now, *oldest));
        let slot = worker.slot;
        self.begin_restart(now, n, Some(slot), None, out);
    }

    /// A worker that is ready was so for as long as it may, or its reload takes too long.
    pub(super) fn ready_overdue(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let run = self.run_mut(child);
        if run.reload.as_ref().is_some_and(|reload| reload.deadline <= now) {
            if run.step.is_some() {
                out.push(Action::SignalStep(child, Signal::KILL));
            }
            self.reload_ended(child, false, out);
        }
        if let Some(look) = self.run_mut(child).headless.filter(|look| look.at <= now) {
            self.run_mut(child).headless = Some(look.next(now));
            out.push(Action::LookGroup(child));
        }
        let run = self.run_mut(child);
        if run.runtime_until.is_some_and(|until| until <= now) {
            run.note(RunResult::Timeout);
            out.push(Action::Report(Happening::Unit(UnitHappening::RuntimeOver(self.children[&child].who(child)))));
            self.leave_slot(now, child, &Failure::retry("was ready for as long as it may be"), out);
            self.tell_to_stop(now, child, None, out);
        }
    }

    pub(super) fn start_timed_out(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        if self.run_of(child).is_some() {
            self.run_mut(child).note(RunResult::Timeout);
        }
        let who = self.children[&child].who(child);
        out.push(Action::Report(Happening::StartTimeout(who)));
        self.leave_slot(now, child, &Failure::fatal("was not ready in time"), out);
        self.stop_late_starter(now, child, out);
    }

    /// What did not start in time is stopped, a unit as it says.
    pub(super) fn stop_late_starter(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let unit = self.service(self.children[&child].service).policy.unit.as_ref();
        let kill = unit.map(|unit| unit.kill).unwrap_or_default();
        match kill.start_late {
            Late::Terminate => self.tell_to_stop(now, child, None, out),
            Late::Abort => self.tell_to_stop(now, child, Some(kill.watchdog_signal), out),
            Late::Kill => self.kill(now, child, out),
        }
    }

    pub(super) fn watchdog_missed(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        if planted::is(Bug::WatchdogIgnored) {
            self.set_state(child, State::Ready { since: now, watchdog_at: None });
            return;
        }
        let who = self.children[&child].who(child);
        let mut signal = Signal::ABRT;
        if self.run_of(child).is_some() {
            signal = self.service(who.service).unit().kill.watchdog_signal;
            let run = self.run_mut(child);
            run.note(RunResult::Watchdog);
            run.stop_done = true;
        }
        out.push(Action::Report(Happening::WatchdogMissed(who)));
        self.leave_slot(now, child, &Failure::retry("failed its watchdog"), out);
        self.tell_to_stop(now, child, Some(signal), out);
    }

    /// What a worker said on the notify socket.
    pub(super) fn said(&mut self, now: Nanos, child: ChildId, note: &Note, out: &mut Vec<Action>) {
        self.reload_said(child, note, out);
        let Some(worker) = self.children.get_mut(&child) else { return };
        if let Some(status) = &note.status {
            worker.status = if status.is_empty() { None } else { Some(status.as_str().into()) };
        }
        if let Some(usec) = note.watchdog_usec {
            worker.watchdog_ns = (usec > 0).then(|| usec.saturating_mul(1000));
        }
        if note.watchdog || note.watchdog_usec.is_some() {
            let interval = worker.watchdog_ns;
            if let State::Ready { watchdog_at, .. } = &mut worker.state {
                *watchdog_at = interval.map(|interval| now.saturating_add(interval));
            }
        }
        if let Some(usec) = note.extend_timeout_usec {
            worker.extend(now.saturating_add(usec.saturating_mul(1000)));
        }
        let running = worker.runs();
        if note.stopping && running {
            self.stops_by_itself(now, child, out);
        } else if note.ready {
            self.acked(now, child, HowReady::Notified, out);
        }
        if note.watchdog_trigger && matches!(self.children.get(&child), Some(Worker { state: State::Ready { .. }, .. }))
        {
            self.watchdog_missed(now, child, out);
        }
    }

    /// Whether it waits for the slot of a worker that serves.
    fn is_successor(&self, child: ChildId) -> bool {
        let worker = &self.children[&child];
        let slot = self.service(worker.service).slots.get(worker.slot as usize);
        slot.is_some_and(|slot| slot.successor == Some(child))
    }

    fn stops_by_itself(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let worker = &self.children[&child];
        out.push(Action::Report(Happening::SaidStopping(worker.who(child))));
        let patience = self.service(worker.service).policy.stop_timeout_ns;
        if self.run_of(child).is_some() {
            // It is past being asked.
            self.run_mut(child).stop_done = true;
        }
        self.leave_slot(now, child, &Failure::retry("stopped by itself (STOPPING=1)"), out);
        self.set_state(child, State::Stopping { told: None, patience_until: Some(now + patience) });
    }
}

/// A worker that was just started.
pub(super) fn starting(ready_at: Option<Nanos>, deadline: Option<Nanos>, look: Option<Look>) -> State {
    State::Starting { ready_at, deadline, look, socketless: false }
}
