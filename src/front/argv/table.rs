//! The clap table: every option once. Help, man page and completions are printed from it.

use crate::plan::Strategy;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, Command};

const SOCKETS: &str = "Sockets";
const WORKERS: &str = "Workers";
const UPGRADES: &str = "Upgrades";
const UNITS: &str = "Units";
const CIRCUS: &str = "Circus";
const CONTAINERS: &str = "Containers";
const IDENTITY: &str = "Identity";
const OTHER: &str = "Other";

/// What later versions will understand; named so that nobody takes it for a slip of the pen.
pub(super) const RESERVED: [&str; 2] = ["ctl", "reload"];

/// The command line of prebind.
pub fn table() -> Command {
    Command::new("prebind")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Binds the sockets first, then launches and supervises N copies of a command")
        .override_usage("prebind [OPTIONS] [--] COMMAND [ARG]...\n       prebind -b ADDR [OPTIONS]     (no COMMAND: the embedded demonstration)\n       prebind --unit PATH... [OPTIONS]\n       prebind --circus FILE [OPTIONS]")
        .after_help(
            "Options end at the first word that is none. Placeholders in COMMAND, ARG and --env values: {SOCKET:web},\n\
             {ADDR:web}, {HOST:web}, {PORT:web}, {PATH:web}, {SLOT}. See prebind(1), prebindctl(1).",
        )
        .disable_version_flag(true)
        .disable_help_flag(true)
        .args_override_self(true)
        .max_term_width(100)
        .args(sockets())
        .args(workers())
        .args(process())
        .args(upgrades())
        .args(units())
        .arg(circus())
        .args(containers())
        .args(identity())
        .args(other())
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(ValueParser::os_string())
                .help("The command to run in N copies, and its arguments"),
        )
}

fn value(id: &'static str, name: &'static str, heading: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).value_name(name).help(help).help_heading(heading).allow_hyphen_values(true)
}

fn many(id: &'static str, name: &'static str, heading: &'static str, help: &'static str) -> Arg {
    value(id, name, heading, help).action(ArgAction::Append).value_parser(ValueParser::os_string())
}

fn flag(id: &'static str, heading: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).help(help).help_heading(heading).action(ArgAction::SetTrue)
}

fn path(id: &'static str, name: &'static str, heading: &'static str, help: &'static str) -> Arg {
    value(id, name, heading, help).value_parser(ValueParser::path_buf())
}

fn count(id: &'static str, heading: &'static str, help: &'static str) -> Arg {
    value(id, "N", heading, help).value_parser(clap::value_parser!(u32))
}

fn seconds(id: &'static str, heading: &'static str, help: &'static str) -> Arg {
    value(id, "SECONDS", heading, help).value_parser(super::values::seconds)
}

fn sockets() -> [Arg; 3] {
    [
        many("bind", "[NAME=]ADDR[,OPT]...", SOCKETS, "Bind a socket; repeatable, in the order of the descriptors from 3. ADDR: PORT, HOST:PORT, *:PORT, [V6]:PORT, /path, @abstract, vsock:CID:PORT or fd:N, after tcp: (default), udp:, unix:, unixgram:, seqpacket: or fifo:").short('b'),
        count("backlog", SOCKETS, "Connections that may wait [default: what the kernel allows]").short('l'),
        value("listen-env", "WHICH", SOCKETS, "Which of LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID workers get; auto: no LISTEN_PID where the command names a socket [default: auto]")
            .value_parser(PossibleValuesParser::new(["auto", "full", "no-pid", "none"])),
    ]
}

fn workers() -> [Arg; 13] {
    [
        value("number", "N|auto", WORKERS, "Copies; auto: one per CPU that prebind may use [default: 1]").short('n').value_parser(super::values::number),
        value("ack-mode", "MODE", WORKERS, "When a worker is ready: auto (READY=1, an ack, or it waits on its sockets; else after 1 s), SECONDS (not before), accept (it waits on its sockets), manual or notify (only READY=1 or an ack) [default: auto]").short('m').value_parser(super::values::ack_mode),
        seconds("min-ready", WORKERS, "An old worker is told to stop only after its successor was ready so long [default: 0]"),
        seconds("start-timeout", WORKERS, "Not ready by then in manual or notify mode: stopped, back-off [default: 90]"),
        seconds("seconds", WORKERS, "Base of the back-off: SECONDS x 1.5^deaths, at most 30 s [default: 1]").short('s'),
        seconds("signal-timeout", WORKERS, "From the stop signal to SIGKILL [default: 90; as PID 1: 8]").short('t'),
        value("stop-signal", "SIGNAL", WORKERS, "What asks a worker to stop [default: TERM]").value_parser(super::values::signal),
        seconds("watchdog", WORKERS, "Workers must say WATCHDOG=1 in time, or are replaced"),
        count("max-unacked", WORKERS, "How many may be starting at once [default: all at first, a quarter later]"),
        count("max-upgrade-additional", WORKERS, "Processes above the number while workers are replaced [default: as --max-unacked]"),
        value("restart", "WHEN", WORKERS, "Whether a worker that ended is started again [default: always; as PID 1 with one worker and no socket: no]")
            .value_parser(PossibleValuesParser::new(["always", "on-failure", "no"])),
        flag("command-socket-as-fd", WORKERS, "Give each worker a connection to the control socket, EINHORN_SOCK_FD").short('g'),
        flag("kill-children-on-exit", WORKERS, "Workers get USR2 when prebind dies").short('k'),
    ]
}

fn upgrades() -> [Arg; 6] {
    [
        value("strategy", "HOW", UPGRADES, "rolling: a quarter of the workers at a time; fleet: all new ones start at once, the old ones stop when all are ready; canary: one new worker serves on trial first [default: rolling]")
            .value_parser(PossibleValuesParser::new(Strategy::ALL.map(|(word, _)| word))),
        seconds("bake", UPGRADES, "How long a canary serves on trial [default: 10]"),
        seconds("upgrade-timeout", UPGRADES, "A new worker that is not ready by then ends the upgrade, the old ones serve on [default: 60]"),
        count("upgrade-retries", UPGRADES, "So many failures of new workers end the upgrade [default: 3]"),
        value("reexec-as", "CMDLINE", UPGRADES, "What is run when prebind replaces itself, split as by a shell, with prebind's own arguments behind it; it is to end in exec prebind [default: what prebind's path gives then]"),
        seconds("drain-delay", UPGRADES, "From the wish to stop prebind, or to run fewer workers, to the stop signal: a load balancer notices meanwhile [default: 0; where a slot of its own goes: 0.1]"),
    ]
}

fn units() -> [Arg; 4] {
    [
        many(
            "unit",
            "PATH",
            UNITS,
            "Run systemd units: a .socket or .service file, a folder of them, or a unit's name in systemd's search path; repeatable. See prebind.units(5)",
        ),
        flag("start", UNITS, "Start services at once, not on the first traffic"),
        flag("inherit-env", UNITS, "Their environment begins with prebind's, not empty"),
        flag("allow-unprotected", UNITS, "Run units without the sandboxing that they ask for"),
    ]
}

fn circus() -> Arg {
    value("circus", "FILE", CIRCUS, "Run the watchers of a circus.ini on its sockets. See prebind.circus(5)")
        .value_parser(ValueParser::os_string())
}

fn process() -> [Arg; 9] {
    [
        value("user", "USER", WORKERS, "Run workers as this user, with its groups"),
        value("group", "GROUP", WORKERS, "Run workers as this group"),
        path("chdir", "DIR", WORKERS, "Directory of the workers, resolved anew at each start"),
        value("umask", "OCTAL", WORKERS, "File mode creation mask of the workers").value_parser(super::values::octal),
        many("env", "K=V", WORKERS, "Set a variable; placeholders are filled in"),
        many("env-file", "FILE", WORKERS, "Read variables from a file at each start; -FILE: if it exists"),
        many("drop-env-var", "K", WORKERS, "Do not pass this variable on"),
        value(
            "nice",
            "LEVEL",
            WORKERS,
            "Scheduling priority of the workers, -20 to 19; einhorn's OWN:WORKERS sets prebind's too",
        )
        .value_parser(super::values::nice),
        many(
            "limit",
            "NAME=SOFT[:HARD]",
            WORKERS,
            "Resource limit of the workers, e.g. nofile=4096:8192, core=infinity",
        ),
    ]
}

fn containers() -> [Arg; 7] {
    [
        flag("subreaper", CONTAINERS, "Adopt the orphans of the workers and end them in the end, as PID 1 does"),
        count("give-up-after", CONTAINERS, "So many workers in a row that died before one was ready end prebind, exit code 1; 0: none do [default: 0; as PID 1: 5]"),
        value("rewrite", "FROM:TO", CONTAINERS, "What workers get in the place of a signal to prebind, e.g. TERM:QUIT; FROM:0: nothing; repeatable")
            .action(ArgAction::Append)
            .value_parser(super::values::rewrite),
        value("forward", "SIGNAL", CONTAINERS, "Pass this signal to the workers in the place of its meaning for prebind, e.g. USR1; repeatable")
            .action(ArgAction::Append)
            .value_parser(super::values::signal),
        value("exit-code", "FROM=TO", CONTAINERS, "With --restart no: prebind exits with TO where the command did with FROM (128+N for a signal), e.g. 143=0; repeatable")
            .action(ArgAction::Append)
            .value_parser(super::values::exit_code),
        path("health-file", "FILE", CONTAINERS, "Is there while every service is ready"),
        value("health-listen", "ADDR", CONTAINERS, "Answer GET /ready and /live by HTTP, 200 or 503, on PORT or IP:PORT")
            .value_parser(super::values::listen),
    ]
}

fn identity() -> [Arg; 5] {
    [
        value(
            "command-name",
            "NAME",
            IDENTITY,
            "Name of this prebind and its service [default: the command's base name]",
        )
        .short('c'),
        path(
            "socket-path",
            "PATH",
            IDENTITY,
            "The control socket [default: NAME.sock in /run/prebind, $XDG_RUNTIME_DIR/prebind or a private directory]",
        )
        .short('d'),
        path("pidfile", "FILE", IDENTITY, "Holds prebind's pid while it runs").short('e'),
        path("lockfile", "FILE", IDENTITY, "Locked while prebind runs").short('f'),
        flag("no-control", IDENTITY, "No control socket"),
    ]
}

fn other() -> [Arg; 12] {
    [
        path("preload", "PATH", OTHER, "einhorn's: taken, and the code is loaded by each worker").short('p').hide(true),
        flag("gc-before-fork", OTHER, "einhorn's: taken, and nothing is preloaded").hide(true),
        count("with-state-fd", OTHER, "Go on from the state on this descriptor: for prebind's own replacement")
            .hide(true),
        flag("upgrade-check", OTHER, "With --with-state-fd: only say whether the state is understood").hide(true),
        flag("check", OTHER, "Print what would be run, open nothing, and exit"),
        flag("json", OTHER, "With --check: print it as JSON"),
        value("log-format", "FORMAT", OTHER, "How prebind logs on stderr [default: text]")
            .value_parser(PossibleValuesParser::new(["text", "json"])),
        Arg::new("quiet")
            .short('q')
            .long("quiet")
            .action(ArgAction::Count)
            .help("Log less; repeatable")
            .help_heading(OTHER),
        Arg::new("verbose")
            .short('v')
            .long("verbose")
            .action(ArgAction::Count)
            .help("Log more; repeatable")
            .help_heading(OTHER),
        value("generate", "WHAT", OTHER, "Print a manual page or completions and exit").value_parser(
            PossibleValuesParser::new([
                "man",
                "units",
                "circus",
                "servers",
                "completions-bash",
                "completions-zsh",
                "completions-fish",
            ]),
        ),
        Arg::new("version")
            .long("version")
            .action(ArgAction::SetTrue)
            .help("Print the version and exit")
            .help_heading(OTHER),
        Arg::new("help")
            .short('h')
            .long("help")
            .action(ArgAction::SetTrue)
            .help("Print this and exit")
            .help_heading(OTHER),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_sound() {
        super::table().debug_assert();
    }
}
