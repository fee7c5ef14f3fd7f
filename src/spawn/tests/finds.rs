//! What a worker finds.

use super::*;

#[test]
fn a_worker_has_its_sockets_and_nothing_else() {
    let stray = nix::fcntl::fcntl(File::open("/etc/group").unwrap(), nix::fcntl::FcntlArg::F_DUPFD(300)).unwrap();
    let _stray = owned(stray); // not close-on-exec
    let world = World::shell("exec > $OUT; ls -l /proc/$$/fd").socket("a", None).socket("b", None);
    let output = world.output();
    let numbers: Vec<&str> = output
        .lines()
        .filter_map(|line| line.split_whitespace().nth(8))
        .filter(|number| !["0", "1", "2"].contains(number))
        .collect();
    assert_eq!(numbers, ["3", "4"], "{output}");
    assert_eq!(output.matches("/etc/passwd").count(), 2, "{output}");
}

/// Only the child's table is touched: sources that stand in each other's places are swapped.
#[test]
fn sources_in_the_places_of_targets() {
    let (a, b) = (File::open("/etc/passwd").unwrap(), File::open("/etc/group").unwrap());
    let (a, b) = (a.as_raw_fd(), b.as_raw_fd());
    for (to_a, to_b) in [(b, a), (a, b), (a, a)] {
        let moves = (3..=a.max(b)).map(|target| match target {
            _ if target == a => (to_a, target),
            _ if target == b => (to_b, target),
            _ => (a, target),
        });
        let directory = Scratch::new();
        let out = directory.file("out", "", 0o666);
        let world = World::new(&["sh", "-c", &format!("exec readlink /proc/$$/fd/{a} /proc/$$/fd/{b} > {out}")]);
        let mut recipe = recipe::Recipe::new(&world.base, &world.service, &[], &world.copy()).unwrap();
        recipe.steps.moves = moves.collect();
        let pid = {
            let _guard = launching();
            clone::run(&mut recipe.steps).unwrap()
        };
        wait(pid);
        let name = |fd| if fd == a { "/etc/passwd" } else { "/etc/group" };
        let output = std::fs::read_to_string(&out).unwrap();
        assert_eq!(output.lines().collect::<Vec<_>>(), [name(to_a), name(to_b)]);
    }
}

#[test]
fn the_environment_exactly() {
    let scratch = Scratch::new();
    let file = scratch.file("env", "A=file\nB=\"from file\"\nrubbish\nUSER=kept\n", 0o644);
    let mut world = World::shell("exec env > $OUT").socket("web", Some("AF_INET")).socket("x.y", Some("AF_UNIX"));
    for word in
        "LISTEN_PID LISTEN_PIDFDID NOTIFY_SOCKET WATCHDOG_USEC FDSTORE MAINPID EINHORN_X PREBIND_X SECRET A".split(' ')
    {
        world.base.environment.push((word.into(), "outer".into()));
    }
    world.base.control_path = Some("/run/c.sock".into());
    world.base.notify_address = Some("@prebind".into());
    world.service.watchdog_ns = Some(3 * SECOND);
    world.service.drop_env = vec!["SECRET".into()];
    world.service.chdir = Some("usr/bin".into());
    world.service.env_files = vec![file.clone().into(), "-/nowhere".into()];
    world.service.env = vec![
        ("B".into(), text("given")),
        ("C".into(), Template(vec![Piece::Slot, Piece::Text("/".into()), Piece::Socket(SocketRef::At(SocketId(1)))])),
    ];
    let control = File::open("/dev/null").unwrap();
    let launched_by = std::process::id();
    let (pid, output) = world.run(|copy| copy.control_fd = Some(control.as_fd()));
    let mut lines: Vec<&str> =
        output.lines().filter(|line| !line.starts_with("OUT=") && !line.starts_with("_=")).collect();
    lines.sort_unstable();
    let expected = format!(
        "A=file B=given C=2/4 EINHORN_CHILD_INDEX=5 EINHORN_FD_0=3 EINHORN_FD_1=4 EINHORN_FD_COUNT=2 \
         EINHORN_FD_FAMILY_1=AF_UNIX EINHORN_MASTER_PID={launched_by} EINHORN_SOCK_FD=5 EINHORN_SOCK_PATH=/run/c.sock \
         LISTEN_FDNAMES=web:x.y LISTEN_FDS=2 LISTEN_PID={pid} NOTIFY_SOCKET=@prebind PATH=/usr/bin:/bin \
         PREBIND_GENERATION=7 PREBIND_SERVICE=web PREBIND_SLOT=2 PWD=/usr/bin USER=kept WATCHDOG_PID={pid} \
         WATCHDOG_USEC=3000000"
    );
    assert_eq!(lines.join(" "), expected);
}

#[test]
fn listen_variables_as_asked() {
    for (listen_env, sockets, expected) in [
        (ListenEnv::Full, 1, "LISTEN_FDNAMES LISTEN_FDS LISTEN_PID"),
        (ListenEnv::NoPid, 1, "LISTEN_FDNAMES LISTEN_FDS"),
        (ListenEnv::None, 1, ""),
        (ListenEnv::Full, 0, ""),
    ] {
        let mut world = World::shell("env | sed -n 's/^\\(LISTEN_[A-Z]*\\)=.*/\\1/p' | sort > $OUT");
        for _ in 0..sockets {
            world = world.socket("web", None);
        }
        world.service.listen_env = listen_env;
        assert_eq!(world.output().lines().collect::<Vec<_>>().join(" "), expected, "{listen_env:?} {sockets}");
    }
}

#[test]
fn arguments_are_filled_in() {
    let piece = |piece| Template(vec![Piece::Text("<".into()), piece, Piece::Text(">".into())]);
    let at = || SocketRef::At(SocketId(0));
    let mut world = World::new(&["sh", "-c", "echo \"$0 $*\" > $OUT"]).socket("web", None);
    let Command::Program(words) = &mut world.service.command else { unreachable!() };
    words.push(text("name"));
    words.extend([Piece::Socket(at()), Piece::Addr(at()), Piece::Host(at()), Piece::Port(at())].map(piece));
    words.extend([Piece::Path(at()), Piece::Slot].map(piece));
    assert_eq!(world.output(), "name <3> <127.0.0.1:8080> <127.0.0.1> <8080> <> <2>\n");
}

#[test]
fn signals_group_and_mask_are_clean() {
    // Ours are not clean: SIGPIPE is ignored by Rust's runtime, USR1 blocked here.
    nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGUSR1).thread_block().unwrap();
    let world = World::shell("exec > $OUT; read -r s < /proc/$$/stat; echo \"$s\"; exec grep Sig /proc/self/status");
    let (pid, output) = world.run(|_| ());
    let fields: Vec<&str> = output.lines().next().unwrap().rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!(fields[2], pid.to_string(), "process group: {output}");
    for (name, mask) in [("SigBlk", 0), ("SigIgn", 0), ("SigPnd", 0)] {
        let line = output.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap(), mask, "{name} {output}");
    }
}

#[test]
fn limits_nice_umask_directory() {
    let script = "{ umask; nice; pwd -P; ulimit -Sn; ulimit -Hn; ulimit -Sc; } > $OUT";
    let mut world = World::shell(script);
    world.service.umask = Some(0o027);
    world.service.nice = Some(5);
    world.service.chdir = Some("/usr/lib".into());
    world.base.nofile = Some((256, 512));
    world.service.limits = vec![Limit { resource: Resource::Core, soft: Some(0), hard: None }];
    assert_eq!(world.output(), "0027\n5\n/usr/lib\n256\n512\n0\n");

    let mut world = World::shell("{ ulimit -Sn; ulimit -Hn; pwd -P; } > $OUT");
    world.base.nofile = Some((256, 512));
    world.base.start_dir = "/usr".into();
    world.service.limits = vec![Limit { resource: Resource::Nofile, soft: Some(100), hard: Some(200) }];
    assert_eq!(world.output(), "100\n200\n/usr\n");
}

#[test]
fn a_directory_behind_a_link_is_resolved_at_each_launch() {
    let scratch = Scratch::new();
    let link = scratch.0.join("current");
    for release in ["one", "two"] {
        std::fs::create_dir(scratch.0.join(release)).unwrap();
        scratch.file(&format!("{release}/serve"), &format!("echo {release} $1 > $OUT\n"), 0o755); // no #!
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(release, &link).unwrap();
        let mut world = World::new(&["./serve", "x"]);
        world.base.start_dir.clone_from(&link);
        assert_eq!(world.output(), format!("{release} x\n"));
    }
}

#[test]
fn another_user() {
    if !root() {
        return;
    }
    let own_groups = "65534";
    let script = "{ grep -E '^(Uid|Gid|Groups)' /proc/$$/status; echo $USER $LOGNAME $HOME $SHELL; } > $OUT";
    let mut world = World::shell(script);
    world.service.user = Some("nobody".into());
    world.service.env = vec![("HOME".into(), text("/mine"))];
    world.service.die_with_parent = true;
    let output = world.output();
    let words = output.split_whitespace().collect::<Vec<_>>().join(" ");
    let ids = "65534 65534 65534 65534";
    let expected = format!("Uid: {ids} Gid: {ids} Groups: {own_groups} nobody nobody /mine /usr/sbin/nologin");
    assert_eq!(words, expected);
    {
        // Our flag survived the child's setresuid in shared memory.
        let _guard = launching();
        assert!(nix::sys::prctl::get_dumpable().unwrap());
    }

    let mut world = World::shell("{ grep -E '^(Uid|Gid|Groups)' /proc/$$/status; } > $OUT");
    world.service.group = Some("4712".into());
    let words = world.output().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words, "Uid: 0 0 0 0 Gid: 4712 4712 4712 4712 Groups:");
}

/// The kernel means the parent's thread: its end is enough to see the signal come, to a worker of another uid too.
#[test]
fn a_worker_dies_with_its_parent() {
    for user in [None, Some("nobody").filter(|_| root())] {
        let launch = move || {
            let mut world = World::new(&["sleep", "1000"]);
            world.service.die_with_parent = true;
            world.service.user = user.map(String::from);
            world.launch(&world.copy()).unwrap().pid
        };
        let pid = std::thread::spawn(launch).join().unwrap();
        assert!(matches!(wait(pid), WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGUSR2, _)), "{user:?}");
    }
}

/// The start directory is inherited in effect; a directory that was asked for is entered as the user.
#[test]
fn directories_of_root_and_another_user() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let private = scratch.0.join("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700)).unwrap();
    let mut world = World::new(&["/bin/true"]);
    world.service.user = Some("nobody".into());
    world.base.start_dir.clone_from(&private);
    wait(world.launch(&world.copy()).unwrap().pid);
    world.service.chdir = Some(private);
    let error = world.error();
    assert_eq!((error.stage, error.errno), (Stage::Directory, libc::EACCES), "{error}");
}

/// The first file on PATH is not for everybody: the worker's user gets the next.
#[test]
fn a_file_that_the_user_may_not_execute_is_passed_over() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    for (directory, mode) in [("private", 0o700), ("public", 0o755)] {
        std::fs::create_dir(scratch.0.join(directory)).unwrap();
        scratch.file(&format!("{directory}/tool"), &format!("#!/bin/sh\necho {directory} > $OUT\n"), 0o755);
        std::fs::set_permissions(scratch.0.join(directory), PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut world = World::new(&["tool"]);
    let path = format!("{0}/private:{0}/public", scratch.0.display());
    world.base.environment = vec![("PATH".into(), path.into())];
    world.service.user = Some("nobody".into());
    assert_eq!(world.output(), "public\n");
}

#[test]
fn standard_input_is_dev_null_where_asked() {
    let mut world = World::shell("readlink /proc/$$/fd/0 > $OUT");
    world.base.stdin_null = true;
    assert_eq!(world.output(), "/dev/null\n");
}

#[test]
fn the_demonstration_is_our_own_binary() {
    let scratch = Scratch::new();
    let own = scratch.file("prebind", "#!/bin/sh\necho $1 > $OUT\n", 0o755);
    let mut world = World::new(&[]);
    world.service.command = Command::Demo;
    world.base.own_path = own.into();
    assert_eq!(world.output(), "--demo-worker\n");
}

/// Each thread has a stack of its own.
#[test]
fn several_threads_launch_at_once() {
    let threads: Vec<_> =
        (0..4).map(|_| std::thread::spawn(|| (0..20).for_each(|_| drop(World::shell("exec true").output())))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// The worker becomes the terminal's foreground group, and keeps descriptor 0. script(1) runs this test once more in a
/// session of its own, with a terminal.
#[test]
fn a_worker_in_the_foreground() {
    if std::env::var_os("PREBIND_TEST_TERMINAL").is_none() {
        let test = std::env::current_exe().unwrap();
        let again = format!("{} --exact spawn::tests::finds::a_worker_in_the_foreground", test.display());
        let output = std::process::Command::new("script")
            .args(["-qec", &again, "/dev/null"])
            .env("PREBIND_TEST_TERMINAL", "1")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let terminal = File::open("/dev/tty").unwrap();
    let mut world = World::shell("{ readlink /proc/$$/fd/0; cat /proc/$$/stat; } > $OUT");
    world.base.stdin_null = true;
    let (pid, output) = world.run(|copy| copy.terminal = Some(terminal.as_fd()));
    let (input, stat) = output.split_once('\n').unwrap();
    assert!(input.starts_with("/dev/pts/"), "{input}");
    let foreground = stat.rsplit(')').next().unwrap().split_whitespace().nth(5).unwrap();
    assert_eq!(foreground, pid.to_string());
}

#[test]
fn remarks_name_the_line() {
    let scratch = Scratch::new();
    let file = scratch.file("env", "A=1\nrubbish\n", 0o644);
    let world = World::new(&["/bin/true"]).with(|service| service.env_files = vec![file.clone().into()]);
    let launched = world.launch(&world.copy()).unwrap();
    wait(launched.pid);
    assert_eq!(launched.remarks, [format!("{file}:2: ignored: no '='")]);
}

#[test]
fn the_limit_of_open_files_is_raised_and_told() {
    let before = getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, before.1 - 1, before.1).unwrap();
    assert_eq!(raise_nofile(), Some((before.1 - 1, before.1)));
    assert_eq!(getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap(), (before.1, before.1));
    assert_eq!(raise_nofile(), None);
    setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, before.0, before.1).unwrap();
}

#[test]
fn this_process_as_a_base() {
    let base = Base::of_this_process().unwrap();
    assert_eq!(base.master_pid, std::process::id().cast_signed());
    assert!(base.own_path.is_absolute() && base.start_dir.is_absolute());
    assert_eq!(base.start_dir.canonicalize().unwrap(), std::env::current_dir().unwrap());
}
