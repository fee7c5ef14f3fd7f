//! Symbolic links to a socket's path (`Symlinks=`): made once the path is there. A link that is right already will do; what
//! else is in the way is replaced only for a socket that takes its path away at the end.

use super::error::reason;
use super::owner::{make_parents, node_word};
use crate::plan::SocketOptions;
use nix::errno::Errno;
use std::fs;
use std::io::Error;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A link to a path of ours; dropping it removes it, unless it is to stay, or leads elsewhere by now.
#[derive(Debug)]
pub(super) struct OwnLink {
    link: PathBuf,
    target: PathBuf,
    stays: bool,
}

impl OwnLink {
    /// One that is there, made by the program before.
    pub(super) fn there(link: &Path, target: &Path) -> OwnLink {
        OwnLink { link: link.into(), target: target.into(), stays: true }
    }

    /// From now on it stays, or goes at the end.
    pub(super) fn settle(&mut self, stays: bool) {
        self.stays = stays;
    }

    fn is_right(&self) -> bool {
        fs::read_link(&self.link).is_ok_and(|target| target == self.target)
    }
}

impl Drop for OwnLink {
    fn drop(&mut self) {
        if !self.stays && self.is_right() {
            let _ = fs::remove_file(&self.link);
        }
    }
}

/// Makes the links that were asked for; what cannot be made is a remark. Those that were made go when they are dropped,
/// until they are settled otherwise; those that were there stay.
pub(super) fn make(
    target: Option<&Path>,
    options: &SocketOptions,
    what: &str,
    made: &mut Vec<PathBuf>,
    remarks: &mut Vec<String>,
) -> Vec<OwnLink> {
    if options.symlinks.is_empty() {
        return Vec::new();
    }
    let Some(target) = target else {
        remarks.push(format!("{what}: no symbolic links: it has no path that they could lead to"));
        return Vec::new();
    };
    let mut links = Vec::new();
    for link in &options.symlinks {
        match make_one(link, target, options, made) {
            Ok(one) => links.push(one),
            Err(why) => remarks.push(format!("{what}: cannot link {} to it: {why}", link.display())),
        }
    }
    links
}

fn make_one(link: &Path, target: &Path, options: &SocketOptions, made: &mut Vec<PathBuf>) -> Result<OwnLink, String> {
    let why = |error: Error| error.raw_os_error().map_or(error.to_string(), |n| reason(Errno::from_raw(n)));
    make_parents(link, options, made)?;
    let mut own = OwnLink::there(link, target);
    match symlink(target, link) {
        Ok(()) => own.stays = false,
        Err(error) if error.raw_os_error() != Some(Errno::EEXIST as i32) => return Err(why(error)),
        Err(_) if own.is_right() => {}
        Err(_) => {
            let found = fs::symlink_metadata(link).map_err(why)?;
            if options.keep_path || found.is_dir() {
                return Err(format!("{} is in the way", node_word(&found)));
            }
            fs::remove_file(link).map_err(why)?;
            symlink(target, link).map_err(why)?;
            own.stays = false;
        }
    }
    Ok(own)
}
