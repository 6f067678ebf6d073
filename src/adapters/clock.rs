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

/// An id for a run: the time to the second, and the part of the second that has passed as four hexadecimal digits, so ids
/// sort by time, also those of one second, and are DNS labels.
pub(crate) fn run_id() -> String {
    id_at(Timestamp::now())
}

fn id_at(now: Timestamp) -> String {
    let part = (u64::from(now.subsec_nanosecond().unsigned_abs()) << 16) / 1_000_000_000;
    format!("{}-{part:04x}", now.strftime("%Y%m%d-%H%M%S"))
}

/// The seconds between two times of [`now`]; 0 where one is no time.
pub(crate) fn seconds_between(from: &str, to: &str) -> f64 {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    parse(from).zip(parse(to)).map_or(0.0, |(from, to)| to.duration_since(from).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_runs_sort_by_time_within_a_second_too() {
        let times = ["10:00:00.0004", "10:00:00.0104", "10:00:00.5", "10:00:00.999999999", "10:00:01"];
        let id = |time: &str| id_at(format!("2026-11-25T{time}Z").parse().expect("a time"));
        let ids: Vec<String> = times.into_iter().map(id).collect();
        assert!(ids.is_sorted() && ids[2] == "20261125-100000-8000" && ids[3] == "20261125-100000-ffff", "{ids:?}");
    }
}
