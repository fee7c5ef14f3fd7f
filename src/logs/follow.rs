//! The thread: it waits for all pipes at once, and hands whole lines to their files.

use super::Say;
use super::file::Written;
use crate::plan::{LogFile, Rotation};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// As much as a pipe holds.
const READ_SIZE: usize = 64 << 10;
/// A longer line is written in parts.
const LINE_MAX: usize = 64 << 10;
/// The beginning of a line waits so long for its end.
const PATIENCE: Duration = Duration::from_secs(1);
/// As often one is read at the end.
const READS_LAST: usize = 64;
/// The key of what wakes the thread; those of sources begin behind it.
const WAKE: u64 = 0;

/// What it followed when it was stopped.
pub(super) type Stopped = Vec<Source>;

pub(super) enum Order {
    /// The file where it is open already.
    Follow(Source, Option<File>),
    Reopen,
    /// `drain`: what is there is written first.
    Stop {
        drain: bool,
        answer: Sender<Stopped>,
    },
}

/// One worker's output.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) pipe: OwnedFd,
    pub(super) pid: i32,
    pub(super) spec: LogFile,
    /// The beginning of a line.
    pub(super) held: Vec<u8>,
    /// A part of that line was written already.
    pub(super) in_line: bool,
}

impl Source {
    pub(super) fn new(pipe: OwnedFd, pid: i32, spec: LogFile) -> Source {
        Source { pipe, pid, spec, held: Vec::new(), in_line: false }
    }

    /// What can be written of what was read: whole lines, or a line that is too long.
    fn lines(&mut self, read: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(read);
        match self.held.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                let rest = self.held.split_off(end + 1);
                std::mem::replace(&mut self.held, rest)
            }
            None if self.held.len() > LINE_MAX => std::mem::take(&mut self.held),
            None => Vec::new(),
        }
    }

    /// With what each line is to begin with.
    fn with_prefix(&mut self, text: Vec<u8>) -> Vec<u8> {
        let begins_in_line = self.in_line;
        self.in_line = text.last().is_some_and(|byte| *byte != b'\n');
        let Some(format) = &self.spec.time_format else { return text };
        let utc = matches!(self.spec.rotation, Rotation::Time { utc: true, .. });
        let now = if utc { jiff::Timestamp::now().in_tz("UTC") } else { Ok(jiff::ZonedDateTime::now()) };
        let time = now.and_then(|now| jiff::fmt::strtime::format(format, &now)).unwrap_or_default();
        let prefix = format!("{time} [{}] | ", self.pid);
        let mut lines = Vec::with_capacity(text.len() + prefix.len());
        for (n, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            if n > 0 || !begins_in_line {
                lines.extend_from_slice(prefix.as_bytes());
            }
            lines.extend_from_slice(line);
        }
        lines
    }
}

pub(super) struct Follower {
    orders: Receiver<Order>,
    wake: Arc<EventFd>,
    say: Say,
    epoll: Epoll,
    sources: BTreeMap<u64, Source>,
    files: BTreeMap<PathBuf, Written>,
    next_key: u64,
    /// When beginnings of lines are written as they are.
    flush_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl Follower {
    pub(super) fn new(orders: Receiver<Order>, wake: Arc<EventFd>, say: Say) -> nix::Result<Follower> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Follower {
            orders,
            wake,
            say,
            epoll,
            sources: BTreeMap::new(),
            files: BTreeMap::new(),
            next_key: WAKE + 1,
            flush_at: None,
            buffer: vec![0; READ_SIZE],
        })
    }

    /// Until it is told to stop.
    pub(super) fn run(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return (self.say)(format!("cannot follow the output of workers: {}", errno.desc())),
            };
            let keys = events[..count].iter().map(EpollEvent::data);
            for key in keys.filter(|key| *key != WAKE) {
                self.read(key);
            }
            if events[..count].iter().any(|event| event.data() == WAKE) && self.obey() {
                return;
            }
            if self.flush_at.is_some_and(|at| at <= Instant::now()) {
                self.flush();
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(at) = self.flush_at else { return EpollTimeout::NONE };
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::NONE)
    }

    /// Whether it was told to stop.
    fn obey(&mut self) -> bool {
        let _ = self.wake.read();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Follow(source, file) => self.follow(source, file),
                Order::Reopen => {
                    for written in self.files.values_mut() {
                        written.open(&*self.say);
                    }
                }
                Order::Stop { drain, answer } => {
                    if drain {
                        self.drain();
                    }
                    match answer.send(std::mem::take(&mut self.sources).into_values().collect()) {
                        Ok(()) => return true,
                        // Nobody waited so long.
                        Err(unheard) => unheard.0.into_iter().for_each(|source| self.follow(source, None)),
                    }
                }
            }
        }
        false
    }

    fn follow(&mut self, source: Source, file: Option<File>) {
        let key = self.next_key;
        self.next_key += 1;
        match self.epoll.add(&source.pipe, EpollEvent::new(EpollFlags::EPOLLIN, key)) {
            // One that was taken back is there already, under a key that is gone.
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let _ = self.epoll.modify(&source.pipe, &mut EpollEvent::new(EpollFlags::EPOLLIN, key));
            }
            Err(errno) => return (self.say)(format!("cannot follow the output of {}: {}", source.pid, errno.desc())),
        }
        match self.files.get_mut(&source.spec.path) {
            // Its plan may have changed since.
            Some(written) => written.spec = source.spec.clone(),
            None => {
                let written = Written::new(source.spec.clone(), file);
                self.files.insert(source.spec.path.clone(), written);
            }
        }
        if !source.held.is_empty() {
            self.flush_at.get_or_insert(Instant::now() + PATIENCE);
        }
        self.sources.insert(key, source);
    }

    /// Reads once. Whether there may be more.
    fn read(&mut self, key: u64) -> bool {
        let Some(source) = self.sources.get_mut(&key) else { return false };
        match nix::unistd::read(&source.pipe, &mut self.buffer) {
            Ok(0) => {
                self.ended(key);
                false
            }
            Ok(length) => {
                let lines = source.lines(&self.buffer[..length]);
                if !source.held.is_empty() {
                    self.flush_at.get_or_insert(Instant::now() + PATIENCE);
                }
                self.write(key, lines);
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(errno) => {
                (self.say)(format!("cannot read the output of {}: {}", source.pid, errno.desc()));
                self.ended(key);
                false
            }
        }
    }

    fn write(&mut self, key: u64, text: Vec<u8>) {
        let Some(source) = self.sources.get_mut(&key).filter(|_| !text.is_empty()) else { return };
        let text = source.with_prefix(text);
        if let Some(written) = self.files.get_mut(&source.spec.path) {
            written.write(key, &text, &*self.say);
        }
    }

    fn write_held(&mut self, key: u64) {
        let held = self.sources.get_mut(&key).map(|source| std::mem::take(&mut source.held));
        self.write(key, held.unwrap_or_default());
    }

    fn flush(&mut self) {
        self.flush_at = None;
        let keys: Vec<u64> = self.sources.keys().copied().collect();
        for key in keys {
            self.write_held(key);
        }
    }

    fn ended(&mut self, key: u64) {
        self.write_held(key);
        let Some(source) = self.sources.remove(&key) else { return };
        if self.sources.values().all(|other| other.spec.path != source.spec.path) {
            self.files.remove(&source.spec.path);
        }
    }

    /// What is in the pipes, and the beginnings of lines.
    fn drain(&mut self) {
        let keys: Vec<u64> = self.sources.keys().copied().collect();
        for key in keys {
            // A process that never ends writing is not waited for.
            let _ = (0..READS_LAST).take_while(|_| self.read(key)).count();
        }
        self.flush();
    }
}
