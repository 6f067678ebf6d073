//! Earlier runs that did not come to their end. What they have done is brought into the project before more is planned,
//! where a `dvc repro` that was cut off would have left it; what one of them is still at is not begun a second time.

use std::collections::HashSet;

use crate::adapters::fs;
use crate::cli::EndingArgs;
use crate::commands::finalize;
use crate::diagnostic::Diagnostic;
use crate::model::status::ItemState;
use crate::output::text::{self, count};
use crate::state::format::{Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::run_lock::{self, RunLock};
use crate::state::{journal, status, worklist};

/// The runs since the last one that came to its end, the oldest first.
pub(crate) fn open(project: &ProjectHome) -> Result<Vec<(RunDir, Plan)>, Diagnostic> {
    let fanout = project.fanout();
    let mut open = vec![];
    for name in worklist::runs(&fanout)?.iter().rev() {
        // What another release has written is its own.
        let Ok((run, plan)) = worklist::open(&fanout, Some(name)) else { continue };
        if journal::has_ended(&run)? {
            break;
        }
        if plan.work_items > 0 {
            open.push((run, plan));
        }
    }
    open.reverse();
    Ok(open)
}

/// Whether work items of a run are done that nobody has brought into the project, or tried to, and nobody is at it.
pub(crate) fn has_something(run: &RunDir, plan: &Plan) -> Result<bool, Diagnostic> {
    Ok(!fs::exists(&run.taken()) && !run_lock::is_held(run)? && status::is_uncollected(run, plan)?)
}

/// Brings what runs have done into the project. Where that is not possible they are left as they are, and that is said.
pub(crate) fn bring(project: &ProjectHome, runs: &[(RunDir, Plan)], ending: &EndingArgs) -> Result<(), Diagnostic> {
    for (run, plan) in runs {
        if !has_something(run, plan)? {
            continue;
        }
        let Some(lock) = RunLock::try_acquire(run)? else { continue };
        let brought = worklist::read_to_collect(run)
            .map_err(Diagnostic::from)
            .and_then(|items| finalize::bring(project, run, plan, &items, ending));
        let word: &[u8] = match brought {
            Ok(collected) => {
                if !collected.stages.is_empty() {
                    let what = count(collected.stages.len(), "stage");
                    text::note(&format!(
                        "run {} was cut off: {what} that it had done {} collected",
                        plan.run,
                        were(&what)
                    ));
                }
                b""
            }
            Err(error) => {
                text::note(&format!("what run {} had done was not collected: {}", plan.run, error.one_line()));
                text::note(&format!("`dvc-fanout collect {}` shows why, and what can be done", plan.run));
                b"not possible"
            }
        };
        fs::write(&run.taken(), word)?;
        drop(lock);
    }
    Ok(())
}

fn were(what: &str) -> &'static str {
    if what.starts_with("1 ") { "was" } else { "were" }
}

/// Says that a plan was made without what an earlier run has done.
pub(crate) fn tell(project: &ProjectHome, plan: &Plan) -> Result<(), Diagnostic> {
    for (run, earlier) in open(project)?.iter().filter(|(_, earlier)| earlier.run != plan.run) {
        if has_something(run, earlier)? {
            text::note(&format!(
                "run {} was cut off, and what it has done is not in the project yet: `dvc-fanout run` collects it first",
                earlier.run
            ));
        }
    }
    Ok(())
}

/// Refuses work items whose stages another run is at, on this machine or in a cluster.
pub(crate) fn refuse_overlap(project: &ProjectHome, plan: &Plan, items: &[WorkItem]) -> Result<(), Diagnostic> {
    let own: HashSet<&str> = items.iter().flat_map(addresses).collect();
    for (run, other) in open(project)?.iter().filter(|(_, other)| other.run != plan.run) {
        let is_held = run_lock::is_held(run)?;
        if !is_held && status::left_to(run)?.is_none() {
            continue;
        }
        let mut both = vec![];
        for (index, state) in status::item_states(run, other.indexes())? {
            let is_over = matches!(state, ItemState::Done { .. } | ItemState::Failed { again: false, .. });
            if !is_over {
                let item = worklist::read_one(run, other, index)?;
                both.extend(addresses(&item).filter(|address| own.contains(address)).map(str::to_owned));
            }
        }
        let Some(first) = both.first() else { continue };
        let by = match run_lock::holder(run) {
            Some(holder) if is_held => format!(", by {holder}"),
            _ => String::new(),
        };
        let (what, are) = match both.len() {
            1 => (format!("stage `{first}`"), "is"),
            number => (format!("{} (`{first}` is one)", count(number, "stage")), "are"),
        };
        return Err(Diagnostic::tool(format!("{what} {are} part of run {}, which is on{by}", other.run))
            .cause("commands would run twice at the same time")
            .hint(format!("watch it with `dvc-fanout status {}`, or stop it with `dvc-fanout cancel {0}`", other.run))
            .hint("name targets that have nothing to do with it"));
    }
    Ok(())
}

fn addresses(item: &WorkItem) -> impl Iterator<Item = &str> {
    item.stages.iter().map(|stage| stage.address.as_str())
}
