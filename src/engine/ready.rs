//! What a phase begins with: the work items that are to run, and those that cannot.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::diagnostic::Diagnostic;
use crate::model::event::Task;
use crate::model::run::PhaseKind;
use crate::state::format::{Input, Phase, Plan, WorkItem};
use crate::state::paths::RunDir;
use crate::state::published::Published;
use crate::state::{results, status};

/// What a phase begins with.
pub(super) struct Ready {
    pub tasks: Vec<Task>,
    /// Work items that cannot run, each with those that it waits for in vain.
    pub skipped: Vec<(usize, Vec<usize>)>,
    /// The number of work items whose failure stands.
    pub given_up: usize,
}

/// The work items of a phase that are to run, and those that cannot.
pub(super) fn of_phase(run: &RunDir, plan: &Plan, items: &[WorkItem], phase: &Phase) -> Result<Ready, Diagnostic> {
    let given_up: HashSet<usize> = status::given_up(run, items, phase.indexes())?;
    let mut ready = Ready { tasks: vec![], skipped: vec![], given_up: given_up.len() };
    // The good stages of what is needed: the results themselves would not fit into memory at some hundred thousand.
    let mut needed: HashMap<usize, Vec<String>> = HashMap::new();
    for index in phase.indexes() {
        let item = &items[index];
        let is_done = results::best(run, index)?.is_some_and(|published| published.succeeded());
        if is_done || given_up.contains(&index) {
            continue;
        }
        for &need in &item.needs {
            if let Entry::Vacant(place) = needed.entry(need) {
                let published = results::best(run, need)?;
                place.insert(published.map(Published::into_good_stages).unwrap_or_default());
            }
        }
        let is_bad = |(index, stage): &(usize, &str)| !needed[index].iter().any(|good| good == stage);
        let sources = item.inputs.iter().flat_map(Input::sources);
        let mut because: Vec<usize> = sources.filter(is_bad).map(|(index, _)| index).collect();
        because.dedup();
        let tolerated = plan.options.allow_missing_keys && phase.kind == PhaseKind::Shared;
        if !because.is_empty() && !tolerated {
            ready.skipped.push((index, because));
            continue;
        }
        let attempt = results::next_attempt(run, index)?;
        ready.tasks.push(Task {
            index,
            id: item.id.clone(),
            attempt,
            resources: item.resources.clone(),
            expected_seconds: None,
        });
    }
    Ok(ready)
}
