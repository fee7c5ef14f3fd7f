//! Chapter "Control": the socket and prebindctl; and that no client can hurt the service.

use crate::harness::{Lines, Prebind, Setup, TempDir, prebindctl_path, probe, proc};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

fn started(options: &[&str]) -> Prebind {
    let mut all = vec!["-b", "web=127.0.0.1:0"];
    all.extend(options);
    let mut prebind = Setup::probe(&all, &[]).start();
    prebind.wait_ready();
    prebind
}

/// The service goes on with the workers that it had, and status tells so.
fn unharmed(prebind: &mut Prebind, pids: &[i32]) {
    let status = prebind.wait_ready();
    assert_eq!(status["services"][0]["restarts"], 0);
    assert_eq!(prebind.worker_pids(), pids);
    prebind.ctl(&["status"]).code(0);
    prebind.get("web", "/pid");
}

/// A field and the type that it must have.
type Field = (&'static str, fn(&Value) -> bool);

fn is(value: &Value, fields: &[Field]) {
    for (name, right) in fields {
        assert!(value.get(name).is_some_and(right), "{name} in {value}");
    }
}

#[test]
fn status_has_this_shape() {
    let mut prebind = started(&["-n", "2"]);
    let text = prebind.ctl(&["status", "--json"]).code(0).stdout.clone();
    let status: Value = serde_json::from_str(&text).expect("JSON");
    is(
        &status,
        &[
            ("pid", Value::is_u64),
            ("version", Value::is_string),
            ("state", Value::is_string),
            ("uptime_seconds", Value::is_number),
            ("sockets", Value::is_array),
            ("services", Value::is_array),
        ],
    );
    assert_eq!(
        (&status["pid"], &status["version"], &status["state"]),
        (&prebind.pid().into(), &env!("CARGO_PKG_VERSION").into(), &"running".into())
    );
    let address = prebind.inet("web").to_string();
    assert_eq!(
        status["sockets"],
        json!([{"name": "web", "kind": "tcp", "address": address, "inherited": false, "queue": 0}])
    );
    let service = &status["services"][0];
    assert_eq!((&service["name"], &service["number"], &service["ready"]), (&"probe".into(), &2.into(), &2.into()));
    assert_eq!((&service["generation"], &service["restarts"]), (&1.into(), &0.into()));
    assert!(service.get("last_upgrade").is_some(), "{service}");
    for (slot, worker) in service["workers"].as_array().expect("workers").iter().enumerate() {
        is(
            worker,
            &[
                ("slot", Value::is_u64),
                ("pid", Value::is_u64),
                ("generation", Value::is_u64),
                ("state", Value::is_string),
                ("age_seconds", Value::is_number),
                ("status", Value::is_string),
                ("next_try_seconds", Value::is_null),
                ("last_exit", Value::is_null),
            ],
        );
        assert_eq!((&worker["slot"], &worker["state"]), (&slot.into(), &"ready".into()));
    }
    proc::kill(prebind.worker_pids()[1], libc::SIGKILL);
    let last = prebind.wait_status("the last exit of slot 1", |status| {
        let last = status["services"][0]["workers"][1]["last_exit"].clone();
        last.is_object().then_some(last)
    });
    assert_eq!((&last["code"], &last["signal"]), (&Value::Null, &"KILL".into()));
    assert!(last["seconds_ago"].is_number(), "{last}");
    prebind.stop();
}

#[test]
fn connections_that_wait_are_counted() {
    let mut prebind = started(&[]);
    let worker = prebind.worker_pids()[0];
    let address = prebind.inet("web");
    proc::kill(worker, libc::SIGSTOP);
    crate::harness::wait_for("the worker to halt", || proc::halted(worker).then_some(()));
    let clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).expect("connect")).collect();
    prebind.wait_status("a queue of 3", |status| (status["sockets"][0]["queue"] == 3).then_some(()));
    proc::kill(worker, libc::SIGCONT);
    drop(clients);
    prebind.stop();
}

#[test]
fn the_table_reads_well_on_eighty_columns() {
    let prebind = started(&["-n", "3"]);
    let table = prebind.ctl(&["status"]).code(0).stdout.clone();
    for word in ["web", "probe", "127.0.0.1:", "ready"] {
        assert!(table.contains(word), "{word} in\n{table}");
    }
    for pid in prebind.worker_pids() {
        assert!(table.contains(&pid.to_string()), "{pid} in\n{table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "too wide:\n{table}");
    prebind.stop();
}

#[test]
fn exit_codes_of_prebindctl() {
    let prebind = started(&[]);
    for (arguments, code) in [
        (vec!["ready"], 0),
        (vec!["ready", "--json"], 0),
        (vec!["nonsense"], 2),
        (vec!["scale"], 2),
        (vec!["signal", "NOSUCH"], 2),
        (vec!["restart", "nosuch"], 1),
        (vec!["signal", "nosuch", "USR1"], 1),
    ] {
        let finished = prebind.ctl(&arguments);
        assert_eq!(finished.status.code(), Some(code), "{arguments:?}: {finished:?}");
    }
    prebind.stop();
    let nobody = TempDir::new();
    let mut command = Command::new(prebindctl_path());
    command.args(["-d", &nobody.join("none.sock"), "status"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(command.output().expect("prebindctl").status.code(), Some(111));
}

#[test]
fn a_signal_to_all_workers() {
    let mut prebind = started(&["-n", "2"]);
    let before = prebind.worker_pids();
    prebind.ctl(&["signal", "USR1"]).code(0); // the probe dies of it
    prebind.wait_status("two others", |status| {
        let workers = status["services"][0]["workers"].as_array()?;
        let fresh = |w: &Value| w["state"] == "ready" && w["last_exit"]["signal"] == "USR1";
        (workers.len() == 2 && workers.iter().all(fresh)).then_some(())
    });
    assert!(prebind.worker_pids().iter().all(|pid| !before.contains(pid)));
    prebind.stop();
}

#[test]
fn events_as_they_happen() {
    let prebind = started(&["-n", "2"]);
    let mut command = Command::new(prebindctl_path());
    command.args(["-d", prebind.control().path().to_str().expect("UTF-8"), "events"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("events");
    let events = Lines::of(child.stdout.take().expect("piped"));
    let complaints = Lines::of(child.stderr.take().expect("piped"));
    let worker = prebind.worker_pids()[0];
    // Subscribed once an event arrives: scale until then.
    let mut number = 2;
    crate::harness::wait_for("the subscription", || {
        number = 5 - number;
        prebind.ctl(&["scale", &number.to_string()]).code(0);
        (events.count() > 0).then_some(())
    });
    proc::kill(worker, libc::SIGKILL);
    let line = events.expect(&[&worker.to_string(), "KILL"]);
    let event: Value = serde_json::from_str(&line).expect("one JSON object per line");
    assert_eq!((&event["pid"], &event["slot"], &event["service"]), (&worker.into(), &0.into(), &"probe".into()));
    prebind.stop();
    crate::harness::wait_for("the end of events", || child.try_wait().expect("wait"));
    drop(complaints);
}

#[test]
fn garbage_is_refused() {
    let mut prebind = started(&["-n", "2"]);
    let pids = prebind.worker_pids();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..100 {
        let mut stream = prebind.control().connect().expect("connect");
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        let text: &[u8] = match round % 8 {
            0 => b"\n\n\n",
            1 => b"{\"command\":\n",
            2 => b"{\"command\":\"status\",\"id\":{\"a\":[1,2,3]}}\n",
            3 => b"{\"command\":17}\n[1,2]\nnull\n",
            4 => b"{\"command\":\"scale\",\"options\":{\"number\":-5}}\n",
            5 => b"--- {command: nosuch}\n",
            6 => b"%ff%00%zz\n",
            _ => &bytes,
        };
        let _ = stream.write_all(text);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new()); // ends: nobody is left hanging
    }
    unharmed(&mut prebind, &pids);
    prebind.stop();
}

#[test]
fn a_line_of_ten_megabytes_is_refused() {
    let mut prebind = started(&["-n", "2"]);
    let pids = prebind.worker_pids();
    let mut stream = prebind.control().connect().expect("connect");
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..160 {
        // It may be cut off at any moment.
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let mut reply = Vec::new();
    let _ = stream.write_all(b"\n");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut reply);
    unharmed(&mut prebind, &pids);
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", prebind.pid())).expect("statm");
    let resident: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    assert!(resident * 4096 < 64 << 20, "it did not keep the line: {resident} pages");
    prebind.stop();
}

#[test]
fn five_hundred_half_open_clients() {
    let mut prebind = started(&["-n", "2"]);
    let pids = prebind.worker_pids();
    let mut clients = Vec::new();
    for n in 0..500 {
        let mut stream = prebind.control().connect().expect("connect");
        if n % 2 == 0 {
            let _ = stream.write_all(b"{\"command\":\"sta");
        }
        clients.push(stream);
    }
    unharmed(&mut prebind, &pids);
    drop(clients);
    unharmed(&mut prebind, &pids);
    prebind.stop();
}

#[test]
fn a_client_that_reads_nothing() {
    let mut prebind = started(&["-n", "2"]);
    let pids = prebind.worker_pids();
    let mut stream = prebind.control().connect().expect("connect");
    stream.set_nonblocking(true).expect("nonblocking");
    for _ in 0..20_000 {
        if stream.write_all(b"{\"command\":\"status\",\"id\":1}\n").is_err() {
            break; // prebind reads no more from one who does not listen
        }
    }
    unharmed(&mut prebind, &pids);
    prebind.stop();
}

#[test]
fn a_second_one_on_the_same_socket_is_refused() {
    let dir = TempDir::new();
    let (control, pidfile) = (dir.join("ctl.sock"), dir.join("pid"));
    let mut first =
        Setup::in_dir(dir, &["-b", "web=127.0.0.1:0", "-e", &pidfile, "-n", "2", "--", "sleep", "1000"]).start();
    first.wait_ready();
    let pids = first.worker_pids();
    let node = std::fs::metadata(&control).expect("the socket").ino();
    assert_eq!(std::fs::read_to_string(&pidfile).expect("pid file").trim(), first.pid().to_string());
    let second = Setup::new(&["-d", &control, "-e", &pidfile, "-b", "web=127.0.0.1:0", "--", "sleep", "1000"]);
    second.no_default_control().finish().code(111).says(&[&control]);
    assert_eq!(std::fs::metadata(&control).expect("the socket").ino(), node);
    assert_eq!(std::fs::read_to_string(&pidfile).expect("pid file").trim(), first.pid().to_string());
    first.wait_ready();
    assert_eq!(first.worker_pids(), pids);
    first.signal(libc::SIGTERM);
    assert_eq!(first.wait_exit().code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(first.dir.path()).expect("dir").flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "socket and pid file are removed at the end, not so {left:?}");
}

#[test]
fn a_lock_file_keeps_a_second_one_out() {
    let dir = TempDir::new();
    let lock = dir.join("lock");
    let mut first = Setup::in_dir(dir, &["-f", &lock, "--", "sleep", "1000"]).start();
    first.wait_ready();
    Setup::new(&["-f", &lock, "--", "sleep", "1000"]).finish().code(111).says(&[&lock]);
    first.stop();
}

#[test]
fn found_by_name() {
    let name = format!("real-{}", std::process::id());
    let mut prebind = Setup::probe(&["-c", &name, "-b", "web=127.0.0.1:0"], &[]).no_default_control().start();
    prebind.wait_named(&name, "ready");
    // A name that was asked for is not given to two.
    let second = Setup::new(&["-c", &name, "--", "sleep", "1000"]).no_default_control();
    second.env("XDG_RUNTIME_DIR", prebind.dir.path().to_str().expect("UTF-8")).finish().code(111).says(&[&name]);
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

#[test]
fn without_a_control_socket() {
    let port = crate::harness::free_port();
    let bind = format!("web=127.0.0.1:{port}");
    let mut prebind = Setup::probe(&["--no-control", "-b", &bind], &[]).no_default_control().start();
    let address = format!("127.0.0.1:{port}").parse().expect("address");
    crate::harness::wait_for("an answer", || crate::harness::get(address, "/pid").ok());
    assert!(!prebind.control().path().exists());
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

#[test]
fn strangers_may_not_command() {
    if !crate::harness::is_root("strangers_may_not_command") {
        return;
    }
    let mut prebind = started(&[]);
    let pids = prebind.worker_pids();
    let path = prebind.control().path().to_str().expect("UTF-8").to_owned();
    // With python3 as another user: the socket may refuse the connection or the command, but must not obey.
    let script = "
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
    try:
        s.sendall(b'{\"command\":\"stop\",\"id\":1}\\n')
    except BrokenPipeError:
        pass # refused before it was read
    print(s.recv(4096).decode())
except OSError as error:
    print(error)
";
    let output = Command::new("python3").args(["-c", script, &path]).output().expect("python3");
    let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
    assert!(said.contains("refused") || said.contains("permission"), "{said}");
    unharmed(&mut prebind, &pids);
    prebind.stop();
}

/// Circus's words, as its users type them.
#[test]
fn words_of_circusctl() {
    let mut prebind =
        Setup::new(&["-b", "web=127.0.0.1:0", "-n", "2", "-c", "web", "--"]).and(&[probe::path()]).start();
    prebind.wait_ready();
    let said = |prebind: &Prebind, words: &[&str]| prebind.ctl(words).code(0).stdout.trim_end().to_owned();
    assert_eq!(said(&prebind, &["list"]), "web");
    assert_eq!(said(&prebind, &["numwatchers"]), "1");
    assert_eq!(said(&prebind, &["numprocesses", "WEB"]), "2", "names are Circus's in any case");
    assert!(said(&prebind, &["listsockets"]).starts_with("web: tcp 127.0.0.1:"));
    assert_eq!(said(&prebind, &["incr"]), "3");
    prebind.wait_number(3);
    assert_eq!(said(&prebind, &["decr", "web", "2"]), "1");
    let pids = prebind.wait_number(1);
    assert_eq!(said(&prebind, &["list", "web"]), pids[0].to_string());
    let stats: Value = serde_json::from_str(&said(&prebind, &["stats", "--json"])).expect("JSON");
    assert_eq!(stats[0]["pid"], pids[0]);
    assert!(stats[0]["resident_kib"].as_u64() > Some(100) && stats[0]["descriptors"].as_u64() > Some(3), "{stats}");
    let table = said(&prebind, &["stats"]);
    assert!(table.starts_with("SERVICE") && table.lines().count() == 2, "{table}");
    prebind.ctl(&["list", "wep"]).code(1).says(&["there is no service wep (there is web)"]);
    prebind.stop();
}
