//! The snapshot of a run: a repository of its own in the run's folder, which borrows the objects that git has.
//!
//! Nothing of a run is written into the user's repository, and the snapshot goes with the run.

use std::path::{Path, PathBuf};

use git2::{Commit, Index, ObjectType, Oid, Repository, RepositoryInitOptions, Signature, Tree};

use super::{Doing as _, EXECUTABLE, Git, GitError, SUBMODULE, SYMLINK};
use crate::adapters::fs;
use crate::adapters::git::tree::{Skip, WorkTree};

/// The trees that workers begin with.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The commit that holds everything.
    pub commit: String,
    /// The tree without what `leave_out` says.
    pub workspace: String,
}

/// A file of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct TreeFile {
    pub content: Content,
    pub executable: bool,
    /// Of a linked file.
    pub stamp: Option<String>,
}

/// What a snapshot knows of a file.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// The target of a symlink.
    Symlink(Vec<u8>),
    /// It lies in the project alone; see `linked`.
    Linked,
}

impl TreeFile {
    /// The content as far as the snapshot has it.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Bytes(bytes) | Content::Symlink(bytes) => bytes,
            Content::Linked => b"",
        }
    }
}

/// The repository that holds a snapshot.
pub(crate) struct Store {
    path: PathBuf,
    repository: Repository,
}

impl Store {
    /// Makes a store at a path where there is none.
    pub(crate) fn create(path: &Path) -> Result<Store, GitError> {
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).mkpath(true);
        Repository::init_opts(path, &options).doing("make a repository for the snapshot")?;
        Store::open(path)
    }

    /// Opens the store at a path.
    pub(crate) fn open(path: &Path) -> Result<Store, GitError> {
        let repository = Repository::open_bare(path).map_err(|_| GitError::NoSnapshot(path.to_owned()))?;
        Ok(Store { path: path.to_owned(), repository })
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Has the objects of other repositories too.
    pub(super) fn borrow_from(&self, lenders: &[Alternate]) -> Result<(), GitError> {
        let odb = self.repository.odb().doing("borrow objects")?;
        for lender in lenders {
            odb.add_disk_alternate(&lender.objects).doing("borrow objects")?;
        }
        let text = lenders.iter().fold(String::new(), |text, lender| text + &lender.line + "\n");
        Ok(fs::write_plain(&self.objects().join("info/alternates"), text.as_bytes())?)
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Records a content.
    pub(super) fn write_blob(&self, bytes: &[u8]) -> Result<Oid, GitError> {
        self.repository.blob(bytes).doing("record a file")
    }

    /// Records a work tree as a commit. `leave_out` gets paths relative to its top.
    pub(crate) fn snapshot(&self, run: &str, work_tree: WorkTree, leave_out: &Skip<'_>) -> Result<Snapshot, GitError> {
        let mut index = work_tree.into_index();
        let tree = index.write_tree_to(&self.repository).doing("write the snapshot's tree")?;
        let mut workspace = Index::new().doing("make an index")?;
        for entry in index.iter() {
            if !std::str::from_utf8(&entry.path).is_ok_and(leave_out) {
                workspace.add(&entry).doing("fill an index")?;
            }
        }
        let workspace = workspace.write_tree_to(&self.repository).doing("write the workspace's tree")?;
        let tree = self.repository.find_tree(tree).doing("read the snapshot's tree")?;
        let signature = Signature::now("dvc-fanout", "dvc-fanout@localhost").doing("make a signature")?;
        let message = format!("workspace at the plan of run {run}\n");
        let commit =
            self.repository.commit(None, &signature, &signature, &message, &tree, &[]).doing("commit the snapshot")?;
        Ok(Snapshot { commit: commit.to_string(), workspace: workspace.to_string() })
    }

    /// The paths in which the work tree is no longer what a snapshot recorded, relative to its top. Those that are not UTF-8
    /// are left out: what commands make under such names comes into the project at once, and no result can list it.
    pub(crate) fn changed_since(&self, commit: &str, git: &Git, skip: &Skip<'_>) -> Result<Vec<String>, GitError> {
        let now = git.work_tree(None, skip)?;
        let then = self.tree_of(commit)?;
        let diff = self
            .repository
            .diff_tree_to_index(Some(&then), Some(now.index()), None)
            .doing("compare with the snapshot")?;
        let path = |delta: git2::DiffDelta<'_>| delta.new_file().path()?.to_str().map(str::to_owned);
        Ok(diff.deltas().filter_map(path).collect())
    }

    fn find_commit(&self, commit: &str) -> Result<Commit<'_>, GitError> {
        Oid::from_str(commit).and_then(|oid| self.repository.find_commit(oid)).doing("read the snapshot")
    }

    pub(super) fn tree_of(&self, commit: &str) -> Result<Tree<'_>, GitError> {
        self.find_commit(commit)?.tree().doing("read the snapshot's tree")
    }

    /// Fails where a snapshot, or an object that it borrows, cannot be read here.
    pub(crate) fn look_for(&self, commit: &str) -> Result<(), GitError> {
        self.files_of(&self.tree_of(commit)?).map(drop)
    }

    /// The files of a snapshot at a path or below it, as `(path, file)`; none where it has nothing there.
    pub(crate) fn files_at(&self, commit: &str, path: &str) -> Result<Vec<(String, TreeFile)>, GitError> {
        let tree = self.tree_of(commit)?;
        let entry = match tree.get_path(Path::new(path)) {
            Ok(entry) => entry,
            Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(vec![]),
            Err(source) => return Err(GitError::Failed { action: "read the snapshot's tree", source }),
        };
        let found = match entry.kind() {
            Some(ObjectType::Tree) => {
                let inside = self.repository.find_tree(entry.id()).doing("read a tree")?;
                let below = |found: TreeEntry| TreeEntry { path: format!("{path}/{}", found.path), ..found };
                self.files_of(&inside)?.into_iter().map(below).collect()
            }
            _ => vec![TreeEntry { path: path.to_owned(), id: entry.id(), mode: entry.filemode().cast_unsigned() }],
        };
        found.into_iter().map(|found| Ok((found.path.clone(), self.file(&found)?))).collect()
    }

    /// The file of a snapshot at a path; `None` where it has none, or a folder.
    pub(crate) fn file_at(&self, commit: &str, path: &str) -> Result<Option<TreeFile>, GitError> {
        let found = self.files_at(commit, path)?.into_iter().find(|(found, _)| found == path);
        Ok(found.map(|(_, file)| file))
    }

    /// The stamp of a linked file.
    pub(crate) fn stamp_of(&self, commit: &str, path: &str) -> Result<Option<String>, GitError> {
        Ok(self.file_at(commit, path)?.and_then(|file| file.stamp))
    }

    fn file(&self, found: &TreeEntry) -> Result<TreeFile, GitError> {
        let content = match found.mode {
            SUBMODULE => Content::Linked,
            SYMLINK => Content::Symlink(self.read_blob(found.id)?),
            _ => Content::Bytes(self.read_blob(found.id)?),
        };
        let stamp = (found.mode == SUBMODULE).then(|| found.id.to_string());
        Ok(TreeFile { content, executable: found.mode == EXECUTABLE, stamp })
    }

    pub(super) fn read_blob(&self, id: Oid) -> Result<Vec<u8>, GitError> {
        Ok(self.repository.find_blob(id).doing("read a blob of the snapshot")?.content().to_vec())
    }

    /// Reads a blob of the snapshot.
    pub(crate) fn blob(&self, id: &str) -> Result<Vec<u8>, GitError> {
        self.read_blob(Oid::from_str(id).doing("read a blob of the snapshot")?)
    }

    /// The entries of a tree by its id.
    pub(super) fn entries(&self, tree: &str) -> Result<Vec<TreeEntry>, GitError> {
        let tree = Oid::from_str(tree).and_then(|id| self.repository.find_tree(id));
        self.files_of(&tree.doing("read the workspace's tree")?)
    }

    /// The files of a tree, sorted by path.
    fn files_of(&self, tree: &Tree<'_>) -> Result<Vec<TreeEntry>, GitError> {
        let mut files = vec![];
        let mut stack = vec![(String::new(), tree.clone())];
        while let Some((directory, tree)) = stack.pop() {
            for entry in &tree {
                // Names that are no UTF-8 come into workspaces byte by byte, as inputs.
                let Ok(name) = std::str::from_utf8(entry.name_bytes()) else { continue };
                let path = format!("{directory}{name}");
                if entry.kind() == Some(ObjectType::Tree) {
                    stack.push((path + "/", self.repository.find_tree(entry.id()).doing("read a tree")?));
                } else {
                    files.push(TreeEntry { path, id: entry.id(), mode: entry.filemode().cast_unsigned() });
                }
            }
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

/// A file in a tree.
#[derive(Clone, Debug)]
pub(super) struct TreeEntry {
    pub path: String,
    pub id: Oid,
    pub mode: u32,
}

/// An object directory that another repository has objects from, as its `info/alternates` names it.
#[derive(Clone, Debug)]
pub(super) struct Alternate {
    objects: String,
    pub line: String,
}

impl Alternate {
    /// How a repository with the object directory `own` names another one; `None` where a line cannot say it. Paths are
    /// relative where the two have more than the root in common, so that they hold wherever the project is mounted.
    pub(super) fn new(own: &Path, objects: &Path) -> Option<Alternate> {
        // Git follows symlinks before it goes up.
        let (own, objects) = (own.canonicalize().ok()?, objects.canonicalize().ok()?);
        let common =
            own.ancestors().find(|above| objects.starts_with(above)).filter(|common| common.parent().is_some());
        let line = match common {
            Some(common) => {
                let up = own.strip_prefix(common).ok()?.components().count();
                "../".repeat(up) + objects.strip_prefix(common).ok()?.to_str()?
            }
            None => objects.to_str()?.to_owned(),
        };
        // Git reads a list of lines.
        Some(Alternate { objects: objects.to_str()?.to_owned(), line }).filter(|named| !named.line.contains('\n'))
    }
}
