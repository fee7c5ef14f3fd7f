//! Starts prebind, reads what it says line by line, asks it and its workers, and leaves nothing running.
//! Every wait is for an event and has a deadline; on failure all that prebind said is printed.

mod ask;
mod http;
mod lines;
pub(crate) mod load;
mod namespaces;
pub(crate) mod probe;
pub(crate) mod proc;
mod setup;
mod temp;

pub(crate) use ask::Control;
pub(crate) use http::{exchange_unix, get, get_unix};
pub(crate) use lines::Lines;
pub(crate) use namespaces::{First, Namespaces};
pub(crate) use probe::compiled;
pub(crate) use setup::{
    Finished, Setup, copy, prebind_path, prebindctl_path, run_ctl, run_piped, wait_child, without_foreign,
};
pub(crate) use temp::TempDir;

use serde_json::Value;
use std::net::SocketAddr;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// The deadline of every wait: generous, since other tests and builds share the machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(45);

/// Polls until `look` finds something; panics at the deadline, saying what was waited for.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(8));
    }
}

/// A port that nobody listens on. For programs that cannot tell which one they got.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}

/// Whether this process is root; a test that needs to be says so and passes.
pub(crate) fn is_root(test: &str) -> bool {
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("{test}: skipped, it needs root");
    }
    root
}

/// A running prebind. Dropping it kills it and every process that stems from it.
pub(crate) struct Prebind {
    pub(crate) child: Child,
    pub(crate) dir: TempDir,
    pub(crate) lines: Lines,
    control: Control,
    marker: String,
    status: Option<ExitStatus>,
}

impl Prebind {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The control socket.
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// `prebindctl status --json`, asked on the control socket itself.
    pub(crate) fn status(&self) -> Value {
        self.control.status().unwrap_or_else(|why| panic!("no status: {why}\n{}", self.lines.all()))
    }

    /// The status once `look` finds something in it.
    pub(crate) fn wait_status<T>(&mut self, what: &str, mut look: impl FnMut(&Value) -> Option<T>) -> T {
        let mut last;
        let start = Instant::now();
        loop {
            match self.control.status() {
                Ok(status) => match look(&status) {
                    Some(found) => return found,
                    None => last = status.to_string(),
                },
                Err(why) => last = why,
            }
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("prebind ended ({status}) before {what}\n{}", self.lines.all());
            }
            assert!(start.elapsed() < DEADLINE, "waited in vain for {what}; last: {last}\n{}", self.lines.all());
            std::thread::sleep(Duration::from_millis(8));
        }
    }

    /// Waits until every service has as many ready workers as asked for, and no others.
    pub(crate) fn wait_ready(&mut self) -> Value {
        self.wait_status("all workers ready", |status| {
            let services = status["services"].as_array()?;
            let settled = services.iter().all(|service| {
                service["ready"] == service["number"]
                    && service["workers"].as_array().is_some_and(|workers| {
                        Some(workers.len() as u64) == service["number"].as_u64()
                            && workers.iter().all(|worker| worker["state"] == "ready")
                    })
            });
            (settled && status["state"] == "running").then(|| status.clone())
        })
    }

    /// Waits until exactly `number` workers are there and ready.
    pub(crate) fn wait_number(&mut self, number: usize) -> Vec<i32> {
        self.wait_status(&format!("{number} ready workers"), |status| {
            let workers = status["services"][0]["workers"].as_array()?;
            (workers.len() == number && workers.iter().all(|worker| worker["state"] == "ready"))
                .then(|| workers.iter().filter_map(|worker| Some(worker["pid"].as_i64()? as i32)).collect())
        })
    }

    /// The live workers' pids of the first service, by slot.
    pub(crate) fn worker_pids(&self) -> Vec<i32> {
        let status = self.status();
        let workers = status["services"][0]["workers"].as_array().cloned().unwrap_or_default();
        workers.iter().filter_map(|worker| Some(worker["pid"].as_i64()? as i32)).collect()
    }

    /// The real address of a socket, as status shows it.
    pub(crate) fn address(&mut self, name: &str) -> String {
        self.wait_status("the sockets", |status| {
            let sockets = status["sockets"].as_array()?;
            let socket = sockets.iter().find(|socket| socket["name"] == name)?;
            Some(socket["address"].as_str()?.to_owned())
        })
    }

    /// The address of a TCP or UDP socket, with a wildcard replaced by the loopback.
    pub(crate) fn inet(&mut self, name: &str) -> SocketAddr {
        let address = self.address(name);
        let address = address.replace("0.0.0.0:", "127.0.0.1:").replace("*:", "127.0.0.1:").replace("[::]:", "[::1]:");
        address.parse().unwrap_or_else(|_| panic!("{name}: {address} is no inet address"))
    }

    /// The body of a GET from the socket of that name; fails loudly.
    pub(crate) fn get(&mut self, name: &str, path: &str) -> String {
        let address = self.inet(name);
        get(address, path).unwrap_or_else(|why| panic!("GET {path}: {why}\n{}", self.lines.all()))
    }

    /// What a probe worker says of itself.
    pub(crate) fn probe(&mut self, name: &str) -> Value {
        let body = self.get(name, "/");
        serde_json::from_str(&body).unwrap_or_else(|why| panic!("{why}: {body}"))
    }

    /// prebindctl with that control socket.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Finished {
        let mut all = vec!["-d", self.control.path().to_str().expect("UTF-8")];
        all.extend(arguments);
        setup::run_ctl(&all)
    }

    /// Polls prebindctl with `-c NAME` until it says yes.
    pub(crate) fn wait_named(&mut self, name: &str, command: &str) {
        let directory = self.dir.path().to_owned();
        wait_for(&format!("prebindctl -c {name} {command}"), || {
            setup::run_named_ctl(&directory, &["-c", name, command]).status.success().then_some(())
        });
    }

    pub(crate) fn signal(&self, signal: i32) {
        proc::kill(self.pid(), signal);
    }

    /// Waits for prebind's end.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let status = match self.status {
            Some(status) => status,
            None => setup::wait_child(&mut self.child).unwrap_or_else(|why| panic!("{why}\n{}", self.lines.all())),
        };
        self.status = Some(status);
        status
    }

    /// Stops it with TERM; it must end with 0 and leave nobody behind.
    pub(crate) fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "after TERM: {status}\n{}", self.lines.all());
        let left = proc::marked(&self.marker);
        assert!(left.is_empty(), "left behind: {left:?}\n{}", self.lines.all());
    }

    /// The processes that stem from this prebind, itself included.
    pub(crate) fn descendants(&self) -> Vec<i32> {
        proc::marked(&self.marker)
    }
}

impl Drop for Prebind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- prebind {} said:\n{}---", self.pid(), self.lines.all());
        }
        // Some write over the environment that holds the marker: their groups are asked for while somebody knows them.
        let status = if std::thread::panicking() { self.control.status().unwrap_or_default() } else { Value::Null };
        let _ = self.child.kill();
        let _ = self.child.wait();
        let services = status["services"].as_array().into_iter().flatten();
        let workers = services.flat_map(|service| service["workers"].as_array().into_iter().flatten());
        let pids = workers.filter_map(|worker| worker["pid"].as_i64()).filter(|pid| *pid > 1);
        pids.for_each(|pid| proc::kill_group(pid as i32, libc::SIGKILL));
        proc::kill_marked(&self.marker);
    }
}
