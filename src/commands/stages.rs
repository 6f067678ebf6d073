//! `stages`: what DVC sees, natively read.

use crate::adapters::dvc::files::DiskFiles;
use crate::cli::{Cli, Format, StagesArgs};
use crate::diagnostic::Diagnostic;
use crate::dvc::changed::Outlook;
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::graph::target::{self, TargetOptions};
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::exit::Exit;
use crate::output::{changes, json, text};
use crate::plan::changes::Changes;
use crate::state::home::ProjectHome;

/// Lists the stages of the project or of the targets.
pub(crate) fn run(cli: &Cli, args: &StagesArgs) -> Result<Exit, Diagnostic> {
    let home = ProjectHome::find(cli.directory.as_deref())?;
    let files = DiskFiles::open(&home.root, home.config.no_scm)?;
    let project = Project::load(&files, &home.config)?;
    let graph = Graph::build(&project)?;
    let options = TargetOptions { glob: args.glob, recursive: args.recursive, ..TargetOptions::default() };
    let selected = match args.targets.as_slice() {
        [] => None,
        targets => Some(target::name(&project, &files, &graph, &home.cwd, targets, options)?),
    };
    let changes = if args.changed {
        let order = match args.targets.as_slice() {
            [] => graph.order(),
            targets => target::select(&project, &files, &graph, &home.cwd, targets, options)?,
        };
        let changes = Changes::assess(&project, &graph, &order, &files, &home, false)?;
        changes.refuse_problems(&project)?;
        Some((order, changes))
    } else {
        None
    };
    let of_stage = |stage: StageIndex| changes.as_ref().and_then(|(_, changes)| changes.of_stage(stage));
    match cli.format {
        Format::Json => json::stages(&project, &graph, selected.as_deref(), &home.cwd, &of_stage),
        Format::Text if let Some((order, changes)) = &changes => {
            text::result(&changed_text(&project, order, changes, &home.cwd));
        }
        Format::Text => {
            let listed = selected.unwrap_or_else(|| graph.order());
            text::result(&text::stages(&project, &listed, &home.cwd, args.expand));
        }
    }
    Ok(Exit::Success)
}

/// The stages that are not unchanged, each with its reasons, and how many will come to what.
fn changed_text(project: &Project, order: &[StageIndex], found: &Changes, cwd: &str) -> String {
    let address = |stage: StageIndex| project.stages[stage].address_from(&project.root, cwd);
    let stages = order.iter().filter_map(|stage| Some((*stage, found.of_stage(*stage)?)));
    let stages = stages.filter(|(_, stage)| stage.forecast.outlook != Outlook::Unchanged);
    let mut lines: Vec<String> =
        stages.flat_map(|(stage, found)| changes::lines(&address(stage), found, &address)).collect();
    lines.push(changes::summary(found.forecasts.iter().flatten()));
    lines.join("\n")
}
