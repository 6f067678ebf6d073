//! TOML, with dates and times in the form of Python's `isoformat()`.
//!
//! The parser knows TOML 1.1, so it accepts line breaks in inline tables, which DVC's does not.

use std::fmt::Write as _;

use ::toml::de::{DeArray, DeTable, DeValue};
use ::toml::value::{Date, Datetime, Offset, Time};

use super::SyntaxError;
use crate::dvc::value::{Map, Value, integer};

pub(super) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        SyntaxError::new(offset, error.message().to_lowercase().trim_end_matches('.'))
    })?;
    self::table(table.get_ref()).map(|(map, _)| map)
}

/// Returns the map and where its first key stands.
///
/// The parser moves a table that `[t.u]` began to the later `[t]`; Python leaves it where it was first named.
fn table(table: &DeTable<'_>) -> Result<(Value, usize), SyntaxError> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, item) in table {
        let (value, first) = value(item.get_ref(), item.span().start)?;
        entries.push((first.min(key.span().start), Value::str(key.get_ref().as_ref()), value));
    }
    entries.sort_by_key(|(first, _, _)| *first);
    let first = entries.first().map_or(usize::MAX, |(first, _, _)| *first);
    let map: Map = entries.into_iter().map(|(_, key, value)| (key, value)).collect();
    Ok((Value::Map(Box::new(map)), first))
}

fn array(array: &DeArray<'_>) -> Result<(Value, usize), SyntaxError> {
    let mut items = Vec::with_capacity(array.len());
    let mut first = usize::MAX;
    for item in array {
        let (item, offset) = value(item.get_ref(), item.span().start)?;
        items.push(item);
        first = first.min(offset);
    }
    Ok((Value::List(items), first))
}

/// Returns the value and where the first thing in it stands.
fn value(value: &DeValue<'_>, offset: usize) -> Result<(Value, usize), SyntaxError> {
    let error = |message| SyntaxError::new(offset, message);
    let scalar = match value {
        DeValue::Array(items) => return array(items),
        DeValue::Table(entries) => return table(entries),
        DeValue::String(text) => Value::str(text.as_ref()),
        DeValue::Integer(number) => {
            let text = number.as_str();
            let digits = text.trim_start_matches(['+', '-']);
            let number = integer(text.starts_with('-'), digits, number.radix());
            number.ok_or_else(|| error("an integer with too many digits"))?
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().map_err(|_| error("expected a number"))?),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(moment) if moment.date.is_some_and(|date| date.year == 0) => {
            return Err(error("there is no year 0"));
        }
        DeValue::Datetime(moment) => Value::Date(iso_format(moment)),
    };
    Ok((scalar, offset))
}

fn iso_format(moment: &Datetime) -> String {
    let date = moment.date.map(|Date { year, month, day }| format!("{year:04}-{month:02}-{day:02}"));
    let time = moment.time.map(|time| iso_time(&time, moment.offset));
    match (date, time) {
        (Some(date), Some(time)) => format!("{date}T{time}"),
        (date, time) => date.or(time).unwrap_or_default(),
    }
}

fn iso_time(time: &Time, offset: Option<Offset>) -> String {
    let mut text = format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second.unwrap_or(0));
    let micros = time.nanosecond.unwrap_or(0) / 1000;
    if micros > 0 {
        write!(text, ".{micros:06}").expect("writing to a string does not fail");
    }
    let minutes = match offset {
        None => return text,
        Some(Offset::Z) => 0,
        Some(Offset::Custom { minutes }) => minutes,
    };
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
    write!(text, "{sign}{hours:02}:{minutes:02}").expect("writing to a string does not fail");
    text
}
