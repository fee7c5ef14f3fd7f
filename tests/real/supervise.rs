//! Chapter "Supervision": deaths, back-off, scaling, restarts one by one, watchdogs.

use crate::harness::{Prebind, Setup, TempDir, get, probe, proc, wait_for};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn started(options: &[&str], words: &[&str]) -> Prebind {
    let mut all = vec!["-b", "web=127.0.0.1:0"];
    all.extend(options);
    Setup::probe(&all, words).start()
}

/// Waits until the first worker row of the status has that in it.
fn wait_first(prebind: &mut Prebind, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    prebind.wait_status(what, |status| Some(status["services"][0]["workers"][0].clone()).filter(&look))
}

#[test]
fn one_killed_the_service_goes_on() {
    // A back-off base that would be noticed: a worker that had been ready is replaced at once.
    let mut prebind = started(&["-n", "2", "-s", "25"], &[]);
    prebind.wait_ready();
    let before = prebind.worker_pids();
    let killed = Instant::now();
    proc::kill(before[0], libc::SIGKILL);
    // Until it is dead it may still accept.
    prebind.lines.expect(&[&before[0].to_string(), "KILL"]);
    prebind.get("web", "/pid");
    let after = prebind.wait_status("a successor", |status| {
        let workers = status["services"][0]["workers"].as_array()?;
        let ready = workers.iter().filter(|w| w["state"] == "ready" && w["pid"] != before[0]).count();
        (ready == 2).then(|| status.clone())
    });
    assert!(killed.elapsed() < Duration::from_secs(20), "no back-off");
    let service = &after["services"][0];
    assert_eq!(service["restarts"], 1);
    let slot = &service["workers"][0];
    assert_eq!(
        (&slot["slot"], &slot["last_exit"]["signal"], &slot["last_exit"]["code"]),
        (&0.into(), &"KILL".into(), &Value::Null)
    );
    assert_eq!(service["workers"][1]["pid"], before[1], "the other one was left alone");
    prebind.stop();
}

#[test]
fn a_worker_that_never_gets_ready_backs_off() {
    let dir = TempDir::new();
    let pids = dir.join("pids");
    let options = ["-b", "web=127.0.0.1:0", "-s", "0.1", "--", probe::path(), "exit=3"];
    let mut prebind = Setup::in_dir(dir, &options).and(&[&format!("pid-file={pids}")]).start();
    let started = Instant::now();
    let count = || std::fs::read_to_string(&pids).unwrap_or_default().lines().count();
    wait_for("the fifth try", || (count() >= 5).then_some(()));
    // 0.1 s times 1.5, 1.5^2, ... or from 0.1 s on: four waits are 0.8 s at the least.
    assert!(started.elapsed() > Duration::from_millis(750), "tries too quickly: {:?}", started.elapsed());
    let slot = wait_first(&mut prebind, "a wait", |slot| slot["state"] == "waiting");
    assert_eq!((&slot["pid"], &slot["last_exit"]["code"]), (&Value::Null, &3.into()), "{slot}");
    assert!(slot["next_try_seconds"].is_number(), "{slot}");
    prebind.lines.expect(&["exited with code 3"]);
    prebind.ctl(&["ready"]).code(1);
    prebind.stop();
}

#[test]
fn a_worker_that_is_ready_and_dies_again_and_again_backs_off_too() {
    let dir = TempDir::new();
    let pids = dir.join("pids");
    let options = ["-b", "web=127.0.0.1:0", "-s", "20", "--", probe::path(), "ready-exit=4"];
    let mut prebind = Setup::in_dir(dir, &options).and(&[&format!("pid-file={pids}")]).start();
    wait_first(&mut prebind, "a wait", |slot| {
        slot["state"] == "waiting" && slot["next_try_seconds"].as_f64() > Some(1.0)
    });
    let tries = std::fs::read_to_string(&pids).expect("pids").lines().count();
    assert!((6..=7).contains(&tries), "the first, and 5 replacements at once, not {tries}");
    prebind.stop();
}

#[test]
fn restart_no_hands_on_the_commands_own_end() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        Setup::new(&["--restart", "no", "--", "sh", "-c", script]).finish().code(code);
    }
}

#[test]
fn restart_on_failure() {
    Setup::new(&["--restart", "on-failure", "--", "sh", "-c", "exit 0"]).finish().code(0);
    let dir = TempDir::new();
    let pids = dir.join("pids");
    let options = ["--restart", "on-failure", "-s", "0.05", "--", probe::path(), "exit=3"];
    let prebind = Setup::in_dir(dir, &options).and(&[&format!("pid-file={pids}")]).start();
    wait_for("a second try", || (std::fs::read_to_string(&pids).ok()?.lines().count() >= 2).then_some(()));
    prebind.stop();
}

#[test]
fn scaling_by_command() {
    let mut prebind = started(&["-n", "1"], &[]);
    prebind.wait_ready();
    for (number, arguments) in
        [(3, vec!["scale", "3"]), (1, vec!["scale", "probe", "1"]), (0, vec!["scale", "0"]), (2, vec!["scale", "2"])]
    {
        prebind.ctl(&arguments).code(0);
        prebind.wait_number(number);
        assert_eq!(prebind.status()["services"][0]["number"], number);
    }
    prebind.get("web", "/pid");
    prebind.ctl(&["scale", "nosuch", "3"]).code(1).says(&["nosuch", "probe"]);
    prebind.ctl(&["scale", "many"]).code(2);
    prebind.stop();
}

#[test]
fn scaling_by_signal_never_below_one() {
    let mut prebind = started(&["-n", "1"], &[]);
    prebind.wait_ready();
    prebind.signal(libc::SIGTTIN);
    prebind.wait_number(2);
    prebind.signal(libc::SIGTTOU);
    prebind.wait_number(1);
    prebind.signal(libc::SIGTTOU);
    prebind.lines.expect(&["TTOU"]);
    prebind.wait_number(1);
    prebind.stop();
}

#[test]
fn only_so_many_start_at_once() {
    let mut prebind = started(&["-n", "3", "-m", "notify", "--max-unacked", "1"], &["never-ready"]);
    for ready in 0..3 {
        prebind.wait_status("one that starts", |status| {
            let workers = status["services"][0]["workers"].as_array()?;
            let count = |state: &str| workers.iter().filter(|worker| worker["state"] == state).count();
            assert!(count("starting") <= 1, "{status}");
            (count("starting") == 1 && count("ready") == ready).then_some(())
        });
        // Whoever answers may be one that is ready already: ask until the one that starts did.
        wait_for("its READY=1", || {
            assert_eq!(prebind.get("web", "/notify?text=READY=1"), "0");
            (prebind.status()["services"][0]["ready"].as_u64() > Some(ready as u64)).then_some(())
        });
    }
    prebind.wait_ready();
    prebind.stop();
}

#[test]
fn auto_is_the_cpus_that_it_may_use() {
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let mut prebind = started(&["-n", "auto"], &[]);
    let status = prebind.wait_ready();
    assert_eq!(status["services"][0]["number"], cpus);
    prebind.stop();
}

#[test]
fn a_missed_watchdog_is_a_replacement() {
    let mut prebind = started(&["--watchdog", "2"], &["watchdog"]);
    prebind.wait_ready();
    let answer = prebind.probe("web");
    let env = probe::environ(&answer);
    let old = answer["pid"].as_i64().expect("pid") as i32;
    assert_eq!((env["WATCHDOG_USEC"].as_str(), env["WATCHDOG_PID"].as_str()), ("2000000", old.to_string().as_str()));
    wait_first(&mut prebind, "it to live past one interval", |worker| {
        assert_eq!(worker["pid"], old, "it speaks in time");
        worker["age_seconds"].as_f64() > Some(2.5)
    });
    prebind.get("web", "/hang");
    wait_first(&mut prebind, "a successor", |worker| worker["pid"] != old && worker["state"] == "ready");
    prebind.lines.expect(&["watchdog", &old.to_string()]);
    assert_eq!(prebind.status()["services"][0]["workers"][0]["last_exit"]["signal"], "ABRT");
    prebind.stop();
}

#[test]
fn not_ready_in_time_is_killed_and_tried_again() {
    let options = ["-m", "notify", "--start-timeout", "0.3", "-s", "0.1", "-t", "0.3"];
    let mut prebind = started(&options, &["never-ready", "ignore-term"]);
    prebind.lines.expect(&["did not get ready in time"]);
    wait_first(&mut prebind, "the next try", |worker| worker["last_exit"]["signal"] == "KILL");
    assert_eq!(prebind.status()["services"][0]["ready"], 0);
    prebind.stop();
}

/// Replaces every worker by `how`, while clients ask and the number ready is watched.
fn replaced_one_by_one(how: impl FnOnce(&mut Prebind)) {
    let mut prebind = started(&["-n", "3"], &[]);
    prebind.wait_ready();
    let before = prebind.worker_pids();
    let address = prebind.inet("web");
    let (done, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    let fewest = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Probes do not drain: a connection that a dying worker took is lost. It must not be refused, though.
                match get(address, "/pid") {
                    Err(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => panic!("refused"),
                    _ => answers.fetch_add(1, Ordering::Relaxed),
                };
            }
        });
        let control = crate::harness::Control::at(prebind.control().path());
        let watcher = scope.spawn(|| {
            let mut fewest = usize::MAX;
            let control = control;
            while !done.load(Ordering::Relaxed) {
                let status = control.status().expect("status");
                let workers = status["services"][0]["workers"].as_array().expect("workers").clone();
                fewest = fewest.min(workers.iter().filter(|worker| worker["state"] == "ready").count());
            }
            fewest
        });
        how(&mut prebind);
        prebind.wait_status("three others", |status| {
            let workers = status["services"][0]["workers"].as_array()?;
            let fresh = |w: &Value| w["state"] == "ready" && !before.contains(&(w["pid"].as_i64().unwrap_or(0) as i32));
            (workers.len() == 3 && workers.iter().all(fresh)).then_some(())
        });
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("watcher")
    });
    assert!(fewest >= 3, "only {fewest} were ready at a time");
    assert!(answers.load(Ordering::Relaxed) > 0);
    prebind.stop();
}

#[test]
fn restart_replaces_all_one_by_one() {
    replaced_one_by_one(|prebind| {
        prebind.ctl(&["restart"]).code(0);
    });
}

#[test]
fn hup_replaces_all_one_by_one() {
    replaced_one_by_one(|prebind| prebind.signal(libc::SIGHUP));
}

#[test]
fn usr2_replaces_all_one_by_one() {
    replaced_one_by_one(|prebind| prebind.signal(libc::SIGUSR2));
}

#[test]
fn restart_of_one_slot() {
    let mut prebind = started(&["-n", "3"], &[]);
    prebind.wait_ready();
    let before = prebind.worker_pids();
    prebind.ctl(&["restart", "--slot", "1"]).code(0);
    prebind.wait_status("another worker in slot 1", |status| {
        let pids: Vec<i64> =
            status["services"][0]["workers"].as_array()?.iter().filter_map(|w| w["pid"].as_i64()).collect();
        let is = |n: usize| pids[n] == i64::from(before[n]);
        (pids.len() == 3 && is(0) && !is(1) && is(2)).then_some(())
    });
    prebind.ctl(&["restart", "--slot", "7"]).code(1).says(&["slot"]);
    prebind.stop();
}

#[test]
fn min_ready_lets_the_old_one_stay_a_while() {
    let mut prebind = started(&["--min-ready", "1.5"], &[]);
    prebind.wait_ready();
    let old = prebind.worker_pids()[0];
    prebind.signal(libc::SIGHUP);
    let both = prebind.wait_status("both", |status| {
        let workers = status["services"][0]["workers"].as_array()?;
        (workers.iter().filter(|w| w["state"] == "ready").count() == 2).then(|| status.clone())
    });
    let successor = both["services"][0]["workers"].as_array().expect("workers").iter().find(|w| w["pid"] != old);
    let successor = successor.expect("a successor")["pid"].clone();
    let alone = prebind.wait_status("the successor alone", |status| {
        let workers = status["services"][0]["workers"].as_array()?;
        (workers.iter().all(|w| w["pid"] == successor)).then(|| status.clone())
    });
    let age = alone["services"][0]["workers"][0]["age_seconds"].as_f64().expect("age");
    assert!(age >= 1.49, "the old one was told to stop at {age} s");
    prebind.stop();
}

#[test]
fn the_command_that_vanishes_backs_off_and_keeps_the_sockets() {
    let dir = TempDir::new();
    let command = dir.join("worker");
    std::fs::copy(probe::path(), &command).expect("copy");
    let mut prebind = Setup::in_dir(dir, &["-b", "web=127.0.0.1:0", "-s", "0.1", "--", &command]).start();
    prebind.wait_ready();
    let address = prebind.inet("web");
    std::fs::remove_file(&command).expect("remove");
    proc::kill(prebind.worker_pids()[0], libc::SIGKILL);
    prebind.lines.expect(&["cannot run", "no such file"]);
    wait_first(&mut prebind, "a wait", |slot| slot["state"] == "waiting");
    // A connection made meanwhile is answered once there is a worker again.
    let client = std::thread::spawn(move || get(address, "/pid"));
    std::fs::copy(probe::path(), &command).expect("copy");
    prebind.wait_ready();
    client.join().expect("client").expect("an answer");
    prebind.stop();
}
