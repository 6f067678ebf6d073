//! `plan`: what would run and why, shown and written down.

use crate::cli::settings::PlanningArgs;
use crate::cli::{Cli, Format, FormatArg, OtherReproArgs, PlanArgs, SelectionArgs};
use crate::commands::earlier;
use crate::commands::settings::Settings;
use crate::diagnostic::Diagnostic;
use crate::engine::args::RunningArgs;
use crate::exit::Exit;
use crate::model::requests::ByStage;
use crate::output::text::{self, count};
use crate::plan::estimate::Estimate;
use crate::plan::report::Report;
use crate::plan::{self, Planned, preflight};
use crate::state::format::PlanOptions;
use crate::state::home::ProjectHome;
use crate::state::{durations, kept, worklist};

pub(crate) fn run(cli: &Cli, args: &PlanArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let settings = Settings::read(&project.root)?;
    let options = resolve(&project, &settings, &args.selection)?;
    if args.check {
        return check(cli, &project, &args.selection.targets, &options);
    }
    let (survey, planned) = plan::make_and_keep(&project, &args.selection.targets, options, settings.requests()?)?;
    worklist::remove_empty_before(&project.fanout(), &planned.plan.run)?;
    kept::end_earlier(&project.fanout(), &planned.plan.run)?;
    earlier::tell(&project, &planned.plan)?;
    let report =
        Report::of(&survey, &planned, estimate(&project, &settings.running(&RunningArgs::default())?, &planned)?);
    match (cli.typed_format, &args.explain) {
        (FormatArg::Text, None) => text::result(&report.text()),
        (FormatArg::Text, Some(item)) => text::result(&report.explanation(item)?),
        (FormatArg::Json, _) => text::result(&report.json()),
        (FormatArg::Mermaid, _) => text::result(&report.picture().mermaid()),
        (FormatArg::Dot, _) => text::result(&report.picture().dot()),
        (FormatArg::Junit | FormatArg::Markdown | FormatArg::Html | FormatArg::Prometheus, _) => {
            return Err(Diagnostic::internal("a plan has no such form"));
        }
    }
    let exit = if args.exit_code && planned.plan.work_items > 0 { Exit::SomethingToDo } else { Exit::Success };
    Ok(exit)
}

/// `run --dry`: shows the plan and takes it back.
pub(super) fn dry(
    cli: &Cli,
    project: &ProjectHome,
    targets: &[String],
    options: PlanOptions,
    requests: ByStage,
    running: &RunningArgs,
) -> Result<Exit, Diagnostic> {
    let (survey, planned) = plan::make_and_keep(project, targets, options, requests)?;
    let report = Report::of(&survey, &planned, estimate(project, running, &planned)?);
    match cli.format {
        Format::Text => text::result(&report.text()),
        Format::Json => text::result(&report.json()),
    }
    worklist::remove(&planned.run)?;
    Ok(Exit::Success)
}

/// What the run will take here, by earlier ones.
fn estimate(project: &ProjectHome, running: &RunningArgs, planned: &Planned) -> Result<Option<Estimate>, Diagnostic> {
    let before = durations::before(&project.fanout(), &planned.plan.run)?;
    Ok(Estimate::of(&planned.items, &before, running.slots()))
}

/// What was meant by the flags that say which stages are planned and how they run.
pub(crate) fn resolve(
    project: &ProjectHome,
    settings: &Settings,
    args: &SelectionArgs,
) -> Result<PlanOptions, Diagnostic> {
    refuse_others(&args.others)?;
    let PlanningArgs { over, allow_missing_keys, max_items, carry, executor } = settings.planning(&args.planning)?;
    Ok(PlanOptions {
        over,
        force: args.force,
        single_item: args.single_item,
        pipeline: args.pipeline,
        all_pipelines: args.all_pipelines,
        recursive: args.recursive,
        downstream: args.downstream,
        glob: args.glob,
        no_run_cache: args.no_run_cache,
        pull: args.pull,
        allow_missing: args.allow_missing,
        executor: executor.unwrap_or_default(),
        allow_missing_keys,
        max_items,
        carry,
        cwd: project.cwd.clone(),
    })
}

/// Says of flags that only `dvc repro` has what does the same, or comes near to it.
fn refuse_others(args: &OtherReproArgs) -> Result<(), Diagnostic> {
    let others = [
        (
            args.force_downstream,
            "--force-downstream",
            "whether a stage has run is known only when the work items that need it are planned already",
            "name the stages that changed: `--force --downstream STAGE…`",
        ),
        (
            args.ignore_errors,
            "--ignore-errors",
            "a work item does not start before what it needs is there",
            "stages that need no failed one run anyway; `--allow-missing-keys` lets stages that gather keys run without some",
        ),
        (
            args.no_commit,
            "--no-commit",
            "outs come from workers to the project through the cache",
            "use `--single-item` of `dvc repro --no-commit` for one stage at a time",
        ),
        (
            args.interactive,
            "--interactive",
            "workers have no terminal to ask at",
            "see what would run with `dvc-fanout plan`, then name the stages that are to run as targets",
        ),
    ];
    match others.into_iter().find(|(is_given, ..)| *is_given) {
        None => Ok(()),
        Some((_, flag, cause, hint)) => {
            Err(Diagnostic::usage(format!("`{flag}` is for `dvc repro`")).cause(cause).hint(hint))
        }
    }
}

/// `plan --check`: reports everything that is found.
fn check(cli: &Cli, home: &ProjectHome, targets: &[String], options: &PlanOptions) -> Result<Exit, Diagnostic> {
    let (problems, stages) = preflight::look(home, targets, options)?;
    match cli.format {
        Format::Json => {
            let problems: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
            text::result(&serde_json::json!({"version": 1, "problems": problems}).to_string());
        }
        Format::Text => {
            problems.iter().for_each(text::error);
            if problems.is_empty() {
                let stages = count(stages, "stage");
                text::result(&format!("no problem was found: {stages} may run"));
            }
        }
    }
    Ok(if problems.is_empty() { Exit::Success } else { Exit::Project })
}
