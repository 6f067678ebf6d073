//! What earlier runs have done that did not come to their end: it is brought into the project before more is planned, where
//! a `dvc repro` that was cut off would have left it.

use crate::adapters::fs;
use crate::cli::EndingArgs;
use crate::commands::finalize;
use crate::diagnostic::Diagnostic;
use crate::output::text::{self, count};
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::run_lock::{self, RunLock};
use crate::state::{open_runs, status, worklist};

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
                let number = collected.stages.len();
                if number > 0 {
                    let (what, were) = (count(number, "stage"), if number == 1 { "was" } else { "were" });
                    text::note(&format!("run {} was cut off: {what} that it had done {were} collected", plan.run));
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

/// Says that a plan was made without what an earlier run has done.
pub(crate) fn tell(project: &ProjectHome, plan: &Plan) -> Result<(), Diagnostic> {
    for (run, earlier) in open_runs::all(project)?.iter().filter(|(_, earlier)| earlier.run != plan.run) {
        if has_something(run, earlier)? {
            text::note(&format!(
                "run {} was cut off, and what it has done is not in the project yet: `dvc-fanout run` collects it first",
                earlier.run
            ));
        }
    }
    Ok(())
}
