//! What commands made where git ignores it and no stage declares it: put in the project, as under `dvc repro`.
//!
//! | in the workspace | in the project meanwhile | what happens |
//! |---|---|---|
//! | something new | nothing | it moves there |
//! | a new folder | a folder | what is missing there moves |
//! | a new file | something | the other was first: it stays |
//! | something in place of a link | what the link led to | they change places |
//! | a folder in place of a link, by a command that removes none | a folder | what is in it comes over what is there |
//!
//! Later work items find what was moved as a link, in a folder that is a dep as a copy, which DVC counts as a part of it. What was moved tells of its old place (environments do, in their
//! scripts); there the project's name stands afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Sources, Workspace, WorkspaceError};
use crate::adapters::fs::{self, Found, FoundKind, FsError, Moved};
use crate::adapters::mounts::moved;
use crate::dvc::pipeline::path::{at_and_above, file_name, inside};
use crate::model::carry::{Carry, has_below, is_at_or_below};
use crate::state::declared;

/// The longest file in which the old place is looked for.
const MAX_TEXT: u64 = 1 << 20;

/// The paths that stages declare, relative to the top of the git work tree.
struct Declared {
    /// The deps that are in no out.
    deps: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Declared {
    fn read(sources: &Sources<'_>) -> Result<Declared, FsError> {
        let (deps, all) = (declared::read(&sources.run.deps())?, declared::read(&sources.run.declared())?);
        let others = all.difference(&deps).cloned().collect();
        Ok(Declared { deps, others })
    }
}

impl Workspace {
    /// Puts leftovers in the project. `known` says which paths of the project are no leftovers whatever they are,
    /// `may_remove` whether commands remove folders.
    pub(crate) fn bring_leftovers(
        &mut self,
        sources: &Sources<'_>,
        known: &dyn Fn(&str) -> bool,
        may_remove: &dyn Fn() -> bool,
    ) -> Result<(), WorkspaceError> {
        let mut found = match self.found.take() {
            Some(found) => found,
            None => self.look()?,
        };
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let brought = self.bring(&found, sources, known, may_remove);
        self.found = Some(found);
        brought
    }

    fn bring(
        &self,
        found: &[Found],
        sources: &Sources<'_>,
        known: &dyn Fn(&str) -> bool,
        may_remove: &dyn Fn() -> bool,
    ) -> Result<(), WorkspaceError> {
        let plan = sources.plan;
        let known = |path: &str| self.in_project(path).is_some_and(|path| known(&path));
        let is_new = |found: &&Found| {
            let there = self.position(&found.path).is_some() || self.carried.is_link(&found.path);
            // The lines of one come one by one, also where git ignores it.
            let is_rules = file_name(&found.path) == ".gitignore";
            !there && !is_rules && found.kind != FoundKind::Other && !known(&found.path)
        };
        let mut new = found.iter().filter(is_new).peekable();
        if new.peek().is_none() {
            return Ok(());
        }
        let carry = Carry::parse(&plan.options.carry).unwrap_or_else(|_| Carry::everything());
        let ignores = self.git()?.ignores();
        let mut declared: Option<Declared> = None;
        let mut done: Option<&str> = None;
        for found in new {
            let path = found.path.as_str();
            if done.is_some_and(|done| path.strip_prefix(done).is_some_and(|rest| rest.starts_with('/'))) {
                continue;
            }
            let is_dir = found.kind == FoundKind::Directory;
            let from_root = self.in_project(path).unwrap_or_else(|| path.to_owned());
            if is_dir && (self.has_below(path) || self.carried.has_below(path) || carry.looks_into(&from_root)) {
                continue;
            }
            if !ignores.is_ignored(&if is_dir { format!("{path}/") } else { path.to_owned() })? {
                continue;
            }
            let declared = match &declared {
                Some(declared) => declared,
                None => declared.insert(Declared::read(sources)?),
            };
            if is_dir && (has_below(&declared.deps, path) || has_below(&declared.others, path)) {
                continue;
            }
            done = is_dir.then_some(path);
            let is_in_dep = is_at_or_below(&declared.deps, path);
            let may_come = !declared.deps.contains(path) && !is_at_or_below(&declared.others, path);
            if may_come && carry.takes(&from_root, is_dir) {
                let list = if is_in_dep { sources.run.brought_into_deps() } else { sources.run.brought() };
                self.bring_one(path, sources, &list, may_remove)?;
            }
        }
        Ok(())
    }

    /// Brings one, and lists it for later work items.
    fn bring_one(
        &self,
        path: &str,
        sources: &Sources<'_>,
        list: &Path,
        may_remove: &dyn Fn() -> bool,
    ) -> Result<(), WorkspaceError> {
        let (from, to) = (self.top.join(path), self.carried.project().join(path));
        if !is_plain_way(self.carried.project(), path) {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir(parent)?;
        }
        rehome(&from, &self.top, self.carried.project())?;
        if let Some(aside) = &self.aside {
            rehome(&from, aside.name(), self.carried.project())?;
        }
        if self.carried.has(path) && fs::exists(&to) {
            // A program that only unpacks does not follow a link to a folder, as it would have gone into the folder.
            let is_over = is_folder(&from) && is_folder(&to) && !may_remove();
            let put = if is_over { lay_over } else { exchange };
            return Ok(put(&from, &to)?);
        }
        if merge(&from, &to, sources)? {
            fs::append_text(list, &format!("{path}\n"))?;
        }
        Ok(())
    }

    /// Puts in the project what commands made under names that are not UTF-8, whether git ignores it or not: no result can
    /// name it. What is there already stays.
    pub(crate) fn bring_odd_names(
        &self,
        sources: &Sources<'_>,
        known: &dyn Fn(&str) -> bool,
    ) -> Result<(), WorkspaceError> {
        if !self.has_odd_names.get() {
            return Ok(());
        }
        let skip = |path: &str| self.is_own(path) || self.in_project(path).is_some_and(|path| known(&path));
        let (_, mut odd) = fs::walk_and_tell(&self.top, &skip)?;
        odd.sort_unstable();
        for path in odd {
            let to = self.carried.project().join(&path);
            let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
            if is_plain_way(self.carried.project(), &format!("{folder}/-")) {
                to.parent().map_or(Ok(()), fs::create_dir)?;
                merge(&self.top.join(&path), &to, sources)?;
            }
        }
        Ok(())
    }

    /// Where the target of a symlink in the workspace is at home: in the project, if it is named by a path of the workspace or
    /// by the project's second name.
    pub(crate) fn at_home(&self, target: &Path) -> PathBuf {
        let project = self.carried.project();
        let target = moved(target, &self.top, project);
        self.aside.as_ref().map_or(target.clone(), |aside| moved(&target, aside.name(), project))
    }

    /// The path in the project of a path in the workspace, if it lies there.
    pub(super) fn in_project(&self, path: &str) -> Option<String> {
        inside(&self.prefix, path).map(str::to_owned)
    }
}

/// Whether no folder on the way to a path is a symlink, or something else than a folder.
fn is_plain_way(top: &Path, path: &str) -> bool {
    at_and_above(path).skip(1).map(|parent| top.join(parent)).all(|parent| {
        parent.symlink_metadata().map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |at| at.is_dir())
    })
}

/// Moves something to where nothing is; of a folder, to where a folder is, what is missing there. Returns whether all of
/// it is new there.
fn merge(from: &Path, to: &Path, sources: &Sources<'_>) -> Result<bool, FsError> {
    match fs::move_to_free(from, to)? {
        Moved::Yes => return Ok(true),
        Moved::Taken => {}
        Moved::Elsewhere => return move_over(from, to, sources),
    }
    if is_folder(from) && is_folder(to) {
        for name in fs::names(from)? {
            merge(&from.join(&name), &to.join(&name), sources)?;
        }
    }
    Ok(false)
}

/// Brings something from another file system: copied beside the run's files, then moved from there.
fn move_over(from: &Path, to: &Path, sources: &Sources<'_>) -> Result<bool, FsError> {
    let beside = fs::temporary_dir(sources.run.path())?;
    let copy = beside.path().join("copy");
    fs::copy_exactly(from, &copy)?;
    // The run's folder and the project's may be on two file systems as well; then the session's own is lost.
    if fs::move_to_free(&copy, to)? == Moved::Elsewhere { Ok(false) } else { merge(&copy, to, sources) }
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Puts what is in a folder into another one, over what has the same names there.
fn lay_over(from: &Path, to: &Path) -> Result<(), FsError> {
    for name in fs::names(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if is_folder(&from) && is_folder(&to) {
            lay_over(&from, &to)?;
        } else if fs::exists(&to) {
            exchange(&from, &to)?;
        } else if fs::move_to_free(&from, &to)? == Moved::Elsewhere {
            fs::copy_exactly(&from, &to)?;
        }
    }
    Ok(())
}

/// Has two things change places, so that at every moment one of them is there.
fn exchange(from: &Path, to: &Path) -> Result<(), FsError> {
    if fs::exchange(from, to)? || !from.is_file() {
        // Where a folder cannot be exchanged, the session keeps its own.
        return Ok(());
    }
    let (bytes, mode) = (fs::read(from)?, fs::mode(from)?);
    fs::write(to, &bytes)?;
    fs::set_mode(to, mode)
}

/// Has texts and symlinks name the project where they name the workspace.
fn rehome(at: &Path, workspace: &Path, project: &Path) -> Result<(), FsError> {
    let (old, new) = (workspace.to_string_lossy().into_owned(), project.to_string_lossy().into_owned());
    let mut paths = vec![at.to_owned()];
    if is_folder(at) {
        paths = fs::walk(at, &|_| false)?.into_iter().map(|found| at.join(found.path)).collect();
    }
    for path in paths {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_symlink() {
            let target = std::fs::read_link(&path).unwrap_or_default();
            if let Ok(rest) = target.strip_prefix(workspace) {
                fs::remove(&path)?;
                fs::symlink(project.join(rest), &path)?;
            }
        } else if metadata.is_file() && metadata.len() <= MAX_TEXT {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            if text.contains(&old) && !text.contains('\0') {
                let mode = fs::mode(&path)?;
                fs::write(&path, text.replace(&old, &new).as_bytes())?;
                fs::set_mode(&path, mode)?;
            }
        }
    }
    Ok(())
}
