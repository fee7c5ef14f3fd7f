//! The environment of a worker, exactly: prebind's own without what was meant for prebind, then the user's, the files',
//! `--env`, and what this worker has to know. Later layers win.

use super::clone::{PID_SLOT, Strings};
use super::error::{SpawnError, Stage, reason};
use super::{Base, Copy, Given, envfile, fill};
use crate::plan::{ListenEnv, ServiceSpec};
use nix::errno::Errno;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

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

/// An environment as execve(2) takes it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) strings: Strings,
    /// Where in `strings` the child writes its pid.
    pub(super) pid_slots: Vec<usize>,
}

impl<'a> Environment<'a> {
    /// All layers. Lines of environment files that say nothing are put into `remarks`.
    pub(super) fn new(
        base: &'a Base,
        service: &'a ServiceSpec,
        given: &[Given<'a>],
        copy: &Copy,
        login: Vec<(&'static str, OsString)>,
        remarks: &mut Vec<String>,
    ) -> Result<Environment<'a>, SpawnError> {
        let mut environment = Environment::default();
        environment.variables.reserve(base.environment.len() + 24);
        let drops: &[String] = if base.drops_done { &[] } else { &service.drop_env };
        let kept = base.environment.iter().filter(|(key, _)| !is_dropped(key, drops));
        environment.variables.extend(kept.map(|(key, value)| (key.as_os_str().into(), value.as_os_str().into())));
        for (key, value) in login {
            environment.set(OsStr::new(key), value);
        }
        if let Some(directory) = &service.chdir {
            environment.set(OsStr::new("PWD"), base.start_dir.join(directory).into_os_string());
        }
        environment.add_files(base, service, remarks)?;
        for (key, template) in &service.env {
            let value = fill::fill(template, given, copy).map_err(|_| no_such_socket(service, key))?;
            environment.set(OsStr::new(key), value);
        }
        environment.add_sockets(service, given);
        environment.add_worker(base, service, given, copy);
        Ok(environment)
    }

    fn set(&mut self, key: impl Into<Cow<'a, OsStr>>, value: impl Into<Cow<'a, OsStr>>) {
        let (key, value) = (key.into(), value.into());
        match self.variables.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => self.variables.push((key, value)),
        }
    }

    fn set_pid(&mut self, key: &'static str) {
        self.set(OsStr::new(key), OsStr::new(PID_SLOT));
        self.pids.push(key);
    }

    pub(super) fn get(&self, key: &str) -> Option<&OsStr> {
        self.variables.iter().find(|(other, _)| **other == *key).map(|(_, value)| value.as_ref())
    }

    /// `--env-file`, read anew at each launch; a leading `-` lets the file be missing.
    fn add_files(&mut self, base: &Base, service: &ServiceSpec, remarks: &mut Vec<String>) -> Result<(), SpawnError> {
        for file in &service.env_files {
            let (name, optional) = match file.as_os_str().as_bytes().strip_prefix(b"-") {
                Some(rest) => (OsStr::from_bytes(rest), true),
                None => (file.as_os_str(), false),
            };
            let text = match std::fs::read(base.start_dir.join(name)) {
                Ok(text) => text,
                Err(_) if optional => continue,
                Err(error) => {
                    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                    let message = format!(
                        "worker of '{}': cannot read environment file '{}': {}",
                        service.name,
                        name.display(),
                        reason(errno)
                    );
                    return Err(SpawnError::new(Stage::Environment, errno, message));
                }
            };
            let parsed = envfile::parse(&text);
            for (key, value) in parsed.pairs {
                self.set(OsString::from_vec(key), OsString::from_vec(value));
            }
            let bad = parsed.bad_lines.iter();
            remarks.extend(bad.map(|(line, why)| format!("{}:{line}: ignored: {why}", name.display())));
        }
        Ok(())
    }

    /// LISTEN_* as systemd, EINHORN_FD_* as einhorn.
    fn add_sockets(&mut self, service: &ServiceSpec, given: &[Given<'a>]) {
        if !given.is_empty() && service.listen_env != ListenEnv::None {
            let names: Vec<&str> = given.iter().map(|socket| socket.facts.name.as_str()).collect();
            self.set(OsStr::new("LISTEN_FDS"), OsString::from(given.len().to_string()));
            self.set(OsStr::new("LISTEN_FDNAMES"), OsString::from(names.join(":")));
            if service.listen_env != ListenEnv::NoPid {
                self.set_pid("LISTEN_PID");
            }
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
    fn add_worker(&mut self, base: &'a Base, service: &'a ServiceSpec, given: &[Given<'a>], copy: &Copy) {
        self.set(OsStr::new("EINHORN_CHILD_INDEX"), OsString::from(copy.index.to_string()));
        self.set(OsStr::new("EINHORN_MASTER_PID"), OsString::from(base.master_pid.to_string()));
        if let Some(path) = &base.control_path {
            self.set(OsStr::new("EINHORN_SOCK_PATH"), path.as_os_str());
        }
        if copy.control_fd.is_some() {
            self.set(OsStr::new("EINHORN_SOCK_FD"), OsString::from((3 + given.len()).to_string()));
        }
        if let Some(address) = &base.notify_address {
            self.set(OsStr::new("NOTIFY_SOCKET"), address.as_os_str());
        }
        if let Some(nanos) = service.watchdog_ns {
            self.set(OsStr::new("WATCHDOG_USEC"), OsString::from((nanos / 1000).to_string()));
            self.set_pid("WATCHDOG_PID");
        }
        self.set(OsStr::new("PREBIND_SLOT"), OsString::from(copy.slot.to_string()));
        self.set(OsStr::new("PREBIND_GENERATION"), OsString::from(copy.generation.to_string()));
        self.set(OsStr::new("PREBIND_SERVICE"), OsStr::new(&service.name));
    }

    /// As execve(2) takes it.
    pub(super) fn block(&self, service: &ServiceSpec) -> Result<Block, SpawnError> {
        let mut block = Block { strings: Strings::default(), pid_slots: Vec::new() };
        for (key, value) in &self.variables {
            let start = block.strings.push(&[key.as_bytes(), b"=", value.as_bytes()]).ok_or_else(|| {
                let message = format!(
                    "worker of '{}': {} '{}' has a NUL byte in it",
                    service.name,
                    Stage::Environment.text(),
                    key.display()
                );
                SpawnError::new(Stage::Environment, Errno::EINVAL, message)
            })?;
            if self.pids.iter().any(|name| **key == **name) {
                block.pid_slots.push(start + key.len() + 1);
            }
        }
        Ok(block)
    }
}

fn is_dropped(key: &OsStr, drop: &[String]) -> bool {
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
