//! systemd's unit files, read without systemd: `find` tells which files a unit is made of, `lex` reads their lines, `name`
//! fills specifiers, `values` and `words` read what stands behind the `=`. Receives bytes, hands on assignments and
//! [`Remark`]s; it opens nothing itself.

pub mod find;
pub mod lex;
pub mod name;
pub mod values;
pub mod words;

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
