//! What of the plan the supervisor needs, and what is changed of it while it runs.

use super::service::Service;
use super::verdict::UnitPolicy;
use super::{ChildId, Settings};
use crate::plan::{
    AckMode, KillMode, Nanos, Plan, Reload, Restart, ServiceSpec, Signal, SocketId, StartWhen, Strategy,
};
use serde::{Deserialize, Serialize};

/// What of the plan the supervisor needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) ack: AckMode,
    pub(super) has_sockets: bool,
    pub(super) min_ready_ns: Nanos,
    pub(super) start_timeout_ns: Nanos,
    pub(super) backoff_base_ns: Nanos,
    pub(super) stop_timeout_ns: Nanos,
    pub(super) stop_signal: Signal,
    pub(super) watchdog_ns: Option<Nanos>,
    pub(super) max_unacked: Option<u32>,
    pub(super) bounded_first: bool,
    pub(super) max_additional: Option<u32>,
    pub(super) strategy: Strategy,
    pub(super) bake_ns: Nanos,
    pub(super) upgrade_timeout_ns: Nanos,
    pub(super) upgrade_retries: u32,
    pub(super) drain_delay_ns: Option<Nanos>,
    /// It has a socket for each slot.
    pub(super) slots: bool,
    /// Something is kept for each slot.
    pub(super) keeps: bool,
    pub(super) restart: Restart,
    pub(super) restart_given: bool,
    /// So many that died before ready in a row; 0: no limit.
    #[serde(default)]
    pub(super) give_up_after: u32,
    #[serde(default)]
    pub(super) stop_passes_code: bool,
    /// The stop signal goes to the worker's group, not to its main process alone.
    #[serde(default)]
    pub(super) stops_group: bool,
    /// What `reload` sends; `None`: it upgrades. A unit's way is its own.
    #[serde(default)]
    pub(super) reload_signal: Option<Signal>,
    #[serde(default)]
    pub(super) singleton: bool,
    #[serde(default)]
    pub(super) spacing_ns: Nanos,
    #[serde(default)]
    pub(super) max_age: Option<(Nanos, Nanos)>,
    pub(super) start: StartWhen,
    /// Its sockets, where their traffic starts it.
    pub(super) listens_on: Vec<SocketId>,
    /// What a unit has beside all this.
    pub(super) unit: Option<Box<UnitPolicy>>,
}

impl Policy {
    /// A service's.
    pub(super) fn of(spec: &ServiceSpec, plan: &Plan) -> Policy {
        // Who has a connection does not wait on the sockets: it serves from the start.
        let served = matches!(spec.start, StartWhen::PerConnection { .. });
        let at_once = served && spec.ack == AckMode::Auto;
        Policy {
            ack: if at_once { AckMode::After(0) } else { spec.ack },
            has_sockets: !spec.sockets.is_empty() && !served,
            min_ready_ns: spec.min_ready_ns,
            start_timeout_ns: spec.start_timeout_ns,
            backoff_base_ns: spec.backoff_base_ns,
            stop_timeout_ns: spec.stop_timeout_ns,
            stop_signal: spec.stop_signal,
            watchdog_ns: spec.watchdog_ns,
            max_unacked: spec.max_unacked,
            bounded_first: spec.bounded_first,
            max_additional: spec.max_upgrade_additional,
            strategy: spec.strategy,
            bake_ns: spec.bake_ns,
            upgrade_timeout_ns: spec.upgrade_timeout_ns,
            upgrade_retries: spec.upgrade_retries,
            drain_delay_ns: spec.drain_delay_ns,
            slots: spec.sockets.iter().any(|id| plan.socket(*id).options.slots),
            keeps: spec.fd_store_max > 0,
            restart: spec.restart,
            restart_given: spec.restart_given,
            give_up_after: spec.give_up_after.unwrap_or(0),
            stop_passes_code: spec.stop_passes_code,
            stops_group: spec.kill.mode == KillMode::Group,
            reload_signal: match spec.reload {
                Reload::Signal(signal) => Some(signal),
                Reload::None | Reload::Commands | Reload::Notify(_) => None,
            },
            singleton: spec.singleton,
            spacing_ns: spec.spacing_ns,
            max_age: spec.max_age,
            start: spec.start,
            listens_on: if spec.start == StartWhen::AtOnce { Vec::new() } else { spec.sockets.clone() },
            unit: UnitPolicy::of(spec),
        }
    }
}

impl Policy {
    /// When a worker that starts now is old enough to be replaced: one a little later than another.
    pub(super) fn expires_at(&self, now: Nanos, child: ChildId) -> Option<Nanos> {
        let (age, variance) = self.max_age?;
        // Fibonacci hashing: neighbours fall far from each other.
        let share = f64::from(child.0.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
        Some(now.saturating_add(age.max(1)).saturating_add((variance as f64 * share) as Nanos))
    }
}

impl Service {
    /// What `configure` can change, as it is.
    pub(super) fn settings(&self) -> Settings {
        let policy = &self.policy;
        Settings {
            backoff_base_ns: Some(policy.backoff_base_ns),
            max_unacked: policy.max_unacked,
            max_additional: policy.max_additional,
            stop_timeout_ns: Some(policy.stop_timeout_ns),
        }
    }

    /// Settings that were made while it runs come before the plan's.
    pub(super) fn configure(&mut self, more: Settings) {
        let all = Settings {
            backoff_base_ns: more.backoff_base_ns.or(self.configured.backoff_base_ns),
            max_unacked: more.max_unacked.or(self.configured.max_unacked),
            max_additional: more.max_additional.or(self.configured.max_additional),
            stop_timeout_ns: more.stop_timeout_ns.or(self.configured.stop_timeout_ns),
        };
        let policy = &mut self.policy;
        policy.backoff_base_ns = all.backoff_base_ns.unwrap_or(policy.backoff_base_ns);
        policy.stop_timeout_ns = all.stop_timeout_ns.unwrap_or(policy.stop_timeout_ns);
        policy.max_unacked = all.max_unacked.or(policy.max_unacked);
        policy.max_additional = all.max_additional.or(policy.max_additional);
        self.configured = all;
    }
}
