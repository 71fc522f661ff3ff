//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::Date;

/// The time in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The time in RFC 3339: `2026-11-30T12:00:00Z`.
pub fn rfc3339() -> String {
    let now = Timestamp::new(i64::try_from(now()).unwrap_or(0), 0);
    now.map_or_else(|_| String::new(), |now| now.to_string())
}

/// The day in UTC: `YYYY-MM-DD`.
pub fn today() -> String {
    rfc3339().chars().take(10).collect()
}

/// Whether a text is a day of the calendar, as [`today`] writes it.
pub fn is_day(text: &str) -> bool {
    text.parse::<Date>().is_ok_and(|day| day.to_string() == text)
}
