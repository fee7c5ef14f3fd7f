//! `,OPT` of `-b`: one table of every option, what it takes and where it goes.

use crate::plan::{SocketOptions, Timestamp, nearest};

/// What an option takes and sets.
enum Option_ {
    Flag(fn(&mut SocketOptions)),
    Value(fn(&mut SocketOptions, &str) -> Result<(), String>),
}

use Option_::{Flag, Value};

/// Every option, with its names.
const TABLE: &[(&str, Option_)] = &[
    ("r", Flag(|to| to.reuse_address = true)),
    ("so_reuseaddr", Flag(|to| to.reuse_address = true)),
    ("n", Flag(|to| to.nonblock = true)),
    ("o_nonblock", Flag(|to| to.nonblock = true)),
    ("backlog", Value(|to, text| set(&mut to.backlog, number(text)))),
    ("reuseport", Flag(|to| to.reuse_port = true)),
    ("slots", Flag(|to| to.slots = true)),
    ("mode", Value(|to, text| set(&mut to.mode, octal(text)))),
    ("user", Value(|to, text| set(&mut to.user, word(text)))),
    ("group", Value(|to, text| set(&mut to.group, word(text)))),
    ("dirmode", Value(|to, text| set(&mut to.directory_mode, octal(text)))),
    ("v6only", Flag(|to| to.v6only = Some(true))),
    ("defer", Value(|to, text| set(&mut to.defer_accept_seconds, number(text)))),
    ("nodelay", Flag(|to| to.nodelay = true)),
    ("keepalive", Flag(|to| to.keepalive = true)),
    ("keepidle", Value(|to, text| set(&mut to.keepalive_idle_seconds, number(text)))),
    ("keepintvl", Value(|to, text| set(&mut to.keepalive_interval_seconds, number(text)))),
    ("keepcnt", Value(|to, text| set(&mut to.keepalive_probes, number(text)))),
    ("freebind", Flag(|to| to.freebind = true)),
    ("transparent", Flag(|to| to.transparent = true)),
    ("device", Value(|to, text| set(&mut to.device, word(text)))),
    ("rcvbuf", Value(|to, text| set(&mut to.receive_buffer_bytes, size(text)))),
    ("sndbuf", Value(|to, text| set(&mut to.send_buffer_bytes, size(text)))),
    ("mark", Value(|to, text| set(&mut to.mark, number(text)))),
    ("priority", Value(|to, text| set(&mut to.priority, number(text)))),
    ("tos", Value(|to, text| set(&mut to.tos, number(text)))),
    ("ttl", Value(|to, text| set(&mut to.ttl, number(text)))),
    ("congestion", Value(|to, text| set(&mut to.congestion, word(text)))),
    ("broadcast", Flag(|to| to.broadcast = true)),
    ("passcred", Flag(|to| to.pass_credentials = true)),
    ("passsec", Flag(|to| to.pass_security = true)),
    ("pktinfo", Flag(|to| to.pass_packet_info = true)),
    ("timestamp", Value(|to, text| set(&mut to.timestamp, timestamp(text)))),
    ("pipesize", Value(|to, text| set(&mut to.pipe_size_bytes, size(text)))),
];

/// Reads one option into `to`.
pub(super) fn read(option: &str, to: &mut SocketOptions) -> Result<(), String> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    // einhorn's letters may be joined.
    if matches!(option, "rn" | "nr") {
        (to.reuse_address, to.nonblock) = (true, true);
        return Ok(());
    }
    let lower = name.to_ascii_lowercase();
    match (TABLE.iter().find(|(known, _)| *known == lower), value) {
        (Some((_, Flag(set))), None) => set(to),
        (Some((_, Value(set))), Some(value)) => set(to, value).map_err(|error| format!("option {name}: {error}"))?,
        (Some((_, Flag(_))), Some(_)) => return Err(format!("option {name} takes no value")),
        (Some((_, Value(_))), None) => return Err(format!("option {name} needs a value ({name}=...)")),
        (None, _) if name.is_empty() => return Err("an option is empty (,,)".into()),
        (None, _) => {
            let hint = nearest(&lower, TABLE.iter().map(|(known, _)| *known));
            let hint = hint.map(|near| format!(", did you mean {near}?")).unwrap_or_default();
            return Err(format!("unknown option '{name}'{hint}"));
        }
    }
    Ok(())
}

fn set<T>(to: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    *to = Some(value?);
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number in its range"))
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(format!("'{text}' is not an octal mode such as 0660")),
    }
}

fn word(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("the value is empty".into()) } else { Ok(text.to_string()) }
}

/// Bytes; K, M and G are powers of 1024, as systemd reads them.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is not a size (a number, with K, M or G)");
    let unit = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => 1 << 10,
        Some(b'M') => 1 << 20,
        Some(b'G') => 1 << 30,
        _ => 1_u64,
    };
    let digits = if unit == 1 { text } else { &text[..text.len() - 1] };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(bad)
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    match text {
        "us" => Ok(Timestamp::Microseconds),
        "ns" => Ok(Timestamp::Nanoseconds),
        _ => Err(format!("'{text}' is neither us nor ns")),
    }
}
