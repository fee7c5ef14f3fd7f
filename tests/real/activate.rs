//! systemd-socket-activate by the name of a link, beside the tool itself: the same words, the same report of what the
//! program finds.

use crate::harness::{TempDir, free_port, prebind_path, wait_for};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

/// What a program finds, written to the file that it is given: its environment, its descriptors, whether LISTEN_PID is
/// its own.
const REPORT: &str = r#"
import os, socket, fcntl, sys
out, own = open(sys.argv[1], "a"), str(os.getpid())
for key, value in sorted(os.environ.items()):
    if key != "LC_CTYPE":
        print(key, "own" if value == own else value, file=out)
for fd in range(0, 10):
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        continue
    if fd == out.fileno():
        continue
    what = "file"
    try:
        s = socket.socket(fileno=os.dup(fd))
        get = lambda name: s.getsockopt(socket.SOL_SOCKET, name)
        what = f"{s.family.name} {s.type.name} accepts {get(socket.SO_ACCEPTCONN)} reuse {get(socket.SO_REUSEADDR)}"
        s.close()
    except OSError:
        pass
    print(fd, what, "cloexec", fcntl.fcntl(fd, fcntl.F_GETFD), "nonblock", bool(flags & os.O_NONBLOCK), file=out)
"#;

struct Tool {
    child: Child,
    errors: BufReader<ChildStderr>,
    said: Vec<String>,
}

impl Tool {
    fn start(program: &Path, words: &[String]) -> Tool {
        let mut command = Command::new(program);
        command.args(words).env_clear().envs([("PATH", "/usr/bin:/bin"), ("HOME", "/root"), ("TERM", "dumb")]);
        command.envs([("USER", "somebody"), ("NOTIFY_SOCKET", "/nobody"), ("FROM_US", "ours")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the tool starts");
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        Tool { child, errors, said: Vec::new() }
    }

    /// Reads its lines until one begins so. A tool that ends says no more.
    fn wait_for(&mut self, begins: &str) {
        loop {
            let mut line = String::new();
            let length = self.errors.read_line(&mut line).expect("a line");
            assert!(length > 0, "it ended before it said {begins:?}: {:?}", self.said);
            self.said.push(line.trim_end().to_owned());
            if line.starts_with(begins) {
                return;
            }
        }
    }

    /// Its end, which must come by itself, and all that it said.
    fn said_to_the_end(mut self) -> Vec<String> {
        let ended = wait_for("its end", || self.child.try_wait().expect("its status"));
        assert!(ended.success(), "{ended}: {:?}", self.said);
        self.said.extend(self.errors.by_ref().lines().map_while(Result::ok));
        std::mem::take(&mut self.said)
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both tools: the real one, and ours by its link.
fn both(dir: &TempDir) -> [std::path::PathBuf; 2] {
    let link = dir.path().join("systemd-socket-activate");
    std::os::unix::fs::symlink(prebind_path(), &link).expect("a link");
    ["/usr/bin/systemd-socket-activate".into(), link]
}

/// One run of a tool: what it said and what the program reported, with what differs between runs by name.
struct Case {
    dir: TempDir,
    port: u16,
}

impl Case {
    fn new() -> Case {
        Case { dir: TempDir::new(), port: free_port() }
    }

    fn words(&self, options: &[&str], program: &[&str]) -> Vec<String> {
        let fill = |word: &&str| {
            word.replace("PORT", &self.port.to_string()).replace("DIR", &self.dir.path().display().to_string())
        };
        options.iter().chain(program).map(fill).collect()
    }

    /// Starts the tool with the reporting program, and waits until it listens on everything.
    fn start(&self, tool: &Path, options: &[&str]) -> Tool {
        std::fs::write(self.dir.path().join("report.py"), REPORT).expect("written");
        let program = ["/usr/bin/python3", "DIR/report.py", "DIR/report"];
        let mut running = Tool::start(tool, &self.words(options, &program));
        options.iter().filter(|word| **word == "-l").for_each(|_| running.wait_for("Listening on"));
        running
    }

    fn report(&self, said: &[String]) -> String {
        let report = std::fs::read_to_string(self.dir.path().join("report")).expect("the program's report");
        // Pids differ, and who of parent and child speaks first.
        let mut said: Vec<&String> = said.iter().filter(|line| !line.starts_with("Child")).collect();
        said.sort();
        let own = format!(" from PID {}/", std::process::id());
        let cut = |line: &&String| {
            let line = line.replace(&own, " by this PID/");
            line.split(" from ").next().and_then(|line| line.split(" as PID").next().map(str::to_owned))
        };
        let said: Vec<String> = said.iter().filter_map(cut).collect();
        let text = format!("{}\n{report}", said.join("\n"));
        text.replace(&self.port.to_string(), "PORT").replace(&self.dir.path().display().to_string(), "DIR")
    }
}

#[test]
fn the_program_finds_the_same_in_our_place() {
    let cases: [&[&str]; 7] = [
        &["-l", "127.0.0.1:PORT", "--fdname=web", "-E", "A=1", "-E", "FROM_US", "-E", "UNKNOWN"],
        &["-l", "127.0.0.1:PORT", "-l", "DIR/s", "-l", "@prebind-activate-PORT", "--fdname=a"],
        &["-l", "127.0.0.1:PORT", "-l", "DIR/s", "--fdname=a:b:c"],
        &["--inetd", "-l", "127.0.0.1:PORT"],
        &["-l", "127.0.0.1:PORT", "-E", "PATH=/usr/bin", "-E", "PATH=/bin:/usr/bin"],
        &["--seqpacket", "-l", "DIR/q", "-l", "DIR/s"],
        &["-d", "-l", "127.0.0.1:PORT", "-l", "DIR/s"],
    ];
    for options in cases {
        let reports = both(&TempDir::new()).map(|tool| {
            let case = Case::new();
            let running = case.start(&tool, options);
            let tcp = || TcpStream::connect(("127.0.0.1", case.port)).expect("it listens");
            let _client = match options[0] {
                "--seqpacket" => seqpacket(&case.dir.path().join("q")),
                "-d" => {
                    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                    socket.send_to(b"x", ("127.0.0.1", case.port)).expect("sent");
                    socket.into()
                }
                _ => tcp().into(),
            };
            case.report(&running.said_to_the_end())
        });
        let inetd = options[0] == "--inetd";
        assert!(inetd != reports[0].contains("LISTEN_PID own"), "{options:?}: {}", reports[0]);
        assert_eq!(reports[0], reports[1], "{options:?}: the tool's on the left, ours on the right");
    }
}

fn seqpacket(path: &Path) -> OwnedFd {
    // Other tests start programs meanwhile.
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    connect(fd.as_raw_fd(), &UnixAddr::new(path).expect("short")).expect("it listens");
    fd
}

#[test]
fn a_child_for_each_connection_finds_the_same() {
    let cases: [&[&str]; 3] = [
        &["-a", "-l", "127.0.0.1:PORT", "--fdname=web"],
        &["-a", "--inetd", "-l", "127.0.0.1:PORT"],
        &["-a", "-l", "DIR/s"],
    ];
    for options in cases {
        let reports = both(&TempDir::new()).map(|tool| {
            let case = Case::new();
            let mut running = case.start(&tool, options);
            let _client: OwnedFd = match options[options.len() - 1] {
                "DIR/s" => UnixStream::connect(case.dir.path().join("s")).expect("it listens").into(),
                _ => TcpStream::connect(("127.0.0.1", case.port)).expect("it listens").into(),
            };
            running.wait_for("Child");
            assert!(running.said.last().is_some_and(|line| line.ends_with("died with code 0")), "{:?}", running.said);
            case.report(&running.said)
        });
        assert!(reports[0].contains("accepts 0"), "{options:?}: {}", reports[0]);
        assert!(options.contains(&"DIR/s") == reports[0].contains("by this PID/UID"), "{options:?}: {}", reports[0]);
        assert_eq!(reports[0], reports[1], "{options:?}: the tool's on the left, ours on the right");
    }
}

#[test]
fn what_is_wrong_is_said_as_the_tool_says_it() {
    for words in [
        &["-l", "80"][..],
        &["-d", "-a", "-l", "80", "true"],
        &["-d", "--seqpacket", "-l", "/x", "true"],
        &["true"],
        &["-l", "nonsense", "true"],
        &["--bogus"],
    ] {
        let mut answers = Vec::new();
        for tool in both(&TempDir::new()) {
            let output = Command::new(tool).args(words).env_clear().output().expect("it runs");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let first = text.lines().next().unwrap_or_default();
            // What follows the colon is the tool's errno, and our reason.
            answers.push((
                output.status.code(),
                first.split(": ").next().and_then(|text| text.rsplit('/').next()).map(str::to_owned),
            ));
        }
        assert_eq!(answers[0], answers[1], "{words:?}");
        assert_eq!(answers[1].0, Some(1));
    }
}

#[test]
fn now_does_not_wait() {
    let (links, case) = (TempDir::new(), Case::new());
    let running = case.start(&both(&links)[1], &["--now", "-l", "127.0.0.1:PORT"]);
    let report = case.report(&running.said_to_the_end());
    assert!(report.contains("LISTEN_FDS 1") && !report.contains("Communication"), "{report}");
}
