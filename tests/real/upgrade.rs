//! Chapter "Upgrades": new code goes live, or is taken back, and the caller learns which.

use crate::harness::{Finished, Prebind, Setup, TempDir, probe, proc, run_ctl, wait_for};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::JoinHandle;

/// Puts a version of the application in its place, at once: what it runs is the probe with these words more.
fn install(directory: &Path, words: &str) {
    let draft = directory.join("app.new");
    std::fs::write(&draft, format!("#!/bin/sh\nexec {} {words}\n", probe::path())).expect("write");
    std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o755)).expect("mode");
    std::fs::rename(&draft, directory.join("app")).expect("rename");
}

/// A prebind that runs the good version in so many workers, ready.
fn serving(number: &str, options: &[&str]) -> (Prebind, String) {
    let dir = TempDir::new();
    install(dir.path(), "v=1");
    let app = dir.join("app");
    let mut all = vec!["-b", "web=127.0.0.1:0", "-n", number, "-s", "0.1"];
    all.extend(options);
    all.extend(["--", &app]);
    let home = app.trim_end_matches("/app").to_owned();
    let mut prebind = Setup::in_dir(dir, &all).start();
    prebind.wait_ready();
    (prebind, home)
}

fn upgrade(prebind: &Prebind, options: &[&str]) -> Finished {
    let mut all = vec!["upgrade"];
    all.extend(options);
    prebind.ctl(&all)
}

/// An upgrade that another thread waits for.
fn begun(prebind: &Prebind) -> JoinHandle<Finished> {
    let control = prebind.control().path().to_str().expect("UTF-8").to_owned();
    std::thread::spawn(move || run_ctl(&["-d", &control, "upgrade"]))
}

fn service(status: &Value) -> &Value {
    &status["services"][0]
}

/// The generations of the ready workers, by slot.
fn generations(status: &Value) -> Vec<u64> {
    let workers = service(status)["workers"].as_array().expect("workers");
    let ready = workers.iter().filter(|worker| worker["state"] == "ready");
    ready.filter_map(|worker| worker["generation"].as_u64()).collect()
}

#[test]
fn an_upgrade_whose_old_worker_dies_waits_for_the_new_one() {
    for (line, code) in [("sleep 0.5; exit 7", 1), ("sleep 0.5; exec", 0)] {
        let (prebind, home) = serving("1", &["-m", "manual", "--upgrade-timeout", "20"]);
        let (draft, app) = (format!("{home}/app.new"), format!("{home}/app"));
        let rest = if code == 0 { format!(" {}", probe::path()) } else { String::new() };
        std::fs::write(&draft, format!("#!/bin/sh\n{line}{rest}\n")).expect("write");
        std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o755)).expect("mode");
        std::fs::rename(&draft, &app).expect("rename");
        let old = prebind.worker_pids()[0];
        let upgrade = begun(&prebind);
        wait_for("the successor", || (prebind.worker_pids().len() == 2).then_some(()));
        proc::kill(old, libc::SIGKILL);
        upgrade.join().expect("a client").code(code);
        if code == 0 {
            assert_eq!(service(&prebind.status())["ready"], 1, "it serves when the upgrade says so");
        }
        prebind.stop();
    }
}

#[test]
fn every_strategy_replaces_all() {
    let (mut prebind, _) = serving("4", &["--bake", "0.2"]);
    for (generation, strategy) in [(2, "rolling"), (3, "fleet"), (4, "canary")] {
        let before = prebind.worker_pids();
        upgrade(&prebind, &["--strategy", strategy, "--wait", "drained"]).code(0);
        let status = prebind.wait_ready();
        assert_eq!(generations(&status), vec![generation; 4], "{strategy}");
        assert_eq!(service(&status)["last_upgrade"]["result"], "done");
        assert!(prebind.worker_pids().iter().all(|pid| !before.contains(pid)), "{strategy}");
        assert!(before.iter().all(|pid| !proc::alive(*pid)), "{strategy}: drained means gone");
    }
    prebind.stop();
}

#[test]
fn a_bad_version_is_taken_back() {
    for (words, options, reason) in [
        ("exit=7", vec!["--strategy", "rolling"], "exited with 7"),
        ("exit=7", vec!["--strategy", "fleet"], "exited with 7"),
        ("never-ready", vec!["--strategy", "canary", "--timeout", "0.5"], "not ready in time"),
        ("never-ready", vec!["--strategy", "fleet", "--timeout", "0.5"], "not ready in time"),
        // It says READY=1 and dies soon after: on trial, that is noticed.
        ("ready-exit=9", vec!["--strategy", "canary"], "exited with 9"),
    ] {
        let (mut prebind, home) = serving("3", &["-m", "notify", "--bake", "40"]);
        let before = prebind.worker_pids();
        install(Path::new(&home), words);
        upgrade(&prebind, &options).code(1).says(&["rolled back", reason, "generation 1 serves on"]);
        let status = prebind.wait_ready();
        assert_eq!(prebind.worker_pids(), before, "{words}: the old workers never noticed");
        let last = &service(&status)["last_upgrade"];
        assert_eq!(last["result"], "rolled back");
        assert!(last["reason"].as_str().is_some_and(|text| text.contains(reason)), "{last}");
        assert_eq!(service(&status)["generation"], 1);
        prebind.get("web", "/pid");
        prebind.lines.expect(&["generation 2 is rolled back", reason]);
        prebind.stop();
    }
}

#[test]
fn rolling_halts_in_the_middle_and_goes_on() {
    let (mut prebind, home) = serving("3", &["-m", "notify", "--strategy", "rolling"]);
    // Only the worker of slot 0 comes up.
    install(Path::new(&home), "$([ $PREBIND_SLOT = 0 ] || echo exit=5)");
    upgrade(&prebind, &[]).code(1).says(&["1 of 3 replaced", "exited with 5"]);
    let status = prebind.wait_ready();
    assert_eq!(generations(&status), [2, 1, 1]);
    install(Path::new(&home), "v=3");
    upgrade(&prebind, &[]).code(0);
    assert_eq!(generations(&prebind.wait_ready()), [3, 3, 3]);
    prebind.stop();
}

#[test]
fn a_canary_is_promoted_or_withdrawn() {
    let (mut prebind, _) = serving("3", &["--strategy", "canary", "--bake", "1000"]);
    prebind.ctl(&["promote"]).code(1).says(&["no worker is on trial"]);
    prebind.ctl(&["rollback"]).code(1).says(&["no upgrade is under way"]);
    let asked = begun(&prebind);
    prebind.lines.expect(&["on trial"]);
    let status = prebind.status();
    assert_eq!((generations(&status).len(), &status["state"]), (4, &Value::from("upgrading")));
    prebind.ctl(&["rollback"]).code(0);
    asked.join().expect("client").code(1).says(&["rolled back"]);
    assert_eq!(generations(&prebind.wait_ready()), [1, 1, 1]);
    let asked = begun(&prebind);
    wait_for("promotion", || prebind.ctl(&["promote"]).status.success().then_some(()));
    asked.join().expect("client").code(0);
    assert_eq!(generations(&prebind.wait_ready()), [3, 3, 3]);
    prebind.stop();
}

#[test]
fn no_wait_returns_at_once_and_a_second_upgrade_takes_its_place() {
    let (mut prebind, home) = serving("2", &["-m", "notify"]);
    install(Path::new(&home), "never-ready");
    upgrade(&prebind, &["--no-wait"]).code(0);
    let asked = begun(&prebind);
    prebind.lines.expect(&["upgrading to generation 3"]);
    install(Path::new(&home), "v=4");
    upgrade(&prebind, &[]).code(0);
    asked.join().expect("client").code(1).says(&["another upgrade took its place"]);
    assert_eq!(generations(&prebind.wait_ready()), [4, 4]);
    prebind.stop();
}

#[test]
fn term_during_an_upgrade_stops_everything() {
    let (mut prebind, home) = serving("2", &["-m", "notify"]);
    install(Path::new(&home), "never-ready");
    let asked = begun(&prebind);
    prebind.lines.expect(&["upgrading to generation 2"]);
    prebind.signal(libc::SIGTERM);
    asked.join().expect("client").code(1).says(&["prebind is stopping"]);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

#[test]
fn drain_delay_holds_the_stop_signal_back() {
    let (mut prebind, _) = serving("2", &["--drain-delay", "1000"]);
    prebind.signal(libc::SIGTERM);
    prebind.lines.expect(&["stopping"]);
    prebind.get("web", "/pid");
    prebind.ctl(&["ready"]).code(1);
    // Told again, it hastens.
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}
