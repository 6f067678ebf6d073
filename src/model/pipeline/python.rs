//! Texts as Python writes them, as far as stages need it until `model::python_text` lands.

use super::ignore_pattern;
use crate::model::value::Value;

/// Quotes a word for a POSIX shell, as `shlex.quote`.
pub(super) fn quote(text: &str) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

/// The text of a value, as `str`.
pub(super) fn str_of(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::BigInt(text) | Value::Str(text) | Value::Date(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// Whether a name matches a shell pattern.
pub(super) fn fnmatch(name: &str, pattern: &str) -> bool {
    ignore_pattern::matches_name(pattern, name)
}
