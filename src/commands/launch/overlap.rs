//! What another run is at is not begun a second time.

use std::collections::HashSet;

use crate::diagnostic::Diagnostic;
use crate::model::status::ItemState;
use crate::output::text::count;
use crate::state::format::{Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::{open_runs, run_lock, status, worklist};

/// Refuses a run some of whose stages another run is at, on this machine or in a cluster.
pub(crate) fn refuse(project: &ProjectHome, run: &RunDir, plan: &Plan) -> Result<(), Diagnostic> {
    let mut others = open_runs::at_work(project)?;
    others.retain(|(_, other)| other.run != plan.run);
    if others.is_empty() {
        return Ok(());
    }
    let items = worklist::read_all(run)?;
    let own = items.iter().flat_map(addresses).collect();
    others.iter().try_for_each(|(at_work, other)| refuse_those_of(at_work, other, &own))
}

/// Refuses stages that this run is at.
fn refuse_those_of(run: &RunDir, plan: &Plan, own: &HashSet<&str>) -> Result<(), Diagnostic> {
    let mut both = vec![];
    for (index, state) in status::item_states(run, plan.indexes())? {
        let is_over = matches!(state, ItemState::Done { .. } | ItemState::Failed { again: false, .. });
        if !is_over {
            let item = worklist::read_one(run, plan, index)?;
            both.extend(addresses(&item).filter(|address| own.contains(address)).map(str::to_owned));
        }
    }
    let Some(first) = both.first() else { return Ok(()) };
    let by = match run_lock::holder(run) {
        Some(holder) if run_lock::is_held(run)? => format!(", by {holder}"),
        _ => String::new(),
    };
    let (what, are) = match both.len() {
        1 => (format!("stage `{first}`"), "is"),
        number => (format!("{} (`{first}` is one)", count(number, "stage")), "are"),
    };
    Err(Diagnostic::tool(format!("{what} {are} part of run {}, which is on{by}", plan.run))
        .cause("commands would run twice at the same time")
        .hint(format!("watch it with `dvc-fanout status {}`, or stop it with `dvc-fanout cancel {0}`", plan.run))
        .hint("name targets that have nothing to do with it"))
}

fn addresses(item: &WorkItem) -> impl Iterator<Item = &str> {
    item.stages.iter().map(|stage| stage.address.as_str())
}
