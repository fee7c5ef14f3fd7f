//! Random units, and what the operator does.

use crate::rng::Rng;
use crate::script::MS;
use prebind::plan::Nanos;
use prebind::plan::{
    AckMode, Address, Command, Delay, Exec, ExitRules, Host, KillMode, KillSpec, Kind, ListenEnv, Number, Origin, Plan,
    Privilege, ProcessSpec, Reload, Restart, SECOND, ServiceSpec, Signal, SocketId, SocketKind, SocketOptions,
    SocketSpec, StartWhen, Statuses, Step, StepSpec, Strategy, Template,
};
use prebind::supervise::{AskId, Command as Wish, Event, Told, Wait};

/// From here on everything goes well, if it was not given up before.
pub(crate) const CALM: Nanos = 60 * SECOND;
pub(crate) const END: Nanos = 300 * SECOND;

fn exec(rng: &mut Rng) -> Exec {
    Exec {
        path: Template::default(),
        words: Vec::new(),
        may_fail: rng.percent(20),
        literal: false,
        privilege: Privilege::Unit,
        origin: Origin::Default,
    }
}

fn steps(rng: &mut Rng, kind: &Kind) -> Vec<StepSpec> {
    let mut all = Vec::new();
    for (_, step) in Step::ALL {
        let most = if step == Step::Condition { 1 } else { 2 };
        for _ in 0..rng.range(0, most) {
            let skips = (step == Step::Reload && *kind == Kind::Oneshot) || rng.percent(40);
            if !skips {
                all.push(StepSpec { step, exec: exec(rng) });
            }
        }
    }
    all
}

fn service(rng: &mut Rng, n: u64) -> ServiceSpec {
    let kind = match rng.range(0, 9) {
        0 | 1 => Kind::Oneshot,
        2 => Kind::Forking { pidfile: None },
        _ => Kind::Simple,
    };
    let parts = if kind == Kind::Oneshot { rng.range(0, 3) } else { 1 };
    let execs = (0..parts).map(|_| exec(rng)).collect();
    let restart = match (&kind, rng.range(0, 9)) {
        (_, 0) => Restart::No,
        (_, 1) => Restart::OnFailure,
        (_, 2) => Restart::OnAbnormal,
        (_, 3) => Restart::OnAbort,
        (Kind::Oneshot, _) => Restart::OnFailure,
        (_, 4) => Restart::OnSuccess,
        _ => Restart::Always,
    };
    let limit = rng.percent(60).then(|| (rng.range(2, 6) as u32, rng.range(1, 10) * SECOND));
    let start = match rng.range(0, 9) {
        0..=3 => StartWhen::OnTraffic { also_at_once: rng.percent(20), limit, flush: rng.percent(20) },
        4 | 5 if kind == Kind::Simple => StartWhen::PerConnection {
            most: rng.range(1, 4) as u32,
            most_per_source: rng.range(0, 2) as u32,
            limit: rng.percent(30).then(|| (rng.range(3, 12) as u32, SECOND)),
        },
        _ => StartWhen::AtOnce,
    };
    let steps = steps(rng, &kind);
    let reloads = steps.iter().any(|step| step.step == Step::Reload);
    let notify = kind == Kind::Simple && rng.percent(30);
    ServiceSpec {
        name: format!("s{n}.service"),
        command: Command::Execs(execs),
        number: Number::Fixed(if kind == Kind::Simple { rng.range(1, 4) } else { 1 } as u32),
        sockets: vec![SocketId(0)],
        listen_env: ListenEnv::Full,
        ack: match kind {
            Kind::Simple if notify => AckMode::Notify,
            Kind::Simple => AckMode::After(0),
            Kind::Oneshot | Kind::Forking { .. } => AckMode::Manual,
        },
        start_timeout_ns: rng.range(500, 5000) * MS,
        stop_timeout_ns: rng.range(100, 4000) * MS,
        stop_signal: Signal::TERM,
        strategy: rng.pick(&[Strategy::Rolling, Strategy::Fleet]),
        upgrade_timeout_ns: rng.range(300, 8000) * MS,
        restart,
        restart_given: true,
        start,
        remain_after_exit: rng.percent(if kind == Kind::Oneshot { 60 } else { 10 }),
        steps,
        exits: ExitRules {
            signals_are_clean: true,
            success: Statuses { codes: if rng.percent(10) { vec![3] } else { Vec::new() }, signals: Vec::new() },
            ..ExitRules::default()
        },
        delay: Delay::Fixed {
            base_ns: rng.pick(&[0, 100, 700]) * MS,
            steps: rng.range(0, 3) as u32,
            max_ns: rng.percent(40).then_some(5 * SECOND),
        },
        start_limit: if rng.percent(70) { Some((rng.range(3, 8) as u32, rng.range(2, 10) * SECOND)) } else { None },
        kill: KillSpec { mode: rng.pick(&[KillMode::Group, KillMode::Mixed]), ..KillSpec::default() },
        runtime_max_ns: rng.percent(10).then(|| rng.range(1, 20) * SECOND),
        reload: match (reloads, notify && rng.percent(50)) {
            (_, true) => Reload::Notify(Signal::HUP),
            (true, false) => Reload::Commands,
            (false, false) => Reload::None,
        },
        kind,
        process: ProcessSpec { unit: true, ..ProcessSpec::default() },
        ..ServiceSpec::default()
    }
}

pub(crate) fn plan(rng: &mut Rng) -> Plan {
    let socket = SocketSpec {
        name: "web.socket".into(),
        named: true,
        kind: SocketKind::Stream,
        address: Address::Inet { host: Host::Dual, port: 80 },
        options: SocketOptions { lenient: true, ..SocketOptions::default() },
        origin: Origin::Default,
        retired: false,
        since: 0,
    };
    let services = (0..if rng.percent(70) { 1 } else { 2 }).map(|n| service(rng, n)).collect();
    Plan { sockets: vec![socket], services, ..Plan::default() }
}

/// What the operator does, with when.
pub(crate) fn operator(rng: &mut Rng) -> Vec<(Nanos, Event)> {
    let mut acts = Vec::new();
    for ask in 1..=rng.range(0, 12) {
        let wish = match rng.range(0, 9) {
            0 => Wish::Status,
            1..=4 => Wish::Reload { service: None },
            5 => Wish::Restart { service: None, slot: None },
            6 => Wish::Upgrade { service: None, strategy: None, timeout_ns: None, wait: Wait::Told },
            7 => Wish::Scale { service: Some("s0.service".into()), number: rng.range(0, 4) as u32 },
            8 => Wish::Reexec,
            _ => Wish::Ready,
        };
        acts.push((rng.range(0, CALM), Event::Asked(AskId(ask), wish)));
    }
    if rng.percent(20) {
        acts.push((rng.range(0, CALM), Event::Told(rng.pick(&[Told::Stop, Told::Interrupt]))));
    }
    acts.push((END, Event::Told(Told::Stop)));
    acts
}
