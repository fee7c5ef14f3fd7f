//! Whether Condition= and Assert= of a unit hold on this machine, as far as that can be told without systemd.

use super::specifiers::{architecture, first_line};
use crate::cli::pattern::matching;
use crate::front::pattern::fits;
use nix::unistd::{AccessFlags, Group, Uid, User, access, getegid, geteuid, getgroups};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Whether it holds; `None`: nobody here can tell.
pub(super) fn holds(kind: &str, value: &str) -> Option<bool> {
    let path = Path::new(value);
    let data = || fs::metadata(path).ok();
    Some(match kind {
        "PathExists" => path.exists(),
        "PathExistsGlob" => !matching(value).is_empty(),
        "PathIsDirectory" => path.is_dir(),
        "PathIsSymbolicLink" => path.is_symlink(),
        "PathIsMountPoint" => is_mount_point(path),
        "PathIsReadWrite" => access(path, AccessFlags::W_OK).is_ok(),
        "DirectoryNotEmpty" => fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()),
        "FileNotEmpty" => data().is_some_and(|data| data.is_file() && data.len() > 0),
        "FileIsExecutable" => data().is_some_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0),
        "User" => is_user(value),
        "Group" => is_group(value),
        "Host" => is_host(value),
        "Environment" => in_environment(value),
        "Architecture" => value == "native" || value == architecture(),
        "KernelCommandLine" => on_kernel_line(value),
        "Virtualization" if value == "container" => in_container(),
        _ => return None,
    })
}

fn is_mount_point(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    let Some(parent) = path.parent() else { return true };
    match (fs::metadata(&path), fs::metadata(parent)) {
        (Ok(own), Ok(above)) => own.dev() != above.dev(),
        _ => false,
    }
}

/// A name, a number, or `@system`.
fn is_user(value: &str) -> bool {
    const SYSTEM_UID_MAX: u32 = 999;
    let uid = geteuid();
    match (value, value.parse()) {
        ("@system", _) => uid.as_raw() <= SYSTEM_UID_MAX,
        (_, Ok(number)) => uid == Uid::from_raw(number),
        (name, Err(_)) => User::from_name(name).ok().flatten().is_some_and(|user| user.uid == uid),
    }
}

fn is_group(value: &str) -> bool {
    let named = |name| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
    let Some(wanted) = value.parse().ok().or_else(|| named(value)) else { return false };
    let mine = getgroups().unwrap_or_default();
    mine.iter().chain([&getegid()]).any(|gid| gid.as_raw() == wanted)
}

/// The machine's id, or a pattern for its name.
fn is_host(value: &str) -> bool {
    let id = first_line("/etc/machine-id");
    let named = fits(value, &first_line("/proc/sys/kernel/hostname"));
    named || (!id.is_empty() && value.replace('-', "").eq_ignore_ascii_case(&id))
}

/// NAME, or NAME=VALUE.
fn in_environment(value: &str) -> bool {
    match value.split_once('=') {
        Some((name, value)) => std::env::var(name).is_ok_and(|own| own == value),
        None => std::env::var_os(value).is_some(),
    }
}

/// As the common engines tell.
fn in_container() -> bool {
    let marks = ["/run/.containerenv", "/.dockerenv", "/run/systemd/container"];
    std::env::var_os("container").is_some() || marks.iter().any(|path| Path::new(path).exists())
}

/// A word of it, or its beginning up to the `=`.
fn on_kernel_line(value: &str) -> bool {
    let line = first_line("/proc/cmdline");
    line.split_whitespace()
        .any(|word| word == value || word.strip_prefix(value).is_some_and(|rest| rest.starts_with('=')))
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn what_can_be_told() {
        for (kind, value, expected) in [
            ("PathExists", "/proc/self", Some(true)),
            ("PathExists", "/nowhere", Some(false)),
            ("PathExistsGlob", "/proc/sel?", Some(true)),
            ("PathExistsGlob", "/proc/none*", Some(false)),
            ("PathIsDirectory", "/proc", Some(true)),
            ("PathIsDirectory", "/proc/cmdline", Some(false)),
            ("PathIsSymbolicLink", "/proc/self", Some(true)),
            ("PathIsMountPoint", "/proc", Some(true)),
            ("PathIsMountPoint", "/proc/sys/kernel", Some(false)),
            ("DirectoryNotEmpty", "/proc", Some(true)),
            ("FileNotEmpty", "/proc", Some(false)),
            ("FileNotEmpty", "/proc/self/exe", Some(true)),
            ("FileIsExecutable", "/proc/self/exe", Some(true)),
            ("User", "nobody-of-that-name", Some(false)),
            ("Environment", "PATH", Some(true)),
            ("Environment", "PATH=no", Some(false)),
            ("Architecture", "vax", Some(false)),
            ("Architecture", "native", Some(true)),
            ("KernelCommandLine", "surely.not.there", Some(false)),
            ("Host", "*", Some(true)),
            ("ACPower", "true", None),
        ] {
            assert_eq!(holds(kind, value), expected, "{kind}={value}");
        }
        assert_eq!(holds("User", &nix::unistd::geteuid().to_string()), Some(true));
        assert_eq!(holds("Group", &nix::unistd::getegid().to_string()), Some(true));
    }
}
