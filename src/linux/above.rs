//! What prebind leaves with the manager above it, where that keeps descriptors (FDSTORE): the sockets that it bound itself
//! and what workers stored with it. When the manager starts prebind again they come back in LISTEN_FDS, by their names,
//! so that a restart of prebind itself refuses nobody.

use super::store::Label;
use super::{Linux, monotonic};
use crate::control::event::Level;
use crate::notify::kept::{self, Stored};
use crate::notify::upward::Upward as Manager;
use crate::plan::{Address, Plan, ServiceId, SocketId, SocketSpec};
use crate::sockets::Assigned;
use crate::supervise::Upward;
use sd_notify::NotifyState;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What came back, less the sockets that are asked for again.
#[derive(Debug, Default)]
pub struct Kept {
    stored: Vec<(Label, OwnedFd)>,
    /// Names of what nobody asks for any more.
    left_over: BTreeSet<String>,
}

impl Kept {
    /// Gives each socket that came back to the one that is asked for in the same words.
    pub fn assign(came: Vec<(OwnedFd, String)>, plan: &Plan, assigned: &mut Assigned) -> Kept {
        assigned.fds.resize_with(plan.sockets.len(), || None);
        let names: Vec<Option<String>> = plan.sockets.iter().map(name_above).collect();
        let mut kept = Kept::default();
        let mut taken = BTreeSet::new();
        for (fd, name) in came {
            if let Some(label) = Stored::decode(&name).and_then(|stored| label_in(plan, stored)) {
                kept.stored.push((label, fd));
                continue;
            }
            let at = names.iter().position(|one| one.as_ref() == Some(&name));
            match at.filter(|at| assigned.fds[*at].is_none() && still_stands(&plan.sockets[*at])) {
                Some(at) => {
                    assigned.fds[at] = Some(fd);
                    taken.insert(name);
                }
                None => _ = kept.left_over.insert(name),
            }
        }
        kept.left_over.retain(|name| !taken.contains(name));
        kept
    }

    /// Has the manager close what nobody asks for any more, and waits for that: what takes its place may not stand beside
    /// it. To be called before anything is bound.
    pub fn let_go(&mut self, manager: &Manager) -> io::Result<()> {
        let names = std::mem::take(&mut self.left_over);
        names.iter().try_for_each(|name| manager.drop_kept(name))?;
        if names.is_empty() { Ok(()) } else { manager.barrier() }
    }
}

/// Who a stored descriptor belongs to; `None`: nobody any more.
fn label_in(plan: &Plan, stored: Stored) -> Option<Label> {
    let Stored { service, slot, name, unwatched } = stored;
    let at = plan.services.iter().position(|spec| spec.name == service && !spec.retired)?;
    let spec = &plan.services[at];
    let fits = spec.fd_store_max > 0 && slot < spec.number.get();
    fits.then_some(Label { service: ServiceId(at as u16), slot, name, unwatched })
}

/// The name of a socket in the manager's store; `None`: it is not left there.
fn name_above(spec: &SocketSpec) -> Option<String> {
    let given = matches!(spec.address, Address::Fd(_));
    // A group of sockets, one for each slot, cannot be put together again.
    let fits = !given && !spec.options.slots && !spec.retired;
    let shared = match spec.address {
        Address::Inet { port, .. } => port == 0 || spec.options.reuse_port,
        Address::Vsock { port, .. } => port == u32::MAX,
        _ => false,
    };
    let name = if shared { spec.name.as_str() } else { "" };
    fits.then(|| kept::socket_name(spec.kind_word(), &spec.address.to_string(), name)).flatten()
}

/// A socket whose path was removed meanwhile is reached by nobody.
fn still_stands(spec: &SocketSpec) -> bool {
    match &spec.address {
        Address::Unix(path) => path.symlink_metadata().is_ok(),
        _ => true,
    }
}

/// The name of what a worker stored, in the manager's store; `None`: it would be too long, and is not left there.
fn stored_above(plan: &Plan, label: &Label) -> Option<String> {
    let Label { service, slot, ref name, unwatched } = *label;
    let service = plan.service(service).name.clone();
    Stored { service, slot, name: name.clone(), unwatched }.encode()
}

impl Linux {
    /// At the start: takes back what workers had stored, and leaves with the manager what it has not.
    pub fn take_back(&mut self, kept: Kept) {
        for (label, fd) in kept.stored {
            self.stores.restore(label, fd);
        }
        self.keep_sockets_above();
    }

    /// Leaves every socket that prebind bound with the manager; what it has already it does not keep twice.
    pub(super) fn keep_sockets_above(&self) {
        if !self.manager.keeps() {
            return;
        }
        for (id, spec) in (0..).map(SocketId).zip(&self.plan.sockets) {
            if let Some(name) = name_above(spec).filter(|_| !self.sockets.facts(id).inherited) {
                self.say_above(self.manager.keep(&name, true, self.sockets.fd(id)));
            }
        }
    }

    /// The manager need not keep the sockets that are closed now.
    pub(super) fn drop_retired_above(&self) {
        let retired = self.plan.sockets.iter().filter(|spec| spec.retired);
        for name in retired.filter_map(|spec| name_above(&SocketSpec { retired: false, ..spec.clone() })) {
            self.say_above(self.manager.drop_kept(&name));
        }
    }

    /// Leaves the `at`-th of what a slot has stored with the manager.
    pub(super) fn keep_above(&self, (service, slot): (ServiceId, u32), at: usize, unwatched: bool) {
        let Some((name, fd)) = self.stores.of(service, slot).get(at).filter(|_| self.manager.keeps()) else { return };
        let label = Label { service, slot, name: name.clone(), unwatched };
        if let Some(name) = stored_above(&self.plan, &label) {
            self.say_above(self.manager.keep(&name, unwatched, fd.as_fd()));
        }
    }

    /// The manager need not keep these any more.
    pub(super) fn drop_above(&self, labels: &[Label]) {
        self.drop_above_of(&self.plan, labels);
    }

    /// The same, in the numbers of another plan.
    pub(super) fn drop_above_of(&self, plan: &Plan, labels: &[Label]) {
        for name in labels.iter().filter_map(|label| stored_above(plan, label)) {
            self.say_above(self.manager.drop_kept(&name));
        }
    }

    pub(super) fn tell_manager(&mut self, what: Upward) {
        let usec = monotonic() / 1000;
        let words: &[NotifyState<'_>] = match &what {
            Upward::Ready => &[NotifyState::Ready],
            Upward::Stopping => &[NotifyState::Stopping],
            Upward::Reloading => &[NotifyState::Reloading, NotifyState::MonotonicUsec(usec.into())],
            Upward::Status(text) => &[NotifyState::Status(text)],
            Upward::Watchdog => &[NotifyState::Watchdog],
        };
        self.say_above(self.manager.send(words));
        if what == Upward::Stopping {
            self.manager.leave_kept();
        }
    }

    pub(super) fn say_above(&self, told: io::Result<()>) {
        if let Err(error) = told {
            let message = format!("cannot notify the manager above ($NOTIFY_SOCKET): {error}");
            self.say(Level::Warn, "manager_unreachable", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Host, Number, Origin, ServiceSpec, SocketKind, SocketOptions};
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::fd::AsRawFd;

    fn spec(name: &str, port: u16) -> SocketSpec {
        SocketSpec {
            name: name.into(),
            named: true,
            kind: SocketKind::Stream,
            address: Address::Inet { host: Host::V4(Ipv4Addr::LOCALHOST), port },
            options: SocketOptions::default(),
            origin: Origin::Default,
            retired: false,
            since: 0,
        }
    }

    fn listener() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    #[test]
    fn what_is_asked_for_in_the_same_words_is_taken_back() {
        let service = ServiceSpec { fd_store_max: 2, number: Number::Fixed(4), ..ServiceSpec::default() };
        let (none, web) = (ServiceSpec::default(), ServiceSpec { name: "web".into(), ..service });
        let gone = SocketSpec { address: Address::Unix("/nonexistent/web".into()), ..spec("gone", 0) };
        let slots = SocketOptions { slots: true, ..SocketOptions::default() };
        let (same, moved) = (spec("web", 0), spec("api", 81));
        let names: Vec<String> = [&same, &spec("api", 80), &gone].map(|spec| name_above(spec).unwrap()).into();
        assert_eq!(name_above(&SocketSpec { address: Address::Fd(7), ..spec("x", 0) }), None);
        assert_eq!(name_above(&SocketSpec { options: slots, ..spec("x", 0) }), None);
        // Where one alone can have the address, its name may change.
        assert_eq!(name_above(&spec("a", 80)), name_above(&spec("b", 80)));
        assert_ne!(name_above(&spec("a", 0)), name_above(&spec("b", 0)));
        let given = spec("given", 0);
        let given_name = name_above(&given).unwrap();
        let plan = Plan { sockets: vec![moved, gone, same, given], services: vec![none, web], ..Plan::default() };
        let stored = |slot| Stored { service: "web".into(), slot, name: "x".into(), unwatched: true }.encode().unwrap();

        let web = listener();
        let number = web.as_raw_fd();
        let mut came: Vec<(OwnedFd, String)> = vec![(web, names[0].clone())];
        came.extend([3, 4].map(|slot| (listener(), stored(slot))));
        came.extend([&names[0], &names[1], &names[2], &given_name].map(|name| (listener(), name.clone())));
        came.push((listener(), "prebind-socket/".into()));
        let mut assigned = Assigned { fds: vec![None, None, None, Some(listener())] };
        let kept = Kept::assign(came, &plan, &mut assigned);
        let numbers: Vec<Option<i32>> =
            assigned.fds[..3].iter().map(|fd| fd.as_ref().map(AsRawFd::as_raw_fd)).collect();
        assert_eq!(numbers, [None, None, Some(number)]);
        let left_over = ["prebind-socket/", &names[1], &names[2], &given_name, &stored(4)];
        assert_eq!(kept.left_over, left_over.map(String::from).into());
        let label = Label { service: ServiceId(1), slot: 3, name: "x".into(), unwatched: true };
        assert_eq!(kept.stored.into_iter().map(|(one, _)| one).collect::<Vec<_>>(), [label]);
    }
}
