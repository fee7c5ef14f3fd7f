//! clone(2) and the child between clone and exec: no allocation, no look-up, no libc call that keeps state.
//! Receives [`Steps`], hands back the pid or the [`Failure`] that the child left in the shared memory. The child's work
//! in its order: signals, session, descriptors.rs, rights.rs with capabilities.rs, exec.
//!
//! CLONE_VM | CLONE_VFORK: the child borrows prebind's memory while prebind's thread waits, as posix_spawn(3) does.
//! So a launch costs no copy of page tables, and the child reports a failure by writing it down. It also means
//! that a signal handler must never run in the child, and that setresuid makes prebind itself undumpable.
#![allow(unsafe_code)]

/// A system call that must succeed.
macro_rules! must {
    ($stage:expr, $index:expr, $number:expr $(, $argument:expr)*) => {{
        // SAFETY: a plain system call in the child; pointers among the arguments are to memory of `Call` or of the
        // child's stack, which live until exec.
        let result = unsafe { libc::syscall($number $(, $argument)*) };
        if result == -1 {
            return Err(Failure { stage: $stage, errno: Errno::last(), index: $index });
        }
        result
    }};
}

mod capabilities;
mod coredump;
mod descriptors;
mod rights;
mod steps;

pub(super) use steps::{Change, Failure, PID_SLOT, Privileges, Skipped, Standard, Steps, Strings, Tuning};

use super::error::Stage;
use libc::{c_char, c_int, c_long, c_void};
use nix::errno::Errno;
use std::cell::OnceCell;
use std::convert::Infallible;
use std::ffi::CStr;
use std::ptr;

/// The child's stack, with a page below it that faults. Made once per thread and used again: prebind's thread waits
/// while a child is on it, so there is never more than one. The child touches one page of it.
#[derive(Debug)]
struct Stack {
    base: *mut c_void,
}

impl Stack {
    const SIZE: usize = 64 * 1024;
    const GUARD: usize = 64 * 1024; // a whole page, however large pages are

    fn new() -> Result<Stack, Errno> {
        // SAFETY: a new anonymous mapping; nothing that exists is touched.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Stack::GUARD + Stack::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let stack = Stack { base };
        // SAFETY: the first GUARD bytes of our own mapping, which nobody uses yet.
        Errno::result(unsafe { libc::mprotect(base, Stack::GUARD, libc::PROT_NONE) })?;
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(Stack::GUARD + Stack::SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, made in `new`; no child is on it (see Stack).
        unsafe { libc::munmap(self.base, Stack::GUARD + Stack::SIZE) };
    }
}

thread_local! {
    static STACK: OnceCell<Stack> = const { OnceCell::new() };
    /// The signals that prebind handles or ignores, a bit each. Its handlers stand before the first worker is
    /// launched, and never change.
    static NOT_DEFAULT: OnceCell<u64> = const { OnceCell::new() };
}

/// Asks the kernel for every disposition that is not the default.
fn not_default() -> u64 {
    let mut found = 0;
    for signal in 1..=64_u32 {
        // The kernel's struct sigaction; its first word is the handler, 0 is SIG_DFL.
        let mut action = [0_u64; 8];
        let none = ptr::null::<c_void>();
        // SAFETY: the kernel writes at most 64 bytes of a disposition into our array, and changes nothing.
        let asked = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, none, action.as_mut_ptr(), 8_usize) };
        if asked == 0 && action[0] != 0 {
            found |= 1 << (signal - 1);
        }
    }
    found
}

/// What the child sees: the steps as arrays for execve(2), and the place for its failure.
struct Call<'a> {
    steps: &'a mut Steps,
    /// One empty place, then the arguments: with the place filled it is a shell's argument list.
    arguments: Vec<*mut c_char>,
    environment: Vec<*mut c_char>,
    /// The signals to reset, a bit each.
    not_default: u64,
    failure: Option<Failure>,
}

/// Clones and lets the child do `steps`. On failure the child has been waited for.
pub(super) fn run(steps: &mut Steps) -> Result<i32, Failure> {
    let refused = |errno| Failure { stage: Stage::Clone, errno, index: 0 };
    // What makes a process undumpable is a change of credentials.
    let changes_rights = steps.change.is_some() || steps.privileges != Privileges::default();
    let _own_filter = steps.tuning.coredump_filter.map(coredump::lend).transpose()?;
    let arguments = steps.arguments.pointers(1);
    let environment = steps.environment.pointers(0);
    // The tests change dispositions between launches; prebind does not.
    let not_default = if cfg!(test) { not_default() } else { NOT_DEFAULT.with(|cell| *cell.get_or_init(not_default)) };
    let mut call = Call { steps, arguments, environment, not_default, failure: None };
    let pid = STACK.with(|cell| {
        if cell.get().is_none() {
            let _ = cell.set(Stack::new()?);
        }
        let top = cell.get().map(Stack::top).ok_or(Errno::ENOMEM)?;
        clone_blocked(top, &mut call, changes_rights)
    });
    let pid = pid.map_err(refused)?;
    match call.failure {
        None => Ok(pid),
        Some(failure) => {
            // SAFETY: plain system call on our own child, which is exiting; its status is not wanted.
            while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } == -1 && Errno::last() == Errno::EINTR {}
            Err(failure)
        }
    }
}

/// The clone itself, with every signal blocked around it, those that libc keeps for itself included.
fn clone_blocked(top: *mut c_void, call: &mut Call, changes_rights: bool) -> Result<i32, Errno> {
    // SAFETY: prctl(PR_GET_DUMPABLE) takes no pointers.
    let dumpable = changes_rights && unsafe { libc::prctl(libc::PR_GET_DUMPABLE) } == 1;
    let before = set_signal_mask(u64::MAX);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: `top` is the end of a mapping that only this child uses; `call` outlives the child's use of our
    // memory, because CLONE_VFORK holds this thread until the child has executed or exited; `child` never returns.
    let pid = unsafe { libc::clone(child, top, flags, ptr::from_mut(call).cast()) };
    let errno = Errno::last();
    set_signal_mask(before);
    if dumpable {
        // The child's setresuid cleared the flag on the memory that it shared with us: core dumps and ptrace of
        // prebind would be gone, and its /proc entries be root's.
        // SAFETY: prctl(PR_SET_DUMPABLE) takes no pointers.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
    }
    if pid == -1 { Err(errno) } else { Ok(pid) }
}

/// rt_sigprocmask(2) itself: libc's keeps its own two signals out of the mask.
fn set_signal_mask(mask: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: two pointers to eight bytes, the size of the kernel's signal set.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &mask, &mut before, 8usize) };
    before
}

/// Runs in the child, on its own stack, in prebind's memory.
extern "C" fn child(call: *mut c_void) -> c_int {
    // SAFETY: `call` is the Call of `clone_blocked`, whose thread is held until we are done with it.
    let call = unsafe { &mut *call.cast::<Call>() };
    let Err(failure) = work(call);
    call.failure = Some(failure);
    // SAFETY: ends this process at once: no destructor, no atexit handler of prebind runs.
    unsafe { libc::_exit(127) }
}

fn work(call: &mut Call) -> Result<Infallible, Failure> {
    reset_signals(call.not_default);
    if call.steps.ignore_sigpipe {
        set_disposition(libc::SIGPIPE, libc::SIG_IGN);
    }
    if let Some(group) = call.steps.cgroup {
        // First of all: what may be entered by prebind, not by whom the worker becomes. "0" is who writes.
        // SAFETY: one byte of a constant; a descriptor that prebind holds open until the child is done with it.
        let entered = unsafe { libc::syscall(libc::SYS_write, group, c"0".as_ptr(), 1_usize) };
        call.steps.skipped.cgroup = (entered != 1).then(Errno::last);
    }
    if call.steps.session {
        must!(Stage::Session, 0, libc::SYS_setsid);
    } else {
        must!(Stage::ProcessGroup, 0, libc::SYS_setpgid, 0, 0);
    }
    // SAFETY: no arguments. The system call itself: the number must be this process's, whatever libc remembers.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) };
    if let Some(terminal) = call.steps.terminal {
        // SIGTTOU, which this would raise in a background group, is blocked like all others.
        let group = pid as c_int;
        must!(Stage::Terminal, 0, libc::SYS_ioctl, terminal, libc::TIOCSPGRP as c_long, &raw const group);
    }
    descriptors::place(call.steps)?;
    rights::set(call.steps)?;
    call.steps.environment.write_pid(pid);
    call.steps.arguments.write_pid(pid);
    set_signal_mask(0);
    execute(call)
}

/// Every disposition to its default: a handler must not run in shared memory once signals are unblocked, and an
/// ignored signal would stay ignored through exec.
fn reset_signals(not_default: u64) {
    for signal in (1..=64).filter(|signal| not_default & (1 << (signal - 1)) != 0) {
        set_disposition(signal, libc::SIG_DFL);
    }
}

fn set_disposition(signal: c_int, disposition: libc::sighandler_t) {
    // struct sigaction of the kernel, on every architecture: the handler, no flags, no restorer, empty mask.
    let action = [disposition as u64, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: reads at most 64 bytes of our array.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null_mut::<c_void>(), 8usize) };
}

fn execute(call: &mut Call) -> Result<Infallible, Failure> {
    let mut failure = Failure { stage: Stage::Exec, errno: Errno::ENOENT, index: 0 };
    for (index, file) in call.steps.files.iter().enumerate() {
        let arguments = call.arguments.as_mut_ptr();
        let mut errno = exec(file, arguments.wrapping_add(1), &call.environment);
        if errno == Errno::ENOEXEC && call.steps.shell {
            // A script without #!: a shell runs it, as execvp(3) does.
            if let [shell, name, ..] = call.arguments.as_mut_slice() {
                *shell = c"/bin/sh".as_ptr().cast_mut();
                *name = file.as_ptr().cast_mut();
            }
            errno = exec(c"/bin/sh", arguments, &call.environment);
        }
        // "Forbidden" says more than "missing".
        if index == 0 || failure.errno != Errno::EACCES {
            failure = Failure { stage: Stage::Exec, errno, index };
        }
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) {
            break;
        }
    }
    Err(failure)
}

fn exec(file: &CStr, arguments: *const *mut c_char, environment: &[*mut c_char]) -> Errno {
    // SAFETY: a path and two arrays that end in a null pointer, all alive.
    unsafe { libc::syscall(libc::SYS_execve, file.as_ptr(), arguments, environment.as_ptr()) };
    Errno::last()
}
