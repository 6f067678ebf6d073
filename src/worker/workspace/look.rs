//! What in a workspace is not as it began: found by a walk, or known since the kernel told it.
//!
//! A walk costs as much as the project has files. A worker therefore walks once, watches the workspace from then on, and
//! looks only at what something happened to; it walks again whenever that is not sure.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;

use super::{Workspace, WorkspaceError};
use crate::adapters::fs::{self, Found, FoundKind, FsError};
use crate::adapters::git::{ManifestFile, low};
use crate::adapters::watch::{Told, Watch};
use crate::dvc::pipeline::path::{is_within, join};

/// How often a watch that ended is begun anew; commands that always end it had better not be watched.
const MAX_BEGUN: usize = 8;

/// The watch on a workspace.
#[derive(Default)]
pub(crate) struct Watching {
    top: PathBuf,
    watch: RefCell<Option<Watch>>,
    /// How often one was begun.
    begun: Cell<usize>,
    /// The inodes of all files as the workspace began, to know a second name of one.
    inodes: RefCell<HashSet<u64>>,
    /// Whether a file was written to by a second name, which tells nothing of the first.
    has_second_names: Cell<bool>,
}

impl Watching {
    /// A workspace that nobody watches yet, by its top.
    pub(super) fn new(top: PathBuf) -> Self {
        Watching { top, ..Watching::default() }
    }

    /// Looks at what was written so far, which may then be removed or replaced without a walk because of it.
    pub(crate) fn note_written(&self) {
        let written = self.watch.borrow_mut().as_mut().map(Watch::written).unwrap_or_default();
        for path in written {
            // What cannot be looked at is walked to.
            if fs::find(&self.top, &path).map_or(true, |found| found.is_some_and(|found| self.has(&found))) {
                self.has_second_names.set(true);
            }
        }
    }

    /// Whether the workspace began with a file, under this name or another.
    fn has(&self, found: &Found) -> bool {
        found.kind == FoundKind::File && self.inodes.borrow().contains(&found.inode)
    }

    fn end(&self) {
        self.watch.take();
    }
}

impl Workspace {
    /// Watches from now on, where that is possible. The workspace is clean.
    pub(super) fn watch(&mut self) -> Result<(), WorkspaceError> {
        let watching = &self.watching;
        if watching.watch.borrow().is_none() && watching.begun.get() < MAX_BEGUN {
            watching.begun.update(|begun| begun + 1);
            // DVC's folder stays from one work item to the next, and belongs to what is watched.
            fs::create_dir(&self.root().join(".dvc"))?;
            let found = self.walk()?;
            let files = found.iter().filter(|found| found.kind == FoundKind::File);
            watching.inodes.replace(files.map(|found| found.inode).collect());
            watching.watch.replace(Watch::begin(&self.top, &found));
        }
        Ok(())
    }

    /// Looks at everything that may not be as it began.
    pub(super) fn look(&mut self) -> Result<Vec<Found>, FsError> {
        let watching = &self.watching;
        let has_second_names = watching.has_second_names.take();
        let told = watching.watch.borrow_mut().as_mut().map(Watch::ask);
        self.touched = match told {
            Some(Told::Paths(paths)) => Some(paths).filter(|_| !has_second_names),
            Some(Told::Unsure) => None,
            Some(Told::Over) | None => {
                watching.end();
                None
            }
        };
        if let (Some(touched), Some(watch)) = (&self.touched, &*watching.watch.borrow())
            && let Some(found) = self.look_at(touched, watch)?
        {
            return Ok(found);
        }
        self.touched = None;
        self.walk()
    }

    /// Looks at some paths, and below new directories; `None` where one is a second name of a file that was there.
    fn look_at(&self, touched: &HashSet<String>, watch: &Watch) -> Result<Option<Vec<Found>>, FsError> {
        let mut all = vec![];
        for path in touched.iter().filter(|path| !self.is_own(path)) {
            let Some(found) = fs::find(&self.top, path)? else { continue };
            let is_new = found.kind == FoundKind::Directory && !watch.covers(path);
            all.push(found);
            if is_new {
                let skip = |inside: &str| self.is_own(&format!("{path}/{inside}"));
                let (below, odd) = fs::walk_and_tell(&self.top.join(path), &skip)?;
                self.has_odd_names.set(self.has_odd_names.get() | !odd.is_empty());
                all.extend(below.into_iter().map(|found| Found { path: format!("{path}/{}", found.path), ..found }));
            }
        }
        let is_itself =
            |found: &Found| self.position(&found.path).is_some_and(|at| self.manifest[at].inode == low(found.inode));
        let has_second_names = all.iter().any(|found| self.watching.has(found) && !is_itself(found));
        Ok(if has_second_names { None } else { Some(all) })
    }

    /// Everything in it but git's and DVC's own state.
    pub(super) fn walk(&self) -> Result<Vec<Found>, FsError> {
        let (found, odd) = fs::walk_and_tell(&self.top, &|path| self.is_own(path))?;
        self.has_odd_names.set(self.has_odd_names.get() | !odd.is_empty());
        Ok(found)
    }

    pub(super) fn is_own(&self, path: &str) -> bool {
        let above = path.strip_suffix("/.git");
        path == ".git"
            || above.is_some_and(|above| self.nested.iter().any(|nested| nested == above))
            || is_within(path, &join(&self.prefix, ".dvc/tmp"))
            || self.mount_point.as_deref().is_some_and(|point| is_within(path, point))
    }

    /// The files of the snapshot that are not where they were, given all that was found there.
    pub(super) fn missing<'f>(&self, found: impl Iterator<Item = &'f str>) -> Vec<&ManifestFile> {
        let found: HashSet<usize> = found.filter_map(|path| self.position(path)).collect();
        let is_missing = |at: &usize| !found.contains(at);
        let mut missing: Vec<usize> = match &self.touched {
            Some(touched) => touched.iter().filter_map(|path| self.position(path)).filter(is_missing).collect(),
            None => (0..self.manifest.len()).filter(is_missing).collect(),
        };
        missing.sort_unstable();
        missing.into_iter().map(|at| &self.manifest[at]).collect()
    }

    /// Takes what the reset did for nothing that happened. `restored` are the files that it wrote, `folders` those that
    /// something happened to and that stay.
    pub(super) fn settle(&mut self, restored: &[String], folders: &[String]) -> Result<(), FsError> {
        let mut watch = self.watching.watch.borrow_mut();
        let Some(watching) = watch.as_mut() else { return Ok(()) };
        let is_over = watching.ask() == Told::Over;
        // New ones stay where they hold links to what the project has.
        if is_over || folders.iter().any(|folder| !watching.covers(folder)) {
            *watch = None;
            return Ok(());
        }
        for path in restored {
            self.watching.inodes.borrow_mut().extend(fs::find(&self.top, path)?.map(|found| found.inode));
        }
        Ok(())
    }
}
