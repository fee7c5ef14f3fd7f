//! Chapter "Under systemd": the units of units/, in a machine whose PID 1 is a real systemd.

use crate::harness::load::while_asked;
use crate::harness::{First, Namespaces, get, get_unix, probe, wait_for};
use serde_json::Value;
use std::net::SocketAddr;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/units");

/// A systemd with all of units/ and the probe.
fn systemd(test: &str) -> Option<Namespaces> {
    Namespaces::new(test, First::Systemd, |dir| {
        for unit in std::fs::read_dir(UNITS).expect("units/") {
            let unit = unit.expect("units/").path();
            std::fs::copy(&unit, dir.join("units").join(unit.file_name().expect("a name"))).expect("copy");
        }
        std::fs::copy(probe::path(), dir.join("bin/probe")).expect("copy");
    })
}

fn web() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

/// GET from inside.
fn ask(machine: &Namespaces, path: &str) -> String {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            machine.enter_network();
            get(web(), path).unwrap_or_else(|why| panic!("GET {path}: {why}"))
        });
        asking.join().expect("an answer")
    })
}

fn show(machine: &Namespaces, unit: &str, property: &str) -> String {
    machine.done(&["systemctl", "show", "--value", "-p", property, unit]).trim().to_owned()
}

/// Until systemd has heard READY=1: all workers are ready.
fn wait_active(machine: &Namespaces, unit: &str) {
    wait_for("systemd to hear READY=1", || (show(machine, unit, "ActiveState") == "active").then_some(()));
}

fn status(machine: &Namespaces, control: &str) -> Value {
    let text = machine.done(&["prebindctl", "-d", control, "status", "--json"]);
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// The ready workers, with their generations.
fn workers(status: &Value) -> Vec<(i64, i64)> {
    let all = status["services"][0]["workers"].as_array().expect("workers");
    let ready = all.iter().filter(|worker| worker["state"] == "ready");
    ready.map(|one| (one["pid"].as_i64().expect("pid"), one["generation"].as_i64().expect("generation"))).collect()
}

fn pids(status: &Value) -> Vec<i64> {
    workers(status).iter().map(|(pid, _)| *pid).collect()
}

#[test]
fn the_units_are_sound_and_expose_little() {
    let Some(machine) = systemd("the_units_are_sound_and_expose_little") else { return };
    let units = ["web.service", "web.socket", "prebind@site.service", "prebind@site.socket"];
    let verified = machine.run(&[&["systemd-analyze", "verify", "--man=no"][..], &units].concat());
    assert!(verified.status.success(), "{verified:?}");
    // Tenths of what systemd-analyze calls exposure, which reaches from 0 to 10.
    for (unit, most) in [("web.service", "3"), ("prebind@.service", "12")] {
        let threshold = format!("--threshold={most}");
        let path = format!("/run/units/{unit}");
        let exposed = machine.run(&["systemd-analyze", "security", "--offline=yes", &threshold, &path]);
        assert!(exposed.status.success(), "{exposed:?}");
    }
}

#[test]
fn the_example_is_started_by_a_connection_reloaded_and_restarted_under_load() {
    let Some(machine) = systemd("the_example_is_started") else { return };
    let control = "/run/web/control";
    machine.done(&["systemctl", "start", "web.socket"]);
    assert_eq!(machine.processes(), [], "nobody before the first connection");
    let first: Value = serde_json::from_str(&ask(&machine, "/")).expect("JSON");
    assert_eq!(first["service"], "web");
    wait_active(&machine, "web");
    let before = status(&machine, control);
    assert_eq!(workers(&before).len(), 4, "{before}");
    assert_eq!((&before["sockets"][0]["name"], &before["sockets"][0]["inherited"]), (&"web".into(), &true.into()));
    wait_for("STATUS=", || (show(&machine, "web", "StatusText") == "web: 4/4 ready").then_some(()));
    let said = machine.done(&["systemctl", "status", "web"]);
    assert!(said.contains("Status: \"web: 4/4 ready\"") && said.contains("TriggeredBy:"), "{said}");

    let main = show(&machine, "web", "MainPID");
    let (_, tally) = while_asked(
        || machine.enter_network(),
        || get(web(), "/"),
        || {
            machine.done(&["systemctl", "reload", "web"]);
            wait_for("four workers of the next generation", || {
                let now = workers(&status(&machine, control));
                (now.len() == 4 && now.iter().all(|(_, generation)| *generation == 2)).then_some(())
            });
        },
    );
    tally.without_loss("reload");
    let after = status(&machine, control);
    assert!(pids(&after).iter().all(|pid| !pids(&before).contains(pid)), "{after}");
    assert_eq!(show(&machine, "web", "MainPID"), main, "prebind replaced itself in place");

    let (_, tally) = while_asked(
        || machine.enter_network(),
        || get(web(), "/"),
        || machine.done(&["systemctl", "restart", "web.service"]),
    );
    tally.without_loss("restart");
    assert_ne!(show(&machine, "web", "MainPID"), main);
    assert_eq!(show(&machine, "web.socket", "ActiveState"), "active");

    machine.done(&["systemctl", "stop", "web.socket", "web.service"]);
    assert_eq!(machine.processes(), [], "nobody is left");
    assert_eq!(show(&machine, "web", "Result"), "success");
    assert_eq!(show(&machine, "web", "NRestarts"), "0");
}

/// GET of prebind@site.socket's own address.
fn ask_site(machine: &Namespaces, path: &str) -> String {
    let socket = machine.outside("/run/site.sock");
    get_unix(socket.to_str().expect("UTF-8"), path).unwrap_or_else(|why| panic!("GET {path}: {why}"))
}

#[test]
fn an_instance_runs_what_its_file_says_and_nothing_of_systemd_reaches_its_workers() {
    let Some(machine) = systemd("an_instance_runs_what_its_file_says") else { return };
    machine.write("/etc/prebind/site.conf", "ARGUMENTS=-n 2 -- /usr/local/sbin/probe a 'b c'\n");
    machine.done(&["systemctl", "start", "prebind@site.socket"]);
    let answer: Value = serde_json::from_str(&ask_site(&machine, "/")).expect("JSON");
    assert_eq!(probe::numbers(&answer), [0, 1, 2, 3]);
    let env = probe::environ(&answer);
    assert_eq!((env["LISTEN_FDS"].as_str(), env["LISTEN_FDNAMES"].as_str()), ("1", "site"));
    assert_ne!(env["NOTIFY_SOCKET"], "/run/systemd/notify");
    for foreign in ["WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PIDFDID", "FDSTORE", "MAINPID"] {
        assert_eq!(env.get(foreign), None, "{foreign}");
    }
    wait_active(&machine, "prebind@site");
    assert_eq!(pids(&status(&machine, "/run/prebind-site/control")).len(), 2);
}

#[test]
fn a_missed_watchdog_replaces_one_worker() {
    let Some(machine) = systemd("a_missed_watchdog_replaces_one_worker") else { return };
    let control = "/run/prebind-site/control";
    machine.write("/etc/prebind/site.conf", "ARGUMENTS=-n 4 --watchdog 2 -- /usr/local/sbin/probe watchdog\n");
    machine.done(&["systemctl", "start", "prebind@site.socket", "prebind@site.service"]);
    let main = show(&machine, "prebind@site", "MainPID");
    let before = pids(&status(&machine, control));
    assert_eq!(before.len(), 4, "READY=1 came when all were ready");
    let hung = ask_site(&machine, "/pid");
    ask_site(&machine, "/hang");
    let after = wait_for("one other worker", || {
        let now = pids(&status(&machine, control));
        (now.len() == 4 && now != before).then_some(now)
    });
    assert_eq!(after.iter().filter(|pid| before.contains(pid)).count(), 3, "{before:?} {hung} {after:?}");
    assert_eq!(show(&machine, "prebind@site", "MainPID"), main);
    assert_eq!(show(&machine, "prebind@site", "NRestarts"), "0");
}

#[test]
fn a_wrong_command_line_is_not_tried_again() {
    let Some(machine) = systemd("a_wrong_command_line_is_not_tried_again") else { return };
    for (arguments, code) in [("-n many -- true", "2"), ("-n 2 --", "2"), ("-b web=8080 -- true", "100")] {
        machine.write("/etc/prebind/site.conf", &format!("ARGUMENTS={arguments}\n"));
        let started = machine.run(&["systemctl", "start", "prebind@site.service"]);
        assert!(!started.status.success(), "{arguments}");
        for (property, value) in [("ActiveState", "failed"), ("ExecMainStatus", code), ("NRestarts", "0")] {
            assert_eq!(show(&machine, "prebind@site", property), value, "{arguments}");
        }
    }
}
