//! Which params changed (`dvc/dependency/param.py`, DVC 3.67, with dpath 2.2).

use super::{FactError, ParamChange};
use crate::dvc::python_text::{fnmatch, str_of};
use crate::dvc::value::{StrKey, Value};

/// A key that cannot be looked up; DVC crashes there.
#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error("`{file}` is not a map, so it cannot be tracked as a whole")]
    NoMap { file: String },
    #[error("`{key}` matches several params of `{file}`")]
    Ambiguous { file: String, key: String },
    #[error("`**` may stand only once in `{key}`")]
    TwoDoubleStars { key: String },
    #[error("`{file}` has an empty key, so that DVC can look nothing up in it")]
    EmptyKey { file: String },
}

/// A params file that was read.
#[derive(Debug)]
pub(crate) struct ParamsFile {
    values: Value,
    has_empty_key: bool,
    /// Two places in it may hold one list or map: an alias needs a star.
    pub may_have_aliases: bool,
}

impl ParamsFile {
    pub(crate) fn new(values: Value, may_have_aliases: bool) -> Self {
        let has_empty_key = has_empty_key(&values);
        ParamsFile { values, has_empty_key, may_have_aliases }
    }
}

/// The values that a stage takes from a params file now, in the order of its keys; what is not there is left out.
///
/// `keys` may be empty: the whole file.
pub(crate) fn read<'a>(
    file: &str,
    keys: &'a [String],
    params: &'a ParamsFile,
) -> Result<Vec<(&'a str, &'a Value)>, FactError> {
    if keys.is_empty() {
        let map = params.values.as_map().ok_or_else(|| FactError::new(LookupError::NoMap { file: file.into() }))?;
        return Ok(map.iter().filter_map(|(key, value)| Some((key.as_str()?, value))).collect());
    }
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        found.extend(get(file, key, params)?.map(|value| (key.as_str(), value)));
    }
    Ok(found)
}

/// Compares the values of now with those of the lock, key by key.
pub(super) fn compare<'a>(
    keys: &'a [String],
    now: &[(&'a str, &Value)],
    recorded: &'a [(String, Value)],
) -> Vec<(String, ParamChange)> {
    let tracked: Vec<&str> = if keys.is_empty() {
        let gone = recorded.iter().map(|(key, _)| key.as_str()).filter(|key| now.iter().all(|(known, _)| known != key));
        now.iter().map(|(key, _)| *key).chain(gone).collect()
    } else {
        keys.iter().map(String::as_str).collect()
    };
    let change = |key: &&str| {
        let now = now.iter().find(|(known, _)| known == key).map(|(_, value)| *value);
        let recorded = recorded.iter().find(|(known, _)| known == key).map(|(_, value)| value);
        match (now, recorded) {
            (None, recorded) => Some(ParamChange::Deleted { recorded: recorded.cloned() }),
            (Some(now), None) => Some(ParamChange::New { now: now.clone() }),
            (Some(now), Some(recorded)) if is_same(now, recorded) => None,
            (Some(now), Some(recorded)) => Some(ParamChange::Modified { recorded: recorded.clone(), now: now.clone() }),
        }
    };
    tracked.iter().filter_map(|key| Some(((*key).to_owned(), change(key)?))).collect()
}

/// Python's `==`, except that a tuple as the whole value equals a list; within it, tuples and lists differ.
fn is_same(now: &Value, recorded: &Value) -> bool {
    let inner = |now: &[Value], recorded: &[Value]| now.iter().zip(recorded).all(|(a, b)| same_sequences(a, b));
    now == recorded
        && match (now, recorded) {
            (Value::Tuple(now), Value::List(recorded)) => inner(now, recorded),
            _ => same_sequences(now, recorded),
        }
}

/// Whether two equal values have tuples and lists in the same places.
fn same_sequences(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            a.iter().zip(b).all(|(a, b)| same_sequences(a, b))
        }
        (Value::List(_), Value::Tuple(_)) | (Value::Tuple(_), Value::List(_)) => false,
        (Value::Map(a), Value::Map(b)) => {
            a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same_sequences(value, other)))
        }
        _ => true,
    }
}

/// Looks up a dotted key whose segments are patterns, as `dpath.get` does.
fn get<'a>(file: &str, key: &str, params: &'a ParamsFile) -> Result<Option<&'a Value>, FactError> {
    if key.is_empty() || key == "/" {
        return Ok(Some(&params.values));
    }
    let pattern: Vec<&str> = key.trim_start_matches('.').split('.').collect();
    if pattern.iter().filter(|segment| **segment == "**").count() > 1 {
        return Err(FactError::new(LookupError::TwoDoubleStars { key: key.into() }));
    }
    if params.has_empty_key {
        return Err(FactError::new(LookupError::EmptyKey { file: file.into() }));
    }
    let mut found = Vec::new();
    search(&params.values, &pattern, true, &mut found);
    match found[..] {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        _ => Err(FactError::new(LookupError::Ambiguous { file: file.into(), key: key.into() })),
    }
}

/// Collects the values below `value` whose path matches; a value itself counts unless it is the root.
fn search<'a>(value: &'a Value, pattern: &[&str], is_root: bool, found: &mut Vec<&'a Value>) {
    let Some((segment, rest)) = pattern.split_first() else {
        if !is_root {
            found.push(value);
        }
        return;
    };
    let double_star = *segment == "**";
    if double_star {
        search(value, rest, is_root, found);
    }
    let next = if double_star { pattern } else { rest };
    let pattern = if double_star { "*" } else { segment };
    if !pattern.contains(['*', '?', '[']) {
        for value in children_named(value, pattern).into_iter().flatten() {
            search(value, next, false, found);
        }
        return;
    }
    match value {
        Value::Map(map) => {
            for (_, value) in map.iter().filter(|(key, _)| key_matches(key, pattern)) {
                search(value, next, false, found);
            }
        }
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => {
            for (_, value) in items.iter().enumerate().filter(|(index, _)| fnmatch(&index.to_string(), pattern)) {
                search(value, next, false, found);
            }
        }
        _ => {}
    }
}

/// The children that a segment without wildcards names: by text, and by number or truth value.
fn children_named<'a>(value: &'a Value, name: &str) -> [Option<&'a Value>; 2] {
    match value {
        Value::Map(map) => {
            let other = match (python_int(name), name) {
                (Some(number), _) => Value::Int(number),
                (None, "True") => Value::Bool(true),
                (None, "False") => Value::Bool(false),
                (None, _) => return [map.get(&StrKey(name)), None],
            };
            // Floats equal to it are no such keys.
            let other = map.get_key_value(&other).filter(|(key, _)| matches!(key, Value::Int(_) | Value::Bool(_)));
            [map.get(&StrKey(name)), other.map(|(_, value)| value)]
        }
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => {
            let index = python_int(name).and_then(|index| {
                let from_end = index.checked_neg().and_then(|back| usize::try_from(back).ok());
                usize::try_from(index).ok().or_else(|| items.len().checked_sub(from_end?))
            });
            [index.and_then(|index| items.get(index)), None]
        }
        _ => [None, None],
    }
}

/// Whether a key matches a pattern with wildcards.
fn key_matches(key: &Value, pattern: &str) -> bool {
    match key {
        Value::Str(text) => fnmatch(text, pattern),
        Value::Bool(_) | Value::Int(_) => fnmatch(&str_of(key), pattern),
        _ => false,
    }
}

/// What Python's `int()` takes for a decimal number.
fn python_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let well_formed = digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if well_formed { text.replace('_', "").parse().ok() } else { None }
}

fn has_empty_key(value: &Value) -> bool {
    match value {
        Value::Map(map) => map.iter().any(|(key, value)| key.as_str() == Some("") || has_empty_key(value)),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => items.iter().any(has_empty_key),
        _ => false,
    }
}
