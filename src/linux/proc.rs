//! What /proc tells of processes: who holds a socket, whose process group and parent a pid has.

#![allow(unsafe_code)]

use nix::libc;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Whether a process of the group `pgid` holds one of these nodes (device, inode). `true` where /proc does not tell:
/// a worker is not to be blamed for our lack of rights.
pub(super) fn group_holds(pgid: i32, nodes: &[(u64, u64)]) -> bool {
    match holds(pgid, nodes) {
        Some(true) => return true,
        None => return true,
        Some(false) => {}
    }
    let Ok(all) = fs::read_dir("/proc") else { return true };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter(|pid| *pid != pgid) {
        if stat(pid).is_some_and(|(_, group)| group == pgid) && holds(pid, nodes).unwrap_or(true) {
            return true;
        }
    }
    false
}

/// Whether a process holds one of them; `None`: not allowed to look.
fn holds(pid: i32, nodes: &[(u64, u64)]) -> Option<bool> {
    let fds = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(fds) => fds,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
    };
    Some(fds.flatten().any(|fd| {
        let node = fs::metadata(fd.path()).map(|meta| (meta.dev(), meta.ino()));
        node.is_ok_and(|node| nodes.contains(&node))
    }))
}

/// Parent and process group of a pid.
pub(super) fn stat(pid: i32) -> Option<(i32, i32)> {
    fields(pid).map(|[parent, group, _]| (parent, group))
}

/// The session of a pid.
pub(super) fn session(pid: i32) -> Option<i32> {
    fields(pid).map(|[_, _, session]| session)
}

/// Parent, process group and session.
fn fields(pid: i32) -> Option<[i32; 3]> {
    let text = state_and_later(pid)?;
    let mut fields = text.split(' ').skip(1);
    let mut next = || fields.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

/// What proc_pid_stat(5) tells from its third field on. The name in parentheses, its second, may hold anything, also
/// parentheses: the rest begins behind the last one.
fn state_and_later(pid: i32) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    String::from_utf8(text.get(end + 2..)?.to_vec()).ok()
}

/// Whether a process is there and has not ended.
pub(super) fn lives(pid: i32) -> bool {
    state_and_later(pid).is_some_and(|text| !text.starts_with(['Z', 'X']))
}

/// Whether a process of ours lives and its program is not loaded yet: the end of its environment, field 51, is not known.
pub(super) fn is_loading(pid: i32) -> bool {
    const ENV_END: usize = 51 - 3;
    state_and_later(pid).is_some_and(|text| !text.starts_with(['Z', 'X']) && text.split(' ').nth(ENV_END) == Some("0"))
}

/// The process group of a pid.
pub(super) fn group_of(pid: i32) -> Option<i32> {
    // SAFETY: a plain system call.
    let group = unsafe { libc::getpgid(pid) };
    (group > 0).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn our_own_sockets_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = std::process::id() as i32;
        let meta = fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).expect("it is open");
        let node = (meta.dev(), meta.ino());
        assert_eq!(holds(own, &[node]), Some(true));
        drop(listener);
        assert_eq!(holds(own, &[(node.0, u64::MAX)]), Some(false));
        assert_eq!(stat(own).map(|(_, group)| group), group_of(own));
    }
}
