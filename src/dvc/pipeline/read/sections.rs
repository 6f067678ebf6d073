//! The sections of a `dvc.yaml` beside `stages`: what is shown and shared, not run.

use crate::dvc::pipeline::error::{Fault, Problem, StageProblem};
use crate::dvc::pipeline::resolve::context::{Context, kind_of};
use crate::dvc::pipeline::resolve::template::{Rules, Template};
use crate::dvc::value::{Map, Value};
use crate::dvc::yaml::{Node, NodeValue};

/// The resolved sections, items in file order.
#[derive(Debug, Default)]
pub(crate) struct TopLevel {
    pub metrics: Vec<Value>,
    pub plots: Vec<Value>,
    pub params: Vec<Value>,
    pub artifacts: Map,
    pub datasets: Vec<Value>,
}

impl TopLevel {
    /// Resolves the sections of a validated file.
    pub(super) fn of(node: &Node, context: &Context<'_>) -> Result<Self, Fault> {
        Ok(TopLevel {
            metrics: list(node, "metrics", context)?,
            plots: list(node, "plots", context)?,
            params: list(node, "params", context)?,
            artifacts: artifacts(node, context)?,
            datasets: list(node, "datasets", context)?,
        })
    }
}

fn list(node: &Node, section: &'static str, context: &Context<'_>) -> Result<Vec<Value>, Fault> {
    let Some(entry) = node.get(section) else { return Ok(vec![]) };
    let fill_item = |(index, item): (usize, &Node)| fill(item, &format!("{section}.{index}"), context);
    match &entry.node.value {
        NodeValue::List(items) => items.iter().enumerate().map(fill_item).collect(),
        // Only `datasets` may be anything; Python iterates over the keys of a map and the characters of a text.
        NodeValue::Map(entries) => Ok(entries.keys().cloned().collect()),
        NodeValue::Scalar(Value::Str(text)) => Ok(text.chars().map(Value::str).collect()),
        NodeValue::Scalar(Value::Set(items)) => Ok(items.clone()),
        NodeValue::Scalar(other) => {
            let problem = StageProblem::NoList { section, kind: kind_of(other) };
            Err(Fault::at(entry.node.position, Problem::Stage(problem)))
        }
    }
}

fn artifacts(node: &Node, context: &Context<'_>) -> Result<Map, Fault> {
    let mut artifacts = Map::new();
    for (name, entry) in node.get("artifacts").and_then(|entry| entry.node.as_map()).into_iter().flatten() {
        let subject = format!("artifacts.{}", name.as_str().unwrap_or_default());
        let name = Node { position: entry.key_position, value: NodeValue::Scalar(name.clone()) };
        let filled = fill(&name, &subject, context)?;
        if filled.as_str().is_none() {
            let problem = StageProblem::ArtifactName { kind: kind_of(&filled) };
            return Err(Fault::at(entry.key_position, Problem::Stage(problem)).in_field(&subject));
        }
        artifacts.insert(filled, fill(&entry.node, &subject, context)?);
    }
    Ok(artifacts)
}

fn fill(node: &Node, subject: &str, context: &Context<'_>) -> Result<Value, Fault> {
    let template = Template::parse(node).map_err(|error| Fault::from(error).in_field(subject))?;
    template.fill(context, Rules::Anything).map_err(|error| Fault::from(error).in_field(subject))
}
