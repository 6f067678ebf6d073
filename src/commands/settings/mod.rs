//! Settings: what flags and environment say, completed by `.dvc/fanout/config.yaml`.
//!
//! | section of the file | what it says |
//! |---|---|
//! | top level | what the flags of `run` for planning and running say, under their names |
//! | the name of an engine | what its own flags say |
//! | `stages` | by template or stage, what `meta: {fanout: {…}}` of stages says; it wins over that |

use std::any::TypeId;
use std::path::Path;

use clap::{Arg, ArgAction, Args, Command, ValueEnum};
use indexmap::IndexMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::adapters::fs;
use crate::cli::settings::{PlanningArgs, variable};
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::suggest;
use crate::dvc::value::Value;
use crate::dvc::yaml::{self, Node, NodeValue, Position};
use crate::engine::args::{RunningArgs, flags};
use crate::engine::{Completion, EngineArgs, EngineName, Flags};
use crate::env;
use crate::model::requests::{self, ByStage};

/// Where the file lies in a project.
pub(crate) const FILE: &str = ".dvc/fanout/config.yaml";
/// The section of requests by stage.
pub(crate) const STAGES: &str = "stages";
/// The key of the engine.
pub(crate) const ENGINE: &str = "engine";

/// The configuration file of a project, whose keys are all known.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A map, empty where there is no file.
    file: Node,
}

impl Settings {
    /// Reads the file; without one, nothing is set.
    pub(crate) fn read(root: &Path) -> Result<Settings, Diagnostic> {
        let path = root.join(FILE);
        if path.is_dir() {
            return Err(Diagnostic::project("the configuration is a folder where a file should be")
                .at(Place::file(FILE))
                .hint("move it elsewhere"));
        }
        Settings::parse(&fs::read_if_any(&path)?.unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Result<Settings, Diagnostic> {
        let file = yaml::parse(text).map_err(|error| {
            Diagnostic::project("the configuration is not YAML").source(&error).at(place(error.position))
        })?;
        let Some(entries) = file.as_map() else {
            return Err(wrong("it is not a mapping of settings", file.position));
        };
        let known = top_level();
        for (key, entry) in entries {
            let key = key.to_text().unwrap_or_default();
            if !known.contains(&key) {
                return Err(unknown("", &key, &known, entry.key_position));
            }
        }
        Ok(Settings { file })
    }

    /// The planning flags with what only the file says.
    pub(crate) fn planning(&self, typed: &PlanningArgs) -> Result<PlanningArgs, Diagnostic> {
        self.complete_section(None, typed)
    }

    /// The running flags with what only the file says.
    pub(crate) fn running(&self, typed: &RunningArgs) -> Result<RunningArgs, Diagnostic> {
        self.complete_section(None, typed)
    }

    /// Whether there is no file, or nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.file.as_map().is_none_or(IndexMap::is_empty)
    }

    /// Whether the file has a section.
    pub(crate) fn has(&self, section: &str) -> bool {
        self.file.get(section).is_some()
    }

    /// The requests of the section `stages`.
    pub(crate) fn requests(&self) -> Result<ByStage, Diagnostic> {
        let Some(section) = self.section(Some(STAGES)) else { return Ok(ByStage::new()) };
        let Some(entries) = section.as_map() else {
            return Err(wrong(&format!("`{STAGES}` is not a mapping of templates and stages"), section.position));
        };
        let mut requests = ByStage::new();
        for (stage, entry) in entries {
            let stage = stage.to_text().unwrap_or_default();
            let own = requests::parse(&entry.node.clone().into_value()).map_err(|error| {
                let diagnostic = wrong(&format!("`{STAGES}.{stage}`: {error}"), entry.key_position);
                error.hint().into_iter().fold(diagnostic, Diagnostic::hint)
            })?;
            requests.insert(stage, own);
        }
        Ok(requests)
    }

    /// Whether the file says something of a flag that the flag itself leaves as it is.
    pub(crate) fn adds_to(&self, section: Option<&str>, flag: &Arg) -> bool {
        is_by_name(flag) && self.sets(section, flag)
    }

    /// Whether the file sets a key, under any of its names.
    pub(crate) fn sets(&self, section: Option<&str>, flag: &Arg) -> bool {
        let Some(entries) = self.section(section).and_then(Node::as_map) else { return false };
        entries.keys().filter_map(Value::to_text).any(|key| is_called(flag, &key))
    }

    /// The top level or a section; `None` for one that is not there, or has nothing in it.
    fn section(&self, section: Option<&str>) -> Option<&Node> {
        let node = section.map_or(Some(&self.file), |section| Some(&self.file.get(section)?.node))?;
        (!matches!(node.value, NodeValue::Scalar(Value::Null))).then_some(node)
    }

    /// Completes flags of a section by what the file says under the same names.
    fn complete_section<T: Args + Serialize + DeserializeOwned>(
        &self,
        section: Option<&str>,
        typed: &T,
    ) -> Result<T, Diagnostic> {
        let flags = flags::<T>();
        let Ok(Json::Object(typed)) = serde_json::to_value(typed) else {
            return Err(Diagnostic::internal("flags are not a mapping"));
        };
        let mut all = Map::new();
        let prefix = section.map_or_else(String::new, |section| format!("{section}."));
        if let Some(node) = self.section(section) {
            let Some(entries) = node.as_map() else {
                return Err(wrong(&format!("`{}` is not a mapping", section.unwrap_or_default()), node.position));
            };
            for (key, entry) in entries {
                let key = key.to_text().unwrap_or_default();
                let Some(flag) = flags.iter().find(|flag| is_called(flag, &key)) else {
                    // On the top level it belongs to another group of flags.
                    let known: Vec<String> = flags.iter().flat_map(names_of).collect();
                    if section.is_some() {
                        return Err(unknown(&prefix, &key, &known, entry.key_position));
                    }
                    continue;
                };
                let (name, value) = (flag.get_long().unwrap_or_default(), entry.node.clone().into_value());
                let said = typed.get(name);
                // A switch that the environment turns off says nothing by itself.
                let is_off = Kind::of(flag) == Kind::Switch && env::is_set(&variable(name));
                if is_off || (said.is_some() && !is_by_name(flag)) {
                    continue;
                }
                let shaped = beside(said, shaped(flag, &value));
                // One by one, so that the setting that is wrong can be named.
                let alone = Map::from_iter([(name.to_owned(), shaped.clone())]);
                if let Err(error) = serde_json::from_value::<T>(Json::Object(alone)) {
                    let wanted = wanted::<T>(flag, &value).unwrap_or_else(|| error.to_string());
                    return Err(wrong(&format!("`{prefix}{key}`: {wanted}"), entry.node.position)
                        .hint("`dvc-fanout config --help` says what each setting takes"));
                }
                all.insert(name.to_owned(), shaped);
            }
        }
        // What was typed and is in there already is together with what the file says of other names.
        for (name, value) in typed {
            all.entry(name).or_insert(value);
        }
        serde_json::from_value(Json::Object(all)).map_err(|error| wrong(&error.to_string(), self.file.position))
    }
}

impl Completion for Settings {
    fn engine(&self, typed: Option<EngineName>) -> Result<EngineName, Diagnostic> {
        match (typed, self.section(Some(ENGINE))) {
            (Some(engine), _) => Ok(engine),
            (None, Some(node)) => {
                let value = node.clone().into_value();
                serde_json::from_value(value.to_json()).map_err(|_| {
                    wrong(&format!("`{ENGINE}`: {}, not {}", one_of(&engines()), shown(&value)), node.position)
                })
            }
            (None, None) => Ok(EngineName::default()),
        }
    }

    fn complete<T: Flags>(&self, typed: &T) -> Result<T, Diagnostic> {
        self.complete_section(Some(T::NAME), typed)
    }
}

/// The JSON schema of the file.
pub(crate) fn schema() -> Json {
    let mut top = properties(&flags::<PlanningArgs>());
    top.extend(properties(&flags::<RunningArgs>()));
    top.insert(ENGINE.to_owned(), serde_json::json!({"enum": engines(), "description": "What runs the work items"}));
    let either = || serde_json::json!({"type": ["number", "string"]});
    let options: Map<String, Json> =
        requests::SLURM_OPTIONS.iter().map(|name| ((*name).to_owned(), either())).collect();
    let hint = |key: &&str| {
        let schema = match *key {
            "group" => serde_json::json!({"type": "string"}),
            requests::KEEP_RUNNING => serde_json::json!({"type": "boolean"}),
            "slurm" => serde_json::json!({"type": "object", "additionalProperties": false, "properties": options}),
            _ => either(),
        };
        ((*key).to_owned(), schema)
    };
    let requests: Map<String, Json> = requests::KEYS.iter().map(hint).collect();
    let stage = serde_json::json!({"type": "object", "additionalProperties": false, "properties": requests});
    top.insert(
        STAGES.to_owned(),
        serde_json::json!({
            "type": "object", "description": "What stages ask for, by template or stage", "additionalProperties": stage,
        }),
    );
    for section in EngineArgs::sections() {
        let own = properties(&section.flags);
        let about = format!("What is said of {}", section.called);
        top.insert(
            section.name.to_owned(),
            serde_json::json!({
                "type": "object", "description": about, "additionalProperties": false, "properties": own,
            }),
        );
    }
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FILE, "type": "object", "additionalProperties": false, "properties": top,
    })
}

/// What the schema says of flags.
fn properties(flags: &[Arg]) -> Map<String, Json> {
    let property = |flag: &Arg| {
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        let choices = choices(flag);
        let mut schema = match Kind::of(flag) {
            Kind::Switch => serde_json::json!({"type": "boolean"}),
            Kind::List => serde_json::json!({"type": ["array", "object", "string", "number"]}),
            Kind::Text => serde_json::json!({}),
            Kind::Other if !choices.is_empty() => serde_json::json!({"enum": choices}),
            Kind::Other => serde_json::json!({"type": ["number", "string"]}),
        };
        schema["description"] = help.into();
        schema
    };
    flags.iter().flat_map(|flag| names_of(flag).into_iter().map(move |name| (name, property(flag)))).collect()
}

/// The names of all engines.
fn engines() -> Vec<String> {
    let engines = EngineName::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    engines.map(|engine| engine.get_name().to_owned()).collect()
}

/// The words that a flag takes; none where it takes others than a few.
fn choices(flag: &Arg) -> Vec<String> {
    flag.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
}

/// What a flag wants instead of a value that it does not take: what the command line says of the same text, since serde
/// speaks of the types of this program. `None` where the value has parts that speak for themselves.
fn wanted<T: Args>(flag: &Arg, value: &Value) -> Option<String> {
    let (kind, choices) = (Kind::of(flag), choices(flag));
    let numbers = [TypeId::of::<u32>(), TypeId::of::<usize>()];
    let what = match (kind, value.to_text()) {
        (Kind::List | Kind::Text, _) => return None,
        (Kind::Switch, _) => "it is true or false".to_owned(),
        (Kind::Other, _) if !choices.is_empty() => one_of(&choices),
        (Kind::Other, None) => "it is one value".to_owned(),
        (Kind::Other, Some(text)) => {
            let typed = format!("--{}={text}", flag.get_long().unwrap_or_default());
            let command = T::augment_args(Command::new("")).disable_help_flag(true).no_binary_name(true);
            match command.try_get_matches_from([typed]) {
                Ok(_) if matches!(value, Value::Str(_)) => "it is a number, without quotes".to_owned(),
                Ok(_) => "it is a whole number".to_owned(),
                Err(_) if numbers.iter().any(|number| flag.get_value_parser().type_id() == *number) => {
                    "it is a number from 0".to_owned()
                }
                Err(error) => {
                    let said = std::error::Error::source(&error)?.to_string();
                    if said.contains(&format!("`{text}`")) {
                        return Some(said);
                    }
                    said
                }
            }
        }
    };
    Some(format!("{what}, not {}", shown(value)))
}

/// The words that are possible, as a sentence.
fn one_of(choices: &[String]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
    match quoted.split_last() {
        Some((last, others)) if !others.is_empty() => format!("it is {} or {last}", others.join(", ")),
        _ => format!("it is {}", quoted.concat()),
    }
}

/// A value about as it stands in the file.
fn shown(value: &Value) -> String {
    match value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
        Value::Str(text) if yaml::is_plain_text(text) => format!("`{text}`"),
        Value::BigInt(digits) => format!("`{digits}`"),
        value => format!("`{}`", value.to_json()),
    }
}

/// A position in the file.
fn place(position: Position) -> Place {
    Place::at(FILE, position.line as usize, position.column as usize)
}

/// An error in the file.
fn wrong(what: &str, position: Position) -> Diagnostic {
    Diagnostic::project(format!("the configuration is not as it should be: {what}")).at(place(position))
}

/// A key that is no setting; `prefix` is the section that it stands in, with a dot.
fn unknown(prefix: &str, key: &str, known: &[String], position: Position) -> Diagnostic {
    let misses: Vec<String> = suggest::misses(key, known.iter().map(String::as_str))
        .into_iter()
        .map(|name| format!("{prefix}{name}"))
        .collect();
    let diagnostic = Diagnostic::project(format!("there is no setting `{prefix}{key}`")).at(place(position));
    diagnostic.hint(suggest::hint(&misses.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_or_else(|| {
        "`dvc-fanout config` lists all: the names of the flags, in sections for engines and `stages`".to_owned()
    }))
}

/// The keys of the file's top level.
fn top_level() -> Vec<String> {
    let flags = [flags::<PlanningArgs>(), flags::<RunningArgs>()].concat();
    let names = flags.iter().flat_map(names_of);
    let sections = EngineArgs::sections().into_iter().map(|section| section.name);
    names.chain(sections.chain([ENGINE, STAGES]).map(str::to_owned)).collect()
}

/// All names of a flag.
fn names_of(flag: &Arg) -> Vec<String> {
    let aliases = flag.get_visible_aliases().unwrap_or_default();
    flag.get_long().into_iter().chain(aliases).map(str::to_owned).collect()
}

fn is_called(flag: &Arg, name: &str) -> bool {
    names_of(flag).iter().any(|other| other == name)
}

/// How often a flag may be given, and whether its value is text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    List,
    Switch,
    Other,
}

impl Kind {
    pub(crate) fn of(flag: &Arg) -> Kind {
        match flag.get_action() {
            ArgAction::Append => Kind::List,
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Set if flag.get_value_parser().type_id() == TypeId::of::<String>() => Kind::Text,
            _ => Kind::Other,
        }
    }
}

/// Whether a flag says something of one name after another, so that what is said of a name leaves the others as they are.
fn is_by_name(flag: &Arg) -> bool {
    let names = flag.get_value_names().unwrap_or_default();
    Kind::of(flag) == Kind::List && matches!(names, [name] if name.contains('='))
}

/// What the file says of names that the flags say nothing of, and what these say.
fn beside(said: Option<&Json>, in_file: Json) -> Json {
    let (Some(Json::Array(said)), Json::Array(in_file)) = (said, &in_file) else { return in_file };
    let name = |item: &Json| item.as_str().map(|text| text.split('=').next().unwrap_or_default().to_owned());
    let names: Vec<Option<String>> = said.iter().map(name).collect();
    in_file.iter().filter(|item| !names.contains(&name(item))).chain(said).cloned().collect()
}

/// Gives a value the shape of its flag: `{a: b}` is `a=b` where several may be given, and YAML where a text is wanted.
fn shaped(flag: &Arg, value: &Value) -> Json {
    // As on the command line, `a,b` may be two.
    let parts = |text: String| -> Vec<Json> {
        match flag.get_value_delimiter() {
            Some(delimiter) => text.split(delimiter).map(|part| part.trim().into()).collect(),
            None => vec![text.into()],
        }
    };
    match (Kind::of(flag), value) {
        (Kind::List, Value::List(items)) => {
            items.iter().flat_map(|item| parts(item.to_text().unwrap_or_else(|| item.to_json().to_string()))).collect()
        }
        (Kind::List, Value::Map(entries)) => {
            let pair = |(key, value): (&Value, &Value)| {
                Json::from(format!("{}={}", key.to_text().unwrap_or_default(), value.to_text().unwrap_or_default()))
            };
            entries.iter().map(pair).collect()
        }
        (Kind::List, scalar) => Json::Array(scalar.to_text().into_iter().flat_map(parts).collect()),
        (Kind::Text, value) => value.to_text().map_or_else(|| value.to_json().to_string().into(), Json::from),
        (Kind::Switch | Kind::Other, value) => value.to_json(),
    }
}

#[cfg(test)]
mod tests;
