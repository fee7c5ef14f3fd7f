//! `stdout_stream.*` and `stderr_stream.*`: where a worker's output goes.

use super::lex::Entry;
use super::options::Options;
use super::values::number;
use crate::plan::{LogFile, Rotation, Stdio, Unit};
use std::path::Path;

/// Options of a stream that are read.
const KNOWN: [&str; 9] =
    ["class", "filename", "max_bytes", "backup_count", "rotate_when", "rotate_interval", "utc", "time_format", "color"];

/// Reads one; `start`: what its options begin with.
pub(super) fn read(options: &mut Options, start: &str, directory: &str) -> Stdio {
    let own = options.beginning(start);
    for (name, entry) in own.iter().filter(|(name, _)| !KNOWN.contains(name)) {
        let near = crate::plan::nearest(name, KNOWN).map(|near| format!(", did you mean {start}{near}?"));
        options.said.warn(&entry.origin, format!("unknown option {}{}: ignored", entry.key, near.unwrap_or_default()));
    }
    let key = |name: &str| format!("{start}{name}");
    let class = options.some(&key("class")).unwrap_or_else(|| "FileStream".into());
    let class = class.strip_prefix("circus.stream.").unwrap_or(&class).to_string();
    let file = options.some(&key("filename")).map(|name| Path::new(directory).join(name));
    if own.is_empty() {
        return Stdio::Own;
    }
    let rotation = match class.as_str() {
        "StdoutStream" | "FancyStdoutStream" => {
            plain(options, &own, &["time_format", "color"]);
            return Stdio::Own;
        }
        "FileStream" => by_size(options, &key),
        "TimedRotatingFileStream" => by_time(options, &key),
        "WatchedFileStream" => Rotation::Watched,
        _ => {
            let message = format!("{class} is Python inside circusd");
            options.wrong(
                &key("class"),
                message,
                "FileStream with a filename, or let the worker write where it is to go",
            );
            return Stdio::Own;
        }
    };
    let time_format = options.read(&key("time_format"), strftime);
    plain(options, &own, &["color"]);
    let Some(path) = file else {
        options.wrong(own[0].1.key.as_str(), format!("{start}filename is missing"), "StdoutStream has none");
        return Stdio::Own;
    };
    Stdio::Log(LogFile { path, rotation, time_format: time_format.filter(|format| !format.is_empty()) })
}

/// What goes to prebind's own streams goes there without prebind.
fn plain(options: &mut Options, own: &[(&str, &Entry)], names: &[&str]) {
    for (name, entry) in own.iter().filter(|(name, _)| names.contains(name)) {
        options.said.warn(&entry.origin, format!("{name} is left out: lines are written as the worker writes them"));
    }
}

fn by_size(options: &mut Options, key: &dyn Fn(&str) -> String) -> Rotation {
    let max_bytes = options.read(&key("max_bytes"), number).unwrap_or(0);
    let backups = options.read(&key("backup_count"), number).unwrap_or(0);
    if max_bytes > 0 && backups == 0 {
        options.warn(&key("max_bytes"), "nothing is put aside without backup_count, as in Circus: the file grows");
    }
    if max_bytes > 0 && backups > 0 { Rotation::Size { max_bytes, backups } } else { Rotation::Never }
}

fn by_time(options: &mut Options, key: &dyn Fn(&str) -> String) -> Rotation {
    let unit = options.read(&key("rotate_when"), unit).unwrap_or(Unit::Hour);
    let interval: u32 = options.read(&key("rotate_interval"), number).unwrap_or(1);
    let backups = options.read(&key("backup_count"), number).unwrap_or(0);
    Rotation::Time { unit, interval: interval.max(1), backups, utc: options.is(&key("utc"), false) }
}

fn unit(text: &str) -> Result<Unit, String> {
    Ok(match text.to_ascii_uppercase().as_bytes() {
        b"S" => Unit::Second,
        b"M" => Unit::Minute,
        b"H" => Unit::Hour,
        b"D" => Unit::Day,
        b"MIDNIGHT" => Unit::Midnight,
        [b'W', day @ b'0'..=b'6'] => Unit::Week(day - b'0'),
        _ => return Err(format!("'{text}' is none of S, M, H, D, MIDNIGHT, W0 to W6")),
    })
}

/// A format that a time can be written with.
fn strftime(text: &str) -> Result<String, String> {
    let example = jiff::civil::date(2026, 1, 31).at(23, 59, 59, 0).in_tz("UTC").map_err(|error| error.to_string())?;
    // Python's %f has six digits.
    let format = text.replace("%f", "%6f");
    jiff::fmt::strtime::format(&format, &example).map_err(|error| format!("'{text}': {error}"))?;
    Ok(format)
}
