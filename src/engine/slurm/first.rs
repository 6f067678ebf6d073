//! The first tasks of a phase: where none of them gets to its work items, the others would not either.
//!
//! Such a task fails before its worker has begun anything: it does not see the project, its cache or `dvc-fanout`, or what
//! comes before the worker fails. One node on which that happens is kept out; where it happens on several, or there is no
//! other, the rest is not begun.

use std::collections::BTreeSet;

use crate::diagnostic::Diagnostic;
use crate::output::text::count;

/// How many tasks have to fail.
const FIRST: usize = 3;

/// What is known of the tasks of a phase that have ended.
#[derive(Debug)]
pub(super) struct Firsts {
    /// How many nodes there are.
    nodes: usize,
    /// Whether a work item was begun.
    has_begun: bool,
    /// The nodes of the tasks that failed before, as far as they are known.
    failed: Vec<Option<String>>,
    /// What the last of them said.
    why: String,
}

impl Firsts {
    pub(super) fn of(nodes: usize) -> Self {
        Firsts { nodes, has_begun: false, failed: vec![], why: String::new() }
    }

    /// Takes in that a work item was begun.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Takes in that a task failed, which only matters while no work item was begun.
    pub(super) fn fail(&mut self, node: Option<&str>, why: &str) {
        if !self.has_begun {
            self.failed.push(node.map(str::to_owned));
            why.clone_into(&mut self.why);
        }
    }

    /// Whether others would fail as well.
    pub(super) fn are_telling(&self) -> bool {
        let nodes: BTreeSet<&Option<String>> = self.failed.iter().collect();
        !self.has_begun && self.failed.len() >= FIRST && nodes.len() >= self.nodes.clamp(1, 2)
    }

    /// Why the rest was not begun.
    pub(super) fn failure(&self) -> Diagnostic {
        let failed = count(self.failed.len(), "task");
        Diagnostic::tool(format!("no task gets to its work items: {failed} failed before they began any"))
            .cause(&self.why)
            .hint("the rest of the arrays was cancelled; `launch` again when that is mended")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(nodes: usize, failed: &[&str], are_telling: bool) {
        let mut firsts = Firsts::of(nodes);
        failed.iter().for_each(|node| firsts.fail(Some(*node), "no disk"));
        assert_eq!(firsts.are_telling(), are_telling, "{nodes}: {failed:?}");
        firsts.begin();
        assert!(!firsts.are_telling());
    }

    #[test]
    fn a_few_tasks_on_different_nodes_tell_of_all() {
        check(3, &["n1", "n2"], false);
        check(3, &["n1", "n1", "n1", "n1"], false);
        check(3, &["n1", "n1", "n2"], true);
        check(1, &["n1", "n1", "n1"], true);
        check(0, &["n1", "n1", "n1"], true);
    }
}
