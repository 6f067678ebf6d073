//! Collecting: merges what workers published into the project, all or nothing.
//!
//! Lock entries, files that DVC does not cache and `.gitignore` lines are merged with what the project holds now;
//! nothing is written while a conflict is left. A result that cannot be believed is rejected, the others are collected.

mod apply;
pub(crate) mod branch;
mod files;
mod ignores;
mod locks;
pub(crate) mod place;
mod relink;
pub(crate) mod tell_dvc;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::adapters::beneath::Beneath;
use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::lock::{Busy, RepositoryLock, busy_paths};
use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path;
use crate::model::collection::{Collection, LeftOut, Rejected};
use crate::model::numbers::ItemIndex;
use crate::output::{self, text};
use crate::state::decided::Decided;
use crate::state::format::{Plan, PlannedStage, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::journal::{Journal, Journaled};
use crate::state::paths::RunDir;
use crate::state::published::Published;
use crate::state::results;
use crate::state::uncommitted;
use crate::state::vetting::{self, Allowed, has_dvc_extension};
use apply::{After, Change, Content};

/// How often paths that a running stage uses are looked at again.
const POLL: Duration = Duration::from_millis(500);

/// What to do where the project and the results changed the same thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Write nothing and report it.
    #[default]
    Report,
    Ours,
    Theirs,
}

/// How to collect.
#[derive(Clone, Debug)]
pub(crate) struct CollectConfig {
    pub resolution: Resolution,
    /// The work items to collect; `None` for all.
    pub only: Option<HashSet<ItemIndex>>,
    pub dry_run: bool,
    pub declared_only: bool,
    pub lock_limit: Duration,
}

impl Default for CollectConfig {
    fn default() -> Self {
        CollectConfig {
            resolution: Resolution::Report,
            only: None,
            dry_run: false,
            declared_only: false,
            lock_limit: Duration::from_mins(1),
        }
    }
}

/// Collects everything there is, as a step of another command, on any branch or on that of the plan; conflicts are its
/// error.
pub(crate) fn collect(
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    items: &[WorkItem],
    any_branch: bool,
) -> Result<Collection, Diagnostic> {
    if !any_branch {
        branch::check(&project.git()?.0, plan)?;
    }
    let collection = merge(project, run, plan, items, &CollectConfig::default())?;
    if !collection.conflicts.is_empty() {
        return Err(output::collection::conflicts(&collection));
    }
    output::collection::print_refused(&collection);
    output::collection::print_contested(&collection);
    Ok(collection)
}

/// A work item's result that is believed, and the results of its other attempts.
struct Believed<'a> {
    item: &'a WorkItem,
    /// Apart, since they are many and are sorted.
    published: Box<Published>,
    others: Vec<Published>,
}

impl Believed<'_> {
    /// The place of the work item in the order of `dvc repro`.
    fn order(&self) -> usize {
        self.item.stages.iter().map(|stage| stage.order).max().unwrap_or(0)
    }
}

/// A good stage of a result.
#[derive(Clone, Copy)]
struct Good<'a> {
    stage: &'a PlannedStage,
    entry: Option<&'a str>,
    result: &'a Believed<'a>,
}

/// Merges results into the project.
pub(crate) fn merge(
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    items: &[WorkItem],
    config: &CollectConfig,
) -> Result<Collection, Diagnostic> {
    // Everything that takes long happens before the lock is taken, which `dvc repro` must not miss for long.
    let (examined, mut collection) = examine(project, run, plan, items, config)?;
    let (there, believed): (Vec<_>, Vec<_>) =
        examined.into_iter().partition(|result| is_there_already(plan, result.item, &result.published));
    let all = good_stages(believed.iter().chain(&there));
    let is_new = |good: &Good<'_>| !is_there_already(plan, good.result.item, &good.result.published);
    let good: Vec<Good<'_>> = all.iter().copied().filter(is_new).collect();
    let lock = lock_when_quiet(project, &believed, &good, config.lock_limit)?;
    collection.left_alone = apply::recover(&project.root, &lock)?;
    let tree = Beneath::open(&project.root)?;
    let decided = Decided::read(run)?;
    let files = files::merge(project, plan, &tree, &believed, &good, config, &decided)?;
    let ignores = ignores::merge(&tree, believed.iter().chain(&there), &all)?;
    let locks = locks::merge(&tree, &good, &all, config, &decided)?;
    let mut changes: Vec<Change> = [files.changes, ignores, locks.changes].into_iter().flatten().collect();
    collection.conflicts = [files.conflicts, locks.conflicts].into_iter().flatten().collect();
    (collection.contested, collection.stages) = (files.contested, locks.stages);
    collection.left_out.extend(files.left_out);
    let is_lock = |path: &str| path == "dvc.lock" || path.ends_with("/dvc.lock");
    collection.files = changes.iter().map(|change| change.path.clone()).filter(|path| !is_lock(path)).collect();
    collection.files.sort_unstable();
    collection.contested.retain(|path| collection.files.binary_search(path).is_ok());
    if !collection.conflicts.is_empty() || config.dry_run {
        return Ok(collection);
    }
    [files.decided, locks.decided].into_iter().try_for_each(|decided| decided.add_to(run))?;
    note_refusals(run, &believed, &collection)?;
    if changes.is_empty() {
        return Ok(collection);
    }
    for change in &mut changes {
        change.before = apply::content(&tree, &change.path)?;
    }
    uncommitted::note(project, &changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>())?;
    apply::apply(&project.root, &changes, &lock)?;
    drop(lock);
    stage_in_git(project, changes.iter().map(|change| change.path.as_str()))?;
    let (stages, files) = (collection.stages.len(), collection.files.len());
    Journal::open(run)?.append(Journaled::Collected { stages, files })?;
    Ok(collection)
}

/// Reads the results; returns those that are believed, and what is to be said of the others.
fn examine<'a>(
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    items: &'a [WorkItem],
    config: &CollectConfig,
) -> Result<(Vec<Believed<'a>>, Collection), Diagnostic> {
    let mut collection = Collection { run: plan.run.clone(), dry_run: config.dry_run, ..Collection::default() };
    let allowed = Allowed::of(plan, items);
    let wanted = |item: &&WorkItem| config.only.as_ref().is_none_or(|only| only.contains(&item.index));
    let wanted: Vec<&WorkItem> = items.iter().filter(wanted).collect();
    // What machines with caches of their own have made is in the remote until it is fetched.
    let cache = (!fs::exists(&run.remote())).then(|| Cache::new(&project.config.cache_dir));
    let examined: Vec<_> = wanted
        .par_iter()
        .map(|item| {
            let mut examined = results::examine(run, item.index)?;
            if let Some(best) = &mut examined.best {
                allowed.sift(best);
            }
            let verdict = examined.best.as_ref().map(|best| {
                allowed.fits(item, &best.result)?;
                vetting::contents(&best.directory, &best.result)?;
                cache.as_ref().map_or(Ok(()), |cache| vetting::data(cache, item, best))
            });
            if let Some(Err(rejection)) = verdict
                && let Some(best) = examined.best.take()
            {
                examined.rejected.push((best.result.attempt, rejection));
            }
            Ok((examined.best.map(Box::new), examined.others, examined.rejected))
        })
        .collect::<Result<_, Diagnostic>>()?;
    let mut believed = vec![];
    for (item, (best, others, rejected)) in wanted.into_iter().zip(examined) {
        collection.rejected.extend(rejected.into_iter().map(|(attempt, reason)| Rejected {
            index: item.index,
            id: item.id.clone(),
            attempt,
            reason: reason.to_string(),
            is_replaced: best.is_some(),
        }));
        if let Some(best) = &best {
            let shown = |file: &std::path::PathBuf| file.strip_prefix(&plan.root).unwrap_or(file).display().to_string();
            collection.left_out.extend(best.left_out.iter().map(|left| LeftOut {
                index: item.index,
                id: item.id.clone(),
                attempt: best.result.attempt,
                path: left.path.clone(),
                why: left.why.clone(),
                content: left.file.as_ref().map(shown),
                target: left.target.clone(),
            }));
        }
        match best {
            Some(published) => believed.push(Believed { item, published, others }),
            None => collection.pending += 1,
        }
    }
    Ok((believed, collection))
}

/// Whether the stages of a result ran in the project itself, which only the last ones do.
pub(crate) fn is_there_already(plan: &Plan, item: &WorkItem, published: &Published) -> bool {
    published.result.in_project && plan.phases[item.phase].trailing
}

/// Leaves word of the results that did not come as a whole: their work items are not done.
fn note_refusals(run: &RunDir, believed: &[Believed<'_>], collection: &Collection) -> Result<(), Diagnostic> {
    let mut reasons: HashMap<ItemIndex, Vec<String>> = HashMap::new();
    for left in &collection.left_out {
        reasons.entry(left.index).or_default().push(left.to_string());
    }
    for result in believed {
        let reasons = reasons.remove(&result.item.index).unwrap_or_default();
        results::note_refusal(run, result.item.index, result.published.result.attempt, &reasons)?;
    }
    for rejected in collection.rejected.iter().filter(|rejected| !rejected.is_replaced) {
        results::note_rejection(run, rejected.index, rejected.attempt, &rejected.reason)?;
    }
    Ok(())
}

/// The good stages of all results, in the order of `dvc repro`.
fn good_stages<'a>(results: impl IntoIterator<Item = &'a Believed<'a>>) -> Vec<Good<'a>> {
    let mut good: Vec<Good<'a>> = vec![];
    for result in results {
        for stage in result.published.result.stages.iter().filter(|stage| stage.state.is_good()) {
            let planned = result.item.stages.iter().find(|planned| planned.address == stage.address);
            good.extend(planned.map(|planned| Good { stage: planned, entry: stage.entry.as_deref(), result }));
        }
    }
    good.sort_by_key(|good| good.stage.order);
    good
}

/// Takes DVC's repository lock while no stage that `dvc` runs in the project uses what is to be collected.
///
/// `dvc repro` gives the lock away while a command runs; what the command reads and writes must stay as it is until
/// then, and its entry is written when it ends.
fn lock_when_quiet(
    project: &ProjectHome,
    believed: &[Believed<'_>],
    good: &[Good<'_>],
    limit: Duration,
) -> Result<RepositoryLock, Diagnostic> {
    let root = &project.root;
    let start = Instant::now();
    let mut told = false;
    let tell = |holder: &str| text::note(&format!("waiting for DVC's repository lock, which {holder} holds"));
    loop {
        let lock =
            RepositoryLock::acquire(root, project.config.hardlink_lock, limit.saturating_sub(start.elapsed()), &tell)?;
        let busy = busy_paths(root, &lock)?;
        let Some(busy) = busy.into_iter().find(|busy| is_in_the_way(busy, project, believed, good)) else {
            return Ok(lock);
        };
        drop(lock);
        let what = format!("`{}` is in use by process {} (`{}`)", busy.path, busy.pid, busy.command);
        if start.elapsed() >= limit {
            return Err(Diagnostic::tool(what)
                .cause("a stage that runs in the project uses what is to be collected")
                .hint("run the command again when it is done, or wait longer with `--lock-timeout DURATION`"));
        }
        if !told {
            text::note(&format!("waiting: {what}"));
            told = true;
        }
        std::thread::sleep(POLL);
    }
}

/// Whether a running stage makes an out of a collected stage, or reads or writes a file that may be written.
fn is_in_the_way(busy: &Busy, project: &ProjectHome, believed: &[Believed<'_>], good: &[Good<'_>]) -> bool {
    let Ok(path) = std::path::Path::new(&busy.path).strip_prefix(&project.root) else { return false };
    let overlaps = |other: &str| path.starts_with(other) || std::path::Path::new(other).starts_with(path);
    let mut outs = good.iter().flat_map(|good| &good.stage.outs).filter(|out| busy.is_written || !out.cache);
    let mut files = believed.iter().flat_map(|result| &result.published.result.files);
    outs.any(|out| overlaps(&out.resolved)) || files.any(|file| overlaps(&file.path))
}

/// Stages what DVC would stage, where `core.autostage` says so.
pub(crate) fn stage_in_git<'c>(
    project: &ProjectHome,
    changed: impl Iterator<Item = &'c str>,
) -> Result<(), Diagnostic> {
    if !project.config.autostage {
        return Ok(());
    }
    let (git, prefix) = project.git()?;
    let is_dvcs = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name == "dvc.lock" || name == ".gitignore" || has_dvc_extension(name)
    };
    let staged = changed.filter(|path| is_dvcs(path));
    let staged: Vec<String> = staged.map(|path| path::join(&prefix, path)).collect();
    Ok(git.stage(&staged)?)
}

/// A change whose `before` is looked up just before it is made.
fn change(path: &str, after: After, executable: Option<bool>) -> Change {
    Change {
        path: path.to_owned(),
        before: Content::Nothing,
        after,
        executable,
        mode: None,
        is_remade: false,
        modified: None,
    }
}
