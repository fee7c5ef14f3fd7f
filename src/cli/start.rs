//! From what was asked on the command line to what the loop needs: the steps between argv and running, and the words
//! for each way in which they can fail.

use crate::control::einhorn::Teller;
use crate::control::{self, Claim};
use crate::exit::Exit;
use crate::front::{circus, units};
use crate::linux::{Kept, State, UNDERSTOOD};
use crate::notify::{Upward, WorkersSocket, kept};
use crate::plan::{
    Address, Change, Command, Facts, Manner, Number, Plan, Problem, ServiceSpec, SocketId, SocketSpec, StartWhen,
    check, keep_inherited, succeed,
};
use crate::sockets::{Added, Assigned, Inherited, SocketError, Sockets};
use crate::spawn::{self, Base};
use crate::supervise::Supervisor;
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::isatty;
use std::fmt::Display;
use std::io::stdin;
use std::net::TcpListener;

/// A command line that asks to run something (or, with `check`, to show what would be run).
#[derive(Debug)]
pub struct Wish {
    /// Not checked yet.
    pub plan: Plan,
    /// What the front door found wrong already.
    pub problems: Vec<Problem>,
    /// `--check`.
    pub check: bool,
    /// `--json`.
    pub json: bool,
    /// `--with-state-fd`.
    pub state_fd: Option<i32>,
    /// `--upgrade-check`.
    pub upgrade_check: bool,
    /// `--unit`: read into the plan before anything else.
    pub units: Option<units::Request>,
    /// `--circus`: likewise.
    pub circus: Option<circus::Request>,
}

/// Takes what was inherited, also what prebind itself left with its manager; checks the plan; with `--check` shows it and
/// ends.
pub fn settle(wish: Wish) -> Result<(Plan, Assigned, Kept), Exit> {
    let (only_check, json) = (wish.check, wish.json);
    let (mut plan, mut problems) = through_the_door(wish, None);
    let mut assigned = Assigned::default();
    let own = plan.sockets.len();
    let mut came = Vec::new();
    match Inherited::take() {
        Ok(mut inherited) => {
            came = inherited.take_named(kept::is_ours);
            let (found, more) = inherited.assign(&mut plan);
            assigned = found;
            problems.extend(more);
            problems.extend(not_for_units(&plan, own));
        }
        Err(problem) => problems.push(problem),
    }
    let nothing_to_run = plan.sockets.is_empty() && plan.services.iter().any(|one| one.command == Command::Demo);
    if nothing_to_run && problems.is_empty() {
        return Err(super::usage_error("no command (prebind [OPTIONS] [--] COMMAND [ARG]..., or -b ADDR alone)"));
    }
    let facts = facts(&plan);
    let remarks = plan.remarks.clone();
    match check(plan, facts) {
        Ok(mut plan) if problems.is_empty() => {
            if only_check {
                super::show_plan(&plan, json);
                return Err(Exit::Done);
            }
            keep_paths(&mut plan);
            let kept = Kept::assign(came, &plan, &mut assigned);
            Ok((plan, assigned, kept))
        }
        Ok(_) => Err(super::refuse_plan(&remarks, &problems, only_check && json)),
        Err(more) => {
            problems.extend(more);
            Err(super::refuse_plan(&remarks, &problems, only_check && json))
        }
    }
}

/// The plan of the files that were asked for, or else that of the command line. `old`: the plan that runs.
fn through_the_door(wish: Wish, old: Option<&Plan>) -> (Plan, Vec<Problem>) {
    let Wish { mut plan, mut problems, check, units, circus, .. } = wish;
    if let Some(request) = &units {
        super::units::read(request, &mut plan, &mut problems, check, old);
    }
    if let Some(request) = &circus {
        super::circus::read(request, &mut plan, &mut problems, check);
    }
    (plan, problems)
}

/// A unit's sockets are those that units name: what else was inherited is for nobody.
fn not_for_units(plan: &Plan, own: usize) -> Option<Problem> {
    let units = plan.services.iter().any(|service| service.process.unit);
    let first = plan.sockets.get(own).filter(|_| units)?;
    let message = format!("inherited socket '{}', and no unit has a socket", first.name);
    Some(Problem::new(first.origin.clone(), message).remedy("start prebind without LISTEN_FDS"))
}

/// A manager that keeps our sockets gives them back after a restart: they must still be found at their paths then.
fn keep_paths(plan: &mut Plan) {
    if Upward::from_environment().keeps() {
        let sockets = plan.sockets.iter_mut();
        let at_paths = sockets.filter(|spec| matches!(spec.address, Address::Unix(_)));
        at_paths.for_each(|spec| spec.options.keep_path = true);
    }
}

/// What goes on in the place of the program before.
#[derive(Debug)]
pub struct Taken {
    /// The plan as it is read now, or, where that is refused, the one that ran.
    pub plan: Plan,
    /// What it changed.
    pub change: Change,
    /// Sockets that it added.
    pub added: Added,
    /// Everything else.
    pub state: State,
    /// Its decisions go on.
    pub supervisor: Supervisor,
    /// Why the plan that is read now is not the one that runs.
    pub refused: Option<String>,
}

/// Takes another program's place: its state, and the plan as it is read now. With `--upgrade-check` only says whether it
/// could.
pub fn take_over(wish: Wish, fd: i32) -> Result<Taken, Exit> {
    let refused = |why: String| failed("cannot take prebind's place", why);
    let state = State::read(fd).map_err(refused)?;
    // A script between that loses --upgrade-check does not make a second master of the dry run.
    let only_check = wish.upgrade_check || !state.is_ours();
    let mut supervisor = state.supervisor().map_err(refused)?;
    let next = next_plan(wish, &state, &supervisor);
    let (plan, change, added, why) = match next {
        Ok((_, _, added)) if only_check => {
            added.undo();
            super::say(UNDERSTOOD);
            return Err(Exit::Done);
        }
        Err(why) if only_check => {
            why.iter().for_each(|line| super::say_error(line));
            return Err(Exit::Plan);
        }
        Ok((plan, change, added)) => (plan, change, added, None),
        // It was fine a moment ago. Everything goes on as it was.
        Err(why) => {
            let plan = state.plan().clone();
            (plan.clone(), Change::none(&plan), Added::default(), Some(why.join("; ")))
        }
    };
    supervisor.go_on(state.plan(), &plan, &change);
    Ok(Taken { plan, change, added, state, supervisor, refused: why })
}

/// The plan as it is read now, what it changes, and the sockets that it adds; or every problem.
fn next_plan(wish: Wish, state: &State, supervisor: &Supervisor) -> Result<(Plan, Change, Added), Vec<String>> {
    let lines = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<String>>();
    let (mut plan, mut problems) = through_the_door(wish, Some(state.plan()));
    keep_inherited(state.plan(), &mut plan);
    let facts = facts(&plan);
    let checked = check(plan, facts);
    let mut plan = match checked {
        Ok(plan) if problems.is_empty() => plan,
        Ok(_) => return Err(lines(problems)),
        Err(more) => {
            problems.extend(more);
            return Err(lines(problems));
        }
    };
    // A unit whose user is not there fails alone, when it starts.
    let told = plan.services.iter().filter(|service| !service.process.unit);
    let unknown: Vec<String> = told.filter_map(|service| Some(spawn::worker_ids(service).err()?.to_string())).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    keep_paths(&mut plan);
    let has_workers = |id| supervisor.has_workers(id);
    let (mut plan, change) = succeed(state.plan(), plan, &has_workers).map_err(lines)?;
    change.mark_added(&mut plan, supervisor.next_child());
    let added = state.open_added(&plan, &change);
    let added = added.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<String>>())?;
    Ok((plan, change, added))
}

/// What `check` has to know. Asking for the CPUs means reading the cgroups: only where somebody wants to know.
fn facts(plan: &Plan) -> Facts {
    let auto = plan.services.iter().any(|service| service.number == Number::Auto) || plan.manner == Manner::Einhorn;
    Facts { cpus: if auto { cpus() } else { 1 }, pid1: std::process::id() == 1 }
}

/// The CPUs that this process may use.
fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

/// Sockets that could not be opened, each on its line.
pub fn refused(errors: Vec<SocketError>) -> Exit {
    for error in errors {
        super::say_error(&error);
    }
    Exit::System
}

/// Something that the system refused.
pub fn failed(what: &str, why: impl Display) -> Exit {
    super::say_error(&format_args!("{what}: {why}"));
    Exit::System
}

/// The control socket and the workers' notify socket. Root's are for workers of any uid: made so by umask, which saves
/// changing their modes afterwards.
pub fn meeting_places(plan: &Plan) -> Result<(Option<Claim>, WorkersSocket), Exit> {
    let root = nix::unistd::geteuid().is_root();
    // einhorn's control socket has the mode that the umask leaves, and whoever may connect may ask for anything.
    let einhorn = plan.manner == Manner::Einhorn;
    let early = if einhorn { Some(claim(plan)?) } else { None };
    let before = root.then(|| umask(Mode::empty()));
    let made = early.map_or_else(|| claim(plan), Ok);
    let made = made.and_then(|claim| Ok((notify_socket(plan, claim.as_ref())?, claim)));
    before.map(umask);
    made.map(|(notify, mut claim)| {
        if einhorn && let Some(claim) = &mut claim {
            claim.let_lockfile_go();
        }
        (claim, notify)
    })
}

/// The control socket, lock and pid file.
fn claim(plan: &Plan) -> Result<Option<Claim>, Exit> {
    let name = plan.services.first().map_or("prebind", |service| stem(service));
    let name = plan.identity.stem.as_deref().unwrap_or(name);
    control::claim(&plan.identity, name, &|key| std::env::var_os(key)).map_err(|error| {
        super::say_error(&error);
        Exit::System
    })
}

/// What a service's prebind is called where `-c` does not say: of a unit its name without the type.
fn stem(service: &ServiceSpec) -> &str {
    let name = service.name.as_str();
    if !service.process.unit {
        return name;
    }
    let stem = name.strip_suffix(".service").unwrap_or(name);
    Some(stem.trim_end_matches('@')).filter(|stem| !stem.is_empty()).unwrap_or(name)
}

/// Where the workers say READY=1: reachable for whatever uid they run as.
fn notify_socket(plan: &Plan, claim: Option<&Claim>) -> Result<WorkersSocket, Exit> {
    let ids = plan.services.iter().filter_map(|service| match spawn::worker_ids(service) {
        Err(_) if service.process.unit => None,
        ids => ids.transpose(),
    });
    let ids: Vec<(u32, u32)> = ids.collect::<Result<_, _>>().map_err(|error| {
        super::say_error(&error);
        Exit::System
    })?;
    WorkersSocket::bind(claim.and_then(Claim::path), &ids)
        .map_err(|error| failed("cannot bind the workers' notify socket", error))
}

/// What is the same for every worker.
pub fn base(plan: &Plan, claim: Option<&Claim>, notify: Option<&WorkersSocket>) -> Result<Base, Exit> {
    let base = Base::of_this_process().map_err(|error| failed("cannot tell where prebind was started", error))?;
    // einhorn's workers inherit it as it is.
    let may_read = plan.lends_terminal() || plan.manner == Manner::Einhorn;
    Ok(Base {
        nofile: spawn::raise_nofile(),
        control_path: claim.and_then(Claim::path).map(Into::into),
        notify_address: notify.map(|notify| notify.address().to_owned()),
        stdin_null: isatty(stdin()).unwrap_or(false) && !may_read,
        // einhorn drops them when it replaces itself, not before.
        drops_done: plan.manner == Manner::Einhorn,
        ..base
    })
}

/// Where probes are answered. What the last prebind left of the file that probes look for goes.
pub fn health(plan: &Plan) -> Result<Option<TcpListener>, Exit> {
    let _ = plan.entry.health_file.as_ref().map(std::fs::remove_file);
    let Some(address) = plan.entry.health_listen else { return Ok(None) };
    TcpListener::bind(address).map(Some).map_err(|error| {
        super::say_error(&no_health(plan, &error));
        Exit::System
    })
}

/// Why probes are not answered.
pub fn no_health(plan: &Plan, error: &std::io::Error) -> String {
    let address = plan.entry.health_listen.map_or(String::new(), |address| address.to_string());
    let why =
        error.raw_os_error().map_or_else(|| error.to_string(), |errno| Errno::from_raw(errno).desc().to_lowercase());
    format!("--health-listen: cannot bind {address}: {why}")
}

/// prebind's own priority.
pub fn renice(plan: &Plan) -> Result<(), Exit> {
    let Some(level) = plan.own_nice else { return Ok(()) };
    spawn::renice_self(level).map_err(|error| failed(&format!("cannot take priority {level}"), error))
}

/// Counts the first service's workers for einhorn's log.
pub fn teller(plan: &Plan, supervisor: &Supervisor) -> Teller {
    let number = supervisor.number();
    plan.services.first().map_or_else(Teller::default, |service| Teller::new(service, number))
}

/// Lines for the log: what starts, each service on its own sockets, and how it is reached.
pub fn summary(plan: &Plan, sockets: &Sockets, claim: Option<&Claim>) -> Vec<String> {
    let facts = (0..plan.sockets.len()).map(|n| sockets.facts(SocketId(n as u16)));
    if plan.manner == Manner::Einhorn {
        let pidfile = plan.identity.pidfile.iter().map(|path| format!("Writing PID to {}", path.display()));
        let flags = |spec: &SocketSpec| {
            let flags = [("r", spec.options.reuse_address), ("n", spec.options.nonblock)];
            flags.iter().filter(|(_, set)| *set).map(|(flag, _)| (*flag).to_string()).collect::<Vec<String>>()
        };
        let bound = facts.zip(&plan.sockets);
        let bound = bound.map(|(facts, spec)| format!("Binding to {} with flags {:?}", facts.address, flags(spec)));
        return pidfile.chain(bound).collect();
    }
    let addresses: Vec<String> = facts.map(|facts| format!("{}={}", facts.name, facts.address)).collect();
    let control = claim.and_then(Claim::path).map_or(String::new(), |path| format!(", control {}", path.display()));
    vec![format!("{} (pid {}{control})", what_starts(plan, &addresses), std::process::id())]
}

/// Each service with the addresses of its sockets; those that no service gets are open as well.
fn what_starts(plan: &Plan, addresses: &[String]) -> String {
    let on = |ids: &[SocketId]| {
        let own: Vec<&str> = ids.iter().map(|id| addresses[usize::from(id.0)].as_str()).collect();
        if own.is_empty() { String::new() } else { format!(" on {}", own.join(" ")) }
    };
    let services = plan.services.iter().map(|service| {
        let number = service.number.get();
        let workers = if number == 1 { "1 worker".to_string() } else { format!("{number} workers") };
        let when = match service.start {
            StartWhen::OnTraffic { also_at_once: false, .. } => format!("{workers} at the first traffic"),
            StartWhen::PerConnection { .. } => "a worker for each connection".into(),
            StartWhen::AtOnce | StartWhen::OnTraffic { .. } => workers,
        };
        format!("{}: {when}{}", service.name, on(&service.sockets))
    });
    let services: Vec<String> = services.collect();
    let all = (0..addresses.len()).map(|n| SocketId(n as u16));
    let unused: Vec<SocketId> =
        all.filter(|id| !plan.services.iter().any(|service| service.sockets.contains(id))).collect();
    let unused = if unused.is_empty() { String::new() } else { format!("; nothing{}", on(&unused)) };
    format!("{}{unused}", services.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_is_said_with_its_own_sockets() {
        let service = |name: &str, number, sockets: &[u16]| ServiceSpec {
            name: name.into(),
            number: Number::Fixed(number),
            sockets: sockets.iter().map(|n| SocketId(*n)).collect(),
            ..ServiceSpec::default()
        };
        let addresses = ["a=:1", "b=:2", "c=:3"].map(String::from);
        for (services, said) in [
            (vec![service("w", 1, &[0, 1, 2])], "w: 1 worker on a=:1 b=:2 c=:3"),
            (
                vec![service("w", 2, &[2]), service("x", 1, &[])],
                "w: 2 workers on c=:3, x: 1 worker; nothing on a=:1 b=:2",
            ),
            (
                vec![service("w", 1, &[0, 1]), service("x", 1, &[1, 2])],
                "w: 1 worker on a=:1 b=:2, x: 1 worker on b=:2 c=:3",
            ),
        ] {
            assert_eq!(what_starts(&Plan { services, ..Plan::default() }, &addresses), said);
        }
        let alone = Plan { services: vec![service("w", 1, &[])], ..Plan::default() };
        assert_eq!(what_starts(&alone, &[]), "w: 1 worker");
    }
}
