//! What commands changed in a workspace beside what they declare, and taking everything out again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use super::fill::CONFIG;
use super::{Workspace, WorkspaceError, make_parent};
use crate::adapters::fs::{self, Found, FoundKind};
use crate::adapters::git::{ManifestFile, linked, low};
use crate::adapters::machine;
use crate::dvc::pipeline::path::{is_within, join};
use crate::state::format::PathMode;

/// What the commands of a work item changed beside what they declare. Paths are relative to the project's root.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// New files, and files of the snapshot whose content or mode is another now.
    pub files: Vec<String>,
    /// Files of the snapshot that were written anew as they were, as far as that is known.
    pub rewritten: Vec<String>,
    /// Files of the snapshot, or left by earlier work items, that are gone.
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
            if known.is_some_and(|file| self.is_untouched(file, found)) || self.carried.is_link(&found.path) {
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
            } else if known.is_some_and(|file| !file.linked) && (self.is_exact || self.touched.is_some()) {
                changes.rewritten.push(path);
            }
        }
        // A file in whose place a directory is has gone.
        let found = all.iter().filter(|found| found.kind != FoundKind::Directory);
        let missing = self.missing(found.map(|found| found.path.as_str()));
        let missing = missing.into_iter().filter_map(|file| in_project(&file.path));
        let root = self.root();
        let is_there = |path: &str| root.join(path).symlink_metadata().is_ok_and(|found| !found.is_dir());
        let taken_back = self.given.keys().filter(|path| !is_there(path)).cloned();
        changes.deleted.extend(missing.chain(taken_back).filter(|path| !skip(path)));
        changes.files.sort_unstable();
        changes.rewritten.sort_unstable();
        changes.deleted.sort_unstable();
        changes.deleted.dedup();
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
                self.position(&found.path).is_some_and(|at| self.is_untouched(&self.manifest[at], found))
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
        for path in &restored {
            if let (Some(at), Some(found)) = (self.position(path), fs::find(&self.top, path)?) {
                let (seconds, nanoseconds) = found.modified;
                let file = &mut self.manifest[at];
                (file.size, file.inode) = (low(found.size), low(found.inode));
                file.modified = (whole_seconds(seconds), u32::try_from(nanoseconds).unwrap_or_default());
            }
        }
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
        let has_its_mode = file.executable == (found.mode & 0o100 != 0) && self.other_mode(file, found.mode).is_none();
        Ok(has_its_mode && fs::read(&path)? == blob)
    }

    /// Whether a file is the one that git wrote, by its stat data.
    fn is_untouched(&self, file: &ManifestFile, found: &Found) -> bool {
        // Where each file is looked at, most have the usual mode: these are not compared one by one.
        let is_usual = || usual_modes().contains(&(found.mode & 0o777));
        has_same_stat(file, found)
            && ((self.touched.is_none() && is_usual()) || self.other_mode(file, found.mode).is_none())
    }

    /// The permission bits that a command has given a file that was there; `None` where it has those that it began with, or
    /// nobody knows which these were.
    pub(crate) fn new_mode(&self, path: &str) -> Option<u32> {
        let inside = join(&self.prefix, path);
        let found = fs::find(&self.top, &inside).ok()??;
        self.other_mode(&self.manifest[self.position(&inside)?], found.mode)
    }

    /// A mode, where it is not that of the file in the project that a file of the workspace was made from; without a project
    /// at hand, git's own modes count.
    fn other_mode(&self, file: &ManifestFile, mode: u32) -> Option<u32> {
        if file.linked || file.symlink {
            return None;
        }
        let was = match self.project.join(&file.path).symlink_metadata() {
            Ok(there) => {
                let is_its_source = there.is_file()
                    && file.size == low(there.len())
                    && has_time(file, (there.mtime(), there.mtime_nsec()));
                is_its_source.then_some(there.mode())?
            }
            Err(_) => usual_modes()[usize::from(file.executable)],
        };
        ((was ^ mode) & 0o777 != 0).then_some(mode & 0o777)
    }
}

/// The modes of files that are made without anything said of them: of those that cannot be executed, and of those that can.
fn usual_modes() -> [u32; 2] {
    [0o666, 0o777].map(|all| all & !machine::umask())
}

/// Whether a file has size, time and place of the one that git wrote.
fn has_same_stat(file: &ManifestFile, found: &Found) -> bool {
    file.size == low(found.size)
        && file.inode == low(found.inode)
        && has_time(file, found.modified)
        && (file.linked || file.symlink == (found.kind == FoundKind::Symlink))
        && (file.linked || file.symlink || file.executable == (found.mode & 0o100 != 0))
}

/// Whether a time, in seconds and nanoseconds, is that of a file when git had written it.
fn has_time(file: &ManifestFile, (seconds, nanoseconds): (i64, i64)) -> bool {
    file.modified.0 & i32::MAX == whole_seconds(seconds) && i64::from(file.modified.1) == nanoseconds
}

/// The seconds of a time, as far as an index has room for them.
fn whole_seconds(seconds: i64) -> i32 {
    i32::try_from(seconds & i64::from(i32::MAX)).expect("masked")
}
