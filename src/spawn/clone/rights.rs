//! Umask, limits, priorities, ids, directory. Raising anything comes before the rights to do so are given up;
//! PR_SET_PDEATHSIG after, because a change of uid clears it. The order is systemd's where it shows.

use super::capabilities;
use super::steps::{Change, Failure, Steps, Tuning};
use crate::spawn::error::Stage;
use libc::{c_int, c_long, c_ulong, c_void};
use nix::errno::Errno;
use std::ptr;

pub(super) fn set(steps: &mut Steps) -> Result<(), Failure> {
    if let Some(score) = steps.tuning.oom_score_adjust
        && let Err(failure) = oom_score_adjust(score)
    {
        lenient(steps.lenient, failure)?;
        steps.skipped.oom_score_adjust = true;
    }
    if let Some(mask) = steps.umask {
        // SAFETY: a plain number; umask(2) always succeeds.
        unsafe { libc::syscall(libc::SYS_umask, mask) };
    }
    limits(steps)?;
    if let Some(nice) = steps.nice
        && let Err(failure) = set_nice(nice)
    {
        lenient(steps.lenient, failure)?;
        steps.skipped.nice = true;
    }
    tune(&steps.tuning)?;
    let steps = &*steps;
    if steps.directory_first {
        enter(steps)?;
    }
    capabilities::before_ids(&steps.privileges, changes_uid(steps))?;
    if let Some(change) = &steps.change {
        become_who(change)?;
    }
    capabilities::after_ids(&steps.privileges)?;
    if !steps.directory_first {
        enter(steps)?;
    }
    capabilities::last(&steps.privileges, changes_uid(steps))?;
    if let Some((signal, parent)) = steps.parent_death {
        must!(Stage::ParentDeath, 0, libc::SYS_prctl, libc::PR_SET_PDEATHSIG, signal, 0, 0, 0);
        // SAFETY: no arguments.
        if unsafe { libc::syscall(libc::SYS_getppid) } != c_long::from(parent) {
            return Err(Failure { stage: Stage::ParentDeath, errno: Errno::ESRCH, index: 0 });
        }
    }
    Ok(())
}

fn changes_uid(steps: &Steps) -> bool {
    steps.change.as_ref().is_some_and(|change| change.uid.is_some())
}

/// A failure that systemd lives with.
fn lenient(lenient: bool, failure: Failure) -> Result<(), Failure> {
    if lenient && matches!(failure.errno, Errno::EPERM | Errno::EACCES) { Ok(()) } else { Err(failure) }
}

/// The kernel spares prebind, whose memory this is, because the child is in vfork: only the child's own score changes.
fn oom_score_adjust(score: i32) -> Result<(), Failure> {
    let path = c"/proc/self/oom_score_adj".as_ptr();
    let file = must!(Stage::OomScore, 0, libc::SYS_openat, libc::AT_FDCWD, path, libc::O_WRONLY | libc::O_CLOEXEC, 0);
    let mut text = [0u8; 5]; // -1000 to 1000
    let mut rest = score.unsigned_abs();
    let mut start = text.len();
    while start > 1 && (rest > 0 || start == text.len()) {
        start -= 1;
        text[start] = b'0' | (rest % 10) as u8;
        rest /= 10;
    }
    if score < 0 {
        start -= 1;
        text[start] = b'-';
    }
    let digits = text.as_ptr().wrapping_add(start);
    // The exec closes it.
    must!(Stage::OomScore, 0, libc::SYS_write, file, digits, text.len() - start);
    Ok(())
}

fn limits(steps: &mut Steps) -> Result<(), Failure> {
    for (index, (resource, limit)) in steps.limits.iter().enumerate() {
        let Err(failure) = set_limit(index, *resource, limit) else { continue };
        lenient(steps.lenient, failure)?;
        let mut own = [0u64; 2];
        must!(Stage::Limit, index, libc::SYS_prlimit64, 0, *resource, ptr::null::<c_void>(), own.as_mut_ptr());
        let hard = own[1];
        set_limit(index, *resource, &[limit[0].min(hard), limit[1].min(hard)])?;
        steps.skipped.limits |= 1 << index;
    }
    Ok(())
}

fn set_limit(index: usize, resource: c_int, limit: &[u64; 2]) -> Result<(), Failure> {
    must!(Stage::Limit, index, libc::SYS_prlimit64, 0, resource, limit.as_ptr(), ptr::null_mut::<c_void>());
    Ok(())
}

fn set_nice(nice: i32) -> Result<(), Failure> {
    must!(Stage::Nice, 0, libc::SYS_setpriority, libc::PRIO_PROCESS as c_long, 0, nice);
    Ok(())
}

fn tune(tuning: &Tuning) -> Result<(), Failure> {
    if let Some((policy, priority)) = tuning.scheduling {
        must!(Stage::Scheduling, 0, libc::SYS_sched_setscheduler, 0, policy, &raw const priority);
    }
    if !tuning.affinity.is_empty() {
        let (set, length) = (tuning.affinity.as_ptr(), size_of_val(tuning.affinity.as_slice()));
        must!(Stage::Affinity, 0, libc::SYS_sched_setaffinity, 0, length, set);
    }
    if let Some(priority) = tuning.io_priority {
        must!(Stage::IoPriority, 0, libc::SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, priority);
    }
    if let Some(nanos) = tuning.timer_slack_ns {
        must!(Stage::TimerSlack, 0, libc::SYS_prctl, libc::PR_SET_TIMERSLACK, nanos as c_ulong, 0, 0, 0);
    }
    if let Some(personality) = tuning.personality {
        must!(Stage::Personality, 0, libc::SYS_personality, personality as c_ulong);
    }
    Ok(())
}

fn become_who(change: &Change) -> Result<(), Failure> {
    must!(Stage::Groups, 0, ids::SETGROUPS, change.groups.len(), change.groups.as_ptr());
    if let Some(gid) = change.gid {
        must!(Stage::SetGroup, 0, ids::SETRESGID, gid, gid, gid);
    }
    if let Some(uid) = change.uid {
        must!(Stage::SetUser, 0, ids::SETRESUID, uid, uid, uid);
    }
    Ok(())
}

fn enter(steps: &Steps) -> Result<(), Failure> {
    match chdir(steps.directory.as_ptr()) {
        Err(_) if steps.directory_may_be_missing => chdir(c"/".as_ptr()),
        result => result,
    }
}

fn chdir(path: *const libc::c_char) -> Result<(), Failure> {
    must!(Stage::Directory, 0, libc::SYS_chdir, path);
    Ok(())
}

/// The id calls of the kernel: libc's would signal the other threads of a process whose memory we only borrow.
mod ids {
    use libc::c_long;

    #[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
    pub(super) const SETGROUPS: c_long = libc::SYS_setgroups;
    #[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
    pub(super) const SETRESGID: c_long = libc::SYS_setresgid;
    #[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
    pub(super) const SETRESUID: c_long = libc::SYS_setresuid;
    #[cfg(any(target_arch = "x86", target_arch = "arm"))]
    pub(super) const SETGROUPS: c_long = libc::SYS_setgroups32;
    #[cfg(any(target_arch = "x86", target_arch = "arm"))]
    pub(super) const SETRESGID: c_long = libc::SYS_setresgid32;
    #[cfg(any(target_arch = "x86", target_arch = "arm"))]
    pub(super) const SETRESUID: c_long = libc::SYS_setresuid32;
}
