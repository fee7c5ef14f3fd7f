//! Settings that are sets of named bits: capabilities, secure bits, what a core dump holds. A name that is not known is said;
//! the others of its line count.

use super::words::split;

/// Names of linux/capability.h, in the order of their bits.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];
const ALL_CAPABILITIES: u64 = (1 << CAPABILITIES.len()) - 1;

/// Bits of PR_SET_SECUREBITS.
const SECURE: [(&str, u64); 6] = [
    ("noroot", 1),
    ("noroot-locked", 1 << 1),
    ("no-setuid-fixup", 1 << 2),
    ("no-setuid-fixup-locked", 1 << 3),
    ("keep-caps", 1 << 4),
    ("keep-caps-locked", 1 << 5),
];

/// Bits of /proc/PID/coredump_filter.
const DUMPED: [(&str, u64); 11] = [
    ("private-anonymous", 1),
    ("shared-anonymous", 1 << 1),
    ("private-file-backed", 1 << 2),
    ("shared-file-backed", 1 << 3),
    ("elf-headers", 1 << 4),
    ("private-huge", 1 << 5),
    ("shared-huge", 1 << 6),
    ("private-dax", 1 << 7),
    ("shared-dax", 1 << 8),
    ("default", 0x33),
    ("all", u64::MAX),
];

/// The bits of a value's words, and the words that are none.
fn sum(value: &str, bit: impl Fn(&str) -> Option<u64>) -> Result<(u64, Vec<String>), String> {
    let mut bits = 0;
    let mut unknown = Vec::new();
    for word in split(value)? {
        match bit(&word) {
            Some(more) => bits |= more,
            None => unknown.push(word),
        }
    }
    Ok((bits, unknown))
}

fn known(unknown: &[String], what: &str) -> Result<(), String> {
    if unknown.is_empty() { Ok(()) } else { Err(format!("'{}' is no {what}", unknown.join(" "))) }
}

fn capability(word: &str) -> Option<u64> {
    let name = word.to_ascii_lowercase();
    let name = name.strip_prefix("cap_").unwrap_or(&name);
    let at = CAPABILITIES.iter().position(|known| *known == name);
    at.or_else(|| name.parse().ok().filter(|at| *at < CAPABILITIES.len())).map(|at| 1 << at)
}

/// What a line makes of a set: `~` takes out; the first line, and an empty one, replace it.
fn merge(set: u64, initial: u64, value: &str) -> Result<(u64, Vec<String>), String> {
    let (invert, value) = value.strip_prefix('~').map_or((false, value), |value| (true, value));
    let (bits, unknown) = sum(value, capability)?;
    let merged = match (bits == 0 || set == initial, invert) {
        (true, false) => bits,
        (true, true) => ALL_CAPABILITIES & !bits,
        (false, false) => set | bits,
        (false, true) => set & !bits,
    };
    Ok((merged, unknown))
}

/// `CapabilityBoundingSet=`; `None` is all.
pub(super) fn bounding(set: &mut Option<u64>, value: &str) -> Result<(), String> {
    let (merged, unknown) = merge(set.unwrap_or(ALL_CAPABILITIES), ALL_CAPABILITIES, value)?;
    *set = Some(merged).filter(|merged| *merged != ALL_CAPABILITIES);
    known(&unknown, "capability")
}

/// `AmbientCapabilities=`.
pub(super) fn ambient(set: &mut u64, value: &str) -> Result<(), String> {
    let (merged, unknown) = merge(*set, 0, value)?;
    *set = merged;
    known(&unknown, "capability")
}

/// `SecureBits=`.
pub(super) fn secure(set: &mut u32, value: &str) -> Result<(), String> {
    if value.is_empty() {
        *set = 0;
    }
    let (bits, unknown) = sum(value, |word| SECURE.iter().find(|(name, _)| *name == word).map(|(_, bit)| *bit))?;
    *set |= bits as u32;
    known(&unknown, "secure bit")
}

/// `CoredumpFilter=`: names, or masks in hexadecimal.
pub(super) fn coredump(set: &mut Option<u64>, value: &str) -> Result<(), String> {
    if value.is_empty() {
        *set = None;
        return Ok(());
    }
    let mask = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let bit = |word: &str| DUMPED.iter().find(|(name, _)| *name == word).map(|(_, bit)| *bit).or_else(|| mask(word));
    let (bits, unknown) = sum(value, bit)?;
    *set = Some(set.unwrap_or_default() | bits);
    known(&unknown, "mapping of a core dump")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_merge_as_in_systemd() {
        let net = 1 << 10;
        for (lines, expected) in [
            (&["CAP_NET_BIND_SERVICE"][..], Some(net)),
            (&["CAP_NET_BIND_SERVICE", "cap_chown"], Some(net | 1)),
            (&["CAP_NET_BIND_SERVICE cap_chown", "~CAP_CHOWN"], Some(net)),
            (&["~CAP_CHOWN"], Some(ALL_CAPABILITIES - 1)),
            (&["~CAP_CHOWN", "~CAP_NET_BIND_SERVICE"], Some(ALL_CAPABILITIES - 1 - net)),
            (&["CAP_CHOWN", ""], Some(0)),
            (&["CAP_CHOWN", "~"], None),
            (&[""], Some(0)),
        ] {
            let mut set = None;
            lines.iter().for_each(|line| bounding(&mut set, line).expect("known"));
            assert_eq!(set, expected, "{lines:?}");
        }
        let mut set = 0;
        let error = ambient(&mut set, "CAP_NONE CAP_NET_BIND_SERVICE").unwrap_err();
        assert_eq!((set, error.as_str()), (net, "'CAP_NONE' is no capability"));
        assert!(ambient(&mut set, "99").is_err() && ambient(&mut set, "40").is_ok());
    }

    #[test]
    fn other_sets() {
        let mut bits = 0;
        secure(&mut bits, "keep-caps noroot-locked").unwrap();
        assert_eq!((bits, secure(&mut bits, "keepcaps").is_err(), bits), (18, true, 18));
        secure(&mut bits, "").unwrap();
        assert_eq!(bits, 0);
        let mut mask = None;
        coredump(&mut mask, "default shared-dax").unwrap();
        assert_eq!(mask, Some(0x133));
        coredump(&mut mask, "").unwrap();
        coredump(&mut mask, "0x40 1").unwrap();
        assert_eq!((mask, coredump(&mut mask, "some").is_err()), (Some(0x41), true));
    }
}
