//! Values with `${…}` in them: parsed once, filled in for every stage.

use thiserror::Error;

use super::context::{Context, NotFound, kind_of};
use super::expression::{Expression, Piece, SyntaxError, Text};
use super::text::{self, ArgumentsError};
use crate::dvc::config::ParsingConfig;
use crate::dvc::value::{Map, Value};
use crate::dvc::yaml::{Node, NodeValue, Position};

/// A value of a `dvc.yaml` before interpolation.
#[derive(Clone, Debug)]
pub(crate) enum Template {
    /// Comes out as it is.
    Value(Value),
    Text {
        text: Text,
        position: Position,
    },
    List(Vec<Template>),
    Map(Vec<(Template, Template)>),
}

/// What an expression may stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rules<'c> {
    /// Scalars only.
    Scalars,
    /// Scalars, and maps, which become arguments.
    Command(&'c ParsingConfig),
    /// Anything: `wdir` when it is looked up for stage-level vars, and the top-level sections.
    Anything,
    /// The data of `foreach` and `matrix`: anything, but keys of maps may not be whole expressions.
    LoopData,
}

/// A problem at a place of the file.
#[derive(Debug)]
pub(crate) struct Located<E> {
    pub problem: E,
    pub position: Position,
}

#[derive(Debug, Error)]
pub(crate) enum FillError {
    #[error("could not find `{source_text}`")]
    NotFound { source_text: String, missing: NotFound },
    #[error("cannot interpolate data of type `{kind}`: `${{{source_text}}}`")]
    WrongType { source_text: String, kind: &'static str },
    #[error("cannot turn `${{{source_text}}}` into arguments")]
    Arguments {
        source_text: String,

        #[source]
        source: ArgumentsError,
    },
    #[error("a {kind} cannot be the key of a map")]
    BadKey { kind: &'static str },
}

impl Template {
    /// Parses all strings of a value, keys included.
    pub(crate) fn parse(node: &Node) -> Result<Template, Located<SyntaxError>> {
        match &node.value {
            NodeValue::Scalar(value) => Template::parse_scalar(value, node.position),
            NodeValue::List(items) => {
                let items: Vec<Template> = items.iter().map(Template::parse).collect::<Result<_, _>>()?;
                if items.iter().all(|item| matches!(item, Template::Value(_))) {
                    return Ok(Template::Value(Value::List(
                        items.into_iter().filter_map(Template::into_value).collect(),
                    )));
                }
                Ok(Template::List(items))
            }
            NodeValue::Map(entries) => {
                let mut parsed = Vec::with_capacity(entries.len());
                for (key, entry) in entries.iter() {
                    parsed.push((Template::parse_scalar(key, entry.key_position)?, Template::parse(&entry.node)?));
                }
                let is_value = |template: &Template| matches!(template, Template::Value(_));
                if parsed.iter().all(|(key, value)| is_value(key) && is_value(value)) {
                    let entries =
                        parsed.into_iter().filter_map(|(key, value)| key.into_value().zip(value.into_value()));
                    return Ok(Template::Value(Value::Map(Box::new(entries.collect()))));
                }
                Ok(Template::Map(parsed))
            }
        }
    }

    fn parse_scalar(value: &Value, position: Position) -> Result<Template, Located<SyntaxError>> {
        let Value::Str(string) = value else { return Ok(Template::Value(value.clone())) };
        match Text::parse(string) {
            Ok(None) => Ok(Template::Value(value.clone())),
            Ok(Some(text)) => Ok(Template::Text { text, position }),
            Err(problem) => Err(Located { problem, position }),
        }
    }

    fn into_value(self) -> Option<Value> {
        match self {
            Template::Value(value) => Some(value),
            Template::Text { .. } | Template::List(_) | Template::Map(_) => None,
        }
    }

    /// Fills in the variables.
    pub(crate) fn fill(&self, context: &Context<'_>, rules: Rules<'_>) -> Result<Value, Located<FillError>> {
        match self {
            Template::Value(value) => Ok(value.clone()),
            Template::Text { text, position } => {
                fill_text(text, context, rules).map_err(|problem| Located { problem, position: *position })
            }
            Template::List(items) => {
                items.iter().map(|item| item.fill(context, rules)).collect::<Result<_, _>>().map(Value::List)
            }
            Template::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (key, value) in entries {
                    map.insert(key.fill_key(context, rules)?, value.fill(context, rules)?);
                }
                Ok(Value::Map(Box::new(map)))
            }
        }
    }

    pub(super) fn fill_key(&self, context: &Context<'_>, rules: Rules<'_>) -> Result<Value, Located<FillError>> {
        let filled = self.fill(context, rules)?;
        if let Template::Text { text, position } = self
            && (matches!(filled, Value::List(_) | Value::Map(_))
                || (matches!(rules, Rules::LoopData) && text.as_whole().is_some()))
        {
            let problem = FillError::BadKey { kind: kind_of(&filled) };
            return Err(Located { problem, position: *position });
        }
        Ok(filled)
    }

    /// The expression if this is nothing else, with its place.
    pub(crate) fn as_whole(&self) -> Option<&Expression> {
        match self {
            Template::Text { text, .. } => text.as_whole(),
            Template::Value(_) | Template::List(_) | Template::Map(_) => None,
        }
    }
}

fn fill_text(text: &Text, context: &Context<'_>, rules: Rules<'_>) -> Result<Value, FillError> {
    if let Some(expression) = text.as_whole() {
        return look_up(expression, context, rules).cloned();
    }
    let mut filled = String::new();
    for piece in &text.pieces {
        match piece {
            Piece::Literal(literal) => filled.push_str(literal),
            Piece::Expression(expression) => {
                let value = look_up(expression, context, rules)?;
                push_text(&mut filled, value, expression, rules)?;
            }
        }
    }
    if filled.contains("\\${") {
        filled = filled.replace("\\${", "${");
    }
    Ok(Value::Str(filled))
}

fn push_text(filled: &mut String, value: &Value, expression: &Expression, rules: Rules<'_>) -> Result<(), FillError> {
    let Value::Map(map) = value else {
        text::push(filled, value);
        return Ok(());
    };
    let config = match rules {
        Rules::Command(config) => *config,
        Rules::Scalars | Rules::Anything | Rules::LoopData => ParsingConfig::default(),
    };
    let arguments = text::arguments(map, config)
        .map_err(|source| FillError::Arguments { source_text: expression.source_text.clone(), source })?;
    filled.push_str(&arguments);
    Ok(())
}

fn look_up<'v>(expression: &Expression, context: &'v Context<'_>, rules: Rules<'_>) -> Result<&'v Value, FillError> {
    let source_text = || expression.source_text.clone();
    let value = context
        .select(&expression.words)
        .map_err(|missing| FillError::NotFound { source_text: source_text(), missing })?;
    let allowed = match (value, rules) {
        (Value::Map(_), Rules::Scalars) | (Value::List(_), Rules::Scalars | Rules::Command(_)) => false,
        (_, Rules::Scalars | Rules::Command(_) | Rules::Anything | Rules::LoopData) => true,
    };
    if allowed { Ok(value) } else { Err(FillError::WrongType { source_text: source_text(), kind: kind_of(value) }) }
}
