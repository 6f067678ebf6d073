//! The values of scalars, made from their text by the rules of Python's `int()`, `float()` and `base64`.

use super::Version;
use super::tag::Tag;
use super::timestamp::Timestamp;
use crate::dvc::value::{Value, integer};

/// Returns the value that a text has under a scalar type; `Err` says what it is not.
pub(super) fn value(tag: &Tag, text: &str, version: Version) -> Result<Value, &'static str> {
    match tag {
        Tag::Null => Ok(Value::Null),
        Tag::Bool => bool(text).ok_or("not a bool"),
        Tag::Int => int(text, version).ok_or("not an integer, or one with too many digits"),
        Tag::Float => float(text, version).ok_or("not a number"),
        Tag::Binary => binary(text).map(Value::Bytes).ok_or("not base64"),
        Tag::Timestamp => {
            let timestamp = Timestamp::parse(text).and_then(|timestamp| timestamp.iso_format());
            timestamp.map(Value::Date).ok_or("not a date that exists")
        }
        Tag::Str => Ok(Value::str(text)),
        Tag::Value => Err("a plain `=`, which has no meaning here; put it in quotes"),
        Tag::Merge => Err("a plain `<<`, which only merges as a key; put it in quotes"),
        Tag::Unknown(_) => Err("of an unknown tag"),
        Tag::Omap | Tag::Pairs | Tag::Seq => Err("not a list"),
        Tag::Set | Tag::Map => Err("not a map"),
    }
}

fn bool(text: &str) -> Option<Value> {
    match text.to_lowercase().as_str() {
        "yes" | "y" | "true" | "on" => Some(Value::Bool(true)),
        "no" | "n" | "false" | "off" => Some(Value::Bool(false)),
        _ => None,
    }
}

/// Splits a sign off and drops underscores.
fn sign_and_rest(text: &str) -> (bool, String) {
    let text = text.replace('_', "");
    match text.strip_prefix('-') {
        Some(rest) => (true, rest.to_owned()),
        None => (false, text.strip_prefix('+').unwrap_or(&text).to_owned()),
    }
}

fn int(text: &str, version: Version) -> Option<Value> {
    // Nearly every integer is a few decimal digits.
    if let (Ok(number), false) = (text.parse(), version == Version::V1_1) {
        return Some(Value::Int(number));
    }
    let (negative, text) = sign_and_rest(text);
    if let Some(digits) = text.strip_prefix("0b") {
        python_int(negative, digits, 2)
    } else if let Some(digits) = text.strip_prefix("0x") {
        python_int(negative, digits, 16)
    } else if let Some(digits) = text.strip_prefix("0o") {
        python_int(negative, digits, 8)
    } else if version == Version::V1_1 && text.len() > 1 && text.starts_with('0') {
        python_int(negative, &text, 8)
    } else if version == Version::V1_1 && text.contains(':') {
        let mut total = 0_i128;
        for part in text.split(':') {
            total = total.checked_mul(60)?.checked_add(part.parse().ok()?)?;
        }
        Some(from_i128(if negative { -total } else { total }))
    } else {
        python_int(negative, &text, 10)
    }
}

fn from_i128(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::BigInt(number.to_string()), Value::Int)
}

/// Python's `int(text, radix)`, which allows blanks around, another sign and the radix's own prefix.
fn python_int(negative: bool, text: &str, radix: u32) -> Option<Value> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (!negative, rest),
        None => (negative, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match radix {
        2 => ["0b", "0B"],
        8 => ["0o", "0O"],
        16 => ["0x", "0X"],
        _ => ["", ""],
    };
    let digits = prefix.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    integer(negative, digits, radix)
}

fn float(text: &str, version: Version) -> Option<Value> {
    let (negative, text) = sign_and_rest(text);
    let text = text.to_lowercase();
    let number = match text.as_str() {
        ".inf" => f64::INFINITY,
        ".nan" => return Some(Value::Float(f64::NAN)),
        _ if version == Version::V1_1 && text.contains(':') => {
            let (mut total, mut base) = (0.0, 1.0);
            for part in text.split(':').rev() {
                total += part.trim().parse::<f64>().ok()? * base;
                base *= 60.0;
            }
            total
        }
        _ => text.trim().parse().ok()?,
    };
    Some(Value::Float(if negative { -number } else { number }))
}

/// Python's `base64.decodebytes`: other characters are skipped, and a padding that completes a group ends the data.
fn binary(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits = 0_u32;
    let mut in_group = 0;
    let mut padding = 0;
    for byte in text.bytes() {
        if byte == b'=' {
            padding += 1;
            if in_group >= 2 && in_group + padding >= 4 {
                return Some(bytes);
            }
            continue;
        }
        let Some(sextet) = sextet(byte) else { continue };
        padding = 0;
        bits = (bits << 6) | sextet;
        in_group = (in_group + 1) % 4;
        match in_group {
            1 => {}
            2 => bytes.push((bits >> 4).to_le_bytes()[0]),
            3 => bytes.push((bits >> 2).to_le_bytes()[0]),
            _ => bytes.push(bits.to_le_bytes()[0]),
        }
    }
    (in_group == 0).then_some(bytes)
}

fn sextet(byte: u8) -> Option<u32> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    alphabet.iter().position(|known| *known == byte).and_then(|at| u32::try_from(at).ok())
}
