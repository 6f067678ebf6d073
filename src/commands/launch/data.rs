//! Whether the data that work items need is there: what is missing is pulled, where that was asked for.

use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::cache::Cache;
use crate::adapters::{fs, process};
use crate::diagnostic::Diagnostic;
use crate::output::text;
use crate::state::format::{Input, Plan, WorkItem};
use crate::state::home::ProjectHome;

/// Pulls deps that work items expect in the project, as DVC does before it runs a stage.
///
/// What cannot be pulled fails the work items that need it, and no others.
pub(super) fn pull(project: &ProjectHome, plan: &Plan) -> Result<(), Diagnostic> {
    let is_missing = |path: &&str| !fs::exists(&project.root.join(path));
    let missing: Vec<&str> = plan.pulled.iter().map(String::as_str).filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let program = Dvc::find()?.command(&[&["pull", "--"][..], &missing].concat());
    let ran = process::output(&program, Some(&project.root));
    let ran = ran.map_err(|error| Diagnostic::tool(format!("cannot run `{}`", program.shown())).source(&error))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        let error = said.lines().find_map(|line| line.strip_prefix("ERROR: ")).unwrap_or("it gave no reason");
        text::note(&format!("`dvc pull` of {} failed: {error}", text::count(missing.len(), "missing dep")));
    }
    Ok(())
}

/// Refuses to begin without the cached data that work items need; the cache may have been cleaned since the plan.
pub(super) fn check<'a>(project: &ProjectHome, items: impl Iterator<Item = &'a WorkItem>) -> Result<(), Diagnostic> {
    let cache = Cache::new(&project.config.cache_dir);
    let is_missing =
        |input: &Input| input.object().is_some_and(|object| !object.key().is_some_and(|key| cache.has(key)));
    let missing: Vec<&str> =
        items.flat_map(|item| &item.inputs).filter(|input| is_missing(input)).map(Input::path).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let others = match missing.len() - 1 {
        0 => String::new(),
        others => format!(" and of {}", text::count(others, "more input")),
    };
    Err(Diagnostic::project(format!("the data of `{first}`{others} is not in the cache any more"))
        .hint("fetch it with `dvc fetch`, then plan again"))
}
