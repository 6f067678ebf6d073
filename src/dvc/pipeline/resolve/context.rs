//! The variables of interpolation: `params.yaml`, global and stage-level `vars`, and `item` and `key` of a loop.
//!
//! As in `dvc/parsing/context.py` of DVC 3.67: maps merge deeply, anything else may be defined only once; map entries
//! whose key is no string are dropped at every depth.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexMap;
use thiserror::Error;

use crate::dvc::formats::{self, FormatError};
use crate::dvc::pipeline::source::{FileKind, ProjectFiles};
use crate::dvc::python_text;
use crate::dvc::value::{Map, StrKey, Value};

/// Variables, on top of those of a parent: a stage's own on the file's.
#[derive(Debug, Default)]
pub(crate) struct Context<'p> {
    parent: Option<&'p Context<'p>>,
    vars: IndexMap<String, Arc<Value>>,
    /// `item` and `key`, which shadow variables of those names and may not be defined.
    reserved: Vec<(&'static str, Value)>,
    /// What contributed to a variable, to say where it was defined before.
    sources: HashMap<String, Vec<Rc<str>>>,
    /// The files that were loaded, and the keys if not all of them.
    imports: HashMap<String, Option<Vec<String>>>,
}

#[derive(Debug, Error)]
pub(crate) enum ContextError {
    #[error("cannot redefine `{name}` from `{source_name}`, as it is already defined in `{defined}`")]
    Redefined { name: String, source_name: String, defined: String },
    #[error("`{name}` is set by foreach or matrix and cannot be defined in `{source_name}`")]
    Reserved { name: String, source_name: String },
    #[error("`{path}` does not exist")]
    Missing { path: String },
    #[error("`{path}` is a directory")]
    IsDirectory { path: String },
    #[error("`{path}` holds {found} instead of a map")]
    NoMap { path: String, found: &'static str },
    #[error("could not find `{key}` in `{path}`")]
    NoKey { path: String, key: String, known: Vec<String> },
    #[error("`{name}` of `{source_name}` is a {kind}, which cannot be used in interpolation")]
    Unsupported { name: String, source_name: String, kind: &'static str },
    #[error("cannot load `{item}` in whole, as a part of it is already loaded")]
    PartlyLoaded { item: String },
    #[error("cannot load a part of `{item}`, as all of it is already loaded")]
    WhollyLoaded { item: String },
    #[error("cannot load `{item}`, as `{key}` of it is already loaded")]
    KeyLoaded { item: String, key: String },
    #[error("`{path}` cannot be read")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` cannot be parsed")]
    Invalid {
        path: String,
        text: Vec<u8>,
        #[source]
        source: FormatError,
    },
}

/// Where a lookup ended: nothing of that name there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotFound {
    /// The word that was not found.
    pub word: String,
    /// The words before it, joined with `.`.
    pub parent: String,
    /// What is known there instead, for near misses.
    pub known: Vec<String>,
    /// What is there, in short; `None` for the variables themselves.
    pub found: Option<String>,
}

impl NotFound {
    /// Says what is there instead: "`item` is 0.1".
    pub(crate) fn explain(&self) -> Option<String> {
        self.found.as_ref().map(|found| format!("`{}` is {found}", self.parent))
    }
}

impl<'p> Context<'p> {
    /// A context on top of another one, with the variables of a loop.
    pub(crate) fn inside(parent: &'p Context<'p>, reserved: Vec<(&'static str, Value)>) -> Context<'p> {
        Context { parent: Some(parent), reserved, ..Context::default() }
    }

    /// Looks up one word after another.
    pub(crate) fn select(&self, words: &[String]) -> Result<&Value, NotFound> {
        let (first, rest) = words.split_first().expect("the grammar has at least one word");
        let none = || NotFound { word: first.clone(), parent: String::new(), known: self.names(), found: None };
        let mut value = self.get(first).ok_or_else(none)?;
        for (depth, word) in rest.iter().enumerate() {
            value = match value {
                Value::Map(map) => map.get(&StrKey(word)),
                Value::List(items) => index(word, items.len()).map(|index| &items[index]),
                _ => None,
            }
            .ok_or_else(|| NotFound {
                word: word.clone(),
                parent: words[..=depth].join("."),
                known: known_in(value),
                found: Some(in_short(value)),
            })?;
        }
        Ok(value)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        if let Some((_, value)) = self.reserved.iter().find(|(reserved, _)| *reserved == name) {
            return Some(value);
        }
        self.vars.get(name).map(Arc::as_ref).or_else(|| self.parent?.get(name))
    }

    fn shared(&self, name: &str) -> Option<&Arc<Value>> {
        self.vars.get(name).or_else(|| self.parent?.shared(name))
    }

    fn names(&self) -> Vec<String> {
        let reserved = self.reserved.iter().map(|(name, _)| (*name).to_owned());
        let inherited = self.parent.map(Context::names).unwrap_or_default();
        reserved.chain(self.vars.keys().cloned()).chain(inherited).collect()
    }

    fn sources_of(&self, name: &str) -> String {
        let own = self.sources.get(name).into_iter().flatten();
        let text = own.map(|source| &**source).collect::<Vec<_>>().join("` or `");
        match self.parent {
            Some(parent) if text.is_empty() => parent.sources_of(name),
            _ => text,
        }
    }

    fn imported(&self, path: &str) -> Option<&Option<Vec<String>>> {
        self.imports.get(path).or_else(|| self.parent?.imported(path))
    }

    /// Merges a map item of `vars`.
    pub(crate) fn merge_map(&mut self, map: &Map, source: &str) -> Result<(), ContextError> {
        self.merge(Entries::of(map).0, source, source)
    }

    /// Loads a string item of `vars`: `path` is resolved, `item` as written (`PATH[:KEY[,KEY…]]`).
    pub(crate) fn merge_file(&mut self, files: &VarsFiles<'_>, path: &str, item: &str) -> Result<(), ContextError> {
        let keys: Vec<String> = match item.split_once(':') {
            Some((_, keys)) => keys.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect(),
            None => vec![],
        };
        match self.imported(path) {
            None => {}
            Some(None) if keys.is_empty() => return Ok(()),
            Some(None) => return Err(ContextError::WhollyLoaded { item: item.to_owned() }),
            Some(Some(_)) if keys.is_empty() => return Err(ContextError::PartlyLoaded { item: item.to_owned() }),
            Some(Some(loaded)) => {
                if let Some(key) = keys.iter().find(|key| loaded.contains(key)) {
                    return Err(ContextError::KeyLoaded { item: item.to_owned(), key: key.clone() });
                }
            }
        }
        let loaded = files.load(path)?;
        if keys.is_empty() {
            self.merge(loaded.0.iter().map(|(name, value)| (name.clone(), value.clone())), path, item)?;
        } else {
            let mut picked = IndexMap::new();
            for key in &keys {
                let value = loaded.0.get(key).ok_or_else(|| ContextError::NoKey {
                    path: path.to_owned(),
                    key: key.clone(),
                    known: loaded.0.keys().cloned().collect(),
                })?;
                picked.insert(key.clone(), value.clone());
            }
            self.merge(picked, path, item)?;
        }
        let all_keys = match self.imported(path) {
            Some(Some(loaded)) => Some(loaded.iter().chain(&keys).cloned().collect()),
            _ => (!keys.is_empty()).then_some(keys),
        };
        self.imports.insert(path.to_owned(), all_keys);
        Ok(())
    }

    fn merge(
        &mut self,
        entries: impl IntoIterator<Item = (String, Converted)>,
        source: &str,
        item: &str,
    ) -> Result<(), ContextError> {
        let source_name: Rc<str> = source.into();
        for (name, value) in entries {
            let value = value.map_err(|unsupported| ContextError::Unsupported {
                name: unsupported.name,
                source_name: source.to_owned(),
                kind: unsupported.kind,
            })?;
            if self.is_reserved(&name) {
                return Err(ContextError::Reserved { name, source_name: item.to_owned() });
            }
            match self.shared(&name).cloned() {
                None => {
                    self.vars.insert(name.clone(), value);
                }
                Some(mut known) => {
                    let mut at = vec![name.clone()];
                    if !merge_values(Arc::make_mut(&mut known), &value, &mut at) {
                        let defined = self.sources_of(&name);
                        let source_name = source.to_owned();
                        return Err(ContextError::Redefined { name: at.join("."), source_name, defined });
                    }
                    self.vars.insert(name.clone(), known);
                }
            }
            self.sources.entry(name).or_default().push(Rc::clone(&source_name));
        }
        Ok(())
    }

    fn is_reserved(&self, name: &str) -> bool {
        self.reserved.iter().any(|(reserved, _)| *reserved == name)
            || self.parent.is_some_and(|parent| parent.is_reserved(name))
    }
}

/// Merges maps deeply; returns false, with the place in `at`, where a value is defined twice.
fn merge_values(into: &mut Value, update: &Value, at: &mut Vec<String>) -> bool {
    let (Value::Map(into), Value::Map(update)) = (into, update) else { return false };
    for (key, value) in update.iter() {
        at.push(key.as_str().unwrap_or_default().to_owned());
        match into.get_mut(key) {
            Some(known) => {
                if !merge_values(known, value, at) {
                    return false;
                }
            }
            None => {
                into.insert(key.clone(), value.clone());
            }
        }
        at.pop();
    }
    true
}

fn known_in(value: &Value) -> Vec<String> {
    match value {
        Value::Map(map) => map.keys().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => vec![],
    }
}

/// The most keys of a map that are named.
const MAX_NAMED: usize = 8;

/// Describes a value in a few words.
fn in_short(value: &Value) -> String {
    match value {
        Value::Map(map) if map.is_empty() => "an empty map".to_owned(),
        Value::Map(_) => {
            let names: Vec<String> = known_in(value).iter().take(MAX_NAMED).map(|name| format!("`{name}`")).collect();
            let more = if names.len() < known_in(value).len() { ", …" } else { "" };
            format!("a map of {}{more}", names.join(", "))
        }
        Value::List(items) => format!("a list of {}", items.len()),
        Value::Str(text) => format!("`{text}`"),
        other => python_text::str_of(other),
    }
}

/// Reads a list index as Python's `int()` does and lets negative ones count from the end.
fn index(word: &str, length: usize) -> Option<usize> {
    let (negative, digits) = match word.as_bytes().first()? {
        b'-' => (true, &word[1..]),
        b'+' => (false, &word[1..]),
        _ => (false, word),
    };
    let well_formed = digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let number: usize = well_formed.then(|| digits.replace('_', "").parse().ok())??;
    let index = if negative { length.checked_sub(number)? } else { number };
    (index < length).then_some(index)
}

/// The files of `vars`, each read once.
pub(crate) struct VarsFiles<'f> {
    files: &'f dyn ProjectFiles,
    loaded: RefCell<HashMap<String, Rc<Entries>>>,
}

/// The entries of a map whose keys are strings, converted for interpolation; one that cannot be is an error only where
/// it is used.
#[derive(Debug)]
struct Entries(IndexMap<String, Converted>);

type Converted = Result<Arc<Value>, Unsupported>;

#[derive(Clone, Debug)]
struct Unsupported {
    name: String,
    kind: &'static str,
}

impl<'f> VarsFiles<'f> {
    pub(crate) fn new(files: &'f dyn ProjectFiles) -> Self {
        VarsFiles { files, loaded: RefCell::default() }
    }

    fn load(&self, path: &str) -> Result<Rc<Entries>, ContextError> {
        if let Some(entries) = self.loaded.borrow().get(path) {
            return Ok(Rc::clone(entries));
        }
        match self.files.kind(path) {
            None => return Err(ContextError::Missing { path: path.to_owned() }),
            Some(FileKind::Directory) => return Err(ContextError::IsDirectory { path: path.to_owned() }),
            Some(FileKind::File | FileKind::Other) => {}
        }
        let bytes =
            self.files.read(path).map_err(|source| ContextError::Unreadable { path: path.to_owned(), source })?;
        let value = formats::load(path, &bytes).map_err(|source| ContextError::Invalid {
            path: path.to_owned(),
            text: bytes.clone(),
            source,
        })?;
        let Value::Map(map) = value else {
            return Err(ContextError::NoMap { path: path.to_owned(), found: kind_of(&value) });
        };
        let entries = Rc::new(Entries::of(&map));
        self.loaded.borrow_mut().insert(path.to_owned(), Rc::clone(&entries));
        Ok(entries)
    }

    /// Whether there is a `params.yaml` to load without being asked.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.files.kind(path).is_some()
    }
}

impl Entries {
    fn of(map: &Map) -> Entries {
        Entries(
            map.iter()
                .filter_map(|(key, value)| {
                    let name = key.as_str()?;
                    let mut at = vec![name];
                    let converted = convert(value, &mut at).map(Arc::new);
                    Some((name.to_owned(), converted))
                })
                .collect(),
        )
    }
}

/// Converts a value that is written in a loop's data; the error is the kind of value that cannot be used.
pub(super) fn convert_value(value: &Value) -> Result<Value, &'static str> {
    convert(value, &mut vec![]).map_err(|unsupported| unsupported.kind)
}

/// Drops entries whose key is no string, at every depth.
fn convert<'v>(value: &'v Value, at: &mut Vec<&'v str>) -> Result<Value, Unsupported> {
    match value {
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::BigInt(_)
        | Value::Float(_)
        | Value::Str(_)
        | Value::Bytes(_) => Ok(value.clone()),
        Value::List(items) => Ok(Value::List(items.iter().map(|item| convert(item, at)).collect::<Result<_, _>>()?)),
        Value::Map(map) => {
            let mut converted = Map::with_capacity(map.len());
            for (key, value) in map.iter() {
                if let Some(name) = key.as_str() {
                    at.push(name);
                    converted.insert(key.clone(), convert(value, at)?);
                    at.pop();
                }
            }
            Ok(Value::Map(Box::new(converted)))
        }
        Value::Date(_) | Value::Tuple(_) | Value::Set(_) => {
            Err(Unsupported { name: at.join("."), kind: kind_of(value) })
        }
    }
}

/// Names the kind of a value as a person would.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::BigInt(_) => "int",
        Value::Float(_) => "float",
        Value::Str(_) => "string",
        Value::Bytes(_) => "binary",
        Value::Date(_) => "date",
        Value::List(_) => "list",
        Value::Tuple(_) => "tuple",
        Value::Set(_) => "set",
        Value::Map(_) => "map",
    }
}
