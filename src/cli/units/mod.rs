//! The door of `--unit`: what front/ may not touch itself. It lends front/units the file system, the machine's specifiers and
//! the answers to conditions, and puts what comes back into the plan.

mod conditions;
mod folders;
mod specifiers;

use crate::front::units::find::STANDARD;
use crate::front::units::{self, Machine, Read, Request};
use crate::plan::{Origin, Plan, Problem, ServiceSpec, SocketSpec};
use folders::Disk;
use specifiers::Specifiers;

/// Reads the units into the plan. `all`: notes are wanted too, not only what is not had. `old`: the plan that runs.
pub(super) fn read(request: &Request, plan: &mut Plan, problems: &mut Vec<Problem>, all: bool, old: Option<&Plan>) {
    let base: ServiceSpec = plan.services.drain(..).next().unwrap_or_default();
    let specifiers = Specifiers::of_this_machine();
    let outside = |letter| specifiers.get(letter);
    let runs = |name: &str| old.is_some_and(|old| runs(old, name));
    let search = search_path();
    let machine =
        Machine { folders: &Disk, search: &search, outside: &outside, holds: &conditions::holds, runs: &runs };
    let Read { sockets, services, socket_commands, remarks, problems: more } = units::read(request, &base, machine);
    (plan.sockets, plan.services, plan.socket_commands) = (sockets, services, socket_commands);
    problems.extend(more);
    let all = all || plan.log.verbosity > 0;
    plan.remarks.extend(remarks.iter().filter(|remark| remark.warning || all).map(ToString::to_string));
}

/// Whether a unit is part of a plan: a service by its name, a socket by the file of one of its lines.
fn runs(plan: &Plan, name: &str) -> bool {
    let service = plan.services.iter().any(|one| one.process.unit && one.name == name && !one.retired);
    let of_unit = |path: &str| {
        let mut parts = path.rsplit('/');
        let (file, folder) = (parts.next(), parts.next());
        file == Some(name) || folder.and_then(|folder| folder.strip_suffix(".d")) == Some(name)
    };
    let line_of = |spec: &SocketSpec| matches!(&spec.origin, Origin::File { name, .. } if of_unit(name));
    service || plan.sockets.iter().any(|spec| !spec.retired && line_of(spec))
}

/// `$SYSTEMD_UNIT_PATH`, at whose end an empty entry stands for systemd's own folders; else those.
fn search_path() -> Vec<String> {
    let standard = || STANDARD.map(String::from);
    let Some(path) = std::env::var("SYSTEMD_UNIT_PATH").ok().filter(|path| !path.is_empty()) else {
        return standard().to_vec();
    };
    let own =
        path.split(':').filter(|folder| !folder.is_empty()).map(|folder| folder.trim_end_matches('/').to_string());
    let more = if path.ends_with(':') { standard().to_vec() } else { Vec::new() };
    own.chain(more).collect()
}
