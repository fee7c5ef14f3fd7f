//! Chapter "Circus's configuration", its log files: what workers write reaches them whole, whatever becomes of the files, of
//! the workers and of prebind meanwhile.

use crate::harness::{Prebind, Setup, TempDir, free_port, get, wait_for};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// Writes numbered lines, in pieces, from the number that its file holds; the rest after `upto` waits for the file "go".
const WRITER: &str = r#"#!/bin/sh
n=1
while [ $n -le 400 ]; do
  printf 'line '; printf '%d of pid %d\n' $n $$
  n=$((n + 1))
  [ $n -ne 200 ] || { echo >half; until [ -e go ]; do sleep 0.05; done; }
done
echo >written
exec sleep 1000
"#;

fn run(dir: TempDir, text: &str) -> Prebind {
    let file = dir.join("circus.ini");
    fs::write(&file, text).expect("write");
    fs::write(dir.join("writer"), WRITER).expect("write");
    Setup::in_dir(dir, &["--circus", &file]).and(&["-v"]).start()
}

fn text(dir: &TempDir, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

fn exists(dir: &TempDir, name: &str) {
    wait_for(name, || Path::new(&dir.join(name)).exists().then_some(()));
}

/// The numbers of all lines, which are whole.
fn numbers(lines: &str) -> Vec<u32> {
    let number = |line: &str| -> Option<u32> { line.strip_prefix("line ")?.split_once(" of pid ")?.0.parse().ok() };
    lines.lines().map(|line| number(line).unwrap_or_else(|| panic!("a torn line: {line:?}"))).collect()
}

fn all() -> Vec<u32> {
    (1..=400).collect()
}

#[test]
fn no_line_is_lost_while_files_are_put_aside_and_prebind_is_replaced() {
    let options = "cmd = sh writer\nstdout_stream.filename = out.log\nstdout_stream.max_bytes = 2000\n\
                   stdout_stream.backup_count = 50\n";
    let mut prebind = run(TempDir::new(), &format!("[watcher:w]\n{options}"));
    prebind.wait_ready();
    exists(&prebind.dir, "half");
    prebind.ctl(&["reexec"]).code(0);
    fs::write(prebind.dir.join("go"), "").expect("written");
    exists(&prebind.dir, "written");
    let files = || (0..50).rev().map(|n| if n == 0 { "out.log".to_string() } else { format!("out.log.{n}") });
    let whole = || files().map(|name| text(&prebind.dir, &name)).collect::<String>();
    wait_for("the last line", || whole().contains("line 400 of").then_some(()));
    assert_eq!(numbers(&whole()), all());
    let lengths: Vec<u64> =
        files().filter_map(|name| Some(fs::metadata(prebind.dir.join(&name)).ok()?.len())).collect();
    assert!(lengths.len() > 3 && lengths.iter().all(|length| *length < 2000), "{lengths:?}");
    prebind.stop();
}

#[test]
fn usr1_opens_files_anew() {
    let options = "cmd = sh writer\nstdout_stream.filename = out.log\nstderr_stream.filename = out.log\n";
    let mut prebind = run(TempDir::new(), &format!("[watcher:w]\n{options}"));
    prebind.wait_ready();
    exists(&prebind.dir, "half");
    wait_for("the first half", || text(&prebind.dir, "out.log").contains("line 199 of").then_some(()));
    fs::rename(prebind.dir.join("out.log"), prebind.dir.join("old.log")).expect("renamed");
    prebind.signal(libc::SIGUSR1);
    exists(&prebind.dir, "out.log");
    fs::write(prebind.dir.join("go"), "").expect("written");
    wait_for("the last line", || text(&prebind.dir, "out.log").contains("line 400 of").then_some(()));
    let lines = text(&prebind.dir, "old.log") + &text(&prebind.dir, "out.log");
    assert_eq!(numbers(&lines), all());
    assert_eq!(numbers(&text(&prebind.dir, "out.log"))[0], 200);
    prebind.stop();
}

#[test]
fn each_line_has_time_and_pid_and_last_words_are_kept() {
    let options = "cmd = sh -c 'echo out; echo err >&2; printf last; exec sleep 1000'\n\
                   stdout_stream.class = TimedRotatingFileStream\nstdout_stream.filename = out.log\n\
                   stdout_stream.rotate_when = MIDNIGHT\nstdout_stream.utc = yes\nstdout_stream.time_format = %Y!\n\
                   stderr_stream.class = WatchedFileStream\nstderr_stream.filename = err.log\n";
    let mut prebind = run(TempDir::new(), &format!("[watcher:w]\n{options}"));
    prebind.wait_ready();
    let pid = prebind.worker_pids()[0];
    wait_for("its lines", || text(&prebind.dir, "out.log").contains("last").then_some(()));
    wait_for("its lines", || text(&prebind.dir, "err.log").contains("err\n").then_some(()));
    let out = text(&prebind.dir, "out.log");
    let said: Vec<&str> = out.lines().collect();
    let year = &said[0][..4];
    assert_eq!(said, [format!("{year}! [{pid}] | out"), format!("{year}! [{pid}] | last")]);
    assert_eq!(text(&prebind.dir, "err.log"), "err\n");
    prebind.stop();
}

#[test]
fn a_full_disk_stops_no_worker() {
    let port = free_port();
    let text = format!(
        "[socket:web]\nhost = 127.0.0.1\nport = {port}\n[watcher:w]\nuse_sockets = yes\nshell = yes\n\
         cmd = (while :; do echo noise; sleep 0.01; done) & exec {} ignore-term\ngraceful_timeout = 1\n\
         stop_children = yes\nstdout_stream.filename = /dev/full\n",
        crate::harness::probe::path()
    );
    let mut prebind = run(TempDir::new(), &text);
    prebind.wait_ready();
    prebind.lines.expect(&["cannot write /dev/full: no space left on device; what workers write is lost until it can"]);
    for _ in 0..20 {
        get(SocketAddr::from(([127, 0, 0, 1], port)), "/").expect("it answers");
    }
    prebind.stop();
}
