//! The commands around a unit's worker: one at a time, those of a step in their order, the steps in systemd's. What each
//! end of one leads to; and what happens where it does not end.

use super::planted::{self, Bug};
use super::unit::Left;
use super::upgrade::Failure;
use super::verdict::RunResult;
use super::worker::State;
use super::{Action, ChildId, Ended, Happening, HowReady, Next, Supervisor, UnitHappening};
use crate::plan::{Nanos, Signal, Step};

impl Supervisor {
    /// The first thing that a unit's worker does. Its state is set by that.
    pub(super) fn begin_unit(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        self.go_on_preparing(now, child, None, out);
    }

    fn go_on_preparing(&mut self, now: Nanos, child: ChildId, done: Option<(Step, u16)>, out: &mut Vec<Action>) {
        let unit = self.unit_of(child);
        let (conditions, pres) = (unit.count(Step::Condition), unit.count(Step::StartPre));
        let at = match done {
            None => 0,
            Some((Step::Condition, at)) => at + 1,
            Some((_, at)) => conditions + at + 1,
        };
        match at {
            _ if at < conditions => self.run_step(now, child, Step::Condition, at, out),
            _ if at < conditions + pres => self.run_step(now, child, Step::StartPre, at - conditions, out),
            _ => self.spawn_main(now, child, out),
        }
    }

    /// Runs a command around the worker, in the state that this step has.
    pub(super) fn run_step(&mut self, now: Nanos, child: ChildId, step: Step, at: u16, out: &mut Vec<Action>) {
        let policy = &self.service(self.children[&child].service).policy;
        let (start_ns, stop_ns) = (policy.start_timeout_ns, policy.stop_timeout_ns);
        let state = match step {
            Step::Condition | Step::StartPre => Some(State::Preparing { deadline: now.saturating_add(start_ns) }),
            Step::StartPost => Some(State::Posting { deadline: now.saturating_add(start_ns) }),
            // The worker stays ready; the reload has a deadline of its own.
            Step::Reload => None,
            Step::Stop => Some(State::Asked { deadline: now.saturating_add(stop_ns) }),
            Step::StopPost => Some(State::Cleaning { deadline: Some(now.saturating_add(stop_ns)) }),
        };
        let run = self.run_mut(child);
        run.step = Some((step, at));
        let action = super::Run { start: run.start, step, at, result: run.result, main: run.main_ended };
        if let Some(state) = state {
            self.set_state(child, state);
        }
        out.push(Action::Report(Happening::Unit(UnitHappening::StepBegun(self.children[&child].who(child), step))));
        out.push(Action::Run(action));
    }

    /// A command around a worker could not be run: it counts as ended with the code that systemd has for it.
    pub(super) fn step_failed(&mut self, now: Nanos, child: ChildId, message: String, code: u8, out: &mut Vec<Action>) {
        let Some(worker) = self.children.get(&child) else { return };
        let (who, left) = (worker.who(child), worker.has_main());
        out.push(Action::Report(Happening::SpawnFailed { who, message, next: Next::Nothing }));
        self.step_ended(now, child, Ended::Code(code), left, out);
    }

    /// A command around a worker ended.
    pub(super) fn step_ended(&mut self, now: Nanos, child: ChildId, how: Ended, left: bool, out: &mut Vec<Action>) {
        let Some((step, at)) = self.children.get_mut(&child).and_then(|worker| worker.run.as_mut()?.step.take()) else {
            return;
        };
        let left = Left::seen(left);
        let mut result = self.unit_of(child).judge_step(step, at, how);
        if planted::is(Bug::StepFailureIgnored) {
            result = RunResult::Success;
        }
        let worker = &self.children[&child];
        let (who, state) = (worker.who(child), worker.state.clone());
        let told = matches!(state, State::Stopping { .. });
        if result.is_failure() && !told {
            out.push(Action::Report(Happening::Unit(UnitHappening::StepFailed { who, step, how: Some(how) })));
        }
        let good = result == RunResult::Success;
        match state {
            State::Preparing { .. } if good => self.go_on_preparing(now, child, Some((step, at)), out),
            State::Preparing { .. } => self.not_prepared(now, child, step, result, left, out),
            State::Posting { .. } if good => self.go_on_posting(now, child, at, out),
            State::Posting { .. } => self.start_fails(now, child, step, result, out),
            State::Ready { .. } => self.reload_step_ended(now, child, at, good, out),
            State::Asked { .. } => {
                self.run_mut(child).note(result);
                // A reload that was cut off is no part of the stop.
                let next = match step {
                    Step::Stop if good => at + 1,
                    Step::Stop => u16::MAX,
                    _ => 0,
                };
                self.go_on_stopping(now, child, next, left, out);
            }
            State::Stopping { .. } if !self.run_mut(child).main => self.wind_up(now, child, left, out),
            State::Cleaning { .. } => {
                self.run_mut(child).note(result);
                self.clean_up(now, child, if good { at + 1 } else { u16::MAX }, out);
            }
            State::Stopping { .. } | State::Starting { .. } | State::Lingering { .. } => {}
        }
    }

    /// ExecCondition= or ExecStartPre= said no.
    fn not_prepared(
        &mut self,
        now: Nanos,
        child: ChildId,
        step: Step,
        result: RunResult,
        left: Left,
        out: &mut Vec<Action>,
    ) {
        if result == RunResult::Condition {
            out.push(Action::Report(Happening::Unit(UnitHappening::Skipped(self.children[&child].who(child)))));
        }
        // The lists of exit statuses are about the main process alone.
        self.run_mut(child).note(result);
        self.leave_slot(now, child, &Failure::retry(format!("failed in {}=", step.key())), out);
        self.wind_up(now, child, left, out);
    }

    /// ExecStartPost= failed: the worker is stopped, without ExecStop=.
    fn start_fails(&mut self, now: Nanos, child: ChildId, step: Step, result: RunResult, out: &mut Vec<Action>) {
        let run = self.run_mut(child);
        run.note(result);
        run.stop_done = true;
        self.leave_slot(now, child, &Failure::retry(format!("failed in {}=", step.key())), out);
        self.tell_to_stop(now, child, None, out);
    }

    /// It is as good as ready: what is to run before it counts, if anything, runs. True: something does.
    pub(super) fn posts(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) -> bool {
        if self.run_of(child).is_none() || self.unit_of(child).count(Step::StartPost) == 0 {
            return false;
        }
        self.run_step(now, child, Step::StartPost, 0, out);
        true
    }

    fn go_on_posting(&mut self, now: Nanos, child: ChildId, at: u16, out: &mut Vec<Action>) {
        if at + 1 < self.unit_of(child).count(Step::StartPost) {
            self.run_step(now, child, Step::StartPost, at + 1, out);
        } else {
            self.is_ready_now(now, child, HowReady::Ended, out);
        }
    }

    fn go_on_stopping(&mut self, now: Nanos, child: ChildId, at: u16, left: Left, out: &mut Vec<Action>) {
        if at < self.unit_of(child).count(Step::Stop) {
            self.run_step(now, child, Step::Stop, at, out);
        } else if self.run_mut(child).main {
            self.tell_to_stop(now, child, None, out);
        } else {
            self.wind_up(now, child, left, out);
        }
    }

    /// A command around a worker did not end in time.
    pub(super) fn step_overdue(&mut self, now: Nanos, child: ChildId, out: &mut Vec<Action>) {
        let (who, state) = (self.children[&child].who(child), self.children[&child].state.clone());
        let run = self.run_mut(child);
        run.note(RunResult::Timeout);
        let step = run.step.map_or(Step::StopPost, |(step, _)| step);
        out.push(Action::Report(Happening::Unit(UnitHappening::StepFailed { who, step, how: None })));
        match state {
            State::Preparing { .. } | State::Posting { .. } => {
                self.run_mut(child).stop_done = true;
                let failure = Failure::fatal(format!("did not come to serve: its {}= did not end in time", step.key()));
                self.leave_slot(now, child, &failure, out);
                self.stop_late_starter(now, child, out);
            }
            State::Asked { .. } => {
                out.push(Action::SignalStep(child, Signal::KILL));
                self.tell_to_stop(now, child, None, out);
            }
            State::Cleaning { .. } => {
                out.push(Action::SignalStep(child, Signal::KILL));
                self.set_state(child, State::Cleaning { deadline: None });
            }
            State::Starting { .. } | State::Ready { .. } | State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }

    /// The n-th ExecStopPost=, or the end.
    pub(super) fn clean_up(&mut self, now: Nanos, child: ChildId, at: u16, out: &mut Vec<Action>) {
        if at < self.unit_of(child).count(Step::StopPost) && !planted::is(Bug::StopPostForgotten) {
            self.run_mut(child).cleaning = true;
            self.run_step(now, child, Step::StopPost, at, out);
            return;
        }
        let run = self.run_mut(child);
        run.cleaned = true;
        if !run.cleaning || !self.ends_leftovers(now, child, Left::Perhaps, out) {
            self.gone(now, child, out);
        }
    }
}
