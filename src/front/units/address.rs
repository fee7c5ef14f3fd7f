//! Listen addresses as systemd reads them: a bare port is `[::]`, names and port 0 are not addresses.

use crate::plan::{Address, Host};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// The longest path or abstract name, bytes.
const UNIX_BYTES_MAX: usize = 107;

/// `8080`, `127.0.0.1:80`, `[::1]:80%lo`, `/run/x`, `@x`, `vsock::22`.
pub fn address(text: &str) -> Result<Address, String> {
    let wrong = |why: &str| Err(format!("'{text}' is no address: {why}"));
    if text.starts_with('/') {
        return unix(text).map(|path| Address::Unix(PathBuf::from(path)));
    }
    if let Some(name) = text.strip_prefix('@') {
        return match name {
            "" => wrong("the name behind @ is empty"),
            _ if name.len() > UNIX_BYTES_MAX => wrong("the name is too long"),
            _ => Ok(Address::Abstract(name.into())),
        };
    }
    if let Some(rest) = text.strip_prefix("vsock:") {
        let Some((cid, port)) = rest.split_once(':') else { return wrong("vsock:CID:PORT") };
        let cid = if cid.is_empty() { Ok(u32::MAX) } else { cid.parse() };
        return match (cid, port.parse()) {
            (Ok(cid), Ok(port)) => Ok(Address::Vsock { cid, port }),
            _ => wrong("vsock:CID:PORT, both numbers"),
        };
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return port(text).map(|port| Address::Inet { host: Host::V6(Ipv6Addr::UNSPECIFIED, None), port });
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((ip, behind)) = rest.split_once(']') else { return wrong("the ] is missing") };
        let Ok(ip) = ip.parse() else { return wrong("what stands in [] is no IPv6 address") };
        let Some(behind) = behind.strip_prefix(':') else { return wrong("the port is missing") };
        let (number, scope) = behind.split_once('%').map_or((behind, None), |(port, scope)| (port, Some(scope)));
        let scope = scope.map(str::to_string);
        return port(number).map(|port| Address::Inet { host: Host::V6(ip, scope), port });
    }
    match text.rsplit_once(':') {
        Some((host, number)) => match host.parse::<Ipv4Addr>() {
            Ok(ip) => port(number).map(|port| Address::Inet { host: Host::V4(ip), port }),
            Err(_) if host.contains(':') => wrong("an IPv6 address stands in []"),
            Err(_) => wrong("host names are not looked up here, write the number"),
        },
        None => wrong("neither a port, HOST:PORT, /path, @name nor vsock:CID:PORT"),
    }
}

/// An absolute path that a socket can have, without doubled slashes.
fn unix(text: &str) -> Result<String, String> {
    if text.len() > UNIX_BYTES_MAX {
        return Err(format!("'{text}' is too long: {} bytes, at most {UNIX_BYTES_MAX}", text.len()));
    }
    path(text)
}

/// An absolute path without doubled slashes.
pub(super) fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("'{text}' is no absolute path"));
    }
    let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
    Ok(format!("/{}", parts.collect::<Vec<_>>().join("/")))
}

/// Netlink families by the names that systemd has for them, linux/netlink.h.
const FAMILIES: [(&str, i32); 17] = [
    ("route", 0),
    ("firewall", 3),
    ("inet-diag", 4),
    ("nflog", 5),
    ("xfrm", 6),
    ("selinux", 7),
    ("iscsi", 8),
    ("audit", 9),
    ("fib-lookup", 10),
    ("connector", 11),
    ("netfilter", 12),
    ("ip6-fw", 13),
    ("dnrtmsg", 14),
    ("kobject-uevent", 15),
    ("generic", 16),
    ("scsitransport", 18),
    ("ecryptfs", 19),
];

/// `route 1361`, `audit`: a family by name or number, and its groups as bind(2) takes them.
pub(super) fn netlink(text: &str) -> Result<Address, String> {
    let mut words = text.split_whitespace();
    let (name, groups) = (words.next().unwrap_or_default(), words.next());
    let known = FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family);
    let family = known.or_else(|| name.parse().ok().filter(|family| (0..32).contains(family)));
    match (family, groups.map_or(Ok(0), str::parse), words.next()) {
        (Some(family), Ok(groups), None) => Ok(Address::Netlink { family, groups }),
        _ => Err(format!("'{text}' is no netlink family (route, audit, kobject-uevent ...) and no number of groups")),
    }
}

/// `/name`, with no other slash.
pub(super) fn queue(text: &str) -> Result<Address, String> {
    match text.strip_prefix('/') {
        Some(name) if !name.is_empty() && name.len() < 255 && !name.contains('/') && name != "." && name != ".." => {
            Ok(Address::MessageQueue(text.to_string()))
        }
        _ => Err(format!("'{text}' is no message queue (/NAME)")),
    }
}

/// systemd reads 0x50 and refuses 080: here both are refused, in words.
fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(0) => Err("port 0 is no address: systemd binds no free ports".into()),
        Ok(port) if !text.starts_with(['0', '+']) => Ok(port),
        _ => Err(format!("'{text}' is no port (a decimal number from 1 to 65535)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_systemds() {
        for (text, shown) in [
            ("8080", "[::]:8080"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[fe80::1]:80%eth0", "[fe80::1%eth0]:80"),
            ("/run//a b/./x", "/run/a b/x"),
            ("@x", "@x"),
            ("vsock::22", "vsock::22"),
            ("vsock:3:22", "vsock:3:22"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), Ok(shown), "{text}");
        }
        let long = format!("/{}", "x".repeat(107));
        for bad in [
            "",
            "0",
            "65536",
            "0x50",
            "1.2.3.4:080",
            "localhost:80",
            "*:80",
            "127.0.0.1",
            "1.2.3.4:0",
            "::1:80",
            "[::1]",
            "[fe80::1%eth0]:80",
            "[::1]:80x",
            "run/x",
            "@",
            "vsock:22",
            "vsock:x:1",
            &long,
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
