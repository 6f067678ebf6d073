//! From the graph of nodes to the tree of values: types, keys, merge keys, and the limits on what aliases expand to.

use indexmap::map::Entry as Slot;

use super::compose::{Content, Graph, Merge, NodeId};
use super::scalar;
use super::tag::Tag;
use super::{Entries, Entry, MAX_ALIASED_NODES, MAX_DEPTH, Node, NodeValue, Position, YamlError};
use crate::dvc::value::Value;

/// Builds the tree below a node.
pub(super) fn construct(graph: Graph<'_>, root: NodeId) -> Result<Node, YamlError> {
    let progress = vec![Progress::Fresh; graph.len()];
    let budget = graph.len() + MAX_ALIASED_NODES;
    Builder { graph, progress, budget, depth: 0 }.build(root)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Fresh,
    /// Being built further up: an alias to it would never end.
    Open,
    /// Was a key before.
    Key,
    Value,
}

struct Builder<'a> {
    graph: Graph<'a>,
    progress: Vec<Progress>,
    /// Nodes that may still be built; each alias and merge builds its nodes anew.
    budget: usize,
    depth: usize,
}

impl Builder<'_> {
    fn build(&mut self, id: NodeId) -> Result<Node, YamlError> {
        let position = self.graph.node(id).position;
        self.spend(1, position)?;
        if self.progress[id.index()] == Progress::Open {
            return Err(position.error("this collection contains itself by an alias"));
        }
        if self.depth >= MAX_DEPTH {
            return Err(YamlError::too_deep(position));
        }
        self.depth += 1;
        self.progress[id.index()] = Progress::Open;
        let value = self.build_value(id, position)?;
        self.progress[id.index()] = Progress::Value;
        self.depth -= 1;
        Ok(Node { position, value })
    }

    fn spend(&mut self, nodes: usize, position: Position) -> Result<(), YamlError> {
        self.budget = self
            .budget
            .checked_sub(nodes)
            .ok_or_else(|| position.error(format!("aliases expand to more than {MAX_ALIASED_NODES} values")))?;
        Ok(())
    }

    fn build_value(&mut self, id: NodeId, position: Position) -> Result<NodeValue, YamlError> {
        let node = self.graph.node(id);
        match (&node.tag, &node.content) {
            (Tag::Seq, Content::Sequence(items)) => {
                let items = items.clone();
                let items: Result<_, _> = items.into_iter().map(|item| self.build(item)).collect();
                Ok(NodeValue::List(items?))
            }
            (Tag::Map, Content::Mapping(_)) => Ok(NodeValue::Map(Box::new(self.mapping(id)?))),
            (Tag::Set, Content::Mapping(_)) => {
                Ok(NodeValue::Scalar(Value::Set(self.mapping(id)?.into_keys().collect())))
            }
            (Tag::Omap, Content::Sequence(items)) => {
                let items = items.clone();
                self.ordered_map(&items)
            }
            (Tag::Pairs, Content::Sequence(items)) => {
                let items = items.clone();
                self.pairs(&items)
            }
            (Tag::Unknown(name), _) => Err(position.error(format!("the tag `{name}` is unknown"))),
            (Tag::Timestamp, Content::Mapping(_)) => Err(position.error("not a date that exists")),
            (tag, _) => {
                let text = self.scalar_text(id)?;
                let value = scalar::value(tag, text, self.graph.version);
                value.map(NodeValue::Scalar).map_err(|message| position.error(message))
            }
        }
    }

    /// Returns the text of a scalar; a map with a key `=` may stand for one.
    fn scalar_text(&self, id: NodeId) -> Result<&str, YamlError> {
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            let node = self.graph.node(id);
            let found = match &node.content {
                Content::Scalar(text) => return Ok(text),
                Content::Sequence(_) => None,
                Content::Mapping(entries) => {
                    entries.iter().find(|(key, _)| self.graph.node(*key).tag == Tag::Value).map(|(_, value)| *value)
                }
            };
            id = found.ok_or_else(|| node.position.error("expected a scalar but found a collection"))?;
        }
        Err(YamlError::too_deep(self.graph.node(id).position))
    }

    fn mapping(&mut self, id: NodeId) -> Result<Entries, YamlError> {
        let may_repeat = self.flatten(id, 0)?;
        let Content::Mapping(entries) = &self.graph.node(id).content else { return Ok(Entries::new()) };
        let entries = entries.clone();
        let mut map = Entries::with_capacity(entries.len());
        let mut has_nan = false;
        for (key_id, value_id) in entries {
            let key_node = self.graph.node_mut(key_id);
            let key_position = key_node.position;
            if key_node.tag == Tag::Value {
                key_node.tag = Tag::Str;
            }
            let key = self.key(key_id)?;
            // To Python the NaNs of a file are one object, hence one key; by value they are never equal.
            if contains_nan(&key) && std::mem::replace(&mut has_nan, true) {
                return Err(key_position.error("duplicate key `.nan`"));
            }
            let node = self.build(value_id)?;
            match map.entry(key) {
                // The key's place and spelling are those of the first, the value is that of the last.
                Slot::Occupied(mut slot) if may_repeat => {
                    slot.insert(Entry { key_position, node });
                }
                Slot::Occupied(slot) => {
                    let first = slot.get().key_position.line;
                    let message = format!("duplicate key, first given in line {first}");
                    return Err(key_position.error(message));
                }
                Slot::Vacant(slot) => {
                    slot.insert(Entry { key_position, node });
                }
            }
        }
        Ok(map)
    }

    /// Builds a key. A list becomes a tuple.
    ///
    /// A list that was a value before is refused: DVC would take an alias to it for an empty tuple, as it fills lists
    /// late.
    fn key(&mut self, id: NodeId) -> Result<Value, YamlError> {
        let is_list = matches!(self.graph.node(id).content, Content::Sequence(_));
        let position = self.graph.node(id).position;
        if is_list && self.progress[id.index()] == Progress::Value {
            return Err(position.error("an alias to this list is used as a key"));
        }
        let key = match self.build(id)?.into_value() {
            Value::List(items) => Value::Tuple(items),
            key => key,
        };
        self.progress[id.index()] = Progress::Key;
        if key.is_hashable() { Ok(key) } else { Err(position.error("a collection cannot be a key")) }
    }

    fn ordered_map(&mut self, items: &[NodeId]) -> Result<NodeValue, YamlError> {
        let mut map = Entries::with_capacity(items.len());
        for item in items {
            let (key_id, value_id) = self.single_entry(*item)?;
            let key_position = self.graph.node(key_id).position;
            let key = self.build(key_id)?.into_value();
            if !key.is_hashable() || contains_nan(&key) || map.contains_key(&key) {
                let message = "a collection, a NaN or a second time the same key in an ordered map";
                return Err(key_position.error(message));
            }
            let node = self.build(value_id)?;
            map.insert(key, Entry { key_position, node });
        }
        Ok(NodeValue::Map(Box::new(map)))
    }

    fn pairs(&mut self, items: &[NodeId]) -> Result<NodeValue, YamlError> {
        let mut pairs = Vec::with_capacity(items.len());
        for item in items {
            let (key, value) = self.single_entry(*item)?;
            let pair = vec![self.build(key)?.into_value(), self.build(value)?.into_value()];
            pairs.push(Value::Tuple(pair));
        }
        Ok(NodeValue::Scalar(Value::List(pairs)))
    }

    fn single_entry(&self, id: NodeId) -> Result<(NodeId, NodeId), YamlError> {
        let node = self.graph.node(id);
        match &node.content {
            Content::Mapping(entries) if entries.len() == 1 => Ok(entries[0]),
            _ => Err(node.position.error("expected a map of one entry")),
        }
    }

    /// Replaces the merge keys of a mapping by the entries they stand for, in front of its own.
    ///
    /// Of a list of mappings the last comes first. Returns whether anything was merged: then, as for Python, keys may
    /// repeat. The result is kept in the graph, so a mapping is flattened once however often it is merged.
    fn flatten(&mut self, id: NodeId, depth: usize) -> Result<bool, YamlError> {
        let node = self.graph.node_mut(id);
        let position = node.position;
        if depth > MAX_DEPTH {
            return Err(YamlError::too_deep(position));
        }
        if node.merge == Merge::InProgress {
            return Err(position.error("this map merges itself"));
        }
        let Content::Mapping(entries) = &mut node.content else { return Ok(false) };
        let entries = std::mem::take(entries);
        let already_merged = std::mem::replace(&mut node.merge, Merge::InProgress) == Merge::Done;
        let mut merged = Vec::new();
        let mut own = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key_node = self.graph.node(key);
            if key_node.tag != Tag::Merge {
                own.push((key, value));
                continue;
            }
            if !merged.is_empty() {
                return Err(key_node.position.error("a second merge key `<<` in one map"));
            }
            for source in self.merge_sources(value)? {
                self.flatten(source, depth + 1)?;
                if let Content::Mapping(entries) = &self.graph.node(source).content {
                    let count = entries.len();
                    merged.extend_from_slice(entries);
                    self.spend(count, position)?;
                }
            }
        }
        let has_merged = already_merged || !merged.is_empty();
        merged.append(&mut own);
        let node = self.graph.node_mut(id);
        node.content = Content::Mapping(merged);
        node.merge = if has_merged { Merge::Done } else { Merge::None };
        Ok(has_merged)
    }

    /// Returns the mappings that a merge key names, in the order in which their entries come.
    fn merge_sources(&self, value: NodeId) -> Result<Vec<NodeId>, YamlError> {
        let node = self.graph.node(value);
        match &node.content {
            Content::Mapping(_) => Ok(vec![value]),
            Content::Sequence(items) => {
                let stranger =
                    items.iter().find(|item| !matches!(self.graph.node(**item).content, Content::Mapping(_)));
                match stranger {
                    Some(item) => Err(self.graph.node(*item).position.error("only maps can be merged")),
                    None => Ok(items.iter().rev().copied().collect()),
                }
            }
            Content::Scalar(_) => Err(node.position.error("only a map or a list of maps can be merged")),
        }
    }
}

fn contains_nan(key: &Value) -> bool {
    match key {
        Value::Float(number) => number.is_nan(),
        Value::Tuple(items) => items.iter().any(contains_nan),
        _ => false,
    }
}
