//! What commands changed in a workspace beside what they declare, and taking everything out again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::fill::CONFIG;
use super::{Workspace, WorkspaceError, make_parent};
use crate::adapters::fs::{self, Found, FoundKind};
use crate::adapters::git::{ManifestFile, linked, low};
use crate::dvc::pipeline::path::{is_within, join};
use crate::state::format::PathMode;

/// What the commands of a work item changed beside what they declare. Paths are relative to the project's root.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// New files, and files of the snapshot whose content or mode is another now.
    pub files: Vec<String>,
    /// Files of the snapshot that are gone.
    pub deleted: Vec<String>,
    /// New directories.
    pub directories: Vec<PathMode>,
}

impl Workspace {
    /// Compares the workspace with the snapshot. `skip` says which paths (relative to the project's root) are known
    /// already: inputs, declared outs, what `fill` wrote.
    pub(crate) fn changes(&mut self, skip: &dyn Fn(&str) -> bool) -> Result<Changes, WorkspaceError> {
        let mut all = self.look()?;
        if self.replace_copied_links(&all)? {
            self.touched = None;
            all = self.walk()?;
        }
        let in_project = |path: &str| self.in_project(path);
        let mut changes = Changes::default();
        for found in &all {
            let known = self.position(&found.path).map(|at| &self.manifest[at]);
            if known.is_some_and(|file| is_untouched(file, found)) || self.carried.is_link(&found.path) {
                continue;
            }
            let Some(path) = in_project(&found.path) else { continue };
            if found.kind == FoundKind::Directory && !skip(&path) && !self.has_below(&found.path) {
                changes.directories.push(PathMode { path, mode: fs::directory_mode(found.mode) });
                continue;
            }
            if found.kind == FoundKind::Directory || found.kind == FoundKind::Other || skip(&path) {
                continue;
            }
            if !self.is_same(known, found)? {
                changes.files.push(path);
            }
        }
        // A file in whose place a directory is has gone.
        let found = all.iter().filter(|found| found.kind != FoundKind::Directory);
        let missing = self.missing(found.map(|found| found.path.as_str()));
        changes
            .deleted
            .extend(missing.into_iter().filter_map(|file| in_project(&file.path)).filter(|path| !skip(path)));
        changes.files.sort_unstable();
        changes.deleted.sort_unstable();
        self.found = Some(all);
        Ok(changes)
    }

    /// The place of a path in the manifest.
    pub(super) fn position(&self, path: &str) -> Option<usize> {
        self.manifest.binary_search_by(|file| file.path.as_str().cmp(path)).ok()
    }

    /// Whether the snapshot has something below a directory.
    pub(super) fn has_below(&self, directory: &str) -> bool {
        let inside = format!("{directory}/");
        let first = self.manifest.partition_point(|file| file.path < inside);
        self.manifest.get(first).is_some_and(|file| file.path.starts_with(&inside))
    }

    /// Reads a file of the snapshot as the workspace began with it; `None` where it had none, or linked one.
    pub(crate) fn original(&self, path: &str) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let file = self.position(&join(&self.prefix, path)).map(|at| &self.manifest[at]);
        Ok(file.filter(|file| !file.linked).map(|file| self.store.blob(&file.blob)).transpose()?)
    }

    /// The MD5 of a file as the workspace began with it; `None` where it had none.
    pub(crate) fn original_md5(&self, path: &str) -> Result<Option<String>, WorkspaceError> {
        let inside = join(&self.prefix, path);
        match self.position(&inside).map(|at| &self.manifest[at]) {
            Some(file) if file.linked => Ok(Some(fs::digest(&self.project.join(&inside))?.0)),
            Some(file) => Ok(Some(fs::digest_bytes(&self.store.blob(&file.blob)?))),
            None => Ok(None),
        }
    }

    /// Takes everything out again and says so; a failure leaves the slot to be made anew.
    pub(crate) fn reset(&mut self) -> Result<(), WorkspaceError> {
        let all = match self.found.take() {
            Some(found) => found,
            None => self.look()?,
        };
        // DVC's own folder stays, since its state there does.
        let own = join(&self.prefix, ".dvc/tmp");
        let config = CONFIG.map(|path| join(&self.prefix, path));
        let stays = |found: &Found| match found.kind {
            FoundKind::Directory => {
                self.has_below(&found.path) || self.carried.has_below(&found.path) || is_within(&own, &found.path)
            }
            FoundKind::File | FoundKind::Symlink => {
                self.position(&found.path).is_some_and(|at| is_untouched(&self.manifest[at], found))
                    || self.carried.is_link(&found.path)
                    || (found.kind == FoundKind::File && config.contains(&found.path))
            }
            FoundKind::Other => false,
        };
        let (staying, going): (Vec<&Found>, Vec<&Found>) = all.iter().partition(|found| stays(found));
        for found in going {
            fs::remove(&self.top.join(&found.path))?;
        }
        let mut restored = vec![];
        for file in self.missing(staying.iter().map(|found| found.path.as_str())) {
            let path = self.top.join(&file.path);
            restored.push(file.path.clone());
            if file.linked {
                linked::bring(&self.project.join(&file.path), &path)?;
                continue;
            }
            let bytes = self.store.blob(&file.blob)?;
            if file.symlink {
                make_parent(&path)?;
                fs::symlink(OsStr::from_bytes(&bytes), &path)?;
            } else {
                fs::write_plain(&path, &bytes)?;
                fs::set_executable(&path, file.executable)?;
                fs::imitate(&self.project.join(&file.path), &path)?;
            }
        }
        let folders = staying.into_iter().filter(|found| found.kind == FoundKind::Directory);
        let folders: Vec<String> = folders.map(|found| found.path.clone()).collect();
        Ok(self.settle(&restored, &folders)?)
    }

    /// Whether a file has the content and mode of the snapshot although it was touched.
    fn is_same(&self, file: Option<&ManifestFile>, found: &Found) -> Result<bool, WorkspaceError> {
        let Some(file) = file else { return Ok(false) };
        let path = self.top.join(&found.path);
        if file.linked {
            let there = self.project.join(&found.path);
            if found.kind == FoundKind::Symlink {
                return Ok(std::fs::read_link(&path).is_ok_and(|target| target == there));
            }
            let is_as_large = there.metadata().is_ok_and(|there| there.len() == found.size);
            return Ok(is_as_large && fs::digest(&path)? == fs::digest(&there)?);
        }
        if file.symlink != (found.kind == FoundKind::Symlink) {
            return Ok(false);
        }
        let blob = self.store.blob(&file.blob)?;
        if file.symlink {
            let target = std::fs::read_link(&path).unwrap_or_default();
            return Ok(target.as_os_str().as_encoded_bytes() == blob);
        }
        Ok(file.executable == (found.mode & 0o100 != 0) && fs::read(&path)? == blob)
    }
}

/// Whether a file is the one that git wrote, by its stat data.
fn is_untouched(file: &ManifestFile, found: &Found) -> bool {
    let seconds = i32::try_from(found.modified.0 & i64::from(i32::MAX)).expect("masked");
    file.size == low(found.size)
        && file.inode == low(found.inode)
        && file.modified.0 & i32::MAX == seconds
        && i64::from(file.modified.1) == found.modified.1
        && (file.linked || file.symlink == (found.kind == FoundKind::Symlink))
        && (file.linked || file.symlink || file.executable == (found.mode & 0o100 != 0))
}
