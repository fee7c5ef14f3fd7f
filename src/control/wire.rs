//! One line, one message. Receives the bytes of a line, hands on a [`Request`]; receives replies, hands on their line.
//! JSON with only `%` written `%25`, so that einhorn's clients, which decode `%25` and `%0A`, can read it; their own
//! one-line YAML (a document that starts with `---`) is accepted. Pure; a line costs no more than its length is worth:
//! nesting, aliases and the number of values are bounded.

use crate::plan::{Signal, nearest};
use crate::supervise::Command;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Bytes of the longest line that is looked at, without its newline.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// What a client wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Something that the supervisor answers.
    Supervisor(Command),
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
const COMMANDS: [(&str, &[&str]); 7] = [
    ("status", &[]),
    ("ready", &[]),
    ("scale", &["service", "number"]),
    ("restart", &["service", "slot"]),
    ("signal", &["service", "signal"]),
    ("stop", &[]),
    ("events", &[]),
];

/// einhorn's commands that a worker sends.
const WORKER_COMMANDS: [&str; 2] = ["worker:ack", "worker:ping"];

/// Reads one line, without its newline.
pub fn parse(line: &[u8]) -> Result<Request, Refused> {
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
    match wanted(&request) {
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
fn yaml(text: &str) -> Option<Value> {
    let budget = serde_saphyr::budget! {
        max_depth: 8, max_nodes: 512, max_events: 1024, max_aliases: 0, max_anchors: 0, max_documents: 1,
        max_merge_keys: 0, flow_nesting_limit: 8
    };
    let options = serde_saphyr::options! { budget: budget, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).ok()
}

fn wanted(request: &Map<String, Value>) -> Result<Wanted, String> {
    let command = match request.get("command") {
        Some(Value::String(command)) => command.as_str(),
        Some(other) => return Err(format!("\"command\" must be a string, not {other}")),
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
    let Some((command, keys)) = COMMANDS.iter().find(|(name, _)| *name == command) else {
        return Err(unrecognized(command));
    };
    let options = options_of(command, keys, request)?;
    let supervisor = match *command {
        "status" => Command::Status,
        "ready" => Command::Ready,
        "scale" => Command::Scale {
            service: options.text("service")?,
            number: options.number("number")?.ok_or("scale: the option \"number\" is missing")?,
        },
        "restart" => Command::Restart { service: options.text("service")?, slot: options.number("slot")? },
        "signal" => Command::Signal { service: options.text("service")?, signal: options.signal()? },
        "stop" => Command::Stop,
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
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
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
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(command: Command) -> Wanted {
        Wanted::Supervisor(command)
    }

    #[test]
    fn requests_are_understood() {
        let scale = |service: Option<&str>| ask(Command::Scale { service: service.map(Into::into), number: 4 });
        let restart = |service: Option<&str>, slot| ask(Command::Restart { service: service.map(Into::into), slot });
        let signal = ask(Command::Signal { service: None, signal: Signal(10) });
        let ping = Wanted::Ping { pid: 1234, request_id: Some("req-1".into()) };
        for (line, id, wanted) in [
            // The bytes of einhorn's Ruby client.
            ("---%0Acommand: worker:ack%0Apid: 1234%0A", None, Wanted::Ack { pid: 1234 }),
            ("---%0Acommand: worker:ping%0Apid: 1234%0Arequest_id: req-1%0A", None, ping),
            ("---%0Aid: 1%0Acommand: status%0Aargs: []%0A", Some(json!(1)), ask(Command::Status)),
            ("---%0Acommand: ready%0Auser:%0A", None, ask(Command::Ready)),
            // Others.
            ("---\ncommand: stop", None, ask(Command::Stop)),
            ("--- {command: status, id: a}", Some(json!("a")), ask(Command::Status)),
            (r#"{"command":"worker:ack","pid":1234}"#, None, Wanted::Ack { pid: 1234 }),
            (r#"{"command":"status"}"#, None, ask(Command::Status)),
            ("{\"command\":\"status\"}\r", None, ask(Command::Status)),
            (r#"{"command":"events","id":"50%25"}"#, Some(json!("50%")), Wanted::Events),
            (r#"{"command":"status","id":"%7B%0a%2"}"#, Some(json!("%7B%0a%2")), ask(Command::Status)),
            (r#"{"command":"scale","options":{"number":4}}"#, None, scale(None)),
            (
                r#"{"command":"scale","id":1.5,"options":{"service":"web","number":4}}"#,
                Some(json!(1.5)),
                scale(Some("web")),
            ),
            (r#"{"command":"restart","options":{"service":null}}"#, None, restart(None, None)),
            (r#"{"command":"restart","options":{"service":"web","slot":0}}"#, None, restart(Some("web"), Some(0))),
            (r#"{"command":"signal","options":{"signal":"USR1"}}"#, None, signal),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(Request { id, wanted }), "{line}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let long = format!("{{\"command\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX));
        for (line, message) in [
            ("", "Could not parse command"),
            ("status", "Could not parse command"),
            ("[1]", "Could not parse command"),
            ("---", "Could not parse command"),
            ("---%0A- a%0A- b", "Could not parse command"),
            ("---%0Aa: &x 1%0Ab: *x%0Acommand: status", "Could not parse command"),
            ("--- {command: status}%0A--- {command: stop}", "Could not parse command"),
            (&long, "the line is longer than 65536 bytes"),
            ("{}", "No \"command\" parameter provided; the commands are status, ready, scale,"),
            (r#"{"command":7}"#, "\"command\" must be a string, not 7"),
            (
                r#"{"command":"statsu"}"#,
                "Unrecognized command: \"statsu\"; did you mean \"status\"? the commands are status, ",
            ),
            (r#"{"command":"upgrade"}"#, "Unrecognized command: \"upgrade\"; the commands are "),
            (r#"{"command":"status","id":[]}"#, "\"id\" must be a number or a string"),
            (r#"{"command":"status","options":{"x":1}}"#, "status: unknown option \"x\"; it takes no options"),
            (
                r#"{"command":"scale","options":{"nmber":1}}"#,
                "scale: unknown option \"nmber\", did you mean \"number\"?",
            ),
            (r#"{"command":"scale","options":[]}"#, "scale: \"options\" must be an object"),
            (r#"{"command":"scale"}"#, "scale: the option \"number\" is missing"),
            (r#"{"command":"scale","number":4}"#, "scale: \"number\" belongs in \"options\""),
            (r#"{"command":"scale","x":4}"#, "scale: unknown key \"x\""),
            (r#"{"command":"scale","args":["4"]}"#, "scale: takes no args but the options service, number"),
            (
                r#"{"command":"scale","options":{"number":"4"}}"#,
                "scale: the option \"number\" must be a whole number, not \"4\"",
            ),
            (
                r#"{"command":"scale","options":{"number":-1}}"#,
                "scale: the option \"number\" must be a whole number, not -1",
            ),
            (
                r#"{"command":"scale","options":{"number":1,"service":2}}"#,
                "scale: the option \"service\" must be a string, not 2",
            ),
            (r#"{"command":"signal"}"#, "signal: the option \"signal\" is missing"),
            (
                r#"{"command":"signal","options":{"signal":"TREM"}}"#,
                "signal: unknown signal 'TREM', did you mean TERM?",
            ),
            (r#"{"command":"worker:ack"}"#, "worker:ack: \"pid\" is missing"),
            (r#"{"command":"worker:ack","pid":"123"}"#, "worker:ack: \"pid\" must be a process id, not \"123\""),
            (
                r#"{"command":"worker:ping","pid":99999999999}"#,
                "worker:ping: \"pid\" must be a process id, not 99999999999",
            ),
        ] {
            let refused = parse(line.as_bytes()).expect_err(line);
            assert!(refused.message.starts_with(message), "{}: {}", &line[..line.len().min(80)], refused.message);
            assert!(refused.message.len() < 300 && !refused.message.contains('\n'), "{}", refused.message);
        }
        let refused = parse(br#"{"command":"nonsense","id":"a%25"}"#).expect_err("unknown");
        assert_eq!(refused.id, Some(json!("a%")));
    }

    #[test]
    fn replies_are_lines_that_einhorns_clients_read() {
        let id = json!(1);
        let reply = Reply { id: Some(&id), ok: true, message: "50 %\ndone", wait: true, data: Some(json!({"a": 1})) };
        let line = reply.line();
        assert_eq!(
            line,
            "{\"data\":{\"a\":1},\"message\":\"50 %25\\ndone\",\"ok\":true,\"request_id\":1,\"wait\":true}\n"
        );
        assert_eq!(parse_reply(line.trim_end().as_bytes()).expect("JSON")["message"], "50 %\ndone");
        let bare = Reply { id: None, ok: false, message: "no", wait: false, data: None }.line();
        assert_eq!(bare, "{\"message\":\"no\",\"ok\":false}\n");
    }

    /// Lines that try to cost more than their length: each is refused, and all together within a bound that a parser
    /// of quadratic cost misses by far.
    #[test]
    fn greedy_lines_are_cheap() {
        let size = LINE_BYTES_MAX - 64;
        let aliases = format!("---%0Aa: &a [x]%0A{}", "b: [*a,*a,*a,*a]%0A".repeat(size / 20));
        let started = std::time::Instant::now();
        for line in [
            "[".repeat(size),
            format!("---%0A{}", "[".repeat(size)),
            format!("---%0A{}", "{a: ".repeat(size / 4)),
            format!("---%0A{}", "- ".repeat(size / 2)),
            format!("---%0A{}", "? ".repeat(size / 2)),
            format!("---%0A{}", "a: b%0A".repeat(size / 8)),
            format!("---%0A{}", "%0A".repeat(size / 3)),
            format!("---%0A\"{}", "\\".repeat(size)),
            format!("---%0A{}", "!".repeat(size)),
            format!("---%0A&{}", "x".repeat(size)),
            format!("---%0A|{}", "%0A x".repeat(size / 5)),
            format!("---%0A{}", "#".repeat(size)),
            aliases,
        ] {
            let begun = std::time::Instant::now();
            assert!(parse(line.as_bytes()).is_err(), "{}", &line[..20]);
            println!("{:>10?} {}", begun.elapsed(), &line[..20]);
        }
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    /// Flipped bytes never panic, and what is understood survives the way back.
    #[test]
    fn flipped_bytes_are_answered() {
        let lines: [&[u8]; 4] = [
            b"---%0Aid: 1%0Acommand: status%0Aargs: []%0A",
            b"---%0Acommand: worker:ping%0Apid: 1234%0Arequest_id: req-1%0A",
            br#"{"command":"scale","id":"a%25","options":{"service":"web","number":4}}"#,
            br#"{"command":"signal","id":1,"options":{"signal":"RTMIN+1"}}"#,
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        let (mut understood, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut line = lines[round % lines.len()].to_vec();
            for _ in 0..1 + random() % 3 {
                let at = random() % line.len();
                match random() % 4 {
                    0 => line[at] ^= 1 << (random() % 8),
                    1 => line[at] = b"%{}[]:,\"'-&*!|> \n0aA"[random() % 20],
                    2 => drop(line.remove(at)),
                    _ => line.insert(at, (random() % 256) as u8),
                }
            }
            match parse(&line) {
                Ok(request) => {
                    understood += 1;
                    let id = request.id.unwrap_or_default();
                    let reply = Reply { id: Some(&id), ok: true, message: "", wait: false, data: None }.line();
                    assert_eq!(parse_reply(reply.trim_end().as_bytes()).expect("JSON")["request_id"], id);
                }
                Err(_) => refused += 1,
            }
        }
        assert!(understood > 500 && refused > 500, "{understood} {refused}");
    }
}
