//! Nodes in the file system as they are to be: their mode by umask, their owner, the directories above them.
//! Receives the options of a socket; changes nothing that was there before.

use super::error::{SocketError, reason};
use crate::plan::SocketOptions;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, Uid, User, fchown, fchownat};
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How the umask of prebind itself counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// Where a mode was asked for, not at all.
    Ignored,
    /// What it takes away stays away: systemd's rule for FIFOs and queues.
    Kept,
}

/// Makes a node with the mode: 0666 less prebind's umask, or exactly what was asked for; a lenient one is 0666 where
/// nothing was. By umask, so that there is no moment in which the node can be reached with another mode.
pub(super) fn with_umask<T>(options: &SocketOptions, own: Own, make: impl FnOnce() -> T) -> T {
    masked(|old| mask(options, own, old), make)
}

fn masked<T>(choose: impl FnOnce(Mode) -> Mode, make: impl FnOnce() -> T) -> T {
    // The umask belongs to the process. The launcher has one thread; tests have several.
    static UMASK: Mutex<()> = Mutex::new(());
    let _lock = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let old = umask(Mode::from_bits_truncate(0o777));
    umask(choose(old));
    let result = make();
    umask(old);
    result
}

fn mask(options: &SocketOptions, own: Own, old: Mode) -> Mode {
    let asked = options.mode.or(options.lenient.then_some(0o666));
    match asked.map(|mode| Mode::from_bits_truncate(!mode & 0o777)) {
        None => old | Mode::from_bits_truncate(0o111),
        Some(mask) if options.lenient && own == Own::Kept => old | mask,
        Some(mask) => mask,
    }
}

/// The mode that a FIFO or a queue that is made now gets; `None` where none was asked for, and any will do.
fn mode_made(options: &SocketOptions) -> Option<u32> {
    let asked = options.mode.or(options.lenient.then_some(0o666))?;
    let mut taken = Mode::empty();
    let look = |old| {
        taken = mask(options, Own::Kept, old);
        old
    };
    masked(look, || ());
    Some(asked & 0o777 & !taken.bits())
}

/// Whom a node is to belong to.
pub(super) struct Owner {
    user: Option<Uid>,
    group: Option<Gid>,
}

impl Owner {
    /// Looks the names up; a user without a group brings the primary group, as in systemd.
    pub(super) fn find(options: &SocketOptions) -> Result<Owner, String> {
        let mut owner = Owner { user: None, group: None };
        if let Some(name) = &options.user {
            let number: Option<u32> = name.parse().ok();
            let found = match number {
                Some(number) => User::from_uid(Uid::from_raw(number)),
                None => User::from_name(name),
            };
            let found = found.map_err(|errno| format!("cannot look up user {name}: {}", reason(errno)))?;
            owner.group = found.as_ref().map(|user| user.gid);
            owner.user = found.map(|user| user.uid).or(number.map(Uid::from_raw));
            owner.user.ok_or_else(|| format!("no such user '{name}'"))?;
        }
        if let Some(name) = &options.group {
            let found = match name.parse() {
                Ok(number) => Some(Gid::from_raw(number)),
                Err(_) => Group::from_name(name)
                    .map_err(|errno| format!("cannot look up group {name}: {}", reason(errno)))?
                    .map(|group| group.gid),
            };
            owner.group = Some(found.ok_or_else(|| format!("no such group '{name}'"))?);
        }
        Ok(owner)
    }

    /// systemd's rule for a FIFO or a queue that was there before: its mode and its owner must be those of one that is
    /// made now.
    pub(super) fn fits(&self, options: &SocketOptions, (mode, uid, gid): (u32, u32, u32)) -> Result<(), String> {
        let has = mode & 0o777;
        if let Some(wanted) = mode_made(options).filter(|wanted| *wanted != has) {
            return Err(format!("it is there with mode {has:04o}, not {wanted:04o} (remove it or change its mode)"));
        }
        let user = self.user.or(options.lenient.then(Uid::effective));
        let other_user = user.is_some_and(|user| user.as_raw() != uid);
        let other_group = self.group.is_some_and(|group| group.as_raw() != gid);
        match other_user || other_group {
            true => Err(format!("it is there and belongs to {uid}:{gid} (remove it or chown it)")),
            false => Ok(()),
        }
    }

    /// Gives it a node.
    pub(super) fn give(&self, path: &Path) -> Result<(), SocketError> {
        if self.user.is_none() && self.group.is_none() {
            return Ok(());
        }
        fchownat(AT_FDCWD, path.as_os_str().as_bytes(), self.user, self.group, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| SocketError::new(format!("cannot chown {}: {}", path.display(), reason(errno))))
    }

    /// Gives it what has no path.
    pub(super) fn give_open(&self, fd: BorrowedFd<'_>, what: &str) -> Result<(), SocketError> {
        if self.user.is_none() && self.group.is_none() {
            return Ok(());
        }
        let failed = |errno| SocketError::new(format!("cannot chown {what}: {}", reason(errno)));
        fchown(fd, self.user, self.group).map_err(failed)
    }
}

/// Makes the missing parent directories with the mode asked for, less the umask.
pub(super) fn make_parents(path: &Path, options: &SocketOptions, made: &mut Vec<PathBuf>) -> Result<(), String> {
    let missing: Vec<&Path> =
        path.ancestors().skip(1).take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    for directory in missing.into_iter().rev() {
        let mode = options.directory_mode.unwrap_or(0o755);
        fs::DirBuilder::new().mode(mode).create(directory).map_err(|error| {
            let why = error.raw_os_error().map_or(error.to_string(), |n| reason(Errno::from_raw(n)));
            format!("cannot make directory {}: {why}", directory.display())
        })?;
        made.push(directory.into());
    }
    Ok(())
}

/// Which of mode, user and group were asked for and the node at that path does not have.
pub(super) fn missing(path: &Path, options: &SocketOptions) -> Vec<&'static str> {
    let Ok(found) = fs::symlink_metadata(path) else { return Vec::new() };
    let owner = Owner::find(options).unwrap_or(Owner { user: None, group: None });
    let mode = options.mode.is_some_and(|mode| mode & 0o777 != found.permissions().mode() & 0o777);
    let user = options.user.is_some() && owner.user.map(Uid::as_raw) != Some(found.uid());
    let group = options.group.is_some() && owner.group.map(Gid::as_raw) != Some(found.gid());
    let all = [("mode", mode), ("user", user), ("group", group)];
    all.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect()
}

/// What is there, in words.
pub(super) fn node_word(found: &fs::Metadata) -> &'static str {
    let kind = found.file_type();
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_file() => "a file",
        () => "a device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_umask_counts_as_in_systemd_for_units_and_less_for_others() {
        let old = Mode::from_bits_truncate(0o027);
        for (lenient, mode, own, left) in [
            (false, None, Own::Ignored, 0o640),
            (false, Some(0o666), Own::Ignored, 0o666),
            (false, Some(0o666), Own::Kept, 0o666),
            (true, None, Own::Ignored, 0o666),
            (true, Some(0o660), Own::Ignored, 0o660),
            (true, None, Own::Kept, 0o640),
            (true, Some(0o606), Own::Kept, 0o600),
        ] {
            let options = SocketOptions { lenient, mode, ..SocketOptions::default() };
            let taken = mask(&options, own, old).bits();
            assert_eq!(0o777 & !taken, left, "{lenient} {mode:?} {own:?}");
        }
    }
}
