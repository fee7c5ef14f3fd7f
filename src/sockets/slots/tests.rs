//! Groups of the real kernel on loopback: who gets what, before, while and after slots are steered around and closed.

use super::super::tests::{plan, spec};
use super::super::{Assigned, Sockets, sys};
use crate::plan::{Address, Host, Number, ServiceSpec, SocketId, SocketKind, SocketSpec};
use nix::fcntl::{FcntlArg, fcntl};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ONE: SocketId = SocketId(0);
const LIMIT: Duration = Duration::from_secs(20);

fn slots(host: Host, port: u16, kind: SocketKind) -> SocketSpec {
    let mut spec = spec("web", Address::Inet { host, port }, kind);
    spec.options.slots = true;
    spec.options.nonblock = true;
    spec
}

fn try_group(spec: SocketSpec, number: u32) -> Result<Sockets, String> {
    let mut plan = plan([spec]);
    plan.services = vec![ServiceSpec { number: Number::Fixed(number), sockets: vec![ONE], ..ServiceSpec::default() }];
    let (sockets, remarks) = Sockets::open(&plan, Assigned::default())
        .map_err(|errors| errors.into_iter().map(|e| e.message).collect::<String>())?;
    assert_eq!(remarks, [""; 0]);
    Ok(sockets)
}

fn group(kind: SocketKind, number: u32) -> Sockets {
    try_group(slots(Host::V4(Ipv4Addr::LOCALHOST), 0, kind), number).unwrap()
}

fn tcp(number: u32) -> Sockets {
    group(SocketKind::Stream, number)
}

fn address(sockets: &Sockets) -> SocketAddr {
    sockets.facts(ONE).address.parse().unwrap()
}

fn members(sockets: &Sockets) -> u32 {
    sockets.open[0].members().count() as u32
}

fn listener(sockets: &Sockets, slot: u32) -> TcpListener {
    sockets.fd_for(ONE, slot).try_clone_to_owned().unwrap().into()
}

fn connect(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect_timeout(&to, LIMIT).unwrap()).collect()
}

/// Accepts so many connections, by slot; it fails if they do not come.
fn accept(sockets: &Sockets, count: usize) -> Vec<usize> {
    let listeners: Vec<TcpListener> = (0..members(sockets)).map(|slot| listener(sockets, slot)).collect();
    let mut accepted = vec![0; listeners.len()];
    let deadline = Instant::now() + LIMIT;
    while accepted.iter().sum::<usize>() < count {
        for (listener, accepted) in listeners.iter().zip(&mut accepted) {
            *accepted += std::iter::from_fn(|| listener.accept().ok()).count();
        }
        assert!(Instant::now() < deadline, "{accepted:?} of {count}");
    }
    accepted
}

/// Connects and accepts, a hundred at a time.
fn spread(sockets: &Sockets, count: usize) -> Vec<usize> {
    let mut all = vec![0; members(sockets) as usize];
    for _ in 0..count / 100 {
        let clients = connect(address(sockets), 100);
        for (all, here) in all.iter_mut().zip(accept(sockets, 100)) {
            *all += here;
        }
        drop(clients);
    }
    all
}

/// Exactly the wanted ones got something.
fn assert_only(accepted: &[usize], wanted: &[bool]) {
    let got: Vec<bool> = accepted.iter().map(|count| *count > 0).collect();
    assert_eq!(got, wanted, "{accepted:?}");
}

fn assert_even(accepted: &[usize], most: f64) {
    let (max, sum) = (accepted.iter().max().unwrap(), accepted.iter().sum::<usize>());
    assert!((max * accepted.len()) as f64 <= most * sum as f64, "{accepted:?}");
}

#[test]
fn the_kernel_spreads_evenly_over_all_slots() {
    let sockets = tcp(4);
    assert!(sockets.is_slots(ONE));
    assert_even(&spread(&sockets, 2000), 1.25);
}

#[test]
fn a_slot_that_is_steered_around_gets_nothing_and_the_others_as_much_each() {
    for host in [Host::V4(Ipv4Addr::LOCALHOST), Host::V6(Ipv6Addr::LOCALHOST, None)] {
        let Ok(mut sockets) = try_group(slots(host.clone(), 0, SocketKind::Stream), 4) else {
            assert!(matches!(host, Host::V6(..)), "{host:?}");
            continue;
        };
        let wanted = [true, true, false, true];
        sockets.steer(ONE, &wanted).unwrap();
        let mut accepted = spread(&sockets, 1200);
        assert_only(&accepted, &wanted);
        accepted.remove(2);
        assert_even(&accepted, 1.25);
        sockets.steer(ONE, &[false; 4]).unwrap();
        assert_only(&spread(&sockets, 200), &[true; 4]);
        sockets.steer(ONE, &[true; 4]).unwrap();
        assert_even(&spread(&sockets, 2000), 1.25);
    }
}

#[test]
fn both_families_in_one_group_are_steered() {
    let Ok(mut sockets) = try_group(slots(Host::Dual, 0, SocketKind::Stream), 3) else { return };
    let wanted = [false, true, true];
    sockets.steer(ONE, &wanted).unwrap();
    let port = address(&sockets).port();
    for ip in [Ipv4Addr::LOCALHOST.into(), std::net::IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let _clients = connect((ip, port).into(), 200);
        assert_only(&accept(&sockets, 200), &wanted);
    }
}

#[test]
fn what_a_retiring_slot_has_queued_is_still_its_own() {
    let mut sockets = tcp(4);
    let before = connect(address(&sockets), 200);
    sockets.steer(ONE, &[true, true, true, false]).unwrap();
    let after = connect(address(&sockets), 200);
    let deadline = Instant::now() + LIMIT;
    while sockets.queue(ONE) != Some(400) {
        assert!(Instant::now() < deadline, "{:?}", sockets.queue(ONE));
    }
    let accepted = accept(&sockets, 400);
    assert!(accepted[3] > 0 && accepted[3] < accepted[0], "{accepted:?}");
    drop((before, after));
}

#[test]
fn after_a_slot_was_closed_nothing_is_lost_and_the_indexes_are_right() {
    let mut sockets = tcp(5);
    sockets.steer(ONE, &[true, true, true, false, false]).unwrap();
    sockets.close_slots(ONE, 3).unwrap();
    assert_eq!(members(&sockets), 3);
    assert_even(&spread(&sockets, 400), 1.5);
    for out in 0..3 {
        let wanted = [0, 1, 2].map(|slot| slot != out);
        sockets.steer(ONE, &wanted).unwrap();
        assert_only(&spread(&sockets, 200), &wanted);
    }
    // The last steering stays in force.
    sockets.steer(ONE, &[false, true, true]).unwrap();
    sockets.close_slots(ONE, 2).unwrap();
    assert_only(&spread(&sockets, 100), &[false, true]);
    sockets.close_slots(ONE, 0).unwrap();
    assert_eq!(spread(&sockets, 100), [100]);
    // The slot comes back, in a new place.
    sockets.steer(ONE, &[true, true, false]).unwrap();
    assert_only(&spread(&sockets, 200), &[true, true, false]);
}

#[test]
fn a_group_grows_while_it_is_steered() {
    let mut sockets = tcp(3);
    sockets.steer(ONE, &[true, true, false]).unwrap();
    let wanted = [true, true, false, false, true];
    sockets.steer(ONE, &wanted).unwrap();
    assert_only(&spread(&sockets, 500), &wanted);
    let nodes: std::collections::BTreeSet<_> = (0..5).map(|slot| sockets.node_for(ONE, slot)).collect();
    assert_eq!(nodes.len(), 5);
    assert_eq!(sockets.node_for(ONE, 0), sockets.facts(ONE).node);
    assert_eq!(sockets.fd_for(ONE, 0).as_raw_fd(), sockets.fd(ONE).as_raw_fd());
    // A slot that could not be given a socket shares one.
    assert_eq!(sockets.node_for(ONE, 6), sockets.node_for(ONE, 1));
}

#[test]
fn a_new_slot_gets_nothing_before_it_is_wanted_not_for_a_moment() {
    let mut sockets = tcp(2);
    let to = address(&sockets);
    let clients = std::thread::spawn(move || (0..1000).for_each(|_| drop(connect(to, 1))));
    while !clients.is_finished() {
        // From no program to one, with a new member in between.
        sockets.steer(ONE, &[true, true, false]).unwrap();
        assert!(listener(&sockets, 2).accept().is_err());
        sockets.close_slots(ONE, 2).unwrap();
    }
    clients.join().unwrap();
    assert_only(&accept(&sockets, 1000), &[true; 2]);
}

#[test]
fn slots_come_and_go_under_load_and_nothing_is_lost() {
    const CLIENTS: usize = 3000;
    let mut sockets = tcp(2);
    let to = address(&sockets);
    let done = Arc::new(AtomicUsize::new(0));
    let counter = done.clone();
    let clients = std::thread::spawn(move || {
        for _ in 0..CLIENTS {
            drop(connect(to, 1));
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let more = |count: usize| {
        let until = (done.load(Ordering::SeqCst) + count).min(CLIENTS);
        while done.load(Ordering::SeqCst) < until {
            std::thread::yield_now();
        }
    };
    let mut accepted = 0;
    while !clients.is_finished() {
        sockets.steer(ONE, &[true; 3]).unwrap();
        more(5);
        sockets.steer(ONE, &[true, true, false]).unwrap();
        // What was under way to the retiring slot has arrived once later ones have.
        more(3);
        let retiring = listener(&sockets, 2);
        accepted += std::iter::from_fn(|| retiring.accept().ok()).count();
        sockets.close_slots(ONE, 2).unwrap();
    }
    clients.join().unwrap();
    accept(&sockets, CLIENTS - accepted);
}

/// A copy of the last slot's descriptor, as another process might have one.
fn leak(sockets: &Sockets) -> TcpListener {
    listener(sockets, members(sockets) - 1)
}

#[test]
fn a_leaked_copy_draws_connections_after_a_mere_close() {
    let mut sockets = tcp(2);
    let leaked = leak(&sockets);
    drop(sockets.open[0].slots.as_mut().unwrap().rest.pop());
    let clients = connect(address(&sockets), 100);
    let deadline = Instant::now() + LIMIT;
    let lost = || sys::tcp_waiting(leaked.as_fd()).unwrap();
    while sockets.queue(ONE).unwrap() + lost() < 100 {
        assert!(Instant::now() < deadline);
    }
    assert!(lost() > 10 && lost() < 90, "{}", lost());
    drop(clients);
}

#[test]
fn a_leaked_copy_of_a_closed_slot_draws_nothing() {
    let mut sockets = tcp(3);
    let leaked = leak(&sockets);
    sockets.close_slots(ONE, 2).unwrap();
    assert_even(&spread(&sockets, 400), 1.25);
    assert_eq!(leaked.accept().unwrap_err().raw_os_error(), Some(libc::EINVAL));
    sockets.steer(ONE, &[false, true]).unwrap();
    assert_only(&spread(&sockets, 100), &[false, true]);
}

#[test]
fn no_descriptor_is_inheritable_or_low() {
    let mut sockets = tcp(2);
    sockets.steer(ONE, &[true; 4]).unwrap();
    for slot in 0..4 {
        let fd = sockets.fd_for(ONE, slot);
        assert_eq!(fcntl(fd, FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC), "{slot}");
        assert!(fd.as_raw_fd() >= 16, "{slot}");
        let status = nix::fcntl::OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
        assert!(status.contains(nix::fcntl::OFlag::O_NONBLOCK), "{slot}");
    }
}

#[test]
fn every_member_has_the_options() {
    let mut spec = slots(Host::V4(Ipv4Addr::LOCALHOST), 0, SocketKind::Stream);
    (spec.options.keepalive, spec.options.defer_accept_seconds, spec.options.nonblock) = (true, Some(3), false);
    let mut sockets = try_group(spec, 2).unwrap();
    sockets.steer(ONE, &[true; 3]).unwrap();
    for member in sockets.open[0].members() {
        let option = |level, option| sys::int_option(member, level, option);
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_KEEPALIVE), Ok(1));
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_REUSEPORT), Ok(1));
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_ACCEPTCONN), Ok(1));
        assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), Ok(3));
    }
}

#[test]
fn nobody_joins_in_silence() {
    let here = Host::V4(Ipv4Addr::LOCALHOST);
    for (kind, number) in [SocketKind::Stream, SocketKind::Datagram].into_iter().flat_map(|k| [(k, 1), (k, 3)]) {
        let first = group(kind, number);
        let mut again = slots(here.clone(), address(&first).port(), kind);
        for reuse_port in [false, true] {
            again.options.reuse_port = reuse_port;
            let error = try_group(again.clone(), number).unwrap_err();
            assert!(error.contains("address in use"), "{error}");
        }
        drop(first);
        try_group(again, number).unwrap();
    }
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let error = try_group(slots(here, port, SocketKind::Stream), 2).unwrap_err();
    assert!(error.contains(&format!("cannot bind 127.0.0.1:{port}: address in use")), "{error}");
}

#[test]
fn an_open_socket_is_not_made_into_several() {
    let number = TcpListener::bind("127.0.0.1:0").unwrap().into_raw_fd();
    let spec = SocketSpec { address: Address::Fd(number), ..slots(Host::Dual, 0, SocketKind::Stream) };
    let error = try_group(spec, 2).unwrap_err();
    let text =
        format!("cannot adopt fd:{number} (web): an open socket cannot be made into one per slot (leave slots out");
    assert!(error.contains(&text), "{error}");
}

#[test]
fn one_slot_alone_and_a_socket_without_slots_can_be_steered() {
    for kind in [SocketKind::Stream, SocketKind::Datagram] {
        let mut sockets = group(kind, 1);
        for wanted in [&[true][..], &[false], &[]] {
            sockets.steer(ONE, wanted).unwrap();
            sockets.close_slots(ONE, 0).unwrap();
        }
        assert_eq!(members(&sockets), 1);
    }
    let mut spec = slots(Host::V4(Ipv4Addr::LOCALHOST), 0, SocketKind::Stream);
    spec.options.slots = false;
    let mut sockets = try_group(spec, 3).unwrap();
    sockets.steer(ONE, &[true, false]).unwrap();
    sockets.close_slots(ONE, 1).unwrap();
    assert!(!sockets.is_slots(ONE));
    assert_eq!(sockets.node_for(ONE, 7), sockets.facts(ONE).node);
}

#[test]
fn a_failure_to_grow_changes_nothing() {
    let mut sockets = tcp(2);
    sockets.steer(ONE, &[true, false]).unwrap();
    let slots = sockets.open[0].slots.as_mut().unwrap();
    let at = std::mem::replace(&mut slots.at, "192.0.2.1:1".parse().unwrap());
    let error = sockets.steer(ONE, &[true; 4]).unwrap_err();
    assert!(error.message.contains("cannot bind"), "{error}");
    sockets.open[0].slots.as_mut().unwrap().at = at;
    assert_only(&spread(&sockets, 100), &[true, false]);
}

/// Sends one datagram per flow, and tells by flow which slot got it.
fn flows(sockets: &Sockets, clients: &[UdpSocket]) -> Vec<u32> {
    let member = |slot| UdpSocket::from(sockets.fd_for(ONE, slot).try_clone_to_owned().unwrap());
    let members: Vec<UdpSocket> = (0..members(sockets)).map(member).collect();
    let arrived = |client: &UdpSocket| {
        let deadline = Instant::now() + LIMIT;
        client.send_to(b"x", address(sockets)).unwrap();
        loop {
            if let Some(slot) = members.iter().position(|member| member.recv(&mut [0; 8]).is_ok()) {
                return slot as u32;
            }
            assert!(Instant::now() < deadline, "a datagram was lost");
        }
    };
    clients.iter().map(arrived).collect()
}

#[test]
fn flows_of_datagrams_stay_where_they_are() {
    let mut sockets = group(SocketKind::Datagram, 4);
    let clients: Vec<UdpSocket> = (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let all = flows(&sockets, &clients);
    assert!((0..4).all(|slot| all.iter().filter(|at| **at == slot).count() > 20), "{all:?}");
    for out in 0..4 {
        sockets.steer(ONE, &[0, 1, 2, 3].map(|slot| slot != out)).unwrap();
        for (was, is) in all.iter().zip(flows(&sockets, &clients)) {
            assert!(is != out && (is == *was || *was == out), "{was} {is} without {out}");
        }
    }
    sockets.steer(ONE, &[true; 4]).unwrap();
    assert_eq!(flows(&sockets, &clients), all);
    sockets.steer(ONE, &[true, true, true, false]).unwrap();
    sockets.close_slots(ONE, 3).unwrap();
    let three = flows(&sockets, &clients);
    assert!((0..3).all(|slot| three.contains(&slot)));
    sockets.steer(ONE, &[false, true, true, false, true]).unwrap();
    let some = flows(&sockets, &clients);
    assert!([1, 2, 4].iter().all(|slot| some.contains(slot)) && some.iter().all(|slot| [1, 2, 4].contains(slot)));
    assert_eq!(sockets.queue(ONE), None);
}

#[test]
fn a_large_group_is_steered() {
    let mut sockets = tcp(200);
    let wanted: Vec<bool> = (0..200).map(|slot| slot % 2 == 1).collect();
    sockets.steer(ONE, &wanted).unwrap();
    let accepted = spread(&sockets, 1000);
    assert!(accepted.iter().zip(&wanted).all(|(count, wanted)| *wanted || *count == 0), "{accepted:?}");
    assert!(accepted.iter().filter(|count| **count > 0).count() > 90, "{accepted:?}");
}
