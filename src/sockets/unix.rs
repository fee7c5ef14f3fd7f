//! Paths of the file system: unix sockets and FIFOs. A stale socket is replaced only when nobody answers on it; a living
//! one is in use; any other node is left alone. Hands on the descriptor and the node that it made.

use super::error::{SocketError, reason};
use super::keeper::{OwnNode, left_spares};
use super::{bind, holder, sys};
use crate::plan::{SocketKind, SocketOptions};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::socket::{SockFlag, UnixAddr, connect, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, Uid, User, fchownat, mkfifo};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

fn cannot_bind(path: &Path, why: impl std::fmt::Display) -> SocketError {
    SocketError::new(format!("cannot bind {}: {why}", path.display()))
}

/// Binds a unix socket to a path. Directories that it made are added to `made`.
pub(super) fn bind(
    path: &Path,
    kind: SocketKind,
    options: &SocketOptions,
    made: &mut Vec<PathBuf>,
) -> Result<(OwnedFd, OwnNode), SocketError> {
    let length = path.as_os_str().len();
    if length > sys::UNIX_NAME_BYTES_MAX {
        let max = sys::UNIX_NAME_BYTES_MAX;
        return Err(cannot_bind(path, format!("the path is too long: {length} bytes, a unix socket's at most {max}")));
    }
    let owner = Owner::find(options).map_err(|why| cannot_bind(path, why))?;
    let address = UnixAddr::new(path).map_err(|errno| cannot_bind(path, reason(errno)))?;
    make_parents(path, options, made)?;
    clear_stale(path, kind)?;
    let fd = bind::open_socket(libc::AF_UNIX, kind).map_err(|errno| cannot_bind(path, reason(errno)))?;
    with_umask(options.mode, || nix::sys::socket::bind(fd.as_raw_fd(), &address)).map_err(|errno| match errno {
        Errno::EADDRINUSE => cannot_bind(path, format!("address in use{}", holder::of_unix(&path.to_string_lossy()))),
        errno => cannot_bind(path, reason(errno)),
    })?;
    let node = OwnNode::just_made(path).map_err(|errno| cannot_bind(path, reason(errno)))?;
    owner.give(path)?;
    Ok((fd, node))
}

/// Opens a FIFO for reading and writing, so that it never ends; makes it first where there is none. One that was there
/// before is not ours: it is not removed at the end.
pub(super) fn fifo(
    path: &Path,
    options: &SocketOptions,
    made: &mut Vec<PathBuf>,
) -> Result<(OwnedFd, Option<OwnNode>), SocketError> {
    let cannot = |why: String| SocketError::new(format!("cannot open FIFO {}: {why}", path.display()));
    let owner = Owner::find(options).map_err(cannot)?;
    make_parents(path, options, made)?;
    let node = match with_umask(options.mode, || mkfifo(path, Mode::from_bits_truncate(0o777))) {
        Ok(()) => {
            let node = OwnNode::just_made(path).map_err(|errno| cannot(reason(errno)))?;
            owner.give(path)?;
            Some(node)
        }
        Err(Errno::EEXIST) => {
            check_existing_fifo(path, options.mode, &owner).map_err(cannot)?;
            None
        }
        Err(errno) => return Err(cannot(reason(errno))),
    };
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let fd = open(path, flags, Mode::empty()).map_err(|errno| cannot(reason(errno)))?;
    Ok((fd, node))
}

/// systemd's rule: what is there must be a FIFO with the mode and the owner that were asked for.
fn check_existing_fifo(path: &Path, mode: Option<u32>, owner: &Owner) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !found.file_type().is_fifo() {
        return Err(format!("{} is in the way", node_word(&found)));
    }
    let has = found.permissions().mode() & 0o777;
    if let Some(wanted) = mode.filter(|mode| mode & 0o777 != has) {
        return Err(format!("it is there with mode {has:04o}, not {wanted:04o} (remove it or change its mode)"));
    }
    let other_user = owner.user.is_some_and(|user| user.as_raw() != found.uid());
    let other_group = owner.group.is_some_and(|group| group.as_raw() != found.gid());
    match other_user || other_group {
        true => Err(format!("it is there and belongs to {}:{} (remove it or chown it)", found.uid(), found.gid())),
        false => Ok(()),
    }
}

/// Makes the missing parent directories with the mode asked for, less the umask.
fn make_parents(path: &Path, options: &SocketOptions, made: &mut Vec<PathBuf>) -> Result<(), SocketError> {
    let missing: Vec<&Path> =
        path.ancestors().skip(1).take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    for directory in missing.into_iter().rev() {
        let mode = options.directory_mode.unwrap_or(0o755);
        fs::DirBuilder::new().mode(mode).create(directory).map_err(|error| {
            let why = error.raw_os_error().map_or(error.to_string(), |n| reason(Errno::from_raw(n)));
            cannot_bind(path, format!("cannot make directory {}: {why}", directory.display()))
        })?;
        made.push(directory.into());
    }
    Ok(())
}

/// Removes a socket at the path if nobody answers on it, and the spare links that a killed prebind left beside it.
fn clear_stale(path: &Path, kind: SocketKind) -> Result<(), SocketError> {
    for spare in left_spares(path) {
        if is_socket(&spare) && matches!(answers(&spare, kind), Ok(false)) {
            let _ = fs::remove_file(spare);
        }
    }
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(cannot_bind(path, format!("{} is in the way (prebind replaces sockets only)", node_word(&found))));
    }
    match answers(path, kind) {
        Ok(true) => {
            let who = holder::of_unix(&path.to_string_lossy());
            Err(cannot_bind(path, format!("address in use{who}")))
        }
        Ok(false) => {
            let same = |now: fs::Metadata| (now.dev(), now.ino()) == (found.dev(), found.ino());
            if fs::symlink_metadata(path).is_ok_and(same) {
                fs::remove_file(path)
                    .map_err(|error| cannot_bind(path, format!("cannot remove the stale one: {error}")))?;
            }
            Ok(())
        }
        Err(errno) => {
            Err(cannot_bind(path, format!("a socket is there, and whether it lives cannot be told: {}", reason(errno))))
        }
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Whether a process has the socket at that path: a connection to a dead one is refused.
fn answers(path: &Path, kind: SocketKind) -> Result<bool, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(nix::sys::socket::AddressFamily::Unix, bind::socket_type(kind), flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        // A full queue, another type of socket, a datagram socket with another peer: somebody is there.
        Ok(()) | Err(Errno::EAGAIN | Errno::EINPROGRESS | Errno::EPROTOTYPE | Errno::EPERM) => Ok(true),
        Err(errno) => Err(errno),
    }
}

fn node_word(found: &fs::Metadata) -> &'static str {
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

/// Makes a node with the mode: 0666 less prebind's umask, or exactly what was asked for. By umask, so that there is no
/// moment in which the node can be reached with another mode.
fn with_umask<T>(mode: Option<u32>, make: impl FnOnce() -> T) -> T {
    // The umask belongs to the process. The launcher has one thread; tests have several.
    static UMASK: Mutex<()> = Mutex::new(());
    let _lock = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let old = umask(Mode::from_bits_truncate(0o777));
    let mask = match mode {
        Some(mode) => Mode::from_bits_truncate(!mode & 0o777),
        None => old | Mode::from_bits_truncate(0o111),
    };
    umask(mask);
    let result = make();
    umask(old);
    result
}

/// Whom a node is to belong to.
struct Owner {
    user: Option<Uid>,
    group: Option<Gid>,
}

impl Owner {
    /// Looks the names up; a user without a group brings the primary group, as in systemd.
    fn find(options: &SocketOptions) -> Result<Owner, String> {
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

    fn give(&self, path: &Path) -> Result<(), SocketError> {
        if self.user.is_none() && self.group.is_none() {
            return Ok(());
        }
        fchownat(AT_FDCWD, path.as_os_str().as_bytes(), self.user, self.group, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| SocketError::new(format!("cannot chown {}: {}", path.display(), reason(errno))))
    }
}
