//! SIGKILL of the only worker, to an answer by the next.

use super::harness::{Answer, Launcher, Paths, Which, ask, first_answer, median, signal};
use super::table::Table;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
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
        let death = Death::of(pid)?;
        let killed = Instant::now();
        signal(pid, libc::SIGKILL);
        // A dying worker may still accept, and the connection dies with it under any launcher: the gap begins
        // when it is dead.
        death.wait();
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

/// A pidfd: readable when the process is dead, whoever its parent is.
struct Death(OwnedFd);

impl Death {
    fn of(pid: i32) -> Answer<Death> {
        // SAFETY: pidfd_open takes two numbers; what it returns is a new descriptor of ours, or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or(format!("the worker {pid} is gone"))?;
        // SAFETY: just opened, and nobody else owns it.
        Ok(Death(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn wait(&self) {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive through the call, and the count says one.
        unsafe { libc::poll(&mut poll, 1, 60_000) };
    }
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
