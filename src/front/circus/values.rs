//! The values of single options.

use crate::plan::{Nanos, SECOND};

/// As Python's configuration parser has it.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!("'{text}' is neither yes nor no")),
    }
}

/// A whole number in the range of its type.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not a whole number in its range"))
}

/// Seconds, fractions allowed. Circus takes whole ones only in some places.
pub(super) fn seconds(text: &str) -> Result<Nanos, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e9).contains(&value) => Ok((value * SECOND as f64) as Nanos),
        _ => Err(format!("'{text}' is not a number of seconds")),
    }
}

/// A mask; octal, whatever Circus makes of the digits. Digits that cannot be octal are the decimal number that they are there.
pub(super) fn mask(text: &str) -> Result<u32, String> {
    let mask = u32::from_str_radix(text, 8).or_else(|_| text.parse());
    mask.ok().filter(|mask| *mask <= 0o777).ok_or_else(|| format!("'{text}' is not an octal mask such as 0117"))
}

/// Whether a value asks for nothing.
pub(super) fn is_off(text: &str) -> bool {
    boolean(text) == Ok(false) || matches!(text, "" | "-" | "0.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        assert_eq!((boolean("ON"), boolean("False"), boolean("1")), (Ok(true), Ok(false), Ok(true)));
        assert!(boolean("y").is_err() && boolean("").is_err());
        assert_eq!((number::<u16>("8080"), number::<i32>("-3")), (Ok(8080), Ok(-3)));
        assert!(number::<u16>("70000").is_err() && number::<u32>("-1").is_err() && number::<u32>("x").is_err());
        assert_eq!((seconds("1.5"), seconds("0")), (Ok(1_500_000_000), Ok(0)));
        assert!(seconds("-1").is_err() && seconds("nan").is_err() && seconds("1s").is_err());
        assert_eq!((mask("0117"), mask("117"), mask("8"), mask("0")), (Ok(0o117), Ok(0o117), Ok(8), Ok(0)));
        assert!(mask("1000").is_err() && mask("x").is_err() && mask("999").is_err());
        assert!(is_off("no") && is_off("") && is_off("0") && !is_off("yes") && !is_off("x"));
    }
}
