//! LISTEN_FDS and its companions -> owned descriptors with their names (sd_listen_fds(3)). We check, because listenfd
//! accepts an absent LISTEN_PID and aborts on a huge count; listenfd converts. All LISTEN_* leave the environment.

use super::facts::describe;
use super::{bind, sys};
use crate::plan::{Address, Origin, Plan, Problem, SocketKind, SocketOptions, SocketSpec};
use listenfd::ListenFd;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The first descriptor that is passed.
const FIRST: i32 = 3;
/// The longest name that systemd allows, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The descriptors that prebind was given: LISTEN_FDS, checked.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Descriptor and LISTEN_FDNAMES name, in their order.
    pub fds: Vec<(OwnedFd, Option<String>)>,
}

/// Which inherited descriptor belongs to which socket of the plan, by position.
#[derive(Debug, Default)]
pub struct Assigned {
    /// One per socket of the plan; `None`: to be bound.
    pub fds: Vec<Option<OwnedFd>>,
}

impl Inherited {
    /// Takes the descriptors that were passed to this process out of its environment. To be called once, at the start,
    /// before anything is opened. Variables that are meant for another process are removed as well; they count as none.
    pub fn take() -> Result<Inherited, Problem> {
        let checked = read(|name| std::env::var_os(name), std::process::id(), sys::pidfs_id, sys::is_open);
        // listenfd would obey this one; nobody else knows it.
        sys::remove_variables(&["LISTEN_FDS_FIRST_FD"]);
        let result = checked.and_then(|names| if names.is_empty() { Ok(Inherited::default()) } else { convert(names) });
        sys::remove_variables(&["LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES"]);
        result
    }

    /// Takes those out whose names say that they are no sockets to be matched: prebind's own, back from its manager.
    pub fn take_named(&mut self, is_one: impl Fn(&str) -> bool) -> Vec<(OwnedFd, String)> {
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.fds).into_iter().partition(|(_, name)| name.as_deref().is_some_and(&is_one));
        self.fds = left;
        taken.into_iter().map(|(fd, name)| (fd, name.unwrap_or_default())).collect()
    }

    /// Fills an empty `plan.sockets` with all that was inherited, or matches each `-b` by name, then by address.
    /// What was inherited and not asked for is a problem.
    pub fn assign(self, plan: &mut Plan) -> (Assigned, Vec<Problem>) {
        if plan.sockets.is_empty() { self.pass_on(plan) } else { self.matched(&plan.sockets) }
    }

    /// All of them, in their order. Names may be equal here, and need not be spelled as ours: they are passed on.
    fn pass_on(self, plan: &mut Plan) -> (Assigned, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut assigned = Assigned::default();
        for (index, (fd, name)) in self.fds.into_iter().enumerate() {
            let number = fd.as_raw_fd();
            let kind = match describe(fd.as_fd()) {
                Ok(found) => found.kind,
                Err(error) => {
                    let name = name.as_ref().map(|name| format!(" '{name}'")).unwrap_or_default();
                    problems.push(problem(format!("cannot pass on descriptor {number}{name}: {error}")));
                    SocketKind::Stream
                }
            };
            plan.sockets.push(Inherited::spec(name, &index.to_string(), kind, number));
            assigned.fds.push(Some(fd));
        }
        (assigned, problems)
    }

    /// A socket that is passed on as it came.
    pub(super) fn spec(name: Option<String>, position: &str, kind: SocketKind, number: i32) -> SocketSpec {
        SocketSpec {
            named: name.is_some(),
            name: name.unwrap_or_else(|| position.to_string()),
            kind,
            address: Address::Fd(number),
            options: SocketOptions::default(),
            origin: Origin::Environment("LISTEN_FDS".into()),
            retired: false,
            since: 0,
        }
    }

    fn matched(self, specs: &[SocketSpec]) -> (Assigned, Vec<Problem>) {
        let mut left: Vec<Option<(OwnedFd, Option<String>)>> = self.fds.into_iter().map(Some).collect();
        let mut fds: Vec<Option<OwnedFd>> = specs.iter().map(|_| None).collect();
        let by_name = |spec: &SocketSpec, _: &OwnedFd, name: &Option<String>| {
            spec.named && name.as_deref().is_some_and(|name| answers_to(name, &spec.name))
        };
        let by_address = |spec: &SocketSpec, fd: &OwnedFd, _: &Option<String>| is_same(spec, fd);
        // One unit gives all its sockets one name: among equal names the address decides.
        let by_both = |spec: &SocketSpec, fd: &OwnedFd, name: &Option<String>| {
            by_name(spec, fd, name) && by_address(spec, fd, name)
        };
        for matches in [&by_both as &dyn Fn(&SocketSpec, &OwnedFd, &Option<String>) -> bool, &by_name, &by_address] {
            for (spec, slot) in specs.iter().zip(&mut fds).filter(|(_, slot)| slot.is_none()) {
                let found = left.iter_mut().find(|one| one.as_ref().is_some_and(|(fd, name)| matches(spec, fd, name)));
                *slot = found.and_then(Option::take).map(|(fd, _)| fd);
            }
        }
        let strangers = left.into_iter().flatten().map(|(fd, name)| not_asked_for(&fd, name));
        let pairs = specs.iter().zip(&fds).filter_map(|(spec, fd)| other_kind(spec, fd.as_ref()?));
        let problems = strangers.chain(pairs).collect();
        (Assigned { fds }, problems)
    }
}

/// A socket that a unit named `web.socket` is meant by `web`.
fn answers_to(name: &str, asked: &str) -> bool {
    name == asked || name.strip_suffix(".socket") == Some(asked)
}

fn is_same(spec: &SocketSpec, fd: &OwnedFd) -> bool {
    let adopted = matches!(spec.address, Address::Fd(_));
    describe(fd.as_fd())
        .is_ok_and(|found| (adopted || found.kind == spec.kind) && bind::is_at(&spec.address, &found.bound, fd.as_fd()))
}

/// What a name was matched by must be of the kind that was asked for; for `fd:N` any kind is.
fn other_kind(spec: &SocketSpec, fd: &OwnedFd) -> Option<Problem> {
    let message = match describe(fd.as_fd()) {
        Ok(found) if found.kind == spec.kind || matches!(spec.address, Address::Fd(_)) => return None,
        Ok(found) => format!(
            "{} is asked for as {} {}, but inherited as {} {}",
            spec.name,
            spec.kind_word(),
            spec.address,
            found.word,
            found.address()
        ),
        Err(error) => format!("{} is inherited as descriptor {}, but {error}", spec.name, fd.as_raw_fd()),
    };
    Some(Problem::new(spec.origin.clone(), message))
}

fn not_asked_for(fd: &OwnedFd, name: Option<String>) -> Problem {
    let number = fd.as_raw_fd();
    let (what, asked) = match describe(fd.as_fd()) {
        Ok(found) => {
            let prefix = match found.word {
                "tcp" | "vsock" => String::new(),
                "unix" if found.address().starts_with(['/', '@']) => String::new(),
                word => format!("{word}:"),
            };
            // -b has no words for these.
            let asked = match found.word {
                "special" | "netlink" | "mq" => format!("fd:{number}"),
                _ => format!("{prefix}{}", found.address()),
            };
            (format!("{} {}", found.word, found.address()), asked)
        }
        Err(error) => (error.to_string(), format!("fd:{number}")),
    };
    let called = name.as_ref().map(|name| format!(", '{name}'")).unwrap_or_default();
    let key = name.filter(|name| is_plain(name)).map(|name| format!("{name}=")).unwrap_or_default();
    problem(format!("descriptor {number}{called}, {what}, was inherited but not asked for"))
        .remedy(format!("add -b {key}{asked}, or do not pass it"))
}

/// Whether it can be the NAME of `-b NAME=ADDR`.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn problem(message: String) -> Problem {
    Problem::new(Origin::Environment("LISTEN_FDS".into()), message)
}

/// The names of the descriptors that are meant for us, one per descriptor; empty where there are none.
fn read(
    variable: impl Fn(&str) -> Option<OsString>,
    own_pid: u32,
    own_pidfs_id: impl Fn() -> Option<u64>,
    is_open: impl Fn(i32) -> bool,
) -> Result<Vec<Option<String>>, Problem> {
    let about = |name: &str, message: String| Problem::new(Origin::Environment(name.into()), message);
    let number = |name: &str, what: &str| match variable(name) {
        None => Ok(None),
        Some(text) => match text.to_str().and_then(|text| text.parse::<u64>().ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(about(name, format!("'{}' is not {what}", text.to_string_lossy()))),
        },
    };
    if number("LISTEN_PID", "a process id")? != Some(u64::from(own_pid)) {
        return Ok(Vec::new());
    }
    // The pid may have been used again: the id in pidfs never is.
    if let (Some(id), Some(own)) = (number("LISTEN_PIDFDID", "the id of a process")?, own_pidfs_id())
        && id != own
    {
        return Ok(Vec::new());
    }
    let Some(count) = number("LISTEN_FDS", "a number of descriptors")? else { return Ok(Vec::new()) };
    // Stops at the first that is not open, however large the count is.
    if let Some(missing) = (0..count).find(|at| !i32::try_from(*at).is_ok_and(|at| is_open(FIRST.saturating_add(at)))) {
        let message = format!("{count} descriptors were announced, but {} is not open", missing + FIRST as u64);
        return Err(about("LISTEN_FDS", message));
    }
    let Some(text) = variable("LISTEN_FDNAMES").filter(|_| count > 0) else {
        return Ok((0..count).map(|_| None).collect());
    };
    let text = text.to_string_lossy();
    let names: Vec<&str> = text.split(':').collect();
    if names.len() as u64 != count {
        let message = format!("'{text}' names {} descriptors, LISTEN_FDS announced {count}", names.len());
        return Err(about("LISTEN_FDNAMES", message));
    }
    if let Some(bad) = names.iter().find(|n| n.len() > NAME_BYTES_MAX || !n.bytes().all(|b| (0x20..0x7f).contains(&b)))
    {
        let message = format!("{bad:?} is not a name (at most {NAME_BYTES_MAX} printable ASCII characters)");
        return Err(about("LISTEN_FDNAMES", message));
    }
    Ok(names.into_iter().map(|name| (!name.is_empty()).then(|| name.to_string())).collect())
}

/// Has listenfd turn the checked numbers into owned descriptors.
fn convert(names: Vec<Option<String>>) -> Result<Inherited, Problem> {
    let mut passed = ListenFd::from_env();
    let fds = names.into_iter().enumerate().map(|(index, name)| Ok((convert_one(&mut passed, index)?, name)));
    Ok(Inherited { fds: fds.collect::<Result<_, Problem>>()? })
}

/// Tries the kinds that listenfd knows; what is none of them (a FIFO, vsock) is taken by its number.
fn convert_one(passed: &mut ListenFd, index: usize) -> Result<OwnedFd, Problem> {
    if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
        return Ok(listener.into());
    }
    if let Ok(Some(listener)) = passed.take_unix_listener(index) {
        return Ok(listener.into());
    }
    if let Ok(Some(socket)) = passed.take_udp_socket(index) {
        return Ok(socket.into());
    }
    if let Ok(Some(socket)) = passed.take_unix_datagram(index) {
        return Ok(socket.into());
    }
    match passed.take_raw_fd(index) {
        Ok(Some(number)) => Ok(sys::claim(number)),
        _ => Err(problem(format!("descriptor {} cannot be taken", FIRST as usize + index))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sockets;
    use super::super::tests::{plan, spec};
    use super::*;
    use crate::plan::{Host, SocketId};
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    /// `read` in a process 42 whose pidfs id is 7 and whose descriptors 3, 4 and 5 are open.
    fn read_in(variables: &[(&str, &str)]) -> Result<Vec<Option<String>>, String> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        read(variable, 42, || Some(7), |number| (3..6).contains(&number)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn variables_for_us_are_taken_and_others_are_not() {
        let (pid, two) = (("LISTEN_PID", "42"), ("LISTEN_FDS", "2"));
        let some = |names: &[&str]| names.iter().map(|n| (!n.is_empty()).then(|| n.to_string())).collect::<Vec<_>>();
        for (variables, names) in [
            (vec![], vec![]),
            (vec![two], vec![]),
            (vec![pid], vec![]),
            (vec![("LISTEN_PID", "41"), two], vec![]),
            (vec![pid, ("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")], vec![]),
            (vec![pid, two, ("LISTEN_PIDFDID", "8")], vec![]),
            (vec![pid, two, ("LISTEN_PIDFDID", "7")], some(&["", ""])),
            (vec![pid, two], some(&["", ""])),
            (vec![pid, two, ("LISTEN_FDNAMES", "web.socket:web.socket")], some(&["web.socket", "web.socket"])),
            (vec![pid, two, ("LISTEN_FDNAMES", ":with blank")], some(&["", "with blank"])),
            (vec![pid, ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "")], some(&[""])),
        ] {
            assert_eq!(read_in(&variables), Ok(names), "{variables:?}");
        }
    }

    #[test]
    fn garbage_is_a_problem() {
        let (pid, two) = (("LISTEN_PID", "42"), ("LISTEN_FDS", "2"));
        for (variables, message) in [
            (vec![("LISTEN_PID", "x"), two], "environment LISTEN_PID: 'x' is not a process id"),
            (vec![pid, ("LISTEN_FDS", "-1")], "environment LISTEN_FDS: '-1' is not a number of descriptors"),
            (vec![pid, ("LISTEN_FDS", "4")], "environment LISTEN_FDS: 4 descriptors were announced, but 6 is not open"),
            (
                vec![pid, ("LISTEN_FDS", "2000000000")],
                "environment LISTEN_FDS: 2000000000 descriptors were announced, but 6 is not open",
            ),
            (
                vec![pid, ("LISTEN_FDS", "18446744073709551615")],
                "environment LISTEN_FDS: 18446744073709551615 descriptors were announced, but 6 is not open",
            ),
            (vec![pid, two, ("LISTEN_PIDFDID", "me")], "environment LISTEN_PIDFDID: 'me' is not the id of a process"),
            (
                vec![pid, two, ("LISTEN_FDNAMES", "web")],
                "environment LISTEN_FDNAMES: 'web' names 1 descriptors, LISTEN_FDS announced 2",
            ),
            (
                vec![pid, two, ("LISTEN_FDNAMES", "a:b\n")],
                "environment LISTEN_FDNAMES: \"b\\n\" is not a name (at most 255 printable ASCII characters)",
            ),
        ] {
            assert_eq!(read_in(&variables), Err(message.into()));
        }
    }

    fn tcp() -> (OwnedFd, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener.into(), port)
    }

    fn inet(name: &str, port: u16) -> SocketSpec {
        spec(name, Address::Inet { host: Host::V4(Ipv4Addr::LOCALHOST), port }, SocketKind::Stream)
    }

    #[test]
    fn without_a_bind_all_are_passed_on_in_their_order() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fds = vec![(tcp().0, Some("web".into())), (udp.into(), None), (tcp().0, Some("web".into()))];
        let mut plan = Plan::default();
        let (assigned, problems) = Inherited { fds }.assign(&mut plan);
        assert_eq!(problems, []);
        let seen: Vec<_> = plan.sockets.iter().map(|s| (s.name.as_str(), s.named, s.kind)).collect();
        let stream = SocketKind::Stream;
        assert_eq!(seen, [("web", true, stream), ("1", false, SocketKind::Datagram), ("web", true, stream)]);
        let (sockets, remarks) = Sockets::open(&plan, assigned).unwrap();
        assert_eq!((sockets.facts(SocketId(1)).kind, remarks), ("udp", vec![]));
        assert!(sockets.facts(SocketId(2)).inherited);
    }

    #[test]
    fn names_match_first_then_addresses_and_the_rest_is_bound() {
        let ((a, a_port), (b, b_port)) = (tcp(), tcp());
        // `web` names the first one though its address is the second's.
        let mut plan = plan([inet("new", 0), inet("web", b_port), inet("other", b_port)]);
        let fds = vec![(a, Some("web.socket".into())), (b, None)];
        let (assigned, problems) = Inherited { fds }.assign(&mut plan);
        assert_eq!(problems, []);
        assert!(assigned.fds[0].is_none());
        let (sockets, remarks) = Sockets::open(&plan, assigned).unwrap();
        let facts = |id| sockets.facts(SocketId(id));
        assert!(!facts(0).inherited && facts(0).port != Some(0));
        assert_eq!((facts(1).port, facts(2).port), (Some(a_port.into()), Some(b_port.into())));
        assert_eq!(remarks, [format!("web: serves the inherited 127.0.0.1:{a_port}, not 127.0.0.1:{b_port}")]);
    }

    #[test]
    fn a_number_matches_and_another_kind_does_not() {
        let (fd, port) = tcp();
        let number = fd.as_raw_fd();
        let udp = SocketSpec { kind: SocketKind::Datagram, ..inet("x", port) };
        let (_, problems) = Inherited { fds: vec![(fd, None)] }.assign(&mut plan([udp.clone()]));
        assert_eq!(problems.len(), 1);

        let (fd, _) = tcp();
        let by_number = spec("x", Address::Fd(fd.as_raw_fd()), SocketKind::Stream);
        let (assigned, problems) = Inherited { fds: vec![(fd, None)] }.assign(&mut plan([by_number]));
        assert_eq!((assigned.fds[0].is_some(), problems), (true, vec![]), "{number}");

        let fds = vec![(tcp().0, Some("x".into()))];
        let (_, problems) = Inherited { fds }.assign(&mut plan([udp]));
        let asked = format!("argument 1: x is asked for as udp 127.0.0.1:{port}, but inherited as tcp 127.0.0.1:");
        assert!(problems.len() == 1 && problems[0].to_string().starts_with(&asked), "{problems:?}");
    }

    #[test]
    fn among_equal_names_the_address_decides() {
        let ((a, a_port), (b, b_port)) = (tcp(), tcp());
        let mut plan = plan([inet("web", b_port), inet("0", a_port)]);
        let fds = vec![(a, Some("web.socket".into())), (b, Some("web.socket".into()))];
        let (assigned, problems) = Inherited { fds }.assign(&mut plan);
        assert_eq!(problems, []);
        let (sockets, remarks) = Sockets::open(&plan, assigned).unwrap();
        assert_eq!((sockets.facts(SocketId(0)).port, remarks), (Some(b_port.into()), vec![]));
        assert_eq!(sockets.facts(SocketId(1)).port, Some(a_port.into()));
    }

    #[test]
    fn what_was_not_asked_for_is_a_problem_with_its_remedy() {
        let (fd, port) = tcp();
        let number = fd.as_raw_fd();
        let fds = vec![(fd, Some("api".into()))];
        let (_, problems) = Inherited { fds }.assign(&mut plan([inet("web", 0)]));
        assert_eq!(
            problems[0].to_string(),
            format!(
                "environment LISTEN_FDS: descriptor {number}, 'api', tcp 127.0.0.1:{port}, was inherited but not asked \
                 for (add -b api=127.0.0.1:{port}, or do not pass it)"
            )
        );
        let file = std::fs::File::open("/dev/null").unwrap();
        let (_, problems) = Inherited { fds: vec![(file.into(), None)] }.assign(&mut Plan::default());
        assert!(problems[0].message.ends_with("it is neither a socket nor a FIFO"), "{problems:?}");
    }

    /// What `taking_from_the_environment` runs in a process of its own.
    #[test]
    fn child_takes() {
        if std::env::var_os("PREBIND_TEST_TAKE").is_none() {
            return;
        }
        let inherited = Inherited::take().unwrap();
        let kinds: Vec<_> = inherited
            .fds
            .iter()
            .map(|(fd, name)| format!("{}={}", name.as_deref().unwrap_or("-"), describe(fd.as_fd()).unwrap().word))
            .collect();
        let rest = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LISTEN_")).count();
        eprintln!("took {} and left {rest}", kinds.join(","));
    }

    #[test]
    fn taking_from_the_environment() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        // The shell gives 3 and 4 a copy of 0 and 1, and becomes the test with its own pid.
        let script = "exec 3<&0 4>&1 1>/dev/null; \
                      exec env LISTEN_FDS_FIRST_FD=9 LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:dns \
                      \"$0\" sockets::inherit::tests::child_takes --exact --nocapture";
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("PREBIND_TEST_TAKE", "1")
            .stdin(OwnedFd::from(tcp))
            .stdout(OwnedFd::from(udp))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("took web=tcp,dns=udp and left 0"), "{said}");
    }
}
