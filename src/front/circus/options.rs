//! One section as its reader sees it: options by name, each read once, with what is in their values filled in.

use super::Said;
use super::lex::{Entry, Section};
use super::variables::Variables;
use crate::plan::{Origin, Problem};

/// A section that is being read.
pub(super) struct Options<'a> {
    pub(super) section: &'a Section,
    pub(super) variables: &'a Variables,
    pub(super) said: &'a mut Said,
}

impl<'a> Options<'a> {
    pub(super) fn new(section: &'a Section, variables: &'a Variables, said: &'a mut Said) -> Options<'a> {
        Options { section, variables, said }
    }

    /// As it stands.
    pub(super) fn entry(&mut self, key: &str) -> Option<&'a Entry> {
        #[cfg(test)]
        note_asked(key);
        self.section.get(key)
    }

    /// Those that begin so, each with what follows.
    pub(super) fn beginning(&mut self, start: &str) -> Vec<(&'a str, &'a Entry)> {
        #[cfg(test)]
        note_asked(&format!("{start}*"));
        let entries = self.section.entries.iter();
        entries.filter_map(|entry| Some((entry.key.strip_prefix(start)?, entry))).collect()
    }

    /// Its text, with the environment filled in.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let entry = self.entry(key)?;
        Some(self.filled(entry))
    }

    /// A text that asks for something.
    pub(super) fn some(&mut self, key: &str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// The same of an option that is at hand.
    pub(super) fn filled(&mut self, entry: &Entry) -> String {
        self.variables.fill_environment(&entry.value, &entry.origin, self.said)
    }

    /// Its value; one that cannot be read is a problem.
    pub(super) fn read<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let entry = self.entry(key)?;
        self.value(entry, parse)
    }

    /// The same of an option that is at hand.
    pub(super) fn value<T>(&mut self, entry: &Entry, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.filled(entry);
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.said.problem(&entry.origin, format!("{}: {why}", entry.key));
                None
            }
        }
    }

    /// Whether it says yes.
    pub(super) fn is(&mut self, key: &str, otherwise: bool) -> bool {
        self.read(key, super::values::boolean).unwrap_or(otherwise)
    }

    /// Where it stands, else where the section does.
    pub(super) fn origin(&self, key: &str) -> &'a Origin {
        self.section.get(key).map_or(&self.section.origin, |entry| &entry.origin)
    }

    pub(super) fn wrong(&mut self, key: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.said.problems.push(Problem::new(self.origin(key).clone(), message).remedy(remedy));
    }

    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.said.warn(self.origin(key), message);
    }

    pub(super) fn note(&mut self, key: &str, message: impl Into<String>) {
        self.said.note(self.origin(key), message);
    }
}

#[cfg(test)]
thread_local! {
    static ASKED: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(test)]
fn note_asked(key: &str) {
    ASKED.with_borrow_mut(|asked| asked.push(key.to_string()));
}

/// The options that readers ask for.
#[cfg(test)]
pub(super) fn asked_for(read: impl FnOnce()) -> Vec<String> {
    ASKED.take();
    read();
    ASKED.take()
}
