//! What a phase begins with: the work items that are to run, and those that cannot.

use std::collections::HashSet;

use crate::diagnostic::Diagnostic;
use crate::model::event::Task;
use crate::model::numbers::ItemIndex;
use crate::state::format::{Phase, Plan, WorkItem};
use crate::state::needs::Needed;
use crate::state::paths::RunDir;
use crate::state::{results, status, worklist};

/// What a phase begins with.
pub(super) struct Ready {
    pub tasks: Vec<Task>,
    /// Work items of which no stage can run, each with those that it waits for in vain.
    pub skipped: Vec<(ItemIndex, Vec<ItemIndex>)>,
    /// Work items whose failure stands.
    pub given_up: HashSet<ItemIndex>,
}

/// The work items of a phase that are to run, and those that cannot. Failures of those that are `unsettled` do not stand.
pub(super) fn of_phase(
    run: &RunDir,
    plan: &Plan,
    items: &[WorkItem],
    phase: &Phase,
    unsettled: &HashSet<ItemIndex>,
) -> Result<Ready, Diagnostic> {
    let mut given_up: HashSet<ItemIndex> = status::given_up(run, items, phase.indexes())?;
    given_up.retain(|index| !unsettled.contains(index));
    let mut ready = Ready { tasks: vec![], skipped: vec![], given_up };
    let mut needed = Needed::default();
    for index in phase.indexes() {
        let item = &items[index];
        let is_done = results::is_done(run, index)?;
        if is_done || ready.given_up.contains(&index) {
            continue;
        }
        let because = needed.lacking(run, plan, item)?;
        // What its stages are is left out of what a launch reads.
        if because.is_empty() || !needed.blocked(run, plan, &worklist::read_one(run, plan, index)?)?.is_all {
            ready.tasks.push(task(run, item)?);
        } else {
            ready.skipped.push((index, because));
        }
    }
    Ok(ready)
}

/// The work items of phases, none of which has begun, that are to run unless something that they need fails meanwhile.
pub(super) fn in_advance(
    run: &RunDir,
    plan: &Plan,
    items: &[WorkItem],
    phases: &[usize],
) -> Result<Vec<(usize, Vec<Task>)>, Diagnostic> {
    let mut found = vec![];
    let mut coming: HashSet<ItemIndex> = HashSet::new();
    let mut needed = Needed::default();
    for &number in phases {
        let phase = &plan.phases[number];
        let given_up = status::given_up(run, items, phase.indexes())?;
        let mut tasks = vec![];
        for index in phase.indexes().filter(|index| !given_up.contains(index)) {
            let item = &items[index];
            let is_done = results::is_done(run, index)?;
            if is_done || needed.lacking(run, plan, item)?.iter().any(|need| !coming.contains(need)) {
                continue;
            }
            coming.insert(index);
            tasks.push(task(run, item)?);
        }
        found.push((number, tasks));
    }
    Ok(found)
}

fn task(run: &RunDir, item: &WorkItem) -> Result<Task, Diagnostic> {
    Ok(Task {
        index: item.index,
        id: item.id.clone(),
        attempt: results::next_attempt(run, item.index)?,
        resources: item.resources.clone(),
        expected_seconds: None,
    })
}
