use super::*;
use crate::plan::ServiceSpec;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::pipe;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

const PLACE: (ServiceId, u32) = (ServiceId(0), 1);

fn named(name: &str) -> StoreWords {
    StoreWords { keep: true, name: Some(name.into()), ..StoreWords::default() }
}

fn listener() -> OwnedFd {
    TcpListener::bind("127.0.0.1:0").unwrap().into()
}

fn names(stores: &Stores, (service, slot): (ServiceId, u32)) -> Vec<&str> {
    stores.of(service, slot).iter().map(|(name, _)| name.as_str()).collect()
}

fn label(name: &str) -> Label {
    Label { service: PLACE.0, slot: PLACE.1, name: name.into(), unwatched: false }
}

#[test]
fn the_newest_comes_first_and_no_more_than_the_most() {
    let mut stores = Stores::new().unwrap();
    let (zed, other) = (listener(), listener());
    let number = zed.as_raw_fd();
    assert_eq!(stores.keep(PLACE, 3, &named("zed"), vec![zed]), (1, None));
    let unnamed = StoreWords { keep: true, ..StoreWords::default() };
    let copy = other.try_clone().unwrap();
    assert_eq!(stores.keep(PLACE, 3, &unnamed, vec![other, copy]), (1, None), "a copy is the same file");
    let (kept, remark) = stores.keep(PLACE, 3, &named("m"), vec![listener(), listener()]);
    assert_eq!(kept, 1);
    assert_eq!(
        remark.as_deref(),
        Some("1 of its descriptors closed, not kept: 3 is the most (FileDescriptorStoreMax=)")
    );
    assert_eq!(names(&stores, PLACE), ["m", "stored", "zed"]);
    assert_eq!(stores.of(PLACE.0, PLACE.1)[2].1.as_raw_fd(), number);
    let again = stores.of(PLACE.0, PLACE.1)[0].1.try_clone().unwrap();
    assert_eq!(stores.keep(PLACE, 3, &named("m"), vec![again]), (0, None), "full, and it is there already");
    assert_eq!(names(&stores, (PLACE.0, 0)), [""; 0], "another slot has its own");

    let (kept, remark) = stores.keep((ServiceId(1), 0), 0, &named("x"), vec![listener()]);
    let none = "1 of its descriptors closed, not kept: none may be kept (FileDescriptorStoreMax=)";
    assert_eq!((kept, remark.as_deref()), (0, Some(none)));
}

#[test]
fn what_is_dropped_is_told_by_name() {
    let mut stores = Stores::new().unwrap();
    stores.keep(PLACE, 9, &named("a"), vec![listener(), listener()]);
    stores.keep(PLACE, 9, &named("b"), vec![listener()]);
    for slot in [0, 2, 3] {
        stores.keep((PLACE.0, slot), 9, &named("c"), vec![listener()]);
    }
    stores.keep((ServiceId(1), 7), 9, &named("d"), vec![listener()]);
    assert_eq!(stores.remove(PLACE.0, PLACE.1, "nothing"), []);
    assert_eq!(stores.remove(PLACE.0, PLACE.1, "a"), [label("a")]);
    assert_eq!(names(&stores, PLACE), ["b"]);
    assert_eq!(stores.drop_slot(PLACE.0, PLACE.1), [label("b")]);
    let gone: Vec<u32> = stores.drop_slots_from(PLACE.0, 2).iter().map(|label| label.slot).collect();
    assert_eq!(gone, [2, 3]);
    assert_eq!(names(&stores, (PLACE.0, 0)), ["c"]);
    assert_eq!(stores.drop_service(PLACE.0).len(), 1);
    assert_eq!(names(&stores, (ServiceId(1), 7)), ["d"]);
}

/// Whether the set wakes the runtime.
fn wakes(stores: &Stores) -> bool {
    poll(&mut [PollFd::new(stores.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
}

#[test]
fn what_ended_is_dropped_unless_it_is_not_to_be_watched() {
    let mut stores = Stores::new().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (kept, closed) = UnixStream::pair().unwrap();
    let (reader, writer) = pipe().unwrap();
    let copy = ours.try_clone().unwrap();
    stores.keep(PLACE, 9, &named("watched"), vec![ours.into()]);
    let unwatched = StoreWords { unwatched: true, ..named("unwatched") };
    stores.keep(PLACE, 9, &unwatched, vec![kept.into()]);
    stores.keep(PLACE, 9, &named("pipe"), vec![reader.into()]);
    // A file cannot be polled, and stays.
    stores.keep(PLACE, 9, &named("file"), vec![File::open("/proc/self/exe").unwrap().into()]);
    drop(closed);
    assert!(!wakes(&stores));
    assert_eq!(stores.drop_ended(), 0);
    drop(theirs);
    assert!(wakes(&stores));
    assert_eq!(stores.drop_ended(), 1);
    // Somebody has the same open file: it wakes nobody any more.
    assert!(!wakes(&stores));
    drop((copy, writer));
    assert_eq!(stores.drop_ended(), 1);
    assert_eq!(names(&stores, PLACE), ["file", "unwatched"]);
}

#[test]
fn the_next_program_has_them_in_their_order() {
    let mut stores = Stores::new().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    stores.keep(PLACE, 9, &named("old"), vec![ours.into()]);
    stores.keep(PLACE, 9, &StoreWords { unwatched: true, ..named("new") }, vec![listener()]);
    stores.keep((ServiceId(1), 0), 9, &named("gone"), vec![listener()]);
    stores.keep((ServiceId(2), 0), 9, &named("unkept"), vec![listener()]);
    let mut fds = Vec::new();
    let frozen = serde_json::to_string(&stores.freeze(&mut fds)).unwrap();
    assert_eq!(fds.len(), 4);
    let copies: BTreeMap<RawFd, OwnedFd> = stores
        .slots
        .values()
        .flat_map(|slot| &slot.fds)
        .map(|(_, fd)| (fd.as_raw_fd(), fd.try_clone().unwrap()))
        .collect();
    drop(stores);

    let mut copies = copies;
    let keeps = |fd_store_max| ServiceSpec { fd_store_max, ..ServiceSpec::default() };
    let plan = Plan { services: vec![keeps(0), keeps(2)], ..Plan::default() };
    let change = Change { services: vec![Some(ServiceId(1)), None, Some(ServiceId(0))], ..Change::default() };
    let mut next = Stores::new().unwrap();
    let frozen = serde_json::from_str(&frozen).unwrap();
    let gone = next.thaw(frozen, &change, &plan, &mut |number| copies.remove(&number).unwrap());
    assert_eq!(names(&next, (ServiceId(1), 1)), ["new", "old"]);
    assert_eq!(next.slots.len(), 1, "nobody keeps the others");
    let gone: Vec<(u16, &str)> = gone.iter().map(|label| (label.service.0, label.name.as_str())).collect();
    assert_eq!(gone, [(1, "gone"), (2, "unkept")], "in the old plan's numbers");
    drop(theirs);
    assert_eq!(next.drop_ended(), 1);
    assert_eq!(names(&next, (ServiceId(1), 1)), ["new"]);
    assert!(next.slots[&(ServiceId(1), 1)].marks[0].unwatched);
}

#[test]
fn the_same_node_is_the_same_where_the_kernel_does_not_tell() {
    let one = listener();
    let copy = one.try_clone().unwrap();
    assert!(is_same(one.as_fd(), copy.as_fd()) && is_same_node(one.as_fd(), copy.as_fd()));
    let other = listener();
    assert!(!is_same(one.as_fd(), other.as_fd()) && !is_same_node(one.as_fd(), other.as_fd()));
    let (reader, writer) = pipe().unwrap();
    assert!(!is_same(reader.as_fd(), writer.as_fd()) && !is_same_node(reader.as_fd(), writer.as_fd()));
}
