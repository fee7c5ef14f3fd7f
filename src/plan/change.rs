//! How a plan that is read anew goes on from the one that runs: what stays what it was, what comes, what goes.
//! What goes is kept in the new plan, retired, behind everything that is asked for, until its workers are gone.

use super::{Address, Identity, Number, Origin, Plan, Problem, ServiceId, ServiceSpec, SocketId, SocketSpec};

/// What became of everything in the old plan.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Change {
    /// Of each socket of the old plan, its place in the new one.
    pub sockets: Vec<SocketId>,
    /// Of each service of the old plan; `None`: nothing was left of it.
    pub services: Vec<Option<ServiceId>>,
}

impl Change {
    /// Everything stays as it is.
    pub fn none(plan: &Plan) -> Change {
        let services = (0..plan.services.len()).map(|n| Some(ServiceId(n as u16)));
        Change { sockets: (0..plan.sockets.len()).map(|n| SocketId(n as u16)).collect(), services: services.collect() }
    }

    /// Notes at the sockets that are new from which child on workers have them.
    pub fn mark_added(&self, plan: &mut Plan, next_child: u32) {
        for (n, spec) in plan.sockets.iter_mut().enumerate() {
            if !self.sockets.contains(&SocketId(n as u16)) {
                spec.since = next_child;
            }
        }
    }

    /// Whether something is retired in the new plan that was not in the old one.
    pub fn retires(&self, old: &Plan, new: &Plan) -> bool {
        let was = |n: usize| {
            let at = self.sockets.iter().position(|heir| usize::from(heir.0) == n);
            at.is_some_and(|at| old.sockets[at].retired)
        };
        let sockets = new.sockets.iter().enumerate().any(|(n, spec)| spec.retired && !was(n));
        let services = old.services.iter().zip(&self.services).any(|(spec, heir)| {
            let heir = heir.map(|heir| new.service(heir));
            !spec.retired && heir.is_some_and(|heir| heir.retired)
        });
        sockets || services
    }
}

/// Sockets that came with LISTEN_FDS are asked for by no word of ours: a plan that is read anew gets them from the old.
pub fn keep_inherited(old: &Plan, new: &mut Plan) {
    if new.sockets.is_empty() {
        let came = |spec: &&SocketSpec| matches!(spec.origin, Origin::Environment(_)) && !spec.retired;
        new.sockets.extend(old.sockets.iter().filter(came).cloned());
    }
}

/// The new plan, checked, with what the old one leaves behind. `in_use`: whether a service of the old plan has workers.
///
/// A socket is the same when kind and address are (whatever its name), a service when its name is, or when there is
/// only one in both.
pub fn succeed(old: &Plan, mut new: Plan, in_use: &dyn Fn(ServiceId) -> bool) -> Result<(Plan, Change), Vec<Problem>> {
    if new.reexec_as.is_empty() {
        new.reexec_as.clone_from(&old.reexec_as);
    }
    let problems = identity(&old.identity, &new.identity);
    let mut problems: Vec<Problem> = problems.into_iter().collect();
    let sockets = sockets(old, &mut new, &mut problems);
    let services = services(old, &mut new, &sockets, in_use);
    if problems.is_empty() { Ok((new, Change { sockets, services })) } else { Err(problems) }
}

fn identity(old: &Identity, new: &Identity) -> Option<Problem> {
    let message = "-c, -d, -e, -f and --no-control cannot change while prebind runs";
    (old != new).then(|| Problem::new(Origin::Default, message).remedy("stop it and start it anew"))
}

fn sockets(old: &Plan, new: &mut Plan, problems: &mut Vec<Problem>) -> Vec<SocketId> {
    let mut heirs = vec![None; old.sockets.len()];
    // By name first: of two equal addresses (reuseport) each finds its own.
    for by_name in [true, false] {
        for (n, spec) in old.sockets.iter().enumerate() {
            if heirs[n].is_some() {
                continue;
            }
            let same = |other: &SocketSpec| {
                other.kind == spec.kind && other.address == spec.address && (!by_name || other.name == spec.name)
            };
            heirs[n] = (0..new.sockets.len()).find(|at| !heirs.contains(&Some(*at)) && same(&new.sockets[*at]));
        }
    }
    let ids = heirs.into_iter().zip(&old.sockets).map(|(heir, spec)| {
        let at = heir.unwrap_or(new.sockets.len());
        match heir.map(|at| &new.sockets[at]) {
            Some(heir) if heir.options.slots != spec.options.slots => {
                let message = format!("socket {}: slots cannot be switched on or off while prebind runs", heir.name);
                problems.push(Problem::new(heir.origin.clone(), message).remedy("use another port, or stop prebind"));
            }
            Some(_) => new.sockets[at].since = spec.since,
            None => {
                problems.extend(new.sockets.iter().filter_map(|other| cannot_stand_beside(spec, other)));
                new.sockets.push(SocketSpec { retired: true, ..spec.clone() });
            }
        }
        SocketId(at as u16)
    });
    ids.collect()
}

/// A path or an abstract name is bound by one at a time. Inet addresses that overlap stand beside each other for a while.
fn cannot_stand_beside(old: &SocketSpec, new: &SocketSpec) -> Option<Problem> {
    let alone = matches!(new.address, Address::Unix(_) | Address::Abstract(_));
    if !alone || new.address != old.address || new.retired {
        return None;
    }
    let message = format!("socket {}: {} cannot become another kind while prebind runs", new.name, new.address);
    Some(Problem::new(new.origin.clone(), message).remedy("use another address, or stop prebind"))
}

fn services(
    old: &Plan,
    new: &mut Plan,
    sockets: &[SocketId],
    in_use: &dyn Fn(ServiceId) -> bool,
) -> Vec<Option<ServiceId>> {
    let asked = new.services.len();
    let named = |name: &str| new.services.iter().position(|other| other.name == name);
    let mut heirs: Vec<Option<usize>> = old.services.iter().map(|spec| named(&spec.name)).collect();
    let named_by_nobody = heirs.iter().all(Option::is_none);
    let mut own = heirs.iter_mut().zip(&old.services).filter(|(_, spec)| !spec.retired);
    // The only one may be called otherwise now, unless another one had that name.
    let renamed = named_by_nobody && asked == 1;
    if let (true, Some((heir, _)), None) = (renamed, own.next(), own.next()) {
        *heir = Some(0);
    }
    let ids = heirs.into_iter().zip(&old.services).enumerate().map(|(n, (heir, spec))| {
        if heir.is_none() && in_use(ServiceId(n as u16)) {
            let sockets = spec.sockets.iter().map(|id| sockets[usize::from(id.0)]).collect();
            let number = Number::Fixed(0);
            new.services.push(ServiceSpec { retired: true, number, sockets, ..spec.clone() });
            return Some(ServiceId(new.services.len() as u16 - 1));
        }
        heir.map(|at| ServiceId(at as u16))
    });
    ids.collect()
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
