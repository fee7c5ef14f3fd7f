//! systemd's unit files, read without systemd: `find` tells which files a unit is made of, `lex` reads their lines, `name`
//! fills specifiers, `values`, `words` and `address` read what stands behind the `=`, `socket` and `service` make plain data of
//! it, `judge` says what becomes of the rest. `door` gathers the units that were asked for, `plan` puts them together.
//! Receives words and bytes, hands on sockets, services, [`Remark`]s and problems; it opens nothing itself.

pub mod address;
mod bits;
pub mod condition;
mod directories;
mod door;
mod environment;
pub mod find;
pub mod judge;
pub mod keys;
mod kill;
pub mod lex;
mod limits;
#[cfg(test)]
mod memory;
pub mod name;
mod plan;
mod process;
mod relations;
pub mod service;
pub mod socket;
mod statuses;
mod stdio;
pub mod values;
pub mod words;

pub use door::{Machine, Request};
pub use plan::{Read, read};

use crate::plan::Origin;
use std::fmt;

/// Something in a unit that is not taken as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Remark {
    /// Where.
    pub origin: Origin,
    /// Something that was asked for is not had; else it is only worth a note.
    pub warning: bool,
    /// What, and what is done instead.
    pub message: String,
}

impl Remark {
    /// Nothing is lost.
    pub fn note(origin: Origin, message: impl Into<String>) -> Remark {
        Remark { origin, warning: false, message: message.into() }
    }

    /// What was asked for is not had.
    pub fn warn(origin: Origin, message: impl Into<String>) -> Remark {
        Remark { origin, warning: true, message: message.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

#[cfg(test)]
#[path = "mutation_tests.rs"]
mod tests;
