//! Chapter "Servers": programs that were not written for prebind, two copies each. Both answer, one is killed, the
//! service goes on, both answer again.

use crate::harness::{DEADLINE, Prebind, Setup, get, proc, wait_for};
use std::path::{Path, PathBuf};

/// The directory of the applications that the servers run.
const WORKERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/workers");

/// A program of the Python environment that tests/setup makes.
fn python(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin").join(name);
    assert!(path.exists(), "{} is not there (run tests/setup)", path.display());
    path.to_str().expect("UTF-8").to_owned()
}

/// An example of this package, built beside this test.
fn example(name: &str) -> String {
    let test = std::env::current_exe().expect("this test");
    let path: PathBuf = test.ancestors().nth(2).expect("target/PROFILE").join("examples").join(name);
    assert!(path.exists(), "{} is not there (run cargo build --examples)", path.display());
    path.to_str().expect("UTF-8").to_owned()
}

/// Whether each of the workers answers while the others are halted.
fn each_answers(prebind: &mut Prebind) {
    let address = prebind.inet("web");
    let workers = prebind.worker_pids();
    assert_eq!(workers.len(), 2);
    for worker in &workers {
        let others: Vec<i32> = workers.iter().filter(|pid| *pid != worker).copied().collect();
        others.iter().for_each(|group| proc::kill_group(*group, libc::SIGSTOP));
        let still = |group: &i32| proc::members(*group).into_iter().all(proc::halted);
        wait_for("the others to halt", || others.iter().all(still).then_some(()));
        let answer = get(address, "/");
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
    let mut prebind = Setup::new(&["-b", "web=127.0.0.1:0,n", "-n", "2", "-t", "20", "--chdir", WORKERS])
        .and(options)
        .and(&["--"])
        .and(command)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .start();
    prebind.wait_ready();
    each_answers(&mut prebind);
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
    each_answers(&mut prebind);
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
