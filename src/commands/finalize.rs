//! `finalize`: brings what was collected into the workspace, runs the stages that are left, and ends the run.

use std::path::Path;

use rayon::prelude::*;

use crate::adapters::dvc::Dvc;
use crate::adapters::fs;
use crate::adapters::git::{Store, linked};
use crate::cli::{Cli, EndingArgs, FinalizeArgs, Format};
use crate::collect::{self, place, tell_dvc};
use crate::commands::commit::{self, Watched};
use crate::commands::settings::Settings;
use crate::commands::{differences, launch, report, store, summary};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path::join;
use crate::engine::args::RunningArgs;
use crate::engine::{AnyEngine, Scene};
use crate::exit::Exit;
use crate::model::collection::{Collection, Rejected};
use crate::native::Ignores;
use crate::output::text::{self, count};
use crate::state::format::{Plan, RunName, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::journal::{Journal, Journaled};
use crate::state::paths::RunDir;
use crate::state::published;
use crate::state::results;
use crate::state::run_lock::RunLock;
use crate::state::{kept, slots, status, uncommitted, unsettled, worklist};
use crate::worker::salvage;
use crate::worker::transfer::{Object, Transfer};

/// Where DVC keeps its own files out of git.
const OWN_IGNORES: &str = ".dvc/.gitignore";

pub(crate) fn run(cli: &Cli, args: &FinalizeArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = store::open(&project, args.run.as_deref(), args.running.store.as_deref())?;
    let lock = launch::hold(&run)?;
    let running = Settings::read(&project.root)?.running(&args.running)?;
    if let Some(mailbox) = store::mailbox(&run, &running)? {
        store::receive(&mailbox, &run, &plan)?;
    }
    refuse_unfinished(&run)?;
    finalize(cli, &project, &lock, &plan, &running, &args.ending, Trailing::RunIfLaunched)
}

/// What becomes of the phases that `finalize` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trailing {
    Run,
    /// The same, but nobody may have launched the phases before them.
    RunIfLaunched,
    /// Too many work items have failed for any more to be started.
    Leave,
}

/// Collects what is done, with its outs in place.
pub(super) fn bring(
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    items: &[WorkItem],
    ending: &EndingArgs,
) -> Result<Collection, Diagnostic> {
    salvage::all(&project.fanout(), &project.fanout().slots(), Path::new(&project.config.cache_dir))?;
    let collected = collect::collect(project, run, plan, items, ending.any_branch)?;
    bring_outs(project, run, plan, items, &collected.rejected)?;
    Ok(collected)
}

/// Collects, runs the trailing phases, and ends the run.
pub(crate) fn finalize(
    cli: &Cli,
    project: &ProjectHome,
    lock: &RunLock,
    plan: &Plan,
    running: &RunningArgs,
    ending: &EndingArgs,
    trailing: Trailing,
) -> Result<Exit, Diagnostic> {
    let run = lock.run();
    refuse_commit(project, ending)?;
    let items = worklist::read_to_collect(run)?;
    let mut exit = Exit::Success;
    let collected = bring(project, run, plan, &items, ending)?;
    let mut is_whole = collected.is_whole();
    let mut rejected = collected.rejected;
    if trailing == Trailing::RunIfLaunched
        && let Some(unfinished) = unfinished(project, run, plan)?
    {
        store::tell(run)?;
        commit_if_asked(project, plan, ending, false)?;
        return Err(unfinished);
    }
    let runs = |phase: &usize| plan.phases[*phase].trailing && trailing != Trailing::Leave;
    let trailing: Vec<usize> = (0..plan.phases.len()).filter(runs).collect();
    // What gathers all keys may look at everything there is, as it is now. Where the stages may be others by now, or it is
    // another clone of the project that may not have everything, it runs on what was planned.
    let is_brought = fs::exists(&run.brought_here());
    let moved = if trailing.is_empty() || is_brought { None } else { launch::base::moved(project, run, plan)? };
    let in_project = !trailing.is_empty() && !is_brought && moved.is_none();
    if is_brought {
        let with_inputs = worklist::read_briefly(run)?;
        trailing.iter().try_for_each(|phase| fetch_inputs(project, run, &with_inputs[plan.phases[*phase].places()]))?;
    } else if let Some(moved) = moved {
        text::note(&format!(
            "changed since this run was planned: {moved}; the last stages run on what was planned, without what git ignores and \
             no stage declares"
        ));
    }
    for phase in trailing {
        let scene = Scene { in_project, ..Scene::new(project, run, plan, running) };
        let watched = in_project.then(|| Watched::begin(project)).transpose()?;
        let launched = launch::launch(cli, &scene, &[phase], &mut AnyEngine::local(&scene)?)?;
        if let Some(watched) = watched {
            collect::stage_in_git(project, watched.end(project)?.iter().map(String::as_str))?;
        }
        if matches!(launched.exit, Exit::Signal(_)) {
            return Ok(launched.exit);
        }
        exit = worst(exit, launched.exit);
        if in_project {
            let these = &items[plan.phases[phase].places()];
            tell_dvc::tell_of_last(project, run, these)?;
            if these.len() > 1 || !is_last(&items, these) {
                // Entries and lines are to be where `dvc repro` would have put them: stages of several work items take turns
                // there, and what comes last here may come earlier there.
                collect::collect(project, run, plan, &items, ending.any_branch)?;
            }
        } else {
            let collected = collect::collect(project, run, plan, &items, ending.any_branch)?;
            is_whole &= collected.is_whole();
            rejected.extend(collected.rejected);
            bring_outs(project, run, plan, &items[plan.phases[phase].places()], &rejected)?;
        }
        if launched.gave_up {
            break;
        }
    }
    // A report of very many takes as much room again.
    drop(items);
    let all: Vec<usize> = (0..plan.phases.len()).collect();
    let counts = summary::counts(run, plan, &all)?;
    if !counts.are_all_good() || !is_whole {
        exit = worst(exit, Exit::WorkItemsFailed);
    }
    if exit == Exit::Success {
        ignore_own(project)?;
    }
    if plan.work_items > 0 {
        note_changed(project, run, plan)?;
        end(project, run, plan, counts.failed.len(), exit)?;
        store::tell(run)?;
        // What is good is committed even where there is no room for a report.
        if let Err(error) = report::write(run, plan) {
            text::note(&format!("no report was written: {}", text::render_error(&error)));
        }
        match cli.format {
            Format::Text => summary::print(run, plan, &counts)?,
            Format::Json => text::result(&summary::document(run, &counts).to_string()),
        }
    }
    if exit == Exit::Success && ending.full {
        full(project, plan)?;
    }
    commit_if_asked(project, plan, ending, exit == Exit::Success)?;
    differences::tell(project, run, plan, exit)
}

/// Refuses to end a run while work items of it may be done in a cluster.
fn refuse_unfinished(run: &RunDir) -> Result<(), Diagnostic> {
    let Some((number, engine)) = status::in_open_jobs(run)? else { return Ok(()) };
    let name = run.name();
    let said = format!("{} of run {name} may still be running in the cluster", count(number, "work item"));
    let hint =
        format!("`dvc-fanout launch {name} --engine {engine}` waits for them; `dvc-fanout cancel {name}` ends them");
    Err(Diagnostic::new(Exit::WorkItemsFailed, said)
        .hint(hint)
        .hint(format!("`dvc-fanout collect {name}` brings what is done")))
}

/// Has git ignore DVC's own files, where it does not: `dvc repro` does so as well, and cache and state would be committed.
pub(super) fn ignore_own(project: &ProjectHome) -> Result<(), Diagnostic> {
    if project.config.no_scm {
        return Ok(());
    }
    let (git, prefix) = project.git()?;
    if Ignores::new(&project.root, Some((&git, &prefix))).add_own()? {
        uncommitted::note(project, &[OWN_IGNORES])?;
        collect::stage_in_git(project, std::iter::once(OWN_IGNORES))?;
    }
    Ok(())
}

/// Says that work items of phases that `launch` runs have not run yet, where that is not because of one that failed: what
/// comes after them has nothing to begin with, and the run goes on.
fn unfinished(project: &ProjectHome, run: &RunDir, plan: &Plan) -> Result<Option<Diagnostic>, Diagnostic> {
    let launched: Vec<usize> = (0..plan.phases.len()).filter(|phase| !plan.phases[*phase].trailing).collect();
    let counts = summary::counts(run, plan, &launched)?;
    let left = counts.not_run + counts.skipped;
    if left == 0 || !counts.failed.is_empty() {
        return Ok(None);
    }
    let (have, them) = if left == 1 { ("has", "it") } else { ("have", "them") };
    let said = format!("{} {have} not run", count(left, "work item"));
    let is_latest = worklist::runs(&project.fanout())?.pop().as_ref() == Some(&plan.run);
    let name = if is_latest { String::new() } else { format!(" {}", plan.run) };
    Ok(Some(Diagnostic::new(Exit::WorkItemsFailed, said).hint(format!("`dvc-fanout launch{name}` runs {them}"))))
}

/// Commits what is in the project now, if that is asked for.
fn commit_if_asked(project: &ProjectHome, plan: &Plan, ending: &EndingArgs, is_whole: bool) -> Result<(), Diagnostic> {
    let Some(message) = &ending.commit else { return Ok(()) };
    if is_whole || ending.commit_partial {
        return commit::commit(project, &plan.run, message, ending.push);
    }
    text::note("not committed because not everything succeeded (`--commit-partial` commits anyway)");
    Ok(())
}

/// Whether `dvc repro` runs the stages of these work items behind all others.
fn is_last(all: &[WorkItem], these: &[WorkItem]) -> bool {
    let orders = |items: &[WorkItem]| -> Vec<usize> {
        items.iter().flat_map(|item| &item.stages).map(|stage| stage.order).collect()
    };
    let these = orders(these);
    let first = these.iter().copied().min().unwrap_or(usize::MAX);
    orders(all).into_iter().filter(|order| *order >= first).count() == these.len()
}

/// The worse of two exits.
fn worst(a: Exit, b: Exit) -> Exit {
    if a == Exit::Success { b } else { a }
}

/// Fetches and places the outs of stages that ran.
fn bring_outs(
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    items: &[WorkItem],
    rejected: &[Rejected],
) -> Result<(), Diagnostic> {
    fetch_outs(project, run, items)?;
    place::outs(project, run, plan, items, rejected)
}

/// Brings outs into the cache that machines with a cache of their own have left in the remote.
fn fetch_outs(project: &ProjectHome, run: &RunDir, items: &[WorkItem]) -> Result<(), Diagnostic> {
    if !fs::exists(&run.remote()) {
        return Ok(());
    }
    let cache = Path::new(&project.config.cache_dir);
    let left = |item: &WorkItem| left_by(run, item, cache);
    let left: Vec<Left> = items.par_iter().map(left).collect::<Result<_, _>>()?;
    let objects = |of: fn(&Left) -> &[Object]| left.iter().flat_map(of).cloned().collect();
    let runs: Vec<RunName> = left.iter().flat_map(|left| &left.runs).cloned().collect();
    let slots = project.fanout().slots();
    let transfer = Transfer::new(project, &slots);
    transfer.fetch_with_runs(objects(|left| &left.cached), &runs)?;
    // Of outs that DVC does not cache, only the run cache has use for objects, and not every stage leaves them.
    drop(transfer.fetch(objects(|left| &left.others)));
    store::tell_moved(&transfer, run)
}

/// What a work item has left in the remote: objects that this cache does not have, and entries of the run cache.
#[derive(Default)]
struct Left {
    cached: Vec<Object>,
    /// Of outs that DVC does not cache.
    others: Vec<Object>,
    runs: Vec<RunName>,
}

fn left_by(run: &RunDir, item: &WorkItem, cache: &Path) -> Result<Left, Diagnostic> {
    let Some(published) = results::best(run, item.index)? else { return Ok(Left::default()) };
    let runs = published.result.stages.iter().filter_map(published::run_of).collect();
    let mut left = Left { runs, ..Left::default() };
    for stage in item.stages.iter().filter(|stage| !stage.records) {
        for out in &stage.outs {
            let recorded = published.recorded_out(&stage.address, &out.path);
            let object = recorded.and_then(|recorded| Object::recorded(&recorded));
            let objects = if out.cache { &mut left.cached } else { &mut left.others };
            objects.extend(object.filter(|object| !object.is_in(cache)));
        }
    }
    Ok(left)
}

/// Brings the cached data that work items begin with into the cache of a clone that may never have had them.
fn fetch_inputs(project: &ProjectHome, run: &RunDir, items: &[WorkItem]) -> Result<(), Diagnostic> {
    let objects = store::cached_inputs(items).collect();
    let slots = project.fanout().slots();
    let transfer = Transfer::new(project, &slots);
    transfer.fetch(objects)?;
    store::tell_moved(&transfer, run)
}

/// Without git there is nothing to commit to.
pub(crate) fn refuse_commit(project: &ProjectHome, ending: &EndingArgs) -> Result<(), Diagnostic> {
    if ending.commit.is_none() || !project.config.no_scm {
        return Ok(());
    }
    Err(Diagnostic::usage("`--commit` needs git, and the project does without (`core.no_scm` is set)")
        .hint("leave `--commit` out, or run `git init` and `dvc config --unset core.no_scm`"))
}

/// Says which of the files that workers saw by a link were changed while the run was on.
fn note_changed(project: &ProjectHome, run: &RunDir, plan: &Plan) -> Result<(), Diagnostic> {
    if plan.linked.is_empty() {
        return Ok(());
    }
    let (store, (git, _)) = (Store::open(&run.snapshot())?, project.git()?);
    for path in &plan.linked {
        let stamp = store.stamp_of(plan.snapshot.as_deref().unwrap_or_default(), path)?;
        if !stamp.is_some_and(|stamp| linked::is_as_planned(&git.workdir().join(path), &stamp)) {
            text::note(&format!("`{path}` was changed while the run was on; stages may have seen it before or after"));
        }
    }
    Ok(())
}

/// Ends the run: the slots go, unless the next run has use for their workspaces, and the snapshot where nothing is left to
/// do; plan, results and journal stay.
fn end(project: &ProjectHome, run: &RunDir, plan: &Plan, failed: usize, exit: Exit) -> Result<(), Diagnostic> {
    kept::end(run)?;
    // In this order: nobody goes on with a run that was finalized.
    unsettled::settle(&project.root, &project.fanout(), run)?;
    Journal::open(run)?.append(Journaled::Finalized { failed })?;
    if exit == Exit::Success {
        fs::remove(&run.snapshot())?;
    }
    // They may hold passwords.
    let private = join(&plan.prefix, ".dvc/config.local");
    slots::leave_to_next_run(&project.fanout(), &private)?;
    Ok(())
}

/// Runs plain `dvc repro` over the whole project as the last word.
fn full(project: &ProjectHome, plan: &Plan) -> Result<(), Diagnostic> {
    let mut arguments = vec!["repro"];
    for (flag, on) in [
        ("--all-pipelines", plan.options.all_pipelines),
        ("--pipeline", plan.options.pipeline),
        ("--single-item", plan.options.single_item),
        ("--recursive", plan.options.recursive),
        ("--downstream", plan.options.downstream),
        ("--glob", plan.options.glob),
    ] {
        if on {
            arguments.push(flag);
        }
    }
    arguments.extend(plan.targets.iter().map(String::as_str));
    let program = Dvc::find()?.command(&arguments);
    let watched = Watched::begin(project)?;
    let said = commit::said_by(&program, &project.root.join(&plan.options.cwd), " after everything was collected")?;
    watched.end(project)?;
    let ran = said.lines().filter(|line| line.starts_with("Running stage '")).count();
    text::note(&match ran {
        0 => "dvc repro found nothing to do".to_owned(),
        ran => format!("dvc repro ran {}:\n{said}", count(ran, "more stage")),
    });
    Ok(())
}
