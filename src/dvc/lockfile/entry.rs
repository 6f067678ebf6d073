//! What an entry of a lock file means.

use indexmap::map::Entry;

use super::LockfileError;
use super::block::{self, Empty, Event, Kind};
use super::scalar::{Scalar, Style};
use crate::dvc::pipeline::stage::Recorded;
use crate::dvc::value::{Map, StrKey, Value};
use crate::dvc::yaml;

/// An entry: what `dvc repro` recorded of a stage's last run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LockEntry {
    pub cmd: Value,
    pub deps: Vec<LockItem>,
    /// Per params file its keys and values, both in the order of the entry.
    pub params: Vec<(String, RecordedParams)>,
    pub outs: Vec<LockItem>,
}

/// Keys and values of one params file.
pub(crate) type RecordedParams = Vec<(String, Value)>;

/// A dep or out of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LockItem {
    /// As written in `dvc.yaml`.
    pub path: String,
    pub recorded: Recorded,
}

/// Reads the lines of an entry; lines of errors count from its name.
pub(super) fn parse(name: &str, text: &str) -> Result<LockEntry, LockfileError> {
    let value = value(name, text)?;
    entry(&value).map_err(|what| LockfileError::new(1, format!("entry of stage `{name}`: {what}")))
}

/// Returns what stands under the entry's name, as Python would read it.
pub(super) fn value(name: &str, text: &str) -> Result<Value, LockfileError> {
    let mut builder = Builder::default();
    let usual = block::read(text, |event, _| builder.event(event)).ok().and_then(|()| builder.finish());
    let mut root = match usual {
        Some(root) => root,
        None => yaml::load(text.as_bytes()).map_err(LockfileError::from)?,
    };
    let entry = match &mut root {
        Value::Map(map) if map.len() == 1 => map.swap_remove(&StrKey(name)),
        _ => None,
    };
    entry.ok_or_else(|| LockfileError::new(1, format!("not the entry of stage `{name}`")))
}

/// Builds a value from the events of a text; leaves what is unusual to the YAML reader.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    done: Option<Value>,
    /// An anchor, a repeated key, or a scalar of a rare kind.
    is_unusual: bool,
}

enum Open {
    List(Vec<Value>),
    Map(Map, Option<Value>),
}

impl Builder {
    pub(super) fn event(&mut self, event: Event<'_>) {
        if self.is_unusual {
            return;
        }
        match event {
            Event::Open(Kind::List) => self.open.push(Open::List(Vec::new())),
            Event::Open(Kind::Map) => self.open.push(Open::Map(Map::new(), None)),
            Event::Close => match self.open.pop() {
                Some(Open::List(items)) => self.add(Value::List(items)),
                Some(Open::Map(map, _)) => self.add(Value::Map(Box::new(map))),
                None => self.is_unusual = true,
            },
            Event::Key(key) => match (resolve(&key), self.open.last_mut()) {
                (Some(key), Some(Open::Map(_, next))) => *next = Some(key),
                _ => self.is_unusual = true,
            },
            Event::Scalar(scalar) => match resolve(&scalar) {
                Some(value) => self.add(value),
                None => self.is_unusual = true,
            },
            Event::Empty(Empty::Null) => self.add(Value::Null),
            Event::Empty(Empty::List) => self.add(Value::List(Vec::new())),
            Event::Empty(Empty::Map) => self.add(Value::Map(Box::default())),
            Event::Anchor(..) => self.is_unusual = true,
        }
    }

    fn add(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.done = Some(value),
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(map, key)) => match key.take().map(|key| map.entry(key)) {
                Some(Entry::Vacant(vacant)) => {
                    vacant.insert(value);
                }
                Some(Entry::Occupied(_)) | None => self.is_unusual = true,
            },
        }
    }

    pub(super) fn finish(self) -> Option<Value> {
        self.done.filter(|_| !self.is_unusual)
    }
}

/// Returns what a scalar means, or `None` where the YAML reader must say.
pub(super) fn resolve(scalar: &Scalar<'_>) -> Option<Value> {
    let text = scalar.text()?;
    match scalar.style {
        Style::Plain => resolve_plain(&text),
        Style::Single | Style::Double => Some(Value::Str(text.into_owned())),
    }
}

/// Knows words, decimal numbers and hexadecimal digests.
fn resolve_plain(text: &str) -> Option<Value> {
    match text {
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        "null" | "Null" | "NULL" => return Some(Value::Null),
        "" | "~" | "<<" | "=" => return None,
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number_like = unsigned.strip_prefix('.').unwrap_or(unsigned).starts_with(|c: char| c.is_ascii_digit())
        || matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan");
    if !is_number_like || is_digest(text) {
        Some(Value::str(text))
    } else if text.starts_with('+') {
        None
    } else if is_decimal(unsigned) {
        text.parse().ok().map(Value::Int)
    } else if unsigned.split_once('.').is_some_and(|(whole, part)| is_digits(whole) && is_digits(part)) {
        text.parse().ok().map(Value::Float)
    } else {
        None
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Digits as DVC writes an integer; others may be octal or too long.
fn is_decimal(digits: &str) -> bool {
    digits.len() <= 18
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
}

/// A digest with a letter that no number has, such as `0cc175b9c0f1b6a831c399e269772661.dir`.
fn is_digest(text: &str) -> bool {
    let digits = text.strip_suffix(".dir").unwrap_or(text);
    digits.len() == 32
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && digits.bytes().skip(2).any(|byte| matches!(byte, b'a' | b'c' | b'd' | b'f'))
}

type What = String;

/// Checks the shape as DVC's schema does (`LOCKFILE_SCHEMA`, DVC 3.67).
pub(super) fn entry(value: &Value) -> Result<LockEntry, What> {
    let map = value.as_map().ok_or("not a map")?;
    let mut entry = LockEntry { cmd: Value::Null, deps: vec![], params: vec![], outs: vec![] };
    let mut has_cmd = false;
    for (key, value) in map {
        match (key.as_str(), value) {
            (Some("cmd"), Value::Str(_) | Value::List(_)) => {
                entry.cmd = value.clone();
                has_cmd = true;
            }
            (Some("deps"), Value::List(items)) => entry.deps = items.iter().map(item).collect::<Result<_, _>>()?,
            (Some("outs"), Value::List(items)) => entry.outs = items.iter().map(item).collect::<Result<_, _>>()?,
            (Some("params"), Value::Map(files)) => entry.params = params(files)?,
            (Some(name @ ("cmd" | "deps" | "outs" | "params")), _) => {
                return Err(format!("`{name}` is of the wrong type"));
            }
            (name, _) => return Err(format!("unknown field {name:?}")),
        }
    }
    // There may be some hundred thousand of them.
    entry.deps.shrink_to_fit();
    entry.outs.shrink_to_fit();
    entry.params.shrink_to_fit();
    if has_cmd { Ok(entry) } else { Err("`cmd` is missing".into()) }
}

pub(super) fn params(files: &Map) -> Result<Vec<(String, RecordedParams)>, What> {
    let text = |key: &Value| key.as_str().map(str::to_owned).ok_or("a key in `params` is not a string");
    files
        .iter()
        .map(|(file, values)| {
            let values = values.as_map().ok_or("a file in `params` is not a map")?;
            let values = values.iter().map(|(key, value)| Ok((text(key)?, value.clone())));
            let mut values: RecordedParams = values.collect::<Result<_, What>>()?;
            values.shrink_to_fit();
            Ok((text(file)?, values))
        })
        .collect()
}

fn item(value: &Value) -> Result<LockItem, What> {
    let map = value.as_map().ok_or("a dep or out is not a map")?;
    let mut path = None;
    let mut recorded = Recorded::default();
    for (key, value) in map {
        let name = key.as_str().ok_or("a dep or out has a field whose name is not a string")?;
        let wrong = || format!("`{name}` of a dep or out is of the wrong type");
        let text = || value.as_str().map(str::to_owned).ok_or_else(wrong);
        let count = || match value {
            Value::Int(number) => u64::try_from(*number).map_err(|_| wrong()),
            _ => Err(wrong()),
        };
        match name {
            "path" => path = Some(text()?),
            "hash" => recorded.hash = Some(text()?.into()),
            // DVC holds these for not recorded.
            "md5" | "etag" | "checksum" if matches!(value, Value::Null) || value.as_str() == Some("") => {}
            "md5" => recorded.md5 = Some(text()?),
            "size" => recorded.size = Some(count()?),
            "nfiles" => recorded.nfiles = Some(count()?),
            "isexec" => recorded.isexec = matches!(value, Value::Bool(true)),
            "files" => {
                recorded.files = members(value).ok_or_else(wrong)?.into();
                recorded.is_remote = true;
            }
            "etag" | "checksum" | "version_id" | "cloud" | "dataset" => recorded.is_remote = true,
            _ => return Err(format!("unknown field `{name}` of a dep or out")),
        }
    }
    let path = path.ok_or("a dep or out without `path`")?;
    Ok(LockItem { path, recorded })
}

/// Reads `files`; a member without `md5` (a cloud's) has an empty one.
fn members(files: &Value) -> Option<Vec<(String, String)>> {
    let member = |file: &Value| {
        let md5 = file.get("md5").map_or(Some(""), Value::as_str)?;
        Some((file.get("relpath")?.as_str()?.to_owned(), md5.to_owned()))
    };
    files.as_list()?.iter().map(member).collect()
}
