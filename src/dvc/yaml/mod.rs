//! YAML as DVC 3.67 reads it: ruamel.yaml 0.19 in its pure Python form, type "safe", YAML 1.2 unless the file says 1.1.
//!
//! The scanner is our own, because ruamel's dialect is not what YAML libraries implement and differs in places that
//! decide whether a file is accepted: tabs in plain scalars, `:` and `?` in flow context, line breaks at U+0085,
//! block scalars at the top level, tags, quoted texts without indentation. A stricter or laxer parser with checks around
//! it would have to scan the text again anyway.
//!
//! | step | file |
//! |---|---|
//! | bytes to characters with positions | `reader.rs` |
//! | characters to tokens | `scanner.rs`, `scan_names.rs`, `scan_scalars.rs` |
//! | tokens to a graph of nodes, aliases included | `compose.rs` |
//! | types of nodes | `tag.rs`, `scalar.rs`, `timestamp.rs` |
//! | graph to a tree: keys, merge keys, limits | `construct.rs` |
//!
//! Known differences: what Python can hold but no file can (lone surrogates, collections that contain or merge
//! themselves) is an error here, so are a list used as a key by an alias, digits other than ASCII under `!!int` and
//! `!!float`, and what exceeds the limits below.

mod compose;
mod construct;
mod reader;
mod scalar;
mod scan_names;
mod scan_scalars;
mod scanner;
mod tag;
#[cfg(test)]
mod tests;
mod timestamp;
mod token;

use std::borrow::Cow;

use indexmap::IndexMap;

use super::value::{Map, StrKey, Value};

/// How deep collections may nest. DVC gives up at about 470; this much fits any thread's stack.
pub(crate) const MAX_DEPTH: usize = 200;

/// How many values aliases and merge keys may add to those that are written.
pub(crate) const MAX_ALIASED_NODES: usize = 4_000_000;

/// The version that a `%YAML` directive asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1_1,
    V1_2,
}

/// A place in a file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub line: u32,
    pub column: u32,
}

impl Position {
    fn error(self, message: impl Into<String>) -> YamlError {
        YamlError { message: message.into(), position: self }
    }
}

/// Why and where a text is not YAML to DVC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct YamlError {
    pub message: String,
    pub position: Position,
}

impl YamlError {
    fn too_deep(position: Position) -> Self {
        position.error(format!("collections nest deeper than {MAX_DEPTH} levels"))
    }
}

/// A value with its position.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where the value starts; for one that came by an alias, where it is written.
    pub position: Position,
    pub value: NodeValue,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeValue {
    /// Anything but a list or a map. (The items of `!!set` and `!!pairs` have no positions.)
    Scalar(Value),
    List(Vec<Node>),
    Map(Box<Entries>),
}

/// A map's entries in the order of Python's dict.
pub(crate) type Entries = IndexMap<Value, Entry>;

/// The value of a map's key.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key_position: Position,
    pub node: Node,
}

impl Node {
    pub(crate) fn into_value(self) -> Value {
        match self.value {
            NodeValue::Scalar(value) => value,
            NodeValue::List(items) => Value::List(items.into_iter().map(Node::into_value).collect()),
            NodeValue::Map(entries) => {
                let map: Map = entries.into_iter().map(|(key, entry)| (key, entry.node.into_value())).collect();
                Value::Map(Box::new(map))
            }
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Entries> {
        match &self.value {
            NodeValue::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            NodeValue::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entry of a string key, where this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.get(&StrKey(key))
    }
}

/// Decodes a file the way Python opens one for text: UTF-8, with CR LF and CR as LF.
pub(crate) fn decode_text(bytes: &[u8]) -> Result<Cow<'_, str>, YamlError> {
    reader::decode_text(bytes)
}

/// Reads a file with positions. An empty or false value at the top level is an empty map.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node, YamlError> {
    let text = decode_text(bytes)?;
    reader::check_characters(&text)?;
    let (graph, root) = compose::compose(&text)?;
    let root = root.map(|root| construct::construct(graph, root)).transpose()?;
    let start = Position { line: 1, column: 1 };
    Ok(root
        .filter(|node| !is_false(node))
        .unwrap_or_else(|| Node { position: start, value: NodeValue::Map(Box::default()) }))
}

/// Reads a file. An empty or false value at the top level is an empty map.
pub(crate) fn load(bytes: &[u8]) -> Result<Value, YamlError> {
    Ok(parse(bytes)?.into_value())
}

/// Whether a plain scalar of this text is a string.
pub(crate) fn is_plain_text(text: &str) -> bool {
    tag::Tag::of_plain(text, Version::V1_2) == tag::Tag::Str
}

fn is_false(node: &Node) -> bool {
    match &node.value {
        NodeValue::Scalar(value) => value.is_false(),
        NodeValue::List(items) => items.is_empty(),
        NodeValue::Map(entries) => entries.is_empty(),
    }
}
