//! `report`: what became of a run, for people, Jenkins, pull requests and monitoring.
//!
//! Everything is read from the run's folder: plan, worklist, journal and results. So it works after a crash, from
//! another terminal, and while the run is under way.

mod gather;
mod serve;

use std::io;
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
    match &args.output {
        Some(path) => {
            let at = cli.directory.as_deref().unwrap_or(Path::new("")).join(path);
            if at.is_dir() {
                return Err(Diagnostic::usage(format!("`{}` is a folder", path.display()))
                    .hint("name a file, such as `report.html`"));
            }
            fs::write_by(&at, |to| render(&report, cli.typed_format, to))?;
        }
        None => {
            let mut text = vec![];
            let rendered = render(&report, cli.typed_format, &mut text);
            rendered.map_err(|error| Diagnostic::internal("cannot render the report").source(&error))?;
            text::result(&String::from_utf8_lossy(&text));
        }
    }
    Ok(Exit::Success)
}

fn render(report: &Report, format: FormatArg, to: &mut dyn io::Write) -> io::Result<()> {
    match format {
        FormatArg::Text => to.write_all(rendered::text(report).as_bytes()),
        FormatArg::Json => rendered::json(report, to),
        FormatArg::Junit => rendered::junit(report, to),
        FormatArg::Markdown => to.write_all(rendered::markdown(report).as_bytes()),
        FormatArg::Html => rendered::html(report, Origin::File, to),
        FormatArg::Prometheus => to.write_all(rendered::prometheus(report).as_bytes()),
        FormatArg::Mermaid | FormatArg::Dot => Err(io::Error::other("a report has no such form")),
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
        fs::write_by(&folder.join(name), |to| render(&report, format, to))?;
    }
    Ok(())
}
