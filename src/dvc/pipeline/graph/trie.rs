//! All outputs of a project by the components of their paths: which equals, contains or lies below a path.

use std::collections::HashMap;

use super::error::GraphError;
use crate::dvc::pipeline::project::{OutputRef, Project};

/// All outputs by path component. Children stand in the order in which they were first inserted.
pub(super) struct OutputTrie<'a> {
    nodes: Vec<TrieNode>,
    /// The child of a node by component; one map for all nodes is smaller and faster than one each.
    children: HashMap<(usize, &'a str), usize>,
    /// The nodes from the top of the file system down to the project's root: where relative paths begin.
    root: Vec<usize>,
}

#[derive(Default)]
struct TrieNode {
    output: Option<OutputRef>,
    children: Vec<usize>,
    /// Whether it is among its parent's children yet: the project's root is only when an output lies in it.
    is_linked: bool,
}

impl<'a> OutputTrie<'a> {
    pub(super) fn of(project: &'a Project) -> Result<Self, GraphError> {
        let mut trie = OutputTrie { nodes: vec![TrieNode::default()], children: HashMap::new(), root: vec![0] };
        for part in parts(&project.root) {
            let child = trie.child_or_new(trie.root[trie.root.len() - 1], part);
            trie.root.push(child);
        }
        for node in &mut trie.nodes {
            node.children.clear();
            node.is_linked = false;
        }
        for (stage, of_stage) in project.stages.indexed() {
            for (out, output) in of_stage.outs.iter().enumerate() {
                if let Some(key) = graph_key(output.resolved.as_ref(), &output.path) {
                    trie.insert(project, key, OutputRef { stage, out })?;
                }
            }
        }
        Ok(trie)
    }

    fn insert(&mut self, project: &Project, key: &'a str, output: OutputRef) -> Result<(), GraphError> {
        let (start, rest) = self.start(key);
        for pair in start.windows(2) {
            self.link(pair[0], pair[1]);
        }
        let mut node = start[start.len() - 1];
        let mut outer = start.iter().find_map(|&node| self.nodes[node].output);
        for part in parts(rest) {
            outer = outer.or(self.nodes[node].output);
            node = self.child_or_new(node, part);
        }
        if let Some(other) = self.nodes[node].output {
            return Err(GraphError::duplicate(project, other, output));
        }
        if let Some(inner) = self.below_node(node).first() {
            return Err(GraphError::overlapping(project, output, *inner));
        }
        if let Some(outer) = outer {
            return Err(GraphError::overlapping(project, outer, output));
        }
        self.nodes[node].output = Some(output);
        Ok(())
    }

    fn child_or_new(&mut self, parent: usize, part: &'a str) -> usize {
        let new = self.nodes.len();
        let child = *self.children.entry((parent, part)).or_insert(new);
        if child == new {
            self.nodes.push(TrieNode::default());
        }
        self.link(parent, child);
        child
    }

    fn link(&mut self, parent: usize, child: usize) {
        if !std::mem::replace(&mut self.nodes[child].is_linked, true) {
            self.nodes[parent].children.push(child);
        }
    }

    /// Returns the nodes above and at which a key begins, and what of it is left to walk.
    fn start<'k>(&self, key: &'k str) -> (Vec<usize>, &'k str) {
        if key.starts_with('/') || is_url(key) {
            (vec![0], key)
        } else if key == ".." {
            (self.root[..self.root.len() - 1].to_vec(), "")
        } else if let Some(rest) = key.strip_prefix("../") {
            (self.root[..self.root.len() - 1].to_vec(), rest)
        } else {
            (self.root.clone(), key)
        }
    }

    /// Returns the outputs that equal or contain the path, outermost first.
    pub(super) fn containing(&self, key: &str) -> Vec<OutputRef> {
        let (start, rest) = self.start(key);
        let mut node = start[start.len() - 1];
        let mut found: Vec<OutputRef> = start.iter().filter_map(|&node| self.nodes[node].output).collect();
        for part in parts(rest) {
            let Some(&child) = self.children.get(&(node, part)) else { break };
            found.extend(self.nodes[child].output);
            node = child;
        }
        found
    }

    /// Returns the outputs below the path, in trie order.
    pub(super) fn below(&self, key: &str) -> Vec<OutputRef> {
        let (start, rest) = self.start(key);
        let mut node = start[start.len() - 1];
        for part in parts(rest) {
            let Some(&child) = self.children.get(&(node, part)) else { return vec![] };
            node = child;
        }
        self.below_node(node)
    }

    fn below_node(&self, node: usize) -> Vec<OutputRef> {
        let mut found = vec![];
        let mut waiting: Vec<usize> = self.nodes[node].children.iter().rev().copied().collect();
        while let Some(node) = waiting.pop() {
            found.extend(self.nodes[node].output);
            waiting.extend(self.nodes[node].children.iter().rev());
        }
        found
    }
}

/// The text under which a dep or out takes part in the graph: its path, or the URL; `None` if it does not.
pub(super) fn graph_key<'a>(resolved: Option<&'a String>, path: &'a str) -> Option<&'a str> {
    resolved.map(String::as_str).or_else(|| is_url(path).then_some(path))
}

fn is_url(text: &str) -> bool {
    text.contains("://") && !text.starts_with('/')
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}
