//! Special files (`ListenSpecial=`): character devices and files of /proc and /sys that tell when they can be read.
//! Opens one; says whether an open descriptor is one. What is always readable, as plain files are, is refused.

use super::error::{SocketError, reason};
use super::owner::node_word;
use super::{facts, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::stat::Mode;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Opens it for reading, or also for writing. It is never made, and never ours.
pub(super) fn open_at(path: &Path, writable: bool) -> Result<OwnedFd, SocketError> {
    let cannot = |why: String| SocketError::new(format!("cannot open special file {}: {why}", path.display()));
    // Looked at first: to open a FIFO or a tape has effects.
    let found = fs::symlink_metadata(path)
        .map_err(|error| cannot(error.raw_os_error().map_or(error.to_string(), |n| reason(Errno::from_raw(n)))))?;
    let kind = found.file_type();
    if !kind.is_file() && !kind.is_char_device() {
        return Err(cannot(format!("it is {}, not a character device or a file of /proc or /sys", node_word(&found))));
    }
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::empty()).map_err(|errno| cannot(reason(errno)))?;
    match tells(fd.as_fd()) {
        Ok(true) => Ok(fd),
        Ok(false) => Err(cannot("it does not tell when there is something to read, as plain files never do".into())),
        Err(errno) => Err(cannot(reason(errno))),
    }
}

/// Whether the file can be waited for: epoll refuses those that cannot.
pub(super) fn tells(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    match epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)) {
        Ok(()) => Ok(true),
        Err(Errno::EPERM) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The path that it was opened by, as far as /proc tells.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
    link.filter(|path| path.is_absolute())
}

/// Whether that path leads to the file that is open.
pub(super) fn is_behind(path: &Path, fd: BorrowedFd<'_>) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).is_ok_and(|found| facts::node(fd) == Ok((found.dev(), found.ino())))
}

/// Whether it is a message queue: those look like plain files of a file system of their own.
pub(super) fn is_queue(fd: BorrowedFd<'_>) -> bool {
    const MQUEUE_MAGIC: u64 = 0x1980_0202;
    sys::file_system(fd) == Some(MQUEUE_MAGIC)
}
