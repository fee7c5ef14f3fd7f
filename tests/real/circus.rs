//! Chapter "Circus's configuration": files of Circus run by prebind, by what their workers find, and what becomes of a file
//! that is another one after HUP.

use crate::harness::{Finished, Prebind, Setup, TempDir, free_port, get, load, probe, proc, wait_for};
use serde_json::Value;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// The directory of the applications that servers run.
const WORKERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/workers");

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

/// A prebind that runs this file, which lies in its directory. `PROBE` stands for the probe worker.
pub(crate) fn run(text: &str, more: &[&str]) -> Prebind {
    let dir = TempDir::new();
    let file = write(&dir, text);
    Setup::in_dir(dir, &["--circus", &file]).and(more).start()
}

fn write(dir: &TempDir, text: &str) -> String {
    let file = dir.join("circus.ini");
    fs::write(&file, text.replace("PROBE", probe::path())).expect("write");
    file
}

fn check(text: &str) -> Finished {
    let dir = TempDir::new();
    let file = write(&dir, text);
    Setup::in_dir(dir, &["--check", "--circus", &file]).finish()
}

fn here(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What the probe worker behind a port says of itself.
fn told(port: u16) -> Value {
    let body = wait_for("an answer", || get(here(port), "/").ok());
    serde_json::from_str(&body).expect("JSON")
}

/// A service of the status by its name.
fn service<'a>(status: &'a Value, name: &str) -> &'a Value {
    let services = status["services"].as_array().expect("services");
    services.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
}

pub(crate) fn pids(status: &Value, name: &str) -> Vec<i32> {
    let workers = service(status, name)["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().filter_map(|worker| Some(worker["pid"].as_i64()? as i32)).collect()
}

/// The seed's file, with ports that are free here: both sockets listen, and a worker that is killed has a successor.
#[test]
fn the_seed_runs_as_it_stands() {
    let dir = TempDir::new();
    let script = dir.join("chaussette");
    let lines = format!("#!/bin/sh\n[ \"$*\" = '--fd 3 mywsgi.app' ] || exit 2\nexec {} serve\n", probe::path());
    fs::write(&script, lines).expect("write");
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("mode");
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("IPv6 on the loopback");
    let (web, another) = (free_port(), v6.local_addr().expect("bound").port());
    drop(v6);
    let file = write(&dir, &SEED.replace("8080", &web.to_string()).replace("8081", &another.to_string()));
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").expect("PATH"));
    let mut prebind = Setup::in_dir(dir, &["--circus", &file]).env("PATH", &path).start();
    prebind.wait_ready();
    let first: i32 = get(here(web), "/pid").expect("an answer").parse().expect("a pid");
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, another));
    std::net::TcpStream::connect(v6).expect("the second socket listens");
    let killed = Instant::now();
    proc::kill(first, libc::SIGKILL);
    let next = wait_for("a successor", || get(here(web), "/pid").ok().filter(|pid| *pid != first.to_string()));
    let took = killed.elapsed();
    eprintln!("an answer from {next} {took:?} after {first} was killed; Circus's median was 3.2 s");
    assert!(took < Duration::from_secs(3), "{took:?}");
    prebind.lines.expect(&["circus.ini:11", "taken as the family"]);
    prebind.stop();
}

#[test]
fn each_option_reaches_the_worker() {
    type Holds = fn(&Value) -> bool;
    let table: [(&str, Holds); 15] = [
        ("args = --fd $(circus.sockets.web) 'a b' #c", |told| said(told) == ["--fd", "3", "a b", "#c"]),
        ("args = $(circus.wid) ((circus.env.name)) $(circus.color)\ncolor = red", |told| {
            said(told) == ["1", "V", "red"]
        }),
        ("args = ${socket:web}{SOCKET:web}<SOCKET:web>", |told| said(told) == ["333"]),
        ("working_dir = /usr", |told| told["cwd"] == "/usr"),
        ("rlimit_nofile = 77\nrlimit_core = 0", |told| {
            told["limits"]["nofile"] == serde_json::json!([77, 77]) && told["limits"]["core"][0] == 0
        }),
        ("copy_env = no", |told| !probe::environ(told).contains_key("PATH") && probe::environ(told)["NAME"] == "V"),
        ("", |told| probe::environ(told).contains_key("PATH") && !probe::environ(told).contains_key("__name__")),
        ("virtualenv = /venv", |told| probe::environ(told)["PATH"].starts_with("/venv/bin:/")),
        ("[env:w*]\nNAME = W\n[env:x]\nNAME = X", |told| probe::environ(told)["NAME"] == "W"),
        ("[env:w]\nD = <$HERE>:$NONE\nFD = $(circus.sockets.web)", |told| {
            let environ = probe::environ(told);
            environ["D"] == "<here>:" && environ["FD"] == "3"
        }),
        ("", |told| probe::numbers(told) == [0, 1, 2, 3] && probe::fd(told, 3)["nonblock"] == 1),
        ("", |told| probe::fd(told, 0)["target"] == "/dev/null" && told["umask"] == 0o027),
        ("close_child_stdout = yes", |told| probe::fd(told, 1)["target"] == "/dev/null"),
        ("stdin_socket = web", |told| {
            probe::fd(told, 0)["target"].as_str().is_some_and(|to| to.starts_with("socket:"))
        }),
        ("shell = yes\nargs = one; exit 3\n", |told| said(told) == ["one"]),
    ];
    for (lines, holds) in table {
        let port = free_port();
        let text = format!(
            "[circus]\numask = 027\n[env]\nNAME = V\n[socket:web]\nport = {port}\n\
             [watcher:w]\nuse_sockets = yes\ncmd = PROBE\n{lines}\n"
        );
        let dir = TempDir::new();
        let file = write(&dir, &text);
        let mut prebind = Setup::in_dir(dir, &["--circus", &file]).env("HERE", "here").start();
        prebind.wait_ready();
        let told = told(port);
        assert!(holds(&told), "{lines}: {told}");
        prebind.stop();
    }
}

fn said(told: &Value) -> Vec<String> {
    probe::strings(&told["argv"])[1..].to_vec()
}

/// A file whose workers listen on these ports, so many of them.
fn file(sockets: &[(&str, u16)], number: u32, more: &str) -> String {
    let sockets: Vec<String> = sockets.iter().map(|(name, port)| format!("[socket:{name}]\nport = {port}\n")).collect();
    let watcher = format!("[watcher:w]\nuse_sockets = yes\nnumprocesses = {number}\ncmd = PROBE serve\n{more}");
    format!("{}{watcher}", sockets.concat())
}

#[test]
fn hup_reads_the_file_anew() {
    let (a, b, c) = (free_port(), free_port(), free_port());
    let mut prebind = run(&file(&[("a", a)], 1, ""), &[]);
    prebind.wait_ready();
    let file_of = |prebind: &Prebind, text: &str| write(&prebind.dir, text);
    // The port changes, a socket comes, the number grows, and so does a watcher.
    let other = "[watcher:other]\ncmd = PROBE serve\n";
    file_of(&prebind, &file(&[("a", b), ("c", c)], 3, other));
    prebind.signal(libc::SIGHUP);
    let status = prebind.wait_status("three workers of the new file", |status| {
        let w = service(status, "w");
        let all = w["workers"].as_array()?.iter().all(|one| one["generation"] == 2 && one["state"] == "ready");
        (w["number"] == 3 && w["ready"] == 3 && all && status["services"].as_array()?.len() == 2)
            .then(|| status.clone())
    });
    assert_eq!(pids(&status, "w").len(), 3);
    for port in [b, c] {
        get(here(port), "/pid").expect("an answer");
    }
    wait_for("the old port to close", || std::net::TcpStream::connect(here(a)).is_err().then_some(()));
    // A broken file changes nothing, and all that is wrong is said.
    let (before, lines) = (prebind.status(), prebind.lines.count());
    file_of(&prebind, "[socket:a]\nport = x\n[watcher:w]\ncmd = 'open\n");
    prebind.signal(libc::SIGHUP);
    prebind.lines.expect_from(lines, &["was not replaced", "circus.ini:2", "circus.ini:4"]);
    let after = prebind.status();
    assert_eq!((pids(&after, "w"), &after["sockets"]), (pids(&before, "w"), &before["sockets"]));
    get(here(b), "/pid").expect("an answer");
    prebind.stop();
}

#[test]
fn on_demand_waits_for_the_first_connection() {
    let port = free_port();
    let mut prebind = run(&file(&[("web", port)], 2, "on_demand = yes\n"), &[]);
    let status = prebind.wait_status("a service that listens", |status| {
        (service(status, "w")["state"] == "listening").then(|| status.clone())
    });
    assert!(pids(&status, "w").is_empty());
    get(here(port), "/pid").expect("the first connection is answered");
    prebind.wait_number(2);
    prebind.stop();
}

#[test]
fn workers_come_and_go_as_the_watcher_says() {
    let port = free_port();
    let text = format!(
        "[socket:web]\nport = {port}\n[watcher:idle]\ncmd = PROBE serve\nautostart = no\nnumprocesses = 2\n\
         [watcher:once]\ncmd = sh -c 'exit 3'\nrespawn = no\npriority = 9\n\
         [watcher:old]\nuse_sockets = yes\ncmd = PROBE serve\nmax_age = 1\nmax_age_variance = 0\n\
         [watcher:slow]\ncmd = sh -c 'trap \"echo told >> told\" HUP; echo $(date +%s%N) >> starts; while :; do sleep 0.05; done'\n\
         numprocesses = 3\nwarmup_delay = 0.4\nsend_hup = yes\n",
    );
    let mut prebind = run(&text, &[]);
    let status = prebind.wait_status("the workers", |status| {
        let ready = service(status, "slow")["ready"] == 3 && service(status, "old")["ready"] == 1;
        ready.then(|| status.clone())
    });
    assert_eq!(status["services"][0]["name"], "once", "the highest priority first");
    assert_eq!((pids(&status, "idle"), pids(&status, "once")), (vec![], vec![]));
    // Its successor is ready before it is told to stop: there is always an answer.
    let first = get(here(port), "/pid").expect("an answer");
    wait_for("a successor of the old one", || {
        let pid = get(here(port), "/pid").expect("always an answer");
        (pid != first).then_some(())
    });
    prebind.ctl(&["scale", "idle", "2"]).code(0);
    prebind.wait_status("the idle ones", |status| (service(status, "idle")["ready"] == 2).then_some(()));
    let starts = fs::read_to_string(prebind.dir.join("starts")).expect("three lines");
    let times: Vec<u64> = starts.lines().map(|line| line.parse().expect("nanoseconds")).collect();
    let spaced = times.windows(2).all(|two| two[1] - two[0] > 300_000_000);
    assert!(times.len() == 3 && spaced, "{times:?}");
    let before = pids(&prebind.status(), "slow");
    prebind.ctl(&["reload", "slow"]).code(0);
    let told = prebind.dir.join("told");
    wait_for("three that were told", || {
        fs::read_to_string(&told).ok().filter(|text| text.lines().count() == 3).map(drop)
    });
    assert_eq!(pids(&prebind.status(), "slow"), before, "none was replaced");
    prebind.stop();
}

#[test]
fn stop_children_and_a_log_file() {
    let port = free_port();
    let text = format!(
        "[socket:web]\nport = {port}\n[watcher:w]\nuse_sockets = yes\nstop_children = yes\nshell = yes\n\
         cmd = sh -c 'trap \"echo child told; exit\" TERM; while :; do sleep 0.05; done' & exec PROBE ignore-term\n\
         graceful_timeout = 1\nstdout_stream.filename = out.log\n"
    );
    let mut prebind = run(&text, &[]);
    prebind.wait_ready();
    let log = prebind.dir.join("out.log");
    prebind.ctl(&["restart"]).code(0);
    wait_for("the child's word", || fs::read_to_string(&log).ok().filter(|text| text.contains("child told")).map(drop));
    prebind.stop();
}

#[test]
fn check_shows_the_plan_and_says_everything() {
    let finished = check(SEED);
    for part in [
        "service web_worker: 1 worker",
        "chaussette --fd {SOCKET:web} mywsgi.app",
        "web tcp 127.0.0.1:8080",
        "family = AF_",
    ] {
        assert!(finished.code(0).stdout.contains(part), "{part}: {}", finished.stdout);
    }
    assert!(finished.stdout.contains("circus.ini:2: endpoint: prebindctl"), "{}", finished.stdout);
    let wrong = "[watcher:w]\ncmd = x {SOCKET:wep}\nhooks.before_start = a.b\nstdout_stream.filename = x\nstdout_stream.max_bytes = 5\n";
    check(&format!("[socket:web]\nport=x\n{wrong}")).code(100).says(&[
        "circus.ini:2: port",
        "circus.ini:4: unknown socket 'wep' (did you mean web?)",
        "circus.ini:5: hooks.before_start cannot be done",
        "circus.ini:7: nothing is put aside without backup_count",
    ]);
    Setup::new(&["--check", "--circus", "/nowhere.ini"]).finish().code(100).says(&["cannot read /nowhere.ini"]);
}

/// Five reloads under load, by prebindctl as by circusctl: nobody is lost who asks a worker that drains, be the socket
/// shared or each worker's own (so_reuseport; Circus loses 13 to 73 of 3 000 there).
#[test]
fn reloads_under_load_lose_nobody() {
    for own in ["", "so_reuseport = yes\n"] {
        let port = free_port();
        let text = format!(
            "[socket:web]\nhost = 127.0.0.1\nport = {port}\n{own}[watcher:app]\nuse_sockets = yes\nnumprocesses = 2\n\
             cmd = node {WORKERS}/server.js\n"
        );
        let mut prebind = run(&text, &[]);
        prebind.wait_ready();
        let ((), tally) = load::while_asked(
            || (),
            || get(here(port), "/"),
            || {
                for n in 0..5 {
                    let before = pids(&prebind.status(), "app");
                    let words: &[&str] =
                        if n % 2 == 0 { &["reload", "app"] } else { &["reload", "app", "--sequential"] };
                    prebind.ctl(words).code(0);
                    prebind.wait_status("other workers, and no old one", |status| {
                        let now = pids(status, "app");
                        (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
                    });
                }
            },
        );
        tally.without_loss(&format!("five reloads, {own:?}"));
        prebind.stop();
    }
}
