//! What a front door says of words that it does not take as they stand.

use crate::plan::Origin;
use std::fmt;

/// Something that is not taken as it stands.
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
