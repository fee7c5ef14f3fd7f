//! POSIX message queues (`ListenMessageQueue=`): name -> open queue. One that was there before must be like one that is
//! made now. Removes the name at the end where that was asked for, if it is still the same queue's.

use super::error::{SocketError, reason};
use super::facts;
use super::owner::{Own, Owner, with_umask};
use super::{special, sys};
use crate::plan::SocketOptions;
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The name of a queue that prebind opened; dropping it removes the queue, unless it is to stay.
#[derive(Debug)]
pub(super) struct OwnQueue {
    name: CString,
    node: (u64, u64),
    stays: bool,
}

impl OwnQueue {
    /// The queue that is open. `stays`: it is not removed.
    pub(super) fn new(name: &str, fd: BorrowedFd<'_>, stays: bool) -> Option<OwnQueue> {
        Some(OwnQueue { name: CString::new(name).ok()?, node: facts::node(fd).ok()?, stays })
    }

    /// From now on it stays, or goes at the end.
    pub(super) fn settle(&mut self, stays: bool) {
        self.stays = stays;
    }
}

impl Drop for OwnQueue {
    fn drop(&mut self) {
        let same = || sys::mq_open(&self.name, None).is_ok_and(|fd| facts::node(fd.as_fd()) == Ok(self.node));
        if !self.stays && same() {
            let _ = sys::mq_unlink(&self.name);
        }
    }
}

/// Opens the queue for reading; makes it where there is none.
pub(super) fn open(
    name: &str,
    options: &SocketOptions,
    remarks: &mut Vec<String>,
) -> Result<(OwnedFd, Option<OwnQueue>), SocketError> {
    let cannot = |why: String| SocketError::new(format!("cannot open message queue {name}: {why}"));
    let owner = Owner::find(options).map_err(cannot)?;
    let c_name = CString::new(name).map_err(|_| cannot("a name has no NUL".into()))?;
    // The umask does what the mode says; the mode given to the kernel takes nothing away.
    match with_umask(options, Own::Kept, || sys::mq_open(&c_name, Some((0o777, options.queue_limits)))) {
        Ok(fd) => {
            let own = OwnQueue::new(name, fd.as_fd(), false);
            owner.give_open(fd.as_fd(), &format!("message queue {name}"))?;
            Ok((fd, own))
        }
        Err(Errno::EEXIST) => {
            let fd = sys::mq_open(&c_name, None).map_err(|errno| cannot(reason(errno)))?;
            let stat = fstat(&fd).map_err(|errno| cannot(reason(errno)))?;
            owner.fits(options, (stat.st_mode, stat.st_uid, stat.st_gid)).map_err(cannot)?;
            let has = sys::mq_limits(fd.as_fd()).map_err(|errno| cannot(reason(errno)))?;
            if options.queue_limits.is_some_and(|asked| asked != has) {
                let (messages, bytes) = has;
                remarks.push(format!("message queue {name} was there: {messages} messages of {bytes} bytes"));
            }
            let own = OwnQueue::new(name, fd.as_fd(), true);
            Ok((fd, own))
        }
        Err(errno) => Err(cannot(why_not(errno))),
    }
}

fn why_not(errno: Errno) -> String {
    match errno {
        Errno::EINVAL => {
            "the kernel refuses its name (one '/', at the start) or its limits (/proc/sys/fs/mqueue)".into()
        }
        Errno::EMFILE => "too many open files, or RLIMIT_MSGQUEUE (ulimit -q) is too low for its limits".into(),
        Errno::ENOSPC => "there are too many queues (/proc/sys/fs/mqueue/queues_max)".into(),
        Errno::ENOSYS => "the kernel has no message queues".into(),
        errno => reason(errno),
    }
}

/// The name of an open queue, as far as /proc tells.
pub(super) fn name_of(fd: BorrowedFd<'_>) -> Option<String> {
    let path = special::path_of(fd)?;
    let name = OsStr::to_str(path.as_os_str())?;
    // A queue whose name is gone; or one that was opened where queues are mounted as files.
    let plain = !name.ends_with(" (deleted)") && name.matches('/').count() == 1;
    plain.then(|| OsStr::from_bytes(name.as_bytes()).to_string_lossy().into_owned())
}
