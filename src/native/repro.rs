//! One stage after another, as `dvc repro` goes through them: what fails, what is skipped then, and what is said.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub(crate) use super::fit::unusual_setting;
use super::{Became, Commands, Ignores, Log, OnFailure, Options, Place, fit, stage};
use crate::adapters::fs::{self, FsError};
use crate::dvc::changed::Subject;
use crate::dvc::ignore_lines;
use crate::dvc::lockfile::{LockEntry, Lockfile};
use crate::dvc::pipeline::path::lock_path;
use crate::dvc::pipeline::stage::Stage;

/// Starts commands, and DVC where it is wanted.
pub(crate) trait Executor: Commands {
    /// Has DVC do a stage by its turn, which is seen from the place's directory as `address`.
    fn dvc(&mut self, turn: usize, address: &str, why: &str) -> Became;
}

/// A stage in the order of `dvc repro`.
pub(crate) struct Turn<'a> {
    pub stage: &'a Stage,
    pub entry: Option<&'a LockEntry>,
    /// Why DVC has to do it, if that is known already.
    pub unusual: Option<&'a str>,
}

/// What became of a stage, and why DVC did it, if it did.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub became: Became,
    pub by_dvc: Option<String>,
}

/// What became of all stages; `None` for those that had no turn.
pub(crate) struct Outcomes {
    pub stages: Vec<Option<Outcome>>,
    pub interrupted: bool,
}

impl Outcomes {
    pub(crate) fn has_failed(&self) -> bool {
        self.stages.iter().flatten().any(|outcome| matches!(outcome.became, Became::Failed(_)))
    }
}

/// Does stages in their order.
pub(crate) fn run(
    place: &Place<'_>,
    turns: &[Turn<'_>],
    options: Options,
    on_failure: OnFailure<'_>,
    ignores: &mut Ignores<'_>,
    executor: &mut dyn Executor,
    log: &mut Log<'_>,
) -> Result<Outcomes, FsError> {
    let mut outcomes = Outcomes { stages: vec![None; turns.len()], interrupted: false };
    let mut is_skipped = vec![false; turns.len()];
    let mut failed: Vec<String> = vec![];
    let mut has_run = false;
    for (at, turn) in turns.iter().enumerate() {
        if is_skipped[at] {
            continue;
        }
        if has_run {
            log.line("");
        }
        let address = turn.stage.address_from(place.root_text, place.cwd);
        let subject = Subject { stage: turn.stage, entry: turn.entry };
        let became = match turn.unusual {
            Some(why) => Became::ForDvc(why.to_owned()),
            None => stage::reproduce(place, subject, options, ignores, executor, log),
        };
        let (became, by_dvc) = match became {
            Became::ForDvc(why) => {
                let became = by_dvc(place, (at, turn.stage), &address, &why, ignores, executor, log);
                (became, Some(why))
            }
            became => (became, None),
        };
        has_run = matches!(became, Became::Ran | Became::Restored);
        let why = if let Became::Failed(why) = &became { Some(why.clone()) } else { None };
        outcomes.interrupted = became == Became::Interrupted;
        let is_said = by_dvc.is_some();
        outcomes.stages[at] = Some(Outcome { became, by_dvc });
        if outcomes.interrupted {
            break;
        }
        let Some(why) = why else { continue };
        let lost = match on_failure {
            OnFailure::Stop => {
                if !is_said {
                    log.line(&format!("ERROR: failed to reproduce '{address}': {why}"));
                }
                break;
            }
            OnFailure::KeepGoing(dependents) => dependents(at),
            OnFailure::Ignore => vec![],
        };
        if !is_said {
            log.line(&format!("WARNING: {why}"));
        }
        failed.push(address);
        if !lost.is_empty() {
            let names = lost.iter().map(|at| turns[*at].stage.address_from(place.root_text, place.cwd)).collect();
            let stages = if lost.len() > 1 { "Stages" } else { "Stage" };
            log.line(&format!("WARNING: {stages} {} will be skipped due to this failure", list(names)));
        }
        lost.into_iter().for_each(|at| is_skipped[at] = true);
    }
    if matches!(on_failure, OnFailure::Ignore) {
        return Ok(outcomes);
    }
    if !failed.is_empty() {
        let stages = if failed.len() > 1 { "stages: " } else { "" };
        log.line(&format!("ERROR: failed to reproduce {stages}{}", list(failed)));
    }
    if outcomes.has_failed() {
        ignores.take_back()?;
    }
    Ok(outcomes)
}

/// Has DVC do a stage, and takes note of what it adds for git.
fn by_dvc(
    place: &Place<'_>,
    (turn, stage): (usize, &Stage),
    address: &str,
    why: &str,
    ignores: &mut Ignores<'_>,
    executor: &mut dyn Executor,
    log: &mut Log<'_>,
) -> Became {
    let outs: Vec<&str> = stage.outs.iter().filter_map(|out| out.resolved.as_deref()).collect();
    let files = outs.iter().map(|out| ignore_lines::line_of(out).0);
    let texts =
        files.filter_map(|file| Some((file.clone().into(), fs::read_text_if_any(&place.root.join(&file)).ok()??)));
    let before: HashMap<_, _> = texts.collect();
    log.line(&format!("Only DVC can do '{address}': {why}"));
    let became = executor.dvc(turn, address, why);
    if matches!(became, Became::Ran | Became::Restored) {
        ignores.note(&before, &outs);
    }
    became
}

/// Names in quotes, as DVC lists them.
fn list(names: Vec<String>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("'{name}'")).collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} and {last}", names.join(", ")),
        None => String::new(),
    }
}

/// The entries of stages in their lock files, and why DVC has to do those of a file.
#[derive(Default)]
pub(crate) struct Locks {
    entries: Vec<Option<LockEntry>>,
    unusual: Vec<Option<String>>,
}

impl Locks {
    /// Reads the lock files of some stages below a folder.
    pub(crate) fn read<'s>(root: &Path, stages: impl Iterator<Item = &'s Stage>) -> Locks {
        let mut files: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
        let mut locks = Locks::default();
        for stage in stages {
            let Some(name) = &stage.name else {
                locks.entries.push(None);
                locks.unusual.push(None);
                continue;
            };
            let path = lock_path(&stage.file);
            let (text, unusual) =
                files.entry(path.clone()).or_insert_with(|| match fs::read_text_if_any(&root.join(&path)) {
                    Ok(text) => {
                        let unusual = text.as_deref().and_then(fit::unusual_lock);
                        (text, unusual)
                    }
                    Err(error) => (None, Some(format!("it {error}"))),
                });
            let lock = text.as_deref().filter(|_| unusual.is_none()).and_then(|text| Lockfile::parse(text).ok());
            let entry = lock.as_ref().and_then(|lock| lock.entry(name)).map(|entry| entry.parse());
            locks.unusual.push(match &entry {
                Some(Err(error)) => Some(format!("its lock entry is not valid: {error}")),
                _ => unusual.clone(),
            });
            locks.entries.push(entry.and_then(Result::ok));
        }
        locks
    }

    pub(crate) fn entry(&self, at: usize) -> Option<&LockEntry> {
        self.entries[at].as_ref()
    }

    pub(crate) fn unusual(&self, at: usize) -> Option<&str> {
        self.unusual[at].as_deref()
    }
}
