//! Whether the project is still where a run was planned, so that results do not end up on a branch of another purpose.
//!
//! | now | |
//! |---|---|
//! | on the same branch | whatever was committed there, results are merged |
//! | at the commit of the plan, or at one with the same files | a new branch, a rebase, a bisect: results fit |
//! | anywhere else | refused: nobody said that the results belong there |

use crate::adapters::git::Git;
use crate::diagnostic::Diagnostic;
use crate::state::format::Plan;

/// Refuses to write the results of a run to a branch that it was not planned on.
pub(crate) fn check(git: &Git, plan: &Plan) -> Result<(), Diagnostic> {
    let (branch, head) = (git.branch()?, git.head()?);
    let is_unknown = plan.branch.is_none() && plan.head.is_none();
    if is_unknown || branch == plan.branch || head == plan.head {
        return Ok(());
    }
    if let Some((head, planned)) = head.as_deref().zip(plan.head.as_deref())
        && git.is_same_tree(head, planned).unwrap_or(false)
    {
        return Ok(());
    }
    let shown = |branch: &Option<String>, head: &Option<String>| match (branch, head) {
        (Some(branch), _) => format!("branch `{branch}`"),
        (None, Some(head)) => format!("commit {}", &head[..12.min(head.len())]),
        (None, None) => "no commit".to_owned(),
    };
    let (planned, now) = (shown(&plan.branch, &plan.head), shown(&branch, &head));
    let back = plan.branch.as_deref().or(plan.head.as_deref()).unwrap_or_default();
    let run = &plan.run;
    Err(Diagnostic::project(format!("run {run} was planned on {planned}, and the project is on {now} now"))
        .cause("its results would become changes of files that belong to something else; they are kept, and nothing is written")
        .hint(format!("check `{back}` out again, then run `dvc-fanout finalize {run}`"))
        .hint(format!("or run `dvc-fanout finalize --any-branch {run}` to have them here"))
        .hint("or run `dvc-fanout run` for what is checked out now: stages with the same deps are restored from the run cache"))
}
