//! The entries of `stages:` become stages: variables, expansion, fields.
//!
//! As in `EntryDefinition.resolve_stage` of `dvc/parsing/__init__.py`, DVC 3.67. The schema was checked before and is not
//! checked again after interpolation; where DVC crashes for that reason, this is an error.

use indexmap::IndexMap;

use super::build::{Fields, build};
use super::context::Context;
use super::expand::{self, Expanded};
use super::expression::is_interpolated;
use super::template::{Rules, Template};
use super::text;
use crate::dvc::pipeline::env::Env;
use crate::dvc::pipeline::error::{Fault, Problem, StageProblem};
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::project::Group;
use crate::dvc::pipeline::stage::{Expansion, Generated, Stage};
use crate::dvc::value::Value;
use crate::dvc::yaml::{Entries, Node, NodeValue, Position};

/// All definitions of one `dvc.yaml`.
pub(crate) struct Definitions<'n> {
    by_name: IndexMap<&'n str, Definition<'n>>,
}

struct Definition<'n> {
    position: Position,
    body: Body<'n>,
}

enum Body<'n> {
    Plain {
        fields: &'n Entries,
    },
    Loop {
        expansion: Expansion,
        data: &'n Node,
        fields: &'n Entries,
        expanded: Expanded,
        template: Option<StageTemplate>,
    },
}

/// A stage before interpolation; parsed when the first stage is made of it, so that an empty loop hides its mistakes
/// as it does in DVC.
struct StageTemplate {
    fields: Vec<Field>,
    vars: Vec<VarsItem>,
}

struct Field {
    name: &'static str,
    position: Position,
    value: Template,
}

/// An item of `vars` with its place.
pub(crate) type VarsItem = (VarsSource, Position);

/// What an item of `vars` brings; nothing is interpolated in it.
pub(crate) enum VarsSource {
    /// `PATH[:KEY[,KEY…]]`.
    File(String),
    Map(Value),
}

const FIELDS: [&str; 11] =
    ["cmd", "wdir", "deps", "params", "outs", "metrics", "plots", "frozen", "always_changed", "desc", "meta"];

impl<'n> Definitions<'n> {
    /// Takes the validated `stages` section and expands the loops.
    pub(crate) fn of(stages: &'n Entries, context: &Context<'_>) -> Result<Self, Fault> {
        let mut by_name = IndexMap::new();
        for (name, entry) in stages {
            let (Some(name), Some(fields)) = (name.as_str(), entry.node.as_map()) else { continue };
            let body = Body::of(name, fields, context)?;
            by_name.insert(name, Definition { position: entry.key_position, body });
        }
        Ok(Definitions { by_name })
    }

    /// The loops.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let group = |(name, definition): (&&str, &Definition<'_>)| match &definition.body {
            Body::Loop { expansion, data, .. } => {
                let mut sources = vec![];
                if let (Expansion::Matrix, NodeValue::Map(axes)) = (expansion, &data.value) {
                    sources.extend(axes.keys().filter_map(Value::as_str).map(str::to_owned));
                }
                push_variables(data, &mut sources);
                Some(Group { name: (*name).to_owned(), sources })
            }
            Body::Plain { .. } => None,
        };
        self.by_name.iter().filter_map(group).collect()
    }

    /// Makes all stages, in order.
    pub(crate) fn stages(&mut self, env: &Env<'_>, file: &str, context: &Context<'_>) -> Result<Vec<Stage>, Fault> {
        let names = self.names();
        let mut stages = Vec::with_capacity(names.len());
        for (definition, key) in names {
            let (name, _) = self.by_name.get_index(definition).expect("names come from the definitions");
            let full_name = key.as_ref().map_or_else(|| (*name).to_owned(), |key| format!("{name}@{key}"));
            if full_name.is_empty() {
                return Err(Fault::at(self.by_name[definition].position, Problem::Stage(StageProblem::EmptyName)));
            }
            let owner = if full_name.contains('@') { self.owner(&full_name) } else { Some((definition, None)) };
            let Some((owner, key)) = owner else {
                let problem = StageProblem::AtInName { name: full_name };
                return Err(Fault::at(self.by_name[definition].position, Problem::Stage(problem)));
            };
            stages.push(self.stage(owner, key, &full_name, env, file, context)?);
        }
        Ok(stages)
    }

    /// The names in order: each definition, and the key where it is a loop.
    fn names(&self) -> Vec<(usize, Option<String>)> {
        let mut names = vec![];
        for (index, definition) in self.by_name.values().enumerate() {
            match &definition.body {
                Body::Plain { .. } => names.push((index, None)),
                Body::Loop { expanded, .. } => {
                    names.extend(expanded.items.keys().map(|key| (index, Some(key.clone()))));
                }
            }
        }
        names
    }

    /// Finds the loop that a name with `@` belongs to: DVC splits at the last one, whatever the name came from.
    fn owner(&self, name: &str) -> Option<(usize, Option<String>)> {
        let (group, key) = name.rsplit_once('@')?;
        let (index, _, definition) = self.by_name.get_full(group)?;
        match &definition.body {
            Body::Loop { expanded, .. } if !key.is_empty() && expanded.items.contains_key(key) => {
                Some((index, Some(key.to_owned())))
            }
            Body::Loop { .. } | Body::Plain { .. } => None,
        }
    }

    fn stage(
        &mut self,
        owner: usize,
        key: Option<String>,
        name: &str,
        env: &Env<'_>,
        file: &str,
        context: &Context<'_>,
    ) -> Result<Stage, Fault> {
        let (group, definition) = self.by_name.get_index_mut(owner).expect("owners come from the definitions");
        let line = definition.position.line as usize;
        let maker = Maker { env, file, line };
        match &mut definition.body {
            Body::Plain { fields } => {
                let template = StageTemplate::parse(fields, name)?;
                maker.make(&template, name, None, context)
            }
            Body::Loop { expansion, fields, expanded, template, data: _ } => {
                let key = key.expect("a loop's stage has a key");
                if template.is_none() {
                    *template = Some(StageTemplate::parse(fields, group)?);
                }
                let template = template.as_ref().expect("just parsed");
                let mut reserved = vec![("item", expanded.items[&key].clone())];
                if expanded.has_key {
                    reserved.push(("key", Value::str(key.as_str())));
                }
                let generated = Generated { group: (*group).to_owned(), key, expansion: *expansion };
                maker.make(template, name, Some(generated), &Context::inside(context, reserved))
            }
        }
    }
}

impl<'n> Body<'n> {
    fn of(name: &str, fields: &'n Entries, context: &Context<'_>) -> Result<Self, Fault> {
        let field = |key: &str| fields.iter().find(|(field, _)| field.as_str() == Some(key)).map(|(_, entry)| entry);
        let expand = |expansion: Expansion, key: &str, template: &'n Entries| {
            let data = &field(key).expect("looked up before").node;
            let subject = format!("stages.{name}.{key}");
            let parsed = Template::parse(data).map_err(|error| Fault::from(error).in_field(&subject))?;
            let expanded = match expansion {
                Expansion::Foreach => expand::foreach(&parsed, data.position, context),
                Expansion::Matrix => expand::matrix(&parsed, data.position, context),
            };
            let expanded = expanded.map_err(|error| Fault::from(error).in_field(&subject))?;
            Ok(Body::Loop { expansion, data, fields: template, expanded, template: None })
        };
        match (field("foreach"), field("do")) {
            (Some(_), Some(template)) => {
                let template = template.node.as_map().expect("the schema wants a map");
                expand(Expansion::Foreach, "foreach", template)
            }
            _ if field("matrix").is_some() => expand(Expansion::Matrix, "matrix", fields),
            _ => Ok(Body::Plain { fields }),
        }
    }
}

impl StageTemplate {
    fn parse(fields: &Entries, name: &str) -> Result<Self, Fault> {
        let mut template = StageTemplate { fields: vec![], vars: vec![] };
        for (key, entry) in fields {
            let subject = || format!("stages.{name}.{}", key.as_str().unwrap_or_default());
            if let Some(field) = FIELDS.iter().find(|field| key.as_str() == Some(field)) {
                let parsed = Template::parse(&entry.node).map_err(|error| Fault::from(error).in_field(&subject()))?;
                template.fields.push(Field { name: field, position: entry.node.position, value: parsed });
            } else if key.as_str() == Some("vars") {
                template.vars = vars_items(&entry.node).map_err(|fault| fault.in_field(&subject()))?;
            }
        }
        Ok(template)
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// Collects the texts with variables in a loop's data.
fn push_variables(data: &Node, found: &mut Vec<String>) {
    match &data.value {
        NodeValue::Scalar(Value::Str(text)) if is_interpolated(text) => found.push(text.clone()),
        NodeValue::Scalar(_) => {}
        NodeValue::List(items) => items.iter().for_each(|item| push_variables(item, found)),
        NodeValue::Map(entries) => entries.values().for_each(|entry| push_variables(&entry.node, found)),
    }
}

/// Reads a validated `vars` section.
pub(crate) fn vars_items(node: &Node) -> Result<Vec<VarsItem>, Fault> {
    let mut items = vec![];
    for item in node.as_list().unwrap_or_default() {
        forbid_interpolation(item)?;
        let source = match item.clone().into_value() {
            Value::Str(file) => VarsSource::File(file),
            other => VarsSource::Map(other),
        };
        items.push((source, item.position));
    }
    Ok(items)
}

fn forbid_interpolation(node: &Node) -> Result<(), Fault> {
    let check = |value: &Value, position: Position| match value {
        Value::Str(text) if is_interpolated(text) => {
            Err(Fault::at(position, Problem::Stage(StageProblem::InterpolatedVars)))
        }
        _ => Ok(()),
    };
    match &node.value {
        NodeValue::Scalar(value) => check(value, node.position),
        NodeValue::List(items) => items.iter().try_for_each(forbid_interpolation),
        NodeValue::Map(entries) => entries.iter().try_for_each(|(key, entry)| {
            check(key, entry.key_position)?;
            forbid_interpolation(&entry.node)
        }),
    }
}

/// Merges the items of a `vars` section; file names are relative to `directory`.
pub(crate) fn merge_vars(
    context: &mut Context<'_>,
    items: &[VarsItem],
    env: &Env<'_>,
    directory: &str,
    section: &str,
) -> Result<(), Fault> {
    for (index, (source, position)) in items.iter().enumerate() {
        let merged = match source {
            VarsSource::File(item) => {
                let file = item.split(':').next().unwrap_or(item);
                context.merge_file(&env.vars, &path::resolve(env.root(), directory, file), item)
            }
            VarsSource::Map(Value::Map(map)) => context.merge_map(map, &format!("{section}[{index}]")),
            VarsSource::Map(_) => Ok(()),
        };
        merged.map_err(|error| Fault::at(*position, Problem::Context(error)).in_field(section))?;
    }
    Ok(())
}

/// Makes the stages of one definition.
struct Maker<'m> {
    env: &'m Env<'m>,
    file: &'m str,
    line: usize,
}

impl Maker<'_> {
    fn make(
        &self,
        template: &StageTemplate,
        name: &str,
        generated: Option<Generated>,
        context: &Context<'_>,
    ) -> Result<Stage, Fault> {
        if template.vars.is_empty() {
            return self.fill(template, name, generated, context);
        }
        let wdir = self.vars_wdir(template, name, context)?;
        let mut own = Context::inside(context, vec![]);
        merge_vars(&mut own, &template.vars, self.env, &wdir, &format!("stages.{name}.vars"))?;
        self.fill(template, name, generated, &own)
    }

    /// The directory that file names of stage-level vars are relative to.
    fn vars_wdir(&self, template: &StageTemplate, name: &str, context: &Context<'_>) -> Result<String, Fault> {
        let directory = path::parent(self.file);
        let Some(wdir) = template.field("wdir") else { return Ok(directory.to_owned()) };
        let filled = wdir.value.fill(context, Rules::Anything);
        let filled = filled.map_err(|error| Fault::from(error).in_field(&format!("stages.{name}.wdir")))?;
        let mut wdir = String::new();
        text::push(&mut wdir, &filled);
        Ok(path::resolve(self.env.root(), directory, &wdir))
    }

    fn fill(
        &self,
        template: &StageTemplate,
        name: &str,
        generated: Option<Generated>,
        context: &Context<'_>,
    ) -> Result<Stage, Fault> {
        let mut fields = Fields::new();
        for field in &template.fields {
            let rules = if field.name == "cmd" { Rules::Command(&self.env.config.parsing) } else { Rules::Scalars };
            let filled = field.value.fill(context, rules);
            let filled =
                filled.map_err(|error| Fault::from(error).in_field(&format!("stages.{name}.{}", field.name)))?;
            fields.push((field.name, filled));
        }
        build(self.env, self.file, self.line, name, generated, fields).map_err(|(field, problem)| {
            let fault = Fault::stage(problem).in_field(&format!("stages.{name}.{field}"));
            template.field(field).map(|field| field.position).into_iter().fold(fault, Fault::or_at)
        })
    }
}
