//! Where a thing came from, and what is wrong with it: the two halves of every message about a plan.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where something was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Origin {
    /// Made by prebind itself, a default.
    #[default]
    Default,
    /// The n-th word of the command line, counted from 1 after the program's name.
    Argument(usize),
    /// A line of a file, counted from 1.
    File {
        /// The file's name as it was given.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment, such as LISTEN_FDS.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Argument(n) => write!(f, "argument {n}"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
        }
    }
}

/// One thing that is wrong with a plan. All of them are listed before prebind gives up (exit 100).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the wrong thing was asked for.
    pub origin: Origin,
    /// What is wrong, naming the thing.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Problem {
    /// A problem without a remedy.
    pub fn new(origin: Origin, message: impl Into<String>) -> Problem {
        Problem { origin, message: message.into(), remedy: None }
    }

    /// The same with what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Problem {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

/// The candidate that is spelled most like `word`, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
