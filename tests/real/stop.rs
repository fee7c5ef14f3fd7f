//! Chapter "Stopping": the stop signal to the main process, SIGKILL to the group, nobody left behind.

use crate::harness::{Prebind, Setup, proc, wait_for};
use std::time::{Duration, Instant};

fn started(options: &[&str], words: &[&str]) -> Prebind {
    let mut all = vec!["-b", "web=127.0.0.1:0"];
    all.extend(options);
    let mut prebind = Setup::probe(&all, words).start();
    prebind.wait_ready();
    prebind
}

#[test]
fn term_and_int_stop_gracefully() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut prebind = started(&["-n", "3"], &[]);
        let pids = prebind.worker_pids();
        prebind.signal(signal);
        assert_eq!(prebind.wait_exit().code(), Some(0));
        assert!(pids.iter().all(|pid| !proc::alive(*pid)));
    }
}

#[test]
fn a_worker_that_does_not_stop_is_killed() {
    let mut prebind = started(&["-t", "0.5"], &["ignore-term"]);
    let pid = prebind.worker_pids()[0];
    let begun = Instant::now();
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_millis(500), "not before -t");
    assert!(!proc::alive(pid));
    prebind.lines.expect(&[&pid.to_string(), "killed"]);
}

#[test]
fn a_second_int_kills_all() {
    let mut prebind = started(&["-n", "2", "-t", "600"], &["ignore-term"]);
    let pids = prebind.worker_pids();
    prebind.signal(libc::SIGINT);
    prebind.wait_status("stopping", |status| (status["state"] == "stopping").then_some(()));
    prebind.signal(libc::SIGINT);
    assert_eq!(prebind.wait_exit().code(), Some(1));
    assert!(pids.iter().all(|pid| !proc::alive(*pid)));
}

/// A shell that says up, and what it gets; its children get their own words.
fn shell(options: &[&str], script: &str) -> Prebind {
    let prebind = Setup::new(options).and(&["--", "sh", "-c", script]).start();
    prebind.lines.expect(&["up"]);
    prebind
}

#[test]
fn quit_is_passed_on() {
    let mut prebind = shell(&[], "trap 'echo GOT-QUIT >&2; exit 0' QUIT; echo up >&2; while :; do sleep 0.05; done");
    prebind.signal(libc::SIGQUIT);
    prebind.lines.expect(&["GOT-QUIT"]);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

#[test]
fn another_stop_signal() {
    let script = "trap 'echo GOT-USR1 >&2; exit 0' USR1; trap '' TERM; echo up >&2; while :; do sleep 0.05; done";
    let mut prebind = shell(&["--stop-signal", "USR1"], script);
    prebind.signal(libc::SIGTERM);
    prebind.lines.expect(&["GOT-USR1"]);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

#[test]
fn the_main_process_alone_gets_the_stop_signal() {
    let script = "
        sh -c 'trap \"echo CHILD-GOT-TERM >&2\" TERM; echo child >&2; while :; do sleep 0.05; done' &
        child=$!
        trap 'kill -9 $child; wait $child; echo MAIN-GOT-TERM >&2; exit 0' TERM
        echo up >&2
        while :; do sleep 0.05; done";
    let mut prebind = shell(&[], script);
    prebind.lines.expect(&["child"]);
    prebind.signal(libc::SIGTERM);
    prebind.lines.expect(&["MAIN-GOT-TERM"]);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    assert!(!prebind.lines.seen(&["CHILD-GOT-TERM"]), "{}", prebind.lines.all());
}

#[test]
fn what_a_dead_main_process_left_is_cleaned_up() {
    let mut prebind = started(&["-t", "20"], &[]);
    let main = prebind.worker_pids()[0];
    let child: i32 = prebind.get("web", "/fork").parse().expect("pid");
    assert_eq!(proc::group(child), Some(main));
    proc::kill(main, libc::SIGKILL);
    wait_for("the child to be told to stop", || (!proc::alive(child)).then_some(()));
    prebind.lines.expect(&[&main.to_string(), "processes that it started live on"]);
    prebind.wait_ready();
    prebind.stop();
}

#[test]
fn leftovers_that_do_not_stop_are_killed() {
    let mut prebind = started(&["-t", "0.5"], &["ignore-term"]);
    let main = prebind.worker_pids()[0];
    let child: i32 = prebind.get("web", "/fork").parse().expect("pid");
    proc::kill(main, libc::SIGKILL);
    wait_for("the child to be killed", || (!proc::alive(child)).then_some(()));
    prebind.wait_ready();
    prebind.stop();
}

#[test]
fn leftovers_at_the_end_are_waited_for() {
    let mut prebind = started(&["-t", "0.5"], &[]);
    prebind.get("web", "/fork");
    assert_eq!(prebind.descendants().len(), 3, "prebind, its worker, the worker's child");
    prebind.stop(); // checks that none is left
}

#[test]
fn by_command() {
    let mut prebind = started(&["-n", "2"], &[]);
    prebind.ctl(&["stop"]).code(0);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    assert!(!prebind.control().path().exists(), "the control socket is gone");
    prebind.ctl(&["status"]).code(111);
}

#[test]
fn while_it_starts() {
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0", "-n", "2", "-m", "notify"], &["never-ready"]).start();
    prebind.get("web", "/pid");
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

#[test]
fn while_it_backs_off() {
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0", "-s", "25"], &["exit=1"]).start();
    prebind.wait_status("a wait", |status| (status["services"][0]["workers"][0]["state"] == "waiting").then_some(()));
    let begun = Instant::now();
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "there was nobody to wait for");
}
