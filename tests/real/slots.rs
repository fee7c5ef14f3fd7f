//! Chapter "A socket for each slot": even load, and nothing lost when workers come and go.

use crate::harness::{Prebind, Setup, get, probe, proc, wait_for};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The embedded worker, which drains when it is told to stop.
fn demo(number: &str) -> Prebind {
    let mut prebind = Setup::new(&["-b", "web=127.0.0.1:0,slots", "-n", number]).start();
    prebind.wait_ready();
    prebind
}

/// Asks all the time from four threads while `act` runs; each connection must be answered.
fn under_load(prebind: &mut Prebind, act: impl FnOnce(&mut Prebind)) {
    let (address, done, answers) = (prebind.inet("web"), AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        get(address, "/").map_err(|why| (why.kind() == ErrorKind::ConnectionRefused, why))?;
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<(), (bool, std::io::Error)>(())
                })
            })
            .collect();
        act(prebind);
        done.store(true, Ordering::Relaxed);
        for client in clients {
            let lost = client.join().expect("a client").err();
            assert!(lost.is_none(), "lost (refused, why): {lost:?}\n{}", prebind.lines.all());
        }
    });
    assert!(answers.load(Ordering::Relaxed) > 0);
}

/// The slots that answer so many requests, each over a connection of its own.
fn slots_seen(prebind: &mut Prebind, requests: usize) -> BTreeSet<u64> {
    let address = prebind.inet("web");
    let answer = || get(address, "/").expect("an answer");
    (0..requests)
        .map(|_| serde_json::from_str::<serde_json::Value>(&answer()).expect("JSON")["slot"].as_u64().expect("a slot"))
        .collect()
}

#[test]
fn each_slot_has_its_own() {
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0,slots", "-n", "3"], &[]).start();
    prebind.wait_ready();
    let mut nodes = BTreeSet::new();
    for _ in 0..200 {
        let seen = prebind.probe("web");
        assert_eq!(probe::numbers(&seen), [0, 1, 2, 3], "one descriptor in each worker");
        nodes.insert(probe::fd(&seen, 3)["target"].as_str().expect("a socket").to_owned());
    }
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    prebind.stop();
}

#[test]
fn restarts_lose_nothing() {
    let mut prebind = demo("3");
    under_load(&mut prebind, |prebind| {
        for n in 0..15 {
            prebind.ctl(&["restart", "--slot", &(n % 3).to_string()]).code(0);
        }
        prebind.ctl(&["upgrade", "--strategy", "fleet", "--wait", "drained"]).code(0);
    });
    assert_eq!(slots_seen(&mut prebind, 100).len(), 3);
    prebind.stop();
}

#[test]
fn scaling_loses_nothing() {
    let mut prebind = demo("2");
    under_load(&mut prebind, |prebind| {
        for number in [6, 2, 5, 1, 4, 6, 3, 2, 4] {
            prebind.ctl(&["scale", &number.to_string()]).code(0);
            prebind.wait_number(number);
        }
    });
    assert_eq!(slots_seen(&mut prebind, 150), (0..4).collect());
    prebind.stop();
}

#[test]
fn a_killed_workers_queue_waits_for_its_successor() {
    let mut prebind = demo("2");
    for _ in 0..5 {
        let address = prebind.inet("web");
        let worker = prebind.worker_pids()[0];
        proc::kill(worker, libc::SIGSTOP);
        wait_for("the worker to halt", || proc::halted(worker).then_some(()));
        let clients: Vec<_> = (0..8).map(|_| std::thread::spawn(move || get(address, "/"))).collect();
        prebind.wait_status("a connection in the queue", |status| {
            status["sockets"][0]["queue"].as_u64().is_some_and(|queue| queue > 0).then_some(())
        });
        proc::kill(worker, libc::SIGKILL);
        for client in clients {
            client.join().expect("a client").expect("an answer");
        }
        prebind.wait_ready();
    }
    prebind.stop();
}

#[test]
fn where_it_cannot_be_it_is_a_problem() {
    for address in ["web=/tmp/no.sock,slots", "web=@no,slots", "web=fd:0,slots"] {
        Setup::new(&["-b", address, "-n", "2", "--", "sleep", "1"]).finish().code(100).says(&["slot"]);
    }
}
