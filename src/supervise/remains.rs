//! What is left when every worker is gone, where orphans become prebind's children (as PID 1, with `--subreaper`): it is told
//! to stop, waited for, and killed. Nothing of it outlives prebind.

use super::planted::{self, Bug};
use super::worker::soonest;
use super::{Action, Happening, Supervisor};
use crate::plan::{Nanos, SECOND, Signal};
use serde::{Deserialize, Serialize};

/// They have what is left of the workers' time, and at least so long.
const PATIENCE_MIN_NS: Nanos = SECOND;
/// After SIGKILL a process ends as soon as the kernel lets it.
const GIVE_UP_NS: Nanos = 2 * SECOND;
/// The end of an own child is heard of; that of a process which is nobody's orphan yet is looked for.
const LOOK_FIRST_NS: Nanos = SECOND / 200;
const LOOK_MAX_NS: Nanos = SECOND / 20;

/// | state | left: some | left: none | its time is over |
/// |---|---|---|---|
/// | looked for | told, CONT | gone | |
/// | told | looked at again | gone | killed |
/// | killed | killed again: somebody may have forked | gone | gone |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Remains {
    /// Asked for, not known yet.
    LookedFor,
    /// TERM was sent. `left`: how many there were at the last look.
    Told { look_at: Nanos, pause_ns: Nanos, kill_at: Nanos, left: u32 },
    /// KILL was sent.
    Killed { look_at: Nanos, give_up_at: Nanos },
    /// Nobody is left, or nothing helps.
    Gone,
}

impl Remains {
    pub(super) fn deadline(self) -> Option<Nanos> {
        match self {
            Remains::LookedFor | Remains::Gone => None,
            Remains::Told { look_at, kill_at, .. } => soonest(Some(look_at), Some(kill_at)),
            Remains::Killed { look_at, give_up_at } => soonest(Some(look_at), Some(give_up_at)),
        }
    }
}

impl Supervisor {
    /// Whether nothing has to be waited for any more now that every worker is gone.
    pub(super) fn nothing_remains(&mut self, out: &mut Vec<Action>) -> bool {
        let reaps = self.reaps && !planted::is(Bug::OrphansForgotten);
        let Some(stop) = self.stopping.as_mut().filter(|_| reaps) else { return true };
        if stop.remains.is_none() {
            stop.remains = Some(Remains::LookedFor);
            out.push(Action::LookOrphans);
        }
        stop.remains == Some(Remains::Gone)
    }

    /// So many processes that workers left are there.
    pub(super) fn orphans_left(&mut self, now: Nanos, number: u32, out: &mut Vec<Action>) {
        let patience = self.services.iter().map(|service| service.policy.stop_timeout_ns).max().unwrap_or(0);
        let Some(stop) = &mut self.stopping else { return };
        let Some(remains) = stop.remains else { return };
        stop.remains = Some(match remains {
            Remains::Gone => Remains::Gone,
            _ if number == 0 => Remains::Gone,
            Remains::LookedFor => {
                let never = if planted::is(Bug::OrphansNeverKilled) { Nanos::MAX } else { 0 };
                let kill_at = stop.since.saturating_add(patience).max(now + PATIENCE_MIN_NS).max(never);
                out.push(Action::Report(Happening::Orphans(number, Signal::TERM)));
                out.push(Action::SignalOrphans(Signal::TERM));
                // Who is stopped is to hear it.
                out.push(Action::SignalOrphans(Signal::CONT));
                Remains::Told { look_at: now + LOOK_FIRST_NS, pause_ns: LOOK_FIRST_NS, kill_at, left: number }
            }
            Remains::Told { look_at, pause_ns, kill_at, .. } => {
                Remains::Told { look_at, pause_ns, kill_at, left: number }
            }
            Remains::Killed { look_at, give_up_at } => {
                out.push(Action::SignalOrphans(Signal::KILL));
                Remains::Killed { look_at, give_up_at }
            }
        });
    }

    /// Their deadline.
    pub(super) fn remains_due(&mut self, now: Nanos, out: &mut Vec<Action>) {
        let Some(stop) = &mut self.stopping else { return };
        match stop.remains {
            Some(Remains::Told { kill_at, .. }) if kill_at <= now => self.kill_remains(now, out),
            Some(Remains::Told { look_at, pause_ns, kill_at, left }) if look_at <= now => {
                let pause_ns = (pause_ns * 2).min(LOOK_MAX_NS);
                stop.remains = Some(Remains::Told { look_at: now + pause_ns, pause_ns, kill_at, left });
                out.push(Action::LookOrphans);
            }
            Some(Remains::Killed { give_up_at, .. }) if give_up_at <= now => stop.remains = Some(Remains::Gone),
            Some(Remains::Killed { look_at, give_up_at }) if look_at <= now => {
                stop.remains = Some(Remains::Killed { look_at: now + LOOK_MAX_NS, give_up_at });
                out.push(Action::LookOrphans);
            }
            _ => {}
        }
    }

    /// Nobody waits any longer for those that were told.
    pub(super) fn kill_remains(&mut self, now: Nanos, out: &mut Vec<Action>) {
        let Some(stop) = &mut self.stopping else { return };
        let Some(Remains::Told { left, .. }) = stop.remains else { return };
        stop.remains = Some(Remains::Killed { look_at: now + LOOK_FIRST_NS, give_up_at: now + GIVE_UP_NS });
        out.push(Action::Report(Happening::Orphans(left, Signal::KILL)));
        out.push(Action::SignalOrphans(Signal::KILL));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Above, Event, Told};
    use super::*;
    use crate::exit::Exit;
    use crate::plan::{Plan, ServiceSpec};

    /// A supervisor that was told to stop and has no workers, at that time; its actions from then on.
    fn stopped(reaps: bool) -> (Supervisor, Vec<Action>) {
        let mut plan = Plan { services: vec![ServiceSpec::default()], ..Plan::default() };
        plan.entry.subreaper = reaps;
        plan.services[0].stop_timeout_ns = 10 * SECOND;
        let (mut supervisor, mut out) = (Supervisor::new(&plan, Above::default()), Vec::new());
        supervisor.step(0, Event::Told(Told::Stop), &mut out);
        out.retain(|action| matches!(action, Action::LookOrphans));
        (supervisor, out)
    }

    #[test]
    fn who_reaps_nobody_waits_for_nobody() {
        let (supervisor, out) = stopped(false);
        assert_eq!((supervisor.ended(), &out[..]), (Some(Exit::Done), &[][..]));
    }

    #[test]
    fn told_waited_for_and_killed() {
        let (mut supervisor, mut out) = stopped(true);
        assert_eq!((supervisor.ended(), &out[..]), (None, &[Action::LookOrphans][..]));
        out.clear();
        supervisor.step(1, Event::OrphansLeft(2), &mut out);
        let [report, told] = [Happening::Orphans(2, Signal::TERM), Happening::Orphans(1, Signal::KILL)];
        let signals = [Signal::TERM, Signal::CONT].map(Action::SignalOrphans);
        assert_eq!(out[..3], [vec![Action::Report(report)], signals.to_vec()].concat());
        out.clear();
        let mut now = 1;
        while now < 10 * SECOND {
            now = supervisor.next_deadline().expect("it looks again");
            supervisor.step(now, Event::Tick, &mut out);
            supervisor.step(now, Event::OrphansLeft(1), &mut out);
        }
        assert_eq!(now, 10 * SECOND, "the rest of the workers' time, and no longer");
        let kill = Action::SignalOrphans(Signal::KILL);
        let at = out.iter().position(|action| *action == Action::Report(told.clone())).expect("it is said");
        assert!(out[..at].iter().all(|action| *action == Action::LookOrphans));
        assert_eq!(out[at + 1..], [kill.clone(), kill], "again: somebody may have forked");
        supervisor.step(now + 1, Event::OrphansLeft(0), &mut out);
        assert_eq!(supervisor.ended(), Some(Exit::Done));
    }

    #[test]
    fn nothing_helps_and_told_again() {
        let (mut supervisor, mut out) = stopped(true);
        supervisor.step(1, Event::OrphansLeft(1), &mut out);
        out.clear();
        supervisor.step(2, Event::Told(Told::Stop), &mut out);
        assert!(out.contains(&Action::SignalOrphans(Signal::KILL)), "whoever is told twice is in a hurry");
        let mut now = 2;
        while supervisor.ended().is_none() {
            now = supervisor.next_deadline().expect("it comes to an end");
            supervisor.step(now, Event::Tick, &mut out);
            supervisor.step(now, Event::OrphansLeft(1), &mut out);
        }
        assert_eq!(now, 2 + GIVE_UP_NS);
    }
}
