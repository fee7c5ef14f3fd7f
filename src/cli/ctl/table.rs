//! The table of `prebindctl status`: receives the data of the reply, hands on text that fits the width given.
//! Only texts are cut, never numbers; a worker's own words cannot move the cursor.

use serde_json::Value;
use std::fmt::Write;

/// The whole table, for at most `width` columns.
pub(super) fn status(data: &Value, width: usize) -> String {
    let mut text = String::new();
    let head = format!(
        "prebind {}, pid {}, {}, up {}",
        word(&data["version"]),
        data["pid"],
        word(&data["state"]),
        span(data["uptime_seconds"].as_f64())
    );
    put(&mut text, &head, width);
    let sockets: Vec<[String; 4]> = list(&data["sockets"]).iter().map(socket).collect();
    for line in aligned(&sockets, [false; 4]) {
        put(&mut text, &format!("  {line}"), width);
    }
    for service in list(&data["services"]) {
        text.push('\n');
        put(&mut text, &service_line(service), width);
        let mut rows = vec![["SLOT", "PID", "GEN", "STATE", "AGE", "STATUS"].map(String::from)];
        rows.extend(list(&service["workers"]).iter().map(worker));
        // A service that waits for traffic has none.
        if rows.len() == 1 && service["state"].as_str().is_some_and(|state| state != "active") {
            continue;
        }
        for line in aligned(&rows, [true, true, true, false, true, false]) {
            put(&mut text, &format!("  {line}"), width);
        }
    }
    text
}

/// Without control characters: a status text must not play with the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn word(value: &Value) -> String {
    plain(value.as_str().unwrap_or("?"))
}

fn number(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".into(), |number| number.to_string())
}

fn socket(socket: &Value) -> [String; 4] {
    let mut rest = Vec::new();
    if let Some(queue) = socket["queue"].as_u64() {
        rest.push(format!("{queue} waiting"));
    }
    if socket["inherited"].as_bool() == Some(true) {
        rest.push("inherited".into());
    }
    [word(&socket["name"]), word(&socket["kind"]), word(&socket["address"]), rest.join(", ")]
}

fn service_line(service: &Value) -> String {
    let restarts = match service["restarts"].as_u64() {
        Some(1) => "1 restart".into(),
        other => format!("{} restarts", other.unwrap_or(0)),
    };
    let state = service["state"].as_str().filter(|state| *state != "active");
    format!(
        "{}: {}{} of {} ready, generation {}, {restarts}",
        word(&service["name"]),
        state.map(|state| format!("{}, ", plain(state))).unwrap_or_default(),
        number(&service["ready"]),
        number(&service["number"]),
        number(&service["generation"])
    )
}

fn worker(worker: &Value) -> [String; 6] {
    let mut words = Vec::new();
    if let Some(seconds) = worker["next_try_seconds"].as_f64() {
        words.push(format!("next in {}", span(Some(seconds))));
    }
    let status = word(&worker["status"]);
    if !status.is_empty() {
        words.push(status);
    }
    let last = &worker["last_exit"];
    if last.is_object() {
        let how = match last["signal"].as_str() {
            Some(signal) => format!("signal {}", plain(signal)),
            None => format!("code {}", number(&last["code"])),
        };
        words.push(format!("last exit: {how}, {} ago", span(last["seconds_ago"].as_f64())));
    }
    [
        number(&worker["slot"]),
        number(&worker["pid"]),
        number(&worker["generation"]),
        word(&worker["state"]),
        span(worker["age_seconds"].as_f64()),
        words.join("; "),
    ]
}

/// Two units at most: `0.4s`, `12s`, `3m05s`, `2h10m`, `6d03h`.
pub(super) fn span(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".into() };
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86400, whole / 3600 % 24),
    }
}

/// Columns two spaces apart, each as wide as its widest cell; `right` says which are set to the right.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], right: [bool; N]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            // Writing to a String cannot fail.
            let _ = match right[column] {
                true => write!(line, "{gap}{cell:>0$}", widths[column]),
                false => write!(line, "{gap}{cell:<0$}", widths[column]),
            };
        }
        line
    };
    rows.iter().map(line).collect()
}

/// Appends a line, cut to the width; the cut shows.
fn put(text: &mut String, line: &str, width: usize) {
    let line = line.trim_end();
    if line.chars().count() > width {
        text.extend(line.chars().take(width.saturating_sub(1)));
        text.push('…');
    } else {
        text.push_str(line);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn data() -> Value {
        let worker = |slot: u32, pid: Option<u32>, state: &str, age: f64, status: &str| {
            json!({"slot": slot, "pid": pid, "generation": 2, "state": state, "age_seconds": age, "status": status,
                   "next_try_seconds": null, "last_exit": null})
        };
        let mut waiting = worker(10, None, "waiting", 0.52, "");
        waiting["next_try_seconds"] = json!(1.5);
        waiting["last_exit"] = json!({"code": 1, "signal": null, "seconds_ago": 0.52});
        let mut back = worker(1, Some(123_456), "ready", 75.0, "\u{1b}[31mserving\n80 requests");
        back["last_exit"] = json!({"code": null, "signal": "KILL", "seconds_ago": 75.2});
        json!({
            "pid": 4710, "version": "0.1.0", "state": "running", "uptime_seconds": 93_784.5,
            "sockets": [
                {"name": "web", "kind": "tcp", "address": "127.0.0.1:8080", "inherited": false, "queue": 0},
                {"name": "admin", "kind": "unixgram", "address": "/run/admin", "inherited": true, "queue": null},
            ],
            "services": [
                {"name": "web", "number": 3, "ready": 2, "generation": 2, "restarts": 1, "last_upgrade": null,
                 "workers": [worker(0, Some(4711), "ready", 3725.0, ""), back, waiting]},
                {"name": "none", "number": 0, "ready": 0, "generation": 1, "restarts": 0, "workers": []},
                {"name": "a.service", "state": "listening", "number": 2, "ready": 0, "generation": 1, "restarts": 0,
                 "workers": []},
            ],
        })
    }

    #[test]
    fn status_reads_well_on_eighty_columns() {
        let wanted = "\
prebind 0.1.0, pid 4710, running, up 1d02h
  web    tcp       127.0.0.1:8080  0 waiting
  admin  unixgram  /run/admin      inherited

web: 2 of 3 ready, generation 2, 1 restart
  SLOT     PID  GEN  STATE      AGE  STATUS
     0    4711    2  ready    1h02m
     1  123456    2  ready    1m15s   [31mserving 80 requests; last exit: signa…
    10       -    2  waiting   0.5s  next in 1.5s; last exit: code 1, 0.5s ago

none: 0 of 0 ready, generation 1, 0 restarts
  SLOT  PID  GEN  STATE  AGE  STATUS

a.service: listening, 0 of 2 ready, generation 1, 0 restarts
";
        let table = status(&data(), 80);
        assert_eq!(table, wanted, "\n{table}");
        assert!(status(&data(), 100).lines().all(|line| line.chars().count() <= 100));
        assert!(status(&data(), 100).contains("last exit: signal KILL, 1m15s ago"));
    }

    #[test]
    fn other_data_is_no_panic() {
        for data in [json!(null), json!({}), json!({"sockets": 1, "services": [1, {"workers": [null]}]})] {
            assert!(status(&data, 40).starts_with("prebind ?"));
        }
    }

    #[test]
    fn spans() {
        for (seconds, text) in [(0.04, "0.0s"), (9.96, "10.0s"), (10.0, "10s"), (3599.0, "59m59s"), (86400.0, "1d00h")]
        {
            assert_eq!(span(Some(seconds)), text);
        }
        assert_eq!(span(None), "-");
    }
}
