//! The replies, word by word as clients know them.

use super::state::{Known, state};
use super::{COMMANDS, VERSION, Word};
use crate::plan::Strategy;
use crate::supervise::Answer;
use serde_json::Value;

/// The commands, as `help` lists them.
pub fn list() -> String {
    COMMANDS.map(|(name, about)| format!("{name}: {about}")).join("\n")
}

/// What an upgrade says when it begins.
pub fn begun(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Fleet => "Upgrading fleet, as commanded",
        Strategy::Rolling | Strategy::Canary => "Upgrading smoothly, as commanded",
    }
}

/// Whether it was done, and the message. `answer`: the supervisor's, where the word asks for one.
pub fn reply(word: &Word, answer: Option<&Answer>, known: &Known<'_>) -> (bool, String) {
    match (word, answer) {
        (Word::Help, _) => (true, format!("Commands of this master:\n\n{}", list())),
        (Word::Ehlo(user), _) => {
            let (user, name) = (user.as_deref().unwrap_or_default(), known.name);
            let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
            let welcome = format!("Welcome, {user}! You are speaking to Einhorn Master Process {}{name}.", known.pid);
            (true, format!("{welcome}\nThis is Einhorn {VERSION} (prebind {}).", known.version))
        }
        (Word::Louder | Word::Quieter, _) => (true, format!("Verbosity set to {}", known.verbosity)),
        (Word::Dec, Some(Answer::Scaled { from, to, .. })) if from == to => {
            (false, format!("There is {to} worker already; to end this master: kill {}", known.pid))
        }
        (_, Some(Answer::Refused(why))) => (false, why.clone()),
        (Word::State, Some(Answer::Status(status))) => (true, state(status, known)),
        (Word::Inc | Word::Dec, Some(Answer::Scaled { from, to, .. })) => {
            let word = if to > from { "Incrementing" } else { "Decrementing" };
            (true, format!("{word} number of workers from {from} -> {to}"))
        }
        (Word::SetWorkers(_), Some(Answer::Scaled { from, to, .. })) => {
            let what = match to.cmp(from) {
                std::cmp::Ordering::Equal => return (true, String::new()),
                std::cmp::Ordering::Greater => "Will spin up additional workers.",
                std::cmp::Ordering::Less => "Will gracefully terminate workers.",
            };
            (true, format!("Altering worker count, {from} -> {to}. {what}"))
        }
        (Word::Signal(_), _) => (true, String::new()),
        (Word::Die(_), _) => (true, "Einhorn is going down! ".into()),
        (Word::Upgrade(_), _) => (true, "Upgrade done".into()),
        (Word::Reload, _) => (true, "Reloading, as commanded".into()),
        (Word::Config(one), _) => {
            let given = Value::Object(one.given.clone());
            (true, format!("Configured: {given}"))
        }
        (Word::State | Word::Inc | Word::Dec | Word::SetWorkers(_), _) => (false, "No answer".into()),
    }
}
