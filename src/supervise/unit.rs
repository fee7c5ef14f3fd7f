//! A unit's worker: the commands around its main process, one after the other, from ExecCondition= to ExecStopPost=, and
//! the main process itself, which may be a sequence (oneshot) or one that the first leaves behind (forking). The order is
//! systemd's; the table of states stands at the top of the room.

use super::planted::{self, Bug};
use super::service::Service;
use super::slot::Pending;
use super::upgrade::Failure;
use super::verdict::{RunResult, UnitPolicy};
use super::worker::{Look, State, Worker, soonest};
use super::{Action, ChildId, Ended, Found, Happening, HowReady, Next, Start, Supervisor};
use crate::exit::Exit;
use crate::plan::{AckMode, KillMode, Kind, Nanos, SECOND, ServiceId, Signal, Step};
use serde::{Deserialize, Serialize};

/// How often a pid file that is not there yet is looked for.
const FIND_PAUSE_NS: Nanos = SECOND / 50;

/// What a worker left behind of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nobody,
    /// To be looked for.
    Perhaps,
    Some,
}

impl Left {
    pub(super) fn seen(left: bool) -> Left {
        if left { Left::Some } else { Left::Nobody }
    }
}

/// What a unit's worker is beside its main process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) start: Start,
    /// There is a main process.
    pub(super) main: bool,
    /// How it ended.
    pub(super) main_ended: Option<Ended>,
    /// The first thing that went wrong.
    pub(super) result: RunResult,
    /// The command that runs around it.
    pub(super) step: Option<(Step, u16)>,
    /// It was ready once: ExecStop= is for those alone.
    pub(super) was_ready: bool,
    /// ExecStop= ran, or is not to.
    pub(super) stop_done: bool,
    /// ExecStopPost= began.
    pub(super) cleaning: bool,
    /// Its first process ended; the main one is looked for.
    pub(super) finding: bool,
    /// It was found, or several could be it.
    pub(super) found: bool,
    /// Nobody knows which process is the main one: it is ready while any is left. When to look, and how long to wait then.
    pub(super) headless: Option<Look>,
    /// ExecStopPost= ended; what is left is done with, then it is gone.
    pub(super) cleaned: bool,
    /// How long it had been ready when it left its slot.
    pub(super) was_ready_ns: Option<Nanos>,
    /// Ready until then at most.
    pub(super) runtime_until: Option<Nanos>,
    /// It reads its configuration again.
    pub(super) reload: Option<super::reload::Reloading>,
    /// Who its connection is from.
    pub(super) source: Option<u64>,
}

impl Run {
    pub(super) fn new(start: Start, source: Option<u64>) -> Run {
        Run {
            start,
            main: false,
            main_ended: None,
            result: RunResult::Success,
            step: None,
            was_ready: false,
            stop_done: false,
            cleaning: false,
            finding: false,
            found: false,
            headless: None,
            cleaned: false,
            was_ready_ns: None,
            runtime_until: None,
            reload: None,
            source,
        }
    }

    /// When a worker that is ready needs a tick for its own sake.
    pub(super) fn ready_deadline(&self) -> Option<Nanos> {
        let own = soonest(self.runtime_until, self.reload.as_ref().map(|reload| reload.deadline));
        soonest(own, self.headless.map(|look| look.at))
    }

    /// The first thing that went wrong counts.
    pub(super) fn note(&mut self, result: RunResult) {
        if self.result == RunResult::Success {
            self.result = result;
        }
    }
}

impl Service {
    pub(super) fn unit(&self) -> &UnitPolicy {
        self.policy.unit.as_deref().expect("a unit's service")
    }

    /// Whether the slot of a worker that is gone is started again, and when.
    fn decide(&mut self, now: Nanos, slot: u32, run: &Run) {
        if !self.unit().starts_again(run.result, run.main_ended) {
            self.set_pending(slot, Pending::Over);
            let exit = if run.result.is_failure() { Exit::Failed } else { Exit::Done };
            if self.exit.is_none_or(|before| before == Exit::Done) {
                self.exit = Some(exit);
            }
            return;
        }
        let place = &mut self.slots[slot as usize];
        if run.was_ready_ns.is_some_and(|ready| ready >= 10 * SECOND) {
            place.deaths = 0;
        }
        let restarts = place.deaths;
        place.deaths = place.deaths.saturating_add(1);
        let wait_ns = self.unit().wait_ns(restarts);
        let until = now.saturating_add(wait_ns);
        self.set_pending(slot, if wait_ns == 0 { Pending::Due } else { Pending::Waiting { until } });
    }

    /// Whether its workers may overlap: a daemon with a pid file is one at a time.
    pub(super) fn overlaps(&self) -> bool {
        self.policy.unit.as_ref().is_none_or(|unit| unit.kind == Kind::Simple)
    }
}

impl Supervisor {
    pub(super) fn run_of(&self, child: ChildId) -> Option<&Run> {
        self.children.get(&child).and_then(|worker| worker.run.as_deref())
    }

    pub(super) fn run_mut(&mut self, child: ChildId) -> &mut Run {
        let worker = self.children.get_mut(&child).expect("it is there");
        worker.run.as_deref_mut().expect("a unit's worker")
    }

    pub(super) fn unit_of(&self, child: ChildId) -> &UnitPolicy {
        self.service(self.children[&child].service).unit()
    }

    /// Starts the main process, or its next part. A oneshot without any is ready.
    pub(super) fn spawn_main(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let worker = &self.children[&child];
        let state = self.starting_state(now, usize::from(worker.service.0), worker.slot, child);
        let nothing = usize::from(self.run_mut(child).start.part) >= self.unit_of(child).parts.len();
        self.set_state(child, state);
        if nothing {
            self.becomes_ready(now, child, HowReady::Ended, out);
            return;
        }
        let run = self.run_mut(child);
        run.main = true;
        out.push(Action::Spawn(run.start));
    }

    /// It is ready: from here on ExecStop= is for it. A oneshot that leaves nothing behind is over.
    pub(super) fn unit_is_ready(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let unit = self.unit_of(child);
        let (max, remain) = (unit.runtime_max_ns, unit.remain);
        let run = self.run_mut(child);
        run.was_ready = true;
        run.runtime_until = max.map(|max| now.saturating_add(max));
        if !run.main && run.headless.is_none() && (!remain || run.result.is_failure()) {
            self.leave_slot(now, child, &Failure::retry("is over"), out);
            self.wind_up(now, child, Left::Perhaps, out);
        }
    }

    /// The main process of a unit's worker ended.
    pub(super) fn unit_exited(&mut self, now: Nanos, child: ChildId, how: Ended, left: bool, out: &mut Vec<Action>) {
        self.counts_as_started(now, child, out);
        let worker = &self.children[&child];
        let (who, service) = (worker.who(child), worker.service);
        let was_ready = self.run_of(child).is_some_and(|run| run.was_ready);
        let (state, notify) = (worker.state.clone(), self.service(service).policy.ack == AckMode::Notify);
        let unit = self.service(service).unit();
        let (kind, remain, parts) = (unit.kind.clone(), unit.remain, unit.parts.len());
        let run = self.run_of(child).expect("a unit's worker");
        let mut result = unit.judge(how, run.start.part);
        let next_part = usize::from(run.start.part) + 1;
        let run = self.run_mut(child);
        // The first process of a daemon is not its main one.
        let first = matches!(kind, Kind::Forking { .. }) && !run.found;
        (run.main, run.main_ended) = (false, (!first).then_some(how));
        if let (State::Starting { .. }, RunResult::Success) = (&state, result) {
            match kind {
                Kind::Oneshot if next_part < parts => {
                    run.start.part += 1;
                    return self.spawn_main(now, child, out);
                }
                Kind::Oneshot => return self.becomes_ready(now, child, HowReady::Ended, out),
                Kind::Forking { .. } => {
                    run.finding = true;
                    return out.push(Action::FindMain(child));
                }
                Kind::Simple if notify => result = RunResult::Protocol,
                Kind::Simple => {}
            }
        }
        run.note(result);
        if matches!(state, State::Ready { .. }) && result == RunResult::Success && remain {
            return out.push(Action::Report(Happening::Exited {
                who,
                how,
                unexpected: false,
                was_ready,
                next: Next::Nothing,
            }));
        }
        if matches!(state, State::Posting { .. }) && run.step.is_some() {
            // ExecStartPost= is not cut short: what comes after it finds that nothing is left to be ready.
            let next = Next::Nothing;
            return out.push(Action::Report(Happening::Exited { who, how, unexpected: true, was_ready, next }));
        }
        let unexpected = !matches!(state, State::Stopping { told: Some(_), .. } | State::Asked { .. });
        if let Some(slot) = self.service_mut(service).slots.get_mut(who.slot as usize) {
            slot.last_exit = Some((how, now));
        }
        let next = if unexpected { self.leave_slot(now, child, &Failure::ended(how), out) } else { Next::Nothing };
        out.push(Action::Report(Happening::Exited { who, how, unexpected, was_ready, next }));
        self.after_main(now, child, Left::seen(left), out);
    }

    /// Who is ready as soon as it runs was so, however short that was.
    fn counts_as_started(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let worker = &self.children[&child];
        let policy = &self.service(worker.service).policy;
        let simple = policy.unit.as_ref().is_some_and(|unit| unit.kind == Kind::Simple);
        if simple && policy.ack == AckMode::After(0) && matches!(worker.state, State::Starting { .. }) {
            self.becomes_ready(now, child, HowReady::Time, out);
        }
    }

    /// Without its main process: a command that runs around it ends first, then what is left is done with.
    fn after_main(&mut self, now: Nanos, child: ChildId, left: Left, out: &mut Vec<Action>) {
        if self.run_mut(child).step.is_none() {
            return self.wind_up(now, child, left, out);
        }
        match self.children[&child].state {
            State::Asked { .. } | State::Stopping { .. } => {}
            _ => {
                out.push(Action::SignalStep(child, Signal::KILL));
                self.set_state(child, State::Stopping { told: Some(Signal::KILL), patience_until: None });
            }
        }
    }

    /// Nothing of the worker runs that it started itself: ExecStop= where it ended well, then what it left behind, then
    /// ExecStopPost=.
    pub(super) fn wind_up(&mut self, now: Nanos, child: ChildId, left: Left, out: &mut Vec<Action>) {
        let stops = self.unit_of(child).count(Step::Stop);
        let run = self.run_mut(child);
        let by_itself = run.result == RunResult::Success && run.was_ready && !run.stop_done;
        if by_itself && stops > 0 {
            run.stop_done = true;
            return self.run_step(now, child, Step::Stop, 0, out);
        }
        if !self.ends_leftovers(now, child, left, out) {
            self.clean_up(now, child, 0, out);
        }
    }

    /// What a unit's worker left behind is told to stop, where its KillMode= says so. False: there is nothing to wait for.
    pub(super) fn ends_leftovers(&mut self, now: Nanos, child: ChildId, left: Left, out: &mut Vec<Action>) -> bool {
        let kill = self.unit_of(child).kill;
        // KillMode=mixed has no stop signal for what is left, only the last one.
        let killed = kill.mode == KillMode::Mixed
            || matches!(self.children[&child].state, State::Stopping { told: Some(Signal::KILL), .. });
        let told = kill.mode == KillMode::Group || kill.mode == KillMode::Mixed;
        if left == Left::Nobody || !told || (killed && !kill.kill) || planted::is(Bug::LeftoversIgnored) {
            return false;
        }
        match left {
            Left::Perhaps => self.linger_unseen(now, child, killed),
            Left::Some | Left::Nobody => self.linger(now, child, killed, out),
        }
        out.push(Action::LookGroup(child));
        true
    }

    /// Nothing is left of a group.
    pub(super) fn group_gone(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        match self.run_of(child) {
            None => self.gone(now, child, out),
            Some(run) => match self.children[&child].state {
                State::Lingering { .. } if run.cleaned => self.gone(now, child, out),
                State::Lingering { .. } => self.clean_up(now, child, 0, out),
                State::Ready { .. } if run.headless.is_some() => self.headless_ended(now, child, out),
                _ => {}
            },
        }
    }

    /// The last process of a worker without a main one is gone.
    fn headless_ended(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        self.run_mut(child).headless = None;
        self.leave_slot(now, child, &Failure::retry("is over"), out);
        self.wind_up(now, child, Left::Nobody, out);
    }

    /// A unit's worker is to stop. True: it is being asked, or there is no process to be told.
    pub(super) fn asks_first(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) -> bool {
        let Some(run) = self.run_of(child) else { return false };
        let (stops, ready) = (self.unit_of(child).count(Step::Stop), run.was_ready && run.main_ended.is_none());
        let (stop_done, stepping) = (run.stop_done, run.step.is_some());
        let stop_ns = self.service(self.children[&child].service).policy.stop_timeout_ns;
        let remains = run.was_ready && !run.main;
        let left = if run.headless.is_some() { Left::Some } else { Left::Perhaps };
        if (ready || remains) && !stop_done && stops > 0 && matches!(self.children[&child].state, State::Ready { .. }) {
            self.run_mut(child).stop_done = true;
            if stepping {
                out.push(Action::SignalStep(child, Signal::KILL));
                self.set_state(child, State::Asked { deadline: now.saturating_add(stop_ns) });
            } else {
                self.run_step(now, child, Step::Stop, 0, out);
            }
            return true;
        }
        self.run_mut(child).stop_done = true;
        if !self.run_mut(child).main && !stepping {
            self.wind_up(now, child, left, out);
            return true;
        }
        false
    }

    /// What was found of the main process that a first one left behind.
    pub(super) fn main_found(&mut self, now: Nanos, child: ChildId, found: Found, out: &mut Vec<Action>) {
        let Some(run) = self.children.get_mut(&child).and_then(|worker| worker.run.as_deref_mut()) else { return };
        if !std::mem::take(&mut run.finding) {
            return;
        }
        let State::Starting { deadline, .. } = self.children[&child].state else { return };
        match found {
            Found::Yes => {
                let run = self.run_mut(child);
                (run.main, run.found) = (true, true);
                self.becomes_ready(now, child, HowReady::Ended, out);
            }
            Found::Several => {
                let run = self.run_mut(child);
                run.found = true;
                run.headless = Some(Look::first(now));
                self.becomes_ready(now, child, HowReady::Ended, out);
            }
            Found::NotYet => {
                self.run_mut(child).finding = true;
                let look = super::worker::Look { at: now + FIND_PAUSE_NS, pause_ns: FIND_PAUSE_NS };
                self.set_state(child, super::ready::starting(None, deadline, Some(look)));
            }
            Found::Nobody => {
                // Where a pid file was to tell, somebody was to be there.
                let named = matches!(self.unit_of(child).kind, Kind::Forking { pidfile: Some(_) });
                let run = self.run_mut(child);
                run.was_ready = !named;
                run.note(if named { RunResult::Protocol } else { RunResult::Success });
                self.leave_slot(now, child, &Failure::retry("left no process behind"), out);
                self.wind_up(now, child, Left::Nobody, out);
            }
        }
    }

    /// A unit's worker left its slot by itself. What becomes of that is decided when it is gone, with all that its commands
    /// may still add; the answer is what it would be now.
    pub(super) fn after_unit(&mut self, id: ServiceId, slot: u32, child: ChildId, was_ready_ns: Option<Nanos>) -> Next {
        let run = self.run_mut(child);
        run.was_ready_ns = was_ready_ns;
        let (result, how) = (run.result, run.main_ended);
        let service = self.service_mut(id);
        let again = service.unit().starts_again(result, how);
        if again && planted::is(Bug::StartedTooSoon) {
            service.set_pending(slot, Pending::Due);
            return Next::Now;
        }
        service.set_pending(slot, Pending::Behind { child, decided: false });
        if again { Next::After(service.unit().wait_ns(service.slots[slot as usize].deaths)) } else { Next::Nothing }
    }

    /// A worker is gone: whoever waits for that goes on.
    pub(super) fn free_slot(&mut self, now: Nanos, child: ChildId, gone: &Worker) {
        let (service, slot) = (self.service_mut(gone.service), gone.slot);
        let Some(place) = service.slots.get(slot as usize) else { return };
        match (place.pending, &gone.run) {
            (Pending::Behind { child: before, .. }, _) if before != child => {}
            (Pending::Behind { decided: true, .. }, _) => service.set_pending(slot, Pending::Due),
            (Pending::Behind { decided: false, .. }, Some(run)) => service.decide(now, slot, run),
            (Pending::Behind { .. } | Pending::Nothing | Pending::Due | Pending::Waiting { .. } | Pending::Over, _) => {
            }
        }
    }

    /// Workers that cannot overlap are replaced one after the other's end. Returns how many.
    pub(super) fn replace_in_place(&mut self, now: Nanos, n: usize, only: Option<u32>, out: &mut Vec<Action>) -> u32 {
        let slots: Vec<(u32, ChildId)> = (0..)
            .zip(&self.services[n].slots)
            .filter(|(number, _)| only.is_none_or(|only| only == *number))
            .filter_map(|(number, slot)| Some((number, slot.holder?)))
            .collect();
        for (number, child) in &slots {
            self.release(*child);
            self.services[n].set_pending(*number, Pending::Behind { child: *child, decided: true });
            self.tell_to_stop(now, *child, None, out);
        }
        slots.len() as u32
    }
}
