//! Ways out: a worker that is told to stop, one that ended, what it leaves behind, and the end of everything.

use super::planted::{self, Bug};
use super::remains::Remains;
use super::upgrade::Failure;
use super::worker::{State, Worker};
use super::{Action, Answer, AskId, ChildId, Ended, Happening, Next, RunResult, Supervisor, Told, Upward};
use crate::exit::Exit;
use crate::plan::{KillMode, Late, Nanos, SECOND, ServiceId, Signal};
use serde::{Deserialize, Serialize};

/// The first look whether a dead worker's group is gone; the pauses double from here to [`LOOK_MAX_NS`].
const LOOK_FIRST_NS: Nanos = SECOND / 200;
const LOOK_MAX_NS: Nanos = SECOND;
/// How long to look after SIGKILL for processes that it does not end.
const GIVE_UP_NS: Nanos = 5 * SECOND;

/// Everything is on the way out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stop {
    /// What prebind ends with.
    exit: Exit,
    /// The `stop` requests that wait for the end.
    asks: Vec<AskId>,
    /// An interrupt was seen: the next one kills.
    interrupted: bool,
    /// When it began.
    #[serde(default)]
    pub(super) since: Nanos,
    /// What workers left, once they are gone.
    #[serde(default)]
    pub(super) remains: Option<Remains>,
}

impl Supervisor {
    /// The end of everything begins. `signal`: instead of each service's stop signal.
    pub(super) fn begin_stop(&mut self, now: Nanos, exit: Exit, signal: Option<Signal>, out: &mut Vec<Action>) {
        debug_assert!(self.stopping.is_none());
        self.stopping = Some(Stop { exit, asks: Vec::new(), interrupted: false, since: now, remains: None });
        out.push(Action::Report(Happening::Stopping));
        out.push(Action::Upward(Upward::Stopping));
        if self.replacing.is_some() {
            self.replace_failed("prebind is stopping", out);
        }
        for n in 0..self.services.len() {
            self.halt_rollout(now, n, "prebind is stopping", out);
            self.services[n].clear_pending();
        }
        let running: Vec<ChildId> = self.running().collect();
        for child in running {
            self.release(child);
            let drains = self.service(self.children[&child].service).policy.drain_delay_ns.is_some();
            if drains && signal.is_none() && exit == Exit::Done {
                self.retire(now, child, out);
            } else {
                self.tell_to_stop(now, child, signal, out);
            }
        }
    }

    /// A signal to prebind.
    pub(super) fn told(&mut self, now: Nanos, told: Told, out: &mut Vec<Action>) {
        match told {
            Told::Stop => self.stop(now, None, None, out),
            Told::Quit => self.stop(now, Some(Signal::QUIT), None, out),
            Told::Interrupt => self.interrupt(now, out),
            Told::StopWith(signal) => self.stop(now, Some(signal), None, out),
            Told::Abandon(signal) => self.abandon(signal, out),
            // While it is stopping there is nothing left to upgrade.
            Told::Upgrade => drop(self.replace_and_upgrade(None, None, out)),
            Told::More | Told::Fewer if self.stopping.is_none() => self.step_number(now, told == Told::More, out),
            Told::More | Told::Fewer => {}
            Told::Forward(signal) => self.forward(signal, out),
        }
    }

    /// Stops everything, or, when that is under way already, joins it.
    pub(super) fn stop(&mut self, now: Nanos, signal: Option<Signal>, ask: Option<AskId>, out: &mut Vec<Action>) {
        if self.stopping.is_none() {
            self.begin_stop(now, Exit::Done, signal, out);
        } else {
            self.hasten(now, signal, out);
        }
        match &mut self.stopping {
            Some(stop) if self.ended.is_none() => stop.asks.extend(ask),
            Some(_) | None => out.extend(ask.map(|ask| Action::Answer(ask, Answer::Done("stopped".into())))),
        }
    }

    /// Told again: no `--drain-delay` any more; another signal is passed on.
    fn hasten(&mut self, now: Nanos, signal: Option<Signal>, out: &mut Vec<Action>) {
        let untold = |worker: &Worker| matches!(worker.state, State::Stopping { told: None, .. });
        let untold: Vec<ChildId> =
            self.children.iter().filter(|(_, worker)| untold(worker)).map(|(child, _)| *child).collect();
        for child in untold {
            self.tell_to_stop(now, child, signal, out);
        }
        self.kill_remains(now, out);
        if let Some(signal) = signal {
            for (child, worker) in self.children.iter_mut().filter(|(_, worker)| worker.has_main()) {
                worker.note_told(now, signal);
                out.push(Action::Report(Happening::ToldToStop(worker.who(*child), signal)));
                out.push(Action::SignalMain(*child, signal));
            }
        }
    }

    /// einhorn's QUIT: the workers are told, and nobody waits for them.
    fn abandon(&mut self, signal: Signal, out: &mut Vec<Action>) {
        let alive = self.children.iter().filter(|(_, worker)| worker.has_main());
        out.extend(alive.map(|(child, _)| Action::SignalMain(*child, signal)));
        self.ended = Some(Exit::Failed);
        self.ping_at = None;
    }

    fn interrupt(&mut self, now: Nanos, out: &mut Vec<Action>) {
        if !self.stopping.as_ref().is_some_and(|stop| stop.interrupted) {
            self.stop(now, None, None, out);
            if let Some(stop) = &mut self.stopping {
                stop.interrupted = true;
            }
            return;
        }
        if let Some(stop) = &mut self.stopping {
            stop.exit = Exit::Failed;
        }
        let all: Vec<ChildId> = self.children.keys().copied().collect();
        for child in all {
            self.kill(now, child, out);
        }
        self.kill_remains(now, out);
    }

    /// Asks a worker to stop, with its service's stop signal or another one. It must be out of its slot.
    pub(super) fn tell_to_stop(&mut self, now: Nanos, child: ChildId, signal: Option<Signal>, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        let policy = &self.service(worker.service).policy;
        let by_watchdog = policy.unit.as_ref().filter(|unit| Some(unit.kill.watchdog_signal) == signal);
        let patience_ns = by_watchdog.and_then(|unit| unit.kill.abort_timeout_ns).unwrap_or(policy.stop_timeout_ns);
        let patience_until = Some(now.saturating_add(patience_ns));
        let signal = signal.unwrap_or(policy.stop_signal);
        let who = worker.who(child);
        if self.asks_first(now, child, out) || self.let_alone(now, child, out) {
            return;
        }
        out.push(Action::Report(Happening::ToldToStop(who, signal)));
        self.signal_stop(child, signal, out);
        let patience_until = if planted::is(Bug::NeverKilled) { None } else { patience_until };
        if let Some(worker) = self.children.get_mut(&child) {
            worker.note_told(now, signal);
        }
        self.set_state(child, State::Stopping { told: Some(signal), patience_until });
    }

    /// `KillMode=none`: nobody is told. True: it is of that kind.
    fn let_alone(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) -> bool {
        let unit = &self.service(self.children[&child].service).policy.unit;
        let alone = unit.as_ref().is_some_and(|unit| unit.kill.mode == KillMode::None);
        if alone {
            self.let_go(now, child, out);
        }
        alone
    }

    /// What does not end by itself is not prebind's any more: it lives on, and ExecStopPost= runs.
    fn let_go(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let run = self.run_mut(child);
        (run.main, run.step) = (false, None);
        let cleaned = run.cleaned;
        if cleaned || matches!(self.children[&child].state, State::Cleaning { .. }) {
            self.gone(now, child, out);
        } else {
            self.clean_up(now, child, 0, out);
        }
    }

    /// Nothing helps against what is left of it.
    fn given_up(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        match self.run_of(child) {
            Some(run) if !run.cleaned => self.clean_up(now, child, 0, out),
            Some(_) | None => self.gone(now, child, out),
        }
    }

    /// The stop signal to whom it is meant for.
    fn signal_stop(&self, child: ChildId, signal: Signal, out: &mut Vec<Action>) {
        let worker = &self.children[&child];
        let policy = &self.service(worker.service).policy;
        let Some(unit) = &policy.unit else {
            return out.push(match policy.stops_group {
                true => Action::SignalGroup(child, signal),
                false => Action::SignalMain(child, signal),
            });
        };
        let step = worker.run.as_ref().is_some_and(|run| run.step.is_some());
        let more = unit.kill.hup_too.then_some(Signal::HUP);
        // Who is stopped is to hear it (systemd.kill(5)).
        let wakes = matches!(signal, Signal::TERM | Signal::HUP).then_some(Signal::CONT);
        for signal in [Some(signal), more, wakes].into_iter().flatten() {
            match unit.kill.mode {
                KillMode::Group => out.push(Action::SignalGroup(child, signal)),
                KillMode::Mixed | KillMode::Process if worker.has_main() => {
                    out.push(Action::SignalMain(child, signal));
                }
                KillMode::Mixed | KillMode::Process | KillMode::None => {}
            }
            if step && unit.kill.mode != KillMode::Group && unit.kill.mode != KillMode::None {
                out.push(Action::SignalStep(child, signal));
            }
        }
    }

    /// A stopping worker's patience is over: it is told, or, if it was told, killed.
    pub(super) fn patience_over(&mut self, now: Nanos, child: ChildId, told: Option<Signal>, out: &mut Vec<Action>) {
        match told {
            // A unit that said so itself is not told again (systemd.service(5)).
            None if self.run_of(child).is_some() => self.too_late(now, child, Signal::KILL, out),
            None => self.tell_to_stop(now, child, None, out),
            Some(signal) => self.too_late(now, child, signal, out),
        }
    }

    /// It did not stop in time: killed, or, as its unit says, aborted before that.
    fn too_late(&mut self, now: Nanos, child: ChildId, told: Signal, out: &mut Vec<Action>) {
        if self.run_of(child).is_some() {
            let kill = self.unit_of(child).kill;
            self.run_mut(child).note(RunResult::Timeout);
            if kill.stop_late == Late::Abort && told != kill.watchdog_signal {
                return self.tell_to_stop(now, child, Some(kill.watchdog_signal), out);
            }
        }
        self.kill(now, child, out);
    }

    pub(super) fn kill(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        let state = match worker.state {
            State::Lingering { look_at, pause_ns, give_up_at, .. } => {
                let give_up_at = give_up_at.or(Some(now + GIVE_UP_NS));
                State::Lingering { told: true, kill_at: None, look_at, pause_ns, give_up_at }
            }
            State::Cleaning { .. } => State::Cleaning { deadline: None },
            State::Preparing { .. } | State::Starting { .. } | State::Posting { .. } | State::Ready { .. } => {
                State::Stopping { told: Some(Signal::KILL), patience_until: None }
            }
            State::Asked { .. } | State::Stopping { .. } => {
                State::Stopping { told: Some(Signal::KILL), patience_until: None }
            }
        };
        let last = self.service(worker.service).policy.unit.as_ref().map(|unit| unit.kill);
        if last.is_some_and(|kill| !kill.kill) {
            return self.let_go(now, child, out);
        }
        out.push(Action::Report(Happening::Killed(worker.who(child))));
        match last {
            Some(kill) if kill.mode == KillMode::Process => {
                out.push(Action::SignalMain(child, kill.final_signal));
                out.push(Action::SignalStep(child, Signal::KILL));
            }
            Some(kill) => out.push(Action::SignalGroup(child, kill.final_signal)),
            None => out.push(Action::SignalGroup(child, Signal::KILL)),
        }
        self.set_state(child, state);
    }

    /// A child's main process ended.
    pub(super) fn exited(
        &mut self,
        now: Nanos,
        child: ChildId,
        how: Ended,
        group_left: bool,
        foreground: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.children.get(&child) else { return };
        if worker.run.is_some() {
            return self.unit_exited(now, child, how, group_left, out);
        }
        let (who, id, was_ready) = (worker.who(child), worker.service, worker.ready_since().is_some());
        let killed = matches!(worker.state, State::Stopping { told: Some(Signal::KILL), .. });
        let unexpected = !matches!(worker.state, State::Stopping { told: Some(_), .. });
        if planted::is(Bug::ExitOverlooked) && !unexpected {
            return;
        }
        let mut alone = false;
        if let Some(slot) = self.service_mut(id).slots.get_mut(who.slot as usize) {
            slot.last_exit = Some((how, now));
            alone = slot.holder == Some(child) && slot.successor.is_none();
        }
        let next = if unexpected && alone && self.is_over(id, how, foreground) {
            self.slot_over(id, child, how);
            Next::Nothing
        } else if unexpected {
            self.leave_slot(now, child, &Failure::ended(how), out)
        } else {
            Next::Nothing
        };
        if self.stopping.is_some() && self.service(id).policy.stop_passes_code {
            self.note_exit(id, how);
        }
        out.push(Action::Report(Happening::Exited { who, how, unexpected, was_ready, next }));
        if group_left && !planted::is(Bug::LeftoversIgnored) {
            self.linger(now, child, killed, out);
        } else {
            self.gone(now, child, out);
        }
        if planted::is(Bug::SignalledWhenGone) && !group_left {
            out.push(Action::SignalMain(child, Signal::TERM));
        }
        if foreground && unexpected && self.stopping.is_none() && user_ended(how) {
            self.begin_stop(now, Exit::Done, None, out);
        }
    }

    /// The slot's worker ended and is not started again.
    fn slot_over(&mut self, id: ServiceId, child: ChildId, how: Ended) {
        let slot = self.children[&child].slot;
        self.release(child);
        self.service_mut(id).set_pending(slot, super::slot::Pending::Over);
        self.note_exit(id, how);
    }

    /// Others that it started live on: no orphan goes on serving old code.
    pub(super) fn linger(&mut self, now: Nanos, child: ChildId, killed: bool, out: &mut Vec<Action>) {
        let worker = &self.children[&child];
        let policy = &self.service(worker.service).policy;
        let last = policy.unit.as_ref().map_or(Signal::KILL, |unit| unit.kill.final_signal);
        let signal = if killed { last } else { policy.stop_signal };
        let kill_at = (!killed).then(|| now.saturating_add(policy.stop_timeout_ns));
        out.push(Action::Report(Happening::Leftovers(worker.who(child), signal)));
        out.push(Action::SignalGroup(child, signal));
        self.set_state(
            child,
            State::Lingering {
                told: true,
                kill_at,
                look_at: now + LOOK_FIRST_NS,
                pause_ns: LOOK_FIRST_NS,
                give_up_at: killed.then_some(now + GIVE_UP_NS),
            },
        );
    }

    /// The same where nobody may be left: who is there at the next look is told. `killed`: with the last signal.
    pub(super) fn linger_unseen(&mut self, now: Nanos, child: ChildId, killed: bool) {
        let (look_at, give_up_at) = (now + LOOK_FIRST_NS, killed.then_some(now + GIVE_UP_NS));
        let state = State::Lingering { told: false, kill_at: None, look_at, pause_ns: LOOK_FIRST_NS, give_up_at };
        self.set_state(child, state);
    }

    /// A deadline of a lingering group.
    pub(super) fn look_again(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let State::Lingering { told, kill_at, look_at, pause_ns, give_up_at } = self.children[&child].state else {
            return;
        };
        if !told && look_at <= now {
            self.linger(now, child, give_up_at.is_some(), out);
            return;
        }
        if give_up_at.is_some_and(|at| at <= now) {
            self.given_up(now, child, out);
            return;
        }
        if kill_at.is_some_and(|at| at <= now) {
            let worker = self.children.get_mut(&child).filter(|worker| worker.told.is_none());
            if let Some(run) = worker.and_then(|worker| worker.run.as_deref_mut()) {
                run.note(RunResult::Timeout);
            }
            self.kill(now, child, out);
            return;
        }
        if look_at <= now {
            let pause_ns = (pause_ns * 2).min(LOOK_MAX_NS);
            self.set_state(child, State::Lingering { told, kill_at, look_at: now + pause_ns, pause_ns, give_up_at });
            out.push(Action::LookGroup(child));
        }
    }

    /// Whether it is all over: stopped, or every slot of every service is.
    pub(super) fn notice_end(&mut self, now: Nanos, out: &mut Vec<Action>) {
        let mut asked_for = self.services.iter().filter(|service| !service.retired);
        if self.stopping.is_none() && asked_for.all(super::service::Service::is_finished) {
            self.begin_stop(now, self.noted_exit(|_| true), None, out);
        }
        if !self.children.is_empty() || self.stopping.is_none() || !self.nothing_remains(out) {
            return;
        }
        let noted = self.noted_exit(|service| service.policy.stop_passes_code);
        let Some(stop) = &mut self.stopping else { return };
        if stop.exit == Exit::Done {
            stop.exit = noted;
        }
        for ask in stop.asks.drain(..) {
            out.push(Action::Answer(ask, Answer::Done("stopped".into())));
        }
        out.push(Action::Report(Happening::Stopped));
        self.ended = Some(stop.exit);
        self.ping_at = None;
    }

    /// The children that hold or will hold a slot.
    pub(super) fn running(&self) -> impl Iterator<Item = ChildId> {
        self.children.iter().filter(|(_, worker)| worker.runs()).map(|(child, _)| *child)
    }
}

/// How a worker in the terminal's foreground ends when its user is done with it: it alone saw the ^C.
fn user_ended(how: Ended) -> bool {
    match how {
        Ended::Signal(signal) | Ended::Dumped(signal) => signal == Signal::INT || signal == Signal::QUIT,
        Ended::Code(code) => code == 130,
        Ended::Unseen => false,
    }
}
