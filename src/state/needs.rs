//! Whether what a work item needs of earlier ones is there.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::adapters::fs::FsError;
use crate::model::numbers::ItemIndex;
use crate::model::run::PhaseKind;
use crate::state::format::{Input, Phase, Plan, WorkItem};
use crate::state::paths::RunDir;
use crate::state::results;

/// The good stages of work items, each read once: the results themselves would not fit into memory at some hundred
/// thousand.
#[derive(Debug, Default)]
pub(crate) struct Needed(HashMap<ItemIndex, Vec<String>>);

/// The stages of a work item that cannot run, since what they read of earlier work items was not made.
#[derive(Debug, Default)]
pub(crate) struct Blocked {
    /// Their places in the work item.
    pub stages: BTreeSet<usize>,
    /// Whether that is all of them.
    pub is_all: bool,
}

impl Needed {
    /// The work items that have no good result of a stage that this one needs, unless it may do without.
    pub(crate) fn lacking(&mut self, run: &RunDir, plan: &Plan, item: &WorkItem) -> Result<Vec<ItemIndex>, FsError> {
        for &need in &item.needs {
            if let Entry::Vacant(place) = self.0.entry(need) {
                let good = match results::best(run, need)? {
                    Some(published) if !results::is_rejected(run, need, published.result.attempt)? => {
                        published.into_good_stages()
                    }
                    _ => vec![],
                };
                place.insert(good);
            }
        }
        let is_shared = plan.phases.get(item.phase).is_some_and(|phase| phase.kind == PhaseKind::Shared);
        if plan.options.allow_missing_keys && is_shared {
            return Ok(vec![]);
        }
        let sources = item.inputs.iter().flat_map(Input::sources);
        let mut lacking: Vec<ItemIndex> =
            sources.filter(|(index, stage)| !self.has(*index, stage)).map(|(index, _)| index).collect();
        lacking.dedup();
        if item.is_last {
            let known: HashSet<ItemIndex> = lacking.iter().copied().collect();
            let before = plan.phases[..item.phase].iter().flat_map(Phase::indexes);
            for index in before.filter(|index| !known.contains(index)) {
                if !results::is_done(run, index)? {
                    lacking.push(index);
                }
            }
        }
        Ok(lacking)
    }

    /// The stages of a work item that lacks something which cannot run, and those behind them.
    pub(crate) fn blocked(&mut self, run: &RunDir, plan: &Plan, item: &WorkItem) -> Result<Blocked, FsError> {
        if self.lacking(run, plan, item)?.is_empty() {
            return Ok(Blocked::default());
        }
        let mut stages = BTreeSet::new();
        for (at, stage) in item.stages.iter().enumerate() {
            let lacks = stage.reads.iter().any(|source| !self.has(source.index, &source.stage));
            if lacks || stage.after.iter().any(|need| stages.contains(need)) {
                stages.insert(at);
            }
        }
        // A plan of before does not say which of them it is.
        let is_all = stages.is_empty() || stages.len() == item.stages.len();
        Ok(Blocked { stages, is_all })
    }

    fn has(&self, index: ItemIndex, stage: &str) -> bool {
        self.0.get(&index).is_some_and(|good| good.iter().any(|good| good == stage))
    }
}

/// A work item without stages that are blocked, and without what only they read.
pub(crate) fn without(item: &WorkItem, blocked: &BTreeSet<usize>) -> WorkItem {
    let places: Vec<usize> = (0..item.stages.len()).filter(|at| !blocked.contains(at)).collect();
    let mut left = item.clone();
    left.stages = places.iter().map(|at| item.stages[*at].clone()).collect();
    for stage in &mut left.stages {
        stage.after = stage.after.iter().filter_map(|need| places.binary_search(need).ok()).collect();
    }
    let reads = places.iter().flat_map(|at| &item.stages[*at].reads);
    let read: BTreeSet<(ItemIndex, &str)> = reads.map(|source| (source.index, source.stage.as_str())).collect();
    left.inputs.retain(|input| input.sources().iter().all(|source| read.contains(source)));
    // The stage files still have the others.
    left.one_by_one = true;
    left
}
