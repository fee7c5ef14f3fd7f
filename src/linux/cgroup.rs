//! A control group of its own for each worker (cgroup v2), below prebind's, where that is prebind's to divide: what a worker
//! starts stays in it, whatever session it begins and whoever its parent is by then.

#![allow(unsafe_code)]

use super::children::Strays;
use super::{Level, Linux};
use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Groups inside of a worker's group, which are its own affair, are followed so deep.
const DEPTH_MAX: usize = 8;

/// Where the workers' groups are made.
#[derive(Debug)]
pub(super) struct Cgroups {
    own: PathBuf,
}

impl Cgroups {
    /// prebind's own group, if it may make others in it: as PID 1 of a container with its groups writable, and where somebody
    /// delegated it (systemd's Delegate=, by the attribute or the owner of its directory).
    pub(super) fn find(pid1: bool) -> Option<Cgroups> {
        let (groups, mounts) =
            (fs::read_to_string("/proc/self/cgroup").ok()?, fs::read_to_string("/proc/self/mountinfo").ok()?);
        let cgroups = Cgroups { own: directory(&groups, &mounts)? };
        let tried = cgroups.own.join(format!("prebind-{:032x}", super::units::new_invocation()));
        let writable = || fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried)).is_ok();
        // The root of all groups, which has no events, is the machine's, also where a PID namespace begins in it.
        let own = || cgroups.own.join("cgroup.events").exists() && is_in(&cgroups.own);
        ((pid1 || is_delegated(&cgroups.own)) && own() && writable()).then_some(cgroups)
    }

    /// A group for the worker of that number, and the file by which a process enters it.
    pub(super) fn make(&self, invocation: u128) -> io::Result<(Cgroup, File)> {
        let group = Cgroup { path: self.own.join(format!("prebind-{invocation:032x}")) };
        match fs::create_dir(&group.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // A unit's worker has several processes.
            Ok(()) | Err(_) => {}
        }
        let enter = File::options().write(true).open(group.path.join("cgroup.procs"))?;
        Ok((group, enter))
    }
}

impl Linux {
    /// A group for the processes of that worker, and how they enter it.
    pub(super) fn group_for(&self, invocation: u128) -> (Strays, Option<File>) {
        match self.cgroups.as_ref().map(|cgroups| cgroups.make(invocation)) {
            _ if invocation == 0 => (Strays::Unknown, None),
            Some(Ok((group, enters))) => (Strays::Grouped(group), Some(enters)),
            Some(Err(error)) => {
                self.say(Level::Info, "cgroup", format!("a worker gets no control group of its own: {error}"));
                (Strays::Marked(invocation), None)
            }
            None => (Strays::Marked(invocation), None),
        }
    }

    /// How the processes of a worker are known that was to enter its group.
    pub(super) fn grouped(&mut self, strays: Strays, refused: Option<Errno>, invocation: u128) -> Strays {
        let Some(errno) = refused else { return strays };
        strays.leave();
        let why = errno.desc().to_lowercase();
        self.say(Level::Info, "cgroup", format!("workers get no control groups of their own: {why}"));
        self.cgroups = None;
        Strays::Marked(invocation)
    }
}

/// The control group of one worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Everybody in it, and in groups inside of it. Who has ended is not.
    pub(super) fn members(&self) -> Vec<i32> {
        let mut found = Vec::new();
        if !self.is_populated() {
            return found;
        }
        for group in inside(&self.path, DEPTH_MAX) {
            let all = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(all.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        }
        found
    }

    /// Whether anybody is in it, or in groups inside of it: what the kernel says is looked at before each of them is.
    fn is_populated(&self) -> bool {
        let mut text = [0; 64];
        let read = File::open(self.path.join("cgroup.events")).and_then(|mut file| file.read(&mut text));
        !read.is_ok_and(|length| text[..length].starts_with(b"populated 0"))
    }

    /// Kills all at once, so that nobody has a child in between (Linux 5.14).
    pub(super) fn kill(&self) -> bool {
        fs::write(self.path.join("cgroup.kill"), "1").is_ok()
    }

    /// The worker is gone. A group that still has somebody in it stays.
    pub(super) fn remove(&self) {
        if fs::remove_dir(&self.path).is_err() {
            inside(&self.path, DEPTH_MAX).iter().for_each(|group| drop(fs::remove_dir(group)));
        }
    }
}

/// A group and those inside of it, the innermost first.
fn inside(group: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if depth > 0 {
        let entries = fs::read_dir(group).into_iter().flatten().flatten();
        let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        groups.for_each(|entry| found.extend(inside(&entry.path(), depth - 1)));
    }
    found.push(group.to_owned());
    found
}

/// Where this process's group of cgroup v2 is mounted; `None`: nowhere, or out of sight.
fn directory(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // proc_pid_mountinfo(5): the fourth field is the root of the mount in its file system, the fifth where it is.
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then_some(())?;
        let mut fields = place.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        (!below.starts_with("..")).then(|| Path::new(at).join(below))
    })
}

fn is_in(group: &Path) -> bool {
    let own = std::process::id().to_string();
    fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|all| all.lines().any(|line| line == own))
}

/// Whoever manages the groups above gave it away, in systemd's ways: an attribute, or an owner who is not root.
fn is_delegated(group: &Path) -> bool {
    let Ok(path) = CString::new(group.as_os_str().as_bytes()) else { return false };
    let marked = |name: &std::ffi::CStr| {
        let mut value = [0_u8; 2];
        // SAFETY: two strings that end in NUL, and room for as many bytes as is said.
        let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        length == 1 && value[0] == b'1'
    };
    let uid = nix::unistd::geteuid();
    let owned = !uid.is_root() && fs::metadata(group).is_ok_and(|data| data.uid() == uid.as_raw());
    owned || marked(c"trusted.delegate") || marked(c"user.delegate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let mount = |root: &str, at: &str| format!("36 25 0:31 {root} {at} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n");
        let other = "29 28 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        for (groups, root, at, expected) in [
            ("0::/", "/", "/sys/fs/cgroup", Some("/sys/fs/cgroup")),
            ("2:cpu:/x\n0::/a.slice/b.service", "/", "/sys/fs/cgroup", Some("/sys/fs/cgroup/a.slice/b.service")),
            ("0::/docker/12", "/docker/12", "/sys/fs/cgroup", Some("/sys/fs/cgroup")),
            ("0::/docker/12", "/docker/1", "/sys/fs/cgroup", None),
            ("0::/../other", "/", "/sys/fs/cgroup", None),
            ("2:cpu:/x", "/", "/sys/fs/cgroup", None),
        ] {
            let found = directory(groups, &format!("{other}{}", mount(root, at)));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{groups} {root}");
        }
        assert_eq!(directory("0::/", other), None);
    }

    #[test]
    fn a_foreign_directory_is_nobodys_group() {
        let group = Cgroup { path: "/nowhere".into() };
        assert!(group.members().is_empty() && !group.kill());
        assert!(!is_in(Path::new("/nowhere")) && !is_delegated(Path::new("/nowhere")));
    }
}
