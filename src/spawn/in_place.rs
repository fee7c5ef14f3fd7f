//! Another program in this very process: its descriptors are placed, its environment is given, and nothing of prebind is
//! left. For the names under which prebind only listens (systemd-socket-activate).
#![allow(unsafe_code)]

use libc::{c_int, c_void};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::execvpe;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Where a descriptor is to stand: these get copies of it. Every other one from 3 on is closed.
#[derive(Debug)]
pub struct Placed {
    /// Itself.
    pub fd: OwnedFd,
    /// Its numbers.
    pub targets: Vec<RawFd>,
}

impl Placed {
    /// A descriptor that was inherited by its number, which nobody else in this process owns.
    pub fn inherited(number: RawFd, targets: Vec<RawFd>) -> Placed {
        // SAFETY: the caller was started with it, for this one use; one that is not open makes the placing fail.
        Placed { fd: unsafe { OwnedFd::from_raw_fd(number) }, targets }
    }
}

/// Runs `words` in the place of this program, found in PATH. Returns why that failed.
pub fn exec_in_place(placed: &[Placed], words: &[CString], environment: &[CString]) -> Errno {
    if let Err(errno) = place(placed) {
        return errno;
    }
    default_signals();
    let Some(program) = words.first() else { return Errno::EINVAL };
    let Err(errno) = execvpe(program, words, environment);
    errno
}

/// This process ends with its parent: `parent` must still be it.
pub fn die_with_parent(parent: i32) -> bool {
    // SAFETY: prctl(PR_SET_PDEATHSIG) takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0) };
    nix::unistd::getppid().as_raw() == parent
}

/// The soft limit of open files that programs expect: select(2) knows no more.
pub fn modest_nofile() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft.min(1024), hard);
    }
}

fn place(placed: &[Placed]) -> Result<(), Errno> {
    let first_free = 3 + placed.iter().map(|one| one.targets.len() as RawFd).sum::<RawFd>();
    // All are lifted out of the way before any is put in its place.
    let lifted: Vec<RawFd> = placed
        .iter()
        // SAFETY: a plain system call on a descriptor that we own.
        .map(|one| Errno::result(unsafe { libc::fcntl(one.fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, first_free) }))
        .collect::<Result<_, _>>()?;
    for (one, source) in placed.iter().zip(lifted) {
        for target in &one.targets {
            // SAFETY: what stood at the target is not used by anybody any more: the program is about to be replaced.
            Errno::result(unsafe { libc::dup2(source, *target) })?;
        }
    }
    let last = placed.iter().flat_map(|one| &one.targets).max().copied().unwrap_or(0).max(2);
    // SAFETY: marks, does not close: what is owned stays valid until the exec.
    unsafe {
        libc::syscall(libc::SYS_close_range, last + 1, c_int::MAX, 4 /* CLOSE_RANGE_CLOEXEC */)
    };
    Ok(())
}

/// Dispositions and mask that a program expects to find.
fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: the default action runs no code of ours. Those that cannot be changed are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let none = 0_u64;
    // SAFETY: eight zero bytes, the kernel's signal set.
    unsafe {
        let before = std::ptr::null_mut::<c_void>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, before, 8_usize)
    };
}
