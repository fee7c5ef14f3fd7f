//! What the end of a unit's process means: a clean end or which failure, and whether its slot is started again. The rules
//! are those of systemd.service(5).

use super::Ended;
use crate::plan::{Command, Delay, KillSpec, Kind, Nanos, Reload, Restart, ServiceSpec, Signal, Statuses, Step};
use serde::{Deserialize, Serialize};

/// How a worker's life as a whole went: `Success` until something goes wrong, then the first thing that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RunResult {
    /// As it should.
    #[default]
    Success,
    /// It ended before it said READY=1, or left no main process behind.
    Protocol,
    /// A time limit was over.
    Timeout,
    /// An exit code that is no success.
    ExitCode,
    /// A signal that is not clean.
    Signal,
    /// The same with a core dump.
    CoreDump,
    /// It missed its watchdog.
    Watchdog,
    /// ExecCondition= said no: no failure.
    Condition,
}

impl RunResult {
    /// systemd's word, as in SERVICE_RESULT.
    pub fn word(self) -> &'static str {
        match self {
            RunResult::Success => "success",
            RunResult::Protocol => "protocol",
            RunResult::Timeout => "timeout",
            RunResult::ExitCode => "exit-code",
            RunResult::Signal => "signal",
            RunResult::CoreDump => "core-dump",
            RunResult::Watchdog => "watchdog",
            RunResult::Condition => "exec-condition",
        }
    }

    pub(super) fn is_failure(self) -> bool {
        !matches!(self, RunResult::Success | RunResult::Condition)
    }
}

/// What of a unit decides about its workers, beside what every service has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UnitPolicy {
    pub(super) kind: Kind,
    /// Of each ExecStart=, whether its failure counts as success.
    pub(super) parts: Vec<bool>,
    /// The same of each command around it.
    pub(super) steps: Vec<(Step, bool)>,
    pub(super) remain: bool,
    pub(super) exits: crate::plan::ExitRules,
    pub(super) restart: Restart,
    pub(super) delay: Delay,
    pub(super) start_limit: Option<(u32, Nanos)>,
    pub(super) kill: KillSpec,
    pub(super) runtime_max_ns: Option<Nanos>,
    pub(super) reload: Reload,
}

impl UnitPolicy {
    /// `None`: the service is no unit's.
    pub(super) fn of(spec: &ServiceSpec) -> Option<Box<UnitPolicy>> {
        if !spec.process.unit {
            return None;
        }
        let parts = match &spec.command {
            Command::Execs(execs) => execs.iter().map(|exec| exec.may_fail).collect(),
            Command::Program(_) | Command::Demo => vec![false],
        };
        Some(Box::new(UnitPolicy {
            kind: spec.kind.clone(),
            parts,
            steps: spec.steps.iter().map(|step| (step.step, step.exec.may_fail)).collect(),
            remain: spec.remain_after_exit,
            exits: spec.exits.clone(),
            restart: spec.restart,
            delay: spec.delay,
            start_limit: spec.start_limit,
            kill: spec.kill,
            runtime_max_ns: spec.runtime_max_ns,
            reload: spec.reload,
        }))
    }

    /// How many commands a step has.
    pub(super) fn count(&self, step: Step) -> u16 {
        self.steps.iter().filter(|(one, _)| *one == step).count() as u16
    }

    /// What the end of a main process is worth.
    pub(super) fn judge(&self, how: Ended, part: u16) -> RunResult {
        let forgiven = self.parts.get(usize::from(part)).copied().unwrap_or(false);
        let signals = self.exits.signals_are_clean && self.kind != Kind::Oneshot;
        if forgiven || self.is_clean(how, signals) { RunResult::Success } else { failure(how) }
    }

    /// What the end of a step's command is worth.
    pub(super) fn judge_step(&self, step: Step, at: u16, how: Ended) -> RunResult {
        let forgiven =
            self.steps.iter().filter(|(one, _)| *one == step).nth(usize::from(at)).is_some_and(|(_, may)| *may);
        match (step, how) {
            _ if forgiven => RunResult::Success,
            (Step::Condition, Ended::Code(1..=254)) => RunResult::Condition,
            _ if self.is_clean(how, false) => RunResult::Success,
            _ => failure(how),
        }
    }

    fn is_clean(&self, how: Ended, by_signal: bool) -> bool {
        const CLEAN: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::TERM, Signal(13)];
        match how {
            Ended::Code(0) => true,
            Ended::Signal(signal) if by_signal && CLEAN.contains(&signal) => true,
            Ended::Code(_) | Ended::Signal(_) | Ended::Dumped(_) | Ended::Unseen => contains(&self.exits.success, how),
        }
    }

    /// Whether the slot of a worker that ended so by itself is started again.
    pub(super) fn starts_again(&self, result: RunResult, how: Option<Ended>) -> bool {
        let listed = |list: &Statuses| how.is_some_and(|how| contains(list, how));
        match self.restart {
            _ if result == RunResult::Condition => false,
            _ if listed(&self.exits.prevent) => false,
            _ if listed(&self.exits.force) => true,
            Restart::Always => true,
            Restart::OnSuccess => result == RunResult::Success,
            Restart::OnFailure => result != RunResult::Success,
            Restart::OnAbnormal => !matches!(result, RunResult::Success | RunResult::ExitCode),
            Restart::OnAbort => matches!(result, RunResult::Signal | RunResult::CoreDump),
            Restart::OnWatchdog => result == RunResult::Watchdog,
            Restart::No => false,
        }
    }

    /// How long a slot waits that was started again so often already.
    pub(super) fn wait_ns(&self, restarts: u32) -> Nanos {
        let Delay::Fixed { base_ns, steps, max_ns } = self.delay else { return 0 };
        match max_ns.filter(|max| *max > base_ns && steps > 0) {
            None => base_ns,
            Some(max) if restarts >= steps => max,
            Some(max) => {
                let factor = (max as f64 / base_ns.max(1) as f64).powf(f64::from(restarts) / f64::from(steps));
                (base_ns as f64 * factor) as Nanos
            }
        }
    }
}

fn contains(list: &Statuses, how: Ended) -> bool {
    match how {
        Ended::Code(code) => list.codes.contains(&code),
        Ended::Signal(signal) | Ended::Dumped(signal) => list.signals.contains(&signal),
        Ended::Unseen => false,
    }
}

fn failure(how: Ended) -> RunResult {
    match how {
        Ended::Code(_) | Ended::Unseen => RunResult::ExitCode,
        Ended::Signal(_) => RunResult::Signal,
        Ended::Dumped(_) => RunResult::CoreDump,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ExitRules, ProcessSpec, SECOND};

    fn policy(change: impl FnOnce(&mut ServiceSpec)) -> UnitPolicy {
        let mut spec = ServiceSpec {
            exits: ExitRules { signals_are_clean: true, ..ExitRules::default() },
            process: ProcessSpec { unit: true, ..ProcessSpec::default() },
            ..ServiceSpec::default()
        };
        change(&mut spec);
        *UnitPolicy::of(&spec).expect("a unit's")
    }

    #[test]
    fn ends_are_judged_as_systemd_does() {
        let plain = policy(|_| {});
        let oneshot = policy(|spec| spec.kind = Kind::Oneshot);
        let listed = policy(|spec| spec.exits.success = Statuses { codes: vec![7], signals: vec![Signal::USR2] });
        for (how, plainly, of_oneshot, with_list) in [
            (Ended::Code(0), RunResult::Success, RunResult::Success, RunResult::Success),
            (Ended::Code(7), RunResult::ExitCode, RunResult::ExitCode, RunResult::Success),
            (Ended::Signal(Signal::TERM), RunResult::Success, RunResult::Signal, RunResult::Success),
            (Ended::Signal(Signal::USR2), RunResult::Signal, RunResult::Signal, RunResult::Success),
            (Ended::Dumped(Signal::ABRT), RunResult::CoreDump, RunResult::CoreDump, RunResult::CoreDump),
        ] {
            let seen = (plain.judge(how, 0), oneshot.judge(how, 0), listed.judge(how, 0));
            assert_eq!(seen, (plainly, of_oneshot, with_list), "{how:?}");
        }
    }

    #[test]
    fn restart_words_and_lists() {
        use RunResult::*;
        let all = [Success, ExitCode, Signal, CoreDump, Timeout, Watchdog, Protocol, Condition];
        for (restart, again) in [
            (Restart::No, vec![]),
            (Restart::Always, vec![Success, ExitCode, Signal, CoreDump, Timeout, Watchdog, Protocol]),
            (Restart::OnSuccess, vec![Success]),
            (Restart::OnFailure, vec![ExitCode, Signal, CoreDump, Timeout, Watchdog, Protocol]),
            (Restart::OnAbnormal, vec![Signal, CoreDump, Timeout, Watchdog, Protocol]),
            (Restart::OnAbort, vec![Signal, CoreDump]),
            (Restart::OnWatchdog, vec![Watchdog]),
        ] {
            let one = policy(|spec| spec.restart = restart);
            let seen: Vec<RunResult> = all.into_iter().filter(|result| one.starts_again(*result, None)).collect();
            assert_eq!(seen, again, "{restart:?}");
        }
        let listed = policy(|spec| {
            spec.restart = Restart::OnFailure;
            spec.exits.prevent.codes = vec![3];
            spec.exits.force.codes = vec![0, 3];
        });
        assert!(
            listed.starts_again(Success, Some(Ended::Code(0))) && !listed.starts_again(ExitCode, Some(Ended::Code(3)))
        );
    }

    #[test]
    fn waits_grow_in_steps() {
        let seconds = |base: u64, steps, max: Option<u64>| {
            let max_ns = max.map(|max| max * SECOND);
            let one = policy(|spec| spec.delay = Delay::Fixed { base_ns: base * SECOND, steps, max_ns });
            (0..5).map(|n| one.wait_ns(n) / (SECOND / 10)).collect::<Vec<_>>()
        };
        assert_eq!(seconds(1, 0, None), [10; 5]);
        assert_eq!(seconds(1, 2, Some(100)), [10, 100, 1000, 1000, 1000]);
        assert_eq!(seconds(1, 4, None), [10; 5], "without a longest it stays");
    }
}
