//! One service that was asked for: a command, its sockets and its policy.

use super::{
    Delay, Exec, ExitRules, KillSpec, Kind, Nanos, NotifyAccess, Origin, Preserve, ProcessSpec, Reload, SECOND, Signal,
    SocketId, StartWhen, StepSpec, Template,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One command to run in N copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// Its name: `-c`, else the command's base name.
    pub name: String,
    /// What to run.
    pub command: Command,
    /// How many copies.
    pub number: Number,
    /// Where that is 0: so many once it is asked for and nobody says how many.
    pub idle_number: u32,
    /// The sockets that its workers get, in the order of their descriptors from 3. Filled by `check` for argv: all.
    pub sockets: Vec<SocketId>,
    /// Whether these are all, be it none: else a service without any gets every socket.
    pub sockets_given: bool,
    /// Which of LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID they find. `check` turns `Auto` into one of the others.
    pub listen_env: ListenEnv,
    /// When a worker counts as ready.
    pub ack: AckMode,
    /// An old worker is told to stop only after its successor was ready and alive so long.
    pub min_ready_ns: Nanos,
    /// Not ready by then in manual or notify mode: killed.
    pub start_timeout_ns: Nanos,
    /// Base of the back-off: times 1.5^deaths, at most 30 s.
    pub backoff_base_ns: Nanos,
    /// From the stop signal to SIGKILL.
    pub stop_timeout_ns: Nanos,
    /// Whether that was given: PID 1 has another default.
    pub stop_timeout_given: bool,
    /// What asks a worker to stop.
    pub stop_signal: Signal,
    /// Workers must say WATCHDOG=1 in time.
    pub watchdog_ns: Option<Nanos>,
    /// How many may be starting at once; `None`: all at first, the surge later.
    pub max_unacked: Option<u32>,
    /// Whether `max_unacked` bounds the first start as well; einhorn starts all at first.
    pub bounded_first: bool,
    /// Bound on the processes above the number asked for, while workers are replaced.
    pub max_upgrade_additional: Option<u32>,
    /// How an upgrade replaces the workers.
    pub strategy: Strategy,
    /// How long the first worker of a `canary` upgrade serves on trial.
    pub bake_ns: Nanos,
    /// How long a new worker may take to be ready while workers are replaced; then the old ones serve on.
    pub upgrade_timeout_ns: Nanos,
    /// So many failures of new workers end an upgrade.
    pub upgrade_retries: u32,
    /// From the wish to stop a worker for good to its stop signal; `None`: 0, or [`SLOT_DRAIN_NS`] where its slot has a
    /// socket of its own that goes with it.
    ///
    /// [`SLOT_DRAIN_NS`]: ServiceSpec::SLOT_DRAIN_NS
    pub drain_delay_ns: Option<Nanos>,
    /// Whether a worker that ended is started again.
    pub restart: Restart,
    /// Whether `restart` was given on purpose (a worker in the terminal's foreground ends prebind otherwise).
    pub restart_given: bool,
    /// So many workers in a row that died before one was ready end prebind; `None`: it goes on trying.
    pub give_up_after: Option<u32>,
    /// With `Restart::No`: the code that a worker ends with after it was told to stop is prebind's, too.
    pub stop_passes_code: bool,
    /// User to run as, name or number.
    pub user: Option<String>,
    /// Group to run as, name or number.
    pub group: Option<String>,
    /// Working directory, resolved anew at each spawn; `None`: the logical directory that prebind was started in.
    pub chdir: Option<PathBuf>,
    /// File mode creation mask; `None`: prebind's.
    pub umask: Option<u32>,
    /// `--env K=V`.
    pub env: Vec<(String, Template)>,
    /// `--env-file FILE`, read anew at each spawn; before `env`.
    pub env_files: Vec<PathBuf>,
    /// `--drop-env-var K`.
    pub drop_env: Vec<String>,
    /// Scheduling priority, absolute.
    pub nice: Option<i32>,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// `-g`: each worker gets a connection to the control socket, EINHORN_SOCK_FD.
    pub control_fd: bool,
    /// `-k`: workers get USR2 when prebind dies.
    pub die_with_parent: bool,
    /// When its workers start.
    pub start: StartWhen,
    /// It may be asked for without any worker: `prebindctl scale` starts the first.
    pub autostart: bool,
    /// It has one worker at most, whoever asks for more.
    pub singleton: bool,
    /// From the start of one worker to that of the next; successors of workers that serve do not wait.
    pub spacing_ns: Nanos,
    /// A worker of that age is replaced; each at another moment of so long after it.
    pub max_age: Option<(Nanos, Nanos)>,
    /// What a worker is to it.
    pub kind: Kind,
    /// A worker that ended well counts as there (`RemainAfterExit=`).
    pub remain_after_exit: bool,
    /// What runs around the command.
    pub steps: Vec<StepSpec>,
    /// Which ends are clean.
    pub exits: ExitRules,
    /// How long a slot waits after its worker failed.
    pub delay: Delay,
    /// A slot that was started more than so many times in so long stays empty: it failed. `None`: no limit.
    pub start_limit: Option<(u32, Nanos)>,
    /// How a worker is stopped.
    pub kill: KillSpec,
    /// A worker that was ready so long is stopped, as a failure.
    pub runtime_max_ns: Option<Nanos>,
    /// How a worker is asked to read its configuration again.
    pub reload: Reload,
    /// Whose words on the notify socket count.
    pub notify_access: NotifyAccess,
    /// So many descriptors are kept for each slot (`FDSTORE=1`); 0: none.
    pub fd_store_max: u32,
    /// How long they are kept.
    pub fd_store_preserve: Preserve,
    /// How its processes are set up beyond what stands above.
    pub process: ProcessSpec,
    /// Where it was asked for.
    pub origin: Origin,
    /// Nobody asks for it any more: kept until its last worker is gone.
    pub retired: bool,
}

/// What a service runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The program and its arguments.
    Program(Vec<Template>),
    /// A unit's commands: one, or of a oneshot several (also none), one after the other.
    Execs(Vec<Exec>),
    /// prebind's own HTTP worker, the demonstration.
    Demo,
}

/// `-n N|auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Number {
    /// So many.
    Fixed(u32),
    /// As many as the CPUs that this process may use; `check` turns it into `Fixed`.
    Auto,
}

impl Number {
    /// The number after `check`.
    pub fn get(self) -> u32 {
        match self {
            Number::Fixed(number) => number,
            Number::Auto => unreachable!("check() fixes the number"),
        }
    }
}

/// `--listen-env`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenEnv {
    /// `NoPid` where the command or --env names a socket, else `Full`.
    Auto,
    /// LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID.
    Full,
    /// LISTEN_FDS and LISTEN_FDNAMES.
    NoPid,
    /// None of them.
    None,
}

impl ListenEnv {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            ListenEnv::Auto => "auto",
            ListenEnv::Full => "full",
            ListenEnv::NoPid => "no-pid",
            ListenEnv::None => "none",
        }
    }
}

/// `-m`: when a worker is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AckMode {
    /// READY=1 or an ack, or it waits on its sockets; else after [`AckMode::GRACE_NS`], but not in the place of a worker
    /// that serves.
    Auto,
    /// READY=1 or an ack, or it waits on its sockets; after [`AckMode::GRACE_NS`] only where /proc does not tell.
    Accept,
    /// After so long, whatever it says.
    After(Nanos),
    /// Only READY=1 or an ack.
    Manual,
    /// Only READY=1 or an ack (the same, under systemd's word).
    Notify,
}

impl AckMode {
    /// How long `auto` waits for a word.
    pub const GRACE_NS: Nanos = SECOND;

    /// The word on the command line.
    pub fn word(self) -> String {
        match self {
            AckMode::Auto => "auto".into(),
            AckMode::Accept => "accept".into(),
            AckMode::After(span) => (span as f64 / SECOND as f64).to_string(),
            AckMode::Manual => "manual".into(),
            AckMode::Notify => "notify".into(),
        }
    }
}

/// `--strategy`: how an upgrade replaces the workers of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// A quarter at a time, at least one: each old worker is told to stop as soon as its successor is ready.
    Rolling,
    /// All new workers start at once; the old ones are told to stop when every new one is ready.
    Fleet,
    /// One new worker serves on trial first, for `--bake` seconds; then rolling.
    Canary,
}

impl Strategy {
    /// Every strategy with its word.
    pub const ALL: [(&'static str, Strategy); 3] =
        [("rolling", Strategy::Rolling), ("fleet", Strategy::Fleet), ("canary", Strategy::Canary)];

    /// The word on the command line and on the wire.
    pub fn word(self) -> &'static str {
        Strategy::ALL.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

/// `--restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Whatever the exit was.
    Always,
    /// Unless it exited with 0 or by our own stop signal.
    OnFailure,
    /// If it ended well.
    OnSuccess,
    /// If a signal, a timeout or the watchdog ended it.
    OnAbnormal,
    /// If a signal that is not clean ended it.
    OnAbort,
    /// If it missed its watchdog.
    OnWatchdog,
    /// Never; prebind ends with the command's exit code.
    No,
}

impl Restart {
    /// The word on the command line, or of a unit.
    pub fn word(self) -> &'static str {
        match self {
            Restart::Always => "always",
            Restart::OnFailure => "on-failure",
            Restart::OnSuccess => "on-success",
            Restart::OnAbnormal => "on-abnormal",
            Restart::OnAbort => "on-abort",
            Restart::OnWatchdog => "on-watchdog",
            Restart::No => "no",
        }
    }
}

/// `--limit NAME=SOFT[:HARD]`; `None`: infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Which.
    pub resource: Resource,
    /// Soft limit.
    pub soft: Option<u64>,
    /// Hard limit.
    pub hard: Option<u64>,
}

/// The resources of getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl Resource {
    /// Every resource with its name on the command line.
    pub const ALL: [(&'static str, Resource); 16] = [
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ];
}

impl ServiceSpec {
    /// For spans that are never over: longer than prebind runs.
    pub const NEVER_NS: Nanos = 1_000_000_000 * SECOND;
    /// Connections on their way to a slot's own socket arrive within this time: 20 ms were measured on loopback.
    pub const SLOT_DRAIN_NS: Nanos = SECOND / 10;
}

impl Default for ServiceSpec {
    /// The defaults of the command line for a prebind that is not PID 1.
    fn default() -> Self {
        ServiceSpec {
            name: String::new(),
            command: Command::Demo,
            number: Number::Fixed(1),
            idle_number: 1,
            sockets: Vec::new(),
            sockets_given: false,
            listen_env: ListenEnv::Auto,
            ack: AckMode::Auto,
            min_ready_ns: 0,
            start_timeout_ns: 90 * SECOND,
            backoff_base_ns: SECOND,
            stop_timeout_ns: 90 * SECOND,
            stop_timeout_given: false,
            stop_signal: Signal::TERM,
            watchdog_ns: None,
            max_unacked: None,
            bounded_first: true,
            max_upgrade_additional: None,
            strategy: Strategy::Rolling,
            bake_ns: 10 * SECOND,
            upgrade_timeout_ns: 60 * SECOND,
            upgrade_retries: 3,
            drain_delay_ns: None,
            give_up_after: None,
            stop_passes_code: false,
            restart: Restart::Always,
            restart_given: false,
            user: None,
            group: None,
            chdir: None,
            umask: None,
            env: Vec::new(),
            env_files: Vec::new(),
            drop_env: Vec::new(),
            nice: None,
            limits: Vec::new(),
            control_fd: false,
            die_with_parent: false,
            start: StartWhen::AtOnce,
            autostart: true,
            singleton: false,
            spacing_ns: 0,
            max_age: None,
            kind: Kind::Simple,
            remain_after_exit: false,
            steps: Vec::new(),
            exits: ExitRules::default(),
            delay: Delay::BackOff,
            start_limit: None,
            kill: KillSpec::default(),
            runtime_max_ns: None,
            reload: Reload::None,
            notify_access: NotifyAccess::All,
            fd_store_max: 0,
            fd_store_preserve: Preserve::Restart,
            process: ProcessSpec::default(),
            origin: Origin::Default,
            retired: false,
        }
    }
}
