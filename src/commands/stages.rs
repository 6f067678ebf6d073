//! `stages`: what DVC sees, natively read.

use super::project::ProjectHome;
use crate::adapters::project::DiskFiles;
use crate::cli::{Cli, Format, StagesArgs};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::pipeline::graph::Graph;
use crate::model::pipeline::load::Project;
use crate::model::pipeline::target::{self, TargetOptions};
use crate::output::{json, text};

/// Lists the stages of the project or of the targets.
pub(crate) fn run(cli: &Cli, args: &StagesArgs) -> Result<Exit, Diagnostic> {
    let home = ProjectHome::find(cli)?;
    let files = DiskFiles::open(&home.root, home.config.no_scm)?;
    let project = Project::load(&files, &home.config)?;
    let graph = Graph::build(&project)?;
    let options = TargetOptions { glob: args.glob, recursive: args.recursive, ..TargetOptions::default() };
    let selected = match args.targets.as_slice() {
        [] => None,
        targets => Some(target::name(&project, &graph, &home.cwd, targets, options)?),
    };
    match cli.format {
        Format::Json => json::stages(&project, &graph, selected.as_deref(), &home.cwd),
        Format::Text => {
            let listed = selected.unwrap_or_else(|| graph.order());
            text::result(&text::stages(&project, &listed, &home.cwd, args.expand));
        }
    }
    Ok(Exit::Success)
}
