//! The values of single settings, as systemd reads them: booleans, spans, sizes, modes, numbers.

use crate::plan::{Nanos, SECOND};

/// A span of time: so long, or without end.
pub type Span = Option<Nanos>;

/// Takes a value that could be read; another one leaves what stood before.
pub(super) fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// `yes`, `on` and so on, in any case.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err(format!("'{text}' is no boolean (yes or no)")),
    }
}

/// Units of time, the longest words first.
const TIMES: [(&str, f64); 32] = [
    ("seconds", 1e9),
    ("second", 1e9),
    ("minutes", 60e9),
    ("minute", 60e9),
    ("months", 2_629_800e9),
    ("month", 2_629_800e9),
    ("weeks", 604_800e9),
    ("years", 31_557_600e9),
    ("hours", 3600e9),
    ("hour", 3600e9),
    ("days", 86_400e9),
    ("week", 604_800e9),
    ("year", 31_557_600e9),
    ("msec", 1e6),
    ("usec", 1e3),
    ("nsec", 1.0),
    ("sec", 1e9),
    ("min", 60e9),
    ("day", 86_400e9),
    ("hr", 3600e9),
    ("ms", 1e6),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ns", 1.0),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
    ("d", 86_400e9),
    ("w", 604_800e9),
    ("M", 2_629_800e9),
    ("y", 31_557_600e9),
];

/// `90`, `1min 30s`, `2.5h`, `infinity`; a bare number is seconds.
pub fn span(text: &str) -> Result<Span, String> {
    let wrong = || format!("'{text}' is no span of time (such as 90, 1min 30s or infinity)");
    let mut rest = text.trim();
    if rest == "infinity" {
        return Ok(None);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = rest[end..].trim_start();
        let unit = TIMES.iter().find(|(word, _)| {
            let after = rest.strip_prefix(word).map(|after| after.chars().next());
            after.is_some_and(|next| next.is_none_or(|c| c.is_ascii_digit() || c.is_whitespace()))
        });
        let factor = match unit {
            Some((word, factor)) => {
                rest = rest[word.len()..].trim_start();
                *factor
            }
            None if rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()) => SECOND as f64,
            None => return Err(wrong()),
        };
        total += number * factor;
    }
    if total < u64::MAX as f64 / 2.0 { Ok(Some(total as Nanos)) } else { Ok(None) }
}

/// `8M`, `1.5K`: bytes, with powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no size (such as 8M)");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| wrong())?;
    let power = match text[digits..].trim() {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return Err(wrong()),
    };
    let bytes = number * 1024_f64.powi(power);
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// `0660`.
pub fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("'{text}' is no octal mode"))
}

/// A whole number; `0x` and a leading 0 as in C.
pub fn integer(text: &str) -> Result<i64, String> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let parsed = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    let fits = digits.starts_with(|c: char| c.is_ascii_digit());
    parsed.ok().filter(|_| fits).map(|number| sign * number).ok_or_else(|| format!("'{text}' is no whole number"))
}

/// One that is not negative and fits.
pub fn count(text: &str) -> Result<u32, String> {
    let number = integer(text)?;
    u32::try_from(number).map_err(|_| format!("{text} is not a number from 0 to {}", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_numbers_and_modes() {
        for (text, value) in [("YES", true), ("t", true), ("1", true), ("Off", false), ("n", false)] {
            assert_eq!(boolean(text), Ok(value));
        }
        assert!(boolean("maybe").is_err() && boolean("").is_err());
        assert_eq!((integer("0x50"), integer("010"), integer("-3"), integer("0")), (Ok(80), Ok(8), Ok(-3), Ok(0)));
        assert!(integer("").is_err() && integer("+1").is_err() && integer("08").is_err() && integer("--1").is_err());
        assert!(count("-1").is_err() && count("4294967296").is_err());
        assert_eq!(mode("0660"), Ok(0o660));
        assert!(mode("0999").is_err() && mode("").is_err() && mode("17777").is_err());
    }

    #[test]
    fn spans_and_sizes() {
        for (text, ms) in [
            ("90", 90_000.0),
            ("700ms", 700.0),
            ("1min 30s", 90_000.0),
            ("1min30s", 90_000.0),
            ("2.5h", 9_000_000.0),
            ("1 week", 604_800_000.0),
            ("1M", 2_629_800_000.0),
            ("5 10", 15_000.0),
            ("3us", 0.003),
        ] {
            assert_eq!(span(text), Ok(Some((ms * 1e6) as Nanos)), "{text}");
        }
        assert_eq!(span("infinity"), Ok(None));
        for bad in ["", "s", "1x", "-1", "1..2", "1 s s", "5 infinity"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        assert_eq!((size("1.5K"), size("8M"), size("12")), (Ok(1536), Ok(8 << 20), Ok(12)));
        assert!(size("K").is_err() && size("1X").is_err() && size("9999E").is_err());
    }
}
