//! Everything that has to be known before a clone: the plan, the sockets and this worker become [`Steps`] that the
//! child follows without a thought; and what failed becomes a message again.

use super::clone::{Failure, Steps, Strings};
use super::environment::{Environment, no_such_socket};
use super::error::{SpawnError, Stage};
use super::lookup::{self, Search};
use super::{Base, Copy, Given, fill, identity};
use crate::plan::{Command, Limit, Resource, ServiceSpec};
use libc::c_int;
use nix::errno::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The hidden first argument under which prebind is its own demonstration worker.
const DEMO_ARGUMENT: &str = "--demo-worker";

/// A launch, prepared.
#[derive(Debug)]
pub(super) struct Recipe {
    /// For the child.
    pub(super) steps: Steps,
    /// For the log.
    pub(super) remarks: Vec<String>,
    /// For the message of a command that cannot be run.
    search: Search,
}

impl Recipe {
    /// Looks everything up and allocates everything.
    pub(super) fn new(base: &Base, service: &ServiceSpec, given: &[Given], copy: &Copy) -> Result<Recipe, SpawnError> {
        let mut remarks = Vec::new();
        let identity = identity::look_up(service.user.as_deref(), service.group.as_deref())?;
        let environment = Environment::new(base, service, given, copy, identity.login, &mut remarks)?;
        let path = environment.get("PATH").unwrap_or(OsStr::new(lookup::DEFAULT_PATH)).to_owned();
        let directory = match &service.chdir {
            Some(directory) => base.start_dir.join(directory),
            None => base.start_dir.clone(),
        };
        let (word, arguments) = arguments(service, given, copy)?;
        let search = Search { word, path, directory, user: service.user.clone() };
        let files = match &service.command {
            Command::Demo => vec![base.own_path.clone()],
            Command::Program(_) | Command::Execs(_) => lookup::find(&search, identity.change.is_some()),
        };
        if files.is_empty() {
            return Err(lookup::explain(Stage::Command, &search, None, Errno::ENOENT));
        }
        let block = environment.block(service)?;
        let steps = Steps {
            stdin_null: base.stdin_null && copy.terminal.is_none(),
            terminal: copy.terminal.map(|fd| fd.as_raw_fd()),
            moves: moves(given, copy),
            umask: service.umask,
            limits: limits(base, service),
            nice: service.nice,
            change: identity.change,
            directory: c_string(service, search.directory.clone().into())?,
            // The start directory is prebind's own: a worker's user need not be able to enter it by name.
            directory_first: service.chdir.is_none(),
            parent_death: service.die_with_parent.then_some((libc::SIGUSR2, base.master_pid)),
            files: files.into_iter().map(|file| c_string(service, file.into())).collect::<Result<_, _>>()?,
            arguments,
            environment: block.strings,
            pid_slots: block.pid_slots,
        };
        Ok(Recipe { steps, remarks, search })
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
            Stage::StandardInput => "/dev/null".into(),
            Stage::Descriptors => format!("descriptor {}", 3 + failure.index),
            Stage::Limit => self.steps.limits.get(failure.index).map(limit_text).unwrap_or_default(),
            Stage::Nice => self.steps.nice.unwrap_or_default().to_string(),
            Stage::Groups => quoted(&service.user).unwrap_or_else(|| "the worker".into()),
            Stage::SetGroup => quoted(&service.group)
                .or(quoted(&service.user).map(|user| format!("of user {user}")))
                .unwrap_or_default(),
            Stage::SetUser => quoted(&service.user).unwrap_or_default(),
            Stage::Directory => format!("'{}'", self.search.directory.display()),
            Stage::Environment
            | Stage::User
            | Stage::Command
            | Stage::Clone
            | Stage::ProcessGroup
            | Stage::Terminal
            | Stage::ParentDeath => String::new(),
        };
        SpawnError::of_worker(&service.name, failure.stage, &thing, failure.errno)
    }
}

/// The program's name and the whole argument list, filled in.
fn arguments(service: &ServiceSpec, given: &[Given], copy: &Copy) -> Result<(OsString, Strings), SpawnError> {
    let words: Vec<OsString> = match &service.command {
        Command::Demo => vec!["prebind".into(), DEMO_ARGUMENT.into()],
        Command::Program(templates) => templates
            .iter()
            .map(|template| fill::fill(template, given, copy))
            .collect::<Result<_, _>>()
            .map_err(|_| no_such_socket(service, "COMMAND"))?,
        Command::Execs(execs) => execs
            .iter()
            .flat_map(|exec| &exec.words)
            .map(|template| fill::fill(template, given, copy))
            .collect::<Result<_, _>>()
            .map_err(|_| no_such_socket(service, "ExecStart="))?,
    };
    let mut strings = Strings::default();
    for word in &words {
        strings.push(&[word.as_bytes()]).ok_or_else(|| has_nul(service, word))?;
    }
    Ok((words.into_iter().next().unwrap_or_default(), strings))
}

/// The sockets from 3 on, then the connection to the control socket.
fn moves(given: &[Given], copy: &Copy) -> Vec<(i32, i32)> {
    let sources = given.iter().map(|socket| socket.fd).chain(copy.control_fd);
    sources.zip(3..).map(|(fd, target)| (fd.as_raw_fd(), target)).collect()
}

/// The limits asked for, and prebind's original one of open files where none was.
fn limits(base: &Base, service: &ServiceSpec) -> Vec<(c_int, [u64; 2])> {
    let asked = service.limits.iter().map(|Limit { resource, soft, hard }| {
        let value = |value: Option<u64>| value.unwrap_or(u64::MAX);
        (resource_number(*resource), [value(*soft), value(*hard)])
    });
    let own = base.nofile.filter(|_| service.limits.iter().all(|limit| limit.resource != Resource::Nofile));
    own.map(|(soft, hard)| (resource_number(Resource::Nofile), [soft, hard])).into_iter().chain(asked).collect()
}

fn limit_text((number, [soft, hard]): &(c_int, [u64; 2])) -> String {
    let name = Resource::ALL.iter().find(|(_, resource)| resource_number(*resource) == *number);
    let value = |value: u64| if value == u64::MAX { "infinity".into() } else { value.to_string() };
    format!("{}={}:{}", name.map_or("?", |(name, _)| name), value(*soft), value(*hard))
}

fn resource_number(resource: Resource) -> c_int {
    let number = match resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Locks => libc::RLIMIT_LOCKS,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rss => libc::RLIMIT_RSS,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    };
    number as c_int // unsigned in glibc, signed in musl
}

fn c_string(service: &ServiceSpec, word: OsString) -> Result<CString, SpawnError> {
    CString::new(word.into_vec()).map_err(|error| has_nul(service, OsStr::from_bytes(&error.into_vec())))
}

fn has_nul(service: &ServiceSpec, word: &OsStr) -> SpawnError {
    let word = word.to_string_lossy().replace('\0', "\\0");
    let message = format!("worker of '{}': '{word}' has a NUL byte in it", service.name);
    SpawnError::new(Stage::Environment, Errno::EINVAL, message)
}
