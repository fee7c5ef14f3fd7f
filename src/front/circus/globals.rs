//! `[circus]`, and `[plugin:NAME]`: what is there in the place of Circus's own plugins.

use super::keys::{judge, judge_all};
use super::lex::Section;
use super::options::Options;
use super::values::seconds;
use super::variables::Variables;
use super::{Said, of_kind};
use crate::plan::{Nanos, ServiceSpec};
use std::path::PathBuf;

/// What `[circus]` says of prebind and of every watcher.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Globals {
    pub(super) pidfile: Option<PathBuf>,
    pub(super) verbosity: i8,
    pub(super) umask: Option<u32>,
}

const LEVELS: [(&str, i8); 6] =
    [("debug", 1), ("info", 0), ("warning", -1), ("warn", -1), ("error", -2), ("critical", -2)];

/// Plugins that watch, and what tells as much here.
const OBSERVERS: [(&str, &str); 7] = [
    ("statsd.StatsdEmitter", "prebindctl status --json, prebindctl events"),
    ("statsd.FullStats", "prebindctl status --json"),
    ("resource_watcher.ResourceWatcher", "rlimit_as in the watcher bounds its memory"),
    ("redis_observer.RedisObserver", "prebindctl status --json"),
    ("http_observer.HttpObserver", "prebindctl status --json"),
    ("watchdog.WatchDog", "--watchdog SECONDS, with WATCHDOG=1 on $NOTIFY_SOCKET"),
    ("command_reloader.CommandReloader", "prebindctl upgrade"),
];

/// Reads `[circus]`.
pub(super) fn read(section: &Section, variables: &Variables, said: &mut Said) -> Globals {
    judge_all("circus", section, said);
    let mut options = Options::new(section, variables, said);
    let level = options.read("loglevel", level).unwrap_or(0);
    Globals {
        pidfile: options.some("pidfile").map(PathBuf::from),
        verbosity: level,
        umask: options.read("umask", |text| {
            let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
            mask.ok_or_else(|| format!("'{text}' is not an octal mask such as 022"))
        }),
    }
}

fn level(text: &str) -> Result<i8, String> {
    let found = LEVELS.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|(_, level)| *level);
    found.ok_or_else(|| format!("'{text}' is none of debug, info, warning, error, critical"))
}

/// What plugins change for every watcher.
pub(super) fn of_plugins(
    sections: &[Section],
    variables: &Variables,
    base: &ServiceSpec,
    said: &mut Said,
) -> ServiceSpec {
    let mut base = base.clone();
    for section in of_kind(sections, "plugin") {
        let mut options = Options::new(section, variables, said);
        let class = options.text("use").unwrap_or_default();
        let own = class.strip_prefix("circus.plugins.");
        if own.is_some_and(|own| own.rsplit('.').next() == Some("Flapping")) {
            base.backoff_base_ns = pause(&mut options, "retry_in").unwrap_or(base.backoff_base_ns);
            options
                .note("use", "Flapping is what prebind does by itself: the pause before a worker starts again grows");
            section.entries.iter().for_each(|entry| judge("plugin", entry, options.said));
            continue;
        }
        match own.and_then(|own| OBSERVERS.iter().find(|(name, _)| own.ends_with(name))) {
            Some((_, instead)) => options.warn("use", format!("{class} is left out: {instead}")),
            None if class.is_empty() => options.wrong("use", "a plugin without use = ...", "leave it out"),
            None => {
                let message = format!("plugin {class} is Python that runs beside circusd");
                options.wrong("use", message, "run it as a watcher that reads prebindctl events");
            }
        }
    }
    base
}

/// How long a worker that failed waits at first.
pub(super) fn pause(options: &mut Options, key: &str) -> Option<Nanos> {
    options.read(key, |text| match seconds(text)? {
        0 => Err("a failing worker would start again without a pause".into()),
        span => Ok(span),
    })
}
