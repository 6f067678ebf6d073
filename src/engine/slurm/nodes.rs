//! Nodes on which task after task fails. One of them, left alone, takes all that waits and fails it within a minute.

use std::time::Duration;

use tokio::time::Instant;

/// How many failures on a node, with none elsewhere, keep later tasks away from it.
const BAD_NODE: usize = 2;
/// How long a failure is remembered.
const MEMORY: Duration = Duration::from_mins(10);

/// What is known of the nodes of a phase.
#[derive(Debug)]
pub(super) struct Nodes {
    /// How many there are; the last one is never given up.
    count: usize,
    failures: Vec<(String, Instant)>,
    bad: Vec<String>,
}

impl Nodes {
    pub(super) fn of(count: usize) -> Self {
        Nodes { count, failures: vec![], bad: vec![] }
    }

    /// Takes in that a task failed on a node, and not for reasons of its own.
    pub(super) fn blame(&mut self, node: &str) {
        self.failures.retain(|(_, when)| when.elapsed() < MEMORY);
        self.failures.push((node.to_owned(), Instant::now()));
    }

    /// Those that nothing is to run on.
    pub(super) fn bad(&self) -> impl Iterator<Item = &str> {
        self.bad.iter().map(String::as_str)
    }

    /// A node that has turned out to be bad since the last look: all failures were on it, and there were several.
    pub(super) fn newly_bad(&mut self) -> Option<String> {
        let recent = self.failures.iter().filter(|(node, _)| !self.bad.contains(node));
        let nodes: Vec<&String> = recent.map(|(node, _)| node).collect();
        let first = (*nodes.first()?).clone();
        let is_bad = nodes.len() >= BAD_NODE && nodes.iter().all(|node| **node == first);
        if !is_bad || self.bad.len() + 1 >= self.count {
            return None;
        }
        self.bad.push(first.clone());
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(count: usize, nodes: &[&str]) -> Option<String> {
        let mut known = Nodes::of(count);
        nodes.iter().for_each(|node| known.blame(node));
        known.newly_bad()
    }

    #[test]
    fn a_node_is_bad_where_only_it_fails_and_more_than_once() {
        assert_eq!(blamed(3, &["n1", "n1"]), Some("n1".to_owned()));
        assert_eq!(blamed(3, &["n1"]), None);
        assert_eq!(blamed(3, &["n1", "n2", "n1"]), None);
    }

    #[test]
    fn the_last_node_is_kept() {
        assert_eq!(blamed(1, &["n1", "n1"]), None);
        let mut nodes = Nodes::of(2);
        for node in ["n1", "n1", "n2", "n2"] {
            nodes.blame(node);
        }
        assert_eq!(nodes.newly_bad(), None, "both fail: it is not the node");
    }
}
