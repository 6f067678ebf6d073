//! `run`: plan, launch, collect and finalize in order; goes on where an earlier `run` was cut off.

use std::path::Path;

use clap::ValueEnum as _;

use crate::cli::{Cli, Format, RunArgs};
use crate::collect::place;
use crate::commands;
use crate::commands::finalize::Trailing;
use crate::commands::settings::Settings;
use crate::commands::{commit, earlier, finalize, launch, store};
use crate::diagnostic::Diagnostic;
use crate::engine::Scene;
use crate::exit::Exit;
use crate::output::text::{self, count};
use crate::plan::{self, Planned};
use crate::state::format::{Plan, PlanOptions, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::journal;
use crate::state::paths::RunDir;
use crate::state::worklist::{self, WorklistError};
use crate::state::{kept, open_runs, run_lock};
use crate::worker::salvage;

pub(crate) fn run(cli: &Cli, args: &RunArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let settings = Settings::read(&project.root)?;
    let running = settings.running(&args.running)?;
    finalize::refuse_commit(&project, &args.ending)?;
    let options = commands::plan::resolve(&project, &settings, &args.selection)?;
    if args.dry {
        return commands::plan::dry(cli, &project, &args.selection.targets, options, settings.requests()?, &running);
    }
    let open = open_runs::all(&project)?;
    bring_persisted_of_latest(&project, &open)?;
    let (run, plan) = match unfinished(&project, &open, &args.selection.targets, &options)? {
        Some((run, plan)) => {
            text::note(&format!("resuming run {}", plan.run));
            (run, plan)
        }
        None => {
            earlier::bring(&project, &open, &args.ending)?;
            let Planned { run, plan, .. } =
                plan::make(&project, &args.selection.targets, options, settings.requests()?)?;
            if let Err(error) = launch::overlap::refuse(&project, &run, &plan) {
                worklist::remove(&run)?;
                return Err(error);
            }
            kept::end_earlier(&project.fanout(), &plan.run)?;
            (run, plan)
        }
    };
    if plan.work_items == 0 {
        // The latest run stays the last one that did something.
        worklist::remove(&run)?;
        finalize::ignore_own(&project)?;
        if let Some(message) = &args.ending.commit {
            let latest = worklist::runs(&project.fanout())?.pop().unwrap_or_default();
            text::note("nothing to run: no stage has changed");
            commit::commit(&project, &latest, message, args.ending.push)?;
            return Ok(Exit::Success);
        }
        if cli.format == Format::Text {
            text::result("nothing to do: no stage has changed");
        }
        return Ok(Exit::Success);
    }
    if cli.format == Format::Text {
        let phases = count(plan.phases.len(), "phase");
        text::note(&format!("run {}: {} in {phases}", plan.run, count(plan.work_items, "work item")));
    }
    let phases: Vec<usize> = (0..plan.phases.len()).filter(|phase| !plan.phases[*phase].trailing).collect();
    let mailbox = store::mailbox(&run, &running)?;
    let scene = Scene { mailbox: mailbox.as_ref(), ..Scene::new(&project, &run, &plan, &running) };
    let mut engine = launch::chosen_engine(cli, &args.engine, &settings, &scene)?;
    let lock = launch::hold(&run)?;
    kept::hold(&run)?;
    let launched = launch::launch(cli, &scene, &phases, &mut engine)?;
    if matches!(launched.exit, Exit::Signal(_)) {
        kept::end(&run)?;
        let engine = args.engine.engine.and_then(|engine| engine.to_possible_value());
        let again = engine.map_or_else(String::new, |engine| format!(" --engine {}", engine.get_name()));
        if launched.is_drained {
            finalize::bring(&project, &run, &plan, &worklist::read_to_collect(&run)?, &args.ending)?;
            text::note(&format!("stopped; what is done was collected, and `dvc-fanout run{again}` does the rest"));
        } else {
            bring_persisted(&project, &run, &worklist::read_to_collect(&run)?)?;
            text::note(&format!("stopped; `dvc-fanout run{again}` resumes from here"));
        }
        return Ok(launched.exit);
    }
    let trailing = if launched.gave_up { Trailing::Leave } else { Trailing::Run };
    let finalized = finalize::finalize(cli, &project, &lock, &plan, &running, &args.ending, trailing)?;
    let is_worse = matches!(finalized, Exit::Signal(_) | Exit::Internal);
    Ok(if launched.exit == Exit::Success || is_worse { finalized } else { launched.exit })
}

/// Leaves in the project what the latest run made of outs that persist, if it was cut off.
fn bring_persisted_of_latest(project: &ProjectHome, open: &[(RunDir, Plan)]) -> Result<(), Diagnostic> {
    let Some((run, _)) = open.last() else { return Ok(()) };
    if run_lock::is_held(run)? {
        return Ok(());
    }
    // One that cannot be read is told of when it is to be resumed.
    worklist::read_to_collect(run).map_or(Ok(()), |items| bring_persisted(project, run, &items))
}

/// Leaves in the project what a run made of outs that persist.
fn bring_persisted(project: &ProjectHome, run: &RunDir, items: &[WorkItem]) -> Result<(), Diagnostic> {
    salvage::all(&project.fanout(), &project.fanout().slots(), Path::new(&project.config.cache_dir))?;
    place::persisted(project, run, items)
}

/// The latest run if it was not finalized, is of the same targets and options, and the workspace is still what it was,
/// but for what was collected; one that was only planned does not know what runs before it have done.
fn unfinished(
    project: &ProjectHome,
    open: &[(RunDir, Plan)],
    targets: &[String],
    options: &PlanOptions,
) -> Result<Option<(RunDir, Plan)>, Diagnostic> {
    let anew = |error: &WorklistError| {
        text::note(&format!("the latest run cannot be resumed, and all is planned anew: {error}"));
        Ok(None)
    };
    match worklist::open(&project.fanout(), None) {
        Ok(_) | Err(WorklistError::NoPlan) => {}
        Err(error @ WorklistError::Newer { .. }) => return Err(error.into()),
        Err(error) => return anew(&error),
    }
    let Some(((run, plan), before)) = open.split_last() else { return Ok(None) };
    if let Err(error) = worklist::read_briefly(run) {
        return anew(&error);
    }
    let is_same = plan.targets == targets && plan.options == *options;
    if !is_same || !launch::base::is_as_planned(project, run, plan)? {
        return Ok(None);
    }
    if journal::read(run)?.is_empty() {
        for (run, plan) in before {
            if earlier::has_something(run, plan)? {
                return Ok(None);
            }
        }
    }
    Ok(Some((run.clone(), plan.clone())))
}
