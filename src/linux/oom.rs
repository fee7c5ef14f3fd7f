//! Whether the kernel killed for want of memory: memory.events of prebind's own control group (cgroup v2), whose numbers hold
//! for all groups under it; memory.oom_control of cgroup v1.

use std::fs;
use std::path::PathBuf;

#[derive(Debug, Default)]
pub(super) struct OomWatch {
    /// How many it killed before; `None`: not asked yet.
    seen: Option<u64>,
}

impl OomWatch {
    /// A group that began with this process: nothing was killed in it before.
    pub(super) fn of_new_group() -> OomWatch {
        OomWatch { seen: Some(0) }
    }

    /// Takes what was killed until now as seen, where nothing was before.
    pub(super) fn begin(&mut self) {
        if self.seen.is_none() {
            self.seen = killed();
        }
    }

    /// Whether somebody was killed since it was asked last.
    pub(super) fn killed_since(&mut self) -> bool {
        let before = self.seen;
        let now = killed();
        self.seen = now.or(before);
        before.zip(now).is_some_and(|(before, now)| now > before)
    }
}

fn killed() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&groups).into_iter().find_map(|path| counted(&fs::read_to_string(path).ok()?))
}

/// Where the number may stand. In a container without a control group namespace the path is the host's, and the mount's
/// root is ours.
fn files(groups: &str) -> Vec<PathBuf> {
    const ROOT: &str = "/sys/fs/cgroup";
    let of = |start: &str| groups.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(start));
    let places = |root: String, path: Option<&str>, file: &str| {
        let root = PathBuf::from(root);
        path.into_iter().flat_map(|path| [root.join(path).join(file), root.join(file)]).collect::<Vec<_>>()
    };
    let second = places(ROOT.into(), of(":/"), "memory.events");
    let first = places(format!("{ROOT}/memory"), of("memory:/"), "memory.oom_control");
    second.into_iter().chain(first).collect()
}

fn counted(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_looked_at() {
        let shown = |groups| files(groups).iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(shown("0::/\n"), "/sys/fs/cgroup/memory.events /sys/fs/cgroup/memory.events");
        assert_eq!(
            shown("4:memory:/docker/x\n2:cpuacct:/docker/x\n"),
            "/sys/fs/cgroup/memory/docker/x/memory.oom_control /sys/fs/cgroup/memory/memory.oom_control"
        );
    }

    #[test]
    fn kills_are_counted() {
        let text = "low 0\nhigh 3\nmax 12\noom 2\noom_kill 7\noom_group_kill 0\n";
        assert_eq!(counted(text), Some(7));
        assert_eq!(counted("low 0\n"), None);
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        let mut watch = OomWatch { seen: Some(u64::MAX) };
        assert!(!watch.killed_since(), "fewer than before are none, and no file is no reason");
    }
}
