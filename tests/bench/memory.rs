//! What the launcher itself takes: PSS and anonymous memory, with few workers and with many.

use super::harness::{Answer, Launcher, Marks, Paths, Which, proc_number, until};
use super::table::Table;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

pub(crate) fn rows(paths: &Paths, table: &mut Table) -> Answer<()> {
    for (build, binary) in [("release", Some(&paths.release)), ("dist", paths.dist.as_ref())] {
        let Some(binary) = binary else {
            table.row("PSS and anonymous memory, dist", "no build of it", "-", "-", "see tests/bench/dist", false);
            continue;
        };
        for (workers, pss_must) in [(4, 2048.0), (200, 2560.0)] {
            let (pss, anonymous) = at_rest(paths, binary, workers)?;
            let name = format!("PSS, {build}, {workers} workers");
            match build {
                "dist" => table.at_most(&name, pss, pss_must, "KiB"),
                _ => eprintln!("     {name}: {pss} KiB (no bound)"),
            }
            let must = 512.0 + 0.5 * f64::from(workers);
            table.at_most(&format!("anonymous, {build}, {workers} workers"), anonymous, must, "KiB");
        }
    }
    Ok(())
}

fn at_rest(paths: &Paths, binary: &Path, workers: u32) -> Answer<(f64, f64)> {
    let mut marks = Marks::new(paths)?;
    let launcher = Launcher::start(paths, Which::Prebind(binary), workers as usize, Some(&marks.path))?;
    marks.wait(workers as usize)?;
    sleep(Duration::from_millis(500));
    // Measured before anybody asks: a status of 200 workers takes memory of its own.
    let figure = |name| proc_number(launcher.pid(), "smaps_rollup", name);
    let (pss, anonymous) = (figure("Pss")?, figure("Anonymous")?);
    let ready = launcher.ready()?;
    if ready != workers as usize {
        return Err(format!("{ready} of {workers} workers are ready"));
    }
    Ok((pss as f64, anonymous as f64))
}

/// 2 000 workers of sleep, ready by time alone, then told to stop.
pub(crate) fn many_row(paths: &Paths, table: &mut Table) -> Answer<()> {
    const MANY: usize = 2000;
    let anonymous = |launcher: &Launcher| proc_number(launcher.pid(), "smaps_rollup", "Anonymous");
    let few = Launcher::start_command(paths, Which::Prebind(&paths.release), 1, None, &["sleep", "1000"])?;
    few.wait_ready(1)?;
    let base = anonymous(&few)?;
    drop(few);
    let mut launcher = Launcher::start_command(paths, Which::Prebind(&paths.release), MANY, None, &["sleep", "1000"])?;
    let children = format!("/proc/{0}/task/{0}/children", launcher.pid());
    until(|| fs::read_to_string(&children).is_ok_and(|pids| pids.split_whitespace().count() == MANY))?;
    let up = launcher.since.elapsed();
    // Past the grace time, and before the first question: answering would grow what is measured.
    sleep(Duration::from_secs(3));
    let taken = anonymous(&launcher)?;
    launcher.wait_ready(MANY)?;
    let stopped = launcher.stop()?;
    let each = taken.saturating_sub(base) as f64 / MANY as f64;
    let measured = format!(
        "{each:.2} KiB a worker, started in {:.1} s, stopped in {:.1} s",
        up.as_secs_f64(),
        stopped.as_secs_f64()
    );
    table.row("2 000 workers of sleep, then stop", &measured, "-", "-", "works", true);
    Ok(())
}
