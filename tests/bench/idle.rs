//! Ten seconds with four ready workers and nothing to do.

use super::harness::{Answer, DEADLINE, Launcher, Marks, Paths, Which, proc_number, signal, until};
use super::table::Table;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const IDLE: Duration = Duration::from_secs(10);

pub(crate) fn rows(paths: &Paths, table: &mut Table) -> Answer<()> {
    let calls = system_calls(paths)?;
    table.row("10 s idle: system calls", &calls.to_string(), "-", "-", "0", calls == 0);
    let launcher = at_rest(paths)?;
    let before = switches(launcher.pid())?;
    sleep(IDLE);
    let switched = switches(launcher.pid())? - before;
    table.row("10 s idle: context switches", &switched.to_string(), "-", "-", "0", switched == 0);
    Ok(())
}

fn at_rest(paths: &Paths) -> Answer<Launcher> {
    let mut marks = Marks::new(paths)?;
    let launcher = Launcher::start(paths, Which::Prebind(&paths.release), 4, Some(&marks.path))?;
    marks.wait(4)?;
    launcher.wait_ready(4)?;
    // Beyond every grace time.
    sleep(Duration::from_secs(3));
    Ok(launcher)
}

fn switches(pid: i32) -> Answer<u64> {
    let one = |name| proc_number(pid, "status", name);
    Ok(one("voluntary_ctxt_switches")? + one("nonvoluntary_ctxt_switches")?)
}

/// Counted with -f and by line. The call that it sleeps in is shown once at the attach: that one is not counted.
fn system_calls(paths: &Paths) -> Answer<usize> {
    let launcher = at_rest(paths)?;
    let trace = paths.scratch.join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-p", &launcher.pid().to_string(), "-o"])
        .arg(&trace)
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("strace: {e}"))?;
    let attached = until(|| proc_number(launcher.pid(), "status", "TracerPid").is_ok_and(|tracer| tracer != 0));
    sleep(IDLE);
    signal(strace.id().cast_signed(), libc::SIGINT);
    strace.wait().map_err(|e| format!("strace: {e}"))?;
    attached.map_err(|_| format!("strace did not attach within {} s", DEADLINE.as_secs()))?;
    let text = fs::read_to_string(&trace).map_err(|e| format!("{}: {e}", trace.display()))?;
    let calls: Vec<&str> = text.lines().filter(|line| line.contains('(')).collect();
    for call in &calls {
        eprintln!("     {call}");
    }
    Ok(calls.len().saturating_sub(1))
}
