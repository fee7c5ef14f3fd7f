//! Paths of the file system: unix sockets and FIFOs. A stale socket is replaced only when nobody answers on it; a living
//! one is in use; any other node is left alone. Hands on the descriptor and the node that it made.

use super::error::{SocketError, reason};
use super::keeper::{OwnNode, left_spares};
use super::options::{self, Family};
use super::owner::{Own, Owner, make_parents, node_word, with_umask};
use super::{bind, holder, sys};
use crate::plan::{SocketKind, SocketOptions};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{SockFlag, UnixAddr, connect, socket};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

fn cannot_bind(path: &Path, why: impl std::fmt::Display) -> SocketError {
    SocketError::new(format!("cannot bind {}: {why}", path.display()))
}

/// Binds a unix socket to a path. Directories that it made are added to `made`.
pub(super) fn bind(
    path: &Path,
    kind: SocketKind,
    options: &SocketOptions,
    made: &mut Vec<PathBuf>,
    remarks: &mut Vec<String>,
) -> Result<(OwnedFd, OwnNode), SocketError> {
    let length = path.as_os_str().len();
    if length > sys::UNIX_NAME_BYTES_MAX {
        let max = sys::UNIX_NAME_BYTES_MAX;
        return Err(cannot_bind(path, format!("the path is too long: {length} bytes, a unix socket's at most {max}")));
    }
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(cannot_bind(path, "a path that ends in '/' is a directory's"));
    }
    let owner = Owner::find(options).map_err(|why| cannot_bind(path, why))?;
    let address = UnixAddr::new(path).map_err(|errno| cannot_bind(path, reason(errno)))?;
    make_parents(path, options, made).map_err(|why| cannot_bind(path, why))?;
    clear_stale(path, kind, options.lenient)?;
    let fd = bind::open_socket(libc::AF_UNIX, kind, options).map_err(|errno| cannot_bind(path, reason(errno)))?;
    let settings = options::before_bind(options, Family::Other, kind);
    if options.lenient {
        options::apply(fd.as_fd(), &settings, true, &path.display().to_string(), remarks)?;
    }
    with_umask(options, Own::Ignored, || nix::sys::socket::bind(fd.as_raw_fd(), &address)).map_err(
        |errno| match errno {
            Errno::EADDRINUSE => {
                cannot_bind(path, format!("address in use{}", holder::of_unix(&path.to_string_lossy())))
            }
            errno => cannot_bind(path, reason(errno)),
        },
    )?;
    let node = OwnNode::just_made(path).map_err(|errno| cannot_bind(path, reason(errno)))?;
    owner.give(path)?;
    Ok((fd, node))
}

/// Opens a FIFO for reading and writing, so that it never ends; makes it first where there is none. One that was there
/// before is not ours: it is not removed at the end, but for a unit that says so (RemoveOnStop=).
pub(super) fn fifo(
    path: &Path,
    options: &SocketOptions,
    made: &mut Vec<PathBuf>,
) -> Result<(OwnedFd, Option<OwnNode>), SocketError> {
    let cannot = |why: String| SocketError::new(format!("cannot open FIFO {}: {why}", path.display()));
    let owner = Owner::find(options).map_err(cannot)?;
    make_parents(path, options, made).map_err(cannot)?;
    clear_fifo_spares(path);
    let node = match with_umask(options, Own::Kept, || mkfifo(path, Mode::from_bits_truncate(0o777))) {
        Ok(()) => {
            let node = OwnNode::just_made(path).map_err(|errno| cannot(reason(errno)))?;
            owner.give(path)?;
            Some(node)
        }
        Err(Errno::EEXIST) => {
            check_existing_fifo(path, options, &owner).map_err(cannot)?;
            let found = || OwnNode::found(path).map_err(|errno| cannot(reason(errno)));
            options.lenient.then(found).transpose()?
        }
        Err(errno) => return Err(cannot(reason(errno))),
    };
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
    let fd = open(path, flags, Mode::empty()).map_err(|errno| cannot(reason(errno)))?;
    Ok((fd, node))
}

/// Removes the links that killed prebinds left beside a FIFO: a name of one that nobody can be asked about, but whose maker
/// is gone.
fn clear_fifo_spares(path: &Path) {
    let is_fifo = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    for spare in left_spares(path).into_iter().filter(|spare| is_fifo(spare)) {
        let maker = spare.to_str().and_then(|name| name.rsplit('-').next()).unwrap_or_default();
        if !maker.is_empty() && !Path::new("/proc").join(maker).exists() {
            let _ = fs::remove_file(spare);
        }
    }
}

/// What is there must be a FIFO like one that is made now.
fn check_existing_fifo(path: &Path, options: &SocketOptions, owner: &Owner) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !found.file_type().is_fifo() {
        return Err(format!("{} is in the way", node_word(&found)));
    }
    owner.fits(options, (found.mode(), found.uid(), found.gid()))
}

/// Removes a socket at the path if nobody answers on it, and the spare links that a killed prebind left beside it.
fn clear_stale(path: &Path, kind: SocketKind, lenient: bool) -> Result<(), SocketError> {
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
            let rule = if lenient { " (systemd takes a path from who listens on it; prebind never does)" } else { "" };
            Err(cannot_bind(path, format!("address in use{who}{rule}")))
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
