//! Every option of Circus 0.19 and what becomes of it. The readers are asked for the honoured ones, the others are judged
//! from here; the manual's table is printed from here.

use super::Said;
use super::lex::{Entry, Section};
use super::values::is_off;
use crate::front::pattern::fits;
use crate::plan::nearest;

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It does what Circus promises.
    Honoured,
    /// Nothing is lost without it: a note says what takes its place.
    Noted,
    /// What it asks for is not there: a warning says what comes nearest.
    LeftOut,
    /// The service would not be what it is meant to be: an error says what to do instead.
    Refused,
}

/// A kind of section, a class, options with blanks between them, and what takes their place.
type Row = (&'static str, Class, &'static str, &'static str);

const TABLE: &[Row] = &[
    ("circus", Class::Honoured, "include include_dir pidfile umask loglevel", ""),
    ("circus", Class::Noted, "check_delay", "a worker's end is seen at once"),
    (
        "circus",
        Class::Noted,
        "endpoint pubsub_endpoint stats_endpoint multicast_endpoint endpoint_owner",
        "prebindctl and its control socket take its place",
    ),
    (
        "circus",
        Class::Noted,
        "httpd_host httpd_port httpd_close_outputs statsd_close_outputs stream_backend debug debug_gc fqdn_prefix",
        "there is nothing here that it would change",
    ),
    ("circus", Class::LeftOut, "statsd", "prebindctl status --json and prebindctl events tell the figures"),
    ("circus", Class::LeftOut, "httpd", "there is no web console: prebindctl status"),
    (
        "circus",
        Class::LeftOut,
        "logoutput loggerconfig",
        "prebind logs on its standard error: redirect that, or --log-format json",
    ),
    ("circus", Class::LeftOut, "warmup_delay", "watchers start together; between the workers of one, set it there"),
    ("socket", Class::Honoured, "host port family type proto path umask backlog interface so_reuseport blocking", ""),
    ("socket", Class::Noted, "replace", "a path on which nobody answers is replaced anyway, one in use never"),
    ("socket", Class::Noted, "use_papa", "prebind keeps its sockets while it replaces itself"),
    (
        "watcher",
        Class::Honoured,
        "cmd args shell shell_args numprocesses singleton use_sockets stdin_socket working_dir uid gid copy_env virtualenv \
         autostart respawn warmup_delay graceful_timeout stop_signal stop_children send_hup max_age max_age_variance \
         on_demand priority rlimit_* close_child_stdin close_child_stdout close_child_stderr stdout_stream.* \
         stderr_stream.* flapping.retry_in",
        "",
    ),
    (
        "watcher",
        Class::Noted,
        "max_retry flapping.*",
        "prebind does not give up: it tries again after a growing pause, at most 30 s",
    ),
    ("watcher", Class::Noted, "executable", "Circus makes no use of it, too: cmd says what is run"),
    ("watcher", Class::Noted, "virtualenv_py_ver", "the virtualenv's own Python finds its packages"),
    ("watcher", Class::Noted, "use_papa", "prebind keeps its sockets while it replaces itself"),
    ("watcher", Class::LeftOut, "copy_path", "no Python runs here that had a path: set PYTHONPATH in [env]"),
    (
        "watcher",
        Class::Refused,
        "hooks.*",
        "it is Python inside circusd: let cmd do it (sh -c 'prepare && exec server'), or act on prebindctl events",
    ),
    ("watcher", Class::Refused, "env", "write [env:NAME] with a line for each variable"),
    ("plugin", Class::Honoured, "use retry_in", ""),
    (
        "plugin",
        Class::Noted,
        "attempts window max_retry active",
        "the pause before a worker starts again grows by itself",
    ),
];

/// The rows of a kind of section.
fn of_kind(kind: &str) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |(of, ..)| *of == kind)
}

/// What becomes of an option, and what takes its place; `None`: Circus has no such one there. A row with its very name
/// comes before one with a pattern.
pub fn class(kind: &str, key: &str) -> Option<(Class, &'static str)> {
    let exact = of_kind(kind).find(|(_, _, keys, _)| keys.split_whitespace().any(|known| known == key));
    let like = || of_kind(kind).find(|(_, _, keys, _)| keys.split_whitespace().any(|known| fits(known, key)));
    exact.or_else(like).map(|(_, class, _, why)| (*class, *why))
}

/// Every row of the table, for the manual.
pub fn rows() -> impl Iterator<Item = Row> {
    TABLE.iter().copied()
}

/// What is said of an option that no reader takes.
pub(super) fn judge(kind: &str, entry: &Entry, said: &mut Said) {
    let key = &entry.key;
    match class(kind, key) {
        Some((Class::Honoured, _)) => {}
        Some((Class::Noted, why)) => said.note(&entry.origin, format!("{key}: {why}")),
        Some((Class::LeftOut, _)) if is_off(&entry.value) => {}
        Some((Class::LeftOut, why)) => said.warn(&entry.origin, format!("{key} is left out: {why}")),
        Some((Class::Refused, why)) => said.wrong(&entry.origin, format!("{key} cannot be done"), why),
        None => {
            let hint = meant(kind, key).map(|near| format!(", did you mean {near}?")).unwrap_or_default();
            said.warn(&entry.origin, format!("unknown option {key}{hint}: ignored"));
        }
    }
}

/// Judges all of a section.
pub(super) fn judge_all(kind: &str, section: &Section, said: &mut Said) {
    section.entries.iter().for_each(|entry| judge(kind, entry, said));
}

fn meant(kind: &str, key: &str) -> Option<&'static str> {
    let keys: Vec<&'static str> = of_kind(kind).flat_map(|(_, _, keys, _)| keys.split_whitespace()).collect();
    let same = keys.iter().find(|known| known.eq_ignore_ascii_case(key)).copied();
    same.or_else(|| nearest(key, keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Origin;
    use std::collections::BTreeSet;

    #[test]
    fn every_option_stands_once() {
        let mut seen = BTreeSet::new();
        for (kind, class, keys, why) in TABLE {
            assert_eq!(why.is_empty(), *class == Class::Honoured, "{keys}: what takes its place");
            for key in keys.split_whitespace() {
                assert!(seen.insert((kind, key)), "{key} stands twice in {kind}");
            }
        }
        assert!(seen.len() > 70, "{}", seen.len());
    }

    #[test]
    fn each_class_has_its_word() {
        let mut said = Said::default();
        for (kind, key, value) in [
            ("watcher", "cmd", "x"),
            ("circus", "endpoint", "x"),
            ("circus", "statsd", "yes"),
            ("circus", "httpd", "no"),
            ("watcher", "hooks.before_start", "x.y"),
            ("watcher", "numproceses", "2"),
            ("watcher", "Cmd", "2"),
            ("watcher", "flapping.retry_in", "2"),
            ("watcher", "quite_other", "2"),
        ] {
            let entry = Entry { key: key.into(), value: value.into(), origin: Origin::Argument(1) };
            judge(kind, &entry, &mut said);
        }
        let remarks: Vec<(bool, &str)> =
            said.remarks.iter().map(|one| (one.warning, one.message.split(':').next().unwrap_or_default())).collect();
        let expected = [
            (false, "endpoint"),
            (true, "statsd is left out"),
            (true, "unknown option numproceses, did you mean numprocesses?"),
            (true, "unknown option Cmd, did you mean cmd?"),
            (true, "unknown option quite_other"),
        ];
        assert_eq!(remarks, expected);
        assert_eq!(said.problems.len(), 1);
        assert!(said.problems[0].to_string().contains("hooks.before_start cannot be done (it is Python"));
    }
}
