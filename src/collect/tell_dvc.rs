//! Tells DVC which outs were put in the project: the next `dvc checkout` and `dvc status` are then as after `dvc repro`.

use std::path::Path;

use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::state::Known;
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::stage::Recorded;
use crate::model::run::{Executed, StageState};
use crate::output::text;
use crate::state::format::{PlannedOut, StageResult, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::results;

/// Looks at a cached out as it is recorded, which is in the project now.
pub(super) fn look(
    project: &ProjectHome,
    out: &PlannedOut,
    recorded: &Recorded,
    known: &mut Known,
) -> Result<(), Diagnostic> {
    let cache = Cache::new(Path::new(&project.config.cache_dir));
    let Some(object) = recorded.object() else { return Ok(()) };
    Ok(known.add(&project.root, &out.resolved, object, &cache)?)
}

/// Tells DVC. Where that fails, nothing is lost but what it is for.
pub(super) fn tell(project: &ProjectHome, known: &Known) {
    if let Err(error) = known.write(&project.root, project.config.site_cache_dir.as_deref()) {
        text::note(&format!(
            "DVC was not told of the outs that were made: {error}; it will hash them again, and `dvc checkout` will not remove \
             them where another branch does not have them"
        ));
    }
}

/// Tells DVC what the stages of work items have left that ran in the project itself.
pub(crate) fn tell_of_last(project: &ProjectHome, run: &RunDir, items: &[WorkItem]) -> Result<(), Diagnostic> {
    let mut known = Known::default();
    for item in items {
        let published = results::best(run, item.index)?.filter(|published| published.result.in_project);
        let Some(published) = published else { continue };
        // What DVC did itself it knows.
        let is_new = |stage: &StageResult| {
            stage.executor == Executed::Native && matches!(stage.state, StageState::Ran | StageState::Restored)
        };
        for planned in &item.stages {
            if !published.result.stages.iter().any(|stage| stage.address == planned.address && is_new(stage)) {
                continue;
            }
            for out in planned.outs.iter().filter(|out| out.cache) {
                if let Some(recorded) = published.recorded_out(&planned.address, &out.path) {
                    look(project, out, &recorded, &mut known)?;
                }
            }
        }
    }
    tell(project, &known);
    Ok(())
}
