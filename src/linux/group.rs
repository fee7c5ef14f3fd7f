//! The process group of a worker whose main process was reaped, and what is left of it.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// PIDFD_SIGNAL_PROCESS_GROUP of pidfd_send_signal(2), Linux 6.9.
const PROCESS_GROUP: libc::c_uint = 1 << 2;

/// The process group of a child that was reaped.
#[derive(Debug)]
pub(super) enum Group {
    /// Reached by pidfd, whatever becomes of the number.
    Pidfd(OwnedFd),
    /// An older kernel: by number.
    Number,
}

impl Group {
    /// False: there is nobody in it.
    pub(super) fn signal(&self, pgid: i32, signal: i32) -> bool {
        match self {
            Group::Pidfd(fd) => {
                // SAFETY: a plain system call on a descriptor that we own; no siginfo is passed.
                let sent = unsafe {
                    libc::syscall(
                        libc::SYS_pidfd_send_signal,
                        fd.as_raw_fd(),
                        signal,
                        std::ptr::null::<libc::siginfo_t>(),
                        PROCESS_GROUP,
                    )
                };
                match sent {
                    0 => true,
                    _ if Errno::last() == Errno::EINVAL => Group::Number.signal(pgid, signal),
                    _ => Errno::last() == Errno::EPERM,
                }
            }
            // SAFETY: a plain system call.
            Group::Number => unsafe { libc::kill(-pgid, signal) == 0 || Errno::last() == Errno::EPERM },
        }
    }
}

pub(super) fn pidfd_open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: a plain system call; the descriptor that it returns is new and ours, close-on-exec by itself.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// A reaper of everything would take the children of other tests: here each is waited for by its pid.
    #[test]
    fn a_group_outlives_its_leader_and_is_reached_by_pidfd() {
        let script = "sleep 1000 & echo; exit 0";
        let mut leader = Command::new("sh")
            .args(["-c", script])
            .process_group(0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sh runs");
        let pid = leader.id() as i32;
        let fd = pidfd_open(pid).expect("pidfd_open");
        leader.wait().expect("it ends");
        let group = Group::Pidfd(fd);
        assert!(group.signal(pid, 0), "the sleep is left");
        assert!(group.signal(pid, libc::SIGKILL));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while group.signal(pid, 0) {
            assert!(std::time::Instant::now() < deadline, "the killed sleep goes");
            std::thread::yield_now();
        }
    }
}
