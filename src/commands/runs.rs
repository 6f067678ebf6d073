//! `runs`: lists runs and removes old ones.

use crate::adapters::fs;
use crate::cli::runs::{PruneArgs, RunsArgs, RunsCommand};
use crate::cli::{Cli, Format};
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::status::RunStatus;
use crate::output;
use crate::output::text::{self, count};
use crate::state::home::ProjectHome;
use crate::state::run_lock::RunLock;
use crate::state::{kept, slots, status, worklist};

pub(crate) fn run(cli: &Cli, args: &RunsArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    match &args.command {
        None | Some(RunsCommand::List) => list(cli, &project),
        Some(RunsCommand::Prune(args)) => prune(cli, args, &project),
    }
}

fn list(cli: &Cli, project: &ProjectHome) -> Result<Exit, Diagnostic> {
    let fanout = project.fanout();
    let mut statuses: Vec<RunStatus> = vec![];
    for name in worklist::runs(&fanout)? {
        let status = worklist::open(&fanout, Some(&name)).map_err(Diagnostic::from);
        match status.and_then(|(run, plan)| status::run(&run, &plan)) {
            Ok(status) => statuses.push(status),
            Err(error) => text::note(&format!("run {name} is not readable: {}", error.one_line())),
        }
    }
    statuses.retain(|status| status.phases.iter().any(|phase| phase.total > 0));
    text::result(&match cli.format {
        Format::Text => output::status::runs_text(&statuses),
        Format::Json => output::status::runs_json(&statuses),
    });
    Ok(Exit::Success)
}

/// Why a run is not removed.
enum Kept {
    /// Somebody launches it.
    On,
    /// Its Jobs may go on in a cluster.
    Left,
    /// It has results that the project has not.
    Uncollected,
    /// Its plan is broken, or of a newer release.
    Unreadable,
    /// What the object store has of it cannot be looked at, or not be removed.
    Stored(String),
}

/// Removes what is too old: each run under its lock.
fn prune(cli: &Cli, args: &PruneArgs, project: &ProjectHome) -> Result<Exit, Diagnostic> {
    let fanout = project.fanout();
    let known = worklist::runs(&fanout)?;
    let (mut removed, mut kept) = (vec![], vec![]);
    for name in &known[..known.len().saturating_sub(args.keep)] {
        let run = fanout.run(name);
        if !args.force && status::is_left(&run)? {
            kept.push((name, Kept::Left));
            continue;
        }
        let Some(_lock) = RunLock::try_acquire(&run)? else {
            kept.push((name, Kept::On));
            continue;
        };
        let why = match worklist::open(&fanout, Some(name)) {
            Ok(_) if args.force => None,
            // What workers left in an object store may not be here yet.
            Ok((_, plan)) => match store::bring(&run, &plan) {
                Ok(()) => status::is_uncollected(&run, &plan)?.then_some(Kept::Uncollected),
                Err(error) => Some(Kept::Stored(error.one_line())),
            },
            Err(_) => Some(Kept::Unreadable),
        };
        if let Some(why) = why.filter(|_| !args.force) {
            kept.push((name, why));
            continue;
        }
        if !args.dry_run {
            if let Err(error) = store::remove(&run) {
                kept.push((name, Kept::Stored(error.one_line())));
                continue;
            }
            kept::end(&run)?;
            worklist::remove(&run)?;
        }
        removed.push(name);
    }
    if !args.dry_run {
        slots::remove_unused(&fanout)?;
        remove_leftovers(project, known.last().map_or("", String::as_str))?;
    }
    for (name, why) in &kept {
        text::note(&match why {
            Kept::On => format!("run {name} stays: it is on"),
            Kept::Stored(why) if args.force => format!("run {name} stays: {why}"),
            Kept::Stored(why) => format!("run {name} stays: {why} (--force removes it all the same)"),
            Kept::Unreadable => format!("run {name} stays: its plan is not readable (--force removes it)"),
            Kept::Left => format!(
                "run {name} stays: its Jobs may still be running in a cluster (`dvc-fanout cancel {name}` ends them, or --force)"
            ),
            Kept::Uncollected => format!(
                "run {name} stays: it has results that were not collected (`dvc-fanout finalize {name}`, or --force)"
            ),
        });
    }
    text::result(&match cli.format {
        Format::Json => output::status::pruned_json(&removed, args.dry_run),
        Format::Text if removed.is_empty() => "nothing to remove".to_owned(),
        Format::Text => {
            let verb = if args.dry_run { "would be removed" } else { "removed" };
            format!("{} {verb}", count(removed.len(), "run"))
        }
    });
    Ok(Exit::Success)
}

/// Removes what was left by runs that were cut off while they were planned or removed: folders without a plan.
///
/// Only what is older than the latest run: a later one may be in the making.
fn remove_leftovers(project: &ProjectHome, latest: &str) -> Result<(), Diagnostic> {
    let fanout = project.fanout();
    let is_left = |name: &str| name < latest && !fanout.run(name).plan().is_file();
    for name in fs::names(&fanout.runs())?.iter().filter(|name| is_left(name)) {
        fs::remove(fanout.run(name).path())?;
    }
    Ok(())
}
