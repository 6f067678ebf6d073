//! Whether a machine sees all that work items need: `work --check` in one pod before any work is, `--check-first` in the
//! tasks of a job array until one of them has seen it.

use std::path::{Path, PathBuf};

use crate::adapters::dvc::Dvc;
use crate::adapters::git::Store;
use crate::adapters::{clock, fs, process};
use crate::cli::work::WorkArgs;
use crate::commands::work::WorkConfig;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::output::text;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::mailbox::Site;
use crate::state::paths::RunDir;
use crate::state::worklist;

/// Fails with what is wrong; leaves a file in the run's directory that the launcher looks for.
pub(super) fn run(project: &ProjectHome, args: &WorkArgs, site: Option<&Site>) -> Result<Exit, Diagnostic> {
    let (run, plan) = worklist::open(&project.fanout(), args.run.as_deref())?;
    let scratch = args.scratch.clone().unwrap_or_else(|| project.fanout().slots());
    let report = see(project, &run, &plan, args, &scratch, site.is_some())?;
    if let Some(site) = site {
        site.send_check(args.job.as_deref().unwrap_or_default(), &report)?;
        text::note(&format!("everything that work items need comes from `{}` and goes there", site.url()));
        return Ok(Exit::Success);
    }
    text::note(&format!(
        "everything that work items need is visible here: `{}`, `{}`",
        project.root.display(),
        project.config.cache_dir
    ));
    Ok(Exit::Success)
}

/// The same before a worker begins anything, unless another one of its job has seen it all.
pub(super) fn first(
    project: &ProjectHome,
    config: &WorkConfig,
    args: &WorkArgs,
    scratch: &Path,
) -> Result<(), Diagnostic> {
    if fs::exists(&config.run.check(args.job.as_deref().unwrap_or_default())) {
        return Ok(());
    }
    see(project, &config.run, &config.plan, args, scratch, config.site.is_some()).map(drop)
}

/// Fails with what is not seen here, or cannot be written to; returns what it has left in the run's directory.
fn see(
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    args: &WorkArgs,
    scratch: &Path,
    is_over_store: bool,
) -> Result<String, Diagnostic> {
    if plan.options.executor.is_always_dvc() || is_over_store {
        Dvc::find()?;
    }
    if let Some(commit) = &plan.snapshot {
        let store = Store::open(&run.snapshot())?;
        store.look_for(commit).map_err(|error| {
            Diagnostic::project("the snapshot of the workspace, or what it borrows from git, is not seen here")
                .source(&error)
        })?;
    }
    let cache = Path::new(&project.config.cache_dir);
    if !cache.is_dir() {
        fs::create_dir(cache).map_err(|error| not_writable("DVC's cache", cache, &error))?;
    }
    write_into("DVC's cache", cache)?;
    fs::create_dir(scratch).map_err(|error| not_writable("the scratch space", scratch, &error))?;
    write_into("the scratch space", scratch)?;
    let seen = run.check(args.job.as_deref().unwrap_or_default());
    let report = format!("{} on {}\n", clock::now(), process::host());
    fs::write(&seen, report.as_bytes()).map_err(|error| not_writable("the run's directory", run.path(), &error))?;
    Ok(report)
}

fn write_into(what: &str, directory: &Path) -> Result<(), Diagnostic> {
    let file: PathBuf = directory.join(format!(".dvc-fanout-check-{}-{}", process::host(), std::process::id()));
    fs::write(&file, b"").and_then(|()| fs::remove(&file)).map_err(|error| not_writable(what, directory, &error))
}

fn not_writable(what: &str, directory: &Path, error: &fs::FsError) -> Diagnostic {
    Diagnostic::project(format!("{what} `{}` cannot be written to", directory.display()))
        .source(error)
        .hint("run workers as the user who owns it (`--run-as`), or mount it without `:ro`")
}
