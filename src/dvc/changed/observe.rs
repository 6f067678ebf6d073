//! One stage as things are now.

use super::definition;
use super::expected::{self, Expected};
use super::{DataChange, Elsewhere, FactError, Facts, ParamsFile, ParamsFileChange, Reason, Subject, params};
use crate::dvc::hash::{HashName, Hashed};
use crate::dvc::lockfile::LockEntry;
use crate::dvc::pipeline::stage::{Dep, Out, ParamsDep, Recorded, Stage};

/// A dep or out: what is recorded and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub recorded: Option<Expected>,
    /// `None` where nothing lies; of an out that is not in the cache it is not looked up.
    pub found: Option<Hashed>,
    /// `Some(false)` for a cached out whose recorded object is not in the cache; `None` where that does not matter.
    pub is_cached: Option<bool>,
}

impl Seen {
    /// Returns how it differs from what is recorded.
    fn change(&self) -> Option<DataChange> {
        match (&self.recorded, self.is_cached, self.found) {
            (Some(recorded), Some(false), _) => Some(DataChange::NotInCache { recorded: recorded.clone() }),
            (recorded, _, None) => Some(DataChange::Deleted { recorded: recorded.clone() }),
            (Some(recorded), _, Some(found)) if recorded.is_met_by(&found) => None,
            (recorded, _, Some(now)) => Some(DataChange::Modified { recorded: recorded.clone(), now }),
        }
    }
}

/// What was seen of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    /// Empty exactly if DVC says that the stage is unchanged now, or would ([`Reason::Elsewhere`] without a word is a
    /// question); in the order in which DVC looks.
    pub reasons: Vec<Reason>,
    /// One per dep of the stage, empty if it is frozen.
    pub deps: Vec<Seen>,
    /// One per out of the stage.
    pub outs: Vec<Seen>,
    /// What could not be looked at. With reasons DVC does not get there before it runs the stage, since an earlier reason
    /// decides; without, it fails at once.
    pub problem: Option<FactError>,
}

impl Observation {
    /// Of a stage about which DVC fails to decide.
    pub(crate) fn failed(problem: FactError) -> Self {
        Observation { reasons: vec![], deps: vec![], outs: vec![], problem: Some(problem) }
    }

    pub(crate) fn is_changed(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// An out that this program cannot look at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsupported {
    #[error("`{0}` is not a local path, so only DVC can tell whether it changed")]
    Url(String),
}

/// Compares a stage with its lock entry.
///
/// Fails with what DVC would fail with before it came to a decision.
pub(crate) fn observe(subject: Subject<'_>, facts: &dyn Facts) -> Result<Observation, FactError> {
    let Subject { stage, entry } = subject;
    let mut observation = Observation { reasons: vec![], deps: vec![], outs: vec![], problem: None };
    if let (Some(entry), Some(cmd)) = (entry, &stage.cmd)
        && entry.cmd != *cmd
    {
        observation.reasons.push(Reason::Command { recorded: entry.cmd.clone(), now: cmd.clone() });
    }
    if definition::is_edited(stage, facts.root()) {
        observation.reasons.push(Reason::Definition);
    }
    if !stage.frozen {
        if stage.is_callback() {
            observation.reasons.push(Reason::Callback);
        }
        if stage.always_changed {
            observation.reasons.push(Reason::AlwaysChanged);
        }
    }
    let looked = look_at_deps(subject, facts, &mut observation)
        .and_then(|()| look_at_params(stage, entry, facts, &mut observation.reasons))
        .and_then(|()| look_at_outs(subject, facts, &mut observation));
    if let Err(error) = looked {
        if observation.reasons.is_empty() {
            return Err(error);
        }
        observation.problem = Some(error);
    }
    let is_new = stage.cmd.is_some() && entry.is_none();
    if is_new && !observation.reasons.is_empty() {
        // What is recorded of nothing differs from everything; what is missing still tells something.
        observation.reasons.retain(|reason| match reason {
            Reason::Dep { change, .. } => matches!(change, DataChange::Deleted { .. }),
            Reason::AlwaysChanged | Reason::Callback => true,
            Reason::New
            | Reason::Command { .. }
            | Reason::Elsewhere { .. }
            | Reason::Definition
            | Reason::ParamsFile { .. }
            | Reason::Param { .. }
            | Reason::Out { .. } => false,
        });
        observation.reasons.insert(0, Reason::New);
    }
    Ok(observation)
}

/// What is changed of a stage first, if anything is. As DVC, it looks at nothing behind that.
pub(crate) fn first_change(subject: Subject<'_>, facts: &dyn Facts) -> Result<Option<FirstChange>, FactError> {
    let Subject { stage, entry } = subject;
    let has_other_cmd = matches!((entry, &stage.cmd), (Some(entry), Some(cmd)) if entry.cmd != *cmd);
    if has_other_cmd || definition::is_edited(stage, facts.root()) {
        return Ok(Some(FirstChange::Other));
    }
    if !stage.frozen {
        if stage.is_callback() || stage.always_changed {
            return Ok(Some(FirstChange::Other));
        }
        for (at, dep) in stage.deps.iter().enumerate() {
            if dep_seen(dep, entry, facts)?.change().is_some() {
                return Ok(Some(FirstChange::Dep(at)));
            }
        }
        for dep in &stage.params {
            if !params_reasons(dep, entry, facts)?.is_empty() {
                return Ok(Some(FirstChange::Other));
            }
        }
    }
    for (at, out) in stage.outs.iter().enumerate() {
        if out_seen(out, entry, facts)?.change().is_some() {
            return Ok(Some(FirstChange::Out(at)));
        }
    }
    Ok(None)
}

/// What DVC finds changed first: it does not look any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstChange {
    /// A dep by its place.
    Dep(usize),
    /// An out by its place.
    Out(usize),
    Other,
}

/// What [`observe`] will ask of the workspace.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub hashes: Vec<(&'a str, HashName)>,
    /// Params files.
    pub params: Vec<&'a str>,
}

/// Lists what observing a stage needs, so that it can be gathered on all cores in advance.
pub(crate) fn wanted<'a>(subject: Subject<'a>) -> Wanted<'a> {
    let Subject { stage, entry } = subject;
    let hash = |path: Option<&'a str>, recorded: Option<&Recorded>| {
        let path = path?;
        let expected = recorded.and_then(|recorded| Expected::of(recorded, path));
        Some((path, name_of(expected.as_ref())))
    };
    let outs = stage.outs.iter().filter_map(|out| hash(out.resolved.as_deref(), recorded_out(out, entry)));
    if stage.frozen {
        return Wanted { hashes: outs.collect(), params: vec![] };
    }
    let deps = stage.deps.iter().filter_map(|dep| hash(dep.resolved.as_deref(), recorded_dep(dep, entry)));
    let params = stage.params.iter().map(|dep| dep.resolved.as_str());
    Wanted { hashes: deps.chain(outs).collect(), params: params.collect() }
}

/// How a path is hashed to be compared with what is recorded.
fn name_of(expected: Option<&Expected>) -> HashName {
    expected.map_or(HashName::Md5, |expected| expected.name)
}

fn look_at_deps(subject: Subject<'_>, facts: &dyn Facts, observation: &mut Observation) -> Result<(), FactError> {
    if subject.stage.frozen {
        return Ok(());
    }
    observation.deps.reserve_exact(subject.stage.deps.len());
    for dep in &subject.stage.deps {
        if dep.resolved.is_none() {
            look_elsewhere(subject, dep, facts, observation);
            continue;
        }
        let seen = dep_seen(dep, subject.entry, facts)?;
        if let Some(change) = seen.change() {
            let path = dep.resolved.clone().unwrap_or_default();
            observation.reasons.push(Reason::Dep { path, change });
        }
        observation.deps.push(seen);
    }
    Ok(())
}

/// Notes what is known of a dep outside of the file system; there is nothing to compare a stage with that is new.
fn look_elsewhere(subject: Subject<'_>, dep: &Dep, facts: &dyn Facts, observation: &mut Observation) {
    let is_new = subject.stage.cmd.is_some() && subject.entry.is_none();
    let found = if is_new { Elsewhere::Changed("new".to_owned()) } else { facts.elsewhere(subject.stage, dep) };
    let said = match found {
        Elsewhere::Unchanged => None,
        Elsewhere::Changed(word) => Some(Some(word)),
        Elsewhere::Unknown => Some(None),
    };
    observation.reasons.extend(said.map(|said| Reason::Elsewhere { path: dep.path.clone(), said }));
    observation.deps.push(Seen { recorded: None, found: None, is_cached: None });
}

fn dep_seen(dep: &Dep, entry: Option<&LockEntry>, facts: &dyn Facts) -> Result<Seen, FactError> {
    let path = dep.resolved.as_deref().ok_or_else(|| FactError::new(Unsupported::Url(dep.path.clone())))?;
    let recorded = recorded_dep(dep, entry).and_then(|recorded| Expected::of(recorded, path));
    let found = facts.hash(path, name_of(recorded.as_ref()))?;
    Ok(Seen { recorded, found, is_cached: None })
}

fn look_at_outs(subject: Subject<'_>, facts: &dyn Facts, observation: &mut Observation) -> Result<(), FactError> {
    observation.outs.reserve_exact(subject.stage.outs.len());
    for out in &subject.stage.outs {
        let seen = out_seen(out, subject.entry, facts)?;
        if let Some(change) = seen.change() {
            let path = out.resolved.clone().unwrap_or_default();
            observation.reasons.push(Reason::Out { path, change });
        }
        observation.outs.push(seen);
    }
    Ok(())
}

fn out_seen(out: &Out, entry: Option<&LockEntry>, facts: &dyn Facts) -> Result<Seen, FactError> {
    let path = out.resolved.as_deref().ok_or_else(|| FactError::new(Unsupported::Url(out.path.clone())))?;
    let recorded = recorded_out(out, entry).and_then(|recorded| Expected::of(recorded, path));
    let is_cached = match &recorded {
        Some(recorded) if out.cache => Some(recorded.is_cached(facts)?),
        _ => None,
    };
    let found = match is_cached {
        Some(false) => None,
        _ => facts.hash(path, name_of(recorded.as_ref()))?,
    };
    Ok(Seen { recorded, found, is_cached })
}

fn look_at_params(
    stage: &Stage,
    entry: Option<&LockEntry>,
    facts: &dyn Facts,
    reasons: &mut Vec<Reason>,
) -> Result<(), FactError> {
    if !stage.frozen {
        for dep in &stage.params {
            reasons.extend(params_reasons(dep, entry, facts)?);
        }
    }
    Ok(())
}

/// Returns why the params of one file are changed.
pub(super) fn params_reasons(
    dep: &ParamsDep,
    entry: Option<&LockEntry>,
    facts: &dyn Facts,
) -> Result<Vec<Reason>, FactError> {
    let values = facts.params(&dep.resolved)?;
    params_changes(dep, entry, values.as_deref())
}

/// Whether the params of one file are those of an entry; `None` for a file that is not there.
pub(crate) fn are_params_recorded(
    dep: &ParamsDep,
    entry: &LockEntry,
    values: Option<&ParamsFile>,
) -> Result<bool, FactError> {
    Ok(params_changes(dep, Some(entry), values)?.is_empty())
}

fn params_changes(
    dep: &ParamsDep,
    entry: Option<&LockEntry>,
    values: Option<&ParamsFile>,
) -> Result<Vec<Reason>, FactError> {
    let path = &dep.resolved;
    let whole = |change| vec![Reason::ParamsFile { path: path.clone(), change }];
    let Some(values) = values else { return Ok(whole(ParamsFileChange::Deleted)) };
    let recorded = entry.and_then(|entry| entry.params.iter().find(|(file, _)| *file == dep.path));
    let Some((_, recorded)) = recorded else { return Ok(whole(ParamsFileChange::New)) };
    let now = params::read(path, &dep.keys, values)?;
    let changes = params::compare(&dep.keys, &now, recorded);
    Ok(changes.into_iter().map(|(key, change)| Reason::Param { path: path.clone(), key, change }).collect())
}

pub(super) fn recorded_dep<'a>(dep: &'a Dep, entry: Option<&'a LockEntry>) -> Option<&'a Recorded> {
    dep.recorded.as_deref().or_else(|| expected::item(&entry?.deps, &dep.path))
}

pub(super) fn recorded_out<'a>(out: &'a Out, entry: Option<&'a LockEntry>) -> Option<&'a Recorded> {
    out.recorded.as_deref().or_else(|| expected::item(&entry?.outs, &out.path))
}
