//! Durations as people write them: `90`, `90s`, `1h30m`, `2h`. A number alone counts seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A time limit of at least a second, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub Duration);

/// How long something is waited for, in whole seconds; it may be not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub Duration);

/// Why a text is not a duration, or none that can be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration such as `90s`, `15m`, `2h` or `1h30m`")]
pub(crate) struct DurationError(String);

impl Limit {
    pub(crate) fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

impl FromStr for Limit {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let seconds = seconds_of(text).filter(|seconds| *seconds > 0);
        Ok(Limit(Duration::from_secs(seconds.ok_or_else(|| DurationError(text.to_owned()))?)))
    }
}

impl Wait {
    pub(crate) fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

impl FromStr for Wait {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        Ok(Wait(Duration::from_secs(seconds_of(text).ok_or_else(|| DurationError(text.to_owned()))?)))
    }
}

fn seconds_of(text: &str) -> Option<u64> {
    match text.trim().parse::<u64>() {
        Ok(seconds) => Some(seconds),
        // Days and longer are left out there, since not all of them have 24 hours.
        Err(_) => text.parse::<jiff::SignedDuration>().ok().and_then(|span| u64::try_from(span.as_secs()).ok()),
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds() == 0 { f.write_str("0s") } else { Limit(self.0).fmt(f) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.seconds() / 3600, self.seconds() / 60 % 60, self.seconds() % 60);
        for (amount, unit) in [(hours, 'h'), (minutes, 'm'), (seconds, 's')] {
            if amount > 0 {
                write!(f, "{amount}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: Option<u64>) {
        assert_eq!(text.parse().ok().map(Limit::seconds), seconds, "{text}");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        check("90", Some(90));
        check("90s", Some(90));
        check("15m", Some(900));
        check("1h30m", Some(5400));
        check("1h 30m", Some(5400));
        check("48h", Some(172_800));
        for wrong in ["", "0", "0s", "-1h", "soon", "2 moons", "1.5"] {
            check(wrong, None);
        }
    }

    #[test]
    fn one_may_wait_not_at_all() {
        let wait = |text: &str| text.parse::<Wait>().ok().map(|wait| (wait.seconds(), wait.to_string()));
        assert_eq!(wait("0"), Some((0, "0s".to_owned())));
        assert_eq!(wait("2m"), Some((120, "2m".to_owned())));
        assert_eq!(wait("-1s"), None);
    }

    #[test]
    fn what_is_shown_reads_the_same() {
        for text in ["1s", "15m", "1h30m", "2h", "1h1s"] {
            assert_eq!(text.parse::<Limit>().expect("a duration").to_string(), text);
        }
    }
}
