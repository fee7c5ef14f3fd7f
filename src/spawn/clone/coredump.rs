//! `CoredumpFilter=`: the one setting that belongs to the memory, which the child shares with prebind, and that a new
//! program inherits from the memory that it replaces. So prebind takes it on itself until the child has executed.

use super::steps::Failure;
use crate::spawn::error::Stage;
use nix::errno::Errno;

const FILE: &str = "/proc/self/coredump_filter";

/// prebind's own filter: back in force when this is dropped.
pub(super) struct Own(String);

/// Puts `filter` in force for this process.
pub(super) fn lend(filter: u64) -> Result<Own, Failure> {
    let failed = |error: std::io::Error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Failure { stage: Stage::CoredumpFilter, errno, index: 0 }
    };
    let own = std::fs::read_to_string(FILE).map_err(failed)?;
    std::fs::write(FILE, format!("{filter:#x}")).map_err(failed)?;
    Ok(Own(format!("0x{}", own.trim())))
}

impl Drop for Own {
    fn drop(&mut self) {
        // What was in force before is in range.
        let _ = std::fs::write(FILE, &self.0);
    }
}
