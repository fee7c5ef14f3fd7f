//! Environment files, read anew at each launch. A unit's `EnvironmentFile=` is a pattern of glob(3); a leading `-` lets
//! the file be missing.
#![allow(unsafe_code)]

use super::error::{SpawnError, Stage, reason};
use super::{Base, command, envfile};
use crate::plan::ServiceSpec;
use nix::errno::Errno;
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Gives every pair of every file to `set`, in their order. Lines that say nothing are put into `remarks`.
pub(super) fn read(
    base: &Base,
    service: &ServiceSpec,
    remarks: &mut Vec<String>,
    mut set: impl FnMut(OsString, OsString),
) -> Result<(), SpawnError> {
    for file in &service.env_files {
        let (name, optional) = match file.as_os_str().as_bytes().strip_prefix(b"-") {
            Some(rest) => (OsStr::from_bytes(rest), true),
            None => (file.as_os_str(), false),
        };
        let full = base.start_dir.join(name);
        let found = if service.process.unit { matches(service, &full)? } else { vec![full] };
        if found.is_empty() && !optional {
            return Err(unreadable(service, name, Errno::ENOENT));
        }
        for path in found {
            // What the pattern found is told by its own name, a plain one as it was asked for.
            let shown = if service.process.unit { path.as_os_str() } else { name };
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                Err(_) if optional => continue,
                Err(error) => {
                    return Err(unreadable(service, shown, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)));
                }
            };
            let parsed = envfile::parse(&text);
            parsed.pairs.into_iter().for_each(|(key, value)| set(OsString::from_vec(key), OsString::from_vec(value)));
            let bad = parsed.bad_lines.iter();
            remarks.extend(bad.map(|(line, why)| format!("{}:{line}: ignored: {why}", shown.display())));
        }
    }
    Ok(())
}

fn unreadable(service: &ServiceSpec, name: &OsStr, errno: Errno) -> SpawnError {
    let text = Stage::EnvironmentFile.text();
    let message = format!("worker of '{}': {text} '{}': {}", service.name, name.display(), reason(errno));
    SpawnError::new(Stage::EnvironmentFile, errno, message)
}

/// The files that a pattern means, sorted by name.
fn matches(service: &ServiceSpec, pattern: &Path) -> Result<Vec<PathBuf>, SpawnError> {
    let words = command::c_string(service, pattern.as_os_str().to_owned())?;
    // SAFETY: glob_t is plain numbers and pointers; all zero is what glob(3) wants to begin with.
    let mut found: libc::glob_t = unsafe { std::mem::zeroed() };
    // SAFETY: a string that ends in a NUL, no call-back, and a glob_t of our own.
    let result = unsafe { libc::glob(words.as_ptr(), 0, None, &mut found) };
    let paths = match result {
        0 => (0..found.gl_pathc as usize)
            .map(|index| {
                // SAFETY: glob(3) made gl_pathc pointers to strings; they live until globfree.
                let path = unsafe { CStr::from_ptr(*found.gl_pathv.add(index)) };
                PathBuf::from(OsStr::from_bytes(path.to_bytes()))
            })
            .collect(),
        _ => Vec::new(),
    };
    // SAFETY: what glob(3) filled in, or zeros; not used any more.
    unsafe { libc::globfree(&mut found) };
    match result {
        0 | libc::GLOB_NOMATCH => Ok(paths),
        libc::GLOB_NOSPACE => Err(unreadable(service, pattern.as_os_str(), Errno::ENOMEM)),
        _ => Err(unreadable(service, pattern.as_os_str(), Errno::EIO)),
    }
}
