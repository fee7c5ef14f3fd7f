//! The replacement of prebind's own program: same process, same descriptors, same children. The state goes to the next
//! program in a sealed memfd; before anything is given up, that program is asked whether it understands it.

#![allow(unsafe_code)]

use super::children::FrozenChild;
use super::health::FrozenHealth;
use super::ignored::{ignore_signals, restore_signals};
use super::notes::FrozenNotes;
use super::oom::OomWatch;
use super::terminal::Terminal;
use super::units::{FrozenLives, Lives};
use super::{Linux, Parts};
use crate::control::Claim;
use crate::control::einhorn::Teller;
use crate::control::event::Level;
use crate::control::place::FrozenClaim;
use crate::control::server::{FrozenServer, Server};
use crate::logs::{FrozenLogs, Logs, Paused};
use crate::notify::socket::{FrozenWorkersSocket, WorkersSocket};
use crate::plan::{Change, Nanos, Plan};
use crate::sockets::{Added, FrozenSockets, SocketError, Sockets};
use crate::supervise::{Event, Supervisor, Told};
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, execve};
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The shape of [`State`]. Another one is refused.
const FORMAT: u32 = 3;
/// What the next program says on its standard output when it understands the state. Exit code 0 alone is no answer: many
/// programs end so.
pub const UNDERSTOOD: &str = "prebind: the state is understood";
/// How long the next program may take to say whether it understands the state.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// The options that the next program is started with, before those of the first start.
const STATE_OPTION: &str = "--with-state-fd";
const CHECK_OPTION: &str = "--upgrade-check";

/// How prebind was started: what is started in its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Own {
    path: PathBuf,
    /// The first is the program's name.
    args: Vec<OsString>,
}

impl Own {
    /// By the path that was given, or found in PATH: a package upgrade puts the next program there.
    pub fn of_this_process() -> Own {
        let args: Vec<OsString> = std::env::args_os().collect();
        let name = args.first().map(PathBuf::from).unwrap_or_default();
        let given = || std::path::absolute(&name).ok().filter(|_| name.components().count() > 1);
        let path = given().or_else(|| in_path(&name)).or_else(|| std::env::current_exe().ok()).unwrap_or(name);
        Own { path, args }
    }

    /// The words of the next program: its own, or those of `--reexec-as`, then `before`, then what prebind itself was
    /// started with.
    fn words(&self, reexec_as: &[String], before: &[&str]) -> Vec<OsString> {
        let name = self.args.first().cloned().unwrap_or_else(|| "prebind".into());
        let first = if reexec_as.is_empty() { vec![name] } else { reexec_as.iter().map(OsString::from).collect() };
        let rest = self.args.iter().skip(1).cloned();
        first.into_iter().chain(before.iter().map(OsString::from)).chain(rest).collect()
    }
}

fn in_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Everything that the next program takes over.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    format: u32,
    version: String,
    /// Of the process that it is for.
    pid: u32,
    own: Own,
    plan: Plan,
    log_shifted: i8,
    teller: Teller,
    supervisor: serde_json::Value,
    sockets: FrozenSockets,
    claim: Option<FrozenClaim>,
    server: Option<FrozenServer>,
    notify: Option<FrozenWorkersSocket>,
    children: Vec<FrozenChild>,
    /// Signals that were heard and not handled.
    told: Vec<Told>,
    lives: FrozenLives,
    notes: FrozenNotes,
    #[serde(default)]
    logs: FrozenLogs,
    #[serde(default)]
    health: FrozenHealth,
    keeps_hup: bool,
    has_terminal: bool,
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

    /// Whether this process is the one that it is for; another one may only look at it.
    pub fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    /// How the first program was started.
    pub fn own(&self) -> Own {
        self.own.clone()
    }

    /// How much more is logged than the plan asks for.
    pub fn log_shifted(&self) -> i8 {
        self.log_shifted
    }

    /// What einhorn's log counts.
    pub fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The supervisor, in the plan that runs.
    pub fn supervisor(&self) -> Result<Supervisor, String> {
        Supervisor::thaw(self.supervisor.clone())
    }

    /// Opens the sockets that the next plan has beside those that are open.
    pub fn open_added(&self, next: &Plan, change: &Change) -> Result<Added, Vec<SocketError>> {
        Sockets::open_added(next, change, &self.sockets)
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
    pub fn sockets(&mut self, next: &Plan, change: &Change, added: Added) -> Result<(Sockets, Vec<String>), String> {
        let frozen = std::mem::take(&mut self.sockets);
        Sockets::thaw((&self.plan, next), change, frozen, added, &mut claim)
    }

    /// Takes over where probes are answered, or opens what is asked for now.
    pub fn health(&mut self, wanted: Option<SocketAddr>) -> std::io::Result<Option<TcpListener>> {
        let before = self.health.listener.take().map(|fd| TcpListener::from(claim(fd)));
        let Some(wanted) = wanted else { return Ok(None) };
        if self.plan.entry.health_listen == Some(wanted) && before.is_some() {
            return Ok(before);
        }
        drop(before);
        TcpListener::bind(wanted).map(Some)
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
    /// `refused`: why the plan that is read now is not the one that runs.
    pub fn resume(
        early: super::Early,
        parts: Parts,
        mut state: State,
        change: &Change,
        refused: Option<String>,
    ) -> std::io::Result<(Linux, Vec<Event>)> {
        let mut linux = Linux::new(early, parts)?;
        linux.terminal = state.has_terminal.then(Terminal::taken_over);
        if let Some(server) = state.server.take() {
            let _inside = linux.runtime.enter();
            let mut server = Server::thaw(server, &mut claim)?;
            server.keep_manner(linux.plan.manner);
            linux.sources.control = Some(server);
        }
        for child in state.children {
            linux.children.thaw(child, change, &mut claim);
        }
        linux.lives = Lives::thaw(state.lives, &mut claim);
        linux.thaw_notes(state.notes, (&state.plan, change), &mut claim)?;
        linux.logs.thaw(state.logs, &mut claim);
        if state.plan.entry.health_file != linux.plan.entry.health_file {
            let _ = state.plan.entry.health_file.map(std::fs::remove_file);
        }
        linux.tell_probes(state.health.ready);
        linux.health.thaw(&linux.runtime, state.health, &mut claim);
        if linux.plan.entry.pid1 {
            // The group is older than this program.
            linux.oom = OomWatch::default();
            linux.oom.begin();
        }
        linux.started_at = state.started_at;
        // First what became of the replacement: a stop that was told meanwhile does not undo it.
        let mut events = vec![refused.map_or(Event::Replaced, Event::ReplaceFailed)];
        events.extend(state.told.into_iter().map(Event::Told));
        // Whoever ended meanwhile is met by nobody's SIGCHLD.
        linux.reap(&mut events);
        linux.reap_missing(&mut events);
        linux.trim_due = true;
        Ok((linux, events))
    }

    /// Replaces this program. Returns only where that failed.
    pub(super) fn replace_program(&mut self, supervisor: &Supervisor, events: &mut Vec<Event>) {
        self.barriers.clear();
        if self.log.is_einhorns() {
            let words = self.own.words(&self.plan.reexec_as, &[]);
            self.say(Level::Info, "reexec", format!("About to re-exec einhorn master as {words:?}"));
        }
        // From here until the next program's handlers stand every signal waits.
        let blocked = SigSet::all().thread_set_mask();
        let told = self.sources.heard();
        let why = blocked.map_err(|errno| errno.to_string()).and_then(|()| {
            let paused = self.logs.pause()?;
            let frozen = self.frozen(supervisor, told.clone(), &paused);
            let tried = frozen.map(|(state, fds)| self.check_and_exec(&state, &fds));
            self.logs.go_on(paused);
            tried
        });
        let why = why.unwrap_or_else(|why| why);
        let _ = SigSet::empty().thread_set_mask();
        events.extend(told.into_iter().map(Event::Told));
        events.push(Event::ReplaceFailed(why));
        self.reap(events);
    }

    fn frozen(&self, supervisor: &Supervisor, told: Vec<Told>, logs: &Paused) -> Result<(State, Vec<RawFd>), String> {
        let mut fds = Vec::new();
        let notify = self.sources.notify().map(WorkersSocket::freeze);
        fds.extend(notify.iter().map(|(fd, _, _)| *fd));
        let state = State {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            own: self.own.clone(),
            plan: self.plan.clone(),
            log_shifted: self.log.shifted(),
            teller: self.teller.clone(),
            supervisor: supervisor.freeze()?,
            sockets: self.sockets.freeze(&mut fds),
            claim: self.claim.as_ref().map(|claim| claim.freeze(&mut fds)),
            server: self.sources.control.as_ref().map(|server| server.freeze(&mut fds)),
            notify,
            children: self.children.freeze(&mut fds),
            told,
            lives: self.lives.freeze(&mut fds),
            notes: self.freeze_notes(&mut fds),
            logs: Logs::freeze(logs, &mut fds),
            health: self.health.freeze(&mut fds),
            keeps_hup: self.sources.keeps_hup(),
            has_terminal: self.terminal.is_some(),
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
        // The next program tries whether new sockets can stand beside the old ones.
        set_close_on_exec(fds, false);
        let checked = self.dry_run(&number);
        let why = checked.and_then(|()| self.exec(&number)).err().unwrap_or_default();
        set_close_on_exec(fds, true);
        why
    }

    fn exec(&self, number: &str) -> Result<(), String> {
        let text = |word: &[u8]| CString::new(word).unwrap_or_default();
        let words = self.own.words(&self.plan.reexec_as, &[STATE_OPTION, number]);
        let args: Vec<CString> = words.iter().map(|word| text(word.as_bytes())).collect();
        let path = self.next_program();
        if !self.plan.reexec_as.is_empty() {
            self.say(Level::Info, "handing_over", format!("handing over to {}", self.plan.reexec_as.join(" ")));
        }
        let environment: Vec<CString> = self
            .next_environment()
            .map(|(key, value)| text(&[key.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect();
        let kept = if self.plan.reexec_as.is_empty() { Vec::new() } else { ignore_signals() };
        let Err(errno) = execve(&text(path.as_os_str().as_bytes()), &args, &environment);
        restore_signals(&kept);
        Err(format!("cannot execute {}: {}", path.display(), errno.desc().to_lowercase()))
    }

    /// What is executed: the first word of `--reexec-as`, found in PATH, or prebind's own path.
    fn next_program(&self) -> PathBuf {
        let Some(word) = self.plan.reexec_as.first() else { return self.own.path.clone() };
        if word.contains('/') { word.into() } else { in_path(word.as_ref()).unwrap_or_else(|| word.into()) }
    }

    /// The environment that prebind was started with, less what `--drop-env-var` names.
    fn next_environment(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let dropped = |key: &OsString| {
            self.plan.services.iter().flat_map(|service| &service.drop_env).any(|name| key.as_os_str() == name.as_str())
        };
        std::env::vars_os().filter(move |(key, _)| !dropped(key))
    }

    /// Asks the next program whether it understands the state and the plan as it is read now.
    fn dry_run(&self, number: &str) -> Result<(), String> {
        let path = self.next_program();
        let shown = path.display();
        let mut command = Command::new(&path);
        command.args(&self.own.words(&self.plan.reexec_as, &[STATE_OPTION, number, CHECK_OPTION])[1..]);
        command.env_clear().envs(self.next_environment());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What hangs is killed with all that it started: it holds copies of the sockets.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("cannot execute {shown}: no such file"),
            std::io::ErrorKind::PermissionDenied => format!("cannot execute {shown}: permission denied"),
            _ => format!("cannot execute {shown}: {error}"),
        })?;
        let said = child.stderr.take().map(|from| read_for(from, CHECK_LIMIT)).transpose();
        let word = child.stdout.take().map(|from| read_for(from, CHECK_LIMIT)).transpose();
        // Also where it answered: what a script left behind must not stay.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let status = child.wait().map_err(|error| error.to_string())?;
        let (said, word) = (said?.unwrap_or_default(), word?.unwrap_or_default());
        if word.lines().any(|line| line == UNDERSTOOD) {
            return Ok(());
        }
        if status.success() {
            return Err(format!("{shown} does not say that it understands the state (is it prebind?)"));
        }
        let reasons: Vec<&str> = said.lines().map(|line| line.trim_start_matches("prebind: ")).collect();
        Err(format!("{shown} refuses ({status}): {}", reasons.join("; ")))
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
