//! `[Socket]`: a unit's assignments -> sockets with their options, and what becomes of their traffic. A value that cannot be
//! read is said and leaves what stood before, as in systemd.

use super::Remark;
use super::address::{address, netlink, path, queue};
use super::kill;
use super::lex::Assignment;
use super::name::UnitName;
use super::process::{self, Context, Process, is_vital};
use super::values::{boolean, count, integer, mode, set, size, span};
use super::words::commands;
use crate::plan::{
    Address, Command, Exec, Nanos, NotifyAccess, Origin, Problem, SECOND, ServiceSpec, SocketKind, SocketOptions,
    SocketSpec, Step, StepSpec, Timestamp,
};
use std::path::PathBuf;

/// A `.socket` as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketUnit {
    /// Its sockets, in the order of their lines.
    pub sockets: Vec<SocketSpec>,
    /// `Service=`, else the unit of the same name.
    pub service: Option<String>,
    /// One instance for each connection.
    pub accept: bool,
    /// So many connections at once, with `accept`.
    pub max_connections: u32,
    /// From one source; 0: any number.
    pub max_connections_per_source: u32,
    /// What waits is thrown away each time it listens again.
    pub flush_pending: bool,
    /// Paths go when the unit stops.
    pub remove_on_stop: bool,
    /// Links to the one path.
    pub symlinks: Vec<String>,
    /// So many starts in so long; `None`: no limit.
    pub trigger_limit: Option<(u32, Nanos)>,
    /// The commands around its sockets, as a service without workers: before and after they are opened (StartPre, StartPost)
    /// and closed (Stop, StopPost).
    pub commands: ServiceSpec,
    /// Commands that cannot be read, and those who run them.
    pub problems: Vec<Problem>,
}

/// A Listen line, whose options are known at the end only.
struct Listen {
    kind: SocketKind,
    address: Address,
    origin: Origin,
}

struct Reader<'a> {
    name: &'a UnitName,
    outside: &'a dyn Fn(char) -> Option<String>,
    listens: Vec<Listen>,
    options: SocketOptions,
    /// How its commands are run.
    process: Process,
    fd_name: Option<String>,
    unit: SocketUnit,
    trigger: (Option<u32>, Option<Option<Nanos>>),
    /// Messages of a queue, and bytes of one.
    queue: (Option<i64>, Option<i64>),
    reuse: bool,
}

/// Reads the `[Socket]` assignments that it knows; hands the others back.
pub fn read<'a>(
    name: &UnitName,
    assignments: &'a [Assignment],
    outside: &dyn Fn(char) -> Option<String>,
    remarks: &mut Vec<Remark>,
) -> (SocketUnit, Vec<&'a Assignment>) {
    let unit = SocketUnit {
        sockets: Vec::new(),
        service: None,
        accept: false,
        max_connections: 64,
        max_connections_per_source: 0,
        flush_pending: false,
        remove_on_stop: false,
        symlinks: Vec::new(),
        trigger_limit: None,
        commands: no_commands(name),
        problems: Vec::new(),
    };
    let mut reader = Reader {
        name,
        outside,
        listens: Vec::new(),
        options: SocketOptions::default(),
        process: Process::default(),
        fd_name: None,
        unit,
        trigger: (None, None),
        queue: (None, None),
        reuse: false,
    };
    let mut left = Vec::new();
    for one in assignments {
        if one.section != "Socket" {
            left.push(one);
            continue;
        }
        match reader.take(one, remarks) {
            Some(Ok(())) => {}
            Some(Err(why)) if is_vital(&one.key, &one.value) => {
                reader.unit.problems.push(Problem::new(one.origin.clone(), format!("{}: {why}", one.key)));
            }
            Some(Err(why)) => {
                remarks.push(Remark::warn(one.origin.clone(), format!("{}: {why}: ignored", one.key)));
            }
            None => left.push(one),
        }
    }
    (reader.finish(), left)
}

impl Reader<'_> {
    /// `None`: the key is not of this table.
    fn take(&mut self, one: &Assignment, remarks: &mut Vec<Remark>) -> Option<Result<(), String>> {
        let value = one.value.as_str();
        let kind = match one.key.as_str() {
            "ListenStream" => Some(SocketKind::Stream),
            "ListenDatagram" => Some(SocketKind::Datagram),
            "ListenSequentialPacket" => Some(SocketKind::SeqPacket),
            "ListenFIFO" => Some(SocketKind::Fifo),
            "ListenSpecial" => Some(SocketKind::Special),
            "ListenNetlink" => Some(SocketKind::Netlink),
            "ListenMessageQueue" => Some(SocketKind::MessageQueue),
            _ => None,
        };
        Some(match kind {
            Some(kind) => self.listen(kind, value, &one.origin),
            None => self
                .command(one)
                .or_else(|| self.of_unit(&one.key, value))
                .or_else(|| self.of_socket(&one.key, value))
                .or_else(|| self.of_commands(one, remarks))?,
        })
    }

    /// systemd.exec(5) and systemd.kill(5) are about the commands here.
    fn of_commands(&mut self, one: &Assignment, remarks: &mut Vec<Remark>) -> Option<Result<(), String>> {
        let context = Context { name: self.name, outside: self.outside };
        let spec = &mut self.unit.commands;
        kill::take(spec, &one.key, &one.value).or_else(|| self.process.take(spec, one, context, remarks))
    }

    /// A command around the sockets. One that cannot be read makes the unit unusable.
    fn command(&mut self, one: &Assignment) -> Option<Result<(), String>> {
        let step = match one.key.as_str() {
            "ExecStartPre" => Step::StartPre,
            "ExecStartPost" => Step::StartPost,
            "ExecStopPre" => Step::Stop,
            "ExecStopPost" => Step::StopPost,
            _ => return None,
        };
        if one.value.is_empty() {
            self.unit.commands.steps.retain(|other| other.step != step);
            return Some(Ok(()));
        }
        let read = commands(&one.value).and_then(|all| {
            let fill = |exec: &super::words::Exec| exec.fill(self.name, self.outside, &one.origin);
            all.iter().map(fill).collect::<Result<Vec<Exec>, String>>()
        });
        match read {
            Ok(all) => self.unit.commands.steps.extend(all.into_iter().map(|exec| StepSpec { step, exec })),
            Err(why) => {
                let message = format!("'{}' is no command: {why}", one.value);
                self.unit.problems.push(Problem::new(one.origin.clone(), message));
            }
        }
        Some(Ok(()))
    }

    fn expand(&self, value: &str) -> Result<String, String> {
        self.name.expand(value, self.outside)
    }

    fn listen(&mut self, kind: SocketKind, value: &str, origin: &Origin) -> Result<(), String> {
        if value.is_empty() {
            self.listens.clear();
            return Ok(());
        }
        let value = self.expand(value)?;
        let address = match kind {
            SocketKind::Fifo | SocketKind::Special => Address::Unix(path(&value)?.into()),
            SocketKind::Netlink => netlink(&value)?,
            SocketKind::MessageQueue => queue(&value)?,
            SocketKind::Stream | SocketKind::Datagram | SocketKind::SeqPacket => address(&value)?,
        };
        if kind == SocketKind::SeqPacket && matches!(address, Address::Inet { .. }) {
            return Err(format!("'{value}' is neither a path nor an abstract name"));
        }
        self.listens.push(Listen { kind, address, origin: origin.clone() });
        Ok(())
    }

    /// What is of the unit as a whole.
    fn of_unit(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let unit = &mut self.unit;
        Some(match key {
            "Service" if value.is_empty() => set(&mut unit.service, Ok(None)),
            "Service" => match self.name.expand(value, self.outside).and_then(|name| UnitName::parse(&name)) {
                Ok(name) if name.kind == "service" => {
                    unit.service = Some(name.to_string());
                    Ok(())
                }
                Ok(_) => Err(format!("'{value}' is no service")),
                Err(why) => Err(why),
            },
            "Accept" => set(&mut unit.accept, boolean(value)),
            "MaxConnections" => set(&mut unit.max_connections, count(value)),
            "MaxConnectionsPerSource" => set(&mut unit.max_connections_per_source, count(value)),
            "FlushPending" => set(&mut unit.flush_pending, boolean(value)),
            "RemoveOnStop" => set(&mut unit.remove_on_stop, boolean(value)),
            "TriggerLimitBurst" => set(&mut self.trigger.0, count(value).map(Some)),
            "TriggerLimitIntervalSec" => set(&mut self.trigger.1, span(value).map(Some)),
            "TimeoutSec" => {
                let span = span(value).map(|span| span.filter(|span| *span > 0));
                set(&mut unit.commands.start_timeout_ns, span.map(|span| span.unwrap_or(ServiceSpec::NEVER_NS)))
            }
            "FileDescriptorName" => {
                let name = self.expand(value);
                let fits = |name: &String| {
                    name.len() <= 255 && name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b':')
                };
                match name {
                    Ok(name) if fits(&name) => set(&mut self.fd_name, Ok(Some(name))),
                    Ok(name) => Err(format!("'{name}' is no name: printable ASCII without ':', at most 255 bytes")),
                    Err(why) => Err(why),
                }
            }
            "Symlinks" if value.is_empty() => {
                unit.symlinks.clear();
                Ok(())
            }
            "Symlinks" => self.symlinks(value),
            _ => return None,
        })
    }

    fn symlinks(&mut self, value: &str) -> Result<(), String> {
        let words = super::words::split(value)?;
        let paths: Vec<String> = words.iter().map(|word| path(&self.expand(word)?)).collect::<Result<_, String>>()?;
        self.unit.symlinks.extend(paths);
        Ok(())
    }

    /// What is of each socket.
    fn of_socket(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let options = &mut self.options;
        let whole_seconds = |value: &str| {
            let span = span(value)?.ok_or_else(|| format!("'{value}' is too long"))?;
            u32::try_from(span / SECOND).map(Some).map_err(|_| format!("'{value}' is too long"))
        };
        let number = |value: &str| {
            let number = integer(value)?;
            i32::try_from(number).map(Some).map_err(|_| format!("'{value}' is too large"))
        };
        Some(match key {
            "SocketMode" => set(&mut options.mode, mode(value).map(Some)),
            "DirectoryMode" => set(&mut options.directory_mode, mode(value).map(Some)),
            "SocketUser" => set(&mut options.user, self.name.expand(value, self.outside).map(|name| text(&name))),
            "SocketGroup" => set(&mut options.group, self.name.expand(value, self.outside).map(|name| text(&name))),
            "Backlog" => set(&mut options.backlog, count(value).map(Some)),
            "BindToDevice" => set(&mut options.device, Ok(text(value))),
            "BindIPv6Only" => match value {
                "default" => set(&mut options.v6only, Ok(None)),
                "both" => set(&mut options.v6only, Ok(Some(false))),
                "ipv6-only" => set(&mut options.v6only, Ok(Some(true))),
                _ => Err(format!("'{value}' is none of default, both, ipv6-only")),
            },
            "KeepAlive" => set(&mut options.keepalive, boolean(value)),
            "KeepAliveTimeSec" => set(&mut options.keepalive_idle_seconds, whole_seconds(value)),
            "KeepAliveIntervalSec" => set(&mut options.keepalive_interval_seconds, whole_seconds(value)),
            "KeepAliveProbes" => set(&mut options.keepalive_probes, count(value).map(Some)),
            "DeferAcceptSec" => set(&mut options.defer_accept_seconds, whole_seconds(value)),
            "NoDelay" => set(&mut options.nodelay, boolean(value)),
            "Priority" => set(&mut options.priority, number(value)),
            "ReceiveBuffer" => set(&mut options.receive_buffer_bytes, size(value).map(Some)),
            "SendBuffer" => set(&mut options.send_buffer_bytes, size(value).map(Some)),
            "IPTOS" => match value {
                "low-delay" => set(&mut options.tos, Ok(Some(16))),
                "throughput" => set(&mut options.tos, Ok(Some(8))),
                "reliability" => set(&mut options.tos, Ok(Some(4))),
                "low-cost" => set(&mut options.tos, Ok(Some(2))),
                _ => set(&mut options.tos, number(value)),
            },
            "IPTTL" => set(&mut options.ttl, number(value)),
            "Mark" => set(&mut options.mark, count(value).map(Some)),
            "ReusePort" => set(&mut self.reuse, boolean(value)),
            "FreeBind" => set(&mut options.freebind, boolean(value)),
            "Transparent" => set(&mut options.transparent, boolean(value)),
            "Broadcast" => set(&mut options.broadcast, boolean(value)),
            "PassCredentials" => set(&mut options.pass_credentials, boolean(value)),
            "PassSecurity" => set(&mut options.pass_security, boolean(value)),
            "PassPacketInfo" => set(&mut options.pass_packet_info, boolean(value)),
            "Timestamping" => match value {
                "off" => set(&mut options.timestamp, Ok(None)),
                "us" | "usec" | "µs" | "μs" => set(&mut options.timestamp, Ok(Some(Timestamp::Microseconds))),
                "ns" | "nsec" => set(&mut options.timestamp, Ok(Some(Timestamp::Nanoseconds))),
                _ => Err(format!("'{value}' is none of off, us, ns")),
            },
            "TCPCongestion" => set(&mut options.congestion, Ok(text(value))),
            "PipeSize" => set(&mut options.pipe_size_bytes, size(value).map(Some)),
            "PassPIDFD" => set(&mut options.pass_pidfd, boolean(value)),
            "AcceptFileDescriptors" => set(&mut options.refuse_descriptors, boolean(value).map(|yes| !yes)),
            "Writable" => set(&mut options.writable, boolean(value)),
            "SocketProtocol" => match value {
                "" => set(&mut options.protocol, Ok(None)),
                "udplite" => set(&mut options.protocol, Ok(Some(136))),
                "sctp" => set(&mut options.protocol, Ok(Some(132))),
                "mptcp" => set(&mut options.protocol, Ok(Some(262))),
                _ => Err(format!("'{value}' is none of udplite, sctp, mptcp")),
            },
            "MessageQueueMaxMessages" => set(&mut self.queue.0, at_least_one(value)),
            "MessageQueueMessageSize" => set(&mut self.queue.1, at_least_one(value)),
            _ => return None,
        })
    }

    fn finish(self) -> SocketUnit {
        let Reader { name, listens, mut options, fd_name, mut unit, trigger, queue, reuse, process, .. } = self;
        process.finish(&mut unit.commands);
        options.lenient = true;
        options.keep_path = !unit.remove_on_stop;
        options.queue_limits = queue.0.zip(queue.1);
        let fd_name = fd_name.unwrap_or_else(|| if unit.accept { "connection".into() } else { name.to_string() });
        let inet = |address: &Address| matches!(address, Address::Inet { .. });
        let links: Vec<PathBuf> = unit.symlinks.iter().map(PathBuf::from).collect();
        unit.sockets = listens
            .into_iter()
            .map(|Listen { kind, address, origin }| SocketSpec {
                name: fd_name.clone(),
                named: true,
                kind,
                // systemd asks for it where it means something.
                options: SocketOptions {
                    reuse_port: reuse && inet(&address),
                    symlinks: if has_node(kind, &address) { links.clone() } else { Vec::new() },
                    ..options.clone()
                },
                address,
                origin,
                retired: false,
                since: 0,
            })
            .collect();
        let burst = trigger.0.unwrap_or(if unit.accept { 200 } else { 20 });
        let interval = trigger.1.unwrap_or(Some(2 * SECOND)).unwrap_or(Nanos::MAX);
        unit.trigger_limit = (burst > 0 && interval > 0).then_some((burst, interval));
        unit
    }
}

/// Commands are root's, in `/`, unless the unit says otherwise.
fn no_commands(name: &UnitName) -> ServiceSpec {
    let mut spec = ServiceSpec {
        name: name.to_string(),
        command: Command::Execs(Vec::new()),
        env: Vec::new(),
        start_timeout_ns: 90 * SECOND,
        notify_access: NotifyAccess::None,
        ..ServiceSpec::default()
    };
    process::defaults(&mut spec);
    kill::defaults(&mut spec);
    spec.process.clean_environment = true;
    spec
}

/// Whether it makes a file that links can lead to.
fn has_node(kind: SocketKind, address: &Address) -> bool {
    matches!(address, Address::Unix(_)) && kind != SocketKind::Special
}

fn at_least_one(value: &str) -> Result<Option<i64>, String> {
    let number = integer(value)?;
    if number > 0 { Ok(Some(number)) } else { Err(format!("{value} is not above 0")) }
}

impl SocketUnit {
    /// What makes it unusable, as a whole.
    pub fn wrong(&self) -> Option<String> {
        let nodes = self.sockets.iter().filter(|spec| has_node(spec.kind, &spec.address)).count();
        let accepting = |spec: &SocketSpec| matches!(spec.kind, SocketKind::Stream | SocketKind::SeqPacket);
        if self.sockets.is_empty() {
            return Some("it has no Listen setting that can be read".into());
        }
        if self.accept && self.service.is_some() {
            return Some("Service= and Accept=yes exclude each other".into());
        }
        if let Some(spec) = self.sockets.iter().find(|spec| self.accept && !accepting(spec)) {
            return Some(format!("Accept=yes, and {} {} has no connections", spec.kind_word(), spec.address));
        }
        if !self.symlinks.is_empty() && nodes != 1 {
            return Some(format!("Symlinks= needs exactly one path to lead to, and there are {nodes}"));
        }
        None
    }
}

/// An empty value is none.
fn text(value: &str) -> Option<String> {
    Some(value).filter(|value| !value.is_empty()).map(str::to_string)
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
