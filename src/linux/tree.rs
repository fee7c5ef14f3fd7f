//! The processes of a worker, wherever they went: what descends from its own, and what was orphaned and so became prebind's
//! child (prebind is a subreaper where it runs units, and where it is asked to be). An orphan is known by its session, which
//! a process of the worker began, or by its mark: the worker's number in its environment.

use super::proc;
use std::collections::BTreeSet;
use std::fs;

/// Deeper trees than that, and larger ones, are followed no further.
const PROCESSES_MAX: usize = 10_000;

/// What all processes of one worker have in their environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A unit's: INVOCATION_ID.
    Unit(u128),
    /// PREBIND_INVOCATION_ID.
    Worker(u128),
}

impl Mark {
    fn is_on(self, pid: i32) -> bool {
        match self {
            Mark::Unit(id) => numbered(pid, b"INVOCATION_ID=") == Some(id),
            Mark::Worker(id) => numbered(pid, b"PREBIND_INVOCATION_ID=") == Some(id),
        }
    }
}

/// The children of a process, as the kernel lists them; where it does not (CONFIG_PROC_CHILDREN), by asking everybody for
/// their parent.
fn children_of(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut listed = false;
    let mut found = Vec::new();
    for task in tasks {
        if let Ok(text) = fs::read_to_string(task.path().join("children")) {
            listed = true;
            found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
        }
    }
    if listed { found } else { asked(pid) }
}

fn asked(parent: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| proc::stat(*pid).is_some_and(|(of, _)| of == parent)).collect()
}

/// The processes that `roots` and this process's adopted children of those sessions, or with that mark, are, with all
/// their descendants. `tracked`: children of this process that have a name already. What has ended and was not waited for
/// is left out.
pub(super) fn of_worker(roots: &[i32], sessions: &[i32], mark: Mark, tracked: &dyn Fn(i32) -> bool) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    // A number stays a session's as long as anybody is in it.
    let is_ours = |pid: i32| proc::session(pid).is_some_and(|session| sessions.contains(&session)) || mark.is_on(pid);
    let orphans = |children: Vec<i32>| children.into_iter().filter(|pid| !tracked(*pid) && is_ours(*pid));
    let found = with_descendants(roots.iter().copied().chain(orphans(children_of(own))).collect());
    // Everybody is not asked for each plain worker that ends: what is overlooked of it ends with prebind.
    if !found.is_empty() || matches!(mark, Mark::Worker(_)) {
        return found;
    }
    // The kernel's list may leave somebody out while others end (proc_pid_task_children(5)); that nobody is left is not
    // said lightly.
    with_descendants(orphans(asked(own)).collect())
}

/// Everybody who descends from a process. That nobody does is not said lightly either.
pub(super) fn descendants(pid: i32) -> Vec<i32> {
    let found = with_descendants(children_of(pid));
    if found.is_empty() { with_descendants(asked(pid)) } else { found }
}

fn with_descendants(mut next: Vec<i32>) -> Vec<i32> {
    let mut found: BTreeSet<i32> = BTreeSet::new();
    while let Some(pid) = next.pop() {
        if found.len() < PROCESSES_MAX && found.insert(pid) {
            next.extend(children_of(pid));
        }
    }
    found.into_iter().filter(|pid| proc::lives(*pid)).collect()
}

/// The INVOCATION_ID of the child of this process that `pid` descends from: it was orphaned and adopted.
pub(super) fn invocation_of_orphan(pid: i32) -> Option<u128> {
    const ANCESTORS_MAX: usize = 64;
    let own = std::process::id().cast_signed();
    let mut orphan = pid;
    for _ in 0..ANCESTORS_MAX {
        match proc::stat(orphan)?.0 {
            parent if parent == own => return numbered(orphan, b"INVOCATION_ID="),
            parent if parent <= 1 => return None,
            parent => orphan = parent,
        }
    }
    None
}

/// The number that this variable of the environment has that a process was started with.
fn numbered(pid: i32, variable: &[u8]) -> Option<u128> {
    let environment = environment_of(pid)?;
    let text = environment.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(variable))?;
    u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// A process that is executing a program has none for a moment, between its old memory and the end of loading (a parent
/// that waited in vfork goes on just then): it is asked again.
fn environment_of(pid: i32) -> Option<Vec<u8>> {
    const ASKED_MAX: usize = 1_000;
    for _ in 0..ASKED_MAX {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        if !environment.is_empty() || !proc::is_loading(pid) {
            return Some(environment);
        }
        std::thread::yield_now();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_tree_is_found_by_its_root() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("the sleep's pid");
        let sleep: i32 = line.trim().parse().expect("a number");
        let root = shell.id().cast_signed();
        let mut expected = vec![root, sleep];
        expected.sort_unstable();
        assert_eq!(of_worker(&[root], &[], Mark::Unit(1), &|_| true), expected);
        assert_eq!(asked(root), [sleep], "by asking everybody, too");
        let kill = |pid: i32| Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill runs");
        kill(sleep);
        shell.wait().expect("it ends");
        assert_eq!(of_worker(&[root], &[], Mark::Unit(1), &|_| true), Vec::<i32>::new());
    }

    #[test]
    fn an_orphan_is_known_by_its_environment() {
        let mut child = Command::new("sleep")
            .arg("1000")
            .env("INVOCATION_ID", format!("{:032x}", 7_u128 << 64))
            .spawn()
            .expect("sleep runs");
        let pid = child.id().cast_signed();
        assert_eq!(of_worker(&[], &[], Mark::Unit(7 << 64), &|_| false), [pid]);
        assert_eq!(of_worker(&[], &[], Mark::Unit(8 << 64), &|_| false), Vec::<i32>::new());
        assert_eq!(
            of_worker(&[], &[], Mark::Unit(7 << 64), &|one| one == pid),
            Vec::<i32>::new(),
            "it has a name already"
        );
        let session = proc::session(pid).expect("it lives");
        assert_eq!(of_worker(&[], &[session], Mark::Unit(8 << 64), &|one| one != pid), [pid], "by its session");
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
    }
}
