//! Launches of real, small programs: what a worker finds, and what is left where there is none.

use super::*;
use crate::plan::{Command, Limit, ListenEnv, Piece, Resource, SECOND, SocketRef, Template};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

/// Words without placeholders.
fn command(words: &[&str]) -> Command {
    Command::Program(words.iter().map(|word| Template(vec![Piece::Text(word.into())])).collect())
}

fn text(word: &str) -> Template {
    Template(vec![Piece::Text(word.into())])
}

fn facts(name: &str, family: Option<&'static str>) -> SocketFacts {
    SocketFacts {
        name: name.into(),
        kind: "tcp",
        address: "127.0.0.1:8080".into(),
        host: Some("127.0.0.1".into()),
        port: Some(8080),
        path: None,
        family,
        inherited: false,
        node: (0, 0),
    }
}

/// A world to launch in: a base, a service, sockets.
struct World {
    base: Base,
    service: ServiceSpec,
    sockets: Vec<(OwnedFd, SocketFacts)>,
}

impl World {
    fn new(words: &[&str]) -> World {
        let base = Base {
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            start_dir: "/".into(),
            own_path: "/bin/sh".into(),
            master_pid: std::process::id().cast_signed(),
            ..Base::default()
        };
        let listen_env = ListenEnv::Full;
        let service = ServiceSpec { name: "web".into(), command: command(words), listen_env, ..ServiceSpec::default() };
        World { base, service, sockets: Vec::new() }
    }

    fn shell(script: &str) -> World {
        World::new(&["sh", "-c", script])
    }

    /// Adds a socket; its descriptor is moved to a number from `least` on.
    fn socket(mut self, name: &str, family: Option<&'static str>) -> World {
        let fd = nix::fcntl::fcntl(File::open("/etc/passwd").unwrap(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(500));
        self.sockets.push((owned(fd.unwrap()), facts(name, family)));
        self
    }

    fn copy<'a>(&self) -> Copy<'a> {
        Copy { service: ServiceId(0), slot: 2, generation: 7, index: 5, control_fd: None, terminal: None }
    }

    fn launch(&self, copy: &Copy) -> Result<Launched, SpawnError> {
        let ids = (0..).map(SocketId);
        let given: Vec<Given> =
            self.sockets.iter().zip(ids).map(|((fd, facts), id)| Given { id, fd: fd.as_fd(), facts }).collect();
        launch_with(&self.base, &self.service, &given, copy)
    }

    /// Launches with the standard output in a file that the script has to write to itself (`$OUT`), and returns pid and
    /// what was written.
    fn run<'a>(mut self, change: impl FnOnce(&mut Copy<'a>)) -> (i32, String) {
        let directory = Scratch::new();
        let out = directory.0.join("out");
        std::fs::write(&out, "").unwrap();
        std::fs::set_permissions(&out, PermissionsExt::from_mode(0o666)).unwrap();
        self.service.env.insert(0, ("OUT".into(), text(out.to_str().unwrap())));
        let mut copy = self.copy();
        change(&mut copy);
        let launched = self.launch(&copy).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(wait(launched.pid), WaitStatus::Exited(Pid::from_raw(launched.pid), 0));
        (launched.pid, std::fs::read_to_string(&out).unwrap())
    }

    fn with(mut self, change: impl FnOnce(&mut ServiceSpec)) -> World {
        change(&mut self.service);
        self
    }

    fn output(self) -> String {
        self.run(|_| ()).1
    }

    fn error(&self) -> SpawnError {
        self.launch(&self.copy()).unwrap_err()
    }
}

#[allow(unsafe_code)]
fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the caller has just made it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn wait(pid: i32) -> WaitStatus {
    waitpid(Pid::from_raw(pid), None).unwrap()
}

/// A directory that everybody may enter, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("prebind-spawn-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        let mut file = File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_permissions(PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

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
        wait(clone::run(&mut recipe.steps).unwrap());
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
    // The parent's flag survived the child's setresuid in shared memory. Others may be launching: theirs come back too.
    let dumpable = || nix::sys::prctl::get_dumpable().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !dumpable() {
        assert!(std::time::Instant::now() < deadline, "prebind stayed undumpable");
        std::thread::yield_now();
    }

    let mut world = World::shell("{ grep -E '^(Uid|Gid|Groups)' /proc/$$/status; } > $OUT");
    world.service.group = Some("4712".into());
    let words = world.output().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words, "Uid: 0 0 0 0 Gid: 4712 4712 4712 4712 Groups:");
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
        let again = format!("{} --exact spawn::tests::a_worker_in_the_foreground", test.display());
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
fn what_is_no_terminal() {
    let file = File::open("/dev/null").unwrap();
    let world = World::shell("true");
    let error = world.launch(&Copy { terminal: Some(file.as_fd()), ..world.copy() }).unwrap_err();
    assert_eq!(error.stage, Stage::Terminal);
    assert_eq!(error.to_string(), "worker of 'web': cannot give it the terminal: not a terminal");
}

/// What could not be started is told in the same call, in these words, and leaves no child.
#[test]
fn errors() {
    let scratch = Scratch::new();
    let s = scratch.0.display().to_string();
    scratch.file("gunicorn", "#!/bin/sh\n", 0o755);
    scratch.file("plain", "text", 0o644);
    scratch.file("script", "#!/usr/bin/pyhton -u\n", 0o755);
    std::fs::create_dir(scratch.0.join("directory")).unwrap();
    let table: Vec<(Stage, World, String)> = vec![
        (Stage::Command, World::new(&["gunicron"]), "cannot run 'gunicron': no such file (did you mean gunicorn?)".into()),
        (Stage::Command, World::new(&["zzzzzz"]), "cannot run 'zzzzzz': no such file".into()),
        (Stage::Command, World::new(&[""]), "cannot run '': no such file".into()),
        (
            Stage::Command,
            World::new(&["plain"]),
            format!("cannot run 'plain': permission denied ({s}/plain is not executable; chmod +x)"),
        ),
        (Stage::Exec, World::new(&["./plain"]), "cannot run './plain': permission denied (not executable; chmod +x)".into()),
        (Stage::Exec, World::new(&["./gunicron"]), "cannot run './gunicron': no such file (did you mean ./gunicorn?)".into()),
        (Stage::Exec, World::new(&["./directory"]), "cannot run './directory': it is a directory".into()),
        (Stage::Exec, World::new(&["script"]), "cannot run 'script': its interpreter '/usr/bin/pyhton' is missing".into()),
        (
            Stage::Directory,
            World::new(&["/bin/true"]).with(|service| service.chdir = Some("/nope".into())),
            "worker of 'web': cannot change directory to '/nope': no such file".into(),
        ),
        (
            Stage::Limit,
            World::new(&["/bin/true"]).with(|service| {
                service.limits = vec![Limit { resource: Resource::Core, soft: None, hard: Some(5) }];
            }),
            "worker of 'web': cannot set limit core=infinity:5: invalid argument (the soft limit is above the hard one)".into(),
        ),
        (
            Stage::User,
            World::new(&["/bin/true"]).with(|service| service.user = Some("nobodyy".into())),
            "no such user 'nobodyy'".into(),
        ),
        (
            Stage::Environment,
            World::new(&["/bin/true"]).with(|service| service.env_files = vec!["no.env".into()]),
            "worker of 'web': cannot read environment file 'no.env': no such file".into(),
        ),
        (
            Stage::Environment,
            World::new(&["/bin/true", "a\0b"]),
            "worker of 'web': 'a\\0b' has a NUL byte in it".into(),
        ),
        (
            Stage::Environment,
            World::new(&["/bin/true"]).with(|service| {
                service.env = vec![("K".into(), Template(vec![Piece::Port(SocketRef::At(SocketId(3)))]))];
            }),
            "worker of 'web': cannot make its environment: 'K' names a socket that it does not get".into(),
        ),
    ];
    for (stage, mut world, message) in table {
        world.base.environment = vec![("PATH".into(), s.clone().into())];
        world.base.start_dir.clone_from(&scratch.0);
        let error = world.error();
        assert_eq!((error.to_string(), error.stage), (message, stage));
    }
}

/// Failures that no plan asks for: made in the steps themselves.
#[test]
fn errors_of_the_child() {
    type Break = fn(&mut clone::Steps);
    let table: [(Stage, i32, Break); 5] = [
        (Stage::Descriptors, libc::EBADF, |steps| steps.moves = vec![(1_000_000, 3)]),
        (Stage::Terminal, libc::EBADF, |steps| steps.terminal = Some(1_000_000)),
        (Stage::ParentDeath, libc::ESRCH, |steps| steps.parent_death = Some((libc::SIGUSR2, 1_000_000))),
        (Stage::Groups, libc::EINVAL, |steps| {
            steps.change = Some(clone::Change { uid: None, gid: 0, groups: vec![0; 70_000] });
        }),
        (Stage::Exec, libc::ENOENT, |steps| steps.files = vec![c"/nowhere/at/all".into()]),
    ];
    for (stage, errno, break_it) in table {
        if stage == Stage::Groups && !root() {
            continue;
        }
        let world = World::new(&["/bin/true"]);
        let mut recipe = recipe::Recipe::new(&world.base, &world.service, &[], &world.copy()).unwrap();
        break_it(&mut recipe.steps);
        let failure = clone::run(&mut recipe.steps).unwrap_err();
        assert_eq!((failure.stage, failure.errno as i32), (stage, errno));
        let error = recipe.explain(&world.service, failure);
        assert!(error.to_string().contains(stage.text()), "{error}");
    }
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
fn this_process_as_a_base() {
    let base = Base::of_this_process().unwrap();
    assert_eq!(base.master_pid, std::process::id().cast_signed());
    assert!(base.own_path.is_absolute() && base.start_dir.is_absolute());
    assert_eq!(base.start_dir.canonicalize().unwrap(), std::env::current_dir().unwrap());
}
