//! The table of contents: argv -> Plan -> open sockets -> run -> exit code.

use prebind::cli::start::{self, Wish};
use prebind::cli::{self, Asked};
use prebind::control::Level;
use prebind::exit::Exit;
use prebind::linux::{Early, Linux, Log, Parts};
use prebind::notify::Upward;
use prebind::run::run;
use prebind::sockets::{self, Sockets};
use prebind::supervise::{Above, Supervisor};
use std::process::ExitCode;

fn main() -> ExitCode {
    prebind::linux::warm();
    let exit = match cli::choose(std::env::args_os().collect()) {
        Asked::Answered(exit) => exit,
        Asked::DemoWorker => prebind::demo::main(),
        Asked::Run(wish) => launch(wish).unwrap_or_else(|exit| exit),
    };
    exit.into()
}

/// From a wish to the end. `Err`: it never came to running; why was said.
fn launch(wish: Wish) -> Result<Exit, Exit> {
    sockets::seal();
    let (plan, assigned) = start::settle(wish)?;
    let log = Log::new(plan.log);
    let (sockets, remarks) = Sockets::open(&plan, assigned).map_err(start::refused)?;
    let early = Early::new().map_err(|error| start::failed("cannot set up the event loop", error))?;
    let (mut claim, notify) = start::meeting_places(&plan)?;
    let base = start::base(&plan, claim.as_ref(), &notify)?;
    let manager = Upward::from_environment();

    for remark in remarks.iter().map(String::as_str).chain(claim.as_ref().and_then(|claim| claim.remark())) {
        log.say(Level::Warn, "remark", remark.into());
    }
    log.say(Level::Info, "starting", start::summary(&plan, &sockets, claim.as_ref()));

    let mut supervisor =
        Supervisor::new(&plan, Above { present: manager.is_there(), watchdog_ns: manager.watchdog_ns() });
    let control = claim.as_mut().and_then(|claim| claim.take_listener());
    let parts = Parts { plan, sockets, base, control, notify: Some(notify), manager, log };
    let mut linux = Linux::new(early, parts).map_err(|error| start::failed("cannot set up the event loop", error))?;
    let exit = run(&mut supervisor, &mut linux);
    linux.finish();
    Ok(exit)
}
