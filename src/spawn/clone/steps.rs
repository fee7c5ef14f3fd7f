//! What the child does between clone and exec, as data: made by recipe.rs, followed by this room without a thought.

use crate::spawn::error::Stage;
use libc::{c_char, c_int};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::RawFd;
use std::ptr;

/// What the child does, ready to be done: the only input of the code after the clone.
#[derive(Debug)]
pub(in crate::spawn) struct Steps {
    /// A session of its own, not only a process group.
    pub(in crate::spawn) session: bool,
    /// SIGPIPE is ignored.
    pub(in crate::spawn) ignore_sigpipe: bool,
    /// Descriptors 0, 1 and 2.
    pub(in crate::spawn) standard: [Standard; 3],
    /// The terminal to be the foreground group of.
    pub(in crate::spawn) terminal: Option<RawFd>,
    /// cgroup.procs of the control group to enter.
    pub(in crate::spawn) cgroup: Option<RawFd>,
    /// Which descriptor becomes which. The targets are 3, 4, ... without a gap.
    pub(in crate::spawn) moves: Vec<(RawFd, RawFd)>,
    /// umask(2).
    pub(in crate::spawn) umask: Option<u32>,
    /// Number of the resource, soft and hard.
    pub(in crate::spawn) limits: Vec<(c_int, [u64; 2])>,
    /// Absolute.
    pub(in crate::spawn) nice: Option<i32>,
    /// Scheduling and the like.
    pub(in crate::spawn) tuning: Tuning,
    /// Capabilities and what goes with them.
    pub(in crate::spawn) privileges: Privileges,
    /// A limit, a priority or an OOM score that prebind may not set is no failure, as in systemd; see `skipped`.
    pub(in crate::spawn) lenient: bool,
    /// What was not set as it was asked for: written by the child.
    pub(in crate::spawn) skipped: Skipped,
    /// Whom to become.
    pub(in crate::spawn) change: Option<Change>,
    /// Where to go.
    pub(in crate::spawn) directory: CString,
    /// `directory` is entered with the rights of prebind, not of `change`.
    pub(in crate::spawn) directory_first: bool,
    /// Where it cannot be entered, `/` is.
    pub(in crate::spawn) directory_may_be_missing: bool,
    /// Signal at prebind's death, and prebind's pid.
    pub(in crate::spawn) parent_death: Option<(c_int, i32)>,
    /// The files to execute; the next is tried where one is missing or forbidden.
    pub(in crate::spawn) files: Vec<CString>,
    /// A file that the kernel does not know how to execute is given to a shell, as execvp(3) does.
    pub(in crate::spawn) shell: bool,
    /// Arguments, from the program's name.
    pub(in crate::spawn) arguments: Strings,
    /// The environment.
    pub(in crate::spawn) environment: Strings,
}

/// What a standard descriptor becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(in crate::spawn) enum Standard {
    /// prebind's own.
    #[default]
    Own,
    /// /dev/null.
    Null,
    /// A copy of that one; 0 and 1 mean the worker's.
    CopyOf(RawFd),
}

/// What is set by one system call each.
#[derive(Debug, Default)]
pub(in crate::spawn) struct Tuning {
    /// /proc/self/oom_score_adj.
    pub(in crate::spawn) oom_score_adjust: Option<i32>,
    /// /proc/self/coredump_filter.
    pub(in crate::spawn) coredump_filter: Option<u64>,
    /// Policy with its flag, and priority.
    pub(in crate::spawn) scheduling: Option<(c_int, c_int)>,
    /// A bit for each CPU; empty: as prebind.
    pub(in crate::spawn) affinity: Vec<usize>,
    /// Class and level as ioprio_set(2) takes them.
    pub(in crate::spawn) io_priority: Option<c_int>,
    /// PR_SET_TIMERSLACK.
    pub(in crate::spawn) timer_slack_ns: Option<u64>,
    /// personality(2).
    pub(in crate::spawn) personality: Option<u64>,
}

/// Capabilities, a bit each, and flags of credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::spawn) struct Privileges {
    /// What may ever be had; the rest is dropped.
    pub(in crate::spawn) bounding: Option<u64>,
    /// What the program has whoever it runs as.
    pub(in crate::spawn) ambient: u64,
    /// PR_SET_SECUREBITS; 0: left alone.
    pub(in crate::spawn) secure_bits: u32,
    /// PR_SET_NO_NEW_PRIVS.
    pub(in crate::spawn) no_new_privileges: bool,
}

/// What could not be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::spawn) struct Skipped {
    pub(in crate::spawn) cgroup: Option<Errno>,
    pub(in crate::spawn) oom_score_adjust: bool,
    pub(in crate::spawn) nice: bool,
    /// A bit for each of the limits: it was lowered to what may be had.
    pub(in crate::spawn) limits: u32,
}

/// The ids to change to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::spawn) struct Change {
    pub(in crate::spawn) uid: Option<u32>,
    /// `None`: prebind's.
    pub(in crate::spawn) gid: Option<u32>,
    pub(in crate::spawn) groups: Vec<u32>,
}

/// Where the child (or the clone) failed.
#[derive(Clone, Copy, Debug)]
pub(in crate::spawn) struct Failure {
    pub(in crate::spawn) stage: Stage,
    pub(in crate::spawn) errno: Errno,
    /// Which of several: the move, the limit, the file.
    pub(in crate::spawn) index: usize,
}

/// Room for a pid of the worker in its environment or its arguments.
pub(in crate::spawn) const PID_SLOT: &str = "0000000000";

/// NUL-terminated strings in one allocation.
#[derive(Debug, Default)]
pub(in crate::spawn) struct Strings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    /// Where [`PID_SLOT`]s begin that the child overwrites with its pid.
    pids: Vec<usize>,
}

impl Strings {
    /// Adds the string that `parts` make; `None` if it has a NUL in it. Returns where it starts.
    pub(in crate::spawn) fn push(&mut self, parts: &[&[u8]]) -> Option<usize> {
        if parts.iter().any(|part| part.contains(&0)) {
            return None;
        }
        let start = self.bytes.len();
        self.starts.push(start);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.push(0);
        Some(start)
    }

    /// A [`PID_SLOT`] begins there. To be called in the order of places.
    pub(in crate::spawn) fn pid_at(&mut self, place: usize) {
        self.pids.push(place);
    }

    /// The pid over every slot; what follows one in its string moves up. From the last to the first, so that no place
    /// is wrong by then. Runs in the child.
    pub(super) fn write_pid(&mut self, pid: i64) {
        for &place in self.pids.iter().rev() {
            if let Some(bytes) = self.bytes.get_mut(place..) {
                write_pid(bytes, pid);
            }
        }
    }

    /// An array for execve(2), with `room` empty places before the first.
    pub(super) fn pointers(&mut self, room: usize) -> Vec<*mut c_char> {
        let bytes = self.bytes.as_mut_ptr();
        let mut pointers = Vec::with_capacity(room + self.starts.len() + 1);
        pointers.resize(room, ptr::null_mut());
        // wrapping_add: each start is inside the allocation, by construction.
        pointers.extend(self.starts.iter().map(|&start| bytes.wrapping_add(start).cast::<c_char>()));
        pointers.push(ptr::null_mut());
        pointers
    }
}

/// Decimal digits over a [`PID_SLOT`], which is as long as any pid, and the rest of the string after them.
fn write_pid(bytes: &mut [u8], pid: i64) {
    let (mut divisor, mut to) = (1_000_000_000, 0);
    while divisor > 0 {
        let digit = (pid / divisor % 10) as u8;
        if digit != 0 || to > 0 {
            if let Some(byte) = bytes.get_mut(to) {
                *byte = b'0' | digit;
            }
            to += 1;
        }
        divisor /= 10;
    }
    let mut from = PID_SLOT.len();
    while let Some(&byte) = bytes.get(from) {
        if let Some(place) = bytes.get_mut(to) {
            *place = byte;
        }
        if byte == 0 {
            return;
        }
        (from, to) = (from + 1, to + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_stand_where_their_slots_were() {
        for (pid, text) in [(1, "a=1\0"), (4_194_304, "a=4194304\0"), (2_147_483_647, "a=2147483647\0")] {
            let mut strings = Strings::default();
            let start = strings.push(&[b"a=", PID_SLOT.as_bytes()]).unwrap();
            strings.pid_at(start + 2);
            strings.write_pid(pid);
            assert!(strings.bytes.starts_with(text.as_bytes()), "{:?}", strings.bytes);
        }
        let mut strings = Strings::default();
        let start = strings.push(&[b"<", PID_SLOT.as_bytes(), b"|", PID_SLOT.as_bytes(), b">"]).unwrap();
        strings.pid_at(start + 1);
        strings.pid_at(start + 12);
        let next = strings.push(&[b"next"]).unwrap();
        strings.write_pid(4711);
        assert!(strings.bytes.starts_with(b"<4711|4711>\0"), "{:?}", strings.bytes);
        assert_eq!(&strings.bytes[next..], b"next\0");
    }
}
