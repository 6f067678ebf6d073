//! Writes JSON as YAML that every reader takes for the same thing.
//!
//! kubectl reads YAML 1.1, where `on`, `y` and `1_000` are no texts; so every text that is not plainly a word is
//! quoted, as JSON quotes it. `serde_yaml` leaves all three as they are, and a variable `MODE=on` would reach the cluster as
//! `true`, which it refuses.

use std::fmt::Write as _;

use serde_json::Value;

/// Words that YAML 1.1 reads as something else, in lower case.
const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Returns a value as block-style YAML, ended by a newline.
pub(super) fn write(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0);
    text
}

/// Writes a value as lines of its own.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                let _ = write!(out, "{:indent$}{}:", "", scalar(name));
                nested(out, field, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut lines = String::new();
                block(&mut lines, item, indent + 2);
                // The item's first line stands behind its dash.
                let _ = write!(out, "{:indent$}- {}", "", lines.trim_start_matches(' '));
            }
        }
        flat => {
            let _ = writeln!(out, "{:indent$}{}", "", inline(flat));
        }
    }
}

/// Writes the value of a field, behind its colon where it fits.
fn nested(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            block(out, value, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(out, value, indent);
        }
        flat => {
            let _ = writeln!(out, " {}", inline(flat));
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

fn scalar(text: &str) -> String {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    let reserved = RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if first && plain && !reserved { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_that_look_like_something_else_are_quoted() {
        let texts = [
            "on",
            "Y",
            "no",
            "1e3",
            "0x1f",
            "1_000",
            "012",
            "null",
            "~",
            "2026-11-22",
            "1:30",
            "a: b",
            "",
            "two\nlines",
            "plain-1.0/x",
        ];
        let value = json!({ "texts": texts, "on": { "empty": [{}, [], [[1, true, null], "a"]] } });
        let written = write(&value);
        insta::assert_snapshot!(written);
        assert_eq!(serde_yaml::from_str::<Value>(&written).expect("YAML"), value);
        let by_crate = ["on", "y", "1_000"].map(|text| serde_yaml::to_string(text).expect("written"));
        assert_eq!(by_crate, ["on\n", "y\n", "1_000\n"], "the crate quotes them now: let it write manifests");
    }
}
