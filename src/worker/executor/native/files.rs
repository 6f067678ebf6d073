//! The files that a work item's stages are read from: projected ones as the worklist has them, so that neither the disk
//! nor a large params file is read for it.

use std::io;
use std::path::Path;

use crate::adapters::dvc::files::DiskFiles;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::source::{DirEntry, FileKind, ProjectFiles};
use crate::state::format::TextFile;

/// What is not looked at: projected stages have no variables, and their lock entries, which are read beside the workspace,
/// are those of a lock file that is in order, however many others it has.
const UNSEEN: [&str; 2] = ["params.yaml", "dvc.lock"];

/// A work item's own stage files over those of its workspace.
pub(super) struct ItemFiles<'a> {
    disk: DiskFiles,
    own: &'a [TextFile],
}

impl<'a> ItemFiles<'a> {
    /// `None` where the path of the workspace is not UTF-8.
    pub(super) fn new(root: &Path, own: &'a [TextFile]) -> Option<Self> {
        // Git has no say in which of these files are read.
        Some(ItemFiles { disk: DiskFiles::open(root, true).ok()?, own })
    }

    fn text(&self, path: &str) -> Option<&'a str> {
        self.own.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }
}

impl ProjectFiles for ItemFiles<'_> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.text(path).map_or_else(|| self.disk.read(path), |text| Ok(text.as_bytes().to_vec()))
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        match self.text(path) {
            Some(_) => Some(FileKind::File),
            None if UNSEEN.contains(&path::file_name(path)) => None,
            None => self.disk.kind(path),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        self.disk.list(path)
    }

    fn is_git_ignored(&self, _: &str, _: bool) -> io::Result<bool> {
        Ok(false)
    }

    fn supports_scheme(&self, scheme: &str) -> bool {
        self.disk.supports_scheme(scheme)
    }

    fn root(&self) -> &str {
        self.disk.root()
    }
}
