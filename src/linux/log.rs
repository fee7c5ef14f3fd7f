//! prebind's own log: one line per event on stderr, for people or as JSON.

use crate::control::event::{EventLine, Level};
use crate::plan::LogSpec;
use std::io::{Write, stderr};
use std::time::SystemTime;

/// What is said, and how.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    spec: LogSpec,
}

impl Log {
    /// As asked.
    pub fn new(spec: LogSpec) -> Log {
        Log { spec }
    }

    /// Whether a line of this level is written at all.
    pub fn wants(&self, level: Level) -> bool {
        let rank = match level {
            Level::Error => -2,
            Level::Warn => -1,
            Level::Info => 0,
            Level::Debug => 1,
        };
        rank <= self.spec.verbosity
    }

    /// Writes one line. A stderr that nobody reads is not our worker's problem: errors are ignored.
    pub fn write(&self, line: &EventLine) {
        if !self.wants(line.level) {
            return;
        }
        let text = if self.spec.json {
            format!("{}\n", line.json(Some(&timestamp())))
        } else {
            format!("prebind: {}\n", line.message)
        };
        let _ = stderr().write_all(text.as_bytes());
    }

    /// A line about prebind itself.
    pub fn say(&self, level: Level, event: &'static str, message: String) {
        self.write(&EventLine { level, event, message, fields: serde_json::Map::new() });
    }
}

/// The wall clock, as RFC 3339 in UTC.
pub(super) fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
