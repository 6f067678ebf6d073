//! What the executor `check` has found: work items that DVC did differently, told as the internal errors that they are.

use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::executor::Executor;
use crate::model::numbers::ItemIndex;
use crate::model::run::Difference;
use crate::output::text::{self, count};
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::{results, worklist};

/// The work items that are told in full.
const SHOWN: usize = 3;
/// Differences of one that are.
const LINES: usize = 5;

/// Tells what differs in the results of a run; returns its exit code with that.
pub(super) fn tell(project: &ProjectHome, run: &RunDir, plan: &Plan, exit: Exit) -> Result<Exit, Diagnostic> {
    if plan.options.executor != Executor::Check {
        return Ok(exit);
    }
    let mut found: Vec<(ItemIndex, Difference)> = vec![];
    for index in plan.indexes() {
        let published = results::best(run, index)?;
        found.extend(published.and_then(|published| published.result.difference).map(|difference| (index, difference)));
    }
    for (index, difference) in found.iter().take(SHOWN) {
        let id = worklist::read_one(run, plan, *index)?.id;
        let kept = run.path().join(&difference.kept);
        let kept = kept.strip_prefix(&project.root).unwrap_or(&kept).display().to_string();
        text::error(&diagnostic(&id, &kept, difference));
    }
    if found.len() > SHOWN {
        let more = count(found.len() - SHOWN, "more work item");
        text::note(&format!("… and {more} that DVC did differently: `dvc-fanout report` names them"));
    }
    Ok(match exit {
        _ if found.is_empty() => exit,
        Exit::Signal(_) => exit,
        _ => Exit::Internal,
    })
}

fn diagnostic(id: &str, kept: &str, difference: &Difference) -> Diagnostic {
    let mut diagnostic = Diagnostic::internal(format!("DVC did work item `{id}` differently"));
    for line in difference.found.iter().take(LINES) {
        diagnostic = diagnostic.detail(line);
    }
    if difference.found.len() > LINES {
        diagnostic = diagnostic.detail(format!("… and {}", count(difference.found.len() - LINES, "more line")));
    }
    diagnostic
        .cause("what DVC left is the result; without DVC the same had to come of it")
        .cause("the command may not be deterministic: it ran twice, and only `dvc-fanout verify` can tell")
        .hint(format!("look at both sides: `diff -r {kept}/native {kept}/dvc`"))
        .hint("if the command leaves the same whenever it runs, report this as a bug, with that folder")
}
