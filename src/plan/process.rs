//! How a worker's process is set up beyond user, group, directory, umask, nice and limits: what systemd.exec(5) has. The
//! default is what the command line gives.

use super::LogFile;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a process finds and may do. Applied by spawn/ between clone and exec, in systemd's order.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// It is a unit's: a session of its own, INVOCATION_ID and SYSTEMD_EXEC_PID, none of einhorn's variables, SIGPIPE as
    /// `ignore_sigpipe` says, exit code 2xx for what fails before the exec (systemd.exec(5), PROCESS EXIT CODES).
    pub unit: bool,
    /// The environment begins empty (of a unit: with PATH and LANG alone), not with prebind's own.
    pub clean_environment: bool,
    /// `PassEnvironment=`: of prebind's own environment.
    pub pass_environment: Vec<String>,
    /// `UnsetEnvironment=`: NAME or NAME=VALUE, taken out last.
    pub unset_environment: Vec<String>,
    /// `SetLoginEnvironment=`: USER, HOME, LOGNAME, SHELL; `None`: where a user is set.
    pub login_environment: Option<bool>,
    /// `IgnoreSIGPIPE=`.
    pub ignore_sigpipe: bool,
    /// `SupplementaryGroups=`, names or numbers.
    pub supplementary_groups: Vec<String>,
    /// `WorkingDirectory=-...`: a missing one is no failure. The directory `~` is the user's home.
    pub directory_may_be_missing: bool,
    /// Descriptor 0.
    pub stdin: Stdio,
    /// Descriptor 1.
    pub stdout: Stdio,
    /// Descriptor 2.
    pub stderr: Stdio,
    /// `OOMScoreAdjust=`, -1000 to 1000.
    pub oom_score_adjust: Option<i32>,
    /// `CPUAffinity=`: numbers of CPUs; empty: prebind's.
    pub cpu_affinity: Vec<u32>,
    /// `CPUSchedulingPolicy=`, `CPUSchedulingPriority=`, `CPUSchedulingResetOnFork=`.
    pub scheduling: Option<Scheduling>,
    /// `IOSchedulingClass=` (0 none, 1 realtime, 2 best-effort, 3 idle) and `IOSchedulingPriority=` (0 to 7).
    pub io_priority: Option<(u8, u8)>,
    /// `TimerSlackNSec=`.
    pub timer_slack_ns: Option<u64>,
    /// `CoredumpFilter=`, a mask.
    pub coredump_filter: Option<u64>,
    /// `Personality=`, as for personality(2).
    pub personality: Option<u64>,
    /// `CapabilityBoundingSet=`, a bit each; `None`: prebind's.
    pub capability_bounding_set: Option<u64>,
    /// `AmbientCapabilities=`, a bit each.
    pub ambient_capabilities: u64,
    /// `SecureBits=`, as for PR_SET_SECUREBITS.
    pub secure_bits: u32,
    /// `NoNewPrivileges=`.
    pub no_new_privileges: bool,
    /// `RuntimeDirectory=` and its siblings: made before the first process, with the worker's user and group as owners.
    pub directories: Vec<DirectorySpec>,
    /// `OpenFile=`: descriptors after the sockets and the stored ones.
    pub open_files: Vec<OpenFile>,
}

/// What a standard descriptor is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Stdio {
    /// prebind's own; for descriptor 0: /dev/null where prebind's is a terminal that is not lent.
    #[default]
    Own,
    /// /dev/null.
    Null,
    /// Of output: a copy of descriptor 0, where that is neither /dev/null nor data; else prebind's own.
    Input,
    /// The worker's only socket, or its connection.
    Socket,
    /// A file, opened with prebind's rights: for reading as descriptor 0; else it is created with mode 0644 as needed and
    /// written from its beginning.
    File(PathBuf),
    /// The same, written at its end.
    Append(PathBuf),
    /// The same, emptied first.
    Truncate(PathBuf),
    /// The same, through a pipe that prebind reads.
    Log(LogFile),
    /// The first socket (or stored descriptor) of that name.
    Named(String),
    /// `StandardInputText=`, `StandardInputData=`: these bytes, in a sealed memfd.
    Data(Vec<u8>),
}

/// CPU scheduling, sched_setscheduler(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// SCHED_OTHER 0, FIFO 1, RR 2, BATCH 3, IDLE 5.
    pub policy: i32,
    /// 1 to 99 for FIFO and RR, else 0.
    pub priority: i32,
    /// SCHED_RESET_ON_FORK.
    pub reset_on_fork: bool,
}

/// Which of the five folders of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DirectoryKind {
    Runtime,
    State,
    Cache,
    Logs,
    Configuration,
}

/// `RuntimeDirectory=` and so on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectorySpec {
    /// Which.
    pub kind: DirectoryKind,
    /// Absolute: the base folder (`/run`, `/var/lib` ...) is in it.
    pub path: PathBuf,
    /// Links to it, absolute (`RuntimeDirectory=name:link`).
    pub links: Vec<PathBuf>,
    /// Its mode.
    pub mode: u32,
    /// `RuntimeDirectoryPreserve=` (of Runtime only; the others always stay).
    pub preserve: Preserve,
}

/// `RuntimeDirectoryPreserve=`, `FileDescriptorStorePreserve=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Preserve {
    /// Gone with the last worker.
    #[default]
    No,
    /// Kept while the service is started again.
    Restart,
    /// Kept.
    Yes,
}

/// `OpenFile=PATH:NAME:OPTIONS`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenFile {
    /// What is opened; a unix stream socket is connected to.
    pub path: PathBuf,
    /// Its name in LISTEN_FDNAMES.
    pub name: String,
    /// O_RDONLY; else O_RDWR.
    pub read_only: bool,
    /// O_APPEND.
    pub append: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// A failure is no failure: it is left out.
    pub graceful: bool,
}
