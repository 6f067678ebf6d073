//! Writes lock entries as DVC's YAML writer does (`ruamel.yaml`'s round-trip dumper: block style, width 80).
//!
//! A line is broken where that writer breaks it, blanks at its end included, and a text that it damages is damaged in
//! the same way: the bytes are DVC's, not better ones. Columns count characters, from 0.
//!
//! What has no place in an entry that is made here is refused: bytes, sets and tuples. Anchors are not written, since a
//! [`Value`] does not know which of its parts Python would hold as one object.

mod quoted;

use super::entry;
use crate::dvc::python_text::float_repr;
use crate::dvc::value::{Map, Value};
use crate::dvc::yaml;

/// Where lines are broken.
const WIDTH: usize = 80;
/// A key is written behind a `?` from this length on, with some characters more counted for its kind.
const LONG_KEY: usize = 128;
/// The column of stages' names in a lock file.
const NAMES: usize = 2;

/// A value that cannot be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of a kind that lock entries made here do not have")]
pub(crate) struct Unrenderable;

/// Renders the entry of a stage in a lock file: whole lines, the stage's name first.
pub(crate) fn render_entry(name: &str, entry: &Value) -> Result<String, Unrenderable> {
    let named: Map = [(Value::str(name), entry.clone())].into_iter().collect();
    let mut writer = Writer { text: " ".repeat(NAMES), column: NAMES };
    writer.map(&named, NAMES)?;
    writer.text.push('\n');
    Ok(writer.text)
}

/// Renders a file of the run cache: an entry without its name.
pub(crate) fn render_run(entry: &Value) -> Result<String, Unrenderable> {
    let mut writer = Writer { text: String::new(), column: 0 };
    writer.map(entry.as_map().ok_or(Unrenderable)?, 0)?;
    writer.text.push('\n');
    Ok(writer.text)
}

/// Whether DVC, reading the lines of an entry, would find what was written: not so where the writer damages a text.
pub(crate) fn reads_back(name: &str, lines: &str, entry: &Value) -> bool {
    entry::value(name, lines).is_ok_and(|read| is_identical(&read, entry))
}

/// Equal, and of the same kinds.
fn is_identical(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_identical(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| is_identical(a.0, b.0) && is_identical(a.1, b.1))
        }
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b) && a == b,
    }
}

/// A text that grows, and the column where it ends.
struct Writer {
    text: String,
    column: usize,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    /// Begins a line at a column.
    fn line(&mut self, column: usize) {
        self.text.push('\n');
        self.indent(column);
    }

    /// Fills a line that was just begun up to a column.
    fn indent(&mut self, column: usize) {
        self.text.extend(std::iter::repeat_n(' ', column));
        self.column = column;
    }

    /// Writes the entries of a map that is not empty; the first one where the text ends, at that column.
    fn map(&mut self, map: &Map, column: usize) -> Result<(), Unrenderable> {
        for (position, (key, value)) in map.iter().enumerate() {
            if position > 0 {
                self.line(column);
            }
            if is_simple(key) {
                self.scalar(key, column + 2, Place::SimpleKey)?;
                self.push(":");
                self.behind_key(value, column)?;
            } else {
                self.push("? ");
                self.scalar(key, column + 2, Place::Key)?;
                self.line(column);
                self.push(":");
                self.behind_colon(value, column)?;
            }
        }
        Ok(())
    }

    /// Writes the value of a key that stands on the same line.
    fn behind_key(&mut self, value: &Value, column: usize) -> Result<(), Unrenderable> {
        match value {
            Value::Null => {}
            Value::Map(map) if !map.is_empty() => {
                self.line(column + 2);
                self.map(map, column + 2)?;
            }
            Value::List(items) if !items.is_empty() => {
                self.line(column);
                self.list(items, column)?;
            }
            other => {
                self.push(" ");
                self.scalar(other, column + 2, Place::Value)?;
            }
        }
        Ok(())
    }

    /// Writes the value of a key that stands behind a `?` on the line before.
    fn behind_colon(&mut self, value: &Value, column: usize) -> Result<(), Unrenderable> {
        match value {
            Value::Null => {}
            other => {
                self.push(" ");
                self.nested(other, column + 2)?;
            }
        }
        Ok(())
    }

    /// Writes a list that is not empty; its first dash where the text ends, at that column.
    fn list(&mut self, items: &[Value], column: usize) -> Result<(), Unrenderable> {
        for (position, item) in items.iter().enumerate() {
            if position > 0 {
                self.line(column);
            }
            self.push("- ");
            self.nested(item, column + 2)?;
        }
        Ok(())
    }

    /// Writes a value that starts on the line of its dash or colon.
    fn nested(&mut self, value: &Value, column: usize) -> Result<(), Unrenderable> {
        match value {
            Value::Null => Ok(()),
            Value::Map(map) if !map.is_empty() => self.map(map, column),
            Value::List(items) if !items.is_empty() => self.list(items, column),
            other => self.scalar(other, column, Place::Value),
        }
    }

    /// Writes a scalar or an empty collection, with `column` for the lines that follow.
    fn scalar(&mut self, value: &Value, column: usize, place: Place) -> Result<(), Unrenderable> {
        match value {
            Value::Str(text) => match Style::of(text) {
                Style::Plain => self.plain(text, column, place),
                Style::Single => self.single_quoted(text, column, place),
                Style::Double => self.double_quoted(text, column, place),
            },
            Value::List(_) => self.push("[]"),
            Value::Map(_) => self.push("{}"),
            Value::Null => self.plain("null", column, place),
            Value::Bool(flag) => self.plain(if *flag { "true" } else { "false" }, column, place),
            Value::Int(number) => self.plain(&number.to_string(), column, place),
            Value::BigInt(digits) => self.plain(digits, column, place),
            Value::Float(number) => self.plain(&float(*number), column, place),
            Value::Date(text) => self.plain(&text.replacen('T', " ", 1), column, place),
            Value::Bytes(_) | Value::Tuple(_) | Value::Set(_) => return Err(Unrenderable),
        }
        Ok(())
    }

    /// Writes runs of blanks and of other characters; a blank before a broken line stays at the end of its line.
    fn plain(&mut self, text: &str, column: usize, place: Place) {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let is_blank = first == ' ';
            let length = rest.find(|c: char| (c == ' ') != is_blank).unwrap_or(rest.len());
            let (run, behind) = rest.split_at(length);
            rest = behind;
            if !is_blank {
                if self.column + run.chars().count() > WIDTH && self.column > column {
                    self.line(column);
                }
                self.push(run);
            } else if run.len() == 1 && self.column >= WIDTH && place != Place::SimpleKey {
                self.line(column);
            } else {
                self.push(run);
            }
        }
    }
}

/// Where a scalar stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A key on the line of its value.
    SimpleKey,
    /// A key behind a `?`.
    Key,
    Value,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
}

impl Style {
    fn of(text: &str) -> Style {
        if text.is_empty() {
            return Style::Single;
        }
        if is_plain(text) {
            return Style::Plain;
        }
        let has_break = text.contains(is_break);
        let mut pairs = text.chars().zip(text.chars().skip(1));
        let breaks_at_blank = has_break && pairs.any(|(a, b)| a == ' ' && is_break(b) || is_break(a) && b == ' ');
        let needs_escapes = text.contains(['\'', '\n']) || text.contains(is_odd) || breaks_at_blank;
        if needs_escapes { Style::Double } else { Style::Single }
    }
}

/// What ends a line in YAML 1.1.
fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What separates words, for the marks `:`, `#`, `-` and `?`.
fn is_white(c: char) -> bool {
    matches!(c, '\0' | ' ' | '\t' | '\r') || is_break(c)
}

/// What can only be written as an escape.
fn is_odd(c: char) -> bool {
    let is_written = matches!(c,
        '\n' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    !is_written || c == '\u{feff}'
}

/// Whether a text can stand without quotes.
fn is_plain(text: &str) -> bool {
    let marks = ['#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`'];
    if text.starts_with("---") || text.starts_with("...") || text.starts_with(' ') || text.ends_with(' ') {
        return false;
    }
    if text.starts_with(marks) || text.contains(|c| is_break(c) || is_odd(c)) || !yaml::is_plain_text(text) {
        return false;
    }
    let mut before = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let ends_word = characters.peek().is_none_or(|next| is_white(*next));
        let is_mark = match before {
            None => matches!(c, '?' | ':' | '-') && ends_word,
            Some(before) => c == ':' && ends_word || c == '#' && is_white(before),
        };
        if is_mark {
            return false;
        }
        before = Some(c);
    }
    true
}

/// Whether a key stands on the line of its value.
fn is_simple(key: &Value) -> bool {
    let (length, more) = match key {
        Value::Str(text) if text.contains(is_break) => return false,
        Value::Str(text) | Value::BigInt(text) | Value::Date(text) => (text.chars().count(), 5),
        Value::Int(number) => (number.to_string().len(), 5),
        Value::Float(number) => (float(*number).len(), 7),
        _ => (4, 6),
    };
    length + more < LONG_KEY
}

fn float(number: f64) -> String {
    if number.is_nan() {
        ".nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { ".inf" } else { "-.inf" }.to_owned()
    } else {
        float_repr(number)
    }
}

#[cfg(test)]
mod tests;
