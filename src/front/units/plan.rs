//! Units that were read -> sockets and services of a Plan: which sockets a service gets, in which order, and when it starts.
//! It finds and reads nothing: that is `door`'s.
//!
//! The order of descriptors is fixed: with Sockets= the listed units first, in that order, then the others; else the unit
//! with the service's name first, then the others by name. Within one unit it is that of the lines.

use super::Remark;
use super::door::{Door, Machine, Request, ServiceEntry, SocketEntry, Why};
use super::service::Type;
use crate::plan::{
    AckMode, Address, Kind, ListenEnv, Number, Origin, Problem, ServiceSpec, SocketId, SocketKind, SocketSpec,
    StartWhen, Stdio, nearest,
};
use std::collections::{BTreeMap, BTreeSet};

/// What units amount to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// All their sockets.
    pub sockets: Vec<SocketSpec>,
    /// All their services, which name their sockets already.
    pub services: Vec<ServiceSpec>,
    /// The commands around their sockets.
    pub socket_commands: Vec<ServiceSpec>,
    /// Everything that is not taken as it stands.
    pub remarks: Vec<Remark>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// Reads what was asked for. `base`: what the command line says of upgrades.
pub fn read(request: &Request, base: &ServiceSpec, machine: Machine<'_>) -> Read {
    let Door { sockets, services, problems, remarks, .. } = Door::open(request, machine);
    let mut maker = Maker { request, base, units: &sockets, ids: BTreeMap::new(), read: Read::default() };
    maker.read.problems = problems;
    maker.read.remarks = remarks;
    services.into_iter().for_each(|entry| maker.service(entry));
    maker.finish()
}

struct Maker<'a> {
    request: &'a Request,
    base: &'a ServiceSpec,
    units: &'a BTreeMap<String, SocketEntry>,
    /// Where each unit's sockets stand in the plan.
    ids: BTreeMap<String, Vec<SocketId>>,
    read: Read,
}

impl Maker<'_> {
    fn service(&mut self, entry: ServiceEntry) {
        let units = self.units_of(&entry);
        let accepting = entry.name.is_template();
        let sockets: Vec<SocketId> = units.iter().flat_map(|name| self.placed(name)).collect();
        for id in &sockets {
            let spec = &mut self.read.sockets[usize::from(id.0)];
            spec.options.nonblock |= entry.unit.nonblock;
            let inet = matches!(spec.address, Address::Inet { .. });
            let bound = matches!(spec.kind, SocketKind::Stream | SocketKind::Datagram);
            spec.options.slots |= entry.unit.slots && inet && bound && !accepting;
        }
        let first = units.first().map(|name| &self.units[name].unit);
        let start = match first {
            Some(unit) if accepting => StartWhen::PerConnection {
                most: unit.max_connections,
                most_per_source: unit.max_connections_per_source,
                limit: unit.trigger_limit,
            },
            Some(unit) => StartWhen::OnTraffic {
                also_at_once: self.request.start || entry.why == Why::Named,
                limit: unit.trigger_limit,
                flush: units.iter().any(|name| self.units[name].unit.flush_pending),
            },
            None => StartWhen::AtOnce,
        };
        if accepting && units.len() > 1 {
            let message = format!("{}: several sockets with Accept=yes ({}) start it", entry.name, units.join(", "));
            let problem = Problem::new(entry.origin.clone(), message);
            self.read.problems.push(problem.remedy("one socket for each template"));
        }
        let connections = |name: &&String| !accepting && self.units[*name].unit.accept;
        if let Some(name) = units.iter().find(connections) {
            let message = format!("{}: {name} has Accept=yes, and cannot be one of its sockets", entry.name);
            self.read.problems.push(Problem::new(entry.origin.clone(), message).remedy("leave it out of Sockets="));
        }
        let spec = self.spec(entry, sockets, start);
        self.read.services.push(spec);
    }

    /// The units of a service's sockets, in the order of their descriptors.
    fn units_of(&self, entry: &ServiceEntry) -> Vec<String> {
        let name = entry.name.to_string();
        let same = entry.name.with_kind("socket").to_string();
        let own = |unit: &&String| self.units[*unit].service == name;
        let listed = entry.unit.sockets.iter().map(|(unit, _)| unit);
        let first = std::iter::once(&same).filter(|unit| self.units.get(*unit).is_some_and(|one| one.service == name));
        let mut seen = BTreeSet::new();
        let all =
            listed.chain(first).filter(|unit| self.units.contains_key(*unit)).chain(self.units.keys().filter(own));
        all.filter(|unit| seen.insert(unit.as_str())).cloned().collect()
    }

    /// Where a unit's sockets stand; they are placed when they are met first.
    fn placed(&mut self, name: &str) -> Vec<SocketId> {
        if let Some(ids) = self.ids.get(name) {
            return ids.clone();
        }
        let unit = &self.units[name].unit;
        let specs = &unit.sockets;
        if !unit.commands.steps.is_empty() {
            self.read.socket_commands.push(unit.commands.clone());
        }
        let first = self.read.sockets.len();
        self.read.sockets.extend(specs.iter().cloned());
        // More than there are ids is a problem of the plan, said by its check.
        let ids: Vec<SocketId> =
            (first..first + specs.len()).map(|at| SocketId(at.min(usize::from(u16::MAX)) as u16)).collect();
        self.ids.insert(name.to_string(), ids.clone());
        ids
    }

    fn spec(&mut self, entry: ServiceEntry, sockets: Vec<SocketId>, start: StartWhen) -> ServiceSpec {
        let (base, unit, kind) = (self.base, entry.unit.spec, entry.unit.kind);
        let accepting = matches!(start, StartWhen::PerConnection { .. });
        let given = self.request.strategy;
        let strategy = given.unwrap_or(if entry.unit.has_strategy { unit.strategy } else { base.strategy });
        let mut spec = ServiceSpec {
            name: entry.name.to_string(),
            ack: ack(kind, sockets.len(), accepting),
            listen_env: ListenEnv::Full,
            sockets,
            start,
            strategy,
            min_ready_ns: base.min_ready_ns,
            max_unacked: base.max_unacked,
            max_upgrade_additional: base.max_upgrade_additional,
            bake_ns: base.bake_ns,
            upgrade_timeout_ns: base.upgrade_timeout_ns,
            upgrade_retries: base.upgrade_retries,
            drain_delay_ns: base.drain_delay_ns,
            die_with_parent: base.die_with_parent,
            origin: entry.origin,
            ..unit
        };
        spec.process.clean_environment = !self.request.inherit_env;
        self.consistent(&mut spec, accepting);
        spec
    }

    /// What does not go together.
    fn consistent(&mut self, spec: &mut ServiceSpec, accepting: bool) {
        let origin = spec.origin.clone();
        if accepting && spec.number != Number::Fixed(1) {
            spec.number = Number::Fixed(1);
            let message = "X-Prebind-Number means nothing where each connection has a worker of its own: ignored";
            self.read.remarks.push(Remark::warn(origin.clone(), message));
        }
        let streams = [&spec.process.stdin, &spec.process.stdout, &spec.process.stderr];
        if streams.contains(&&Stdio::Socket) && !accepting && spec.sockets.len() != 1 {
            let count = spec.sockets.len();
            let message = format!("{}: a standard descriptor is to be its socket, and it has {count}", spec.name);
            self.read
                .problems
                .push(Problem::new(origin.clone(), message).remedy("exactly one Listen line, or Accept=yes"));
        }
        self.named_streams(spec, accepting);
        if matches!(spec.kind, Kind::Forking { .. }) && spec.number != Number::Fixed(1) {
            let message = format!("{}: of a Type=forking service there can be one copy only", spec.name);
            self.read.problems.push(Problem::new(origin, message).remedy("leave X-Prebind-Number out"));
        }
    }

    /// `StandardInput=fd:NAME` and its siblings name a socket, or a file of OpenFile=. What a worker may store is not known.
    fn named_streams(&mut self, spec: &ServiceSpec, accepting: bool) {
        let files = spec.process.open_files.iter().map(|file| file.name.as_str());
        let sockets = spec.sockets.iter().map(|id| self.read.sockets[usize::from(id.0)].name.as_str());
        let names: Vec<&str> = sockets.chain(files).collect();
        let streams = [&spec.process.stdin, &spec.process.stdout, &spec.process.stderr];
        let asked = streams.into_iter().filter_map(|stream| match stream {
            Stdio::Named(name) => Some(name.as_str()),
            _ => None,
        });
        let unknown = asked.filter(|name| !names.contains(name) && spec.fd_store_max == 0 && !accepting);
        let problems: Vec<Problem> = unknown
            .map(|name| {
                let message =
                    format!("{}: a standard descriptor is to be fd:{name}, and it has no such one", spec.name);
                let problem = Problem::new(spec.origin.clone(), message);
                match nearest(name, names.iter().copied()) {
                    Some(near) => problem.remedy(format!("did you mean fd:{near}?")),
                    None => problem.remedy("FileDescriptorName= in its .socket gives the name"),
                }
            })
            .collect();
        self.read.problems.extend(problems);
    }

    fn finish(mut self) -> Read {
        let unused = self.units.iter().filter(|(name, _)| !self.ids.contains_key(*name));
        let unused = unused.map(|(name, entry)| {
            Remark::warn(entry.origin.clone(), format!("{name} is left out: its service {} is not run", entry.service))
        });
        self.read.remarks.extend(unused);
        self.number();
        if self.read.services.is_empty() && self.read.problems.is_empty() {
            let origin = self.request.words.first().map_or(Origin::Default, |(_, origin)| origin.clone());
            let message = "nothing is left to run: every unit was left out";
            self.read.problems.push(Problem::new(origin, message).remedy("the lines before this one say why"));
        }
        self.read
    }

    /// `-n` is for the only service.
    fn number(&mut self) {
        let Some((number, origin)) = &self.request.number else { return };
        let problem = match &mut self.read.services[..] {
            [only] if matches!(only.start, StartWhen::PerConnection { .. }) => {
                format!("-n: {} has a worker for each connection", only.name)
            }
            [only] if matches!(only.kind, Kind::Forking { .. }) && *number != Number::Fixed(1) => {
                format!("-n: of {} (Type=forking) there can be one copy only", only.name)
            }
            [only] => {
                only.number = *number;
                return;
            }
            [] => return,
            many => format!("-n: which of {} services?", many.len()),
        };
        self.read.problems.push(Problem::new(origin.clone(), problem).remedy("X-Prebind-Number=N in the .service"));
    }
}

/// When a worker counts as ready. Without sockets to wait on there is nothing to be seen.
fn ack(kind: Type, sockets: usize, accepting: bool) -> AckMode {
    match kind {
        Type::Notify | Type::NotifyReload => AckMode::Notify,
        Type::Oneshot | Type::Forking => AckMode::Manual,
        Type::Simple | Type::Exec if sockets == 0 || accepting => AckMode::After(0),
        Type::Simple | Type::Exec => AckMode::Auto,
    }
}
