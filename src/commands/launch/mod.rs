//! `launch`: runs the work items of a plan, phase after phase, and watches them to the end.

pub(crate) mod base;
pub(crate) mod overlap;

use std::collections::HashMap;
use std::io::IsTerminal as _;

use clap::ValueEnum as _;

use crate::adapters::{fs, signals};
use crate::cli::settings::Origin;
use crate::cli::{Cli, Format, LaunchArgs};
use crate::commands::settings::Settings;
use crate::commands::{differences, store, summary};
use crate::diagnostic::Diagnostic;
use crate::engine::launch::{self as engine, Launched, Work, cannot_listen};
use crate::engine::recorder::Audience;
use crate::engine::{AnyEngine, EngineArgs, EngineName, HandedOver, Scene};
use crate::env;
use crate::exit::Exit;
use crate::model::requests::KEEP_RUNNING;
use crate::model::stdin::Stdin;
use crate::model::workspace_kind::WorkspaceKind;
use crate::output::progress::Style;
use crate::output::text;
use crate::state::format::WorkItem;
use crate::state::home::ProjectHome;
use crate::state::mailbox::Presence;
use crate::state::paths::RunDir;
use crate::state::run_lock::RunLock;
use crate::state::{durations, kept, shards, status, worklist};
use crate::worker::mounted::Mounting;

mod data;

/// The engine that flags and settings ask for.
pub(crate) fn chosen_engine(
    cli: &Cli,
    typed: &EngineArgs,
    settings: &Settings,
    scene: &Scene<'_>,
) -> Result<AnyEngine, Diagnostic> {
    let completed = typed.completed(settings)?;
    refuse_flags_of_others(cli, completed.engine.unwrap_or_default())?;
    if typed.engine.is_none() && completed.engine.unwrap_or_default() == EngineName::default() {
        refuse_left(scene.run)?;
    }
    completed.resolve(scene)
}

/// Refuses flags that were typed for another engine: whoever asks for memory of a node does not mean this machine.
fn refuse_flags_of_others(cli: &Cli, engine: EngineName) -> Result<(), Diagnostic> {
    let chosen = engine.to_possible_value();
    let chosen = chosen.as_ref().map_or("", |value| value.get_name());
    for section in EngineArgs::sections().into_iter().filter(|section| section.name != chosen) {
        let is_typed = |flag: &&str| cli.origins.get(flag) == Some(Origin::Flag);
        if let Some(flag) = section.flags.iter().filter_map(|flag| flag.get_long()).find(is_typed) {
            return Err(Diagnostic::usage(format!(
                "`--{flag}` is for {}, and the engine is `{chosen}`",
                section.called
            ))
            .hint(format!("say `--engine {}` as well, or leave it out", section.name)));
        }
    }
    Ok(())
}

/// Refuses to do here what Jobs of a cluster may be at.
fn refuse_left(run: &RunDir) -> Result<(), Diagnostic> {
    let Some(engine) = status::left_to(run)? else { return Ok(()) };
    Err(Diagnostic::usage(format!("run {} is left to the cluster: its Jobs may still be running", run.name()))
        .cause("commands would run here and there at the same time")
        .hint(format!("`--engine {engine}` watches them again; `dvc-fanout cancel {}` ends them", run.name()))
        .hint("`--engine local` does here all the same what has no result yet"))
}

pub(crate) fn run(cli: &Cli, args: &LaunchArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = store::open(&project, args.run.as_deref(), args.running.store.as_deref())?;
    if plan.work_items == 0 {
        text::note("nothing to do: no stage has changed");
        return Ok(Exit::Success);
    }
    let phases: Vec<usize> = match args.phase {
        Some(phase) if phase >= plan.phases.len() => {
            return Err(Diagnostic::usage(format!("there is no phase {phase}: the run has {}", plan.phases.len())));
        }
        Some(phase) => vec![phase],
        None => (0..plan.phases.len()).filter(|phase| !plan.phases[*phase].trailing).collect(),
    };
    base::check(&project, &run, &plan)?;
    let settings = Settings::read(&project.root)?;
    let running = settings.running(&args.running)?;
    let mailbox = store::mailbox(&run, &running)?;
    let scene = Scene { detach: args.detach, mailbox: mailbox.as_ref(), ..Scene::new(&project, &run, &plan, &running) };
    let mut engine = chosen_engine(cli, &args.engine, &settings, &scene)?;
    if args.dry_run {
        let items = worklist::read_all(&run)?;
        let work = Work { run: &run, plan: &plan, items: &items, phases: &phases, expected: &HashMap::new() };
        let before = shards::open(&run)?;
        engine::dry_run(work, &mut engine)?.iter().for_each(|manifest| text::result(manifest));
        for job in shards::open(&run)?.iter().filter(|job| !before.contains(job)) {
            fs::append_line(&run.printed(), job)?;
        }
        return Ok(Exit::Success);
    }
    let mut lock = hold(&run)?;
    overlap::refuse(&project, &run, &plan)?;
    kept::hold(&run)?;
    let items = prepare(&scene, &phases, &engine)?;
    if args.detach {
        let work = Work { run: &run, plan: &plan, items: &items, phases: &phases, expected: &HashMap::new() };
        match engine::hand_over(work, &mut engine, lock)? {
            HandedOver::Here(back) => lock = back,
            HandedOver::There(said) => {
                said.iter().for_each(|line| text::note(line));
                return Ok(Exit::Success);
            }
        }
    }
    let _lock = lock;
    let Launched { exit, .. } = start(cli, &scene, &phases, &items, &mut engine)?;
    if matches!(exit, Exit::Signal(_)) {
        kept::end(&run)?;
    } else if kept::leave(&run)? {
        text::note("what stages have left running stays until `dvc-fanout finalize` or `cancel`");
    }
    if cli.format == Format::Text {
        summary::print(&run, &plan, &summary::counts(&run, &plan, &phases)?)?;
    }
    differences::tell(&project, &run, &plan, exit)
}

/// Takes the lock of a run, from its first phase to its last; an earlier wish to cancel it is forgotten.
pub(crate) fn hold(run: &RunDir) -> Result<RunLock, Diagnostic> {
    let lock = RunLock::acquire(run)?;
    fs::remove(&run.cancel())?;
    fs::remove(&run.taken())?;
    signals::watch_for(run.cancel()).map_err(|error| cannot_listen(&error))?;
    Ok(lock)
}

/// Runs the work items of some phases that have no good result yet, but for those whose failure stands. Whoever calls
/// holds the lock of the run.
///
/// Also what `finalize` uses for the trailing phases.
pub(crate) fn launch(
    cli: &Cli,
    scene: &Scene<'_>,
    phases: &[usize],
    engine: &mut AnyEngine,
) -> Result<Launched, Diagnostic> {
    let items = prepare(scene, phases, engine)?;
    start(cli, scene, phases, &items, engine)
}

/// Reads the work items, refuses what the engine cannot do, and sees to the data that those of the phases need.
fn prepare(scene: &Scene<'_>, phases: &[usize], engine: &AnyEngine) -> Result<Vec<WorkItem>, Diagnostic> {
    let Scene { project, run, plan, .. } = *scene;
    let items = worklist::read_briefly(run)?;
    if !matches!(engine, AnyEngine::Local(_)) {
        // What was printed may be made now.
        fs::remove(&run.printed())?;
    }
    if scene.mailbox.is_some() || !matches!(engine, AnyEngine::Local(_)) {
        refuse_keeping(phases.iter().flat_map(|phase| &items[plan.phases[*phase].places()]))?;
    }
    data::pull(project, plan)?;
    // Where it was planned in another clone, that one has taken care of the remote.
    if scene.mailbox.is_none() || !fs::exists(&run.brought_here()) {
        data::check(project, phases.iter().flat_map(|phase| &items[plan.phases[*phase].places()]))?;
    }
    if let Some(mailbox) = scene.mailbox {
        store::post(mailbox, project, run, plan, &items)?;
    } else if fs::exists(&run.remote()) {
        store::push(project, run, &items)?;
    }
    Ok(items)
}

/// Refuses stages whose commands leave something running, where that is not on this machine.
fn refuse_keeping<'a>(mut items: impl Iterator<Item = &'a WorkItem>) -> Result<(), Diagnostic> {
    let Some(item) = items.find(|item| item.resources.keep_running == Some(true)) else { return Ok(()) };
    Err(Diagnostic::project(format!(
        "work item {} asks for `{KEEP_RUNNING}`, which is for this machine alone",
        item.id
    ))
    .cause("what a command leaves running elsewhere ends with its job, and nobody else reaches it")
    .hint("use `--engine local`, or start the service before the run and name its address in a file or a param"))
}

/// Runs work items that were read.
fn start(
    cli: &Cli,
    scene: &Scene<'_>,
    phases: &[usize],
    items: &[WorkItem],
    engine: &mut AnyEngine,
) -> Result<Launched, Diagnostic> {
    let Scene { project, run, plan, running, .. } = *scene;
    let must_mount = running.workspace == Some(WorkspaceKind::Mounted);
    if must_mount && matches!(engine, AnyEngine::Local(_)) && !scene.in_project {
        // The workers of this machine can do what this process can.
        Mounting::find(WorkspaceKind::Mounted, project, &plan.prefix)?;
    }
    let is_json = cli.format == Format::Json;
    let is_ci = env::read(env::CI).is_some();
    // A bar would be in the way of who types answers.
    let is_terminal = std::io::stderr().is_terminal() && running.stdin != Some(Stdin::Inherit);
    let style = Style::choose(running.quiet || is_json, is_terminal, is_ci);
    let expected = durations::before(&project.fanout(), &plan.run)?;
    let work = Work { run, plan, items, phases, expected: &expected };
    let presence = scene.mailbox.map(|mailbox| Presence::announce(mailbox, run)).transpose()?;
    let launched = engine::launch(work, Audience { style, prints_events: is_json }, engine);
    drop(presence);
    if let Some(mailbox) = scene.mailbox {
        store::note(mailbox, run)?;
    }
    launched
}
