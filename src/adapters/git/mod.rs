//! Git, through libgit2: the snapshot of a workspace, and the repositories that slots work in.
//!
//! The user's repository is only read, but for `core.autostage`.

mod bundle;
pub(crate) mod ignore;
pub(crate) mod kept;
pub(crate) mod linked;
mod open;
mod refs;
mod slot;
mod store;
mod tree;
mod untracked;
mod work_tree;

use std::path::{Component, Path, PathBuf};

use git2::ErrorCode;

use crate::adapters::fs::NO_ACCESS;
use crate::diagnostic::Diagnostic;
use crate::env;
use open::Opened;

pub(crate) use bundle::Essence;
pub(crate) use slot::{Beginning, ManifestFile, read_manifest};
pub(crate) use store::{Content, Store};
pub(crate) use tree::WorkTree;

/// The mode of a file in a git tree.
const FILE: u32 = 0o100_644;
/// The mode of an executable file in a git tree.
const EXECUTABLE: u32 = 0o100_755;
/// The mode of a symlink in a git tree.
const SYMLINK: u32 = 0o120_000;
/// The mode of a submodule in a git tree; in those of a snapshot, that of a linked file.
const SUBMODULE: u32 = 0o160_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("`{}` is not in a git work tree", .0.display())]
    NoRepository(PathBuf),
    #[error("the snapshot of the workspace is gone: `{}`", .0.display())]
    NoSnapshot(PathBuf),
    #[error("git failed to {action}")]
    Failed { action: &'static str, source: git2::Error },
    #[error("what git ignores cannot be told")]
    Ignores(#[source] std::io::Error),
    #[error(transparent)]
    Fs(#[from] crate::adapters::fs::FsError),
}

impl From<GitError> for Diagnostic {
    fn from(error: GitError) -> Self {
        match error {
            GitError::NoRepository(_) => Diagnostic::project(error.to_string())
                .cause("`core.no_scm` is not set, so DVC asks git which files it ignores")
                .hint("run `git init` in the project, or `dvc config core.no_scm true` to do without git"),
            GitError::NoSnapshot(_) => Diagnostic::project(error.to_string())
                .cause("it goes when a run is finalized with everything done, or with the run's folder")
                .hint("run `dvc-fanout plan` again"),
            GitError::Failed { ref source, .. } => {
                // By its text: `git2` keeps no error of the system.
                let says = |texts: &[&str]| texts.iter().any(|text| source.message().contains(text));
                if says(&["Permission denied"]) {
                    return Diagnostic::project(error.to_string()).source(source).hint(NO_ACCESS);
                }
                let said = Diagnostic::tool(error.to_string()).source(source);
                let is_full = says(&["No space left", "quota exceeded"]);
                if is_full { said.hint("free some space on the repository's disk, then continue") } else { said }
            }
            GitError::Ignores(ref source) => Diagnostic::project(error.to_string()).source(source),
            GitError::Fs(error) => error.into(),
        }
    }
}

trait Doing<T> {
    fn doing(self, action: &'static str) -> Result<T, GitError>;
}

impl<T> Doing<T> for Result<T, git2::Error> {
    fn doing(self, action: &'static str) -> Result<T, GitError> {
        self.map_err(|source| GitError::Failed { action, source })
    }
}

/// The repository that a project lies in; without one, nothing is tracked and nothing ignored.
pub(crate) struct Git {
    opened: Option<Opened>,
    workdir: PathBuf,
}

impl Git {
    /// Opens the repository whose work tree holds a directory.
    pub(crate) fn discover(directory: &Path) -> Result<Git, GitError> {
        let opened = open::at_or_above(directory)?.ok_or_else(|| GitError::NoRepository(directory.to_owned()))?;
        Ok(Git { workdir: opened.top.clone(), opened: Some(opened) })
    }

    /// Opens the repository with this work tree; `None` where it is none.
    pub(crate) fn at(top: &Path) -> Result<Option<Git>, GitError> {
        Ok(open::at(top)?.map(|opened| Git { workdir: opened.top.clone(), opened: Some(opened) }))
    }

    /// Does without a repository (`core.no_scm`): all files below a directory are those of the project.
    pub(crate) fn none(top: &Path) -> Git {
        Git { opened: None, workdir: top.to_owned() }
    }

    /// The top of the work tree.
    pub(crate) fn workdir(&self) -> &Path {
        &self.workdir
    }

    /// Whether there is a repository.
    pub(crate) fn is_there(&self) -> bool {
        self.opened.is_some()
    }

    fn opened(&self) -> Result<&Opened, GitError> {
        self.opened.as_ref().ok_or_else(|| GitError::NoRepository(self.workdir.clone()))
    }

    /// The commit that is checked out; `None` before the first, or without a repository.
    pub(crate) fn head(&self) -> Result<Option<String>, GitError> {
        let Some(opened) = &self.opened else { return Ok(None) };
        match opened.repository.head().and_then(|head| head.peel_to_commit()) {
            Ok(commit) => Ok(Some(commit.id().to_string())),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => Ok(None),
            Err(source) => Err(GitError::Failed { action: "read HEAD", source }),
        }
    }

    /// The object that HEAD has at a path, relative to the work tree.
    pub(crate) fn at_head(&self, path: &str) -> Result<Option<String>, GitError> {
        let (Some(opened), Some(head)) = (&self.opened, self.head()?) else { return Ok(None) };
        let commit = git2::Oid::from_str(&head).and_then(|id| opened.repository.find_commit(id)).doing("read HEAD")?;
        match commit.tree().and_then(|tree| tree.get_path(Path::new(path))) {
            Ok(entry) => Ok(Some(entry.id().to_string())),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(source) => Err(GitError::Failed { action: "read HEAD", source }),
        }
    }

    /// The branch that is checked out; `None` where none is.
    pub(crate) fn branch(&self) -> Result<Option<String>, GitError> {
        let Some(opened) = &self.opened else { return Ok(None) };
        let head = opened.repository.find_reference("HEAD").doing("read HEAD")?;
        let target = head.symbolic_target().doing("read HEAD")?;
        Ok(target.map(|name| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned()))
    }

    /// Whether two commits hold the same files.
    pub(crate) fn is_same_tree(&self, one: &str, other: &str) -> Result<bool, GitError> {
        let repository = &self.opened()?.repository;
        let tree = |name: &str| Ok::<_, git2::Error>(repository.find_commit(git2::Oid::from_str(name)?)?.tree_id());
        Ok(tree(one).doing("read a commit")? == tree(other).doing("read a commit")?)
    }

    /// The paths that a merge left for somebody to resolve, relative to the work tree.
    pub(crate) fn unmerged(&self) -> Result<Vec<String>, GitError> {
        let Some(opened) = &self.opened else { return Ok(vec![]) };
        let index = opened.repository.index().doing("read the index")?;
        if !index.has_conflicts() {
            return Ok(vec![]);
        }
        let mut paths: Vec<String> = index
            .iter()
            .filter(|entry| stage_of(entry) != 0)
            .map(|entry| String::from_utf8_lossy(&entry.path).into_owned())
            .collect();
        paths.dedup();
        Ok(paths)
    }

    /// Whether the index has a file at a path or below it, relative to the work tree.
    pub(crate) fn is_tracked(&self, path: &str) -> Result<bool, GitError> {
        let Some(opened) = &self.opened else { return Ok(false) };
        let index = opened.repository.index().doing("read the index")?;
        Ok(is_in(&index, path) || index.find_prefix(format!("{path}/")).is_ok())
    }

    /// Stages files, as `git add` does, for `core.autostage`.
    pub(crate) fn stage(&self, paths: &[String]) -> Result<(), GitError> {
        let Some(opened) = &self.opened else { return Ok(()) };
        let mut index = opened.repository.index().doing("read the index")?;
        for path in paths {
            if self.workdir.join(path).exists() {
                index.add_path(Path::new(path)).doing("stage a file")?;
            }
        }
        index.write().doing("write the index")
    }
}

/// Whether an index has a file at a path. Over one that no file can have `git2` panics: an empty one, one that leads out of the
/// work tree, or with a NUL.
fn is_in(index: &git2::Index, path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    let may_be =
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_))) && !path.contains('\0');
    may_be && index.get_path(Path::new(path), 0).is_some()
}

/// The lower 32 bits, all that an index has room for.
pub(crate) fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("masked")
}

/// The user's file of this name (`ignore`, `attributes`), which holds where no setting names another one.
fn users_file(name: &str) -> Option<PathBuf> {
    let config = env::read(env::XDG_CONFIG_HOME).map(PathBuf::from);
    Some(config.or_else(|| Some(Path::new(&env::read(env::HOME)?).join(".config")))?.join("git").join(name))
}

/// Which side of a merge an index entry is of; 0 outside of one.
fn stage_of(entry: &git2::IndexEntry) -> u16 {
    (entry.flags >> 12) & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_comes_with_what_to_do() {
        let hints = |said: &str| {
            let source = git2::Error::from_str(said);
            Diagnostic::from(GitError::Failed { action: "write the workspace's tree", source }).hints
        };
        assert!(hints("failed to write out file: No space left on device")[0].contains("free some space"));
        assert_eq!(hints("failed to make directory '/p/runs': Permission denied"), [NO_ACCESS]);
        assert!(hints("failed to write out file: Input/output error").is_empty());
    }
}
