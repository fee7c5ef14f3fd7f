//! `--user` and `--group`: whom a worker becomes. Looked up in prebind, because getpwnam(3) allocates, opens files and
//! may speak to daemons; the child gets numbers.

use super::clone::Change;
use super::error::{SpawnError, Stage, reason};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};
use std::ffi::{CString, OsString};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The ids to change to; `None`: prebind has them already and may not change its groups.
    pub(super) change: Option<Change>,
    /// USER, LOGNAME, HOME and SHELL of the user.
    pub(super) login: Vec<(&'static str, OsString)>,
}

/// Looks both up. With a user alone the group is its primary one; its supplementary groups come with the user. With
/// a group alone the worker has no supplementary groups.
pub(super) fn look_up(user: Option<&str>, group: Option<&str>) -> Result<Identity, SpawnError> {
    let gid = group.map(find_group).transpose()?;
    let Some(word) = user else {
        return Ok(match gid {
            Some(gid) => Identity { change: change(None, gid, Vec::new()), login: Vec::new() },
            None => Identity::default(),
        });
    };
    let (uid, entry) = find_user(word)?;
    let Some(entry) = entry else {
        let gid = gid.ok_or_else(|| {
            let message = format!("user {uid} has no entry in the user database, so no group (give --group too)");
            SpawnError::new(Stage::User, Errno::ENOENT, message)
        })?;
        return Ok(Identity { change: change(Some(uid), gid, Vec::new()), login: Vec::new() });
    };
    let gid = gid.unwrap_or(entry.gid);
    let groups = CString::new(entry.name.as_bytes())
        .map_err(|_| Errno::EINVAL)
        .and_then(|name| getgrouplist(&name, gid))
        .map_err(|errno| failed("the groups of", word, errno))?;
    let login = vec![
        ("USER", entry.name.clone().into()),
        ("LOGNAME", entry.name.into()),
        ("HOME", entry.dir.into()),
        ("SHELL", entry.shell.into()),
    ];
    Ok(Identity { change: change(Some(uid), gid, groups.iter().map(|gid| gid.as_raw()).collect()), login })
}

/// Nothing to do for somebody who is not root and asks for the ids that he has: setgroups(2) would be refused.
fn change(uid: Option<Uid>, gid: Gid, groups: Vec<u32>) -> Option<Change> {
    let own = geteuid();
    if !own.is_root() && uid.is_none_or(|uid| uid == own) && gid == getegid() {
        return None;
    }
    Some(Change { uid: uid.map(Uid::as_raw), gid: gid.as_raw(), groups })
}

fn find_user(word: &str) -> Result<(Uid, Option<User>), SpawnError> {
    let number = word.parse().ok().map(Uid::from_raw);
    let entry = match number {
        Some(uid) => User::from_uid(uid),
        None => User::from_name(word),
    };
    let entry = entry.map_err(|errno| failed("user", word, errno))?;
    match entry.as_ref().map(|entry| entry.uid).or(number) {
        Some(uid) => Ok((uid, entry)),
        None => Err(SpawnError::new(Stage::User, Errno::ENOENT, format!("no such user '{word}'"))),
    }
}

fn find_group(word: &str) -> Result<Gid, SpawnError> {
    if let Ok(number) = word.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(word).map_err(|errno| failed("group", word, errno))? {
        Some(entry) => Ok(entry.gid),
        None => Err(SpawnError::new(Stage::User, Errno::ENOENT, format!("no such group '{word}'"))),
    }
}

fn failed(what: &str, word: &str, errno: Errno) -> SpawnError {
    let message = format!("{} {what} '{word}': {}", Stage::User.text(), reason(errno));
    SpawnError::new(Stage::User, errno, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups() {
        if !geteuid().is_root() {
            return; // who asks for what he is gets no change
        }
        let nobody = look_up(Some("nobody"), None).unwrap();
        assert!(nobody.login.contains(&("USER", "nobody".into())), "{nobody:?}");
        assert!(nobody.login.iter().any(|(key, home)| *key == "HOME" && home == "/nonexistent"), "{nobody:?}");
        let change = nobody.change.clone().unwrap();
        assert_eq!((change.uid, change.gid), (Some(65534), 65534));
        assert_eq!(change.groups, [65534]);
        assert_eq!(look_up(Some("65534"), None).unwrap(), nobody);
        let other = look_up(Some("nobody"), Some("daemon")).unwrap().change.unwrap();
        assert_eq!((other.uid, other.gid), (Some(65534), 1));
        let numbers = look_up(Some("4711"), Some("4712")).unwrap();
        assert_eq!(numbers.change, Some(Change { uid: Some(4711), gid: 4712, groups: vec![] }));
        assert_eq!(look_up(None, Some("daemon")).unwrap().change, Some(Change { uid: None, gid: 1, groups: vec![] }));
        assert_eq!(look_up(None, None).unwrap(), Identity::default());
    }

    #[test]
    fn nobody_there() {
        for (user, group, message) in [
            (Some("nobodyy"), None, "no such user 'nobodyy'"),
            (None, Some("nogroupp"), "no such group 'nogroupp'"),
            (Some("nobody"), Some("nogroupp"), "no such group 'nogroupp'"),
            (Some("4711"), None, "user 4711 has no entry in the user database, so no group (give --group too)"),
        ] {
            let error = look_up(user, group).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.stage), (message, Stage::User));
        }
    }
}
