//! The stages whose commands began in earlier runs and whose results never came into the project.
//!
//! DVC's run cache may know them, without the files that they make beside their outs: the next run does not trust it there.
//! A run's file `unsettled` has their addresses, one a line, from its end on; of a run that never ended, results and logs
//! tell. A later run that brings such a stage takes it off the list.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;

use crate::adapters::fs::{self, At as _};
use crate::diagnostic::Diagnostic;
use crate::dvc::lockfile::Lockfile;
use crate::dvc::pipeline::path::lock_path;
use crate::model::run::StageState;
use crate::state::format::{PlannedStage, StageResult, WorkItem};
use crate::state::paths::{FanoutDir, RunDir};
use crate::state::{journal, log, results, worklist};

/// How many runs are looked back at.
const MAX_RUNS: usize = 20;

/// The addresses of the unsettled stages of the latest runs.
pub(crate) fn stages(root: &Path, fanout: &FanoutDir) -> Result<HashSet<String>, Diagnostic> {
    let mut all = HashSet::new();
    for name in worklist::runs(fanout)?.iter().rev().take(MAX_RUNS) {
        // What a broken run left cannot be told; it must not keep others from being planned.
        all.extend(of_run(root, fanout, &fanout.run(name)).unwrap_or_default());
    }
    Ok(all)
}

/// Settles what a run brought, in itself and in those before it. Called when it ends.
pub(crate) fn settle(root: &Path, fanout: &FanoutDir, run: &RunDir) -> Result<(), Diagnostic> {
    let own = found(root, fanout, run)?;
    write(run, &own.unsettled)?;
    for name in worklist::runs(fanout)?.iter().rev().filter(|name| name.as_str() < run.name()).take(MAX_RUNS) {
        let earlier = fanout.run(name);
        let Ok(before) = of_run(root, fanout, &earlier) else { continue };
        let after: BTreeSet<String> = before.difference(&own.settled).cloned().collect();
        if after.len() < before.len() {
            write(&earlier, &after)?;
        }
    }
    Ok(())
}

fn write(run: &RunDir, addresses: &BTreeSet<String>) -> Result<(), Diagnostic> {
    let text = addresses.iter().fold(String::new(), |text, address| text + address + "\n");
    Ok(fs::write(&run.unsettled(), text.as_bytes())?)
}

/// The unsettled stages of a run; none of one that ended before this file was written.
fn of_run(root: &Path, fanout: &FanoutDir, run: &RunDir) -> Result<BTreeSet<String>, Diagnostic> {
    if let Some(text) = fs::read_text_if_any(&run.unsettled())? {
        return Ok(text.lines().map(str::to_owned).collect());
    }
    if journal::has_ended(run)? { Ok(BTreeSet::new()) } else { Ok(found(root, fanout, run)?.unsettled) }
}

/// What became of the stages of a run whose commands began.
#[derive(Default)]
struct Found {
    settled: BTreeSet<String>,
    unsettled: BTreeSet<String>,
}

/// Looks at results, logs, and the lock files of the project as they are.
fn found(root: &Path, fanout: &FanoutDir, run: &RunDir) -> Result<Found, Diagnostic> {
    let (run, plan) = worklist::open(fanout, Some(run.name()))?;
    let mut locks: HashMap<String, HashMap<String, String>> = HashMap::new();
    let mut found = Found::default();
    let mut items = worklist::each(&run)?;
    loop {
        let block = items.block()?;
        if block.is_empty() {
            break;
        }
        let begun: Vec<Vec<Begun>> =
            block.into_par_iter().map(|item| begun(&run, item)).collect::<Result<_, Diagnostic>>()?;
        for Begun { stage, result } in begun.into_iter().flatten() {
            let is_there = match result.as_ref().filter(|made| made.state.is_good()) {
                Some(made) => {
                    let now = entry(root, &mut locks, &stage);
                    stage.name.is_none() || (made.entry.is_some() && made.entry.as_ref() == now)
                }
                // A stage that failed left nothing in the run cache.
                None => result.is_some_and(|made| made.state == StageState::Failed),
            };
            let list = if is_there { &mut found.settled } else { &mut found.unsettled };
            list.insert(stage.address);
        }
    }
    tracing::debug!("run {}: {} stages are unsettled", plan.run, found.unsettled.len());
    Ok(found)
}

/// A stage whose command began, or that was restored, with what its work item's result says of it.
struct Begun {
    stage: PlannedStage,
    result: Option<StageResult>,
}

/// The stages of a work item that results and logs tell to have begun.
fn begun(run: &RunDir, item: WorkItem) -> Result<Vec<Begun>, Diagnostic> {
    let best = results::best(run, item.index)?;
    let mut begun: HashSet<String> = HashSet::new();
    for attempt in results::attempts(run, item.index)? {
        let path = run.log(item.index, attempt);
        begun.extend(log::begun(&path).at("read", &path)?);
    }
    let mut made: Vec<StageResult> = best.map(|best| best.result.stages).unwrap_or_default();
    let of = |stage: PlannedStage| {
        let result = made.iter().position(|made| made.address == stage.address).map(|at| made.swap_remove(at));
        let has_run = result.as_ref().is_some_and(|made| matches!(made.state, StageState::Ran | StageState::Restored));
        (has_run || begun.contains(&stage.address)).then_some(Begun { stage, result })
    };
    Ok(item.stages.into_iter().filter_map(of).collect())
}

/// The lock entry that the project has for a stage now.
fn entry<'l>(
    root: &Path,
    locks: &'l mut HashMap<String, HashMap<String, String>>,
    stage: &PlannedStage,
) -> Option<&'l String> {
    let path = lock_path(&stage.file);
    let entries = locks.entry(path.clone()).or_insert_with(|| {
        let text = fs::read_text_if_any(&root.join(&path)).ok().flatten().unwrap_or_default();
        let Ok(lock) = Lockfile::parse(&text) else { return HashMap::new() };
        lock.names().filter_map(|name| Some((name.to_owned(), lock.entry(name)?.text().to_owned()))).collect()
    });
    entries.get(stage.name.as_deref()?)
}
