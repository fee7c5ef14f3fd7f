//! Rights, priorities and limits of a unit's process, and that none of it is left on prebind.

use super::*;
use crate::plan::{Scheduling, Step};
use std::collections::HashMap;

const STATUS: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNew)' /proc/self/status > $OUT";
const CHOWN: u64 = 1;
const SETPCAP: u64 = 1 << 8;
const NOROOT: u32 = 1;
const NO_SETUID_FIXUP: u32 = 4;

/// The fields of a /proc/PID/status.
fn fields(status: &str) -> HashMap<String, String> {
    let fields = status.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(key, value)| (key.into(), value.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

fn own(file: &str) -> String {
    std::fs::read_to_string(format!("/proc/self/{file}")).unwrap()
}

#[test]
fn whom_a_process_becomes_and_what_it_may() {
    if !root() {
        return;
    }
    let before = fields(&own("status"));
    let same = |name: &str| before[name].clone();
    let cap = |set: u64| format!("{set:016x}");
    let root_ids = "0 0 0 0".to_string();
    // Uid, Groups, CapInh, CapPrm, CapBnd, CapAmb, NoNewPrivs.
    let table = [
        (Privilege::Unit, ["1 1 1 1".into(), "1 60 4712".into(), cap(1), cap(1), cap(0x101), cap(1), "1".into()]),
        (Privilege::KeepIds, [root_ids.clone(), "1".into(), cap(1), cap(0x101), cap(0x101), cap(1), "1".into()]),
        (
            Privilege::Full,
            [root_ids, "1".into(), same("CapInh"), same("CapPrm"), same("CapBnd"), same("CapAmb"), "0".into()],
        ),
    ];
    for (privilege, expected) in table {
        let mut world = World::unit(STATUS).privilege(privilege).process(|process| {
            process.supplementary_groups = vec!["games".into(), "4712".into()];
            process.capability_bounding_set = Some(CHOWN | SETPCAP);
            process.ambient_capabilities = CHOWN;
            process.no_new_privileges = true;
        });
        world.service.user = Some("daemon".into());
        let found = fields(&world.output());
        let names = ["Uid", "Groups", "CapInh", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs"];
        assert_eq!(names.map(|name| found[name].clone()), expected, "{privilege:?}");
        assert_eq!(found["Gid"], found["Uid"], "{privilege:?}");
        assert_eq!(found["CapEff"], found["CapPrm"], "{privilege:?}");
    }
    // All of it was the child's.
    let after = fields(&own("status"));
    for name in ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    let _guard = launching();
    assert!(nix::sys::prctl::get_dumpable().unwrap());
}

#[test]
fn groups_without_a_user() {
    if !root() {
        return;
    }
    for (group, gid) in [(None, "0"), (Some("daemon"), "1")] {
        let mut world = World::unit(STATUS).process(|process| process.supplementary_groups = vec!["games".into()]);
        world.service.group = group.map(String::from);
        let found = fields(&world.output());
        assert_eq!((&*found["Gid"], &*found["Groups"]), (&*[gid; 4].join(" "), "60"), "{group:?}");
    }
}

/// Whoever has root's uid gets all capabilities at an exec, unless securebits say otherwise.
#[test]
fn secure_bits() {
    if !root() {
        return;
    }
    let all = fields(&own("status"))["CapBnd"].clone();
    let none = format!("{:016x}", 0);
    for (user, ambient, bits, permitted) in [
        (None, 0, 0, &*all),
        (None, 0, NOROOT, &*none),
        (None, CHOWN, NOROOT, "0000000000000001"),
        (Some("daemon"), 0, NOROOT, &*none),
        (Some("daemon"), 0, NOROOT | NO_SETUID_FIXUP, &*none),
        (Some("daemon"), CHOWN, NOROOT, "0000000000000001"),
    ] {
        let mut world = World::unit(STATUS).process(|process| {
            process.secure_bits = bits;
            process.ambient_capabilities = ambient;
        });
        world.service.user = user.map(String::from);
        assert_eq!(fields(&world.output())["CapPrm"], permitted, "{user:?} {ambient} {bits}");
    }
}

#[test]
fn login_variables() {
    if !root() {
        return;
    }
    let names = "USER LOGNAME HOME SHELL";
    let script = format!("for n in {names}; do printenv $n >/dev/null && echo $n=$(printenv $n); done > $OUT; true");
    let entry = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    let all = format!("USER=root LOGNAME=root HOME={} SHELL={}", entry.dir.display(), entry.shell.display());
    for (user, told, expected) in [
        (None, None, ""),
        (None, Some(true), &*all),
        (Some("daemon"), None, "USER=daemon LOGNAME=daemon HOME=/usr/sbin"),
        (Some("daemon"), Some(false), ""),
        (Some("nobody"), None, "USER=nobody LOGNAME=nobody"),
        (Some("root"), None, &*all),
    ] {
        let mut world = World::unit(&script).process(|process| process.login_environment = told);
        world.service.user = user.map(String::from);
        assert_eq!(world.output().lines().collect::<Vec<_>>().join(" "), expected, "{user:?} {told:?}");
    }
}

#[test]
fn working_directories() {
    let home = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().dir.display().to_string();
    let mut table = vec![
        (None, None, false, Ok("/")),
        (None, Some("/usr"), false, Ok("/usr")),
        (None, Some("/nowhere"), true, Ok("/")),
        (None, Some("/nowhere"), false, Err("cannot change directory to '/nowhere': no such file")),
        (None, Some("/etc/passwd"), false, Err("cannot change directory to '/etc/passwd': not a directory")),
        (None, Some("~"), false, Ok(home.as_str())),
    ];
    if root() {
        table.push((Some("daemon"), Some("~"), false, Ok("/usr/sbin")));
        table.push((
            Some("daemon"),
            Some("/root"),
            false,
            Err("cannot change directory to '/root': permission denied"),
        ));
        table.push((Some("daemon"), Some("/root"), true, Ok("/")));
    }
    for (user, directory, missing, expected) in table {
        let mut world = World::unit("pwd -P > $OUT").process(|process| process.directory_may_be_missing = missing);
        world.service.user = user.map(String::from);
        world.service.chdir = directory.map(PathBuf::from);
        match expected {
            Ok(path) => assert_eq!(world.output().trim(), path),
            Err(message) => {
                let error = world.error();
                let message = format!("worker of 'web.service': {message}");
                assert_eq!((error.to_string(), error.exit_code()), (message, 200));
            }
        }
    }
}

/// The kernel keeps some of these with the memory that parent and child share until the exec.
#[test]
fn settings_of_the_process_are_not_prebinds() {
    let before = ["oom_score_adj", "coredump_filter", "personality"].map(own);
    let script = "{ cat /proc/self/oom_score_adj /proc/self/coredump_filter /proc/self/personality
        cat /proc/self/timerslack_ns; nice; ionice; chrt -p $$ | head -n 1
        grep Cpus_allowed_list /proc/self/status; } > $OUT";
    let mut world = World::unit(script).process(|process| {
        process.oom_score_adjust = Some(700);
        process.coredump_filter = Some(0x3);
        process.personality = Some(0x0008);
        process.timer_slack_ns = Some(1_000_000);
        process.io_priority = Some((2, 6));
        process.scheduling = Some(Scheduling { policy: 3, priority: 0, reset_on_fork: false });
        process.cpu_affinity = vec![0, 99];
    });
    world.service.nice = Some(7);
    let (pid, output) = world.run(|_| ());
    let expected = format!(
        "700 00000003 00000008 1000000 7 best-effort: prio 6 pid {pid}'s current scheduling policy: SCHED_BATCH \
         Cpus_allowed_list: 0"
    );
    assert_eq!(output.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    assert_eq!(["oom_score_adj", "coredump_filter", "personality"].map(own), before);
}

#[test]
fn every_oom_score_is_written_whole() {
    let least: i32 = own("oom_score_adj").trim().parse().unwrap();
    for score in [0, 7, 10, 999, 1000].into_iter().filter(|score| *score >= least) {
        let world = World::unit("cat /proc/self/oom_score_adj > $OUT")
            .process(|process| process.oom_score_adjust = Some(score));
        assert_eq!(world.output().trim(), score.to_string());
    }
}

#[test]
fn limits_of_a_unit() {
    let script = "{ ulimit -Sn; ulimit -Hn; ulimit -Sc; } > ${OUT:-/dev/null}";
    let hard = getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().1;
    let mut world = World::unit(script);
    world.service.limits = vec![Limit { resource: Resource::Core, soft: Some(0), hard: None }];
    let launched = world.launch(&world.copy()).unwrap();
    wait(launched.pid);
    assert_eq!(launched.remarks, Vec::<String>::new());
    assert_eq!(world.output(), format!("1024\n{}\n0\n", if may_raise() { 524_288 } else { hard.min(524_288) }));

    // `+` has prebind's.
    let mut world = World::unit(script).privilege(Privilege::Full);
    world.base.nofile = Some((256, 512));
    world.service.limits = vec![Limit { resource: Resource::Nofile, soft: Some(1), hard: Some(1) }];
    assert!(world.output().starts_with("256\n512\n"));
}

/// Whether this process has CAP_SYS_RESOURCE.
fn may_raise() -> bool {
    u64::from_str_radix(&fields(&own("status"))["CapEff"], 16).unwrap() & 1 << 24 != 0
}

/// As systemd, which goes on; prebind says so.
#[test]
fn what_may_not_be_had_is_told() {
    if may_raise() {
        return;
    }
    let hard = getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().1;
    let mut world = World::unit("{ ulimit -Sn; ulimit -Hn; } > ${OUT:-/dev/null}")
        .process(|process| process.oom_score_adjust = Some(-999));
    let limit = Limit { resource: Resource::Nofile, soft: Some(hard + 1), hard: Some(hard + 2) };
    world.service.limits = vec![limit];
    let launched = world.launch(&world.copy()).unwrap();
    wait(launched.pid);
    let remarks = [
        "OOM score not set to -999: prebind may not lower it".to_string(),
        format!("limit nofile={}:{} lowered to what may be had", hard + 1, hard + 2),
    ];
    assert_eq!(launched.remarks, remarks);
    assert_eq!(world.output(), format!("{hard}\n{hard}\n"));
    // Not on the command line.
    let plain = World::new(&["/bin/true"]).with(|service| service.limits = vec![limit]);
    assert_eq!(plain.error().stage, Stage::Limit);
}

#[test]
fn wrong_values_and_their_codes() {
    type Change = fn(&mut ServiceSpec);
    let table: [(Change, u8, &str); 8] = [
        (|service| service.user = Some("nobodyy".into()), 217, "worker of 'web.service': no such user 'nobodyy'"),
        (|service| service.group = Some("nogroupp".into()), 216, "worker of 'web.service': no such group 'nogroupp'"),
        (
            |service| service.process.supplementary_groups = vec!["nogroupp".into()],
            216,
            "worker of 'web.service': no such group 'nogroupp'",
        ),
        (
            |service| service.user = Some("4711".into()),
            217,
            "worker of 'web.service': user 4711 has no entry in the user database, so no group (give Group= too)",
        ),
        (
            |service| service.process.cpu_affinity = vec![1023],
            215,
            "worker of 'web.service': cannot tie it to CPUs 1023: invalid argument (none of these CPUs may be used here)",
        ),
        (
            |service| service.process.scheduling = Some(Scheduling { policy: 1, priority: 0, reset_on_fork: true }),
            214,
            "worker of 'web.service': cannot set CPU scheduling: invalid argument",
        ),
        (
            |service| service.process.io_priority = Some((7, 0)),
            211,
            "worker of 'web.service': cannot set IO scheduling: invalid argument",
        ),
        (
            |service| service.env_files = vec!["/nowhere/*.env".into()],
            1,
            "worker of 'web.service': cannot read environment file '/nowhere/*.env': no such file",
        ),
    ];
    for (change, code, message) in table {
        let mut world = World::unit("").with(change);
        let error = world.error();
        assert_eq!((error.to_string().as_str(), error.exit_code()), (message, code));
        world.service.steps = vec![StepSpec { step: Step::Reload, exec: exec(&["/bin/true"]) }];
        let error = world.launch(&Copy { part: Part::Step(Step::Reload, 0), ..world.copy() }).unwrap_err();
        let rest = message.strip_prefix("worker of 'web.service': ").unwrap_or(message);
        assert_eq!(error.to_string(), format!("ExecReload= of 'web.service': {rest}"));
    }
}
