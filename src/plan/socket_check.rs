//! What is wrong with the sockets of a plan: names, addresses asked for twice, options that a kind does not have.

use super::{Address, Host, Origin, Problem, ServiceSpec, SocketId, SocketKind, SocketSpec};
use std::collections::BTreeMap;

/// The longest name, as systemd's.
const NAME_BYTES_MAX: usize = 255;
/// Descriptors that one worker can reasonably be passed.
const SOCKETS_MAX: usize = 1024;

pub(super) fn sockets(specs: &[SocketSpec], problems: &mut Vec<Problem>) {
    if specs.len() > SOCKETS_MAX {
        let message = format!("{} sockets are too many (at most {SOCKETS_MAX})", specs.len());
        problems.push(Problem::new(specs[SOCKETS_MAX].origin.clone(), message));
    }
    let mut by_name: BTreeMap<&str, &SocketSpec> = BTreeMap::new();
    let mut by_address: Vec<&SocketSpec> = Vec::new();
    for spec in specs {
        name(spec, problems);
        // What was inherited keeps its names, which need not differ; nor need those of a unit.
        if !matches!(spec.origin, Origin::Environment(_)) {
            if !spec.options.lenient
                && let Some(first) = by_name.insert(&spec.name, spec)
            {
                let message = format!("two sockets are named '{}' (the other: {})", spec.name, first.origin);
                problems.push(Problem::new(spec.origin.clone(), message).remedy("NAME=ADDR gives it another"));
            }
            if let Some(first) = by_address.iter().find(|first| same_address(first, spec)) {
                let message = format!("{} is asked for twice (the other: {})", spec.address, first.origin);
                problems.push(Problem::new(spec.origin.clone(), message).remedy("leave one out, or reuseport on both"));
            }
            by_address.push(spec);
        }
        for option in misfits(spec) {
            let message = format!("socket '{}': option {option} means nothing for {}", spec.name, spec.kind_word());
            problems.push(Problem::new(spec.origin.clone(), message));
        }
        if spec.options.slots && matches!(spec.address, Address::Fd(_)) {
            let message = format!("socket '{}': slots needs a socket per slot, and {} is one", spec.name, spec.address);
            problems.push(Problem::new(spec.origin.clone(), message).remedy("give the address, not the descriptor"));
        }
    }
}

/// Slots are those of one service. To be asked once it is settled which sockets each service gets.
pub(super) fn sharing(specs: &[SocketSpec], services: &[ServiceSpec], problems: &mut Vec<Problem>) {
    for (spec, id) in specs.iter().zip(0..).filter(|(spec, _)| spec.options.slots) {
        let mut users = services.iter().filter(|service| service.sockets.contains(&SocketId(id)));
        if let (Some(first), Some(second)) = (users.next(), users.next()) {
            let (name, first, second) = (&spec.name, &first.name, &second.name);
            let message = format!("socket '{name}': slots are those of one service, and {first} and {second} use it");
            problems.push(Problem::new(spec.origin.clone(), message).remedy("leave slots out"));
        }
    }
}

fn name(spec: &SocketSpec, problems: &mut Vec<Problem>) {
    let inherited = matches!(spec.origin, Origin::Environment(_));
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    // systemd's names may be empty or have blanks; its reader has looked at them.
    if spec.options.lenient {
        return;
    }
    if spec.name.is_empty() || spec.name.len() > NAME_BYTES_MAX || (!inherited && !spec.name.chars().all(good)) {
        let message = format!("'{}' is not a socket's name", spec.name);
        problems.push(Problem::new(spec.origin.clone(), message).remedy("letters, digits, _ . -"));
    }
}

fn same_address(a: &SocketSpec, b: &SocketSpec) -> bool {
    let ephemeral = matches!(a.address, Address::Inet { port: 0, .. });
    // A group of slots is bound by nobody else.
    let shared = [a, b].iter().all(|spec| spec.options.reuse_port && !spec.options.slots);
    a.kind == b.kind && a.address == b.address && !ephemeral && !shared
}

/// The options that were given and that this kind of socket does not have.
fn misfits(spec: &SocketSpec) -> Vec<&'static str> {
    let options = &spec.options;
    if matches!(spec.address, Address::Fd(_)) || options.lenient {
        // What it is shows when it is adopted, or bound.
        return Vec::new();
    }
    let inet = matches!(spec.address, Address::Inet { .. });
    let v6 = matches!(spec.address, Address::Inet { host: Host::V6(..) | Host::Name(_) | Host::Dual, .. });
    let path = matches!(spec.address, Address::Unix(_));
    let fifo = spec.kind == SocketKind::Fifo;
    let stream = matches!(spec.kind, SocketKind::Stream | SocketKind::SeqPacket);
    let tcp = inet && spec.kind == SocketKind::Stream;
    let unix = path || matches!(spec.address, Address::Abstract(_));
    let udp = inet && spec.kind == SocketKind::Datagram;
    [
        ("backlog", options.backlog.is_some(), stream),
        ("reuseport", options.reuse_port, inet),
        ("slots", options.slots, inet),
        ("mode", options.mode.is_some(), path),
        ("user", options.user.is_some(), path),
        ("group", options.group.is_some(), path),
        ("dirmode", options.directory_mode.is_some(), path),
        ("v6only", options.v6only.is_some(), v6),
        ("defer", options.defer_accept_seconds.is_some(), tcp),
        ("nodelay", options.nodelay, tcp),
        ("keepalive", options.keepalive, tcp),
        ("keepidle", options.keepalive_idle_seconds.is_some(), tcp),
        ("keepintvl", options.keepalive_interval_seconds.is_some(), tcp),
        ("keepcnt", options.keepalive_probes.is_some(), tcp),
        ("congestion", options.congestion.is_some(), tcp),
        ("freebind", options.freebind, inet),
        ("transparent", options.transparent, inet),
        ("device", options.device.is_some(), inet),
        ("tos", options.tos.is_some(), inet),
        ("ttl", options.ttl.is_some(), inet),
        ("pktinfo", options.pass_packet_info, udp),
        ("broadcast", options.broadcast, udp),
        ("timestamp", options.timestamp.is_some(), !fifo),
        ("rcvbuf", options.receive_buffer_bytes.is_some(), !fifo),
        ("sndbuf", options.send_buffer_bytes.is_some(), !fifo),
        ("mark", options.mark.is_some(), !fifo),
        ("priority", options.priority.is_some(), !fifo),
        ("passcred", options.pass_credentials, unix && !fifo),
        ("passsec", options.pass_security, unix && !fifo),
        ("pipesize", options.pipe_size_bytes.is_some(), fifo),
    ]
    .into_iter()
    .filter(|(_, given, fits)| *given && !fits)
    .map(|(name, ..)| name)
    .collect()
}
