//! What the measures share: starting the launcher or the limit, asking the service, reading /proc.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) type Answer<T> = Result<T, String>;

/// Where everything that is run lies; tests/bench/run says it in the environment.
pub(crate) struct Paths {
    pub(crate) release: PathBuf,
    pub(crate) dist: Option<PathBuf>,
    pub(crate) worker: PathBuf,
    pub(crate) limit: PathBuf,
    pub(crate) scratch: PathBuf,
}

impl Paths {
    pub(crate) fn from_environment() -> Answer<Paths> {
        let named = |name: &str| env::var_os(name).map(PathBuf::from);
        let needed = |name: &str| named(name).ok_or(format!("{name} is not set (start this through tests/bench/run)"));
        // In memory, as /run is: the start makes three files there.
        let memory = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir());
        let scratch = memory.unwrap_or_else(env::temp_dir).join(format!("prebind-bench-{}", std::process::id()));
        fs::create_dir_all(&scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
        Ok(Paths {
            release: needed("PREBIND_RELEASE")?,
            dist: named("PREBIND_DIST").filter(|path| path.exists()),
            worker: needed("BENCH_WORKER")?,
            limit: needed("BENCH_LIMIT")?,
            scratch,
        })
    }
}

/// A launcher that runs: prebind or the limit. Ended with its workers when dropped.
pub(crate) struct Launcher {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) control: PathBuf,
    pub(crate) since: Instant,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Which<'a> {
    Limit,
    Prebind(&'a Path),
}

impl Launcher {
    /// N copies of the measured worker.
    pub(crate) fn start(paths: &Paths, which: Which, number: usize, mark: Option<&Path>) -> Answer<Launcher> {
        Launcher::start_command(paths, which, number, mark, &[&paths.worker.to_string_lossy()])
    }

    pub(crate) fn start_command(
        paths: &Paths,
        which: Which,
        number: usize,
        mark: Option<&Path>,
        command: &[&str],
    ) -> Answer<Launcher> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let address = free_address()?;
        let control = paths.scratch.join(format!("{}.sock", SERIAL.fetch_add(1, Ordering::Relaxed)));
        let mut run = match which {
            Which::Limit => {
                let mut run = Command::new(&paths.limit);
                run.args([address.port().to_string(), number.to_string()]).args(command);
                run
            }
            Which::Prebind(binary) => {
                let mut run = Command::new(binary);
                run.args(["-b", &format!("web={address}"), "-n", &number.to_string(), "-d"]);
                run.arg(&control).arg("--").args(command);
                run
            }
        };
        // What a manager above this bench left must not be taken for ours.
        for foreign in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "BENCH_MARK"] {
            run.env_remove(foreign);
        }
        if let Some(mark) = mark {
            run.env("BENCH_MARK", mark);
        }
        Launcher::run(run, address, control)
    }

    /// prebind with options of the row's own and the embedded worker, or another command after `--`.
    pub(crate) fn prebind(paths: &Paths, bind: &str, words: &[&str], env: &[(&str, &str)]) -> Answer<Launcher> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let address = free_address()?;
        let control = paths.scratch.join(format!("own-{}.sock", SERIAL.fetch_add(1, Ordering::Relaxed)));
        let mut run = Command::new(&paths.release);
        run.args(["-b", &format!("web={address}{bind}"), "-d"]).arg(&control).args(words).envs(env.iter().copied());
        Launcher::run(run, address, control)
    }

    fn run(mut run: Command, address: SocketAddr, control: PathBuf) -> Answer<Launcher> {
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let since = Instant::now();
        let child = run.spawn().map_err(|e| format!("{:?}: {e}", run.get_program()))?;
        Ok(Launcher { child, address, control, since })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Told to stop; how long it took.
    pub(crate) fn stop(&mut self) -> Answer<Duration> {
        let asked = Instant::now();
        signal(self.pid(), libc::SIGTERM);
        while asked.elapsed() < DEADLINE {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return if status.success() { Ok(asked.elapsed()) } else { Err(format!("it ended with {status}")) };
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err("it did not stop in time".into())
    }

    /// How many workers its own status calls ready.
    pub(crate) fn ready(&self) -> Answer<usize> {
        let status = self.status()?;
        let services = status.split_once("\"services\"").map_or("", |(_, rest)| rest);
        let count = services.split_once("\"ready\":").map_or("", |(_, rest)| rest);
        let digits: String = count.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().map_err(|_| format!("no count of ready workers in {status}"))
    }

    fn status(&self) -> Answer<String> {
        self.request("{\"command\":\"status\",\"id\":1}")
    }

    /// One request on the control socket: its reply, when that comes.
    pub(crate) fn request(&self, line: &str) -> Answer<String> {
        let failed = |e: io::Error| format!("{}: {e}", self.control.display());
        let mut stream = UnixStream::connect(&self.control).map_err(failed)?;
        stream.set_read_timeout(Some(DEADLINE)).map_err(failed)?;
        stream.write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).map_err(failed)?;
        Ok(line)
    }

    pub(crate) fn wait_ready(&self, number: usize) -> Answer<()> {
        until(|| self.ready().is_ok_and(|ready| ready == number)).map_err(|e| format!("{number} ready: {e}"))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.stop();
        }
    }
}

pub(crate) fn until(mut done: impl FnMut() -> bool) -> Answer<()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > DEADLINE {
            return Err("not within a minute".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub(crate) fn signal(pid: i32, number: i32) {
    // SAFETY: kill reads its two numbers and touches no memory.
    unsafe { libc::kill(pid, number) };
}

fn free_address() -> Answer<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).map_err(|e| e.to_string())
}

/// One request over a connection that stands: the pid of the worker that answered.
pub(crate) fn ask(mut stream: TcpStream) -> io::Result<i32> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let pid = answer.rsplit_once("\r\n\r\n").and_then(|(_, body)| body.trim().parse().ok());
    pid.ok_or_else(|| io::Error::other(format!("odd answer {answer:?}")))
}

/// Connects and asks, again and again without a pause, until somebody answers.
pub(crate) fn first_answer(address: SocketAddr) -> Answer<i32> {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address).and_then(ask) {
            Ok(pid) => return Ok(pid),
            Err(error) if start.elapsed() > DEADLINE => return Err(format!("no answer: {error}")),
            Err(_) => {}
        }
    }
}

/// A FIFO into which every worker writes one byte when it is up.
pub(crate) struct Marks {
    pub(crate) path: PathBuf,
    fifo: fs::File,
}

impl Marks {
    pub(crate) fn new(paths: &Paths) -> Answer<Marks> {
        let path = paths.scratch.join("marks");
        let _ = fs::remove_file(&path);
        let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: the name is a C string that lives through the call.
        if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } != 0 {
            return Err(format!("{}: {}", path.display(), io::Error::last_os_error()));
        }
        // Read and write: neither the open nor a read at a moment without writers sees an end.
        let fifo = fs::OpenOptions::new().read(true).write(true).open(&path).map_err(|e| e.to_string())?;
        Ok(Marks { path, fifo })
    }

    pub(crate) fn wait(&mut self, number: usize) -> Answer<()> {
        let (mut seen, mut buffer) = (0, [0; 512]);
        while seen < number {
            let mut poll = libc::pollfd { fd: self.fifo.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, alive through the call, and the count says one.
            if unsafe { libc::poll(&mut poll, 1, 60_000) } != 1 {
                return Err(format!("{seen} of {number} workers came up"));
            }
            seen += self.fifo.read(&mut buffer).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// The number after `name` in a file of /proc: KiB, or a count.
pub(crate) fn proc_number(pid: i32, file: &str, name: &str) -> Answer<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or(format!("{path}: no {name}"))
}

pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    if of.len() % 2 == 1 { of[middle] } else { of[middle - 1].midpoint(of[middle]) }
}
