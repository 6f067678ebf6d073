//! Values as text: what `${x}` becomes inside a string.
//!
//! As in `to_str` of `dvc/parsing/interpolate.py`, DVC 3.67: bools as `true` and `false`, maps as arguments of a command,
//! everything else as Python's `str()`.

use std::collections::HashSet;
use std::fmt::Write as _;

use thiserror::Error;

use crate::dvc::config::{BoolStyle, ListStyle, ParsingConfig};
use crate::dvc::python_text;
use crate::dvc::value::{Map, Value};

/// A map that cannot become arguments.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ArgumentsError {
    #[error("`{key}` is a list with a list or map inside")]
    Nested { key: String },
    #[error("two entries have the name `{key}`")]
    Duplicate { key: String },
}

/// Appends a value that is no map.
pub(crate) fn push(text: &mut String, value: &Value) {
    match value {
        Value::Str(string) => text.push_str(string),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        other => text.push_str(&python_text::str_of(other)),
    }
}

/// Turns a map into arguments: `--key value`, nested keys joined with `.`.
pub(super) fn arguments(map: &Map, config: ParsingConfig) -> Result<String, ArgumentsError> {
    let mut text = String::new();
    let mut seen = HashSet::new();
    push_arguments(&mut text, map, "", config, &mut seen)?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

fn push_arguments(
    text: &mut String,
    map: &Map,
    prefix: &str,
    config: ParsingConfig,
    seen: &mut HashSet<String>,
) -> Result<(), ArgumentsError> {
    for (name, value) in map {
        let key = format!("{prefix}{}", name.as_str().unwrap_or_default());
        if let Value::Map(inner) = value {
            push_arguments(text, inner, &format!("{key}."), config, seen)?;
            continue;
        }
        if !seen.insert(key.clone()) {
            return Err(ArgumentsError::Duplicate { key });
        }
        match value {
            Value::Bool(true) => write_to(text, format_args!("--{key} ")),
            Value::Bool(false) => match config.bool {
                BoolStyle::BooleanOptional => write_to(text, format_args!("--no-{key} ")),
                BoolStyle::StoreTrue => {}
            },
            Value::Str(string) => write_to(text, format_args!("--{key} {} ", python_text::quote(string))),
            Value::List(items) => {
                let items = items.iter().map(|item| list_item(item, &key)).collect::<Result<Vec<_>, _>>()?;
                push_list(text, &key, &items, config.list);
            }
            Value::Bytes(bytes) => {
                let items: Vec<String> = bytes.iter().map(u8::to_string).collect();
                push_list(text, &key, &items, config.list);
            }
            other => write_to(text, format_args!("--{key} {} ", python_text::str_of(other))),
        }
    }
    Ok(())
}

fn list_item(item: &Value, key: &str) -> Result<String, ArgumentsError> {
    match item {
        Value::Str(string) => Ok(python_text::quote(string)),
        Value::List(_) | Value::Tuple(_) | Value::Set(_) | Value::Map(_) | Value::Bytes(_) => {
            Err(ArgumentsError::Nested { key: key.to_owned() })
        }
        other => Ok(python_text::str_of(other)),
    }
}

fn push_list(text: &mut String, key: &str, items: &[String], style: ListStyle) {
    for (position, item) in items.iter().enumerate() {
        if position == 0 || style == ListStyle::Append {
            write_to(text, format_args!("--{key} {item} "));
        } else {
            write_to(text, format_args!("{item} "));
        }
    }
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes every text");
}
