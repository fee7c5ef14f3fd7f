//! The system calls that need unsafe, each behind a safe function: raw socket options, raw descriptor numbers, message
//! queues, the environment. Receives and hands on plain values and owned descriptors; decides nothing.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The longest path or abstract name of a unix socket: sun_path without its NUL.
pub(super) const UNIX_NAME_BYTES_MAX: usize = 107;

/// setsockopt(2) with any bytes.
pub(super) fn set_option(fd: BorrowedFd<'_>, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one live slice, which the kernel only reads.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    Errno::result(result).map(drop)
}

/// getsockopt(2) of an int.
pub(super) fn int_option(fd: BorrowedFd<'_>, level: i32, option: i32) -> Result<i32, Errno> {
    let mut value: libc::c_int = 0;
    let mut length = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, (&raw mut value).cast(), &mut length) };
    Errno::result(result).map(|_| value)
}

/// Sets or unsets SO_REUSEPORT on a descriptor of another owner in this process; what is not open is left alone.
pub(super) fn set_reuseport(number: i32, on: bool) {
    if is_open(number) {
        // SAFETY: it is open, and borrowed for this call only.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, &i32::from(on).to_ne_bytes());
    }
}

/// Whether something can be read, or accepted, now.
pub(super) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut one = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut one, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// listen(2). nix bounds the backlog by a constant that is smaller than what a raised somaxconn allows.
pub(super) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> Result<(), Errno> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: takes two numbers.
    Errno::result(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// The connections that wait on a listening TCP socket: TCP_INFO's tcpi_unacked means that while it listens.
pub(super) fn tcp_waiting(fd: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: tcp_info is plain integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `info`.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &mut length)
    };
    (result == 0).then_some(info.tcpi_unacked)
}

/// Has the program say which member of the socket's SO_REUSEPORT group gets what arrives; it replaces the one before.
pub(super) fn attach_reuseport(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let (option, length) = (libc::SO_ATTACH_REUSEPORT_CBPF, mem::size_of_val(&program) as libc::socklen_t);
    // SAFETY: the kernel copies the struct and the `len` instructions that it points to, and writes to neither.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const program).cast(), length) };
    Errno::result(result).map(drop)
}

/// Leaves the group to the kernel's own hash again; a group without a program, or no group, is left as it is.
pub(super) fn detach_reuseport(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match set_option(fd, libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF, &0i32.to_ne_bytes()) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// Whether that number is an open descriptor of this process.
pub(super) fn is_open(number: i32) -> bool {
    // SAFETY: F_GETFD takes and changes nothing.
    number >= 0 && unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0
}

/// Takes the descriptor of that number over. The caller saw it open, and that nothing in this process owns it.
pub(super) fn claim(number: i32) -> OwnedFd {
    assert!(is_open(number), "descriptor {number} was checked to be open");
    // SAFETY: it is open, and by the caller's promise nobody else in this process will close it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// A close-on-exec copy of the descriptor of that number, which stays open: for 0, 1 and 2.
pub(super) fn copy(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC takes two numbers.
    let copy = Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Marks every descriptor from 3 up as close-on-exec.
pub(super) fn seal() {
    // SAFETY: takes three numbers.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result != 0 {
        seal_one_by_one();
    }
}

/// The same where the kernel is older than 5.11.
fn seal_one_by_one() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // SAFETY: takes numbers; a descriptor that was closed meanwhile answers EBADF.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// This process's id in pidfs, which LISTEN_PIDFDID names; `None` where the kernel has no pidfs (before 6.9).
pub(super) fn pidfs_id() -> Option<u64> {
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    // SAFETY: takes two numbers.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) };
    let number = i32::try_from(number).ok().filter(|number| *number >= 0)?;
    // SAFETY: the kernel has just made it for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(number) };
    let is_pidfs = file_system(pidfd.as_fd()) == Some(PIDFS_MAGIC);
    is_pidfs.then(|| nix::sys::stat::fstat(pidfd.as_fd()).ok().map(|s| s.st_ino))?
}

/// socket(2), close-on-exec, with the protocol as a number: nix has no names for all of them.
pub(super) fn socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes three numbers.
    let number = Errno::result(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// mq_open(3) for reading, close-on-exec and non-blocking. With a mode it makes the queue, which must not be there.
pub(super) fn mq_open(name: &CStr, make: Option<(u32, Option<(i64, i64)>)>) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let (mode, limits) = make.unwrap_or_default();
    let attributes = limits.map(|(messages, bytes)| {
        // SAFETY: mq_attr is plain integers, for which zero is a value.
        let mut attributes: libc::mq_attr = unsafe { mem::zeroed() };
        attributes.mq_maxmsg = messages as _;
        attributes.mq_msgsize = bytes as _;
        attributes
    });
    let attributes = attributes.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let number = match make {
        // SAFETY: the name ends with a NUL, and the attributes, where there are any, live until the call is over.
        Some(_) => unsafe { libc::mq_open(name.as_ptr(), flags | libc::O_CREAT | libc::O_EXCL, mode, attributes) },
        // SAFETY: the name ends with a NUL.
        None => unsafe { libc::mq_open(name.as_ptr(), flags) },
    };
    let number = Errno::result(number)?;
    // SAFETY: the kernel has just made it for us; on Linux a queue's descriptor is a file descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// mq_unlink(3).
pub(super) fn mq_unlink(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the name ends with a NUL.
    Errno::result(unsafe { libc::mq_unlink(name.as_ptr()) }).map(drop)
}

/// The messages that a queue may hold, and the bytes of one.
pub(super) fn mq_limits(fd: BorrowedFd<'_>) -> Result<(i64, i64), Errno> {
    // SAFETY: mq_attr is plain integers, for which zero is a value.
    let mut attributes: libc::mq_attr = unsafe { mem::zeroed() };
    // SAFETY: the kernel fills the struct that it is given.
    Errno::result(unsafe { libc::mq_getattr(fd.as_raw_fd(), &mut attributes) })?;
    // The types of the fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    let limits = (attributes.mq_maxmsg as i64, attributes.mq_msgsize as i64);
    Ok(limits)
}

/// Takes one message out of a queue, never waiting, whatever its O_NONBLOCK says. `buffer` holds the largest message.
pub(super) fn mq_take(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: timespec is plain integers, for which zero is a value: a moment long ago.
    let past: libc::timespec = unsafe { mem::zeroed() };
    let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the kernel writes at most `length` bytes to the buffer, and only reads the time.
    let result = unsafe { libc::mq_timedreceive(fd.as_raw_fd(), pointer, length, std::ptr::null_mut(), &past) };
    Errno::result(result).map(drop)
}

/// Puts one message into a queue.
#[cfg(test)]
pub(super) fn mq_give(name: &CStr, message: &[u8]) -> Result<(), Errno> {
    // SAFETY: the name ends with a NUL.
    let number = Errno::result(unsafe { libc::mq_open(name.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: the pointer and the length are those of one live slice, which the kernel only reads.
    Errno::result(unsafe { libc::mq_send(fd.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) }).map(drop)
}

/// The magic number of the file system that a descriptor is of.
pub(super) fn file_system(fd: BorrowedFd<'_>) -> Option<u64> {
    // SAFETY: statfs is plain integers, for which zero is a value.
    let mut fs: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: the kernel fills the struct that it is given.
    let result = unsafe { libc::fstatfs(fd.as_raw_fd(), &mut fs) };
    // The type of f_type differs between libcs.
    #[allow(clippy::unnecessary_cast)]
    let magic = fs.f_type as u64;
    (result == 0).then_some(magic)
}

/// Removes variables from our own environment.
pub(super) fn remove_variables(names: &[&str]) {
    for name in names {
        // SAFETY: the launcher is single-threaded, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    fn is_sealed(fd: &OwnedFd) -> bool {
        FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap()).contains(FdFlag::FD_CLOEXEC)
    }

    #[test]
    fn both_ways_of_sealing_mark_what_is_open() {
        for seal in [seal as fn(), seal_one_by_one] {
            let fd = copy(0).unwrap();
            fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            assert!(!is_sealed(&fd));
            seal();
            assert!(is_sealed(&fd));
        }
    }

    #[test]
    fn what_is_not_open_is_told() {
        assert!(is_open(1));
        assert!(!is_open(-1) && !is_open(999_999));
    }
}
