//! `RuntimeDirectory=` and its siblings: made before a process of the service starts, as systemd makes them, and the
//! runtime ones removed again. It never decides when.

use super::error::{SpawnError, Stage, reason};
use crate::plan::{DirectoryKind, DirectorySpec, Preserve, ServiceSpec};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchownat, getegid, geteuid};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

type Ids = (u32, u32);

/// Every kind with the variable that names its folders, and the stage that makes them.
const KINDS: [(DirectoryKind, &str, Stage); 5] = [
    (DirectoryKind::Runtime, "RUNTIME_DIRECTORY", Stage::RuntimeDirectory),
    (DirectoryKind::State, "STATE_DIRECTORY", Stage::StateDirectory),
    (DirectoryKind::Cache, "CACHE_DIRECTORY", Stage::CacheDirectory),
    (DirectoryKind::Logs, "LOGS_DIRECTORY", Stage::LogsDirectory),
    (DirectoryKind::Configuration, "CONFIGURATION_DIRECTORY", Stage::ConfigurationDirectory),
];

/// Each kind's variable with its paths in systemd's order, that of their names, `:` between them.
pub(super) fn variables(service: &ServiceSpec) -> Vec<(&'static str, OsString)> {
    let directories = &service.process.directories;
    let of = |kind| {
        let mut paths: Vec<&Path> =
            directories.iter().filter(|one| one.kind == kind).map(|one| one.path.as_path()).collect();
        paths.sort();
        paths.iter().map(|path| path.as_os_str()).collect::<Vec<_>>().join(OsStr::new(":"))
    };
    KINDS.map(|(kind, variable, _)| (variable, of(kind))).into_iter().filter(|(_, paths)| !paths.is_empty()).collect()
}

/// Makes what is missing. `owner`: the worker's ids; where there are none, prebind's.
pub(super) fn make(service: &ServiceSpec, owner: (Option<u32>, Option<u32>)) -> Result<(), SpawnError> {
    if service.process.directories.is_empty() {
        return Ok(());
    }
    let ids = (owner.0.unwrap_or(geteuid().as_raw()), owner.1.unwrap_or(getegid().as_raw()));
    for directory in &service.process.directories {
        let failed = |path: &Path, error: io::Error| {
            let errno = match error.kind() {
                // mkdir(2) says so of a file that is in the way.
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Errno::ENOTDIR,
                _ => error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
            };
            let stage = KINDS.iter().find(|(kind, ..)| *kind == directory.kind).map_or(Stage::Clone, |one| one.2);
            SpawnError::of_worker(&service.name, stage, &format!("'{}'", path.display()), errno)
        };
        make_one(directory, ids).map_err(|error| failed(&directory.path, error))?;
        for link in &directory.links {
            make_link(&directory.path, link).map_err(|error| failed(link, error))?;
        }
    }
    Ok(())
}

/// What is made here is the worker's and has the mode; what was there gets both too, all that is in it with it if it
/// was somebody else's. A folder of configuration that was there is left as it is.
fn make_one(directory: &DirectorySpec, ids: Ids) -> io::Result<()> {
    let path = &directory.path;
    if let Some(parent) = path.parent() {
        make_parents(parent)?;
    }
    let made = make_directory(path, directory.mode)?;
    if !made && directory.kind == DirectoryKind::Configuration {
        return Ok(());
    }
    let opened = openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let data = fs::metadata(at(opened.as_fd()))?;
    if (data.uid(), data.gid()) != ids {
        own_all(opened.as_fd(), ids)?;
    }
    // After the owner, whose change takes set-id bits away.
    if fs::metadata(at(opened.as_fd()))?.mode() & 0o7777 != directory.mode {
        fchmod(&opened, Mode::from_bits_truncate(directory.mode))?;
    }
    Ok(())
}

/// The missing ones of these folders, root's, for everybody to pass.
fn make_parents(path: &Path) -> io::Result<()> {
    let mut folder = PathBuf::new();
    for component in path.components() {
        folder.push(component);
        if matches!(component, Component::Normal(_)) {
            make_directory(&folder, 0o755)?;
        }
    }
    Ok(())
}

/// Whether it was not there. The mode is exact, whatever prebind's umask is.
fn make_directory(path: &Path, mode: u32) -> io::Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)).map(|()| true),
        // A folder that may not be written, or a file system that is read-only, is told before what exists.
        Err(_) if path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A path to what is open: it cannot be exchanged meanwhile.
fn at(fd: BorrowedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Gives the folder and everything below it to `ids`. It goes by descriptors and follows no link: whose folder it is
/// may change it at the same time.
fn own_all(folder: BorrowedFd, ids: Ids) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(ids.0)), Some(Gid::from_raw(ids.1)));
    for entry in fs::read_dir(at(folder))? {
        let name = entry?.file_name();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(folder, name.as_os_str(), flags, Mode::empty()) {
            Ok(inner) => own_all(inner.as_fd(), ids)?,
            Err(_) => match fchownat(folder, name.as_os_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            },
        }
    }
    Ok(fchownat(folder, "", uid, gid, AtFlags::AT_EMPTY_PATH)?)
}

/// `link` leads to `target`, in relative terms. What is no link is not touched.
fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    let folder = link.parent().unwrap_or(Path::new("/"));
    make_parents(folder)?;
    let wanted = relative(folder, target);
    match fs::read_link(link) {
        Ok(present) if present == wanted => return Ok(()),
        Ok(_) => fs::remove_file(link)?,
        Err(_) => {}
    }
    std::os::unix::fs::symlink(wanted, link)
}

/// The way from one absolute folder to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// Removes the runtime directories of a service that has no process any more, with what is in them and the links to
/// them; their parents stay. `restart`: it is started again at once, so that `RuntimeDirectoryPreserve=restart` keeps
/// them. Returns what could not be removed, one line each.
pub fn remove_directories(service: &ServiceSpec, restart: bool) -> Vec<String> {
    let gone = |one: &&DirectorySpec| {
        one.kind == DirectoryKind::Runtime
            && match one.preserve {
                Preserve::No => true,
                Preserve::Restart => !restart,
                Preserve::Yes => false,
            }
    };
    let mut remarks = Vec::new();
    for directory in service.process.directories.iter().filter(gone) {
        let links = directory.links.iter().filter(|link| link.is_symlink());
        let removed = links.map(|link| (link, fs::remove_file(link)));
        let folder = std::iter::once_with(|| (&directory.path, fs::remove_dir_all(&directory.path)));
        for (path, result) in removed.chain(folder) {
            match result {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    let why = reason(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw));
                    remarks.push(format!("cannot remove '{}' of '{}': {why}", path.display(), service.name));
                }
                _ => {}
            }
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_between_folders() {
        for (from, to, way) in [
            ("/run", "/run/a", "a"),
            ("/run/links", "/run/a", "../a"),
            ("/run/x/y", "/var/lib/a", "../../../var/lib/a"),
            ("/", "/run/a", "run/a"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way), "{from} {to}");
        }
    }
}
