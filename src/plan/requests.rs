//! What a stage asks for: the section `stages` of the configuration file, completed by the stage's own `meta.fanout`.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::pipeline::stage::{Stage, StageAddress};
use crate::dvc::suggest;
use crate::dvc::value::Value;
use crate::model::requests::{self, ByStage};
use crate::model::run::Resources;
use crate::output::text;

/// What the file says of a stage: of itself, completed by what it says of its template.
pub(crate) fn of_file(stage: &Stage, by_stage: &ByStage) -> Resources {
    let said = [Some(stage.address.0.clone()), template(stage)];
    let said = said.into_iter().flatten().filter_map(|name| by_stage.get(&name));
    said.cloned().reduce(requests::or).unwrap_or_default()
}

/// What `meta: {fanout: {…}}` of a stage says.
pub(crate) fn of_meta(stage: &Stage) -> Result<Resources, Diagnostic> {
    let meta = stage.meta.as_ref().and_then(|meta| meta.get("fanout")).unwrap_or(&Value::Null);
    requests::parse(meta).map_err(|error| {
        let place = Place { path: stage.file.clone(), line: Some(stage.line), column: None };
        let diagnostic = Diagnostic::project(format!("`meta.fanout` of stage `{}`: {error}", stage.address)).at(place);
        error.hint().into_iter().fold(diagnostic, Diagnostic::hint)
    })
}

/// All that a stage asks for.
pub(crate) fn of_stage(stage: &Stage, by_stage: &ByStage) -> Result<Resources, Diagnostic> {
    Ok(requests::or(of_file(stage, by_stage), of_meta(stage)?))
}

/// Says of which names the file speaks that no stage and no template has; keys of a template come and go.
pub(crate) fn tell_unknown<'s>(stages: impl Iterator<Item = &'s Stage>, by_stage: &ByStage) {
    if by_stage.is_empty() {
        return;
    }
    let names = stages.flat_map(|stage| [Some(stage.address.0.clone()), template(stage)]).flatten();
    let known: HashSet<String> = names.collect();
    let is_known =
        |name: &str| known.contains(name) || name.match_indices('@').any(|(at, _)| known.contains(&name[..at]));
    for name in by_stage.keys().filter(|name| !is_known(name)) {
        let misses = suggest::misses(name, known.iter().map(String::as_str));
        let hint = suggest::hint(&misses).map_or_else(String::new, |hint| format!(" ({hint})"));
        text::note(&format!("`stages.{name}` in `.dvc/fanout/config.yaml` is no stage of this project{hint}"));
    }
}

/// The address of the `foreach` or `matrix` that a stage comes from.
pub(crate) fn template(stage: &Stage) -> Option<String> {
    stage.generated.as_ref().map(|made| StageAddress::of(&stage.file, &made.group).0)
}
