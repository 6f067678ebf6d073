//! The lock entry of a stage that was just run (`dvc/stage/serialize.py: to_single_stage_lockfile`, DVC 3.67).

use crate::dvc::hash::Hashed;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::stage::{ParamsDep, Stage};
use crate::dvc::value::{Map, Value};

/// The params file that comes first in an entry.
const DEFAULT_PARAMS: &str = "params.yaml";

/// The values of the params of a stage, by file, as they go into its entry.
pub(crate) struct Params(Vec<(String, Map)>);

impl Params {
    /// Sorts the values that were found, which are those of the stage's params in its order.
    pub(crate) fn of(root: &str, stage: &Stage, found: Vec<Vec<(&str, &Value)>>) -> Params {
        let mut files: Vec<(&ParamsDep, Vec<(&str, &Value)>)> = stage.params.iter().zip(found).collect();
        files.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let mut params = vec![];
        for (dep, mut values) in files {
            values.sort_by_key(|(key, _)| *key);
            let values: Map = values.into_iter().map(|(key, value)| (Value::str(key), value.clone())).collect();
            let file = if path::is_inside(&dep.resolved) {
                path::relative(root, &stage.wdir, &dep.resolved)
            } else {
                dep.path.clone()
            };
            let at = if file == DEFAULT_PARAMS { 0 } else { params.len() };
            params.insert(at, (file, values));
        }
        Params(params)
    }

    /// Says which value cannot be put into an entry here.
    pub(crate) fn unusual(&self) -> Option<&'static str> {
        self.0.iter().flat_map(|(_, values)| values.values()).find_map(unusual)
    }

    /// Whether two lists or maps among the values are equal, so that Python may hold them as one object.
    pub(crate) fn has_equal_collections(&self) -> bool {
        let mut all = vec![];
        self.0.iter().flat_map(|(_, values)| values.values()).for_each(|value| collections(value, &mut all));
        all.iter().enumerate().any(|(at, value)| all[..at].contains(value))
    }
}

/// Builds the entry of a stage; the hashes are those of its deps and outs in its order.
///
/// Without hashes of the outs they have only their paths, which is enough for the key in the run cache.
pub(crate) fn entry(stage: &Stage, deps: &[Hashed], params: &Params, outs: Option<&[Hashed]>) -> Map {
    let mut entry = Map::new();
    entry.insert(Value::str("cmd"), stage.cmd.clone().unwrap_or(Value::Null));
    let deps = items(stage.deps.iter().map(|dep| dep.path.as_str()).zip(deps.iter().map(Some)));
    if !deps.is_empty() {
        entry.insert(Value::str("deps"), Value::List(deps));
    }
    if !params.0.is_empty() {
        let files = params.0.iter().map(|(file, values)| (Value::str(file), Value::Map(Box::new(values.clone()))));
        entry.insert(Value::str("params"), Value::Map(Box::new(files.collect())));
    }
    let paths = stage.outs.iter().map(|out| out.path.as_str());
    let outs = match outs {
        Some(outs) => items(paths.zip(outs.iter().map(Some))),
        None => items(paths.zip(std::iter::repeat(None))),
    };
    if !outs.is_empty() {
        entry.insert(Value::str("outs"), Value::List(outs));
    }
    entry
}

/// Deps or outs sorted by their paths.
fn items<'a>(found: impl Iterator<Item = (&'a str, Option<&'a Hashed>)>) -> Vec<Value> {
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(path, _)| *path);
    found.into_iter().map(|(path, hashed)| item(path, hashed)).collect()
}

fn item(path: &str, hashed: Option<&Hashed>) -> Value {
    let mut item = Map::new();
    item.insert(Value::str("path"), Value::str(path));
    if let Some(hashed) = hashed {
        item.insert(Value::str("hash"), Value::str("md5"));
        item.insert(Value::str("md5"), Value::Str(hashed.oid().to_string()));
        item.insert(Value::str("size"), number(hashed.size()));
        if let Hashed::Directory { nfiles, .. } = hashed {
            item.insert(Value::str("nfiles"), number(*nfiles));
        }
        if hashed.is_exec() {
            item.insert(Value::str("isexec"), Value::Bool(true));
        }
    }
    Value::Map(Box::new(item))
}

fn number(count: u64) -> Value {
    i64::try_from(count).map_or_else(|_| Value::BigInt(count.to_string()), Value::Int)
}

/// What keeps a value from being put into an entry here.
fn unusual(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Str(_) => None,
        Value::Float(number) => number.is_nan().then_some("it has a NaN"),
        Value::Date(_) => Some("it has a date"),
        Value::Bytes(_) => Some("it has bytes"),
        Value::Tuple(_) => Some("it has a tuple"),
        Value::Set(_) => Some("it has a set"),
        Value::List(items) => items.iter().find_map(unusual),
        Value::Map(map) => map.iter().find_map(|(key, value)| match key {
            Value::Str(_) => unusual(value),
            _ => Some("it has a key that is not text"),
        }),
    }
}

/// Collects the lists and maps of a value.
fn collections<'v>(value: &'v Value, all: &mut Vec<&'v Value>) {
    match value {
        Value::List(items) => {
            all.push(value);
            items.iter().for_each(|item| collections(item, all));
        }
        Value::Map(map) => {
            all.push(value);
            map.values().for_each(|item| collections(item, all));
        }
        _ => {}
    }
}
