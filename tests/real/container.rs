//! Chapter "Containers": prebind as PID 1 of a PID namespace, and what an entrypoint has beside a launcher. See docker.rs for
//! the same by an engine.

use crate::harness::{Finished, Prebind, Setup, TempDir, free_port, get, is_root, load, run_piped, wait_for};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

/// Makes prebind PID 1 of a PID namespace with a /proc of its own.
const AS_PID1: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

fn as_pid1(arguments: &[&str]) -> Setup {
    Setup::new(arguments).wrapped(&AS_PID1)
}

/// The pid, out here, of what unshare started.
fn pid1(prebind: &Prebind) -> i32 {
    let path = format!("/proc/{0}/task/{0}/children", prebind.pid());
    wait_for("PID 1", || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

fn kill(pid: i32, signal: i32) {
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "{pid} is there");
}

fn file(prebind: &Prebind, name: &str) {
    wait_for(name, || Path::new(&prebind.dir.join(name)).exists().then_some(()));
}

/// What tini does with the same command.
fn tini(words: &[&str]) -> Finished {
    let mut command = Command::new(AS_PID1[0]);
    command.args(&AS_PID1[1..]).arg("tini").arg("--").args(words);
    run_piped(command)
}

/// A thousand orphans end by themselves; a second later no zombie is left, and the command's own code is prebind's.
#[test]
fn orphans_are_reaped_and_the_exit_code_is_the_commands() {
    if !is_root("orphans_are_reaped_and_the_exit_code_is_the_commands") {
        return;
    }
    let script = "i=0; while [ $i -lt 1000 ]; do (sleep 0.1 &); i=$((i + 1)); done; sleep 1.2; \
                  grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l; exit 7";
    let finished = as_pid1(&["-q", "--", "sh", "-c", script]).finish();
    finished.code(7);
    assert_eq!(finished.stdout.trim(), "0", "zombies");
    tini(&["sh", "-c", "exit 7"]).code(7);
    // A death by a signal, told or not, is 128 + N, as tini has it; and what it is to be instead.
    let killed = "kill -TERM $$";
    tini(&["sh", "-c", killed]).code(143);
    as_pid1(&["--", "sh", "-c", killed]).finish().code(143);
    as_pid1(&["--exit-code", "143=0", "--", "sh", "-c", killed]).finish().code(0);
    as_pid1(&["--exit-code", "7=3", "--", "sh", "-c", "exit 7"]).finish().code(3);
    as_pid1(&["--restart", "on-failure", "--", "true"]).finish().code(0);
}

#[test]
fn a_stop_ends_with_the_commands_own_code() {
    if !is_root("a_stop_ends_with_the_commands_own_code") {
        return;
    }
    for (options, script, code) in [
        (&[][..], "trap 'exit 5' TERM; >up; while :; do sleep 0.02; done", 5),
        (&[], ">up; exec sleep 1000", 143),
        (&["--exit-code", "143"], ">up; exec sleep 1000", 0),
        (&["--rewrite", "TERM:QUIT"], "trap 'exit 6' QUIT; >up; while :; do sleep 0.02; done", 6),
    ] {
        let mut words = options.to_vec();
        words.extend(["--", "sh", "-c", script]);
        let mut prebind = as_pid1(&words).start();
        file(&prebind, "up");
        kill(pid1(&prebind), libc::SIGTERM);
        assert_eq!(prebind.wait_exit().code(), Some(code), "{options:?} {script}");
    }
}

/// What workers left behind is told to stop, waited for, and killed: also what began a session of its own.
#[test]
fn what_workers_left_ends_with_prebind() {
    let orphan = "trap '>told; sleep 0.2; >waited; exit' TERM; >orphan; while :; do sleep 0.02; done";
    let stubborn = "trap '' TERM; >stubborn; while :; do sleep 0.02; done";
    // Whose they are is not known any more.
    let start = "env -u PREBIND_INVOCATION_ID setsid sh -c";
    let script = format!("{start} \"{orphan}\" & {start} \"{stubborn}\" & exec sleep 1000");
    let mut prebind = Setup::new(&["--subreaper", "-t", "2", "--", "sh", "-c", &script]).start();
    for name in ["orphan", "stubborn"] {
        file(&prebind, name);
    }
    let before = prebind.descendants().len();
    assert!(before >= 3, "{before}");
    prebind.signal(libc::SIGTERM);
    // The harness itself looks for what is left.
    assert!(prebind.wait_exit().success());
    for name in ["told", "waited"] {
        assert!(Path::new(&prebind.dir.join(name)).exists(), "{name}");
    }
    prebind.lines.expect(&["processes that workers left are told to stop"]);
    prebind.lines.expect(&["processes that workers left are killed"]);
    assert_eq!(prebind.descendants(), Vec::<i32>::new());
}

#[test]
fn a_service_that_never_becomes_ready_is_given_up() {
    let given_up = "3 workers in a row died before one was ready: giving up";
    let options = ["-b", "127.0.0.1:0", "-n", "2", "-s", "0.05", "-m", "notify"];
    let words = [&options[..], &["--give-up-after", "3", "--", "false"]].concat();
    Setup::new(&words).finish().code(1).says(&[given_up]);
    if is_root("a_service_that_never_becomes_ready_is_given_up as PID 1") {
        let words = [&options[..], &["--", "false"]].concat();
        as_pid1(&words).finish().code(1).says(&["5 workers in a row died before one was ready"]);
    }
}

#[test]
fn signals_are_passed_on_and_rewritten() {
    if !is_root("signals_are_passed_on_and_rewritten") {
        return;
    }
    let script = "for s in USR1 USR2 HUP WINCH CONT; do trap \">got-$s\" $s; done; trap 'exit 0' TERM; >up; \
                  while :; do sleep 0.02; done";
    let options = ["--forward", "USR1", "--rewrite", "HUP:USR2", "--", "sh", "-c", script];
    let mut prebind = as_pid1(&options).start();
    file(&prebind, "up");
    for (signal, got) in [
        (libc::SIGUSR1, "got-USR1"),
        (libc::SIGHUP, "got-USR2"),
        (libc::SIGWINCH, "got-WINCH"),
        (libc::SIGCONT, "got-CONT"),
    ] {
        kill(pid1(&prebind), signal);
        file(&prebind, got);
    }
    assert!(!Path::new(&prebind.dir.join("got-HUP")).exists(), "rewritten");
    kill(pid1(&prebind), libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

fn refused(options: &[&str], why: &str) {
    let words = [options, &["--", "true"]].concat();
    let finished = Setup::new(&words).finish();
    assert!([2, 100].contains(&finished.status.code().unwrap_or(-1)), "{finished:?}");
    finished.says(&[why]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    refused(&["--rewrite", "TERM"], "not FROM:TO");
    refused(&["--rewrite", "TERM:0"], "nothing would stop the workers");
    refused(&["--rewrite", "FOO:TERM"], "foo");
    refused(&["--forward", "TERM"], "it stops the workers, and so reaches them");
    refused(&["--exit-code", "300=0", "--restart", "no"], "'300' is not an exit code");
    refused(&["--exit-code", "1=0"], "with --restart no only");
    refused(&["--health-listen", "nowhere"], "not port or ip:port");
}

fn probe(port: u16, path: &str) -> String {
    asked(
        TcpStream::connect(("127.0.0.1", port)).expect("it listens"),
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
    )
}

/// The first line of the answer to what is asked now, and was before.
fn asked(mut stream: TcpStream, rest: &str) -> String {
    stream.write_all(rest.as_bytes()).expect("written");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("read");
    said.lines().next().unwrap_or_default().to_string()
}

#[test]
fn probes_see_what_is_ready() {
    let (port, web) = (free_port(), free_port());
    let (listen, bind) = (format!("127.0.0.1:{port}"), format!("web=127.0.0.1:{web}"));
    let dir = TempDir::new();
    let health = dir.join("health");
    fs::write(&health, "of an old run").expect("written");
    let options = ["-b", &bind, "-n", "2", "-m", "notify", "--health-file", &health, "--health-listen", &listen];
    let hold = "while [ ! -e go ]; do sleep 0.02; done; exec \"$PROBE\"";
    let mut prebind = Setup::in_dir(dir, &options)
        .and(&["--drain-delay", "0.5", "--", "sh", "-c", hold])
        .env("PROBE", crate::harness::probe::path())
        .start();
    wait_for("probes", || TcpStream::connect(("127.0.0.1", port)).ok());
    assert_eq!(probe(port, "/live"), "HTTP/1.1 200 OK");
    assert_eq!(probe(port, "/ready"), "HTTP/1.1 503 Service Unavailable");
    assert!(!Path::new(&health).exists(), "the file of an old run");
    prebind.ctl(&["live"]).code(0);
    prebind.ctl(&["ready"]).code(1);
    fs::write(prebind.dir.join("go"), "").expect("written");
    prebind.wait_ready();
    wait_for("the file", || Path::new(&health).exists().then_some(()));
    assert_eq!(probe(port, "/ready"), "HTTP/1.1 200 OK");
    prebind.ctl(&["ready"]).code(0);
    // Who is in the middle of asking is answered by the next program.
    let mut half = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    half.write_all(b"GET /ready HT").expect("written");
    assert_eq!(probe(port, "/live"), "HTTP/1.1 200 OK", "so the one before it was accepted");
    prebind.ctl(&["reexec"]).code(0);
    assert_eq!(asked(half, "TP/1.1\r\n\r\n"), "HTTP/1.1 200 OK");
    // Through its own replacement nobody is refused.
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let ((), tally) = load::while_asked(
        || (),
        || get(at, "/ready"),
        || {
            prebind.ctl(&["reexec"]).code(0);
            prebind.ctl(&["upgrade"]).code(0);
        },
    );
    tally.without_loss("probes");
    prebind.signal(libc::SIGTERM);
    wait_for("the file's end", || (!Path::new(&health).exists()).then_some(()));
    assert!(prebind.wait_exit().success());
    // Whoever asks for a prebind that is gone is told no.
    prebind.ctl(&["ready"]).code(1);
    prebind.ctl(&["live"]).code(1);
}
