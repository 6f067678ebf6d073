//! From the files of a run to its report.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use indexmap::IndexSet;
use rayon::prelude::*;

use crate::adapters::clock;
use crate::diagnostic::Diagnostic;
use crate::model::numbers::ItemIndex;
use crate::model::report::{Attempt, Executors, Failure, Outcome, Phase, Provenance, Report, Stage, WorkItem, plain};
use crate::model::run::{self, EndingKind, Executed, Moved, StageState, Traffic};
use crate::model::status::{ItemState, ItemStatus, RunState};
use crate::state::format::{self, Plan, PlannedStage};
use crate::state::journal::{self, Journaled, Line};
use crate::state::paths::RunDir;
use crate::state::results::{self, Examined};
use crate::state::{looks, status, worklist};

/// Lines of the log of a failure that a report has.
const LOG_LINES: usize = 40;
/// Failures whose logs a report has; of the others it has the reason and the log's path.
const LOGS: usize = 200;

/// Gathers what is on disk of a run.
pub(super) fn gather(run: &RunDir, plan: &Plan) -> Result<Report, Diagnostic> {
    let mut history = History::of(&journal::read(run)?, plan);
    let status = status::run(run, plan)?;
    let is_on = !history.ended && matches!(status.state, RunState::Running { .. } | RunState::Left { .. });
    let looks = Some(looks::read(run)?).filter(|looks| *looks != Traffic::default());
    let sources = Sources {
        run,
        plan,
        templates: plan.templates.iter().map(|template| template.address.as_str()).collect(),
        now: clock::seconds_between(&plan.created, &clock::now()),
    };
    let (mut work_items, told) = sources.find_all(std::mem::take(&mut history.attempts), status.items)?;
    let failures = work_items.iter_mut().filter(|item| matches!(item.outcome, Outcome::Failed { .. }));
    for item in failures.take(LOGS) {
        let log = item.log.as_deref().map(|log| status::tail(&run.path().join(log), LOG_LINES));
        item.tail = log.unwrap_or_default().iter().map(|line| plain(line)).collect();
    }
    let provenance = Provenance {
        program: plan.program.clone(),
        dvc: distinct([plan.dvc.clone()].into_iter().chain(told.dvc).filter(|version| !version.is_empty())),
        commit: plan.head.clone(),
        snapshot: plan.snapshot.clone(),
        targets: plan.targets.clone(),
        engines: distinct(history.engines.into_iter()),
        images: distinct(history.images.into_iter()),
        hosts: distinct(history.hosts.into_iter().chain(told.hosts)),
        traffic: history
            .traffic
            .into_iter()
            .chain(looks)
            .reduce(Traffic::plus)
            .map(|traffic| traffic.plus(told.traffic)),
        moved: history.moved.plus(told.moved),
        executors: told.executors,
    };
    let ends = work_items.iter().flat_map(|item| &item.attempts).map(|attempt| attempt.begin + attempt.seconds);
    Ok(Report {
        run: plan.run.clone(),
        project: Path::new(&plan.root).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        created: plan.created.clone(),
        seconds: ends.fold(history.seconds, f64::max),
        ended: history.ended,
        is_on,
        provenance,
        phases: plan.phases.iter().map(|phase| Phase { kind: phase.kind, trailing: phase.trailing }).collect(),
        templates: plan.templates.iter().map(|template| (template.address.clone(), template.stages)).collect(),
        work_items,
    })
}

/// What results tell of a run as a whole.
#[derive(Default)]
struct Told {
    hosts: IndexSet<String>,
    /// The versions of DVC.
    dvc: IndexSet<String>,
    traffic: Traffic,
    moved: Moved,
    executors: Executors,
}

impl Told {
    /// Takes what the folder of a work item has.
    fn take(&mut self, examined: Examined) {
        for published in examined.best.iter().chain(&examined.others) {
            self.traffic = published.result.traffic.into_iter().fold(self.traffic, Traffic::plus);
            if let Some(moved) = &published.result.moved {
                self.moved = std::mem::take(&mut self.moved).plus(moved.clone());
            }
            self.hosts.insert(published.result.host.clone());
        }
        if let Some(best) = examined.best {
            self.dvc.insert(best.result.dvc);
            count(&mut self.executors, &best.result.stages);
        }
    }
}

/// Counts what did the stages of a result.
fn count(executors: &mut Executors, stages: &[format::StageResult]) {
    for stage in stages.iter().filter(|stage| stage.state != StageState::NotRun) {
        match &stage.executor {
            Executed::Native => executors.native += 1,
            Executed::Check => executors.check += 1,
            Executed::Dvc { why } => *executors.dvc.entry(why.clone()).or_default() += 1,
        }
    }
}

/// Each text once, in the order of their first mention.
fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    texts.collect::<IndexSet<String>>().into_iter().collect()
}

/// What the journal says.
#[derive(Default)]
struct History {
    /// The attempts at each work item, in the order in which they began.
    attempts: HashMap<ItemIndex, Vec<Attempt>>,
    engines: Vec<String>,
    images: Vec<String>,
    hosts: Vec<String>,
    ended: bool,
    /// What launches took from an object store and put into it.
    traffic: Option<Traffic>,
    /// What they moved between the cache and the remote.
    moved: Moved,
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
                    end: None,
                    message: None,
                };
                let attempts = self.attempts.entry(*index).or_default();
                attempts.retain(|earlier| earlier.number != *attempt);
                attempts.push(begun);
            }
            Journaled::AttemptFinished { index, attempt, ending, message, seconds, .. } => {
                let begun = self.attempts.get_mut(index).into_iter().flatten().rfind(|begun| begun.number == *attempt);
                let Some(begun) = begun else { return };
                begun.seconds = *seconds;
                // It may have begun long before that was seen.
                begun.begin = begun.begin.min((now - seconds).max(0.0));
                begun.message.clone_from(message);
                begun.end = Some(*ending);
            }
            Journaled::Finalized { .. } => self.ended = true,
            Journaled::Stored { traffic, .. } => {
                self.traffic = Some(self.traffic.unwrap_or_default().plus(*traffic));
            }
            Journaled::Moved { moved } => self.moved = std::mem::take(&mut self.moved).plus(moved.clone()),
            Journaled::PhaseStarted { .. }
            | Journaled::WorkItemSkipped { .. }
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
    /// The addresses of all templates.
    templates: HashSet<&'a str>,
    /// Seconds since the plan was made.
    now: f64,
}

impl Sources<'_> {
    /// Describes all work items, given the attempts that the journal has.
    fn find_all(
        &self,
        mut attempts: HashMap<ItemIndex, Vec<Attempt>>,
        states: Vec<ItemStatus>,
    ) -> Result<(Vec<WorkItem>, Told), Diagnostic> {
        let (mut work_items, mut told) = (Vec::with_capacity(states.len()), Told::default());
        let (mut items, mut states) = (worklist::each(self.run)?, states.into_iter().map(|status| status.state));
        loop {
            let block = items.block()?;
            if block.is_empty() {
                return Ok((work_items, told));
            }
            let told_of = |item: &format::WorkItem| attempts.remove(&item.index).unwrap_or_default();
            let attempts: Vec<_> = block.iter().map(told_of).collect();
            let states: Vec<_> = states.by_ref().take(block.len()).collect();
            let found = block.into_par_iter().zip(attempts).zip(states);
            let found = found.map(|((item, attempts), state)| self.find(item, attempts, state));
            for (item, examined) in found.collect::<Result<Vec<_>, Diagnostic>>()? {
                told.take(examined);
                work_items.push(item);
            }
        }
    }

    /// Describes a work item as its results and the journal tell it, the latter by its attempts, beside all results.
    fn find(
        &self,
        item: format::WorkItem,
        attempts: Vec<Attempt>,
        state: ItemState,
    ) -> Result<(WorkItem, Examined), Diagnostic> {
        let examined = results::examine(self.run, item.index)?;
        let tried = results::attempts(self.run, item.index)?.last().copied();
        let mut attempts = self.with_unseen(attempts, &examined);
        let is_running = matches!(state, ItemState::Running { .. });
        if let Some(last) = attempts.last_mut().filter(|last| is_running && last.end.is_none()) {
            last.seconds = (self.now - last.begin).max(0.0);
        }
        let best = examined.best.as_ref().map(|published| &published.result);
        let attempt = best.map(|result| result.attempt).or(tried);
        let log = attempt.map(|attempt| self.run.log(item.index, attempt));
        let stage = |planned: PlannedStage| {
            let stage = best.and_then(|result| result.stages.iter().find(|stage| stage.address == planned.address));
            Stage {
                template: self.template(&planned.address),
                address: planned.address,
                reason: planned.reason,
                state: stage.map_or(StageState::NotRun, |stage| stage.state),
            }
        };
        let work_item = WorkItem {
            index: item.index,
            id: item.id,
            phase: item.phase,
            stages: item.stages.into_iter().map(stage).collect(),
            outcome: outcome_of(state, &examined),
            is_running,
            attempts,
            log: log.and_then(|log| Some(log.strip_prefix(self.run.path()).ok()?.display().to_string())),
            tail: vec![],
            used: best.and_then(|result| result.usage.clone()),
            difference: best.and_then(|result| result.difference.clone()),
        };
        Ok((work_item, examined))
    }

    /// The attempts of the journal, and those of workers that were started by hand, which are in no journal, by number.
    fn with_unseen(&self, mut attempts: Vec<Attempt>, examined: &Examined) -> Vec<Attempt> {
        for published in examined.others.iter().chain(&examined.best) {
            let result = &published.result;
            if attempts.iter().any(|attempt| attempt.number == result.attempt) {
                continue;
            }
            attempts.push(Attempt {
                number: result.attempt,
                place: result.host.clone(),
                begin: clock::seconds_between(&self.plan.created, &result.started),
                seconds: clock::seconds_between(&result.started, &result.finished),
                // Whoever starts workers by hand stops them by hand.
                end: Some(match result.outcome.ending().kind() {
                    EndingKind::Lost => EndingKind::Stopped,
                    kind => kind,
                }),
                message: message_of(&result.outcome),
            });
        }
        attempts.sort_by_key(|attempt| attempt.number);
        attempts.shrink_to_fit();
        attempts
    }

    /// The template of a stage: its address up to one of its `@`, or all of it.
    fn template(&self, address: &str) -> String {
        let groups = address.match_indices('@').map(|(at, _)| &address[..at]);
        let mut parts = std::iter::once(address).chain(groups);
        parts.find(|part| self.templates.contains(part)).unwrap_or(address).to_owned()
    }
}

/// What a work item came to, as `status` has it; what its results say tells the kind of a failure.
fn outcome_of(state: ItemState, examined: &Examined) -> Outcome {
    let best = examined.best.as_ref().map(|best| &best.result.outcome);
    let failed = |failure, message| Outcome::Failed { failure, message };
    if let (None, Some((attempt, rejection))) = (best, examined.rejected.last()) {
        return failed(Failure::NoResult, format!("the result of attempt {attempt} is rejected: {rejection}"));
    }
    let failure = best.and_then(failure_of);
    match (state, failure) {
        (ItemState::Done { .. }, _) => Outcome::Succeeded,
        (ItemState::Failed { why, .. }, failure) => failed(failure.unwrap_or(Failure::NoResult), why),
        (ItemState::Interrupted { .. }, Some(failure)) => {
            failed(failure, best.and_then(message_of).unwrap_or_default())
        }
        (ItemState::Interrupted { .. }, None) => Outcome::NotRun { message: best.and_then(message_of) },
        (ItemState::Skipped { because }, _) => Outcome::Skipped { because },
        (ItemState::Waiting | ItemState::Running { .. }, _) => Outcome::NotRun { message: None },
    }
}

fn failure_of(outcome: &run::Outcome) -> Option<Failure> {
    match outcome {
        run::Outcome::StageFailed { .. } => Some(Failure::Stage),
        run::Outcome::ToolFailed { .. } => Some(Failure::Tool),
        run::Outcome::TimedOut { .. } => Some(Failure::TimedOut),
        run::Outcome::Succeeded | run::Outcome::Interrupted { .. } => None,
    }
}

fn message_of(outcome: &run::Outcome) -> Option<String> {
    (*outcome != run::Outcome::Succeeded).then(|| outcome.to_string())
}
