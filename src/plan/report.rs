//! What `plan` says: templates first, then phases; reasons on demand.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use serde_json::json;

use super::Planned;
use super::survey::{self, Survey};
use crate::diagnostic::Diagnostic;
use crate::dvc::changed::{DataChange, Outlook, Reason};
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::model::numbers::ItemIndex;
use crate::model::run::PhaseKind;
use crate::output::changes;
use crate::output::picture::{Node, PhaseBox, Picture};
use crate::output::report::duration;
use crate::output::text::{count, grouped, size};
use crate::plan::changes::Changes;
use crate::plan::estimate::Estimate;
use crate::state::format::WorkItem;

/// The most paths that a line names.
const NAMED: usize = 5;

/// Why a stage runs or may run, in one line.
pub(crate) fn reason(project: &Project, changes: &Changes, stage: StageIndex) -> String {
    let forecast = changes.forecasts[stage].as_ref();
    let observation = changes.observations[stage].as_ref();
    let first = observation.and_then(|observation| observation.reasons.first());
    let upstream = forecast.and_then(|forecast| forecast.upstream.first());
    match (forecast.map(|forecast| &forecast.outlook), first, upstream) {
        (Some(Outlook::MayRun), _, Some(upstream)) => format!("upstream {}", project.stages[*upstream].address),
        (_, Some(reason), _) => short(reason),
        (_, None, Some(upstream)) => format!("upstream {}", project.stages[*upstream].address),
        (_, None, None) if observation.is_some_and(|seen| seen.problem.is_some()) => "cannot be looked at".to_owned(),
        (_, None, None) => "forced".to_owned(),
    }
}

fn short(reason: &Reason) -> String {
    match reason {
        Reason::New => "new".to_owned(),
        Reason::Command { .. } => "command changed".to_owned(),
        Reason::Definition => "`.dvc` file edited".to_owned(),
        Reason::AlwaysChanged => "always changed".to_owned(),
        Reason::Callback => "neither deps nor outs".to_owned(),
        Reason::Dep { path, .. } | Reason::Elsewhere { path, .. } => format!("dep {path}"),
        Reason::ParamsFile { path, .. } => format!("params {path}"),
        Reason::Param { path, key, .. } => format!("params {path}:{key}"),
        Reason::Out { path, .. } => format!("out {path}"),
    }
}

/// The kind of a reason, to count by.
fn kind(reason: &Reason) -> &'static str {
    match reason {
        Reason::New => "new",
        Reason::Command { .. } => "command changed",
        Reason::Definition => "definition changed",
        Reason::AlwaysChanged | Reason::Callback => "always changed",
        Reason::Dep { change: DataChange::Deleted { .. }, .. } => "dep missing",
        Reason::Dep { .. } | Reason::Elsewhere { said: Some(_), .. } => "dep changed",
        Reason::Elsewhere { said: None, .. } => "dep to be looked at",
        Reason::ParamsFile { .. } | Reason::Param { .. } => "params changed",
        Reason::Out { change: DataChange::Deleted { .. }, .. } => "out missing",
        Reason::Out { change: DataChange::NotInCache { .. }, .. } => "out not in the cache",
        Reason::Out { change: DataChange::Modified { .. }, .. } => "out changed",
    }
}

/// A plan and what it was made from.
pub(crate) struct Report<'a> {
    survey: &'a Survey,
    planned: &'a Planned,
    estimate: Option<Estimate>,
    /// The phase of each stage that may run.
    phase_of: HashMap<StageIndex, usize>,
}

impl<'a> Report<'a> {
    pub(crate) fn of(survey: &'a Survey, planned: &'a Planned, estimate: Option<Estimate>) -> Report<'a> {
        let numbers: HashMap<&str, StageIndex> =
            survey.order.iter().map(|stage| (survey.project.stages[*stage].address.0.as_str(), *stage)).collect();
        let stages = planned.items.iter().flat_map(|item| item.stages.iter().map(move |stage| (stage, item.phase)));
        let phase_of = stages.filter_map(|(stage, phase)| Some((*numbers.get(stage.address.as_str())?, phase)));
        Report { survey, planned, estimate, phase_of: phase_of.collect() }
    }

    /// The plan for people.
    pub(crate) fn text(&self) -> String {
        let plan = &self.planned.plan;
        if plan.work_items == 0 {
            return "nothing to do: no stage has changed".to_owned();
        }
        let mut lines = self.templates();
        lines.push(String::new());
        lines.extend(self.picture().text());
        lines.extend(named("carried into workspaces, though in no snapshot", &plan.carry.linked));
        lines.extend(named("left out of workspaces, as `carry` says", &plan.carry.left_out));
        lines.extend(self.estimate.as_ref().map(|estimate| self.estimated(estimate)));
        let phases = count(plan.phases.len(), "phase");
        lines.push(format!("run {}: {} in {phases}", plan.run, count(plan.work_items, "work item")));
        lines.join("\n")
    }

    /// `about 3 h 07 min on 8 slots, longest: s07, 41 min 00 s; 1.2 GB of outs (by earlier runs)`
    fn estimated(&self, estimate: &Estimate) -> String {
        let work_items = self.planned.plan.work_items;
        let known = match estimate.known {
            known if known == work_items => String::new(),
            known => format!(" of {} of {}", grouped(known), count(work_items, "work item")),
        };
        let outs = match estimate.bytes {
            0 => String::new(),
            bytes => format!("; {} of outs", size(bytes)),
        };
        let (longest, its_duration) = &estimate.longest;
        format!(
            "about {} on {}, longest: `{longest}`, {}{outs} (by earlier runs{known})",
            duration(estimate.duration.as_secs_f64()),
            count(estimate.slots, "slot"),
            duration(its_duration.as_secs_f64()),
        )
    }

    /// A line for each template with stages that may run: `extract: 37 of 10,000 changed: 35 dep changed, 2 new`.
    fn templates(&self) -> Vec<String> {
        let mut tallies: IndexMap<String, Tally> = IndexMap::new();
        for &stage in &self.survey.order {
            let definition = &self.survey.project.stages[stage];
            let tally = tallies.entry(survey::template(definition)).or_default();
            tally.stages += 1;
            tally.generated = definition.is_map();
            if self.phase_of.contains_key(&stage) {
                tally.changed += 1;
                *tally.why.entry(self.kind_of(stage)).or_default() += 1;
                let outlook = self.survey.changes.forecasts[stage].as_ref().map(|forecast| &forecast.outlook);
                tally.restored += usize::from(matches!(outlook, Some(Outlook::Restore(_))));
            }
        }
        tallies.iter().filter(|(_, tally)| tally.changed > 0).map(|(address, tally)| tally.line(address)).collect()
    }

    fn kind_of(&self, stage: StageIndex) -> &'static str {
        let forecast = self.survey.changes.forecasts[stage].as_ref();
        let seen = self.survey.changes.observations[stage].as_ref();
        let first = seen.and_then(|seen| seen.reasons.first());
        match (forecast.map(|forecast| &forecast.outlook), first) {
            (Some(Outlook::MayRun), _) => "upstream",
            (_, Some(reason)) => kind(reason),
            (_, None) if seen.is_some_and(|seen| seen.problem.is_some()) => "cannot be looked at",
            (Some(Outlook::Unchanged) | None, None) => "forced",
            (Some(Outlook::Run | Outlook::Restore(_) | Outlook::Record), None) => "upstream",
        }
    }

    /// Every reason of the stages of one work item, stage or template; of all that may run where `wanted` is empty.
    pub(crate) fn explanation(&self, wanted: &str) -> Result<String, Diagnostic> {
        let index: Option<ItemIndex> = wanted.parse().ok();
        let is_item = |item: &&WorkItem| wanted.is_empty() || item.id == wanted || Some(item.index) == index;
        let items: HashSet<&str> = self.planned.items.iter().filter(is_item).flat_map(addresses).collect();
        let project = &self.survey.project;
        let is_meant = |stage: &StageIndex| {
            let stage = &project.stages[*stage];
            items.contains(stage.address.0.as_str()) || stage.address.0 == wanted || survey::template(stage) == wanted
        };
        let stages: Vec<StageIndex> = self.survey.order.iter().copied().filter(is_meant).collect();
        if stages.is_empty() && !wanted.is_empty() {
            return Err(Diagnostic::usage(format!("the plan has no work item, stage or template `{wanted}`"))
                .hint("`dvc-fanout plan --explain` explains all of it"));
        }
        let address = |stage: StageIndex| project.stages[stage].address.0.clone();
        let explain = |stage: StageIndex| {
            let mut lines = self
                .survey
                .changes
                .of_stage(stage)
                .map_or_else(Vec::new, |found| changes::lines(&address(stage), found, &address));
            if self.phase_of.contains_key(&stage) && lines.len() == 1 {
                lines = vec![format!("{}: runs", address(stage)), "  forced".to_owned()];
            }
            lines
        };
        let lines: Vec<String> = stages.into_iter().flat_map(explain).collect();
        Ok(if lines.is_empty() { "nothing to do: no stage has changed".to_owned() } else { lines.join("\n") })
    }

    /// The plan for programs.
    pub(crate) fn json(&self) -> String {
        let project = &self.survey.project;
        let numbers: HashMap<&str, StageIndex> =
            self.phase_of.keys().map(|stage| (project.stages[*stage].address.0.as_str(), *stage)).collect();
        let address = |stage: StageIndex| project.stages[stage].address.0.as_str();
        let items: Vec<_> = self
            .planned
            .items
            .iter()
            .map(|item| {
                let stages: Vec<_> = item
                    .stages
                    .iter()
                    .map(|stage| {
                        let found =
                            numbers.get(stage.address.as_str()).and_then(|stage| self.survey.changes.of_stage(*stage));
                        let mut json = found.map(|found| changes::json(found, &address)).unwrap_or_default();
                        json.insert("address".into(), json!(stage.address));
                        json.insert("reason".into(), json!(stage.reason));
                        json.insert("restores".into(), json!(stage.restores));
                        json
                    })
                    .collect();
                json!({"index": item.index, "id": item.id, "phase": item.phase, "stages": stages, "needs": item.needs})
            })
            .collect();
        json!({
            "version": 1,
            "run": self.planned.plan.run,
            "phases": self.planned.plan.phases,
            "templates": self.planned.plan.templates,
            "carried": self.planned.plan.carry.linked,
            "left_out": self.planned.plan.carry.left_out,
            "work_items": items,
            "estimate": self.estimate.as_ref().map(|estimate| json!({
                "seconds": estimate.duration.as_secs_f64(),
                "slots": estimate.slots,
                "known": estimate.known,
                "longest": {"id": estimate.longest.0, "seconds": estimate.longest.1.as_secs_f64()},
                "out_bytes": estimate.bytes,
            })),
        })
        .to_string()
    }

    /// The phases with templates collapsed.
    pub(crate) fn picture(&self) -> Picture {
        let phases = self.planned.plan.phases.iter().map(|phase| PhaseBox {
            is_map: phase.kind == PhaseKind::Map,
            trailing: phase.trailing,
            work_items: phase.count,
        });
        let mut picture = Picture { phases: phases.collect(), ..Picture::default() };
        let mut numbers: HashMap<(Option<usize>, String), usize> = HashMap::new();
        let mut node_of: HashMap<StageIndex, usize> = HashMap::new();
        let mut edges = HashSet::new();
        for &stage in &self.survey.order {
            let phase = self.phase_of.get(&stage).copied();
            let template = survey::template(&self.survey.project.stages[stage]);
            let node = *numbers.entry((phase, template.clone())).or_insert_with(|| {
                picture.nodes.push(Node { template, phase, stages: 0 });
                picture.nodes.len() - 1
            });
            picture.nodes[node].stages += 1;
            node_of.insert(stage, node);
            for need in self.survey.graph.needs(stage) {
                if let Some(&from) = node_of.get(need).filter(|from| **from != node) {
                    edges.insert((from, node));
                }
            }
        }
        picture.edges = edges.into_iter().collect();
        picture.edges.sort_unstable();
        picture
    }
}

/// A line that names some of the paths.
fn named(what: &str, paths: &[String]) -> Option<String> {
    let shown: Vec<String> = paths.iter().take(NAMED).map(|path| format!("`{path}`")).collect();
    let more = paths.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {} more", grouped(more)) } else { String::new() };
    (!paths.is_empty()).then(|| format!("{what}: {}{more}", shown.join(", ")))
}

fn addresses(item: &WorkItem) -> impl Iterator<Item = &str> {
    item.stages.iter().map(|stage| stage.address.as_str())
}

/// The stages of one template.
#[derive(Debug, Default)]
struct Tally {
    stages: usize,
    generated: bool,
    changed: usize,
    restored: usize,
    why: IndexMap<&'static str, usize>,
}

impl Tally {
    fn line(&self, address: &str) -> String {
        let restored = match self.restored {
            0 => String::new(),
            all if all == self.changed => "; restored from the run cache".to_owned(),
            some => format!("; {} restored from the run cache", grouped(some)),
        };
        if !self.generated {
            let why: Vec<&str> = self.why.keys().copied().collect();
            return format!("{address}: changed: {}{restored}", why.join(", "));
        }
        let mut why: Vec<(&str, usize)> = self.why.iter().map(|(why, number)| (*why, *number)).collect();
        why.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        let why: Vec<String> = why.into_iter().map(|(why, number)| format!("{} {why}", grouped(number))).collect();
        let (changed, stages) = (grouped(self.changed), grouped(self.stages));
        format!("{address}: {changed} of {stages} changed: {}{restored}", why.join(", "))
    }
}
