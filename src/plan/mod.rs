//! Everything that was asked for, as plain data: what every front door produces and every later room reads.
//! Receives nothing but values; hands on a checked [`Plan`]. It reads no clock, no environment, no file.

mod change;
mod check;
mod entry;
mod exec;
mod lifecycle;
mod origin;
mod output;
mod process;
mod remarks;
pub mod servers;
mod service;
mod signal;
mod socket;
mod socket_check;
mod template;

pub use change::{Change, keep_inherited, succeed};
pub use check::{Facts, check};
pub use entry::EntrySpec;
pub use exec::{Exec, Privilege, Step, StepSpec};
pub use lifecycle::{Delay, ExitRules, KillMode, KillSpec, Kind, Late, NotifyAccess, Reload, StartWhen, Statuses};
pub use origin::{Origin, Problem, nearest};
pub use output::{LogFile, Rotation, Unit};
pub use process::{DirectoryKind, DirectorySpec, OpenFile, Preserve, ProcessSpec, Scheduling, Stdio};
pub use remarks::remarks;
pub use service::{AckMode, Command, Limit, ListenEnv, Number, Resource, Restart, ServiceSpec, Strategy};
pub use signal::Signal;
pub use socket::{Address, Host, SocketKind, SocketOptions, SocketSpec, Timestamp};
pub use template::{Piece, SocketRef, Template};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Nanoseconds: a span of time, or a point on the monotonic clock. Pure rooms get it as an argument.
pub type Nanos = u64;

/// One second in [`Nanos`].
pub const SECOND: Nanos = 1_000_000_000;

/// A socket's place in [`Plan::sockets`]; given by [`check()`], after which no socket is looked up by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketId(pub u16);

/// A service's place in [`Plan::services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId(pub u16);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// The sockets, in the order that workers get them.
    pub sockets: Vec<SocketSpec>,
    /// The services; argv makes one.
    pub services: Vec<ServiceSpec>,
    /// Commands around sockets, as services without workers: their steps StartPre and StartPost run before and after all
    /// sockets are opened, Stop and StopPost before and after they are closed at the end.
    pub socket_commands: Vec<ServiceSpec>,
    /// How this prebind is reached and told apart.
    pub identity: Identity,
    /// How it logs.
    pub log: LogSpec,
    /// `--reexec-as`: the words that are run when prebind replaces itself, before its own arguments; empty: its own path.
    pub reexec_as: Vec<String>,
    /// What it does as a container's entrypoint.
    pub entry: EntrySpec,
    /// Under which name it was started.
    pub manner: Manner,
    /// prebind's own scheduling priority (einhorn's `--nice M`).
    pub own_nice: Option<i32>,
    /// What the front door took otherwise than asked, a line each: said at the start.
    pub remarks: Vec<String>,
}

/// Whose habits it keeps: what signals mean, the words of the log, the default language of the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Manner {
    /// Our own.
    #[default]
    Prebind,
    /// einhorn's: started by a link of that name.
    Einhorn,
}

/// `-c -d -e -f --no-control`: how a running prebind is found.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// `-c`: the name; `None`: the command's base name. Names the default control socket.
    pub name: Option<String>,
    /// The name in the place of the command's where there is no `-c`: of `--circus` the file's.
    pub stem: Option<String>,
    /// `-d`: the control socket's path; `None`: the first default directory that serves.
    pub socket_path: Option<PathBuf>,
    /// `-e`: a file that holds the pid while prebind runs.
    pub pidfile: Option<PathBuf>,
    /// `-f`: a file locked while prebind runs.
    pub lockfile: Option<PathBuf>,
    /// `--no-control`: no control socket.
    pub no_control: bool,
    /// The control socket's mode is what the umask leaves.
    pub mode_by_umask: bool,
}

/// `--log-format -q -v`.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSpec {
    /// One JSON object per line, not text.
    pub json: bool,
    /// How much: 0 normal; each `-v` adds one, each `-q` takes one.
    pub verbosity: i8,
}

impl Plan {
    /// The socket of that id.
    pub fn socket(&self, id: SocketId) -> &SocketSpec {
        &self.sockets[usize::from(id.0)]
    }

    /// Whether the only worker is the terminal's foreground, where prebind is: einhorn's workers are background groups,
    /// whatever their number.
    pub fn lends_terminal(&self) -> bool {
        // A unit has a session of its own.
        let alone = matches!(&self.services[..], [only] if only.number.get() == 1 && !only.process.unit);
        alone && self.manner == Manner::Prebind
    }

    /// The service of that id.
    pub fn service(&self, id: ServiceId) -> &ServiceSpec {
        &self.services[usize::from(id.0)]
    }
}
