//! Chapter "Containers": what a worker started and what left its process group ends with it, while prebind goes on: known by
//! its mark where orphans are prebind's, and by the worker's control group where prebind may make some.

use crate::harness::{Prebind, Setup, TempDir, is_root, proc, wait_for};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

/// Ends by itself, should a test fail.
const STRAY: &str = "trap 'exit' ALRM; i=0; while [ $i -lt 3000 ]; do sleep 0.02; i=$((i + 1)); done";

/// The pid that a process wrote into that file.
fn written(path: &Path) -> i32 {
    wait_for("a pid", || fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok())
}

fn succeeded(prebind: &mut Prebind, before: i32) {
    prebind.wait_status("a successor", |status| {
        let worker = &status["services"][0]["workers"][0];
        (worker["state"] == "ready" && worker["pid"] != before).then_some(())
    });
}

/// One worker with two strays: one that ends when it is told to, one that does not hear. `through`: what starts them.
fn strays_end_with_their_worker(wrapper: &[&str], through: &str) -> Prebind {
    let dir = TempDir::new();
    let polite = format!("echo $$ >{0}/polite.$1; trap '>{0}/told.$1; exit' TERM; {STRAY}", dir.path().display());
    let deaf = format!("echo $$ >{0}/deaf.$1; trap '' TERM; {STRAY}", dir.path().display());
    let scripts = [("polite.sh", polite), ("deaf.sh", deaf)];
    scripts.iter().for_each(|(name, text)| fs::write(dir.join(name), text).expect("written"));
    let path = dir.path().display();
    // Each is orphaned at once: the shell that began it ends.
    let started =
        format!("for one in polite deaf; do ({through} setsid sh {path}/$one.sh $$ &); done; exec sleep 1000");
    let words = ["--subreaper", "-t", "1", "--", "sh", "-c", &started];
    let mut prebind = Setup::in_dir(dir, &words).wrapped(wrapper).start();
    prebind.wait_ready();
    let worker = prebind.worker_pids()[0];
    let of = |prebind: &Prebind, worker: i32| {
        ["polite", "deaf"].map(|name| written(Path::new(&prebind.dir.join(&format!("{name}.{worker}")))))
    };
    let strays = of(&prebind, worker);
    assert!(strays.iter().all(|pid| proc::group(*pid) != Some(worker)), "they left its group");

    proc::kill(worker, libc::SIGKILL);
    succeeded(&mut prebind, worker);
    prebind.lines.expect(&["ended, but processes that it started live on; they are told to stop (TERM)"]);
    wait_for("the strays of the dead worker", || strays.iter().all(|pid| !proc::alive(*pid)).then_some(()));
    assert!(Path::new(&prebind.dir.join(&format!("told.{worker}"))).exists(), "it had time to end");
    let next = prebind.worker_pids()[0];
    let others = of(&prebind, next);
    assert!(others.iter().all(|pid| proc::alive(*pid)), "those of the successor live on");

    // The same by an upgrade of prebind itself: the next program knows them, too.
    prebind.signal(libc::SIGHUP);
    succeeded(&mut prebind, next);
    wait_for("the strays of the old worker", || others.iter().all(|pid| !proc::alive(*pid)).then_some(()));
    prebind
}

#[test]
fn known_by_their_mark() {
    let prebind = strays_end_with_their_worker(&[], "");
    prebind.stop();
}

/// Of a worker's environment nothing may be left: the kernel knows who is in its group.
#[test]
fn known_by_the_control_group() {
    let Some(group) = TestGroup::new("known_by_the_control_group") else { return };
    let path = group.0.display().to_string();
    let enter = format!("echo 0 >{path}/cgroup.procs && exec \"$@\"");
    let prebind = strays_end_with_their_worker(&["sh", "-c", &enter, "enter"], "env -i PATH=/usr/bin:/bin");
    wait_for("what is left of workers that are gone to go", || (group.inside().len() == 1).then_some(()));
    prebind.stop();
    assert_eq!(group.inside(), Vec::<PathBuf>::new());
}

/// A control group that is delegated as systemd does it.
struct TestGroup(PathBuf);

impl TestGroup {
    fn new(test: &str) -> Option<TestGroup> {
        if !is_root(test) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
        let mounted =
            mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[2] == "cgroup2");
        let path = mounted.map(|words| Path::new(words[1]).join(format!("prebind-test-{}", std::process::id())));
        let Some(path) = path.filter(|path| fs::create_dir(path).is_ok()) else {
            eprintln!("{test}: no control groups (v2) that may be written to: nothing is tested here");
            return None;
        };
        let name = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
        let one = c"1".as_ptr().cast();
        let set = unsafe { libc::setxattr(name.as_ptr(), c"trusted.delegate".as_ptr(), one, 1, 0) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        Some(TestGroup(path))
    }

    fn inside(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("it is there").flatten();
        entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.path()).collect()
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        self.inside().iter().for_each(|group| drop(fs::remove_dir(group)));
        let _ = fs::remove_dir(&self.0);
    }
}
