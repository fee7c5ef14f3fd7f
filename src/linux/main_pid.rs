//! MAINPID=: a worker's main process is another one from now on. Whether that is believed, and how the end is seen of
//! one that is no child of prebind's: by its pidfd.

#![allow(unsafe_code)]

use super::group::pidfd_open;
use crate::plan::Signal;
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// What is known of a process that is said to be a worker's main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) pid: i32,
    /// prebind's own pid.
    pub(super) own: i32,
    /// It runs.
    pub(super) lives: bool,
    /// It belongs to the worker that says so.
    pub(super) belongs: bool,
    /// It is another worker's, or a command around one.
    pub(super) taken: bool,
    /// Who says so has uid 0.
    pub(super) said_by_root: bool,
}

impl Named {
    /// Why it is not believed; `None`: it is.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        match *self {
            Named { pid: ..=1, .. } => Some("that is no worker"),
            Named { pid, own, .. } if pid == own => Some("that is prebind itself"),
            Named { lives: false, .. } => Some("no such process runs"),
            Named { taken: true, .. } => Some("that process is known as another one"),
            Named { belongs: false, said_by_root: false, .. } => Some("that process is none of the worker's"),
            Named { .. } => None,
        }
    }
}

/// Whether it is a child of ours, alive or not waited for yet: its end comes with SIGCHLD.
pub(super) fn is_child(pid: i32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(pid)), flags) != Err(Errno::ECHILD)
}

/// The process of a pidfd.
pub(super) fn pid_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

/// A process that is no child of ours. Readable once it ended.
#[derive(Debug)]
pub(super) struct Watch {
    pid: i32,
    fd: OwnedFd,
}

impl Watch {
    /// `None`: it is not there.
    pub(super) fn new(pid: i32) -> Option<Watch> {
        pidfd_open(pid).map(|fd| Watch { pid, fd })
    }

    /// In the next program.
    pub(super) fn thaw(pid: i32, fd: OwnedFd) -> Watch {
        Watch { pid, fd }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// To this very process, whatever becomes of its number.
    pub(super) fn signal(&self, signal: Signal) {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a plain system call on a descriptor that we own; no siginfo is passed.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal.0, none, 0) };
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_of_the_worker_is_believed_and_roots_word() {
        let fine = Named { pid: 20, own: 10, lives: true, belongs: true, taken: false, said_by_root: false };
        let cases = [
            (fine, None),
            (Named { belongs: false, said_by_root: true, ..fine }, None),
            (Named { belongs: false, ..fine }, Some("that process is none of the worker's")),
            (Named { pid: 1, said_by_root: true, ..fine }, Some("that is no worker")),
            (Named { pid: 10, said_by_root: true, ..fine }, Some("that is prebind itself")),
            (Named { lives: false, said_by_root: true, ..fine }, Some("no such process runs")),
            (Named { taken: true, said_by_root: true, ..fine }, Some("that process is known as another one")),
        ];
        for (named, refusal) in cases {
            assert_eq!(named.refusal(), refusal, "{named:?}");
        }
    }

    fn over(watch: &Watch) -> bool {
        poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn the_end_of_a_grandchild_is_seen_and_it_is_reached() {
        // The shell waits for the sleep, which so is no child of ours.
        let script = "sleep 1000 & echo $!; wait";
        let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let pid: i32 = line.trim().parse().unwrap();
        assert!(is_child(shell.id() as i32) && !is_child(pid));
        let watch = Watch::new(pid).unwrap();
        assert_eq!((watch.pid(), pid_of(watch.as_fd()), over(&watch)), (pid, Some(pid), false));
        watch.signal(Signal::KILL);
        let deadline = PollTimeout::from(30_000_u16);
        assert_eq!(poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], deadline), Ok(1));
        shell.wait().unwrap();
        assert!(over(&watch) && Watch::new(pid).is_none());
        assert_eq!(pid_of(std::io::stdin().as_fd()), None);
    }
}
