//! The last lines of a command that ran work items: counts, and the failures with the ends of their logs.

use std::cell::LazyCell;
use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::output::text::{self, count};
use crate::state::format::{Outcome, Plan, WorkItem};
use crate::state::paths::RunDir;
use crate::state::{results, shards, survey, worklist};

/// The number of failures that are shown in full.
const SHOWN: usize = 5;

/// What became of the work items of some phases.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub succeeded: usize,
    pub failed: Vec<usize>,
    pub not_run: usize,
}

/// Counts the results on disk.
pub(crate) fn counts(run: &RunDir, plan: &Plan, phases: &[usize]) -> Result<Counts, Diagnostic> {
    let mut counts = Counts::default();
    let is_left = !shards::open(run)?.is_empty();
    let failures = LazyCell::new(|| survey::failures(run).unwrap_or_default());
    for index in phases.iter().flat_map(|phase| plan.phases[*phase].indexes()) {
        match results::best(run, index)? {
            Some(published) if published.succeeded() => counts.succeeded += 1,
            Some(published) if matches!(published.result.outcome, Outcome::Interrupted { .. }) => counts.not_run += 1,
            Some(_) => counts.failed.push(index),
            // A worker may fail before it begins.
            None if failures.contains_key(&index) => counts.failed.push(index),
            None if is_left || results::attempts(run, index)?.is_empty() => counts.not_run += 1,
            None => counts.failed.push(index),
        }
    }
    Ok(counts)
}

/// Prints counts and, last, the failures: stage, command, reason and the end of the log.
pub(crate) fn print(run: &RunDir, plan: &Plan, phases: &[usize]) -> Result<(), Diagnostic> {
    let counts = counts(run, plan, phases)?;
    let mut line = format!("{} done", count(counts.succeeded, "work item"));
    let rest = if shards::open(run)?.is_empty() { "not run" } else { "left to the cluster" };
    for (number, what) in [(counts.failed.len(), "failed"), (counts.not_run, rest)] {
        if number > 0 {
            line.push_str(&format!(", {number} {what}"));
        }
    }
    text::note(&line);
    for &index in counts.failed.iter().take(SHOWN) {
        let item = worklist::read_one(run, plan, index)?;
        for line in failure(run, &item)? {
            text::note(&line);
        }
    }
    if counts.failed.len() > SHOWN {
        text::note(&format!("… and {} more: `dvc-fanout status`", counts.failed.len() - SHOWN));
    }
    Ok(())
}

/// The lines about one failed work item.
fn failure(run: &RunDir, item: &WorkItem) -> Result<Vec<String>, Diagnostic> {
    let published = results::best(run, item.index)?;
    let attempt = match &published {
        Some(published) => published.result.attempt,
        None => results::attempts(run, item.index)?.last().copied().unwrap_or(1),
    };
    let why = match published {
        Some(published) => published.result.outcome.to_string(),
        None => {
            let known = survey::failures(run)?.remove(&item.index);
            known.unwrap_or_else(|| "its worker ended without a result".to_owned())
        }
    };
    let log = run.log(item.index, attempt);
    let mut lines = vec![format!("failed: {} ({why})", item.id)];
    lines.extend(survey::tail(&log, survey::LOG_LINES).into_iter().map(|line| format!("    {line}")));
    if log.is_file() {
        lines.push(format!("  log: {}", log.display()));
    }
    Ok(lines)
}

/// The last error that a worker printed into its log.
pub(crate) fn last_error(log: &Path) -> Option<String> {
    survey::tail(log, survey::LOG_LINES)
        .into_iter()
        .rev()
        .find_map(|line| line.strip_prefix("error: ").map(str::to_owned))
}
