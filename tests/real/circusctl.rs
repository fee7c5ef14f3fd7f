//! The manual's prebind.circus(5), circusctl: Circus's words by a link of that name, and `prebindctl options`.

use crate::circus::{pids, run};
use crate::harness::{
    Finished, Prebind, Setup, TempDir, free_port, get, prebind_path, prebindctl_path, proc, wait_for,
};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;

/// circusctl, of whichever of the two programs.
fn circusctl(prebind: &Prebind, program: std::path::PathBuf, words: &[&str]) -> Finished {
    let dir = TempDir::new();
    let link = dir.join("circusctl");
    std::os::unix::fs::symlink(program, &link).expect("link");
    let path = prebind.control().path().to_str().expect("UTF-8").to_owned();
    Setup::in_dir(dir, &["-d", &path]).and(words).program(link).no_default_control().finish()
}

fn said(prebind: &Prebind, words: &[&str]) -> String {
    circusctl(prebind, prebind_path(), words).code(0).stdout.trim_end().to_owned()
}

/// Two watchers on one socket and a third that waits to be asked for.
fn three(port: u16) -> Prebind {
    let text = format!(
        "[socket:web]\nport = {port}\n[env]\nTOKEN = hush\n\
         [watcher:Web]\nuse_sockets = yes\ncmd = PROBE serve\nnumprocesses = 2\ngraceful_timeout = 5\n\
         [watcher:web2]\nuse_sockets = yes\ncmd = PROBE serve\n\
         [watcher:idle]\ncmd = PROBE serve\nautostart = no\nnumprocesses = 2\n"
    );
    let mut prebind = run(&text, &[]);
    prebind.wait_ready();
    prebind
}

#[test]
fn it_prints_what_circus_prints() {
    let port = free_port();
    let prebind = three(port);
    let status = prebind.status();
    let list: Vec<String> = pids(&status, "Web").iter().map(ToString::to_string).collect();
    let socket = format!("3:socket 'web' at 127.0.0.1:{port}");
    for (words, printed) in [
        (&["list"][..], "Web,web2,idle"),
        (&["list", "web"], &list.join(",")),
        (&["numprocesses"], "3"),
        (&["numprocesses", "web"], "2"),
        (&["numwatchers"], "3"),
        (&["listsockets"], &socket),
        (&["status"], "Web: active\nidle: stopped\nweb2: active"),
        (&["status", "idle"], "stopped"),
        (&["get", "web", "numprocesses", "env"], "env: TOKEN\nnumprocesses: 2"),
        (&["incr", "web2", "--waiting"], "2"),
        (&["decr", "web2", "5"], "0"),
        (&["status", "web2"], "stopped"),
        (&["start", "web2", "--waiting"], "ok"),
        (&["numprocesses", "web2"], "1"),
    ] {
        if words == ["status", "web2"] {
            wait_for("the end of its workers", || pids(&prebind.status(), "web2").is_empty().then_some(()));
        }
        assert_eq!(said(&prebind, words), printed, "{words:?}");
    }
    let told: Value = serde_json::from_str(&said(&prebind, &["--json", "status", "web"])).expect("JSON");
    assert_eq!(told["status"], "active");
    let told: Value = serde_json::from_str(&said(&prebind, &["list", "--json"])).expect("JSON");
    assert!(told["status"] == "ok" && told["time"].is_number(), "{told}");
    assert_eq!(told["watchers"], json!(["Web", "web2", "idle"]));
    let costs = said(&prebind, &["stats", "web"]);
    assert!(costs.starts_with(&format!("Web:\n{}: cpu ", list[0])), "{costs}");
    prebind.stop();
}

#[test]
fn watchers_start_and_stop() {
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut prebind = three(port);
    // As many as the file says, though none ran.
    assert_eq!(said(&prebind, &["start", "idle", "--waiting"]), "ok");
    assert_eq!(pids(&prebind.status(), "idle").len(), 2);
    // A pattern means both; who asks meanwhile waits in the socket, which stays open.
    assert_eq!(said(&prebind, &["stop", "WEB*", "--waiting"]), "ok");
    assert_eq!(said(&prebind, &["status"]), "Web: stopped\nidle: active\nweb2: stopped");
    let asks = std::thread::spawn(move || get(address, "/pid"));
    assert_eq!(said(&prebind, &["start", "web", "--waiting"]), "ok");
    asks.join().expect("asked").expect("an answer");
    let before = pids(&prebind.status(), "Web");
    for word in ["restart", "reload"] {
        let before = pids(&prebind.status(), "Web");
        assert_eq!(said(&prebind, &[word, "web"]), "ok");
        prebind.wait_status("two others", |status| {
            let now = pids(status, "Web");
            (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
    }
    assert!(before.iter().all(|pid| !proc::alive(*pid)));
    // A signal to one of them is to that one.
    let two = pids(&prebind.status(), "Web");
    assert_eq!(said(&prebind, &["signal", "web", &two[0].to_string(), "KILL"]), "ok");
    prebind.wait_status("a successor of it alone", |status| {
        let now = pids(status, "Web");
        (now.len() == 2 && !now.contains(&two[0]) && now.contains(&two[1])).then_some(())
    });
    assert_eq!(said(&prebind, &["signal", "web", "WINCH"]), "ok");
    assert_eq!(said(&prebind, &["quit"]), "ok");
    assert!(prebind.wait_exit().success());
}

#[test]
fn a_watcher_that_is_over_begins_anew() {
    let text = "[watcher:once]\ncmd = sh -c 'echo ran >> ran'\nrespawn = no\n[watcher:other]\n\
        cmd = sh -c 'trap \"sleep 1; exit\" TERM; while :; do sleep 0.05; done'\n";
    let prebind = run(text, &[]);
    let ran = || fs::read_to_string(prebind.dir.join("ran")).unwrap_or_default().lines().count();
    for times in 1..=3 {
        wait_for("its end", || (ran() == times && said(&prebind, &["status", "once"]) == "stopped").then_some(()));
        assert_eq!(said(&prebind, &["start", "o*"]), "ok");
    }
    wait_for("the last run", || (ran() == 4).then_some(()));
    let other = pids(&prebind.status(), "other");
    assert_eq!(other.len(), 1, "one that runs is left alone");
    // It takes its time to end.
    let words = ["--timeout", "0.1", "stop", "other", "--waiting"];
    circusctl(&prebind, prebind_path(), &words).code(1).says(&["not done in time"]);
    assert_eq!(said(&prebind, &["stop", "other", "--waiting"]), "ok");
    assert!(!proc::alive(other[0]));
    prebind.stop();
}

#[test]
fn the_file_is_read_anew() {
    let port = free_port();
    let mut prebind = three(port);
    let file = prebind.dir.join("circus.ini");
    let text = fs::read_to_string(&file).expect("the file");
    fs::write(&file, text.replace("numprocesses = 2\ngraceful", "numprocesses = 3\ngraceful")).expect("write");
    assert_eq!(said(&prebind, &["reloadconfig"]), "ok");
    prebind.wait_status("three workers", |status| (pids(status, "Web").len() == 3).then_some(()));
    fs::write(&file, "[watcher:w]\ncmd = 'open\n").expect("write");
    circusctl(&prebind, prebindctl_path(), &["reloadconfig"]).code(3).says(&["circusctl: ", "circus.ini:2"]);
    assert_eq!(pids(&prebind.status(), "Web").len(), 3);
    prebind.stop();
}

#[test]
fn what_is_not_had_is_said() {
    let port = free_port();
    let prebind = three(port);
    for (words, code, part) in [
        (&["set", "web", "cmd", "x"][..], 1, "then reloadconfig"),
        (&["add", "new", "x", "--start"], 1, "[watcher:NAME]"),
        (&["dstats"], 1, "stats"),
        (&["signal", "web", "HUP", "--children"], 1, "process group"),
        (&["--ssh", "host", "list"], 1, "ssh HOST circusctl"),
        (&[], 1, "a command is missing"),
        (&["lst"], 1, "list"),
        (&["stop", "nobody"], 3, "there is no service nobody"),
        (&["get", "web", "nothing"], 3, "no option nothing"),
        (&["signal", "web", "1", "HUP"], 3, "1 is no worker of Web"),
    ] {
        circusctl(&prebind, prebind_path(), words).code(code).says(&[part]);
    }
    let error = circusctl(&prebind, prebind_path(), &["--json", "status", "nobody"]).code(3).stdout.clone();
    let error: Value = serde_json::from_str(&error).expect("JSON");
    assert!(error["status"] == "error" && error["reason"].is_string(), "{error}");
    // Another circusd's endpoint means no prebind, which might be the wrong one; a path is one.
    let dir = TempDir::new();
    let link = dir.join("circusctl");
    std::os::unix::fs::symlink(prebind_path(), &link).expect("link");
    let asked = |endpoint: &str| {
        let setup = Setup::new(&["list"]).program(&link).no_default_control();
        setup.env("CIRCUSCTL_ENDPOINT", endpoint).finish()
    };
    asked("tcp://127.0.0.1:6000").code(1).says(&["tcp://127.0.0.1:6000", "-d PATH"]);
    let path = prebind.control().path().display().to_string();
    assert_eq!(asked(&format!("ipc://{path}")).code(0).stdout, "Web,web2,idle\n");
    prebind.stop();
}

#[test]
fn options_show_the_plan_and_no_value_of_a_variable() {
    let port = free_port();
    let prebind = three(port);
    let shown = prebind.ctl(&["options", "web"]).code(0).stdout.clone();
    for line in ["numprocesses: 2", "graceful_timeout: 5", "stop_signal: TERM", "sockets: web", "env: TOKEN"] {
        assert!(shown.lines().any(|one| one == line), "{line}: {shown}");
    }
    assert!(shown.contains(" serve\n") && !shown.contains("hush"), "{shown}");
    prebind.ctl(&["scale", "Web", "1"]).code(0);
    let options: Value =
        serde_json::from_str(&prebind.ctl(&["options", "web", "--json"]).code(0).stdout).expect("JSON");
    assert_eq!(options["options"]["numprocesses"], 1, "what is asked for now");
    assert_eq!(options["options"]["use_sockets"], true);
    prebind.ctl(&["options"]).code(1).says(&["which service?"]);
    prebind.stop();
}
