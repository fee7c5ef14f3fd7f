//! Chapter "prebind's own replacement": HUP, and a plan that is another one afterwards. `--reexec-as` stands for whatever
//! a front door reads anew.

use crate::harness::{Prebind, Setup, TempDir, free_port, get, prebind_path, probe, proc, wait_for};
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A prebind whose command line is, after HUP, what the script in its directory says.
struct Scripted {
    prebind: Prebind,
    script: String,
    control: String,
}

impl Scripted {
    fn start(options: &[&str], setup: impl Fn(Setup) -> Setup) -> Scripted {
        let dir = TempDir::new();
        let (script, control) = (dir.join("next"), dir.join("ctl.sock"));
        let before = ["--reexec-as", script.as_str()];
        let all = Setup::in_dir(dir, &before).and(options).and(&["--", probe::path(), "drain"]);
        let mut one = Scripted { prebind: setup(all).start(), script, control };
        one.next("", options);
        one.prebind.wait_ready();
        one
    }

    /// What is run from the next HUP on. `before` is shell text.
    fn next(&mut self, before: &str, options: &[&str]) {
        let quoted: Vec<String> = options.iter().map(|word| format!("'{word}'")).collect();
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --with-state-fd ] || exit 9\ncheck=; [ \"$3\" = --upgrade-check ] && check=$3\n\
             {before}\nexec {} \"$1\" \"$2\" $check -d {} {} -- {} drain\n",
            prebind_path().display(),
            self.control,
            quoted.join(" "),
            probe::path(),
        );
        write_program(&self.script, &text);
    }

    /// HUP, and until the next generation serves.
    fn hup(&mut self) -> Value {
        let before = self.generation();
        self.prebind.signal(libc::SIGHUP);
        self.prebind.wait_status("the next generation", |status| {
            let service = &status["services"][0];
            let workers = service["workers"].as_array()?;
            let all = workers.iter().all(|worker| worker["generation"].as_u64() == Some(before + 1));
            (all && service["ready"] == service["number"] && status["state"] == "running").then_some(status.clone())
        })
    }

    fn generation(&self) -> u64 {
        self.prebind.status()["services"][0]["generation"].as_u64().expect("a number")
    }

    /// HUP that changes nothing, because of all that.
    fn refused(&mut self, why: &[&str]) {
        let (before, lines) = (self.prebind.status(), self.prebind.lines.count());
        let workers = self.prebind.worker_pids();
        self.prebind.signal(libc::SIGHUP);
        self.prebind.lines.expect_from(lines, &[&["was not replaced"], why].concat());
        let after = self.prebind.status();
        assert_eq!(after["sockets"], before["sockets"]);
        assert_eq!(after["services"][0]["generation"], before["services"][0]["generation"]);
        assert_eq!(self.prebind.worker_pids(), workers);
    }
}

/// By another name first: a program that is open for writing cannot be executed.
fn write_program(path: &str, text: &str) {
    let draft = format!("{path}.draft");
    std::fs::write(&draft, text).expect("write");
    std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o755)).expect("mode");
    std::fs::rename(&draft, path).expect("rename");
}

fn names(status: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    status["sockets"]
        .as_array()
        .expect("sockets")
        .iter()
        .map(|one| (text(&one["name"]), text(&one["address"])))
        .collect()
}

#[test]
fn hup_replaces_prebind_then_the_workers() {
    let mut prebind = Setup::new(&["-b", "web=127.0.0.1:0", "-n", "2"]).copied().start();
    prebind.wait_ready();
    let (pid, workers, address) = (prebind.pid(), prebind.worker_pids(), prebind.inet("web"));
    prebind.signal(libc::SIGHUP);
    prebind.lines.expect(&["replaced in place"]);
    prebind.lines.expect(&["generation 2 serves"]);
    let after = prebind.wait_ready();
    assert_eq!((prebind.pid(), prebind.inet("web")), (pid, address));
    assert_eq!(after["services"][0]["generation"], 2);
    assert!(prebind.worker_pids().iter().all(|pid| !workers.contains(pid)));
    // With a program that cannot take the place nothing is upgraded, either.
    let path = prebind.dir.join("prebind");
    write_program(&path, "#!/bin/sh\necho 'prebind: no, thanks' >&2; exit 1\n");
    prebind.signal(libc::SIGUSR2);
    prebind.lines.expect(&["was not replaced, nothing changed", "no, thanks"]);
    assert_eq!(prebind.status()["services"][0]["generation"], 2);
    get(address, "/").expect("an answer");
    prebind.stop();
}

#[test]
fn sockets_come_go_and_move() {
    let (a, b, c) = (free_port(), free_port(), free_port());
    let tcp = |name: &str, port: u16| format!("{name}=127.0.0.1:{port}");
    let mut one = Scripted::start(&["-b", &tcp("a", a), "-b", &tcp("b", b), "-n", "2"], |setup| setup);
    let path = one.prebind.dir.join("s.sock");
    // b goes, a moves, s comes; c comes between them.
    let (a2, unix) = (free_port(), format!("s={path}"));
    one.next("", &["-b", &tcp("c", c), "-b", &tcp("a", a2), "-b", &unix, "-n", "2"]);
    let status = one.hup();
    let expected = [("c", c), ("a", a2)].map(|(name, port)| (name.to_owned(), format!("127.0.0.1:{port}")));
    assert_eq!(names(&status)[..2], expected);
    for port in [c, a2] {
        get(SocketAddr::from(([127, 0, 0, 1], port)), "/pid").expect("an answer");
    }
    crate::harness::get_unix(&path, "/pid").expect("an answer");
    let gone = |port: u16| move || std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(());
    wait_for("the old a to close", gone(a));
    wait_for("b to close", gone(b));
    let probe = one.prebind.probe("c");
    assert_eq!(probe::environ(&probe)["LISTEN_FDNAMES"], "c:a:s");
    // Everything back: the unix path goes with the last worker that had it.
    one.next("", &["-b", &tcp("a", a), "-b", &tcp("b", b), "-n", "2"]);
    one.hup();
    wait_for("the path to go", || (!Path::new(&path).exists()).then_some(()));
    get(SocketAddr::from(([127, 0, 0, 1], b)), "/pid").expect("an answer");
    assert!(proc::fds(one.prebind.pid()).iter().filter(|(_, target)| target.starts_with("socket:")).count() < 12);
    one.prebind.stop();
}

#[test]
fn a_wrong_plan_changes_nothing() {
    let port = free_port();
    let bind = format!("web=127.0.0.1:{port}");
    let mut one = Scripted::start(&["-b", &bind, "-n", "2"], |setup| setup);
    one.next("", &["-b", &bind, "-b", "x=127.0.0.1:1,nosuch", "--stop-signal", "KILL"]);
    one.refused(&["nosuch", "KILL"]);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (taken, path) = (busy.local_addr().expect("bound"), one.prebind.dir.join("new/s.sock"));
    one.next("", &["-b", &bind, "-b", &path, "-b", &format!("x={taken}")]);
    one.refused(&["cannot bind", "address in use"]);
    assert!(!Path::new(&path).exists() && !Path::new(&path).parent().expect("a folder").exists(), "{path} is left");
    one.next("", &["-b", &format!("{bind},slots")]);
    one.refused(&["slots cannot be switched"]);
    one.next("", &["-b", &bind, "-e", "/nowhere/pid"]);
    one.refused(&["cannot change while prebind runs"]);
    std::fs::remove_file(&one.script).expect("remove");
    one.refused(&["cannot execute", "no such file"]);
    one.next("", &["-b", &bind, "-n", "3"]);
    one.hup();
    one.prebind.stop();
}

#[test]
fn a_live_scale_survives_unless_the_plan_asks_for_another_number() {
    let mut one = Scripted::start(&["-b", "web=127.0.0.1:0", "-n", "2"], |setup| setup);
    one.prebind.ctl(&["scale", "4"]).code(0);
    one.prebind.wait_number(4);
    assert_eq!(one.hup()["services"][0]["number"], 4);
    one.next("", &["-b", "web=127.0.0.1:0", "-n", "3"]);
    assert_eq!(one.hup()["services"][0]["number"], 3);
    // reexec reads it as well, and leaves the workers alone.
    one.next("", &["-b", "web=127.0.0.1:0", "-n", "1"]);
    let generation = one.generation();
    one.prebind.ctl(&["reexec"]).code(0);
    one.prebind.wait_number(1);
    assert_eq!(one.generation(), generation);
    one.prebind.stop();
}

#[test]
fn options_of_an_open_socket_are_set_or_said() {
    let mut one = Scripted::start(&["-b", "web=127.0.0.1:0"], |setup| setup);
    one.next("", &["-b", "web=127.0.0.1:0,nodelay,keepalive,freebind"]);
    one.hup();
    one.prebind.lines.expect(&["too late for an open socket", "freebind"]);
    let probe = one.prebind.probe("web");
    let set = |name: &str| probe::fd(&probe, 3)[name].clone();
    assert_eq!(set("nodelay"), 1, "{probe}");
    one.prebind.stop();
}

#[test]
fn the_environment_is_the_first_one_unless_reexec_as_sets_it() {
    let options = ["-b", "web=127.0.0.1:0", "--drop-env-var", "DROPPED"];
    let mut one = Scripted::start(&options, |setup| setup.env("DROPPED", "a").env("KEPT", "a").env("SET", "a"));
    let environ = |one: &mut Scripted| probe::environ(&one.prebind.probe("web"));
    let before = environ(&mut one);
    assert_eq!((before.get("DROPPED"), before["KEPT"].as_str()), (None, "a"));
    one.next("[ -z \"$DROPPED\" ] && export DROPPED=b; export SET=b", &options);
    one.hup();
    let after = environ(&mut one);
    assert_eq!((after["DROPPED"].as_str(), after["KEPT"].as_str(), after["SET"].as_str()), ("b", "a", "b"));
    one.prebind.stop();
}

#[test]
fn env_as_reexec_as_needs_no_script() {
    let path = prebind_path();
    let reexec_as = format!("env VERSION=b '{}'", path.display());
    let options = ["-b", "web=127.0.0.1:0", "--reexec-as", &reexec_as];
    let mut prebind = Setup::probe(&options, &["drain"]).env("VERSION", "a").start();
    prebind.wait_ready();
    assert_eq!(probe::environ(&prebind.probe("web"))["VERSION"], "a");
    for generation in [2, 3] {
        prebind.signal(libc::SIGHUP);
        prebind.lines.expect(&[&format!("generation {generation} serves")]);
        prebind.wait_ready();
        assert_eq!(probe::environ(&prebind.probe("web"))["VERSION"], "b");
    }
    prebind.stop();
    let refused = Setup::probe(&["-b", "127.0.0.1:0", "--reexec-as", "env 'x"], &[]).finish();
    refused.code(100).says(&["--reexec-as", "quote"]);
}

#[test]
fn what_the_script_reaps_is_missed() {
    let mut one = Scripted::start(&["-b", "web=127.0.0.1:0", "-n", "1", "-t", "20"], |setup| setup);
    let gate = one.prebind.dir.join("gate");
    // Only in the real exec: the shell is the parent of the workers then, and waits for its own commands.
    let wait = format!("[ -n \"$check\" ] || {{ touch {gate}; while [ -e {gate} ]; do sleep 0.02; done; }}");
    one.next(&wait, &["-b", "web=127.0.0.1:0", "-n", "1", "-t", "20"]);
    let worker = one.prebind.worker_pids()[0];
    one.prebind.signal(libc::SIGHUP);
    wait_for("the script", || Path::new(&gate).exists().then_some(()));
    proc::kill(worker, libc::SIGKILL);
    wait_for("the worker's end", || (!proc::alive(worker)).then_some(()));
    // A signal for prebind meets the shell meanwhile.
    one.prebind.signal(libc::SIGUSR2);
    one.prebind.signal(libc::SIGTTIN);
    std::fs::remove_file(&gate).expect("remove");
    one.prebind.lines.expect(&["generation 2 serves"]);
    one.prebind.wait_ready();
    one.prebind.get("web", "/pid");
    assert!(!one.prebind.worker_pids().contains(&worker));
    one.prebind.stop();
}

#[test]
fn a_program_that_is_no_prebind_does_not_take_over() {
    let mut prebind = Setup::new(&["-b", "web=127.0.0.1:0", "-n", "2"]).copied().start();
    prebind.wait_ready();
    let (workers, path) = (prebind.worker_pids(), prebind.dir.join("prebind"));
    for text in ["exit 0", "echo \"$@\"", "sleep 1000 & sleep 1000"] {
        write_program(&path, &format!("#!/bin/sh\n{text}\n"));
        prebind.ctl(&["reexec"]).code(1).says(&["nothing changed"]);
        assert_eq!(prebind.worker_pids(), workers);
    }
    // What hung left nothing behind that holds the socket: only prebind and its workers do.
    wait_for("what was killed to be gone", || (prebind.descendants().len() == 3).then_some(()));
    prebind.get("web", "/");
    prebind.stop();
}

#[test]
fn a_script_without_the_check_word_makes_no_second_master() {
    let options = ["-b", "web=127.0.0.1:0", "-n", "2"];
    let mut one = Scripted::start(&options, |setup| setup);
    let pid = one.prebind.pid();
    one.next("check=", &["-b", "web=127.0.0.1:0", "-n", "3"]);
    assert_eq!(one.hup()["services"][0]["number"], 3);
    assert_eq!(one.prebind.status()["pid"], pid);
    one.prebind.stop();
}

#[test]
fn a_socket_that_no_worker_has_goes_at_once() {
    let (a, b) = (free_port(), free_port());
    let (a, both) = (format!("a=127.0.0.1:{a}"), format!("b=127.0.0.1:{b}"));
    let mut one = Scripted::start(&["-b", &a, "-n", "2"], |setup| setup);
    one.next("", &["-b", &a, "-b", &both, "-n", "3"]);
    one.prebind.ctl(&["reexec"]).code(0);
    one.prebind.wait_number(3);
    one.next("", &["-b", &a, "-n", "2"]);
    one.prebind.ctl(&["reexec"]).code(0);
    wait_for("b to close", || std::net::TcpStream::connect(("127.0.0.1", b)).is_err().then_some(()));
    one.next("", &["-b", &a, "--user", "nosuchuser"]);
    one.refused(&["nosuchuser"]);
    one.prebind.stop();
}

/// In a network of its own, where all addresses are free to be used.
#[test]
fn an_address_that_overlaps_takes_over() {
    if !crate::harness::is_root("an_address_that_overlaps_takes_over") {
        return;
    }
    let mut one = Scripted::start(&["-b", "web=127.0.0.1:8080", "-n", "2"], |setup| setup.hook(own_network));
    let pid = one.prebind.pid();
    for address in ["0.0.0.0:8080", "*:8080", "127.0.0.1:8080"] {
        one.next("", &["-b", &format!("web={address}"), "-n", "2"]);
        one.hup();
        wait_for("one listening socket", || (listening(pid) == 1).then_some(()));
        in_network_of(pid, || get(SocketAddr::from(([127, 0, 0, 1], 8080)), "/pid").map(drop)).expect("an answer");
        // The address is ours alone.
        let second = in_network_of(pid, || std::net::TcpListener::bind("127.0.0.1:8080").map(drop));
        assert_eq!(second.expect_err("taken").kind(), std::io::ErrorKind::AddrInUse);
    }
    one.prebind.stop();
}

/// How many TCP sockets listen in the network of that process.
fn listening(pid: i32) -> usize {
    let table = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let both = table("tcp") + &table("tcp6");
    both.lines().filter(|line| line.split_whitespace().nth(3) == Some("0A")).count()
}

fn own_network() -> std::io::Result<()> {
    let failed = || Err(std::io::Error::last_os_error());
    // SAFETY: plain system calls; the request is a name and flags, in a buffer that outlives the call.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return failed();
        }
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let up = libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &request);
        libc::close(fd);
        if up != 0 { failed() } else { Ok(()) }
    }
}

/// Does something in the network of another process.
fn in_network_of<T: Send>(pid: i32, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("a namespace");
            let fd = std::os::fd::AsRawFd::as_raw_fd(&namespace);
            // SAFETY: moves this thread alone, which ends with the closure.
            assert_eq!(unsafe { libc::setns(fd, libc::CLONE_NEWNET) }, 0, "setns");
            act()
        });
        thread.join().expect("no panic")
    })
}
