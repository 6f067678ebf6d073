//! `plan`: what would run and why, shown and written down.

use crate::cli::settings::PlanningArgs;
use crate::cli::{Cli, Format, FormatArg, PlanArgs, SelectionArgs};
use crate::commands::settings::Settings;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::output::text::{self, count};
use crate::plan::report::Report;
use crate::plan::{self, preflight};
use crate::state::format::PlanOptions;
use crate::state::home::ProjectHome;

pub(crate) fn run(cli: &Cli, args: &PlanArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let settings = Settings::read(&project.root)?;
    let options = resolve(&project, &settings, &args.selection)?;
    if args.check {
        return check(cli, &project, &args.selection.targets, &options);
    }
    let (survey, planned) = plan::make_and_keep(&project, &args.selection.targets, options, settings.hints()?)?;
    let report = Report::of(&survey, &planned);
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

/// What was meant by the flags that say which stages are planned and how they run.
pub(crate) fn resolve(
    project: &ProjectHome,
    settings: &Settings,
    args: &SelectionArgs,
) -> Result<PlanOptions, Diagnostic> {
    let PlanningArgs { over, allow_missing_keys, max_items, carry } = settings.planning(&args.planning)?;
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
        allow_missing_keys,
        max_items,
        carry,
        cwd: project.cwd.clone(),
    })
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
