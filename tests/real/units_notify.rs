//! Chapter "Units": the notify socket and the descriptor store of a .service, as systemd has them.

use crate::harness::{Prebind, Setup, TempDir, free_port, probe, proc, wait_for};
use std::fs;

/// A web.service with these lines, its probe listening by web.socket.
fn started(service: &str) -> Prebind {
    let dir = TempDir::new();
    let (socket_unit, service_unit) = (dir.join("web.socket"), dir.join("web.service"));
    let listen = format!("[Socket]\nListenStream=127.0.0.1:{}\nFileDescriptorName=web\n", free_port());
    fs::write(&socket_unit, listen).expect("web.socket");
    let text = format!("[Service]\nRestart=always\nRestartSec=0\n{service}\nExecStart={} {}\n", probe::path(), "plain");
    fs::write(&service_unit, text).expect("web.service");
    let mut prebind = Setup::in_dir(dir, &["--unit", &socket_unit, "--unit", &service_unit, "--start"]).start();
    prebind.wait_ready();
    prebind
}

/// Stores a new file under that name; returns when prebind has it.
fn store(prebind: &mut Prebind, name: &str) {
    let text = format!("/notify-with-file?text=FDSTORE=1%0aFDNAME={name}");
    assert_ne!(prebind.get("web", &text), "0");
    assert_eq!(prebind.get("web", "/barrier"), "released");
}

/// The names of what the worker got.
fn names(prebind: &mut Prebind) -> String {
    probe::environ(&prebind.probe("web"))["LISTEN_FDNAMES"].clone()
}

/// Waits for another worker, and for it to be ready.
fn wait_other(prebind: &mut Prebind, old: i32) -> i32 {
    let new = prebind.wait_status("another worker", |status| {
        let worker = &status["services"][0]["workers"][0];
        let pid = worker["pid"].as_i64().filter(|pid| *pid != i64::from(old))?;
        (worker["state"] == "ready").then_some(pid)
    });
    i32::try_from(new).expect("a pid")
}

#[test]
fn what_a_worker_stored_the_next_one_gets() {
    let mut prebind = started("Type=notify\nFileDescriptorStoreMax=2");
    assert_eq!(names(&mut prebind), "web");
    store(&mut prebind, "first");
    store(&mut prebind, "second");
    store(&mut prebind, "third");
    prebind.lines.expect(&["not kept", "2 is the most"]);
    let old = prebind.worker_pids()[0];
    proc::kill(old, libc::SIGKILL);
    let second = wait_other(&mut prebind, old);
    assert_eq!(names(&mut prebind), "web:second:first", "the newest first, after the sockets");
    let answer = prebind.probe("web");
    assert_eq!(probe::environ(&answer)["FDSTORE"], "2");
    assert_eq!(probe::numbers(&answer), [0, 1, 2, 3, 4, 5]);

    // Over an upgrade with prebind's own replacement, too.
    prebind.signal(libc::SIGHUP);
    let third = wait_other(&mut prebind, second);
    assert_eq!(names(&mut prebind), "web:second:first");
    prebind.get("web", "/notify?text=FDSTOREREMOVE=1%0aFDNAME=second");
    assert_eq!(prebind.get("web", "/barrier"), "released");
    proc::kill(third, libc::SIGKILL);
    wait_other(&mut prebind, third);
    assert_eq!(names(&mut prebind), "web:first");
    prebind.stop();
}

#[test]
fn without_a_maximum_nothing_is_stored() {
    let mut prebind = started("Type=notify");
    store(&mut prebind, "first");
    prebind.lines.expect(&["not kept", "none may be kept"]);
    prebind.stop();
}

#[test]
fn only_the_main_process_is_heard_unless_more_may_speak() {
    for (access, heard) in [("main", false), ("exec", false), ("all", true)] {
        let mut prebind = started(&format!("Type=notify\nNotifyAccess={access}"));
        prebind.get("web", "/child-notify?text=STATUS=by%20a%20child");
        assert_eq!(prebind.get("web", "/barrier"), "released");
        assert_eq!(prebind.status().to_string().contains("by a child"), heard, "NotifyAccess={access}");
        if !heard {
            prebind.get("web", "/notify?text=NOTIFYACCESS=all");
            prebind.get("web", "/child-notify?text=STATUS=by%20a%20child");
            wait_for("the child to be heard", || prebind.status().to_string().contains("by a child").then_some(()));
        }
        prebind.stop();
    }
}

#[test]
fn a_process_of_the_worker_becomes_its_main_process() {
    let mut prebind = started("Type=notify\nKillMode=process");
    let old = prebind.worker_pids()[0];
    let child: i32 = prebind.get("web", "/fork").parse().expect("a pid");
    // Of no worker, and of nobody.
    for pid in [1, prebind.pid(), i32::MAX] {
        prebind.get("web", &format!("/notify?text=MAINPID={pid}"));
        prebind.lines.expect(&[&format!("MAINPID={pid}"), "refused"]);
    }
    prebind.get("web", &format!("/notify?text=MAINPID={child}"));
    prebind.wait_status("another main process", |status| {
        (status["services"][0]["workers"][0]["pid"] == child).then_some(())
    });
    // It is no child of prebind's: its end is seen all the same, also after a re-exec, and is the worker's end.
    prebind.ctl(&["reexec"]).code(0);
    assert_eq!(prebind.worker_pids(), [child]);
    proc::kill(child, libc::SIGKILL);
    wait_for("a new main process", || {
        let pids = prebind.worker_pids();
        (pids.len() == 1 && pids[0] != child && pids[0] != old).then_some(())
    });
    proc::kill(old, libc::SIGKILL);
    prebind.stop();
}

/// Says RELOADING=1 and READY=1 as its first word tells: `well`, without the time that it must have, or not at all.
const RELOADS: &str = r#"
import os, signal, socket, sys, time
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
def reload(*_):
    if sys.argv[1] == "well":
        say(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    elif sys.argv[1] == "timeless":
        say("RELOADING=1")
    say("READY=1\nSTATUS=reloaded")
signal.signal(signal.SIGUSR1, reload)
say("READY=1")
while True:
    signal.pause()
"#;

#[test]
fn notify_reload_waits_for_the_word_with_a_time() {
    for (how, more, code) in [
        ("well", "ExecReload=/bin/true", 0),
        ("well", "ExecReload=/bin/false", 1),
        ("well", "", 0),
        ("timeless", "TimeoutStartSec=3s", 1),
        ("silent", "TimeoutStartSec=3s", 1),
    ] {
        let dir = TempDir::new();
        let (script, unit) = (dir.join("reloads.py"), dir.join("web.service"));
        fs::write(&script, RELOADS).expect("written");
        let text = format!(
            "[Service]\nType=notify-reload\nReloadSignal=SIGUSR1\nX-Prebind-Number=2\n{more}\nExecStart=/usr/bin/python3 {script} {how}\n"
        );
        fs::write(&unit, text).expect("written");
        let mut prebind = Setup::in_dir(dir, &["--unit", &unit]).start();
        prebind.wait_ready();
        let pids = prebind.worker_pids();
        let finished = prebind.ctl(&["reload"]);
        finished.code(code).says(if code == 0 { &[] } else { &["2 of 2 did not reload, they serve on"] });
        assert_eq!(prebind.worker_pids(), pids, "{how} {more}");
        if code == 0 {
            assert_eq!(prebind.status().to_string().matches("reloaded").count(), 2);
        }
        prebind.stop();
    }
}
