//! Everything that has to be known before a clone: the plan, the sockets and this worker become [`Steps`] that the
//! child follows without a thought; and what failed becomes a message again.

use super::clone::{self, Failure, Privileges, Steps, Tuning};
use super::command::{self, Chosen, c_string};
use super::environment::Environment;
use super::error::{SpawnError, Stage};
use super::identity::{self, Identity};
use super::lookup::{self, Search};
use super::stdio::{self, Streams};
use super::{Base, Copy, Given, Launched, directories, limits, unit_environment};
use crate::plan::{Privilege, ProcessSpec, ServiceSpec};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A launch, prepared.
#[derive(Debug)]
pub(super) struct Recipe {
    /// For the child.
    pub(super) steps: Steps,
    /// For the log.
    pub(super) remarks: Vec<String>,
    /// For the message of a command that cannot be run.
    search: Search,
    /// Open until the child has its copies.
    streams: Streams,
}

impl Recipe {
    /// Looks everything up, opens and allocates everything.
    pub(super) fn new(base: &Base, service: &ServiceSpec, given: &[Given], copy: &Copy) -> Result<Recipe, SpawnError> {
        let mut remarks = Vec::new();
        let process = &service.process;
        let chosen = command::choose(service, copy.part)?;
        let mut identity = identity::of_service(service).map_err(|error| error.of_service(&service.name))?;
        directories::make(service, identity.owner)?;
        let directory = directory(base, service, &mut identity)?;
        let streams = Streams::open(base, service, given, copy, &mut remarks)?;
        let names: Vec<&str> = stdio::passed(service, given, copy, &streams.files).map(|(_, name)| name).collect();
        let environment = match process.unit {
            true => unit_environment::make(base, service, given, &names, copy, &identity, &mut remarks)?,
            false => {
                let login = std::mem::take(&mut identity.login);
                Environment::new(base, service, given, &names, copy, login, &mut remarks)?
            }
        };
        let path = match chosen {
            Chosen::Exec(..) => unit_environment::PATH.into(),
            _ => environment.get("PATH").unwrap_or(OsStr::new(lookup::DEFAULT_PATH)).to_owned(),
        };
        let (word, arguments) = chosen.words(service, given, copy, &environment)?;
        let change = identity.change_for(chosen.privilege());
        let becomes = change.as_ref().is_some_and(|change| change.uid.is_some());
        let search = Search { word, path, directory, user: service.user.clone().filter(|_| becomes) };
        let files = match chosen {
            Chosen::Demo => vec![base.own_path.clone()],
            Chosen::Program(_) | Chosen::Exec(..) => lookup::find(&search, change.is_some()),
        };
        if files.is_empty() {
            return Err(lookup::explain(Stage::Command, &search, None, Errno::ENOENT));
        }
        let steps = Steps {
            // The terminal is prebind's session's: who gets it stays in that.
            session: process.unit && copy.terminal.is_none(),
            ignore_sigpipe: process.ignore_sigpipe,
            standard: streams.standard,
            terminal: copy.terminal.map(|fd| fd.as_raw_fd()),
            cgroup: copy.cgroup.map(|fd| fd.as_raw_fd()),
            moves: moves(service, given, copy, &streams),
            umask: service.umask,
            limits: limits::all(base, service, chosen.privilege() == Privilege::Full),
            nice: service.nice,
            tuning: tuning(process),
            privileges: privileges(process, chosen.privilege(), &mut remarks),
            lenient: process.unit,
            skipped: clone::Skipped::default(),
            change,
            directory: c_string(service, search.directory.clone().into())?,
            // The start directory is prebind's own: a worker's user need not be able to enter it by name.
            directory_first: service.chdir.is_none() && !process.unit,
            directory_may_be_missing: process.directory_may_be_missing,
            parent_death: service.die_with_parent.then_some((libc::SIGUSR2, base.master_pid)),
            files: files.into_iter().map(|file| c_string(service, file.into())).collect::<Result<_, _>>()?,
            shell: !matches!(chosen, Chosen::Exec(..)),
            arguments,
            environment: environment.block(service)?,
        };
        Ok(Recipe { steps, remarks, search, streams })
    }

    /// Launches.
    pub(super) fn run(mut self, service: &ServiceSpec) -> Result<Launched, SpawnError> {
        let pid = clone::run(&mut self.steps).map_err(|failure| self.explain(service, failure))?;
        let Steps { skipped, tuning, nice, limits, .. } = &self.steps;
        if let Some(score) = tuning.oom_score_adjust.filter(|_| skipped.oom_score_adjust) {
            self.remarks.push(format!("OOM score not set to {score}: prebind may not lower it"));
        }
        if let Some(nice) = nice.filter(|_| skipped.nice) {
            self.remarks.push(format!("nice not set to {nice}: prebind may not raise a priority"));
        }
        let lowered = limits::lowered(limits, skipped.limits);
        self.remarks.extend(lowered.map(|limit| format!("limit {} lowered to what may be had", limits::text(limit))));
        Ok(Launched { pid, remarks: self.remarks, outputs: self.streams.outputs, not_grouped: skipped.cgroup })
    }

    /// The message for a failure of the child, or of the clone.
    pub(super) fn explain(&self, service: &ServiceSpec, failure: Failure) -> SpawnError {
        let quoted = |name: &Option<String>| name.as_ref().map(|name| format!("'{name}'"));
        let thing = match failure.stage {
            Stage::Exec => {
                let file =
                    self.steps.files.get(failure.index).map(|file| Path::new(OsStr::from_bytes(file.to_bytes())));
                return lookup::explain(Stage::Exec, &self.search, file, failure.errno);
            }
            Stage::StandardInput | Stage::StandardOutput | Stage::StandardError => {
                match self.steps.standard[failure.stage as usize - Stage::StandardInput as usize] {
                    clone::Standard::CopyOf(number) => format!("descriptor {number}"),
                    clone::Standard::Own | clone::Standard::Null => "/dev/null".into(),
                }
            }
            Stage::Descriptors => format!("descriptor {}", 3 + failure.index),
            Stage::Limit => self.steps.limits.get(failure.index).map(limits::text).unwrap_or_default(),
            Stage::Nice => self.steps.nice.unwrap_or_default().to_string(),
            Stage::OomScore => self.steps.tuning.oom_score_adjust.unwrap_or_default().to_string(),
            Stage::CoredumpFilter => format!("{:#x}", self.steps.tuning.coredump_filter.unwrap_or_default()),
            Stage::Affinity => {
                let numbers: Vec<String> = service.process.cpu_affinity.iter().map(u32::to_string).collect();
                numbers.join(",")
            }
            Stage::Personality => format!("{:#x}", self.steps.tuning.personality.unwrap_or_default()),
            Stage::Groups => quoted(&service.user).unwrap_or_else(|| "the worker".into()),
            Stage::SetGroup => quoted(&service.group)
                .or(quoted(&service.user).map(|user| format!("of user {user}")))
                .unwrap_or_default(),
            Stage::SetUser => quoted(&service.user).unwrap_or_default(),
            Stage::Directory => format!("'{}'", self.search.directory.display()),
            _ => String::new(),
        };
        SpawnError::of_worker(&service.name, failure.stage, &thing, failure.errno)
    }
}

/// Where the process starts. `~` is the user's home, which then is told too.
fn directory(base: &Base, service: &ServiceSpec, identity: &mut Identity) -> Result<PathBuf, SpawnError> {
    match &service.chdir {
        Some(directory) if service.process.unit && directory == Path::new("~") => {
            let home = identity::home(identity)?;
            if identity.login.iter().all(|(key, _)| *key != "HOME") {
                identity.login.push(("HOME", home.clone().into()));
            }
            Ok(home)
        }
        Some(directory) => Ok(base.start_dir.join(directory)),
        None if service.process.unit => Ok("/".into()),
        None => Ok(base.start_dir.clone()),
    }
}

/// What is passed from 3 on, then the connection to the control socket.
fn moves(service: &ServiceSpec, given: &[Given], copy: &Copy, streams: &Streams) -> Vec<(i32, i32)> {
    let passed = stdio::passed(service, given, copy, &streams.files).map(|(fd, _)| fd);
    passed.chain(copy.control_fd).zip(3..).map(|(fd, target)| (fd.as_raw_fd(), target)).collect()
}

fn tuning(process: &ProcessSpec) -> Tuning {
    const RESET_ON_FORK: i32 = 0x4000_0000;
    let word = |cpu: u32| (cpu / usize::BITS) as usize;
    let mut affinity = vec![0; process.cpu_affinity.iter().map(|&cpu| word(cpu) + 1).max().unwrap_or(0)];
    for &cpu in &process.cpu_affinity {
        affinity[word(cpu)] |= 1 << (cpu % usize::BITS);
    }
    Tuning {
        oom_score_adjust: process.oom_score_adjust,
        coredump_filter: process.coredump_filter,
        scheduling: process.scheduling.map(|scheduling| {
            (scheduling.policy | if scheduling.reset_on_fork { RESET_ON_FORK } else { 0 }, scheduling.priority)
        }),
        affinity,
        io_priority: process.io_priority.map(|(class, level)| i32::from(class) << 13 | i32::from(level)),
        timer_slack_ns: process.timer_slack_ns,
        personality: process.personality,
    }
}

/// `+` leaves all of them alone, `!` none. As under systemd ambient are only those that there are.
fn privileges(process: &ProcessSpec, privilege: Privilege, remarks: &mut Vec<String>) -> Privileges {
    let bounding = process.capability_bounding_set.unwrap_or(u64::MAX);
    let asked = process.ambient_capabilities & bounding;
    let ambient = if asked == 0 { 0 } else { asked & own_capabilities().unwrap_or(u64::MAX) };
    if ambient != asked {
        remarks.push(format!("capabilities {:#x} not given: prebind does not have them", asked & !ambient));
    }
    match privilege {
        Privilege::Full => Privileges::default(),
        Privilege::Unit | Privilege::KeepIds => Privileges {
            bounding: process.capability_bounding_set,
            ambient,
            secure_bits: process.secure_bits,
            no_new_privileges: process.no_new_privileges,
        },
    }
}

/// Those that prebind may use.
fn own_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapPrm:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}
