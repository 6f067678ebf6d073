//! A `dvc.yaml` that holds just the stages of one work item.
//!
//! DVC loads every stage of a project for every command, so a worker gets a file with only its own stages, already
//! resolved: names, commands and params, hence lock entries, come out as from the full file. A generated stage stays
//! one (`foreach` over a map with the keys that are wanted), since DVC allows `@` in no other stage's name. Text that
//! looks like an interpolation is escaped, so DVC finds nothing left to resolve.
//!
//! The file is written as JSON, which YAML contains: it is read the same whatever the strings hold.

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

use crate::dvc::pipeline::stage::{Generated, Out, OutKind, Stage};
use crate::dvc::value::Value;

/// Why stages cannot be put into one file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProjectionError {
    /// Two keys of one template have definitions of different shape (lists of different lengths, say).
    #[error("the stages of `{group}` differ in shape, so they do not fit into one projected `dvc.yaml`")]
    Shape { group: String },
    /// A dataset's definition holds a value that JSON cannot be.
    #[error("`datasets` holds a value that is not text")]
    Dataset,
    /// A command holds a value that neither JSON nor a shell command can be.
    #[error("the command of `{address}` holds a value that is not text")]
    Command { address: String },
}

/// Renders the `dvc.yaml` that lies at `file` with just these stages, in this order, and the datasets that it defines.
///
/// All stages are of that file and have names.
pub(crate) fn project_file(file: &str, stages: &[&Stage], datasets: &[Value]) -> Result<String, ProjectionError> {
    let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut definitions = Map::new();
    let mut groups: IndexMap<&str, Vec<(&Generated, Json)>> = IndexMap::new();
    for stage in stages {
        let definition = definition(stage, directory)?;
        match (&stage.generated, &stage.name) {
            (Some(generated), _) => groups.entry(&generated.group).or_default().push((generated, definition)),
            (None, Some(name)) => drop(definitions.insert(name.clone(), escape(definition))),
            (None, None) => {}
        }
    }
    for (group, members) in groups {
        let (keys, bodies): (Vec<_>, Vec<_>) =
            members.into_iter().map(|(generated, body)| (&generated.key, body)).unzip();
        let mut varying = Varying::new(bodies.len());
        let template = varying.unify(&bodies).ok_or_else(|| ProjectionError::Shape { group: group.to_owned() })?;
        let items: Map<String, Json> =
            keys.into_iter().zip(varying.columns).map(|(key, column)| (key.clone(), Json::Object(column))).collect();
        definitions.insert(group.to_owned(), json!({ "foreach": items, "do": template }));
    }
    let mut sections = json!({ "stages": definitions });
    if !datasets.is_empty() {
        let datasets: Option<Vec<Json>> = datasets.iter().map(|item| plain(item).map(escape)).collect();
        sections["datasets"] = datasets.ok_or(ProjectionError::Dataset)?.into();
    }
    Ok(yaml(&sections))
}

/// Renders a value as JSON on one line that YAML reads back as the same value.
///
/// JSON strings may hold characters that YAML allows only as escapes (DEL, C1 controls, unassigned ones).
fn yaml(value: &Json) -> String {
    let text = value.to_string();
    let mut escaped = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        match character {
            ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' => {
                escaped.push(character);
            }
            '\u{10000}'.. => escaped.push(character),
            other => escaped.push_str(&format!("\\u{:04x}", u32::from(other))),
        }
    }
    escaped.push('\n');
    escaped
}

/// The resolved definition of a stage, nothing escaped yet.
fn definition(stage: &Stage, directory: &str) -> Result<Json, ProjectionError> {
    let mut fields = Map::new();
    if let Some(cmd) = &stage.cmd {
        let cmd = plain(cmd).ok_or_else(|| ProjectionError::Command { address: stage.address.0.clone() })?;
        fields.insert("cmd".into(), cmd);
    }
    let wdir = relative(&stage.wdir, directory);
    if wdir != "." {
        fields.insert("wdir".into(), wdir.into());
    }
    if !stage.deps.is_empty() {
        fields.insert("deps".into(), stage.deps.iter().map(|dep| Json::from(dep.path.as_str())).collect());
    }
    if !stage.params.is_empty() {
        let files = stage.params.iter().map(|params| json!({ params.path.as_str(): params.keys }));
        fields.insert("params".into(), files.collect());
    }
    for (name, kind) in [("outs", OutKind::Out), ("metrics", OutKind::Metric), ("plots", OutKind::Plot)] {
        let outs: Vec<Json> = stage.outs.iter().filter(|out| out.kind == kind).map(out_definition).collect();
        if !outs.is_empty() {
            fields.insert(name.into(), outs.into());
        }
    }
    for (name, flag) in [("frozen", stage.frozen), ("always_changed", stage.always_changed)] {
        if flag {
            fields.insert(name.into(), true.into());
        }
    }
    Ok(Json::Object(fields))
}

/// The flags that decide what DVC does; descriptions and plot settings do not reach the lock.
fn out_definition(out: &Out) -> Json {
    let mut flags = Map::new();
    for (name, value, default) in
        [("cache", out.cache, true), ("persist", out.persist, false), ("push", out.push, true)]
    {
        if value != default {
            flags.insert(name.into(), value.into());
        }
    }
    if let Some(remote) = &out.remote {
        flags.insert("remote".into(), remote.as_str().into());
    }
    if flags.is_empty() { out.path.as_str().into() } else { json!({ out.path.as_str(): flags }) }
}

/// The JSON of a command: text, numbers and lists of them.
fn plain(value: &Value) -> Option<Json> {
    match value {
        Value::Null => Some(Json::Null),
        Value::Bool(flag) => Some((*flag).into()),
        Value::Int(number) => Some((*number).into()),
        Value::Float(number) => serde_json::Number::from_f64(*number).map(Json::Number),
        Value::Str(text) => Some(text.as_str().into()),
        Value::List(items) => items.iter().map(plain).collect::<Option<Vec<_>>>().map(Json::Array),
        Value::Map(map) => map
            .iter()
            .map(|(key, value)| Some((key.as_str()?.to_owned(), plain(value)?)))
            .collect::<Option<Map<_, _>>>()
            .map(Json::Object),
        Value::BigInt(_) | Value::Bytes(_) | Value::Date(_) | Value::Tuple(_) | Value::Set(_) => None,
    }
}

/// The path from a directory to another, both relative to the project's root; an absolute one stays.
fn relative(path: &str, from: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let from: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    let common = path.iter().zip(&from).take_while(|(a, b)| a == b && **a != "..").count();
    let parts: Vec<&str> =
        std::iter::repeat_n("..", from.len() - common).chain(path[common..].iter().copied()).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Writes `${` so that DVC reads it back as text.
fn escape_text(text: &str) -> String {
    text.replace("${", "\\${")
}

fn escape(value: Json) -> Json {
    match value {
        Json::String(text) => Json::String(escape_text(&text)),
        Json::Array(items) => items.into_iter().map(escape).collect(),
        Json::Object(fields) => {
            Json::Object(fields.into_iter().map(|(key, value)| (escape_text(&key), escape(value))).collect())
        }
        other @ (Json::Null | Json::Bool(_) | Json::Number(_)) => other,
    }
}

/// The places where the definitions of a template's keys differ: one column of values per key.
struct Varying {
    columns: Vec<Map<String, Json>>,
}

impl Varying {
    fn new(keys: usize) -> Self {
        Varying { columns: vec![Map::new(); keys] }
    }

    /// Folds the definitions of all keys into one template; `None` where their shapes differ.
    fn unify(&mut self, values: &[Json]) -> Option<Json> {
        let (first, rest) = values.split_first()?;
        if rest.iter().all(|value| value == first) {
            return Some(escape(first.clone()));
        }
        match first {
            Json::Array(items) => {
                let lists: Vec<&Vec<Json>> = values.iter().map(Json::as_array).collect::<Option<_>>()?;
                lists.iter().all(|list| list.len() == items.len()).then_some(())?;
                let column = |position: usize| lists.iter().map(|list| list[position].clone()).collect::<Vec<_>>();
                (0..items.len())
                    .map(|position| self.unify(&column(position)))
                    .collect::<Option<Vec<_>>>()
                    .map(Json::Array)
            }
            Json::Object(fields) => {
                let maps: Vec<&Map<String, Json>> = values.iter().map(Json::as_object).collect::<Option<_>>()?;
                maps.iter().all(|map| map.len() == fields.len()).then_some(())?;
                let entries: Vec<Vec<(&String, &Json)>> = maps.iter().map(|map| map.iter().collect()).collect();
                let mut unified = Map::new();
                for position in 0..fields.len() {
                    let keys: Vec<Json> = entries.iter().map(|entry| entry[position].0.as_str().into()).collect();
                    let values: Vec<Json> = entries.iter().map(|entry| entry[position].1.clone()).collect();
                    let Json::String(key) = self.unify(&keys)? else { return None };
                    unified.insert(key, self.unify(&values)?);
                }
                Some(Json::Object(unified))
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
                values.iter().all(|value| !value.is_array() && !value.is_object()).then_some(())?;
                let name = format!("v{}", self.columns[0].len());
                for (column, value) in self.columns.iter_mut().zip(values) {
                    column.insert(name.clone(), escape(value.clone()));
                }
                Some(Json::String(format!("${{item.{name}}}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dvc::pipeline::stage::{Dep, Expansion, StageAddress};

    fn stage(name: &str, key: Option<&str>, cmd: &str, out: &str) -> Stage {
        Stage {
            address: StageAddress::of("p/dvc.yaml", name),
            file: "p/dvc.yaml".into(),
            line: 1,
            name: Some(name.into()),
            generated: key.map(|key| Generated {
                group: name.split('@').next().unwrap_or_default().into(),
                key: key.into(),
                expansion: Expansion::Foreach,
            }),
            wdir: "p/w".into(),
            cmd: Some(Value::str(cmd)),
            deps: vec![Dep { path: "in".into(), resolved: Some("p/w/in".into()), recorded: None, repo: None }],
            outs: vec![Out {
                path: out.into(),
                resolved: Some(format!("p/w/{out}")),
                kind: OutKind::Metric,
                cache: false,
                persist: false,
                push: true,
                remote: None,
                flags: vec![],
                recorded: None,
            }],
            params: vec![],
            frozen: false,
            md5: None,
            always_changed: false,
            desc: None,
            meta: None,
        }
    }

    #[test]
    fn keys_of_one_template_share_what_is_equal() {
        let (a, b) =
            (stage("s@a", Some("a"), "run a $HOME", "a.json"), stage("s@b", Some("b"), "run b $HOME", "b.json"));
        let json: Json =
            serde_json::from_str(&project_file("p/dvc.yaml", &[&a, &b], &[]).expect("same shape")).expect("JSON");
        assert_eq!(
            json["stages"]["s"],
            json!({
                "foreach": {
                    "a": {"v0": "run a $HOME", "v1": "a.json"},
                    "b": {"v0": "run b $HOME", "v1": "b.json"},
                },
                "do": {
                    "cmd": "${item.v0}", "wdir": "w", "deps": ["in"], "metrics": [{"${item.v1}": {"cache": false}}],
                },
            })
        );
    }

    #[test]
    fn text_that_looks_like_an_interpolation_is_escaped() {
        let plain = stage("s", None, "echo ${x} \\${y}", "a.json");
        let json: Json =
            serde_json::from_str(&project_file("p/dvc.yaml", &[&plain], &[]).expect("fits")).expect("JSON");
        assert_eq!(json["stages"]["s"]["cmd"], "echo \\${x} \\\\${y}");
    }

    #[test]
    fn definitions_of_different_shape_are_refused() {
        let (a, mut b) = (stage("s@a", Some("a"), "x", "a"), stage("s@b", Some("b"), "x", "b"));
        b.deps.clear();
        assert_eq!(project_file("p/dvc.yaml", &[&a, &b], &[]), Err(ProjectionError::Shape { group: "s".into() }));
    }

    #[test]
    fn paths_are_made_relative_to_the_file() {
        for (path, from, want) in
            [("", "", "."), ("a/b", "a", "b"), ("", "a/b", "../.."), ("c", "a", "../c"), ("/x", "a", "/x")]
        {
            assert_eq!(relative(path, from), want, "{path} from {from}");
        }
    }

    #[test]
    fn characters_that_yaml_does_not_allow_are_escaped() {
        assert_eq!(yaml(&json!("a\u{7f}\u{9f}\u{feff}é\u{1f680}\n")), "\"a\\u007f\\u009f\\ufeffé\u{1f680}\\n\"\n");
    }
}
