//! Tables of plans: what `check` settles, and every problem with its text.

use super::{Facts, check};
use crate::plan::{
    Address, Command, Limit, ListenEnv, LogFile, Number, Origin, Piece, Plan, Problem, Resource, Restart, Rotation,
    SECOND, ServiceSpec, Signal, SocketId, SocketKind, SocketOptions, SocketRef, SocketSpec, Stdio, Template,
};
use std::ffi::OsStr;

const FACTS: Facts = Facts { cpus: 3, pid1: false };

fn socket(name: &str, address: &str, at: usize) -> SocketSpec {
    let (address, kind) = match address.strip_prefix("udp:") {
        Some(rest) => (rest, SocketKind::Datagram),
        None => (address, SocketKind::Stream),
    };
    let address = match address.parse::<u16>() {
        Ok(port) => Address::Inet { host: crate::plan::Host::Dual, port },
        Err(_) => Address::Unix(address.into()),
    };
    SocketSpec {
        name: name.into(),
        named: true,
        kind,
        address,
        options: SocketOptions::default(),
        origin: Origin::Argument(at),
        retired: false,
        since: 0,
    }
}

fn plan(sockets: Vec<SocketSpec>, command: &[&str]) -> Plan {
    let words = command.iter().map(|word| Template::parse(OsStr::new(word)).expect("a template"));
    let service = ServiceSpec {
        name: "app".into(),
        command: Command::Program(words.collect()),
        origin: Origin::Argument(9),
        ..ServiceSpec::default()
    };
    Plan { sockets, services: vec![service], ..Plan::default() }
}

fn problems(plan: Plan) -> Vec<String> {
    check(plan, FACTS).map_or_else(|all| all.iter().map(Problem::to_string).collect(), |_| Vec::new())
}

#[test]
fn names_become_ids_and_auto_a_value() {
    let mut given = plan(vec![socket("a", "80", 2), socket("web.socket", "81", 4)], &["app", "fd://{SOCKET:web}"]);
    given.services[0].number = Number::Auto;
    let service = check(given, FACTS).expect("it is fine").services.remove(0);
    assert_eq!(service.number, Number::Fixed(3));
    assert_eq!(service.sockets, [SocketId(0), SocketId(1)]);
    assert_eq!(service.listen_env, ListenEnv::NoPid);
    let Command::Program(argv) = service.command else { panic!("a program") };
    assert_eq!(argv[1].0[1], Piece::Socket(SocketRef::At(SocketId(1))));

    let service = check(plan(vec![socket("a", "80", 2)], &["app"]), FACTS).expect("it is fine").services.remove(0);
    assert_eq!(service.listen_env, ListenEnv::Full);
    assert_eq!((service.restart, service.stop_timeout_ns), (Restart::Always, 90 * SECOND));
}

#[test]
fn pid_1_has_defaults_of_its_own() {
    let facts = Facts { cpus: 1, pid1: true };
    let service = check(plan(Vec::new(), &["app"]), facts).expect("it is fine").services.remove(0);
    assert_eq!((service.restart, service.stop_timeout_ns), (Restart::No, 8 * SECOND));
    let with_socket = check(plan(vec![socket("a", "80", 2)], &["app"]), facts).expect("it is fine").services.remove(0);
    assert_eq!(with_socket.restart, Restart::Always);
    let mut given = plan(Vec::new(), &["app"]);
    (given.services[0].restart_given, given.services[0].stop_timeout_given) = (true, true);
    let service = check(given, facts).expect("it is fine").services.remove(0);
    assert_eq!((service.restart, service.stop_timeout_ns), (Restart::Always, 90 * SECOND));
}

#[test]
fn every_problem_has_its_words() {
    let two = || vec![socket("web", "80", 2), socket("api", "/run/a", 4)];
    for (given, text) in [
        (
            plan(vec![socket("web", "80", 2), socket("web", "81", 4)], &["app"]),
            "argument 4: two sockets are named 'web' (the other: argument 2) (NAME=ADDR gives it another)",
        ),
        (
            plan(vec![socket("a", "80", 2), socket("b", "80", 4)], &["app"]),
            "argument 4: *:80 is asked for twice (the other: argument 2) (leave one out, or reuseport on both)",
        ),
        (
            plan(vec![socket("a b", "80", 2)], &["app"]),
            "argument 2: 'a b' is not a socket's name (letters, digits, _ . -)",
        ),
        (plan(two(), &["app", "{SOCKET:wub}"]), "argument 10: unknown socket 'wub' (did you mean web?)"),
        (plan(Vec::new(), &["app", "{SOCKET:web}"]), "argument 10: unknown socket 'web' (-b web=ADDR makes one)"),
        (plan(two(), &["app", "{SOCKET}"]), "argument 10: {SOCKET}: which of 2 sockets? ({SOCKET:web})"),
        (plan(Vec::new(), &["{SOCKET}"]), "argument 9: {SOCKET}: there is no socket (-b ADDR makes one)"),
        (plan(two(), &["app", "x", "{PORT:api}"]), "argument 11: socket 'api' (/run/a) has no port"),
        (plan(two(), &["app", "{PATH:web}"]), "argument 10: socket 'web' (*:80) has no path"),
    ] {
        assert_eq!(problems(given), [text]);
    }
}

#[test]
fn options_that_a_kind_does_not_have() {
    let with = |address: &str, set: fn(&mut SocketOptions)| {
        let mut spec = socket("s", address, 2);
        set(&mut spec.options);
        problems(plan(vec![spec], &["app"]))
    };
    let none: [String; 0] = [];
    assert_eq!(with("80", |o| o.mode = Some(0o600)), ["argument 2: socket 's': option mode means nothing for tcp"]);
    assert_eq!(with("/a", |o| o.nodelay = true), ["argument 2: socket 's': option nodelay means nothing for unix"]);
    assert_eq!(
        with("udp:80", |o| o.backlog = Some(1)),
        ["argument 2: socket 's': option backlog means nothing for udp"]
    );
    assert_eq!(with("/a", |o| o.slots = true), ["argument 2: socket 's': option slots means nothing for unix"]);
    assert_eq!(with("80", |o| (o.slots, o.reuse_port) = (true, true)), none);
    assert_eq!(with("udp:80", |o| o.slots = true), none);
    assert_eq!(with("80", |o| o.nodelay = true), none);
    assert_eq!(with("/a", |o| o.mode = Some(0o600)), none);
}

#[test]
fn slots_are_those_of_one_service_that_binds_them() {
    let slots = |mut spec: SocketSpec| {
        spec.options.slots = true;
        spec
    };
    let mut kinds: Vec<SocketSpec> = ["a", "b", "c"].map(|name| slots(socket(name, "80", 2))).into();
    kinds[0].address = Address::Abstract("x".into());
    kinds[1].address = Address::Vsock { cid: 1, port: 1 };
    (kinds[2].address, kinds[2].kind) = (Address::Unix("/f".into()), SocketKind::Fifo);
    assert_eq!(
        problems(plan(kinds, &["app"])),
        [
            "argument 2: socket 'a': option slots means nothing for unix",
            "argument 2: socket 'b': option slots means nothing for vsock",
            "argument 2: socket 'c': option slots means nothing for fifo",
        ]
    );
    let fd = SocketSpec { address: Address::Fd(5), ..slots(socket("d", "80", 2)) };
    assert_eq!(
        problems(plan(vec![fd], &["app"])),
        [
            "argument 2: socket 'd': slots needs a socket per slot, and fd:5 is one (give the address, not the descriptor)"
        ]
    );

    let mut two = plan(vec![slots(socket("web", "80", 2)), socket("api", "81", 4)], &["app"]);
    two.services.push(ServiceSpec { name: "other".into(), sockets: vec![SocketId(1)], ..two.services[0].clone() });
    assert_eq!(problems(two.clone()), [""; 0]);
    two.services[1].sockets.clear(); // All.
    assert_eq!(
        problems(two),
        ["argument 2: socket 'web': slots are those of one service, and app and other use it (leave slots out)"]
    );

    let twice = |name, at| {
        let mut spec = slots(socket(name, "80", at));
        spec.options.reuse_port = true;
        spec
    };
    assert!(problems(plan(vec![twice("a", 2), twice("b", 4)], &["app"]))[0].contains("asked for twice"));
}

#[test]
fn policies_that_could_not_work() {
    let with = |set: fn(&mut ServiceSpec)| {
        let mut given = plan(Vec::new(), &["app"]);
        set(&mut given.services[0]);
        problems(given).join("; ")
    };
    let limit = Limit { resource: Resource::Nofile, soft: None, hard: Some(1) };
    assert!(with(|s| s.number = Number::Fixed(0)).contains("worker count 0: nothing would ever start (-n 1 or more)"));
    assert!(with(|s| s.backoff_base_ns = 0).contains("a back-off of 0 s"));
    assert!(with(|s| s.max_unacked = Some(0)).contains("--max-unacked 0"));
    assert!(with(|s| s.max_upgrade_additional = Some(0)).contains("--max-upgrade-additional 0"));
    assert!(with(|s| s.stop_signal = Signal::KILL).contains("--stop-signal KILL"));
    let mut given = plan(Vec::new(), &["app"]);
    given.services[0].limits = vec![limit];
    assert!(problems(given)[0].contains("the soft limit is above the hard one"));
    for (key, text) in [("", "is not the name"), ("NOTIFY_SOCKET", "is set by prebind itself"), ("EINHORN_X", "itself")]
    {
        let mut given = plan(Vec::new(), &["app"]);
        given.services[0].env = vec![(key.into(), Template::default())];
        assert!(problems(given)[0].contains(text), "{key}");
    }
}

#[test]
fn inherited_names_need_not_differ() {
    let inherited = |name: &str| {
        let origin = Origin::Environment("LISTEN_FDS".into());
        SocketSpec { address: Address::Fd(3), origin, ..socket(name, "80", 0) }
    };
    let given = plan(vec![inherited("web.socket"), inherited("web.socket"), inherited("a name")], &["app"]);
    assert!(check(given, FACTS).is_ok());
}

#[test]
fn sockets_that_are_all_and_workers_that_come_later() {
    let mut given = plan(vec![socket("a", "80", 2)], &["app"]);
    (given.services[0].sockets_given, given.services[0].autostart) = (true, false);
    given.services[0].number = Number::Fixed(0);
    let service = check(given, FACTS).expect("it is fine").services.remove(0);
    assert_eq!((service.sockets, service.number), (vec![], Number::Fixed(0)));
}

#[test]
fn a_log_file_is_written_in_one_way() {
    let file = |rotation| Stdio::Log(LogFile { path: "/x".into(), rotation, time_format: None });
    let mut given = plan(vec![], &["app"]);
    given.services[0].process.stdout = file(Rotation::Watched);
    given.services[0].process.stderr = file(Rotation::Watched);
    assert!(check(given.clone(), FACTS).is_ok(), "twice in the same way");
    given.services[0].process.stderr = file(Rotation::Never);
    let said = problems(given);
    assert!(said.len() == 1 && said[0].contains("/x: is written in two different ways"), "{said:?}");
}
