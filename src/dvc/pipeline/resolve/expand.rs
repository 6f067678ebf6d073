//! The keys of `foreach` and `matrix`: which stages a template makes, and with which `item`.
//!
//! As in `ForeachDefinition` and `MatrixDefinition` of `dvc/parsing/__init__.py`, DVC 3.67.

use indexmap::IndexMap;
use thiserror::Error;

use super::context::{Context, kind_of};
use super::template::{FillError, Located, Rules, Template};
use super::text;
use crate::dvc::python_text;
use crate::dvc::value::{Map, Value};
use crate::dvc::yaml::Position;

/// More stages than this from one template are a mistake.
const MAX_KEYS: usize = 2_000_000;

/// The stages of one template: the part of the name after `@`, and the variables.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub items: IndexMap<String, Value>,
    /// Whether `${key}` is set too: not in a foreach over a list.
    pub has_key: bool,
}

#[derive(Debug, Error)]
pub(crate) enum ExpandError {
    #[error(transparent)]
    Fill(FillError),
    #[error("expected a list or a map, got a {kind}")]
    NotIterable { kind: &'static str },
    #[error("a {kind} cannot be an item")]
    Unsupported { kind: &'static str },
    #[error("more than {MAX_KEYS} stages")]
    TooMany,
}

impl From<Located<FillError>> for Located<ExpandError> {
    fn from(error: Located<FillError>) -> Self {
        Located { problem: ExpandError::Fill(error.problem), position: error.position }
    }
}

/// A value of the loop's data. Bools are spelled `True` in a name if they come from a variable, `true` if they are
/// written in the `dvc.yaml`.
struct Item {
    value: Value,
    from_variable: bool,
}

impl Item {
    fn written(value: Value) -> Item {
        Item { value, from_variable: false }
    }

    fn of(template: &Template, context: &Context<'_>) -> Result<Item, Located<ExpandError>> {
        let value = template.fill(context, Rules::LoopData)?;
        Ok(Item { value, from_variable: template.as_whole().is_some() })
    }

    fn name(&self) -> String {
        match &self.value {
            Value::Bool(_) if self.from_variable => python_text::str_of(&self.value),
            value => {
                let mut name = String::new();
                text::push(&mut name, value);
                name
            }
        }
    }

    /// Whether it is named by its position.
    fn is_composite(&self) -> bool {
        match self.value {
            Value::List(_) | Value::Map(_) | Value::Tuple(_) => true,
            // Python's `bytes` are a sequence; those of a variable are wrapped.
            Value::Bytes(_) => !self.from_variable,
            _ => false,
        }
    }
}

/// Expands the data of a `foreach`.
///
/// `position` is that of the data, for errors that no single value is to blame for.
pub(crate) fn foreach(
    data: &Template,
    position: Position,
    context: &Context<'_>,
) -> Result<Expanded, Located<ExpandError>> {
    let items: Vec<Item> = match data {
        Template::List(items) => items.iter().map(|item| Item::of(item, context)).collect::<Result<_, _>>()?,
        Template::Map(entries) => {
            let mut items = IndexMap::new();
            for (key, value) in entries {
                let key = key.fill_key(context, Rules::LoopData)?;
                items.insert(key_name(&key), Item::of(value, context)?);
            }
            return named(items, position, true);
        }
        Template::Value(_) | Template::Text { .. } => {
            let from_variable = data.as_whole().is_some();
            match data.fill(context, Rules::LoopData)? {
                Value::List(items) => items.into_iter().map(|value| Item { value, from_variable }).collect(),
                Value::Map(map) => {
                    let items = map.into_iter().map(|(key, value)| (key_name(&key), Item { value, from_variable }));
                    return named(items.collect(), position, true);
                }
                other => return Err(Located { problem: ExpandError::NotIterable { kind: kind_of(&other) }, position }),
            }
        }
    };
    let by_position = items.iter().any(Item::is_composite);
    let name = |(position, item): (usize, Item)| {
        let name = if by_position { position.to_string() } else { item.name() };
        (name, item)
    };
    named(items.into_iter().enumerate().map(name).collect(), position, false)
}

/// Expands the axes of a `matrix`: the product, the last axis varying fastest.
pub(crate) fn matrix(
    data: &Template,
    position: Position,
    context: &Context<'_>,
) -> Result<Expanded, Located<ExpandError>> {
    let at = |problem| Located { problem, position };
    let mut axes: Vec<(String, Vec<Item>)> = vec![];
    match data {
        Template::Map(entries) => {
            for (key, values) in entries {
                let key = key.fill_key(context, Rules::LoopData)?;
                axes.push((key_name(&key), axis_items(values, position, context)?));
            }
        }
        Template::Value(Value::Map(map)) => {
            for (key, values) in map.iter() {
                axes.push((key_name(key), axis_items(&Template::Value(values.clone()), position, context)?));
            }
        }
        Template::Value(_) | Template::Text { .. } | Template::List(_) => {
            return Err(at(ExpandError::NotIterable { kind: "value" }));
        }
    }
    let count = axes.iter().map(|(_, items)| items.len()).try_fold(1_usize, usize::checked_mul);
    match count {
        Some(0) => Ok(Expanded { items: IndexMap::new(), has_key: true }),
        Some(count) if count <= MAX_KEYS => {
            let axes = axes.into_iter().map(Axis::of).collect::<Result<Vec<_>, _>>().map_err(at)?;
            Ok(Expanded { items: product(&axes), has_key: true })
        }
        Some(_) | None => Err(at(ExpandError::TooMany)),
    }
}

/// An axis of a matrix: each value with the part of the stage's name that it makes.
struct Axis {
    name: String,
    values: Vec<(String, Value)>,
}

impl Axis {
    fn of((name, items): (String, Vec<Item>)) -> Result<Axis, ExpandError> {
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let fragment = if item.is_composite() { format!("{name}{index}") } else { item.name() };
            values.push((fragment, converted(item)?));
        }
        Ok(Axis { name, values })
    }
}

/// The values of one axis: the items of a list, the keys of a map, the characters of a string.
fn axis_items(values: &Template, position: Position, context: &Context<'_>) -> Result<Vec<Item>, Located<ExpandError>> {
    if let Template::List(items) = values {
        return items.iter().map(|item| Item::of(item, context)).collect();
    }
    let from_variable = values.as_whole().is_some();
    match values.fill(context, Rules::LoopData)? {
        Value::List(items) => Ok(items.into_iter().map(|value| Item { value, from_variable }).collect()),
        Value::Map(map) => Ok(map.into_iter().map(|(key, _)| Item::written(key)).collect()),
        Value::Str(text) if !from_variable => Ok(text.chars().map(|c| Item::written(Value::str(c))).collect()),
        other => {
            let problem = ExpandError::NotIterable { kind: kind_of(&other) };
            Err(Located { problem, position })
        }
    }
}

/// Combines the values of axes, none of which is empty.
fn product(axes: &[Axis]) -> IndexMap<String, Value> {
    let mut combinations = IndexMap::new();
    let mut odometer = vec![0; axes.len()];
    loop {
        let chosen = || axes.iter().zip(&odometer).map(|(axis, &at)| (axis.name.as_str(), &axis.values[at]));
        let name = chosen().map(|(_, (fragment, _))| fragment.as_str()).collect::<Vec<_>>().join("-");
        let item: Map = chosen().map(|(axis, (_, value))| (Value::str(axis), value.clone())).collect();
        combinations.insert(name, Value::Map(Box::new(item)));
        let Some(turning) = (0..axes.len()).rev().find(|&axis| odometer[axis] + 1 < axes[axis].values.len()) else {
            return combinations;
        };
        odometer[turning] += 1;
        odometer[turning + 1..].fill(0);
    }
}

fn named(items: IndexMap<String, Item>, position: Position, has_key: bool) -> Result<Expanded, Located<ExpandError>> {
    let items = items.into_iter().map(|(name, item)| Ok((name, converted(item)?)));
    let items: Result<_, ExpandError> = items.collect();
    let items = items.map_err(|problem| Located { problem, position })?;
    Ok(Expanded { items, has_key })
}

/// Makes a written value fit for lookups, as those of variables are already.
fn converted(item: Item) -> Result<Value, ExpandError> {
    if item.from_variable {
        return Ok(item.value);
    }
    super::context::convert_value(&item.value).map_err(|kind| ExpandError::Unsupported { kind })
}

/// The text of a map's key.
fn key_name(key: &Value) -> String {
    let mut name = String::new();
    text::push(&mut name, key);
    name
}
