//! The files that say what git ignores.

use std::io;
use std::path::{Path, PathBuf};

use git2::Repository;

use super::{Git, GitError, users_file};
use crate::dvc::git_ignore::{GitIgnore, IgnoreFiles};

/// The ignore rules of a work tree, none without git, as they were when each of their files was first needed.
pub(crate) struct Ignores(Option<GitIgnore<OnDisk>>);

impl Ignores {
    /// Whether a path is ignored; relative to the top of the work tree, as [`GitIgnore::is_ignored`] takes it.
    pub(crate) fn is_ignored(&self, path: &str) -> Result<bool, GitError> {
        self.0.as_ref().map_or(Ok(false), |rules| rules.is_ignored(path)).map_err(GitError::Ignores)
    }
}

impl Git {
    /// The ignore rules of the work tree, decided as DVC does. After a `.gitignore` changed, they have to be taken anew.
    pub(crate) fn ignores(&self) -> Ignores {
        Ignores(self.rules())
    }

    /// The rules themselves; `None` without a repository.
    pub(crate) fn rules(&self) -> Option<GitIgnore<OnDisk>> {
        self.opened.as_ref().map(|opened| read(&opened.repository, &self.workdir))
    }
}

/// A work tree by its top.
pub(crate) struct OnDisk(PathBuf);

impl IgnoreFiles for OnDisk {
    fn gitignore(&self, directory: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.0.join(directory).join(".gitignore");
        let unreadable =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot read `{}`: {error}", path.display()));
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => Ok(None),
            Ok(metadata) if metadata.is_file() => std::fs::read(&path).map(Some).map_err(unreadable),
            Ok(_) => Err(unreadable(io::Error::other("it is not a file"))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(unreadable(error)),
        }
    }

    fn is_dir(&self, path: &str) -> bool {
        self.0.join(path).is_dir()
    }
}

/// Reads what holds for the whole work tree of a repository; a file of these that cannot be read counts as empty.
fn read(repository: &Repository, top: &Path) -> GitIgnore<OnDisk> {
    let config = repository.config().and_then(|mut config| config.snapshot()).ok();
    let own = repository.path().join("info/exclude");
    let named = config.as_ref().map(|config| config.get_path("core.excludesFile"));
    let users = match named {
        Some(Ok(path)) => Some(top.join(path)),
        // An empty name is none.
        Some(Err(error)) if error.code() != git2::ErrorCode::NotFound => None,
        _ => users_file("ignore"),
    };
    let global = [Some(own), users].into_iter().flatten().filter_map(|path| std::fs::read(path).ok());
    let folds_case = config.is_some_and(|config| config.get_bool("core.ignoreCase").unwrap_or(false));
    GitIgnore::new(OnDisk(top.to_owned()), &global.collect::<Vec<_>>(), folds_case)
}

#[cfg(test)]
mod tests;
