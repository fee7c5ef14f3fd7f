//! `-b [NAME=]ADDR[,OPT]...`: one word into one [`SocketSpec`].

use super::options;
use crate::plan::{Address, Host, Origin, Problem, SocketKind, SocketOptions, SocketSpec};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The kinds that may stand before an address, as `tcp:` or `tcp://`.
const KINDS: [(&str, Kind); 6] = [
    ("tcp", Kind::Inet(SocketKind::Stream)),
    ("udp", Kind::Inet(SocketKind::Datagram)),
    ("unix", Kind::Unix(SocketKind::Stream)),
    ("unixgram", Kind::Unix(SocketKind::Datagram)),
    ("seqpacket", Kind::Unix(SocketKind::SeqPacket)),
    ("fifo", Kind::Unix(SocketKind::Fifo)),
];

#[derive(Clone, Copy)]
enum Kind {
    Inet(SocketKind),
    Unix(SocketKind),
}

/// Reads the n-th `-b`, as far as it can be read. `backlog`: the one of `-l`.
pub(super) fn socket(
    word: &OsStr,
    n: usize,
    backlog: Option<u32>,
    origin: &Origin,
) -> (Option<SocketSpec>, Vec<Problem>) {
    let problem = |message: String| Problem::new(origin.clone(), message);
    let Some(text) = word.to_str() else {
        return (None, vec![problem(format!("'{}' is not UTF-8", word.to_string_lossy()))]);
    };
    let (name, rest) = split_name(text);
    let mut parts = rest.split(',');
    let place = parts.next().unwrap_or_default();
    let mut problems = Vec::new();
    let mut options = SocketOptions::default();
    for option in parts {
        if let Err(message) = options::read(option, &mut options) {
            problems.push(problem(format!("socket '{text}': {message}")));
        }
    }
    let (kind, address) = match address(place) {
        Ok(found) => found,
        Err(message) => {
            problems.insert(0, problem(format!("socket '{text}': {message}")));
            return (None, problems);
        }
    };
    // -l is for all sockets that have a queue; an option of the socket itself comes first.
    if matches!(kind, SocketKind::Stream | SocketKind::SeqPacket) {
        options.backlog = options.backlog.or(backlog);
    }
    let spec = SocketSpec {
        name: name.map_or_else(|| n.to_string(), str::to_string),
        named: name.is_some(),
        kind,
        address,
        options,
        origin: origin.clone(),
        retired: false,
        since: 0,
    };
    (Some(spec), problems)
}

/// `NAME=` before the address. Whatever stands there is meant as a name: `check` refuses bad ones.
fn split_name(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, rest)) if !name.contains([':', '/', '@', ',', '[']) => (Some(name), rest),
        _ => (None, text),
    }
}

fn address(text: &str) -> Result<(SocketKind, Address), String> {
    for (word, kind) in KINDS {
        if let Some(rest) = text.strip_prefix(word).and_then(|rest| rest.strip_prefix(':')) {
            // `tcp://HOST:PORT`, but `unix:///path` has a path of its own.
            let rest = rest.strip_prefix("//").unwrap_or(rest);
            return match kind {
                Kind::Inet(kind) => inet(rest).map(|address| (kind, address)),
                Kind::Unix(kind) => unix(rest, kind).map(|address| (kind, address)),
            };
        }
    }
    if let Some(number) = text.strip_prefix("fd:") {
        let number = decimal(number).ok_or_else(|| format!("'{number}' is not a descriptor's number"))?;
        let number = i32::try_from(number).map_err(|_| format!("{number} is not a descriptor's number"))?;
        return Ok((SocketKind::Stream, Address::Fd(number)));
    }
    if let Some(rest) = text.strip_prefix("vsock:") {
        return vsock(rest).map(|address| (SocketKind::Stream, address));
    }
    match text.as_bytes().first() {
        None => Err("there is no address".into()),
        Some(b'/' | b'@') => unix(text, SocketKind::Stream).map(|address| (SocketKind::Stream, address)),
        Some(b'.') if text.contains('/') => Err("a path must be absolute (begin with /)".into()),
        Some(_) => inet(text).map(|address| (SocketKind::Stream, address)),
    }
}

fn inet(text: &str) -> Result<Address, String> {
    if let Some(number) = decimal(text) {
        return Ok(Address::Inet { host: Host::V4(Ipv4Addr::UNSPECIFIED), port: port_of(number)? });
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the ] of [V6]:PORT is missing")?;
        let number = rest.strip_prefix(':').ok_or("there is no port ([V6]:PORT)")?;
        let (ip, scope) = match host.split_once('%') {
            Some((ip, scope)) => (ip, Some(scope.to_string())),
            None => (host, None),
        };
        let ip: Ipv6Addr = ip.parse().map_err(|_| format!("'{ip}' is not an IPv6 address"))?;
        return Ok(Address::Inet { host: Host::V6(ip, scope), port: port(number)? });
    }
    let Some((host, number)) = text.rsplit_once(':') else {
        return Err(match text.contains('/') {
            true => "a path must be absolute (begin with /)".into(),
            false => format!("there is no port (PORT, HOST:PORT, /path ...; {text}:PORT?)"),
        });
    };
    let port = port(number)?;
    let host = match host {
        "" => Host::V4(Ipv4Addr::UNSPECIFIED),
        "*" => Host::Dual,
        _ if host.contains(':') => return Err(format!("an IPv6 address stands in brackets ([{host}]:{port})")),
        _ => match host.parse::<Ipv4Addr>() {
            Ok(ip) => Host::V4(ip),
            Err(_) if is_host_name(host) => Host::Name(host.to_string()),
            Err(_) => return Err(format!("'{host}' is neither an address nor a host name")),
        },
    };
    Ok(Address::Inet { host, port })
}

fn is_host_name(host: &str) -> bool {
    let dotted_number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    !dotted_number && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

fn unix(text: &str, kind: SocketKind) -> Result<Address, String> {
    match text.strip_prefix('@') {
        Some("") => Err("the abstract name is empty".into()),
        Some(_) if kind == SocketKind::Fifo => Err("a FIFO needs a path".into()),
        Some(name) => Ok(Address::Abstract(name.to_string())),
        None if text.starts_with('/') => Ok(Address::Unix(text.into())),
        None => Err("a path must be absolute (begin with /)".into()),
    }
}

fn vsock(text: &str) -> Result<Address, String> {
    let (cid, port) = text.split_once(':').ok_or("there is no port (vsock:CID:PORT)")?;
    let number = |text: &str| {
        let number = decimal(text).and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| format!("'{text}' is not a number of vsock"))
    };
    Ok(Address::Vsock { cid: if cid.is_empty() { u32::MAX } else { number(cid)? }, port: number(port)? })
}

fn port(text: &str) -> Result<u16, String> {
    port_of(decimal(text).ok_or_else(|| format!("'{text}' is not a port"))?)
}

fn port_of(number: u64) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("port {number} is above 65535"))
}

/// Decimal digits only: 080 and 0x50 mean different things to different tools.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}
