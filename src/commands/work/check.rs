//! `work --check`: whether this machine sees all that work items need. Run in one pod before any work is.

use std::path::{Path, PathBuf};

use crate::adapters::dvc::Dvc;
use crate::adapters::git::Store;
use crate::adapters::{clock, fs, process};
use crate::cli::work::WorkArgs;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::output::text;
use crate::state::home::ProjectHome;
use crate::state::mailbox::Site;
use crate::state::worklist;

/// Fails with what is wrong; leaves a file in the run's directory that the launcher looks for.
pub(super) fn run(project: &ProjectHome, args: &WorkArgs, site: Option<&Site>) -> Result<Exit, Diagnostic> {
    let (run, plan) = worklist::open(&project.fanout(), args.run.as_deref())?;
    if plan.options.executor.is_always_dvc() || site.is_some() {
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
    let scratch = args.scratch.clone().unwrap_or_else(|| project.fanout().slots());
    fs::create_dir(&scratch).map_err(|error| not_writable("the scratch space", &scratch, &error))?;
    write_into("the scratch space", &scratch)?;
    let name = args.job.as_deref().unwrap_or_default();
    let seen = run.check(name);
    let report = format!("{} on {}\n", clock::now(), process::host());
    fs::write(&seen, report.as_bytes()).map_err(|error| not_writable("the run's directory", run.path(), &error))?;
    if let Some(site) = site {
        site.send_check(name, &report)?;
        text::note(&format!("everything that work items need comes from `{}` and goes there", site.url()));
        return Ok(Exit::Success);
    }
    text::note(&format!(
        "everything that work items need is visible here: `{}`, `{}`",
        project.root.display(),
        cache.display()
    ));
    Ok(Exit::Success)
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
