//! `Limit*=SOFT[:HARD]`: numbers, sizes, spans and levels of getrlimit(2).

use super::values::{size, span};
use crate::plan::{Limit, Resource, SECOND};

/// How the value of a limit is written.
#[derive(Clone, Copy)]
enum Form {
    Number,
    Bytes,
    Seconds,
    Microseconds,
    Level,
}

const KEYS: [(&str, Resource, Form); 16] = [
    ("LimitCPU", Resource::Cpu, Form::Seconds),
    ("LimitFSIZE", Resource::Fsize, Form::Bytes),
    ("LimitDATA", Resource::Data, Form::Bytes),
    ("LimitSTACK", Resource::Stack, Form::Bytes),
    ("LimitCORE", Resource::Core, Form::Bytes),
    ("LimitRSS", Resource::Rss, Form::Bytes),
    ("LimitNOFILE", Resource::Nofile, Form::Number),
    ("LimitAS", Resource::As, Form::Bytes),
    ("LimitNPROC", Resource::Nproc, Form::Number),
    ("LimitMEMLOCK", Resource::Memlock, Form::Bytes),
    ("LimitLOCKS", Resource::Locks, Form::Number),
    ("LimitSIGPENDING", Resource::Sigpending, Form::Number),
    ("LimitMSGQUEUE", Resource::Msgqueue, Form::Bytes),
    ("LimitNICE", Resource::Nice, Form::Level),
    ("LimitRTPRIO", Resource::Rtprio, Form::Number),
    ("LimitRTTIME", Resource::Rttime, Form::Microseconds),
];

/// `None`: the key is no limit. A limit that is given again replaces the first.
pub(super) fn take(limits: &mut Vec<Limit>, key: &str, value: &str) -> Option<Result<(), String>> {
    let (_, resource, form) = KEYS.iter().find(|(known, _, _)| *known == key)?;
    if value.is_empty() {
        limits.retain(|limit| limit.resource != *resource);
        return Some(Ok(()));
    }
    Some(read(*resource, *form, value).map(|limit| {
        limits.retain(|other| other.resource != *resource);
        limits.push(limit);
    }))
}

fn read(resource: Resource, form: Form, value: &str) -> Result<Limit, String> {
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let (soft, hard) = (one(form, soft.trim())?, one(form, hard.trim())?);
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        return Err(format!("'{value}': the soft limit is above the hard one"));
    }
    Ok(Limit { resource, soft, hard })
}

/// `None`: infinity.
fn one(form: Form, text: &str) -> Result<Option<u64>, String> {
    if text == "infinity" {
        return Ok(None);
    }
    match form {
        Form::Number => text.parse().map(Some).map_err(|_| format!("'{text}' is no number")),
        Form::Bytes => size(text).map(Some),
        Form::Seconds => Ok(span(text)?.map(|span| span.div_ceil(SECOND))),
        Form::Microseconds if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(Some).map_err(|_| format!("'{text}' is no number of microseconds"))
        }
        Form::Microseconds => Ok(span(text)?.map(|span| span.div_ceil(1000))),
        Form::Level => level(text).map(Some),
    }
}

/// `-5` and `+5` are levels of nice(2), a bare number the limit itself (20 less the level).
fn level(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is neither a level from -20 to +19 nor a number from 1 to 40");
    if text.starts_with(['+', '-']) {
        let level: i64 = text.parse().map_err(|_| wrong())?;
        return if (-20..=19).contains(&level) { Ok(20_u64.saturating_add_signed(-level)) } else { Err(wrong()) };
    }
    text.parse().ok().filter(|number| *number <= 40).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        for (key, value, soft, hard) in [
            ("LimitNOFILE", "1024:524288", Some(1024), Some(524_288)),
            ("LimitNOFILE", "infinity", None, None),
            ("LimitCORE", "0:infinity", Some(0), None),
            ("LimitSTACK", "8M", Some(8 << 20), Some(8 << 20)),
            ("LimitCPU", "1min 500ms", Some(61), Some(61)),
            ("LimitRTTIME", "5", Some(5), Some(5)),
            ("LimitRTTIME", "1ms", Some(1000), Some(1000)),
            ("LimitNICE", "-5", Some(25), Some(25)),
            ("LimitNICE", "+5:30", Some(15), Some(30)),
        ] {
            let mut limits = Vec::new();
            assert_eq!(take(&mut limits, key, value), Some(Ok(())), "{key}={value}");
            assert_eq!((limits[0].soft, limits[0].hard), (soft, hard), "{key}={value}");
        }
    }

    #[test]
    fn the_last_one_counts_and_a_bad_one_does_not() {
        let mut limits = Vec::new();
        for (value, good) in [("7", true), ("9:8", false), ("1K", false), ("-1", false), ("8", true), ("x:y", false)] {
            assert_eq!(take(&mut limits, "LimitNPROC", value).unwrap().is_ok(), good, "{value}");
        }
        assert_eq!((limits.len(), limits[0].soft), (1, Some(8)));
        take(&mut limits, "LimitNPROC", "").unwrap().unwrap();
        assert!(limits.is_empty() && take(&mut limits, "LimitX", "1").is_none());
        assert!(level("41").is_err() && level("+20").is_err() && level("").is_err());
    }
}
