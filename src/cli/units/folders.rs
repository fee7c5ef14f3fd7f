//! The folders of units on the disk.

use crate::cli::regular::file;
use crate::control::place::reason;
use crate::front::units::find::{Folders, Found};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

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
