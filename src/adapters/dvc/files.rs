//! A project's files on disk, with git's ignores.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::adapters::dvc::{Dvc, site_packages};
use crate::adapters::git::Git;
use crate::adapters::git::ignore::OnDisk;
use crate::diagnostic::Diagnostic;
use crate::dvc::git_ignore::GitIgnore;
use crate::dvc::pipeline::source::{DirEntry, FileKind, ProjectFiles};

#[derive(Debug, Error)]
pub(crate) enum ProjectFilesError {
    #[error("`{0}` is not in a git repository")]
    NoRepository(PathBuf),
    #[error("the path of the project, `{0}`, is not UTF-8")]
    NotUtf8(PathBuf),
}

impl From<ProjectFilesError> for Diagnostic {
    fn from(error: ProjectFilesError) -> Self {
        let diagnostic = Diagnostic::project(error.to_string());
        match error {
            ProjectFilesError::NoRepository(_) => {
                diagnostic.hint("run `git init`, or set `core.no_scm` if the project is not to be under git")
            }
            ProjectFilesError::NotUtf8(_) => diagnostic,
        }
    }
}

/// The tree of a project as it is now.
pub(crate) struct DiskFiles {
    root: String,
    /// Absent with `core.no_scm`.
    git: Option<GitIgnores>,
}

struct GitIgnores {
    ignores: GitIgnore<OnDisk>,
    /// Of the project's root in the work tree, `""` or ending in `/`.
    prefix: String,
}

impl DiskFiles {
    /// Opens the project at `root`, an absolute path without symlinks; without `no_scm` it must be under git.
    pub(crate) fn open(root: &Path, no_scm: bool) -> Result<DiskFiles, ProjectFilesError> {
        let text = root.to_str().ok_or_else(|| ProjectFilesError::NotUtf8(root.to_owned()))?;
        let git = if no_scm { None } else { Some(GitIgnores::find(root)?) };
        Ok(DiskFiles { root: text.to_owned(), git })
    }

    fn on_disk(&self, path: &str) -> PathBuf {
        Path::new(&self.root).join(path)
    }
}

impl GitIgnores {
    fn find(root: &Path) -> Result<GitIgnores, ProjectFilesError> {
        let none = || ProjectFilesError::NoRepository(root.to_owned());
        let git = Git::discover(root).map_err(|_| none())?;
        let top = git.workdir().canonicalize().map_err(|_| none())?;
        let prefix = root.strip_prefix(&top).ok().and_then(Path::to_str).ok_or_else(none)?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(GitIgnores { ignores: git.rules().ok_or_else(none)?, prefix })
    }
}

impl ProjectFiles for DiskFiles {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.on_disk(path))
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        let metadata = std::fs::metadata(self.on_disk(path)).ok()?;
        Some(match metadata.file_type() {
            kind if kind.is_file() => FileKind::File,
            kind if kind.is_dir() => FileKind::Directory,
            _ => FileKind::Other,
        })
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let mut entries = vec![];
        for entry in std::fs::read_dir(self.on_disk(path))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, is_dir: kind.is_dir(), is_symlink: kind.is_symlink() });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn is_git_ignored(&self, path: &str, is_dir: bool) -> io::Result<bool> {
        let Some(git) = &self.git else { return Ok(false) };
        let slash = if is_dir { "/" } else { "" };
        git.ignores.is_ignored(&format!("{}{path}{slash}", git.prefix))
    }

    /// Looks into the Python installation of the `dvc` on the `PATH`; one that is packed otherwise is trusted to have all.
    fn supports_scheme(&self, scheme: &str) -> bool {
        if matches!(scheme, "http" | "https") {
            return true;
        }
        let Ok(dvc) = Dvc::find() else { return false };
        let Some(packages) = site_packages(dvc.path()) else { return true };
        packages.join(format!("dvc_{}", scheme.strip_suffix("davs").map_or(scheme, |_| "webdav"))).is_dir()
    }

    fn root(&self) -> &str {
        &self.root
    }
}
