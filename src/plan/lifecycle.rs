//! How a worker's life goes, as units have it: what counts as started, as a clean end, as a reason to start again, and
//! how it is stopped. The defaults are those of the command line.

use super::{Nanos, Signal};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a worker is to its service (`Type=`). When it counts as ready is [`super::AckMode`].
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub enum Kind {
    /// Its process is what serves, as long as it lives.
    #[default]
    Simple,
    /// Its commands run one after the other, then it is over. Ready once the last one succeeded.
    Oneshot,
    /// Its first process ends once another one serves.
    Forking {
        /// Where that one writes its pid; `None`: it is what is left.
        pidfile: Option<PathBuf>,
    },
}

/// Exit codes and signals that a list of a unit names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statuses {
    /// Exit codes.
    pub codes: Vec<u8>,
    /// Signals.
    pub signals: Vec<Signal>,
}

/// Which ends are clean, and which decide about the next start whatever `restart` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitRules {
    /// As in systemd: also a death by HUP, INT, TERM or PIPE is clean, but not of a oneshot's command. Without it only 0 is.
    pub signals_are_clean: bool,
    /// `SuccessExitStatus=`: clean as well.
    pub success: Statuses,
    /// `RestartPreventExitStatus=`.
    pub prevent: Statuses,
    /// `RestartForceExitStatus=`.
    pub force: Statuses,
}

/// How long a slot waits after its worker failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Delay {
    /// Not at all if the worker had been ready, else `backoff_base_ns` x 1.5^deaths.
    #[default]
    BackOff,
    /// `RestartSec=`, `RestartSteps=`, `RestartMaxDelaySec=`: base x (max / base)^(restarts / steps), then max.
    Fixed {
        /// The first.
        base_ns: Nanos,
        /// In so many steps to the longest; 0: always the first.
        steps: u32,
        /// The longest.
        max_ns: Option<Nanos>,
    },
}

/// How a worker is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KillSpec {
    /// Who is signalled.
    pub mode: KillMode,
    /// `SendSIGHUP=`: HUP follows the stop signal.
    pub hup_too: bool,
    /// `SendSIGKILL=`: what does not stop in time is killed.
    pub kill: bool,
    /// `FinalKillSignal=`: with this one.
    pub final_signal: Signal,
    /// `WatchdogSignal=`.
    pub watchdog_signal: Signal,
    /// `RestartKillSignal=`, while workers are replaced; `None`: the stop signal.
    pub restart_signal: Option<Signal>,
    /// `TimeoutStartFailureMode=`.
    pub start_late: Late,
    /// `TimeoutStopFailureMode=`.
    pub stop_late: Late,
    /// `TimeoutAbortSec=`, after the watchdog's signal; `None`: as for any stop.
    pub abort_timeout_ns: Option<Nanos>,
}

impl Default for KillSpec {
    fn default() -> KillSpec {
        KillSpec {
            mode: KillMode::Mixed,
            hup_too: false,
            kill: true,
            final_signal: Signal::KILL,
            watchdog_signal: Signal::ABRT,
            restart_signal: None,
            start_late: Late::Terminate,
            stop_late: Late::Terminate,
            abort_timeout_ns: None,
        }
    }
}

/// `KillMode=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum KillMode {
    /// `control-group`: the stop signal and the last one to all processes of the worker.
    Group,
    /// The stop signal to the main process, the last one to all.
    #[default]
    Mixed,
    /// Both to the main process only; what it leaves behind lives on.
    Process,
    /// Nobody: only ExecStop= runs.
    None,
}

/// What becomes of a worker that does not start, or stop, in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Late {
    /// It is told to stop, then killed.
    #[default]
    Terminate,
    /// It gets the watchdog's signal first.
    Abort,
    /// It is killed at once.
    Kill,
}

/// When a service's workers start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StartWhen {
    /// With prebind.
    #[default]
    AtOnce,
    /// When something waits on one of its sockets; again when all its workers are over.
    OnTraffic {
        /// With prebind the first time (`--start`).
        also_at_once: bool,
        /// `TriggerLimitBurst=` in `TriggerLimitIntervalSec=`; more end the service. `None`: no limit.
        limit: Option<(u32, Nanos)>,
        /// `FlushPending=`: what waits is thrown away each time before it listens.
        flush: bool,
    },
    /// One worker for each connection, `Accept=yes`: it gets the connection, not the sockets.
    PerConnection {
        /// So many at once; the next is closed at once.
        most: u32,
        /// So many of one source; 0: any number.
        most_per_source: u32,
        /// `TriggerLimitBurst=` in `TriggerLimitIntervalSec=`.
        limit: Option<(u32, Nanos)>,
    },
}

/// Whose words on the notify socket count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum NotifyAccess {
    /// Nobody's, and workers are not told of the socket.
    None,
    /// The main process's.
    Main,
    /// Those of the commands around it too.
    Exec,
    /// Those of every process of the worker.
    #[default]
    All,
}

/// How a worker is asked to read its configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Reload {
    /// It is not: `reload` upgrades.
    #[default]
    None,
    /// Its ExecReload= commands.
    Commands,
    /// This signal, and no word about it.
    Signal(Signal),
    /// `Type=notify-reload`: this signal, then RELOADING=1 with MONOTONIC_USEC and READY=1; its commands, if any, come
    /// after the signal.
    Notify(Signal),
}
