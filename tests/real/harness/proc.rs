//! What /proc knows of processes, and ending those that a test started.

use std::fs;

pub(crate) fn kill(pid: i32, signal: i32) {
    assert!(pid > 1, "no pid to signal: {pid}");
    unsafe { libc::kill(pid, signal) };
}

pub(crate) fn kill_group(group: i32, signal: i32) {
    assert!(group > 1, "no group to signal: {group}");
    unsafe { libc::kill(-group, signal) };
}

/// Whether it runs; a zombie does not.
pub(crate) fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

/// The fields of /proc/PID/stat from the state on: state, parent, group, session, ...
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = text.rsplit_once(") ")?.1;
    Some(after_name.split(' ').map(str::to_owned).collect())
}

/// Its process group.
pub(crate) fn group(pid: i32) -> Option<i32> {
    stat(pid)?[2].parse().ok()
}

/// When it was started, in clock ticks.
pub(crate) fn started(pid: i32) -> Option<u64> {
    stat(pid)?[19].parse().ok()
}

/// The live processes of a group.
pub(crate) fn members(group: i32) -> Vec<i32> {
    let wanted = group.to_string();
    all().filter(|pid| stat(*pid).is_some_and(|fields| fields[2] == wanted && fields[0] != "Z")).collect()
}

/// Whether it is halted by SIGSTOP, all its threads.
pub(crate) fn halted(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let state = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("stat")).ok()?;
        text.rsplit_once(") ")?.1.chars().next()
    };
    threads.flatten().all(|thread| state(thread.path()) == Some('T'))
}

/// Descriptor numbers with what they point to, in order.
pub(crate) fn fds(pid: i32) -> Vec<(i32, String)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut all: Vec<(i32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?.display().to_string()))
        })
        .collect();
    all.sort();
    all
}

/// Soft and hard limit of open files.
pub(crate) fn nofile(pid: i32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    let mut words = line.split_whitespace().skip(3);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// What it was called with, with a space after each word.
pub(crate) fn command_line(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// Every live process.
pub(crate) fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Live processes whose first environment holds the marker.
pub(crate) fn marked(marker: &str) -> Vec<i32> {
    all()
        .filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.windows(marker.len()).any(|window| window == marker.as_bytes()) && alive(*pid)
        })
        .collect()
}

/// Kills them until none is left.
pub(crate) fn kill_marked(marker: &str) {
    for _ in 0..50 {
        let left = marked(marker);
        if left.is_empty() {
            return;
        }
        left.into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
