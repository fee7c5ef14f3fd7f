//! Where the control socket lies, and who holds it. Receives [`Identity`], hands on a [`Claim`]: the bound listener, the
//! locks and the pid file, all let go (and only if still ours) when it is dropped. What another prebind holds is never
//! touched: a path is taken over only under its lock, and only when nobody answers on it.

use crate::plan::Identity;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use nix::unistd::{Uid, geteuid};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Bytes of the longest path that a UNIX socket can have.
const PATH_BYTES_MAX: usize = 107;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Somebody else has what was asked for.
    #[error("cannot take {what} {}: {reason}{} ({remedy})", path.display(), holder(*pid))]
    Busy {
        /// Socket, lock or pid file.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// How it is busy.
        reason: &'static str,
        /// By whom, where it can be told.
        pid: Option<i32>,
        /// What to do.
        remedy: &'static str,
    },
    /// The system refused.
    #[error("cannot {what} {}: {}{}", path.display(), reason(source), remedy_text(remedy))]
    System {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
        /// What to do, if anything.
        remedy: &'static str,
    },
    /// None of the default directories serves.
    #[error("no directory for the control socket: {0} (-d PATH, or --no-control)")]
    Nowhere(String),
    /// A name that cannot be a file's.
    #[error("the name '{0}' cannot name a control socket: it is empty or has a slash (-c NAME)")]
    BadName(String),
}

fn holder(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn remedy_text(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!(" ({remedy})") }
}

/// The short reason of a system error, in lower case.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => "no such file".into(),
        Some(Errno::EACCES | Errno::EPERM) => "permission denied".into(),
        Some(Errno::EADDRINUSE) => "address in use".into(),
        Some(errno) => errno.desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// The control socket and what else tells this prebind from others, held until dropped.
#[derive(Debug)]
pub struct Claim {
    path: Option<PathBuf>,
    listener: Option<UnixListener>,
    remark: Option<String>,
    /// Device and inode of the socket that we bound: what lies there at the end may be another's.
    node: Option<(u64, u64)>,
    pidfile: Option<PathBuf>,
    own_lock: Option<(PathBuf, Flock<File>)>,
    lockfile: Option<Flock<File>>,
}

impl Claim {
    /// Holds nothing.
    fn none() -> Claim {
        Claim { path: None, listener: None, remark: None, node: None, pidfile: None, own_lock: None, lockfile: None }
    }

    /// The socket's path; `None` with `--no-control`.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// einhorn locks its file only while it takes the socket.
    pub fn let_lockfile_go(&mut self) {
        self.lockfile = None;
    }

    /// The listener, close-on-exec and not blocking; once.
    pub fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }

    /// Something that the user should know: another name than the expected one was taken.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }
}

/// A claim as data, for the next program in this process.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenClaim {
    path: Option<PathBuf>,
    node: Option<(u64, u64)>,
    pidfile: Option<PathBuf>,
    own_lock: Option<(PathBuf, i32)>,
    lockfile: Option<i32>,
}

impl Claim {
    /// As data; the numbers of the locks' descriptors are put into `fds`.
    pub fn freeze(&self, fds: &mut Vec<i32>) -> FrozenClaim {
        let own_lock = self.own_lock.as_ref().map(|(path, lock)| (path.clone(), lock.as_raw_fd()));
        let lockfile = self.lockfile.as_ref().map(|lock| lock.as_raw_fd());
        fds.extend(own_lock.iter().map(|(_, fd)| *fd).chain(lockfile));
        let (path, pidfile) = (self.path.clone(), self.pidfile.clone());
        FrozenClaim { path, node: self.node, pidfile, own_lock, lockfile }
    }

    /// In the next program: the locks are held by the descriptors.
    pub fn thaw(frozen: FrozenClaim, claim: &mut dyn FnMut(i32) -> OwnedFd) -> Result<Claim, String> {
        let mut lock = |fd: i32| {
            let file = File::from(claim(fd));
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| format!("a lock is lost: {errno}"))
        };
        let own_lock = match frozen.own_lock {
            Some((path, fd)) => Some((path, lock(fd)?)),
            None => None,
        };
        let lockfile = frozen.lockfile.map(lock).transpose()?;
        let FrozenClaim { path, node, pidfile, .. } = frozen;
        Ok(Claim { path, listener: None, remark: None, node, pidfile, own_lock, lockfile })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Nobody is left to be told of what fails here; each of it is put right by the next start.
        if let (Some(path), Some(node)) = (&self.path, self.node)
            && fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == node)
        {
            let _ = fs::remove_file(path);
        }
        if let Some(pidfile) = &self.pidfile
            && pid_in(pidfile) == Some(own_pid())
        {
            let _ = fs::remove_file(pidfile);
        }
        // Removed while it is held: whoever waits for it sees that it is no longer the one at its path.
        if let Some((path, _)) = &self.own_lock {
            let _ = fs::remove_file(path);
        }
    }
}

/// Takes the control socket that `identity` asks for (`default_name`: the command's base name), `-f` and `-e`.
/// `None`: there is nothing to hold. `env` reads XDG_RUNTIME_DIR and TMPDIR.
pub fn claim(
    identity: &Identity,
    default_name: &str,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Claim>, PlaceError> {
    claim_among(&directories(geteuid(), env), identity, default_name)
}

fn claim_among(
    directories: &[Directory],
    identity: &Identity,
    default_name: &str,
) -> Result<Option<Claim>, PlaceError> {
    let lockfile = identity.lockfile.as_deref().map(|path| lock(path, "lock file")).transpose()?;
    let mut claim = if identity.no_control {
        if lockfile.is_none() && identity.pidfile.is_none() {
            return Ok(None);
        }
        Claim::none()
    } else if let Some(path) = &identity.socket_path {
        take(path, identity.mode_by_umask)?
    } else {
        take_default(directories, identity.name.as_deref(), default_name)?
    };
    claim.lockfile = lockfile;
    if let Some(path) = &identity.pidfile {
        claim.pidfile = write_pidfile(path)?;
    }
    Ok(Some(claim))
}

/// A default directory of control sockets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    mode: u32,
}

/// The default directories, the best first.
pub(super) fn directories(uid: Uid, env: &dyn Fn(&str) -> Option<OsString>) -> Vec<Directory> {
    // Root's workers may run as somebody else and must get through; who may what is the server's business.
    let mode = if uid.is_root() { 0o755 } else { 0o700 };
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut paths = Vec::new();
    if uid.is_root() {
        paths.push(PathBuf::from("/run/prebind"));
    }
    paths.extend(absolute("XDG_RUNTIME_DIR").map(|path| path.join("prebind")));
    let temporary = absolute("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    paths.push(temporary.join(format!("prebind-{uid}")));
    // Of a container with a read-only root.
    paths.push(PathBuf::from("/dev/shm").join(format!("prebind-{uid}")));
    paths.into_iter().map(|path| Directory { path, mode }).collect()
}

impl Directory {
    /// Makes it, or checks that it is a directory of our own that nobody else can change.
    fn ready(&self) -> Result<(), String> {
        let made = DirBuilder::new().mode(self.mode).create(&self.path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(reason(&error));
        }
        let found = fs::symlink_metadata(&self.path).map_err(|error| reason(&error))?;
        match found.mode() & 0o777 {
            _ if !found.is_dir() => Err("not a directory".into()),
            _ if found.uid() != geteuid().as_raw() => Err(format!("belongs to uid {}", found.uid())),
            mode if mode & 0o022 != 0 => Err(format!("mode {mode:o}: others may write to it")),
            // The umask may have taken what --user workers need.
            mode if mode != self.mode => {
                fs::set_permissions(&self.path, Permissions::from_mode(self.mode)).map_err(|error| reason(&error))
            }
            _ => Ok(()),
        }
    }
}

fn take_default(directories: &[Directory], asked: Option<&str>, default: &str) -> Result<Claim, PlaceError> {
    let name = asked.unwrap_or(default);
    let wrong = name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']);
    if wrong && asked.is_some() {
        return Err(PlaceError::BadName(name.into()));
    }
    let name = if wrong { format!("prebind{}", name.replace(['/', '\0'], "_")) } else { name.into() };
    let mut tried = Vec::new();
    for directory in directories {
        if let Err(why) = directory.ready() {
            tried.push(format!("{}: {why}", directory.path.display()));
            continue;
        }
        let path = directory.path.join(format!("{name}.sock"));
        match take(&path, false) {
            Ok(claim) => return Ok(claim),
            Err(busy @ PlaceError::Busy { .. }) if asked.is_some() => return Err(busy),
            Err(PlaceError::Busy { pid, .. }) => {
                let other = directory.path.join(format!("{name}-{}.sock", own_pid()));
                let mut claim = take(&other, false)?;
                let (path, other) = (path.display(), other.display());
                claim.remark = Some(format!("{path} is busy{}; the control socket is {other}", holder(pid)));
                return Ok(claim);
            }
            Err(other) => tried.push(other.to_string()),
        }
    }
    if asked.is_some() {
        return Err(PlaceError::Nowhere(tried.join("; ")));
    }
    let remark = format!("no control socket, as no directory serves: {} (-d PATH)", tried.join("; "));
    let mut none = Claim::none();
    none.remark = Some(remark);
    Ok(none)
}

/// Binds the socket at `path`, in place of one on which nobody answers.
fn take(path: &Path, mode_by_umask: bool) -> Result<Claim, PlaceError> {
    let system = |what, source| PlaceError::System { what, path: path.into(), source, remedy: "" };
    if path.as_os_str().len() > PATH_BYTES_MAX {
        let source = io::Error::other(format!("a socket's path has at most {PATH_BYTES_MAX} bytes"));
        return Err(system("bind the control socket", source));
    }
    let lock_path = beside(path, ".lock");
    let own_lock = lock(&lock_path, "control socket").map_err(|error| match error {
        PlaceError::Busy { pid, remedy, .. } => {
            let reason = "another prebind holds it";
            let pid = answering_pid(path).ok().flatten().or(pid);
            PlaceError::Busy { what: "control socket", path: path.into(), reason, pid, remedy }
        }
        other => other,
    })?;
    let mut claim = Claim::none();
    claim.own_lock = Some((lock_path, own_lock));
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(|error| system("bind the control socket", error))?;
    claim.path = Some(path.into());
    let found = fs::symlink_metadata(path).ok();
    claim.node = found.as_ref().map(|found| (found.dev(), found.ino()));
    // Everybody who connects is asked for credentials; root's workers may be somebody else and must get through.
    let mode = if geteuid().is_root() { 0o666 } else { 0o600 };
    let right = mode_by_umask || found.is_some_and(|found| found.mode() & 0o666 == mode);
    let opened = if right { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(mode)) };
    opened
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(|error| system("open up the control socket", error))?;
    claim.listener = Some(listener);
    Ok(claim)
}

/// Makes way at `path`: removes a socket that nobody answers on, and nothing else.
fn clear(path: &Path) -> Result<(), PlaceError> {
    let busy =
        |reason, pid, remedy| PlaceError::Busy { what: "control socket", path: path.into(), reason, pid, remedy };
    match answering_pid(path) {
        Ok(pid) => Err(busy("somebody answers on it", pid, "another -c NAME or -d PATH")),
        Err(Errno::ENOENT) => Ok(()),
        Err(Errno::ECONNREFUSED) => {
            use std::os::unix::fs::FileTypeExt;
            if !fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                return Err(busy("it exists and is no socket", None, "remove it, or -d PATH"));
            }
            fs::remove_file(path).map_err(|source| {
                let what = "remove the stale control socket";
                PlaceError::System { what, path: path.into(), source, remedy: "" }
            })
        }
        Err(Errno::EPROTOTYPE) => Err(busy("it is a socket of another kind", None, "remove it, or -d PATH")),
        Err(errno) => {
            let what = "look whether anybody answers on";
            Err(PlaceError::System { what, path: path.into(), source: errno.into(), remedy: "" })
        }
    }
}

/// Whether somebody accepts connections at `path`, and the pid of who listens, where the kernel tells.
pub(super) fn answering_pid(path: &Path) -> Result<Option<i32>, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        // Its queue of connections is full: it is there, but slow.
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
        Ok(()) => Ok(getsockopt(&probe, sockopt::PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)),
    }
}

/// Locks a file for as long as this prebind runs.
fn lock(path: &Path, what: &'static str) -> Result<Flock<File>, PlaceError> {
    let system = |source| PlaceError::System { what: "open the lock file", path: path.into(), source, remedy: "" };
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(path).map_err(system)?;
        let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => held,
            Err((_, Errno::EAGAIN)) => {
                let (reason, remedy) = ("another process holds its lock", "another -c NAME, or -d PATH with -f PATH");
                let pid = pid_in(path);
                return Err(PlaceError::Busy { what, path: path.into(), reason, pid, remedy });
            }
            Err((_, errno)) => return Err(system(errno.into())),
        };
        // Its last holder may have removed it between our opening and locking it.
        let (ours, there) = (held.metadata().map_err(system)?, fs::symlink_metadata(path));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(held);
        }
    }
}

/// Writes the pid file, unless it names another prebind that runs. Returns the path to remove at the end.
fn write_pidfile(path: &Path) -> Result<Option<PathBuf>, PlaceError> {
    let system = |source| PlaceError::System { what: "write the pid file", path: path.into(), source, remedy: "" };
    if let Some(pid) = pid_in(path)
        && pid != own_pid()
        && same_program(pid)
    {
        let (reason, remedy) = ("it names another prebind that runs", "another -e PIDFILE");
        return Err(PlaceError::Busy { what: "pid file", path: path.into(), reason, pid: Some(pid), remedy });
    }
    let text = format!("{}\n", own_pid());
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        // A link or a device: written through, and not ours to remove.
        fs::write(path, text).map_err(system)?;
        return Ok(None);
    }
    // Complete at every moment: nobody reads half a number.
    let new = beside(path, &format!(".{}", own_pid()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644).custom_flags(nix::libc::O_NOFOLLOW);
    let written = options.open(&new).and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = written.and_then(|()| fs::rename(&new, path)) {
        // What is left of the try goes; the error that counts is the first.
        let _ = fs::remove_file(&new);
        return Err(system(error));
    }
    Ok(Some(path.into()))
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

fn pid_in(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid| *pid > 0)
}

/// Whether the process runs the program that we run: a pid in an old file may be anybody's by now.
fn same_program(pid: i32) -> bool {
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    name(pid).is_some_and(|theirs| Some(theirs) == name(own_pid()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
