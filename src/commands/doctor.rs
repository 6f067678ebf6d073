//! `doctor`: looks at everything that a run rests on, and says what to do about what is missing.

use std::path::{Path, PathBuf};

use crate::adapters::dvc::files::DiskFiles;
use crate::adapters::dvc::links;
use crate::adapters::dvc::{Dvc, DvcError};
use crate::adapters::{fs, machine};
use crate::cli::{Cli, DoctorArgs, Format};
use crate::commands::settings::{self, Settings};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::project::Project;
use crate::engine::launch::block_on;
use crate::env;
use crate::exit::Exit;
use crate::output::checkup::{self, Finding};
use crate::output::text::{self, count};
use crate::state::home::ProjectHome;
use crate::state::{journal, worklist};
use crate::worker::mounted::{self, Mounting};

/// Below this, a disk counts as nearly full.
const LITTLE_SPACE: u64 = 1 << 30;

pub(crate) fn run(cli: &Cli, args: &DoctorArgs) -> Exit {
    let mut findings = vec![program(), dvc(), this_machine()];
    match ProjectHome::find(cli.directory.as_deref()) {
        Ok(home) => findings.extend(project(args, &home)),
        Err(error) => findings.push(Finding::bad("project", error)),
    }
    match cli.format {
        Format::Text => text::result(&checkup::text(&findings)),
        Format::Json => text::result(&checkup::json(&findings)),
    }
    let is_bad = findings.iter().any(|finding| matches!(finding, Finding::Bad { .. }));
    if is_bad { Exit::Project } else { Exit::Success }
}

fn program() -> Finding {
    let kubernetes = if cfg!(feature = "kubernetes") { "" } else { ", built without Kubernetes" };
    Finding::good("dvc-fanout", format!("{}{kubernetes}", env!("CARGO_PKG_VERSION")))
}

fn dvc() -> Finding {
    let found = Dvc::find().and_then(|dvc| Ok((dvc.version()?, dvc)));
    match found {
        Ok((version, dvc)) => {
            let found = format!("{version} at {}", dvc.path().display());
            if dvc.script().is_some() {
                return Finding::good("dvc", found);
            }
            let why = "DVC starts anew for each work item, and is not kept from damaging an object that two of them cache at once";
            let hint = format!(
                "it is not the script that installers write, so {why}: set {} to that script",
                env::DVC_FANOUT_DVC
            );
            Finding::note("dvc", found, hint)
        }
        Err(error @ (DvcError::NotFound | DvcError::NoProgram(_))) => {
            let hint = "stages that only DVC can do fail without it: install DVC 3, or set DVC_FANOUT_DVC to its path";
            Finding::note("dvc", error.to_string(), hint.to_owned())
        }
        Err(error) => Finding::bad("dvc", error.into()),
    }
}

fn this_machine() -> Finding {
    let cpus = std::thread::available_parallelism().map_or(1, Into::into);
    let gpus = machine::gpus();
    let gpus = if gpus.is_empty() { "no GPU".to_owned() } else { count(gpus.len(), "GPU") };
    Finding::good("machine", format!("{}, {} MiB of memory, {gpus}", count(cpus, "CPU"), machine::memory_mib()))
}

/// What can be said of a project that was found.
fn project(args: &DoctorArgs, home: &ProjectHome) -> Vec<Finding> {
    let mut findings = vec![folder(home), git(home), pipelines(home)];
    findings.extend(cache(home));
    findings.push(workspaces(home));
    findings.push(remotes(home));
    match Settings::read(&home.root) {
        Ok(settings) => {
            findings.push(configuration(&settings));
            findings.extend(clusters(args, &settings, home));
        }
        Err(error) => findings.push(Finding::bad("settings", error)),
    }
    findings.push(runs(home));
    findings
}

fn git(home: &ProjectHome) -> Finding {
    let state = || -> Result<String, Diagnostic> {
        let (git, prefix) = home.git()?;
        if !git.is_there() {
            return Ok("none, as `core.no_scm` says".to_owned());
        }
        let head = git.head()?.map_or_else(|| "no commit yet".to_owned(), |head| format!("at {}", &head[..12]));
        let inside = if prefix.is_empty() { String::new() } else { format!(", the project in `{prefix}`") };
        // Without the slash that git has at its end.
        Ok(format!("{}, {head}{inside}", git.workdir().components().as_path().display()))
    };
    state().map_or_else(|error| Finding::bad("git", error), |found| Finding::good("git", found))
}

fn pipelines(home: &ProjectHome) -> Finding {
    let load = || -> Result<Project, Diagnostic> {
        let files = DiskFiles::open(&home.root, home.config.no_scm)?;
        let project = Project::load(&files, &home.config)?;
        Graph::build(&project)?;
        Ok(project)
    };
    match load() {
        Ok(project) => {
            let map = project.stages.iter().filter(|stage| stage.is_map()).count();
            let found = format!("{}, {map} of them from foreach or matrix", count(project.stages.len(), "stage"));
            if map > 0 {
                return Finding::good("pipelines", found);
            }
            Finding::note("pipelines", found, "only foreach and matrix stages fan out".to_owned())
        }
        Err(error) => Finding::bad("pipelines", error),
    }
}

/// The cache, how outs come from it, and the room on its disk.
fn cache(home: &ProjectHome) -> Vec<Finding> {
    let cache = PathBuf::from(&home.config.cache_dir);
    // DVC makes it with the first object.
    let place = cache.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let names =
        |types: &[crate::dvc::config::LinkType]| types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    let wanted = names(&home.config.cache_types);
    let links = match links::working(place, &home.root.join(".dvc"), &home.config.cache_types) {
        Ok(working) if working.is_empty() => Finding::bad(
            "cache",
            Diagnostic::project(format!("none of the link types {wanted} works from `{}`", cache.display()))
                .cause("cache and project are on different file systems, or theirs cannot do it")
                .hint("add `copy`: `dvc config cache.type 'reflink,copy'`"),
        ),
        Ok(working) => {
            Finding::good("cache", format!("{}; outs come from it by {}", cache.display(), working[0].name()))
        }
        Err(error) => Finding::bad("cache", error.into()),
    };
    let mut findings = vec![links];
    if let Some(free) = links::free_bytes(place) {
        let found = format!("{} MiB are free", text::grouped(usize::try_from(free >> 20).unwrap_or(usize::MAX)));
        findings.push(if free < LITTLE_SPACE {
            Finding::note("disk", found, "`dvc gc` removes what nothing needs any more".to_owned())
        } else {
            Finding::good("disk", found)
        });
    }
    findings
}

/// Where commands see the workspaces that they run in.
fn workspaces(home: &ProjectHome) -> Finding {
    let possible = home.git().map_err(|error| error.one_line()).and_then(|(_, prefix)| {
        Mounting::possible(home, &prefix, false)?;
        Ok(format!("commands see them at the project's own path, {}", mounted::means()))
    });
    let beside = |why: String| format!("commands see them at paths of their own, since mounts are not possible: {why}");
    Finding::good("workspaces", possible.unwrap_or_else(beside))
}

/// Whether results can be brought into the project.
fn folder(home: &ProjectHome) -> Finding {
    match fs::temporary_dir(&home.root) {
        Ok(_) => Finding::good("project", home.root.display().to_string()),
        Err(error) => Finding::bad(
            "project",
            Diagnostic::project(format!("`{}` cannot be written to", home.root.display()))
                .source(&error)
                .hint("results could not be brought there: make it writable for this user"),
        ),
    }
}

fn remotes(home: &ProjectHome) -> Finding {
    let names: Vec<&str> = home.config.remotes.keys().map(String::as_str).collect();
    Finding::good("remotes", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
}

fn configuration(settings: &Settings) -> Finding {
    match settings.requests() {
        Err(error) => Finding::bad("settings", error),
        Ok(_) if settings.is_empty() => Finding::good("settings", format!("no {}", settings::FILE)),
        Ok(_) => Finding::good("settings", settings::FILE.to_owned()),
    }
}

/// The clusters that are configured or asked for.
fn clusters(args: &DoctorArgs, settings: &Settings, home: &ProjectHome) -> Vec<Finding> {
    let look = || -> Result<Vec<Finding>, Diagnostic> {
        let flags = args.engine.completed(settings)?;
        let found = block_on(async { Ok(flags.examine(home, |section| settings.has(section)).await) })?;
        let finding = |(engine, said): (&str, Result<String, Diagnostic>)| match said {
            Ok(said) => Finding::good("cluster", said),
            Err(error) => Finding::bad("cluster", error.detail(format!("looked at for {engine}"))),
        };
        Ok(found.into_iter().map(finding).collect())
    };
    look().unwrap_or_else(|error| vec![Finding::bad("cluster", error)])
}

fn runs(home: &ProjectHome) -> Finding {
    let look = || -> Result<Finding, Diagnostic> {
        let fanout = home.fanout();
        let all = worklist::runs(&fanout)?;
        let Some(last) = all.last() else { return Ok(Finding::good("runs", "none yet".to_owned())) };
        let lines = journal::read(&fanout.run(last))?;
        let is_over = lines.iter().any(|line| matches!(line.event, journal::Journaled::Finalized { .. }));
        let (run, plan) = worklist::open(&fanout, Some(last))?;
        let found = count(all.len(), "run");
        if is_over || plan.work_items == 0 || lines.is_empty() {
            return Ok(Finding::good("runs", found));
        }
        let hint = format!("`dvc-fanout run` resumes {}; `dvc-fanout status` shows how far it is", run.name());
        Ok(Finding::note("runs", format!("{found}; the last is not over"), hint))
    };
    look().unwrap_or_else(|error| Finding::bad("runs", error))
}
