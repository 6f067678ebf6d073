//! How a run stands, read from its results, its journal and its lock.

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;

use crate::adapters::clock;
use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;
use crate::model::numbers::ItemIndex;
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
    let items = worklist::read_briefly(run)?;
    let lines = journal::read(run)?;
    let is_launched = run_lock::is_held(run)?;
    let left = if is_launched || is_finalized(&lines) { vec![] } else { shards::open(run)? };
    // A launcher learns only now and then what has begun in a cluster.
    let is_elsewhere = !left.is_empty()
        || matches!(state(&lines, is_launched), RunState::Running { engine, .. } if engine != journal::LOCAL);
    let mut journal = last_words(&lines, &items);
    let seconds = seconds(&lines);
    let status = |(item, journal): (&WorkItem, status::Journal)| {
        let mut facts = Facts { journal, ..facts(run, item.index)? };
        let log = facts.begun.map(|begun| run.log(item.index, begun));
        if let (Some(log), true) = (&log, is_elsewhere) {
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
    let mut statuses = statuses?;
    let is_cut_off = |item: &ItemStatus| matches!(item.state, ItemState::Interrupted { .. });
    if is_launched && statuses.iter().any(is_cut_off) {
        // They may have begun since the journal was read.
        let mut journal = last_words(&journal::read(run)?, &items);
        for item in statuses.iter_mut().filter(|item| is_cut_off(item)) {
            *item = status((&items[item.index], journal.remove(&item.index).unwrap_or_default()))?;
        }
    }
    let phases = plan.phases.iter().map(|phase| PhaseStatus { total: phase.count, trailing: phase.trailing }).collect();
    let goes_on = |item: &ItemStatus| matches!(item.state, ItemState::Waiting | ItemState::Running { .. });
    let stopped = said_by_launcher(run, &left)?;
    let state = match state(&lines, is_launched) {
        RunState::Idle | RunState::Planned if !left.is_empty() && statuses.iter().any(goes_on) => {
            let engine = left.first().map(|job| shards::engine_of(run, job)).transpose()?.unwrap_or_default();
            RunState::Left { engine, jobs: left }
        }
        state => state,
    };
    Ok(RunStatus { run: plan.run.clone(), created: plan.created.clone(), state, phases, items: statuses, stopped })
}

/// The error with which the job ended that launches the run; it has no work items of its own.
fn said_by_launcher(run: &RunDir, jobs: &[String]) -> Result<Option<String>, Diagnostic> {
    for job in jobs {
        // Few say anything, and those with work items have long files.
        if let Some(error) = last_error(&run.job_output(job))
            && shards::read(run, job)?.is_some_and(|shards| shards.items.is_empty())
        {
            return Ok(Some(error));
        }
    }
    Ok(None)
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

/// The engine to whose cluster a run was left; Jobs that were only printed may never be there.
pub(crate) fn left_to(run: &RunDir) -> Result<Option<String>, Diagnostic> {
    if !is_left(run)? {
        return Ok(None);
    }
    made(run)?.first().map(|job| shards::engine_of(run, job)).transpose()
}

/// How many work items have not come to an end whose Jobs may still be there, and the engine of those.
pub(crate) fn in_open_jobs(run: &RunDir) -> Result<Option<(usize, String)>, Diagnostic> {
    let mut jobs: BTreeMap<ItemIndex, String> = BTreeMap::new();
    for job in made(run)? {
        let items = shards::read(run, &job)?.into_iter().flat_map(|shards| shards.items);
        jobs.extend(items.map(|item| (item.index, job.clone())));
    }
    let mut states = item_states(run, jobs.keys().copied())?;
    states.retain(|(_, state)| {
        matches!(state, ItemState::Waiting | ItemState::Running { .. } | ItemState::Interrupted { .. })
    });
    let engine = states.last().map(|(index, _)| shards::engine_of(run, &jobs[index])).transpose()?;
    Ok(engine.map(|engine| (states.len(), engine)))
}

/// The Jobs whose end nobody has seen, but for those that were only printed.
fn made(run: &RunDir) -> Result<Vec<String>, Diagnostic> {
    let printed = fs::read_text_if_any(&run.printed())?.unwrap_or_default();
    let mut open = shards::open(run)?;
    open.retain(|job| printed.lines().all(|line| line != job));
    Ok(open)
}

/// Whether Jobs of a run may go on in a cluster, watched or not.
pub(crate) fn may_go_on(run: &RunDir) -> Result<bool, FsError> {
    Ok(!shards::open(run)?.is_empty() && !is_finalized(&journal::read(run)?))
}

/// What results and logs tell of a work item; the journal is left out.
fn facts(run: &RunDir, index: ItemIndex) -> Result<Facts, Diagnostic> {
    let begun = results::attempts(run, index)?.last().copied();
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
    indexes: impl Iterator<Item = ItemIndex>,
) -> Result<HashSet<ItemIndex>, Diagnostic> {
    let mut journal = last_words(&journal::read(run)?, items);
    let said: Vec<_> = indexes.map(|index| (index, journal.remove(&index).unwrap_or_default())).collect();
    let given_up = |(index, journal)| {
        let facts = Facts { journal, ..facts(run, index)? };
        Ok(facts.is_given_up().then_some(index))
    };
    let given_up: Result<Vec<Option<ItemIndex>>, Diagnostic> = said.into_par_iter().map(given_up).collect();
    Ok(given_up?.into_iter().flatten().collect())
}

/// The last that the journal says of each work item; what was running when a launcher of this machine was killed is not.
fn last_words(lines: &[Line], items: &[WorkItem]) -> HashMap<ItemIndex, status::Journal> {
    let id = |index: &ItemIndex| items.get(index.get()).map_or_else(|| index.to_string(), |item| item.id.clone());
    let mut last = HashMap::new();
    let mut launched = None;
    for line in lines {
        let (index, said) = match &line.event {
            Journaled::Launched { engine, .. } => {
                if launched.replace(engine.as_str()) == Some(journal::LOCAL) {
                    last.retain(|_, said| !matches!(said, status::Journal::Started { .. }));
                }
                continue;
            }
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
            Journaled::PhaseStarted { .. }
            | Journaled::Noticed { .. }
            | Journaled::Stored { .. }
            | Journaled::Moved { .. }
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
    indexes: impl Iterator<Item = ItemIndex>,
) -> Result<Vec<(ItemIndex, ItemState)>, Diagnostic> {
    let mut journal = last_words(&journal::read(run)?, &[]);
    let said: Vec<_> = indexes.map(|index| (index, journal.remove(&index).unwrap_or_default())).collect();
    let state = |(index, journal)| {
        let facts = Facts { journal, ..facts(run, index)? };
        Ok((index, facts.state(false)))
    };
    said.into_par_iter().map(state).collect()
}

/// How long the last finished attempt at each work item took.
fn seconds(lines: &[Line]) -> HashMap<ItemIndex, f64> {
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
    if is_finalized(&journal::read(run)?) || fs::read_text_if_any(&run.taken())?.is_some_and(|word| word.is_empty()) {
        return Ok(false);
    }
    for index in plan.indexes() {
        if results::is_done(run, index)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::numbers::AttemptNumber;
    use crate::state::journal::Journal;
    use crate::state::paths::FanoutDir;
    use crate::state::run_lock::RunLock;

    const FIRST: ItemIndex = ItemIndex::new(0);

    /// How a work item stands that has begun once, after what a journal says; somebody is at work on the run.
    fn begun(events: &[Journaled]) -> ItemState {
        let folder = tempfile::tempdir().expect("a folder");
        let run = FanoutDir::of(folder.path()).run("run");
        let plan = serde_json::json!({
            "version": 1, "run": "run", "created": "", "program": "", "dvc": "", "root": "/", "prefix": "", "head": null,
            "snapshot": null, "workspace": null, "targets": [], "base": [], "work_items": 1, "templates": [],
            "phases": [{"kind": "map", "trailing": false, "first": 0, "count": 1}],
            "options": {
                "over": null, "force": false, "single_item": false, "pipeline": false, "all_pipelines": false,
                "recursive": false, "downstream": false, "glob": false, "no_run_cache": false, "pull": false,
                "allow_missing_keys": false, "cwd": "",
            },
        });
        let plan: Plan = serde_json::from_value(plan).expect("a plan");
        let item = serde_json::json!({
            "version": 1, "index": 0, "id": "s1", "phase": 0, "stages": [], "files": [], "inputs": [], "directories": [],
            "needs": [], "resources": {},
        });
        let item: WorkItem = serde_json::from_value(item).expect("a work item");
        worklist::write(&run, &plan, &[item]).expect("written");
        fs::create_dir(&run.work_item(FIRST)).expect("made");
        fs::write_plain(&run.log(FIRST, AttemptNumber::FIRST), b"").expect("written");
        let mut journal = Journal::open(&run).expect("opened");
        for event in events {
            journal.append(event.clone()).expect("appended");
        }
        let _lock = RunLock::acquire(&run).expect("free");
        super::run(&run, &plan).expect("a status").items.remove(0).state
    }

    fn launched(engine: &str) -> Journaled {
        Journaled::Launched { engine: engine.into(), image: None, host: "host".into(), process: 1 }
    }

    #[test]
    fn what_a_launcher_has_not_heard_of_yet_runs_in_the_cluster() {
        assert!(matches!(begun(&[launched("slurm")]), ItemState::Running { attempt: AttemptNumber::FIRST, .. }));
    }

    #[test]
    fn what_ran_when_a_launcher_of_this_machine_was_killed_was_interrupted() {
        let started = Journaled::AttemptStarted {
            index: FIRST,
            id: "s1".into(),
            attempt: AttemptNumber::FIRST,
            place: "slot 0".into(),
        };
        let state = begun(&[launched("local"), started.clone()]);
        assert!(matches!(state, ItemState::Running { attempt: AttemptNumber::FIRST, .. }), "{state:?}");
        let state = begun(&[launched("local"), started, launched("local")]);
        assert_eq!(state, ItemState::Interrupted { attempt: AttemptNumber::FIRST });
    }

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
