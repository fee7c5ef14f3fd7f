//! The steps of a case, carried out with one of the daemons.

use super::case::{Place, Step};
use super::daemon::Daemon;
use super::report;
use crate::harness::{DEADLINE, proc, wait_for};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// One run of a case.
pub(super) struct Run<'a> {
    pub(super) daemon: &'a mut dyn Daemon,
    pub(super) place: &'a Place,
    /// Pids whose reports were looked at, with their watchers' names.
    pub(super) seen: Vec<(String, i32)>,
    pub(super) clients: Vec<Box<dyn std::any::Any>>,
}

impl Run<'_> {
    /// Carries a step out; what comes back are the lines of its result.
    pub(super) fn step(&mut self, step: &Step) -> Vec<String> {
        let words: Vec<String> = step.words.iter().map(|word| self.place.filled(word)).collect();
        let word = |n: usize| words.get(n).map_or("", String::as_str);
        let number = |n: usize| word(n).parse().unwrap_or(1);
        match word(0) {
            "report" => self.reports(word(1), number(2)),
            "replaced" => self.replaced(word(1), number(2), word(3).parse().unwrap_or(DEADLINE.as_secs_f64())),
            "none" => vec![format!("{} reports", self.pids(word(1)).len())],
            "told" => self.told(word(1)),
            "tcp" | "unix" | "udp" => {
                self.connect(word(0), word(1));
                Vec::new()
            }
            "start" | "reload" | "more" => {
                let yes = self.daemon.ask(word(0), word(1), word(2));
                vec![if yes { "done".to_owned() } else { "refused".to_owned() }]
            }
            "kill" => {
                let own = self.pids(word(1));
                let alive = self.place.processes().into_iter().filter(|pid| own.contains(pid));
                alive.for_each(|pid| proc::kill(pid, libc::SIGKILL));
                Vec::new()
            }
            "settled" => {
                self.daemon.settle();
                Vec::new()
            }
            "over" => {
                wait_for("a watcher's end", || self.daemon.is_over(word(1)).then_some(()));
                vec![format!("{} reports", self.pids(word(1)).len())]
            }
            "stop" => self.stop(word(1).parse().unwrap_or(0.0), word(2).parse().unwrap_or(DEADLINE.as_secs_f64())),
            "stat" => vec![node(Path::new(word(1)))],
            "read" => {
                let text = std::fs::read_to_string(word(1)).unwrap_or_else(|why| why.kind().to_string());
                let own = self.daemon.pid().to_string();
                text.lines().map(|line| self.place.plain(if line == own { "its pid" } else { line })).collect()
            }
            "order" => self.order(&words[1..]),
            "spaced" => self.spaced(word(1), word(2).parse().expect("seconds")),
            "paused" => self.paused(word(1), word(2).parse().expect("seconds")),
            "said" => {
                let said = self.daemon.said();
                let has = self.daemon.levels().map(|words| said.contains(words));
                vec![format!("notices {}, details {}", has[0], has[1])]
            }
            other => panic!("what is '{other}'?"),
        }
    }

    fn out(&self) -> PathBuf {
        self.place.path("out")
    }

    /// The processes of a watcher that have reported, the dead ones too.
    fn pids(&self, watcher: &str) -> Vec<i32> {
        let entries = std::fs::read_dir(self.out()).expect("reports").flatten();
        let own = |name: String| name.strip_prefix(watcher)?.strip_prefix('.')?.parse().ok();
        let mut pids: Vec<i32> = entries.filter_map(|entry| own(entry.file_name().into_string().ok()?)).collect();
        pids.sort_unstable();
        pids
    }

    /// Waits for so many that were not seen before; of more the first ones count.
    fn reports(&mut self, watcher: &str, number: usize) -> Vec<String> {
        let new = self.wait(watcher, |run| {
            let mut new = run.pids(watcher);
            new.retain(|pid| run.seen.iter().all(|(_, known)| known != pid));
            new.truncate(number);
            (new.len() == number).then_some(new)
        });
        let lines = |pid: &i32| {
            let text = std::fs::read_to_string(self.out().join(format!("{watcher}.{pid}"))).expect("a report");
            report::lines(&text, self.place)
        };
        let mut all: Vec<String> = new.iter().flat_map(lines).collect();
        all.sort();
        self.seen.extend(new.into_iter().map(|pid| (watcher.to_owned(), pid)));
        all
    }

    /// Waits until all that were seen of a watcher are gone, and so many others are there; whether in so many seconds.
    fn replaced(&mut self, watcher: &str, number: usize, most: f64) -> Vec<String> {
        let start = Instant::now();
        let of = |(name, pid): &(String, i32)| (name == watcher).then_some(*pid);
        let old: Vec<i32> = self.seen.iter().filter_map(of).collect();
        self.wait(watcher, |_| old.iter().all(|pid| !proc::alive(*pid)).then_some(()));
        let mut all = self.reports(watcher, number);
        let took = start.elapsed();
        all.push(if took.as_secs_f64() <= most { "in time".to_owned() } else { format!("after {took:?}") });
        all
    }

    fn wait<T>(&mut self, watcher: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        wait_for(&format!("processes of {watcher}"), || look(self))
    }

    /// The signals that the processes of a watcher got, those of a child behind them; waits for the first of each.
    fn told(&mut self, watcher: &str) -> Vec<String> {
        let pids = self.pids(watcher);
        let read = |pid: i32, of: &str| std::fs::read_to_string(self.out().join(format!("{watcher}.{pid}.{of}"))).ok();
        let one = |pid: i32| {
            let own = wait_for("a signal", || read(pid, "told").filter(|text| !text.is_empty()));
            let child = read(pid, "child").map(|text| format!(", its child {}", text.replace('\n', " ").trim_end()));
            format!("told {}{}", own.replace('\n', " ").trim_end(), child.unwrap_or_default())
        };
        let mut all: Vec<String> = pids.into_iter().map(one).collect();
        all.sort();
        all.dedup();
        all
    }

    fn connect(&mut self, kind: &str, to: &str) {
        let client: Box<dyn std::any::Any> = match kind {
            "tcp" => Box::new(wait_for("a listener", || TcpStream::connect(to).ok())),
            "unix" => Box::new(wait_for("a listener", || UnixStream::connect(to).ok())),
            _ => Box::new(wait_for("a receiver", || {
                let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
                socket.connect(to).ok()?;
                socket.send(b"x").is_ok().then_some(socket)
            })),
        };
        self.clients.push(client);
    }

    /// Stops the daemon: its exit code, whether that took as long as it should, and whom it left, where that counts.
    fn stop(&mut self, least: f64, most: f64) -> Vec<String> {
        let start = Instant::now();
        let code = wait_for("the daemon's end", || self.daemon.ended());
        let took = start.elapsed();
        let within = Duration::from_secs_f64(least) <= took && took <= Duration::from_secs_f64(most);
        let time = if within { "in time".to_owned() } else { format!("after {took:?}") };
        let left = self.place.processes().len();
        let left = if left == 0 || self.daemon.leaves_some() { String::new() } else { format!(", {left} left") };
        vec![format!("ended with {code}, {time}{left}")]
    }

    /// The watchers by the age of their only process, the oldest first.
    fn order(&self, watchers: &[String]) -> Vec<String> {
        let mut ages: Vec<((u64, i32), &String)> = Vec::new();
        for watcher in watchers {
            ages.extend(self.pids(watcher).into_iter().map(|pid| ((proc::started(pid).unwrap_or(0), pid), watcher)));
        }
        ages.sort_unstable();
        vec![ages.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(" then ")]
    }

    /// Whether the processes of a watcher, which still run, were started at such a distance from each other.
    fn spaced(&self, watcher: &str, seconds: f64) -> Vec<String> {
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        let started = |pid| proc::started(pid).expect("a live process") as f64 / ticks;
        distances(self.pids(watcher).into_iter().map(started).collect(), seconds)
    }

    /// Whether the reports of a watcher came at such a distance from each other.
    fn paused(&self, watcher: &str, seconds: f64) -> Vec<String> {
        let written = |pid| self.out().join(format!("{watcher}.{pid}")).metadata().and_then(|file| file.modified());
        let time = |pid| written(pid).ok()?.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
        distances(self.pids(watcher).into_iter().filter_map(time).collect(), seconds)
    }
}

fn distances(mut times: Vec<f64>, seconds: f64) -> Vec<String> {
    times.sort_by(f64::total_cmp);
    let shortest = times.windows(2).map(|two| two[1] - two[0]).fold(f64::INFINITY, f64::min);
    vec![if shortest >= seconds { "far enough apart".to_owned() } else { format!("{shortest} s apart") }]
}

/// What stands at a path.
fn node(path: &Path) -> String {
    let Ok(found) = path.symlink_metadata() else { return "nothing".into() };
    let kind = if found.file_type().is_socket() { "socket" } else { "file" };
    format!("{kind} {:04o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid())
}
