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

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
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
    format!(
        "{}: {} of {} ready, generation {}, {restarts}",
        word(&service["name"]),
        number(&service["ready"]),
        number(&service["number"]),
        number(&service["generation"])
    )
}

fn worker(worker: &Value) -> [String; 6] {
    let mut words = Vec::new();
    if let Some(seconds) = worker["next_try_seconds"].as_f64() {
        words.push(format!("next try in {}", span(Some(seconds))));
    }
    let status = word(&worker["status"]);
    if !status.is_empty() {
        words.push(status);
    }
    let last = &worker["last_exit"];
    if last.is_object() {
        let how = match last["signal"].as_str() {
            Some(signal) => format!("killed by {}", plain(signal)),
            None => format!("exit code {}", number(&last["code"])),
        };
        words.push(format!("last: {how}, {} ago", span(last["seconds_ago"].as_f64())));
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

/// Two units at most: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `6 d 3 h`.
fn span(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".into() };
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86400, whole / 3600 % 24),
    }
}

/// Columns two spaces apart, each as wide as its widest cell; `right` says which are set to the right.
fn aligned<const N: usize>(rows: &[[String; N]], right: [bool; N]) -> Vec<String> {
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
