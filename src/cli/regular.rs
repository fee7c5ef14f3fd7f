//! Files of a configuration, read whole.

use std::fs;
use std::io::{self, ErrorKind, Read};

/// The largest one, bytes: far above what anybody writes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A regular file's bytes: a device or a pipe could go on for ever.
pub(super) fn file(path: &str) -> io::Result<Vec<u8>> {
    let data = fs::metadata(path)?;
    if data.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !data.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
