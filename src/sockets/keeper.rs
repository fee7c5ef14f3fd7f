//! Our own nodes in the file system: removed at the end, and linked back from a spare hard link when a worker unlinks
//! one (gunicorn, PHP-FPM and Puma do). Only a node that is still ours, by device and inode, is ever touched.

use super::error::reason;
use super::freeze::FrozenNode;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::lstat;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A node that prebind made; dropping it removes the node, if it is still the one at its path and is not to stay.
#[derive(Debug)]
pub(super) struct OwnNode {
    path: PathBuf,
    node: (u64, u64),
    spare: Option<PathBuf>,
    stays: bool,
    /// It was said that the path is lost: once is enough.
    given_up: bool,
}

/// What stands at one of our paths.
#[derive(PartialEq)]
enum Found {
    Ours,
    Nothing,
    Another,
}

impl OwnNode {
    /// The node that was just made at that path.
    pub(super) fn just_made(path: &Path) -> Result<OwnNode, Errno> {
        let stat = lstat(path)?;
        // Kept absolute, so that it is found whatever happens to the working directory.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        // The types of the fields differ between architectures.
        #[allow(clippy::unnecessary_cast)]
        let node = (stat.st_dev as u64, stat.st_ino as u64);
        Ok(OwnNode { path, node, spare: None, stays: false, given_up: false })
    }

    /// The node that was there before, which stays unless it is settled otherwise.
    pub(super) fn found(path: &Path) -> Result<OwnNode, Errno> {
        let mut own = OwnNode::just_made(path)?;
        own.stays = true;
        Ok(own)
    }

    /// From now on it stays, or goes at the end.
    fn settle(&mut self, stays: &dyn Fn(&Path) -> bool) {
        self.stays = stays(&self.path);
    }

    /// Makes the hard link that it can be put back from.
    pub(super) fn make_spare(&mut self) -> Result<(), Errno> {
        let spare = spare_path(&self.path, &std::process::id().to_string());
        match link(&self.path, &spare) {
            // Left by a killed prebind of the same pid, as in a container, where it is always the same.
            Err(Errno::EEXIST) => {
                let _ = fs::remove_file(&spare);
                link(&self.path, &spare)?;
            }
            result => result?,
        }
        self.spare = Some(spare);
        Ok(())
    }

    fn at(&self, path: &Path) -> Found {
        match fs::symlink_metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == self.node => Found::Ours,
            Ok(_) => Found::Another,
            Err(_) => Found::Nothing,
        }
    }

    /// Puts the path back if it vanished. Returns what was done, in one line, if anything was.
    fn restore(&mut self) -> Option<String> {
        let path = self.path.display();
        match self.at(&self.path) {
            Found::Ours => {
                self.given_up = false;
                // A cleaner of temporary directories may have taken the spare one.
                if self.spare.as_ref().is_some_and(|spare| self.at(spare) == Found::Nothing) {
                    let _ = self.make_spare();
                }
                None
            }
            _ if self.given_up => None,
            Found::Another => {
                self.given_up = true;
                Some(format!("{path} was replaced by another node: new clients do not reach us there"))
            }
            Found::Nothing => {
                let Some(spare) = &self.spare else {
                    self.given_up = true;
                    return Some(format!("{path} was removed and cannot be put back (no spare hard link)"));
                };
                match link(spare, &self.path) {
                    Ok(()) => Some(format!("{path} was removed: put back")),
                    Err(errno) => {
                        self.given_up = true;
                        Some(format!("{path} was removed and cannot be put back: {}", reason(errno)))
                    }
                }
            }
        }
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        for path in Some(&self.path).filter(|_| !self.stays).into_iter().chain(&self.spare) {
            if self.at(path) == Found::Ours {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn link(from: &Path, to: &Path) -> Result<(), Errno> {
    fs::hard_link(from, to).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// `.NAME.prebind-SUFFIX` in the same directory.
fn spare_path(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".prebind-");
    name.push(suffix);
    path.with_file_name(name)
}

/// The spare links beside a path that prebinds which were killed have left.
pub(super) fn left_spares(path: &Path) -> Vec<PathBuf> {
    let pattern = spare_path(path, "");
    let (Some(directory), Some(start)) = (path.parent(), pattern.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let is_spare = |name: &str| {
        name.strip_prefix(start).is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_spare)).map(|entry| entry.path()).collect()
}

fn make_spares(nodes: &mut [OwnNode], remarks: &mut Vec<String>) {
    for node in nodes {
        if let Err(errno) = node.make_spare() {
            let (path, why) = (node.path.display(), reason(errno));
            remarks.push(format!("{path} cannot be put back if a worker removes it: no hard links there: {why}"));
        }
    }
}

/// Watches them; `None` where there is none.
fn watched(nodes: &[OwnNode], remarks: &mut Vec<String>) -> Option<Inotify> {
    if nodes.is_empty() {
        return None;
    }
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .map_err(|errno| remarks.push(format!("unix paths are not watched: {}", reason(errno))))
        .ok()?;
    for node in nodes {
        // The inode, not the directory: a busy /tmp costs no wake-up. An unlink changes the link count: IN_ATTRIB.
        let events = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        if let Err(errno) = inotify.add_watch(&node.path, events | AddWatchFlags::IN_DONT_FOLLOW) {
            remarks.push(format!("{} is not watched: {}", node.path.display(), reason(errno)));
        }
    }
    Some(inotify)
}

/// All our nodes, watched.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    nodes: Vec<OwnNode>,
    inotify: Option<Inotify>,
}

impl Keeper {
    /// Makes the spare links and starts to watch. What cannot be guarded is said in `remarks`. `stays`: whether a path is
    /// left in place at the end.
    pub(super) fn new(mut nodes: Vec<OwnNode>, stays: &dyn Fn(&Path) -> bool, remarks: &mut Vec<String>) -> Keeper {
        nodes.iter_mut().for_each(|node| node.settle(stays));
        make_spares(&mut nodes, remarks);
        let inotify = watched(&nodes, remarks);
        Keeper { nodes, inotify }
    }

    /// Path, node and spare link of each, for the next program in this process.
    pub(super) fn freeze(&self) -> Vec<FrozenNode> {
        self.nodes.iter().map(|one| (one.path.clone(), one.node, one.spare.clone())).collect()
    }

    /// In the next program: the spare links are there already, but for the nodes that have come since.
    pub(super) fn thaw(
        frozen: Vec<FrozenNode>,
        mut added: Vec<OwnNode>,
        stays: &dyn Fn(&Path) -> bool,
        remarks: &mut Vec<String>,
    ) -> Keeper {
        make_spares(&mut added, remarks);
        let own = |(path, node, spare)| OwnNode { path, node, spare, stays: true, given_up: false };
        let mut nodes: Vec<OwnNode> = frozen.into_iter().map(own).chain(added).collect();
        nodes.iter_mut().for_each(|node| node.settle(stays));
        let inotify = watched(&nodes, &mut Vec::new());
        Keeper { nodes, inotify }
    }

    /// Removes the node of that path, if it is ours.
    pub(super) fn let_go(&mut self, path: &Path) {
        self.nodes.retain(|one| one.path != path);
    }

    /// Readable when a node of ours may have been unlinked.
    pub(super) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Looks at every node and puts back what vanished; one line for each.
    pub(super) fn restore(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        // Linking back changes the link count, which is an event again: drained here, so that it wakes nobody. Looking
        // after draining loses nothing; a worker that unlinks without end is met again at the next wake-up.
        for _ in 0..4 {
            if let Some(inotify) = &self.inotify {
                while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
            }
            let before = lines.len();
            lines.extend(self.nodes.iter_mut().filter_map(OwnNode::restore));
            if lines.len() == before {
                break;
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Directory;
    use super::*;
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn keep(path: &Path) -> (Keeper, UnixListener) {
        let listener = UnixListener::bind(path).unwrap();
        let mut remarks = Vec::new();
        let keeper = Keeper::new(vec![OwnNode::just_made(path).unwrap()], &|_| false, &mut remarks);
        assert_eq!(remarks, Vec::<String>::new());
        (keeper, listener)
    }

    fn is_readable(keeper: &Keeper) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        poll(&mut [PollFd::new(keeper.watch().unwrap(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn an_unlinked_path_is_put_back_and_reaches_the_same_listener() {
        let directory = Directory::new();
        let path = directory.0.join("web.sock");
        let (mut keeper, listener) = keep(&path);
        keeper.restore();
        for _ in 0..3 {
            assert!(!is_readable(&keeper), "restoring wakes nobody");
            fs::remove_file(&path).unwrap();
            assert!(is_readable(&keeper));
            assert_eq!(keeper.restore(), [format!("{} was removed: put back", path.display())]);
            UnixStream::connect(&path).unwrap().write_all(b"x").unwrap();
            listener.accept().unwrap();
        }
        fs::rename(&path, directory.0.join("moved")).unwrap();
        assert!(is_readable(&keeper));
        assert_eq!(keeper.restore().len(), 1);
        fs::remove_file(directory.0.join("moved")).unwrap();
        drop(keeper);
        assert_eq!(directory.names(), Vec::<String>::new());
    }

    #[test]
    fn a_foreign_node_is_left_alone_and_said_once() {
        let directory = Directory::new();
        let path = directory.0.join("web.sock");
        let (mut keeper, _listener) = keep(&path);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        assert!(keeper.restore()[0].contains("replaced by another node"));
        assert_eq!(keeper.restore(), Vec::<String>::new());
        drop(keeper);
        assert_eq!(directory.names(), ["web.sock"]);
    }

    #[test]
    fn a_spare_of_the_same_pid_is_replaced() {
        let directory = Directory::new();
        let path = directory.0.join("web.sock");
        fs::write(spare_path(&path, &std::process::id().to_string()), "old").unwrap();
        let (mut keeper, _listener) = keep(&path);
        fs::remove_file(&path).unwrap();
        assert!(keeper.restore()[0].ends_with("put back"));
        drop(keeper);
        assert_eq!(directory.names(), Vec::<String>::new());
    }

    #[test]
    fn a_lost_spare_is_made_again_and_a_lost_path_said() {
        let directory = Directory::new();
        let path = directory.0.join("web.sock");
        let (mut keeper, _listener) = keep(&path);
        let spare = left_spares(&path).remove(0);
        fs::remove_file(&spare).unwrap();
        assert_eq!(keeper.restore(), Vec::<String>::new());
        assert_eq!(left_spares(&path), std::slice::from_ref(&spare));
        fs::remove_file(&spare).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(keeper.restore()[0].ends_with("cannot be put back: no such file"));
        assert_eq!(keeper.restore(), Vec::<String>::new());
    }
}
