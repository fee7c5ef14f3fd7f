//! What is right in a plan but known to surprise: servers that say READY=1 too early, or that take the stop signal for
//! something else. Observed on the real servers; shown by `--check`.

use super::{AckMode, Command, Piece, Plan, ServiceSpec, Signal};
use std::path::Path;

/// Servers that say READY=1 before the application is loaded.
const EARLY: [&str; 2] = ["gunicorn", "uwsgi"];
/// Servers that drain on another signal than TERM.
const OTHER_SIGNAL: [(&str, Signal); 6] = [
    ("nginx", Signal::QUIT),
    ("unicorn", Signal::QUIT),
    ("php-fpm", Signal::QUIT),
    ("lighttpd", Signal::INT),
    ("haproxy", Signal(10)),
    ("apache2", Signal(28)),
];
/// Wrappers that run their child without the sockets.
const WRAPPERS: [&str; 4] = ["npm", "npx", "yarn", "pnpm"];

/// One line for each, about each service.
pub fn remarks(plan: &Plan) -> Vec<String> {
    plan.services.iter().flat_map(about).collect()
}

fn about(service: &ServiceSpec) -> Vec<String> {
    let words = words(service);
    let program = program(&words);
    let runs = |name: &str| program == name;
    let mut found = Vec::new();
    let trusts = !matches!(service.ack, AckMode::After(_)) && service.min_ready_ns == 0;
    if let Some(name) = EARLY.iter().find(|name| trusts && runs(name)) {
        found.push(format!(
            "{name} says READY=1 before the application is loaded: an upgrade would trust it too early (--min-ready 4, \
             or more than loading takes)"
        ));
    }
    if let Some((name, signal)) =
        OTHER_SIGNAL.iter().find(|(name, signal)| runs(name) && service.stop_signal != *signal)
    {
        let given = service.stop_signal;
        found.push(format!(
            "{name} cuts its requests at {given}; {signal} lets it finish them (--stop-signal {signal})"
        ));
    }
    if runs("uwsgi") && service.stop_signal == Signal::TERM && !words.iter().any(|word| word.contains("unix_signal:15"))
    {
        found.push(
            "uwsgi takes TERM for a reload and does not stop (--hook-master-start \
             'unix_signal:15 gracefully_kill_them_all')"
                .into(),
        );
    }
    if let Some(name) = WRAPPERS.iter().find(|name| !service.sockets.is_empty() && runs(name)) {
        found.push(format!("{name} starts its child without the sockets: run the server itself"));
    }
    found
}

/// The literal text of each word.
fn words(service: &ServiceSpec) -> Vec<String> {
    let Command::Program(words) = &service.command else { return Vec::new() };
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.to_string_lossy().into_owned(),
        _ => String::new(),
    };
    words.iter().map(|word| word.0.iter().map(text).collect()).collect()
}

/// The name of what is run: through an interpreter or a runner, the word behind it.
fn program(words: &[String]) -> &str {
    let runner = |word: &str| {
        let name = base(word).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        matches!(name, "python" | "ruby" | "bundle" | "poetry" | "uv" | "env" | "-m" | "exec" | "run")
    };
    words.iter().find(|word| !runner(word)).map_or("", |word| base(word))
}

fn base(word: &str) -> &str {
    let name = Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or(word);
    // php-fpm8.2 is php-fpm.
    if name.starts_with("php-fpm") { "php-fpm" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{SocketId, Template};

    fn said(words: &str, set: fn(&mut ServiceSpec)) -> Vec<String> {
        let argv = words.split(' ').map(|word| Template::parse(word.as_ref()).expect("a word")).collect();
        let mut service =
            ServiceSpec { command: Command::Program(argv), sockets: vec![SocketId(0)], ..ServiceSpec::default() };
        set(&mut service);
        remarks(&Plan { services: vec![service], ..Plan::default() })
    }

    #[test]
    fn known_surprises_are_said_and_only_those() {
        for words in ["gunicorn app:app", "/srv/venv/bin/gunicorn app:app", "python3 -m gunicorn app:app"] {
            assert!(said(words, |_| {})[0].contains("--min-ready 4"), "{words}");
            assert!(said(words, |service| service.min_ready_ns = 1).is_empty());
            assert!(said(words, |service| service.ack = AckMode::After(1)).is_empty());
        }
        assert!(said("/usr/sbin/php-fpm8.2 -F", |_| {})[0].contains("--stop-signal QUIT"));
        assert!(said("nginx", |service| service.stop_signal = Signal::QUIT).is_empty());
        assert_eq!(said("uwsgi --master", |_| {}).len(), 2);
        assert!(said("npm start", |_| {})[0].contains("without the sockets"));
        assert!(said("npm start", |service| service.sockets.clear()).is_empty());
        for quiet in ["uvicorn app:app", "./app --log gunicorn"] {
            assert_eq!(said(quiet, |_| {}), Vec::<String>::new(), "{quiet}");
        }
    }
}
