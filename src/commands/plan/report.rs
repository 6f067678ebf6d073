//! What `plan` says.

use std::collections::HashMap;
use std::fmt::Write as _;

use indexmap::IndexMap;

use super::Planned;
use crate::commands::changes::Changes;
use crate::model::changed::{Outlook, Reason};
use crate::model::pipeline::load::Project;
use crate::model::pipeline::stage::{Stage, StageAddress};
use crate::model::plan::Candidate;
use crate::output::text::{count, grouped};
use crate::state::format::{PhaseKind, Template};

/// The address of a template: a group's, or that of a stage that is written out.
fn template(stage: &Stage) -> String {
    match &stage.generated {
        Some(generated) => StageAddress::of(&stage.file, &generated.group).0,
        None => stage.address.0.clone(),
    }
}

/// The selected stages and those that may run, by template in the order of `dvc repro`.
pub(super) fn templates(project: &Project, order: &[usize], candidates: &[Candidate]) -> Vec<Template> {
    let mut templates: IndexMap<String, Template> = IndexMap::new();
    let planned: HashMap<usize, ()> = candidates.iter().map(|candidate| (candidate.stage, ())).collect();
    for stage in order {
        let address = template(&project.stages[*stage]);
        let entry = templates.entry(address.clone()).or_insert(Template { address, stages: 0, planned: 0 });
        entry.stages += 1;
        entry.planned += usize::from(planned.contains_key(stage));
    }
    templates.into_values().collect()
}

/// Why a stage runs or may run, in one line.
pub(super) fn reason(project: &Project, changes: &Changes, stage: usize) -> String {
    let forecast = changes.forecasts[stage].as_ref();
    let observation = changes.observations[stage].as_ref();
    let first = observation.and_then(|observation| observation.reasons.first());
    let upstream = forecast.and_then(|forecast| forecast.upstream.first());
    match (forecast.map(|forecast| &forecast.outlook), first, upstream) {
        (Some(Outlook::MayRun), _, Some(upstream)) => format!("upstream {}", project.stages[*upstream].address),
        (_, Some(reason), _) => short(reason),
        (_, None, Some(upstream)) => format!("upstream {}", project.stages[*upstream].address),
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
        Reason::Dep { path, .. } => format!("dep {path}"),
        Reason::ParamsFile { path, .. } => format!("params {path}"),
        Reason::Param { path, key, .. } => format!("params {path}:{key}"),
        Reason::Out { path, .. } => format!("out {path}"),
    }
}

/// The plan for people: templates first, then phases.
pub(super) fn text(planned: &Planned) -> String {
    let plan = &planned.plan;
    if plan.work_items == 0 {
        return "nothing to do: no stage has changed".to_owned();
    }
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes every text");
    for template in plan.templates.iter().filter(|template| template.planned > 0) {
        line(format!("{}: {} of {}", template.address, grouped(template.planned), count(template.stages, "stage")));
    }
    for (number, phase) in plan.phases.iter().enumerate() {
        let kind = match phase.kind {
            PhaseKind::Map => "map",
            PhaseKind::Shared => "shared",
        };
        let who = if phase.trailing { "finalize" } else { "launch" };
        let names: Vec<&str> = planned.items[phase.indexes()].iter().take(5).map(|item| item.id.as_str()).collect();
        let more = if phase.count > names.len() { ", …" } else { "" };
        line(format!(
            "phase {number} ({kind}, {who}): {}: {}{more}",
            count(phase.count, "work item"),
            names.join(", ")
        ));
    }
    line(format!("run {}", plan.run));
    text
}

/// The plan for programs.
pub(super) fn json(planned: &Planned) -> String {
    let items: Vec<_> = planned
        .items
        .iter()
        .map(|item| {
            let stages: Vec<_> = item
                .stages
                .iter()
                .map(|stage| serde_json::json!({"address": stage.address, "reason": stage.reason, "restores": stage.restores}))
                .collect();
            serde_json::json!({"index": item.index, "id": item.id, "phase": item.phase, "stages": stages, "needs": item.needs})
        })
        .collect();
    serde_json::json!({
        "version": 1,
        "run": planned.plan.run,
        "phases": planned.plan.phases,
        "templates": planned.plan.templates,
        "work_items": items,
    })
    .to_string()
}
