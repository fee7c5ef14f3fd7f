//! The manual's prebind.einhorn(7): a deployment that ran on einhorn goes on, its clients and its shell too.

use crate::harness::{Finished, Prebind, Setup, TempDir, prebind_path, probe, proc, run_piped, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::process::Command;

/// prebind by the name of einhorn, with its files in a directory of its own.
pub(crate) fn einhorn(dir: TempDir, options: &[&str]) -> Setup {
    let (link, home) = (dir.join("einhorn"), dir.path().to_str().expect("UTF-8").to_owned());
    symlink(prebind_path(), &link).expect("a link");
    Setup::in_dir(dir, options).program(link).env("TMPDIR", &home)
}

/// With probes that drain, and acknowledge when they are asked to.
pub(crate) fn probes(options: &[&str], words: &[&str]) -> Setup {
    einhorn(TempDir::new(), options).and(&["--", probe::path(), "drain"]).and(words)
}

pub(crate) fn shell_command(prebind: &Prebind, words: &[&str]) -> Command {
    let link = prebind.dir.join("einhornsh");
    if !std::path::Path::new(&link).exists() {
        symlink(prebind_path(), &link).expect("a link");
    }
    let mut command = Command::new(link);
    command.arg("-d").arg(prebind.control().path()).args(words);
    command
}

pub(crate) fn shell(prebind: &Prebind, commands: &str) -> Finished {
    run_piped(shell_command(prebind, &["-e", commands]))
}

/// A client that speaks bytes.
pub(crate) struct Client {
    stream: UnixStream,
    lines: std::io::Lines<BufReader<UnixStream>>,
}

impl Client {
    pub(crate) fn of(prebind: &Prebind) -> Client {
        let stream = prebind.control().connect().expect("connect");
        let lines = BufReader::new(stream.try_clone().expect("clone")).lines();
        Client { stream, lines }
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.stream.write_all(line.as_bytes()).expect("write");
    }

    pub(crate) fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.expect("read");
        Some(serde_json::from_str(&line.replace("%25", "%")).expect("JSON"))
    }

    /// The message that answers a request in Ruby's block YAML.
    pub(crate) fn ask(&mut self, id: u32, command: &str, args: &[&str]) -> String {
        let list: String = args.iter().map(|word| format!("%0A- '{word}'")).collect();
        let args = if args.is_empty() { " []".to_string() } else { list };
        self.send(&format!("---%0Aid: {id}%0Acommand: {command}%0Aargs:{args}%0A\n"));
        let reply = self.next().expect("a reply");
        assert_eq!(reply["request_id"], id, "{reply}");
        reply["message"].as_str().expect("a message").to_owned()
    }
}

fn number(prebind: &Prebind) -> Value {
    prebind.status()["services"][0]["number"].clone()
}

#[test]
fn every_command_of_the_wire() {
    let mut prebind = probes(&["-b", "127.0.0.1:0", "-n", "2", "-m", "0", "-c", "app"], &[]).start();
    prebind.wait_ready();
    let mut client = Client::of(&prebind);
    client.send("---%0Acommand: ehlo%0Auser: joe%0A\n");
    let greeting = client.next().expect("a greeting");
    assert!(greeting.get("request_id").is_none() && greeting.get("wait").is_none(), "{greeting}");
    let pid = prebind.pid();
    let text = greeting["message"].as_str().expect("text").to_owned();
    assert!(
        text.starts_with(&format!("Welcome, joe! You are speaking to Einhorn Master Process {pid} (app).\n")),
        "{text}"
    );
    client.send("---%0Acommand: ehlo%0Auser:%0A\n");
    assert!(client.next().expect("one")["message"].as_str().is_some_and(|text| text.starts_with("Welcome, !")));
    let help = client.ask(1, "help", &[]);
    for name in [
        "config",
        "dec",
        "die",
        "inc",
        "louder",
        "quieter",
        "reload",
        "set_workers",
        "signal",
        "state",
        "upgrade_fleet",
    ] {
        assert!(help.contains(&format!("\n{name}: ")), "{name} in {help}");
    }
    assert_eq!(client.ask(2, "inc", &[]), "Incrementing number of workers from 2 -> 3");
    assert_eq!(client.ask(3, "dec", &[]), "Decrementing number of workers from 3 -> 2");
    assert_eq!(client.ask(4, "set_workers", &["4"]), "Altering worker count, 2 -> 4. Will spin up additional workers.");
    assert_eq!(client.ask(5, "set_workers", &["4"]), "");
    assert_eq!(
        client.ask(6, "set_workers", &["1"]),
        "Altering worker count, 4 -> 1. Will gracefully terminate workers."
    );
    for bad in ["0", "1001", "x", ""] {
        assert!(client.ask(7, "set_workers", &[bad]).starts_with(&format!("Invalid count: '{bad}'")));
    }
    assert!(client.ask(8, "set_workers", &[]).starts_with("Invalid count: ''"));
    assert!(client.ask(9, "dec", &[]).contains(&format!("kill {pid}")));
    assert_eq!(client.ask(10, "louder", &[]), "Verbosity set to 0");
    assert_eq!(client.ask(11, "quieter", &[]), "Verbosity set to 1");
    assert_eq!(client.ask(12, "signal", &["NOPE"]), "Invalid signal: \"NOPE\"");
    let worker = prebind.wait_number(1)[0];
    assert_eq!(client.ask(13, "signal", &["SIGwinch", "WINCH"]), "");
    assert!(proc::alive(worker));
    let set = client.ask(14, "config", &["{number: 2,", ":seconds: 0.5, max_unacked: 3}"]);
    assert!(set.starts_with("Configured: {"), "{set}");
    assert_eq!(number(&prebind), 2);
    let state = client.ask(15, "state", &[]);
    for line in
        ["---\n:state:\n  :children:\n", "    :seconds: 0.5\n", "    :max_unacked: 3\n", "      :type: :worker\n"]
    {
        assert!(state.contains(line), "{line} in {state}");
    }
    client.ask(23, "die", &[]);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    prebind.lines.expect(&["Sending USR2 to ["]);
}

#[test]
fn wrong_requests_get_einhorns_words() {
    let mut prebind = probes(&["-b", "127.0.0.1:0", "-m", "0"], &[]).start();
    prebind.wait_ready();
    let mut client = Client::of(&prebind);
    assert!(client.ask(16, "config", &["[1]"]).contains("a YAML mapping, not a Array"));
    assert!(client.ask(17, "config", &["{nosuch: 1}"]).contains("cannot be changed"));
    assert!(client.ask(18, "frobnicate", &[]).starts_with("Unrecognized command: \"frobnicate\"\n\n"));
    client.send("---%0Aid: 19%0Acommand: inc%0Aargs: 3%0A\n");
    assert_eq!(client.next().expect("one")["message"], "Args must be an array");
    client.send("---%0Aid: 20%0Acommand: signal%0Aargs:%0A- 3%0A\n");
    assert_eq!(client.next().expect("one")["message"], "Argument is a Integer, not a string: 3");
    client.send("{{\n");
    let reply = client.next().expect("one");
    assert!(reply["message"] == "Could not parse command" && reply.get("request_id").is_none(), "{reply}");
    client.send("---%0Aid: 21%0Auser: joe%0A\n");
    assert!(client.next().expect("one")["message"].as_str().is_some_and(|m| m.starts_with("No \"command\" parameter")));
    // JSON is as good, and two requests in one write.
    client.send(
        "{\"id\":\"a\",\"command\":\"louder\",\"args\":[]}\n{\"id\":\"b\",\"command\":\"quieter\",\"args\":[]}\n",
    );
    assert_eq!(client.next().expect("one")["request_id"], "a");
    assert_eq!(client.next().expect("one")["request_id"], "b");
    assert_eq!(client.ask(22, "reload", &[]), "Reloading, as commanded");
    prebind.lines.expect(&["About to re-exec einhorn master as"]);
    assert_eq!(client.ask(23, "die", &["TERM"]), "Einhorn is going down! ");
    assert_eq!(prebind.wait_exit().code(), Some(0));
    prebind.lines.expect(&["Sending TERM to ["]);
}

#[test]
fn acks_and_pings_of_strangers_count_by_pid() {
    let mut prebind = probes(&["-b", "127.0.0.1:0", "-n", "2", "-m", "manual"], &[]).start();
    prebind.wait_status("two that start", |status| {
        (status["services"][0]["workers"].as_array()?.len() == 2).then_some(())
    });
    let workers = prebind.worker_pids();
    let mut stranger = Client::of(&prebind);
    stranger.send("---%0Acommand: worker:ack%0Apid: 1%0A\n");
    for worker in &workers {
        let mut client = Client::of(&prebind);
        client.send(&format!("---%0Acommand: worker:ping%0Apid: {worker}%0Arequest_id: req-1%0A\n"));
        assert_eq!(client.next(), None, "a ping has no reply");
        let mut client = Client::of(&prebind);
        client.send(&format!("---%0Acommand: worker:ack%0Apid: {worker}%0A\n"));
        assert_eq!(client.next(), None, "an ack has no reply");
    }
    prebind.wait_ready();
    prebind.lines.expect(&["[MASTER ", "INFO: Received a manual ACK from"]);
    prebind.lines.expect(&["Up to 2 / 2 manual ACKs"]);
    prebind.lines.expect(&["ERROR: worker:ack for 1, which is no worker"]);
    let mut again = Client::of(&prebind);
    again.send(&format!("---%0Acommand: worker:ack%0Apid: {}%0A\n", workers[0]));
    assert_eq!((again.next(), stranger.next()), (None, None), "no ack has a reply");
    prebind.lines.expect(&["ERROR: Ignored a manual ACK from"]);
    let state = Client::of(&prebind).ask(1, "state", &[]);
    assert!(state.contains(":pinged_request_id: \"req-1\"\n") && state.contains(":pinged_at: 2"), "{state}");
    prebind.stop();
}

#[test]
fn two_clients_follow_an_upgrade_over_the_re_exec() {
    let mut prebind = probes(&["-b", "127.0.0.1:0", "-n", "4", "-m", "0"], &[]).start();
    prebind.wait_ready();
    let (pid, mut followers) = (prebind.pid(), [Client::of(&prebind), Client::of(&prebind)]);
    let quiet = prebind.wait_number(4);
    for (n, client) in followers.iter_mut().enumerate() {
        client.send(&format!("---%0Aid: {n}%0Acommand: upgrade%0Aargs: []%0A\n"));
    }
    for (n, client) in followers.iter_mut().enumerate() {
        let mut seen = Vec::new();
        loop {
            let reply = client.next().expect("a line");
            assert_eq!(reply["request_id"], n);
            seen.push(reply["message"].as_str().expect("text").to_owned());
            if reply.get("wait").is_none() {
                break;
            }
        }
        assert_eq!(seen[0], "Upgrading smoothly, as commanded");
        // The second upgrade may have taken the first one's place.
        let last = seen.last().expect("a last one").as_str();
        assert!(last == "Upgrade done" || last.contains("took its place"), "{seen:?}");
        let shown = seen.iter().any(|line| line.starts_with("===> Launched")) || last != "Upgrade done";
        assert!(shown, "the upgrade is followed: {seen:?}");
    }
    let after = prebind.wait_ready();
    assert_eq!(prebind.pid(), pid);
    assert!(after["services"][0]["generation"].as_u64() >= Some(2));
    wait_for("the old workers' end", || quiet.iter().all(|pid| !proc::alive(*pid)).then_some(()));
    // Without an id there is one reply, and nothing follows.
    let mut old = Client::of(&prebind);
    old.send("---%0Acommand: upgrade_fleet%0Aargs: []%0A\n");
    let reply = old.next().expect("a reply");
    assert!(reply["message"] == "Upgrading fleet, as commanded" && reply.get("wait").is_none(), "{reply}");
    prebind.lines.expect(&["Starting fleet upgrade from version"]);
    prebind.stop();
}

#[test]
fn defaults_files_and_words_are_einhorns() {
    let dir = TempDir::new();
    let home = dir.path().to_owned();
    let setup = einhorn(dir, &["-b", "127.0.0.1:0,rn", "--numb", "2", "-vm0", "--", probe::path(), "drain"]);
    let mut prebind = setup.no_default_control().start();
    let socket = home.join("einhorn.sock");
    wait_for("the command socket", || socket.exists().then_some(()));
    prebind.lines.expect(&["INFO: Writing PID to", "einhorn.pid"]);
    prebind.lines.expect(&["INFO: Binding to 127.0.0.1:", "with flags [\"r\", \"n\"]"]);
    prebind.lines.expect(&["INFO: Launching 2 new workers"]);
    prebind.lines.expect(&["===> Launched", "(index: 0)"]);
    prebind.lines.expect(&["Up to 2 / 2 timer ACKs"]);
    let text = std::fs::read_to_string(home.join("einhorn.pid")).expect("a pid file");
    assert_eq!(text.trim(), prebind.pid().to_string());
    // A second one is refused, and leaves the first one's files alone.
    let second = einhorn_in(&home, &["-b", "127.0.0.1:0", "--", "sleep", "1000"]);
    second.code(1).says(&["einhorn"]);
    assert_eq!(std::fs::read_to_string(home.join("einhorn.pid")).expect("still").trim(), prebind.pid().to_string());
    assert!(socket.exists());
    prebind.signal(libc::SIGINT);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    prebind.lines.expect(&["Sending USR2 to ["]);
    assert!(!socket.exists() && !home.join("einhorn.pid").exists());
}

/// Another einhorn in the same place, to its end.
fn einhorn_in(home: &std::path::Path, words: &[&str]) -> Finished {
    let mut command = Command::new(home.join("einhorn"));
    command.env("TMPDIR", home).args(words);
    run_piped(command)
}

#[test]
fn usage_and_wrong_words() {
    let dir = TempDir::new();
    symlink(prebind_path(), dir.join("einhorn")).expect("a link");
    let run = |words: &[&str]| einhorn_in(dir.path(), words);
    for words in [&[][..], &["-b", "127.0.0.1:0"], &["--"], &["-h"]] {
        let ended = run(words);
        assert!(ended.code(1).stdout.starts_with("## Usage\n"), "{words:?}: {}", ended.stdout);
    }
    assert!(run(&["--vers"]).code(0).stdout.starts_with("1.1.1"));
    assert!(run(&["--upgrade-check"]).code(0).stdout.starts_with("1.1.1"));
    run(&["--nosuch", "true"]).code(1).says(&["--nosuch"]);
    run(&["--ma", "1", "true"]).code(1).says(&["ambiguous", "--max-unacked", "--max-upgrade-additional"]);
    run(&["-n", "0", "true"]).code(1);
    run(&["-b", "127.0.0.1:0,rx", "true"]).code(1).says(&["rx"]);
    run(&["-b", "127.0.0.1:1,nosuch", "true"]).code(1).says(&["nosuch"]);
    run(&["/no/such/program"]).code(1).says(&["/no/such/program"]);
}

#[test]
fn signals_of_the_master() {
    for (signal, code, sent) in [(libc::SIGTERM, 0, "TERM"), (libc::SIGUSR2, 0, "USR2"), (libc::SIGQUIT, 1, "")] {
        let mut prebind = probes(&["-b", "127.0.0.1:0", "-n", "2", "-m", "0"], &[]).start();
        prebind.wait_ready();
        let workers = prebind.worker_pids();
        for harmless in [libc::SIGUSR1, libc::SIGALRM] {
            prebind.signal(harmless);
        }
        assert_eq!(prebind.worker_pids(), workers, "USR1 and ALRM are not passed on");
        prebind.signal(signal);
        assert_eq!(prebind.wait_exit().code(), Some(code), "{sent}");
        if !sent.is_empty() {
            prebind.lines.expect(&[&format!("Sending {sent} to [")]);
        }
        wait_for("the workers' end", || workers.iter().all(|pid| !proc::alive(*pid)).then_some(()));
    }
}

#[test]
fn workers_find_einhorns_environment() {
    let options = ["-b", "127.0.0.1:0", "-b", "127.0.0.1:0", "-n", "2", "-m", "0", "-g", "--nice", "1:3"];
    let mut prebind = probes(&options, &[]).env("DROPPED", "x").start();
    prebind.wait_ready();
    let probe = prebind.probe("0");
    let environ = probe::environ(&probe);
    for (key, value) in [
        ("EINHORN_FD_COUNT", "2".to_string()),
        ("EINHORN_MASTER_PID", prebind.pid().to_string()),
        ("EINHORN_SOCK_PATH", prebind.control().path().display().to_string()),
    ] {
        assert_eq!(environ.get(key), Some(&value), "{key}");
    }
    assert!(environ.contains_key("EINHORN_SOCK_FD") && !environ.contains_key("LISTEN_FDS"), "{environ:?}");
    assert_eq!((probe["pgid"].clone(), probe["nice"].as_i64()), (probe["pid"].clone(), Some(3)));
    assert_eq!(unsafe { libc::getpriority(libc::PRIO_PROCESS, prebind.pid() as u32) }, 1);
    prebind.stop();
}
