//! The last lines of a command that ran work items: counts, and the failures with the ends of their logs.

use crate::adapters::clock;
use crate::diagnostic::Diagnostic;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::status::ItemState;
use crate::output::text::{self, count};
use crate::state::format::{Plan, VERSION};
use crate::state::paths::RunDir;
use crate::state::{shards, status, worklist};

/// The number of failures that are shown in full.
const SHOWN: usize = 5;

/// What became of the work items of some phases.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub succeeded: usize,
    pub failed: Vec<Failed>,
    /// Since what they need failed.
    pub skipped: usize,
    pub not_run: usize,
}

impl Counts {
    pub(crate) fn are_all_good(&self) -> bool {
        self.failed.is_empty() && self.skipped == 0 && self.not_run == 0
    }
}

/// A work item that failed, with the attempt that counts.
#[derive(Debug)]
pub(crate) struct Failed {
    index: ItemIndex,
    attempt: AttemptNumber,
    why: String,
}

/// Counts how work items stand after a command that ran them.
pub(crate) fn counts(run: &RunDir, plan: &Plan, phases: &[usize]) -> Result<Counts, Diagnostic> {
    let mut counts = Counts::default();
    for (index, state) in status::item_states(run, phases.iter().flat_map(|phase| plan.phases[*phase].indexes()))? {
        match state {
            ItemState::Done { .. } => counts.succeeded += 1,
            ItemState::Failed { attempt, why, .. } => counts.failed.push(Failed { index, attempt, why }),
            ItemState::Skipped { .. } => counts.skipped += 1,
            ItemState::Waiting | ItemState::Running { .. } | ItemState::Interrupted { .. } => counts.not_run += 1,
        }
    }
    Ok(counts)
}

/// The last line of a stream of events: how the work items stand once a run is finalized.
pub(crate) fn document(run: &RunDir, counts: &Counts) -> serde_json::Value {
    serde_json::json!({
        "version": VERSION, "time": clock::now(), "event": "run_ended", "run": run.name(), "succeeded": counts.succeeded,
        "failed": counts.failed.len(), "skipped": counts.skipped, "not_run": counts.not_run,
    })
}

/// Prints counts and, last, the failures: stage, command, reason and the end of the log.
pub(crate) fn print(run: &RunDir, plan: &Plan, counts: &Counts) -> Result<(), Diagnostic> {
    let mut line = format!("{} done", count(counts.succeeded, "work item"));
    let rest = if shards::open(run)?.is_empty() { "not run" } else { "left to the cluster" };
    for (number, what) in [(counts.failed.len(), "failed"), (counts.skipped, "skipped"), (counts.not_run, rest)] {
        if number > 0 {
            line.push_str(&format!(", {number} {what}"));
        }
    }
    text::note(&line);
    for failed in counts.failed.iter().take(SHOWN) {
        let item = worklist::read_one(run, plan, failed.index)?;
        text::note(&format!("failed: {} ({})", item.id, failed.why));
        let log = run.log(failed.index, failed.attempt);
        for line in status::tail(&log, status::LOG_LINES) {
            text::note(&format!("    {line}"));
        }
        if log.is_file() {
            text::note(&format!("  log: {}", log.display()));
        }
    }
    if counts.failed.len() > SHOWN {
        text::note(&format!("… and {} more: `dvc-fanout status`", counts.failed.len() - SHOWN));
    }
    Ok(())
}
