//! circusd and prebind, as the steps of a case need them.

use super::case::Place;
use crate::harness::{DEADLINE, Lines, Prebind, Setup, TempDir, proc, run_piped, wait_for, without_foreign};
use crate::servers::python;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Who runs a file.
pub(super) trait Daemon {
    fn pid(&self) -> i32;
    /// What it said so far.
    fn said(&self) -> String;
    /// Waits until it has said all that it says of a start; the reports are there.
    fn settle(&mut self);
    /// Asks it for something; whether it says yes.
    fn ask(&mut self, command: &str, watcher: &str, number: &str) -> bool;
    /// Whether nothing of that watcher runs any more, nor will.
    fn is_over(&mut self, watcher: &str) -> bool;
    /// The words of its messages of the usual level, and of the level below it.
    fn levels(&self) -> [&'static str; 2];
    /// Whether it may leave processes behind: Circus does those of a shell, and those that it is about to start on demand.
    fn leaves_some(&self) -> bool;
    /// One attempt to stop it with TERM; its exit code once it has ended.
    fn ended(&mut self) -> Option<i32>;
}

pub(super) struct Circusd {
    child: Child,
    lines: Lines,
    told: Option<Instant>,
    endpoint: String,
    place: Place,
    _dir: TempDir,
}

impl Circusd {
    pub(super) fn start(dir: TempDir, place: Place) -> Circusd {
        let mut command = Command::new(python("circusd"));
        without_foreign(&mut command);
        command.arg(dir.join("circus.ini")).current_dir(dir.path()).env("PWD", dir.path());
        command.stdin(std::fs::File::open(place.path("input")).expect("the input"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("circusd");
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || std::io::copy(&mut { stdout }, &mut std::io::sink()));
        let lines = Lines::of(child.stderr.take().expect("piped"));
        let endpoint = place.filled("ipc://@DIR@/endpoint");
        Circusd { child, lines, told: None, endpoint, place, _dir: dir }
    }

    fn ctl(&self, words: &[&str]) -> crate::harness::Finished {
        let mut command = Command::new(python("circusctl"));
        command.args(["--endpoint", &self.endpoint, "--timeout", &DEADLINE.as_secs().to_string()]).args(words);
        run_piped(command)
    }
}

impl Daemon for Circusd {
    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn said(&self) -> String {
        self.lines.all()
    }

    fn settle(&mut self) {}

    fn ask(&mut self, command: &str, watcher: &str, number: &str) -> bool {
        let words: &[&str] = match command {
            "start" => &["start", watcher, "--waiting"],
            "more" => &["incr", watcher, number, "--waiting"],
            _ => &[command, watcher, "--waiting"],
        };
        wait_for(command, || {
            let said = self.ctl(words);
            // While a tick or another command runs it does nothing.
            (!said.stdout.contains("already running")).then_some(said.status.success())
        })
    }

    fn is_over(&mut self, watcher: &str) -> bool {
        self.ctl(&["status", watcher]).stdout.trim() == "stopped"
    }

    fn levels(&self) -> [&'static str; 2] {
        ["[INFO]", "[DEBUG]"]
    }

    fn leaves_some(&self) -> bool {
        true
    }

    fn ended(&mut self) -> Option<i32> {
        // One that comes while a tick runs is lost.
        if self.told.is_none_or(|last| last.elapsed() > Duration::from_secs(1)) {
            proc::kill(self.pid(), libc::SIGTERM);
            self.told = Some(Instant::now());
        }
        self.child.try_wait().expect("its status").map(|status| status.code().unwrap_or(-1))
    }
}

impl Drop for Circusd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- circusd said:\n{}---", self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.place.processes().into_iter().for_each(|pid| proc::kill(pid, libc::SIGKILL));
    }
}

pub(super) struct ByPrebind {
    prebind: Prebind,
    told: bool,
    place: Place,
}

impl ByPrebind {
    pub(super) fn start(dir: TempDir, place: Place) -> ByPrebind {
        let (file, here) = (dir.join("circus.ini"), dir.join(""));
        let input = std::fs::File::open(place.path("input")).expect("the input");
        let stdin = move || match unsafe { libc::dup2(input.as_raw_fd(), 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        };
        let setup = Setup::in_dir(dir, &["--circus", &file]).env("PWD", here.trim_end_matches('/')).hook(stdin);
        ByPrebind { prebind: setup.start(), told: false, place }
    }
}

impl Daemon for ByPrebind {
    fn pid(&self) -> i32 {
        self.prebind.pid()
    }

    fn said(&self) -> String {
        self.prebind.lines.all()
    }

    fn settle(&mut self) {
        self.prebind.wait_ready();
    }

    fn ask(&mut self, command: &str, watcher: &str, number: &str) -> bool {
        let words: &[&str] = match command {
            "start" => &["scale", watcher, number],
            "more" => &["incr", watcher, number],
            _ => &[command, watcher],
        };
        self.prebind.ctl(words).status.success()
    }

    fn is_over(&mut self, watcher: &str) -> bool {
        let status = self.prebind.status();
        let mut services = status["services"].as_array().into_iter().flatten();
        services.any(|one| one["name"] == watcher && (one["state"] == "over" || one["state"] == "failed"))
    }

    fn levels(&self) -> [&'static str; 2] {
        ["all workers are ready", "check_delay: "]
    }

    fn leaves_some(&self) -> bool {
        false
    }

    fn ended(&mut self) -> Option<i32> {
        if !std::mem::replace(&mut self.told, true) {
            self.prebind.signal(libc::SIGTERM);
        }
        self.prebind.child.try_wait().expect("its status").map(|status| status.code().unwrap_or(-1))
    }
}

impl Drop for ByPrebind {
    fn drop(&mut self) {
        let _ = self.prebind.child.kill();
        let _ = self.prebind.child.wait();
        self.place.processes().into_iter().for_each(|pid| proc::kill(pid, libc::SIGKILL));
    }
}
