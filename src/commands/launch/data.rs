//! Whether the cached data that work items need is still there.

use crate::adapters::dvc::cache::Cache;
use crate::diagnostic::Diagnostic;
use crate::dvc::hash::HashName;
use crate::output::text;
use crate::state::format::{Input, WorkItem};
use crate::state::home::ProjectHome;

/// Refuses to begin without the cached data that work items need; the cache may have been cleaned since the plan.
pub(super) fn check<'a>(project: &ProjectHome, items: impl Iterator<Item = &'a WorkItem>) -> Result<(), Diagnostic> {
    let cache = Cache::new(&project.config.cache_dir);
    let is_missing = |input: &Input| match input {
        Input::Cache { md5, legacy, .. } => {
            let name = if *legacy { HashName::Md5Dos2unix } else { HashName::Md5 };
            !cache.object(md5, name).is_some_and(|object| object.is_file())
        }
        Input::Snapshot { .. } | Input::Workspace { .. } | Input::Lock { .. } | Input::Result { .. } => false,
    };
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
