//! The folders of units on the disk.

use crate::control::place::reason;
use crate::front::units::find::{Folders, Found};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The largest unit file, bytes: far above what anybody writes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The file system as it is.
pub(super) struct Disk;

impl Folders for Disk {
    fn read(&self, path: &str) -> Option<Found> {
        if fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null")) {
            return Some(Found::Masked);
        }
        Some(match file(path) {
            Ok(bytes) if bytes.is_empty() => Found::Masked,
            Ok(bytes) => Found::File(bytes),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory) =>
            {
                return None;
            }
            Err(error) => Found::Unreadable(reason(&error)),
        })
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let folder = if folder.is_empty() { "." } else { folder };
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    fn is_folder(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn target(&self, path: &str) -> Option<String> {
        fs::read_link(path).ok()?;
        fs::canonicalize(path).ok()?.into_os_string().into_string().ok()
    }
}

/// A regular file's bytes: a device or a pipe could go on for ever.
fn file(path: &str) -> io::Result<Vec<u8>> {
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
