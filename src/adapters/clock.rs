//! The clock.

use jiff::{Timestamp, Unit};

/// Now, in RFC 3339 with milliseconds, UTC.
pub(crate) fn now() -> String {
    let now = Timestamp::now();
    format!("{:.3}", now.round(Unit::Millisecond).unwrap_or(now))
}

/// Now, in nanoseconds since 1970.
pub(crate) fn nanoseconds() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// An id for a run: the time to the second and four hexadecimal digits, so ids sort by time and are DNS labels.
pub(crate) fn run_id() -> String {
    let now = Timestamp::now();
    let salt = now.subsec_nanosecond().unsigned_abs() ^ std::process::id();
    format!("{}-{:04x}", now.strftime("%Y%m%d-%H%M%S"), salt & 0xffff)
}

/// The seconds between two times of [`now`]; 0 where one is no time.
pub(crate) fn seconds_between(from: &str, to: &str) -> f64 {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    parse(from).zip(parse(to)).map_or(0.0, |(from, to)| to.duration_since(from).as_secs_f64())
}
