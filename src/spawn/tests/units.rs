//! What a process of a unit finds: environment, words, session, directories.

use super::*;
use crate::plan::{DirectoryKind, DirectorySpec, NotifyAccess, Preserve, Step};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SHELL_OWN: [&str; 4] = ["OUT=", "_=", "PWD=", "SHLVL="];

/// The sorted lines of an environment, but for what a shell adds.
fn lines(output: &str) -> Vec<&str> {
    let mut lines: Vec<&str> =
        output.lines().filter(|line| SHELL_OWN.iter().all(|own| !line.starts_with(own))).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_environment_of_a_unit_exactly() {
    let mut world = World::unit("exec env > $OUT").socket("web.socket", None);
    for word in "LISTEN_PID NOTIFY_SOCKET INVOCATION_ID HOME EINHORN_X PREBIND_X MAINPID".split(' ') {
        world.base.environment.push((word.into(), "outer".into()));
    }
    world.base.control_path = Some("/run/c.sock".into());
    world.base.notify_address = Some("@prebind".into());
    world.service.watchdog_ns = Some(3 * SECOND);
    world.service.fd_store_max = 4;
    let stored = [("kept".to_string(), OwnedFd::from(File::open("/etc/group").unwrap()))];
    let (pid, output) = world.run(|copy| {
        copy.invocation = 0xabc;
        copy.stored = Box::leak(Box::new(stored));
    });
    let expected = format!(
        "FDSTORE=4 INVOCATION_ID=00000000000000000000000000000abc LANG=C.UTF-8 LISTEN_FDNAMES=web.socket:kept \
         LISTEN_FDS=2 LISTEN_PID={pid} NOTIFY_SOCKET=@prebind {PATH} PREBIND_GENERATION=7 PREBIND_SERVICE=web.service \
         PREBIND_SLOT=2 SYSTEMD_EXEC_PID={pid} WATCHDOG_PID={pid} WATCHDOG_USEC=3000000"
    );
    assert_eq!(lines(&output).join(" "), expected);
}

/// As systemd 252 was seen to do it: whatever is written later wins, and names that the manager sets are no exception.
#[test]
fn which_layer_wins() {
    let scratch = Scratch::new();
    scratch.file("a.env", "A=file\nSYSTEMD_EXEC_PID=file\nrubbish\n", 0o644);
    scratch.file("b.env", "B=file2\n", 0o644);
    let mut world = World::unit("exec /usr/bin/env > ${OUT:-/dev/null}");
    world.base.notify_address = Some("@prebind".into());
    for word in ["A", "PASSED", "C", "NOTIFY_SOCKET", "OTHER", "GONE"] {
        world.base.environment.push((word.into(), "own".into()));
    }
    let env = |word: &str| (word.to_string(), text("env"));
    world.service.env = ["A", "B", "C", "INVOCATION_ID", "PATH", "U", "V"].map(env).into();
    let pattern = format!("{}/[ab].env", scratch.0.display());
    world.service.env_files = [&*pattern, "-/nowhere/*", "-/etc", "-/nowhere"].map(PathBuf::from).into();
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
    world.service.process.pass_environment = words(&["PASSED", "C", "NOTIFY_SOCKET", "MISSING", "GONE"]);
    world.service.process.unset_environment = words(&["LANG", "U=env", "V=other", "GONE", "PREBIND_SLOT"]);
    let expected = "A=file B=file2 C=env INVOCATION_ID=env NOTIFY_SOCKET=@prebind PASSED=own PATH=env \
                    PREBIND_GENERATION=7 PREBIND_SERVICE=web.service SYSTEMD_EXEC_PID=file V=env";
    let launched = world.launch(&world.copy()).unwrap();
    wait(launched.pid);
    assert_eq!(lines(&world.output()).join(" "), expected);
    let remarks = [
        "PassEnvironment=NOTIFY_SOCKET: not passed on, its value was meant for prebind".to_string(),
        format!("{}/a.env:3: ignored: no '='", scratch.0.display()),
    ];
    assert_eq!(launched.remarks, remarks);
}

#[test]
fn prebinds_own_environment_where_wanted() {
    let mut world = World::unit("exec env > $OUT").process(|process| process.clean_environment = false);
    for (key, value) in [("FOO", "1"), ("INVOCATION_ID", "outer"), ("LISTEN_FDS", "9"), ("REMOTE_ADDR", "x")] {
        world.base.environment.push((key.into(), value.into()));
    }
    let output = world.output();
    let kept: Vec<&str> =
        lines(&output).into_iter().filter(|line| !line.starts_with("PREBIND_") && !line.starts_with("SYS")).collect();
    let id = format!("INVOCATION_ID={:032}", 0);
    assert_eq!(kept, ["FOO=1", &id, "LANG=C.UTF-8", "PATH=/usr/bin:/bin"]);
}

#[test]
fn steps_get_what_systemd_gives_them() {
    let outcome = OutcomeWords { result: "signal", main: Some(("killed", "TERM".into())) };
    let names = "MAINPID SERVICE_RESULT EXIT_CODE EXIT_STATUS NOTIFY_SOCKET FDSTORE WATCHDOG_USEC LISTEN_FDS";
    let always = "MAINPID=41 SERVICE_RESULT=signal EXIT_CODE=killed EXIT_STATUS=TERM";
    for (access, told) in [
        (NotifyAccess::None, ""),
        (NotifyAccess::Main, ""),
        (NotifyAccess::Exec, " NOTIFY_SOCKET=@prebind FDSTORE=1"),
        (NotifyAccess::All, " NOTIFY_SOCKET=@prebind FDSTORE=1"),
    ] {
        let script = format!(
            "for n in {names}; do printenv $n >/dev/null && echo $n=$(printenv $n); done > $OUT; ls /proc/self/fd >> $OUT"
        );
        let mut world = World::unit("exit 9").socket("web", None);
        world.service.steps = vec![
            StepSpec { step: Step::StopPost, exec: exec(&["/bin/false"]) },
            StepSpec { step: Step::StartPre, exec: exec(&["/bin/false"]) },
            StepSpec { step: Step::StopPost, exec: exec(&["/bin/sh", "-c", &script]) },
        ];
        world.base.notify_address = Some("@prebind".into());
        world.service.watchdog_ns = Some(SECOND);
        world.service.notify_access = access;
        world.service.fd_store_max = 1;
        let outcome = outcome.clone();
        let (_, output) = world.run(|copy| {
            copy.part = Part::Step(Step::StopPost, 1);
            copy.main_pid = Some(41);
            copy.outcome = Some(Box::leak(Box::new(outcome)));
        });
        let output: Vec<&str> = output.lines().collect();
        assert_eq!(output.join(" "), format!("{always}{told} 0 1 2 3"), "{access:?}"); // 3: what ls itself opened
    }
}

#[test]
fn the_notify_socket_of_the_main_process() {
    for (access, expected) in [(NotifyAccess::None, ""), (NotifyAccess::Main, "@p"), (NotifyAccess::All, "@p")] {
        let mut world = World::unit("echo $NOTIFY_SOCKET > $OUT");
        world.base.notify_address = Some("@p".into());
        world.service.notify_access = access;
        assert_eq!(world.output().trim(), expected);
    }
}

#[test]
fn a_connection_is_in_the_place_of_the_sockets() {
    let name = "0-127.0.0.1:80-127.0.0.1:4000";
    for (open, found) in [(true, "/etc/group\n1 connection"), (false, "")] {
        let served = Served {
            fd: open.then(|| File::open("/etc/group").unwrap().into()),
            instance: Instance(name.into()),
            remote: Some(("127.0.0.1".into(), Some(4000))),
            name: "connection".into(),
        };
        let script = "{ readlink /proc/$$/fd/3 /proc/$$/fd/4
            echo $LISTEN_FDS $LISTEN_FDNAMES $REMOTE_ADDR $REMOTE_PORT $0 $1; } > $OUT";
        let mut world = World::unit(script).socket("a", None).socket("b", None);
        let Command::Execs(execs) = &mut world.service.command else { unreachable!() };
        execs[0].words.extend([false, true].map(|unescaped| Template(vec![Piece::Instance { unescaped }])));
        let (_, output) = world.run(|copy| copy.connection = Some(Box::leak(Box::new(served))));
        let rest = format!("127.0.0.1 4000 {name} {}", name.replace('-', "/"));
        assert_eq!(output.trim_end(), format!("{found} {rest}").trim_start(), "{open}");
    }
}

#[test]
fn variables_in_words() {
    let mut world = World::unit("");
    let mut command = exec(&["/bin/sh"]);
    let words = [
        "$NAME",
        "-c",
        "echo \"$$0 $$*\" > $$OUT",
        "$NAME",
        "$LIST",
        "${LIST}",
        "pid=${SYSTEMD_EXEC_PID}.",
        "$SYSTEMD_EXEC_PID",
        "$LISTEN_PID",
        "${GONE}",
        "$GONE",
        "$$",
    ];
    command.words = words.iter().map(|word| text(word)).collect();
    command.literal = false;
    world.service.command = Command::Execs(vec![command]);
    world.service.env =
        vec![("NAME".into(), text("me")), ("LIST".into(), text("'a b'  c")), ("GONE".into(), text("x"))];
    world.service.process.unset_environment = vec!["GONE".into()];
    let (pid, output) = world.run(|_| ());
    assert_eq!(output, format!("me a b c 'a b'  c pid={pid}. {pid}  $\n"));
}

/// What is executed is never made of variables, and is looked for in fixed folders; what it is called may be.
#[test]
fn the_program_itself() {
    let scratch = Scratch::new();
    scratch.file("tool", "#!/bin/sh\n", 0o755);
    let mut world = World::unit("");
    world.service.env = vec![("PATH".into(), text(scratch.0.to_str().unwrap())), ("T".into(), text("sh"))];
    for (path, message) in [
        ("tool", "cannot run 'tool': no such file"),
        ("$T", "cannot run '$T': no such file"),
        ("/bin/$T", "cannot run '/bin/$T': no such file"),
    ] {
        world.service.command = Command::Execs(vec![Exec { literal: false, ..exec(&[path]) }]);
        let error = world.error();
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(error.exit_code(), 203, "{error}");
    }
    let mut command = exec(&["sh"]);
    command.words = ["$T", "-c", "tr '\\000' ' ' < /proc/$$$$/cmdline > $$OUT"].iter().map(|word| text(word)).collect();
    command.literal = false;
    world.service.env.remove(0);
    world.service.command = Command::Execs(vec![command]);
    assert!(world.output().starts_with("sh -c tr "));
}

/// systemd leaves it to the kernel; only a command line of a person's gets a shell.
#[test]
fn a_script_without_an_interpreter_is_no_program() {
    let scratch = Scratch::new();
    let script = scratch.file("script", "true\n", 0o755);
    let mut world = World::unit("");
    world.service.command = Command::Execs(vec![exec(&[&script])]);
    let error = world.error();
    assert_eq!((error.errno, error.exit_code()), (libc::ENOEXEC, 203), "{error}");
}

#[test]
fn a_command_that_there_is_not() {
    let world = World::unit("");
    for part in [Part::Main(1), Part::Step(Step::Stop, 0)] {
        let error = world.launch(&Copy { part, ..world.copy() }).unwrap_err();
        assert!(error.to_string().contains("no such command"), "{error}");
    }
}

#[test]
fn a_session_of_its_own_and_ignored_sigpipe() {
    for ignore in [true, false] {
        let world = World::unit("exec > $OUT; cat /proc/$$/stat; exec grep -E 'Sig(Blk|Ign)' /proc/self/status")
            .process(|process| process.ignore_sigpipe = ignore);
        let (pid, output) = world.run(|_| ());
        let fields: Vec<&str> = output.lines().next().unwrap().rsplit(')').next().unwrap().split_whitespace().collect();
        assert_eq!((fields[2], fields[3]), (&*pid.to_string(), &*pid.to_string()), "{output}");
        let ignored = if ignore { "0000000000001000" } else { "0000000000000000" };
        assert!(output.contains("SigBlk:\t0000000000000000\n"), "{output}");
        assert!(output.contains(&format!("SigIgn:\t{ignored}\n")), "{output}");
    }
}

fn directory(kind: DirectoryKind, path: PathBuf, mode: u32) -> DirectorySpec {
    DirectorySpec { kind, path, links: Vec::new(), mode, preserve: Preserve::No }
}

#[test]
fn directories_are_made_told_and_removed() {
    let scratch = Scratch::new();
    let at = |name: &str| scratch.0.join(name);
    let user = root().then(|| "daemon".to_string());
    let mut world = World::unit("echo $RUNTIME_DIRECTORY $STATE_DIRECTORY > $OUT");
    world.service.user.clone_from(&user);
    let runtime = |name: &str| directory(DirectoryKind::Runtime, at(name), 0o750);
    world.service.process.directories = vec![
        DirectorySpec { links: vec![at("links/b")], ..runtime("z/b") },
        runtime("old"),
        DirectorySpec { preserve: Preserve::Restart, ..runtime("kept") },
        directory(DirectoryKind::State, at("state"), 0o2711),
        directory(DirectoryKind::Configuration, at("etc"), 0o755),
    ];
    // Somebody else's is taken over with all that is in it, but not through a link; of configuration none is.
    for folder in ["old/inner", "etc"] {
        std::fs::create_dir_all(at(folder)).unwrap();
    }
    std::fs::set_permissions(at("etc"), PermissionsExt::from_mode(0o700)).unwrap();
    scratch.file("outside", "", 0o644);
    scratch.file("old/inner/file", "", 0o644);
    std::os::unix::fs::symlink(at("outside"), at("old/inner/link")).unwrap();
    let service = world.service.clone();
    let paths = ["kept", "old", "z/b"].map(|name| at(name).display().to_string()).join(":");
    assert_eq!(world.output(), format!("{paths} {}\n", at("state").display()));

    let prebind = nix::unistd::geteuid().as_raw();
    let own = if user.is_some() { 1 } else { prebind };
    for (name, owner, mode) in [
        ("z", prebind, 0o755),
        ("z/b", own, 0o750),
        ("old", own, 0o750),
        ("old/inner/file", own, 0o644),
        ("outside", prebind, 0o644),
        ("state", own, 0o2711),
        ("etc", prebind, 0o700),
    ] {
        let data = std::fs::metadata(at(name)).unwrap();
        assert_eq!((data.uid(), data.mode() & 0o7777), (owner, mode), "{name}");
    }
    assert_eq!(std::fs::read_link(at("links/b")).unwrap(), Path::new("../z/b"));

    assert_eq!(remove_directories(&service, true), Vec::<String>::new());
    for (name, there) in
        [("z", true), ("z/b", false), ("links/b", false), ("old", false), ("kept", true), ("state", true)]
    {
        assert_eq!(at(name).symlink_metadata().is_ok(), there, "{name}");
    }
    assert_eq!(remove_directories(&service, false), Vec::<String>::new());
    assert!(!at("kept").exists() && at("state").exists() && at("outside").exists());
}

#[test]
fn directories_that_cannot_be_made() {
    let scratch = Scratch::new();
    let file = PathBuf::from(scratch.file("file", "", 0o644));
    for (kind, code, text) in [
        (DirectoryKind::Runtime, 233, "runtime"),
        (DirectoryKind::State, 238, "state"),
        (DirectoryKind::Cache, 239, "cache"),
        (DirectoryKind::Logs, 240, "logs"),
        (DirectoryKind::Configuration, 241, "configuration"),
    ] {
        let world = World::unit("").process(|process| process.directories = vec![directory(kind, file.clone(), 0o755)]);
        let error = world.error();
        let place = file.display();
        let message = format!("worker of 'web.service': cannot make its {text} directory '{place}': not a directory");
        assert_eq!((error.to_string(), error.exit_code()), (message, code));
    }
}
