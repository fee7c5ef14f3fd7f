//! Descriptors that were open before us: `fd:N` and what was inherited. Checks that each is a bound socket or a FIFO,
//! lets streams listen, and says which options come too late for it.

use super::error::{SocketError, reason};
use super::facts::{Bound, Description, describe};
use super::options::{self, Family};
use super::{bind, owner, sys};
use crate::plan::{Address, SocketKind, SocketOptions, SocketSpec};
use nix::sys::socket::{SockaddrStorage, getpeername};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Takes over the descriptors that `fd:N` names. All of them before anything is opened: a number that was not open would
/// else turn out to be a descriptor of our own. `given[i]` is already the descriptor of socket i.
pub(super) fn claim_named(specs: &[SocketSpec], given: &mut [Option<OwnedFd>]) -> Vec<SocketError> {
    let mut taken: Vec<i32> = given.iter().flatten().map(AsRawFd::as_raw_fd).collect();
    let mut errors = Vec::new();
    let mut claims = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let Address::Fd(number) = spec.address else { continue };
        if given[index].is_some() {
            continue;
        }
        let error = if taken.contains(&number) {
            "it was given to another socket already"
        } else if sys::is_open(number) {
            taken.push(number);
            claims.push((index, number));
            continue;
        } else {
            "it is not open"
        };
        errors.push(SocketError::new(format!("cannot adopt fd:{number}: {error}")).at(&spec.origin));
    }
    for (index, number) in claims {
        // 0, 1 and 2 stay open for what they are.
        let fd = if number > 2 { Ok(sys::claim(number)) } else { sys::copy(number) };
        match fd {
            Ok(fd) => given[index] = Some(fd),
            Err(errno) => {
                let error = SocketError::new(format!("cannot adopt fd:{number}: {}", reason(errno)));
                errors.push(error.at(&specs[index].origin));
            }
        }
    }
    errors
}

/// Checks an adopted descriptor and gives it what can still be given.
pub(super) fn adopt(spec: &SocketSpec, fd: &OwnedFd, remarks: &mut Vec<String>) -> Result<Description, SocketError> {
    let cannot = |why: String| SocketError::new(format!("cannot adopt {} ({}): {why}", spec.address, spec.name));
    let found = describe(fd.as_fd()).map_err(|error| cannot(error.message))?;
    let what = format!("{} ({})", spec.name, found.address());
    if !matches!(spec.address, Address::Fd(_)) {
        let free_port = matches!(spec.address, Address::Inet { port: 0, .. });
        if !free_port && !bind::is_at(&spec.address, &found.bound, fd.as_fd()) {
            let (name, address) = (&spec.name, found.address());
            remarks.push(format!("{name}: serves the inherited {address}, not {}", spec.address));
        }
    }
    if found.accepts() && !found.listening {
        can_listen(fd, &found).map_err(cannot)?;
    }
    if found.accepts() && (!found.listening || spec.options.backlog.is_some()) {
        options::listen(fd, &spec.options, &what, remarks)?;
    }
    if let Address::Fd(0..=2) = spec.address
        && found.kind == SocketKind::Special
    {
        // Where `fd:0` is asked for, a terminal is there by mistake.
        return Err(cannot("it is neither a socket nor a FIFO".into()));
    }
    let family = Family::of(found.domain);
    set_late(spec, fd, &found, &what, remarks)?;
    let late = too_late(&spec.options, family, &found, fd);
    if !late.is_empty() {
        remarks.push(format!("{what}: too late for an open socket: {}", late.join(", ")));
    }
    Ok(found)
}

/// Sets what can be set on a socket that is bound and listens.
pub(super) fn set_late(
    spec: &SocketSpec,
    fd: &OwnedFd,
    found: &Description,
    what: &str,
    remarks: &mut Vec<String>,
) -> Result<(), SocketError> {
    let family = Family::of(found.domain);
    let settings = options::after_listen(&spec.options, family);
    options::apply(fd.as_fd(), &settings, spec.options.lenient, what, remarks)?;
    if spec.options.lenient {
        remarks.extend(options::meaningless(&spec.options, family, what));
    }
    Ok(())
}

/// A stream that does not listen yet must at least be bound: listen would choose a port by itself.
fn can_listen(fd: &OwnedFd, found: &Description) -> Result<(), String> {
    if getpeername::<SockaddrStorage>(fd.as_raw_fd()).is_ok() {
        return Err("it is a connection, not a listening socket".into());
    }
    let bound = match &found.bound {
        Bound::V4(address) => address.port() != 0,
        Bound::V6(address) => address.port() != 0,
        Bound::Unnamed => false,
        _ => true,
    };
    if bound { Ok(()) } else { Err("it is a socket that is not bound".into()) }
}

/// The options that were asked for, that only bind could have given, and that it does not have.
fn too_late(asked: &SocketOptions, family: Family, found: &Description, fd: &OwnedFd) -> Vec<&'static str> {
    let settings = options::before_bind(asked, family, found.kind);
    let mut late: Vec<&'static str> = settings
        .iter()
        .filter(|setting| setting.name != "so_reuseaddr" || asked.reuse_address)
        .filter(|setting| !setting.is_set(fd.as_fd()))
        .map(|setting| setting.name)
        .collect();
    match found.bound.path() {
        Some(path) => late.extend(owner::missing(path, asked)),
        // One unit has sockets of all kinds, and these mean those with a path.
        None if asked.lenient => {}
        None => {
            late.extend(asked.mode.map(|_| "mode"));
            late.extend(asked.user.as_ref().map(|_| "user"));
            late.extend(asked.group.as_ref().map(|_| "group"));
        }
    }
    late
}

#[cfg(test)]
mod tests {
    use super::super::Sockets;
    use super::super::inherit::Assigned;
    use super::super::tests::{plan, spec};
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::IntoRawFd;

    fn open_fd(number: i32, options: SocketOptions) -> Result<(Sockets, Vec<String>), Vec<SocketError>> {
        let spec = SocketSpec { options, ..spec("web", Address::Fd(number), SocketKind::Stream) };
        Sockets::open(&plan([spec]), Assigned::default())
    }

    #[test]
    fn bound_sockets_and_pipes_are_adopted() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let options = SocketOptions { reuse_port: true, mode: Some(0o600), nonblock: true, ..Default::default() };
        let (sockets, remarks) = open_fd(tcp.into_raw_fd(), options).unwrap();
        let facts = sockets.facts(crate::plan::SocketId(0));
        assert_eq!((facts.kind, facts.address.clone(), facts.inherited), ("tcp", address.to_string(), true));
        assert_eq!(remarks, [format!("web ({address}): too late for an open socket: reuseport, mode")]);
        TcpStream::connect(address).unwrap();
        drop(sockets);
        TcpStream::connect(address).unwrap_err();

        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (sockets, _) = open_fd(udp.into_raw_fd(), SocketOptions::default()).unwrap();
        assert_eq!(sockets.facts(crate::plan::SocketId(0)).kind, "udp");
        let (reader, _writer) = std::io::pipe().unwrap();
        let (sockets, _) = open_fd(OwnedFd::from(reader).into_raw_fd(), SocketOptions::default()).unwrap();
        assert_eq!(sockets.facts(crate::plan::SocketId(0)).kind, "fifo");
    }

    #[test]
    fn a_bound_stream_is_made_to_listen() {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let any = SockaddrStorage::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
        nix::sys::socket::bind(fd.as_raw_fd(), &any).unwrap();
        let (sockets, _) = open_fd(fd.into_raw_fd(), SocketOptions::default()).unwrap();
        TcpStream::connect(&sockets.facts(crate::plan::SocketId(0)).address).unwrap();
    }

    #[test]
    fn what_cannot_serve_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let unbound = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for (number, why) in [
            (-1, "cannot adopt fd:-1: it is not open"),
            (999_999, "cannot adopt fd:999999: it is not open"),
            (client.into_raw_fd(), "it is a connection, not a listening socket"),
            (unbound.into_raw_fd(), "it is a socket that is not bound"),
            (file.into_raw_fd(), "it is neither a socket nor a FIFO"),
        ] {
            let errors = open_fd(number, SocketOptions::default()).unwrap_err();
            assert!(errors[0].message.contains(why), "{errors:?}");
            assert!(errors[0].message.starts_with("argument 1: "), "{errors:?}");
        }
    }

    #[test]
    fn one_descriptor_serves_one_socket() {
        let number = TcpListener::bind("127.0.0.1:0").unwrap().into_raw_fd();
        let fd = |name| spec(name, Address::Fd(number), SocketKind::Stream);
        let errors = Sockets::open(&plan([fd("a"), fd("b")]), Assigned::default()).unwrap_err();
        assert!(errors.len() == 1 && errors[0].message.contains("another socket already"), "{errors:?}");
    }
}
