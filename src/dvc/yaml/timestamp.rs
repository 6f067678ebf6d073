//! Dates and times as YAML writes them, brought to the form of Python's `isoformat()`.

use std::fmt::Write as _;

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, ToSpan as _};

/// A text that has the form of a timestamp. Whether such a day exists is found by [`Timestamp::iso_format`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Timestamp<'a> {
    /// Year, month, day.
    date: (i16, i8, i8),
    pub time: Option<Time<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Time<'a> {
    hour: i8,
    minute: i8,
    second: i8,
    /// The digits behind the point.
    fraction: &'a str,
    /// Minutes east of Greenwich.
    offset: Option<i32>,
}

impl<'a> Timestamp<'a> {
    /// Reads `YYYY-M-D`, alone or with a time behind `T` or blanks.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut rest = Rest(text.strip_suffix('\n').unwrap_or(text));
        let year = rest.digits(4, 4)?;
        rest.literal("-")?;
        let month = rest.digits(1, 2)?;
        rest.literal("-")?;
        let day = rest.digits(1, 2)?;
        let date = (year, i8::try_from(month).ok()?, i8::try_from(day).ok()?);
        if rest.0.is_empty() {
            return Some(Timestamp { date, time: None });
        }
        rest.literal("T").or_else(|| rest.literal("t")).or_else(|| rest.blanks())?;
        let time = Time::parse(&mut rest)?;
        rest.0.is_empty().then_some(Timestamp { date, time: Some(time) })
    }

    /// Returns the text of Python's `isoformat()`; `None` if there is no such day, time or offset.
    pub(super) fn iso_format(&self) -> Option<String> {
        let (year, month, day) = self.date;
        let date = Date::new(year, month, day).ok().filter(|date| date.year() >= 1)?;
        let Some(time) = &self.time else { return Some(date.to_string()) };
        let midnight = DateTime::from_parts(date, jiff::civil::Time::midnight());
        if time.hour > 23 || time.minute > 59 || time.second > 59 {
            return None;
        }
        let micros = time.micros();
        let span = time.hour.hours().minutes(time.minute).seconds(time.second).microseconds(micros);
        let moment = midnight.checked_add(span).ok().filter(|moment| moment.year() <= 9999)?;
        let mut text = moment.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let micros = moment.subsec_nanosecond() / 1000;
        if micros > 0 {
            write!(text, ".{micros:06}").expect("writing to a string does not fail");
        }
        if let Some(minutes) = time.offset {
            if SignedDuration::from_mins(minutes.into()).abs() >= SignedDuration::from_hours(24) {
                return None;
            }
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
            write!(text, "{sign}{hours:02}:{minutes:02}").expect("writing to a string does not fail");
        }
        Some(text)
    }
}

impl<'a> Time<'a> {
    fn parse(rest: &mut Rest<'a>) -> Option<Self> {
        let hour = rest.digits(1, 2)?;
        rest.literal(":")?;
        let minute = rest.digits(2, 2)?;
        rest.literal(":")?;
        let second = rest.digits(2, 2)?;
        let fraction = if rest.literal(".").is_some() { rest.all_digits() } else { "" };
        let offset = if rest.0.is_empty() {
            None
        } else {
            rest.0 = rest.0.trim_start_matches([' ', '\t']);
            Some(Self::parse_offset(rest)?)
        };
        let small = |number| i8::try_from(number).ok();
        Some(Time { hour: small(hour)?, minute: small(minute)?, second: small(second)?, fraction, offset })
    }

    fn parse_offset(rest: &mut Rest<'a>) -> Option<i32> {
        if rest.literal("Z").is_some() {
            return Some(0);
        }
        let sign = if rest.literal("-").is_some() { -1 } else { rest.literal("+").map(|()| 1)? };
        let hours = rest.digits(1, 2)?;
        let minutes = if rest.literal(":").is_some() { rest.digits(2, 2)? } else { 0 };
        Some(sign * (i32::from(hours) * 60 + i32::from(minutes)))
    }

    /// The fraction in microseconds; the seventh digit rounds, so that it may come to a whole second.
    fn micros(&self) -> i64 {
        let digits = self.fraction.bytes().map(|digit| i64::from(digit - b'0'));
        let micros = digits.clone().chain(std::iter::repeat(0)).take(6).fold(0, |micros, digit| micros * 10 + digit);
        micros + i64::from(digits.clone().nth(6).is_some_and(|digit| digit > 4))
    }
}

/// What is left to read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn literal(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn blanks(&mut self) -> Option<()> {
        let rest = self.0.trim_start_matches([' ', '\t']);
        let found = rest.len() < self.0.len();
        self.0 = rest;
        found.then_some(())
    }

    fn all_digits(&mut self) -> &'a str {
        let rest = self.0.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        digits
    }

    /// Takes at least `min` and at most `max` digits.
    fn digits(&mut self, min: usize, max: usize) -> Option<i16> {
        let length = self.0.bytes().take(max).take_while(u8::is_ascii_digit).count();
        if length < min {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        digits.parse().ok()
    }
}
