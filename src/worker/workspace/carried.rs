//! What no snapshot holds and no stage declares, in a slot's workspace: links to where it lies in the project.
//!
//! They are made with the workspace and stay there between work items. Git in the workspace does not see them: they are
//! listed in its `info/exclude`, since a pattern such as `.venv/` means no link.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::adapters::fs::{self, FsError};
use crate::adapters::mounts::Aside;
use crate::dvc::pipeline::path::at_and_above;
use crate::model::carry::is_at_or_below;
use crate::state::format::Plan;
use crate::state::paths::RunDir;

/// The links of one workspace. Paths are relative to the top of the git work tree.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    /// The top of the project's git work tree.
    project: PathBuf,
    /// The same as commands find it.
    seen: PathBuf,
    /// The top of the workspace.
    workspace: PathBuf,
    paths: BTreeSet<String>,
    /// Empty folders.
    empty: Vec<String>,
    /// The folders that hold links.
    folders: HashSet<String>,
}

impl Carried {
    /// What a workspace of a plan has; nothing is made yet. `root` is the project's.
    pub(crate) fn new(plan: &Plan, root: &Path, workspace: &Path, aside: Option<&Aside>) -> Carried {
        let (project, workspace) = (plan.top(root).to_owned(), workspace.to_owned());
        let seen = aside.map_or_else(|| project.clone(), |aside| aside.of(&project));
        let (paths, empty) = (BTreeSet::new(), plan.carry.folders.clone());
        let mut carried = Carried { project, seen, workspace, paths, empty, folders: HashSet::new() };
        plan.carry.linked.iter().for_each(|path| carried.add(path));
        carried
    }

    fn add(&mut self, path: &str) {
        if is_at_or_below(&self.paths, path) {
            return;
        }
        self.paths.insert(path.to_owned());
        self.folders.extend(at_and_above(path).skip(1).map(str::to_owned));
    }

    /// Makes all links that are not there; also those to what workers have put in the project since.
    pub(crate) fn place(&mut self, run: &RunDir) -> Result<(), FsError> {
        let brought = fs::read_text_if_any(&run.brought())?.unwrap_or_default();
        brought.lines().for_each(|path| self.add(path));
        self.empty.iter().try_for_each(|path| fs::create_dir(&self.workspace.join(path)))?;
        let mut made = vec![];
        for path in &self.paths {
            let (from, to) = (self.project.join(path), self.workspace.join(path));
            // Where this machine does not see it, a program that makes it finds nothing in its way.
            if fs::exists(&to) || !fs::exists(&from) {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir(parent)?;
            }
            fs::symlink(self.seen.join(path), &to)?;
            made.push(path.as_str());
        }
        // DVC follows no link to a folder: to be a part of a dep it has to be there itself.
        let inside = fs::read_text_if_any(&run.brought_into_deps())?.unwrap_or_default();
        for path in inside.lines() {
            let (from, to) = (self.project.join(path), self.workspace.join(path));
            if !fs::exists(&to) && fs::exists(&from) && to.parent().is_some_and(Path::is_dir) {
                fs::copy_exactly(&from, &to)?;
            }
        }
        self.exclude(&made)
    }

    /// Has git in the workspace ignore links.
    fn exclude(&self, paths: &[&str]) -> Result<(), FsError> {
        let file = self.workspace.join(".git/info/exclude");
        if paths.is_empty() || !fs::exists(&self.workspace.join(".git")) {
            return Ok(());
        }
        let before = fs::read_text_if_any(&file)?.unwrap_or_default();
        let before: HashSet<&str> = before.lines().collect();
        let lines = paths.iter().map(|path| pattern(path)).filter(|line| !before.contains(line.as_str()));
        let lines = lines.fold(String::new(), |lines, line| lines + &line + "\n");
        fs::append_text(&file, &lines)
    }

    /// Whether there is a link of this kind at a path, and it is as it was made.
    pub(crate) fn is_link(&self, path: &str) -> bool {
        self.paths.contains(path)
            && std::fs::read_link(self.workspace.join(path)).is_ok_and(|target| target == self.seen.join(path))
    }

    /// Whether there are no links.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// What the target of a link of this kind is in the project.
    pub(crate) fn leads_to<'p>(&self, target: &'p Path) -> Option<&'p str> {
        target.strip_prefix(&self.seen).ok()?.to_str()
    }

    /// Whether something lies where a path has its own link in the workspace.
    pub(crate) fn is_at(&self, path: &str, at: &Path) -> bool {
        self.workspace.join(path) == at
    }

    /// Whether a path is to be a link.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Whether links lie below a folder.
    pub(crate) fn has_below(&self, folder: &str) -> bool {
        self.folders.contains(folder)
    }

    /// Puts a copy in the place of a link to a folder that a program goes into and refuses as a link.
    pub(crate) fn copy_in_place(&self, path: &str) -> Result<(), FsError> {
        let (from, to) = (self.project.join(path), self.workspace.join(path));
        if self.is_link(path) && from.is_dir() {
            fs::remove(&to)?;
            fs::copy_exactly(&from, &to)?;
        }
        Ok(())
    }

    /// Removes the links at or above a path, so that what is put there does not land in the project.
    pub(crate) fn make_way(&self, path: &str) -> Result<(), FsError> {
        let links = at_and_above(path).filter(|path| self.is_link(path));
        links.map(|path| self.workspace.join(path)).try_for_each(|link| fs::remove(&link))
    }

    /// The top of the project's git work tree.
    pub(crate) fn project(&self) -> &Path {
        &self.project
    }
}

/// The ignore pattern that means just this path.
fn pattern(path: &str) -> String {
    let mut line = String::from("/");
    for character in path.chars() {
        if matches!(character, '\\' | '*' | '?' | '[' | ' ') {
            line.push('\\');
        }
        line.push(character);
    }
    line
}
