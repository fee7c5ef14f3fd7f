//! `[Socket]`: a unit's assignments -> sockets with their options, and what becomes of their traffic. A value that cannot be
//! read is said and leaves what stood before, as in systemd.

use super::Remark;
use super::address::{address, unix};
use super::lex::Assignment;
use super::name::UnitName;
use super::values::{boolean, count, integer, mode, set, size, span};
use crate::plan::{Address, Nanos, Origin, SECOND, SocketKind, SocketOptions, SocketSpec, Timestamp};

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
    fd_name: Option<String>,
    unit: SocketUnit,
    trigger: (Option<u32>, Option<Option<Nanos>>),
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
    };
    let mut reader = Reader {
        name,
        outside,
        listens: Vec::new(),
        options: SocketOptions::default(),
        fd_name: None,
        unit,
        trigger: (None, None),
        reuse: false,
    };
    let mut left = Vec::new();
    for one in assignments {
        if one.section != "Socket" {
            left.push(one);
            continue;
        }
        match reader.take(one) {
            Some(Ok(())) => {}
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
    fn take(&mut self, one: &Assignment) -> Option<Result<(), String>> {
        let value = one.value.as_str();
        let kind = match one.key.as_str() {
            "ListenStream" => Some(SocketKind::Stream),
            "ListenDatagram" => Some(SocketKind::Datagram),
            "ListenSequentialPacket" => Some(SocketKind::SeqPacket),
            "ListenFIFO" => Some(SocketKind::Fifo),
            _ => None,
        };
        Some(match kind {
            Some(kind) => self.listen(kind, value, &one.origin),
            None => self.of_unit(&one.key, value).or_else(|| self.of_socket(&one.key, value))?,
        })
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
        let address = if kind == SocketKind::Fifo { Address::Unix(unix(&value)?.into()) } else { address(&value)? };
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
            "Service" => match UnitName::parse(value) {
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
        let words = super::words::split(&self.expand(value)?)?;
        let paths: Vec<String> = words.iter().map(|word| unix(word)).collect::<Result<_, _>>()?;
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
            "SocketUser" => set(&mut options.user, Ok(text(value))),
            "SocketGroup" => set(&mut options.group, Ok(text(value))),
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
            _ => return None,
        })
    }

    fn finish(self) -> SocketUnit {
        let Reader { name, listens, options, fd_name, mut unit, trigger, reuse, .. } = self;
        let fd_name = fd_name.unwrap_or_else(|| if unit.accept { "connection".into() } else { name.to_string() });
        let inet = |address: &Address| matches!(address, Address::Inet { .. });
        unit.sockets = listens
            .into_iter()
            .map(|Listen { kind, address, origin }| SocketSpec {
                name: fd_name.clone(),
                named: true,
                kind,
                // systemd asks for it where it means something.
                options: SocketOptions { reuse_port: reuse && inet(&address), ..options.clone() },
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

/// An empty value is none.
fn text(value: &str) -> Option<String> {
    Some(value).filter(|value| !value.is_empty()).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::super::lex::lex;
    use super::*;

    fn unit(name: &str, text: &str) -> (SocketUnit, Vec<String>, Vec<String>) {
        let mut remarks = Vec::new();
        let assignments = lex(name, text.as_bytes(), &mut remarks);
        let outside = |letter| (letter == 't').then(|| "/run".to_string());
        let (unit, left) = read(&UnitName::parse(name).unwrap(), &assignments, &outside, &mut remarks);
        let left = left.iter().map(|one| one.key.clone()).collect();
        (unit, left, remarks.iter().map(Remark::to_string).collect())
    }

    fn shown(unit: &SocketUnit) -> Vec<String> {
        unit.sockets.iter().map(|one| format!("{} {} {}", one.name, one.kind_word(), one.address)).collect()
    }

    #[test]
    fn lines_of_all_kinds_in_their_order() {
        let text = "[Socket]\nListenStream=8080\nListenDatagram=127.0.0.1:53\nListenFIFO=%t/%p/f\n\
                    ListenSequentialPacket=@s\nListenStream=%t/web.sock\n";
        let (unit, left, remarks) = unit("web.socket", text);
        let expected = [
            "web.socket tcp [::]:8080",
            "web.socket udp 127.0.0.1:53",
            "web.socket fifo /run/web/f",
            "web.socket seqpacket @s",
            "web.socket unix /run/web.sock",
        ];
        assert_eq!((shown(&unit), left.len(), remarks.len()), (expected.map(String::from).to_vec(), 0, 0));
        assert_eq!(unit.sockets[1].origin, Origin::File { name: "web.socket".into(), line: 3 });
        assert_eq!(unit.trigger_limit, Some((20, 2 * SECOND)));
    }

    #[test]
    fn an_empty_line_clears_and_a_bad_one_is_said() {
        let text = "[Socket]\nListenStream=1\nListenDatagram=2\nListenFIFO=\nListenStream=localhost:80\nListenStream=3\n\
                    ReusePort=yes\nListenStream=3\nSocketMode=0999\nSocketMode=0660\nSocketMode=0888\nAccept=perhaps\n\
                    FileDescriptorName=a b\nFileDescriptorName=a:b\nlistenstream=9\nUser=x\nTriggerLimitBurst=0\n";
        let (unit, left, remarks) = unit("web.socket", text);
        assert_eq!(shown(&unit), ["a b tcp [::]:3", "a b tcp [::]:3"]);
        assert!(unit.sockets.iter().all(|one| one.options.reuse_port && one.options.mode == Some(0o660)));
        assert_eq!(left, ["listenstream", "User"]);
        assert_eq!(unit.trigger_limit, None);
        assert_eq!(remarks.len(), 5, "{remarks:?}");
        assert!(remarks[0].starts_with("web.socket:5: ListenStream: 'localhost:80' is no address"), "{remarks:?}");
    }

    #[test]
    fn options_are_each_in_their_place() {
        let text = "[Socket]\nListenStream=/run/x\nSocketUser=a\nSocketGroup=b\nDirectoryMode=0700\nBacklog=7\n\
                    BindIPv6Only=both\nKeepAliveTimeSec=1min\nReceiveBuffer=8M\nIPTOS=throughput\nMark=5\n\
                    Timestamping=us\nPassCredentials=1\nService=other.service\nAccept=yes\nMaxConnections=3\n\
                    Symlinks=/run/y \"/run/z z\"\nReusePort=yes\n";
        let (unit, _, remarks) = unit("web.socket", text);
        assert_eq!(remarks, Vec::<String>::new());
        let expected = SocketOptions {
            user: Some("a".into()),
            group: Some("b".into()),
            directory_mode: Some(0o700),
            backlog: Some(7),
            v6only: Some(false),
            keepalive_idle_seconds: Some(60),
            receive_buffer_bytes: Some(8 << 20),
            tos: Some(8),
            mark: Some(5),
            timestamp: Some(Timestamp::Microseconds),
            pass_credentials: true,
            ..SocketOptions::default()
        };
        assert_eq!(unit.sockets[0].options, expected, "ReusePort is for inet sockets only");
        assert_eq!(unit.sockets[0].name, "connection");
        assert_eq!((unit.service.as_deref(), unit.accept, unit.max_connections), (Some("other.service"), true, 3));
        assert_eq!(unit.symlinks, ["/run/y", "/run/z z"]);
        assert_eq!(unit.trigger_limit, Some((200, 2 * SECOND)));
    }
}
