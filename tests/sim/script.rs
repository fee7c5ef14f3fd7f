//! What a history is made of: a random plan, the behaviour of each worker, and what the operator does when.

use crate::rng::Rng;
use prebind::plan::{
    AckMode, Address, Command, Host, ListenEnv, Nanos, Number, Plan, Restart, SECOND, ServiceSpec, Signal, SocketId,
    SocketKind, SocketOptions, SocketSpec, Strategy,
};
use prebind::supervise::{AskId, Command as Wish, Ended, Event, Settings, Told, Wait};

pub(crate) const MS: Nanos = SECOND / 1000;
/// From here on workers behave, and until [`END`] the operator lets them.
pub(crate) const CALM: Nanos = 60 * SECOND;
/// The last stop, if none came before.
pub(crate) const END: Nanos = 400 * SECOND;

pub(crate) fn plan(rng: &mut Rng) -> Plan {
    let mut plan = Plan::default();
    plan.sockets.push(SocketSpec {
        name: "web".into(),
        named: true,
        kind: SocketKind::Stream,
        address: Address::Inet { host: Host::Dual, port: 80 },
        options: SocketOptions { slots: rng.percent(30), ..SocketOptions::default() },
        origin: Default::default(),
        retired: false,
        since: 0,
    });
    let count = if rng.percent(80) { 1 } else { 2 };
    for n in 0..count {
        let service = service(rng, n);
        plan.services.push(service);
    }
    plan.entry.subreaper = rng.percent(30);
    plan
}

fn service(rng: &mut Rng, n: u64) -> ServiceSpec {
    let number = if rng.percent(3) { rng.range(10, 40) } else { rng.range(1, 6) } as u32;
    let some = |rng: &mut Rng, value: u32| rng.percent(20).then_some(value);
    let (unacked, additional) = (rng.range(1, 3) as u32, rng.range(1, 3) as u32);
    ServiceSpec {
        name: format!("s{n}"),
        command: Command::Demo,
        number: Number::Fixed(number),
        sockets: if rng.percent(70) { vec![SocketId(0)] } else { Vec::new() },
        listen_env: ListenEnv::Full,
        ack: match rng.range(0, 5) {
            0 | 1 => AckMode::Auto,
            4 => AckMode::Accept,
            5 => AckMode::After(0),
            2 => AckMode::After(rng.range(0, 3000) * MS),
            3 => AckMode::Manual,
            _ => AckMode::Notify,
        },
        min_ready_ns: if rng.percent(30) { rng.range(0, 4000) * MS } else { 0 },
        start_timeout_ns: rng.range(500, 5000) * MS,
        backoff_base_ns: rng.range(100, 2000) * MS,
        stop_timeout_ns: rng.range(100, 8000) * MS,
        watchdog_ns: rng.percent(15).then(|| rng.range(2000, 4000) * MS),
        max_unacked: some(rng, unacked),
        max_upgrade_additional: some(rng, additional),
        strategy: rng.pick(&[Strategy::Rolling, Strategy::Fleet, Strategy::Canary]),
        bake_ns: rng.range(0, 4000) * MS,
        upgrade_timeout_ns: rng.range(300, 8000) * MS,
        upgrade_retries: rng.range(1, 4) as u32,
        drain_delay_ns: rng.percent(20).then(|| rng.range(0, 2000) * MS),
        restart: if rng.percent(85) { Restart::Always } else { rng.pick(&[Restart::OnFailure, Restart::No]) },
        stop_passes_code: rng.percent(50),
        give_up_after: rng.percent(20).then(|| rng.range(1, 6) as u32),
        spacing_ns: if rng.percent(10) { rng.range(1, 800) * MS } else { 0 },
        max_age: rng.percent(10).then(|| (rng.range(500, 20_000) * MS, rng.range(0, 5000) * MS)),
        ..ServiceSpec::default()
    }
}

/// What a worker does. Times are after its spawn.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) ready_after: Option<Nanos>,
    pub(crate) acks: bool,
    pub(crate) dies: Option<(Nanos, Ended)>,
    /// On the stop signal: it ends after so long; `None`: it ignores it.
    pub(crate) obeys: Option<Nanos>,
    pub(crate) says_stopping: Option<Nanos>,
    pub(crate) holds: bool,
    /// It says WATCHDOG=1 until then.
    pub(crate) pings_until: Nanos,
    /// What it leaves behind: `Some(obeys)`.
    pub(crate) leaves: Option<bool>,
    pub(crate) extends: Option<(Nanos, u64)>,
    /// When it waits on its sockets; `None`: never.
    pub(crate) accepts_after: Option<Nanos>,
    /// Whether /proc tells.
    pub(crate) is_seen: bool,
}

impl Behaviour {
    pub(crate) fn good(rng: &mut Rng) -> Behaviour {
        Behaviour {
            ready_after: Some(rng.range(0, 400) * MS),
            acks: rng.percent(30),
            dies: None,
            obeys: Some(rng.range(0, 90) * MS),
            says_stopping: None,
            holds: true,
            pings_until: Nanos::MAX,
            leaves: None,
            extends: None,
            accepts_after: Some(rng.range(0, 2500) * MS),
            is_seen: rng.percent(80),
        }
    }

    pub(crate) fn random(rng: &mut Rng) -> Behaviour {
        let mut one = Behaviour::good(rng);
        one.ready_after = match rng.range(0, 9) {
            0 => None,
            1 => Some(rng.range(0, 8000) * MS),
            _ => one.ready_after,
        };
        if rng.percent(35) {
            let how = match rng.range(0, 3) {
                0 => Ended::Code(0),
                1 => Ended::Code(rng.range(1, 3) as u8),
                _ => Ended::Signal(rng.pick(&[Signal::KILL, Signal(11), Signal::TERM])),
            };
            one.dies = Some((rng.pick(&[0, 50, 700, 3000, 12_000, 30_000]) * MS + rng.range(0, 900) * MS, how));
        }
        if rng.percent(15) {
            one.obeys = rng.percent(50).then(|| rng.range(0, 9000) * MS);
        }
        if rng.percent(15) {
            one.accepts_after = None;
        }
        one.says_stopping = rng.percent(4).then(|| rng.range(0, 9000) * MS);
        one.holds = rng.percent(93);
        if rng.percent(20) {
            one.pings_until = rng.range(0, 20_000) * MS;
        }
        one.leaves = rng.percent(12).then(|| rng.percent(50));
        one.extends = rng.percent(4).then(|| (rng.range(0, 3000) * MS, rng.range(1, 6_000_000)));
        one
    }
}

/// What the operator does, with when.
pub(crate) fn operator(rng: &mut Rng, services: usize) -> Vec<(Nanos, Event)> {
    let mut acts = Vec::new();
    let mut next_ask = 0;
    let mut at = 0;
    for _ in 0..rng.range(0, 25) {
        // Sometimes at the same instant.
        if rng.percent(75) {
            at = rng.range(0, CALM);
        }
        let event = match rng.range(0, 19) {
            0 => Event::Told(Told::More),
            1 => Event::Told(Told::Fewer),
            2 | 3 => Event::Told(Told::Upgrade),
            5 if rng.percent(25) => Event::Told(Told::Forward(Signal::CONT)),
            4 if rng.percent(25) => Event::Told(rng.pick(&[Told::Stop, Told::Interrupt, Told::Quit])),
            _ => {
                next_ask += 1;
                Event::Asked(AskId(next_ask), wish(rng, services))
            }
        };
        acts.push((at, event));
    }
    let last = match rng.range(0, 5) {
        0 => vec![Told::Interrupt, Told::Interrupt],
        1 => vec![Told::Quit],
        2 => vec![Told::Stop, Told::Quit, Told::Interrupt, Told::Interrupt],
        _ => vec![Told::Stop],
    };
    let mut at = END;
    for told in last {
        acts.push((at, Event::Told(told)));
        at += rng.range(0, 300) * MS;
    }
    if rng.percent(30) {
        acts.push((
            END + rng.range(0, 50) * MS,
            Event::Asked(AskId(next_ask + 1), Wish::Stop { signal: None, wait: true }),
        ));
    }
    acts
}

fn wish(rng: &mut Rng, services: usize) -> Wish {
    let service = match rng.range(0, 5) {
        0 => Some("nosuch".to_string()),
        1 | 2 => None,
        _ => Some(format!("s{}", rng.range(0, services as u64 - 1))),
    };
    match rng.range(0, 26) {
        0 => Wish::Status,
        1 => Wish::Ready,
        2 => Wish::Signal { service, signals: vec![Signal(10)] },
        3 if rng.percent(20) => Wish::Stop { signal: rng.percent(30).then_some(Signal(12)), wait: rng.percent(70) },
        14..=18 => Wish::Upgrade {
            service,
            strategy: rng.percent(50).then(|| rng.pick(&[Strategy::Rolling, Strategy::Fleet, Strategy::Canary])),
            timeout_ns: rng.percent(20).then(|| rng.range(200, 9000) * MS),
            wait: rng.pick(&[Wait::Told, Wait::Told, Wait::Drained, Wait::No]),
        },
        19 => Wish::Promote { service },
        21..=23 => Wish::Reexec,
        24 => Wish::Step { more: rng.percent(50) },
        25 => Wish::ReplaceAndUpgrade { strategy: rng.pick(&[Strategy::Rolling, Strategy::Fleet]) },
        26 => Wish::Configure {
            number: rng.percent(30).then(|| rng.range(0, 7) as u32),
            settings: Settings {
                backoff_base_ns: rng.percent(50).then(|| rng.range(900, 2000) * MS),
                ..Settings::default()
            },
        },
        20 => Wish::Rollback { service },
        4..=6 => Wish::Scale { service, number: rng.range(0, 8) as u32 },
        _ => Wish::Restart { service, slot: rng.percent(40).then(|| rng.range(0, 6) as u32) },
    }
}
