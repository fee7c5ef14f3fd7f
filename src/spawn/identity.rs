//! `--user` and `--group`, `User=` and its siblings: whom a worker becomes. Looked up in prebind, because getpwnam(3) allocates, opens files and
//! may speak to daemons; the child gets numbers.

use super::clone::Change;
use super::error::{SpawnError, Stage, reason};
use crate::plan::{Privilege, ServiceSpec};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The ids to change to; `None`: prebind has them already and may not change its groups.
    pub(super) change: Option<Change>,
    /// `SupplementaryGroups=`.
    pub(super) supplementary: Vec<u32>,
    /// USER, LOGNAME, HOME and SHELL of the user.
    pub(super) login: Vec<(&'static str, OsString)>,
    /// Whose its directories are; `None`: prebind's user, prebind's group.
    pub(super) owner: (Option<u32>, Option<u32>),
}

/// Whom the processes of a service become.
pub(super) fn of_service(service: &ServiceSpec) -> Result<Identity, SpawnError> {
    let (user, group) = (service.user.as_deref(), service.group.as_deref());
    if !service.process.unit {
        return look_up(user, group, "--group");
    }
    let mut identity = look_up(user, group, "Group=")?;
    for word in &service.process.supplementary_groups {
        identity.supplementary.push(find_group(word)?.as_raw());
    }
    match (service.process.login_environment, user) {
        (Some(false), _) => identity.login.clear(),
        (Some(true), None) => identity.login = own_entry()?.map(login_of).unwrap_or_default(),
        _ => {}
    }
    identity.login.retain(|(key, value)| is_told(key, value, identity.owner.0));
    Ok(identity)
}

/// systemd keeps a HOME that is none and a SHELL that lets nobody in to itself.
fn is_told(key: &str, value: &OsStr, uid: Option<u32>) -> bool {
    const NO_SHELLS: [&str; 7] = [
        "/bin/nologin",
        "/sbin/nologin",
        "/usr/sbin/nologin",
        "/bin/false",
        "/usr/bin/false",
        "/bin/true",
        "/usr/bin/true",
    ];
    match key {
        "HOME" => value.as_bytes().starts_with(b"/") && value != "/" && uid != Some(NOBODY),
        "SHELL" => value.as_bytes().starts_with(b"/") && NO_SHELLS.iter().all(|shell| value != *shell),
        _ => true,
    }
}

const NOBODY: u32 = 65534;

/// The home that `WorkingDirectory=~` means: the user's, where there is none prebind's own.
pub(super) fn home(identity: &Identity) -> Result<PathBuf, SpawnError> {
    if let Some((_, home)) = identity.login.iter().find(|(key, _)| *key == "HOME") {
        return Ok(home.into());
    }
    Ok(own_entry()?.map_or_else(|| PathBuf::from("/"), |entry| entry.dir))
}

fn own_entry() -> Result<Option<User>, SpawnError> {
    let uid = geteuid();
    User::from_uid(uid).map_err(|errno| failed(Stage::User, "user", &uid.to_string(), errno))
}

fn login_of(entry: User) -> Vec<(&'static str, OsString)> {
    vec![
        ("USER", entry.name.clone().into()),
        ("LOGNAME", entry.name.into()),
        ("HOME", entry.dir.into()),
        ("SHELL", entry.shell.into()),
    ]
}

/// Looks both up. With a user alone the group is its primary one; its supplementary groups come with the user. With
/// a group alone the worker has no supplementary groups. `remedy`: what gives a group to a number without an entry.
fn look_up(user: Option<&str>, group: Option<&str>, remedy: &str) -> Result<Identity, SpawnError> {
    let gid = group.map(find_group).transpose()?;
    let Some(word) = user else {
        return Ok(match gid {
            Some(gid) => Identity::new(None, gid, Vec::new(), Vec::new()),
            None => Identity::default(),
        });
    };
    let (uid, entry) = find_user(word)?;
    let Some(entry) = entry else {
        let gid = gid.ok_or_else(|| {
            let message = format!("user {uid} has no entry in the user database, so no group (give {remedy} too)");
            SpawnError::new(Stage::User, Errno::ENOENT, message)
        })?;
        return Ok(Identity::new(Some(uid), gid, Vec::new(), Vec::new()));
    };
    let gid = gid.unwrap_or(entry.gid);
    let groups = CString::new(entry.name.as_bytes())
        .map_err(|_| Errno::EINVAL)
        .and_then(|name| getgrouplist(&name, gid))
        .map_err(|errno| failed(Stage::Group, "the groups of", word, errno))?;
    Ok(Identity::new(Some(uid), gid, groups.iter().map(|gid| gid.as_raw()).collect(), login_of(entry)))
}

impl Identity {
    fn new(uid: Option<Uid>, gid: Gid, groups: Vec<u32>, login: Vec<(&'static str, OsString)>) -> Identity {
        let owner = (uid.map(Uid::as_raw), Some(gid.as_raw()));
        Identity { change: change(uid, gid, groups), supplementary: Vec::new(), login, owner }
    }

    /// The ids that a command with these rights changes to. As under systemd what keeps its ids gets the groups of the user
    /// all the same, where prebind may give them, but not those of SupplementaryGroups=.
    pub(super) fn change_for(&self, privilege: Privilege) -> Option<Change> {
        let own = || Change { uid: None, gid: None, groups: Vec::new() };
        match privilege {
            Privilege::Unit if self.supplementary.is_empty() => self.change.clone(),
            Privilege::Unit => {
                let mut change = self.change.clone().unwrap_or_else(own);
                change.groups.extend(&self.supplementary);
                Some(change)
            }
            Privilege::KeepIds | Privilege::Full => {
                let change = self.change.clone().filter(|change| change.uid.is_some() && geteuid().is_root());
                change.map(|change| Change { uid: None, gid: None, ..change })
            }
        }
    }
}

/// Nothing to do for somebody who is not root and asks for the ids that he has: setgroups(2) would be refused.
fn change(uid: Option<Uid>, gid: Gid, groups: Vec<u32>) -> Option<Change> {
    let own = geteuid();
    if !own.is_root() && uid.is_none_or(|uid| uid == own) && gid == getegid() {
        return None;
    }
    Some(Change { uid: uid.map(Uid::as_raw), gid: Some(gid.as_raw()), groups })
}

fn find_user(word: &str) -> Result<(Uid, Option<User>), SpawnError> {
    let number = word.parse().ok().map(Uid::from_raw);
    let entry = match number {
        Some(uid) => User::from_uid(uid),
        None => User::from_name(word),
    };
    let entry = entry.map_err(|errno| failed(Stage::User, "user", word, errno))?;
    match entry.as_ref().map(|entry| entry.uid).or(number) {
        Some(uid) => Ok((uid, entry)),
        None => Err(SpawnError::new(Stage::User, Errno::ENOENT, format!("no such user '{word}'"))),
    }
}

fn find_group(word: &str) -> Result<Gid, SpawnError> {
    if let Ok(number) = word.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(word).map_err(|errno| failed(Stage::Group, "group", word, errno))? {
        Some(entry) => Ok(entry.gid),
        None => Err(SpawnError::new(Stage::Group, Errno::ENOENT, format!("no such group '{word}'"))),
    }
}

fn failed(stage: Stage, what: &str, word: &str, errno: Errno) -> SpawnError {
    SpawnError::new(stage, errno, format!("{} {what} '{word}': {}", stage.text(), reason(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(user: Option<&str>, group: Option<&str>) -> Result<Identity, SpawnError> {
        super::look_up(user, group, "--group")
    }

    #[test]
    fn users_and_groups() {
        if !geteuid().is_root() {
            return; // who asks for what he is gets no change
        }
        let nobody = look_up(Some("nobody"), None).unwrap();
        assert!(nobody.login.contains(&("USER", "nobody".into())), "{nobody:?}");
        assert!(nobody.login.iter().any(|(key, home)| *key == "HOME" && home == "/nonexistent"), "{nobody:?}");
        let change = nobody.change.clone().unwrap();
        assert_eq!((change.uid, change.gid), (Some(65534), Some(65534)));
        assert_eq!(change.groups, [65534]);
        assert_eq!(look_up(Some("65534"), None).unwrap(), nobody);
        let other = look_up(Some("nobody"), Some("daemon")).unwrap().change.unwrap();
        assert_eq!((other.uid, other.gid), (Some(65534), Some(1)));
        let numbers = look_up(Some("4711"), Some("4712")).unwrap();
        assert_eq!(numbers.change, Some(Change { uid: Some(4711), gid: Some(4712), groups: vec![] }));
        assert_eq!(
            look_up(None, Some("daemon")).unwrap().change,
            Some(Change { uid: None, gid: Some(1), groups: vec![] })
        );
        assert_eq!(look_up(None, None).unwrap(), Identity::default());
    }

    #[test]
    fn nobody_there() {
        for (user, group, stage, message) in [
            (Some("nobodyy"), None, Stage::User, "no such user 'nobodyy'"),
            (None, Some("nogroupp"), Stage::Group, "no such group 'nogroupp'"),
            (Some("nobody"), Some("nogroupp"), Stage::Group, "no such group 'nogroupp'"),
            (
                Some("4711"),
                None,
                Stage::User,
                "user 4711 has no entry in the user database, so no group (give --group too)",
            ),
        ] {
            let error = look_up(user, group).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.stage), (message, stage));
        }
    }
}
