use super::*;
use crate::plan::{Host, SocketKind, SocketOptions};

fn tcp(name: &str, ip: [u8; 4], port: u16) -> SocketSpec {
    at(name, Address::Inet { host: Host::V4(ip.into()), port })
}

fn at(name: &str, address: Address) -> SocketSpec {
    let (kind, options, origin) = (SocketKind::Stream, SocketOptions::default(), Origin::Argument(2));
    SocketSpec { name: name.into(), named: true, kind, address, options, origin, retired: false, since: 0 }
}

fn plan(sockets: impl Into<Vec<SocketSpec>>, services: &[&str]) -> Plan {
    let sockets: Vec<SocketSpec> = sockets.into();
    let ids: Vec<SocketId> = (0..sockets.len() as u16).map(SocketId).collect();
    let service = |name: &&str| ServiceSpec { name: (*name).into(), sockets: ids.clone(), ..ServiceSpec::default() };
    Plan { services: services.iter().map(service).collect(), sockets, ..Plan::default() }
}

fn went(old: &Plan, new: &Plan) -> (Vec<String>, Change) {
    let (plan, change) = succeed(old, new.clone(), &|_| true).expect("no problem");
    let sockets = plan.sockets.iter().map(|one| format!("{}{}", one.name, if one.retired { "-" } else { "" }));
    let services = plan.services.iter().map(|one| format!("{}{}", one.name, if one.retired { "-" } else { "" }));
    (sockets.chain(services).collect(), change)
}

const HERE: [u8; 4] = [127, 0, 0, 1];

#[test]
fn nothing_changed() {
    let old = plan([tcp("web", HERE, 80), at("s", Address::Unix("/run/s".into()))], &["a", "b"]);
    let (all, change) = went(&old, &old);
    assert_eq!(all, ["web", "s", "a", "b"]);
    assert_eq!(change.sockets, [SocketId(0), SocketId(1)]);
    assert_eq!(change.services, [Some(ServiceId(0)), Some(ServiceId(1))]);
}

#[test]
fn sockets_come_go_and_change_places() {
    let old = plan([tcp("a", HERE, 1), tcp("b", HERE, 2), tcp("c", HERE, 3)], &["web"]);
    let new = plan([tcp("new", HERE, 9), tcp("c", HERE, 3), tcp("a", HERE, 4), tcp("renamed", HERE, 2)], &["web"]);
    let (all, change) = went(&old, &new);
    assert_eq!(all, ["new", "c", "a", "renamed", "a-", "web"], "a's address is another one: the old one retires");
    assert_eq!(change.sockets, [SocketId(4), SocketId(3), SocketId(1)]);
}

#[test]
fn of_equal_addresses_each_name_finds_its_own() {
    let old = plan([tcp("a", HERE, 1), tcp("b", HERE, 1)], &["web"]);
    let new = plan([tcp("b", HERE, 1), tcp("x", HERE, 1)], &["web"]);
    assert_eq!(went(&old, &new).1.sockets, [SocketId(1), SocketId(0)]);
}

#[test]
fn what_retired_before_is_taken_up_again() {
    let old = plan([tcp("a", HERE, 1)], &["web"]);
    let (next, _) = succeed(&old, plan([tcp("b", HERE, 2)], &["web"]), &|_| true).expect("no problem");
    assert!(next.sockets[1].retired);
    let (all, change) = went(&next, &old);
    assert_eq!(all, ["a", "b-", "web"]);
    assert_eq!(change.sockets, [SocketId(1), SocketId(0)]);
}

#[test]
fn services_by_name_and_the_only_one_by_itself() {
    let (one, other) = (plan([], &["gunicorn"]), plan([], &["uvicorn"]));
    assert_eq!(went(&one, &other).1.services, [Some(ServiceId(0))]);
    let many = plan([tcp("web", HERE, 1)], &["a", "b"]);
    let (all, change) = went(&many, &plan([], &["b", "c"]));
    assert_eq!(all, ["web-", "b", "c", "a-"]);
    assert_eq!(change.services, [Some(ServiceId(2)), Some(ServiceId(0))]);
    let (next, _) = succeed(&many, plan([], &["b", "c"]), &|_| true).expect("no problem");
    assert_eq!(next.services[2].number, Number::Fixed(0));
    assert_eq!(next.services[2].sockets, [SocketId(0)]);
    let gone = succeed(&many, plan([], &["b", "c"]), &|_| false).expect("no problem").1;
    assert_eq!(gone.services, [None, Some(ServiceId(0))]);
}

#[test]
fn what_cannot_change_is_a_problem() {
    let path = Address::Unix("/run/s".into());
    let old = plan([tcp("web", HERE, 1), at("s", path.clone())], &["a"]);
    let mut new = plan([tcp("web", HERE, 1), at("s", path)], &["a"]);
    new.sockets[0].options.slots = true;
    new.sockets[1].kind = SocketKind::Datagram;
    new.identity.name = Some("other".into());
    let problems: Vec<String> = succeed(&old, new, &|_| true).unwrap_err().iter().map(Problem::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].contains("-d") && problems[1].contains("slots") && problems[2].contains("another kind"));
}

#[test]
fn inherited_sockets_are_kept_where_none_is_asked_for() {
    let came = SocketSpec { origin: Origin::Environment("LISTEN_FDS".into()), ..tcp("web", HERE, 1) };
    let old = plan([came], &["a"]);
    let mut new = plan([], &["a"]);
    keep_inherited(&old, &mut new);
    assert_eq!(new.sockets, old.sockets);
    let mut new = plan([tcp("other", HERE, 2)], &["a"]);
    keep_inherited(&old, &mut new);
    assert_eq!(new.sockets.len(), 1);
}
