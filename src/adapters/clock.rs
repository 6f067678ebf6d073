//! The clock.

use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Unit};

/// The time in an id of a run.
const ID_TIME: &str = "%Y%m%d-%H%M%S";

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

/// The time that a server says it is, in nanoseconds since 1970: `Fri, 27 Nov 2026 15:25:34 GMT`; `None` for what is no time.
#[cfg(feature = "store")]
pub(crate) fn of_http(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// An id for a run: the time to the second, and the part of the second that has passed as four hexadecimal digits, so ids
/// sort by time, also those of one second, and are DNS labels. It sorts after that of the last run even where the clock was
/// set back since.
pub(crate) fn run_id(last: Option<&str>) -> String {
    id_after(last, Timestamp::now())
}

fn id_after(last: Option<&str>, now: Timestamp) -> String {
    let id = id_at(now);
    let later = last.filter(|last| **last >= *id).and_then(time_of);
    later.and_then(|last| last.checked_add(SignedDuration::from_secs(1)).ok()).map_or(id, id_at)
}

fn id_at(now: Timestamp) -> String {
    let part = (u64::from(now.subsec_nanosecond().unsigned_abs()) << 16) / 1_000_000_000;
    format!("{}-{part:04x}", now.strftime(ID_TIME))
}

/// The second of an id.
fn time_of(id: &str) -> Option<Timestamp> {
    let (time, _) = id.rsplit_once('-')?;
    DateTime::strptime(ID_TIME, time).ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}

/// The seconds between two times of [`now`]; 0 where one is no time.
pub(crate) fn seconds_between(from: &str, to: &str) -> f64 {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    parse(from).zip(parse(to)).map_or(0.0, |(from, to)| to.duration_since(from).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "store")]
    #[test]
    fn servers_say_what_time_it_is() {
        assert_eq!(of_http("Thu, 01 Jan 1970 00:00:02 GMT"), Some(2_000_000_000));
        assert_eq!(of_http("now"), None);
    }

    #[test]
    fn ids_of_runs_sort_by_time_within_a_second_too() {
        let times = ["10:00:00.0004", "10:00:00.0104", "10:00:00.5", "10:00:00.999999999", "10:00:01"];
        let id = |time: &str| id_at(format!("2026-11-25T{time}Z").parse().expect("a time"));
        let ids: Vec<String> = times.into_iter().map(id).collect();
        assert!(ids.is_sorted() && ids[2] == "20261125-100000-8000" && ids[3] == "20261125-100000-ffff", "{ids:?}");
    }

    #[test]
    fn an_id_sorts_after_the_last_one_when_the_clock_was_set_back() {
        let now: Timestamp = "2026-11-25T10:00:00.5Z".parse().expect("a time");
        let id = |last: Option<&str>| id_after(last, now);
        assert_eq!(id(None), "20261125-100000-8000");
        assert_eq!(id(Some("20261125-095959-ffff")), "20261125-100000-8000");
        assert_eq!(id(Some("20261125-100000-8000")), "20261125-100001-0000");
        assert_eq!(id(Some("20261231-235959-ffff")), "20270101-000000-0000");
        assert_eq!(id(Some("renamed")), "20261125-100000-8000");
    }
}
