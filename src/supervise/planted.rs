//! Bugs that can be switched on at run time, behind the `planted` feature: a test of the simulation, which must catch
//! each. Without the feature [`is`] is constantly false and no trace of them is compiled.

/// A bug of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// A failing worker is started again without back-off.
    NoBackOff = 1,
    /// Slots are filled although everything is stopping.
    SpawnWhileStopping,
    /// A worker that does not stop is never killed.
    NeverKilled,
    /// A child that is gone is still signalled.
    SignalledWhenGone,
    /// In a restart the old worker is told to stop before the new one is ready.
    OldBeforeNew,
    /// A halted restart leaves its requests unanswered.
    AnswerLost,
    /// A finished restart answers its requests twice.
    AnsweredTwice,
    /// A back-off that is over is not taken off the list.
    StuckDeadline,
    /// A slot that has a holder is filled again.
    DoubleStart,
    /// Scaling down leaves the surplus workers alone.
    SurplusKept,
    /// The exit of a worker that was told to stop is overlooked.
    ExitOverlooked,
    /// In manual mode a worker counts as ready after a second.
    ReadyByTimeInManual,
    /// What is left of a dead worker's group is left alone.
    LeftoversIgnored,
    /// A worker without a socket counts as ready by time.
    SocketsNotLookedAt,
    /// A missed watchdog has no effect.
    WatchdogIgnored,
    /// The worker of a slot that ended by itself is not replaced when a restart runs.
    ForgottenSlot,
    /// A fleet's new workers take over one by one.
    FleetInPieces,
    /// A successor takes over as soon as it is ready.
    MinReadyIgnored,
    /// More successors are starting than the surge allows.
    SurgeIgnored,
    /// An upgrade that is given up leaves its new workers running.
    SuccessorsKept,
    /// An upgrade whose workers fail is never given up.
    NeverRolledBack,
    /// After a rollback the service still counts as the new generation.
    GenerationKept,
    /// A worker that waits on no socket counts as accepting.
    NoneIsEach,
    /// New connections are steered to slots without a ready worker.
    SteeredAnywhere,
    /// A slot's socket is closed while a worker still drains it.
    ClosedTooSoon,
    /// Retired sockets are closed while an old worker may have them.
    RetiredTooSoon,
    /// After the replacement that HUP asked for, the workers are not upgraded.
    UpgradeForgotten,
    /// A command around a unit's worker counts as a success however it ended.
    StepFailureIgnored,
    /// ExecStopPost= is not run.
    StopPostForgotten,
    /// Traffic starts a service however often it did lately.
    TriggerLimitIgnored,
    /// Connections are served without a limit.
    ConnectionsUnlimited,
    /// A unit's slot is filled while what comes after its worker still runs.
    StartedTooSoon,
    /// prebind ends though orphans live.
    OrphansForgotten,
    /// Orphans that do not hear are never killed.
    OrphansNeverKilled,
    /// A signal that is passed on reaches nobody.
    NotPassedOn,
    /// A service is given up at the first death.
    GivenUpTooSoon,
    /// Probes are not told that it is not ready any more.
    ProbesNotTold,
}

impl Bug {
    /// Every one.
    pub const ALL: [Bug; 37] = [
        Bug::NoBackOff,
        Bug::SpawnWhileStopping,
        Bug::NeverKilled,
        Bug::SignalledWhenGone,
        Bug::OldBeforeNew,
        Bug::AnswerLost,
        Bug::AnsweredTwice,
        Bug::StuckDeadline,
        Bug::DoubleStart,
        Bug::SurplusKept,
        Bug::ExitOverlooked,
        Bug::ReadyByTimeInManual,
        Bug::LeftoversIgnored,
        Bug::SocketsNotLookedAt,
        Bug::WatchdogIgnored,
        Bug::ForgottenSlot,
        Bug::FleetInPieces,
        Bug::MinReadyIgnored,
        Bug::SurgeIgnored,
        Bug::SuccessorsKept,
        Bug::NeverRolledBack,
        Bug::GenerationKept,
        Bug::NoneIsEach,
        Bug::SteeredAnywhere,
        Bug::ClosedTooSoon,
        Bug::RetiredTooSoon,
        Bug::UpgradeForgotten,
        Bug::StepFailureIgnored,
        Bug::StopPostForgotten,
        Bug::TriggerLimitIgnored,
        Bug::ConnectionsUnlimited,
        Bug::StartedTooSoon,
        Bug::OrphansForgotten,
        Bug::OrphansNeverKilled,
        Bug::NotPassedOn,
        Bug::GivenUpTooSoon,
        Bug::ProbesNotTold,
    ];
}

#[cfg(feature = "planted")]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local!(static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) });

    /// Chooses the bug of this thread.
    pub fn choose(bug: Option<Bug>) {
        CHOSEN.set(bug);
    }

    /// Whether this bug is chosen.
    pub fn is(bug: Bug) -> bool {
        CHOSEN.get() == Some(bug)
    }

    /// Whether one is chosen: then the simulation is to find it, not our own assertions.
    pub fn any() -> bool {
        CHOSEN.get().is_some()
    }
}

#[cfg(feature = "planted")]
pub use switch::{any, choose, is};

/// Whether this bug is chosen: never, in this build.
#[cfg(not(feature = "planted"))]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// Whether one is chosen: never, in this build.
#[cfg(not(feature = "planted"))]
pub const fn any() -> bool {
    false
}
