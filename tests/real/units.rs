//! The same units run by a real systemd and by `prebind --unit`: what their processes report of themselves, and what
//! stands in the file system, is equal but for what [`normal`] names. Each file of tests/real/units is one case: what is
//! done, a step a line, then the unit files.

use crate::harness::{First, Lines, Namespaces, compiled, wait_for};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

struct Case {
    /// `p07`: what its units are called.
    id: String,
    steps: Vec<String>,
    files: Vec<(String, String)>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/units");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("cases").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| read_case(path)).collect()
}

fn read_case(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).expect("a case");
    let number = path.file_name().and_then(|name| name.to_str()?.split('-').next()).expect("NN-name.case");
    let mut parts = text.split("--- ");
    let steps = parts.next().unwrap_or_default().lines().map(str::to_owned).collect();
    let files = parts.map(|part| {
        let (name, text) = part.split_once('\n').expect("a name, then the file");
        (name.to_owned(), text.to_owned())
    });
    Case { id: format!("p{number}"), steps, files: files.collect() }
}

/// Who runs the units.
trait Manager {
    fn machine(&self) -> &Namespaces;
    fn reload(&mut self, case: &Case);
    fn stop(&mut self, case: &Case);
}

struct Systemd<'a>(&'a Namespaces);

impl Manager for Systemd<'_> {
    fn machine(&self) -> &Namespaces {
        self.0
    }

    fn reload(&mut self, case: &Case) {
        self.0.done(&["systemctl", "reload", &format!("{}.service", case.id)]);
    }

    /// Sockets and all that they started, instances too.
    fn stop(&mut self, case: &Case) {
        let pattern = format!("{}*", case.id);
        // A socket that outlives its service by a moment would start it again: nobody took the client's connection.
        self.0.done(&["systemctl", "stop", &format!("{pattern}.socket")]);
        self.0.done(&["systemctl", "stop", &format!("{pattern}.service")]);
    }
}

struct Prebind<'a> {
    machine: &'a Namespaces,
    child: Child,
    lines: Lines,
}

impl Manager for Prebind<'_> {
    fn machine(&self) -> &Namespaces {
        self.machine
    }

    fn reload(&mut self, _case: &Case) {
        self.machine.done(&["prebindctl", "-d", "/run/ctl", "reload"]);
    }

    fn stop(&mut self, _case: &Case) {
        self.machine.done(&["prebindctl", "-d", "/run/ctl", "stop"]);
        wait_for("prebind's end", || self.child.try_wait().expect("its status"));
    }
}

impl Drop for Prebind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- prebind said:\n{}---", self.lines.all());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn by_prebind<'a>(machine: &'a Namespaces, case: &Case) -> Prebind<'a> {
    let folder = format!("/run/cases/{}", case.id);
    let mut words = vec!["prebind", "-d", "/run/ctl", "--unit", &folder];
    words.extend(case.steps.iter().any(|step| step == "start service").then_some("--start"));
    let mut child = machine.command(&words).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("nsenter");
    let lines = Lines::of(child.stderr.take().expect("piped"));
    // From then on it listens; what came before FlushPending= would have thrown away.
    lines.expect(&["all workers are ready"]);
    Prebind { machine, child, lines }
}

/// Carries the steps out. What comes back are the reports and the nodes, by name.
fn carry_out(manager: &mut dyn Manager, case: &Case) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut clients: Vec<Box<dyn std::any::Any>> = Vec::new();
    for (n, step) in case.steps.iter().enumerate() {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        let inside = |path: &str| manager.machine().outside(path);
        let tcp = |host: &str| wait_for(step, || TcpStream::connect(format!("{host}:{rest}")).ok());
        match word {
            "start" | "any-order" => {}
            "tcp" => clients.push(Box::new(tcp("127.0.0.1"))),
            "tcp6" => clients.push(Box::new(tcp("[::1]"))),
            "data" => {
                let mut client = tcp("127.0.0.1");
                client.write_all(b"x").expect("sent");
                clients.push(Box::new(client));
            }
            "udp" | "udp6" => {
                let host = if word == "udp" { "127.0.0.1" } else { "[::1]" };
                let socket = UdpSocket::bind(format!("{host}:0")).expect("a socket");
                wait_for(step, || socket.send_to(b"x", format!("{host}:{rest}")).ok());
            }
            "unix" => clients.push(Box::new(wait_for(step, || {
                // The path of a socket is short; a process's root is another way to it.
                std::os::unix::net::UnixStream::connect(inside(rest)).ok()
            }))),
            "report" => {
                let path = inside(&format!("/run/out/{}.{rest}", case.id));
                let report = wait_for(step, || std::fs::read_to_string(&path).ok());
                let has = |word: &str| case.files.iter().any(|(_, text)| text.contains(word));
                let report = normal(&report, has("\nStandard"), has("$MAINPID"));
                // Across the sockets units of one service systemd's order is that of a hash, ours is fixed.
                let unordered = case.steps.iter().any(|step| step == "any-order");
                seen.insert(format!("{n:02} {step}"), if unordered { sorted(&report) } else { report });
            }
            "stat" => drop(seen.insert(format!("{n:02} {step}"), node(&inside(rest)))),
            "read" => {
                let text = std::fs::read_to_string(inside(rest)).unwrap_or_else(|why| why.kind().to_string());
                seen.insert(format!("{n:02} {step}"), text);
            }
            "reload" => manager.reload(case),
            "stop" => manager.stop(case),
            _ => panic!("{}: what is '{step}'?", case.id),
        }
    }
    seen
}

/// What stands at a path.
fn node(path: &Path) -> String {
    let Ok(found) = path.symlink_metadata() else { return "nothing".into() };
    let kind = found.file_type();
    let word = match () {
        () if kind.is_socket() => "socket",
        () if kind.is_fifo() => "fifo",
        () if kind.is_symlink() => "link",
        () if kind.is_dir() => "directory",
        () => "file",
    };
    let to = std::fs::read_link(path).map(|to| format!(" to {}", to.display())).unwrap_or_default();
    format!("{word}{to} {:04o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid())
}

/// A report without what differs by nature. This is the whole list of differences.
fn normal(report: &str, streams_said: bool, pids_said: bool) -> String {
    /// Variables whose value is each run's own, or that only one side has; and why.
    const VARIABLES: [(&str, &str); 9] = [
        ("FDSTORE", "new in systemd 254"),
        ("INVOCATION_ID", "a number of each start"),
        ("SYSTEMD_EXEC_PID", "of a step it is its own pid, which stands for itself in a report"),
        ("JOURNAL_STREAM", "there is no journal"),
        ("NOTIFY_SOCKET", "each manager's own"),
        ("PREBIND_SLOT", "which of the workers it is"),
        ("PREBIND_GENERATION", "which version it is"),
        ("PREBIND_SERVICE", "of which service it is"),
        ("MAINPID", "a pid"),
    ];
    let mut out = String::new();
    for line in report.lines() {
        let named = |(name, _): &(&str, &str)| {
            line.strip_prefix("env ").is_some_and(|rest| rest.starts_with(&format!("{name}=")))
        };
        if VARIABLES.iter().any(named) {
            // That NOTIFY_SOCKET is there, or not, counts.
            if line.starts_with("env NOTIFY_SOCKET=") {
                out.push_str("env NOTIFY_SOCKET\n");
            }
            continue;
        }
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for word in &mut words {
            if pids_said && word.parse::<u32>().is_ok_and(|number| number > 20) && line.starts_with("argv ") {
                *word = "PID".into();
            }
        }
        let mut line = words.join(" ");
        // Signals 32 and 33 are the C library's own: systemd leaves them as its parent had them.
        if let Some(mask) = line.strip_prefix("SigIgn:\t").and_then(|mask| u64::from_str_radix(mask, 16).ok()) {
            line = format!("SigIgn:\t{:016x}", mask & !(3 << 31));
        }
        // Of a forking service the shell has it, not the probe.
        if line.strip_prefix("env LISTEN_PID=").is_some_and(|pid| pid != "OWN") {
            line = "env LISTEN_PID of another".into();
        }
        // A netlink socket's port is a pid.
        if let (true, Some((head, at))) = (line.contains("SO_DOMAIN=16"), line.split_once(" at 10000000")) {
            line = format!("{head} at {}", &at[8..]);
        }
        // A port of a client, and a number of connections so far, in an instance's name and in REMOTE_PORT.
        let instance = line.starts_with("env ") && line.contains("@0-");
        match (line.split_once("REMOTE_PORT="), line.rsplit_once(':')) {
            (Some((head, _)), _) => _ = writeln!(out, "{head}REMOTE_PORT"),
            (None, Some((head, _))) if instance => _ = writeln!(out, "{head}:PORT"),
            _ if line.starts_with("fd 1 ") || line.starts_with("fd 2 ") => {
                _ = writeln!(out, "{}", stream(&line, streams_said));
            }
            _ => _ = writeln!(out, "{line}"),
        }
    }
    out
}

/// The lines in the order of their letters, without the numbers of descriptors.
fn sorted(report: &str) -> String {
    let plain = |line: &str| match (line.strip_prefix("fd "), line.strip_prefix("env LISTEN_FDNAMES=")) {
        (Some(rest), _) => rest.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned(),
        (None, Some(names)) => {
            let mut names: Vec<&str> = names.split(':').collect();
            names.sort_unstable();
            format!("names {names:?}")
        }
        (None, None) => line.to_owned(),
    };
    let mut lines: Vec<String> = report.lines().map(plain).collect();
    lines.sort();
    lines.join("\n")
}

/// Where a standard stream leads. Where the unit does not say, it is the log: prebind's own standard error; and under a
/// systemd without a journal /dev/null.
fn stream(line: &str, said: bool) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words[2] {
        "/dev/null" if said => line.to_owned(),
        path if path.starts_with("/run/") || path == "socket" => line.to_owned(),
        _ => format!("{} {} the log", words[0], words[1]),
    }
}

fn differences(case: &Case, ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, wanted) in theirs {
        let got = ours.get(name).map_or("", String::as_str);
        let (left, right): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), got.lines().collect());
        for line in left.iter().filter(|line| !right.contains(line)) {
            _ = writeln!(text, "{} {name}: systemd: {line}", case.id);
        }
        for line in right.iter().filter(|line| !left.contains(line)) {
            _ = writeln!(text, "{} {name}: prebind: {line}", case.id);
        }
        if text.is_empty() && wanted != got {
            _ = writeln!(text, "{} {name}: the same lines in another order", case.id);
        }
    }
    text
}

#[test]
fn systemd_and_prebind_make_the_same_of_units() {
    let all = cases();
    assert!(all.len() >= 30);
    let probe = compiled("unit_probe.c", &["-lrt"]);
    let bring = |dir: &Path| {
        std::fs::copy(&probe, dir.join("bin/unit-probe")).expect("copied");
    };
    let name = "systemd_and_prebind_make_the_same_of_units";
    let theirs = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let prepare = |dir: &Path| {
                bring(dir);
                let files = all.iter().flat_map(|case| &case.files);
                files.for_each(|(name, text)| put(&dir.join("units").join(name), text));
            };
            let machine = Namespaces::new(name, First::Systemd, prepare)?;
            machine.enter_network();
            open_out(&machine);
            let all: Vec<_> = all.iter().map(|case| with_systemd(&machine, case)).collect();
            Some(all)
        });
        run.join().expect("systemd's half")
    });
    let Some(theirs) = theirs else { return };
    let text = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let machine = Namespaces::new(name, First::Idle, bring).expect("one more");
            machine.enter_network();
            open_out(&machine);
            let each = all.iter().zip(&theirs).map(|(case, theirs)| with_prebind(&machine, case, theirs));
            each.collect::<String>()
        });
        run.join().expect("prebind's half")
    });
    assert!(text.is_empty(), "\n{text}");
}

fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, text).expect("written");
}

/// Reports of any user.
fn open_out(machine: &Namespaces) {
    machine.done(&["sh", "-c", "mkdir -p /run/out && chmod 1777 /run/out && echo box > /etc/hostname"]);
}

fn with_systemd(machine: &Namespaces, case: &Case) -> BTreeMap<String, String> {
    let sockets = case.files.iter().filter(|(name, _)| name.ends_with(".socket")).map(|(name, _)| name.as_str());
    let service = case.steps.iter().any(|step| step == "start service").then(|| format!("{}.service", case.id));
    let units: Vec<&str> = sockets.chain(service.as_deref()).collect();
    machine.done(&[&["systemctl", "start"][..], &units].concat());
    carry_out(&mut Systemd(machine), case)
}

fn with_prebind(machine: &Namespaces, case: &Case, theirs: &BTreeMap<String, String>) -> String {
    for (name, text) in &case.files {
        machine.write(&format!("/run/cases/{}/{name}", case.id), text);
        // What units name by its path lies where it lies for systemd.
        machine.write(&format!("/run/units/{name}"), text);
    }
    let mut prebind = by_prebind(machine, case);
    let ours = carry_out(&mut prebind, case);
    differences(case, &ours, theirs)
}

/// What a client reads is what the service says.
#[test]
fn a_client_is_answered_by_the_first_start() {
    let Some(machine) = Namespaces::new("a_client_is_answered_by_the_first_start", First::Idle, |_| ()) else { return };
    let server = "import socket; s = socket.socket(fileno=3); c, _ = s.accept(); c.sendall(b'served')";
    machine.write("/run/cases/one/one.socket", "[Socket]\nListenStream=127.0.0.1:20900\n");
    let service = format!("[Service]\nExecStart=/usr/bin/python3 -c \"{server}\"\n");
    machine.write("/run/cases/one/one.service", &service);
    machine.enter_network();
    let case = Case { id: "one".into(), steps: Vec::new(), files: Vec::new() };
    let mut prebind = by_prebind(&machine, &case);
    // The service ends with each answer: the next client starts it again.
    for _ in 0..3 {
        let mut said = String::new();
        let mut client = TcpStream::connect("127.0.0.1:20900").expect("it listens");
        client.read_to_string(&mut said).expect("an answer");
        assert_eq!(said, "served");
    }
    prebind.stop(&case);
}

/// Every key that a careful reader of systemd.socket(5), systemd.service(5) and systemd.exec(5) expects to work is in a case.
#[test]
fn every_expected_key_is_in_a_case() {
    const SOCKET: &str = "ListenStream ListenDatagram ListenSequentialPacket ListenFIFO ListenNetlink ListenMessageQueue \
        BindIPv6Only Backlog BindToDevice SocketUser SocketGroup SocketMode DirectoryMode Accept FlushPending MaxConnections \
        MaxConnectionsPerSource KeepAlive KeepAliveTimeSec KeepAliveIntervalSec KeepAliveProbes DeferAcceptSec NoDelay \
        Priority ReceiveBuffer SendBuffer IPTOS IPTTL Mark ReusePort FreeBind Transparent Broadcast PassCredentials \
        PassSecurity PassPacketInfo Timestamping TCPCongestion PipeSize MessageQueueMaxMessages MessageQueueMessageSize \
        RemoveOnStop Symlinks FileDescriptorName Service TriggerLimitIntervalSec TriggerLimitBurst PollLimitIntervalSec PollLimitBurst ExecStartPre ExecStartPost \
        ExecStopPre ExecStopPost TimeoutSec";
    const SERVICE: &str = "Type ExecStart ExecCondition ExecStartPre ExecStartPost ExecReload ExecStop ExecStopPost KillMode \
        KillSignal SendSIGHUP SendSIGKILL FinalKillSignal WatchdogSignal TimeoutStartSec TimeoutStopSec TimeoutAbortSec \
        TimeoutSec Restart RestartSec RestartSteps RestartMaxDelaySec RestartPreventExitStatus RestartForceExitStatus \
        SuccessExitStatus WatchdogSec NotifyAccess FileDescriptorStoreMax FileDescriptorStorePreserve Sockets \
        NonBlocking StandardInput StandardOutput StandardError User Group SupplementaryGroups Environment EnvironmentFile \
        PassEnvironment UnsetEnvironment WorkingDirectory UMask IgnoreSIGPIPE LimitNOFILE LimitCORE LimitNPROC LimitSTACK \
        LimitCPU LimitFSIZE LimitMEMLOCK LimitNICE LimitRTPRIO LimitRTTIME LimitAS LimitDATA LimitRSS LimitLOCKS \
        LimitSIGPENDING LimitMSGQUEUE Nice OOMScoreAdjust CPUAffinity CPUSchedulingPolicy CPUSchedulingPriority \
        CPUSchedulingResetOnFork IOSchedulingClass IOSchedulingPriority TimerSlackNSec CoredumpFilter NoNewPrivileges \
        CapabilityBoundingSet AmbientCapabilities SecureBits RuntimeDirectory RuntimeDirectoryMode RuntimeDirectoryPreserve \
        StateDirectory StateDirectoryMode CacheDirectory LogsDirectory ConfigurationDirectory PIDFile RemainAfterExit \
        RestartKillSignal ReloadSignal";
    const UNIT: &str = "StartLimitIntervalSec StartLimitBurst";
    let all = cases();
    let lines: Vec<&str> = all.iter().flat_map(|case| &case.files).flat_map(|(_, text)| text.lines()).collect();
    let missing: Vec<&str> = [SOCKET, SERVICE, UNIT]
        .iter()
        .flat_map(|keys| keys.split_whitespace())
        .filter(|key| {
            !lines
                .iter()
                .any(|line| line.trim_start().strip_prefix(*key).is_some_and(|rest| rest.trim_start().starts_with('=')))
        })
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "keys that no case has");
}
