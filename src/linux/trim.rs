//! Code and constants in memory are given back when only the start needed them. What read the command line would stay
//! mapped otherwise, for as long as prebind idles. Pages that are used again are mapped again from the page cache, by a minor fault.

#![allow(unsafe_code)]

use nix::libc;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// So long nothing is to happen by itself.
pub(super) const CALM: Duration = Duration::from_millis(100);

/// Drops the pages of our own executable that hold nothing but the file's contents, and the heap's free top.
pub(super) fn trim() {
    let Ok(smaps) = fs::read_to_string("/proc/self/smaps") else { return };
    let Ok(inode) = fs::metadata("/proc/self/exe").map(|meta| meta.ino()) else { return };
    for (start, length) in untouched(&smaps, inode) {
        // SAFETY: the range is a mapping of our executable that cannot be written and of which no page was written:
        // what is dropped is read from the same file again at the next use.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's own function.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The ranges of that file in /proc/self/smaps that cannot be written, and were not: relocations are written at the start
/// into data that is constant from then on.
fn untouched(smaps: &str, inode: u64) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut range = None;
    for line in smaps.lines() {
        if let Some(field) = line.strip_prefix("Anonymous:") {
            found.extend(range.take().filter(|_| field.trim() == "0 kB"));
        } else if line.as_bytes().first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            range = constant(line, inode);
        }
    }
    found
}

/// The range of a mapping's first line, if it is of that file and cannot be written.
fn constant(line: &str, inode: u64) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let found: u64 = fields.nth(2)?.parse().ok()?;
    if !matches!(rights, "r-xp" | "r--p") || found != inode {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::{trim, untouched};

    fn smaps(rights: &str, anonymous: &str) -> String {
        format!(
            "00297000-004e0000 {rights} 00096000 fe:00 57                 /usr/bin/prebind\n\
             Size:               2340 kB\n\
             Anonymous:          {anonymous} kB\n\
             VmFlags: rd ex mr mw me sd\n\
             7ffe00000000-7fff00000000 r--p 00000000 00:00 0          [vvar]\n\
             Anonymous:             0 kB\n"
        )
    }

    #[test]
    fn only_what_is_the_files_own_is_dropped() {
        assert_eq!(untouched(&smaps("r-xp", "0"), 57), [(0x297000, 0x249000)]);
        assert_eq!(untouched(&smaps("r--p", "0"), 57), [(0x297000, 0x249000)]);
        assert_eq!(untouched(&smaps("r--p", "4"), 57), []);
        assert_eq!(untouched(&smaps("rw-p", "0"), 57), []);
        assert_eq!(untouched(&smaps("r-xp", "0"), 58), []);
    }

    #[test]
    fn code_and_constants_work_on_afterwards() {
        let before = format!("{:?}", std::time::Duration::from_millis(1500));
        trim();
        assert_eq!(before, format!("{:?}", std::time::Duration::from_millis(1500)));
    }
}
