//! Where a launch can fail, and how the failure reads.

use nix::errno::Errno;

/// The steps of a launch, in their order: the first four in prebind, the others in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Its environment and arguments: environment files, placeholders.
    Environment,
    /// The look-up of its user or group.
    User,
    /// The look-up of its command.
    Command,
    /// clone(2), or memory for it.
    Clone,
    /// setpgid(2).
    ProcessGroup,
    /// tcsetpgrp(3).
    Terminal,
    /// /dev/null as descriptor 0.
    StandardInput,
    /// Its sockets as 3, 4, ...
    Descriptors,
    /// setrlimit(2).
    Limit,
    /// setpriority(2).
    Nice,
    /// setgroups(2).
    Groups,
    /// setresgid(2).
    SetGroup,
    /// setresuid(2).
    SetUser,
    /// chdir(2).
    Directory,
    /// PR_SET_PDEATHSIG, or prebind was gone by then.
    ParentDeath,
    /// execve(2).
    Exec,
}

impl Stage {
    /// Every stage with what it tries. Compiles only if no stage is missing.
    const TABLE: [(Stage, &'static str); Stage::Exec as usize + 1] = [
        (Stage::Environment, "cannot make its environment:"),
        (Stage::User, "cannot look up"),
        (Stage::Command, "cannot run"),
        (Stage::Clone, "cannot start a process"),
        (Stage::ProcessGroup, "cannot give it a process group of its own"),
        (Stage::Terminal, "cannot give it the terminal"),
        (Stage::StandardInput, "cannot make its descriptor 0 of"),
        (Stage::Descriptors, "cannot place"),
        (Stage::Limit, "cannot set limit"),
        (Stage::Nice, "cannot set nice"),
        (Stage::Groups, "cannot set the groups of"),
        (Stage::SetGroup, "cannot become group"),
        (Stage::SetUser, "cannot become user"),
        (Stage::Directory, "cannot change directory to"),
        (Stage::ParentDeath, "cannot tie it to prebind's life"),
        (Stage::Exec, "cannot run"),
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
