//! systemd-socket-activate, by the name of a link: listens, waits for the first traffic, and lets the program take this
//! process's place; with --accept runs one child for each connection. Its lines are that tool's, and so are its exit codes.

use super::print;
use crate::exit::Exit;
use crate::front::activate::{Activate, Asked, parse};
use crate::plan::{Plan, ServiceSpec, SocketId};
use crate::sockets::{Connection, Inherited, Sockets};
use crate::spawn::{Placed, die_with_parent, exec_in_place, modest_nofile};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{UnixAddr, getsockname, getsockopt};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::SIGCHLD;
use std::ffi::{CString, OsString};
use std::fmt::Display;
use std::io::{Read, Write, stderr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The hidden word under which this binary is a child that is about to become the program: the connection's descriptor,
/// the parent, whether it is for inetd, the names, and the program follow.
pub(super) const CHILD: &str = "--activated-child";
/// Variables of our own that the program gets.
const KEPT: [&str; 6] = ["TERM", "COLORTERM", "NO_COLOR", "PATH", "USER", "HOME"];

/// The words after the program's name.
pub(super) fn main(args: Vec<OsString>) -> Exit {
    if args.first().is_some_and(|word| word == CHILD) {
        return become_child(args.into_iter().skip(1).collect());
    }
    match parse(args) {
        Ok(Asked::Print(text)) => {
            print(&text);
            Exit::Done
        }
        Ok(Asked::Run(run)) => match listen(*run) {
            Ok(exit) => exit,
            Err(why) => fail(&why),
        },
        Err(why) => fail(&why),
    }
}

/// One line on stderr, as that tool says it.
fn say(line: &str) {
    // At once: a child says its lines at the same time.
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}

fn fail(why: &str) -> Exit {
    say(why);
    Exit::Failed
}

/// What is listened on: what was inherited comes first.
struct Listening {
    sockets: Sockets,
    count: u16,
}

impl Listening {
    fn fds(&self) -> impl Iterator<Item = (RawFd, BorrowedFd<'_>)> {
        (0..self.count).map(|n| (3 + RawFd::from(n as i16), self.sockets.fd(SocketId(n))))
    }
}

fn listen(run: Activate) -> Result<Exit, String> {
    let text = |error: &dyn Display| error.to_string();
    run.remarks.iter().for_each(|line| say(line));
    let inherited = Inherited::take().map_err(|problem| text(&problem))?;
    // Alone in a plan what was inherited is taken as it is; the rest is opened behind it.
    let mut plan = Plan { services: vec![ServiceSpec::default()], ..Plan::default() };
    let (mut assigned, problems) = inherited.assign(&mut plan);
    if let Some(problem) = problems.first() {
        return Err(text(problem));
    }
    let received = plan.sockets.len();
    plan.sockets.extend(run.sockets.iter().cloned());
    if plan.sockets.is_empty() {
        return Err("No sockets to listen on specified or passed in.".into());
    }
    assigned.fds.resize_with(plan.sockets.len(), || None);
    let (sockets, remarks) = Sockets::open(&plan, assigned)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    if received > 0 {
        say(&format!("Received {received} descriptors via the environment."));
    }
    remarks.iter().for_each(|line| say(line));
    let listening = Listening { sockets, count: plan.sockets.len() as u16 };
    for ((number, _), id) in listening.fds().zip(0..).skip(received) {
        say(&format!("Listening on {} as {number}.", listening.sockets.facts(SocketId(id)).address));
    }
    if run.accept { accept_all(&run, &listening) } else { Ok(become_program(&run, listening)) }
}

/// Waits until one of them has something, or `more` has. Which of them have.
fn readable(listening: &Listening, more: Option<BorrowedFd<'_>>) -> Result<Vec<usize>, String> {
    let fds = listening.fds().map(|(_, fd)| fd).chain(more);
    let mut waits: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut waits, PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(format!("Failed to wait for traffic: {}", errno.desc())),
    }
    let has = |wait: &PollFd| wait.revents().is_some_and(|events| !events.is_empty());
    Ok((0..usize::from(listening.count)).filter(|n| has(&waits[*n])).collect())
}

/// The program takes this process's place.
fn become_program(run: &Activate, listening: Listening) -> Exit {
    if !run.now {
        match readable(&listening, None) {
            Ok(ready) => ready.iter().for_each(|n| say(&format!("Communication attempt on fd {}.", 3 + n))),
            Err(why) => return fail(&why),
        }
    }
    if run.inetd && listening.count > 1 {
        return fail("--inetd only supported for single file descriptors.");
    }
    let copies: Result<Vec<OwnedFd>, _> = listening.fds().map(|(_, fd)| fd.try_clone_to_owned()).collect();
    let copies = match copies {
        Ok(copies) => copies,
        Err(error) => return fail(&format!("Failed to pass the sockets on: {error}")),
    };
    let targets = |n: RawFd| if run.inetd { vec![0, 1] } else { vec![3 + n] };
    let placed: Vec<Placed> = copies.into_iter().zip(0..).map(|(fd, n)| Placed { fd, targets: targets(n) }).collect();
    let count = usize::from(listening.count);
    let names = fd_names(&run.names, count);
    // What it keeps beside a path, in case that vanishes, goes with it; the program has copies.
    drop(listening);
    execute(&placed, &run.command, &environment(run, &own), count, names.as_deref(), run.inetd)
}

/// LISTEN_FDNAMES: one name stands for all; a number of names that differs is said and passed on all the same.
fn fd_names(names: &[String], count: usize) -> Option<String> {
    match names {
        [] => None,
        [one] => Some(vec![one.as_str(); count].join(":")),
        many => {
            if many.len() != count {
                say(&format!("The number of fd names is different than number of fds: {} vs {count}", many.len()));
            }
            Some(many.join(":"))
        }
    }
}

fn own(key: &str) -> Option<OsString> {
    std::env::var_os(key)
}

/// The program's environment without LISTEN_*.
fn environment(run: &Activate, own: &dyn Fn(&str) -> Option<OsString>) -> Vec<(OsString, OsString)> {
    let kept = KEPT.iter().filter_map(|key| Some((OsString::from(key), own(key)?)));
    let mut all: Vec<(OsString, OsString)> = kept.collect();
    for (key, value) in &run.setenv {
        // As that tool: what we do not have is passed on empty.
        let value = value.as_ref().map(OsString::from).or_else(|| own(key)).unwrap_or_default();
        all.retain(|(known, _)| known != key.as_str());
        all.push((key.into(), value));
    }
    all
}

/// Returns only where it failed.
fn execute(
    placed: &[Placed],
    command: &[OsString],
    environment: &[(OsString, OsString)],
    count: usize,
    names: Option<&str>,
    inetd: bool,
) -> Exit {
    let mut all: Vec<Vec<u8>> = environment
        .iter()
        .map(|(key, value)| [key.clone().into_vec(), b"=".to_vec(), value.clone().into_vec()].concat())
        .collect();
    if !inetd {
        all.push(format!("LISTEN_FDS={count}").into_bytes());
        all.push(format!("LISTEN_PID={}", std::process::id()).into_bytes());
        all.extend(names.map(|names| format!("LISTEN_FDNAMES={names}").into_bytes()));
    }
    let strings = |all: Vec<Vec<u8>>| all.into_iter().map(CString::new).collect::<Result<Vec<CString>, _>>();
    let words = strings(command.iter().map(|word| word.clone().into_vec()).collect());
    let (Ok(words), Ok(environment)) = (words, strings(all)) else {
        return fail("Failed to execp: a word or a variable has a NUL byte in it");
    };
    let shown = shown(command);
    say(&format!("Execing {shown}"));
    let errno = exec_in_place(placed, &words, &environment);
    fail(&format!("Failed to execp {shown}: {}", errno.desc()))
}

/// `prog (prog a b)`.
fn shown(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    format!("{} ({})", words.first().map_or("", String::as_str), words.join(" "))
}

/// One child for each connection, until this process is told to end.
fn accept_all(run: &Activate, listening: &Listening) -> Result<Exit, String> {
    let failed = |error: std::io::Error| format!("Failed to watch for children that end: {error}");
    let (mut ended, tell) = UnixStream::pair().map_err(failed)?;
    ended.set_nonblocking(true).map_err(failed)?;
    signal_hook::low_level::pipe::register(SIGCHLD, tell).map_err(failed)?;
    loop {
        let ready = readable(listening, Some(ended.as_fd()))?;
        for n in ready {
            say(&format!("Communication attempt on fd {}.", 3 + n));
            match listening.sockets.accept(SocketId(n as u16), 0) {
                Ok(Some(connection)) => start_child(run, connection),
                Ok(None) => {}
                Err(error) => say(&error.to_string()),
            }
        }
        while ended.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
        reap();
    }
}

fn start_child(run: &Activate, connection: Connection) {
    if let Some(line) = from_to(&connection) {
        say(&line);
    }
    // It goes through our own program, which knows its pid by then.
    let fd = connection.fd;
    let passed = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()));
    // A program that was never told so reads and writes as if it may wait.
    let passed = passed.and_then(|_| fcntl(&fd, FcntlArg::F_SETFL(OFlag::empty())));
    let started = std::env::current_exe().and_then(|path| {
        passed.map_err(std::io::Error::from)?;
        let mut command = Command::new(path);
        command.arg0("systemd-socket-activate").env_clear().envs(environment(run, &own));
        command.args([CHILD, &fd.as_raw_fd().to_string(), &std::process::id().to_string()]);
        command.args([if run.inetd { "inetd" } else { "listen" }, &run.names.join(":")]);
        command.args(&run.command).spawn()
    });
    match started {
        Ok(child) => say(&format!("Spawned {} as PID {}.", shown(&run.command), child.id())),
        Err(error) => say(&format!("Failed to start {}: {error}", shown(&run.command))),
    }
}

/// Who connected to what.
fn from_to(connection: &Connection) -> Option<String> {
    if let Some((address, Some(port))) = &connection.remote {
        let local = connection.instance.split_once('-').map_or("", |(_, rest)| rest);
        let local = local.split_once('-').map_or(local, |(local, _)| local);
        return Some(format!("Connection from {address}:{port} to {local}"));
    }
    let peer = getsockopt(&connection.fd, PeerCredentials).ok()?;
    let own: UnixAddr = getsockname(connection.fd.as_raw_fd()).ok()?;
    let name = own.path().map(|path| path.display().to_string());
    let name = name.or_else(|| Some(format!("@{}", String::from_utf8_lossy(own.as_abstract()?))))?;
    Some(format!("Connection from PID {}/UID {} to {name}", peer.pid(), peer.uid()))
}

fn reap() {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => say(&format!("Child {pid} died with code {code}")),
            Ok(WaitStatus::Signaled(pid, signal, _)) => say(&format!("Child {pid} died with signal {signal}")),
            Ok(_) | Err(_) => return,
        }
    }
}

/// The child: `DESCRIPTOR PARENT inetd|listen NAMES PROGRAM [ARG]...`
fn become_child(args: Vec<OsString>) -> Exit {
    let number = |n: usize| args.get(n).and_then(|word| word.to_str()?.parse::<i32>().ok());
    let (Some(fd), Some(parent), Some(kind), Some(names)) = (number(0), number(1), args.get(2), args.get(3)) else {
        return fail("systemd-socket-activate: that word is for its own children");
    };
    let inetd = kind == "inetd";
    if !die_with_parent(parent) {
        return Exit::Failed;
    }
    modest_nofile();
    let placed = [Placed::inherited(fd, if inetd { vec![0, 1] } else { vec![3] })];
    let names: Vec<String> = names.to_str().unwrap_or_default().split(':').map(String::from).collect();
    let names = fd_names(&names, 1).filter(|names| !names.is_empty());
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    execute(&placed, &args[4..], &environment, 1, names.as_deref(), inetd)
}
