//! What units need of the world beside workers: the commands around them, the main process that a daemon leaves behind,
//! traffic and connections on their sockets.

#![allow(unsafe_code)]

use super::children::Role;
use super::{Linux, proc};
use crate::control::event::Level;
use crate::plan::{Kind, ServiceId, SocketId, StartWhen, Step};
use crate::sockets::{Connection, Source};
use crate::spawn::{Copy, Instance, OutcomeWords, Part, Served, launch, remove_directories};
use crate::supervise::{ChildId, ConnectionId, Ended, Event, Found, Run, SpawnFailure, Start};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Connections that are accepted in one turn from one socket.
const CONNECTIONS_PER_TURN: usize = 16;

/// What is known of a worker beside its processes, where it is a unit's or its orphans are prebind's.
#[derive(Debug, Default)]
pub(super) struct Lives {
    of: BTreeMap<ChildId, Life>,
    /// Connections that nobody was started for yet.
    waiting: BTreeMap<ConnectionId, Served>,
    /// Connections so far, and those of each socket: the first part of an instance's name.
    counts: Counts,
    /// The number of each source that has connected.
    sources: HashMap<Source, u64>,
}

/// Everything of it as data, for the next program in this process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct FrozenLives {
    of: Vec<(ChildId, Hex, Option<FrozenServed>)>,
    counts: Counts,
}

/// JSON has no numbers so large.
#[derive(Debug, Serialize, Deserialize)]
struct Hex(#[serde(with = "hex")] u128);

/// An INVOCATION_ID as its 32 digits.
pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::linux) fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:032x}"))
    }

    pub(in crate::linux) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// The descriptor, if it was not handed over, the instance, the client, the name.
type FrozenServed = (Option<RawFd>, String, Option<(String, Option<u16>)>, String);

/// How many connections there were.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counts {
    all: u64,
    of_socket: BTreeMap<u16, u64>,
}

#[derive(Debug)]
struct Life {
    invocation: u128,
    served: Option<Served>,
}

impl Lives {
    /// As data; the numbers of descriptors are put into `fds`. Nobody waits by then: what connected was started or refused.
    pub(super) fn freeze(&self, fds: &mut Vec<RawFd>) -> FrozenLives {
        let served = |served: &Served| {
            let fd = served.fd.as_ref().map(AsRawFd::as_raw_fd);
            (fd, served.instance.0.clone(), served.remote.clone(), served.name.clone())
        };
        let of = self.of.iter().map(|(child, life)| (*child, Hex(life.invocation), life.served.as_ref().map(served)));
        let of: Vec<_> = of.collect();
        fds.extend(of.iter().filter_map(|(_, _, served)| served.as_ref()?.0));
        FrozenLives { of, counts: self.counts.clone() }
    }

    /// In the next program.
    pub(super) fn thaw(frozen: FrozenLives, claim: &mut dyn FnMut(RawFd) -> OwnedFd) -> Lives {
        let mut lives = Lives { counts: frozen.counts, ..Lives::default() };
        for (child, Hex(invocation), served) in frozen.of {
            let served = served.map(|(fd, instance, remote, name)| Served {
                fd: fd.map(&mut *claim),
                instance: Instance(instance),
                remote,
                name,
            });
            lives.of.insert(child, Life { invocation, served });
        }
        lives
    }

    /// A worker is gone.
    pub(super) fn forget(&mut self, child: ChildId) {
        self.of.remove(&child);
    }
}

/// A new INVOCATION_ID.
pub(super) fn new_invocation() -> u128 {
    let mut bytes = [0_u8; 16];
    // SAFETY: the kernel writes at most the sixteen bytes of our array.
    let length = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if length == 16 { u128::from_ne_bytes(bytes) } else { u128::from(super::monotonic()) }
}

/// Orphans of workers become prebind's children, so that nothing of a unit is lost.
pub(super) fn adopt_orphans() {
    // SAFETY: prctl(PR_SET_CHILD_SUBREAPER) takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

impl Linux {
    /// What such a worker has for all its life; made when its first process starts.
    pub(super) fn begin_life(&mut self, start: &Start) -> u128 {
        let served = start.connection.and_then(|connection| self.lives.waiting.remove(&connection));
        let life =
            self.lives.of.entry(start.child).or_insert_with(|| Life { invocation: new_invocation(), served: None });
        life.served = life.served.take().or(served);
        life.invocation
    }

    pub(super) fn served(&self, child: ChildId) -> Option<&Served> {
        self.lives.of.get(&child)?.served.as_ref()
    }

    /// The worker has its connection: prebind needs no copy.
    pub(super) fn hand_over(&mut self, child: ChildId) {
        if let Some(served) = self.lives.of.get_mut(&child).and_then(|life| life.served.as_mut()) {
            served.fd = None;
        }
    }

    /// Runs a command around a worker.
    pub(super) fn run_step(&mut self, run: &Run, events: &mut Vec<Event>) {
        let Run { start, step, at, result, main } = *run;
        let invocation = self.begin_life(&start);
        // How it went is for those that come at the end.
        let ends = matches!(step, Step::Stop | Step::StopPost);
        let outcome = ends.then(|| OutcomeWords { result: result.word(), main: main.and_then(main_words) });
        let (strays, enters) = self.group_for(invocation);
        let copy = Copy {
            service: start.service,
            slot: start.slot,
            generation: start.generation,
            index: start.index,
            control_fd: None,
            terminal: None,
            part: Part::Step(step, at),
            connection: self.served(start.child),
            stored: &[],
            invocation,
            cgroup: enters.as_ref().map(AsFd::as_fd),
            main_pid: self.children.pid(start.child),
            outcome: outcome.as_ref(),
        };
        match launch(&self.base, &self.plan, &self.sockets, &copy) {
            Ok(launched) => {
                let place = (start.service, start.slot);
                let strays = self.grouped(strays, launched.not_grouped, invocation);
                self.children.add_of_unit((start.child, Role::Step), place, (invocation, strays), launched.pid);
                self.follow(launched.pid, launched.outputs);
                for remark in launched.remarks {
                    self.log.say(Level::Warn, "spawn_remark", remark);
                }
            }
            Err(error) => {
                let failure = SpawnFailure { code: error.exit_code(), message: error.to_string() };
                events.push(Event::StepFailed(start.child, failure));
            }
        }
    }

    /// The process that a daemon's first one left behind: the one that its pid file names, else the only one there is.
    pub(super) fn find_main(&mut self, child: ChildId) -> Found {
        let Some((service, _)) = self.children.place(child) else { return Found::Nobody };
        let Kind::Forking { pidfile } = &self.plan.service(service).kind else { return Found::Nobody };
        let found = match pidfile {
            Some(path) => match read_pid(path) {
                Some(pid) if proc::lives(pid) && self.children.belongs(child, pid) => Some(pid),
                // What it names may not have been written anew yet.
                _ if self.children.signal_group(child, 0) => return Found::NotYet,
                _ => None,
            },
            None => match self.children.leaders_left(child)[..] {
                [] => None,
                [only] => Some(only),
                [..] => return Found::Several,
            },
        };
        match found {
            Some(pid) => {
                self.children.set_main(child, pid);
                Found::Yes
            }
            None => Found::Nobody,
        }
    }

    /// A service listens on its sockets, or does not any more.
    pub(super) fn listen(&mut self, service: ServiceId, on: bool) {
        for id in self.plan.service(service).sockets.clone() {
            let fds = self.sockets.poll_fds(id);
            if on {
                let listened = self.sources.traffic_mut().map(|traffic| traffic.listen(service, id, fds));
                if let Some(Err(errno)) = listened {
                    let name = &self.plan.socket(id).name;
                    let message = format!("cannot wait for traffic on {name}: {}", errno.desc().to_lowercase());
                    self.say(Level::Error, "traffic", message);
                }
            } else if let Some(traffic) = self.sources.traffic_mut() {
                traffic.ignore(service, id, fds);
            }
        }
    }

    pub(super) fn flush(&mut self, service: ServiceId) {
        self.plan.service(service).sockets.iter().for_each(|id| self.sockets.flush(*id));
    }

    /// The service failed: what only it has is closed, so that clients are told.
    pub(super) fn close_sockets(&mut self, service: ServiceId) {
        for id in self.plan.service(service).sockets.clone() {
            let others = self.plan.services.iter().zip(0..).filter(|(_, n)| ServiceId(*n) != service);
            if !others.into_iter().any(|(spec, _)| spec.sockets.contains(&id)) {
                self.sockets.shut(id);
            }
        }
    }

    /// Nothing of the service runs.
    pub(super) fn inactive(&mut self, service: ServiceId) {
        for message in remove_directories(self.plan.service(service), false) {
            self.say(Level::Warn, "directories", message);
        }
        self.drop_stored(service);
    }

    /// Traffic on these sockets: connections are accepted, the rest is told.
    pub(super) fn traffic(&mut self, sockets: &[SocketId], events: &mut Vec<Event>) {
        for id in sockets {
            let accepts =
                |service: &ServiceId| matches!(self.plan.service(*service).start, StartWhen::PerConnection { .. });
            let listeners = self.sources.traffic_mut().map(|traffic| traffic.listeners(*id).to_vec());
            match listeners.unwrap_or_default().into_iter().find(accepts) {
                Some(service) => self.accept(service, *id, events),
                None => events.push(Event::Traffic(*id)),
            }
        }
        let rested = self.sources.traffic_mut().map(super::traffic::Traffic::take_rested).unwrap_or_default();
        for id in rested {
            let fds = self.sockets.poll_fds(id);
            if let Some(traffic) = self.sources.traffic_mut() {
                traffic.watch_again(id, fds);
            }
        }
    }

    fn accept(&mut self, service: ServiceId, id: SocketId, events: &mut Vec<Event>) {
        for _ in 0..CONNECTIONS_PER_TURN {
            let number = self.lives.counts.of_socket.get(&id.0).copied().unwrap_or(0);
            match self.sockets.accept(id, number) {
                Ok(None) => return,
                Ok(Some(accepted)) => {
                    self.lives.counts.of_socket.insert(id.0, number + 1);
                    events.push(self.connected(service, id, accepted));
                }
                Err(error) => {
                    self.say(Level::Error, "accept", error.to_string());
                    let fds = self.sockets.poll_fds(id);
                    if let Some(traffic) = self.sources.traffic_mut() {
                        traffic.pause(id, fds);
                    }
                    return;
                }
            }
        }
    }

    fn connected(&mut self, service: ServiceId, id: SocketId, accepted: Connection) -> Event {
        let Connection { fd, instance, source, remote } = accepted;
        let lives = &mut self.lives;
        lives.counts.all += 1;
        let connection = ConnectionId(lives.counts.all);
        let next = lives.sources.len() as u64;
        let source = *lives.sources.entry(source).or_insert(next);
        let spec = self.plan.socket(id);
        let name = spec.name.clone();
        // It was accepted so that prebind never waits; the worker may.
        let flags = if spec.options.nonblock { OFlag::O_NONBLOCK } else { OFlag::empty() };
        let _ = fcntl(&fd, FcntlArg::F_SETFL(flags));
        lives.waiting.insert(connection, Served { fd: Some(fd), instance: Instance(instance), remote, name });
        Event::Connected { service, connection, source }
    }

    pub(super) fn refuse(&mut self, connection: ConnectionId) {
        self.lives.waiting.remove(&connection);
    }
}

/// EXIT_CODE and EXIT_STATUS.
fn main_words(how: Ended) -> Option<(&'static str, String)> {
    match how {
        Ended::Code(code) => Some(("exited", code.to_string())),
        Ended::Signal(signal) => Some(("killed", signal.to_string())),
        Ended::Dumped(signal) => Some(("dumped", signal.to_string())),
        Ended::Unseen => None,
    }
}

fn read_pid(path: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(path).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 1)
}
