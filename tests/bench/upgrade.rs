//! Upgrades, and slots, under load.

use super::harness::{Answer, Launcher, Paths, Which, first_answer, median};
use super::load::{Load, Seen, quantile};
use super::table::Table;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;
const UPGRADES_A_ROUND: usize = 17;
const NO_PAUSE: Duration = Duration::ZERO;

/// The whole upgrade, or what was said instead.
fn upgrade(launcher: &Launcher, strategy: &str, wait: &str) -> Answer<Duration> {
    let begun = Instant::now();
    let options = format!("{{\"strategy\":\"{strategy}\",\"wait\":\"{wait}\"}}");
    done(launcher, &format!("{{\"command\":\"upgrade\",\"id\":1,\"options\":{options}}}"))?;
    Ok(begun.elapsed())
}

fn done(launcher: &Launcher, request: &str) -> Answer<()> {
    let reply = launcher.request(request)?;
    if reply.contains("\"ok\":true") { Ok(()) } else { Err(reply) }
}

/// 51 upgrades under 32 clients that connect anew and 32 that keep their connections.
pub(crate) fn under_load_rows(paths: &Paths, table: &mut Table) -> Answer<()> {
    let launcher = Launcher::prebind(paths, "", &["-n", "4"], &[])?;
    launcher.wait_ready(4)?;
    let load = Load::start(launcher.address, 32, 32, NO_PAUSE);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..UPGRADES_A_ROUND {
            upgrade(&launcher, "rolling", "drained")?;
        }
        let middle = Instant::now();
        std::thread::sleep(middle - begun);
        rounds.push((begun, middle, Instant::now()));
    }
    let seen = load.stop();
    losses(table, &format!("{} upgrades of 4 under 32 + 32 clients", ROUNDS * UPGRADES_A_ROUND), &seen);
    let slow = |from, to| 1000.0 * quantile(&seen.between(from, to), 0.999);
    let ratios: Vec<f64> = rounds.iter().map(|(from, middle, to)| slow(*from, *middle) / slow(*middle, *to)).collect();
    let quiet = median(rounds.iter().map(|(_, middle, to)| slow(*middle, *to)).collect());
    table.ratio("p99.9 while upgrading, to quiet", median(ratios) * quiet, quiet, 3.0);
    Ok(())
}

/// prebind replaced in place again and again, ten times while an upgrade goes on.
pub(crate) fn reexec_rows(paths: &Paths, table: &mut Table) -> Answer<()> {
    let launcher = Launcher::prebind(paths, "", &["-n", "4"], &[])?;
    launcher.wait_ready(4)?;
    let count = || std::fs::read_dir(format!("/proc/{}/fd", launcher.pid())).map_or(0, Iterator::count);
    // Without the connection that asked last, which is closed a moment after its answer.
    let open = || {
        let counts = (0..30).map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            count()
        });
        counts.min().unwrap_or_default()
    };
    let reexec = || done(&launcher, "{\"command\":\"reexec\",\"id\":1}");
    reexec()?;
    let (before, pid) = (open(), launcher.pid());
    let load = Load::start(launcher.address, 32, 32, NO_PAUSE);
    for n in 0..100 {
        if n % 10 == 0 {
            done(&launcher, "{\"command\":\"upgrade\",\"id\":1,\"options\":{\"wait\":\"no\"}}")?;
        }
        reexec()?;
    }
    launcher.wait_ready(4)?;
    let seen = load.stop();
    losses(table, "100 re-execs under 32 + 32 clients, 10 during an upgrade", &seen);
    let after = open();
    let status = launcher.request("{\"command\":\"status\",\"id\":1}")?;
    // 40 by the upgrades, and nobody else.
    let same = status.contains(&format!("\"pid\":{pid},")) && status.contains("\"restarts\":40,");
    let same = same && (1..=before).contains(&after);
    let shown = format!("{before} -> {after} descriptors");
    table.row("same pid, no worker restarted by it, no descriptor more", &shown, "-", "-", "same", same);
    Ok(())
}

fn losses(table: &mut Table, name: &str, seen: &Seen) {
    let answers = seen.answers.len();
    let measured = format!("{} of {answers}", seen.losses());
    table.row(name, &measured, "-", "-", "0 lost", seen.lost() == 0 && answers > 0);
}

/// Upgrades of workers that are ready at once, to one bare start of such a worker.
pub(crate) fn quick_rows(paths: &Paths, table: &mut Table) -> Answer<()> {
    let worker = paths.worker.to_string_lossy().into_owned();
    let bare = || -> Answer<f64> {
        let launcher = Launcher::start(paths, Which::Limit, 1, None)?;
        first_answer(launcher.address)?;
        Ok(launcher.since.elapsed().as_secs_f64() * 1000.0)
    };
    let launcher = Launcher::prebind(paths, "", &["-n", "4", "--", &worker], &[])?;
    launcher.wait_ready(4)?;
    for (strategy, must) in [("rolling", 20.0), ("fleet", 8.0)] {
        let (mut took, mut limit) = (Vec::new(), Vec::new());
        for _ in 0..21 {
            took.push(upgrade(&launcher, strategy, "told")?.as_secs_f64() * 1000.0);
            limit.push(bare()?);
        }
        table.ratio(&format!("upgrade of 4 ready at once, {strategy}"), median(took), median(limit), must);
    }
    Ok(())
}

/// Workers that need 300 ms to be ready.
pub(crate) fn slow_rows(paths: &Paths, table: &mut Table) -> Answer<()> {
    let worker = paths.worker.to_string_lossy().into_owned();
    let launcher = Launcher::prebind(paths, "", &["-n", "4", "--", &worker], &[("BENCH_READY_MS", "300")])?;
    launcher.wait_ready(4)?;
    let load = Load::start(launcher.address, 8, 0, Duration::from_millis(2));
    let (mut took, mut ratios, mut quiets) = (Vec::new(), Vec::new(), Vec::new());
    let mut spans = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        took.push(upgrade(&launcher, "fleet", "drained")?.as_secs_f64() * 1000.0);
        let middle = Instant::now();
        std::thread::sleep(middle - begun);
        spans.push((begun, middle, Instant::now()));
    }
    let seen = load.stop();
    for (from, middle, to) in spans {
        let quiet = 1000.0 * quantile(&seen.between(middle, to), 1.0);
        ratios.push(1000.0 * quantile(&seen.between(from, middle), 1.0) / quiet);
        quiets.push(quiet);
    }
    table.at_most("fleet upgrade of 4 that need 300 ms", median(took), 400.0, "ms");
    let quiet = median(quiets);
    table.ratio("slowest answer meanwhile, to quiet", median(ratios) * quiet, quiet, 3.0);
    Ok(())
}

/// Sockets for each slot: restarts and changes of the number under load, and how even the load is.
pub(crate) fn slots_rows(paths: &Paths, table: &mut Table) -> Answer<()> {
    let launcher = Launcher::prebind(paths, ",slots", &["-n", "4"], &[])?;
    launcher.wait_ready(4)?;
    let mut counts = std::collections::BTreeMap::<i32, usize>::new();
    for _ in 0..2000 {
        *counts.entry(slot_of(&launcher)?).or_default() += 1;
    }
    let most = counts.values().max().copied().unwrap_or(0) as f64 / 500.0;
    let even = counts.len() == 4 && most <= 1.15;
    table.row("2 000 connections over 4 slots, max / mean", &format!("{most:.2}"), "-", "-", "<= 1.15", even);
    let load = Load::start(launcher.address, 32, 32, NO_PAUSE);
    for n in 0..1000 {
        done(&launcher, &format!("{{\"command\":\"restart\",\"id\":1,\"options\":{{\"slot\":{}}}}}", n % 4))?;
    }
    losses(table, "1 000 restarts of single workers with slots", &load.stop());
    let load = Load::start(launcher.address, 32, 32, NO_PAUSE);
    for n in 0..200 {
        let number = [2, 6, 3, 5, 4, 2, 5, 6][n % 8];
        done(&launcher, &format!("{{\"command\":\"scale\",\"id\":1,\"options\":{{\"number\":{number}}}}}"))?;
        launcher.wait_ready(number)?;
    }
    losses(table, "200 changes between 2 and 6 workers with slots", &load.stop());
    Ok(())
}

/// The slot that answers a connection.
fn slot_of(launcher: &Launcher) -> Answer<i32> {
    use std::io::{Read, Write};
    let asked = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(launcher.address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().map_err(|error| error.to_string())?;
    let slot = answer.split("\"slot\":").nth(1).and_then(|rest| rest.split(',').next()?.trim().parse().ok());
    slot.ok_or_else(|| format!("no slot in {answer:?}"))
}
