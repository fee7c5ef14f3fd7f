//! systemd.kill(5): who is signalled when a worker is stopped, and with what.

use super::process::optional;
use super::values::{boolean, set};
use crate::plan::{KillMode, KillSpec, Late, ServiceSpec, Signal};

/// systemd's defaults, where they differ from the command line's.
pub(super) fn defaults(spec: &mut ServiceSpec) {
    spec.kill = KillSpec { mode: KillMode::Group, ..KillSpec::default() };
    spec.stop_timeout_given = true;
}

/// `None`: the key is not of this table. An empty value is the default again.
pub(super) fn take(spec: &mut ServiceSpec, key: &str, value: &str) -> Option<Result<(), String>> {
    let kill = &mut spec.kill;
    Some(match key {
        "KillMode" => set(&mut kill.mode, mode(value)),
        "KillSignal" => set(&mut spec.stop_signal, signal(value, Signal::TERM)),
        "RestartKillSignal" => set(&mut kill.restart_signal, optional(value, str::parse)),
        "FinalKillSignal" => set(&mut kill.final_signal, signal(value, Signal::KILL)),
        "WatchdogSignal" => set(&mut kill.watchdog_signal, signal(value, Signal::ABRT)),
        "TimeoutStartFailureMode" => set(&mut kill.start_late, late(value)),
        "TimeoutStopFailureMode" => set(&mut kill.stop_late, late(value)),
        "SendSIGHUP" => set(&mut kill.hup_too, boolean(value)),
        "SendSIGKILL" => set(&mut kill.kill, boolean(value)),
        _ => return None,
    })
}

fn mode(value: &str) -> Result<KillMode, String> {
    match value {
        "control-group" => Ok(KillMode::Group),
        "mixed" => Ok(KillMode::Mixed),
        "process" => Ok(KillMode::Process),
        "none" => Ok(KillMode::None),
        _ => Err(format!("'{value}' is none of control-group, mixed, process, none")),
    }
}

fn late(value: &str) -> Result<Late, String> {
    match value {
        "" | "terminate" => Ok(Late::Terminate),
        "abort" => Ok(Late::Abort),
        "kill" => Ok(Late::Kill),
        _ => Err(format!("'{value}' is none of terminate, abort, kill")),
    }
}

/// A signal by name or number; empty: the default.
pub(super) fn signal(value: &str, default: Signal) -> Result<Signal, String> {
    optional(value, str::parse).map(|signal| signal.unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_what_is_wrong_with_them() {
        let mut spec = ServiceSpec::default();
        defaults(&mut spec);
        assert_eq!((spec.kill.mode, spec.stop_timeout_given), (KillMode::Group, true));
        for (key, value) in [
            ("KillMode", "mixed"),
            ("KillSignal", "SIGQUIT"),
            ("RestartKillSignal", "USR1"),
            ("FinalKillSignal", "3"),
            ("WatchdogSignal", "TERM"),
            ("WatchdogSignal", ""),
            ("TimeoutStartFailureMode", "abort"),
            ("TimeoutStopFailureMode", "kill"),
            ("SendSIGHUP", "yes"),
            ("SendSIGKILL", "off"),
        ] {
            assert_eq!(take(&mut spec, key, value), Some(Ok(())), "{key}={value}");
        }
        let expected = KillSpec {
            mode: KillMode::Mixed,
            hup_too: true,
            kill: false,
            final_signal: Signal::QUIT,
            watchdog_signal: Signal::ABRT,
            restart_signal: "USR1".parse().ok(),
            start_late: Late::Abort,
            stop_late: Late::Kill,
            abort_timeout_ns: None,
        };
        assert_eq!((&spec.kill, spec.stop_signal), (&expected, Signal::QUIT));
        for (key, value) in
            [("KillMode", "some"), ("KillSignal", "SIGNONE"), ("TimeoutStopFailureMode", "x"), ("KillMode", "")]
        {
            assert!(take(&mut spec, key, value).unwrap().is_err(), "{key}={value}");
        }
        assert_eq!((&spec.kill, take(&mut spec.clone(), "Kill", "1")), (&expected, None));
    }
}
