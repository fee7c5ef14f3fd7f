//! The manual's prebind.einhorn(7): its shell, re-exec and upgrades; Ruby's workers and clients.

use crate::einhorn::{Client, einhorn, probes, shell, shell_command};
use crate::harness::{Prebind, TempDir, get, probe, proc, run_piped, wait_for};
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn dropped_variables_go_at_the_first_upgrade() {
    for (dropped, after) in [(true, None), (false, Some("x"))] {
        let mut options = vec!["-b", "127.0.0.1:0", "-m", "0"];
        options.extend(dropped.then_some(["--drop-env-var", "GONE"]).into_iter().flatten());
        let mut prebind = probes(&options, &[]).env("GONE", "x").start();
        prebind.wait_ready();
        let gone = |prebind: &mut Prebind| probe::environ(&prebind.probe("0")).get("GONE").cloned();
        assert_eq!(gone(&mut prebind).as_deref(), Some("x"));
        shell(&prebind, "upgrade").code(0).says(&[]);
        // The old one dies of USR2, and accepts until then.
        prebind.wait_ready();
        assert_eq!(gone(&mut prebind).as_deref(), after);
        prebind.stop();
    }
}

#[test]
fn reexec_as_a_script_and_as_env() {
    let dir = TempDir::new();
    let (script, link) = (dir.join("wrapper"), dir.join("einhorn"));
    let text = format!("#!/bin/sh\n[ \"$1\" = --with-state-fd ] || exit 9\nexport VERSION=b\nexec {link} \"$@\"\n");
    std::fs::write(&script, text).expect("write");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let mut prebind =
        einhorn(dir, &["-b", "127.0.0.1:0", "-m", "0", "--reexec-as", &script, "--", probe::path(), "drain"]).start();
    prebind.wait_ready();
    let version = |prebind: &mut Prebind| probe::environ(&prebind.probe("0")).get("VERSION").cloned();
    assert_eq!(version(&mut prebind), None);
    shell(&prebind, "upgrade").code(0);
    prebind.wait_ready();
    assert_eq!(version(&mut prebind).as_deref(), Some("b"));
    prebind.stop();
    let dir = TempDir::new();
    let env = format!("env VERSION=b {}", dir.join("einhorn"));
    let words = ["-b", "127.0.0.1:0", "-m", "0", "--reexec-as", &env, "--", probe::path(), "drain"];
    let mut prebind = einhorn(dir, &words).start();
    prebind.wait_ready();
    assert_eq!(version(&mut prebind), None);
    shell(&prebind, "upgrade_fleet").code(0);
    prebind.wait_ready();
    assert_eq!(version(&mut prebind).as_deref(), Some("b"));
    prebind.stop();
}

#[test]
fn a_worker_that_dies_during_the_re_exec_is_replaced() {
    let mut prebind = probes(&["-b", "127.0.0.1:0", "-n", "4", "-m", "0"], &[]).start();
    prebind.wait_ready();
    for round in 0..5 {
        let worker = prebind.worker_pids()[round % 4];
        let mut client = Client::of(&prebind);
        client.send("---%0Aid: 1%0Acommand: reload%0Aargs: []%0A\n");
        proc::kill(worker, libc::SIGKILL);
        assert_eq!(client.next().expect("a reply")["message"], "Reloading, as commanded");
        prebind.wait_status("four workers, none of them the dead one", |status| {
            let workers = status["services"][0]["workers"].as_array()?;
            let dead = workers.iter().any(|one| one["pid"] == i64::from(worker));
            (!dead && status["services"][0]["ready"] == 4).then_some(())
        });
    }
    prebind.stop();
}

#[test]
fn workers_of_a_killed_master_get_usr2() {
    let mut prebind = probes(&["-b", "127.0.0.1:0", "-n", "2", "-m", "0", "-k"], &[]).start();
    prebind.wait_ready();
    let workers = prebind.worker_pids();
    prebind.signal(libc::SIGKILL);
    assert_eq!(prebind.wait_exit().code(), None);
    wait_for("the workers' end", || workers.iter().all(|pid| !proc::alive(*pid)).then_some(()));
}

#[test]
fn a_version_that_crashes_ends_the_upgrade() {
    let dir = TempDir::new();
    let app = dir.join("app");
    let install = |line: &str| {
        let draft = format!("{app}.new");
        std::fs::write(&draft, format!("#!/bin/sh\n{line}\n")).expect("write");
        std::fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
        std::fs::rename(&draft, &app).expect("rename");
    };
    install(&format!("exec {} drain", probe::path()));
    let mut prebind = einhorn(dir, &["-b", "127.0.0.1:0", "-n", "2", "-s", "0.1", "-m", "0.2", "--", &app]).start();
    prebind.wait_ready();
    let workers = prebind.worker_pids();
    install("exit 7");
    let ended = shell(&prebind, "upgrade");
    ended.code(1);
    assert!(ended.stdout.contains("ERROR: The upgrade to version 1 failed") && ended.stdout.contains("exited with 7"));
    // The last ones of the new version may still be on their way out.
    wait_for("the old workers alone", || (prebind.worker_pids() == workers).then_some(()));
    prebind.get("0", "/");
    install(&format!("exec {} drain", probe::path()));
    shell(&prebind, "upgrade; state").code(0);
    prebind.stop();
}

#[test]
fn a_fleet_starts_at_once_and_only_the_new_count() {
    let mut prebind = probes(&["-b", "127.0.0.1:0", "-n", "6", "-m", "0.3", "--max-unacked", "1"], &[]).start();
    prebind.wait_ready();
    let begun = prebind.lines.count();
    shell(&prebind, "upgrade_fleet").code(0);
    prebind.lines.expect_from(begun, &["Up to 6 / 6 timer ACKs"]);
    let said = prebind.lines.all();
    let said = said.split("Starting fleet upgrade").nth(1).expect("it began");
    let before = said.split("Up to 1 / 6").next().expect("all before the first ack");
    assert_eq!(before.matches("===> Launched").count(), 6, "{said}");
    assert!(!said.contains("Up to 7"), "{said}");
    prebind.stop();
}

#[test]
fn told_again_it_sends_again() {
    let worker = ["--", "sh", "-c", "trap '' USR2; echo deaf now >&2; while :; do sleep 0.1; done"];
    let mut prebind = einhorn(TempDir::new(), &["-m", "0"]).and(&worker).start();
    // Its own word: prebind may say before that that all are ready.
    prebind.lines.expect(&["deaf now"]);
    prebind.signal(libc::SIGINT);
    prebind.lines.expect(&["Sending USR2 to ["]);
    prebind.signal(libc::SIGUSR2);
    prebind.lines.expect(&["ERROR: Re-sending USR2 to already-signaled child"]);
    let state = Client::of(&prebind).ask(1, "state", &[]);
    assert!(state.contains(":signaled: [\"USR2\"]\n") && state.contains(":last_signaled_at: 2"), "{state}");
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

#[test]
fn files_are_locked_and_open_as_einhorns() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new();
    let home = dir.path().to_owned();
    // SAFETY: umask takes a number and cannot fail.
    let private = || {
        unsafe { libc::umask(0o077) };
        Ok(())
    };
    let setup = einhorn(dir, &["-e", "first.pid", "-m", "manual", "-n", "1", "--", "sleep", "1000"]).hook(private);
    let first = setup.start();
    first.lines.expect(&["===> Launched"]);
    let mode = std::fs::metadata(first.control().path()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // The same lock file, and another socket: both run.
    let mut second = Command::new(home.join("einhorn"));
    second.args(["-d", "second.sock", "-e", "second.pid", "sleep", "1000"]).env("TMPDIR", &home).current_dir(&home);
    let mut second = second.stderr(std::process::Stdio::null()).spawn().expect("it starts");
    wait_for("the second one", || home.join("second.sock").exists().then_some(()));
    proc::kill(second.id() as i32, libc::SIGTERM);
    assert!(second.wait().expect("it ends").success());
    // Never acked, never stopped for that.
    assert!(Client::of(&first).ask(1, "state", &[]).contains(":acked: false"));
    first.stop();
}

#[test]
fn the_shell_reads_commands_and_tells_failure() {
    let mut prebind = probes(&["-b", "127.0.0.1:0", "-n", "2", "-m", "0"], &[]).start();
    prebind.wait_ready();
    let ended = shell(&prebind, "inc; set_workers 2; louder");
    assert_eq!(ended.code(0).stdout.lines().next(), Some("Incrementing number of workers from 2 -> 3"));
    assert!(shell(&prebind, "louder; frobnicate; quieter").code(1).stdout.contains("Unrecognized command"));
    shell(&prebind, "set_workers 'x").code(1);
    let mut child = shell_command(&prebind, &[]);
    child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = child.spawn().expect("einhornsh");
    child.stdin.take().expect("piped").write_all(b"inc\nquit\nnot reached\n").expect("write");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Incrementing number of workers from 2 -> 3\n");
    let missing = prebind.dir.join("nobody.sock");
    let mut nobody = Command::new(prebind.dir.join("einhornsh"));
    nobody.args(["-d", &missing, "-e", "state"]);
    run_piped(nobody).code(1).says(&["nobody answers"]);
    prebind.stop();
}

/// Ruby's YAML, by path and by descriptor, upgraded under load.
#[test]
fn ruby_workers_are_upgraded_under_load() {
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/workers/einhorn.rb");
    for by_descriptor in [false, true] {
        let mut options = vec!["-b", "127.0.0.1:0", "-n", "4", "-m", "manual"];
        options.extend(by_descriptor.then_some("-g"));
        let setup = einhorn(TempDir::new(), &options).and(&["--", "ruby", worker, "one", "0.1"]);
        let mut prebind = setup.start();
        prebind.wait_ready();
        let (pid, before, address) = (prebind.pid(), prebind.worker_pids(), prebind.inet("0"));
        let pidfile = prebind.dir.join("einhorn.pid");
        let text = std::fs::read_to_string(&pidfile).expect("a pid file");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = || {
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) {
                    get(address, "/").unwrap_or_else(|why| panic!("lost: {why}"));
                    answers += 1;
                }
                answers
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            shell(&prebind, "upgrade").code(0);
            done.store(true, Ordering::Relaxed);
            for client in clients {
                assert!(client.join().expect("no connection is lost") > 0);
            }
        });
        assert_eq!((prebind.pid(), std::fs::read_to_string(&pidfile).expect("still")), (pid, text));
        let after = prebind.wait_number(4);
        assert!(after.iter().all(|pid| !before.contains(pid)));
        let control = prebind.control().path().to_str().expect("UTF-8").to_owned();
        let mut state = Command::new("ruby");
        state.args([worker, "ask", &control, "state"]);
        let ended = run_piped(state);
        let lines: Vec<&str> = ended.code(0).stdout.lines().collect();
        let mut pids: Vec<i32> = lines[0].split(' ').filter_map(|pid| pid.parse().ok()).collect();
        pids.sort_unstable();
        assert_eq!((pids, &lines[1..]), (after, &["4", "4"][..]));
        prebind.stop();
    }
}
