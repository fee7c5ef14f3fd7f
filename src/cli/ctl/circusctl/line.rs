//! The command line of circusctl, from which the manual's list is printed.

use crate::plan::Signal;
use clap::{Arg, ArgAction, Command, value_parser};
use std::path::PathBuf;
use std::time::Duration;

/// As long as circusctl waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Circus's words that are not had, and what to do instead.
const ELSEWHERE: [(&str, &str); 8] = [
    ("add", "write a [watcher:NAME] into the file, then reloadconfig"),
    ("rm", "take its section out of the file, then reloadconfig; stop NAME ends its workers"),
    ("set", "incr, decr or prebindctl scale NAME N for numprocesses; else change the file, then reloadconfig"),
    ("globaloptions", "prebind --check --circus FILE"),
    ("kill", "restart NAME replaces its workers, signal NAME [PID] KILL kills them"),
    ("dstats", "prebind lives on signals and descriptors, without a load of its own: stats tells of the workers"),
    ("listen", "prebindctl events"),
    ("ipython", "no Python runs here: prebindctl status --json"),
];

/// Those words.
pub(in crate::cli) fn missing() -> impl Iterator<Item = (&'static str, &'static str)> {
    ELSEWHERE.into_iter()
}

/// Every command as it is written, and what it does: for the manual.
pub(in crate::cli) fn terms() -> Vec<(String, String)> {
    let term = |command: Command| {
        let own = command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_global_set());
        let words: String = own.map(|arg| format!(" {}", written(arg))).collect();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        (format!("{}{words}", command.get_name()), format!("{about}."))
    };
    commands().into_iter().map(term).collect()
}

fn written(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    match (arg.get_long(), arg.is_required_set()) {
        (Some(long), _) if value.is_empty() => format!("[--{long}]"),
        (Some(long), _) => format!("[--{long} {value}]"),
        (None, true) => value,
        (None, false) => format!("[{value}]"),
    }
}

/// What to do instead of a command.
pub(super) fn elsewhere(command: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(word, _)| *word == command).map(|(_, instead)| *instead)
}

/// The one table of circusctl's command line.
pub(super) fn command_line() -> Command {
    let missing = ELSEWHERE.map(|(word, instead)| {
        let rest = Arg::new("rest").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
        Command::new(word).about(instead).hide(true).disable_help_flag(true).arg(rest)
    });
    let text = |id: &'static str| Arg::new(id).long(id).global(true);
    Command::new("circusctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Speaks to a running prebind in Circus's words")
        .override_usage("circusctl [OPTIONS] COMMAND [ARG]...")
        .after_help("Exit codes: 0, done; 1, the command line is wrong, or nobody answers; 3, prebind says no.")
        .disable_help_subcommand(true)
        .args([
            text("socket-path")
                .short('d')
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("The control socket of the prebind to ask"),
            text("command-name")
                .short('c')
                .value_name("NAME")
                .conflicts_with("socket-path")
                .help("The prebind of that name; without -c and -d: the only one that runs"),
            text("endpoint")
                .value_name("ENDPOINT")
                .help("ipc://PATH as -d PATH; tcp://127.0.0.1:5555 is the only one that runs; no other is anybody's"),
            text("timeout")
                .value_name("SECONDS")
                .value_parser(seconds)
                .help("How long to wait for an answer; 5, and for restart, reload, reloadconfig and quit without end"),
            text("json").action(ArgAction::SetTrue).help("Print the answer as one line of JSON"),
            text("prettify").action(ArgAction::SetTrue).help("Print it as JSON on many lines"),
            text("ssh").value_name("HOST").hide(true),
            text("ssh_keyfile").value_name("FILE").hide(true),
        ])
        .subcommands(commands())
        .subcommands(missing)
}

fn commands() -> [Command; 17] {
    let name = || Arg::new("name").value_name("NAME").help("Which watcher, in any case; all without");
    let one = || name().required(true).help("Which watcher, in any case");
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let waiting = || flag("waiting").help("Return when it is done, and not done in time is an error");
    // Taken, and no matter: it is so anyway.
    let waits = || waiting().hide(true);
    let pattern = || {
        let how = Arg::new("match").long("match").value_name("HOW").value_parser(["glob", "simple"]);
        how.default_value("glob").help("Whether NAME is a pattern of the shell")
    };
    let step = || Arg::new("step").value_name("N").default_value("1").value_parser(value_parser!(u32)).help("So many");
    let word = |name: &'static str, about: &'static str| Command::new(name).about(about);
    [
        word("list", "The watchers, or the pids of one's workers").arg(name()),
        word("status", "Whether watchers are active, starting, stopping or stopped").arg(name()),
        word("incr", "So many workers more").args([one(), step(), waiting()]),
        word("decr", "So many workers less").args([one(), step(), waiting()]),
        word("numprocesses", "How many workers are asked for").arg(name()),
        word("numwatchers", "How many watchers there are"),
        word("listsockets", "The sockets, with their descriptors in workers that get all of them"),
        word("start", "Start as many workers as the file says, where there are none").args([
            name(),
            pattern(),
            waiting(),
        ]),
        word("stop", "Stop the workers; the sockets stay open").args([name(), pattern(), waiting()]),
        word("restart", "Replace the workers one by one: the new one is ready before the old one is told to stop")
            .args([name(), pattern(), waits()]),
        word("reload", "Upgrade the workers, or send HUP where the file says send_hup").args([
            name(),
            flag("sequential").help("One by one"),
            flag("terminate").help("As restart"),
            waits(),
        ]),
        word("reloadconfig", "Read the file anew, sockets and watchers too, and upgrade every worker").arg(waits()),
        word("quit", "Stop everything, then prebind").arg(waits()),
        word("signal", "Send a signal to a watcher's workers, or to one").allow_missing_positional(true).args([
            one(),
            Arg::new("pid").value_name("PID").value_parser(value_parser!(i32).range(1..)).help("Only that worker"),
            Arg::new("signal")
                .value_name("SIG")
                .required(true)
                .value_parser(|text: &str| text.parse::<Signal>())
                .help("Its name, with or without SIG, or its number"),
            flag("children").hide(true),
            flag("recursive").hide(true),
        ]),
        word("stats", "What each worker costs").arg(name()),
        word("options", "How a watcher is run; of variables only the names").arg(one()),
        word("get", "Some of that")
            .args([one(), Arg::new("keys").value_name("KEY").required(true).num_args(1..).help("Which options")]),
    ]
}

/// A span above 0, fractions allowed, at most a year.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 365.0 * 86400.0 => Ok(seconds),
        _ => Err("not a number of seconds above 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        command_line().debug_assert();
    }

    #[test]
    fn circuss_lines_are_understood() {
        for words in [
            "circusctl list",
            "circusctl --json --endpoint tcp://127.0.0.1:5555 list web",
            "circusctl list --timeout 2.5",
            "circusctl incr web",
            "circusctl decr web 2 --waiting",
            "circusctl reload web --sequential --waiting",
            "circusctl reload --terminate",
            "circusctl restart web* --match glob --waiting",
            "circusctl signal web HUP",
            "circusctl signal web 17 SIGHUP",
            "circusctl get web cmd numprocesses",
            "circusctl set web numprocesses 3",
            "circusctl add web cmd --start",
            "circusctl kill web 5 --signum 9",
            "circusctl --ssh host list",
        ] {
            assert!(command_line().try_get_matches_from(words.split(' ')).is_ok(), "{words}");
        }
        for words in ["circusctl incr", "circusctl signal web", "circusctl stop --match regex w", "circusctl lst"] {
            assert!(command_line().try_get_matches_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
