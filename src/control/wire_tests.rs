//! Lines in, requests out; replies out, lines in.

use super::*;
use crate::plan::Strategy;
use serde_json::json;

fn ask(command: Command) -> Wanted {
    Wanted::Supervisor(command)
}

#[test]
fn requests_are_understood() {
    let scale = |service: Option<&str>| ask(Command::Scale { service: service.map(Into::into), number: 4 });
    let restart = |service: Option<&str>, slot| ask(Command::Restart { service: service.map(Into::into), slot });
    let signal = ask(Command::Signal { service: None, signals: vec![Signal(10)] });
    let upgrade = |service: Option<&str>, strategy, timeout_ns, wait| {
        ask(Command::Upgrade { service: service.map(Into::into), strategy, timeout_ns, wait })
    };
    let ping = Wanted::Ping { pid: 1234, request_id: Some("req-1".into()) };
    for (line, id, wanted) in [
        // The bytes of einhorn's Ruby client.
        ("---%0Acommand: worker:ack%0Apid: 1234%0A", None, Wanted::Ack { pid: 1234 }),
        ("---%0Acommand: worker:ping%0Apid: 1234%0Arequest_id: req-1%0A", None, ping),
        ("---%0Aid: 1%0Acommand: status%0Aargs: []%0A", Some(json!(1)), ask(Command::Status)),
        ("---%0Acommand: ready%0Auser:%0A", None, ask(Command::Ready)),
        // Others.
        ("---\ncommand: stop", None, ask(Command::Stop { signal: None, wait: true })),
        ("--- {command: status, id: a}", Some(json!("a")), ask(Command::Status)),
        (r#"{"command":"worker:ack","pid":1234}"#, None, Wanted::Ack { pid: 1234 }),
        (r#"{"command":"status"}"#, None, ask(Command::Status)),
        ("{\"command\":\"status\"}\r", None, ask(Command::Status)),
        (r#"{"command":"events","id":"50%25"}"#, Some(json!("50%")), Wanted::Events),
        (r#"{"command":"status","id":"%7B%0a%2"}"#, Some(json!("%7B%0a%2")), ask(Command::Status)),
        (r#"{"command":"options"}"#, None, ask(Command::Options { service: None })),
        (r#"{"command":"scale","options":{"number":4}}"#, None, scale(None)),
        (
            r#"{"command":"scale","id":1.5,"options":{"service":"web","number":4}}"#,
            Some(json!(1.5)),
            scale(Some("web")),
        ),
        (r#"{"command":"restart","options":{"service":null}}"#, None, restart(None, None)),
        (r#"{"command":"restart","options":{"service":"web","slot":0}}"#, None, restart(Some("web"), Some(0))),
        (r#"{"command":"signal","options":{"signal":"USR1"}}"#, None, signal),
        (r#"{"command":"upgrade"}"#, None, upgrade(None, None, None, Wait::Told)),
        (
            r#"{"command":"upgrade","options":{"service":"web","strategy":"fleet","timeout":2.5,"wait":"drained"}}"#,
            None,
            upgrade(Some("web"), Some(Strategy::Fleet), Some(2_500_000_000), Wait::Drained),
        ),
        (r#"{"command":"promote"}"#, None, ask(Command::Promote { service: None })),
        (r#"{"command":"rollback"}"#, None, ask(Command::Rollback { service: None })),
    ] {
        assert_eq!(parse(line.as_bytes(), false), Ok(Request { id, wanted }), "{line}");
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
        ("---%0Aa: &x 1%0Ab: [*x, *x, *x, *x, *x, *x, *x, *x, *x]%0Acommand: status", "Could not parse command"),
        ("--- {command: status}%0A--- {command: stop}", "Could not parse command"),
        (&long, "the line is longer than 65536 bytes"),
        ("{}", "No \"command\" parameter provided; the commands are status, ready, options, scale,"),
        (r#"{"command":7}"#, "\"command\" must be a string, not 7"),
        (
            r#"{"command":"statsu"}"#,
            "Unrecognized command: \"statsu\"; did you mean \"status\"? the commands are status, ",
        ),
        (r#"{"command":"upgrad"}"#, "Unrecognized command: \"upgrad\""),
        (
            r#"{"command":"upgrade","options":{"strategy":"quick"}}"#,
            "upgrade: the option \"strategy\" is one of rolling, fleet, canary, not quick",
        ),
        (
            r#"{"command":"upgrade","options":{"timeout":0}}"#,
            "upgrade: the option \"timeout\" must be a number of seconds above 0, not 0",
        ),
        (r#"{"command":"upgrade","options":{"wait":true}}"#, "upgrade: the option \"wait\" must be a string, not true"),
        (r#"{"command":"status","id":[]}"#, "\"id\" must be a number or a string"),
        (r#"{"command":"status","options":{"x":1}}"#, "status: unknown option \"x\"; it takes no options"),
        (r#"{"command":"scale","options":{"nmber":1}}"#, "scale: unknown option \"nmber\", did you mean \"number\"?"),
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
        (r#"{"command":"signal","options":{"signal":"TREM"}}"#, "signal: unknown signal 'TREM', did you mean TERM?"),
        (r#"{"command":"worker:ack"}"#, "worker:ack: \"pid\" is missing"),
        (r#"{"command":"worker:ack","pid":"123"}"#, "worker:ack: \"pid\" must be a process id, not \"123\""),
        (
            r#"{"command":"worker:ping","pid":99999999999}"#,
            "worker:ping: \"pid\" must be a process id, not 99999999999",
        ),
    ] {
        let refused = parse(line.as_bytes(), false).expect_err(line);
        assert!(refused.message.starts_with(message), "{}: {}", &line[..line.len().min(80)], refused.message);
        assert!(refused.message.len() < 300 && !refused.message.contains('\n'), "{}", refused.message);
    }
    let refused = parse(br#"{"command":"nonsense","id":"a%25"}"#, false).expect_err("unknown");
    assert_eq!(refused.id, Some(json!("a%")));
}

#[test]
fn replies_are_lines_that_einhorns_clients_read() {
    let id = json!(1);
    let reply = Reply { id: Some(&id), ok: true, message: "50 %\ndone", wait: true, data: Some(json!({"a": 1})) };
    let line = reply.line();
    assert_eq!(line, "{\"data\":{\"a\":1},\"message\":\"50 %25\\ndone\",\"ok\":true,\"request_id\":1,\"wait\":true}\n");
    assert_eq!(parse_reply(line.trim_end().as_bytes()).expect("JSON")["message"], "50 %\ndone");
    let bare = Reply { id: None, ok: false, message: "no", wait: false, data: None }.line();
    assert_eq!(bare, "{\"message\":\"no\",\"ok\":false}\n");
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
        match parse(&line, false) {
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
