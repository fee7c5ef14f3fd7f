//! One log file: its lines are written at its end, and it is put aside as its plan says. What cannot be done with the
//! disk is said once, and again when it can be done; meanwhile lines that cannot be written are counted, for a worker
//! must not stand still for its log.

use super::calendar;
use crate::plan::{LogFile, Rotation, Unit};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Mode, user and group that a file which was put aside leaves to the next one.
type Rights = (u32, u32, u32);

/// What is told to the operator.
pub(super) type Say<'a> = &'a dyn Fn(String);

/// One file that is written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) spec: LogFile,
    file: Option<File>,
    rights: Option<Rights>,
    length: u64,
    /// When the current period is over.
    until: Option<ZonedDateTime>,
    /// Who wrote the end of it, where that is no end of a line.
    unfinished: Option<u64>,
    /// Bytes that could not be written since the disk failed.
    lost: Option<u64>,
}

impl Written {
    /// `file`: where it is open already.
    pub(super) fn new(spec: LogFile, file: Option<File>) -> Written {
        let mut written =
            Written { spec, file: None, rights: None, length: 0, until: None, unfinished: None, lost: None };
        if let Some(file) = file {
            written.take(file);
        }
        written
    }

    /// Writes whole lines of one source, or what it left of one.
    pub(super) fn write(&mut self, source: u64, text: &[u8], say: Say) {
        self.look(say);
        let mut rest = text;
        if self.unfinished.take().is_some_and(|by| by != source) {
            self.append(b"\n", say);
        }
        while !rest.is_empty() {
            if self.room(rest) == 0 && self.length > 0 {
                self.put_aside(say);
            }
            // A line that is longer than a file may be has one of its own.
            let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
            let (now, later) = rest.split_at(self.room(rest).max(line));
            self.append(now, say);
            rest = later;
        }
        if text.last().is_some_and(|byte| *byte != b'\n') {
            self.unfinished = Some(source);
        }
    }

    /// How much of the text fits, in whole lines.
    fn room(&self, text: &[u8]) -> usize {
        let Rotation::Size { max_bytes, .. } = self.spec.rotation else { return text.len() };
        // Circus puts aside what would reach max_bytes.
        let left = usize::try_from(max_bytes.saturating_sub(self.length).saturating_sub(1)).unwrap_or(usize::MAX);
        if text.len() <= left {
            return text.len();
        }
        text[..left].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
    }

    /// What is to be done before something is written.
    fn look(&mut self, say: Say) {
        if self.file.is_none() {
            self.open(say);
        }
        match self.spec.rotation {
            Rotation::Watched if self.was_moved() => self.open(say),
            Rotation::Time { .. } if self.until.as_ref().is_some_and(|until| until.timestamp() <= Timestamp::now()) => {
                self.put_aside(say);
            }
            _ => {}
        }
    }

    fn was_moved(&self) -> bool {
        let node = |data: fs::Metadata| (data.dev(), data.ino());
        let here = self.file.as_ref().and_then(|file| file.metadata().ok()).map(node);
        here != fs::metadata(&self.spec.path).ok().map(node)
    }

    /// Opens the file at its path, which need not be the same. Where that fails, the old one is written.
    pub(super) fn open(&mut self, say: Say) {
        match opened(&self.spec.path, self.rights) {
            Ok(file) => self.take(file),
            Err(error) => {
                self.length = 0;
                self.failed(0, "open", &error, say);
            }
        }
    }

    fn take(&mut self, file: File) {
        let data = file.metadata().ok();
        self.length = data.as_ref().map_or(0, fs::Metadata::len);
        self.rights = data.as_ref().map(|data| (data.mode() & 0o7777, data.uid(), data.gid()));
        self.file = Some(file);
        if let Rotation::Time { unit, interval, utc, .. } = self.spec.rotation {
            // A file that was there belongs to the period in which it was written last.
            let written = data.filter(|data| data.len() > 0).and_then(|data| Timestamp::from_second(data.mtime()).ok());
            let from = written.unwrap_or_else(Timestamp::now).to_zoned_datetime(zone(utc));
            self.until = Some(calendar::end_of_period(&from, unit, interval));
        }
    }

    fn append(&mut self, text: &[u8], say: Say) {
        let Some(file) = &mut self.file else {
            self.lost = Some(self.lost.unwrap_or(0) + text.len() as u64);
            return;
        };
        match file.write_all(text) {
            Ok(()) => self.length += text.len() as u64,
            Err(error) => {
                self.length = file.metadata().map_or(self.length, |data| data.len());
                self.failed(text.len() as u64, "write", &error, say);
                return;
            }
        }
        if let Some(lost) = self.lost.take() {
            say(format!("{}: is written again; {lost} bytes of log were lost", self.spec.path.display()));
        }
    }

    fn failed(&mut self, lost: u64, what: &str, error: &io::Error, say: Say) {
        if self.lost.is_none() {
            let reason = reason(error);
            say(format!(
                "cannot {what} {}: {reason}; what workers write is lost until it can",
                self.spec.path.display()
            ));
        }
        self.lost = Some(self.lost.unwrap_or(0) + lost);
    }

    /// Gives the file another name and begins a new one.
    fn put_aside(&mut self, say: Say) {
        let path = self.spec.path.clone();
        let done = match self.spec.rotation {
            Rotation::Size { backups, .. } => shift(&path, backups),
            Rotation::Time { unit, interval, backups, .. } => {
                let until = self.until.clone().unwrap_or_else(ZonedDateTime::now);
                name_after(&path, &calendar::suffix(&until, unit, interval))
                    .and_then(|()| if backups > 0 { remove_old(&path, unit, backups) } else { Ok(()) })
            }
            Rotation::Never | Rotation::Watched => return,
        };
        match done {
            Ok(()) => self.open(say),
            Err(error) => {
                // The next try is with the next line that does not fit: said each time, for each needs a person.
                say(format!("cannot put {} aside: {}; it grows", path.display(), reason(&error)));
                if let Rotation::Time { unit, interval, utc, .. } = self.spec.rotation {
                    let now = Timestamp::now().to_zoned_datetime(zone(utc));
                    self.until = Some(calendar::end_of_period(&now, unit, interval));
                }
                self.length = 0;
            }
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

fn zone(utc: bool) -> TimeZone {
    if utc { TimeZone::UTC } else { TimeZone::system() }
}

/// A new one has the rights of the one before, as far as prebind may give them.
fn opened(path: &Path, rights: Option<Rights>) -> io::Result<File> {
    // Without waiting for whoever reads a FIFO.
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY);
    match options.clone().create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            let (mode, user, group) = rights.unwrap_or((0o644, 0, 0));
            if rights.is_some() {
                let _ = chown(path, Some(user), Some(group));
            }
            file.set_permissions(Permissions::from_mode(mode))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

fn with_suffix(path: &Path, suffix: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

fn if_there(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// FILE.1 becomes FILE.2 and so on, FILE becomes FILE.1; the last one goes.
fn shift(path: &Path, backups: u32) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    // Only as many as there are: the first gap takes what comes.
    let gap = (1..backups).find(|n| !with_suffix(path, n).exists()).unwrap_or(backups);
    for n in (1..gap).rev() {
        fs::rename(with_suffix(path, n), with_suffix(path, n + 1))?;
    }
    fs::rename(path, with_suffix(path, 1))
}

/// FILE becomes FILE.SUFFIX; where that is there, FILE.SUFFIX-2 and so on: nothing is written over.
fn name_after(path: &Path, suffix: &str) -> io::Result<()> {
    let names = std::iter::once(suffix.to_string()).chain((2..).map(|n| format!("{suffix}-{n}")));
    let free = names.map(|name| with_suffix(path, name)).find(|name| fs::symlink_metadata(name).is_err());
    if_there(free.map_or(Ok(()), |free| fs::rename(path, free)))
}

/// All but the newest ones.
fn remove_old(path: &Path, unit: Unit, keep: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(start) = path.file_name().and_then(|name| name.to_str()).map(|name| format!("{name}.")) else {
        return Ok(());
    };
    let mut old: Vec<(String, u32)> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| period(entry.file_name().to_str()?.strip_prefix(&start)?, calendar::suffix_length(unit)))
        .collect();
    old.sort();
    let surplus = old.len().saturating_sub(keep as usize);
    for (suffix, number) in &old[..surplus] {
        let name = if *number > 1 { format!("{suffix}-{number}") } else { suffix.clone() };
        if_there(fs::remove_file(with_suffix(path, name)))?;
    }
    Ok(())
}

/// The period's beginning, and which of its files.
fn period(suffix: &str, length: usize) -> Option<(String, u32)> {
    let (date, number) = suffix.split_once('-').unwrap_or((suffix, "1"));
    let is_date = date.len() == length && date.bytes().all(|byte| byte.is_ascii_digit());
    is_date.then_some(())?;
    Some((date.to_string(), number.parse().ok()?))
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(in crate::logs) mod tests;
