//! The world as it is: `impl Kernel` on a single-threaded tokio runtime. Owns every resource (descriptors, pids, the
//! clock, the log) and takes no decision: what happened becomes an [`Event`], an [`Action`] becomes system calls.

mod accepting;
mod children;
mod link;
mod log;
mod proc;
mod replace;
mod signals;
mod sources;
mod speak;
mod terminal;
mod trim;

pub use log::Log;
pub use replace::{Own, State, UNDERSTOOD};

use crate::control::Claim;
use crate::control::einhorn::Teller;
use crate::control::event::{EventLine, Level};
use crate::control::server::{Judge, Server};
use crate::notify::socket::WorkersSocket;
use crate::notify::upward::Upward as Manager;
use crate::plan::{Nanos, Plan, ServiceId, SocketId};
use crate::run::Kernel;
use crate::sockets::{SocketError, Sockets};
use crate::spawn::{Base, Copy, Part, launch};
use crate::supervise::{Accepting, Action, ChildId, Event, Happening, SpawnFailure, Start, Supervisor, Upward};
use children::Children;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use signals::Signals;
use sources::Sources;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use terminal::Terminal;
use tokio::runtime::Runtime;

/// How long the last replies may take to leave.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The runtime and the signals: what must stand before anything is opened.
#[derive(Debug)]
pub struct Early {
    runtime: Runtime,
    signals: Signals,
}

impl Early {
    /// From here on no signal kills prebind; what comes is heard once the loop runs.
    /// `keeps_hup`: known from the program before this one.
    pub fn new(keeps_hup: Option<bool>, plan: &Plan) -> io::Result<Early> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::new(keeps_hup, plan)?
        };
        Ok(Early { runtime, signals })
    }
}

/// Everything that the loop needs, opened.
#[derive(Debug)]
pub struct Parts {
    /// Checked.
    pub plan: Plan,
    /// Open.
    pub sockets: Sockets,
    /// What is the same for every worker.
    pub base: Base,
    /// The control socket.
    pub control: Option<UnixListener>,
    /// Where workers say READY=1.
    pub notify: Option<WorkersSocket>,
    /// The manager above us.
    pub manager: Manager,
    /// Our log.
    pub log: Log,
    /// Held until the end.
    pub claim: Option<Claim>,
    /// How this program was started.
    pub own: Own,
    /// Who counts for einhorn's log.
    pub teller: Teller,
}

/// Linux.
#[derive(Debug)]
pub struct Linux {
    runtime: Runtime,
    sources: Sources,
    children: Children,
    plan: Plan,
    sockets: Sockets,
    base: Base,
    manager: Manager,
    log: Log,
    terminal: Option<Terminal>,
    claim: Option<Claim>,
    own: Own,
    teller: Teller,
    /// Descriptors of BARRIER=1: closed once everything said before them was handled.
    barriers: RefCell<Vec<OwnedFd>>,
    started_at: Nanos,
}

/// What the control server asks of processes.
struct Judging<'a>(&'a Children);

impl Linux {
    /// Puts the parts into the runtime.
    pub fn new(early: Early, parts: Parts) -> io::Result<Linux> {
        let Early { runtime, signals } = early;
        let sources = {
            let _inside = runtime.enter();
            let mut control = parts.control.map(Server::new).transpose()?;
            control.iter_mut().for_each(|control| control.keep_manner(parts.plan.manner));
            let paths = parts.sockets.watch().map(|fd| fd.try_clone_to_owned()).transpose()?;
            Sources::new(signals, control, parts.notify, paths)?
        };
        let lends_terminal = parts.plan.lends_terminal();
        Ok(Linux {
            runtime,
            sources,
            children: Children::default(),
            plan: parts.plan,
            sockets: parts.sockets,
            base: parts.base,
            manager: parts.manager,
            log: parts.log,
            claim: parts.claim,
            own: parts.own,
            teller: parts.teller,
            terminal: if lends_terminal { Terminal::of_stdin() } else { None },
            barriers: RefCell::default(),
            started_at: monotonic(),
        })
    }

    /// Sends the last replies, for a moment at most.
    pub fn finish(&mut self) {
        if let Some(control) = &mut self.sources.control {
            let flush = std::future::poll_fn(|cx| control.poll_flush(cx));
            let _ = self.runtime.block_on(async { tokio::time::timeout(FLUSH_LIMIT, flush).await });
        }
    }

    /// A line of prebind's own.
    pub fn say(&self, level: Level, name: &'static str, message: String) {
        self.log.say(level, name, message);
    }

    fn spawn(&mut self, start: Start, events: &mut Vec<Event>) {
        let control_fd = self.worker_connection(&start);
        let stdin = io::stdin();
        let copy = Copy {
            service: start.service,
            slot: start.slot,
            generation: start.generation,
            index: start.index,
            control_fd: control_fd.as_ref().map(AsFd::as_fd),
            terminal: self.terminal.as_ref().filter(|_| start.slot == 0).map(|_| stdin.as_fd()),
            part: Part::Main(0),
            connection: None,
            stored: &[],
            invocation: 0,
            main_pid: None,
            outcome: None,
        };
        match launch(&self.base, &self.plan, &self.sockets, &copy) {
            Ok(launched) => {
                self.children.add(start.child, (start.service, start.slot), launched.pid);
                for remark in launched.remarks {
                    self.log.say(Level::Warn, "spawn_remark", remark);
                }
                events.push(Event::Spawned(start.child));
            }
            Err(error) => {
                self.forget(start.child);
                events.push(Event::SpawnFailed(start.child, SpawnFailure { message: error.to_string() }));
            }
        }
    }

    /// `-g`: a connection to the control socket for one worker; it gets the other end.
    fn worker_connection(&mut self, start: &Start) -> Option<UnixStream> {
        if !self.plan.service(start.service).control_fd {
            return None;
        }
        let control = self.sources.control.as_mut()?;
        let _inside = self.runtime.enter();
        let made = UnixStream::pair().and_then(|(ours, theirs)| {
            control.adopt_worker(start.child, ours)?;
            Ok(theirs)
        });
        made.inspect_err(|error| {
            self.log.say(Level::Error, "worker_connection", format!("no -g connection for a worker: {error}"));
        })
        .ok()
    }

    fn forget(&mut self, child: ChildId) {
        self.children.forget(child);
        if let Some(control) = &mut self.sources.control {
            control.forget_worker(child);
        }
    }

    /// Whether the child's group holds a socket of its service.
    fn holds_sockets(&self, child: ChildId) -> bool {
        let (Some(pid), Some((service, slot))) = (self.children.pid(child), self.children.place(child)) else {
            return true;
        };
        let sockets = &self.plan.service(service).sockets;
        let nodes: Vec<(u64, u64)> = sockets.iter().map(|id| self.sockets.node_for(*id, slot)).collect();
        proc::group_holds(pid, &nodes)
    }

    /// Whether the child waits on those of its sockets that listen.
    fn accepting(&self, child: ChildId) -> Accepting {
        let (Some(pid), Some((service, slot))) = (self.children.pid(child), self.children.place(child)) else {
            return Accepting::Unknown;
        };
        let sockets = self.plan.service(service).sockets.iter();
        let listening = sockets.filter(|id| getsockopt(&self.sockets.fd(**id), AcceptConn).unwrap_or(false));
        let inodes: Vec<u64> = listening.map(|id| self.sockets.node_for(*id, slot).1).collect();
        accepting::accepting(pid, &inodes)
    }

    /// Does something to each socket of a service; what cannot be done is said, and the service goes on.
    fn steer(&mut self, service: ServiceId, act: impl Fn(&mut Sockets, SocketId) -> Result<(), SocketError>) {
        for id in self.plan.service(service).sockets.clone() {
            if let Err(error) = act(&mut self.sockets, id) {
                self.say(Level::Error, "slots", error.to_string());
            }
        }
    }

    /// They are the last ones in the plan.
    fn close_retired(&mut self) {
        self.plan.services.retain(|service| !service.retired);
        self.plan.sockets.retain(|spec| !spec.retired);
        self.sockets.close_from(SocketId(self.plan.sockets.len() as u16));
    }

    fn report(&mut self, happening: &Happening) {
        self.report_line(happening);
        if *happening == Happening::AllReady {
            trim::trim();
        }
    }

    fn tell_manager(&mut self, what: Upward) {
        let word = match &what {
            Upward::Ready => NotifyState::Ready,
            Upward::Stopping => NotifyState::Stopping,
            Upward::Status(text) => NotifyState::Status(text),
            Upward::Watchdog => NotifyState::Watchdog,
        };
        if let Err(error) = self.manager.send(&[word]) {
            let message = format!("cannot notify the manager above ($NOTIFY_SOCKET): {error}");
            self.say(Level::Warn, "manager_unreachable", message);
        }
    }

    /// Children that ended while another program had this process.
    fn reap_missing(&mut self, events: &mut Vec<Event>) {
        for children::Exit { child, how, group_left, .. } in self.children.take_missing() {
            events.push(Event::Exited { child, how, group_left, foreground: false });
        }
    }

    /// Every child that ended since.
    fn reap(&mut self, events: &mut Vec<Event>) {
        while let Some(exit) = self.children.reap() {
            let foreground = self.terminal.as_ref().is_some_and(|terminal| terminal.has(exit.pid));
            if foreground && let Some(terminal) = &self.terminal {
                terminal.take_back();
            }
            let children::Exit { child, how, group_left, .. } = exit;
            events.push(Event::Exited { child, how, group_left, foreground });
        }
    }

    fn restore_paths(&mut self) {
        for message in self.sockets.restore_paths() {
            let fields = serde_json::Map::new();
            self.publish(&EventLine { level: Level::Warn, event: "path_restored", message, fields });
        }
    }
}

impl Kernel for Linux {
    fn replace(&mut self, supervisor: &mut Supervisor, events: &mut Vec<Event>) {
        self.replace_program(supervisor, events);
    }

    fn now(&self) -> Nanos {
        monotonic()
    }

    fn wait(&mut self, until: Option<Nanos>, events: &mut Vec<Event>) {
        self.barriers.get_mut().clear();
        let limit = until.map(|until| Duration::from_nanos(until.saturating_sub(monotonic())));
        let (sources, children, barriers) = (&mut self.sources, &self.children, &self.barriers);
        let turn = self.runtime.block_on(sources.turn(limit, &Judging(children), |fds| {
            barriers.borrow_mut().extend(fds);
        }));
        for (level, name, message) in turn.remarks {
            self.say(level, name, message);
        }
        events.extend(turn.events);
        for (ask, word) in turn.asked {
            self.answer_local(ask, &word);
        }
        if turn.children {
            self.reap(events);
        }
        if turn.paths {
            self.restore_paths();
        }
    }

    fn apply(&mut self, action: Action, events: &mut Vec<Event>) {
        match action {
            Action::Spawn(start) => self.spawn(start, events),
            Action::SignalMain(child, signal) => self.children.signal_main(child, signal),
            Action::SignalGroup(child, signal) => {
                self.children.signal_group(child, signal.0);
            }
            Action::LookGroup(child) => {
                if !self.children.signal_group(child, 0) {
                    events.push(Event::GroupGone(child));
                }
            }
            Action::Forget(child) => self.forget(child),
            Action::LookSockets(child) => events.push(Event::HoldsSockets(child, self.holds_sockets(child))),
            Action::LookAccepting(child) => events.push(Event::Accepting(child, self.accepting(child))),
            Action::Steer(service, wanted) => self.steer(service, |sockets, id| sockets.steer(id, &wanted)),
            Action::CloseSlots(service, wanted) => {
                let number = wanted.len() as u32;
                self.steer(service, |sockets, id| sockets.close_slots(id, number));
                self.steer(service, |sockets, id| sockets.steer(id, &wanted));
            }
            Action::CloseRetired => self.close_retired(),
            Action::Answer(ask, answer) => self.answer(ask, &answer),
            Action::Report(happening) => self.report(&happening),
            Action::Upward(what) => self.tell_manager(what),
        }
    }
}

impl Judge for Judging<'_> {
    fn own_uid(&self) -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    /// By pid, by process group, or by a parent that is one.
    fn worker_of_pid(&self, pid: i32) -> Option<ChildId> {
        const ANCESTORS_MAX: usize = 16;
        if let Some(child) = self.0.by_pid(pid) {
            return Some(child);
        }
        if let Some(child) = proc::group_of(pid).and_then(|group| self.0.by_pid(group)) {
            return Some(child);
        }
        let mut pid = pid;
        for _ in 0..ANCESTORS_MAX {
            let (parent, _) = proc::stat(pid)?;
            if let Some(child) = self.0.by_pid(parent) {
                return Some(child);
            }
            if parent <= 1 {
                return None;
            }
            pid = parent;
        }
        None
    }

    fn child_of_pid(&self, pid: i32) -> Option<ChildId> {
        self.0.by_pid(pid)
    }
}

/// CLOCK_MONOTONIC.
fn monotonic() -> Nanos {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    now.tv_sec() as Nanos * crate::plan::SECOND + now.tv_nsec() as Nanos
}
