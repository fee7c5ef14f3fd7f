//! prebind's own scheduling priority: what workers start from.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

/// Sets the priority of this process, absolute, from -20 to 19.
pub fn renice_self(level: i32) -> Result<(), Errno> {
    // SAFETY: a plain system call with three numbers.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, level) }).map(drop)
}
