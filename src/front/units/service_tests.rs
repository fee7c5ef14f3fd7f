use super::super::lex::lex;
use super::*;
use crate::plan::{Piece, Template};

fn unit(text: &str) -> (ServiceUnit, Vec<String>, Vec<String>, Vec<String>) {
    let mut remarks = Vec::new();
    let assignments = lex("web.service", text.as_bytes(), &mut remarks);
    let name = UnitName::parse("web@x.service").unwrap();
    let outside = |letter| (letter == 't').then(|| "/run".to_string());
    let (unit, left, problems) = read(&name, &assignments, &outside, &mut remarks);
    let left = left.iter().map(|one| one.key.clone()).collect();
    let problems = problems.iter().map(Problem::to_string).collect();
    (unit, left, remarks.iter().map(Remark::to_string).collect(), problems)
}

fn line(words: &[Template]) -> String {
    let text = |word: &Template| match &word.0[..] {
        [Piece::Text(text)] => text.to_string_lossy().into_owned(),
        other => format!("{other:?}"),
    };
    words.iter().map(text).collect::<Vec<_>>().join("|")
}

#[test]
fn commands_and_policy() {
    let text = "[Unit]\nDescription=x\nStartLimitBurst=3\n[Service]\nType=notify\nExecStartPre=-/bin/a\nExecStart=/bin/b %i \"%%x y\"\n\
                ExecReload=/bin/kill -HUP $MAINPID ; /bin/c\nRestart=on-failure\nRestartSec=700ms\nTimeoutSec=0\n\
                TimeoutStopSec=1min\nWatchdogSec=5\nSuccessExitStatus=7 SIGUSR1 TEMPFAIL\nSockets=a.socket %p.socket\n\
                X-Prebind-Number=4\nX-Prebind-Slots=yes\nNonBlocking=on\nUser=www\nKillMode=mixed\n[Install]\nWantedBy=x\n";
    let (unit, left, remarks, problems) = unit(text);
    assert_eq!((remarks.len(), problems.len()), (0, 0), "{remarks:?} {problems:?}");
    assert_eq!(left, ["Description", "WantedBy"]);
    let ServiceUnit { spec, kind, sockets, .. } = unit;
    let steps: Vec<(Step, String)> = spec.steps.iter().map(|one| (one.step, line(&one.exec.words))).collect();
    let expected = [(Step::StartPre, "/bin/a"), (Step::Reload, "/bin/kill|-HUP|$MAINPID"), (Step::Reload, "/bin/c")];
    assert_eq!(steps, expected.map(|(step, words)| (step, words.to_string())));
    let Command::Execs(starts) = &spec.command else { panic!("{:?}", spec.command) };
    assert_eq!((starts.len(), line(&starts[0].words).as_str()), (1, "/bin/b|x|%x y"));
    assert_eq!(spec.origin, Origin::File { name: "web.service".into(), line: 7 });
    assert_eq!((kind, spec.restart, spec.user.as_deref()), (Type::Notify, Restart::OnFailure, Some("www")));
    assert_eq!(spec.delay, Delay::Fixed { base_ns: 700_000_000, steps: 0, max_ns: None });
    assert_eq!((spec.start_timeout_ns, spec.stop_timeout_ns), (ServiceSpec::NEVER_NS, 60 * SECOND));
    assert_eq!((spec.watchdog_ns, spec.start_limit), (Some(5 * SECOND), Some((3, 10 * SECOND))));
    assert_eq!((spec.notify_access, spec.reload), (NotifyAccess::Main, Reload::Commands));
    assert_eq!((spec.exits.success.codes, spec.exits.success.signals), (vec![7, 75], vec!["USR1".parse().unwrap()]));
    let sockets: Vec<String> = sockets.into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        (sockets, spec.number, unit.slots, unit.nonblock),
        (vec!["a.socket".into(), "web.socket".into()], Number::Fixed(4), true, true)
    );
}

#[test]
fn kinds_and_their_defaults() {
    let spec = |text: &str| unit(&format!("[Service]\nExecStart=/bin/a\n{text}")).0.spec;
    let plain = spec("");
    assert_eq!((plain.start_timeout_ns, plain.stop_timeout_ns, plain.restart), (90 * SECOND, 90 * SECOND, Restart::No));
    assert_eq!((plain.notify_access, plain.reload, plain.kind), (NotifyAccess::None, Reload::None, Kind::Simple));
    assert_eq!((plain.chdir.as_deref(), plain.umask), (Some("/".as_ref()), Some(0o022)));
    assert!(plain.process.unit && plain.process.ignore_sigpipe && plain.exits.signals_are_clean && plain.restart_given);
    assert_eq!(spec("Type=oneshot").start_timeout_ns, ServiceSpec::NEVER_NS);
    assert_eq!(spec("Type=forking\nPIDFile=%p.pid").kind, Kind::Forking { pidfile: Some("/run/web.pid".into()) });
    assert_eq!(spec("Type=notify-reload").reload, Reload::Notify(Signal::HUP));
    assert_eq!(
        spec("Type=notify-reload\nReloadSignal=USR1\nExecReload=/bin/b").reload,
        Reload::Notify("USR1".parse().unwrap())
    );
    assert_eq!(spec("Type=notify\nNotifyAccess=none").notify_access, NotifyAccess::Main);
    assert_eq!(spec("FileDescriptorStoreMax=3").notify_access, NotifyAccess::Main);
    assert_eq!(spec("NotifyAccess=exec").notify_access, NotifyAccess::Exec);
    let delay = |text| spec(text).delay;
    let growing = Delay::Fixed { base_ns: SECOND, steps: 4, max_ns: Some(8 * SECOND) };
    assert_eq!(delay("RestartSec=1\nRestartSteps=4\nRestartMaxDelaySec=8"), growing);
    let constant = Delay::Fixed { base_ns: SECOND, steps: 0, max_ns: None };
    assert_eq!(delay("RestartSec=1\nRestartMaxDelaySec=8"), constant);
    assert_eq!(delay("RestartSec=1\nRestartSteps=4"), constant);
    let abort = |text| spec(text).kill.abort_timeout_ns;
    assert_eq!(
        (abort(""), abort("TimeoutAbortSec=5"), abort("TimeoutAbortSec=0")),
        (None, Some(5 * SECOND), Some(ServiceSpec::NEVER_NS))
    );
    assert_eq!(spec("RuntimeMaxSec=infinity").runtime_max_ns, None);
}

#[test]
fn resets_and_oddities() {
    let text = "[Service]\nExecStart=/bin/a\nExecStart=\nExecStart=/bin/b\nType=dbus\nRestart=perhaps\nRestartSec=x\n\
                Sockets=web.service\nSuccessExitStatus=7 nope\nX-Prebind-Number=0\nStartLimitInterval=0\n\
                TimeoutStartFailureMode=wait\nGuessMainPID=no\nExitType=cgroup\nRestartMode=direct\nX-Prebind-Strategy=big\n\
                WorkingDirectory=-gone\n";
    let (unit, _, remarks, problems) = unit(text);
    let Command::Execs(starts) = &unit.spec.command else { panic!() };
    assert_eq!(starts.len(), 1);
    assert_eq!(unit.spec.start_limit, None, "systemd's old name for it, and 0 is no limit");
    assert_eq!((remarks.len(), problems.len()), (11, 0), "{remarks:#?} {problems:?}");
    assert!(remarks[0].starts_with("web.service:5: Type: Type=dbus needs a message bus"), "{remarks:?}");
    assert_eq!(unit.spec.exits.success.codes, [7], "what can be read of a list counts");
}

#[test]
fn what_makes_a_unit_unusable() {
    for (text, why) in [
        ("Type=simple\n", "no ExecStart="),
        ("ExecStart=/bin/a\nExecStart=/bin/b\n", "several ExecStart="),
        ("ExecStart=bin/a\n", "neither an absolute path nor a bare name"),
        ("ExecStart=/bin/a 'x\n", "left open"),
        ("ExecStart=/bin/a %Z\n", "unknown specifier %Z"),
        ("Type=oneshot\nExecStart=/bin/a\nRestart=always\n", "cannot be restarted"),
        ("", "no command at all"),
        ("ExecReload=/bin/a\nRemainAfterExit=yes\n", "neither ExecStart= nor ExecStop="),
        ("ExecStop=/bin/a\n", "only RemainAfterExit=yes makes up for"),
        ("ExecStart=/bin/a\nUser=a:b\n", "User: 'a:b' is no name"),
        ("ExecStart=/bin/a\nGroup=%Z\n", "Group: unknown specifier"),
        ("ExecStart=/bin/a\nSupplementaryGroups=a b/c\n", "SupplementaryGroups: 'b/c' is no name"),
        ("ExecStart=/bin/a\nWorkingDirectory=here\n", "WorkingDirectory: 'here' is no absolute path"),
    ] {
        let problems = unit(&format!("[Service]\n{text}")).3;
        assert!(problems.iter().any(|problem| problem.contains(why)), "{text}: {problems:?}");
    }
    let oneshot = "[Service]\nType=oneshot\nExecStart=/bin/a\nExecStart=/bin/b\n";
    assert_eq!(unit(oneshot).3, Vec::<String>::new());
}
