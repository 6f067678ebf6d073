//! `status`: how a run stands, from disk alone.

use crate::cli::runs::StatusArgs;
use crate::cli::{Cli, Format};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::output::{self, text};
use crate::state::home::ProjectHome;
use crate::state::{status, worklist};

pub(crate) fn run(cli: &Cli, args: &StatusArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = worklist::open(&project.fanout(), args.run.as_deref())?;
    let status = status::run(&run, &plan)?;
    text::result(&match cli.format {
        Format::Text => output::status::text(&status, args.all),
        Format::Json => output::status::json(&status),
    });
    Ok(Exit::Success)
}
