//! The replacement of prebind's own program: same process, same descriptors, same children. The state goes to the next
//! program in a sealed memfd; before anything is given up, that program is asked whether it understands it.

#![allow(unsafe_code)]

use super::children::FrozenChild;
use super::{Linux, Parts, trim};
use crate::control::Claim;
use crate::control::place::FrozenClaim;
use crate::control::server::{FrozenServer, Server};
use crate::notify::socket::{FrozenWorkersSocket, WorkersSocket};
use crate::plan::{Nanos, Plan};
use crate::sockets::{FrozenSockets, Sockets};
use crate::supervise::{Event, Supervisor, Told};
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use nix::unistd::execv;
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The shape of [`State`]. Another one is refused.
const FORMAT: u32 = 1;
/// How long the next program may take to say whether it understands the state.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// The options that the next program is started with, before those of the first start.
const STATE_OPTION: &str = "--with-state-fd";
const CHECK_OPTION: &str = "--upgrade-check";

/// How prebind was started: what is started in its place.
#[derive(Debug, Clone)]
pub struct Own {
    path: PathBuf,
    /// The first is the program's name.
    args: Vec<OsString>,
}

impl Own {
    /// By the path that was given, or found in PATH: a package upgrade puts the next program there.
    pub fn of_this_process() -> Own {
        let mut args: Vec<OsString> = std::env::args_os().collect();
        if args.get(1).is_some_and(|word| word == STATE_OPTION) && args.len() > 2 {
            args.drain(1..3);
        }
        let name = args.first().map(PathBuf::from).unwrap_or_default();
        let given = || std::path::absolute(&name).ok().filter(|_| name.components().count() > 1);
        let in_path = || {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|path| path.is_file())
        };
        let path = given().or_else(in_path).or_else(|| std::env::current_exe().ok()).unwrap_or(name);
        Own { path, args }
    }

    fn words(&self, before: &[&str]) -> Vec<OsString> {
        let rest = self.args.iter().skip(1).cloned();
        before.iter().map(OsString::from).chain(rest).collect()
    }
}

/// Everything that the next program takes over.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    format: u32,
    version: String,
    supervisor: serde_json::Value,
    sockets: FrozenSockets,
    claim: Option<FrozenClaim>,
    server: Option<FrozenServer>,
    notify: Option<FrozenWorkersSocket>,
    children: Vec<FrozenChild>,
    /// Signals that were heard and not handled.
    told: Vec<Told>,
    keeps_hup: bool,
    nofile: Option<(u64, u64)>,
    started_at: Nanos,
}

impl State {
    /// Reads it from its descriptor. Errors are for people.
    pub fn read(fd: RawFd) -> Result<State, String> {
        // SAFETY: borrowed only for this call; a number that is not open makes the reading fail.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let file =
            File::from(borrowed.try_clone_to_owned().map_err(|error| format!("no state on descriptor {fd}: {error}"))?);
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0).map_err(|error| format!("no state on descriptor {fd}: {error}"))?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| format!("the state is not understood: {error}"))?;
        let (format, version) = (&value["format"], value["version"].as_str().unwrap_or("?").to_owned());
        if format != FORMAT {
            return Err(format!("the state of prebind {version} has format {format}, this one understands {FORMAT}"));
        }
        serde_json::from_value(value)
            .map_err(|error| format!("the state of prebind {version} is not understood: {error}"))
    }

    /// Puts what came with LISTEN_FDS into the plan, and compares the rest.
    pub fn fit(&self, plan: &mut Plan) -> Result<(), String> {
        self.sockets.fit(plan)
    }

    /// The supervisor goes on in the plan as it is read now.
    pub fn supervisor(&self, plan: &Plan) -> Result<Supervisor, String> {
        Supervisor::thaw(plan, self.supervisor.clone())
    }

    /// Closes the descriptor that it was read from.
    pub fn close(fd: RawFd) {
        drop(claim(fd));
    }

    /// Whether the first start ignored HUP of a terminal that closes.
    pub fn keeps_hup(&self) -> bool {
        self.keeps_hup
    }

    /// The limit of open files that workers get.
    pub fn nofile(&self) -> Option<(u64, u64)> {
        self.nofile
    }

    /// Takes the sockets over. To be called once, in the process that the state is for.
    pub fn sockets(&mut self, plan: &Plan) -> Result<Sockets, String> {
        let frozen = std::mem::take(&mut self.sockets);
        Sockets::thaw(plan, frozen, &mut claim)
    }

    /// Takes control socket's claim, and the workers' notify socket.
    pub fn places(&mut self) -> Result<(Option<Claim>, Option<WorkersSocket>), String> {
        let claimed = self.claim.take().map(|frozen| Claim::thaw(frozen, &mut claim)).transpose()?;
        let notify = self.notify.take();
        Ok((claimed, notify.map(|frozen| WorkersSocket::thaw(claim(frozen.0), frozen))))
    }
}

/// Takes a descriptor over that the program before left open for us.
fn claim(number: RawFd) -> OwnedFd {
    // SAFETY: the state names each descriptor once, and nothing else in this process owns it. One that is not open
    // makes every use of it fail.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    fd
}

impl Linux {
    /// In the next program: what was taken over goes on. The events are to be handled first.
    pub fn resume(early: super::Early, parts: Parts, mut state: State) -> std::io::Result<(Linux, Vec<Event>)> {
        let mut linux = Linux::new(early, parts)?;
        if let Some(server) = state.server.take() {
            let _inside = linux.runtime.enter();
            linux.sources.control = Some(Server::thaw(server, &mut claim)?);
        }
        for child in state.children {
            linux.children.thaw(child, &mut claim);
        }
        linux.started_at = state.started_at;
        let mut events: Vec<Event> = state.told.into_iter().map(Event::Told).collect();
        events.push(Event::Replaced);
        // Whoever ended meanwhile is met by nobody's SIGCHLD.
        linux.reap(&mut events);
        trim::trim();
        Ok((linux, events))
    }

    /// Replaces this program. Returns only where that failed.
    pub(super) fn replace_program(&mut self, supervisor: &Supervisor, events: &mut Vec<Event>) {
        if self.terminal.is_some() {
            events.push(Event::ReplaceFailed("its worker has the terminal".into()));
            return;
        }
        self.barriers.get_mut().clear();
        // From here until the next program's handlers stand every signal waits.
        let blocked = SigSet::all().thread_set_mask();
        let told = self.sources.heard();
        let why = match blocked.map_err(|errno| errno.to_string()).and_then(|()| self.frozen(supervisor, told.clone()))
        {
            Ok((state, fds)) => self.check_and_exec(&state, &fds),
            Err(why) => why,
        };
        let _ = SigSet::empty().thread_set_mask();
        events.extend(told.into_iter().map(Event::Told));
        events.push(Event::ReplaceFailed(why));
        self.reap(events);
    }

    fn frozen(&self, supervisor: &Supervisor, told: Vec<Told>) -> Result<(State, Vec<RawFd>), String> {
        let mut fds = Vec::new();
        let notify = self.sources.notify().map(WorkersSocket::freeze);
        fds.extend(notify.iter().map(|(fd, _, _)| *fd));
        let state = State {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            supervisor: supervisor.freeze()?,
            sockets: self.sockets.freeze(&self.plan, &mut fds),
            claim: self.claim.as_ref().map(|claim| claim.freeze(&mut fds)),
            server: self.sources.control.as_ref().map(|server| server.freeze(&mut fds)),
            notify,
            children: self.children.freeze(&mut fds),
            told,
            keeps_hup: self.sources.keeps_hup(),
            nofile: self.base.nofile,
            started_at: self.started_at,
        };
        Ok((state, fds))
    }

    /// Returns why it failed.
    fn check_and_exec(&self, state: &State, fds: &[RawFd]) -> String {
        let memory = match sealed(state) {
            Ok(memory) => memory,
            Err(why) => return why,
        };
        let number = memory.as_raw_fd().to_string();
        if let Err(why) = self.dry_run(&number) {
            return why;
        }
        let shown = self.own.path.display();
        set_close_on_exec(fds, false);
        let text = |word: &[u8]| CString::new(word).unwrap_or_default();
        let name = self.own.args.first().map_or(&b"prebind"[..], |name| name.as_bytes());
        let words = self.own.words(&[STATE_OPTION, &number]);
        let args: Vec<CString> =
            std::iter::once(text(name)).chain(words.iter().map(|word| text(word.as_bytes()))).collect();
        let Err(errno) = execv(&text(self.own.path.as_os_str().as_bytes()), &args);
        set_close_on_exec(fds, true);
        format!("cannot execute {shown}: {}", errno.desc().to_lowercase())
    }

    /// Asks the next program whether it understands the state.
    fn dry_run(&self, number: &str) -> Result<(), String> {
        let path: &Path = &self.own.path;
        let shown = path.display();
        let mut command = Command::new(path);
        command.args(self.own.words(&[STATE_OPTION, number, CHECK_OPTION]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("cannot execute {shown}: no such file"),
            std::io::ErrorKind::PermissionDenied => format!("cannot execute {shown}: permission denied"),
            _ => format!("cannot execute {shown}: {error}"),
        })?;
        let said = child.stderr.take().map(|from| read_for(from, CHECK_LIMIT)).transpose();
        if said.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        let said = said?.unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let reason = said.lines().last().unwrap_or_default().trim_start_matches("prebind: ");
        Err(format!("{shown} refuses the state ({status}): {reason}"))
    }
}

/// What is written until the other end closes.
fn read_for(mut from: impl Read + AsFd, limit: Duration) -> Result<String, String> {
    let begun = Instant::now();
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], wait);
        if left.is_zero() || ready == Ok(0) {
            return Err(format!("the next program said nothing of the state for {} s", limit.as_secs()));
        }
        match from.read(&mut chunk) {
            Ok(0) | Err(_) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(length) => text.extend_from_slice(&chunk[..length]),
        }
    }
}

/// The state in a memfd that nobody can change any more, open in the next program.
fn sealed(state: &State) -> Result<OwnedFd, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the state cannot be written: {error}");
    let text = serde_json::to_vec(state).map_err(|error| failed(&error))?;
    let memory = memfd_create(c"prebind-state", MFdFlags::MFD_ALLOW_SEALING).map_err(|errno| failed(&errno))?;
    let mut file = File::from(memory);
    file.write_all(&text).map_err(|error| failed(&error))?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| failed(&errno))?;
    Ok(file.into())
}

fn set_close_on_exec(fds: &[RawFd], on: bool) {
    let flag = if on { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    for fd in fds {
        // SAFETY: each is a descriptor that this process owns and keeps open.
        let _ = fcntl(unsafe { BorrowedFd::borrow_raw(*fd) }, FcntlArg::F_SETFD(flag));
    }
}
