//! How a prebind is started: arguments, environment, directory; to run on, or to run to its end.

use super::{Control, DEADLINE, Lines, Prebind, TempDir, probe, proc};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The prebind to test.
pub(crate) fn prebind_path() -> PathBuf {
    absolute(std::env::var_os("PREBIND").map_or_else(|| env!("CARGO_BIN_EXE_prebind").into(), PathBuf::from))
}

/// The prebindctl to test: beside PREBIND where PREBINDCTL does not say.
pub(crate) fn prebindctl_path() -> PathBuf {
    let beside = prebind_path().with_file_name("prebindctl");
    match std::env::var_os("PREBINDCTL") {
        Some(path) => absolute(path.into()),
        None if beside.exists() => beside,
        None => env!("CARGO_BIN_EXE_prebindctl").into(),
    }
}

/// Cargo runs tests in the package's directory; the paths given to it are meant from there.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// A prebind to be started. It gets `-d` in its own directory unless told otherwise.
pub(crate) struct Setup {
    pub(crate) dir: TempDir,
    before: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    cwd: Option<PathBuf>,
    default_control: bool,
    binary: PathBuf,
    hook: Option<Box<dyn FnMut() -> std::io::Result<()> + Send + Sync>>,
}

impl Setup {
    pub(crate) fn new(arguments: &[&str]) -> Setup {
        Setup::in_dir(TempDir::new(), arguments)
    }

    /// With a directory that the test has already put things in.
    pub(crate) fn in_dir(dir: TempDir, arguments: &[&str]) -> Setup {
        Setup {
            dir,
            before: Vec::new(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            environment: Vec::new(),
            cwd: None,
            default_control: true,
            binary: prebind_path(),
            hook: None,
        }
    }

    /// Options, then the probe worker with these words.
    pub(crate) fn probe(options: &[&str], words: &[&str]) -> Setup {
        Setup::new(options).and(&["--", probe::path()]).and(words)
    }

    /// More arguments at the end.
    pub(crate) fn and(mut self, more: &[&str]) -> Setup {
        self.arguments.extend(more.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Words before prebind's path: a wrapper.
    pub(crate) fn wrapped(mut self, wrapper: &[&str]) -> Setup {
        self.before = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// By another path: a link.
    pub(crate) fn program(mut self, path: impl Into<PathBuf>) -> Setup {
        self.binary = path.into();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn cwd(mut self, path: impl Into<PathBuf>) -> Setup {
        self.cwd = Some(path.into());
        self
    }

    /// No `-d`.
    pub(crate) fn no_default_control(mut self) -> Setup {
        self.default_control = false;
        self
    }

    /// A copy of prebind that other users may run.
    pub(crate) fn copied(mut self) -> Setup {
        let copy = self.dir.join("prebind");
        self::copy(&self.binary, Path::new(&copy));
        self.binary = copy.into();
        self
    }

    /// To be run in the child before exec: async-signal-safe calls only.
    pub(crate) fn hook(mut self, hook: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) -> Setup {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Gives it open descriptors from that number on, without close-on-exec. The originals live as long as the test
    /// lets them.
    pub(crate) fn descriptors(self, first: i32, given: &[&dyn AsRawFd]) -> Setup {
        let mut numbers: Vec<i32> = given.iter().map(|fd| fd.as_raw_fd()).collect();
        self.hook(move || {
            // Out of the way first: a source may stand where a target goes.
            for number in &mut numbers {
                *number = unsafe { libc::fcntl(*number, libc::F_DUPFD_CLOEXEC, 200) };
            }
            for (target, number) in (first..).zip(&numbers) {
                if unsafe { libc::dup2(*number, target) } != target {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        })
    }

    /// Starts it as a manager would that passes these sockets: LISTEN_FDS, LISTEN_FDNAMES and the right LISTEN_PID.
    pub(crate) fn activated(self, given: &[&dyn AsRawFd], names: &str) -> Setup {
        self.descriptors(3, given).env("LISTEN_FDS", &given.len().to_string()).env("LISTEN_FDNAMES", names).wrapped(&[
            "sh",
            "-c",
            "export LISTEN_PID=$$; exec \"$@\"",
            "sh",
        ])
    }

    fn command(&mut self, marker: &str) -> Command {
        let mut words: Vec<std::ffi::OsString> = self.before.iter().map(Into::into).collect();
        words.push(self.binary.clone().into());
        if self.default_control {
            words.extend(["-d".into(), self.dir.join("ctl.sock").into()]);
        }
        words.extend(self.arguments.iter().map(Into::into));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        without_foreign(&mut command);
        command.env("XDG_RUNTIME_DIR", self.dir.path());
        command.envs(self.environment.iter().cloned());
        let (name, value) = marker.split_once('=').expect("NAME=VALUE");
        command.env(name, value).current_dir(self.cwd.as_deref().unwrap_or(self.dir.path()));
        if let Some(hook) = self.hook.take() {
            unsafe { command.pre_exec(hook) };
        }
        command
    }

    /// Starts it, to run on.
    pub(crate) fn start(mut self) -> Prebind {
        let marker = new_marker();
        let mut child = self.command(&marker).spawn().expect("start prebind");
        // Nobody reads its standard output but when asked: what workers print there goes with the messages.
        let lines = Lines::of(child.stderr.take().expect("piped"));
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || std::io::copy(&mut { stdout }, &mut std::io::sink()));
        let control = Control::at(self.dir.join("ctl.sock"));
        Prebind { child, dir: self.dir, lines, control, marker, status: None }
    }

    /// Runs it to its end, which must come by itself.
    pub(crate) fn finish(mut self) -> Finished {
        let marker = new_marker();
        run(self.command(&marker), Some(&marker))
    }
}

/// Takes what another manager, or who runs the tests, says to a prebind out of a command's environment.
pub(crate) fn without_foreign(command: &mut Command) {
    let foreign = |name: &str| {
        ["LISTEN_", "EINHORN_", "PREBIND", "WATCHDOG_", "NOTIFY_SOCKET"].iter().any(|start| name.starts_with(start))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(foreign) {
            command.env_remove(name);
        }
    }
}

/// Copies a program, by another process: a program that we held open for writing while another thread starts something
/// could not be executed until that has executed its own.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args([from, to]).status().expect("cp");
    assert!(status.success(), "cp {} {}", from.display(), to.display());
}

/// A variable of the environment by which all that a prebind started is found again.
fn new_marker() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("REAL_TEST={}.{}.", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A program that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// It must have ended with that code.
    #[track_caller]
    pub(crate) fn code(&self, code: i32) -> &Finished {
        assert_eq!(self.status.code(), Some(code), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }

    /// Its messages must hold these words, in whatever case.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) -> &Finished {
        let said = self.stderr.to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "'{word}' is missing in:\n{}", self.stderr);
        }
        self
    }
}

/// Runs prebindctl to its end.
pub(crate) fn run_ctl(arguments: &[&str]) -> Finished {
    let mut command = Command::new(prebindctl_path());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    run(command, None)
}

/// The same, looking for control sockets where a prebind of that directory puts them.
pub(crate) fn run_named_ctl(directory: &std::path::Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(prebindctl_path());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("XDG_RUNTIME_DIR", directory);
    run(command, None)
}

/// Runs another program to its end, and keeps what it says.
pub(crate) fn run_piped(mut command: Command) -> Finished {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    run(command, None)
}

/// Runs a command to its end; at the deadline it is killed, and the test fails. It must leave no process with the
/// marker behind.
pub(crate) fn run(mut command: Command, marker: Option<&str>) -> Finished {
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let ended = wait_child(&mut child);
    if let Err(why) = ended {
        let _ = child.kill();
        let _ = child.wait();
        marker.inspect(|marker| proc::kill_marked(marker));
        panic!("{command:?}: {why}");
    }
    // Before the pipes are read to their end: whoever was left behind holds them open.
    let left = marker.map(proc::marked).unwrap_or_default();
    marker.inspect(|marker| proc::kill_marked(marker));
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().expect("a reader")).into_owned()
    };
    let finished = Finished { status: ended.expect("checked"), stdout: text(stdout), stderr: text(stderr) };
    assert!(left.is_empty(), "left behind: {left:?}; {finished:?}");
    finished
}

fn drain(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut all);
        }
        all
    })
}

/// Waits for a child's end, until the deadline.
pub(crate) fn wait_child(child: &mut Child) -> Result<ExitStatus, String> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if start.elapsed() > DEADLINE => return Err(format!("still running after {DEADLINE:?}")),
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(why) => return Err(why.to_string()),
        }
    }
}
