//! Whether a worker waits on its listening sockets, as far as /proc tells: the socket is in an epoll set of one of its
//! processes, or a thread sleeps in accept, poll or select on it. A server that takes one request at a time never waits
//! while more come than it can answer: a connection that it accepted says the same. Reads only; a process that ends
//! meanwhile is nothing.

use nix::libc::{self, c_long};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use super::Linux;
use crate::sockets::established;
use crate::supervise::{Accepting, ChildId};
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

/// Descriptors in one poll that are looked at.
const POLLED_MAX: usize = 4096;
/// The widest set of select that is looked at.
const SELECTED_MAX: usize = 65_536;
/// Processes of one worker that are looked at.
const PROCESSES_MAX: usize = 512;

/// What was seen of the workers that are starting.
#[derive(Debug, Default)]
pub(super) struct Looks(BTreeMap<ChildId, Known>);

impl Looks {
    /// It is ready, or gone.
    pub(super) fn forget(&mut self, child: ChildId) {
        self.0.remove(&child);
    }
}

/// What is known of one worker from the looks before.
#[derive(Debug, Default)]
struct Known {
    looked: bool,
    /// Sockets that it did not accept: it had them from the start, or they were others' before.
    foreign: BTreeSet<u64>,
    /// Whether those of others are among them.
    others: bool,
    /// Its listening sockets that it accepted a connection from.
    accepted_from: BTreeSet<u64>,
}

impl Linux {
    /// Whether the child waits on those of its sockets that listen.
    pub(super) fn accepting(&mut self, child: ChildId) -> Accepting {
        let (Some(pid), Some((service, slot))) = (self.children.pid(child), self.children.place(child)) else {
            return Accepting::Unknown;
        };
        let sockets = self.plan.service(service).sockets.iter();
        let listening = sockets.filter(|id| getsockopt(&self.sockets.fd(**id), AcceptConn).unwrap_or(false));
        let (ids, inodes): (Vec<_>, Vec<u64>) = listening.map(|id| (*id, self.sockets.node_for(*id, slot).1)).unzip();
        let known = self.looks.0.entry(child).or_default();
        known.accepting(pid, &inodes, &|n| established(self.sockets.fd_for(ids[n], slot)))
    }
}

impl Known {
    /// What /proc tells of the worker whose main process this is; `sockets`: the inodes of its listening sockets,
    /// `established`: the connections that anybody accepted from one of them.
    fn accepting(
        &mut self,
        pid: i32,
        sockets: &[u64],
        established: &dyn Fn(usize) -> Option<BTreeSet<u64>>,
    ) -> Accepting {
        let mut seen = Seen::default();
        for pid in family(pid) {
            look(pid, sockets, &mut seen);
            if sockets.iter().all(|inode| seen.waited.contains(inode)) {
                return if sockets.is_empty() { Accepting::Unknown } else { Accepting::Each };
            }
        }
        self.look_at_connections(&seen.others, sockets, established);
        seen.waited.extend(&self.accepted_from);
        match seen.waited.len() {
            0 if seen.hidden || sockets.is_empty() => Accepting::Unknown,
            0 => Accepting::None,
            count if count >= sockets.len() => Accepting::Each,
            _ => Accepting::Some,
        }
    }

    /// Which of the sockets that it did not have before are connections that it accepted. Before the first of them is
    /// judged, everything that is accepted already counts as somebody else's, who may pass it on: so what counts is a
    /// connection that came later.
    fn look_at_connections(
        &mut self,
        held: &BTreeSet<u64>,
        sockets: &[u64],
        established: &dyn Fn(usize) -> Option<BTreeSet<u64>>,
    ) {
        let new: BTreeSet<u64> = held.difference(&self.foreign).copied().collect();
        if self.looked && !new.is_empty() {
            let missing: Vec<usize> =
                (0..sockets.len()).filter(|n| !self.accepted_from.contains(&sockets[*n])).collect();
            let asked = missing.iter().filter_map(|n| Some((sockets[*n], established(*n)?)));
            let accepted: Vec<(u64, BTreeSet<u64>)> = asked.collect();
            if self.others {
                let from = accepted.iter().filter(|(_, all)| !all.is_disjoint(&new));
                self.accepted_from.extend(from.map(|(socket, _)| *socket));
            } else {
                self.others = accepted.len() == missing.len();
                self.foreign.extend(accepted.into_iter().flat_map(|(_, all)| all));
            }
        }
        self.foreign.extend(new);
        self.looked = true;
    }
}

#[derive(Default)]
struct Seen {
    /// The sockets that somebody waits on.
    waited: BTreeSet<u64>,
    /// Other sockets that it has.
    others: BTreeSet<u64>,
    /// Something could not be looked at.
    hidden: bool,
}

/// A process and its descendants.
fn family(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() && all.len() < PROCESSES_MAX {
        for tid in numbers(&format!("/proc/{}/task", all[next])).unwrap_or_default() {
            let path = format!("/proc/{}/task/{tid}/children", all[next]);
            let children = fs::read_to_string(path).unwrap_or_default();
            all.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
        next += 1;
    }
    all
}

/// The entries of a folder that are numbers.
fn numbers(folder: &str) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(folder)?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// One process.
fn look(pid: i32, sockets: &[u64], seen: &mut Seen) {
    let fds = match numbers(&format!("/proc/{pid}/fd")) {
        Ok(fds) => fds,
        Err(error) => {
            seen.hidden |= error.kind() != ErrorKind::NotFound;
            return;
        }
    };
    let mut held: Vec<(i32, u64)> = Vec::new();
    for fd in fds {
        let Ok(link) = fs::read_link(format!("/proc/{pid}/fd/{fd}")) else { continue };
        match link.to_str().unwrap_or_default() {
            "anon_inode:[eventpoll]" => match fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")) {
                Ok(text) => seen.waited.extend(epoll_set(&text).filter(|inode| sockets.contains(inode))),
                Err(error) => seen.hidden |= error.kind() != ErrorKind::NotFound,
            },
            "anon_inode:[io_uring]" => seen.hidden = true,
            other => match socket(other) {
                Some(inode) if sockets.contains(&inode) => held.push((fd, inode)),
                Some(inode) => drop(seen.others.insert(inode)),
                None => {}
            },
        }
    }
    if held.iter().all(|(_, inode)| seen.waited.contains(inode)) {
        return;
    }
    for tid in numbers(&format!("/proc/{pid}/task")).unwrap_or_default() {
        sleeps(pid, tid, &held, seen);
    }
}

/// The inode in `socket:[1234]`.
fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The inodes of an epoll set that are waited on for input, from its fdinfo.
fn epoll_set(text: &str) -> impl Iterator<Item = u64> {
    text.lines().filter_map(|line| {
        let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
        let mut hex_after = |name: &str| {
            let word = words.find(|word| word.starts_with(name))?;
            let value = &word[name.len()..];
            u64::from_str_radix(if value.is_empty() { words.next()? } else { value }, 16).ok()
        };
        let events = hex_after("events:")?;
        (events & libc::EPOLLIN as u64 != 0).then(|| hex_after("ino:"))?
    })
}

/// What a thread sleeps in.
fn sleeps(pid: i32, tid: i32, held: &[(i32, u64)], seen: &mut Seen) {
    let text = match fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(_) => {
            let at = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default();
            match held {
                [(_, inode)] if at == "inet_csk_accept" => drop(seen.waited.insert(*inode)),
                _ => seen.hidden = true,
            }
            return;
        }
    };
    let Some((number, arguments)) = syscall(&text) else { return };
    let fds = match number {
        libc::SYS_accept | libc::SYS_accept4 => Ok(vec![arguments[0] as i32]),
        _ if is_poll(number) => polled(pid, arguments),
        _ if is_select(number) => selected(pid, arguments),
        _ => return,
    };
    match fds {
        Ok(fds) => seen.waited.extend(held.iter().filter(|(fd, _)| fds.contains(fd)).map(|(_, inode)| *inode)),
        Err(error) => seen.hidden |= error.kind() == ErrorKind::PermissionDenied,
    }
}

/// The number and the arguments in `43 0x3 0x0 ...`; a thread that does not sleep has none.
fn syscall(text: &str) -> Option<(c_long, [u64; 2])> {
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut hex = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    Some((number, [hex()?, hex()?]))
}

fn is_poll(number: c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_poll {
        return true;
    }
    number == libc::SYS_ppoll
}

fn is_select(number: c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_select {
        return true;
    }
    number == libc::SYS_pselect6
}

/// The descriptors that a poll waits on for input.
fn polled(pid: i32, [at, count]: [u64; 2]) -> io::Result<Vec<i32>> {
    let bytes = memory(pid, at, (count as usize).min(POLLED_MAX) * 8)?;
    let entries = bytes.chunks_exact(8).map(|entry| {
        let fd = i32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
        (fd, i16::from_ne_bytes([entry[4], entry[5]]))
    });
    Ok(entries.filter(|(_, events)| events & libc::POLLIN != 0).map(|(fd, _)| fd).collect())
}

/// The descriptors that a select waits on for input.
fn selected(pid: i32, [width, at]: [u64; 2]) -> io::Result<Vec<i32>> {
    let width = (width as usize).min(SELECTED_MAX);
    if at == 0 {
        return Ok(Vec::new());
    }
    let bytes = memory(pid, at, width.div_ceil(64) * 8)?;
    let word = |n: usize| u64::from_ne_bytes(bytes[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
    Ok((0..width).filter(|fd| word(fd / 64) >> (fd % 64) & 1 == 1).map(|fd| fd as i32).collect())
}

fn memory(pid: i32, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "accepting_tests.rs"]
mod tests;
