//! A machine of the test's own, as far as namespaces go: PID 1 is systemd, or nobody in particular. See namespaces.sh
//! beside this, which makes it. Dropping it ends every process in it.

use super::{DEADLINE, Finished, TempDir, is_root, prebind_path, prebindctl_path, proc, run_piped, wait_for};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// What PID 1 is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// It does nothing but reap orphans.
    Idle,
    /// It loads the units that the test put into `units`, and no others.
    Systemd,
}

pub(crate) struct Namespaces {
    script: Child,
    /// All ends with it.
    hold: Option<ChildStdin>,
    pid: i32,
    dir: TempDir,
}

impl Namespaces {
    /// With prebind and prebindctl in its path; `prepare` may put more into `bin` and `units` of the directory that it is
    /// given. Nothing, with a word on standard error, where the system does not let us.
    pub(crate) fn new(test: &str, first: First, prepare: impl FnOnce(&Path)) -> Option<Namespaces> {
        if !is_root(test) {
            return None;
        }
        let allowed = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
        if !allowed.is_ok_and(|status| status.success()) {
            eprintln!("{test}: skipped, this system does not let root make namespaces");
            return None;
        }
        let dir = TempDir::new();
        for name in ["bin", "units"] {
            std::fs::create_dir(dir.path().join(name)).expect("create");
        }
        for (program, name) in [(prebind_path(), "bin/prebind"), (prebindctl_path(), "bin/prebindctl")] {
            std::fs::copy(program, dir.path().join(name)).expect("copy");
        }
        prepare(dir.path());
        let kind = if first == First::Idle { "idle" } else { "systemd" };
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/harness/namespaces.sh"))
            .arg(dir.path())
            .arg(kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("namespaces.sh");
        let hold = script.stdin.take();
        let mut line = String::new();
        BufReader::new(script.stdout.take().expect("piped")).read_line(&mut line).expect("read");
        let Ok(pid) = line.trim().parse() else {
            drop(hold);
            let mut why = String::new();
            let _ = script.stderr.take().expect("piped").read_to_string(&mut why);
            panic!("no namespaces: {why}");
        };
        let made = Namespaces { script, hold, pid, dir };
        if first == First::Systemd {
            let up = || {
                let asked = made.run(&["systemctl", "is-active", "box.target"]);
                asked.status.success().then_some(())
            };
            wait_for("systemd to come up", up);
        }
        Some(made)
    }

    /// That command inside.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-n", "-p", "-u", "-i", "-C", "-r", "-w", "--"]);
        command.args(words).env_clear().env("SYSTEMD_UNIT_PATH", "/run/units").env("LANG", "C.UTF-8");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs it inside, to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Finished {
        run_piped(self.command(words))
    }

    /// The same; it must succeed. What it printed.
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let finished = self.run(words);
        assert!(finished.status.success(), "{words:?}: {finished:?}");
        finished.stdout
    }

    /// From here on the sockets that this thread makes are made inside.
    pub(crate) fn enter_network(&self) {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", self.pid)).expect("its network");
        let entered = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "setns: {}", std::io::Error::last_os_error());
    }

    /// A path of the inside, as it is reached from outside.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Writes a file inside, and its directory.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.outside(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("create");
        std::fs::write(&path, text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }

    /// What runs inside beside PID 1: pids as they are outside, and names.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let space = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = space(self.pid);
        let inside = proc::all().filter(|pid| *pid != self.pid && space(*pid) == own && proc::alive(*pid));
        inside.filter_map(|pid| Some((pid, std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?))).collect()
    }

    /// What systemd and its services said.
    pub(crate) fn console(&self) -> String {
        let text = std::fs::read(self.dir.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- its PID 1 said:\n{}---", self.console());
        }
        self.hold.take();
        let ended = super::wait_child(&mut self.script);
        if ended.is_err() && !std::thread::panicking() {
            panic!("namespaces.sh did not end within {DEADLINE:?}");
        }
    }
}

/// What runs inside may be a whole systemd, with all that units may ask for.
#[test]
fn nothing_of_the_host_can_be_written_to() {
    let Some(machine) = Namespaces::new("nothing_of_the_host_can_be_written_to", First::Idle, |_| ()) else { return };
    let name = format!("prebind-probe-{}", std::process::id());
    let places = ["/", "/usr", "/opt", "/home", "/srv", "/boot", "/sys/kernel", env!("CARGO_MANIFEST_DIR")];
    let line =
        format!("for place do ! touch \"$place/{name}\" 2>/dev/null || echo \"$place\"; done; ls -A /tmp /var/tmp");
    let said = machine.done(&[&["sh", "-c", &line, "sh"][..], &places].concat());
    assert_eq!(said, "/tmp:\n\n/var/tmp:\n", "the places that could be written to, and what is seen of the host's");
    for place in ["/tmp", "/var/tmp", "/etc", "/var", "/run", "/root", "/dev"] {
        let path = format!("{place}/{name}");
        machine.write(&path, "inside");
        assert!(!Path::new(&path).exists(), "{path}");
    }
}
