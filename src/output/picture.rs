//! The phases of a plan with templates collapsed: as lines of text, as a Mermaid flowchart, for Graphviz.
//!
//! ```text
//! phase 0  map      37 work items  extract ×37 → score ×37
//! phase 1  shared    1 work item   summary  (finalize)
//! ```

use std::fmt::Write as _;

use super::text::{count, grouped};

/// A plan to draw.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    pub phases: Vec<PhaseBox>,
    /// Phases' nodes, then those of templates with stages that are not to run.
    pub nodes: Vec<Node>,
    /// From what is needed to what needs it: indices into `nodes`.
    pub edges: Vec<(usize, usize)>,
}

#[derive(Debug)]
pub(crate) struct PhaseBox {
    pub is_map: bool,
    /// Whether `finalize` runs it.
    pub trailing: bool,
    pub work_items: usize,
}

/// The stages of one template in one phase, or those of a template that are unchanged.
#[derive(Debug)]
pub(crate) struct Node {
    /// The template's address.
    pub template: String,
    /// `None` for unchanged stages.
    pub phase: Option<usize>,
    pub stages: usize,
}

impl Picture {
    /// One line per phase.
    pub(crate) fn text(&self) -> Vec<String> {
        let counts: Vec<String> = self.phases.iter().map(|phase| count(phase.work_items, "work item")).collect();
        let width = counts.iter().map(String::len).max().unwrap_or(0);
        let line = |(number, phase): (usize, &PhaseBox)| {
            let kind = if phase.is_map { "map" } else { "shared" };
            let who = if phase.trailing { "  (finalize)" } else { "" };
            format!("phase {number}  {kind:6}  {:>width$}  {}{who}", counts[number], self.chain(number))
        };
        self.phases.iter().enumerate().map(line).collect()
    }

    /// The templates of a phase; an arrow where one needs the one before it.
    fn chain(&self, phase: usize) -> String {
        let mut text = String::new();
        let mut before: Option<usize> = None;
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.phase == Some(phase)) {
            if let Some(before) = before {
                text.push_str(if self.edges.contains(&(before, at)) { " → " } else { ", " });
            }
            text.push_str(&node.template);
            if self.phases[phase].is_map || node.stages > 1 {
                write!(text, " ×{}", grouped(node.stages)).expect("a String takes every text");
            }
            before = Some(at);
        }
        text
    }

    /// A flowchart that GitHub, GitLab and Jenkins plugins draw.
    pub(crate) fn mermaid(&self) -> String {
        let mut lines = vec!["flowchart TD".to_owned()];
        self.boxes(
            &mut lines,
            &|number, title| format!("  subgraph phase{number}[\"{title}\"]"),
            "  end",
            &|at, node| format!("n{at}[\"{}\"]", label(node, "<br>").replace('"', "#quot;")),
        );
        lines.extend(self.edges.iter().map(|(from, to)| format!("  n{from} --> n{to}")));
        lines.push("  classDef unchanged stroke-dasharray: 4 4".to_owned());
        lines.extend(self.unchanged().map(|at| format!("  class n{at} unchanged")));
        lines.join("\n")
    }

    /// A graph in Graphviz' language.
    pub(crate) fn dot(&self) -> String {
        let mut lines = vec!["digraph plan {".to_owned(), "  node [shape=box];".to_owned()];
        self.boxes(
            &mut lines,
            &|number, title| format!("  subgraph cluster{number} {{\n    label=\"{title}\";"),
            "  }",
            &|at, node| {
                let style = if node.phase.is_none() { ", style=dashed" } else { "" };
                format!("n{at} [label=\"{}\"{style}];", label(node, "\n").escape_default())
            },
        );
        lines.extend(self.edges.iter().map(|(from, to)| format!("  n{from} -> n{to};")));
        lines.push("}".to_owned());
        lines.join("\n")
    }

    fn boxes(
        &self,
        lines: &mut Vec<String>,
        open: &dyn Fn(usize, &str) -> String,
        close: &str,
        draw: &dyn Fn(usize, &Node) -> String,
    ) {
        for (number, phase) in self.phases.iter().enumerate() {
            let kind = if phase.is_map { "map" } else { "shared" };
            let who = if phase.trailing { ", in finalize" } else { "" };
            lines.push(open(number, &format!("phase {number}: {kind}, {}{who}", count(phase.work_items, "work item"))));
            let own = self.nodes.iter().enumerate().filter(|(_, node)| node.phase == Some(number));
            lines.extend(own.map(|(at, node)| format!("    {}", draw(at, node))));
            lines.push(close.to_owned());
        }
        lines.extend(self.unchanged().map(|at| format!("  {}", draw(at, &self.nodes[at]))));
    }

    fn unchanged(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].phase.is_none())
    }
}

fn label(node: &Node, line_break: &str) -> String {
    let what = if node.phase.is_some() { "changed" } else { "unchanged" };
    format!("{}{line_break}{} {what}", node.template, grouped(node.stages))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let node = |template: &str, phase, stages| Node { template: template.into(), phase, stages };
        Picture {
            phases: vec![
                PhaseBox { is_map: true, trailing: false, work_items: 1200 },
                PhaseBox { is_map: false, trailing: true, work_items: 1 },
            ],
            nodes: vec![
                node("extract", Some(0), 1200),
                node("score", Some(0), 1200),
                node("summary", Some(1), 1),
                node("score", None, 8800),
            ],
            edges: vec![(0, 1), (1, 2), (3, 2)],
        }
    }

    #[test]
    fn text_has_a_line_for_each_phase() {
        assert_eq!(
            picture().text(),
            [
                "phase 0  map     1,200 work items  extract ×1,200 → score ×1,200",
                "phase 1  shared       1 work item  summary  (finalize)"
            ]
        );
    }

    #[test]
    fn mermaid_puts_phases_into_subgraphs() {
        assert_eq!(
            picture().mermaid(),
            "flowchart TD\n  subgraph phase0[\"phase 0: map, 1,200 work items\"]\n    n0[\"extract<br>1,200 changed\"]\n    \
             n1[\"score<br>1,200 changed\"]\n  end\n  subgraph phase1[\"phase 1: shared, 1 work item, in finalize\"]\n    \
             n2[\"summary<br>1 changed\"]\n  end\n  n3[\"score<br>8,800 unchanged\"]\n  n0 --> n1\n  n1 --> n2\n  \
             n3 --> n2\n  classDef unchanged stroke-dasharray: 4 4\n  class n3 unchanged"
        );
    }

    #[test]
    fn dot_puts_phases_into_clusters() {
        let dot = picture().dot();
        assert!(dot.contains("  subgraph cluster0 {\n    label=\"phase 0: map, 1,200 work items\";\n"), "{dot}");
        assert!(dot.contains("    n0 [label=\"extract\\n1,200 changed\"];\n"), "{dot}");
        assert!(dot.contains("  n3 [label=\"score\\n8,800 unchanged\", style=dashed];\n"), "{dot}");
        assert!(dot.ends_with("  n3 -> n2;\n}"), "{dot}");
    }
}
