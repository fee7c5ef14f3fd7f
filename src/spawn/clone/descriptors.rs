//! The child's descriptors: 0, 1 and 2, then those from 3 on; every other one is closed by the exec.

use super::steps::{Failure, Standard, Steps};
use crate::spawn::error::Stage;
use libc::c_int;
use nix::errno::Errno;
use std::os::fd::RawFd;

pub(super) fn place(steps: &mut Steps) -> Result<(), Failure> {
    let stages = [Stage::StandardInput, Stage::StandardOutput, Stage::StandardError];
    for (target, (standard, stage)) in (0..).zip(steps.standard.iter().zip(stages)) {
        standard_descriptor(target, *standard, stage)?;
    }
    let first_free = 3 + steps.moves.len() as RawFd;
    // A source that stands in the place of another is lifted out of the way before anything is overwritten.
    for (index, (source, target)) in steps.moves.iter_mut().enumerate() {
        if (3..first_free).contains(source) && source != target {
            let lift = libc::F_DUPFD_CLOEXEC;
            *source = must!(Stage::Descriptors, index, libc::SYS_fcntl, *source, lift, first_free) as RawFd;
        }
    }
    for (index, &(source, target)) in steps.moves.iter().enumerate() {
        if source == target {
            must!(Stage::Descriptors, index, libc::SYS_fcntl, target, libc::F_SETFD, 0);
        } else {
            must!(Stage::Descriptors, index, libc::SYS_dup3, source, target, 0);
        }
    }
    // All of prebind's are close-on-exec already; this is for what a library opened without. Old kernels refuse.
    // SAFETY: a plain system call on this process's own descriptor table.
    unsafe {
        libc::syscall(libc::SYS_close_range, first_free, c_int::MAX, 4 /* CLOSE_RANGE_CLOEXEC */)
    };
    Ok(())
}

fn standard_descriptor(target: c_int, standard: Standard, stage: Stage) -> Result<(), Failure> {
    match standard {
        Standard::Own => {}
        Standard::CopyOf(source) if source == target => {
            must!(stage, 0, libc::SYS_fcntl, target, libc::F_SETFD, 0);
        }
        Standard::CopyOf(source) => {
            must!(stage, 0, libc::SYS_dup3, source, target, 0);
        }
        Standard::Null => {
            let flags = if target == 0 { libc::O_RDONLY } else { libc::O_WRONLY };
            let null = must!(stage, 0, libc::SYS_openat, libc::AT_FDCWD, c"/dev/null".as_ptr(), flags, 0) as c_int;
            if null != target {
                must!(stage, 0, libc::SYS_dup3, null, target, 0);
                must!(stage, 0, libc::SYS_close, null);
            }
        }
    }
    Ok(())
}
