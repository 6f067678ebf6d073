//! The clock.

use std::path::Path;

use jiff::{Timestamp, Unit};

/// Now, in RFC 3339 with milliseconds, UTC.
pub(crate) fn now() -> String {
    let now = Timestamp::now();
    format!("{:.3}", now.round(Unit::Millisecond).unwrap_or(now))
}

/// When a file was made, as [`now`] writes it; when it last changed where the file system does not know, else now.
pub(crate) fn made(path: &Path) -> String {
    let times = path.metadata().and_then(|metadata| metadata.created().or_else(|_| metadata.modified()));
    let time = times.ok().and_then(|time| Timestamp::try_from(time).ok());
    time.map_or_else(now, |time| format!("{:.3}", time.round(Unit::Millisecond).unwrap_or(time)))
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
