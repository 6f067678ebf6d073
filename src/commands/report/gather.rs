//! From the files of a run to its report.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;

use crate::adapters::clock;
use crate::diagnostic::Diagnostic;
use crate::model::plan::PhaseKind;
use crate::model::report::{
    Attempt, AttemptEnd, Failure, Outcome, Phase, Provenance, Report, Stage, StageState, WorkItem, plain,
};
use crate::state::format::{self, Plan, PlannedStage};
use crate::state::journal::{self, EndingKind, Journaled, Line};
use crate::state::paths::RunDir;
use crate::state::results::{self, Examined};
use crate::state::{survey, worklist};

/// Lines of the log of a failure that a report has.
const LOG_LINES: usize = 40;
/// Failures whose logs a report has; of the others it has the reason and the log's path.
const LOGS: usize = 200;

/// Gathers what is on disk of a run.
pub(super) fn gather(run: &RunDir, plan: &Plan) -> Result<Report, Diagnostic> {
    let items = worklist::read_all(run)?;
    let sources = Sources {
        run,
        plan,
        ids: items.iter().map(|item| item.id.as_str()).collect(),
        templates: plan.templates.iter().map(|template| template.address.as_str()).collect(),
        history: History::of(&journal::read(run)?, plan),
    };
    let history = &sources.history;
    let found: Result<Vec<_>, Diagnostic> = items.par_iter().map(|item| sources.find(item)).collect();
    let mut found = found?;
    let failures = found.iter_mut().map(|found| &mut found.work_item);
    for item in failures.filter(|item| matches!(item.outcome, Outcome::Failed { .. })).take(LOGS) {
        let log = item.log.as_deref().map(|log| survey::tail(&run.path().join(log), LOG_LINES));
        item.tail = log.unwrap_or_default().iter().map(|line| plain(line)).collect();
    }
    let published = || found.iter().filter_map(|found| found.examined.best.as_ref());
    let hosts = published().map(|published| published.result.host.clone());
    let dvc = published().map(|published| published.result.dvc.clone());
    let provenance = Provenance {
        program: plan.program.clone(),
        dvc: distinct([plan.dvc.clone()].into_iter().chain(dvc)),
        commit: plan.head.clone(),
        snapshot: plan.snapshot.clone(),
        targets: plan.targets.clone(),
        engines: distinct(history.engines.iter().cloned()),
        images: distinct(history.images.iter().cloned()),
        hosts: distinct(history.hosts.iter().cloned().chain(hosts)),
    };
    let ends = found.iter().flat_map(|found| &found.work_item.attempts).map(|attempt| attempt.begin + attempt.seconds);
    Ok(Report {
        run: plan.run.clone(),
        project: Path::new(&plan.root).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        created: plan.created.clone(),
        seconds: ends.fold(history.seconds, f64::max),
        ended: history.ended,
        provenance,
        phases: plan.phases.iter().map(phase).collect(),
        templates: plan.templates.iter().map(|template| (template.address.clone(), template.stages)).collect(),
        work_items: found.into_iter().map(|found| found.work_item).collect(),
    })
}

/// A work item and what lies in its folder.
struct Found {
    work_item: WorkItem,
    examined: Examined,
}

/// Each text once, in the order of their first mention.
fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    texts.collect::<indexmap::IndexSet<String>>().into_iter().collect()
}

fn phase(phase: &format::Phase) -> Phase {
    let kind = match phase.kind {
        format::PhaseKind::Map => PhaseKind::Map,
        format::PhaseKind::Shared => PhaseKind::Shared,
    };
    Phase { kind, trailing: phase.trailing }
}

/// What the journal says.
#[derive(Default)]
struct History {
    /// The attempts at each work item, in the order in which they began.
    attempts: HashMap<usize, BTreeMap<u32, Attempt>>,
    /// The work items that were skipped, with those that they waited for in vain.
    skipped: HashMap<usize, Vec<usize>>,
    engines: Vec<String>,
    images: Vec<String>,
    hosts: Vec<String>,
    ended: bool,
    /// From the plan to the last event.
    seconds: f64,
}

impl History {
    fn of(lines: &[Line], plan: &Plan) -> History {
        let mut history = History::default();
        for line in lines {
            let now = clock::seconds_between(&plan.created, &line.time);
            history.seconds = history.seconds.max(now);
            history.take(&line.event, now);
        }
        history
    }

    fn take(&mut self, event: &Journaled, now: f64) {
        match event {
            Journaled::Launched { engine, host, image, .. } => {
                self.engines.push(engine.clone());
                self.images.extend(image.clone());
                self.hosts.push(host.clone());
                self.ended = false;
            }
            Journaled::AttemptStarted { index, attempt, place, .. } => {
                let begun = Attempt {
                    number: *attempt,
                    place: place.clone(),
                    begin: now,
                    seconds: 0.0,
                    end: AttemptEnd::Unfinished,
                    message: None,
                };
                self.attempts.entry(*index).or_default().insert(*attempt, begun);
                self.skipped.remove(index);
            }
            Journaled::AttemptFinished { index, attempt, ending, message, seconds, .. } => {
                let Some(begun) = self.attempts.get_mut(index).and_then(|attempts| attempts.get_mut(attempt)) else {
                    return;
                };
                begun.seconds = *seconds;
                begun.message.clone_from(message);
                begun.end = match ending {
                    EndingKind::Succeeded => AttemptEnd::Succeeded,
                    EndingKind::Failed => AttemptEnd::Failed,
                    EndingKind::ToolFailed => AttemptEnd::ToolFailed,
                    EndingKind::Lost => AttemptEnd::Lost,
                    EndingKind::Stopped => AttemptEnd::Stopped,
                };
            }
            Journaled::WorkItemSkipped { index, because, .. } => {
                self.skipped.insert(*index, because.clone());
            }
            Journaled::Finalized { .. } => self.ended = true,
            Journaled::PhaseStarted { .. }
            | Journaled::Noticed { .. }
            | Journaled::Stopping { .. }
            | Journaled::Collected { .. } => {}
        }
    }
}

/// What work items are described from.
struct Sources<'a> {
    run: &'a RunDir,
    plan: &'a Plan,
    /// By index.
    ids: Vec<&'a str>,
    /// The addresses of all templates.
    templates: HashSet<&'a str>,
    history: History,
}

impl Sources<'_> {
    /// Describes a work item as its results and the journal tell it.
    fn find(&self, item: &format::WorkItem) -> Result<Found, Diagnostic> {
        let examined = results::examine(self.run, item.index)?;
        let tried = results::attempts(self.run, item.index)?.last().copied();
        let attempts = self.attempts(item.index, &examined);
        let best = examined.best.as_ref().map(|published| &published.result);
        let attempt = best.map(|result| result.attempt).or(tried);
        let log = attempt.map(|attempt| self.run.log(item.index, attempt));
        let stage = |planned: &PlannedStage| {
            let stage = best.and_then(|result| result.stages.iter().find(|stage| stage.address == planned.address));
            Stage {
                address: planned.address.clone(),
                template: self.template(&planned.address),
                reason: planned.reason.clone(),
                state: stage.map_or(StageState::NotRun, |stage| state_of(stage.state)),
            }
        };
        let work_item = WorkItem {
            index: item.index,
            id: item.id.clone(),
            phase: item.phase,
            stages: item.stages.iter().map(stage).collect(),
            outcome: self.outcome(item.index, &examined, &attempts, tried.is_some()),
            attempts: attempts.into_values().collect(),
            log: log.and_then(|log| Some(log.strip_prefix(self.run.path()).ok()?.display().to_string())),
            tail: vec![],
        };
        Ok(Found { work_item, examined })
    }

    /// The attempts of the journal, and those of workers that were started by hand, which are in no journal.
    fn attempts(&self, index: usize, examined: &Examined) -> BTreeMap<u32, Attempt> {
        let mut attempts = self.history.attempts.get(&index).cloned().unwrap_or_default();
        for published in examined.others.iter().chain(&examined.best) {
            let result = &published.result;
            attempts.entry(result.attempt).or_insert_with(|| Attempt {
                number: result.attempt,
                place: result.host.clone(),
                begin: clock::seconds_between(&self.plan.created, &result.started),
                seconds: clock::seconds_between(&result.started, &result.finished),
                end: end_of(&result.outcome),
                message: message_of(&result.outcome),
            });
        }
        attempts
    }

    /// What a work item came to: what its results say counts, and only without any what the journal says.
    fn outcome(
        &self,
        index: usize,
        examined: &Examined,
        attempts: &BTreeMap<u32, Attempt>,
        was_tried: bool,
    ) -> Outcome {
        if let Some(best) = &examined.best {
            return outcome_of(&best.result.outcome);
        }
        if let Some((attempt, rejection)) = examined.rejected.last() {
            let message = format!("the result of attempt {attempt} is rejected: {rejection}");
            return Outcome::Failed { failure: Failure::NoResult, message };
        }
        if let Some(because) = self.history.skipped.get(&index) {
            let because = because.iter().filter_map(|index| self.ids.get(*index)).map(|id| (*id).to_owned()).collect();
            return Outcome::Skipped { because };
        }
        if was_tried {
            let said = attempts.values().rev().find_map(|attempt| attempt.message.clone());
            let message = said.unwrap_or_else(|| "its worker ended without a result".to_owned());
            return Outcome::Failed { failure: Failure::NoResult, message };
        }
        Outcome::NotRun { message: None }
    }

    /// The template of a stage: its address up to one of its `@`, or all of it.
    fn template(&self, address: &str) -> String {
        let groups = address.match_indices('@').map(|(at, _)| &address[..at]);
        let mut parts = std::iter::once(address).chain(groups);
        parts.find(|part| self.templates.contains(part)).unwrap_or(address).to_owned()
    }
}

fn state_of(state: format::StageState) -> StageState {
    match state {
        format::StageState::Ran => StageState::Ran,
        format::StageState::Restored => StageState::Restored,
        format::StageState::Unchanged => StageState::Unchanged,
        format::StageState::Failed => StageState::Failed,
        format::StageState::NotRun => StageState::NotRun,
    }
}

fn outcome_of(outcome: &format::Outcome) -> Outcome {
    let message = message_of(outcome);
    let failed = |failure| Outcome::Failed { failure, message: message.clone().unwrap_or_default() };
    match outcome {
        format::Outcome::Succeeded => Outcome::Succeeded,
        format::Outcome::StageFailed { .. } => failed(Failure::Stage),
        format::Outcome::ToolFailed { .. } => failed(Failure::Tool),
        format::Outcome::TimedOut { .. } => failed(Failure::TimedOut),
        format::Outcome::Interrupted { .. } => Outcome::NotRun { message },
    }
}

fn message_of(outcome: &format::Outcome) -> Option<String> {
    (*outcome != format::Outcome::Succeeded).then(|| outcome.to_string())
}

fn end_of(outcome: &format::Outcome) -> AttemptEnd {
    match outcome {
        format::Outcome::Succeeded => AttemptEnd::Succeeded,
        format::Outcome::StageFailed { .. } | format::Outcome::TimedOut { .. } => AttemptEnd::Failed,
        format::Outcome::ToolFailed { .. } => AttemptEnd::ToolFailed,
        format::Outcome::Interrupted { .. } => AttemptEnd::Stopped,
    }
}
