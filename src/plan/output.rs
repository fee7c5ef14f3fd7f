//! A file that workers' output goes to through prebind: each line whole, and the file put aside from time to time.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Written at its end; opened with prebind's rights.
    pub path: PathBuf,
    /// When it is put aside.
    pub rotation: Rotation,
    /// What each line begins with, for strftime(3); the worker's pid in brackets follows.
    pub time_format: Option<String>,
}

/// When a file is put aside, and how many old ones are kept. USR1 has every file opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rotation {
    /// Never by prebind.
    Never,
    /// Before it grows to so many bytes. The old ones are FILE.1, FILE.2 and so on, the newest first.
    Size {
        /// Bytes.
        max_bytes: u64,
        /// Old ones.
        backups: u32,
    },
    /// With the first line after the end of each period. An old one is FILE.20261231 with the hour, minute and second where
    /// periods are shorter: its period's beginning.
    Time {
        /// What a period is counted in.
        unit: Unit,
        /// How many of them it has.
        interval: u32,
        /// Old ones; 0: all.
        backups: u32,
        /// By UTC, not by local time.
        utc: bool,
    },
    /// By somebody else: it is opened anew once it is not the file at its path any more.
    Watched,
}

/// `rotate_when`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    /// 24 hours from the file's first line.
    Day,
    /// A day of the calendar.
    Midnight,
    /// A week that ends with that day: 0 is Monday.
    Week(u8),
}
