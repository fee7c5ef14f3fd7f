//! The world as it is: `impl Kernel` on a single-threaded tokio runtime. Owns every resource (descriptors, pids, the
//! clock, the log) and takes no decision: what happened becomes an [`Event`], an [`Action`] becomes system calls.

mod above;
mod accepting;
mod access;
mod cgroup;
mod children;
mod group;
mod health;
mod ignored;
mod judge;
mod link;
mod log;
mod main_pid;
mod notes;
mod noticed;
mod oom;
mod orphans;
mod proc;
mod replace;
mod signals;
mod socket_commands;
mod sources;
mod speak;
mod standard;
mod store;
mod terminal;
mod traffic;
mod tree;
mod trim;
mod units;

pub use above::Kept;
pub use log::Log;
pub use replace::{Own, State, UNDERSTOOD};
pub use socket_commands::run_socket_commands;
pub use standard::begin;

use crate::control::Claim;
use crate::control::einhorn::Teller;
use crate::control::event::Level;
use crate::control::server::Server;
use crate::logs::Logs;
use crate::notify::socket::WorkersSocket;
use crate::notify::upward::Upward as Manager;
use crate::plan::{Nanos, Plan, ServiceId, SocketId, StartWhen};
use crate::run::Kernel;
use crate::sockets::{SocketError, Sockets};
use crate::spawn::{Base, Copy, Output, Part, launch};
use crate::supervise::{Action, ChildId, Event, SpawnFailure, Start, Supervisor};
use accepting::Looks;
use cgroup::Cgroups;
use children::{Children, Role};
use health::Health;
use judge::Judging;
use nix::time::{ClockId, clock_gettime};
use notes::Said;
use oom::OomWatch;
use signals::Signals;
use sources::Sources;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use store::Stores;
use terminal::Terminal;
use tokio::runtime::Runtime;
use units::Lives;

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
    /// Where probes are answered.
    pub health: Option<TcpListener>,
}

/// Linux.
#[derive(Debug)]
pub struct Linux {
    runtime: Runtime,
    sources: Sources,
    children: Children,
    lives: Lives,
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
    barriers: Vec<OwnedFd>,
    /// What workers left in our care.
    stores: Stores,
    said: Said,
    /// Which workers wait on their sockets.
    looks: Looks,
    /// Outputs of workers that go through prebind.
    logs: Logs,
    health: Health,
    oom: OomWatch,
    /// Where each worker has a control group of its own.
    cgroups: Option<Cgroups>,
    /// What only the start needed is to be given back, as the last thing before nothing happens.
    trim_due: bool,
    started_at: Nanos,
}

impl Linux {
    /// Puts the parts into the runtime.
    pub fn new(early: Early, parts: Parts) -> io::Result<Linux> {
        let Early { runtime, signals } = early;
        let stores = Stores::new()?;
        let sources = {
            let _inside = runtime.enter();
            let mut control = parts.control.map(Server::new).transpose()?;
            control.iter_mut().for_each(|control| control.keep_manner(parts.plan.manner));
            let paths = parts.sockets.watch().map(|fd| fd.try_clone_to_owned()).transpose()?;
            let traffic = parts.plan.services.iter().any(|service| service.start != StartWhen::AtOnce);
            let keeps = parts.plan.services.iter().any(|service| service.fd_store_max > 0);
            let stored = keeps.then(|| stores.as_fd().try_clone_to_owned()).transpose()?;
            Sources::new(signals, control, parts.notify, paths, traffic, stored)?
        };
        let entry = &parts.plan.entry;
        if entry.subreaper || parts.plan.services.iter().any(|service| service.process.unit) {
            units::adopt_orphans();
        }
        let divides = entry.reaps() || parts.plan.services.iter().any(|service| service.process.unit);
        let cgroups = if divides { Cgroups::find(entry.pid1) } else { None };
        let health = Health::new(&runtime, entry.health_file.clone(), parts.health)?;
        let oom = if entry.pid1 { OomWatch::of_new_group() } else { OomWatch::default() };
        let lends_terminal = parts.plan.lends_terminal();
        Ok(Linux {
            runtime,
            sources,
            children: Children::default(),
            lives: Lives::default(),
            plan: parts.plan,
            sockets: parts.sockets,
            base: parts.base,
            manager: parts.manager,
            log: parts.log,
            claim: parts.claim,
            own: parts.own,
            teller: parts.teller,
            terminal: if lends_terminal { Terminal::of_stdin() } else { None },
            barriers: Vec::new(),
            stores,
            said: Said::default(),
            looks: Looks::default(),
            logs: Logs::new(std::sync::Arc::new(move |message| parts.log.say(Level::Error, "log_file", message))),
            health,
            oom,
            cgroups,
            trim_due: false,
            started_at: monotonic(),
        })
    }

    /// The plan that it ended with.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Writes the last lines of workers and sends the last replies, for a moment at most.
    pub fn finish(&mut self) {
        self.logs.finish(FLUSH_LIMIT);
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
        let is_unit = self.plan.service(start.service).process.unit;
        let invocation = if is_unit || self.plan.entry.reaps() { self.begin_life(&start) } else { 0 };
        let (strays, enters) = self.group_for(invocation);
        let control_fd = self.worker_connection(&start);
        let stdin = io::stdin();
        let copy = Copy {
            service: start.service,
            slot: start.slot,
            generation: start.generation,
            index: start.index,
            control_fd: control_fd.as_ref().map(AsFd::as_fd),
            terminal: self.terminal.as_ref().filter(|_| start.slot == 0).map(|_| stdin.as_fd()),
            part: Part::Main(start.part),
            connection: self.served(start.child),
            stored: self.stores.of(start.service, start.slot),
            invocation,
            cgroup: enters.as_ref().map(AsFd::as_fd),
            main_pid: None,
            outcome: None,
        };
        match launch(&self.base, &self.plan, &self.sockets, &copy) {
            Ok(launched) => {
                let place = (start.service, start.slot);
                let strays = self.grouped(strays, launched.not_grouped, invocation);
                if is_unit {
                    self.children.add_of_unit((start.child, Role::Main), place, (invocation, strays), launched.pid);
                    self.hand_over(start.child);
                } else {
                    self.children.add(start.child, place, strays, launched.pid);
                }
                self.follow(launched.pid, launched.outputs);
                for remark in launched.remarks {
                    self.log.say(Level::Warn, "spawn_remark", remark);
                }
                events.push(Event::Spawned(start.child));
            }
            Err(error) => {
                strays.leave();
                if !is_unit {
                    self.forget(start.child);
                }
                let failure = SpawnFailure { code: error.exit_code(), message: error.to_string() };
                events.push(Event::SpawnFailed(start.child, failure));
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

    /// Writes what a process says to its log files.
    fn follow(&mut self, pid: i32, outputs: Vec<Output>) {
        for Output { spec, file, pipe } in outputs {
            self.logs.follow(pid, spec, file, pipe);
        }
    }

    fn forget(&mut self, child: ChildId) {
        self.drop_unpreserved(child);
        self.said.forget(child);
        self.looks.forget(child);
        self.sources.leave_main(child);
        self.children.forget(child);
        self.lives.forget(child);
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
        self.drop_retired_above();
        self.plan.services.retain(|service| !service.retired);
        self.plan.sockets.retain(|spec| !spec.retired);
        self.sockets.close_from(SocketId(self.plan.sockets.len() as u16));
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
        self.barriers.clear();
        let limit = until.map(|until| Duration::from_nanos(until.saturating_sub(monotonic())));
        if self.trim_due && limit.is_none_or(|limit| limit > trim::CALM) {
            self.trim_due = false;
            trim::trim();
        }
        let turn = self.runtime.block_on(self.sources.turn(limit, &Judging(&self.children)));
        for (level, name, message) in turn.remarks {
            self.say(level, name, message);
        }
        self.hear(turn.datagrams, events);
        events.extend(turn.events);
        for (ask, word) in turn.asked {
            self.answer_local(ask, &word);
        }
        if turn.children {
            self.reap(events);
            self.count_orphans(events);
        }
        if turn.reopen {
            self.reopen();
        }
        if turn.paths {
            self.restore_paths();
        }
        if turn.stored {
            self.stores.drop_ended();
        }
        self.mains_ended(&turn.mains, events);
        self.traffic(&turn.traffic, events);
    }

    fn apply(&mut self, action: Action, events: &mut Vec<Event>) {
        match action {
            Action::Spawn(start) => self.spawn(start, events),
            Action::SignalMain(child, signal) => match self.sources.main_of(child) {
                Some(main) => main.signal(signal),
                None => self.children.signal_main(child, signal),
            },
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
                let gone = self.stores.drop_slots_from(service, number);
                self.drop_above(&gone);
            }
            Action::CloseRetired => self.close_retired(),
            Action::Run(run) => self.run_step(&run, events),
            Action::SignalStep(child, signal) => self.children.signal_step(child, signal),
            Action::FindMain(child) => events.push(Event::MainFound(child, self.find_main(child))),
            Action::Listen(service, on) => self.listen(service, on),
            Action::Flush(service) => self.flush(service),
            Action::Refuse(connection) => self.refuse(connection),
            Action::CloseSockets(service) => self.close_sockets(service),
            Action::Inactive(service) => self.inactive(service),
            Action::Answer(ask, answer) => self.answer(ask, &answer),
            Action::Report(happening) => self.report(&happening),
            Action::Upward(what) => self.tell_manager(what),
            Action::LookOrphans => events.push(Event::OrphansLeft(orphans::left().len() as u32)),
            Action::SignalOrphans(signal) => self.signal_orphans(signal),
            Action::Health(ready) => self.tell_probes(ready),
        }
    }
}

/// CLOCK_MONOTONIC.
fn monotonic() -> Nanos {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    now.tv_sec() as Nanos * crate::plan::SECOND + now.tv_nsec() as Nanos
}
