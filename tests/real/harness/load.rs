//! Clients that ask all the time while something is done to who answers, and count every error.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What became of the questions.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) answers: usize,
    pub(crate) errors: Vec<String>,
}

impl Tally {
    /// No error at all, and more answers than there were clients.
    pub(crate) fn without_loss(&self, what: &str) {
        let (lost, first) = (self.errors.len(), self.errors.first());
        assert_eq!(lost, 0, "{what}: {} answers, and {lost} errors, the first {first:?}", self.answers);
        assert!(self.answers > 2 * CLIENTS, "{what}: hardly any load, {} answers", self.answers);
    }
}

const CLIENTS: usize = 8;

/// Says that it is over, also if the test panics: the clients are waited for.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each client does `enter` once, then `ask` again and again, until `act` is done and each had one more answer.
pub(crate) fn while_asked<T>(
    enter: impl Fn() + Sync,
    ask: impl Fn() -> io::Result<String> + Sync,
    act: impl FnOnce() -> T,
) -> (T, Tally) {
    let (over, answers, errors) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let client = || {
        enter();
        let mut last = false;
        while !last {
            last = over.load(Ordering::Relaxed);
            match ask() {
                Ok(_) => drop(answers.fetch_add(1, Ordering::Relaxed)),
                Err(why) => errors.lock().expect("no client panics").push(why.to_string()),
            }
        }
    };
    let done = std::thread::scope(|scope| {
        let stop = Over(&over);
        (0..CLIENTS).for_each(|_| drop(scope.spawn(client)));
        // Not before there is load.
        while answers.load(Ordering::Relaxed) < CLIENTS && errors.lock().expect("no client panics").is_empty() {
            std::thread::yield_now();
        }
        let done = act();
        drop(stop);
        done
    });
    (done, Tally { answers: answers.into_inner(), errors: errors.into_inner().expect("no client panics") })
}
