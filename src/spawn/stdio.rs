//! Descriptors 0, 1 and 2 of a worker, and the files that it gets open (`OpenFile=`). Everything is opened here, with
//! prebind's rights and close-on-exec; the child only copies. Nothing in here waits: a FIFO is opened without a peer.

use super::clone::Standard;
use super::error::{SpawnError, Stage, reason};
use super::{Base, Copy, Given, Output, Part};
use crate::plan::{LogFile, ServiceSpec, Stdio};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{self, AddressFamily, Shutdown, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::pipe2;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What was opened for one process, and what becomes of its standard descriptors.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) standard: [Standard; 3],
    /// The files of `OpenFile=` with their names, after the sockets.
    pub(super) files: Vec<(OwnedFd, String)>,
    /// What is to be followed once it runs.
    pub(super) outputs: Vec<Output>,
    /// Kept open until the child has its copies.
    held: Vec<OwnedFd>,
}

/// Whether the socket is a standard descriptor: then there are no others.
fn takes_socket(service: &ServiceSpec) -> bool {
    let process = &service.process;
    [&process.stdin, &process.stdout, &process.stderr].contains(&&Stdio::Socket)
}

/// The descriptors from 3 on, but for the connection to the control socket, with their names: the sockets or the
/// connection, the stored ones, the opened files. The commands around a worker get none.
pub(super) fn passed<'a>(
    service: &ServiceSpec,
    given: &'a [Given<'a>],
    copy: &'a Copy<'a>,
    files: &'a [(OwnedFd, String)],
) -> impl Iterator<Item = (BorrowedFd<'a>, &'a str)> {
    let none = matches!(copy.part, Part::Step(..)) || takes_socket(service);
    let files = files.iter().map(|(fd, name)| (fd.as_fd(), name.as_str()));
    sources(given, copy).chain(files).filter(move |_| !none)
}

fn sources<'a>(given: &'a [Given<'a>], copy: &'a Copy<'a>) -> impl Iterator<Item = (BorrowedFd<'a>, &'a str)> {
    let connection = copy.connection.and_then(|served| Some((served.fd.as_ref()?.as_fd(), served.name.as_str())));
    let sockets = given.iter().map(|socket| (socket.fd, socket.facts.name.as_str()));
    let sockets = sockets.filter(|_| copy.connection.is_none());
    let stored = copy.stored.iter().map(|(name, fd)| (fd.as_fd(), name.as_str()));
    connection.into_iter().chain(sockets).chain(stored)
}

impl Streams {
    /// Opens everything.
    pub(super) fn open(
        base: &Base,
        service: &ServiceSpec,
        given: &[Given],
        copy: &Copy,
        remarks: &mut Vec<String>,
    ) -> Result<Streams, SpawnError> {
        let mut streams = Streams::default();
        let process = &service.process;
        streams.standard[0] = streams.input(base, service, given, copy)?;
        streams.standard[1] = streams.output(service, given, copy, 1, &process.stdout)?;
        streams.standard[2] = match (&process.stdout, &process.stderr) {
            // The same file is opened once, so that neither writes over the other.
            (out, Stdio::File(_) | Stdio::Append(_) | Stdio::Truncate(_) | Stdio::Log(..))
                if *out == process.stderr =>
            {
                Standard::CopyOf(1)
            }
            (_, own) => streams.output(service, given, copy, 2, own)?,
        };
        if matches!(copy.part, Part::Main(_)) {
            streams.open_files(service, remarks)?;
        }
        Ok(streams)
    }

    fn input(
        &mut self,
        base: &Base,
        service: &ServiceSpec,
        given: &[Given],
        copy: &Copy,
    ) -> Result<Standard, SpawnError> {
        let stage = Stage::StandardInput;
        match &service.process.stdin {
            Stdio::Own | Stdio::Input if base.stdin_null && copy.terminal.is_none() => Ok(Standard::Null),
            Stdio::Own | Stdio::Input => Ok(Standard::Own),
            Stdio::Null => Ok(Standard::Null),
            Stdio::Socket => the_socket(service, given, copy, stage),
            Stdio::Named(name) => named(service, given, copy, name, stage),
            Stdio::Data(bytes) => {
                let file =
                    data(bytes).map_err(|errno| SpawnError::of_worker(&service.name, stage, "its text", errno))?;
                Ok(self.hold(file))
            }
            Stdio::File(path) | Stdio::Append(path) | Stdio::Truncate(path) | Stdio::Log(LogFile { path, .. }) => {
                // The same file for both ways is opened once, for both.
                let process = &service.process;
                let both = [&process.stdout, &process.stderr].contains(&&process.stdin);
                let flags = if both { OFlag::O_RDWR | OFlag::O_CREAT } else { OFlag::O_RDONLY };
                self.file(service, stage, path, flags)
            }
        }
    }

    fn output(
        &mut self,
        service: &ServiceSpec,
        given: &[Given],
        copy: &Copy,
        target: usize,
        wanted: &Stdio,
    ) -> Result<Standard, SpawnError> {
        let stage = if target == 1 { Stage::StandardOutput } else { Stage::StandardError };
        let write = OFlag::O_WRONLY | OFlag::O_CREAT;
        match wanted {
            Stdio::Own | Stdio::Data(_) => Ok(Standard::Own),
            Stdio::Null => Ok(Standard::Null),
            Stdio::Input => Ok(match (&service.process.stdin, self.standard[0]) {
                (Stdio::Data(_), _) | (_, Standard::Own | Standard::Null) => Standard::Own,
                (_, Standard::CopyOf(_)) => Standard::CopyOf(0),
            }),
            Stdio::Socket => the_socket(service, given, copy, stage),
            Stdio::Named(name) => named(service, given, copy, name, stage),
            Stdio::File(_) if *wanted == service.process.stdin => Ok(Standard::CopyOf(0)),
            Stdio::File(path) => self.file(service, stage, path, write),
            Stdio::Append(path) => self.file(service, stage, path, write | OFlag::O_APPEND),
            Stdio::Log(file) => self.log(service, stage, file),
            Stdio::Truncate(path) => self.file(service, stage, path, write | OFlag::O_TRUNC),
        }
    }

    fn file(&mut self, service: &ServiceSpec, stage: Stage, path: &Path, flags: OFlag) -> Result<Standard, SpawnError> {
        let opened = open_file(service, stage, path, flags)?;
        Ok(self.hold(opened))
    }

    /// A pipe, whose other end and file are for whoever follows it.
    fn log(&mut self, service: &ServiceSpec, stage: Stage, spec: &LogFile) -> Result<Standard, SpawnError> {
        let file = open_file(service, stage, &spec.path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND)?;
        let pipe = pipe2(OFlag::O_CLOEXEC).and_then(|(read, write)| {
            fcntl(&read, FcntlArg::F_SETFL(OFlag::O_RDONLY | OFlag::O_NONBLOCK))?;
            // Also a worker that changed its user may open /dev/stdout.
            fchmod(&write, Mode::from_bits_truncate(0o622))?;
            Ok((read, write))
        });
        let (pipe, write) = pipe.map_err(|errno| SpawnError::of_worker(&service.name, stage, "a pipe", errno))?;
        self.outputs.push(Output { spec: spec.clone(), file: file.into(), pipe });
        Ok(self.hold(write))
    }

    fn hold(&mut self, fd: OwnedFd) -> Standard {
        let standard = Standard::CopyOf(fd.as_raw_fd());
        self.held.push(fd);
        standard
    }

    fn open_files(&mut self, service: &ServiceSpec, remarks: &mut Vec<String>) -> Result<(), SpawnError> {
        for file in &service.process.open_files {
            let mut flags = if file.read_only { OFlag::O_RDONLY } else { OFlag::O_RDWR };
            flags.set(OFlag::O_APPEND, file.append);
            flags.set(OFlag::O_TRUNC, file.truncate);
            match open_path(&file.path, flags, Mode::empty()) {
                Ok(fd) => self.files.push((fd, file.name.clone())),
                Err(errno) if file.graceful => {
                    remarks.push(format!("OpenFile={} left out: {}", file.path.display(), reason(errno)));
                }
                Err(errno) => {
                    let thing = format!("'{}' (OpenFile=)", file.path.display());
                    return Err(SpawnError::of_worker(&service.name, Stage::OpenFile, &thing, errno));
                }
            }
        }
        Ok(())
    }
}

fn open_file(service: &ServiceSpec, stage: Stage, path: &Path, flags: OFlag) -> Result<OwnedFd, SpawnError> {
    let mode = Mode::from_bits_truncate(0o666 & !service.umask.unwrap_or(0o022));
    open_path(path, flags, mode)
        .map_err(|errno| SpawnError::of_worker(&service.name, stage, &format!("'{}'", path.display()), errno))
}

/// The worker's only socket, or its connection.
fn the_socket(service: &ServiceSpec, given: &[Given], copy: &Copy, stage: Stage) -> Result<Standard, SpawnError> {
    let connection = copy.connection.map(|served| served.fd.as_ref().map(AsRawFd::as_raw_fd));
    match (connection, given) {
        (Some(Some(fd)), _) => Ok(Standard::CopyOf(fd)),
        (None, [only]) => Ok(Standard::CopyOf(only.fd.as_raw_fd())),
        (connection, given) => {
            let why = match connection {
                Some(_) => "the main process had it, it is closed by now".to_string(),
                None => format!("it has {}, but must have exactly one", given.len()),
            };
            let message = format!("worker of '{}': {} its socket: {why}", service.name, stage.text());
            Err(SpawnError::new(stage, Errno::EINVAL, message))
        }
    }
}

/// `fd:NAME`. The commands around a worker have no descriptors, so none of that name either, as in systemd.
fn named(
    service: &ServiceSpec,
    given: &[Given],
    copy: &Copy,
    name: &str,
    stage: Stage,
) -> Result<Standard, SpawnError> {
    let mut all = sources(given, copy).filter(|_| matches!(copy.part, Part::Main(_)));
    match all.find(|(_, other)| *other == name) {
        Some((fd, _)) => Ok(Standard::CopyOf(fd.as_raw_fd())),
        None => {
            let text = stage.text();
            let message =
                format!("worker of '{}': {text} 'fd:{name}': it gets no descriptor of that name", service.name);
            Err(SpawnError::new(stage, Errno::ENOENT, message))
        }
    }
}

/// Opens without waiting, and without taking a terminal for prebind's own; what the worker gets waits as usual. A new
/// file has exactly `mode`. A unix socket is connected to.
fn open_path(path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
    let here = OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let opened = match flags.contains(OFlag::O_CREAT) {
        true => match open(path, flags | here | OFlag::O_EXCL, mode) {
            Ok(made) => fchmod(&made, mode).map(|()| made),
            Err(Errno::EEXIST) => open(path, (flags | here) - OFlag::O_CREAT, mode),
            Err(errno) => Err(errno),
        },
        false => open(path, flags | here, mode),
    };
    let fd = match opened {
        Err(Errno::ENXIO) => connect(path, flags)?,
        other => other?,
    };
    let status = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(status - OFlag::O_NONBLOCK))?;
    Ok(fd)
}

fn connect(path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let kind = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, kind, None)?;
    // A FIFO that nobody reads is no socket.
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?).map_err(|errno| match errno {
        Errno::ECONNREFUSED if !is_socket(path) => Errno::ENXIO,
        other => other,
    })?;
    match flags & OFlag::O_ACCMODE {
        OFlag::O_RDONLY => socket::shutdown(fd.as_raw_fd(), Shutdown::Write)?,
        OFlag::O_WRONLY => socket::shutdown(fd.as_raw_fd(), Shutdown::Read)?,
        _ => {}
    }
    Ok(fd)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_socket())
}

/// These bytes as a file that nobody can change.
fn data(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let fd = memfd_create(c"prebind-stdin", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(failed)?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}
