use super::*;
use crate::plan::{
    Command, KillMode, LogFile, Number, Piece, Reload, Resource, Restart, Rotation, SECOND, Signal, SocketId,
    SocketRef, StartWhen, Stdio, Template, Unit,
};

/// Reads files, of which the first is asked for.
pub(super) fn opened(files: &[(&str, &str)]) -> Read {
    let read = |path: &str| {
        let found = files.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| "no such file".to_string())
    };
    let matching = |pattern: &str| {
        let names = files.iter().map(|(name, _)| name.to_string());
        names.filter(|name| crate::front::pattern::fits(pattern, name)).collect()
    };
    let environment = [("PATH", "/bin"), ("HOME", "/home/me"), ("USER", "me")];
    let environment = environment.map(|(key, value)| (key.to_string(), value.to_string()));
    let machine = Machine { read: &read, matching: &matching, environment: &environment, directory: "/here" };
    let request = Request { file: files[0].0.to_string(), origin: Origin::Argument(2) };
    super::read(&request, &ServiceSpec::default(), machine)
}

fn read_text(text: &str) -> Read {
    let read = opened(&[("circus.ini", text)]);
    assert_eq!(read.problems, [], "{text}");
    read
}

/// The only service of a watcher with these lines and two sockets.
fn watcher(lines: &str) -> ServiceSpec {
    let text = format!("[socket:web]\nport=1\n[socket:api]\nport=2\n[watcher:w]\ncmd=app\n{lines}");
    read_text(&text).services.remove(0)
}

fn problems(text: &str) -> Vec<String> {
    opened(&[("circus.ini", text)]).problems.iter().map(ToString::to_string).collect()
}

fn remarks(read: &Read) -> Vec<String> {
    read.remarks.iter().map(|one| format!("{}{one}", if one.warning { "" } else { "note: " })).collect()
}

fn shown(template: &Template) -> String {
    let pieces = template.0.iter().map(|piece| match piece {
        Piece::Text(text) => text.to_string_lossy().into_owned(),
        Piece::Socket(SocketRef::At(SocketId(n))) => format!("<{n}>"),
        other => format!("<{other:?}>"),
    });
    pieces.collect()
}

fn argv(service: &ServiceSpec) -> Vec<String> {
    let Command::Program(words) = &service.command else { panic!("{service:?}") };
    words.iter().map(shown).collect()
}

const SEED: &str = "\
[circus]
endpoint = tcp://127.0.0.1:5555

[socket:web]
host = localhost
port = 8080

[socket:another]
host = localhost
port = 8081
type = AF_INET6

[watcher:web_worker]
use_sockets = true
cmd = chaussette --fd {SOCKET:web} mywsgi.app
";

#[test]
fn the_file_that_it_grew_from() {
    let read = read_text(SEED);
    let addresses: Vec<String> = read.sockets.iter().map(|one| format!("{}={}", one.name, one.address)).collect();
    assert_eq!(addresses, ["web=127.0.0.1:8080", "another=[::1]:8081"]);
    let service = &read.services[0];
    assert_eq!((service.name.as_str(), service.number), ("web_worker", Number::Fixed(1)));
    assert_eq!(argv(service), ["chaussette", "--fd", "<0>", "mywsgi.app"]);
    assert_eq!(service.sockets, [SocketId(0)], "it names one");
    assert_eq!(service.origin.to_string(), "circus.ini:15");
    let expected = [
        "note: circus.ini:2: endpoint: prebindctl and its control socket take its place",
        "circus.ini:11: type = AF_... is taken as the family: write family = AF_...",
        "note: circus.ini:15: workers have prebind's environment: copy_env is on where it is not said",
        "circus.ini:8: no watcher gets socket another: it needs use_sockets, or to name it",
    ];
    assert_eq!(remarks(&read), expected);
}

#[test]
fn which_sockets_a_watcher_gets() {
    let table: [(&str, &[u16], Stdio); 8] = [
        ("", &[], Stdio::Null),
        ("use_sockets=yes", &[0, 1], Stdio::Null),
        ("use_sockets=yes\nargs=$(circus.sockets.api)", &[1], Stdio::Null),
        ("args={SOCKET:api} <SOCKET:web>", &[0, 1], Stdio::Null),
        ("stdin_socket=web", &[0], Stdio::Socket),
        ("stdin_socket=web\nuse_sockets=yes", &[0], Stdio::Named("web".into())),
        ("stdin_socket=web\nargs=((circus.sockets.api))", &[0, 1], Stdio::Named("web".into())),
        ("close_child_stdin=no\n[env]\nFD=$(circus.sockets.api)", &[1], Stdio::Own),
    ];
    for (lines, sockets, stdin) in table {
        let service = watcher(lines);
        let ids: Vec<u16> = service.sockets.iter().map(|id| id.0).collect();
        assert_eq!((ids.as_slice(), &service.process.stdin), (sockets, &stdin), "{lines}");
        assert!(service.sockets_given);
    }
}

#[test]
fn commands() {
    for (lines, words) in [
        ("cmd=a 'b c'\nargs=d $(circus.env.USER)", vec!["a", "b c", "d", "me"]),
        ("cmd=a $HOME ; x", vec!["a", "$HOME"]),
        ("cmd=a $HOME; x\nshell=yes", vec!["/bin/sh", "-c", "a $HOME; x"]),
        (
            "cmd=a '$1'\nargs=b\nshell=1\nshell_args=zero 'one two'",
            vec!["/bin/sh", "-c", "a '$1' b", "zero", "one two"],
        ),
        ("cmd=a --color #fff\n  b", vec!["a", "--color", "#fff", "b"]),
        ("cmd=a $(circus.wid) $(circus.color)\ncolor=red", vec!["a", "<Wid>", "red"]),
    ] {
        let read = read_text(&format!("[watcher:w]\n{lines}\n"));
        assert_eq!(argv(&read.services[0]), words, "{lines}");
    }
}

#[test]
fn each_option_has_its_place() {
    type Holds = fn(&ServiceSpec) -> bool;
    let table: [(&str, Holds); 26] = [
        ("numprocesses=3", |one| one.number == Number::Fixed(3) && one.autostart),
        ("autostart=no\nnumprocesses=3", |one| one.number == Number::Fixed(0) && !one.autostart),
        ("working_dir=/srv/$(circus.env.user)", |one| one.chdir.as_deref() == Some("/srv/me".as_ref())),
        ("uid=www\ngid=7", |one| one.user.as_deref() == Some("www") && one.group.as_deref() == Some("7")),
        ("copy_env=no", |one| one.process.clean_environment),
        ("", |one| !one.process.clean_environment && one.stop_timeout_ns == 30 * SECOND && !one.stop_timeout_given),
        ("graceful_timeout=1.5", |one| one.stop_timeout_ns == 3 * SECOND / 2 && one.stop_timeout_given),
        ("stop_signal=quit", |one| one.stop_signal == Signal::QUIT),
        ("stop_signal=RTMIN+1", |one| one.stop_signal == Signal(35)),
        ("stop_children=yes", |one| one.kill.mode == KillMode::Group),
        ("", |one| one.kill.mode == KillMode::Mixed && one.restart == Restart::Always && one.restart_given),
        ("singleton=yes", |one| one.singleton && one.number == Number::Fixed(1)),
        ("respawn=no", |one| one.restart == Restart::No),
        ("send_hup=yes", |one| one.reload == Reload::Signal(Signal::HUP)),
        ("warmup_delay=0.5", |one| one.spacing_ns == SECOND / 2),
        ("max_age=60", |one| one.max_age == Some((60 * SECOND, 30 * SECOND))),
        ("max_age=60\nmax_age_variance=0", |one| one.max_age == Some((60 * SECOND, 0))),
        ("max_age=0", |one| one.max_age.is_none()),
        ("on_demand=yes\nuse_sockets=yes", |one| matches!(one.start, StartWhen::OnTraffic { also_at_once: false, .. })),
        ("rlimit_nofile=99", |one| (one.limits[0].resource, one.limits[0].hard) == (Resource::Nofile, Some(99))),
        ("rlimit_CORE=", |one| (one.limits[0].resource, one.limits[0].soft) == (Resource::Core, None)),
        ("close_child_stdout=yes", |one| one.process.stdout == Stdio::Null && one.process.stderr == Stdio::Own),
        ("flapping.retry_in=3", |one| one.backoff_base_ns == 3 * SECOND),
        ("[plugin:f]\nuse=circus.plugins.flapping.Flapping\nretry_in=4", |one| one.backoff_base_ns == 4 * SECOND),
        ("virtualenv=/venv", |one| {
            one.env.iter().any(|(key, value)| key == "PATH" && shown(value) == "/venv/bin:/bin")
        }),
        ("[circus]\numask=027", |one| one.umask == Some(0o027)),
    ];
    for (lines, holds) in table {
        let service = watcher(lines);
        assert!(holds(&service), "{lines}: {service:?}");
    }
}

#[test]
fn streams() {
    let file = |path: &str, rotation| LogFile { path: path.into(), rotation, time_format: None };
    let log = |path: &str, rotation| Stdio::Log(file(path, rotation));
    let table = [
        ("stdout_stream.class=StdoutStream", Stdio::Own),
        ("stdout_stream.class=circus.stream.FancyStdoutStream", Stdio::Own),
        ("stdout_stream.filename=x.log", log("/here/x.log", Rotation::Never)),
        ("stdout_stream.class=FileStream\nstdout_stream.filename=/x", log("/x", Rotation::Never)),
        (
            "stdout_stream.filename=/x\nstdout_stream.max_bytes=10\nstdout_stream.backup_count=2",
            log("/x", Rotation::Size { max_bytes: 10, backups: 2 }),
        ),
        (
            "stdout_stream.class=TimedRotatingFileStream\nstdout_stream.filename=/x\nstdout_stream.rotate_when=W0",
            log("/x", Rotation::Time { unit: Unit::Week(0), interval: 1, backups: 0, utc: false }),
        ),
        ("stdout_stream.class=WatchedFileStream\nstdout_stream.filename=/x", log("/x", Rotation::Watched)),
        (
            "stdout_stream.filename=/x\nstdout_stream.time_format=%H:%M:%S.%f",
            Stdio::Log(LogFile { time_format: Some("%H:%M:%S.%6f".into()), ..file("/x", Rotation::Never) }),
        ),
    ];
    for (lines, stdout) in table {
        assert_eq!(watcher(lines).process.stdout, stdout, "{lines}");
    }
    let said = problems("[watcher:w]\ncmd=x\nstderr_stream.class=my.Stream\nstdout_stream.max_bytes=3\n");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("circus.ini:4: stdout_stream.filename is missing"));
    assert!(said[1].contains("circus.ini:3: my.Stream is Python inside circusd"));
}

#[test]
fn variables_in_their_order() {
    let text = "[env]\nA=1\nB=$HOME/$NONE\nC=$(circus.env.USER)\n[env:w*,x]\nA=2\n[env:other]\nA=3\n[env:w]\nD=4\n\
                [watcher:w]\ncmd=app $(circus.env.a) $(circus.env.b)\n";
    let service = read_text(text).services.remove(0);
    let env: Vec<String> = service.env.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect();
    assert_eq!(env, ["B=/home/me/", "C=me", "A=2", "D=4"]);
    assert_eq!(argv(&service), ["app", "2", "/home/me/"]);
}

#[test]
fn priority_and_what_is_global() {
    let text = "[circus]\npidfile=/run/p\nloglevel=DEBUG\nhttpd=yes\nstatsd=no\ncheck_delay=1\n\
                [watcher:a]\ncmd=a\n[watcher:b]\ncmd=b\npriority=5\n[watcher:c]\ncmd=c\npriority=-1\n[watcher:d]\ncmd=d\n";
    let read = read_text(text);
    let names: Vec<&str> = read.services.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "d", "c"]);
    assert_eq!((read.pidfile, read.verbosity), (Some("/run/p".into()), 1));
    // It is about circusd's own helpers, not about what is logged.
    let debug = read_text("[circus]\ndebug=yes\n[watcher:a]\ncmd=a\n");
    assert!(debug.verbosity == 0 && remarks(&debug).iter().any(|one| one.contains("note: circus.ini:2: debug:")));
    let warned: Vec<&str> = read.remarks.iter().filter(|one| one.warning).map(|one| one.message.as_str()).collect();
    assert_eq!(warned, ["httpd is left out: there is no web console: prebindctl status"]);
}

#[test]
fn includes() {
    let main = "[circus]\ninclude = more.ini other*.ini\n  none.ini\ninclude_dir = conf\n[watcher:a]\ncmd=first\n";
    let files = [
        ("etc/c.ini", main),
        ("etc/more.ini", "[watcher:a]\ncmd=second\n[watcher:b]\ncmd=b\n[circus]\ninclude=x\n"),
        ("etc/other1.ini", "[watcher:c]\ncmd=c\nnumprocesses=x\n"),
        ("etc/conf/d.ini", "[watcher:d]\ncmd=d\n"),
        ("conf/e.ini", "[watcher:e]\ncmd=e\n"),
    ];
    let read = opened(&files);
    let all: Vec<String> = read.services.iter().map(|one| argv(one)[0].clone()).collect();
    assert_eq!(all, ["first", "b", "c", "d"]);
    assert!(read.problems[0].to_string().starts_with("etc/other1.ini:3: numprocesses: 'x'"));
    let said = remarks(&read);
    for part in
        ["etc/c.ini:2: no file fits etc/none.ini", "an included file includes nothing more", "cmd was given before"]
    {
        assert!(said.iter().any(|one| one.contains(part)), "{part}: {said:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "[socket:web]\nport=http\n[socket:api]\nport=1\n[watcher:a]\ncmd='open\nnumprocesses=many\nhooks.before_start=m.f\n\
                [watcher:b]\nargs=x\n[watcher:c]\ncmd=x {SOCKET:wep}\nsingleton=yes\nnumprocesses=2\nrlimit_nofil=1\n\
                [watcher:d]\ncmd=x\non_demand=yes\nstdin_socket=ape\n[plugin:p]\nuse=my.Plugin\n[watcher:A]\ncmd=y\n";
    let said = problems(text);
    for part in [
        "circus.ini:2: port: 'http'",
        "circus.ini:6: cmd: the quote ' is left open",
        "circus.ini:7: numprocesses: 'many'",
        "circus.ini:8: hooks.before_start cannot be done (it is Python inside circusd",
        "circus.ini:9: watcher b has no command",
        "circus.ini:12: unknown socket 'wep' (did you mean web?)",
        "circus.ini:13: watcher c is a singleton with 2 processes (numprocesses = 1)",
        "circus.ini:15: unknown limit rlimit_nofil (did you mean rlimit_nofile?)",
        "circus.ini:19: unknown socket 'ape' (did you mean api?)",
        "circus.ini:21: plugin my.Plugin is Python that runs beside circusd",
        "circus.ini:23: two watchers are called A (the other: circus.ini:6)",
    ] {
        assert!(said.iter().any(|one| one.starts_with(part)), "{part}: {said:#?}");
    }
    assert_eq!(said.len(), 11, "{said:#?}");
    assert!(problems("[watcher:w]\ncmd=x\non_demand=yes\n")[0].contains("no socket that could start it"));
    assert!(problems("[circus]\nfoo=1\n")[0].starts_with("argument 2: there is no watcher in circus.ini"));
    assert_eq!(opened(&[("x", "")]).problems.len(), 1);
}

/// Every option that the table calls honoured is asked for by a reader, and none of the others is.
#[test]
fn the_table_and_the_readers_agree() {
    let text = "[circus]\nx=1\n[socket:s]\nx=1\n[watcher:w]\ncmd=x\n[plugin:p]\nuse=circus.plugins.flapping.Flapping\n";
    let mut said = Said::default();
    let sections = lex::merge(lex::lex("c.ini", text.as_bytes(), &mut said), &mut said);
    let variables = Variables::default();
    let asked = |kind: &str| {
        options::asked_for(|| {
            let mut said = Said::default();
            match kind {
                "circus" => drop(globals::read(&sections[0], &variables, &mut said)),
                "socket" => {
                    // With a path and without one other options count.
                    let with_path = lex::lex("c.ini", b"[socket:s]\npath=/s\n", &mut said);
                    socket::read(&sections[1], &variables, "/", &mut said);
                    socket::read(&with_path[0], &variables, "/", &mut said);
                }
                "watcher" => {
                    let base = ServiceSpec::default();
                    let world = watcher::World {
                        outside: &variables,
                        base: &base,
                        sections: &sections,
                        sockets: &[],
                        directory: "/",
                        umask: None,
                    };
                    watcher::read(&sections[2], &world, &mut said);
                }
                _ => drop(globals::of_plugins(&sections, &variables, &ServiceSpec::default(), &mut said)),
            }
        })
    };
    for kind in ["circus", "socket", "watcher", "plugin"] {
        let asked = asked(kind);
        // The files are gathered before the sections are read.
        let known = ["include", "include_dir"];
        for (_, class, keys, _) in keys::rows().filter(|(of, ..)| *of == kind) {
            for key in keys.split_whitespace() {
                let taken = known.contains(&key) || asked.iter().any(|one| one == key);
                assert_eq!(taken, class == keys::Class::Honoured, "[{kind}] {key}");
            }
        }
    }
}
