//! Chapter "Signals", the worst case: a thousand of them within a second.

use crate::harness::{Setup, get, wait_for};
use std::time::{Duration, Instant};

#[test]
fn a_thousand_signals_then_term() {
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0", "-n", "3", "-t", "20"], &[]).start();
    prebind.wait_ready();
    let kinds = [
        libc::SIGHUP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGUSR1,
        libc::SIGWINCH,
        libc::SIGCHLD,
        libc::SIGALRM,
        libc::SIGPIPE,
    ];
    let begun = Instant::now();
    for n in 0..1000_u32 {
        prebind.signal(kinds[n as usize % kinds.len()]);
        // Spread over nine tenths of a second, so that they do not all merge.
        let due = begun + Duration::from_micros(900) * n;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    assert!(prebind.child.try_wait().expect("wait").is_none(), "it lives\n{}", prebind.lines.all());
    // Workers are still being replaced, and probes do not drain: a connection may be lost with its worker, none is refused.
    let address = prebind.inet("web");
    wait_for("an answer", || match get(address, "/pid") {
        Err(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => panic!("{why}\n{}", prebind.lines.all()),
        answer => answer.ok(),
    });
    prebind.stop();
}

#[test]
fn term_in_the_midst_of_it() {
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0", "-n", "2", "-t", "20"], &[]).start();
    prebind.wait_ready();
    for n in 0..1000 {
        prebind.signal([libc::SIGHUP, libc::SIGTTIN, libc::SIGWINCH, libc::SIGUSR1][n % 4]);
        if n == 500 {
            prebind.signal(libc::SIGTERM);
        }
    }
    assert_eq!(prebind.wait_exit().code(), Some(0));
}
