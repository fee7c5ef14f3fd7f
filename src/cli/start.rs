//! From what was asked on the command line to what the loop needs: the steps between argv and running, and the words
//! for each way in which they can fail.

use crate::control::einhorn::Teller;
use crate::control::{self, Claim};
use crate::exit::Exit;
use crate::front::units::Request;
use crate::linux::{Kept, State, UNDERSTOOD};
use crate::notify::{Upward, WorkersSocket, kept};
use crate::plan::{
    Address, Change, Command, Facts, Manner, Number, Plan, Problem, ServiceSpec, SocketSpec, StartWhen, check,
    keep_inherited, succeed,
};
use crate::sockets::{Added, Assigned, Inherited, SocketError, Sockets};
use crate::spawn::{self, Base};
use crate::supervise::Supervisor;
use nix::sys::stat::{Mode, umask};
use nix::unistd::isatty;
use std::fmt::Display;
use std::io::stdin;

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
    pub units: Option<Request>,
}

/// Takes what was inherited, also what prebind itself left with its manager; checks the plan; with `--check` shows it and
/// ends.
pub fn settle(wish: Wish) -> Result<(Plan, Assigned, Kept), Exit> {
    let Wish { mut plan, mut problems, check: only_check, json, units, .. } = wish;
    if let Some(request) = &units {
        super::units::read(request, &mut plan, &mut problems, only_check, None);
    }
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
        Ok(_) => Err(super::refuse_plan(&problems, only_check && json)),
        Err(more) => {
            problems.extend(more);
            Err(super::refuse_plan(&problems, only_check && json))
        }
    }
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
    let Wish { mut plan, mut problems, units, .. } = wish;
    if let Some(request) = &units {
        super::units::read(request, &mut plan, &mut problems, false, Some(state.plan()));
    }
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
    let unknown = plan.services.iter().filter_map(|service| spawn::worker_ids(service).err());
    let unknown: Vec<String> = unknown.map(|error| error.to_string()).collect();
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
    let ids = plan.services.iter().filter_map(|service| spawn::worker_ids(service).transpose());
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

/// Lines for the log: what starts on which sockets, and how it is reached.
pub fn summary(plan: &Plan, sockets: &Sockets, claim: Option<&Claim>) -> Vec<String> {
    let count = plan.sockets.len();
    let facts = (0..count).map(|n| sockets.facts(crate::plan::SocketId(n as u16)));
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
    let services = plan.services.iter().map(|service| {
        let number = service.number.get();
        let workers = if number == 1 { "1 worker".to_string() } else { format!("{number} workers") };
        let when = match service.start {
            StartWhen::OnTraffic { also_at_once: false, .. } => format!("{workers} at the first traffic"),
            StartWhen::PerConnection { .. } => "a worker for each connection".into(),
            StartWhen::AtOnce | StartWhen::OnTraffic { .. } => workers,
        };
        format!("{}: {when}", service.name)
    });
    let services: Vec<String> = services.collect();
    let addresses: Vec<String> = facts.map(|facts| format!("{}={}", facts.name, facts.address)).collect();
    let on = if count == 0 { String::new() } else { format!(" on {}", addresses.join(" ")) };
    let control = claim.and_then(Claim::path).map_or(String::new(), |path| format!(", control {}", path.display()));
    vec![format!("{}{on} (pid {}{control})", services.join(", "), std::process::id())]
}
