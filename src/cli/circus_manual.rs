//! prebind.circus(5): what becomes of a circus.ini. The chapters are plain text; the table of options is the one by which the
//! file is read.

use super::ctl::circusctl;
use super::manual::Part::{self, Term, Text};
use super::manual::{chapter, escape};
use crate::front::circus::keys::{Class, rows};
use std::fmt::Write;

const CHAPTERS: &[(&str, &[Part])] = &[
    ("NAME", &[Text("prebind.circus - Circus's configuration, run by prebind")]),
    (
        "SYNOPSIS",
        &[
            Text("prebind --circus FILE [OPTIONS]"),
            Text("prebind --check --circus FILE"),
            Text("circusctl [OPTIONS] COMMAND [ARG]..."),
        ],
    ),
    ("DESCRIPTION", DESCRIPTION),
    ("THE FILE", FILE),
    ("SUBSTITUTION", SUBSTITUTION),
    ("SOCKETS", SOCKETS),
    ("WATCHERS", WATCHERS),
    ("LOG FILES", STREAMS),
    ("WHAT IS SAID", SAID),
    ("SIGNALS AND OPTIONS", OPTIONS),
    ("WHAT DIFFERS FROM CIRCUS", DIFFERS),
];

const DESCRIPTION: &[Part] = &[Text(
    "prebind binds the sockets of the file, then starts each [watcher:NAME] as a service of that name, and keeps it running: a worker that dies is replaced at once, not at the next check. Files of Circus 0.19 are read, and those of its first year. What is wrong is said all at once, each with file and line, before anything is bound.",
)];

const FILE: &[Part] = &[
    Text(
        "A name is divided from its value by = or :, whichever comes first. Lines that begin with #, ; or the word rem are comments, and so is what follows a ; with a blank before it. An indented line goes on with the value above, also where it looks like a comment. \"\" alone is an empty value. Names are as they are written: CMD is not cmd. Of what is given twice the first counts. [DEFAULT] is part of every section. % means nothing.",
    ),
    Text(
        "include in [circus] names files, also by patterns, include_dir folders whose *.ini are read; both begin where the file lies. What stands in the file itself comes before what it includes.",
    ),
];

const SUBSTITUTION: &[Part] = &[
    Text("$(circus.X), ((circus.X)) and ${circus.X} are the same; X may be written in any case."),
    Term(
        "circus.env.NAME",
        "A variable: of the watcher's own [env:...], of [env], or of prebind's environment. Everywhere.",
    ),
    Term(
        "circus.sockets.NAME",
        "The descriptor's number in the worker, also as {SOCKET:NAME}, <SOCKET:NAME> and ${socket:NAME}. In cmd, args, shell_args and in variables. A name that is no socket's is an error.",
    ),
    Term("circus.wid", "The lowest number from 1 on that no live worker of the watcher has."),
    Term("circus.OPTION", "Any other option of the watcher, known or not."),
    Text(
        "prebind's own placeholders, such as {ADDR:NAME} and {SLOT}, are filled in there too. $NAME in the value of a variable is one of prebind's environment. What is not known stays as it stands, with a remark.",
    ),
];

const SOCKETS: &[Part] = &[
    Text(
        "Names count in small letters. Without a word they are TCP on 127.0.0.1:8080 with a backlog of 2048, non-blocking unless blocking = yes. type = AF_INET6 is taken as the family. umask of a path is an octal number; without one whoever reaches the path may connect.",
    ),
    Text(
        "so_reuseport = yes is -b ADDR,slots: a socket for each slot, which prebind holds, so that nothing queued is lost.",
    ),
];

const WATCHERS: &[Part] = &[
    Text(
        "With use_sockets = yes the sockets that cmd, args, shell_args, a variable or stdin_socket name, all where none is named, in the order of the file. They stand from descriptor 3, and LISTEN_FDS is set. Without use_sockets those that are named. stdin_socket without use_sockets is descriptor 0 alone.",
    ),
    Text(
        "copy_env is on where it is not said: a bare program's name is looked for in PATH. shell = yes runs cmd and args as they are by /bin/sh -c. warmup_delay lies between the starts of two workers, not between a worker and its successor. max_age replaces a worker once its successor is ready. autostart = no waits for prebindctl scale NAME N. A singleton is never scaled to more than one worker. on_demand starts with the first traffic on one of the watcher's sockets. Watchers start in the order of priority, the highest first.",
    ),
];

const STREAMS: &[Part] = &[
    Text(
        "Without stdout_stream or stderr_stream a worker writes where prebind does. With a filename it writes to a pipe; a thread of prebind writes whole lines to the file, so that those of several workers do not run into each other, and a slow disk holds up the worker alone. What prebind cannot write (a full disk) is counted and said, once and when it can again; no worker stands still for it. The pipes outlive the replacement of prebind, and what a worker said before it died is written.",
    ),
    Term(
        "FileStream",
        "The file grows. With max_bytes and backup_count it becomes FILE.1, FILE.1 becomes FILE.2 and so on before it reaches max_bytes: no line is in two files.",
    ),
    Term(
        "TimedRotatingFileStream",
        "With the first line after rotate_interval times rotate_when (S, M, H, D; MIDNIGHT; W0 to W6: the night after Monday to Sunday; H where it is not said) it becomes FILE.20261231, with hour, minute and second where periods are shorter; by local time, or utc = yes. backup_count of them are kept, 0: all. A name that is there gets -2 behind it.",
    ),
    Term("WatchedFileStream", "Opened anew once it is not the file at its path any more."),
    Term("time_format", "What each line begins with, as for strftime(3); then the worker's pid in brackets."),
    Text(
        "USR1 opens every file anew, whatever its class: the postrotate line of logrotate. The next file has the mode and the owner of the one before.",
    ),
];

const SAID: &[Part] = &[
    Term("honoured", "It does what Circus promises."),
    Term("noted", "Nothing is lost: said with -v and by --check."),
    Term(
        "left out",
        "What it asks for is not there, said with what comes nearest. A value that asks for nothing is no matter.",
    ),
    Term("refused", "An error, with what to do instead."),
    Text("Unknown options are warned of with what was meant."),
];

const OPTIONS: &[Part] = &[
    Text(
        "HUP replaces prebind, reads the file anew and upgrades the workers: sockets come, go and move, watchers too; with a wrong file nothing changes. prebindctl reload sends HUP to the workers of a watcher with send_hup = yes, and upgrades the others. TERM and INT stop gracefully.",
    ),
    Text(
        "-c, -d, -e, -f, --no-control, -q, -v, --log-format, --check, --json, -m, --min-ready, --start-timeout, --listen-env, --watchdog, -s, --nice and those for upgrades go together with --circus, and are for all watchers. What the file has a word for does not, nor does a COMMAND. The control socket has the name of the file without .ini.",
    ),
];

const CIRCUSCTL: &[Part] = &[
    Text(
        "A link of that name, to prebind or prebindctl, is circusctl: its words, what it prints, its --json, and its exit codes: 0; 1 where the command line is wrong or nobody answers; 3 where prebind says no. It asks the only prebind that runs, or the one of -d PATH, -c NAME, --endpoint ipc://PATH or CIRCUSCTL_ENDPOINT; the endpoint of another circusd is refused.",
    ),
    Text(
        "restart, reload, reloadconfig and quit return when it is done, as with --waiting, and lose no request. reloadconfig upgrades every watcher, be it changed or not; a wrong file changes nothing. restart without a name replaces the workers, not the sockets. There is no shell.",
    ),
];

const DIFFERS: &[Part] = &[Text(
    "A socket that cannot be bound, a bad section and an unknown socket end the start, with exit code 111 or 100. One watcher does not get the sockets of another. A command that cannot be started ends the start; later it is tried again. When every watcher is over, prebind ends. Workers have a process group of their own, not a session. graceful_timeout = 30 is kept, but 8 as PID 1 where it is not said. A worker whose prebind was killed loses the reader of its log, as in Circus.",
)];

/// The whole page.
pub(super) fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH prebind.circus 5 \"\" \"prebind {version}\"\n");
    for (title, parts) in CHAPTERS {
        out += &chapter(title, parts);
    }
    out += &table();
    out += &circusctl();
    out + &chapter("SEE ALSO", &[Text("prebind(1), prebindctl(1), prebind.units(5)")])
}

/// Its words, and what to do where one is not had.
fn circusctl() -> String {
    let mut out = chapter("CIRCUSCTL", CIRCUSCTL);
    let missing = circusctl::missing().map(|(word, instead)| (word.to_string(), format!("Not had: {instead}.")));
    for (term, text) in circusctl::terms().into_iter().chain(missing) {
        let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", escape(&term), escape(&text));
    }
    out
}

/// Every option, by section and by what becomes of it.
fn table() -> String {
    let mut out = chapter("OPTIONS OF THE FILE", &[]);
    for (kind, title) in [
        ("circus", "[circus]"),
        ("socket", "[socket:NAME]"),
        ("watcher", "[watcher:NAME]"),
        ("plugin", "[plugin:NAME]"),
    ] {
        let _ = writeln!(out, ".SS \"{title}\"");
        for (class, word) in [
            (Class::Honoured, "honoured"),
            (Class::Noted, "noted"),
            (Class::LeftOut, "left out"),
            (Class::Refused, "refused"),
        ] {
            for (_, _, keys, why) in rows().filter(|(of, own, ..)| *of == kind && *own == class) {
                let keys: Vec<&str> = keys.split_whitespace().collect();
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                let _ = writeln!(out, ".TP\n\\fB{word}\\fR\n{}", escape(&format!("{}{why}", keys.join(", "))));
            }
        }
    }
    out.push_str(".PP\n");
    out += &escape(
        "circus.plugins.flapping.Flapping is what prebind does by itself; its retry_in is -s. Other plugins of Circus are left out with what tells as much, those of others are refused.",
    );
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_page() {
        let page = page();
        for key in rows().flat_map(|(_, _, keys, _)| keys.split_whitespace()) {
            assert!(page.contains(&escape(key)), "{key}");
        }
    }
}
