use super::super::lex::lex;
use super::*;

fn unit(text: &str) -> (ServiceUnit, Vec<String>, Vec<String>, Vec<String>) {
    let mut remarks = Vec::new();
    let assignments = lex("web.service", text.as_bytes(), &mut remarks);
    let name = UnitName::parse("web@x.service").unwrap();
    let (unit, left, problems) = read(&name, &assignments, &|_| None, &mut remarks);
    let left = left.iter().map(|one| one.key.clone()).collect();
    let problems = problems.iter().map(Problem::to_string).collect();
    (unit, left, remarks.iter().map(Remark::to_string).collect(), problems)
}

#[test]
fn commands_and_policy() {
    let text = "[Unit]\nDescription=x\nStartLimitBurst=3\n[Service]\nType=notify\nExecStartPre=-/bin/a\nExecStart=/bin/b %i \"%%x y\"\n\
                ExecReload=/bin/kill -HUP $MAINPID ; /bin/c\nRestart=on-failure\nRestartSec=700ms\nTimeoutSec=0\n\
                TimeoutStopSec=1min\nWatchdogSec=5\nSuccessExitStatus=7 SIGUSR1 TEMPFAIL\nSockets=a.socket b.socket\n\
                X-Prebind-Number=4\nX-Prebind-Slots=yes\nNonBlocking=on\nUser=www\n[Install]\nWantedBy=x\n";
    let (unit, left, remarks, problems) = unit(text);
    assert_eq!((remarks.len(), problems.len()), (0, 0), "{remarks:?} {problems:?}");
    assert_eq!(left, ["Description", "User", "WantedBy"]);
    let steps: Vec<(Step, String)> = unit.commands.iter().map(|one| (one.step, one.exec.words.join("|"))).collect();
    let expected = [
        (Step::StartPre, "/bin/a"),
        (Step::Start, "/bin/b|x|%x y"),
        (Step::Reload, "/bin/kill|-HUP|$MAINPID"),
        (Step::Reload, "/bin/c"),
    ];
    assert_eq!(steps, expected.map(|(step, words)| (step, words.to_string())));
    assert_eq!((unit.settled(), unit.restart, unit.restart_delay_ns), (Type::Notify, When::OnFailure, 700_000_000));
    assert_eq!((unit.timeout_start, unit.timeout_stop), (Some(None), Some(Some(60 * SECOND))));
    assert_eq!((unit.watchdog_ns, unit.start_limit), (Some(5 * SECOND), Some((3, 10 * SECOND))));
    assert_eq!((unit.success.codes, unit.success.signals), (vec![7, 75], vec!["USR1".parse().unwrap()]));
    assert_eq!((unit.sockets, unit.number, unit.slots), (vec!["a.socket".into(), "b.socket".into()], Some(4), true));
}

#[test]
fn resets_and_oddities() {
    let text = "[Service]\nExecStart=/bin/a\nExecStart=\nExecStart=/bin/b\nType=dbus\nRestart=perhaps\nRestartSec=x\n\
                Sockets=web.service\nSuccessExitStatus=7 nope\nX-Prebind-Number=0\nStartLimitInterval=0\n";
    let (unit, _, remarks, problems) = unit(text);
    assert_eq!(unit.commands.len(), 1);
    assert_eq!(unit.start_limit, None, "systemd's old name for it, and 0 is no limit");
    assert_eq!((remarks.len(), problems.len()), (6, 0), "{remarks:?}");
    assert!(remarks[0].starts_with("web.service:5: Type: Type=dbus needs a message bus"), "{remarks:?}");
    assert_eq!(unit.success.codes, [7], "what can be read of a list counts");
}

#[test]
fn what_makes_a_unit_unusable() {
    for (text, why) in [
        ("[Service]\nType=simple\n", "no ExecStart="),
        ("[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n", "several ExecStart="),
        ("[Service]\nExecStart=bin/a\n", "neither an absolute path nor a bare name"),
        ("[Service]\nExecStart=/bin/a 'x\n", "left open"),
        ("[Service]\nExecStart=/bin/a %Z\n", "unknown specifier %Z"),
        ("[Service]\nType=oneshot\nExecStart=/bin/a\nRestart=always\n", "cannot be restarted"),
        ("[Service]\n", "no command at all"),
    ] {
        let problems = unit(text).3;
        assert!(problems.iter().any(|problem| problem.contains(why)), "{text}: {problems:?}");
    }
    let oneshot = "[Service]\nType=oneshot\nExecStart=/bin/a\nExecStart=/bin/b\n";
    assert_eq!(unit(oneshot).3, Vec::<String>::new());
}
