//! Chapter "Readiness and words of workers": sd_notify in both directions.

use crate::harness::{DEADLINE, Prebind, Setup, TempDir, probe, proc};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

fn started(options: &[&str], words: &[&str]) -> Prebind {
    let mut all = vec!["-b", "web=127.0.0.1:0"];
    all.extend(options);
    Setup::probe(&all, words).start()
}

/// Waits until the only worker's STATUS is that.
fn wait_text(prebind: &mut Prebind, text: &str) {
    prebind.wait_status(&format!("the status text {text:?}"), |status| {
        (status["services"][0]["workers"][0]["status"] == text).then_some(())
    });
}

#[test]
fn ready_only_when_the_worker_says_so() {
    for mode in ["notify", "manual"] {
        let mut prebind = started(&["-m", mode], &["never-ready"]);
        prebind.get("web", "/pid"); // it serves, and is not ready all the same
        let status = prebind.status();
        assert_eq!((&status["services"][0]["ready"], &status["state"]), (&0.into(), &"starting".into()), "{mode}");
        prebind.ctl(&["ready"]).code(1);
        assert_eq!(prebind.get("web", "/notify?text=READY=1"), "0");
        prebind.wait_ready();
        prebind.ctl(&["ready"]).code(0);
        prebind.stop();
    }
}

#[test]
fn silence_is_readiness_after_a_second() {
    // It holds its socket, and does not wait on it.
    let mut prebind = Setup::new(&["-b", "web=127.0.0.1:0", "-vv", "--", "sleep", "1000"]).start();
    let status = prebind.wait_ready();
    let age = status["services"][0]["workers"][0]["age_seconds"].as_f64().expect("age");
    assert!(age >= 0.99, "ready at {age} s");
    prebind.lines.expect(&["is ready (its time passed)"]);
    prebind.stop();
}

#[test]
fn a_silent_worker_that_waits_on_its_sockets_is_ready() {
    for mode in ["auto", "accept"] {
        let mut prebind = started(&["-m", mode, "-vv"], &["never-ready"]);
        prebind.wait_ready();
        prebind.lines.expect(&["is ready (it waits on its sockets)"]);
        prebind.stop();
    }
    // One that does not wait is not ready, however long it lives: the mode is strict.
    let mut prebind = Setup::new(&["-m", "accept", "-b", "web=127.0.0.1:0", "--", "sleep", "1000"]).start();
    let status = prebind.wait_status("a second", |status| {
        let age = status["services"][0]["workers"][0]["age_seconds"].as_f64()?;
        (age > 1.2).then(|| status.clone())
    });
    assert_eq!(status["services"][0]["workers"][0]["state"], "starting");
    prebind.stop();
}

#[test]
fn seconds_given_are_waited_for_whatever_it_says() {
    let mut prebind = started(&["-m", "1.5"], &[]);
    let status = prebind.wait_ready();
    let age = status["services"][0]["workers"][0]["age_seconds"].as_f64().expect("age");
    assert!(age >= 1.49, "ready at {age} s");
    prebind.stop();
}

#[test]
fn status_text_is_shown() {
    let mut prebind = started(&[], &[]);
    prebind.wait_ready();
    prebind.get("web", "/notify?text=STATUS=100%25%20of%20it");
    wait_text(&mut prebind, "100% of it");
    let table = prebind.ctl(&["status"]);
    assert!(table.code(0).stdout.contains("100% of it"), "{}", table.stdout);
    prebind.stop();
}

#[test]
fn a_child_of_the_worker_speaks_for_it() {
    let mut prebind = started(&["-m", "notify"], &["never-ready"]);
    prebind.get("web", "/child-notify?text=READY=1%0aSTATUS=by%20a%20child");
    prebind.wait_ready();
    wait_text(&mut prebind, "by a child");
    prebind.stop();
}

#[test]
fn stopping_is_believed_and_the_slot_filled() {
    let mut prebind = started(&["-t", "20"], &["ignore-term"]);
    prebind.wait_ready();
    let old = prebind.worker_pids()[0];
    prebind.get("web", "/notify?text=STOPPING=1");
    prebind.wait_status("a successor beside the stopping one", |status| {
        let workers = status["services"][0]["workers"].as_array()?;
        let stopping = workers.iter().any(|w| w["pid"] == old && w["state"] == "stopping");
        let successor = workers.iter().any(|w| w["pid"] != old && w["state"] == "ready");
        (stopping && successor).then_some(())
    });
    proc::kill(old, libc::SIGKILL);
    prebind.wait_ready();
    // The successor ignores TERM as well.
    proc::kill(prebind.worker_pids()[0], libc::SIGKILL);
}

#[test]
fn mainpid_is_refused_aloud() {
    let mut prebind = started(&[], &[]);
    prebind.wait_ready();
    let pid = prebind.worker_pids();
    prebind.get("web", "/notify?text=MAINPID=1");
    prebind.lines.expect(&["MAINPID"]);
    assert_eq!(prebind.worker_pids(), pid);
    prebind.stop();
}

#[test]
fn descriptors_of_a_plain_command_are_not_kept() {
    let mut prebind = started(&[], &[]);
    prebind.wait_ready();
    assert_ne!(prebind.get("web", "/notify-with-file?text=FDSTORE=1%0aFDNAME=mine"), "0");
    prebind.lines.expect(&["slot 0", "not kept", "FileDescriptorStoreMax="]);
    prebind.stop();
}

#[test]
fn a_barrier_beside_other_words_is_refused() {
    let mut prebind = started(&[], &[]);
    prebind.wait_ready();
    prebind.get("web", "/notify?text=BARRIER=1%0aSTATUS=lost");
    prebind.lines.expect(&["more than BARRIER=1"]);
    prebind.get("web", "/notify?text=BARRIER=1");
    prebind.lines.expect(&["BARRIER=1 with 0 descriptors"]);
    assert!(!prebind.status().to_string().contains("lost"));
    prebind.stop();
}

#[test]
fn words_can_be_forbidden_while_it_runs() {
    let mut prebind = started(&[], &[]);
    prebind.wait_ready();
    prebind.get("web", "/notify?text=NOTIFYACCESS=main%0aSTATUS=by%20itself");
    wait_text(&mut prebind, "by itself");
    prebind.get("web", "/child-notify?text=STATUS=by%20a%20child");
    prebind.lines.expect(&["NotifyAccess= does not allow it"]);
    // A re-exec forgets nothing of it.
    prebind.ctl(&["reexec"]).code(0);
    prebind.get("web", "/child-notify?text=STATUS=by%20another");
    prebind.get("web", "/notify?text=NOTIFYACCESS=none");
    prebind.get("web", "/notify?text=STATUS=by%20nobody");
    assert_eq!(prebind.get("web", "/barrier"), "released");
    wait_text(&mut prebind, "by itself");
    prebind.stop();
}

#[test]
fn a_barrier_is_released() {
    let mut prebind = started(&[], &[]);
    prebind.wait_ready();
    assert_eq!(prebind.get("web", "/barrier"), "released");
    prebind.stop();
}

#[test]
fn systemd_notify_of_a_shell_script() {
    let script = "systemd-notify --ready --status=hello && exec sleep 1000";
    let mut prebind = Setup::new(&["-m", "notify", "--", "sh", "-c", script]).start();
    prebind.wait_ready();
    wait_text(&mut prebind, "hello");
    prebind.stop();
}

#[test]
fn extend_timeout_gives_more_time() {
    let mut prebind = started(&["-m", "notify", "--start-timeout", "3"], &["never-ready"]);
    let pid = prebind.get("web", "/pid");
    assert_eq!(prebind.get("web", "/notify?text=EXTEND_TIMEOUT_USEC=40000000"), "0");
    prebind.wait_status("the worker to live past its --start-timeout", |status| {
        let worker = &status["services"][0]["workers"][0];
        assert_eq!(worker["pid"].to_string(), pid, "not replaced");
        (worker["age_seconds"].as_f64()? > 3.5).then_some(())
    });
    prebind.stop();
}

#[test]
fn ten_thousand_words_of_a_stranger_are_dropped() {
    let mut prebind = started(&["-n", "2"], &[]);
    prebind.wait_ready();
    let pids = prebind.worker_pids();
    let where_to = probe::environ(&prebind.probe("web"))["NOTIFY_SOCKET"].clone();
    let address = match where_to.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&where_to),
    };
    let stranger = UnixDatagram::unbound().expect("socket");
    stranger.set_write_timeout(Some(DEADLINE)).expect("timeout");
    stranger.connect_addr(&address.expect("address")).expect("connect");
    for n in 0..10_000 {
        let word = match n % 5 {
            0 => format!("STATUS=stranger {n}"),
            1 => "STOPPING=1".to_owned(),
            2 => "WATCHDOG=trigger".to_owned(),
            3 => "x".repeat(5000),
            _ => format!("MAINPID={}", std::process::id()),
        };
        // With a time limit whatever interrupts this process is told (signal(7)).
        while let Err(why) = stranger.send(word.as_bytes()) {
            assert_eq!(why.kind(), std::io::ErrorKind::Interrupted, "sent, if only to be dropped: {why}");
        }
    }
    // What a worker says afterwards is still heard, and it was never a stranger's.
    assert_eq!(prebind.get("web", "/barrier"), "released");
    let status = prebind.wait_ready();
    assert!(!status.to_string().contains("stranger"), "{status}");
    assert_eq!(status["services"][0]["restarts"], 0);
    assert_eq!(prebind.worker_pids(), pids);
    prebind.stop();
}

/// The manager above us: a datagram socket, and all that was said to it.
struct Manager {
    socket: UnixDatagram,
    said: Vec<String>,
}

impl Manager {
    fn at(path: &str) -> Manager {
        let socket = UnixDatagram::bind(path).expect("bind");
        socket.set_read_timeout(Some(DEADLINE)).expect("timeout");
        Manager { socket, said: Vec::new() }
    }

    /// Reads until a line with that beginning comes; returns it.
    fn wait(&mut self, start: &str) -> String {
        loop {
            let mut text = [0; 4096];
            let n = match self.socket.recv(&mut text) {
                // With a time limit the kernel does not go on by itself after a signal to this process.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                said => said.unwrap_or_else(|e| panic!("{e} before {start}; said: {:?}", self.said)),
            };
            let text = String::from_utf8_lossy(&text[..n]).into_owned();
            let found = text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
            self.said.push(text);
            if let Some(line) = found {
                return line;
            }
        }
    }
}

#[test]
fn the_manager_above_hears_of_it_all() {
    let dir = TempDir::new();
    let outer = dir.join("up.sock");
    let mut manager = Manager::at(&outer);
    let options = ["-b", "web=127.0.0.1:0", "-n", "2", "--", probe::path()];
    let mut prebind = Setup::in_dir(dir, &options)
        .env("NOTIFY_SOCKET", &outer)
        .env("WATCHDOG_USEC", "400000")
        .wrapped(&["sh", "-c", "export WATCHDOG_PID=$$; exec \"$@\"", "sh"])
        .start();
    manager.wait("READY=1");
    assert_eq!(prebind.status()["services"][0]["ready"], 2, "READY=1 only when all are");
    let status = manager.said.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("STATUS=")).count();
    if status == 0 {
        manager.wait("STATUS=");
    }
    for _ in 0..3 {
        manager.wait("WATCHDOG=1");
    }
    let env = probe::environ(&prebind.probe("web"));
    assert_ne!(env["NOTIFY_SOCKET"], outer, "workers never see the outer socket");
    assert_eq!((env.get("WATCHDOG_USEC"), env.get("WATCHDOG_PID")), (None, None));
    let worker = prebind.worker_pids()[0];
    proc::kill(worker, libc::SIGKILL);
    let counts = manager.wait("STATUS=");
    assert!(counts.contains('1') || counts.contains('2'), "{counts}");
    prebind.signal(libc::SIGTERM);
    manager.wait("STOPPING=1");
    assert_eq!(prebind.wait_exit().code(), Some(0));
    let readies = manager.said.iter().flat_map(|text| text.lines()).filter(|line| *line == "READY=1").count();
    assert_eq!(readies, 1, "{:?}", manager.said);
}

#[test]
fn the_manager_above_hears_of_a_reload() {
    let dir = TempDir::new();
    let outer = dir.join("up.sock");
    let mut manager = Manager::at(&outer);
    let options = ["-b", "web=127.0.0.1:0", "-n", "2", "--", probe::path()];
    let prebind = Setup::in_dir(dir, &options).env("NOTIFY_SOCKET", &outer).start();
    manager.wait("READY=1");
    let old = prebind.worker_pids();
    let before = monotonic_usec();
    prebind.signal(libc::SIGHUP);
    let said: u64 = manager.wait("MONOTONIC_USEC=").split_once('=').expect("a value").1.parse().expect("a number");
    assert!((before..=monotonic_usec()).contains(&said), "{before} {said}");
    let text = manager.said.last().expect("it was said");
    assert!(text.lines().any(|line| line == "RELOADING=1"), "in one datagram: {text}");
    manager.wait("READY=1");
    // READY=1 when the upgrade is over: the old ones may still be stopping.
    let status = prebind.status();
    let workers = status["services"][0]["workers"].as_array().expect("workers");
    let ready = workers.iter().filter(|worker| worker["state"] == "ready");
    let new: Vec<i32> = ready.map(|worker| worker["pid"].as_i64().expect("a pid") as i32).collect();
    assert!(new.len() == 2 && old.iter().all(|pid| !new.contains(pid)), "{old:?}: {status}");
    prebind.stop();
}

fn monotonic_usec() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) }, 0);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

#[test]
fn ready_upward_waits_for_the_last_worker() {
    let dir = TempDir::new();
    let outer = dir.join("up.sock");
    let mut manager = Manager::at(&outer);
    let options = ["-b", "web=127.0.0.1:0", "-m", "notify", "--", probe::path(), "never-ready"];
    let mut prebind = Setup::in_dir(dir, &options).env("NOTIFY_SOCKET", &outer).start();
    prebind.get("web", "/pid");
    prebind.get("web", "/notify?text=READY=1");
    manager.wait("READY=1");
    assert_eq!(prebind.status()["services"][0]["ready"], 1);
    prebind.stop();
}
