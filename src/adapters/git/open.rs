//! Finding and opening the repository that a directory lies in, as DVC would.

use std::path::{Path, PathBuf};

use git2::{ErrorCode, Index, Repository, RepositoryOpenFlags};
use tempfile::TempDir;

use super::{Doing as _, GitError};
use crate::adapters::fs;

/// A repository, with the paths that git itself would name.
pub(super) struct Opened {
    pub repository: Repository,
    /// The top of the work tree.
    pub top: PathBuf,
    /// Where objects, refs and configuration lie: the same for all work trees of a repository.
    pub common: PathBuf,
    /// A directory that stands for that of a repository of another user; see [`stand_in`].
    pub _stand_in: Option<TempDir>,
}

impl Opened {
    /// The index as it is now, whatever was read before.
    pub(super) fn index(&self) -> Result<Index, GitError> {
        let mut index = self.repository.index().doing("read the index")?;
        index.read(true).doing("read the index")?;
        Ok(index)
    }
}

/// Opens the repository whose work tree holds a directory; `None` where there is none.
///
/// The environment has no say: what a git hook sets there (`GIT_DIR`, `GIT_INDEX_FILE`) is for git alone.
pub(super) fn at_or_above(directory: &Path) -> Result<Option<Opened>, GitError> {
    for top in directory.ancestors() {
        if fs::exists(&top.join(".git"))
            && let Some(opened) = at(top)?
        {
            return Ok(Some(opened));
        }
    }
    Ok(None)
}

/// Opens the repository with this work tree; `None` where it is none.
pub(super) fn at(top: &Path) -> Result<Option<Opened>, GitError> {
    let (repository, stand_in) = match Repository::open(top) {
        Ok(repository) => (repository, None),
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) if error.code() == ErrorCode::Owner => {
            let Some(gitdir) = gitdir(top) else { return Ok(None) };
            let stand_in = stand_in(&gitdir)?;
            let flags = RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_SEARCH;
            let none: [&Path; 0] = [];
            let repository = Repository::open_ext(stand_in.path(), flags, none).doing("open the repository")?;
            repository.set_workdir(top, false).doing("open the repository")?;
            (repository, Some(stand_in))
        }
        Err(source) => return Err(GitError::Failed { action: "open the repository", source }),
    };
    // Git is told by `core.worktree` alone that the work tree is elsewhere; libgit2 guesses where the git directory is.
    let is_told = repository.config().and_then(|config| config.get_path("core.worktree")).is_ok();
    if !is_told && !repository.is_worktree() {
        repository.set_workdir(top, false).doing("open the repository")?;
    }
    let Some(workdir) = repository.workdir() else { return Ok(None) };
    let workdir = workdir.components().as_path().to_owned();
    let common = match &stand_in {
        // It holds symlinks to what it stands for.
        Some(_) => {
            repository.commondir().join("objects").canonicalize().ok().and_then(|at| Some(at.parent()?.to_owned()))
        }
        None => None,
    };
    let common = common.unwrap_or_else(|| repository.commondir().components().as_path().to_owned());
    Ok(Some(Opened { repository, top: workdir, common, _stand_in: stand_in }))
}

/// The git directory of a work tree: `.git`, or where the file of that name leads.
fn gitdir(top: &Path) -> Option<PathBuf> {
    let own = top.join(".git");
    if own.is_dir() {
        return Some(own);
    }
    let text = std::fs::read_to_string(&own).ok()?;
    Some(top.join(text.strip_prefix("gitdir:")?.trim()))
}

/// Makes a directory of this user's that leads to everything in a git directory.
///
/// libgit2 opens no repository of another user's, whatever `safe.directory` says by the environment or by a pattern. Git
/// refuses so since a repository's configuration names programs that it starts. libgit2 starts none, and whoever runs
/// the stages of a project trusts it with more than that; DVC does not ask either.
fn stand_in(gitdir: &Path) -> Result<TempDir, GitError> {
    let broken = |error: std::io::Error| GitError::Failed {
        action: "open a repository that belongs to another user",
        source: git2::Error::from_str(&error.to_string()),
    };
    let stand_in = tempfile::Builder::new().prefix("dvc-fanout-git-").tempdir().map_err(broken)?;
    for entry in gitdir.read_dir().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let to = stand_in.path().join(entry.file_name());
        if entry.file_name() == "commondir" {
            let relative = std::fs::read_to_string(entry.path()).map_err(broken)?;
            let absolute = gitdir.join(relative.trim()).canonicalize().map_err(broken)?;
            fs::write_plain(&to, absolute.to_string_lossy().as_bytes())?;
        } else {
            fs::symlink(entry.path(), &to)?;
        }
    }
    Ok(stand_in)
}
