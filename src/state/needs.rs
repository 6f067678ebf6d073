//! Whether what a work item needs of earlier ones is there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::adapters::fs::FsError;
use crate::model::run::PhaseKind;
use crate::state::format::{Input, Plan, WorkItem};
use crate::state::paths::RunDir;
use crate::state::published::Published;
use crate::state::results;

/// The good stages of work items, each read once: the results themselves would not fit into memory at some hundred
/// thousand.
#[derive(Debug, Default)]
pub(crate) struct Needed(HashMap<usize, Vec<String>>);

impl Needed {
    /// The work items that have no good result of a stage that this one needs, unless it may do without.
    pub(crate) fn lacking(&mut self, run: &RunDir, plan: &Plan, item: &WorkItem) -> Result<Vec<usize>, FsError> {
        for &need in &item.needs {
            if let Entry::Vacant(place) = self.0.entry(need) {
                let published = results::best(run, need)?;
                place.insert(published.map(Published::into_good_stages).unwrap_or_default());
            }
        }
        let is_shared = plan.phases.get(item.phase).is_some_and(|phase| phase.kind == PhaseKind::Shared);
        if plan.options.allow_missing_keys && is_shared {
            return Ok(vec![]);
        }
        let is_bad = |(index, stage): &(usize, &str)| !self.0[index].iter().any(|good| good == stage);
        let mut lacking: Vec<usize> =
            item.inputs.iter().flat_map(Input::sources).filter(is_bad).map(|(index, _)| index).collect();
        lacking.dedup();
        Ok(lacking)
    }
}
