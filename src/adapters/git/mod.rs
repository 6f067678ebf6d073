//! Git, through libgit2: the snapshot of a workspace, and the repositories that slots work in.
//!
//! The user's index, branch and working tree are never changed; only objects and refs below `refs/dvc-fanout` are.

pub(crate) mod ignore;
mod slot;
mod snapshot;

use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid, Repository};

use crate::diagnostic::Diagnostic;

pub(crate) use slot::{Beginning, ManifestFile, read_blob, read_manifest};
pub(crate) use snapshot::WorkTree;

/// The mode of a file in a git tree.
const FILE: u32 = 0o100_644;
/// The mode of an executable file in a git tree.
const EXECUTABLE: u32 = 0o100_755;
/// The mode of a symlink in a git tree.
const SYMLINK: u32 = 0o120_000;
/// The mode of a submodule in a git tree.
const SUBMODULE: u32 = 0o160_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("`{}` is not in a git work tree", .0.display())]
    NoRepository(PathBuf),
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
                .cause("workers see the project through a git snapshot of the workspace")
                .hint("run `git init` in the project (and `dvc config --unset core.no_scm`)"),
            GitError::Failed { ref source, .. } => Diagnostic::tool(error.to_string()).source(source),
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

/// The repository that a project lies in.
pub(crate) struct Git {
    repository: Repository,
    workdir: PathBuf,
}

/// A file of a tree.
#[derive(Clone, Debug)]
pub(crate) struct TreeFile {
    pub bytes: Vec<u8>,
    pub executable: bool,
    pub symlink: bool,
}

impl Git {
    /// Opens the repository whose work tree holds a directory.
    pub(crate) fn discover(directory: &Path) -> Result<Git, GitError> {
        let repository = match Repository::discover(directory) {
            Ok(repository) => repository,
            Err(error) if error.code() == ErrorCode::NotFound => {
                return Err(GitError::NoRepository(directory.to_owned()));
            }
            Err(source) => return Err(GitError::Failed { action: "open the repository", source }),
        };
        let workdir = repository.workdir().ok_or_else(|| GitError::NoRepository(directory.to_owned()))?.to_owned();
        Ok(Git { repository, workdir })
    }

    /// The top of the work tree.
    pub(crate) fn workdir(&self) -> &Path {
        &self.workdir
    }

    /// The commit that is checked out; `None` before the first.
    pub(crate) fn head(&self) -> Result<Option<String>, GitError> {
        match self.repository.head().and_then(|head| head.peel_to_commit()) {
            Ok(commit) => Ok(Some(commit.id().to_string())),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => Ok(None),
            Err(source) => Err(GitError::Failed { action: "read HEAD", source }),
        }
    }

    /// The object that HEAD has at a path, relative to the work tree.
    pub(crate) fn at_head(&self, path: &str) -> Result<Option<String>, GitError> {
        let Some(head) = self.head()? else { return Ok(None) };
        match self.find_commit(&head)?.tree().and_then(|tree| tree.get_path(Path::new(path))) {
            Ok(entry) => Ok(Some(entry.id().to_string())),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(source) => Err(GitError::Failed { action: "read HEAD", source }),
        }
    }

    /// Says what operation is under way (a merge, a rebase), if any, or that the index has conflicts.
    pub(crate) fn operation_in_progress(&self) -> Result<Option<String>, GitError> {
        let conflicts = self.repository.index().doing("read the index")?.has_conflicts();
        Ok(match self.repository.state() {
            git2::RepositoryState::Clean => conflicts.then(|| "the index has unmerged paths".to_owned()),
            state => Some(format!("a git operation is in progress ({state:?})").to_lowercase()),
        })
    }

    /// Whether the index has a file at a path or below it, relative to the work tree.
    pub(crate) fn is_tracked(&self, path: &str) -> Result<bool, GitError> {
        let index = self.repository.index().doing("read the index")?;
        Ok(index.get_path(Path::new(path), 0).is_some() || index.find_prefix(format!("{path}/")).is_ok())
    }

    /// Makes the ref of a run's snapshot, below `refs/dvc-fanout`; one that is there is fine.
    pub(crate) fn keep(&self, run: &str, commit: &str) -> Result<(), GitError> {
        self.unlock(run)?;
        let commit = self.find_commit(commit)?.id();
        self.repository.reference(&reference(run), commit, true, "snapshot").doing("make the snapshot's ref")?;
        Ok(())
    }

    /// Removes the lock file that a process left which was killed while it wrote a run's ref.
    fn unlock(&self, run: &str) -> Result<(), GitError> {
        let lock = self.repository.commondir().join(reference(run) + ".lock");
        Ok(crate::adapters::fs::remove(&lock)?)
    }

    /// The paths in which the work tree is no longer what a snapshot recorded, relative to its top.
    pub(crate) fn changed_since(&self, commit: &str) -> Result<Vec<String>, GitError> {
        let mut index = self.work_tree()?.into_index();
        let tree = index.write_tree_to(&self.repository).doing("write the work tree's tree")?;
        let now = self.repository.find_tree(tree).doing("read the work tree's tree")?;
        let then = self.find_commit(commit)?.tree().doing("read the snapshot's tree")?;
        let diff =
            self.repository.diff_tree_to_tree(Some(&then), Some(&now), None).doing("compare with the snapshot")?;
        let path = |delta: git2::DiffDelta<'_>| Some(delta.new_file().path()?.to_string_lossy().into_owned());
        Ok(diff.deltas().filter_map(path).collect())
    }

    fn find_commit(&self, commit: &str) -> Result<git2::Commit<'_>, GitError> {
        Oid::from_str(commit).and_then(|oid| self.repository.find_commit(oid)).doing("read a commit")
    }

    /// Fails where a commit cannot be read here.
    pub(crate) fn look_for(&self, commit: &str) -> Result<(), GitError> {
        self.find_commit(commit).map(drop)
    }

    /// The runs that have a snapshot.
    pub(crate) fn snapshots(&self) -> Result<Vec<String>, GitError> {
        let mut references = self.repository.references_glob(&reference("*")).doing("list snapshots")?;
        let names: Result<Vec<String>, _> = references.names().map(|name| name.map(str::to_owned)).collect();
        let prefix = reference("");
        Ok(names
            .doing("list snapshots")?
            .iter()
            .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned))
            .collect())
    }

    /// Removes the ref of a run's snapshot; none is fine.
    pub(crate) fn forget(&self, run: &str) -> Result<(), GitError> {
        self.unlock(run)?;
        match self.repository.find_reference(&reference(run)) {
            Ok(mut reference) => reference.delete().doing("delete the snapshot's ref"),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
            Err(source) => Err(GitError::Failed { action: "look for the snapshot's ref", source }),
        }
    }

    /// The files of a snapshot at a path or below it, as `(path, file)`; none where it has nothing there.
    pub(crate) fn files_at(&self, commit: &str, path: &str) -> Result<Vec<(String, TreeFile)>, GitError> {
        let tree = self.find_commit(commit)?.tree().doing("read the snapshot's tree")?;
        let entry = match tree.get_path(Path::new(path)) {
            Ok(entry) => entry,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(vec![]),
            Err(source) => return Err(GitError::Failed { action: "read the snapshot's tree", source }),
        };
        let mut files = vec![];
        let mut stack = vec![(path.to_owned(), entry.id(), entry.filemode(), entry.kind())];
        while let Some((path, id, mode, kind)) = stack.pop() {
            match kind {
                Some(ObjectType::Tree) => {
                    let tree = self.repository.find_tree(id).doing("read a tree")?;
                    for entry in &tree {
                        let path = format!("{path}/{}", String::from_utf8_lossy(entry.name_bytes()));
                        stack.push((path, entry.id(), entry.filemode(), entry.kind()));
                    }
                }
                Some(ObjectType::Blob) => {
                    let bytes = self.repository.find_blob(id).doing("read a blob")?.content().to_vec();
                    let mode = mode.cast_unsigned();
                    files.push((path, TreeFile { bytes, executable: mode == EXECUTABLE, symlink: mode == SYMLINK }));
                }
                _ => {}
            }
        }
        Ok(files)
    }

    /// Stages files, as `git add` does, for `core.autostage`.
    pub(crate) fn stage(&self, paths: &[String]) -> Result<(), GitError> {
        let mut index = self.repository.index().doing("read the index")?;
        for path in paths {
            if self.workdir.join(path).exists() {
                index.add_path(Path::new(path)).doing("stage a file")?;
            }
        }
        index.write().doing("write the index")
    }
}

/// Which side of a merge an index entry is of; 0 outside of one.
fn stage_of(entry: &git2::IndexEntry) -> u16 {
    (entry.flags >> 12) & 3
}

/// The name of the ref that holds a run's snapshot.
fn reference(run: &str) -> String {
    format!("refs/dvc-fanout/{run}")
}
