//! What DVC would run, and why: the facts of the disk put to `model::changed`.
//!
//! Nothing is changed by asking: not the workspace, not the cache, not DVC's own databases. Only where a stage has a dep
//! outside of the file system is DVC itself asked, about that stage.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::Arc;

use rayon::prelude::*;

use crate::adapters::clock;
use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::facts::DiskFacts;
use crate::adapters::dvc::status::ChangedDeps;
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::changed::{FactError, Forecast, Forecasts, Observation, Selection, Subject, forecast, observe};
use crate::dvc::lockfile::{LockEntry, Lockfile, LockfileError};
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::ignore::DvcIgnore;
use crate::dvc::pipeline::path::lock_path;
use crate::dvc::pipeline::project::{LockEntries, Project};
use crate::dvc::pipeline::source::ProjectFiles;
use crate::dvc::pipeline::stage_index::{PerStage, StageIndex};
use crate::output::changes::StageChanges;
use crate::output::text::{self, count};
use crate::state::hash_memo::Memo;
use crate::state::home::ProjectHome;
use crate::state::unsettled;

/// What was found out about the selected stages.
pub(crate) struct Changes {
    /// What `dvc.lock` has; `None` for a stage that was never run, a `.dvc` file and a stage that is not selected.
    pub entries: PerStage<Option<Arc<LockEntry>>>,
    /// As things are now; `None` for a stage that is not selected.
    pub observations: PerStage<Option<Observation>>,
    /// What `dvc repro` would do; `None` for a stage that is not selected.
    pub forecasts: PerStage<Option<Forecast>>,
    /// The addresses of stages that are not taken from the run cache.
    pub distrusted: HashSet<String>,
}

impl Changes {
    /// Finds out what `dvc repro` would do with the stages of `order`.
    pub(crate) fn assess(
        project: &Project,
        graph: &Graph,
        order: &[StageIndex],
        files: &dyn ProjectFiles,
        home: &ProjectHome,
        allow_missing: bool,
    ) -> Result<Changes, Diagnostic> {
        let entries = read_locks(project, order, files)?;
        let subject = |stage: StageIndex| Subject { stage: &project.stages[stage], entry: entries[stage].as_deref() };
        let subjects: Vec<Subject<'_>> = order.iter().map(|stage| subject(*stage)).collect();
        let memo = Memo::load(home.fanout().hashes(), &home.root, clock::nanoseconds());
        let cache = Cache::new(&home.config.cache_dir);
        let elsewhere = ask_dvc(home, &subjects);
        let facts = DiskFacts::gather(files.root(), &memo, &cache, &subjects).with_elsewhere(elsewhere);

        let mut observations: PerStage<Option<Observation>> = project.stages.iter().map(|_| None).collect();
        let observed = order.par_iter().map(|stage| (*stage, observe(subject(*stage), &facts)));
        for (stage, observation) in observed.collect::<Vec<_>>() {
            observations[stage] = Some(observation.unwrap_or_else(Observation::failed));
        }
        let distrusted = unsettled::stages(&home.root, &home.fanout())?;
        let selection = Selection {
            order,
            subject: &subject,
            observations: &observations,
            needs: &|stage| graph.needs(stage),
            allow_missing,
            distrusts: &|stage| distrusted.contains(&project.stages[stage].address.0),
        };
        let Forecasts { of: forecasts, problems } = forecast(&selection, &facts);
        drop(facts);
        for (stage, problem) in problems {
            if let Some(observation) = &mut observations[stage] {
                observation.problem.get_or_insert(problem);
            }
        }
        remember(memo, home);
        Ok(Changes { entries, observations, forecasts, distrusted })
    }

    /// What was found out about a stage; `None` if it is not selected.
    pub(crate) fn of_stage(&self, stage: StageIndex) -> Option<StageChanges<'_>> {
        let observation = self.observations[stage].as_ref()?;
        Some(StageChanges { observation, forecast: self.forecasts[stage].as_ref()? })
    }

    /// Fails if something could not be looked at, as `dvc status` does, though `dvc repro` need not get there.
    pub(crate) fn refuse_problems(&self, project: &Project) -> Result<(), Diagnostic> {
        self.problems().next().map_or(Ok(()), |(stage, problem)| {
            let stage = &project.stages[stage].address;
            Err(Diagnostic::project(format!("whether stage `{stage}` changed cannot be told")).source(problem))
        })
    }

    /// The stages of which something could not be looked at: `dvc repro` fails there, unless it is mended before.
    pub(crate) fn problems(&self) -> impl Iterator<Item = (StageIndex, &FactError)> {
        self.observations.indexed().filter_map(|(stage, seen)| Some((stage, seen.as_ref()?.problem.as_ref()?)))
    }
}

/// Asks DVC about deps outside of the file system; where it cannot tell (a server is down, say), it will be asked again
/// when the stage's turn comes, and the other stages go on.
fn ask_dvc(home: &ProjectHome, subjects: &[Subject<'_>]) -> Option<ChangedDeps> {
    let is_asked = |subject: &&Subject<'_>| {
        let Subject { stage, entry } = subject;
        // What was never run is changed whatever lies there.
        let is_new = stage.cmd.is_some() && entry.is_none();
        !stage.frozen && !is_new && stage.deps.iter().any(|dep| dep.resolved.is_none())
    };
    let addresses: Vec<&str> =
        subjects.iter().filter(is_asked).map(|subject| subject.stage.address.0.as_str()).collect();
    if addresses.is_empty() {
        return None;
    }
    let answer = Dvc::find().map_err(Diagnostic::from).and_then(|dvc| dvc.changed_deps(&home.root, &addresses));
    answer
        .inspect_err(|error| {
            let stages = count(addresses.len(), "stage");
            text::note(&format!("{stages} with deps by URL may have changed or not: {}", error.one_line()));
        })
        .ok()
}

/// Saves the memo; what cannot be remembered is computed again next time.
fn remember(memo: Memo, home: &ProjectHome) {
    if !memo.has_news() {
        return;
    }
    let saved =
        home.make_fanout().map_err(|error| error.message).and_then(|_| memo.save().map_err(|error| error.to_string()));
    if let Err(error) = saved {
        tracing::warn!("hashes are not remembered: {error}");
    }
}

/// Takes the lock entries of the selected stages from the project, or reads them where a lock file is not as DVC writes it.
fn read_locks(
    project: &Project,
    order: &[StageIndex],
    files: &dyn ProjectFiles,
) -> Result<PerStage<Option<Arc<LockEntry>>>, Diagnostic> {
    let stages = &project.stages;
    let mut entries: PerStage<Option<Arc<LockEntry>>> = stages.filled(None);
    let ignore = DvcIgnore::new(files);
    let named =
        |stage: &StageIndex| stages[*stage].name.as_deref().map(|name| (stages[*stage].file.as_str(), *stage, name));
    let read: HashMap<&str, &LockEntries> =
        project.files.iter().filter_map(|file| Some((file.path.as_str(), file.lock.as_ref()?))).collect();
    let mut others: BTreeSet<&str> = BTreeSet::new();
    for (file, stage, name) in order.iter().filter_map(named) {
        match read.get(file) {
            Some(locked) => entries[stage] = locked.get(name).cloned(),
            None => drop(others.insert(file)),
        }
    }
    for pipeline in others {
        let path = lock_path(pipeline);
        if ignore.ignored_by(&path, false).is_ok_and(|rule| rule.is_some()) {
            continue;
        }
        let broken = |error: LockfileError| {
            Diagnostic::project(format!("`{path}` is not valid: {error}")).at(Place {
                path: path.clone(),
                line: Some(error.line),
                column: None,
            })
        };
        let text = match files.read(&path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| Diagnostic::project(format!("`{path}` is not UTF-8")))?,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Diagnostic::project(format!("cannot read `{path}`")).source(&error)),
        };
        let lockfile = Lockfile::parse(&text).map_err(broken)?;
        let wanted: Vec<(StageIndex, &str)> = order
            .iter()
            .filter_map(named)
            .filter(|(file, ..)| *file == pipeline)
            .map(|(_, stage, name)| (stage, name))
            .collect();
        let read = |(stage, name): &(StageIndex, &str)| Some((*stage, lockfile.entry(name)?.parse()));
        for (stage, entry) in wanted.par_iter().filter_map(read).collect::<Vec<_>>() {
            entries[stage] = Some(Arc::new(entry.map_err(broken)?));
        }
    }
    Ok(entries)
}
