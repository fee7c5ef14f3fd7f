//! Chapter "What can go wrong": bad input gets an exit code that tells whose fault it is, and a message that tells
//! what to do.

use crate::harness::{Setup, TempDir, free_port, is_root, probe};
use std::net::TcpListener;
use std::path::Path;

#[test]
fn usage_errors() {
    for (arguments, words) in [
        (vec!["--bindd", "web=127.0.0.1:0", "--", "true"], vec!["--bindd", "--bind"]),
        (vec!["--nubmer", "3", "--", "true"], vec!["--nubmer", "--number"]),
        (vec!["-n", "many", "--", "true"], vec!["many"]),
        (vec!["-n", "-1", "--", "true"], vec!["-1"]),
        (vec!["-t", "soon", "--", "true"], vec!["soon"]),
        (vec!["--stop-signal", "TREM", "--", "true"], vec!["TREM", "TERM"]),
        (vec!["--restart", "sometimes", "--", "true"], vec!["sometimes"]),
        (vec!["-b", "80", "--"], vec!["command"]),
        (vec!["-e", "K=V", "--", "true"], vec!["K=V", "--env"]),
        (vec!["-l", "8080", "--", "true"], vec!["-b 8080"]),
        (vec!["-s", "3000", "--", "true"], vec!["-b 3000"]),
        (vec!["--workers", "3", "--", "true"], vec!["-n"]),
        (vec!["--listen", "127.0.0.1:80", "--", "true"], vec!["-b"]),
        (vec![], vec![]),
    ] {
        Setup::new(&arguments).finish().code(2).says(&words);
    }
}

#[test]
fn every_problem_of_a_plan_at_once() {
    let dir = TempDir::new();
    let path = dir.join("made.sock");
    let finished = Setup::new(&[
        "-b",
        &path,
        "-b",
        "web=127.0.0.1:0",
        "-b",
        "web=127.0.0.1:0",
        "-b",
        "x=127.0.0.1:0,backlgo=3",
        "-b",
        "y=127.0.0.1:99999",
        "--",
        "true",
        "{SOCKET:wbe}",
        "<SOCKET:zzz>",
    ])
    .finish();
    // -d and its path come first: the words above are arguments 3 and on.
    finished.code(100).says(&["argument 8", "argument 10", "argument 12", "argument 15", "argument 16"]);
    finished.says(&["web", "backlgo", "backlog", "99999", "wbe", "zzz"]);
    assert!(finished.stderr.to_lowercase().contains("did you mean"), "{}", finished.stderr);
    assert!(!Path::new(&path).exists(), "nothing was bound");
}

#[test]
fn bad_addresses() {
    for address in
        ["[::1", "1.2.3.4.5:80", "udp:", "vsock:x:y", "fd:x", "web=", "@", "127.0.0.1:http", "unix:relative/path"]
    {
        let finished = Setup::new(&["-b", address, "--", "true"]).finish();
        finished.code(100).says(&["argument 4"]);
    }
    for bind in ["bad name=127.0.0.1:0", "a:b=127.0.0.1:0", "w=127.0.0.1:0,mode=999", "w=127.0.0.1:0,backlog=lots"] {
        Setup::new(&["-b", bind, "--", "true"]).finish().code(100);
    }
}

#[test]
fn no_worker_and_no_way_to_start_one() {
    Setup::new(&["-b", "127.0.0.1:0", "-n", "0", "--no-control", "--", "true"]).finish().code(100);
}

#[test]
fn an_address_in_use_names_its_holder() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("address").to_string();
    Setup::probe(&["-b", &format!("web={address}")], &[]).finish().code(111).says(&[
        "cannot bind",
        &address,
        "address in use",
        "argument 4",
        &format!("pid {}", std::process::id()),
    ]);
}

#[test]
fn no_permission() {
    if !is_root("no_permission") {
        return;
    }
    let closed = TempDir::new();
    let path = closed.join("web.sock");
    let hook = || match unsafe { libc::setuid(65534) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    let setup = Setup::new(&["--no-control", "-b", &path, "--", "true"]).no_default_control().copied();
    setup.hook(hook).finish().code(111).says(&[&path, "permission denied"]);
}

#[test]
fn no_such_user_or_group() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    for options in [
        &["--user", "no-such-user"][..],
        &["--group", "no-such-group"],
        &["-b", &format!("{path},user=no-such-user")],
        &["-b", &format!("{path},group=no-such-group")],
    ] {
        Setup::new(options).and(&["--", "true"]).finish().code(111).says(&["no such", "no-such-"]);
        assert!(!Path::new(&path).exists());
    }
}

#[test]
fn options_that_mean_nothing() {
    for (options, words) in [
        (["-b", "@prebind-real-x,user=daemon"], &["user", "argument 4"][..]),
        (["-b", "udp:127.0.0.1:0,backlog=3"], &["backlog", "argument 4"]),
        (["--limit", "nofiles=3"], &["nofiles", "did you mean nofile"]),
    ] {
        Setup::new(&options).and(&["--", "true"]).finish().code(100).says(words);
    }
}

#[test]
fn a_path_that_is_too_long() {
    let path = format!("/tmp/{}", "x".repeat(150));
    Setup::new(&["-b", &path, "--", "true"]).finish().code(111).says(&["too long"]);
}

#[test]
fn an_unassigned_address() {
    Setup::new(&["-b", "192.0.2.1:0", "--", "true"]).finish().code(111).says(&["cannot bind 192.0.2.1:0"]);
}

#[test]
fn a_descriptor_that_is_not_open() {
    let finished = Setup::new(&["-b", "fd:77", "--", "true"]).finish();
    assert!(matches!(finished.status.code(), Some(100 | 111)), "{finished:?}");
    finished.says(&["77"]);
}

#[test]
fn a_worker_that_binds_its_own_port_is_never_ready() {
    let port = free_port();
    let own = format!("bind={port}");
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0"], &["close", "never-ready", &own]).start();
    let line = prebind.lines.expect(&["web", "socket"]);
    let worker = prebind.worker_pids()[0];
    assert!(line.contains(&worker.to_string()), "{line}");
    let status = prebind.wait_status("its grace time to pass", |status| {
        (status["services"][0]["workers"][0]["age_seconds"].as_f64()? > 1.2).then(|| status.clone())
    });
    assert_eq!(status["services"][0]["ready"], 0);
    assert_eq!(status["services"][0]["workers"][0]["state"], "starting");
    prebind.ctl(&["ready"]).code(1);
    prebind.stop();
}

#[test]
fn check_opens_nothing_and_tells_all() {
    let dir = TempDir::new();
    let path = dir.join("web.sock");
    let bind = format!("web={path}");
    let words = ["-b", &bind, "-n", "3", "--check", "--", "app", "{SOCKET:web}"];
    let finished = Setup::new(&words).finish();
    for word in ["web", &path, "app", "no-pid", "3"] {
        assert!(finished.code(0).stdout.contains(word), "'{word}' is missing in {}", finished.stdout);
    }
    let json = Setup::new(&[&words[..5], &["--json"], &words[5..]].concat()).finish();
    let plan: serde_json::Value = serde_json::from_str(&json.code(0).stdout).expect("JSON");
    assert!(plan.is_object(), "{plan}");
    assert!(!Path::new(&path).exists());
    Setup::new(&["-b", "web=nonsense", "--check", "--", "app"]).finish().code(100);
}

#[test]
fn help_and_version() {
    for (option, word) in [("--help", "--bind"), ("-h", "--bind"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let finished = Setup::new(&[option]).finish();
        assert!(finished.code(0).stdout.contains(word), "{option}: {finished:?}");
    }
}

#[test]
fn placeholders_without_a_socket() {
    for word in ["{SOCKET}", "{SOCKET:web}", "<SOCKET:web>", "{PORT:web}"] {
        Setup::new(&["--", "true", word]).finish().code(100).says(&["argument 5"]);
    }
    Setup::new(&["-b", "127.0.0.1:0", "-b", "127.0.0.1:0", "--", probe::path(), "{SOCKET}"]).finish().code(100);
}
