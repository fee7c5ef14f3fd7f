//! Chapter "On a terminal": with one worker it is the terminal's foreground; with several they read nothing.

use crate::harness::{Setup, probe, proc, wait_for};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// A pseudo-terminal, and a hook that makes its other end the controlling terminal and standard input.
fn terminal() -> (File, File, impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) {
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
    // Close-on-exec from birth: the terminal closes when this test lets go of it, whoever else starts programs.
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end");
    let name = ptsname_r(&master).expect("its name");
    let options = std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name);
    let slave = options.expect("open it");
    let number = slave.as_raw_fd();
    let hook = move || unsafe {
        // As a login leaves it: whoever runs the tests may ignore HUP (nohup does).
        libc::signal(libc::SIGHUP, libc::SIG_DFL);
        if libc::setsid() < 0 || libc::ioctl(number, libc::TIOCSCTTY, 0) < 0 || libc::dup2(number, 0) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    (File::from(OwnedFd::from(master)), slave, hook)
}

#[test]
fn one_worker_reads_the_terminal() {
    let (mut master, _slave, hook) = terminal();
    let script = "read line; echo \"READ $line\" >&2; exec sleep 1000";
    let mut prebind = Setup::new(&["--", "sh", "-c", script]).hook(hook).start();
    prebind.wait_ready();
    writeln!(master, "hello").expect("type");
    prebind.lines.expect(&["READ hello"]);
    let worker = prebind.worker_pids()[0];
    assert_eq!(unsafe { libc::tcgetpgrp(master.as_raw_fd()) }, worker, "its group is the foreground");
    prebind.stop();
}

#[test]
fn hup_leaves_the_terminal_to_the_next_worker() {
    let (master, _slave, hook) = terminal();
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0"], &["drain"]).hook(hook).start();
    prebind.wait_ready();
    let foreground = || unsafe { libc::tcgetpgrp(master.as_raw_fd()) };
    for generation in [2, 3] {
        let before = prebind.worker_pids();
        assert_eq!(foreground(), before[0]);
        prebind.signal(libc::SIGHUP);
        prebind.lines.expect(&[&format!("generation {generation} serves")]);
        wait_for("the next worker", || {
            (prebind.worker_pids().len() == 1 && prebind.worker_pids() != before).then_some(())
        });
        assert_eq!(foreground(), prebind.worker_pids()[0]);
    }
    prebind.stop();
}

#[test]
fn several_workers_read_nothing() {
    let (_master, _slave, hook) = terminal();
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0", "-n", "2"], &[]).hook(hook).start();
    prebind.wait_ready();
    assert_eq!(probe::fd(&prebind.probe("web"), 0)["target"], "/dev/null");
    prebind.stop();
}

#[test]
fn a_terminal_that_closes_stops_it() {
    let (mut master, slave, hook) = terminal();
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0", "-n", "2"], &[]).hook(hook).start();
    prebind.wait_ready();
    let workers = prebind.worker_pids();
    drop(slave);
    // Whatever was echoed is read first; then the line is cut, and the kernel sends HUP to the session's leader.
    let _ = nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    let _ = master.read(&mut [0; 256]);
    drop(master);
    assert_eq!(prebind.wait_exit().code(), Some(0));
    wait_for("the workers' end", || workers.iter().all(|pid| !proc::alive(*pid)).then_some(()));
}
