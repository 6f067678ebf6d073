//! `status`: how a run stands, from disk alone unless somebody wants to know what is in the queue.

use crate::cli::runs::StatusArgs;
use crate::cli::{Cli, Format};
use crate::commands::settings::Settings;
use crate::diagnostic::Diagnostic;
use crate::engine::EngineArgs;
use crate::engine::launch::block_on;
use crate::exit::Exit;
use crate::output::{self, text};
use crate::state::home::ProjectHome;
use crate::state::{status, worklist};

pub(crate) fn run(cli: &Cli, args: &StatusArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = worklist::open_to_show(&project.fanout(), args.run.as_deref())?;
    let status = status::run(&run, &plan)?;
    let queued = if args.live {
        let flags = EngineArgs::default().completed(&Settings::read(&project.root)?)?;
        Some(block_on(flags.queued(&run))?)
    } else {
        None
    };
    text::result(&match cli.format {
        Format::Text => output::status::text(&status, args.all),
        Format::Json => output::status::json(&status, queued.as_deref()),
    });
    if cli.format == Format::Text {
        queued.into_iter().flatten().for_each(|line| text::result(&line));
    }
    Ok(Exit::Success)
}
