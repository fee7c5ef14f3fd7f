//! A report of tests/real/workers/unit_probe.c without what differs by nature.

use super::case::Place;
use std::collections::BTreeMap;

/// Variables that only one side has, or that are each run's own; and why.
const VARIABLES: [(&str, &str); 8] = [
    ("__name__", "Circus: the name of the section, a slip of its reader"),
    ("LISTEN_", "prebind: systemd's way to pass sockets"),
    ("EINHORN_", "prebind: einhorn's way"),
    ("NOTIFY_SOCKET", "prebind: where READY=1 may be said"),
    ("PREBIND_", "prebind: which worker it is"),
    ("REAL_TEST", "each run's own: by it the processes are found again"),
    ("XDG_RUNTIME_DIR", "given to prebind by the harness"),
    ("PWD", "each run's own directory, which cwd tells"),
];

/// The lines of one report. This is, with [`VARIABLES`], the whole list of differences that no case has to name:
/// numbers of descriptors (`fd=N` in a word is the socket that stands there), /dev/null opened for writing too, a
/// descriptor of /dev/null that Circus leaves open where all are passed, where the daemon's own streams lead, SO_REUSEADDR
/// of a unix socket, where it means nothing, signals 32 and 33, which are the C library's own and stay as they were, and that Circus makes each worker a session of its own (prebind: a group).
/// Every fact of a socket is a line.
pub(super) fn lines(text: &str, place: &Place) -> Vec<String> {
    let mut sockets = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("fd ")) {
        if let Some((number, Some((_, at)))) = line.split_once(' ').map(|(n, rest)| (n, rest.split_once(" at "))) {
            sockets.insert(number.to_owned(), address(at));
        }
    }
    let all = text.lines().filter(|line| !is_own(line)).flat_map(|line| plain(line, &sockets));
    let mut lines: Vec<String> = all.map(|line| place.plain(&line)).collect();
    lines.sort();
    lines
}

fn is_own(line: &str) -> bool {
    let Some(name) = line.strip_prefix("env ") else { return false };
    VARIABLES.iter().any(|(own, _)| match own.strip_suffix('_').filter(|start| !start.ends_with('_')) {
        Some(_) => name.starts_with(own),
        None => name.starts_with(&format!("{own}=")),
    })
}

fn plain(line: &str, sockets: &BTreeMap<String, String>) -> Vec<String> {
    if line.starts_with("leads group") {
        return vec![line.split(" session").next().unwrap_or(line).to_owned()];
    }
    if let Some(mask) = line.strip_prefix("SigIgn:\t").and_then(|mask| u64::from_str_radix(mask, 16).ok()) {
        return vec![format!("SigIgn:\t{:016x}", mask & !(3 << 31))];
    }
    if line.starts_with("argv ") || line.starts_with("env ") {
        return vec![words(line, sockets)];
    }
    let Some((number, rest)) = line.strip_prefix("fd ").and_then(|rest| rest.split_once(' ')) else {
        return vec![line.to_owned()];
    };
    let stream = ["0", "1", "2"].contains(&number);
    let name = if stream { format!("fd {number} ") } else { "fd ".to_owned() };
    match (rest.split_once(" at "), sockets.get(number)) {
        (Some((facts, _)), Some(address)) => {
            let unix = facts.contains("SO_DOMAIN=1 ");
            let facts = facts.split(' ').skip(1).filter(|fact| !(unix && fact.starts_with("SO_REUSEADDR=")));
            facts.map(|fact| format!("{name}{address} {fact}")).collect()
        }
        _ if rest.starts_with("/dev/null ") && !stream => Vec::new(),
        _ if rest.starts_with("/dev/null ") => vec![format!("{name}/dev/null")],
        _ if rest.starts_with("pipe:") && stream => vec![format!("{name}the daemon's own")],
        _ => vec![format!("{name}{rest}")],
    }
}

/// With what is behind `fd=` of a word, or of a part of it.
fn words(line: &str, sockets: &BTreeMap<String, String>) -> String {
    let mut parts = line.split("fd=");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let nothing = || "nothing".to_owned();
        out += &format!("fd=<{}>{}", sockets.get(&part[..end]).cloned().unwrap_or_else(nothing), &part[end..]);
    }
    out
}

/// The bytes of an address as a text.
fn address(hex: &str) -> String {
    let bytes: Vec<u8> =
        (0..hex.len() / 2).filter_map(|n| u8::from_str_radix(hex.get(2 * n..2 * n + 2)?, 16).ok()).collect();
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
    match bytes.first().copied().map(i32::from) {
        Some(libc::AF_INET) if bytes.len() >= 8 => {
            format!("{}.{}.{}.{}:{}", bytes[4], bytes[5], bytes[6], bytes[7], port(&bytes))
        }
        Some(libc::AF_INET6) if bytes.len() >= 24 => {
            let ip: [u8; 16] = bytes[8..24].try_into().expect("16 bytes");
            format!("[{}]:{}", std::net::Ipv6Addr::from(ip), port(&bytes))
        }
        Some(libc::AF_UNIX) => String::from_utf8_lossy(&bytes[2..]).trim_end_matches('\0').to_owned(),
        _ => hex.to_owned(),
    }
}
