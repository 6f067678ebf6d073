//! `retry`: sets failures aside, so that the next launch runs those work items again.

use std::collections::HashSet;

use crate::cli::runs::RetryArgs;
use crate::cli::{Cli, Format};
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::numbers::ItemIndex;
use crate::model::status::{ItemState, RunState};
use crate::output::text::{self, count};
use crate::state::home::ProjectHome;
use crate::state::{results, status, worklist};

pub(crate) fn run(cli: &Cli, args: &RetryArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = store::open_to_show(&project, args.run.as_deref(), args.elsewhere.store.as_deref())?;
    let status = status::run(&run, &plan)?;
    if status.state == RunState::Finalized {
        return Err(Diagnostic::project(format!("run {} is over", plan.run))
            .cause("what is left needs a new plan")
            .hint("`dvc-fanout run` plans and runs what is left"));
    }
    let items = worklist::read_all(&run)?;
    let named = args.items.iter().map(|name| worklist::find_all(&items, name)).collect::<Result<Vec<_>, _>>()?;
    // Of those that a pattern matches, nobody wonders about the ones that did not fail.
    let by_name: HashSet<ItemIndex> =
        named.iter().filter(|items| items.len() == 1).map(|items| items[0].index).collect();
    let named: HashSet<ItemIndex> = named.into_iter().flatten().map(|item| item.index).collect();
    let mut again = vec![];
    for item in &status.items {
        let is_named = named.contains(&item.index);
        let is_asked_for = by_name.contains(&item.index);
        match &item.state {
            ItemState::Failed { again: false, .. } if is_named || named.is_empty() => {
                results::set_failures_aside(&run, item.index)?;
                again.push(item.id.as_str());
            }
            ItemState::Done { .. } if is_asked_for => {
                text::note(&format!("{}: it has already succeeded", item.id));
            }
            ItemState::Running { .. } if is_asked_for => text::note(&format!("{}: it is running", item.id)),
            // The next launch runs these anyway; those that were skipped, once what they need is there.
            ItemState::Failed { again: true, .. } | ItemState::Interrupted { .. } if is_named || named.is_empty() => {
                again.push(item.id.as_str());
            }
            ItemState::Failed { .. }
            | ItemState::Interrupted { .. }
            | ItemState::Done { .. }
            | ItemState::Running { .. }
            | ItemState::Waiting
            | ItemState::Skipped { .. } => {}
        }
    }
    text::result(&match cli.format {
        Format::Json => serde_json::json!({"version": 1, "run": plan.run, "again": again}).to_string(),
        Format::Text if again.is_empty() => "no work item has failed".to_owned(),
        Format::Text => {
            let what = count(again.len(), "work item");
            let how =
                if matches!(status.state, RunState::Running { .. }) { "once this launch has ended, " } else { "" };
            format!("{what} will run again: {how}`dvc-fanout launch {}`", plan.run)
        }
    });
    Ok(Exit::Success)
}
