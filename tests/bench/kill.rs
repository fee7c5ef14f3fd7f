//! SIGKILL of the only worker, to an answer by the next.

use super::harness::{Answer, Launcher, Paths, Which, ask, first_answer, median, signal};
use super::table::Table;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// prebind replaces at once five times in ten seconds, then it backs off: below that with each start.
const KILLS_A_ROUND: usize = 4;

#[derive(Default)]
struct Seen {
    milliseconds: Vec<f64>,
    answered: usize,
}

pub(crate) fn rows(paths: &Paths, table: &mut Table) -> Answer<()> {
    let mut random = Random(u64::from(std::process::id()) | 1);
    let (mut prebind, mut limit) = (Seen::default(), Seen::default());
    for _ in 0..ROUNDS {
        round(paths, Which::Prebind(&paths.release), &mut random, &mut prebind)?;
        round(paths, Which::Limit, &mut random, &mut limit)?;
    }
    let kills = ROUNDS * KILLS_A_ROUND;
    let (answered, of_limit) = (format!("{} of {kills}", prebind.answered), format!("{} of {kills}", limit.answered));
    table.ratio(
        "SIGKILL of the only worker to an answer",
        median(prebind.milliseconds),
        median(limit.milliseconds),
        1.5,
    );
    table.row("connections made in the gap, answered", &answered, &of_limit, "-", "all", prebind.answered == kills);
    Ok(())
}

fn round(paths: &Paths, which: Which, random: &mut Random, seen: &mut Seen) -> Answer<()> {
    let launcher = Launcher::start(paths, which, 1, None)?;
    for _ in 0..KILLS_A_ROUND {
        let pid = first_answer(launcher.address)?;
        sleep(Duration::from_micros(random.below(50_000)));
        let killed = Instant::now();
        signal(pid, libc::SIGKILL);
        // Made in the gap: nobody can accept it but the next worker.
        match TcpStream::connect(launcher.address).and_then(ask) {
            Ok(next) if next != pid => seen.answered += 1,
            Ok(_) => return Err("a killed worker answered".into()),
            Err(error) => {
                eprintln!("a connection made in the gap: {error}");
                first_answer(launcher.address)?;
            }
        }
        seen.milliseconds.push(killed.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(())
}

/// xorshift64: enough for random phases.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
