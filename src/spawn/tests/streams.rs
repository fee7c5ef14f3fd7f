//! Descriptors 0, 1 and 2, and opened files.

use super::*;
use crate::plan::{OpenFile, Stdio, Step};
use std::io::Read;

/// Where 0, 1 and 2 lead, and with which flags (octal): told through `$OUT`.
const TELL: &str = "text=$(for n in 0 1 2; do
    echo $(readlink /proc/$$/fd/$n) $(sed -n 's/^flags:.//p' /proc/$$/fdinfo/$n)
done); echo \"$text\" > $OUT";

/// A case: what is asked for, and what is found.
type Case = ([Stdio; 3], [(String, u32); 3]);

fn streams([stdin, stdout, stderr]: [Stdio; 3]) -> impl FnOnce(&mut ProcessSpec) {
    move |process| (process.stdin, process.stdout, process.stderr) = (stdin, stdout, stderr)
}

#[test]
fn every_kind() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.0.join(name);
    let own = |n: i32| std::fs::read_link(format!("/proc/self/fd/{n}")).unwrap().display().to_string();
    scratch.file("in", "text", 0o644);
    scratch.file("old", "something long", 0o600);
    let at = |name: &str| path(name).display().to_string();
    let file = |name: &str| Stdio::File(path(name));
    let named = || Stdio::Named("web".into());
    let truncate = || Stdio::Truncate(path("t"));
    let (null, passwd) = (|| "/dev/null".to_string(), || "/etc/passwd".to_string());
    // The low digit of the flags: 0 reads, 1 writes, 2 both; 2000 appends; 9: whatever prebind's are.
    let table: Vec<Case> = vec![
        ([Stdio::Null, Stdio::Null, Stdio::Null], [(null(), 0), (null(), 1), (null(), 1)]),
        ([Stdio::Null, Stdio::Input, Stdio::Own], [(null(), 0), (own(1), 9), (own(2), 9)]),
        ([Stdio::Data(b"x".into()), Stdio::Input, Stdio::Null], [("memfd".into(), 2), (own(1), 9), (null(), 1)]),
        ([file("in"), Stdio::Input, Stdio::Input], [(at("in"), 0), (at("in"), 0), (at("in"), 0)]),
        ([file("in"), file("new"), Stdio::Append(path("old"))], [(at("in"), 0), (at("new"), 1), (at("old"), 0o2001)]),
        ([file("both"), file("both"), file("both")], [(at("both"), 2), (at("both"), 2), (at("both"), 2)]),
        ([file("two"), Stdio::Null, file("two")], [(at("two"), 2), (null(), 1), (at("two"), 2)]),
        ([Stdio::Null, truncate(), truncate()], [(null(), 0), (at("t"), 1), (at("t"), 1)]),
        ([Stdio::Socket, Stdio::Input, Stdio::Null], [(passwd(), 0), (passwd(), 0), (null(), 1)]),
        ([Stdio::Null, Stdio::Socket, Stdio::Socket], [(null(), 0), (passwd(), 0), (passwd(), 0)]),
        ([named(), Stdio::Null, named()], [(passwd(), 0), (null(), 1), (passwd(), 0)]),
    ];
    for (asked, expected) in table {
        let case = format!("{asked:?}");
        let output = World::unit(TELL).socket("web", None).process(streams(asked)).output();
        assert_eq!(output.lines().count(), 3, "{case}: {output}");
        for (line, (name, flags)) in output.lines().zip(expected) {
            let (found, found_flags) = line.rsplit_once(' ').unwrap();
            assert!(found == name || (name == "memfd" && found.contains("memfd:")), "{case}: {output}");
            let found_flags = u32::from_str_radix(found_flags, 8).unwrap();
            assert!(flags == 9 || found_flags & 0o2003 == flags, "{case}: {output}");
            assert_eq!(found_flags & (libc::O_CLOEXEC | libc::O_NONBLOCK) as u32, 0, "{case}: {output}");
        }
    }
}

#[test]
fn files_are_written_as_asked_with_the_mode_of_the_umask() {
    let scratch = Scratch::new();
    for (name, kind, umask, text, mode) in [
        ("file", Stdio::File as fn(PathBuf) -> Stdio, 0o022, "newlong", 0o644),
        ("append", Stdio::Append, 0o077, "oldlongnew", 0o600),
        ("truncate", Stdio::Truncate, 0, "new", 0o666),
    ] {
        for (there, text) in [(true, text), (false, "new")] {
            let path = scratch.0.join(format!("{name}{there}"));
            if there {
                std::fs::write(&path, "oldlong").unwrap();
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
            }
            let mut world = World::unit("printf new").process(|process| process.stdout = kind(path.clone()));
            world.service.umask = Some(umask);
            world.output();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name} {there}");
            let found = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(found, if there { 0o640 } else { mode }, "{name} {there}");
        }
    }
}

#[test]
fn data_is_read_and_cannot_be_changed() {
    let world = World::unit("cat > $OUT; echo more 2>/dev/null >&0 || echo sealed >> $OUT")
        .process(|process| process.stdin = Stdio::Data(b"some\ntext\n".into()));
    assert_eq!(world.output(), "some\ntext\nsealed\n");
}

/// The files are opened with prebind's rights, and are no way round the worker's own afterwards.
#[test]
fn files_of_root_for_another_user() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let private = scratch.file("private", "secret", 0o600);
    let mut world = World::unit("cat > $OUT; cat $FILE >> $OUT 2>/dev/null || echo refused >> $OUT");
    world.service.user = Some("daemon".into());
    world.service.env = vec![("FILE".into(), text(&private))];
    world.service.process.stdin = Stdio::File(private.into());
    assert_eq!(world.output(), "secretrefused\n");
}

/// A unix socket is connected to; a FIFO does not keep prebind waiting.
#[test]
fn sockets_and_fifos() {
    let scratch = Scratch::new();
    let (path, fifo) = (scratch.0.join("socket"), scratch.0.join("fifo"));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let world = World::unit("echo hello; cat > $OUT").process(streams([
        Stdio::File(fifo.clone()),
        Stdio::File(path),
        Stdio::Null,
    ]));
    assert_eq!(world.output(), "");
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");

    let error = World::unit("").process(|process| process.stdout = Stdio::File(fifo)).error();
    assert_eq!((error.errno, error.exit_code()), (libc::ENXIO, 209), "{error}");
}

#[test]
fn a_socket_as_standard_input_is_the_only_one() {
    let script = "{ readlink /proc/$$/fd/0 /proc/$$/fd/3; env | grep LISTEN; echo end; } > $OUT";
    for part in [Part::Main(0), Part::Step(Step::StartPre, 0)] {
        let mut world = World::unit(script).socket("web", None).process(|process| process.stdin = Stdio::Socket);
        world.service.steps = vec![StepSpec { step: Step::StartPre, exec: exec(&["/bin/sh", "-c", script]) }];
        assert_eq!(world.run(|copy| copy.part = part).1, "/etc/passwd\nend\n", "{part:?}");
    }
}

fn open_file(path: &str, name: &str) -> OpenFile {
    let (read_only, append, truncate, graceful) = (true, false, false, false);
    OpenFile { path: path.into(), name: name.into(), read_only, append, truncate, graceful }
}

#[test]
fn opened_files_come_last() {
    let scratch = Scratch::new();
    let log = scratch.file("log", "old", 0o644);
    let script = "exec 9> $OUT; for n in 3 4 5 6; do readlink /proc/$$/fd/$n >&9; done
        echo $LISTEN_FDNAMES >&9; echo new >&5";
    let mut world = World::unit(script).socket("web", None);
    world.service.process.open_files = vec![
        open_file("/etc/group", "groups"),
        OpenFile { graceful: true, ..open_file("/nowhere", "none") },
        OpenFile { read_only: false, append: true, ..open_file(&log, "log") },
    ];
    assert_eq!(world.output(), format!("/etc/passwd\n/etc/group\n{log}\nweb:groups:log\n"));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "oldnew\n");
}

#[test]
fn what_cannot_be_opened() {
    let nowhere = || Stdio::File("/nowhere/x".into());
    type Change = Box<dyn FnOnce(&mut ProcessSpec)>;
    let table: Vec<(Change, u8, &str)> = vec![
        (
            Box::new(move |process| process.stdin = nowhere()),
            208,
            "cannot make its descriptor 0 of '/nowhere/x': no such file",
        ),
        (
            Box::new(move |process| process.stdout = nowhere()),
            209,
            "cannot make its descriptor 1 of '/nowhere/x': no such file",
        ),
        (
            Box::new(move |process| process.stderr = nowhere()),
            222,
            "cannot make its descriptor 2 of '/nowhere/x': no such file",
        ),
        (
            Box::new(|process| process.stdin = Stdio::Socket),
            208,
            "cannot make its descriptor 0 of its socket: it has 0, but must have exactly one",
        ),
        (
            Box::new(|process| process.stdout = Stdio::Named("web".into())),
            209,
            "cannot make its descriptor 1 of 'fd:web': it gets no descriptor of that name",
        ),
        (
            Box::new(|process| process.open_files = vec![open_file("/nowhere", "n")]),
            202,
            "cannot open for it '/nowhere' (OpenFile=): no such file",
        ),
    ];
    for (change, code, message) in table {
        let error = World::unit("").process(change).error();
        let expected = format!("worker of 'web.service': {message}");
        assert_eq!((error.to_string(), error.exit_code()), (expected, code));
    }
}
