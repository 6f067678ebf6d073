//! What would go wrong without a word: looked for before anything is planned, and all of it by `plan --check`.
//!
//! | what | elsewhere |
//! |---|---|
//! | DVC's config has a path that its syntax cannot write | objects land elsewhere |
//! | a merge left a dep unresolved | conflict markers become inputs of stages |
//! | an out outside of the project | it stays on the worker |
//! | a cached out that git tracks | `dvc repro` refuses it after the stage has run; a worker does not notice |
//! | data of a `.dvc` file or frozen stage that is nowhere | the stages that need it fail after all others have run |
//!
//! Overlapping outs are refused with the graph.

use std::path::Path;

use super::Survey;
use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::cache::Cache;
use crate::adapters::git::Git;
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::changed::Expected;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::path::join;
use crate::dvc::pipeline::stage::{Out, Stage};
use crate::output::text::count;
use crate::state::format::PlanOptions;
use crate::state::home::ProjectHome;
use crate::state::paths::SlotDir;

/// Everything that is found, and the number of stages that may run.
pub(crate) fn look(
    home: &ProjectHome,
    targets: &[String],
    options: &PlanOptions,
) -> Result<(Vec<Diagnostic>, usize), Diagnostic> {
    if options.executor.is_always_dvc() {
        Dvc::find()?.version()?;
    }
    let survey = Survey::of(home, targets, options)?;
    Ok((find(home, &survey, options)?, survey.candidates.len()))
}

/// Fails with the first problem, and says how many there are.
pub(super) fn refuse(home: &ProjectHome, survey: &Survey, options: &PlanOptions) -> Result<(), Diagnostic> {
    let problems = find(home, survey, options)?;
    let others = problems.len().saturating_sub(1);
    match problems.into_iter().next() {
        None => Ok(()),
        Some(problem) if others == 0 => Err(problem),
        Some(problem) => {
            Err(problem.hint(format!("`dvc-fanout plan --check` lists {}", count(others, "more problem"))))
        }
    }
}

fn find(home: &ProjectHome, survey: &Survey, options: &PlanOptions) -> Result<Vec<Diagnostic>, Diagnostic> {
    let (git, prefix) = home.git()?;
    let mut problems = unmerged(&git, &prefix, survey)?;
    // As a worker of this machine will have it; one with a folder of its own says for itself what it cannot write.
    let workspace = SlotDir::new(&home.fanout().slots(), 0).workspace();
    problems.extend(home.worker_config(&workspace.join(&prefix)).err());
    let cache = Cache::new(&home.config.cache_dir);
    for candidate in &survey.candidates {
        let stage = &survey.project.stages[candidate.stage];
        let observation = survey.changes.observations[candidate.stage].as_ref();
        for (at, out) in stage.outs.iter().enumerate() {
            let inside = out.resolved.as_deref().filter(|path| path::is_inside(path));
            let Some(resolved) = inside else {
                problems.push(outside(stage, out));
                continue;
            };
            if out.cache && stage.cmd.is_some() && git.is_tracked(&join(&prefix, resolved))? {
                problems.push(tracked(stage, resolved));
            }
            let only_recorded = stage.cmd.is_none() || stage.frozen;
            if only_recorded && !options.pull && !options.allow_missing && !home.root.join(resolved).exists() {
                let recorded = observation.and_then(|seen| seen.outs.get(at)).and_then(|seen| seen.recorded.as_ref());
                problems.extend(recorded.and_then(|recorded| missing(home, &cache, stage, resolved, recorded)));
            }
        }
    }
    Ok(problems)
}

/// The deps of stages that may run in which a merge left conflict markers. Other states of a repository (a merge before
/// its commit, a rebase, a bisect) are no business of a run's.
fn unmerged(git: &Git, prefix: &str, survey: &Survey) -> Result<Vec<Diagnostic>, Diagnostic> {
    let unmerged = git.unmerged()?;
    if unmerged.is_empty() {
        return Ok(vec![]);
    }
    let mut problems = vec![];
    for candidate in &survey.candidates {
        let stage = &survey.project.stages[candidate.stage];
        let deps = stage.deps.iter().filter_map(|dep| dep.resolved.as_deref());
        for dep in deps.chain(stage.params.iter().map(|params| params.resolved.as_str())) {
            let dep = join(prefix, dep);
            if let Some(path) = unmerged.iter().find(|path| path::is_within(path, &dep)) {
                problems.push(conflicted(stage, path));
            }
        }
    }
    Ok(problems)
}

fn conflicted(stage: &Stage, dep: &str) -> Diagnostic {
    Diagnostic::project(format!("a merge left conflicts in `{dep}`, a dep of stage `{}`", stage.address))
        .at(place(stage))
        .cause("the stage would take the conflict markers for data")
        .hint(format!("resolve them and run `git add '{dep}'`, then plan again"))
}

fn place(stage: &Stage) -> Place {
    Place { path: stage.file.clone(), line: Some(stage.line), column: None }
}

fn outside(stage: &Stage, out: &Out) -> Diagnostic {
    Diagnostic::project(format!("stage `{}` has an out outside of the project: `{}`", stage.address, out.path))
        .at(place(stage))
        .cause("workers run in workspaces of their own, from which only what lies in the project comes back")
        .hint("run this stage with `dvc repro`")
}

fn tracked(stage: &Stage, out: &str) -> Diagnostic {
    Diagnostic::project(format!("git tracks `{out}`, a cached out of stage `{}`", stage.address))
        .at(place(stage))
        .cause("DVC refuses to save such an out, after the stage has run")
        .hint(format!("run `git rm -r --cached '{out}'` and commit that, or declare the out with `cache: false`"))
}

/// Says that data is nowhere; `None` where the cache has it, or a remote has or may have it: then it is for
/// `dvc checkout` or `dvc pull`, and the stages that do not need it run.
fn missing(home: &ProjectHome, cache: &Cache, stage: &Stage, path: &str, recorded: &Expected) -> Option<Diagnostic> {
    let is_in = |cache: &Cache| recorded.object().is_some_and(|object| cache.has(object));
    let may_have = |url: &str| !Path::new(url).is_absolute() || is_in(&Cache::new(url));
    if is_in(cache) || home.config.remotes.values().any(|url| may_have(url)) {
        return None;
    }
    let problem = Diagnostic::project(format!("the data of `{}` is missing: `{path}`", stage.address))
        .at(place(stage))
        .cause(format!("neither the workspace nor the cache nor a remote has md5 {}", recorded.md5));
    Some(problem.hint("bring it back, or configure the remote that has it (`dvc remote add`)"))
}
