//! Services that start when something happens on their sockets: at the first traffic, or one worker for each connection.
//! Which limits that has, and what becomes of a service that runs into them.

use super::planted::{self, Bug};
use super::service::Service;
use super::slot::Pending;
use super::{Action, ChildId, ConnectionId, Happening, Start, Supervisor, UnitHappening};
use crate::exit::Exit;
use crate::plan::{Nanos, SocketId, StartWhen};

/// systemd's words for why a service is not started again.
const TRIGGER_LIMIT: &str = "trigger-limit-hit";
const START_LIMIT: &str = "start-limit-hit";

impl Service {
    /// One worker for each connection.
    pub(super) fn per_connection(&self) -> bool {
        matches!(self.policy.start, StartWhen::PerConnection { .. })
    }

    /// Whether nothing will ever start it again.
    pub(super) fn is_finished(&self) -> bool {
        match self.policy.start {
            StartWhen::AtOnce => self.is_over(),
            StartWhen::OnTraffic { .. } => self.failed.is_some(),
            StartWhen::PerConnection { .. } => self.failed.is_some() && self.alive == 0,
        }
    }

    /// The word of `status`.
    pub(super) fn state_word(&self) -> &'static str {
        match self.failed {
            Some(_) => "failed",
            None if self.asleep || (self.per_connection() && self.alive == 0) => "listening",
            None if self.is_over() && self.exit.is_some_and(|exit| exit != Exit::Done) => "failed",
            None if self.is_over() => "over",
            None => "active",
        }
    }

    /// Counts a start by traffic. False: there were too many lately.
    fn triggers(&mut self, now: Nanos, limit: Option<(u32, Nanos)>) -> bool {
        let Some((burst, interval)) = limit else { return true };
        self.triggers.retain(|at| at.saturating_add(interval) > now);
        if self.triggers.len() >= burst as usize && !planted::is(Bug::TriggerLimitIgnored) {
            return false;
        }
        self.triggers.push(now);
        true
    }
}

impl Supervisor {
    /// Something waits on a socket: every service starts that waits for that.
    pub(super) fn traffic(&mut self, now: Nanos, socket: SocketId, out: &mut Vec<Action>) {
        for n in 0..self.services.len() {
            let service = &mut self.services[n];
            let StartWhen::OnTraffic { limit, .. } = service.policy.start else { continue };
            let waits = service.asleep && !service.retired && service.policy.listens_on.contains(&socket);
            if !waits || self.stopping.is_some() {
                continue;
            }
            if service.triggers(now, limit) {
                out.push(Action::Report(Happening::Unit(UnitHappening::Activated(service.id))));
                service.wake();
            } else {
                self.service_fails(n, TRIGGER_LIMIT, out);
            }
        }
    }

    /// A service whose workers are all over waits for traffic again; one that was asked to listen otherwise is told so.
    pub(super) fn notice_listening(&mut self, n: usize, out: &mut Vec<Action>) {
        let stopping = self.stopping.is_some();
        let service = &mut self.services[n];
        let on_traffic = matches!(service.policy.start, StartWhen::OnTraffic { .. });
        if service.asleep && !on_traffic {
            service.wake();
        }
        let limit_hit = service.slots.iter().any(|slot| slot.limit_hit);
        let over = service.is_over() && service.failed.is_none() && !stopping;
        if over && limit_hit {
            self.service_fails(n, START_LIMIT, out);
        } else if over && on_traffic && !self.has_children(n) {
            let service = &mut self.services[n];
            (0..service.number).for_each(|slot| service.set_pending(slot, Pending::Nothing));
            service.asleep = true;
            out.push(Action::Report(Happening::Unit(UnitHappening::Listening(service.id))));
        }
        let service = &mut self.services[n];
        let listens = (service.asleep || service.per_connection()) && service.failed.is_none();
        let listens = listens && !stopping && !service.retired;
        if listens != service.listening {
            service.listening = listens;
            let flush = matches!(service.policy.start, StartWhen::OnTraffic { flush: true, .. });
            if listens && flush {
                out.push(Action::Flush(service.id));
            }
            out.push(Action::Listen(service.id, listens));
        }
    }

    fn has_children(&self, n: usize) -> bool {
        self.children.values().any(|worker| usize::from(worker.service.0) == n)
    }

    /// Nothing of a service runs or is about to: what is kept for its workers can go.
    pub(super) fn notice_inactive(&mut self, n: usize, out: &mut Vec<Action>) {
        let service = &self.services[n];
        if !service.was_active || service.alive > 0 || service.policy.unit.is_none() {
            return;
        }
        let comes = |pending: Pending| !matches!(pending, Pending::Nothing | Pending::Over);
        if service.slots.iter().any(|slot| comes(slot.pending)) || self.has_children(n) {
            return;
        }
        self.services[n].was_active = false;
        out.push(Action::Inactive(self.services[n].id));
    }

    pub(super) fn service_fails(&mut self, n: usize, why: &'static str, out: &mut Vec<Action>) {
        let service = &mut self.services[n];
        service.failed = Some(why.into());
        service.exit = Some(Exit::Failed);
        service.asleep = false;
        out.push(Action::Report(Happening::Unit(UnitHappening::ServiceFailed(service.id, why))));
        if !service.policy.listens_on.is_empty() {
            out.push(Action::CloseSockets(service.id));
        }
    }

    /// A client connected: a worker is started for it, if so many may be.
    pub(super) fn connected(
        &mut self,
        now: Nanos,
        n: usize,
        connection: ConnectionId,
        source: u64,
        out: &mut Vec<Action>,
    ) {
        let Some(service) = self.services.get_mut(n) else { return out.push(Action::Refuse(connection)) };
        let StartWhen::PerConnection { most, most_per_source, limit } = service.policy.start else {
            return out.push(Action::Refuse(connection));
        };
        if self.stopping.is_some() || service.failed.is_some() || service.retired {
            return out.push(Action::Refuse(connection));
        }
        if !service.triggers(now, limit) {
            self.service_fails(n, TRIGGER_LIMIT, out);
            return out.push(Action::Refuse(connection));
        }
        let own = || self.children.values().filter(|worker| usize::from(worker.service.0) == n);
        let same = |run: &super::unit::Run| run.source == Some(source);
        let of_source = own().filter(|worker| worker.run.as_deref().is_some_and(same)).count() as u32;
        let full = own().count() as u32 >= most || (most_per_source > 0 && of_source >= most_per_source);
        if full && !planted::is(Bug::ConnectionsUnlimited) {
            out.push(Action::Report(Happening::Unit(UnitHappening::ConnectionRefused(self.services[n].id, most))));
            return out.push(Action::Refuse(connection));
        }
        self.start_instance(now, n, connection, source, out);
    }

    /// A worker that holds no slot: its number is its index.
    fn start_instance(&mut self, now: Nanos, n: usize, connection: ConnectionId, source: u64, out: &mut Vec<Action>) {
        let child = ChildId(self.next_child);
        self.next_child += 1;
        let service = &mut self.services[n];
        let index = service.take_index();
        let (id, generation) = (service.id, service.generation);
        service.restarts += 1;
        let start = Start { child, service: id, slot: index, generation, index, part: 0, connection: Some(connection) };
        self.begin_worker(now, start, Some(source), false, out);
    }
}

impl Service {
    /// All its slots are to be filled.
    fn wake(&mut self) {
        self.asleep = false;
        self.exit = None;
        for slot in 0..self.number {
            if self.slots[slot as usize].holder.is_none() {
                self.set_pending(slot, Pending::Due);
            }
        }
    }
}
