//! Code in memory is given back when only the start needed it. What read the command line would stay mapped otherwise,
//! for as long as prebind idles. Pages that are used again are mapped again from the page cache, by a minor fault.

#![allow(unsafe_code)]

use nix::libc;
use std::fs;
use std::os::unix::fs::MetadataExt;

// The unwinder of the C compiler, linked in: loading it as a library costs a good part of the time to the first worker.
#[cfg(target_env = "gnu")]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

/// Drops the pages of our own executable's code, and the heap's free top.
pub(super) fn trim() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    let Ok(inode) = fs::metadata("/proc/self/exe").map(|meta| meta.ino()) else { return };
    for (start, length) in maps.lines().filter_map(|line| code(line, inode)) {
        // SAFETY: the range is a mapping of our executable that cannot be written: what is dropped is read from the
        // same file again at the next use.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's own function, called from the only thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The range of a line of /proc/self/maps, if it is code of that file. Data that looks as constant holds relocations
/// that were written at the start: only what may be executed is the file's own for sure.
fn code(line: &str, inode: u64) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let found: u64 = fields.nth(2)?.parse().ok()?;
    if rights != "r-xp" || found != inode {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::{code, trim};

    #[test]
    fn only_our_own_code_is_dropped() {
        let line = "00297000-004e0000 r-xp 00096000 fe:00 57                 /usr/bin/prebind";
        assert_eq!(code(line, 57), Some((0x297000, 0x249000)));
        assert_eq!(code(line, 58), None);
        assert_eq!(code(&line.replace("r-xp", "rw-p"), 57), None);
        assert_eq!(code(&line.replace("r-xp", "r--p"), 57), None);
        assert_eq!(code("7ffe-7fff rw-p 0 00:00 0 [stack]", 57), None);
    }

    #[test]
    fn code_works_on_afterwards() {
        trim();
        assert_eq!(code("", 1), None);
    }
}
