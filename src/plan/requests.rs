//! What a stage asks for: the section `stages` of the configuration file, completed by the stage's own `meta.fanout`.

use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::pipeline::stage::{Stage, StageAddress};
use crate::dvc::value::Value;
use crate::model::requests::{self, ByStage};
use crate::model::run::Resources;

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

/// The address of the `foreach` or `matrix` that a stage comes from.
pub(crate) fn template(stage: &Stage) -> Option<String> {
    stage.generated.as_ref().map(|made| StageAddress::of(&stage.file, &made.group).0)
}
