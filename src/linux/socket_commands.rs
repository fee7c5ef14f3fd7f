//! The commands around the sockets of units: at the start and at the end of everything, one after the other, each within its
//! time. Nothing else goes on meanwhile.

use super::group::pidfd_open;
use crate::plan::{Nanos, Plan, ServiceId, Step};
use crate::sockets::{Assigned, Sockets};
use crate::spawn::{Base, Copy, Part, launch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::time::Duration;

/// Runs those of one step. What went wrong, a line each; a command that fails ends the list of its unit.
pub fn run_socket_commands(plan: &Plan, step: Step) -> Vec<String> {
    let mut wrong = Vec::new();
    if plan.socket_commands.is_empty() {
        return wrong;
    }
    // They get no sockets: a plan of their own has none.
    let own = Plan { services: plan.socket_commands.clone(), ..Plan::default() };
    let (base, sockets) = match (Base::of_this_process(), Sockets::open(&own, Assigned::default())) {
        (Ok(base), Ok((sockets, _))) => (base, sockets),
        (Err(error), _) => return vec![format!("cannot tell where prebind was started: {error}")],
        (_, Err(errors)) => return errors.iter().map(ToString::to_string).collect(),
    };
    for (service, id) in own.services.iter().zip(0..) {
        let commands = service.steps.iter().filter(|one| one.step == step);
        let failed = commands.zip(0..).find_map(|(command, at)| {
            let why = run(&base, &own, &sockets, (ServiceId(id), step, at)).err()?;
            (!command.exec.may_fail).then(|| format!("{}: {}: {why}", command.exec.origin, service.name))
        });
        wrong.extend(failed);
    }
    wrong
}

fn run(base: &Base, plan: &Plan, sockets: &Sockets, which: (ServiceId, Step, u16)) -> Result<(), String> {
    let (service, step, at) = which;
    let copy = Copy {
        service,
        slot: 0,
        generation: 1,
        index: 0,
        control_fd: None,
        terminal: None,
        part: Part::Step(step, at),
        connection: None,
        stored: &[],
        invocation: super::units::new_invocation(),
        cgroup: None,
        main_pid: None,
        outcome: None,
    };
    let launched = launch(base, plan, sockets, &copy).map_err(|error| error.to_string())?;
    let pid = Pid::from_raw(launched.pid);
    if !ends_within(launched.pid, plan.service(service).start_timeout_ns) {
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
        return Err("a command did not end in time (TimeoutSec=)".into());
    }
    match waitpid(pid, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(_, code)) => Err(format!("a command exited with {code}")),
        Ok(WaitStatus::Signaled(_, signal, _)) => Err(format!("a command was killed by {signal}")),
        Ok(_) | Err(_) => Err("a command ended unseen".into()),
    }
}

/// Where the kernel has no pidfd it is waited for without a limit.
fn ends_within(pid: i32, limit_ns: Nanos) -> bool {
    let Some(fd) = pidfd_open(pid) else { return true };
    let limit = PollTimeout::try_from(Duration::from_nanos(limit_ns)).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], limit) != Ok(0)
}
