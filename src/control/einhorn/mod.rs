//! einhorn's language on the control socket: its commands by their words ([`Word`]), the replies that its clients print
//! or parse, and the lines that people look for in its log. Pure. Facts are those of einhorn 1.1.1; what is better here is
//! said in prebind.einhorn(7).

mod lines;
mod reply;
mod state;

pub use lines::{Line, Teller};
pub use reply::{begun, list, reply};
pub use state::{Known, Ping};

use super::wire::short;
use crate::plan::{Nanos, SECOND, Signal, Strategy};
use crate::supervise::{Command, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version whose habits are kept: what `einhorn --version` prints first.
pub const VERSION: &str = "1.1.1";

/// The most workers that `set_workers` takes.
const WORKERS_MAX: u32 = 1000;

/// A command in einhorn's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Word {
    /// `help`.
    Help,
    /// `ehlo`, of that user.
    Ehlo(Option<String>),
    /// `state`.
    State,
    /// `inc`.
    Inc,
    /// `dec`.
    Dec,
    /// `set_workers N`.
    SetWorkers(u32),
    /// `louder`.
    Louder,
    /// `quieter`.
    Quieter,
    /// `signal S...`.
    Signal(Vec<Signal>),
    /// `die [S]`.
    Die(Option<Signal>),
    /// `upgrade`, `upgrade_fleet`.
    Upgrade(Strategy),
    /// `reload`.
    Reload,
    /// `config YAML`, and the words that it was given.
    Config(Box<Configured>),
}

/// What `config` is to change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configured {
    /// Its mapping, as it came.
    pub given: Map<String, Value>,
    /// So many workers.
    pub number: Option<u32>,
    /// The rest.
    pub settings: Settings,
}

/// The commands with what `help` says of them, in its order.
const COMMANDS: [(&str, &str); 13] = [
    ("config", "Change number, seconds, max_unacked, max_upgrade_additional or signal_timeout: a YAML mapping"),
    ("dec", "Run one worker less"),
    ("die", "Stop everything: die [SIGNAL] (USR2)"),
    ("help", "Print this"),
    ("inc", "Run one worker more"),
    ("louder", "Log more"),
    ("quieter", "Log less"),
    ("reload", "Replace the master in place; the workers go on"),
    ("set_workers", "Run so many workers: set_workers N"),
    ("signal", "Send signals to all workers: signal SIGNAL..."),
    ("state", "Print the state"),
    ("upgrade", "Replace the master, then the workers as they get ready"),
    ("upgrade_fleet", "Replace the master, then all workers at once"),
];

/// Whether a request speaks einhorn's language, where a word is in both: `args` are einhorn's, `options` prebind's; one
/// with neither is `standard`.
pub fn is_meant(request: &Map<String, Value>, standard: bool) -> bool {
    let command = request.get("command").and_then(Value::as_str).unwrap_or_default();
    let theirs = command == "ehlo" || COMMANDS.iter().any(|(name, _)| *name == command);
    let shared = matches!(command, "upgrade" | "signal");
    match (request.contains_key("args"), request.contains_key("options")) {
        (_, true) => false,
        (true, false) => theirs || standard,
        (false, false) => (theirs && !shared) || standard,
    }
}

/// Reads a command with its words. Errors are whole replies.
pub fn parse(command: &str, request: &Map<String, Value>) -> Result<Word, String> {
    let args = args(request)?;
    let first = args.first().copied();
    Ok(match command {
        "help" => Word::Help,
        "ehlo" => Word::Ehlo(request.get("user").and_then(Value::as_str).map(str::to_string)),
        "state" => Word::State,
        "inc" => Word::Inc,
        "dec" => Word::Dec,
        "set_workers" => Word::SetWorkers(workers(first.unwrap_or_default())?),
        "louder" => Word::Louder,
        "quieter" => Word::Quieter,
        "signal" if args.is_empty() => return Err("No signals given".into()),
        "signal" => Word::Signal(args.iter().map(|word| signal(word)).collect::<Result<_, _>>()?),
        "die" => Word::Die(first.map(signal).transpose()?),
        "upgrade" => Word::Upgrade(Strategy::Rolling),
        "upgrade_fleet" => Word::Upgrade(Strategy::Fleet),
        "reload" => Word::Reload,
        "config" => Word::Config(Box::new(config(&args)?)),
        other => return Err(format!("Unrecognized command: {}\n\n{}", Value::from(short(other)), reply::list())),
    })
}

/// The words behind the command. Clients of old leave them out.
fn args<'a>(request: &'a Map<String, Value>) -> Result<Vec<&'a str>, String> {
    let list = match request.get("args") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("Args must be an array".into()),
    };
    let word = |value: &'a Value| match value {
        Value::String(text) => Ok(text.as_str()),
        other => Err(format!("Argument is a {}, not a string: {other}", kind(other))),
    };
    list.iter().map(word).collect()
}

/// A value's class, as Ruby calls it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "NilClass",
        Value::Bool(true) => "TrueClass",
        Value::Bool(false) => "FalseClass",
        Value::Number(number) if number.is_f64() => "Float",
        Value::Number(_) => "Integer",
        Value::String(_) => "String",
        Value::Array(_) => "Array",
        Value::Object(_) => "Hash",
    }
}

fn workers(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| (1..=WORKERS_MAX).contains(count));
    count.ok_or_else(|| format!("Invalid count: '{}'. Must be an integer from 1 to {WORKERS_MAX}.", short(text)))
}

fn signal(text: &str) -> Result<Signal, String> {
    text.parse().map_err(|_| format!("Invalid signal: {}", Value::from(short(text))))
}

/// The words are joined, so that nobody needs quotes. Keys may be symbols, and may stand under `:config:`.
fn config(args: &[&str]) -> Result<Configured, String> {
    let text = args.join(" ");
    let Some(given) = super::wire::yaml(&text) else {
        return Err("config takes a YAML mapping, such as {number: 4}".into());
    };
    let Value::Object(given) = given else {
        return Err(format!("config takes a YAML mapping, not a {}", kind(&given)));
    };
    let mut configured = Configured { given: given.clone(), number: None, settings: Settings::default() };
    for (key, value) in &given {
        match (name(key), value) {
            ("config", Value::Object(inner)) => {
                inner.iter().try_for_each(|(key, value)| configured.set(name(key), value))?;
            }
            (key, value) => configured.set(key, value)?,
        }
    }
    Ok(configured)
}

fn name(key: &str) -> &str {
    key.trim_start_matches(':')
}

impl Configured {
    fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let wrong = |what: &str| format!("{key} must be {what}, not {value}");
        let count = || value.as_u64().and_then(|number| u32::try_from(number).ok());
        let span = |value: &Value| {
            let seconds = value.as_f64().filter(|seconds| *seconds > 0.0 && *seconds < 1e9);
            seconds.map(|seconds| (seconds * SECOND as f64) as Nanos)
        };
        let settings = &mut self.settings;
        match key {
            "number" => {
                let number = count().filter(|number| (1..=WORKERS_MAX).contains(number));
                self.number = Some(number.ok_or_else(|| wrong("a number of workers"))?);
            }
            "seconds" => settings.backoff_base_ns = Some(span(value).ok_or_else(|| wrong("a number of seconds"))?),
            "signal_timeout" => {
                settings.stop_timeout_ns = Some(span(value).ok_or_else(|| wrong("a number of seconds"))?);
            }
            "max_unacked" => {
                let most = count().filter(|most| *most > 0);
                settings.max_unacked = Some(most.ok_or_else(|| wrong("a number above 0"))?);
            }
            "max_upgrade_additional" => {
                let most = count().filter(|most| *most > 0);
                settings.max_additional = Some(most.ok_or_else(|| wrong("a number above 0"))?);
            }
            _ => {
                let known = "number, seconds, max_unacked, max_upgrade_additional and signal_timeout";
                return Err(format!("{} cannot be changed while it runs; {known} can", Value::from(short(key))));
            }
        }
        Ok(())
    }
}

impl Word {
    /// What the supervisor is asked; `None`: it is answered without.
    pub fn command(&self) -> Option<Command> {
        Some(match self {
            Word::Help | Word::Ehlo(_) | Word::Louder | Word::Quieter => return None,
            Word::State => Command::Status,
            Word::Inc => Command::Step { more: true },
            Word::Dec => Command::Step { more: false },
            Word::SetWorkers(number) => Command::Scale { service: None, number: *number },
            Word::Signal(signals) => Command::Signal { service: None, signals: signals.clone() },
            Word::Die(with) => Command::Stop { signal: Some(with.unwrap_or(Signal::USR2)), wait: false },
            Word::Upgrade(strategy) => Command::ReplaceAndUpgrade { strategy: *strategy },
            Word::Reload => Command::Reexec,
            Word::Config(one) => Command::Configure { number: one.number, settings: one.settings },
        })
    }
}
