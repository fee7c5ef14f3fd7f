//! Where a launch can fail, and how the failure reads.

use nix::errno::Errno;

/// The steps of a launch, roughly in their order: those up to `Clone` in prebind, the others in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // TABLE says what each one tries.
pub enum Stage {
    Environment,
    EnvironmentFile,
    User,
    Group,
    Command,
    OpenFile,
    RuntimeDirectory,
    StateDirectory,
    CacheDirectory,
    LogsDirectory,
    ConfigurationDirectory,
    Clone,
    ProcessGroup,
    Session,
    Terminal,
    StandardInput,
    StandardOutput,
    StandardError,
    Descriptors,
    OomScore,
    CoredumpFilter,
    Limit,
    Nice,
    Scheduling,
    Affinity,
    IoPriority,
    TimerSlack,
    Personality,
    Capabilities,
    SecureBits,
    Groups,
    SetGroup,
    SetUser,
    Directory,
    NoNewPrivileges,
    ParentDeath,
    Exec,
}

impl Stage {
    /// Every stage with what it tries, and the exit code that systemd gives a process that fails there (systemd.exec(5),
    /// PROCESS EXIT CODES); 1 where systemd has none, because it fails before there is a process. Compiles only if no
    /// stage is missing.
    const TABLE: [(Stage, &'static str, u8); Stage::Exec as usize + 1] = [
        (Stage::Environment, "cannot make its environment:", 1),
        (Stage::EnvironmentFile, "cannot read environment file", 1),
        (Stage::User, "cannot look up", 217),
        (Stage::Group, "cannot look up", 216),
        (Stage::Command, "cannot run", 203),
        (Stage::OpenFile, "cannot open for it", 202),
        (Stage::RuntimeDirectory, "cannot make its runtime directory", 233),
        (Stage::StateDirectory, "cannot make its state directory", 238),
        (Stage::CacheDirectory, "cannot make its cache directory", 239),
        (Stage::LogsDirectory, "cannot make its logs directory", 240),
        (Stage::ConfigurationDirectory, "cannot make its configuration directory", 241),
        (Stage::Clone, "cannot start a process", 1),
        (Stage::ProcessGroup, "cannot give it a process group of its own", 220),
        (Stage::Session, "cannot give it a session of its own", 220),
        (Stage::Terminal, "cannot give it the terminal", 208),
        (Stage::StandardInput, "cannot make its descriptor 0 of", 208),
        (Stage::StandardOutput, "cannot make its descriptor 1 of", 209),
        (Stage::StandardError, "cannot make its descriptor 2 of", 222),
        (Stage::Descriptors, "cannot place", 202),
        (Stage::OomScore, "cannot set OOM score", 206),
        (Stage::CoredumpFilter, "cannot set coredump filter", 205),
        (Stage::Limit, "cannot set limit", 205),
        (Stage::Nice, "cannot set nice", 201),
        (Stage::Scheduling, "cannot set CPU scheduling", 214),
        (Stage::Affinity, "cannot tie it to CPUs", 215),
        (Stage::IoPriority, "cannot set IO scheduling", 211),
        (Stage::TimerSlack, "cannot set timer slack", 212),
        (Stage::Personality, "cannot set personality", 230),
        (Stage::Capabilities, "cannot set its capabilities", 218),
        (Stage::SecureBits, "cannot set securebits", 213),
        (Stage::Groups, "cannot set the groups of", 216),
        (Stage::SetGroup, "cannot become group", 216),
        (Stage::SetUser, "cannot become user", 217),
        (Stage::Directory, "cannot change directory to", 200),
        (Stage::NoNewPrivileges, "cannot deny it new privileges", 227),
        (Stage::ParentDeath, "cannot tie it to prebind's life", 1),
        (Stage::Exec, "cannot run", 203),
    ];

    /// What was tried: `cannot change directory to`.
    pub fn text(self) -> &'static str {
        Stage::TABLE[self as usize].1
    }
}

/// A stage is its own index into the table.
const _: () = {
    let mut at = 0;
    while at < Stage::TABLE.len() {
        assert!(Stage::TABLE[at].0 as usize == at);
        at += 1;
    }
};

/// A worker that could not be launched; nothing is left of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpawnError {
    /// Where it failed.
    pub stage: Stage,
    /// Why, errno(3).
    pub errno: i32,
    /// The whole message, one line.
    message: String,
}

impl SpawnError {
    /// What systemd would say that the process ended with: 2xx, or 1 where it has no code.
    pub fn exit_code(&self) -> u8 {
        Stage::TABLE[self.stage as usize].2
    }

    /// The same of a command of a unit: it is named, `ExecStartPre=`, in the place of the worker.
    pub(super) fn of_step(mut self, service: &str, key: &str) -> SpawnError {
        self.message = match self.message.strip_prefix("worker of ") {
            Some(rest) => format!("{key}= of {rest}"),
            None => format!("{key}= of '{service}': {}", self.message),
        };
        self
    }

    /// Whose it is, where the message does not say so.
    pub(super) fn of_service(mut self, service: &str) -> SpawnError {
        self.message = format!("worker of '{service}': {}", self.message);
        self
    }

    /// A message of its own words.
    pub(super) fn new(stage: Stage, errno: Errno, message: impl Into<String>) -> SpawnError {
        SpawnError { stage, errno: errno as i32, message: message.into() }
    }

    /// `worker of 'web': cannot change directory to '/nope': no such file`, and the remedy in parentheses.
    pub(super) fn of_worker(service: &str, stage: Stage, thing: &str, errno: Errno) -> SpawnError {
        let mut message = format!("worker of '{service}': {}", stage.text());
        if !thing.is_empty() {
            message.push(' ');
            message.push_str(thing);
        }
        message.push_str(": ");
        message.push_str(&reason(errno));
        if let Some(remedy) = remedy(stage, errno) {
            message.push_str(&format!(" ({remedy})"));
        }
        SpawnError::new(stage, errno, message)
    }
}

/// The short reason in lower case.
pub(super) fn reason(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "no such file".into(),
        Errno::ENOTDIR => "not a directory".into(),
        Errno::ENOTTY => "not a terminal".into(),
        Errno::EISDIR => "it is a directory".into(),
        other => {
            let text = other.desc();
            let mut letters = text.chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
    }
}

fn remedy(stage: Stage, errno: Errno) -> Option<&'static str> {
    match (stage, errno) {
        (Stage::Clone, Errno::EAGAIN) => Some("too many processes: see ulimit -u and pids.max"),
        (Stage::Limit, Errno::EPERM) => Some("only root raises a hard limit"),
        (Stage::Limit, Errno::EINVAL) => Some("the soft limit is above the hard one"),
        (Stage::Nice, Errno::EACCES | Errno::EPERM) => Some("only root raises a priority"),
        (Stage::Groups | Stage::SetGroup | Stage::SetUser, Errno::EPERM) => Some("prebind is not root"),
        (Stage::Capabilities | Stage::SecureBits, Errno::EPERM) => Some("prebind has too few capabilities itself"),
        (Stage::Scheduling | Stage::IoPriority, Errno::EPERM) => Some("only root, or see RLIMIT_RTPRIO"),
        (Stage::Affinity, Errno::EINVAL) => Some("none of these CPUs may be used here"),
        (Stage::ParentDeath, Errno::ESRCH) => Some("prebind is gone"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        for (stage, thing, errno, message) in [
            (
                Stage::Directory,
                "'/nope'",
                Errno::ENOENT,
                "worker of 'web': cannot change directory to '/nope': no such file",
            ),
            (
                Stage::Limit,
                "nofile=9:10",
                Errno::EPERM,
                "worker of 'web': cannot set limit nofile=9:10: operation not permitted (only root raises a hard limit)",
            ),
            (
                Stage::ProcessGroup,
                "",
                Errno::EACCES,
                "worker of 'web': cannot give it a process group of its own: permission denied",
            ),
        ] {
            let error = SpawnError::of_worker("web", stage, thing, errno);
            assert_eq!(error.to_string(), message);
            assert_eq!((error.stage, error.errno), (stage, errno as i32));
        }
    }
}
