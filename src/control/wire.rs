//! One line, one message. Receives the bytes of a line, hands on a [`Request`]; receives replies, hands on their line.
//! JSON with only `%` written `%25`, so that einhorn's clients, which decode `%25` and `%0A`, can read it; their own
//! one-line YAML (a document that starts with `---`) is accepted. Pure; a line costs no more than its length is worth:
//! nesting, aliases and the number of values are bounded.

use super::einhorn::{self, Word};
use crate::plan::{Nanos, SECOND, Signal, Strategy, nearest};
use crate::supervise::{Command, Wait};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Bytes of the longest line that is looked at, without its newline.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// What a client wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Something that the supervisor answers.
    Supervisor(Command),
    /// The same in einhorn's words, or something that is answered without it.
    Einhorn(Word),
    /// Every event from now on.
    Events,
    /// einhorn's `worker:ack`: the worker of this pid is ready.
    Ack {
        /// As the worker sees it.
        pid: i32,
    },
    /// einhorn's `worker:ping`: the worker of this pid lives.
    Ping {
        /// As the worker sees it.
        pid: i32,
        /// What the worker is at work on.
        request_id: Option<Value>,
    },
}

/// A line that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Echoed in every reply to it; without one there is one reply and no `wait`.
    pub id: Option<Value>,
    /// What is wanted.
    pub wanted: Wanted,
}

/// A line that was not.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The id, where the line had one that can be echoed.
    pub id: Option<Value>,
    /// Why.
    pub message: String,
}

/// prebind's own commands, each with its options.
const COMMANDS: [(&str, &[&str]); 13] = [
    ("status", &[]),
    ("ready", &[]),
    ("options", &["service"]),
    ("scale", &["service", "number"]),
    ("restart", &["service", "slot"]),
    ("upgrade", &["service", "strategy", "timeout", "wait"]),
    ("reload", &["service"]),
    ("promote", &["service"]),
    ("rollback", &["service"]),
    ("reexec", &[]),
    ("signal", &["service", "signal"]),
    ("stop", &[]),
    ("events", &[]),
];

/// What the answer to an upgrade waits for.
const WAITS: [(&str, Wait); 3] = [("told", Wait::Told), ("drained", Wait::Drained), ("no", Wait::No)];

/// einhorn's commands that a worker sends.
const WORKER_COMMANDS: [&str; 2] = ["worker:ack", "worker:ping"];

/// Reads one line, without its newline. `einhorn`: whether that is the standard language here.
pub fn parse(line: &[u8], einhorn: bool) -> Result<Request, Refused> {
    let refused = |message: String| Refused { id: None, message };
    if line.len() > LINE_BYTES_MAX {
        return Err(refused(format!("the line is longer than {LINE_BYTES_MAX} bytes")));
    }
    let Some(Value::Object(request)) = document(line) else {
        return Err(refused("Could not parse command".into()));
    };
    let id = match request.get("id") {
        None | Some(Value::Null) => None,
        Some(Value::Array(_) | Value::Object(_)) => return Err(refused("\"id\" must be a number or a string".into())),
        Some(scalar) => Some(scalar.clone()),
    };
    match wanted(&request, einhorn) {
        Ok(wanted) => Ok(Request { id, wanted }),
        Err(message) => Err(Refused { id, message }),
    }
}

/// Undoes `%25` and `%0A`, exactly these two.
fn decode(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&b'%') {
        return Cow::Borrowed(line);
    }
    let mut decoded = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'%', [b'2', b'5', after @ ..]) => (b'%', after),
            (b'%', [b'0', b'A', after @ ..]) => (b'\n', after),
            _ => (byte, after),
        };
        decoded.push(byte);
        rest = after;
    }
    Cow::Owned(decoded)
}

/// The line's one value.
fn document(line: &[u8]) -> Option<Value> {
    let decoded = decode(line);
    let text = std::str::from_utf8(&decoded).ok()?;
    if text.starts_with("---") { yaml(text) } else { serde_json::from_str(text).ok() }
}

/// einhorn's requests are flat: a mapping of scalars, and a list of strings in it. The budget holds that.
pub(super) fn yaml(text: &str) -> Option<Value> {
    let budget = serde_saphyr::budget! {
        max_depth: 8, max_nodes: 512, max_events: 1024, max_aliases: 8, max_anchors: 8, max_documents: 1,
        max_merge_keys: 0, flow_nesting_limit: 8
    };
    let options = serde_saphyr::options! { budget: budget, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).ok()
}

fn wanted(request: &Map<String, Value>, einhorn: bool) -> Result<Wanted, String> {
    let command = match request.get("command") {
        Some(Value::String(command)) => command.as_str(),
        Some(other) => return Err(format!("\"command\" must be a string, not {other}")),
        None if einhorn => return Err(format!("No \"command\" parameter provided\n\n{}", einhorn::list())),
        None => return Err(format!("No \"command\" parameter provided; {}", known())),
    };
    if WORKER_COMMANDS.contains(&command) {
        let pid = match request.get("pid") {
            Some(pid) => pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
            None => return Err(format!("{command}: \"pid\" is missing")),
        };
        let pid = pid.ok_or_else(|| format!("{command}: \"pid\" must be a process id, not {}", request["pid"]))?;
        return Ok(match command {
            "worker:ack" => Wanted::Ack { pid },
            _ => Wanted::Ping { pid, request_id: request.get("request_id").cloned() },
        });
    }
    if einhorn::is_meant(request, einhorn) {
        return einhorn::parse(command, request).map(Wanted::Einhorn);
    }
    let Some((command, keys)) = COMMANDS.iter().find(|(name, _)| *name == command) else {
        return Err(unrecognized(command));
    };
    let options = options_of(command, keys, request)?;
    let supervisor = match *command {
        "status" => Command::Status,
        "ready" => Command::Ready,
        "options" => Command::Options { service: options.text("service")? },
        "scale" => Command::Scale {
            service: options.text("service")?,
            number: options.number("number")?.ok_or("scale: the option \"number\" is missing")?,
        },
        "restart" => Command::Restart { service: options.text("service")?, slot: options.number("slot")? },
        "upgrade" => Command::Upgrade {
            service: options.text("service")?,
            strategy: options.one_of("strategy", &Strategy::ALL)?,
            timeout_ns: options.seconds("timeout")?,
            wait: options.one_of("wait", &WAITS)?.unwrap_or(Wait::Told),
        },
        "reload" => Command::Reload { service: options.text("service")? },
        "reexec" => Command::Reexec,
        "promote" => Command::Promote { service: options.text("service")? },
        "rollback" => Command::Rollback { service: options.text("service")? },
        "signal" => Command::Signal { service: options.text("service")?, signals: vec![options.signal()?] },
        "stop" => Command::Stop { signal: None, wait: true },
        _ => return Ok(Wanted::Events),
    };
    Ok(Wanted::Supervisor(supervisor))
}

/// The options of one of prebind's own commands; everything else in the request must be known, or it would be lost.
fn options_of<'a>(command: &'a str, keys: &[&str], request: &'a Map<String, Value>) -> Result<Options<'a>, String> {
    for (key, value) in request {
        match (key.as_str(), value) {
            ("command" | "id" | "options" | "user", _) => {}
            ("args", Value::Null) => {}
            ("args", Value::Array(args)) if args.is_empty() => {}
            ("args", _) => return Err(format!("{command}: takes no args but {}", keys_text(keys))),
            (other, _) if keys.contains(&other) => {
                return Err(format!("{command}: \"{other}\" belongs in \"options\""));
            }
            (other, _) => return Err(format!("{command}: unknown key \"{}\"", short(other))),
        }
    }
    let given = match request.get("options") {
        None | Some(Value::Null) => None,
        Some(Value::Object(options)) => Some(options),
        Some(_) => return Err(format!("{command}: \"options\" must be an object")),
    };
    for key in given.into_iter().flat_map(Map::keys) {
        if !keys.contains(&key.as_str()) {
            let hint = match nearest(short(key), keys.iter().copied()) {
                Some(name) => format!(", did you mean \"{name}\"?"),
                None => format!("; it takes {}", keys_text(keys)),
            };
            return Err(format!("{command}: unknown option \"{}\"{hint}", short(key)));
        }
    }
    Ok(Options { command, given })
}

struct Options<'a> {
    command: &'a str,
    given: Option<&'a Map<String, Value>>,
}

impl Options<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.given.and_then(|given| given.get(key)).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(key, "a string", other)),
        }
    }

    fn number(&self, key: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, "a whole number", value)),
        }
    }

    fn one_of<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, one)) => Ok(Some(*one)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let (command, known) = (self.command, known.join(", "));
                Err(format!("{command}: the option \"{key}\" is one of {known}, not {}", short(&text)))
            }
        }
    }

    /// A span in seconds, above 0, at most a year.
    fn seconds(&self, key: &str) -> Result<Option<Nanos>, String> {
        const MOST: f64 = 365.0 * 86400.0;
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().filter(|seconds| *seconds > 0.0 && *seconds <= MOST) {
            Some(seconds) => Ok(Some((seconds * SECOND as f64) as Nanos)),
            None => Err(self.wrong(key, "a number of seconds above 0", value)),
        }
    }

    fn signal(&self) -> Result<Signal, String> {
        match self.get("signal") {
            None => Err(format!("{}: the option \"signal\" is missing", self.command)),
            Some(Value::String(text)) => text.parse().map_err(|why| format!("{}: {why}", self.command)),
            Some(other) => Err(self.wrong("signal", "a signal's name", other)),
        }
    }

    fn wrong(&self, key: &str, kind: &str, value: &Value) -> String {
        let value = value.to_string();
        format!("{}: the option \"{key}\" must be {kind}, not {}", self.command, short(&value))
    }
}

fn keys_text(keys: &[&str]) -> String {
    if keys.is_empty() { "no options".into() } else { format!("the options {}", keys.join(", ")) }
}

fn known() -> String {
    let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).chain(WORKER_COMMANDS).collect();
    format!("the commands are {}", names.join(", "))
}

fn unrecognized(command: &str) -> String {
    let command = short(command);
    let hint = match nearest(command, COMMANDS.iter().map(|(name, _)| *name).chain(WORKER_COMMANDS)) {
        Some(name) => format!("did you mean \"{name}\"? "),
        None => String::new(),
    };
    format!("Unrecognized command: {}; {hint}{}", Value::from(command), known())
}

/// What a message repeats of a client's own words.
pub(super) fn short(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(end, _)| &text[..end])
}

/// One reply.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    /// The request's.
    pub id: Option<&'a Value>,
    /// Whether it was done, or the answer is yes.
    pub ok: bool,
    /// For people.
    pub message: &'a str,
    /// More replies to the same request follow.
    pub wait: bool,
    /// For machines.
    pub data: Option<Value>,
}

impl Reply<'_> {
    /// Its line, with the newline.
    pub fn line(self) -> String {
        let mut reply = json!({ "ok": self.ok, "message": self.message });
        if let Some(id) = self.id {
            reply["request_id"] = id.clone();
        }
        if self.wait {
            reply["wait"] = true.into();
        }
        if let Some(data) = self.data {
            reply["data"] = data;
        }
        encode(&reply)
    }
}

/// A message's line, with the newline.
pub fn encode(message: &Value) -> String {
    let mut line = message.to_string();
    if line.contains('%') {
        line = line.replace('%', "%25");
    }
    line.push('\n');
    line
}

/// Reads a reply's line, without its newline.
pub fn parse_reply(line: &[u8]) -> Option<Value> {
    serde_json::from_slice(&decode(line)).ok()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
