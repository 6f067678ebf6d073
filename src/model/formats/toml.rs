//! TOML, with dates and times in the form of Python's `isoformat()`.

use std::fmt::Write as _;

use ::toml::de::{DeArray, DeTable, DeValue};
use ::toml::value::{Date, Datetime, Offset, Time};

use super::SyntaxError;
use crate::model::value::{Map, Value, integer};

pub(super) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        SyntaxError::new(offset, error.message().to_lowercase().trim_end_matches('.'))
    })?;
    self::table(table.get_ref())
}

fn table(table: &DeTable<'_>) -> Result<Value, SyntaxError> {
    let mut map = Map::with_capacity(table.len());
    for (key, item) in table {
        map.insert(Value::str(key.get_ref().as_ref()), value(item.get_ref(), item.span().start)?);
    }
    Ok(Value::Map(Box::new(map)))
}

fn array(array: &DeArray<'_>) -> Result<Value, SyntaxError> {
    let items: Result<_, _> = array.iter().map(|item| value(item.get_ref(), item.span().start)).collect();
    Ok(Value::List(items?))
}

fn value(value: &DeValue<'_>, offset: usize) -> Result<Value, SyntaxError> {
    let error = |message| SyntaxError::new(offset, message);
    match value {
        DeValue::String(text) => Ok(Value::str(text.as_ref())),
        DeValue::Integer(number) => {
            let text = number.as_str();
            let digits = text.trim_start_matches(['+', '-']);
            integer(text.starts_with('-'), digits, number.radix())
                .ok_or_else(|| error("an integer with too many digits"))
        }
        DeValue::Float(number) => number.as_str().parse().map(Value::Float).map_err(|_| error("expected a number")),
        DeValue::Boolean(flag) => Ok(Value::Bool(*flag)),
        DeValue::Datetime(moment) => {
            if moment.date.is_some_and(|date| date.year == 0) {
                return Err(error("there is no year 0"));
            }
            Ok(Value::Date(iso_format(moment)))
        }
        DeValue::Array(items) => array(items),
        DeValue::Table(entries) => table(entries),
    }
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
