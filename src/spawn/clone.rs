//! clone(2) and the child between clone and exec: no allocation, no look-up, no libc call that keeps state.
//! Receives [`Steps`], hands back the pid or the [`Failure`] that the child left in the shared memory.
//!
//! CLONE_VM | CLONE_VFORK: the child borrows prebind's memory while prebind's thread waits, as posix_spawn(3) does.
//! So a launch costs no copy of page tables, and the child reports a failure by writing it down. It also means
//! that a signal handler must never run in the child, and that setresuid makes prebind itself undumpable.
#![allow(unsafe_code)]

use super::error::Stage;
use libc::{c_char, c_int, c_long, c_void};
use nix::errno::Errno;
use std::cell::OnceCell;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use std::ptr;

/// What the child does, ready to be done: the only input of the code after the clone.
#[derive(Debug)]
pub(super) struct Steps {
    /// Descriptor 0 becomes /dev/null.
    pub(super) stdin_null: bool,
    /// The terminal to be the foreground group of.
    pub(super) terminal: Option<RawFd>,
    /// Which descriptor becomes which. The targets are 3, 4, ... without a gap.
    pub(super) moves: Vec<(RawFd, RawFd)>,
    /// umask(2).
    pub(super) umask: Option<u32>,
    /// Number of the resource, soft and hard.
    pub(super) limits: Vec<(c_int, [u64; 2])>,
    /// Absolute.
    pub(super) nice: Option<i32>,
    /// Whom to become.
    pub(super) change: Option<Change>,
    /// Where to go.
    pub(super) directory: CString,
    /// `directory` is entered with the rights of prebind, not of `change`.
    pub(super) directory_first: bool,
    /// Signal at prebind's death, and prebind's pid.
    pub(super) parent_death: Option<(c_int, i32)>,
    /// The files to execute; the next is tried where one is missing or forbidden.
    pub(super) files: Vec<CString>,
    /// Arguments, from the program's name.
    pub(super) arguments: Strings,
    /// The environment.
    pub(super) environment: Strings,
    /// Offsets into `environment` of [`PID_SLOT`]s that the child overwrites with its pid.
    pub(super) pid_slots: Vec<usize>,
}

/// Room for a pid of the worker in its environment.
pub(super) const PID_SLOT: &str = "0000000000";

/// The ids to change to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) uid: Option<u32>,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Where the child (or the clone) failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) errno: Errno,
    /// Which of several: the move, the limit, the file.
    pub(super) index: usize,
}

/// NUL-terminated strings in one allocation.
#[derive(Debug, Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Strings {
    /// Adds the string that `parts` make; `None` if it has a NUL in it. Returns where it starts.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> Option<usize> {
        if parts.iter().any(|part| part.contains(&0)) {
            return None;
        }
        let start = self.bytes.len();
        self.starts.push(start);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.push(0);
        Some(start)
    }

    /// An array for execve(2), with `room` empty places before the first.
    fn pointers(&mut self, room: usize) -> Vec<*mut c_char> {
        let bytes = self.bytes.as_mut_ptr();
        let mut pointers = Vec::with_capacity(room + self.starts.len() + 1);
        pointers.resize(room, ptr::null_mut());
        // wrapping_add: each start is inside the allocation, by construction.
        pointers.extend(self.starts.iter().map(|&start| bytes.wrapping_add(start).cast::<c_char>()));
        pointers.push(ptr::null_mut());
        pointers
    }
}

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
    let changes_user = steps.change.is_some();
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
        clone_blocked(top, &mut call, changes_user)
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
fn clone_blocked(top: *mut c_void, call: &mut Call, changes_user: bool) -> Result<i32, Errno> {
    // SAFETY: prctl(PR_GET_DUMPABLE) takes no pointers.
    let dumpable = changes_user && unsafe { libc::prctl(libc::PR_GET_DUMPABLE) } == 1;
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

/// A system call that must succeed.
macro_rules! must {
    ($stage:expr, $index:expr, $number:expr $(, $argument:expr)*) => {{
        // SAFETY: a plain system call in the child; pointers among the arguments are to memory of `Call`, which
        // lives until exec.
        let result = unsafe { libc::syscall($number $(, $argument)*) };
        if result == -1 {
            return Err(Failure { stage: $stage, errno: Errno::last(), index: $index });
        }
        result
    }};
}

fn work(call: &mut Call) -> Result<Infallible, Failure> {
    reset_signals(call.not_default);
    must!(Stage::ProcessGroup, 0, libc::SYS_setpgid, 0, 0);
    // SAFETY: no arguments. The system call itself: the number must be this process's, whatever libc remembers.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) };
    if let Some(terminal) = call.steps.terminal {
        // SIGTTOU, which this would raise in a background group, is blocked like all others.
        let group = pid as c_int;
        must!(Stage::Terminal, 0, libc::SYS_ioctl, terminal, libc::TIOCSPGRP as c_long, &raw const group);
    }
    descriptors(call.steps)?;
    rights(call.steps)?;
    for &slot in &call.steps.pid_slots {
        write_pid(call.steps.environment.bytes.get_mut(slot..), pid);
    }
    set_signal_mask(0);
    execute(call)
}

/// Every disposition to its default: a handler must not run in shared memory once signals are unblocked, and an
/// ignored signal would stay ignored through exec.
fn reset_signals(not_default: u64) {
    // struct sigaction of the kernel, all zero on every architecture: SIG_DFL, no flags, empty mask.
    let default = [0u64; 8];
    for signal in (1..=64_u32).filter(|signal| not_default & (1 << (signal - 1)) != 0) {
        // SAFETY: reads at most 64 zero bytes.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<c_void>(), 8usize) };
    }
}

fn descriptors(steps: &mut Steps) -> Result<(), Failure> {
    if steps.stdin_null {
        let path = c"/dev/null".as_ptr();
        let null = must!(Stage::StandardInput, 0, libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY, 0);
        if null != 0 {
            must!(Stage::StandardInput, 0, libc::SYS_dup3, null, 0, 0);
            must!(Stage::StandardInput, 0, libc::SYS_close, null);
        }
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

/// Umask, limits, priority, ids, directory. Raising anything comes before the rights to do so are given up;
/// PR_SET_PDEATHSIG after, because a change of uid clears it.
fn rights(steps: &Steps) -> Result<(), Failure> {
    if let Some(mask) = steps.umask {
        // SAFETY: a plain number; umask(2) always succeeds.
        unsafe { libc::syscall(libc::SYS_umask, mask) };
    }
    for (index, (resource, limit)) in steps.limits.iter().enumerate() {
        must!(Stage::Limit, index, libc::SYS_prlimit64, 0, *resource, limit.as_ptr(), ptr::null_mut::<c_void>());
    }
    if let Some(nice) = steps.nice {
        must!(Stage::Nice, 0, libc::SYS_setpriority, libc::PRIO_PROCESS as c_long, 0, nice);
    }
    if steps.directory_first {
        must!(Stage::Directory, 0, libc::SYS_chdir, steps.directory.as_ptr());
    }
    if let Some(change) = &steps.change {
        must!(Stage::Groups, 0, ids::SETGROUPS, change.groups.len(), change.groups.as_ptr());
        must!(Stage::SetGroup, 0, ids::SETRESGID, change.gid, change.gid, change.gid);
        if let Some(uid) = change.uid {
            must!(Stage::SetUser, 0, ids::SETRESUID, uid, uid, uid);
        }
    }
    if !steps.directory_first {
        must!(Stage::Directory, 0, libc::SYS_chdir, steps.directory.as_ptr());
    }
    if let Some((signal, parent)) = steps.parent_death {
        must!(Stage::ParentDeath, 0, libc::SYS_prctl, libc::PR_SET_PDEATHSIG, signal, 0, 0, 0);
        // SAFETY: no arguments.
        if unsafe { libc::syscall(libc::SYS_getppid) } != c_long::from(parent) {
            return Err(Failure { stage: Stage::ParentDeath, errno: Errno::ESRCH, index: 0 });
        }
    }
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

/// Decimal digits and a NUL over a [`PID_SLOT`], which is as long as any pid.
fn write_pid(slot: Option<&mut [u8]>, pid: c_long) {
    let Some(slot) = slot else { return };
    let mut divisor = 1_000_000_000;
    let mut bytes = slot.iter_mut();
    let mut started = false;
    while divisor > 0 {
        let digit = (pid / divisor % 10) as u8;
        started |= digit != 0;
        if started && let Some(byte) = bytes.next() {
            *byte = b'0' | digit;
        }
        divisor /= 10;
    }
    if let Some(byte) = bytes.next() {
        *byte = 0;
    }
}

fn execute(call: &mut Call) -> Result<Infallible, Failure> {
    let mut failure = Failure { stage: Stage::Exec, errno: Errno::ENOENT, index: 0 };
    for (index, file) in call.steps.files.iter().enumerate() {
        let arguments = call.arguments.as_mut_ptr();
        let mut errno = exec(file, arguments.wrapping_add(1), &call.environment);
        if errno == Errno::ENOEXEC {
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
