//! `report`: what became of a run, for people, Jenkins, pull requests and monitoring.
//!
//! Everything is read from the run's folder: plan, worklist, journal and results. So it works after a crash, from
//! another terminal, and while the run is under way.

mod gather;
mod serve;

use std::path::Path;

use crate::adapters::fs;
use crate::cli::{Cli, FormatArg, ReportArgs};
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::report::Report;
use crate::output::report::{self as rendered, Origin};
use crate::output::text;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;

pub(crate) fn run(cli: &Cli, args: &ReportArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    if let Some(at) = args.serve {
        return serve::run(project, args, at);
    }
    let (run, plan) = store::open_to_show(&project, args.run.as_deref(), args.elsewhere.store.as_deref())?;
    let report = gather::gather(&run, &plan)?;
    let rendered = render(&report, cli.typed_format)?;
    match &args.output {
        Some(path) => {
            let at = cli.directory.as_deref().unwrap_or(Path::new("")).join(path);
            fs::write(&at, rendered.as_bytes())?;
        }
        None => text::result(&rendered),
    }
    Ok(Exit::Success)
}

fn render(report: &Report, format: FormatArg) -> Result<String, Diagnostic> {
    match format {
        FormatArg::Text => Ok(rendered::text(report)),
        FormatArg::Json => Ok(rendered::json(report)),
        FormatArg::Junit => Ok(rendered::junit(report)),
        FormatArg::Markdown => Ok(rendered::markdown(report)),
        FormatArg::Html => Ok(rendered::html(report, Origin::File)),
        FormatArg::Prometheus => Ok(rendered::prometheus(report)),
        FormatArg::Mermaid | FormatArg::Dot => Err(Diagnostic::internal("a report has no such form")),
    }
}

/// Writes the report of a run into its folder, in every format.
pub(crate) fn write(run: &RunDir, plan: &Plan) -> Result<(), Diagnostic> {
    let report = gather::gather(run, plan)?;
    let folder = run.report();
    fs::create_dir(&folder)?;
    for (name, format) in [
        ("report.json", FormatArg::Json),
        ("junit.xml", FormatArg::Junit),
        ("report.md", FormatArg::Markdown),
        ("report.html", FormatArg::Html),
        ("metrics.prom", FormatArg::Prometheus),
    ] {
        fs::write(&folder.join(name), render(&report, format)?.as_bytes())?;
    }
    Ok(())
}
