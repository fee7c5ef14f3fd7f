//! The environment of a worker, exactly: prebind's own without what was meant for prebind, then the user's, the files',
//! `--env`, and what this worker has to know. Later layers win. (A unit's: unit_environment.rs.)

use super::clone::{PID_SLOT, Strings};
use super::error::{SpawnError, Stage};
use super::exec_words::Value;
use super::{Base, Copy, Given, environment_files, fill, unit_environment};
use crate::plan::{ListenEnv, Nanos, ServiceSpec};
use nix::errno::Errno;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Prefixes and names that were addressed to prebind by whatever started it; a worker that found them would
/// answer in prebind's place.
const OURS_PREFIXES: [&str; 3] = ["LISTEN_", "EINHORN_", "PREBIND_"];
const OURS: [&str; 5] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE", "MAINPID"];

/// Variables in their order, each name once.
#[derive(Debug, Default)]
pub(super) struct Environment<'a> {
    variables: Vec<(Cow<'a, OsStr>, Cow<'a, OsStr>)>,
    /// Names whose value is a [`PID_SLOT`].
    pids: Vec<&'static str>,
}

impl<'a> Environment<'a> {
    /// All layers. Lines of environment files that say nothing are put into `remarks`.
    pub(super) fn new(
        base: &'a Base,
        service: &'a ServiceSpec,
        given: &[Given<'a>],
        names: &[&str],
        copy: &Copy,
        login: Vec<(&'static str, OsString)>,
        remarks: &mut Vec<String>,
    ) -> Result<Environment<'a>, SpawnError> {
        let mut environment = Environment::default();
        environment.variables.reserve(base.environment.len() + 24);
        let drops: &[String] = if base.drops_done { &[] } else { &service.drop_env };
        let passed: &[(OsString, OsString)] = if service.process.clean_environment { &[] } else { &base.environment };
        let kept = passed.iter().filter(|(key, _)| !is_dropped(key, drops));
        environment.variables.extend(kept.map(|(key, value)| (key.as_os_str().into(), value.as_os_str().into())));
        for (key, value) in login {
            environment.set(OsStr::new(key), value);
        }
        if let Some(directory) = &service.chdir {
            environment.set(OsStr::new("PWD"), base.start_dir.join(directory).into_os_string());
        }
        environment_files::read(base, service, remarks, |key, value| environment.set(key, value))?;
        for (key, template) in &service.env {
            let value = fill::fill(template, given, copy).map_err(|_| no_such_socket(service, key))?;
            environment.set(OsStr::new(key), value);
        }
        environment.add_sockets(service, given, names);
        environment.add_worker(base, service, names, copy);
        Ok(environment)
    }

    pub(super) fn set(&mut self, key: impl Into<Cow<'a, OsStr>>, value: impl Into<Cow<'a, OsStr>>) {
        let (key, value) = (key.into(), value.into());
        self.pids.retain(|name| *key != **name);
        match self.variables.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => self.variables.push((key, value)),
        }
    }

    /// Its value is the pid of the process, which only the child knows.
    pub(super) fn set_pid(&mut self, key: &'static str) {
        self.set(OsStr::new(key), OsStr::new(PID_SLOT));
        self.pids.push(key);
    }

    pub(super) fn get(&self, key: &str) -> Option<&OsStr> {
        self.variables.iter().find(|(other, _)| **other == *key).map(|(_, value)| value.as_ref())
    }

    /// The value of a variable that a command names, and whether it is a [`PID_SLOT`]. A name with a `=` in it is one
    /// of a variable whose value goes on so: `$A=b` is `c` where `A=b=c`, as in systemd.
    pub(super) fn variable(&self, name: &[u8]) -> Option<Value<'_>> {
        self.variables.iter().find_map(|(key, value)| {
            let rest = name.strip_prefix(key.as_bytes())?;
            let value = match rest {
                [] => value.as_bytes(),
                [b'=', rest @ ..] => value.as_bytes().strip_prefix(rest)?.strip_prefix(b"=")?,
                _ => return None,
            };
            Some((value.into(), self.pids.iter().any(|pid| **key == **pid)))
        })
    }

    /// `UnsetEnvironment=`.
    pub(super) fn unset(&mut self, word: &str) {
        self.variables.retain(|(key, value)| !unit_environment::is_unset(key, value, word));
    }

    /// LISTEN_* for so many descriptors from 3 on.
    pub(super) fn listen(&mut self, names: &[&str], with_pid: bool) {
        self.set(OsStr::new("LISTEN_FDS"), OsString::from(names.len().to_string()));
        self.set(OsStr::new("LISTEN_FDNAMES"), OsString::from(names.join(":")));
        if with_pid {
            self.set_pid("LISTEN_PID");
        }
    }

    pub(super) fn watchdog(&mut self, nanos: Nanos) {
        self.set(OsStr::new("WATCHDOG_USEC"), OsString::from((nanos / 1000).to_string()));
        self.set_pid("WATCHDOG_PID");
    }

    /// LISTEN_* as systemd, EINHORN_FD_* as einhorn.
    fn add_sockets(&mut self, service: &ServiceSpec, given: &[Given<'a>], names: &[&str]) {
        if !names.is_empty() && service.listen_env != ListenEnv::None {
            self.listen(names, service.listen_env != ListenEnv::NoPid);
        }
        self.set(OsStr::new("EINHORN_FD_COUNT"), OsString::from(given.len().to_string()));
        for (position, socket) in given.iter().enumerate() {
            self.set(OsString::from(format!("EINHORN_FD_{position}")), OsString::from((3 + position).to_string()));
            if let Some(family) = socket.facts.family.filter(|family| *family != "AF_INET") {
                self.set(OsString::from(format!("EINHORN_FD_FAMILY_{position}")), OsStr::new(family));
            }
        }
    }

    /// Who this worker is and whom it speaks to.
    fn add_worker(&mut self, base: &'a Base, service: &'a ServiceSpec, names: &[&str], copy: &Copy) {
        self.set(OsStr::new("EINHORN_CHILD_INDEX"), OsString::from(copy.index.to_string()));
        self.set(OsStr::new("EINHORN_MASTER_PID"), OsString::from(base.master_pid.to_string()));
        if let Some(path) = &base.control_path {
            self.set(OsStr::new("EINHORN_SOCK_PATH"), path.as_os_str());
        }
        if copy.control_fd.is_some() {
            self.set(OsStr::new("EINHORN_SOCK_FD"), OsString::from((3 + names.len()).to_string()));
        }
        if let Some(address) = &base.notify_address {
            self.set(OsStr::new("NOTIFY_SOCKET"), address.as_os_str());
        }
        if let Some(nanos) = service.watchdog_ns {
            self.watchdog(nanos);
        }
        self.set(OsStr::new("PREBIND_SLOT"), OsString::from(copy.slot.to_string()));
        self.set(OsStr::new("PREBIND_GENERATION"), OsString::from(copy.generation.to_string()));
        self.set(OsStr::new("PREBIND_SERVICE"), OsStr::new(&service.name));
        if copy.invocation != 0 {
            self.set(OsStr::new("PREBIND_INVOCATION_ID"), OsString::from(format!("{:032x}", copy.invocation)));
        }
    }

    /// As execve(2) takes it.
    pub(super) fn block(&self, service: &ServiceSpec) -> Result<Strings, SpawnError> {
        let mut strings = Strings::default();
        for (key, value) in &self.variables {
            let start = strings.push(&[key.as_bytes(), b"=", value.as_bytes()]).ok_or_else(|| {
                let message = format!(
                    "worker of '{}': {} '{}' has a NUL byte in it",
                    service.name,
                    Stage::Environment.text(),
                    key.display()
                );
                SpawnError::new(Stage::Environment, Errno::EINVAL, message)
            })?;
            if self.pids.iter().any(|name| **key == **name) {
                strings.pid_at(start + key.len() + 1);
            }
        }
        Ok(strings)
    }
}

pub(super) fn is_dropped(key: &OsStr, drop: &[String]) -> bool {
    OURS_PREFIXES.iter().any(|prefix| key.as_bytes().starts_with(prefix.as_bytes()))
        || OURS.iter().any(|name| key == *name)
        || drop.iter().any(|name| key == name.as_str())
}

/// A placeholder that `check` should have refused.
pub(super) fn no_such_socket(service: &ServiceSpec, word: &str) -> SpawnError {
    let message = format!(
        "worker of '{}': {} '{word}' names a socket that it does not get",
        service.name,
        Stage::Environment.text()
    );
    SpawnError::new(Stage::Environment, Errno::EINVAL, message)
}
