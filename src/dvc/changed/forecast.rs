//! What will come of each stage in the order of `dvc repro`.
//!
//! DVC decides about a stage when its turn comes. Where the stages before it are unchanged or restored, what it will
//! find is known now; behind a stage that runs, the deps it makes are not known.
//!
//! | changed for other reasons | deps that upstream makes | outlook |
//! |---|---|---|
//! | no | as recorded | unchanged |
//! | no | unknown | may run |
//! | only DVC can tell, and did not | any | may run |
//! | yes | any | recorded, if frozen or a `.dvc` file that imports nothing; restored, if all is known and the cache has it; else run |
//!
//! One thing is left out: an object that is not in the cache now may come from another stage that makes the same by
//! chance, and its own stage is then skipped.

use super::expected::{self, Expected};
use super::observe::{Observation, Seen};
use super::{DataChange, FactError, Facts, ParamsFileChange, Reason, Subject, params, run_cache};
use crate::dvc::hash::{HashName, Hashed, Md5, Member, directory_text};
use crate::dvc::oid::Oid;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::stage::{Dep, Out, Recorded, Stage};
use crate::dvc::pipeline::stage_index::{PerStage, StageIndex};
use crate::dvc::value::{Map, Value};

/// What `dvc repro` will do with a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Skip it.
    Unchanged,
    /// Take its outs from the cache instead of running it; one per out of the stage.
    Restore(Vec<Expected>),
    /// Record a frozen stage or a `.dvc` file anew, without running anything.
    Record,
    /// Run it; or restore it, if upstream makes what an earlier run found.
    Run,
    /// Run it or skip it, depending on what upstream makes.
    MayRun,
}

/// The outlook of a stage, and the stages upstream that it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forecast {
    pub outlook: Outlook,
    /// Stages that run (or may) and make something this stage reads.
    pub upstream: Vec<StageIndex>,
    /// The key of the run cache that a stage is restored by, where it is not by its own lock entry.
    pub run: Option<String>,
}

/// What DVC would restore, and the key of the run cache where that says so.
struct Restored {
    outs: Vec<Expected>,
    key: Option<String>,
}

/// The selected stages of a project and what was seen of them.
pub(crate) struct Selection<'a> {
    /// In the order of `dvc repro`.
    pub order: &'a [StageIndex],
    pub subject: &'a dyn Fn(StageIndex) -> Subject<'a>,
    /// Those that are not selected have none.
    pub observations: &'a PerStage<Option<Observation>>,
    pub needs: &'a dyn Fn(StageIndex) -> &'a [StageIndex],
    /// Whether data that is only missing changes no stage (`dvc repro --allow-missing`).
    pub allow_missing: bool,
    /// Whether a stage is not taken from the run cache, whatever that knows of it.
    pub distrusts: &'a dyn Fn(StageIndex) -> bool,
}

/// What a dep will be when the stage's turn comes.
enum Later {
    /// As it is now.
    Same,
    Known(Expected),
    Unknown,
}

/// What is to come.
#[derive(Debug)]
pub(crate) struct Forecasts {
    /// Stages that are not selected have none.
    pub of: PerStage<Option<Forecast>>,
    /// Stages of which something could not be looked at, beside what their observations say.
    pub problems: Vec<(StageIndex, FactError)>,
}

/// Forecasts every selected stage. One with a problem runs: then DVC says what it makes of it.
pub(crate) fn forecast(selection: &Selection<'_>, facts: &dyn Facts) -> Forecasts {
    let mut state = State { selection, facts, forecasts: selection.observations.filled(None) };
    let mut problems = vec![];
    for &stage in selection.order {
        if let Some(observation) = &selection.observations[stage] {
            let forecast = state.stage(stage, observation).unwrap_or_else(|problem| {
                problems.push((stage, problem));
                Forecast { outlook: Outlook::Run, upstream: vec![], run: None }
            });
            state.forecasts[stage] = Some(forecast);
        }
    }
    Forecasts { of: state.forecasts, problems }
}

struct State<'s, 'a> {
    selection: &'s Selection<'a>,
    facts: &'s dyn Facts,
    forecasts: PerStage<Option<Forecast>>,
}

/// The dep of a stage with what it will be.
struct Input<'a> {
    dep: &'a Dep,
    seen: &'a Seen,
    later: Later,
}

impl State<'_, '_> {
    fn stage(&self, index: StageIndex, observation: &Observation) -> Result<Forecast, FactError> {
        let stage = (self.selection.subject)(index).stage;
        let mut upstream = Vec::new();
        let inputs: Vec<Input<'_>> = stage
            .deps
            .iter()
            .zip(&observation.deps)
            .map(|(dep, seen)| {
                let later = dep.resolved.as_deref().map(|path| self.later(index, path, seen, &mut upstream));
                Input { dep, seen, later: later.unwrap_or(Later::Same) }
            })
            .collect();
        let params_are_known =
            stage.frozen || stage.params.iter().all(|dep| self.is_settled(index, &dep.resolved, &mut upstream));
        let decided = observation.problem.is_some()
            || observation
                .reasons
                .iter()
                .filter(|reason| !self.is_only_missing(index, reason))
                .any(|reason| Self::decides(reason, &inputs, params_are_known))
            || inputs.iter().any(|input| matches!(&input.later, Later::Known(now) if !input.seen.has_recorded(now)));
        upstream.sort_unstable();
        upstream.dedup();
        let mut run = None;
        let outlook = if !decided {
            // Where a reason is left that decides nothing, DVC has to look again.
            let is_open = observation.reasons.iter().any(|reason| matches!(reason, Reason::Elsewhere { .. }));
            if upstream.is_empty() && !is_open { Outlook::Unchanged } else { Outlook::MayRun }
        } else if is_brought(stage) {
            Outlook::Run
        } else if stage.frozen || runs_nothing(stage) {
            Outlook::Record
        } else if observation.problem.is_some()
            || !params_are_known
            || inputs.iter().any(|input| matches!(input.later, Later::Unknown))
        {
            Outlook::Run
        } else {
            match self.restored(index, observation, &inputs)? {
                Some(Restored { outs, key }) => {
                    run = key;
                    Outlook::Restore(outs)
                }
                None => Outlook::Run,
            }
        };
        Ok(Forecast { outlook, upstream, run })
    }

    /// Whether a reason is none, since data is only missing and may be (`dvc/stage/__init__.py: _changed_deps`): of a dep
    /// the stage before it must not have recorded something else.
    fn is_only_missing(&self, index: StageIndex, reason: &Reason) -> bool {
        match reason {
            _ if !self.selection.allow_missing => false,
            Reason::Out { change, .. } => {
                matches!(change, DataChange::Deleted { .. } | DataChange::NotInCache { .. })
            }
            Reason::Dep { path, change: DataChange::Deleted { recorded } } => {
                self.makers(index, path).filter(|(_, out, _)| out == path).all(|(need, _, position)| {
                    let made = self.selection.observations[need].as_ref().and_then(|seen| seen.outs.get(position));
                    made.is_none_or(|made| made.recorded == *recorded)
                })
            }
            _ => false,
        }
    }

    /// Whether a reason of now will still be one when the stage's turn comes.
    fn decides(reason: &Reason, inputs: &[Input<'_>], params_are_known: bool) -> bool {
        match reason {
            Reason::New
            | Reason::Command { .. }
            | Reason::Definition
            | Reason::AlwaysChanged
            | Reason::Callback
            | Reason::Out { .. }
            | Reason::ParamsFile { change: ParamsFileChange::New, .. } => true,
            Reason::Elsewhere { said, .. } => said.is_some(),
            Reason::ParamsFile { .. } | Reason::Param { .. } => params_are_known,
            Reason::Dep { path, .. } => inputs
                .iter()
                .any(|input| input.dep.resolved.as_deref() == Some(path) && matches!(input.later, Later::Same)),
        }
    }

    /// Says what a dep of stage `index` will be.
    fn later(&self, index: StageIndex, dep: &str, seen: &Seen, upstream: &mut Vec<StageIndex>) -> Later {
        let mut later = Later::Same;
        for (need, out, position) in self.makers(index, dep) {
            let outlook = self.forecasts[need].as_ref().map(|forecast| &forecast.outlook);
            match outlook {
                None | Some(Outlook::Unchanged | Outlook::Record) => {}
                Some(Outlook::Run | Outlook::MayRun) => {
                    upstream.push(need);
                    later = Later::Unknown;
                }
                Some(Outlook::Restore(outs)) => {
                    let restored = &outs[position];
                    let same = self.found(need, position).is_some_and(|found| restored.is_met_by(&found));
                    if same || matches!(later, Later::Unknown) {
                        continue;
                    }
                    match self.inside(restored, out, dep) {
                        Some(known) if seen.recorded.as_ref().is_none_or(|recorded| recorded.name == known.name) => {
                            later = Later::Known(known);
                        }
                        Some(_) | None => {
                            upstream.push(need);
                            later = Later::Unknown;
                        }
                    }
                }
            }
        }
        later
    }

    /// Whether the file at a path will be what it is now.
    fn is_settled(&self, index: StageIndex, file: &str, upstream: &mut Vec<StageIndex>) -> bool {
        let seen = Seen { recorded: None, found: None, is_cached: None };
        let later = self.later(index, file, &seen, upstream);
        if let Later::Known(_) = later {
            upstream.extend(self.makers(index, file).map(|(need, ..)| need));
        }
        matches!(later, Later::Same)
    }

    /// The outs of needed stages that are a path, contain it, or lie in it: stage, out's path, out's position.
    fn makers(&self, index: StageIndex, dep: &str) -> impl Iterator<Item = (StageIndex, &str, usize)> {
        let needs = (self.selection.needs)(index);
        needs.iter().flat_map(move |need| {
            let outs = (self.selection.subject)(*need).stage.outs.iter().enumerate();
            outs.filter_map(move |(position, out)| {
                let out = out.resolved.as_deref()?;
                (path::is_within(dep, out) || path::is_within(out, dep)).then_some((*need, out, position))
            })
        })
    }

    fn found(&self, index: StageIndex, out: usize) -> Option<Hashed> {
        self.selection.observations[index].as_ref()?.outs.get(out)?.found
    }

    /// What lies at `dep` once `out`, which is it or contains it, is restored; `None` where that is not known.
    fn inside(&self, restored: &Expected, out: &str, dep: &str) -> Option<Expected> {
        if dep == out {
            return Some(restored.clone());
        }
        let relative = dep.strip_prefix(out)?.strip_prefix('/')?;
        let members = self.facts.cached_members(restored.object()?)?;
        let oid = match members.iter().find(|member| member.relpath == relative) {
            Some(member) => Oid::file(member.md5),
            None => directory_oid(&members, relative)?,
        };
        Some(Expected { name: restored.name, md5: oid.to_string(), size: None, is_exec: false })
    }

    /// Returns what DVC would restore instead of running the stage (`dvc/stage/cache.py: restore`), with the key of the run
    /// cache where that says so.
    fn restored(
        &self,
        index: StageIndex,
        observation: &Observation,
        inputs: &[Input<'_>],
    ) -> Result<Option<Restored>, FactError> {
        let stage = (self.selection.subject)(index).stage;
        let has_deps = !stage.deps.is_empty() || !stage.params.is_empty();
        let hashable = |out: &Out| !out.persist && out.resolved.as_deref().is_some_and(path::is_inside);
        if stage.always_changed || !has_deps || stage.outs.is_empty() || !stage.outs.iter().all(hashable) {
            return Ok(None);
        }
        let unchanged = |reason: &Reason| matches!(reason, Reason::Out { .. } | Reason::Dep { .. });
        let deps_are_recorded = inputs.iter().all(Input::is_as_recorded);
        let recorded: Option<Vec<Expected>> = observation.outs.iter().map(|seen| seen.recorded.clone()).collect();
        let (outs, key) = match recorded {
            Some(outs)
                if outs.len() == stage.outs.len() && deps_are_recorded && observation.reasons.iter().all(unchanged) =>
            {
                (outs, None)
            }
            _ if (self.selection.distrusts)(index) => return Ok(None),
            _ => {
                let Some(key) = self.key(stage, inputs)? else { return Ok(None) };
                let Some(run) = self.facts.run_cache(&key) else { return Ok(None) };
                let expected =
                    |out: &Out| Expected::of(expected::item(&run.outs, &out.path)?, out.resolved.as_deref()?);
                let Some(outs) = stage.outs.iter().map(expected).collect() else { return Ok(None) };
                (outs, Some(key))
            }
        };
        for out in &outs {
            if !out.is_cached(self.facts)? {
                return Ok(None);
            }
        }
        Ok(Some(Restored { outs, key }))
    }

    /// The key of the run cache; `None` where a dep or param is missing, which makes the stage fail.
    fn key(&self, stage: &Stage, inputs: &[Input<'_>]) -> Result<Option<String>, FactError> {
        let Some(cmd) = &stage.cmd else { return Ok(None) };
        let mut sorted: Vec<&Input<'_>> = inputs.iter().collect();
        sorted.sort_by(|a, b| a.dep.path.cmp(&b.dep.path));
        let Some(deps) = sorted.into_iter().map(|input| self.key_of(input)).collect::<Result<Option<_>, _>>()? else {
            return Ok(None);
        };
        let mut params = Map::new();
        for dep in &stage.params {
            let Some(values) = self.facts.params(&dep.resolved)? else { return Ok(None) };
            let found = params::read(&dep.resolved, &dep.keys, &values)?;
            if dep.keys.iter().any(|key| found.iter().all(|(known, _)| known != key)) {
                return Ok(None);
            }
            let values: Map = found.into_iter().map(|(key, value)| (Value::str(key), value.clone())).collect();
            let file = if path::is_inside(&dep.resolved) {
                path::relative(self.facts.root(), &stage.wdir, &dep.resolved)
            } else {
                dep.path.clone()
            };
            params.insert(Value::Str(file), Value::Map(Box::new(values)));
        }
        Ok(run_cache::key(cmd, deps, params, stage.outs.iter().map(|out| out.path.as_str()).collect()))
    }

    /// A dep as it stands in the run cache's key; `None` where it is missing.
    ///
    /// A dep recorded with the old hash keeps it as long as it is unchanged under it.
    fn key_of(&self, input: &Input<'_>) -> Result<Option<Value>, FactError> {
        let (name, md5, is_exec) = match (&input.later, &input.seen.recorded, input.seen.found) {
            (Later::Known(known), ..) => (known.name, known.md5.clone(), known.is_exec),
            (_, _, None) => return Ok(None),
            (_, Some(recorded), Some(found)) if recorded.is_met_by(&found) => {
                (recorded.name, recorded.md5.clone(), found.is_exec())
            }
            (_, Some(Expected { name: HashName::Md5Dos2unix, .. }), Some(_)) => {
                let path = input.dep.resolved.as_deref().unwrap_or_default();
                let Some(found) = self.facts.hash(path, HashName::Md5)? else { return Ok(None) };
                (HashName::Md5, found.oid().to_string(), found.is_exec())
            }
            (_, _, Some(found)) => (HashName::Md5, found.oid().to_string(), found.is_exec()),
        };
        let mut dep: Map = [(Value::str("path"), Value::str(&input.dep.path))].into_iter().collect();
        if name == HashName::Md5 {
            dep.insert(Value::str("hash"), Value::str("md5"));
        }
        dep.insert(Value::str("md5"), Value::Str(md5));
        if is_exec {
            dep.insert(Value::str("isexec"), Value::Bool(true));
        }
        Ok(Some(Value::Map(Box::new(dep))))
    }
}

/// Whether DVC imports the out anew: also into a frozen stage that has none yet (`--no-download`).
fn is_brought(stage: &Stage) -> bool {
    let has = |recorded: &Recorded| recorded.md5.is_some() || recorded.is_remote;
    stage.is_import() && !(stage.frozen && stage.outs.iter().any(|out| out.recorded.as_deref().is_some_and(has)))
}

/// Whether DVC takes a stage for a data source: without a command, or with an empty one.
fn runs_nothing(stage: &Stage) -> bool {
    match &stage.cmd {
        None => true,
        Some(Value::Str(text)) => text.is_empty(),
        Some(Value::List(commands)) => commands.is_empty(),
        Some(_) => false,
    }
}

/// The hash of a directory inside a directory.
fn directory_oid(members: &[Member], directory: &str) -> Option<Oid> {
    let inside = |member: &Member| {
        let relpath = member.relpath.strip_prefix(directory)?.strip_prefix('/')?.to_owned();
        Some(Member { relpath, md5: member.md5 })
    };
    let mut inner: Vec<Member> = members.iter().filter_map(inside).collect();
    (!inner.is_empty()).then(|| Oid::directory(Md5::of(directory_text(&mut inner).as_bytes())))
}

impl Input<'_> {
    fn is_as_recorded(&self) -> bool {
        match (&self.later, &self.seen.recorded, self.seen.found) {
            (Later::Known(known), ..) => self.seen.has_recorded(known),
            (Later::Same, Some(recorded), Some(found)) => recorded.is_met_by(&found),
            (Later::Same | Later::Unknown, ..) => false,
        }
    }
}

impl Seen {
    fn has_recorded(&self, now: &Expected) -> bool {
        self.recorded.as_ref().is_some_and(|recorded| recorded.name == now.name && recorded.md5 == now.md5)
    }
}
