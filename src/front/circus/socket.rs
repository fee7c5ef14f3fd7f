//! `[socket:NAME]` -> one [`SocketSpec`].

use super::Said;
use super::keys::judge_all;
use super::lex::Section;
use super::options::Options;
use super::values::{boolean, mask, number};
use super::variables::Variables;
use crate::plan::{Address, Host, SocketKind, SocketOptions, SocketSpec};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

const FAMILIES: [(&str, Family); 3] = [("AF_INET", Family::V4), ("AF_INET6", Family::V6), ("AF_UNIX", Family::Unix)];
const TYPES: [(&str, SocketKind); 3] = [
    ("SOCK_STREAM", SocketKind::Stream),
    ("SOCK_DGRAM", SocketKind::Datagram),
    ("SOCK_SEQPACKET", SocketKind::SeqPacket),
];
/// Names of protocols that say more than the type does.
const PROTOCOLS: [(&str, i32); 3] = [("mptcp", 262), ("sctp", 132), ("udplite", 136)];
/// Circus's own.
const BACKLOG: u32 = 2048;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    V4,
    V6,
    Unix,
}

/// Reads one. `None`: it makes no socket, and why was said.
pub(super) fn read(section: &Section, variables: &Variables, directory: &str, said: &mut Said) -> Option<SocketSpec> {
    let name = section.of_kind("socket")?.to_lowercase();
    if section.entries.is_empty() {
        said.warn(&section.origin, format!("socket {name} has no options: left out, as Circus does"));
        return None;
    }
    judge_all("socket", section, said);
    let mut options = Options::new(section, variables, said);
    let problems = options.said.problems.len();
    let path = options.some("path");
    let (family, kind) = family_and_type(&mut options, path.is_some());
    let address = match path {
        Some(path) => Some(Address::Unix(Path::new(directory).join(path))),
        None if family == Family::Unix => {
            options.wrong("family", format!("socket {name}: AF_UNIX without a path"), "path = /run/name.sock");
            None
        }
        None => inet(&mut options, family),
    };
    let set = settings(&mut options, family, kind);
    let sound = options.said.problems.len() == problems;
    // What is wrong is said. Its name stays known, so that nobody misses it.
    let address = address.or((!sound).then_some(Address::Inet { host: Host::Dual, port: 0 }))?;
    let origin = section.origin.clone();
    Some(SocketSpec { name, named: true, kind, address, options: set, origin, retired: false, since: 0 })
}

/// In its first year Circus had the family under the name `type`.
fn family_and_type(options: &mut Options, path: bool) -> (Family, SocketKind) {
    let mut family = options.read("family", |text| one_of(text, &FAMILIES));
    let old = options.text("type").filter(|text| text.to_ascii_uppercase().starts_with("AF_"));
    let kind = match old {
        None => options.read("type", |text| one_of(text, &TYPES)),
        Some(_) => {
            let meant = options.read("type", |text| one_of(text, &FAMILIES));
            options.warn("type", "type = AF_... is taken as the family: write family = AF_...");
            family = family.or(meant);
            None
        }
    };
    let family = if path { Family::Unix } else { family.unwrap_or(Family::V4) };
    (family, kind.unwrap_or_default())
}

fn inet(options: &mut Options, family: Family) -> Option<Address> {
    let port = options.read("port", number).unwrap_or(8080);
    let text = options.text("host").unwrap_or_else(|| "localhost".into());
    let host = match (text.as_str(), text.parse::<IpAddr>(), family) {
        // Whatever the resolver has of it, it is the loopback (RFC 6761).
        ("localhost", _, Family::V6) => Host::V6(Ipv6Addr::LOCALHOST, None),
        ("localhost", ..) => Host::V4(Ipv4Addr::LOCALHOST),
        (_, Ok(IpAddr::V4(ip)), Family::V4) => Host::V4(ip),
        (_, Ok(IpAddr::V6(ip)), Family::V6) => Host::V6(ip, None),
        (_, Ok(_), _) => {
            let other = if family == Family::V4 { "AF_INET6" } else { "AF_INET" };
            options.wrong("host", format!("{text} is no address of that family"), format!("family = {other}"));
            return None;
        }
        ("", ..) => {
            options.wrong("host", "the host is empty", "0.0.0.0 is every address of this machine");
            return None;
        }
        (name, ..) => Host::Name(name.to_string()),
    };
    Some(Address::Inet { host, port })
}

fn settings(options: &mut Options, family: Family, kind: SocketKind) -> SocketOptions {
    let listens = matches!(kind, SocketKind::Stream | SocketKind::SeqPacket);
    let backlog = options.read("backlog", number).unwrap_or(BACKLOG);
    let mask = options.read("umask", mask);
    if let (Some(mask), Family::Unix) = (mask, family) {
        let message =
            format!("umask is read as an octal number, mode {:04o}: Circus reads a decimal one", 0o777 & !mask);
        options.warn("umask", message);
    }
    let protocol = options.read("proto", protocol).flatten();
    let slots = options.is("so_reuseport", false);
    if slots && family != Family::Unix {
        options.note(
            "so_reuseport",
            "each worker's slot has a socket of its own, held by prebind: nothing queued is lost",
        );
    }
    SocketOptions {
        backlog: listens.then_some(backlog),
        // Whoever can reach the path may connect, as with Circus's default.
        mode: (family == Family::Unix).then_some(0o777 & !mask.unwrap_or(0)),
        device: options.some("interface").filter(|_| family != Family::Unix),
        slots: slots && family != Family::Unix,
        nonblock: !options.read("blocking", boolean).unwrap_or(false),
        prefer_v6: family == Family::V6,
        protocol,
        ..SocketOptions::default()
    }
}

fn protocol(text: &str) -> Result<Option<i32>, String> {
    let known = PROTOCOLS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    match text.to_ascii_lowercase().as_str() {
        "" | "0" | "ip" | "tcp" | "udp" => Ok(None),
        _ => {
            known.map(|(_, number)| Some(*number)).ok_or_else(|| format!("'{text}' is no protocol that is known here"))
        }
    }
}

fn one_of<T: Copy>(text: &str, table: &[(&str, T)]) -> Result<T, String> {
    let found = table.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|(_, value)| *value);
    let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
    found.ok_or_else(|| format!("'{text}' is none of {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::lex::{lex, merge};
    use super::*;

    fn one(text: &str) -> (Option<SocketSpec>, Said) {
        let mut said = Said::default();
        let sections = merge(lex("c.ini", format!("[socket:Web]\n{text}").as_bytes(), &mut said), &mut said);
        let spec = read(&sections[0], &Variables::default(), "/srv", &mut said);
        (spec, said)
    }

    fn shown(text: &str) -> String {
        let (spec, said) = one(text);
        assert_eq!(said.problems, [], "{text}");
        let spec = spec.expect("a socket");
        format!("{} {} {}", spec.name, spec.kind_word(), spec.address)
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("port=80", "web tcp 127.0.0.1:80"),
            ("host=0.0.0.0", "web tcp 0.0.0.0:8080"),
            ("host=localhost\nport=0\nfamily=af_inet6", "web tcp [::1]:0"),
            ("host=localhost\nport=1\ntype=AF_INET6", "web tcp [::1]:1"),
            ("host=::\nfamily=AF_INET6", "web tcp [::]:8080"),
            ("host=box.lan\nport=1", "web tcp box.lan:1"),
            ("path=/run/s", "web unix /run/s"),
            ("path=s\nhost=ignored", "web unix /srv/s"),
            ("port=53\ntype=sock_dgram", "web udp 127.0.0.1:53"),
            ("path=/s\ntype=SOCK_DGRAM", "web unixgram /s"),
            ("path=/s\ntype=SOCK_SEQPACKET", "web seqpacket /s"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn options_have_their_effect() {
        let set = |text: &str| one(text).0.expect("a socket").options;
        let usual = set("port=1");
        assert_eq!((usual.backlog, usual.nonblock, usual.mode), (Some(2048), true, None));
        assert!(!set("blocking=yes").nonblock && set("so_reuseport=yes").slots && set("family=AF_INET6").prefer_v6);
        assert_eq!((set("backlog=5").backlog, set("interface=lo").device), (Some(5), Some("lo".into())));
        assert_eq!((set("type=SOCK_DGRAM").backlog, set("proto=mptcp").protocol), (None, Some(262)));
        assert_eq!((set("path=/s").mode, set("path=/s\numask=0117").mode), (Some(0o777), Some(0o660)));
        assert_eq!(set("path=/s\numask=8").mode, Some(0o767));
    }

    #[test]
    fn what_is_wrong_and_what_is_odd() {
        for (text, why) in [
            ("port=http", "c.ini:2: port: 'http'"),
            ("host=::1", "c.ini:2: ::1 is no address of that family (family = AF_INET6)"),
            ("host=", "c.ini:2: the host is empty"),
            ("family=AF_UNIX", "c.ini:2: socket web: AF_UNIX without a path"),
            ("type=SOCK_RAW", "c.ini:2: type: 'SOCK_RAW' is none of SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET"),
            ("family=AF_X", "c.ini:2: family: 'AF_X' is none of"),
            ("port=1\nblocking=perhaps", "c.ini:3: blocking: 'perhaps' is neither yes nor no"),
            ("proto=icmp", "c.ini:2: proto: 'icmp'"),
        ] {
            let (_, said) = one(text);
            assert!(said.problems.len() == 1 && said.problems[0].to_string().starts_with(why), "{text}: {said:?}");
        }
        for (text, why) in [
            ("type=AF_INET", "c.ini:2: type = AF_... is taken as the family"),
            ("path=/s\numask=117", "c.ini:3: umask is read as an octal number, mode 0660"),
            ("replace=yes", "c.ini:2: replace: a path on which nobody answers"),
            ("bakclog=5", "c.ini:2: unknown option bakclog, did you mean backlog?"),
            ("", "c.ini:1: socket web has no options"),
        ] {
            let (_, said) = one(text);
            assert!(said.remarks.iter().any(|one| one.to_string().starts_with(why)), "{text}: {said:?}");
        }
    }
}
