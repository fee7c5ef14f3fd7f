//! What a process writes, line by line, as it comes.

use super::DEADLINE;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads to the end in a thread of its own.
    pub(crate) fn of(from: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let writer = lines.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                writer.state().lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                writer.0.1.notify_all();
                line.clear();
            }
            writer.state().ended = true;
            writer.0.1.notify_all();
        });
        lines
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that fails while it holds the lock is to be told of, not to end all others.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything so far.
    pub(crate) fn all(&self) -> String {
        self.state().lines.iter().map(|line| format!("    {line}\n")).collect()
    }

    /// How many lines so far.
    pub(crate) fn count(&self) -> usize {
        self.state().lines.len()
    }

    /// The first line from number `from` on that has all the words, in whatever case; waits for it.
    pub(crate) fn expect_from(&self, from: usize, words: &[&str]) -> String {
        let start = Instant::now();
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.iter().skip(from).find(|line| has(line, words)) {
                return line.clone();
            }
            let left = DEADLINE.saturating_sub(start.elapsed());
            let over = state.ended || left.is_zero();
            let said = state.lines.join("\n    ");
            assert!(!over, "no line with {words:?} (ended: {}):\n    {said}", state.ended);
            state = self.0.1.wait_timeout(state, left).expect("no reader panics").0;
        }
    }

    /// The first line that has all the words; waits for it.
    pub(crate) fn expect(&self, words: &[&str]) -> String {
        self.expect_from(0, words)
    }

    /// Whether such a line was seen.
    pub(crate) fn seen(&self, words: &[&str]) -> bool {
        self.state().lines.iter().any(|line| has(line, words))
    }
}

fn has(line: &str, words: &[&str]) -> bool {
    let line = line.to_lowercase();
    words.iter().all(|word| line.contains(&word.to_lowercase()))
}
