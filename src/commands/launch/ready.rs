//! What a phase begins with: the work items that are to run, those that cannot, and the data that they need.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::adapters::dvc::cache::Cache;
use crate::diagnostic::Diagnostic;
use crate::dvc::hash::HashName;
use crate::model::event::{Resources, Task};
use crate::output::text;
use crate::state::format::{self, Input, Phase, PhaseKind, Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::{results, survey};

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
    let given_up: HashSet<usize> = survey::given_up(run, items, phase.indexes())?;
    let mut ready = Ready { tasks: vec![], skipped: vec![], given_up: given_up.len() };
    let mut needed: HashMap<usize, Option<results::Published>> = HashMap::new();
    for index in phase.indexes() {
        let item = &items[index];
        let is_done = results::best(run, index)?.is_some_and(|published| published.succeeded());
        if is_done || given_up.contains(&index) {
            continue;
        }
        for &need in &item.needs {
            if let Entry::Vacant(place) = needed.entry(need) {
                place.insert(results::best(run, need)?);
            }
        }
        let is_bad =
            |(index, stage): &(usize, &str)| !needed[index].as_ref().is_some_and(|published| published.is_good(stage));
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
            resources: resources(&item.resources),
            expected_seconds: None,
        });
    }
    Ok(ready)
}

/// Refuses to begin without the cached data that work items need; the cache may have been cleaned since the plan.
pub(super) fn check_data<'a>(
    project: &ProjectHome,
    items: impl Iterator<Item = &'a WorkItem>,
) -> Result<(), Diagnostic> {
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

/// A work item's resources as the engine takes them.
fn resources(resources: &format::Resources) -> Resources {
    Resources {
        cpus: resources.cpus,
        memory_mib: resources.memory_mib,
        gpus: resources.gpus,
        timeout: resources.timeout_seconds.map(Duration::from_secs),
        retries: resources.retries,
        group: resources.group.clone(),
    }
}
