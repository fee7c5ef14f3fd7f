//! prebind's own log: one line per event on stderr, for people or as JSON.

use crate::control::event::{EventLine, Level};
use crate::plan::{LogSpec, Manner};
use std::io::{Write, stderr};
use std::time::SystemTime;

/// What is said, and how.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    spec: LogSpec,
    manner: Manner,
    /// What `louder` and `quieter` made of it.
    shifted: i8,
}

impl Log {
    /// As asked.
    pub fn new(spec: LogSpec, manner: Manner) -> Log {
        Log { spec, manner, shifted: 0 }
    }

    /// How much more is logged than the plan asks for.
    pub fn shifted(&self) -> i8 {
        self.shifted
    }

    /// Logs more, or less, from now on.
    pub fn shift(&mut self, by: i8) {
        let before = self.spec.verbosity;
        self.spec.verbosity = (before + by).clamp(-1, 1);
        self.shifted += self.spec.verbosity - before;
    }

    /// einhorn's number of what is logged: 0 all, 1 what matters, 2 errors.
    pub fn einhorn_verbosity(&self) -> i8 {
        (1 - self.spec.verbosity).clamp(0, 2)
    }

    /// Whether lines are to be in einhorn's words.
    pub(super) fn is_einhorns(&self) -> bool {
        self.manner == Manner::Einhorn && !self.spec.json
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
        } else if self.manner == Manner::Einhorn {
            let level = if line.level == Level::Warn { "INFO".into() } else { line.level.word().to_uppercase() };
            format!("[MASTER {}] {level}: {}\n", std::process::id(), line.message)
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
