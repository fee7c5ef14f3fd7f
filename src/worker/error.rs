//! What was missing, said so that the reader can put it right.

use super::Which;
use std::{fmt, io};

/// Why a socket could not be taken. It stays where it is, so that another call may take it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No launcher passed sockets to this process; why it looks so.
    NotLaunched(String),
    /// Sockets were passed, but not this one.
    NoSuchSocket {
        /// `named 'web'` or `number 3`.
        which: String,
        /// What there is instead.
        passed: String,
    },
    /// It was taken before.
    Taken(String),
    /// It is of another kind.
    WrongKind {
        /// `'web'` or `number 3`.
        which: String,
        /// What was asked for.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The system did not tell what it is.
    System(String, io::Error),
}

impl Error {
    /// Whether no launcher passed sockets at all: the case for a socket of the program's own.
    pub fn is_not_launched(&self) -> bool {
        matches!(self, Error::NotLaunched(_))
    }

    /// The error for a socket that is not among those of these names.
    pub(super) fn missing(which: Which<'_>, names: Vec<Option<String>>) -> Error {
        let were = |n: usize| if n == 1 { "1 was passed".to_owned() } else { format!("{n} were passed") };
        let passed = match (which, names.len()) {
            (_, 0) => "none was passed".to_owned(),
            (Which::Position(_), n) => format!("{}, counted from 0", were(n)),
            (Which::Name(_), n) if names.iter().all(Option::is_none) => {
                format!("{}, without a name (take it by position)", were(n))
            }
            (Which::Name(_), _) => {
                let names: Vec<&str> = names.iter().map(|name| name.as_deref().unwrap_or_default()).collect();
                format!("LISTEN_FDNAMES has \"{}\"", names.join(":"))
            }
        };
        let which = match which {
            Which::Name(_) => format!("named {which}"),
            Which::Position(_) => which.to_string(),
        };
        Error::NoSuchSocket { which, passed }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotLaunched(why) => write!(f, "not started by a launcher: {why}"),
            Error::NoSuchSocket { which, passed } => write!(f, "no socket {which}: {passed}"),
            Error::Taken(which) => write!(f, "socket {which} was taken already"),
            Error::WrongKind { which, wanted, found } => write!(f, "socket {which} is {found}, not {wanted}"),
            Error::System(which, error) => write!(f, "cannot examine socket {which}: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System(_, error) => Some(error),
            _ => None,
        }
    }
}
