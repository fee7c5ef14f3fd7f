//! What systemd.exec(5) says of a service's processes: who they are, where they run, how they are scheduled. Receives
//! assignments, hands on the half of a [`ServiceSpec`] that spawn/ reads. Streams, limits, sets of bits, variables and
//! folders have files of their own.

use super::Remark;
use super::directories::Directories;
use super::lex::Assignment;
use super::name::UnitName;
use super::stdio::Streams;
use super::values::{boolean, integer, mode, set, span};
use super::words::split;
use super::{bits, environment, limits};
use crate::plan::{OpenFile, Scheduling, ServiceSpec};
use std::path::PathBuf;

/// What a value is read with: the unit's name and the specifiers that are not about it.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) name: &'a UnitName,
    pub(super) outside: &'a dyn Fn(char) -> Option<String>,
}

impl Context<'_> {
    pub(super) fn expand(&self, value: &str) -> Result<String, String> {
        self.name.expand(value, self.outside)
    }

    /// The words of a value, each with its specifiers filled.
    pub(super) fn words(&self, value: &str) -> Result<Vec<String>, String> {
        split(value)?.iter().map(|word| self.expand(word)).collect()
    }

    /// An absolute path without doubled slashes and without `..`.
    pub(super) fn path(&self, value: &str) -> Result<PathBuf, String> {
        let path = self.expand(value)?;
        if !path.starts_with('/') {
            return Err(format!("'{path}' is no absolute path"));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(format!("'{path}' has .. in it"));
        }
        Ok(PathBuf::from(format!("/{}", parts.join("/"))))
    }
}

/// Settings that are only complete at the end.
#[derive(Default)]
pub(super) struct Process {
    policy: Option<i32>,
    priority: i32,
    reset_on_fork: bool,
    io_class: Option<u8>,
    io_priority: Option<u8>,
    streams: Streams,
    directories: Directories,
}

/// Keys whose bad value makes the unit unusable, as in systemd: with another user or folder it would be another service.
pub(super) fn is_vital(key: &str, value: &str) -> bool {
    match key {
        "User" | "Group" | "SupplementaryGroups" => true,
        "WorkingDirectory" => !value.starts_with('-'),
        _ => false,
    }
}

/// systemd's defaults, where they differ from the command line's.
pub(super) fn defaults(spec: &mut ServiceSpec) {
    spec.chdir = Some("/".into());
    spec.umask = Some(0o022);
    spec.process.unit = true;
    spec.process.ignore_sigpipe = true;
}

impl Process {
    /// `None`: the key is not of this table.
    pub(super) fn take(
        &mut self,
        spec: &mut ServiceSpec,
        one: &Assignment,
        context: Context<'_>,
        remarks: &mut Vec<Remark>,
    ) -> Option<Result<(), String>> {
        let (key, value) = (one.key.as_str(), one.value.as_str());
        identity(spec, key, value, context)
            .or_else(|| self.scheduling(spec, key, value))
            .or_else(|| rights(spec, key, value, context))
            .or_else(|| environment::take(spec, key, value, context))
            .or_else(|| limits::take(&mut spec.limits, key, value))
            .or_else(|| self.streams.take(one, context, remarks))
            .or_else(|| self.directories.take(key, value, context))
    }

    fn scheduling(&mut self, spec: &mut ServiceSpec, key: &str, value: &str) -> Option<Result<(), String>> {
        let process = &mut spec.process;
        Some(match key {
            "Nice" => set(&mut spec.nice, optional(value, |value| within(value, -20, 19))),
            "OOMScoreAdjust" => set(&mut process.oom_score_adjust, optional(value, |value| within(value, -1000, 1000))),
            "CPUAffinity" if value.is_empty() => {
                process.cpu_affinity.clear();
                Ok(())
            }
            "CPUAffinity" => cpus(value).map(|more| process.cpu_affinity.extend(more)),
            "CPUSchedulingPolicy" => {
                let known = [("other", 0), ("fifo", 1), ("rr", 2), ("batch", 3), ("idle", 5)];
                set(&mut self.policy, optional(value, |value| word(value, &known)))
            }
            "CPUSchedulingPriority" => set(&mut self.priority, within(value, 0, 99)),
            "CPUSchedulingResetOnFork" => set(&mut self.reset_on_fork, boolean(value)),
            "IOSchedulingClass" => {
                let known = [("none", 0), ("realtime", 1), ("best-effort", 2), ("idle", 3)];
                let class = |value: &str| word(value, &known).or_else(|why| within(value, 0, 3).map_err(|_| why));
                set(&mut self.io_class, optional(value, class).map(|class| class.map(|class| class as u8)))
            }
            "IOSchedulingPriority" => {
                let level = optional(value, |value| within(value, 0, 7));
                set(&mut self.io_priority, level.map(|level| level.map(|level| level as u8)))
            }
            "TimerSlackNSec" => set(&mut process.timer_slack_ns, optional(value, nanoseconds)),
            _ => return None,
        })
    }

    /// Puts what is known now into the service.
    pub(super) fn finish(self, spec: &mut ServiceSpec) {
        let process = &mut spec.process;
        if self.policy.is_some() || self.reset_on_fork {
            let policy = self.policy.unwrap_or_default();
            let priority = if matches!(policy, 1 | 2) { self.priority.max(1) } else { 0 };
            process.scheduling = Some(Scheduling { policy, priority, reset_on_fork: self.reset_on_fork });
        }
        if self.io_class.is_some() || self.io_priority.is_some() {
            process.io_priority = Some((self.io_class.unwrap_or(2), self.io_priority.unwrap_or(4)));
        }
        self.streams.finish(process);
        process.directories = self.directories.finish();
    }
}

fn identity(spec: &mut ServiceSpec, key: &str, value: &str, context: Context<'_>) -> Option<Result<(), String>> {
    let process = &mut spec.process;
    Some(match key {
        "User" => set(&mut spec.user, optional(value, |value| account(&context.expand(value)?))),
        "Group" => set(&mut spec.group, optional(value, |value| account(&context.expand(value)?))),
        "SupplementaryGroups" if value.is_empty() => {
            process.supplementary_groups.clear();
            Ok(())
        }
        "SupplementaryGroups" => {
            let groups = context.words(value).and_then(|words| words.iter().map(|word| account(word)).collect());
            groups.map(|groups: Vec<String>| process.supplementary_groups.extend(groups))
        }
        "UMask" if value.is_empty() => set(&mut spec.umask, Ok(Some(0o022))),
        "UMask" => set(&mut spec.umask, mode(value).map(Some)),
        "WorkingDirectory" => {
            let (may_miss, path) = value.strip_prefix('-').map_or((false, value), |path| (true, path));
            let path = match path {
                "" => Ok("/".into()),
                "~" => Ok("~".into()),
                path => context.path(path),
            };
            path.map(|path| (spec.chdir, process.directory_may_be_missing) = (Some(path), may_miss))
        }
        "SetLoginEnvironment" => set(&mut process.login_environment, optional(value, boolean)),
        "IgnoreSIGPIPE" => set(&mut process.ignore_sigpipe, boolean(value)),
        "Personality" => set(&mut process.personality, optional(value, |value| personality(value, context))),
        _ => return None,
    })
}

fn rights(spec: &mut ServiceSpec, key: &str, value: &str, context: Context<'_>) -> Option<Result<(), String>> {
    let process = &mut spec.process;
    Some(match key {
        "NoNewPrivileges" => set(&mut process.no_new_privileges, boolean(value)),
        "CapabilityBoundingSet" => bits::bounding(&mut process.capability_bounding_set, value),
        "AmbientCapabilities" => bits::ambient(&mut process.ambient_capabilities, value),
        "SecureBits" => bits::secure(&mut process.secure_bits, value),
        "CoredumpFilter" => bits::coredump(&mut process.coredump_filter, value),
        "OpenFile" if value.is_empty() => {
            process.open_files.clear();
            Ok(())
        }
        "OpenFile" => open_file(value, context).map(|file| process.open_files.push(file)),
        _ => return None,
    })
}

/// An empty value is none.
pub(super) fn optional<T>(value: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if value.is_empty() { Ok(None) } else { read(value).map(Some) }
}

fn within(value: &str, least: i32, most: i32) -> Result<i32, String> {
    let number = integer(value)?;
    let fits = i32::try_from(number).ok().filter(|number| (least..=most).contains(number));
    fits.ok_or_else(|| format!("{value} is not a number from {least} to {most}"))
}

fn word(value: &str, known: &[(&str, i32)]) -> Result<i32, String> {
    let found = known.iter().find(|(name, _)| *name == value).map(|(_, number)| *number);
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    found.ok_or_else(|| format!("'{value}' is none of {}", names.join(", ")))
}

/// A name or a number of a user or group, as far as its spelling tells.
fn account(text: &str) -> Result<String, String> {
    let bad = |c: char| c.is_control() || c == ':' || c == '/';
    let number = text.bytes().all(|byte| byte.is_ascii_digit());
    let numeric = number.then(|| text.parse::<u32>());
    let good = !text.is_empty()
        && text.trim() == text
        && !text.starts_with('-')
        && !matches!(text, "." | "..")
        && !text.contains(bad)
        // -1 in two widths: no change.
        && !matches!(numeric, Some(Err(_) | Ok(u32::MAX | 0xffff)));
    if good { Ok(text.to_string()) } else { Err(format!("'{text}' is no name or number of a user or group")) }
}

/// `1-3 5,7`.
fn cpus(value: &str) -> Result<Vec<u32>, String> {
    const CPUS_MAX: u32 = 8192;
    if value == "numa" {
        return Err("numa needs systemd's NUMAMask=".into());
    }
    let mut found = Vec::new();
    for range in value.split([',', ' ', '\t']).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) if first <= last && last < CPUS_MAX => found.extend(first..=last),
            _ => return Err(format!("'{range}' is no CPU and no range of them")),
        }
    }
    Ok(found)
}

/// A bare number is nanoseconds here.
fn nanoseconds(value: &str) -> Result<u64, String> {
    match value.parse() {
        Ok(number) => Ok(number),
        Err(_) => span(value)?.ok_or_else(|| "infinity is too long".into()),
    }
}

/// The execution domains that this machine has: its own, and that of 32-bit programs.
fn personality(value: &str, context: Context<'_>) -> Result<u64, String> {
    const LINUX32: u64 = 8;
    let own = (context.outside)('a').unwrap_or_default();
    match (own.as_str(), value) {
        (own, value) if own == value => Ok(0),
        ("x86-64", "x86") | ("arm64", "arm") | ("ppc64", "ppc") | ("s390x", "s390") => Ok(LINUX32),
        _ => Err(format!("'{value}' is no personality of this machine ({own})")),
    }
}

/// `PATH[:NAME[:OPTIONS]]`.
fn open_file(value: &str, context: Context<'_>) -> Result<OpenFile, String> {
    let words = context.words(value)?;
    let [text] = &words[..] else { return Err(format!("'{value}' is not PATH[:NAME[:OPTIONS]]")) };
    let mut parts = text.splitn(3, ':');
    // The specifiers are filled already.
    let path = parts.next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(format!("'{path}' is no absolute path"));
    }
    let base = path.rsplit('/').next().unwrap_or_default();
    let name = parts.next().filter(|name| !name.is_empty()).unwrap_or(base);
    if name.len() > 255 || !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(format!("'{name}' is no name of a descriptor"));
    }
    let mut file = OpenFile {
        path: path.into(),
        name: name.into(),
        read_only: false,
        append: false,
        truncate: false,
        graceful: false,
    };
    for option in parts.next().unwrap_or_default().split(',').filter(|option| !option.is_empty()) {
        match option {
            "read-only" => file.read_only = true,
            "append" => file.append = true,
            "truncate" => file.truncate = true,
            "graceful" => file.graceful = true,
            _ => return Err(format!("'{option}' is none of read-only, append, truncate, graceful")),
        }
    }
    if [file.read_only, file.append, file.truncate].iter().filter(|set| **set).count() > 1 {
        return Err("only one of read-only, append and truncate".into());
    }
    Ok(file)
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
