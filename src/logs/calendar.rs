//! When a period ends, and what its file is called. Days and weeks are the calendar's, whatever the clocks are set to in
//! between.

use crate::plan::Unit;
use jiff::civil::Date;
use jiff::{SignedDuration, Span, Timestamp, ZonedDateTime};

/// The first moment after the period that `from` is in.
pub(super) fn end_of_period(from: &ZonedDateTime, unit: Unit, interval: u32) -> ZonedDateTime {
    let count = i64::from(interval);
    let days = match unit {
        Unit::Second | Unit::Minute | Unit::Hour | Unit::Day => {
            let seconds = seconds(unit).saturating_mul(count);
            return from.checked_add(SignedDuration::from_secs(seconds)).unwrap_or_else(|_| never(from));
        }
        Unit::Midnight => count,
        Unit::Week(day) => {
            let today = i64::from(from.date().weekday().to_monday_zero_offset());
            (i64::from(day) - today).rem_euclid(7) + 1 + (count - 1) * 7
        }
    };
    start_of(from, days).unwrap_or_else(|| never(from))
}

/// What stands behind the name of the file of the period that ended then.
pub(super) fn suffix(end: &ZonedDateTime, unit: Unit, interval: u32) -> String {
    let count = i64::from(interval);
    let start = match unit {
        Unit::Second | Unit::Minute | Unit::Hour | Unit::Day => {
            end.checked_sub(SignedDuration::from_secs(seconds(unit).saturating_mul(count))).ok()
        }
        Unit::Midnight => start_of(end, -count),
        Unit::Week(_) => start_of(end, -7 * count),
    };
    start.as_ref().unwrap_or(end).strftime(format(unit)).to_string()
}

/// How long every suffix is.
pub(super) fn suffix_length(unit: Unit) -> usize {
    match unit {
        Unit::Second => 14,
        Unit::Minute => 12,
        Unit::Hour => 10,
        Unit::Day | Unit::Midnight | Unit::Week(_) => 8,
    }
}

fn format(unit: Unit) -> &'static str {
    match unit {
        Unit::Second => "%Y%m%d%H%M%S",
        Unit::Minute => "%Y%m%d%H%M",
        Unit::Hour => "%Y%m%d%H",
        Unit::Day | Unit::Midnight | Unit::Week(_) => "%Y%m%d",
    }
}

fn seconds(unit: Unit) -> i64 {
    match unit {
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 3600,
        Unit::Day | Unit::Midnight | Unit::Week(_) => 86_400,
    }
}

/// The beginning of the day so many days away.
fn start_of(from: &ZonedDateTime, days: i64) -> Option<ZonedDateTime> {
    let date: Date = from.date().checked_add(Span::new().try_days(days).ok()?).ok()?;
    from.time_zone().to_zoned_datetime(date.at(0, 0, 0, 0)).ok()
}

fn never(from: &ZonedDateTime) -> ZonedDateTime {
    Timestamp::MAX.to_zoned_datetime(from.time_zone().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Through the end of summer time: 2026-10-25 has 25 hours there.
    #[test]
    fn periods_end_as_the_calendar_says() {
        let table = [
            // from, unit, interval, its end, the suffix
            ("2026-11-28T11:42:34+01:00", Unit::Second, 5, "2026-11-28T11:42:39+01:00", "20261128114234"),
            ("2026-11-28T11:42:34+01:00", Unit::Minute, 1, "2026-11-28T11:43:34+01:00", "202611281142"),
            ("2026-10-25T01:30:00+02:00", Unit::Hour, 2, "2026-10-25T02:30:00+01:00", "2026102501"),
            ("2026-10-24T12:00:00+02:00", Unit::Day, 1, "2026-10-25T11:00:00+01:00", "20261024"),
            ("2026-10-25T12:00:00+01:00", Unit::Midnight, 1, "2026-10-26T00:00:00+01:00", "20261025"),
            ("2026-10-24T00:00:00+02:00", Unit::Midnight, 3, "2026-10-27T00:00:00+01:00", "20261024"),
            // A Saturday. W5 ends with it, W0 with Monday.
            ("2026-11-28T11:42:34+01:00", Unit::Week(5), 1, "2026-11-29T00:00:00+01:00", "20261122"),
            ("2026-11-28T11:42:34+01:00", Unit::Week(0), 1, "2026-12-01T00:00:00+01:00", "20261124"),
            ("2026-11-28T11:42:34+01:00", Unit::Week(4), 2, "2026-12-12T00:00:00+01:00", "20261128"),
        ];
        for (from, unit, interval, end, name) in table {
            let zone = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
            let from = from.parse::<Timestamp>().expect("a time").to_zoned_datetime(zone);
            let ended = end_of_period(&from, unit, interval);
            assert_eq!(ended.timestamp(), end.parse::<Timestamp>().expect("a time"), "{from} {unit:?} {interval}");
            let given = suffix(&ended, unit, interval);
            assert_eq!((given.as_str(), given.len()), (name, suffix_length(unit)), "{from} {unit:?} {interval}");
        }
        let far = Timestamp::MAX.to_zoned_datetime(jiff::tz::TimeZone::UTC);
        assert_eq!(end_of_period(&far, Unit::Week(0), u32::MAX).timestamp(), Timestamp::MAX, "no end, no panic");
    }
}
