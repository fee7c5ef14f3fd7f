//! The processes of a unit's worker, wherever they went: what descends from its own, and what was orphaned and so became
//! prebind's child (prebind is a subreaper where it runs units). An orphan is known by the INVOCATION_ID in its environment.

use super::proc;
use std::collections::BTreeSet;
use std::fs;

/// Deeper trees than that, and larger ones, are followed no further.
const PROCESSES_MAX: usize = 10_000;

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

/// The processes that `roots` and this process's adopted children of that invocation are, with all their descendants.
/// `tracked`: children of this process that have a name already. What has ended and was not waited for is left out.
pub(super) fn of_worker(roots: &[i32], invocation: u128, tracked: &dyn Fn(i32) -> bool) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let orphans = children_of(own).into_iter().filter(|pid| !tracked(*pid) && invocation_of(*pid) == Some(invocation));
    let mut found: BTreeSet<i32> = BTreeSet::new();
    let mut next: Vec<i32> = roots.iter().copied().chain(orphans).collect();
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
            parent if parent == own => return invocation_of(orphan),
            parent if parent <= 1 => return None,
            parent => orphan = parent,
        }
    }
    None
}

/// The INVOCATION_ID in the environment that a process was started with.
pub(super) fn invocation_of(pid: i32) -> Option<u128> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let text = variables.find_map(|variable| variable.strip_prefix(b"INVOCATION_ID="))?;
    u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
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
        assert_eq!(of_worker(&[root], 1, &|_| true), expected);
        assert_eq!(asked(root), [sleep], "by asking everybody, too");
        let kill = |pid: i32| Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill runs");
        kill(sleep);
        shell.wait().expect("it ends");
        assert_eq!(of_worker(&[root], 1, &|_| true), Vec::<i32>::new());
    }

    #[test]
    fn an_orphan_is_known_by_its_environment() {
        let mut child = Command::new("sleep")
            .arg("1000")
            .env("INVOCATION_ID", format!("{:032x}", 7_u128 << 64))
            .spawn()
            .expect("sleep runs");
        let pid = child.id().cast_signed();
        // Its environment is there once it was executed: Command::spawn returns then.
        assert_eq!(of_worker(&[], 7 << 64, &|_| false), [pid]);
        assert_eq!(of_worker(&[], 8 << 64, &|_| false), Vec::<i32>::new());
        assert_eq!(of_worker(&[], 7 << 64, &|one| one == pid), Vec::<i32>::new(), "it has a name already");
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
    }
}
