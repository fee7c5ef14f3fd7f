use super::super::lex::lex;
use super::*;

fn read(text: &str) -> (ServiceSpec, Vec<String>) {
    let name = UnitName::parse("web.service").unwrap();
    let outside = |letter| match letter {
        't' => Some("/run".to_string()),
        'a' => Some("x86-64".to_string()),
        _ => None,
    };
    let context = Context { name: &name, outside: &outside };
    let mut remarks = Vec::new();
    let mut spec = ServiceSpec::default();
    defaults(&mut spec);
    let mut process = Process::default();
    for one in lex("web.service", format!("[Service]\n{text}").as_bytes(), &mut Vec::new()) {
        match process.take(&mut spec, &one, context, &mut remarks) {
            Some(Ok(())) => {}
            Some(Err(why)) => remarks.push(Remark::warn(one.origin.clone(), why)),
            None => panic!("{} is not of this table", one.key),
        }
    }
    process.finish(&mut spec);
    (spec, remarks.iter().map(Remark::to_string).collect())
}

#[test]
fn who_and_where() {
    let (spec, errors) = read(
        "User=%p\nGroup=33\nSupplementaryGroups=a b\nSupplementaryGroups=c\nUMask=0077\nWorkingDirectory=-%t//x/.\n\
         SetLoginEnvironment=no\nIgnoreSIGPIPE=no\nNice=-5\nOOMScoreAdjust=500\nNoNewPrivileges=yes\n\
         TimerSlackNSec=50\nLimitNOFILE=5\nEnvironment=A=1\nRuntimeDirectory=web\nStandardOutput=null",
    );
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!((spec.user.as_deref(), spec.group.as_deref(), spec.umask), (Some("web"), Some("33"), Some(0o077)));
    assert_eq!((spec.chdir, spec.nice, spec.limits.len(), spec.env.len()), (Some("/run/x".into()), Some(-5), 1, 1));
    let process = spec.process;
    assert_eq!(process.supplementary_groups, ["a", "b", "c"]);
    assert!(process.directory_may_be_missing && process.no_new_privileges && !process.ignore_sigpipe);
    assert_eq!((process.login_environment, process.oom_score_adjust), (Some(false), Some(500)));
    assert_eq!((process.timer_slack_ns, process.directories.len()), (Some(50), 1));
    assert_eq!(read("WorkingDirectory=~").0.chdir, Some("~".into()));
    assert_eq!(read("WorkingDirectory=/x\nWorkingDirectory=").0.chdir, Some("/".into()));
    assert_eq!(read("TimerSlackNSec=1us").0.process.timer_slack_ns, Some(1000));
    let personality = |value| read(&format!("Personality={value}")).0.process.personality;
    assert_eq!((personality("x86-64"), personality("x86"), personality("")), (Some(0), Some(8), None));
    assert_eq!(read("User=x\nUser=\nNice=5\nNice=").0.user, None);
}

#[test]
fn scheduling_is_put_together_at_the_end() {
    let scheduling = |text| read(text).0.process.scheduling;
    let some = |policy, priority, reset_on_fork| Some(Scheduling { policy, priority, reset_on_fork });
    assert_eq!(scheduling("CPUSchedulingPriority=7"), None);
    assert_eq!(scheduling("CPUSchedulingPriority=7\nCPUSchedulingPolicy=rr"), some(2, 7, false));
    assert_eq!(scheduling("CPUSchedulingPolicy=fifo\nCPUSchedulingResetOnFork=yes"), some(1, 1, true));
    assert_eq!(scheduling("CPUSchedulingPolicy=batch\nCPUSchedulingPriority=7"), some(3, 0, false));
    let io = |text| read(text).0.process.io_priority;
    assert_eq!((io("IOSchedulingClass=idle"), io("IOSchedulingPriority=7")), (Some((3, 4)), Some((2, 7))));
    assert_eq!((io("IOSchedulingClass=1"), io("IOSchedulingClass=1\nIOSchedulingClass=")), (Some((1, 4)), None));
    let cpus = |text| read(text).0.process.cpu_affinity;
    assert_eq!(cpus("CPUAffinity=0-2,5 7\nCPUAffinity=9"), [0, 1, 2, 5, 7, 9]);
    assert_eq!(cpus("CPUAffinity=0\nCPUAffinity="), Vec::<u32>::new());
}

#[test]
fn what_is_opened_for_it() {
    let files = |text| read(text).0.process.open_files;
    let all = files("OpenFile=/a/b\nOpenFile=\"/c d:name:read-only,graceful\"\nOpenFile=/e::append");
    let shown: Vec<String> = all.iter().map(|one| format!("{} {}", one.path.display(), one.name)).collect();
    assert_eq!(shown, ["/a/b b", "/c d name", "/e e"]);
    assert!(all[1].read_only && all[1].graceful && all[2].append && !all[0].read_only);
    assert!(files("OpenFile=/a\nOpenFile=").is_empty());
}

#[test]
fn bad_values_leave_what_stood() {
    for bad in [
        "User=a b:c",
        "User=65535",
        "User=-x",
        "Group=..",
        "UMask=8",
        "Nice=20",
        "OOMScoreAdjust=1001",
        "CPUAffinity=3-1",
        "CPUAffinity=numa",
        "CPUAffinity=99999",
        "CPUSchedulingPolicy=fast",
        "CPUSchedulingPriority=100",
        "IOSchedulingClass=4",
        "IOSchedulingPriority=8",
        "TimerSlackNSec=infinity",
        "Personality=vax",
        "WorkingDirectory=/a/../b",
        "OpenFile=a",
        "OpenFile=/a:b:what",
        "OpenFile=/a:b:append,truncate",
        "NoNewPrivileges=perhaps",
    ] {
        let (spec, errors) = read(bad);
        assert_eq!(errors.len(), 1, "{bad}");
        let (mut fresh, _) = read("");
        fresh.name.clone_from(&spec.name);
        assert_eq!(spec, fresh, "{bad}");
    }
}
