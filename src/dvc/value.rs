//! Values as Python reads them from YAML, JSON, TOML and Python files.
//!
//! Equality and hashing follow Python's `==`: `1`, `1.0` and `true` are one value, NaN equals nothing, the order of a
//! map's entries does not count, that of a list does, and a tuple equals the list of its items (DVC compares so).

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use indexmap::{Equivalent, IndexMap};
use serde_json::Value as Json;

/// Digits that Python converts between text and integer (`sys.get_int_max_str_digits()`).
const MAX_INT_DIGITS: usize = 4300;

/// Entries in file order; keys compare as Python does.
pub(crate) type Map = IndexMap<Value, Value>;

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, in decimal without leading zeros or `+`.
    BigInt(String),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    /// A date `YYYY-MM-DD`, a datetime (contains `T`) or, from TOML, a time, in Python's `isoformat()`.
    Date(String),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Set(Vec<Value>),
    Map(Box<Map>),
}

/// Looks up a string key of a [`Map`] without allocating.
pub(crate) struct StrKey<'a>(pub &'a str);

impl Hash for StrKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_str(self.0, state);
    }
}

impl Equivalent<Value> for StrKey<'_> {
    fn equivalent(&self, key: &Value) -> bool {
        matches!(key, Value::Str(text) if text == self.0)
    }
}

fn hash_str<H: Hasher>(text: &str, state: &mut H) {
    state.write_u8(2);
    text.hash(state);
}

fn hash_big<H: Hasher>(digits: &str, state: &mut H) {
    state.write_u8(4);
    digits.hash(state);
}

impl Value {
    /// A string value.
    pub(crate) fn str(text: impl Into<String>) -> Self {
        Value::Str(text.into())
    }

    /// Returns whether Python takes the value for false: null, false, zero and whatever is empty.
    pub(crate) fn is_false(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(flag) => !flag,
            Value::Int(number) => *number == 0,
            Value::Float(number) => *number == 0.0,
            Value::BigInt(_) | Value::Date(_) => false,
            Value::Str(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::List(items) | Value::Tuple(items) | Value::Set(items) => items.is_empty(),
            Value::Map(map) => map.is_empty(),
        }
    }

    /// Returns whether Python can use the value as a key.
    pub(crate) fn is_hashable(&self) -> bool {
        match self {
            Value::List(_) | Value::Set(_) | Value::Map(_) => false,
            Value::Tuple(items) => items.iter().all(Value::is_hashable),
            _ => true,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// A scalar as it would be typed; `None` for null and whatever is no scalar.
    pub(crate) fn to_text(&self) -> Option<String> {
        match self {
            Value::Str(text) | Value::Date(text) | Value::BigInt(text) => Some(text.clone()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Int(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Null | Value::Bytes(_) | Value::List(_) | Value::Tuple(_) | Value::Set(_) | Value::Map(_) => None,
        }
    }

    /// The value as JSON; what JSON lacks becomes text, bytes null.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Value::Null | Value::Bytes(_) => Json::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Int(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::BigInt(text) | Value::Str(text) | Value::Date(text) => text.clone().into(),
            Value::List(items) | Value::Tuple(items) | Value::Set(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(entries) => {
                let entry = |(key, value): (&Value, &Value)| (key.to_text().unwrap_or_default(), value.to_json());
                entries.iter().map(entry).collect()
            }
        }
    }

    /// The value of a string key, where this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(&StrKey(key))
    }
}

/// Returns the integer of some digits, `None` if there are none, too many, or others than the radix has.
pub(crate) fn integer(negative: bool, digits: &str, radix: u32) -> Option<Value> {
    if digits.is_empty() || digits.len() > MAX_INT_DIGITS || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    match i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        Ok(number) => Some(Value::Int(number)),
        Err(_) => Some(Value::BigInt(format!("{sign}{}", to_decimal(digits, radix)))),
    }
}

/// Converts an integer that is not zero to decimal.
fn to_decimal(digits: &str, radix: u32) -> String {
    const LIMB: u64 = 1_000_000_000;
    if radix == 10 {
        return digits.trim_start_matches('0').to_owned();
    }
    let values: Vec<u64> = digits.chars().filter_map(|c| c.to_digit(radix)).map(u64::from).collect();
    let radix = u64::from(radix);
    let mut limbs = vec![0_u64]; // least significant first
    // Seven digits at a time are less than a limb in every radix up to 16.
    for chunk in values.chunks(7) {
        let (mut carry, factor) =
            chunk.iter().fold((0, 1), |(value, factor), digit| (value * radix + digit, factor * radix));
        for limb in &mut limbs {
            let value = *limb * factor + carry;
            *limb = value % LIMB;
            carry = value / LIMB;
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    let mut text = String::with_capacity(limbs.len() * 9);
    for limb in limbs.iter().rev() {
        write!(text, "{limb:09}").expect("writing to a string does not fail");
    }
    text.trim_start_matches('0').to_owned()
}

/// Returns the integer that a bool, int or whole float stands for, as far as `i64` reaches.
fn as_integer(value: &Value) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0; // 2^63
    match value {
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Int(number) => Some(*number),
        #[expect(clippy::cast_possible_truncation, reason = "checked by the guard")]
        Value::Float(number) if number.fract() == 0.0 && (-BOUND..BOUND).contains(number) => Some(*number as i64),
        _ => None,
    }
}

/// Returns the digits of a whole float beyond `i64`, all of them, as those of a [`Value::BigInt`].
fn big_digits(number: f64) -> Option<String> {
    (number.is_finite() && number.fract() == 0.0).then(|| format!("{number:.0}"))
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (as_integer(self), as_integer(other)) {
            return a == b;
        }
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::BigInt(a), Value::Float(b)) | (Value::Float(b), Value::BigInt(a)) => {
                big_digits(*b).is_some_and(|b| *a == b)
            }
            (Value::BigInt(a), Value::BigInt(b))
            | (Value::Str(a), Value::Str(b))
            | (Value::Date(a), Value::Date(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a) | Value::Tuple(a), Value::List(b) | Value::Tuple(b)) => a == b,
            (Value::Set(a), Value::Set(b)) => a.len() == b.len() && a.iter().all(|item| b.contains(item)),
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

/// NaN is not reflexive, as in Python; a NaN key can be stored but never found, which is what Python does too.
impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(number) = as_integer(self) {
            state.write_u8(1);
            number.hash(state);
            return;
        }
        match self {
            Value::Str(text) => hash_str(text, state),
            Value::Date(text) => {
                state.write_u8(3);
                text.hash(state);
            }
            Value::BigInt(digits) => hash_big(digits, state),
            Value::Float(number) => match big_digits(*number) {
                Some(digits) => hash_big(&digits, state),
                None => number.to_bits().hash(state),
            },
            Value::Bytes(bytes) => {
                state.write_u8(5);
                bytes.hash(state);
            }
            Value::List(items) | Value::Tuple(items) => {
                state.write_u8(6);
                items.hash(state);
            }
            Value::Null => state.write_u8(7),
            Value::Set(_) | Value::Map(_) => state.write_u8(8),
            Value::Bool(_) | Value::Int(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: Value, b: &Value, equal: bool) {
        assert_eq!(a == *b, equal, "{a:?} == {b:?}");
        let map: Map = [(a, Value::Null)].into_iter().collect();
        assert_eq!(map.contains_key(b), equal);
    }

    #[test]
    fn equality_is_pythons() {
        check(Value::Int(1), &Value::Float(1.0), true);
        check(Value::Bool(true), &Value::Int(1), true);
        check(Value::Bool(false), &Value::Float(0.0), true);
        check(Value::str("1"), &Value::Int(1), false);
        check(Value::Float(f64::NAN), &Value::Float(f64::NAN), false);
        check(Value::List(vec![Value::Int(1)]), &Value::Tuple(vec![Value::Bool(true)]), true);
        check(Value::BigInt("100000000000000000000".into()), &Value::Float(1e20), true);
        check(Value::BigInt("100000000000000000001".into()), &Value::Float(1e20), false);
        check(Value::Int(i64::MIN), &Value::Float(-9_223_372_036_854_775_808.0), true);
        check(Value::Int(i64::MAX), &Value::Float(9_223_372_036_854_775_808.0), false);
        check(Value::BigInt("9223372036854775808".into()), &Value::Float(9_223_372_036_854_775_808.0), true);
        check(Value::Float(0.5), &Value::Float(0.5), true);
        check(Value::Float(f64::INFINITY), &Value::Float(f64::INFINITY), true);
    }

    #[test]
    fn integers_have_any_size_up_to_pythons_limit() {
        #[track_caller]
        fn check(digits: &str, radix: u32, expected: Option<&str>) {
            let found = integer(true, digits, radix).map(|value| match value {
                Value::Int(number) => number.to_string(),
                Value::BigInt(digits) => digits,
                other => format!("{other:?}"),
            });
            assert_eq!(found.as_deref(), expected);
        }
        check("007", 10, Some("-7"));
        check("8000000000000000", 16, Some("-9223372036854775808"));
        check("000fffffffffffffffffff", 16, Some("-75557863725914323419135"));
        check("1000000000000000000000000000", 8, Some("-2417851639229258349412352"));
        check("00100000000000000000000", 10, Some("-100000000000000000000"));
        check(&"1".repeat(4300), 10, Some(&format!("-{}", "1".repeat(4300))));
        check(&"1".repeat(4301), 10, None);
        check("", 10, None);
        check("2", 2, None);
    }

    #[test]
    fn numbers_of_all_kinds_spread_over_the_buckets() {
        let hash = |value: &Value| {
            let mut state = std::hash::DefaultHasher::new();
            value.hash(&mut state);
            state.finish()
        };
        let floats = (0..1000_i32).map(|n| Value::Float(f64::from(n) + 0.5));
        let big = (0..1000).map(|n| Value::BigInt(format!("{n}00000000000000000000")));
        let hashes: std::collections::HashSet<u64> = floats.chain(big).map(|value| hash(&value)).collect();
        assert_eq!(hashes.len(), 2000);
    }

    #[test]
    fn a_string_key_is_found_without_allocating() {
        let map: Map = [(Value::str("a"), Value::Int(1))].into_iter().collect();
        assert_eq!(map.get(&StrKey("a")), Some(&Value::Int(1)));
        assert_eq!(map.get(&StrKey("b")), None);
    }
}
