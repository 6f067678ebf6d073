//! What an attempt whose worker was killed had written to outs that persist: taken out of its slot, and published as the
//! result of an attempt that was interrupted.
//!
//! A slot's file `at-work` names the attempt from the moment its commands may begin until its result is there.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::adapters::dvc::cache::Cache;
use crate::adapters::fs::{self, At as _};
use crate::adapters::{clock, process};
use crate::diagnostic::Diagnostic;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::Outcome;
use crate::state::format::{Plan, StageResult, VERSION, WorkItem, WorkResult};
use crate::state::paths::{FanoutDir, SlotDir};
use crate::state::results::{Draft, Durability};
use crate::state::{log, slots, worklist};
use crate::worker::child::Stopped;
use crate::worker::executor::{Ran, StageEnd};
use crate::worker::harvest::{Harvest, Left};
use crate::worker::workspace;

/// What a slot's file says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AtWork {
    run: String,
    index: ItemIndex,
    attempt: AttemptNumber,
}

/// Notes that the commands of an attempt may begin in a slot; only what persists is worth it.
pub(super) fn begin(slot: &SlotDir, plan: &Plan, item: &WorkItem, attempt: AttemptNumber) -> Result<(), Diagnostic> {
    if !persists(item) {
        return Ok(());
    }
    let at_work = AtWork { run: plan.run.clone(), index: item.index, attempt };
    let text = serde_json::to_vec(&at_work).map_err(|error| Diagnostic::internal(error.to_string()))?;
    Ok(fs::write(&slot.at_work(), &text)?)
}

/// Notes that the result of an attempt is there.
pub(super) fn end(slot: &SlotDir) -> Result<(), Diagnostic> {
    Ok(fs::remove(&slot.at_work())?)
}

/// Takes what killed attempts left in all slots that nobody uses.
pub(crate) fn all(fanout: &FanoutDir, slots: &Path, cache: &Path) -> Result<(), Diagnostic> {
    for name in fs::names(slots)? {
        let Ok(number) = name.parse() else { continue };
        let slot = SlotDir::new(slots, number);
        if fs::exists(&slot.at_work())
            && let Some(_lock) = fs::try_lock(&slot.lock())?
        {
            take(fanout, &slot, cache)?;
        }
    }
    Ok(())
}

/// Takes what a killed attempt left in a slot, whose lock is held.
pub(super) fn take(fanout: &FanoutDir, slot: &SlotDir, cache: &Path) -> Result<(), Diagnostic> {
    let Some(text) = fs::read_text_if_any(&slot.at_work())? else { return Ok(()) };
    // Half a file, or one of a run that was removed, names nothing that could be saved.
    if let Ok(at_work) = serde_json::from_str::<AtWork>(&text)
        && fs::exists(&fanout.run(&at_work.run).plan())
    {
        publish(fanout, slot, cache, &at_work)?;
    }
    end(slot)
}

fn publish(fanout: &FanoutDir, slot: &SlotDir, cache: &Path, at_work: &AtWork) -> Result<(), Diagnostic> {
    let (run, plan) = worklist::open(fanout, Some(&at_work.run))?;
    let place = run.attempt(at_work.index, at_work.attempt);
    if !plan.has(at_work.index) || fs::exists(&place) {
        return Ok(());
    }
    slots::end_leftovers(slot);
    let item = worklist::read_one(&run, &plan, at_work.index)?;
    let root = slot.workspace().join(&plan.prefix);
    // A lock file that DVC was just writing says nothing; then no stage is known to be done.
    let none = || vec![None; item.stages.len()];
    let [own, by_dvc] = [&slot.locks(), &root].map(|locks| workspace::entries(locks, &item).unwrap_or_else(|_| none()));
    let is_new = |entry: &Option<String>, base: &Option<String>| entry.is_some() && entry != base;
    let path = run.log(item.index, at_work.attempt);
    let begun = log::begun(&path).at("read", &path)?;
    let entries = own.iter().zip(&by_dvc);
    let ends = item.stages.iter().zip(entries).map(|(stage, (own, by_dvc))| StageEnd {
        has_begun: begun.contains(&stage.address) && !is_new(own, &stage.base) && !is_new(by_dvc, &stage.base),
        ..StageEnd::not_run()
    });
    let ran = Ran { stopped: Stopped::Signalled(9), stages: ends.collect(), error: None };
    let draft = Draft::begin(&run, item.index, at_work.attempt)?;
    let mut left = Left::default();
    let cache = Cache::new(cache);
    Harvest { item: &item, prefix: &plan.prefix, draft: &draft, cache, links: &[] }
        .take_partial(&root, &ran, &mut left)?;
    if left.persisted.is_empty() {
        return Ok(());
    }
    draft.publish(
        &WorkResult {
            version: VERSION,
            run: plan.run.clone(),
            index: item.index,
            id: item.id.clone(),
            attempt: at_work.attempt,
            outcome: Outcome::Interrupted { message: "its worker was killed".to_owned() },
            stages: item.stages.iter().map(|stage| StageResult::not_run(&stage.address)).collect(),
            files: vec![],
            partial: left.partial,
            persisted: left.persisted,
            modes: vec![],
            empty: vec![],
            deleted: vec![],
            gone: vec![],
            ignore: vec![],
            difference: None,
            in_project: false,
            usage: None,
            moved: None,
            traffic: None,
            slurm: None,
            dvc: plan.dvc,
            host: process::host(),
            started: clock::made(&path),
            finished: clock::now(),
        },
        Durability::Now,
    )?;
    Ok(())
}

/// Whether a stage has an out that persists.
pub(crate) fn persists(item: &WorkItem) -> bool {
    item.stages.iter().flat_map(|stage| &stage.outs).any(|out| out.persist)
}
