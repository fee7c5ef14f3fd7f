//! Chapter "Servers": programs that were not written for prebind, two copies each. Both answer, one is killed, the
//! service goes on, both answer again.

use crate::harness::{DEADLINE, Prebind, Setup, TempDir, get, proc, wait_for};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The directory of the applications that the servers run.
pub(crate) const WORKERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/workers");

/// A program of the Python environment that tests/setup makes.
pub(crate) fn python(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin").join(name);
    assert!(path.exists(), "{} is not there (run tests/setup)", path.display());
    path.to_str().expect("UTF-8").to_owned()
}

/// An example of this package, built beside this test.
pub(crate) fn example(name: &str) -> String {
    let test = std::env::current_exe().expect("this test");
    let path: PathBuf = test.ancestors().nth(2).expect("target/PROFILE").join("examples").join(name);
    assert!(path.exists(), "{} is not there (run cargo build --examples)", path.display());
    path.to_str().expect("UTF-8").to_owned()
}

/// Whether each of the workers answers while the others are halted.
pub(crate) fn each_answers(prebind: &mut Prebind, ask: impl Fn(SocketAddr) -> std::io::Result<String>) {
    let address = prebind.inet("web");
    let workers = prebind.worker_pids();
    assert_eq!(workers.len(), 2);
    for worker in &workers {
        let others: Vec<i32> = workers.iter().filter(|pid| *pid != worker).copied().collect();
        others.iter().for_each(|group| proc::kill_group(*group, libc::SIGSTOP));
        let still = |group: &i32| proc::members(*group).into_iter().all(proc::halted);
        wait_for("the others to halt", || others.iter().all(still).then_some(()));
        let answer = ask(address);
        others.iter().for_each(|group| proc::kill_group(*group, libc::SIGCONT));
        let answer = answer.unwrap_or_else(|why| panic!("worker {worker} alone: {why}\n{}", prebind.lines.all()));
        // Those that say who they are name a process of that worker's group.
        if let Some((_, pid)) = answer.rsplit_once("pid ") {
            let digits: String = pid.chars().take_while(char::is_ascii_digit).collect();
            let pid: i32 = digits.parse().expect("a pid");
            assert_eq!(proc::group(pid), Some(*worker), "{answer}");
        }
    }
}

fn two_copies(options: &[&str], command: &[&str]) {
    let mut prebind = Setup::new(&["-b", "web=127.0.0.1:0", "-n", "2", "-t", "20", "--chdir", WORKERS])
        .and(options)
        .and(&["--"])
        .and(command)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .start();
    prebind.wait_ready();
    each_answers(&mut prebind, |address| get(address, "/"));
    let before = prebind.worker_pids();
    proc::kill(before[0], libc::SIGKILL);
    // The other one and what waits in the queue: nobody is refused meanwhile.
    let address = prebind.inet("web");
    let start = std::time::Instant::now();
    loop {
        get(address, "/").unwrap_or_else(|why| panic!("after the kill: {why}\n{}", prebind.lines.all()));
        let pids = prebind.worker_pids();
        if pids.len() == 2 && !pids.contains(&before[0]) && prebind.status()["services"][0]["ready"] == 2 {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "no successor: {}", prebind.status());
    }
    prebind.wait_ready();
    wait_for("the killed one's children to go", || proc::members(before[0]).is_empty().then_some(()));
    each_answers(&mut prebind, |address| get(address, "/"));
    prebind.stop();
}

#[test]
fn chaussette() {
    two_copies(&[], &[&python("chaussette"), "--fd", "{SOCKET:web}", "app.app"]);
}

#[test]
fn gunicorn_by_fd() {
    two_copies(&[], &[&python("gunicorn"), "--no-control-socket", "--bind", "fd://{SOCKET:web}", "app:app"]);
}

#[test]
fn gunicorn_by_listen_fds() {
    two_copies(&[], &[&python("gunicorn"), "--no-control-socket", "app:app"]);
}

#[test]
fn uvicorn() {
    two_copies(&[], &[&python("uvicorn"), "--fd", "{SOCKET:web}", "app:asgi"]);
}

#[test]
fn node() {
    two_copies(&[], &["node", "server.js"]);
}

#[test]
fn axum_through_listenfd() {
    two_copies(&[], &[&example("axum")]);
}

/// Asks all the time while `act` runs; nobody is refused.
fn while_asked(prebind: &mut Prebind, act: impl FnOnce(&mut Prebind)) {
    let (address, done, answers) = (prebind.inet("web"), AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // What a server does with a connection that it took just before it was told to stop is its own affair.
                match get(address, "/") {
                    Err(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => panic!("refused"),
                    answer => answers.fetch_add(u32::from(answer.is_ok()), Ordering::Relaxed),
                };
            }
        });
        act(prebind);
        done.store(true, Ordering::Relaxed);
        client.join().unwrap_or_else(|_| panic!("a lost connection:\n{}", prebind.lines.all()));
    });
    assert!(answers.load(Ordering::Relaxed) > 0);
}

/// A server that says nothing and needs a second to start is upgraded while it is asked all the time: its successors
/// are ready when they wait on the socket, not before.
fn upgraded_under_load(command: &[&str]) {
    let mut prebind = Setup::new(&["-b", "web=127.0.0.1:0", "-n", "2", "-t", "20", "--chdir", WORKERS, "-vv", "--"])
        .and(command)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SLOW_START_SECONDS", "1.2")
        .start();
    prebind.wait_ready();
    // By time they would be ready sooner than they wait on the socket.
    wait_for("the servers", || get(prebind.inet("web"), "/").ok());
    let before = prebind.worker_pids();
    while_asked(&mut prebind, |prebind| {
        prebind.ctl(&["upgrade", "--strategy", "fleet", "--wait", "drained"]).code(0);
    });
    for pid in prebind.worker_pids() {
        assert!(!before.contains(&pid));
        prebind.lines.expect(&[&format!("worker {pid} "), "is ready (it waits on its sockets)"]);
    }
    prebind.stop();
}

#[test]
fn uvicorn_is_upgraded_without_a_word() {
    upgraded_under_load(&[&python("uvicorn"), "--fd", "{SOCKET:web}", "app:asgi"]);
}

#[test]
fn node_is_upgraded_without_a_word() {
    upgraded_under_load(&["node", "server.js"]);
}

/// gunicorn says READY=1 before it imports the application: --min-ready holds the old workers until then.
#[test]
fn gunicorn_that_is_slow_or_broken_is_upgraded_or_taken_back() {
    let dir = TempDir::new();
    let good = std::fs::read_to_string(Path::new(WORKERS).join("app.py")).expect("app.py");
    let install = |first: &str| {
        let draft = dir.path().join("app.new");
        std::fs::write(&draft, format!("{first}\n{good}")).expect("write");
        std::fs::rename(&draft, dir.path().join("app.py")).expect("rename");
    };
    // Read and compiled when it says so: what stands at the path from then on is no matter of the first two.
    install("import sys; print('imported', file=sys.stderr, flush=True)");
    let home = dir.join("");
    let gunicorn = python("gunicorn");
    let options = ["-b", "web=127.0.0.1:0", "-n", "2", "-s", "0.2", "--min-ready", "4", "--strategy", "fleet"];
    let mut prebind = Setup::new(&options)
        .and(&["--chdir", &home, "--", &gunicorn, "--no-control-socket", "app:app"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .start();
    prebind.wait_ready();
    wait_for("both to have read the application", || {
        (prebind.lines.all().matches("imported").count() == 2).then_some(())
    });
    wait_for("an answer", || get(prebind.inet("web"), "/").ok());
    let first = prebind.worker_pids();
    install("raise RuntimeError('broken')");
    while_asked(&mut prebind, |prebind| {
        prebind.ctl(&["upgrade"]).code(1).says(&["rolled back", "generation 1 serves on"]);
    });
    prebind.wait_ready();
    assert_eq!(prebind.worker_pids(), first, "the old ones never noticed");
    install("import time; time.sleep(3)");
    while_asked(&mut prebind, |prebind| {
        prebind.ctl(&["upgrade", "--wait", "drained"]).code(0);
    });
    prebind.wait_ready();
    get(prebind.inet("web"), "/").expect("an answer");
    prebind.stop();
}
