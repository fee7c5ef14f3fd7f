//! The options, each once, as data. Help, man page and completions are printed from it; a command line is read by clap in
//! the rows that it may mean, since to build them all takes longer than the rest of a start.

use crate::plan::Strategy;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// What later versions will understand; named so that nobody takes it for a slip of the pen.
pub(super) const RESERVED: [&str; 2] = ["ctl", "reload"];

/// Every option under its heading, in the order of the help.
const GROUPS: [(&str, &[Opt]); 9] = [
    ("Sockets", SOCKETS),
    ("Workers", WORKERS),
    ("Workers", PROCESS),
    ("Upgrades", UPGRADES),
    ("Units", UNITS),
    ("Circus", CIRCUS),
    ("Containers", CONTAINERS),
    ("Identity", IDENTITY),
    ("Other", OTHER),
];

/// One option. Its long name is its id.
#[derive(Debug)]
pub(super) struct Opt {
    pub(super) id: &'static str,
    pub(super) short: Option<char>,
    takes: Takes,
    help: &'static str,
    hidden: bool,
}

#[derive(Debug)]
enum Takes {
    /// It is there or not.
    Nothing,
    /// It counts.
    Times,
    /// A value; where it is repeatable, every one counts, else the last one.
    Value { name: &'static str, parser: fn() -> ValueParser, repeated: bool },
}

impl Opt {
    const fn new(id: &'static str, takes: Takes, help: &'static str) -> Opt {
        Opt { id, short: None, takes, help, hidden: false }
    }

    const fn short(mut self, letter: char) -> Opt {
        self.short = Some(letter);
        self
    }

    const fn hidden(mut self) -> Opt {
        self.hidden = true;
        self
    }

    const fn parsed(mut self, by: fn() -> ValueParser) -> Opt {
        if let Takes::Value { parser, .. } = &mut self.takes {
            *parser = by;
        }
        self
    }

    const fn repeated(mut self) -> Opt {
        if let Takes::Value { repeated, .. } = &mut self.takes {
            *repeated = true;
        }
        self
    }

    pub(super) fn takes_value(&self) -> bool {
        matches!(self.takes, Takes::Value { .. })
    }

    /// Whether a word before COMMAND may be this option. Of other words it may be true, too: that costs a row, and no more.
    fn may_be(&self, word: &[u8]) -> bool {
        match word {
            [b'-', b'-', long @ ..] => long.starts_with(self.id.as_bytes()),
            [b'-', letters @ ..] => self.short.is_some_and(|short| letters.contains(&(short as u8))),
            _ => false,
        }
    }

    fn arg(&self, heading: &'static str) -> Arg {
        let arg = Arg::new(self.id).long(self.id).help(self.help).help_heading(heading).hide(self.hidden);
        let arg = if let Some(letter) = self.short { arg.short(letter) } else { arg };
        match &self.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Times => arg.action(ArgAction::Count),
            Takes::Value { name, parser, repeated } => {
                let action = if *repeated { ArgAction::Append } else { ArgAction::Set };
                arg.action(action).value_name(name).allow_hyphen_values(true).value_parser(parser())
            }
        }
    }
}

/// Every option.
pub(super) fn options() -> impl Iterator<Item = &'static Opt> {
    GROUPS.iter().flat_map(|(_, options)| options.iter())
}

/// The command line of prebind.
pub fn table() -> Command {
    prebind(|_| true)
        .about("Binds the sockets first, then launches and supervises N copies of a command")
        .override_usage("prebind [OPTIONS] [--] COMMAND [ARG]...\n       prebind -b ADDR [OPTIONS]     (no COMMAND: the embedded demonstration)\n       prebind --unit PATH... [OPTIONS]\n       prebind --circus FILE [OPTIONS]")
        .after_help(
            "Options end at the first word that is none. Placeholders in COMMAND, ARG and --env values: {SOCKET:web},\n\
             {ADDR:web}, {HOST:web}, {PORT:web}, {PATH:web}, {SLOT}. See prebind(1), prebindctl(1).",
        )
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(ValueParser::os_string())
                .help("The command to run in N copies, and its arguments"),
        )
}

/// The options that these words may mean, without help. What it does not understand is to be read by [`table`], which says why.
pub(super) fn meant_by(words: &[OsString]) -> Command {
    prebind(|option| words.iter().any(|word| option.may_be(word.as_bytes())))
}

fn prebind(wanted: impl Fn(&Opt) -> bool) -> Command {
    let rows = GROUPS.iter().flat_map(|(heading, options)| options.iter().map(move |option| (heading, option)));
    Command::new("prebind")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .disable_help_flag(true)
        .args_override_self(true)
        .max_term_width(100)
        .args(rows.filter(|(_, option)| wanted(option)).map(|(heading, option)| option.arg(heading)))
}

const fn value(id: &'static str, name: &'static str, help: &'static str) -> Opt {
    Opt::new(id, Takes::Value { name, parser: ValueParser::string, repeated: false }, help)
}

const fn many(id: &'static str, name: &'static str, help: &'static str) -> Opt {
    value(id, name, help).repeated().parsed(ValueParser::os_string)
}

const fn flag(id: &'static str, help: &'static str) -> Opt {
    Opt::new(id, Takes::Nothing, help)
}

const fn counted(id: &'static str, help: &'static str) -> Opt {
    Opt::new(id, Takes::Times, help)
}

const fn path(id: &'static str, name: &'static str, help: &'static str) -> Opt {
    value(id, name, help).parsed(ValueParser::path_buf)
}

const fn count(id: &'static str, help: &'static str) -> Opt {
    value(id, "N", help).parsed(|| clap::value_parser!(u32).into())
}

const fn seconds(id: &'static str, help: &'static str) -> Opt {
    value(id, "SECONDS", help).parsed(|| ValueParser::new(super::values::seconds))
}

const SOCKETS: &[Opt] = &[
        many("bind", "[NAME=]ADDR[,OPT]...", "Bind a socket; repeatable, in the order of the descriptors from 3. ADDR: PORT, HOST:PORT, *:PORT, [V6]:PORT, /path, @abstract, vsock:CID:PORT or fd:N, after tcp: (default), udp:, unix:, unixgram:, seqpacket: or fifo:").short('b'),
        count("backlog", "Connections that may wait [default: what the kernel allows]").short('l'),
        value("listen-env", "WHICH", "Which of LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID workers get; auto: no LISTEN_PID where the command names a socket [default: auto]")
            .parsed(|| PossibleValuesParser::new(["auto", "full", "no-pid", "none"]).into()),
    ];

const WORKERS: &[Opt] = &[
        value("number", "N|auto", "Copies; auto: one per CPU that prebind may use [default: 1]").short('n').parsed(|| ValueParser::new(super::values::number)),
        value("ack-mode", "MODE", "When a worker is ready: auto (READY=1, an ack, or it waits on its sockets; else after 1 s), SECONDS (not before), accept (it waits on its sockets), manual or notify (only READY=1 or an ack) [default: auto]").short('m').parsed(|| ValueParser::new(super::values::ack_mode)),
        seconds("min-ready", "An old worker is told to stop only after its successor was ready so long [default: 0]"),
        seconds("start-timeout", "Not ready by then in manual or notify mode: stopped, back-off [default: 90]"),
        seconds("seconds", "Base of the back-off: SECONDS x 1.5^deaths, at most 30 s [default: 1]").short('s'),
        seconds("signal-timeout", "From the stop signal to SIGKILL [default: 90; as PID 1: 8]").short('t'),
        value("stop-signal", "SIGNAL", "What asks a worker to stop [default: TERM]").parsed(|| ValueParser::new(super::values::signal)),
        seconds("watchdog", "Workers must say WATCHDOG=1 in time, or are replaced"),
        count("max-unacked", "How many may be starting at once [default: all at first, a quarter later]"),
        count("max-upgrade-additional", "Processes above the number while workers are replaced [default: as --max-unacked]"),
        value("restart", "WHEN", "Whether a worker that ended is started again [default: always; as PID 1 with one worker and no socket: no]")
            .parsed(|| PossibleValuesParser::new(["always", "on-failure", "no"]).into()),
        flag("command-socket-as-fd", "Give each worker a connection to the control socket, EINHORN_SOCK_FD").short('g'),
        flag("kill-children-on-exit", "Workers get USR2 when prebind dies").short('k'),
    ];

const PROCESS: &[Opt] = &[
    value("user", "USER", "Run workers as this user, with its groups"),
    value("group", "GROUP", "Run workers as this group"),
    path("chdir", "DIR", "Directory of the workers, resolved anew at each start"),
    value("umask", "OCTAL", "File mode creation mask of the workers").parsed(|| ValueParser::new(super::values::octal)),
    many("env", "K=V", "Set a variable; placeholders are filled in"),
    many("env-file", "FILE", "Read variables from a file at each start; -FILE: if it exists"),
    many("drop-env-var", "K", "Do not pass this variable on"),
    value("nice", "LEVEL", "Scheduling priority of the workers, -20 to 19; einhorn's OWN:WORKERS sets prebind's too")
        .parsed(|| ValueParser::new(super::values::nice)),
    many("limit", "NAME=SOFT[:HARD]", "Resource limit of the workers, e.g. nofile=4096:8192, core=infinity"),
];

const UPGRADES: &[Opt] = &[
        value("strategy", "HOW", "rolling: a quarter of the workers at a time; fleet: all new ones start at once, the old ones stop when all are ready; canary: one new worker serves on trial first [default: rolling]")
            .parsed(|| PossibleValuesParser::new(Strategy::ALL.map(|(word, _)| word)).into()),
        seconds("bake", "How long a canary serves on trial [default: 10]"),
        seconds("upgrade-timeout", "A new worker that is not ready by then ends the upgrade, the old ones serve on [default: 60]"),
        count("upgrade-retries", "So many failures of new workers end the upgrade [default: 3]"),
        value("reexec-as", "CMDLINE", "What is run when prebind replaces itself, split as by a shell, with prebind's own arguments behind it; it is to end in exec prebind [default: what prebind's path gives then]"),
        seconds("drain-delay", "From the wish to stop prebind, or to run fewer workers, to the stop signal: a load balancer notices meanwhile [default: 0; where a slot of its own goes: 0.1]"),
    ];

const UNITS: &[Opt] = &[
    many(
        "unit",
        "PATH",
        "Run systemd units: a .socket or .service file, a folder of them, or a unit's name in systemd's search path; repeatable. See prebind.units(5)",
    ),
    flag("start", "Start services at once, not on the first traffic"),
    flag("inherit-env", "Their environment begins with prebind's, not empty"),
    flag("allow-unprotected", "Run units without the sandboxing that they ask for"),
];

const CIRCUS: &[Opt] =
    &[value("circus", "FILE", "Run the watchers of a circus.ini on its sockets. See prebind.circus(5)")
        .parsed(ValueParser::os_string)];

const CONTAINERS: &[Opt] = &[
        flag("subreaper", "Adopt the orphans of the workers and end them in the end, as PID 1 does"),
        count("give-up-after", "So many workers in a row that died before one was ready end prebind, exit code 1; 0: none do [default: 0; as PID 1: 5]"),
        value("rewrite", "FROM:TO", "What workers get in the place of a signal to prebind, e.g. TERM:QUIT; FROM:0: nothing; repeatable")
            .repeated()
            .parsed(|| ValueParser::new(super::values::rewrite)),
        value("forward", "SIGNAL", "Pass this signal to the workers in the place of its meaning for prebind, e.g. USR1; repeatable")
            .repeated()
            .parsed(|| ValueParser::new(super::values::signal)),
        value("exit-code", "FROM=TO", "With --restart no: prebind exits with TO where the command did with FROM (128+N for a signal), e.g. 143=0; repeatable")
            .repeated()
            .parsed(|| ValueParser::new(super::values::exit_code)),
        path("health-file", "FILE", "Is there while every service is ready"),
        value("health-listen", "ADDR", "Answer GET /ready and /live by HTTP, 200 or 503, on PORT or IP:PORT")
            .parsed(|| ValueParser::new(super::values::listen)),
    ];

const IDENTITY: &[Opt] = &[
    value("command-name", "NAME", "Name of this prebind and its service [default: the command's base name]").short('c'),
    path(
        "socket-path",
        "PATH",
        "The control socket [default: NAME.sock in /run/prebind, $XDG_RUNTIME_DIR/prebind or a private directory]",
    )
    .short('d'),
    path("pidfile", "FILE", "Holds prebind's pid while it runs").short('e'),
    path("lockfile", "FILE", "Locked while prebind runs").short('f'),
    flag("no-control", "No control socket"),
];

const OTHER: &[Opt] = &[
    path("preload", "PATH", "einhorn's: taken, and the code is loaded by each worker").short('p').hidden(),
    flag("gc-before-fork", "einhorn's: taken, and nothing is preloaded").hidden(),
    count("with-state-fd", "Go on from the state on this descriptor: for prebind's own replacement").hidden(),
    flag("upgrade-check", "With --with-state-fd: only say whether the state is understood").hidden(),
    flag("check", "Print what would be run, open nothing, and exit"),
    flag("json", "With --check: print it as JSON"),
    value("log-format", "FORMAT", "How prebind logs on stderr [default: text]")
        .parsed(|| PossibleValuesParser::new(["text", "json"]).into()),
    counted("quiet", "Log less; repeatable").short('q'),
    counted("verbose", "Log more; repeatable").short('v'),
    value("generate", "WHAT", "Print a manual page or completions and exit").parsed(|| {
        PossibleValuesParser::new([
            "man",
            "units",
            "circus",
            "servers",
            "completions-bash",
            "completions-zsh",
            "completions-fish",
        ])
        .into()
    }),
    flag("version", "Print the version and exit"),
    flag("help", "Print this and exit").short('h'),
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_sound() {
        super::table().debug_assert();
    }
}
