//! Chapter "prebind's own replacement": same process, same sockets, same workers, same clients.

use crate::harness::{Prebind, Setup, TempDir, copy, get, prebind_path, proc, run_ctl, wait_for};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A prebind that runs from a path of its own, where tests put other programs.
fn installed(options: &[&str]) -> (Prebind, String) {
    installed_in(TempDir::new(), options)
}

fn installed_in(dir: TempDir, options: &[&str]) -> (Prebind, String) {
    let path = dir.join("prebind");
    let mut prebind = Setup::in_dir(dir, options).copied().start();
    prebind.wait_ready();
    (prebind, path)
}

/// Puts another program in the place of prebind, as a package upgrade does.
fn replace(path: &str, text: Option<&str>, mode: u32) {
    let draft = format!("{path}.new");
    match text {
        Some(text) => {
            std::fs::write(format!("{path}.text"), text).expect("write");
            copy(Path::new(&format!("{path}.text")), Path::new(&draft));
        }
        None => copy(&prebind_path(), Path::new(&draft)),
    }
    std::fs::set_permissions(&draft, PermissionsExt::from_mode(mode)).expect("mode");
    std::fs::rename(&draft, path).expect("rename");
}

#[test]
fn everything_goes_on() {
    let dir = TempDir::new();
    let (unix, pidfile) = (format!("u={}", dir.join("u.sock")), dir.join("pid"));
    let options = ["-b", "web=127.0.0.1:0,slots", "-b", &unix, "-b", "udp:127.0.0.1:0", "-n", "3", "-e", &pidfile];
    let (mut prebind, path) = installed_in(dir, &options);
    let (pid, workers) = (prebind.pid(), prebind.worker_pids());
    let fds = proc::fds(pid).len();
    let before = prebind.status();
    // A client that is subscribed, has half a request on its way, and goes on with it afterwards.
    let mut client = UnixStream::connect(prebind.control().path()).expect("connect");
    client.write_all(b"{\"command\":\"events\",\"id\":7}\n{\"command\":\"rea").expect("write");
    let mut lines = BufReader::new(client.try_clone().expect("clone")).lines();
    let mut next = move || -> serde_json::Value {
        serde_json::from_str(&lines.next().expect("a line").expect("read").replace("%25", "%")).expect("JSON")
    };
    assert_eq!(next()["request_id"], 7);
    for round in 0..3 {
        replace(&path, None, 0o755);
        prebind.ctl(&["reexec"]).code(0);
        wait_for("the event", || (next()["data"]["event"] == "replaced").then_some(()));
        let (status, others) = (prebind.status(), prebind.worker_pids());
        assert_eq!((prebind.pid(), &others), (pid, &workers), "round {round}");
        assert_eq!(status["sockets"], before["sockets"]);
        assert!(status["uptime_seconds"].as_f64() >= before["uptime_seconds"].as_f64());
        prebind.get("web", "/");
        get_unix(&mut prebind);
    }
    // Our client, and nothing else; the connections of what was asked meanwhile close a moment later.
    wait_for("no descriptor more than before", || (proc::fds(pid).len() <= fds + 1).then_some(()));
    assert!(proc::fds(pid).iter().all(|(_, target)| !target.contains("memfd")), "{:?}", proc::fds(pid));
    client.write_all(b"dy\",\"id\":8}\n").expect("write");
    wait_for("the answer to the request", || (next()["request_id"] == 8).then_some(()));
    // It supervises, scales, upgrades and stops as before.
    proc::kill(workers[0], libc::SIGKILL);
    prebind.wait_status("a successor", |status| {
        let pids: Vec<i64> =
            status["services"][0]["workers"].as_array()?.iter().filter_map(|w| w["pid"].as_i64()).collect();
        (status["services"][0]["ready"] == 3 && !pids.contains(&i64::from(workers[0]))).then_some(())
    });
    prebind.ctl(&["scale", "5"]).code(0);
    prebind.wait_number(5);
    prebind.ctl(&["upgrade"]).code(0);
    let home = Path::new(&path).parent().expect("a folder").to_owned();
    let control = prebind.control().path().to_owned();
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    for gone in [home.join("u.sock"), home.join("pid"), control] {
        assert!(!gone.exists(), "{} is left", gone.display());
    }
}

fn get_unix(prebind: &mut Prebind) {
    let path = prebind.address("u");
    crate::harness::get_unix(&path, "/").expect("an answer");
}

#[test]
fn a_bad_program_changes_nothing() {
    let (mut prebind, path) = installed(&["-b", "web=127.0.0.1:0", "-n", "2"]);
    let workers = prebind.worker_pids();
    for (text, mode, reason) in [
        ("#!/bin/sh\necho 'prebind: I do not understand' >&2; exit 111\n", 0o755, "I do not understand"),
        ("#!/bin/sh\nexit 0\n", 0o644, "permission denied"),
        ("garbage", 0o755, "cannot execute"),
    ] {
        replace(&path, Some(text), mode);
        prebind.ctl(&["reexec"]).code(1).says(&["nothing changed", reason]);
    }
    std::fs::remove_file(&path).expect("remove");
    prebind.ctl(&["reexec"]).code(1).says(&["nothing changed", "no such file"]);
    assert_eq!(prebind.worker_pids(), workers);
    prebind.get("web", "/");
    prebind.lines.expect(&["was not replaced", "no such file"]);
    // What cannot be executed is one thing, a state that is not understood another.
    let odd = format!("{path}.state");
    std::fs::write(&odd, json!({"format": 99, "version": "9"}).to_string()).expect("write");
    replace(&path, None, 0o755);
    let check = format!("exec {path} --with-state-fd 7 --upgrade-check -b web=127.0.0.1:0 7<{odd}");
    let refused = std::process::Command::new("sh").args(["-c", &check]).output().expect("sh");
    assert_eq!(refused.status.code(), Some(111));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("format 99"), "{said}");
    prebind.ctl(&["reexec"]).code(0);
    assert_eq!(prebind.worker_pids(), workers);
    prebind.stop();
}

#[test]
fn under_load_and_during_an_upgrade_nothing_is_lost() {
    let (mut prebind, _) = installed(&["-b", "web=127.0.0.1:0", "-n", "2", "--min-ready", "0.3"]);
    let (address, done, answers) = (prebind.inet("web"), AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                get(address, "/").unwrap_or_else(|why| panic!("lost: {why}"));
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..4 {
            let control = prebind.control().path().to_str().expect("UTF-8").to_owned();
            let upgrade = std::thread::spawn(move || run_ctl(&["-d", &control, "upgrade"]));
            wait_for("the upgrade", || (prebind.status()["state"] == "upgrading").then_some(()));
            prebind.ctl(&["reexec"]).code(0);
            upgrade.join().expect("client").code(0);
            prebind.ctl(&["reexec"]).code(0);
        }
        done.store(true, Ordering::Relaxed);
        client.join().expect("a client");
    });
    assert!(answers.load(Ordering::Relaxed) > 0);
    assert_eq!(prebind.wait_ready()["services"][0]["generation"], 5);
    prebind.stop();
}

#[test]
fn signals_in_the_gap_are_heard() {
    let (mut prebind, _) = installed(&["-b", "web=127.0.0.1:0", "-n", "2"]);
    for _ in 0..20 {
        let control = prebind.control().path().to_str().expect("UTF-8").to_owned();
        let asked = std::thread::spawn(move || run_ctl(&["-d", &control, "reexec"]));
        prebind.signal(libc::SIGTTIN);
        asked.join().expect("client").code(0);
    }
    prebind.wait_number(22);
    let control = prebind.control().path().to_str().expect("UTF-8").to_owned();
    let asked = std::thread::spawn(move || run_ctl(&["-d", &control, "reexec"]));
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    asked.join().expect("client");
}

#[test]
fn inherited_sockets_go_on() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut prebind = Setup::new(&["-n", "2"]).activated(&[&listener], "web").start();
    drop(listener);
    prebind.wait_ready();
    prebind.ctl(&["reexec"]).code(0);
    get(address, "/").expect("an answer");
    prebind.ctl(&["restart"]).code(0);
    get(address, "/").expect("an answer");
    assert_eq!(prebind.status()["sockets"][0]["name"], "web");
    prebind.stop();
}
