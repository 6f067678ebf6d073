//! `.dvc/fanout/config.yaml`: the section `kubernetes` says what its flags say; a flag wins over the file.

use std::path::Path;

use clap::Args as _;
use serde_json::{Map, Value as Json};

use crate::adapters::fs;
use crate::cli::kubernetes::KubernetesArgs;
use crate::diagnostic::{Diagnostic, Place};
use crate::model::value::Value;
use crate::model::yaml;

const FILE: &str = ".dvc/fanout/config.yaml";
const SECTION: &str = "kubernetes";
/// How many letters may be wrong in a key that is taken for another one.
const MAX_TYPOS: usize = 2;

/// Returns the flags with what only the file says.
pub(crate) fn with_file(root: &Path, args: &KubernetesArgs) -> Result<KubernetesArgs, Diagnostic> {
    let Some(text) = fs::read_text_if_any(&root.join(FILE))? else { return Ok(args.clone()) };
    let wrong = |error: &yaml::YamlError| {
        Diagnostic::project(error.message.clone()).at(Place::at(
            FILE,
            error.position.line as usize,
            error.position.column as usize,
        ))
    };
    let file = yaml::load(text.as_bytes()).map_err(|error| wrong(&error))?;
    let mut settings = section(file.get(SECTION))?;
    let Ok(Json::Object(typed)) = serde_json::to_value(args) else { return Ok(args.clone()) };
    settings.extend(typed);
    serde_json::from_value(Json::Object(settings)).map_err(|error| {
        Diagnostic::project(format!("`{SECTION}` is not as it should be: {error}")).at(Place::file(FILE))
    })
}

/// Reads the section into the shape that flags have.
fn section(section: Option<&Value>) -> Result<Map<String, Json>, Diagnostic> {
    let mut settings = Map::new();
    let known = known();
    let entries = match section {
        None | Some(Value::Null) => return Ok(settings),
        Some(Value::Map(entries)) => entries,
        Some(_) => return Err(Diagnostic::project(format!("`{SECTION}` is no mapping")).at(Place::file(FILE))),
    };
    for (key, value) in entries.iter() {
        let key = key.as_str().unwrap_or_default();
        let Some(kind) = known.iter().find(|(name, _)| name == key).map(|(_, kind)| *kind) else {
            return Err(unknown(key, &known));
        };
        settings.insert(key.to_owned(), shaped(kind, value));
    }
    Ok(settings)
}

/// How often a flag may be given, and whether its value is text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    List,
    Other,
}

/// The keys: the long names of the flags.
fn known() -> Vec<(String, Kind)> {
    let command = KubernetesArgs::augment_args(clap::Command::new(""));
    let kind = |argument: &clap::Arg| match argument.get_action() {
        clap::ArgAction::Append => Kind::List,
        clap::ArgAction::Set if argument.get_value_parser().type_id() == std::any::TypeId::of::<String>() => Kind::Text,
        _ => Kind::Other,
    };
    let names = command.get_arguments().filter_map(|argument| Some((argument.get_long()?.to_owned(), kind(argument))));
    names.collect()
}

fn unknown(key: &str, known: &[(String, Kind)]) -> Diagnostic {
    let near = known.iter().map(|(name, _)| (distance(key, name), name)).min();
    let diagnostic = Diagnostic::project(format!("there is no setting `{SECTION}.{key}`")).at(Place::file(FILE));
    match near {
        Some((typos, name)) if typos <= MAX_TYPOS || name.contains(key) => {
            diagnostic.hint(format!("did you mean `{name}`?"))
        }
        _ => diagnostic.hint("`dvc-fanout launch --help` lists all: the names of the flags"),
    }
}

/// The letters to insert, remove or replace to make one word of another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Gives a value the shape of its flag: `{a: b}` is `a=b` where several may be given, and YAML where a text is wanted.
fn shaped(kind: Kind, value: &Value) -> Json {
    match (kind, value) {
        (Kind::List, Value::List(items)) => {
            items.iter().map(|item| text(item).unwrap_or_else(|| json(item).to_string())).collect()
        }
        (Kind::List, Value::Map(entries)) => {
            let pair = |(key, value): (&Value, &Value)| {
                Json::from(format!("{}={}", text(key).unwrap_or_default(), text(value).unwrap_or_default()))
            };
            entries.iter().map(pair).collect()
        }
        (Kind::List, scalar) => Json::Array(text(scalar).into_iter().map(Json::from).collect()),
        (Kind::Text, value) => text(value).map_or_else(|| json(value).to_string().into(), Json::from),
        (Kind::Other, value) => json(value),
    }
}

/// A scalar as it would be typed.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) | Value::Date(text) | Value::BigInt(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Null | Value::Bytes(_) | Value::List(_) | Value::Tuple(_) | Value::Set(_) | Value::Map(_) => None,
    }
}

/// A value as JSON.
pub(super) fn json(value: &Value) -> Json {
    match value {
        Value::Null | Value::Bytes(_) => Json::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::BigInt(text) | Value::Str(text) | Value::Date(text) => text.clone().into(),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| (text(key).unwrap_or_default(), json(value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Json, Diagnostic> {
        let file = yaml::load(text.as_bytes()).expect("YAML");
        let settings = section(file.get(SECTION))?;
        let args: KubernetesArgs =
            serde_json::from_value(Json::Object(settings)).map_err(|error| Diagnostic::project(error.to_string()))?;
        Ok(serde_json::to_value(args).expect("plain data"))
    }

    #[test]
    fn settings_may_have_the_shape_that_is_natural_in_yaml() {
        let text = "kubernetes:\n  image: worker:1\n  machine: 2-4Gi\n  volume: pvc:data:/data\n  node-selector: {zone: a, n: 1}\n  \
                    toleration:\n  - spot\n  - {key: gpu, operator: Exists}\n  affinity: {nodeAffinity: {}}\n  pod-gpus: 2\n  \
                    no-limits: true\n  keep: always\n  run-as: 1000\n";
        let expected = serde_json::json!({
            "image": "worker:1", "machine": "2-4Gi", "pod-gpus": 2, "no-limits": true, "volume": ["pvc:data:/data"],
            "node-selector": ["zone=a", "n=1"], "toleration": ["spot", "{\"key\":\"gpu\",\"operator\":\"Exists\"}"],
            "affinity": "{\"nodeAffinity\":{}}", "keep": "always", "run-as": "1000",
        });
        assert_eq!(read(text).expect("good settings"), expected);
    }

    #[test]
    fn a_key_that_is_nearly_right_is_named() {
        let hint = |text: &str| read(text).expect_err("an unknown key").hints[0].clone();
        assert_eq!(hint("kubernetes: {imagee: a}"), "did you mean `image`?");
        assert_eq!(hint("kubernetes: {node_selector: {a: b}}"), "did you mean `node-selector`?");
        assert!(hint("kubernetes: {xyz: 1}").contains("--help"));
        assert!(read("kubernetes: {detach: true}").is_err(), "that is said with each launch");
    }

    #[test]
    fn the_sample_is_good() {
        let sample = read(include_str!("../../../contrib/kubernetes/config.yaml")).expect("good settings");
        assert_eq!(sample["map"], serde_json::json!(["/mnt/projects=/data"]));
    }

    #[test]
    fn every_flag_is_a_setting_that_the_args_take() {
        let sample = |(name, kind): (String, Kind)| {
            let value = match kind {
                Kind::List => serde_json::json!(["a"]),
                Kind::Text => "a".into(),
                Kind::Other => return None,
            };
            Some((name, value))
        };
        let settings: Map<String, Json> = known().into_iter().filter_map(sample).collect();
        assert!(settings.len() > 25, "{settings:?}");
        serde_json::from_value::<KubernetesArgs>(Json::Object(settings)).expect("names agree");
    }
}
