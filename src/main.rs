//! The table of contents: argv -> Plan -> open sockets -> run -> exit code.
//!
//! The C library enters it without std's own start, which reads /proc/self/maps for the sake of a message about stack
//! overflows: a tenth of the time to the first answer. Where only that start is told the arguments (musl), and by a
//! test harness, it is used.

#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

use prebind::cli::start::{self, Wish};
use prebind::cli::{self, Asked};
use prebind::control::Level;
use prebind::exit::Exit;
use prebind::linux::{Early, Linux, Log, Own, Parts, State, run_socket_commands};
use prebind::notify::Upward;
use prebind::plan::{Plan, Step};
use prebind::run::{run, run_from};
use prebind::sockets::{self, Sockets};
use prebind::spawn::Base;
use prebind::supervise::{Above, Supervisor};

#[cfg(all(target_env = "gnu", not(test)))]
#[allow(unsafe_code)] // The name, which nothing else in the program has.
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    prebind::linux::begin();
    std::process::exit(program().code().into())
}

#[cfg(not(all(target_env = "gnu", not(test))))]
fn main() -> std::process::ExitCode {
    program().into()
}

fn program() -> Exit {
    match cli::choose(std::env::args_os().collect()) {
        Asked::Answered(exit) => exit,
        Asked::DemoWorker => prebind::demo::main(),
        Asked::Run(wish) => {
            let manner = wish.plan.manner;
            cli::exit_in(manner, launch(*wish).unwrap_or_else(|exit| exit))
        }
    }
}

/// From a wish to the end. `Err`: it never came to running; why was said.
fn launch(wish: Wish) -> Result<Exit, Exit> {
    sockets::seal();
    if let Some(fd) = wish.state_fd {
        return resume(wish, fd);
    }
    let own = Own::of_this_process();
    let (plan, assigned, mut kept) = start::settle(wish)?;
    let log = Log::new(plan.log, plan.manner);
    let manager = Upward::from_environment();
    if let Err(error) = kept.let_go(&manager) {
        let message = format!("the manager above ($NOTIFY_SOCKET) may keep sockets that nobody asks for: {error}");
        log.say(Level::Warn, "manager_unreachable", message);
    }
    around_sockets(&plan, Step::StartPre)?;
    let (sockets, remarks) = Sockets::open(&plan, assigned).map_err(start::refused)?;
    around_sockets(&plan, Step::StartPost)?;
    let early = Early::new(None, &plan).map_err(|error| start::failed("cannot set up the event loop", error))?;
    let (mut claim, notify) = start::meeting_places(&plan)?;
    let base = start::base(&plan, claim.as_ref(), Some(&notify))?;

    let health = start::health(&plan)?;

    start::renice(&plan)?;
    let known = prebind::plan::remarks(&plan);
    let said = plan.remarks.iter().chain(&known).chain(&remarks).map(String::as_str);
    for remark in said.chain(claim.as_ref().and_then(|claim| claim.remark())) {
        log.say(Level::Warn, "remark", remark.into());
    }
    for line in start::summary(&plan, &sockets, claim.as_ref()) {
        log.say(Level::Info, "starting", line);
    }

    let mut supervisor =
        Supervisor::new(&plan, Above { present: manager.is_there(), watchdog_ns: manager.watchdog_ns() });
    let teller = start::teller(&plan, &supervisor);
    let control = claim.as_mut().and_then(|claim| claim.take_listener());
    let parts = Parts { plan, sockets, base, control, notify: Some(notify), manager, log, claim, own, teller, health };
    let mut linux = Linux::new(early, parts).map_err(|error| start::failed("cannot set up the event loop", error))?;
    linux.take_back(kept);
    let exit = run(&mut supervisor, &mut linux);
    Ok(close(linux, exit))
}

/// In the place of another program: everything that it held goes on.
fn resume(wish: Wish, fd: i32) -> Result<Exit, Exit> {
    let failed = |why: String| start::failed("cannot take prebind's place", why);
    let start::Taken { plan, change, added, mut state, mut supervisor, refused } = start::take_over(wish, fd)?;
    State::close(fd);
    let mut log = Log::new(plan.log, plan.manner);
    log.shift(state.log_shifted());
    let early = Early::new(Some(state.keeps_hup()), &plan).map_err(|error| failed(error.to_string()))?;
    let own = state.own();
    // What was said when it started is not said again.
    let mut said: Vec<String> =
        plan.remarks.iter().filter(|one| !state.plan().remarks.contains(one)).cloned().collect();
    let known = prebind::plan::remarks(state.plan());
    said.extend(prebind::plan::remarks(&plan).into_iter().filter(|one| !known.contains(one)));
    let (sockets, remarks) = state.sockets(&plan, &change, added).map_err(failed)?;
    let (claim, notify) = state.places().map_err(failed)?;
    let base = start::base(&plan, claim.as_ref(), notify.as_ref())?;
    let base = Base { nofile: state.nofile().or(base.nofile), drops_done: true, ..base };
    let manager = Upward::from_environment();
    said.extend(remarks);
    for remark in said {
        log.say(Level::Warn, "remark", remark);
    }
    let health = state.health(plan.entry.health_listen).unwrap_or_else(|error| {
        log.say(Level::Error, "health_listen", start::no_health(&plan, &error));
        None
    });
    let teller = state.teller();
    let parts = Parts { plan, sockets, base, control: None, notify, manager, log, claim, own, teller, health };
    let resumed = Linux::resume(early, parts, state, &change, refused);
    let (mut linux, events) = resumed.map_err(|error| failed(error.to_string()))?;
    let exit = run_from(&mut supervisor, &mut linux, events);
    Ok(close(linux, exit))
}

/// Commands around sockets, at the start: one that fails ends it.
fn around_sockets(plan: &Plan, step: Step) -> Result<(), Exit> {
    match run_socket_commands(plan, step)[..] {
        [] => Ok(()),
        [ref first, ..] => Err(start::failed("cannot open the sockets", first)),
    }
}

/// The end: what is around the sockets runs before and after they are closed.
fn close(mut linux: Linux, exit: Exit) -> Exit {
    linux.finish();
    let plan = linux.plan().clone();
    let mut wrong = run_socket_commands(&plan, Step::Stop);
    drop(linux);
    wrong.extend(run_socket_commands(&plan, Step::StopPost));
    for why in &wrong {
        start::failed("after the sockets", why);
    }
    match exit {
        Exit::Code(_) | Exit::Signal(_) => Exit::Code(plan.entry.exit_code(exit.code())),
        _ => exit,
    }
}
