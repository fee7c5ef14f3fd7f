use super::super::memory::Memory;
use super::super::plan::{Read, read};
use super::*;
use crate::plan::{AckMode, Command, Exec, Piece, ServiceSpec, StartWhen, Template};

fn opened(words: &[&str], request: Request, files: &[(&'static str, &'static str)]) -> Read {
    beside(&[], words, request, files)
}

/// While these units run already.
fn beside(running: &[&str], words: &[&str], request: Request, files: &[(&'static str, &'static str)]) -> Read {
    let words = words.iter().zip(1..).map(|(word, at)| (word.to_string(), Origin::Argument(at))).collect();
    let request = Request { words, ..request };
    let folders = Memory(files.to_vec());
    let outside = |letter| (letter == 't').then(|| "/run".to_string());
    let search = ["/etc".to_string(), "/usr".to_string()];
    let holds = |kind: &str, value: &str| (kind == "PathExists").then(|| value.starts_with("/there"));
    let machine = Machine {
        folders: &folders,
        search: &search,
        outside: &outside,
        holds: &holds,
        runs: &|name| running.contains(&name),
    };
    read(&request, &ServiceSpec::default(), machine)
}

fn units(words: &[&str], files: &[(&'static str, &'static str)]) -> Read {
    opened(words, Request::default(), files)
}

/// Each service: its name, when it starts, the names of its sockets with their addresses.
fn shown(read: &Read) -> Vec<String> {
    let service = |one: &ServiceSpec| {
        let start = match one.start {
            StartWhen::AtOnce => "at once",
            StartWhen::OnTraffic { also_at_once: true, .. } => "at once, traffic",
            StartWhen::OnTraffic { also_at_once: false, .. } => "traffic",
            StartWhen::PerConnection { .. } => "connections",
        };
        let sockets = one.sockets.iter().map(|id| {
            let spec = &read.sockets[usize::from(id.0)];
            format!(" {}={}", spec.name, spec.address)
        });
        format!("{} ({start}){}", one.name, sockets.collect::<String>())
    };
    read.services.iter().map(service).collect()
}

fn problems(read: &Read) -> Vec<String> {
    read.problems.iter().map(ToString::to_string).collect()
}

fn said(read: &Read) -> Vec<String> {
    read.remarks.iter().filter(|one| one.warning).map(ToString::to_string).collect()
}

const RUN: &str = "[Service]\nExecStart=/bin/x";

#[test]
fn a_socket_brings_its_service_and_a_service_its_sockets() {
    let files = [
        ("/usr/web.socket", "[Socket]\nListenStream=80"),
        ("/usr/web.service", RUN),
        ("/usr/tls.socket", "[Socket]\nListenStream=443\nService=web.service"),
        ("/usr/ro.socket", "[Unit]\nBindsTo=tls.socket b.socket\n[Socket]\nListenStream=444\nService=web.service"),
        ("/usr/big.service", "[Unit]\nWants=tls.socket\n[Service]\nExecStart=/bin/x\nSockets=b.socket a.socket"),
        ("/usr/big.socket", "[Socket]\nListenStream=1"),
        ("/usr/a.socket", "[Socket]\nListenStream=2\nService=big.service"),
        ("/usr/b.socket", "[Socket]\nListenStream=3"),
        ("/usr/b.service", RUN),
    ];
    for (words, expected) in [
        (&["web.socket"][..], &["web.service (traffic) web.socket=[::]:80"][..]),
        (&["web.service"], &["web.service (at once, traffic) web.socket=[::]:80"]),
        (&["tls.socket"], &["web.service (traffic) tls.socket=[::]:443"]),
        (&["ro.socket"], &["web.service (traffic) ro.socket=[::]:444 tls.socket=[::]:443"]),
        (&["tls.socket", "/usr/web.socket"], &["web.service (traffic) web.socket=[::]:80 tls.socket=[::]:443"]),
        (&["web.socket", "web.service"], &["web.service (at once, traffic) web.socket=[::]:80"]),
        (
            &["big.service"],
            &[
                "big.service (at once, traffic) b.socket=[::]:3 a.socket=[::]:2 big.socket=[::]:1",
                "b.service (traffic) b.socket=[::]:3",
            ],
        ),
    ] {
        let read = units(words, &files);
        assert_eq!(
            (shown(&read), problems(&read)),
            (expected.iter().map(|one| one.to_string()).collect(), vec![]),
            "{words:?}"
        );
    }
    let read = units(&["big.service"], &files);
    assert!(read.remarks.iter().any(|one| one.message.contains("tls.socket is another service's")));
}

#[test]
fn a_folder_gives_all_but_templates() {
    let files = [
        ("/f/b.service", RUN),
        ("/f/a.service", "[Service]\nExecStart=/bin/x"),
        ("/f/a.socket", "[Socket]\nListenStream=/run/a\nListenDatagram=5"),
        ("/f/t@.service", RUN),
        ("/f/m.service", "-> /dev/null"),
        ("/f/c.timer", "[Timer]"),
        ("/f/a.service.d/x.conf", "[Service]\nUser=www"),
        ("/etc/a.service.d/y.conf", "[Service]\nGroup=www"),
        ("/f/a.service.wants/x", "x"),
    ];
    let read = units(&["/f/"], &files);
    let expected = ["a.service (traffic) a.socket=/run/a a.socket=[::]:5", "b.service (at once)"];
    assert_eq!((shown(&read), problems(&read), said(&read)), (expected.map(String::from).to_vec(), vec![], vec![]));
    assert_eq!((read.services[0].user.as_deref(), read.services[0].group.as_deref()), (Some("www"), Some("www")));
    let notes: Vec<&str> = read.remarks.iter().map(|one| one.message.as_str()).collect();
    assert!(
        notes.iter().any(|note| note.contains("c.timer"))
            && notes.iter().any(|note| note.contains("m.service is masked"))
    );
    assert_eq!(
        problems(&units(&["/f"], &[("/f/x.timer", "[Timer]")])),
        ["argument 1: no .socket and no .service lies in /f"]
    );
}

#[test]
fn templates_and_aliases() {
    let files = [
        ("/usr/foo@.service", "[Service]\nExecStart=/bin/x %i\nEnvironment=A=%I B=%n"),
        ("/usr/foo.socket", "[Socket]\nListenStream=1\nAccept=yes\nMaxConnections=3"),
        ("/usr/alias.service", "-> /usr/real.service"),
        ("/usr/real.service", RUN),
        ("/etc/alias.service.d/a.conf", "[Service]\nUser=a"),
        ("/etc/real.service.d/b.conf", "[Service]\nGroup=b"),
        ("/usr/get@.socket", "[Socket]\nListenStream=%i"),
        ("/usr/get@.service", "[Service]\nExecStart=/bin/x %i"),
    ];
    let read = units(&["foo.socket"], &files);
    assert_eq!(
        (shown(&read), problems(&read)),
        (vec!["foo@.service (connections) connection=[::]:1".to_string()], vec![])
    );
    let spec = &read.services[0];
    assert!(matches!(spec.start, StartWhen::PerConnection { most: 3, most_per_source: 0, limit: Some((200, _)) }));
    let instance = |unescaped| Template(vec![Piece::Instance { unescaped }]);
    let Command::Execs(execs) = &spec.command else { panic!("{:?}", spec.command) };
    let Exec { words, .. } = &execs[0];
    assert_eq!((&words[1], &spec.env[0].1), (&instance(false), &instance(true)));
    assert_eq!(spec.env[1].1.0.len(), 3, "foo@, the instance, .service");
    assert_eq!(shown(&units(&["foo@bar.service"], &files)), ["foo@bar.service (at once)"]);
    assert_eq!(shown(&units(&["get@7.socket"], &files)), ["get@7.service (traffic) get@7.socket=[::]:7"]);
    let read = units(&["alias.service", "real.service"], &files);
    assert_eq!((shown(&read), problems(&read)), (vec!["real.service (at once)".to_string()], vec![]));
    assert_eq!((read.services[0].user.as_deref(), read.services[0].group.as_deref()), (Some("a"), Some("b")));
}

#[test]
fn policy_of_what_was_read() {
    let files = [
        (
            "/usr/web.socket",
            "[Socket]\nListenStream=80\nListenStream=80\nReusePort=yes\nListenDatagram=53\nListenFIFO=/f",
        ),
        (
            "/usr/web.service",
            "[Service]\nExecStart=/bin/x\nNonBlocking=yes\nX-Prebind-Slots=yes\nX-Prebind-Number=3\nX-Prebind-Strategy=fleet",
        ),
        ("/usr/n.service", "[Service]\nType=notify\nExecStart=/bin/x"),
        ("/usr/o.service", "[Service]\nType=oneshot\nExecStart=/bin/x"),
        ("/usr/s.service", RUN),
    ];
    let read = units(&["web.socket"], &files);
    assert_eq!(problems(&read), Vec::<String>::new());
    let flags: Vec<_> =
        read.sockets.iter().map(|one| (one.options.nonblock, one.options.slots, one.options.reuse_port)).collect();
    assert_eq!(flags, [(true, true, true), (true, true, true), (true, true, true), (true, false, false)]);
    let spec = &read.services[0];
    assert_eq!((spec.number, spec.strategy, spec.ack), (Number::Fixed(3), Strategy::Fleet, AckMode::Auto));
    assert!(spec.process.clean_environment && spec.process.unit);
    assert!(matches!(spec.start, StartWhen::OnTraffic { also_at_once: false, limit: Some((20, _)), flush: false }));
    let number = Some((Number::Fixed(9), Origin::Argument(7)));
    let request =
        Request { start: true, inherit_env: true, number, strategy: Some(Strategy::Canary), ..Request::default() };
    let read = opened(&["web.socket"], request.clone(), &files);
    let spec = &read.services[0];
    assert_eq!(
        (spec.number, spec.strategy, spec.process.clean_environment),
        (Number::Fixed(9), Strategy::Canary, false)
    );
    assert!(matches!(spec.start, StartWhen::OnTraffic { also_at_once: true, .. }));
    let read = opened(&["web.socket", "s.service"], request, &files);
    assert!(problems(&read)[0].starts_with("argument 7: -n: which of 2 services?"), "{:?}", problems(&read));
    for (word, ack) in
        [("n.service", AckMode::Notify), ("o.service", AckMode::Manual), ("s.service", AckMode::After(0))]
    {
        assert_eq!(units(&[word], &files).services[0].ack, ack, "{word}");
    }
}

#[test]
fn conditions_skip_and_asserts_refuse() {
    let files = [
        ("/usr/web.socket", "[Unit]\nConditionPathExists=/gone\n[Socket]\nListenStream=80"),
        ("/usr/web.service", RUN),
        ("/usr/x.socket", "[Socket]\nListenStream=81"),
        ("/usr/x.service", "[Unit]\nConditionPathExists=!/there\n[Service]\nExecStart=/bin/x"),
        ("/usr/a.service", "[Unit]\nAssertPathExists=/gone\n[Service]\nExecStart=/bin/x"),
    ];
    let read = units(&["web.service", "x.socket"], &files);
    assert_eq!(shown(&read), ["web.service (at once)"]);
    assert_eq!(
        said(&read),
        [
            "/usr/web.socket:2: ConditionPathExists=/gone is not met: web.socket is skipped",
            "/usr/x.service:2: ConditionPathExists=!/there is not met: x.service is skipped",
            "/usr/x.socket:1: x.socket is left out: its service x.service is not run",
        ]
    );
    assert!(problems(&units(&["web.socket"], &files))[0].contains("nothing is left to run"));
    let read = beside(&["web.socket"], &["web.socket"], Request::default(), &files);
    assert_eq!(shown(&read), ["web.service (traffic) web.socket=[::]:80"], "what runs goes on");
    assert_eq!(
        problems(&units(&["a.service"], &files)),
        ["/usr/a.service:2: AssertPathExists=/gone is not met: a.service may not run"]
    );
}

#[test]
fn every_problem_has_its_words() {
    let files = [
        ("/usr/web.socket", "[Socket]\nListenStream=80\nService=wbe.service"),
        ("/usr/web.service", RUN),
        ("/usr/m.service", "-> /dev/null"),
        ("/usr/m.socket", "[Socket]\nListenStream=1"),
        ("/usr/s.service", "secret"),
        ("/usr/empty.socket", "[Socket]\nListenStream=x"),
        ("/usr/in.service", "[Service]\nExecStart=/bin/x\nStandardInput=socket"),
        ("/usr/in.socket", "[Socket]\nListenStream=1\nListenStream=2"),
        ("/usr/p.service", "[Service]\nExecStart=/bin/x\nPrivateTmp=yes\nProtectHome=yes"),
        ("/usr/foo@.service", "[Service]\nExecStart=/bin/x\nUser=u%i"),
        ("/usr/foo.socket", "[Socket]\nListenStream=1\nAccept=yes"),
        (
            "/usr/fd.service",
            "[Service]\nExecStart=/bin/x\nStandardInput=fd:fd.sokcet\nStandardOutput=fd:log\nOpenFile=/a:log",
        ),
        ("/usr/fd.socket", "[Socket]\nListenStream=1"),
        ("/usr/k.service", "[Service]\nType=forking\nExecStart=/bin/x\nX-Prebind-Number=2"),
        ("/usr/q.service", "[Service]\nExecStart=/bin/x\nSockets=nosuch.socket"),
    ];
    for (word, why) in [
        ("wen.socket", "argument 1: unit wen.socket is not found (did you mean web.socket?)"),
        ("0000.service", "argument 1: unit 0000.service is not found (looked in /etc:/usr)"),
        ("web.socket", "/usr/web.socket:3: its service wbe.service is not found (did you mean web.service?)"),
        ("m.service", "argument 1: unit m.service is masked (/usr/m.service)"),
        ("m.socket", "/usr/m.socket:1: its service m.service is masked (/usr/m.service)"),
        ("s.service", "argument 1: cannot read /usr/s.service: permission denied"),
        ("empty.socket", "/usr/empty.socket:1: empty.socket: it has no Listen setting that can be read"),
        (
            "in.socket",
            "/usr/in.service:2: in.service: a standard descriptor is to be its socket, and it has 2 (exactly",
        ),
        (
            "p.service",
            "/usr/p.service:3: p.service asks for protection that only systemd gives: PrivateTmp (line 3), Pro",
        ),
        ("foo.socket", "/usr/foo@.service:3: User=u%i: the instance is known only when a connection comes (%i"),
        (
            "fd.service",
            "/usr/fd.service:2: fd.service: a standard descriptor is to be fd:fd.sokcet, and it has no such one (did you",
        ),
        ("k.service", "/usr/k.service:3: k.service: of a Type=forking service there can be one copy only"),
        ("q.service", "/usr/q.service:3: socket nosuch.socket is not found"),
        (
            "foo@.service",
            "argument 1: foo@.service is a template: only its instances can be started (--unit foo@NAME.service)",
        ),
        ("x.timer", "argument 1: x.timer: only .socket and .service units are run"),
        ("web", "argument 1: 'web' is no unit name: it has no type"),
        ("/usr/none/", "argument 1: 'none' is no unit name"),
    ] {
        let found = problems(&units(&[word], &files));
        assert!(found.iter().any(|one| one.starts_with(why)), "{word}: {found:#?}");
    }
    let allowed = opened(&["p.service"], Request { allow_unprotected: true, ..Request::default() }, &files);
    assert_eq!((problems(&allowed), said(&allowed).len()), (vec![], 2));
}

#[test]
fn a_socket_of_connections_belongs_to_its_template() {
    let files = [
        ("/usr/foo@.service", RUN),
        ("/usr/foo.socket", "[Socket]\nListenStream=1\nAccept=yes"),
        ("/usr/bar.service", "[Service]\nExecStart=/bin/x\nSockets=foo.socket"),
    ];
    let found = problems(&units(&["bar.service"], &files));
    assert!(found[0].contains("bar.service: foo.socket has Accept=yes"), "{found:?}");
}

#[test]
fn two_connection_sockets_cannot_share_a_template() {
    let files = [
        ("/usr/foo@.service", RUN),
        ("/usr/foo@a.socket", "[Socket]\nListenStream=1\nAccept=yes"),
        ("/usr/foo@b.socket", "[Socket]\nListenStream=2\nAccept=yes"),
    ];
    let read = units(&["foo@a.socket", "foo@b.socket"], &files);
    assert!(problems(&read)[0].contains("several sockets with Accept=yes (foo@a.socket, foo@b.socket) start it"));
}
