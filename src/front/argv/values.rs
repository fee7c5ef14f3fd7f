//! The values of single options, read when clap meets them: what is wrong here is a usage error (exit 2).

use crate::plan::{AckMode, Nanos, Number, SECOND, Signal};
use std::net::SocketAddr;

/// The most workers of one service.
const NUMBER_MAX: u32 = 100_000;
/// The longest span: about 30 years.
const SECONDS_MAX: f64 = 1e9;

/// A span in seconds, fractions allowed.
pub(super) fn seconds(text: &str) -> Result<Nanos, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=SECONDS_MAX).contains(&value) => Ok((value * SECOND as f64) as Nanos),
        _ => Err("not a number of seconds".into()),
    }
}

pub(super) fn number(text: &str) -> Result<Number, String> {
    if text == "auto" {
        return Ok(Number::Auto);
    }
    match text.parse() {
        Ok(number) if number <= NUMBER_MAX => Ok(Number::Fixed(number)),
        Ok(_) => Err(format!("too many workers (at most {NUMBER_MAX})")),
        Err(_) => Err("not a number of workers (a whole number, or auto)".into()),
    }
}

pub(super) fn ack_mode(text: &str) -> Result<AckMode, String> {
    match text {
        "auto" => Ok(AckMode::Auto),
        "manual" => Ok(AckMode::Manual),
        "notify" => Ok(AckMode::Notify),
        "accept" => Ok(AckMode::Accept),
        _ => {
            seconds(text).map(AckMode::After).map_err(|_| "not a mode (auto, SECONDS, accept, manual or notify)".into())
        }
    }
}

pub(super) fn signal(text: &str) -> Result<Signal, String> {
    text.parse()
}

/// `FROM:TO`, two signals; TO may be 0.
pub(super) fn rewrite(text: &str) -> Result<(Signal, Option<Signal>), String> {
    let (from, to) = text.split_once(':').ok_or("not FROM:TO, such as TERM:QUIT")?;
    let to = if to == "0" { None } else { Some(to.parse()?) };
    Ok((from.parse()?, to))
}

/// `FROM=TO`, two exit codes; `FROM` alone is made 0, as tini's -e has it.
pub(super) fn exit_code(text: &str) -> Result<(u8, u8), String> {
    let (from, to) = text.split_once('=').unwrap_or((text, "0"));
    let code = |text: &str| text.parse().map_err(|_| format!("'{text}' is not an exit code from 0 to 255"));
    Ok((code(from)?, code(to)?))
}

/// `PORT`, `:PORT` or `IP:PORT`.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    let anywhere = port.map(|port| SocketAddr::from(([0, 0, 0, 0], port)));
    anywhere.or_else(|_| text.parse()).map_err(|_| "not PORT or IP:PORT".into())
}

pub(super) fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("not an octal mode such as 022".into()),
    }
}

/// `LEVEL`, or einhorn's `MASTER:WORKERS:COMMAND`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Nice {
    /// The first.
    pub(super) first: i32,
    /// The second.
    pub(super) workers: Option<i32>,
    /// What einhorn runs to set them.
    pub(super) command: Option<String>,
}

pub(super) fn nice(text: &str) -> Result<Nice, String> {
    let level = |text: &str| match text.parse() {
        Ok(level) if (-20..=19).contains(&level) => Ok(level),
        _ => Err("not a priority from -20 to 19".to_string()),
    };
    let mut parts = text.splitn(3, ':');
    let first = level(parts.next().unwrap_or_default())?;
    let workers = parts.next().map(level).transpose()?;
    Ok(Nice { first, workers, command: parts.next().map(str::to_string) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_numbers() {
        assert_eq!(seconds("1.5"), Ok(1_500_000_000));
        assert_eq!(seconds("0"), Ok(0));
        for bad in ["", "-1", "NaN", "inf", "1s", "1e99"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(number("auto"), Ok(Number::Auto));
        assert_eq!(number("0"), Ok(Number::Fixed(0)));
        assert!(number("-1").is_err() && number("abc").is_err() && number("4000000").is_err());
        assert_eq!(ack_mode("0.5"), Ok(AckMode::After(SECOND / 2)));
        assert_eq!(ack_mode("manual"), Ok(AckMode::Manual));
        assert_eq!(ack_mode("accept"), Ok(AckMode::Accept));
        assert!(ack_mode("soon").is_err());
        assert_eq!(octal("022"), Ok(0o22));
        assert!(octal("9").is_err() && octal("77777").is_err());
        assert_eq!(nice("-5"), Ok(Nice { first: -5, workers: None, command: None }));
        let all = Nice { first: 1, workers: Some(2), command: Some("renice -n".into()) };
        assert_eq!(nice("1:2:renice -n"), Ok(all));
        assert!(nice("20").is_err() && nice("1:x").is_err());
    }
}
