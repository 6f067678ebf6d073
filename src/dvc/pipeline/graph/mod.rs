//! Who needs whom: the graph of stages, its checks, and the order of `dvc repro`.
//!
//! As in `dvc/repo/graph.py` and `dvc/repo/trie.py` of DVC 3.67: outputs are the keys of a trie of path components;
//! a stage needs the stages whose outputs equal, contain or lie below one of its deps or params files.

mod error;
pub(crate) mod target;
mod trie;

use self::error::GraphError;
use self::trie::{OutputTrie, graph_key};
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage::Stage;
use crate::dvc::pipeline::stage_index::{PerStage, StageIndex};

/// The stages that each stage needs.
#[derive(Debug)]
pub(crate) struct Graph {
    needs: PerStage<Vec<StageIndex>>,
    /// The other way round, in collection order.
    needed_by: PerStage<Vec<StageIndex>>,
    /// A frozen stage runs without its deps being brought up to date.
    frozen: PerStage<bool>,
    /// A stage that DVC lists twice (`a@x` written out beside a group `a` with key `x`) is one node, the first.
    repeated: PerStage<bool>,
}

/// How far a selection reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The stages and everything they need.
    Upstream,
    /// The stages and everything that needs them.
    Downstream,
    /// Everything connected with the stages.
    Pipeline,
}

impl Graph {
    /// Builds the graph and makes the checks that DVC makes with it.
    ///
    /// In this order: two outputs with one path, an output inside another, a stage's file inside an output, a cycle.
    pub(crate) fn build(project: &Project) -> Result<Graph, GraphError> {
        let outputs = OutputTrie::of(project)?;
        check_files(project, &outputs)?;
        let mut repeated = project.stages.filled(false);
        for &stage in &project.repeated {
            repeated[stage] = true;
        }
        let needs = project.stages.indexes();
        let needs = needs.map(|stage| if repeated[stage] { vec![] } else { needs_of(project, &outputs, stage) });
        let needs: PerStage<Vec<StageIndex>> = needs.collect();
        let mut needed_by = needs.filled(vec![]);
        for (stage, needs) in needs.indexed() {
            for &needed in needs {
                needed_by[needed].push(stage);
            }
        }
        let frozen = project.stages.iter().map(|stage| stage.frozen).collect();
        let graph = Graph { needs, needed_by, frozen, repeated };
        match graph.cycle() {
            Some(cycle) => Err(GraphError::cycle(project, &cycle)),
            None => Ok(graph),
        }
    }

    /// The stages that `stage` needs, in the order in which `dvc repro` visits them.
    pub(crate) fn needs(&self, stage: StageIndex) -> &[StageIndex] {
        &self.needs[stage]
    }

    /// Everything that must be done before `stage`, in no useful order.
    pub(crate) fn upstream(&self, stage: StageIndex) -> Vec<StageIndex> {
        let mut before = self.reach(&[stage], |stage| self.active_needs(stage).to_vec());
        before.retain(|other| *other != stage);
        before
    }

    /// Returns all stages in the order of `dvc repro --all-pipelines`.
    pub(crate) fn order(&self) -> Vec<StageIndex> {
        self.order_of(&self.needs.filled(true), self.needs.indexes())
    }

    /// Returns the stages that `dvc repro` visits for `selected`, in its order; all of them if nothing is selected.
    ///
    /// DVC itself starts with a random one where fewer than half of the stages are selected; here the order of
    /// collection holds then too.
    pub(crate) fn order_from(&self, selected: &[StageIndex], reach: Reach) -> Vec<StageIndex> {
        if selected.is_empty() {
            return self.order();
        }
        match reach {
            Reach::Upstream => self.order_within(selected, |stage| self.active_needs(stage).to_vec()),
            Reach::Downstream => self.order_within(selected, |stage| self.active_needed_by(stage)),
            Reach::Pipeline => {
                let mut within = self.needs.filled(false);
                let mut nodes = vec![];
                for &start in selected {
                    if !within[start] {
                        let mut pipeline = self.reach(&[start], |stage| {
                            let mut beside = self.active_needed_by(stage);
                            beside.extend(self.active_needs(stage));
                            beside
                        });
                        pipeline.sort_unstable();
                        for &stage in &pipeline {
                            within[stage] = true;
                        }
                        nodes.extend(pipeline);
                    }
                }
                self.order_of(&within, nodes)
            }
        }
    }

    fn order_within(&self, selected: &[StageIndex], next: impl Fn(StageIndex) -> Vec<StageIndex>) -> Vec<StageIndex> {
        let mut within = self.needs.filled(false);
        for stage in self.reach(selected, next) {
            within[stage] = true;
        }
        self.order_of(&within, self.needs.indexes())
    }

    /// Returns everything that can be reached from `selected`, in no useful order.
    fn reach(&self, selected: &[StageIndex], next: impl Fn(StageIndex) -> Vec<StageIndex>) -> Vec<StageIndex> {
        let mut seen = self.needs.filled(false);
        let mut reached = vec![];
        let mut waiting = selected.to_vec();
        while let Some(stage) = waiting.pop() {
            if !std::mem::replace(&mut seen[stage], true) {
                reached.push(stage);
                waiting.extend(next(stage));
            }
        }
        reached
    }

    fn active_needs(&self, stage: StageIndex) -> &[StageIndex] {
        if self.frozen[stage] { &[] } else { &self.needs[stage] }
    }

    fn active_needed_by(&self, stage: StageIndex) -> Vec<StageIndex> {
        self.needed_by[stage].iter().copied().filter(|&needing| !self.frozen[needing]).collect()
    }

    /// Depth-first post-order: `nodes` in the given order, each after what it needs.
    fn order_of(&self, within: &PerStage<bool>, nodes: impl IntoIterator<Item = StageIndex>) -> Vec<StageIndex> {
        let mut order = vec![];
        let mut seen = self.needs.filled(false);
        let mut path: Vec<(StageIndex, usize)> = vec![];
        for node in nodes {
            if !within[node] || self.repeated[node] || std::mem::replace(&mut seen[node], true) {
                continue;
            }
            path.push((node, 0));
            while let Some((stage, next)) = path.last_mut() {
                if let Some(&needed) = self.active_needs(*stage).get(*next) {
                    *next += 1;
                    if within[needed] && !std::mem::replace(&mut seen[needed], true) {
                        path.push((needed, 0));
                    }
                } else {
                    order.push(*stage);
                    path.pop();
                }
            }
        }
        order
    }

    /// Returns the stages of one cycle, each needing the next and the last the first.
    fn cycle(&self) -> Option<Vec<StageIndex>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = self.needs.filled(Mark::New);
        let mut path: Vec<(StageIndex, usize)> = vec![];
        for start in self.needs.indexes() {
            if marks[start] != Mark::New {
                continue;
            }
            marks[start] = Mark::Open;
            path.push((start, 0));
            while let Some((stage, next)) = path.last_mut() {
                let Some(&needed) = self.needs[*stage].get(*next) else {
                    marks[*stage] = Mark::Done;
                    path.pop();
                    continue;
                };
                *next += 1;
                match marks[needed] {
                    Mark::New => {
                        marks[needed] = Mark::Open;
                        path.push((needed, 0));
                    }
                    Mark::Open => {
                        let from = path.iter().position(|(stage, _)| *stage == needed).expect("it is open");
                        return Some(path[from..].iter().map(|(stage, _)| *stage).collect());
                    }
                    Mark::Done => {}
                }
            }
        }
        None
    }
}

fn check_files(project: &Project, outputs: &OutputTrie<'_>) -> Result<(), GraphError> {
    let mut checked: Option<&str> = None;
    for (index, stage) in project.stages.indexed() {
        if checked.replace(&stage.file) != Some(&stage.file)
            && let Some(output) = outputs.containing(&stage.file).into_iter().next()
        {
            return Err(GraphError::stage_in_output(project, index, output));
        }
    }
    Ok(())
}

/// The needs of one stage: for each dep, then each params file, first the outputs that equal or contain it, outermost
/// first, then those below it in trie order; the first mention counts.
fn needs_of(project: &Project, outputs: &OutputTrie<'_>, index: StageIndex) -> Vec<StageIndex> {
    let stage = &project.stages[index];
    if is_without_edges(stage) {
        return vec![];
    }
    let deps = stage.deps.iter().filter_map(|dep| graph_key(dep.resolved.as_ref(), &dep.path));
    let params = stage.params.iter().map(|params| params.resolved.as_str());
    let mut needs: Vec<StageIndex> = vec![];
    let mut seen = std::collections::HashSet::new();
    for path in deps.chain(params) {
        for output in outputs.containing(path).into_iter().chain(outputs.below(path)) {
            if seen.insert(output.stage) {
                needs.push(output.stage);
            }
        }
    }
    needs
}

/// What `dvc import` and `dvc import-db` wrote: its one dep lies in another repository or a database.
fn is_without_edges(stage: &Stage) -> bool {
    stage.cmd.is_none() && stage.outs.len() == 1 && stage.deps.len() == 1 && stage.deps[0].repo.is_some()
}
