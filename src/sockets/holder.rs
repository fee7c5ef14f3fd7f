//! Who holds an address that is in use: /proc/net tables -> socket inodes -> /proc/PID/fd. Read on failure only, and
//! as far as our rights reach; what cannot be seen is left out of the message.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// ` (pid 4711, nginx)`, or nothing where /proc does not tell. `kind` is tcp or udp.
pub(super) fn of_inet(kind: &str, address: SocketAddr) -> String {
    let mut inodes = BTreeSet::new();
    for table in [kind.to_string(), format!("{kind}6")] {
        if let Ok(text) = fs::read_to_string(format!("/proc/net/{table}")) {
            inodes.extend(inet_inodes(&text, address));
        }
    }
    processes(&inodes)
}

/// The same for a path, or an abstract name with its `@`.
pub(super) fn of_unix(name: &str) -> String {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    processes(&unix_inodes(&table, name).collect())
}

/// The sockets of a /proc/net table that wait on the port and keep us from binding the address.
fn inet_inodes(table: &str, wanted: SocketAddr) -> impl Iterator<Item = u64> {
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        // 0A: listening. 07: a datagram socket without a peer.
        let waits = matches!(*fields.get(3)?, "0A" | "07");
        let ip = hex_ip(ip)?;
        let same = ip == wanted.ip() || ip.is_unspecified() || wanted.ip().is_unspecified();
        let port = u16::from_str_radix(port, 16).ok()?;
        (waits && same && port == wanted.port()).then(|| fields.get(9)?.parse().ok())?
    })
}

/// An address as /proc/net writes it: words of four bytes, each in the machine's own order.
fn hex_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
        }
        _ => None,
    }
}

fn unix_inodes(table: &str, name: &str) -> impl Iterator<Item = u64> {
    table.lines().skip(1).filter_map(move |line| {
        // The name is the rest of the line: it may hold blanks.
        let (head, path) = line.split_once(name)?;
        let fields: Vec<&str> = head.split_ascii_whitespace().collect();
        (path.is_empty() && fields.len() == 7 && head.ends_with(' ')).then(|| fields[6].parse().ok())?
    })
}

/// The processes that hold one of the sockets.
fn processes(inodes: &BTreeSet<u64>) -> String {
    if inodes.is_empty() {
        return String::new();
    }
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| holds(*pid, inodes))
        .collect();
    pids.sort_unstable();
    let Some(first) = pids.first() else { return String::new() };
    if *first == std::process::id() {
        return " (by this prebind itself)".into();
    }
    let name = fs::read_to_string(format!("/proc/{first}/comm")).unwrap_or_default();
    let more = match pids.len() {
        1 => String::new(),
        count => format!(", and {} more", count - 1),
    };
    format!(" (pid {first}, {}{more})", name.trim_end())
}

fn holds(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| {
        let inode = link.to_str().and_then(|l| l.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode| inodes.contains(&inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 103 1 0 100 0 0 10 0
   3: 0200007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104 1 0 100 0 0 10 0
garbage";

    #[cfg(target_endian = "little")]
    #[test]
    fn inet_tables_are_read() {
        for (address, inodes) in [
            ("127.0.0.1:8080", vec![101]),
            ("0.0.0.0:8080", vec![101, 104]),
            ("127.0.0.9:80", vec![102]),
            ("127.0.0.1:9", vec![]),
        ] {
            assert_eq!(inet_inodes(TCP, address.parse().unwrap()).collect::<Vec<_>>(), inodes, "{address}");
        }
        assert_eq!(hex_ip("00000000000000000000000001000000"), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(hex_ip("zz"), None);
    }

    #[test]
    fn unix_table_is_read() {
        let table = "Num RefCount Protocol Flags Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 201 /run/a b.sock
0000000000000000: 00000002 00000000 00010000 0001 01 202 @web
0000000000000000: 00000002 00000000 00010000 0001 01 203 /srv/run/a b.sock
0000000000000000: 00000002 00000000 00000000 0002 01 204";
        assert_eq!(unix_inodes(table, "/run/a b.sock").collect::<Vec<_>>(), [201]);
        assert_eq!(unix_inodes(table, "@web").collect::<Vec<_>>(), [202]);
        assert_eq!(unix_inodes(table, "b.sock").count(), 0);
    }

    #[test]
    fn our_own_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(of_inet("tcp", listener.local_addr().unwrap()), " (by this prebind itself)");
    }
}
