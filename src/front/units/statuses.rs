//! Lists of exit codes and signals: SuccessExitStatus= and its siblings.

use super::words::split;
use crate::plan::{Signal, Statuses};

/// Numbers and names of signals, and the names of exit codes that sysexits.h and the C library have. Empty resets.
pub(super) fn statuses(list: &mut Statuses, value: &str) -> Result<(), String> {
    const NAMES: [(&str, u8); 17] = [
        ("SUCCESS", 0),
        ("FAILURE", 1),
        ("USAGE", 64),
        ("DATAERR", 65),
        ("NOINPUT", 66),
        ("NOUSER", 67),
        ("NOHOST", 68),
        ("UNAVAILABLE", 69),
        ("SOFTWARE", 70),
        ("OSERR", 71),
        ("OSFILE", 72),
        ("CANTCREAT", 73),
        ("IOERR", 74),
        ("TEMPFAIL", 75),
        ("PROTOCOL", 76),
        ("NOPERM", 77),
        ("CONFIG", 78),
    ];
    if value.is_empty() {
        *list = Statuses::default();
    }
    let mut wrong = Vec::new();
    for word in split(value)? {
        let named = NAMES.iter().find(|(name, _)| *name == word).map(|(_, code)| *code);
        match (word.parse::<u8>().ok().or(named), word.parse::<Signal>()) {
            (Some(code), _) => list.codes.push(code),
            (None, Ok(signal)) => list.signals.push(signal),
            (None, Err(_)) => wrong.push(word),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("'{}' is neither an exit code nor a signal", wrong.join(" "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_names_and_signals() {
        let mut list = Statuses::default();
        let error = statuses(&mut list, "3 TEMPFAIL SIGUSR1 KILL 256 what").unwrap_err();
        assert_eq!(error, "'256 what' is neither an exit code nor a signal");
        let signals: Vec<String> = list.signals.iter().map(ToString::to_string).collect();
        assert_eq!((list.codes.clone(), signals.join(" ").as_str()), (vec![3, 75], "USR1 KILL"));
        statuses(&mut list, "").unwrap();
        assert_eq!(list, Statuses::default());
    }
}
