//! What the histories together must have seen.

use crate::script::MS;
use crate::world::LATE;
use prebind::plan::Strategy;
use prebind::supervise::{Happening, HowReady};

/// The name of a happening, for the count of what was seen.
pub(crate) fn word(happening: &Happening) -> &'static str {
    match happening {
        Happening::Started(_) => "started",
        Happening::Ready(_, HowReady::Notified) => "ready, notified",
        Happening::Ready(_, HowReady::Acked) => "ready, acked",
        Happening::Ready(_, HowReady::Accepts) => "ready, accepts",
        Happening::Ready(_, HowReady::Time) => "ready by time",
        Happening::HoldsNoSocket(_) => "holds no socket",
        Happening::StartTimeout(_) => "start timeout",
        Happening::WatchdogMissed(_) => "watchdog missed",
        Happening::SaidStopping(_) => "said stopping",
        Happening::AckIgnored(_) => "ack ignored",
        Happening::Draining(..) => "draining",
        Happening::ToldToStop(..) => "told to stop",
        Happening::Killed(_) => "killed",
        Happening::Exited { unexpected: true, was_ready: true, .. } => "a ready worker ended",
        Happening::Exited { unexpected: true, was_ready: false, .. } => "a starting worker ended",
        Happening::Exited { unexpected: false, .. } => "ended as told",
        Happening::Leftovers(..) => "leftovers",
        Happening::SpawnFailed { .. } => "spawn failed",
        Happening::Scaled { .. } => "scaled",
        Happening::Refused(_) => "refused",
        Happening::RestartBegun(_) => "restart begun",
        Happening::RestartDone(_) => "restart done",
        Happening::RestartHalted(..) => "restart halted",
        Happening::UpgradeBegun { strategy: Strategy::Rolling, .. } => "rolling upgrade",
        Happening::UpgradeBegun { strategy: Strategy::Fleet, .. } => "fleet upgrade",
        Happening::UpgradeBegun { strategy: Strategy::Canary, .. } => "canary upgrade",
        Happening::Baking(..) => "baking",
        Happening::UpgradeProgress { .. } => "upgrade progress",
        Happening::UpgradeDone { .. } => "upgrade done",
        Happening::UpgradeRolledBack { .. } => "upgrade rolled back",
        Happening::Replaced => "replaced",
        Happening::ReplaceFailed(_) => "not replaced",
        Happening::AllReady => "all ready",
        Happening::Stopping => "stopping",
        Happening::Stopped => "stopped",
    }
}

/// Everything that the histories together must have seen.
pub(crate) const SITUATIONS: [&str; 43] = [
    "started",
    "ready, notified",
    "ready, acked",
    "ready by time",
    "ready, accepts",
    "draining",
    "rolling upgrade",
    "fleet upgrade",
    "canary upgrade",
    "baking",
    "upgrade progress",
    "upgrade done",
    "upgrade rolled back",
    "steered",
    "replaced",
    "not replaced",
    "retired closed",
    "slots closed",
    "holds no socket",
    "start timeout",
    "watchdog missed",
    "said stopping",
    "told to stop",
    "killed",
    "a ready worker ended",
    "a starting worker ended",
    "ended as told",
    "leftovers",
    "spawn failed",
    "scaled",
    "refused",
    "restart begun",
    "restart done",
    "restart halted",
    "all ready",
    "stopping",
    "stopped",
    "calm",
    "idle without a deadline",
    "answered status",
    "answered ready",
    "answered done",
    "answered refused",
];

/// The smallest step of the scripts; kept so that lateness and steps stay of one order.
const _: () = assert!(LATE >= MS);
