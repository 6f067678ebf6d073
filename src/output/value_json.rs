//! A value of Python's as JSON.

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use crate::dvc::value::{Map, Value};

/// A value of Python's as JSON; what JSON cannot say is tagged: `{"$float": "nan"}`, `{"$date": …}`, `{"$bytes": …}`,
/// `{"$set": […]}`, and `{"$map": [[key, value], …]}` where a key is no text.
pub(super) struct ValueJson<'v>(pub &'v Value);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::BigInt(digits) => {
                RawValue::from_string(digits.clone()).map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
            Value::Float(number) if number.is_finite() => serializer.serialize_f64(*number),
            Value::Float(number) if number.is_nan() => tagged(serializer, "$float", &"nan"),
            Value::Float(number) if *number > 0.0 => tagged(serializer, "$float", &"inf"),
            Value::Float(_) => tagged(serializer, "$float", &"-inf"),
            Value::Str(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => tagged(serializer, "$bytes", bytes),
            Value::Date(date) => tagged(serializer, "$date", date),
            Value::List(items) | Value::Tuple(items) => list(serializer, items),
            Value::Set(items) => tagged(serializer, "$set", &ListJson(items)),
            Value::Map(map) => MapJson(map).serialize(serializer),
        }
    }
}

pub(super) struct MapJson<'v>(pub &'v Map);

impl Serialize for MapJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.keys().any(|key| key.as_str().is_none()) {
            let pairs: Vec<_> = self.0.iter().map(|(key, value)| [ValueJson(key), ValueJson(value)]).collect();
            return tagged(serializer, "$map", &pairs);
        }
        let mut entries = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            entries.serialize_entry(key.as_str().unwrap_or_default(), &ValueJson(value))?;
        }
        entries.end()
    }
}

pub(super) struct ListJson<'v>(pub &'v [Value]);

impl Serialize for ListJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        list(serializer, self.0)
    }
}

fn list<S: Serializer>(serializer: S, items: &[Value]) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(items.len()))?;
    for item in items {
        sequence.serialize_element(&ValueJson(item))?;
    }
    sequence.end()
}

fn tagged<S: Serializer>(
    serializer: S,
    tag: &'static str,
    value: &(impl Serialize + ?Sized),
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(tag, value)?;
    map.end()
}
