//! Specifiers of units that are about the machine and the user that prebind runs as (systemd.unit(5), SPECIFIERS).

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};
use std::env::var;
use std::fs::read_to_string;

/// What does not change while units are read.
pub(super) struct Specifiers {
    user: Option<User>,
    uid: Uid,
    gid: Gid,
    release: Vec<(String, String)>,
}

impl Specifiers {
    pub(super) fn of_this_machine() -> Specifiers {
        let uid = geteuid();
        let release = read_to_string("/etc/os-release").or_else(|_| read_to_string("/usr/lib/os-release"));
        let release = release.unwrap_or_default();
        let lines = release.lines().filter_map(|line| line.split_once('='));
        let plain = |value: &str| value.trim_matches(['"', '\'']).to_string();
        let release = lines.map(|(key, value)| (key.to_string(), plain(value))).collect();
        Specifiers { user: User::from_uid(uid).ok().flatten(), uid, gid: getegid(), release }
    }

    /// The value of `%letter`; `None`: systemd has no such one.
    pub(super) fn get(&self, letter: char) -> Option<String> {
        let root = self.uid.is_root();
        let of = |system: &str, variable: &str, in_home: &str| match (root, var(variable)) {
            (true, _) => system.to_string(),
            (false, Ok(path)) if !path.is_empty() => path,
            (false, _) => format!("{}/{in_home}", self.home()),
        };
        Some(match letter {
            't' if root => "/run".into(),
            't' => var("XDG_RUNTIME_DIR").unwrap_or_else(|_| format!("/run/user/{}", self.uid)),
            'S' => of("/var/lib", "XDG_STATE_HOME", ".local/state"),
            'C' => of("/var/cache", "XDG_CACHE_HOME", ".cache"),
            'L' if root => "/var/log".into(),
            'L' => format!("{}/log", of("", "XDG_STATE_HOME", ".local/state")),
            'E' => of("/etc", "XDG_CONFIG_HOME", ".config"),
            'D' => of("/usr/share", "XDG_DATA_HOME", ".local/share"),
            'T' => temporary().unwrap_or_else(|| "/tmp".into()),
            'V' => temporary().unwrap_or_else(|| "/var/tmp".into()),
            'h' => self.home(),
            'u' => self.user.as_ref().map_or_else(|| self.uid.to_string(), |user| user.name.clone()),
            'U' => self.uid.to_string(),
            'g' => Group::from_gid(self.gid).ok().flatten().map_or_else(|| self.gid.to_string(), |group| group.name),
            'G' => self.gid.to_string(),
            's' => self.user.as_ref().map_or("/bin/sh".into(), |user| user.shell.display().to_string()),
            'H' => host(),
            'l' => host().split('.').next().unwrap_or_default().to_string(),
            'q' => pretty_host(),
            'm' => first_line("/etc/machine-id"),
            'b' => first_line("/proc/sys/kernel/random/boot_id").replace('-', ""),
            'v' => first_line("/proc/sys/kernel/osrelease"),
            'a' => architecture().into(),
            'o' => self.release("ID"),
            'w' => self.release("VERSION_ID"),
            'W' => self.release("VARIANT_ID"),
            'B' => self.release("BUILD_ID"),
            'M' => self.release("IMAGE_ID"),
            'A' => self.release("IMAGE_VERSION"),
            _ => return None,
        })
    }

    fn home(&self) -> String {
        self.user.as_ref().map_or_else(|| "/".into(), |user| user.dir.display().to_string())
    }

    fn release(&self, key: &str) -> String {
        self.release.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

fn temporary() -> Option<String> {
    ["TMPDIR", "TEMP", "TMP"].iter().find_map(|key| var(key).ok().filter(|path| path.starts_with('/')))
}

fn host() -> String {
    first_line("/proc/sys/kernel/hostname")
}

fn pretty_host() -> String {
    let text = read_to_string("/etc/machine-info").unwrap_or_default();
    let pretty = text.lines().find_map(|line| line.strip_prefix("PRETTY_HOSTNAME="));
    pretty.map_or_else(host, |name| name.trim_matches(['"', '\'']).to_string())
}

pub(super) fn first_line(path: &str) -> String {
    read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_string()
}

/// systemd's words for it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64-le",
        "powerpc64" => "ppc64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_has_a_value_and_others_have_none() {
        let all = Specifiers::of_this_machine();
        for letter in "tSCLEDTVhsH".chars() {
            assert!(all.get(letter).is_some_and(|value| !value.is_empty()), "{letter}");
        }
        assert_eq!(all.get('U'), Some(geteuid().to_string()));
        for letter in ['t', 'S', 'C', 'L', 'E', 'T', 'V', 'h'] {
            assert!(all.get(letter).is_some_and(|value| value.starts_with('/')), "{letter}");
        }
        for letter in ['Z', 'i', 'z', '1'] {
            assert_eq!(all.get(letter), None, "{letter}");
        }
    }
}
