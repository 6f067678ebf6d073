//! Keys of DVC's run cache (`dvc/stage/cache.py`, DVC 3.67).
//!
//! The key of a run is the SHA-256 of its lock entry as JSON, with the outs reduced to their paths. Every member called
//! `size` or `nfiles` is left out, at any depth, so a param of that name does not count.
//!
//! ```text
//! {"cmd": "cp -r in out", "deps": [{"hash": "md5", "md5": "f089….dir", "path": "in"}], "outs": ["out"]}
//! ```

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::dvc::hash::push_json_string;
use crate::dvc::python_text::float_repr;
use crate::dvc::value::{Map, StrKey, Value};

/// Returns the key of an entry; `None` where JSON cannot express it, which makes DVC fail.
pub(super) fn key(cmd: &Value, deps: Vec<Value>, params: Map, mut outs: Vec<&str>) -> Option<String> {
    outs.sort_unstable();
    let outs = outs.into_iter().map(Value::str).collect();
    let mut entry: Map = [(Value::str("cmd"), cmd.clone())].into_iter().collect();
    if !deps.is_empty() {
        entry.insert(Value::str("deps"), Value::List(deps));
    }
    if !params.is_empty() {
        entry.insert(Value::str("params"), Value::Map(Box::new(params)));
    }
    entry.insert(Value::str("outs"), Value::List(outs));
    digest(&Value::Map(Box::new(entry)))
}

/// Returns the key and the value of a run by its whole entry; `None` where JSON cannot express it.
pub(crate) fn names(entry: &Map) -> Option<(String, String)> {
    let path = |item: &Value| item.get("path").cloned().unwrap_or(Value::Null);
    let outs = entry.get(&StrKey("outs")).and_then(Value::as_list).unwrap_or_default().iter().map(path).collect();
    let mut key = entry.clone();
    key.insert(Value::str("outs"), Value::List(outs));
    Some((digest(&Value::Map(Box::new(key)))?, digest(&Value::Map(Box::new(entry.clone())))?))
}

/// Returns the SHA-256 of the JSON of a value.
fn digest(value: &Value) -> Option<String> {
    let mut text = String::new();
    push_json(&mut text, value)?;
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    Some(digest.iter().fold(String::with_capacity(64), |mut key, byte| {
        write!(key, "{byte:02x}").expect("a String takes every text");
        key
    }))
}

/// Writes a value as Python's `json.dumps(…, sort_keys=True)`, without what does not count in keys.
pub(super) fn push_json(text: &mut String, value: &Value) -> Option<()> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => write!(text, "{number}").expect("a String takes every text"),
        Value::BigInt(digits) => text.push_str(digits),
        Value::Float(number) => push_float(text, *number),
        Value::Str(string) => push_json_string(text, string),
        Value::List(items) | Value::Tuple(items) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                text.push_str(if position > 0 { ", " } else { "" });
                push_json(text, item)?;
            }
            text.push(']');
        }
        Value::Map(map) => push_map(text, map)?,
        Value::Bytes(_) | Value::Date(_) | Value::Set(_) => return None,
    }
    Some(())
}

fn push_float(text: &mut String, number: f64) {
    if number.is_nan() {
        text.push_str("NaN");
    } else if number.is_infinite() {
        text.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        text.push_str(&float_repr(number));
    }
}

/// Keys of one kind are sorted, strings by code point, numbers by value; Python cannot sort a mix.
fn push_map(text: &mut String, map: &Map) -> Option<()> {
    let counts = |key: &Value| !matches!(key.as_str(), Some("size" | "nfiles"));
    let mut entries: Vec<(&Value, &Value)> = map.iter().filter(|(key, _)| counts(key)).collect();
    if entries.iter().all(|(key, _)| key.as_str().is_some()) {
        entries.sort_by(|(a, _), (b, _)| a.as_str().cmp(&b.as_str()));
    } else if entries.len() > 1 {
        let numbers: Option<Vec<f64>> = entries.iter().map(|(key, _)| number(key)).collect();
        let mut numbered: Vec<_> = numbers?.into_iter().zip(entries).collect();
        numbered.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        entries = numbered.into_iter().map(|(_, entry)| entry).collect();
    }
    text.push('{');
    for (position, (key, value)) in entries.into_iter().enumerate() {
        text.push_str(if position > 0 { ", " } else { "" });
        match key {
            Value::Str(key) => push_json_string(text, key),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_) => {
                text.push('"');
                push_json(text, key)?;
                text.push('"');
            }
            _ => return None,
        }
        text.push_str(": ");
        push_json(text, value)?;
    }
    text.push('}');
    Some(())
}

#[expect(clippy::cast_precision_loss, reason = "only the order counts, and keys are small")]
fn number(key: &Value) -> Option<f64> {
    match key {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Int(number) => Some(*number as f64),
        Value::BigInt(digits) => digits.parse().ok(),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(Box::new(entries.iter().map(|(key, value)| (Value::str(*key), value.clone())).collect()))
    }

    #[test]
    fn the_key_is_dvcs() {
        let dep = map(&[
            ("path", Value::str("in")),
            ("hash", Value::str("md5")),
            ("md5", Value::str("f089ced0d9d3356a15c911725b18a03b.dir")),
        ]);
        let key = key(&Value::str("cp -r in out"), vec![dep], Map::new(), vec!["out"]);
        assert_eq!(key.as_deref(), Some("a084361d90c43187ef414271e5ed0939b6993663c61cf236bd4e4ac5874a76d5"));
    }

    #[track_caller]
    fn check(value: &Value, expected: Option<&str>) {
        let mut text = String::new();
        let done = push_json(&mut text, value);
        assert_eq!(done.map(|()| text.as_str()), expected);
    }

    #[test]
    fn values_are_written_as_python_does() {
        let inner = map(&[("size", Value::Int(1)), ("b", Value::Float(1e16)), ("a", Value::Null)]);
        check(&Value::List(vec![inner, Value::Bool(true)]), Some("[{\"a\": null, \"b\": 1e+16}, true]"));
        let keys = [(Value::Int(10), Value::str("\u{e9}")), (Value::Int(9), Value::Float(f64::NAN))];
        check(&Value::Map(Box::new(keys.into_iter().collect())), Some("{\"9\": NaN, \"10\": \"\\u00e9\"}"));
        let mixed = [(Value::Int(1), Value::Null), (Value::str("a"), Value::Null)];
        check(&Value::Map(Box::new(mixed.into_iter().collect())), None);
        check(&Value::Date("2020-01-01".into()), None);
    }
}
