//! The workers' notify socket: one datagram socket that the kernel signs (SO_PASSCRED). Hands on each datagram with
//! its sender's pid and the descriptors that came with it; whose worker that is, the caller finds out. Nothing that
//! a stranger sends is an error here. A worker that speaks while the queue is full waits (net.unix.max_dgram_qlen,
//! which SO_RCVBUF does not widen), so that two thousand READY=1 at once are only a matter of reading on.

#![allow(unsafe_code)]

use super::{Garbage, Note};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, getsockname, setsockopt, socket, sockopt};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// SCM_MAX_FD: the kernel carries no more in one message.
const FDS_MAX: usize = 253;
/// Room for the sender's credentials and [`FDS_MAX`] descriptors.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 1152]);

/// It could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the workers' notify socket: {0}")]
pub struct NotifyError(#[from] io::Error);

/// One datagram, with what the kernel says about it.
#[derive(Debug)]
pub struct Datagram {
    /// Who sent it, as seen from here; 0: unknown, belongs to nobody.
    pub pid: i32,
    /// The sender's uid.
    pub uid: u32,
    /// What it says. Garbage is to be dropped and counted.
    pub note: Result<Note, Garbage>,
    /// What came with it. To be dropped only after the note is handled: a BARRIER's sender waits for that.
    pub fds: Vec<OwnedFd>,
}

/// The socket that workers find as NOTIFY_SOCKET.
#[derive(Debug)]
pub struct WorkersSocket {
    fd: OwnedFd,
    address: OsString,
    /// The path, with device and inode: only our own node is unlinked.
    node: Option<(PathBuf, (u64, u64))>,
}

/// [`WorkersSocket`] as data: descriptor, address, path with device and inode.
pub type FrozenWorkersSocket = (RawFd, OsString, Option<(PathBuf, (u64, u64))>);

impl WorkersSocket {
    /// Binds the socket beside the control socket (`web.sock` -> `web.notify`), where that serves: nobody else's socket
    /// is there, and each (uid, gid) of `reachable_by`, the workers' own where they have one, can reach the directory.
    /// Else an abstract one whose name the kernel chooses.
    pub fn bind(beside: Option<&Path>, reachable_by: &[(u32, u32)]) -> Result<WorkersSocket, NotifyError> {
        if let Some(path) = beside.map(notify_path).filter(|path| serves(path, reachable_by))
            && let Ok((fd, node)) = bind_path(&path)
        {
            return Ok(WorkersSocket { fd, address: path.clone().into(), node: Some((path, node)) });
        }
        Ok(bind_abstract().map(|(fd, address)| WorkersSocket { fd, address, node: None })?)
    }

    /// As data for the next program in this process.
    pub fn freeze(&self) -> FrozenWorkersSocket {
        (self.fd.as_raw_fd(), self.address.clone(), self.node.clone())
    }

    /// In the next program.
    pub fn thaw(fd: OwnedFd, (_, address, node): FrozenWorkersSocket) -> WorkersSocket {
        WorkersSocket { fd, address, node }
    }

    /// As NOTIFY_SOCKET wants it: `/path` or `@name`.
    pub fn address(&self) -> &OsStr {
        &self.address
    }

    /// The next datagram, `None` when there is none for now. One call reads one, good or bad, so that the caller can
    /// bound its batches.
    pub fn receive(&self) -> io::Result<Option<Datagram>> {
        let mut bytes = [0_u8; Note::BYTES_MAX];
        let mut control = Control([MaybeUninit::uninit(); 1152]);
        let mut slice = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: msghdr is plain data; all zero is a valid empty one.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &mut slice;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        let length = loop {
            let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
            // SAFETY: `message` points to `bytes` and `control`, which live on, with their true lengths.
            let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut message, flags) };
            match usize::try_from(length) {
                Ok(length) => break length,
                Err(_) => match Errno::last() {
                    Errno::EINTR => {}
                    Errno::EAGAIN => return Ok(None),
                    errno => return Err(errno.into()),
                },
            }
        };
        // SAFETY: recvmsg just filled `message` and its control buffer; each is read once.
        let (sender, fds) = unsafe { attached(&message) };
        let note = if message.msg_flags & libc::MSG_TRUNC != 0 {
            Err(Garbage::TooLong)
        } else if message.msg_flags & libc::MSG_CTRUNC != 0 {
            Err(Garbage::Descriptors)
        } else if sender.is_none_or(|sender| sender.pid <= 0) {
            Err(Garbage::Unsigned)
        } else {
            Note::parse(&bytes[..length])
        };
        let (pid, uid) = sender.map_or((0, u32::MAX), |sender| (sender.pid.max(0), sender.uid));
        Ok(Some(Datagram { pid, uid, note, fds }))
    }
}

impl AsFd for WorkersSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for WorkersSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for WorkersSocket {
    fn drop(&mut self) {
        if let Some((path, node)) = &self.node
            && node_of(path).is_ok_and(|now| now == *node)
        {
            // Nobody is left to be told.
            let _ = fs::remove_file(path);
        }
    }
}

/// `/run/prebind/web.sock` -> `/run/prebind/web.notify`; any other name gets the suffix added.
fn notify_path(control: &Path) -> PathBuf {
    if control.extension() == Some(OsStr::new("sock")) {
        return control.with_extension("notify");
    }
    let mut path = control.as_os_str().to_owned();
    path.push(".notify");
    path.into()
}

/// Whether the path can be bound and reached: absolute, its directory searchable by everyone who must, and what
/// stands there already, if anything, a socket that nobody holds any more (it is removed).
fn serves(path: &Path, reachable_by: &[(u32, u32)]) -> bool {
    let Some(directory) = path.parent().filter(|_| path.is_absolute()) else { return false };
    let Ok(directory) = directory.canonicalize() else { return false };
    if !reachable_by.iter().all(|(uid, gid)| searchable(&directory, *uid, *gid)) {
        return false;
    }
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {
            let refused = UnixDatagram::unbound().and_then(|probe| probe.connect(path));
            let stale = refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            stale && fs::remove_file(path).is_ok()
        }
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether that user may pass through the directory and all above it. Supplementary groups are not asked for: the
/// abstract name serves just as well.
fn searchable(directory: &Path, uid: u32, gid: u32) -> bool {
    uid == 0
        || directory.ancestors().all(|part| {
            fs::metadata(part).is_ok_and(|part| {
                let bit = match part {
                    _ if part.uid() == uid => 0o100,
                    _ if part.gid() == gid => 0o010,
                    _ => 0o001,
                };
                part.mode() & bit != 0
            })
        })
}

/// Signs from the start: no datagram may be queued unsigned, so this comes before the bind.
fn unbound() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::PassCred, &true)?;
    Ok(fd)
}

/// Binds to the path, writable for every uid: the kernel's signature decides who is heard, not the mode.
fn bind_path(path: &Path) -> io::Result<(OwnedFd, (u64, u64))> {
    let fd = unbound()?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let node = node_of(path)?;
    if fs::symlink_metadata(path)?.mode() & 0o666 != 0o666
        && let Err(error) = fs::set_permissions(path, Permissions::from_mode(0o666))
    {
        // An abstract name is tried next; the reason that counts is the first one.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok((fd, node))
}

/// Binds to an abstract name that the kernel chooses, and tells it.
fn bind_abstract() -> io::Result<(OwnedFd, OsString)> {
    let fd = unbound()?;
    bind(fd.as_raw_fd(), &UnixAddr::new_unnamed())?;
    let bound: UnixAddr = getsockname(fd.as_raw_fd())?;
    let name = bound.as_abstract().ok_or(Errno::EADDRNOTAVAIL)?;
    let address = OsString::from_vec([b"@", name].concat());
    Ok((fd, address))
}

/// Device and inode of what stands at the path itself.
fn node_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|there| (there.dev(), there.ino()))
}

/// What the kernel put beside the bytes: who sent them, and descriptors, which are ours from here on, also those of
/// a message that is dropped.
///
/// # Safety
/// `message` was filled by recvmsg, its control buffer is still there, and this is called once for it.
unsafe fn attached(message: &libc::msghdr) -> (Option<libc::ucred>, Vec<OwnedFd>) {
    let mut sender = None;
    let mut fds = Vec::new();
    // SAFETY: the CMSG_ macros stay within the control length that recvmsg wrote; the data may lie unaligned, and
    // each descriptor in it was installed in this process by this very message.
    unsafe {
        let mut part = libc::CMSG_FIRSTHDR(message);
        while !part.is_null() {
            let data = libc::CMSG_DATA(part);
            let length = ((*part).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match ((*part).cmsg_level, (*part).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                    sender = Some(data.cast::<libc::ucred>().read_unaligned());
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for n in 0..(length / size_of::<RawFd>()).min(FDS_MAX) {
                        fds.push(OwnedFd::from_raw_fd(data.cast::<RawFd>().add(n).read_unaligned()));
                    }
                }
                _ => {}
            }
            part = libc::CMSG_NXTHDR(message, part);
        }
    }
    (sender, fds)
}

#[cfg(test)]
mod tests {
    use super::super::{Garbage, Note};
    use super::{WorkersSocket, notify_path};
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::fs;
    use std::io::{ErrorKind, IoSlice};
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::path::{Path, PathBuf};

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("prebind-notify-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Directory(path.canonicalize().unwrap())
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn client(socket: &WorkersSocket) -> UnixDatagram {
        let address = match socket.address().as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
        };
        let client = UnixDatagram::unbound().unwrap();
        client.connect_addr(&address.unwrap()).unwrap();
        client
    }

    #[test]
    fn paths_lie_beside_the_control_socket() {
        for (control, notify) in
            [("/a/web.sock", "/a/web.notify"), ("/a/web", "/a/web.notify"), ("/a/web.1", "/a/web.1.notify")]
        {
            assert_eq!(notify_path(Path::new(control)), Path::new(notify));
        }
    }

    #[test]
    fn datagrams_are_signed_and_closed_on_exec() {
        let directory = Directory::new("signed");
        for beside in [None, Some(directory.0.join("web.sock"))] {
            let socket = WorkersSocket::bind(beside.as_deref(), &[]).unwrap();
            assert_eq!(socket.address().as_bytes()[0], if beside.is_some() { b'/' } else { b'@' });
            assert!(fcntl(&socket, FcntlArg::F_GETFD).unwrap() & FdFlag::FD_CLOEXEC.bits() != 0);
            assert!(socket.receive().unwrap().is_none());
            client(&socket).send(b"READY=1\nSTATUS=warm").unwrap();
            let got = socket.receive().unwrap().unwrap();
            assert_eq!(got.pid, std::process::id() as i32);
            assert_eq!(got.uid, nix::unistd::getuid().as_raw());
            let expected = Note { ready: true, status: Some("warm".into()), ..Note::default() };
            assert_eq!(got.note, Ok(expected));
            assert!(socket.receive().unwrap().is_none());
        }
    }

    #[test]
    fn a_barrier_ends_when_its_descriptor_is_dropped() {
        let socket = WorkersSocket::bind(None, &[]).unwrap();
        let client = client(&socket);
        let (ours, theirs) = nix::unistd::pipe().unwrap();
        let raw = [theirs.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&raw)];
        let words = [IoSlice::new(b"BARRIER=1")];
        sendmsg::<()>(client.as_raw_fd(), &words, &rights, MsgFlags::empty(), None).unwrap();
        drop(theirs);
        let closed = |timeout: u16| {
            let mut wait = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
            poll(&mut wait, PollTimeout::from(timeout)).unwrap() == 1
        };
        let got = socket.receive().unwrap().unwrap();
        assert_eq!(got.fds.len(), 1);
        assert!(got.note.as_ref().unwrap().barrier);
        assert!(fcntl(&got.fds[0], FcntlArg::F_GETFD).unwrap() & FdFlag::FD_CLOEXEC.bits() != 0);
        assert!(!closed(0));
        drop(got);
        assert!(closed(5000));
    }

    #[test]
    fn garbage_is_told_and_leaks_nothing() {
        let socket = WorkersSocket::bind(None, &[]).unwrap();
        let client = client(&socket);
        let (ours, theirs) = nix::unistd::pipe().unwrap();
        let raw = [theirs.as_raw_fd(); super::FDS_MAX];
        let rights = [ControlMessage::ScmRights(&raw)];
        let long = [b'x'; 5000];
        sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(&long)], &rights, MsgFlags::empty(), None).unwrap();
        drop(theirs);
        client.send(b"A\0B").unwrap();
        client.send(b"").unwrap();
        client.send(b"WATCHDOG=1").unwrap();
        let got = socket.receive().unwrap().unwrap();
        assert_eq!((got.note, got.fds.len()), (Err(Garbage::TooLong), super::FDS_MAX));
        drop(got.fds);
        let mut wait = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut wait, PollTimeout::from(5000_u16)).unwrap(), 1);
        for expected in [Err(Garbage::Nul), Ok(Note::default()), Ok(Note { watchdog: true, ..Note::default() })] {
            assert_eq!(socket.receive().unwrap().unwrap().note, expected);
        }
        assert!(socket.receive().unwrap().is_none());
    }

    #[test]
    fn a_full_queue_makes_workers_wait_and_loses_nothing() {
        let socket = WorkersSocket::bind(None, &[]).unwrap();
        let client = client(&socket);
        let sender =
            std::thread::spawn(move || (0..2000).for_each(|_| assert_eq!(client.send(b"READY=1").unwrap(), 7)));
        for _ in 0..2000 {
            let got = loop {
                if let Some(got) = socket.receive().unwrap() {
                    break got;
                }
                let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                assert_eq!(poll(&mut wait, PollTimeout::from(5000_u16)).unwrap(), 1);
            };
            assert!(got.note.unwrap().ready);
        }
        sender.join().unwrap();
    }

    #[test]
    fn the_path_is_everyones_to_write_and_ours_to_remove() {
        let directory = Directory::new("path");
        let beside = directory.0.join("web.sock");
        let path = directory.0.join("web.notify");
        let socket = WorkersSocket::bind(Some(&beside), &[]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);

        // Another one beside the same name leaves the living one alone.
        let second = WorkersSocket::bind(Some(&beside), &[]).unwrap();
        assert_eq!(second.address().as_bytes()[0], b'@');
        drop(second);
        client(&socket).send(b"READY=1").unwrap();

        // A stranger's file at our path is not ours to remove.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        drop(socket);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        let third = WorkersSocket::bind(Some(&beside), &[]).unwrap();
        assert_eq!(third.address().as_bytes()[0], b'@');
        fs::remove_file(&path).unwrap();

        // A dead one's socket is replaced, and ours goes with us.
        drop(UnixDatagram::bind(&path).unwrap());
        let fourth = WorkersSocket::bind(Some(&beside), &[]).unwrap();
        assert_eq!(fourth.address(), path.as_os_str());
        drop(fourth);
        assert_eq!(fs::symlink_metadata(&path).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn unreachable_or_unusable_directories_give_an_abstract_name() {
        let directory = Directory::new("closed");
        fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o700)).unwrap();
        let ours = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let beside = directory.0.join("web.sock");
        let long = directory.0.join("x".repeat(200));
        for (beside, reachable_by, first) in [
            (beside.as_path(), vec![ours], b'/'),
            (beside.as_path(), vec![ours, (65_534, 65_534)], b'@'),
            (long.as_path(), vec![], b'@'),
            (Path::new("/nonexistent/web.sock"), vec![], b'@'),
            (Path::new("web.sock"), vec![], b'@'),
        ] {
            let socket = WorkersSocket::bind(Some(beside), &reachable_by).unwrap();
            assert_eq!(socket.address().as_bytes()[0], first, "{} {reachable_by:?}", beside.display());
            client(&socket).send(b"READY=1").unwrap();
            assert!(socket.receive().unwrap().unwrap().note.unwrap().ready);
        }
    }
}
