//! From the start of the launcher to the first answer, and to 200 workers that are up.

use super::harness::{Answer, Launcher, Marks, Paths, Which, first_answer, median};
use super::table::Table;
use std::path::Path;

const ANSWER_RUNS: usize = 101;
const UP_RUNS: usize = 7;
const MANY: usize = 200;

pub(crate) fn first_answer_row(paths: &Paths, table: &mut Table) -> Answer<()> {
    let once = |which: Which| {
        let launcher = Launcher::start(paths, which, 4, None)?;
        first_answer(launcher.address)?;
        Ok(milliseconds(&launcher))
    };
    for (build, binary) in [("release", Some(&paths.release)), ("dist", paths.dist.as_ref())] {
        if let Some(binary) = binary {
            let (prebind, limit) = in_turns(binary, ANSWER_RUNS, once)?;
            table.ratio(&format!("exec to first answer, {build}, N=4"), prebind, limit, 1.5);
        }
    }
    Ok(())
}

pub(crate) fn up_row(paths: &Paths, table: &mut Table) -> Answer<()> {
    let once = |which: Which| {
        let mut marks = Marks::new(paths)?;
        let launcher = Launcher::start(paths, which, MANY, Some(&marks.path))?;
        marks.wait(MANY)?;
        Ok(milliseconds(&launcher))
    };
    let (prebind, limit) = in_turns(&paths.release, UP_RUNS, once)?;
    table.ratio("200 workers up", prebind, limit, 1.3);
    Ok(())
}

fn milliseconds(launcher: &Launcher) -> f64 {
    launcher.since.elapsed().as_secs_f64() * 1000.0
}

/// The medians of prebind and of the limit, after one run of each that does not count.
fn in_turns(prebind: &Path, runs: usize, once: impl Fn(Which) -> Answer<f64>) -> Answer<(f64, f64)> {
    let (mut measured, mut limit) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let pair = (once(Which::Prebind(prebind))?, once(Which::Limit)?);
        if run > 0 {
            measured.push(pair.0);
            limit.push(pair.1);
        }
    }
    Ok((median(measured), median(limit)))
}
