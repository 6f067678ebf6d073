//! How a run stands, read from its results, its journal and its lock.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use crate::adapters::clock;
use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;
use crate::model::run::Ending;
use crate::model::status::{self, Facts, ItemState, ItemStatus, PhaseStatus, RunState, RunStatus};
use crate::state::format::{Plan, WorkItem};
use crate::state::journal::{self, Journaled, Line};
use crate::state::paths::RunDir;
use crate::state::{results, run_lock, shards, worklist};

/// Lines of a log that are shown of a failure.
pub(crate) const LOG_LINES: usize = 12;
/// Characters that are shown of the beginning and of the end of a longer line.
const LINE_CHARS: (usize, usize) = (100, 300);
/// Bytes at the end of a log that are looked at for them.
const LOG_BYTES: u64 = 16 << 10;

/// Tells how a run and all of its work items stand.
pub(crate) fn run(run: &RunDir, plan: &Plan) -> Result<RunStatus, Diagnostic> {
    let items = worklist::read_all(run)?;
    let lines = journal::read(run)?;
    let is_launched = run_lock::is_held(run)?;
    let left = if is_launched || is_finalized(&lines) { vec![] } else { shards::open(run)? };
    let mut journal = last_words(&lines, &items);
    let seconds = seconds(&lines);
    let status = |(item, journal): (&WorkItem, status::Journal)| {
        let mut facts = Facts { journal, ..facts(run, item.index)? };
        let log = (facts.begun > 0).then(|| run.log(item.index, facts.begun));
        if let (Some(log), false) = (&log, left.is_empty()) {
            facts.begin_unwatched(clock::made(log));
        }
        let state = facts.state(is_launched || !left.is_empty());
        let tail = match (&state, &log) {
            (ItemState::Failed { .. }, Some(log)) => tail(log, LOG_LINES),
            _ => vec![],
        };
        Ok(ItemStatus {
            index: item.index,
            id: item.id.clone(),
            phase: item.phase,
            state,
            seconds: seconds.get(&item.index).copied(),
            log: log.map(|log| log.strip_prefix(&plan.root).unwrap_or(&log).display().to_string()),
            tail,
        })
    };
    let said: Vec<_> = items.iter().map(|item| journal.remove(&item.index).unwrap_or_default()).collect();
    let statuses: Result<Vec<ItemStatus>, Diagnostic> = items.par_iter().zip(said).map(status).collect();
    let statuses = statuses?;
    let phases = plan.phases.iter().map(|phase| PhaseStatus { total: phase.count, trailing: phase.trailing }).collect();
    let goes_on = |item: &ItemStatus| matches!(item.state, ItemState::Waiting | ItemState::Running { .. });
    let state = match state(&lines, is_launched) {
        RunState::Idle | RunState::Planned if !left.is_empty() && statuses.iter().any(goes_on) => {
            let engine = left.first().map(|job| shards::engine_of(run, job)).transpose()?.unwrap_or_default();
            RunState::Left { engine, jobs: left }
        }
        state => state,
    };
    Ok(RunStatus { run: plan.run.clone(), created: plan.created.clone(), state, phases, items: statuses })
}

/// Where a run is in its life.
pub(crate) fn state(lines: &[Line], is_launched: bool) -> RunState {
    let launched = lines.iter().rev().find_map(|line| match &line.event {
        Journaled::Launched { engine, host, process, .. } => Some((engine.clone(), host.clone(), *process)),
        _ => None,
    });
    let is_finalized = is_finalized(lines);
    match launched {
        Some((engine, host, process)) if is_launched => RunState::Running { engine, host, process },
        _ if is_finalized => RunState::Finalized,
        Some(_) => RunState::Idle,
        None => RunState::Planned,
    }
}

fn is_finalized(lines: &[Line]) -> bool {
    lines.iter().any(|line| matches!(line.event, Journaled::Finalized { .. }))
}

/// The engines that may be at work on a run: that of its launcher, and those of the Jobs whose end nobody has seen.
pub(crate) fn engines(run: &RunDir) -> Result<Vec<String>, Diagnostic> {
    let mut engines =
        shards::open(run)?.iter().map(|job| shards::engine_of(run, job)).collect::<Result<Vec<_>, _>>()?;
    if let RunState::Running { engine, .. } = state(&journal::read(run)?, run_lock::is_held(run)?) {
        engines.push(engine);
    }
    Ok(engines)
}

/// Whether Jobs of a run may go on in a cluster while nobody watches them.
pub(crate) fn is_left(run: &RunDir) -> Result<bool, FsError> {
    Ok(!run_lock::is_held(run)? && may_go_on(run)?)
}

/// Whether Jobs of a run may go on in a cluster, watched or not.
pub(crate) fn may_go_on(run: &RunDir) -> Result<bool, FsError> {
    Ok(!shards::open(run)?.is_empty() && !is_finalized(&journal::read(run)?))
}

/// What results and logs tell of a work item; the journal is left out.
fn facts(run: &RunDir, index: usize) -> Result<Facts, Diagnostic> {
    let begun = results::attempts(run, index)?.last().copied().unwrap_or(0);
    let published = results::best(run, index)?;
    let refusal = match &published {
        Some(published) => results::refusal(run, index, published.result.attempt)?,
        None => None,
    };
    let published = published.map(|published| {
        let ending = match (published.result.outcome.ending(), refusal) {
            (Ending::Succeeded, Some(why)) => Ending::Failed { message: why },
            (ending, _) => ending,
        };
        (published.result.attempt, ending)
    });
    Ok(Facts { begun, published, journal: status::Journal::Nothing, set_aside: results::set_aside(run, index)? })
}

/// The work items whose failure stands: a `launch` leaves them alone unless somebody asks for another try.
pub(crate) fn given_up(
    run: &RunDir,
    items: &[WorkItem],
    indexes: std::ops::Range<usize>,
) -> Result<HashSet<usize>, Diagnostic> {
    let mut journal = last_words(&journal::read(run)?, items);
    let said: Vec<_> = indexes.map(|index| (index, journal.remove(&index).unwrap_or_default())).collect();
    let given_up = |(index, journal)| {
        let facts = Facts { journal, ..facts(run, index)? };
        Ok(facts.is_given_up().then_some(index))
    };
    let given_up: Result<Vec<Option<usize>>, Diagnostic> = said.into_par_iter().map(given_up).collect();
    Ok(given_up?.into_iter().flatten().collect())
}

/// The last that the journal says of each work item.
fn last_words(lines: &[Line], items: &[WorkItem]) -> HashMap<usize, status::Journal> {
    let id = |index: &usize| items.get(*index).map_or_else(|| index.to_string(), |item| item.id.clone());
    let mut last = HashMap::new();
    for line in lines {
        let (index, said) = match &line.event {
            Journaled::AttemptStarted { index, attempt, place, .. } => {
                let (attempt, place, time) = (*attempt, place.clone(), line.time.clone());
                (*index, status::Journal::Started { attempt, place, time })
            }
            Journaled::AttemptFinished { index, attempt, ending, message, retry_after_seconds, .. } => {
                let why = || message.clone().unwrap_or_else(|| "its worker ended without a result".to_owned());
                let failure = ending.is_failure().then(why);
                let retried = retry_after_seconds.is_some();
                (*index, status::Journal::Finished { attempt: *attempt, failure, retried })
            }
            Journaled::WorkItemSkipped { index, because, .. } => {
                (*index, status::Journal::Skipped { because: because.iter().map(id).collect() })
            }
            Journaled::Launched { .. }
            | Journaled::PhaseStarted { .. }
            | Journaled::Noticed { .. }
            | Journaled::Stored { .. }
            | Journaled::Stopping { .. }
            | Journaled::Collected { .. }
            | Journaled::Finalized { .. } => continue,
        };
        last.insert(index, said);
    }
    last
}

/// Tells how work items stand that nobody is at work on; who skipped ones wait for is left out.
pub(crate) fn item_states(
    run: &RunDir,
    indexes: impl Iterator<Item = usize>,
) -> Result<Vec<(usize, ItemState)>, Diagnostic> {
    let mut journal = last_words(&journal::read(run)?, &[]);
    let said: Vec<_> = indexes.map(|index| (index, journal.remove(&index).unwrap_or_default())).collect();
    let state = |(index, journal)| {
        let facts = Facts { journal, ..facts(run, index)? };
        Ok((index, facts.state(false)))
    };
    said.into_par_iter().map(state).collect()
}

/// How long the last finished attempt at each work item took.
fn seconds(lines: &[Line]) -> HashMap<usize, f64> {
    let finished = |line: &Line| match &line.event {
        Journaled::AttemptFinished { index, seconds, .. } => Some((*index, *seconds)),
        _ => None,
    };
    lines.iter().filter_map(finished).collect()
}

/// The last lines of a log that say something, at most `limit`; none where there is no log.
pub(crate) fn tail(log: &std::path::Path, limit: usize) -> Vec<String> {
    let bytes = fs::read_tail(log, LOG_BYTES).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(limit)..].iter().map(|line| shortened(line)).collect()
}

/// The last error that a worker printed into its log, with its causes.
pub(crate) fn last_error(log: &std::path::Path) -> Option<String> {
    let lines = tail(log, LOG_LINES);
    let last = lines.iter().rposition(|line| line.starts_with("error: "))?;
    let causes = lines[last..].iter().filter_map(|line| line.strip_prefix("cause: "));
    let parts: Vec<&str> = lines[last].strip_prefix("error: ").into_iter().chain(causes).collect();
    Some(parts.join(": "))
}

/// A line without its middle where it is very long. What DVC adds to an unfinished line stands at its end.
fn shortened(line: &str) -> String {
    let (begin, end) = LINE_CHARS;
    let count = line.chars().count();
    if count <= begin + end {
        return line.to_owned();
    }
    line.chars().take(begin).chain(" … ".chars()).chain(line.chars().skip(count - end)).collect()
}

/// Whether a run has good results and was never finalized: removing it would lose them.
pub(crate) fn is_uncollected(run: &RunDir, plan: &Plan) -> Result<bool, FsError> {
    if is_finalized(&journal::read(run)?) {
        return Ok(false);
    }
    for index in 0..plan.work_items {
        if results::is_done(run, index)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_worker_comes_with_its_causes() {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let said = |text: &str| {
            crate::adapters::fs::write_plain(log.path(), text.as_bytes()).expect("written");
            last_error(log.path())
        };
        assert_eq!(said("ERROR: of DVC\n"), None);
        let text = "error: an earlier one\ncause: x\nerror: cannot write `a`\n  --> a\ncause: it is full\ncause: so far\nhint: b\n";
        assert_eq!(said(text), Some("cannot write `a`: it is full: so far".to_owned()));
    }
}
