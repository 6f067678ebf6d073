//! `collect`: merges what workers published into the project, and says what became of it.

use std::collections::HashSet;

use crate::cli::{Cli, CollectArgs, Format};
use crate::collect::{self, CollectConfig, Resolution, branch};
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::engine::args::RunningArgs;
use crate::exit::Exit;
use crate::model::numbers::ItemIndex;
use crate::output::{self, text};
use crate::state::format::WorkItem;
use crate::state::home::ProjectHome;
use crate::state::worklist;

pub(crate) fn run(cli: &Cli, args: &CollectArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = store::open(&project, args.run.as_deref(), args.elsewhere.store.as_deref())?;
    if let Some(mailbox) = store::mailbox(&run, &RunningArgs::default())? {
        store::receive(&mailbox, &run, &plan)?;
    }
    let items = worklist::read_to_collect(&run)?;
    let config = resolve(args, &items)?;
    if !config.dry_run && !args.any_branch {
        branch::check(&project.git()?.0, &plan)?;
    }
    let collection = collect::merge(&project, &run, &plan, &items, &config)?;
    if !args.dry_run {
        store::tell(&run)?;
    }
    if cli.format == Format::Json {
        text::result(&output::collection::document(&collection));
    }
    if !collection.conflicts.is_empty() {
        return Err(output::collection::conflicts(&collection));
    }
    if cli.format == Format::Text {
        output::collection::print(&collection);
    }
    Ok(if collection.is_whole() { Exit::Success } else { Exit::WorkItemsFailed })
}

fn resolve(args: &CollectArgs, items: &[WorkItem]) -> Result<CollectConfig, Diagnostic> {
    let only = args.only.iter().map(|name| worklist::find_all(items, name)).collect::<Result<Vec<_>, _>>()?;
    let only: HashSet<ItemIndex> = only.into_iter().flatten().map(|item| item.index).collect();
    Ok(CollectConfig {
        resolution: match (args.ours, args.theirs) {
            (true, _) => Resolution::Ours,
            (false, true) => Resolution::Theirs,
            (false, false) => Resolution::Report,
        },
        only: (!args.only.is_empty()).then_some(only),
        dry_run: args.dry_run,
        declared_only: args.declared_only,
        lock_limit: args.lock_timeout.0,
    })
}
