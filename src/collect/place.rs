//! Brings outs into the project as DVC would have left them: those of stages that ran, linked from the cache, with what the
//! cache does not record of them; and what stages left that did not come to a good end.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;

use rayon::prelude::*;

use crate::adapters::beneath::Beneath;
use crate::adapters::dvc::files::DiskFiles;
use crate::adapters::dvc::place::{CachedOut, Placing, make_empty, place_cached};
use crate::adapters::dvc::state::Known;
use crate::adapters::dvc::store::Store;
use crate::adapters::fs::{self, FoundKind};
use crate::collect::{is_there_already, relink, tell_dvc};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::ignore::DvcIgnore;
use crate::dvc::pipeline::path::is_within;
use crate::model::collection::Rejected;
use crate::model::run::StageState;
use crate::state::decided::Decided;
use crate::state::format::{Plan, PlannedOut, PlannedStage, ResultFile, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::published::Published;
use crate::state::results;

/// Of how many work items DVC is told at once.
const AT_ONCE: usize = 10_000;

/// Brings the outs of work items into the project, but for those of results that were rejected; tells DVC what came.
pub(crate) fn outs(
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    items: &[WorkItem],
    rejected: &[Rejected],
) -> Result<(), Diagnostic> {
    let (root, pull) = (&project.root, plan.options.pull);
    // What was pulled, and what another clone of the project never had.
    let brings_missing = pull || fs::exists(&run.brought_here());
    let store = Store::of(&project.config);
    let decided = Decided::read(run)?;
    let rejected: HashSet<_> = rejected.iter().map(|rejected| (rejected.index, rejected.attempt)).collect();
    let place = |item: &WorkItem| -> Result<Known, Diagnostic> {
        let mut known = Known::default();
        let Some(published) = results::best(run, item.index)? else { return Ok(known) };
        if is_there_already(plan, item, &published) {
            return Ok(known);
        }
        if rejected.contains(&(item.index, published.result.attempt)) {
            return Ok(known);
        }
        for planned in &item.stages {
            let state = published.result.stages.iter().find(|stage| stage.address == planned.address);
            let entry = state.and_then(|stage| stage.entry.as_deref());
            if entry.is_some_and(|entry| decided.keeps_stage(&planned.address, entry)) {
                continue;
            }
            match state.map(|stage| stage.state) {
                Some(StageState::Ran) if planned.records => relink::outs(root, &store, planned, &published)?,
                _ if planned.records && !pull => {}
                Some(StageState::Ran | StageState::Restored) => {
                    place_stage(project, run, planned, &published, &mut known)?;
                }
                Some(StageState::Unchanged) if brings_missing => {
                    if planned.outs.iter().any(|out| !fs::exists(&root.join(&out.resolved))) {
                        place_stage(project, run, planned, &published, &mut known)?;
                    }
                }
                // DVC removes the outs of a stage before it runs it; what the cache has is not lost.
                Some(StageState::Failed) => {
                    remove_outs(root, planned, &published)?;
                    leave_partial(root, run, planned, &published)?;
                }
                Some(StageState::Unchanged | StageState::NotRun) | None => {}
            }
        }
        make_beside(root, &published)?;
        set_modes_beside(root, item, &published)?;
        leave_persisted(project, run, item, &published)?;
        Ok(known)
    };
    for some in items.chunks(AT_ONCE) {
        let known = some.par_iter().map(place).try_reduce(Known::default, |a, b| Ok(a.and(b)))?;
        tell_dvc::tell(project, &known);
    }
    Ok(())
}

/// Leaves what stages that did not come to a good end made of outs that persist, as `dvc repro` would have: a stage that is
/// run again goes on from there.
pub(crate) fn persisted(project: &ProjectHome, run: &RunDir, items: &[WorkItem]) -> Result<(), Diagnostic> {
    for item in items.iter().filter(|item| item.stages.iter().flat_map(|stage| &stage.outs).any(|out| out.persist)) {
        if let Some(published) = results::best(run, item.index)? {
            leave_persisted(project, run, item, &published)?;
        }
    }
    Ok(())
}

fn place_stage(
    project: &ProjectHome,
    run: &RunDir,
    planned: &PlannedStage,
    published: &Published,
    known: &mut Known,
) -> Result<(), Diagnostic> {
    let root = &project.root;
    let placing = Placing { cache: Path::new(&project.config.cache_dir), links: &project.config.cache_types };
    let (executable, empty) = (published.executable_of(&planned.address), published.empty_of(&planned.address));
    let own = published.own_of(&planned.address);
    for out in &planned.outs {
        let recorded = published.recorded_out(&planned.address, &out.path);
        if let (true, Some(recorded)) = (out.cache, &recorded) {
            let Some(md5) = &recorded.md5 else { continue };
            clear(project, out)?;
            let legacy = recorded.hash.is_none();
            let (path, isexec) = (out.resolved.as_str(), recorded.isexec);
            let object = CachedOut { path, md5, legacy, isexec, executable, empty, own };
            place_cached(root, &object, None, &placing)?;
            let tree = Beneath::open(root)?;
            for file in published.hidden_of(&planned.address, &out.resolved, None) {
                put(&tree, run, published, file)?;
            }
            tell_dvc::look(project, out, recorded, known)?;
        } else if !out.cache && is_free_or_directory(&root.join(&out.resolved)) {
            make_empty(root, &out.resolved, None, empty)?;
        }
        published.set_modes(root, &out.resolved)?;
    }
    Ok(())
}

fn is_free_or_directory(path: &Path) -> bool {
    path.is_dir() || !fs::exists(path)
}

/// Makes new directories beside outs that have nothing in them; what is there stays.
fn make_beside(root: &Path, published: &Published) -> Result<(), Diagnostic> {
    if published.result.empty.is_empty() {
        return Ok(());
    }
    let tree = Beneath::open(root)?;
    for directory in &published.result.empty {
        match tree.make_directory(&directory.path, directory.mode) {
            // Something else is where it, or a directory above it, would be.
            Err(error) if error.source.kind() == ErrorKind::NotADirectory => {}
            made => made?,
        }
    }
    Ok(())
}

/// Gives new directories beside outs the modes that they were made with, as long as nothing else is in them.
fn set_modes_beside(root: &Path, item: &WorkItem, published: &Published) -> Result<(), Diagnostic> {
    let files = published.result.files.iter().map(|file| file.path.as_str());
    let own: HashSet<&str> = files.chain(published.result.ignore.iter().map(|lines| lines.path.as_str())).collect();
    let outs: Vec<&PlannedOut> = item.stages.iter().flat_map(|stage| &stage.outs).collect();
    let is_of_this = |path: &str| own.contains(path) || outs.iter().any(|out| is_within(path, &out.resolved));
    let is_own = |directory: &str| {
        let found = fs::walk(&root.join(directory), &|_| false)?;
        let files = found.iter().filter(|found| found.kind != FoundKind::Directory);
        Ok::<_, fs::FsError>(files.map(|found| format!("{directory}/{}", found.path)).all(|path| is_of_this(&path)))
    };
    for directory in &published.result.modes {
        let at = root.join(&directory.path);
        if at.is_dir() && !at.is_symlink() && is_own(&directory.path)? {
            fs::set_directory_mode(&at, directory.mode)?;
        }
    }
    Ok(())
}

/// Makes room for an out. In one that persists, what DVC does not see stays: it is the user's.
fn clear(project: &ProjectHome, out: &PlannedOut) -> Result<(), Diagnostic> {
    let at = project.root.join(&out.resolved);
    if !out.persist || at.is_symlink() || !at.is_dir() {
        return Ok(fs::remove(&at)?);
    }
    let files = DiskFiles::open(&project.root, project.config.no_scm)?;
    let ignore = DvcIgnore::new(&files);
    let is_ignored = |path: &str, is_dir: bool| {
        let ignored = ignore.ignored_by(path, is_dir);
        ignored.map(|rule| rule.is_some()).map_err(|error| Diagnostic::project(error.to_string()))
    };
    let mut hidden: Vec<String> = vec![];
    let mut directories = vec![];
    for found in fs::walk(&at, &|_| false)? {
        let path = format!("{}/{}", out.resolved, found.path);
        let is_dir = found.kind == FoundKind::Directory;
        if hidden.iter().any(|above| is_within(&path, above)) || is_ignored(&path, is_dir)? {
            hidden.push(path);
        } else if is_dir {
            directories.push(path);
        } else {
            fs::remove(&project.root.join(&path))?;
        }
    }
    directories.sort_unstable();
    directories.iter().rev().try_for_each(|path| fs::remove_if_empty(&project.root.join(path)))?;
    Ok(())
}

fn remove_outs(root: &Path, planned: &PlannedStage, published: &Published) -> Result<(), Diagnostic> {
    // What no entry records the cache may not have: it goes only where the stage has left something else.
    let has_left = |out: &PlannedOut| {
        let own = |file: &&ResultFile| file.stage.as_ref() == Some(&planned.address);
        published.result.partial.iter().filter(own).any(|file| is_within(&file.path, &out.resolved))
    };
    let goes = |out: &&PlannedOut| out.cache && !out.persist && (planned.base.is_some() || has_left(out));
    for out in planned.outs.iter().filter(goes) {
        fs::remove(&root.join(&out.resolved))?;
    }
    // What nobody keeps a copy of goes only if it is still what the plan saw.
    for file in planned.outs.iter().filter(|out| !out.cache && !out.persist).flat_map(|out| &out.before) {
        let at = root.join(&file.path);
        if at.is_file() && fs::digest(&at)?.0 == file.md5 {
            fs::remove(&at)?;
        }
    }
    Ok(())
}

/// Puts what a failed stage had written where its outs were, as DVC would have left it; what is there stays.
fn leave_partial(root: &Path, run: &RunDir, planned: &PlannedStage, published: &Published) -> Result<(), Diagnostic> {
    let own = |file: &&ResultFile| file.stage.as_ref() == Some(&planned.address);
    let tree = Beneath::open(root)?;
    for file in published.result.partial.iter().filter(own) {
        if tree.look(&file.path)?.is_none() {
            put(&tree, run, published, file)?;
        }
    }
    Ok(())
}

/// Puts what unfinished stages made of outs that persist in the place of what is there.
fn leave_persisted(
    project: &ProjectHome,
    run: &RunDir,
    item: &WorkItem,
    published: &Published,
) -> Result<(), Diagnostic> {
    let result = &published.result;
    for planned in &item.stages {
        let is_good = published.is_good(&planned.address);
        for out in planned.outs.iter().filter(|out| out.persist && !is_good && result.persisted.contains(&out.resolved))
        {
            clear(project, out)?;
            let tree = Beneath::open(&project.root)?;
            for file in result.partial.iter().filter(|file| is_within(&file.path, &out.resolved)) {
                put(&tree, run, published, file)?;
            }
        }
    }
    Ok(())
}

/// Puts a file of a result into the project, over a file that is there, without following any symlink.
fn put(tree: &Beneath, run: &RunDir, published: &Published, file: &ResultFile) -> Result<(), Diagnostic> {
    let copy = run.work_item(published.result.index).join(format!(".placing-{}", file.blob));
    fs::remove(&copy)?;
    published.place_file(file, &copy)?;
    Ok(tree.move_in(&copy, &file.path)?)
}
