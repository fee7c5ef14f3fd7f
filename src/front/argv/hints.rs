//! Words for a command line that cannot be understood, and for the habits that other tools taught.

use super::Refusal;
use super::given::Given;
use super::table::RESERVED;
use super::words::Words;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::path::{Path, PathBuf};

/// Options of other tools, and what is meant here.
const ELSEWHERE: [(&str, &str); 8] = [
    ("--workers", "-n N"),
    ("--processes", "-n N"),
    ("--numprocesses", "-n N"),
    ("-w", "-n N"),
    ("--listen", "-b ADDR"),
    ("--port", "-b PORT"),
    ("--socket", "-b ADDR"),
    ("--name", "-c NAME"),
];

/// clap's error in one line.
pub(super) fn refusal(error: &clap::Error) -> Refusal {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let option = text(ContextKind::InvalidArg);
    let value = text(ContextKind::InvalidValue);
    let name = option.split([' ', '=']).next().unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::UnknownArgument => unknown(name, &text(ContextKind::SuggestedArg)),
        ErrorKind::InvalidValue if value.is_empty() => format!("{option} needs a value"),
        ErrorKind::InvalidValue => {
            format!("{name}: '{value}' is none of {}", text(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("{name}: '{value}': {why}")
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_string(),
    };
    Refusal(format!("{message} (prebind --help)"))
}

fn unknown(name: &str, near: &str) -> String {
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name) {
        return format!("unknown option '{name}', here it is {ours}");
    }
    if RESERVED.iter().any(|reserved| name.strip_prefix("--") == Some(reserved)) {
        return format!("'{name}' is reserved, and not supported by this version");
    }
    match near {
        "" => format!("unknown option '{name}'"),
        _ => format!("unknown option '{name}', did you mean '{near}'?"),
    }
}

/// What clap takes but was hardly meant.
pub(super) fn habits(given: &Given, words: &Words) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal(message));
    if words.dashes && words.command.is_empty() {
        return refuse("no command after -- (an empty variable?)".into());
    }
    if let Some(path) = given.one::<PathBuf>("pidfile")
        && let Some(text) = path.to_str()
        && text.split_once('=').is_some_and(|(key, _)| is_variable(key))
    {
        return refuse(format!("-e {text}: -e is the pid file; to set a variable: --env {text}"));
    }
    if let Some(port) = given.one::<PathBuf>("preload").as_deref().and_then(Path::to_str)
        && port.parse::<u32>().is_ok_and(is_port)
    {
        return refuse(format!("unknown option '-p', here it is -b PORT: -b {port}"));
    }
    let bound = given.has("bind");
    if !bound && !words.command.is_empty() {
        if let Some(port) = given.one::<u32>("backlog").filter(|number| is_port(*number)) {
            return refuse(format!("-l {port}: -l is the backlog, and there is no socket; to listen: -b {port}"));
        }
        if let Some(span) = given.one::<crate::plan::Nanos>("seconds") {
            let number = u32::try_from(span / crate::plan::SECOND).unwrap_or(0);
            if is_port(number) {
                return refuse(format!(
                    "-s {number}: -s is the back-off, and there is no socket; to listen: -b {number}"
                ));
            }
        }
    }
    Ok(())
}

/// Looks like a port that somebody would listen on.
fn is_port(number: u32) -> bool {
    (80..=65_535).contains(&number)
}

fn is_variable(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
