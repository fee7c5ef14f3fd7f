//! The mechanism that turns one decision of the supervisor into one running worker. It receives the plan, the open
//! sockets and a [`Copy`]; it hands back a pid, or a [`SpawnError`] with stage and errno in the same call, so that a
//! worker that could not be started is never seen to "die". Everything that allocates or looks up happens before the
//! clone (recipe.rs); the child only makes raw system calls (clone/, most of the room's `unsafe`). It never decides when.

mod clone;
mod command;
mod directories;
mod envfile;
mod environment;
mod environment_files;
mod error;
mod exec_words;
mod fill;
mod identity;
mod in_place;
mod limits;
mod lookup;
mod priority;
mod recipe;
mod stdio;
#[cfg(test)]
mod tests;
mod unit_environment;

pub use directories::remove_directories;
pub use error::{SpawnError, Stage};
pub use in_place::{Placed, die_with_parent, exec_in_place, modest_nofile};
pub use priority::renice_self;

use crate::plan::{LogFile, Plan, ServiceId, ServiceSpec, SocketId, Step};
use crate::sockets::{SocketFacts, Sockets};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What is the same for every worker of this prebind; made once at the start.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// prebind's own environment, as it was at the start.
    pub environment: Vec<(OsString, OsString)>,
    /// `--drop-env-var` was done when prebind replaced itself: what has such a name now came with `--reexec-as`.
    pub drops_done: bool,
    /// The logical start directory: `$PWD` where it names the same directory, else getcwd(2).
    pub start_dir: PathBuf,
    /// prebind's own binary: what the demonstration runs.
    pub own_path: PathBuf,
    /// prebind's own RLIMIT_NOFILE, soft and hard, before [`raise_nofile`]; given back to workers.
    pub nofile: Option<(u64, u64)>,
    /// EINHORN_SOCK_PATH.
    pub control_path: Option<PathBuf>,
    /// NOTIFY_SOCKET for workers.
    pub notify_address: Option<OsString>,
    /// prebind's own pid: EINHORN_MASTER_PID.
    pub master_pid: i32,
    /// Workers get /dev/null as descriptor 0 (prebind's own is a terminal).
    pub stdin_null: bool,
}

impl Base {
    /// Environment, start directory, binary and pid of this process; the rest is left at "none".
    pub fn of_this_process() -> std::io::Result<Base> {
        Ok(Base {
            environment: std::env::vars_os().collect(),
            start_dir: logical_directory()?,
            own_path: std::env::current_exe()?,
            master_pid: std::process::id().cast_signed(),
            ..Base::default()
        })
    }
}

/// `$PWD` where it names the current directory: a release that is reached through a symbolic link keeps its name, and
/// a link that was pointed elsewhere is followed at the next launch.
fn logical_directory() -> std::io::Result<PathBuf> {
    let physical = std::env::current_dir()?;
    let Some(logical) = std::env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute()) else {
        return Ok(physical);
    };
    let node = |path: &PathBuf| std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    let same = node(&logical).is_some_and(|id| node(&physical) == Some(id));
    Ok(if same { logical } else { physical })
}

/// Raises prebind's own soft limit of open files to the hard one. Returns the original, soft and hard, where that
/// changed anything; it is what [`Base::nofile`] gives back to workers.
pub fn raise_nofile() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft == hard {
        return None;
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
    Some((soft, hard))
}

/// The user and group that a service's workers change to, if they do.
pub fn worker_ids(service: &ServiceSpec) -> Result<Option<(u32, u32)>, SpawnError> {
    let identity = identity::of_service(service)?;
    Ok(identity.change.and_then(|change| Some((change.uid?, change.gid?))))
}

/// One worker to launch.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a> {
    /// Of which service.
    pub service: ServiceId,
    /// Its place: PREBIND_SLOT, `{SLOT}`.
    pub slot: u32,
    /// The code's version: PREBIND_GENERATION.
    pub generation: u32,
    /// EINHORN_CHILD_INDEX.
    pub index: u32,
    /// `-g`: the worker's end of a connection to the control socket; placed right after its sockets.
    pub control_fd: Option<BorrowedFd<'a>>,
    /// The terminal whose foreground process group the worker becomes. It then keeps descriptor 0.
    pub terminal: Option<BorrowedFd<'a>>,
    /// Which of its processes.
    pub part: Part,
    /// The connection that it is for: in the place of the service's sockets.
    pub connection: Option<&'a Served>,
    /// Descriptors that a worker of its slot left in prebind's care, with their names: after the sockets.
    pub stored: &'a [(String, OwnedFd)],
    /// The same for all processes of one worker, and nobody else's: INVOCATION_ID of units, PREBIND_INVOCATION_ID of other
    /// workers; 0: none.
    pub invocation: u128,
    /// cgroup.procs of the control group that it enters.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The worker's main process: MAINPID of the steps that run while it lives.
    pub main_pid: Option<i32>,
    /// How it ended: SERVICE_RESULT, EXIT_CODE, EXIT_STATUS of ExecStop= and ExecStopPost=.
    pub outcome: Option<&'a OutcomeWords>,
}

/// One of the processes that a worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its own; of a oneshot the n-th.
    Main(u16),
    /// The n-th command of that step.
    Step(Step, u16),
}

/// A connection that a worker is started for.
#[derive(Debug)]
pub struct Served {
    /// Itself; `None`: the main process has it already.
    pub fd: Option<OwnedFd>,
    /// What stands between `@` and the type in its unit's name.
    pub instance: Instance,
    /// REMOTE_ADDR and REMOTE_PORT.
    pub remote: Option<(String, Option<u16>)>,
    /// Its name in LISTEN_FDNAMES.
    pub name: String,
}

/// The instance of a unit: `0-127.0.0.1:80-127.0.0.1:40000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance(pub String);

impl Instance {
    /// `%i`, or with `unescaped` `%I`.
    pub fn text(&self, unescaped: bool) -> String {
        if unescaped { self.0.replace('-', "/") } else { self.0.clone() }
    }
}

/// How a worker ended, in systemd's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeWords {
    /// success, exit-code, signal, core-dump, timeout, watchdog, protocol, exec-condition ...
    pub result: &'static str,
    /// exited, killed or dumped, and the code or the signal's name; where the main process ended.
    pub main: Option<(&'static str, String)>,
}

/// A worker that runs: its program was executed.
#[derive(Debug)]
pub struct Launched {
    /// Its process, a direct child, leader of its own process group.
    pub pid: i32,
    /// What could not be honoured and did not stop the launch, one line each: lines of an environment file, a limit that
    /// may not be raised so high.
    pub remarks: Vec<String>,
    /// What it writes through pipes.
    pub outputs: Vec<Output>,
    /// Why it is not in the control group that it was to enter.
    pub not_grouped: Option<Errno>,
}

/// An output of a worker that goes through prebind.
#[derive(Debug)]
pub struct Output {
    /// Where it goes.
    pub spec: LogFile,
    /// That file, opened at its end.
    pub file: File,
    /// The pipe's end to read, which does not block.
    pub pipe: OwnedFd,
}

/// A socket as a worker gets it: the n-th of these becomes descriptor 3 + n.
#[derive(Clone, Copy, Debug)]
struct Given<'a> {
    id: SocketId,
    fd: BorrowedFd<'a>,
    facts: &'a SocketFacts,
}

/// Launches one worker. Returns when its program was executed, or when that failed: then nothing is left of it.
pub fn launch(base: &Base, plan: &Plan, sockets: &Sockets, copy: &Copy) -> Result<Launched, SpawnError> {
    let service = plan.service(copy.service);
    let given: Vec<Given> = service
        .sockets
        .iter()
        .map(|&id| Given { id, fd: sockets.fd_for(id, copy.slot), facts: sockets.facts(id) })
        .collect();
    launch_with(base, service, &given, copy)
}

fn launch_with(base: &Base, service: &ServiceSpec, given: &[Given], copy: &Copy) -> Result<Launched, SpawnError> {
    let launched = recipe::Recipe::new(base, service, given, copy).and_then(|recipe| recipe.run(service));
    match copy.part {
        Part::Main(_) => launched,
        // What there is to remark of a step is as true of the worker itself, and told with that.
        Part::Step(step, _) => launched
            .map(|launched| Launched { remarks: Vec::new(), ..launched })
            .map_err(|error| error.of_step(&service.name, step.key())),
    }
}
