//! Answers as circusctl prints them.

use super::super::table::{list, plain, word};
use super::Trouble;
use crate::control::options;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Prints an answer, or why there is none; a reader that went away is no error of ours.
pub(super) fn answer(answer: &Result<Value, Trouble>, as_json: bool, pretty: bool) {
    let text = match answer {
        Ok(value) if !as_json => text(value),
        Ok(value) => json_text(reply(value), pretty),
        Err(Trouble::Refused(why)) if as_json => {
            json_text(json!({ "status": "error", "reason": why, "errno": 5, "time": now() }), pretty)
        }
        Err(Trouble::Call(why) | Trouble::Refused(why)) => {
            let _ = writeln!(io::stderr(), "circusctl: {why}");
            return;
        }
    };
    let _ = writeln!(io::stdout(), "{text}");
}

/// With what stands in every reply of Circus.
fn reply(value: &Value) -> Value {
    let mut reply = json!({ "status": "ok", "time": now() });
    for (key, value) in value.as_object().into_iter().flatten() {
        reply[key] = value.clone();
    }
    reply
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn json_text(value: Value, pretty: bool) -> String {
    let pretty = pretty.then(|| serde_json::to_string_pretty(&value).ok()).flatten();
    pretty.unwrap_or_else(|| value.to_string())
}

/// For people, and for scripts that read what circusctl prints.
fn text(answer: &Value) -> String {
    let Some((key, value)) = answer.as_object().and_then(|object| object.iter().next()) else { return "ok".into() };
    let each = |of: &dyn Fn((&String, &Value)) -> String| {
        value.as_object().into_iter().flatten().map(of).collect::<Vec<String>>().join("\n")
    };
    let words = || list(value).iter().map(|one| one.as_str().map_or_else(|| one.to_string(), plain));
    match key.as_str() {
        "watchers" | "pids" => words().collect::<Vec<_>>().join(","),
        "sockets" => list(value).iter().map(socket).collect::<Vec<_>>().join("\n"),
        "statuses" => each(&|(name, state)| format!("{}: {}", plain(name), word(state))),
        "infos" => each(&|(name, costs)| format!("{}:\n{}", plain(name), stats(costs))),
        "options" => options::lines(value).iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n"),
        _ => value.as_str().map_or_else(|| value.to_string(), plain),
    }
}

fn socket(socket: &Value) -> String {
    format!("{}:socket '{}' at {}", socket["fd"], word(&socket["name"]), word(&socket["address"]))
}

/// A line for each worker.
fn stats(costs: &Value) -> String {
    let line = |(pid, cost): (&String, &Value)| {
        let known = |value: &Value, unit: &str| value.as_f64().map_or("-".into(), |value| format!("{value:.1}{unit}"));
        let memory = cost["resident_kib"].as_f64().map(|kib| json!(kib / 1024.0)).unwrap_or_default();
        let (cpu, memory) = (known(&cost["cpu_percent"], "%"), known(&memory, "M"));
        format!("{pid}: cpu {cpu}, memory {memory}, age {}", known(&cost["age_seconds"], "s"))
    };
    costs.as_object().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_as_circuss() {
        let socket = json!({ "fd": 3, "name": "web", "kind": "tcp", "address": "127.0.0.1:80" });
        for (answer, printed) in [
            (json!({}), "ok"),
            (json!({ "watchers": ["a", "b"] }), "a,b"),
            (json!({ "pids": [4, 5] }), "4,5"),
            (json!({ "pids": [] }), ""),
            (json!({ "numprocesses": 3 }), "3"),
            (json!({ "sockets": [socket] }), "3:socket 'web' at 127.0.0.1:80"),
            (json!({ "status": "active" }), "active"),
            (json!({ "statuses": { "a": "active", "b": "stopped" } }), "a: active\nb: stopped"),
            (json!({ "options": { "cmd": "x", "env": ["A"], "max_age": 0 } }), "cmd: x\nenv: A\nmax_age: 0"),
            (
                json!({ "infos": { "a": { "7": { "cpu_percent": 1.25, "resident_kib": 2048, "age_seconds": null } } } }),
                "a:\n7: cpu 1.2%, memory 2.0M, age -",
            ),
        ] {
            assert_eq!(text(&answer), printed);
        }
        let whole = reply(&json!({ "statuses": {} }));
        assert!(whole["status"] == "ok" && whole["time"].as_f64() > Some(1.0), "{whole}");
        assert_eq!(reply(&json!({ "status": "active" }))["status"], "active");
    }
}
