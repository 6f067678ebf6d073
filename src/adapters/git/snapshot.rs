//! The work tree as it is, as git objects.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use git2::{AttrCheckFlags, Index, IndexAddOption, IndexEntry, ObjectType, Oid, Repository, Signature};

use super::{Doing as _, EXECUTABLE, FILE, Git, GitError, SUBMODULE};

/// The attributes that make git keep another content than the work tree has.
const CONVERTING: [&str; 6] = ["text", "crlf", "eol", "ident", "filter", "working-tree-encoding"];

/// The trees that workers begin with.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The commit that holds everything.
    pub commit: String,
    /// The tree without what `leave_out` says.
    pub workspace: String,
}

/// The files of a work tree that git tracks or does not ignore, as they are.
pub(crate) struct WorkTree {
    index: Index,
}

impl WorkTree {
    /// Whether it has a file at a path, relative to its top.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.index.get_path(Path::new(path), 0).is_some()
    }

    pub(super) fn into_index(self) -> Index {
        self.index
    }
}

impl Git {
    /// Reads the work tree, uncommitted and untracked files included, ignored ones not.
    ///
    /// Contents are those of the work tree, even where git would keep others (line ends, filters). The files of
    /// submodules are in it like any others. The index on disk stays as it is.
    pub(crate) fn work_tree(&self) -> Result<WorkTree, GitError> {
        let mut index = self.repository.index().doing("read the index")?;
        index.add_all(["*"], IndexAddOption::DEFAULT, None).doing("read the work tree")?;
        index.update_all(["*"], None).doing("read the work tree")?;
        let converts = self.converts(&index)?;
        if !converts && index.iter().all(|entry| entry.mode != SUBMODULE) {
            return Ok(WorkTree { index });
        }
        let mut seen = Index::new().doing("make an index")?;
        for mut entry in index.iter() {
            if entry.mode == SUBMODULE {
                self.add_submodule(&entry, &mut seen)?;
                continue;
            }
            if converts {
                self.take_as_it_is(&mut entry)?;
            }
            seen.add(&entry).doing("fill an index")?;
        }
        Ok(WorkTree { index: seen })
    }

    /// Records a work tree as a commit; `keep` gives it a ref. `leave_out` gets paths relative to its top.
    pub(crate) fn snapshot(
        &self,
        run: &str,
        work_tree: WorkTree,
        leave_out: &dyn Fn(&str) -> bool,
    ) -> Result<Snapshot, GitError> {
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
        let parent = self.head()?.map(|head| self.find_commit(&head)).transpose()?;
        let signature = Signature::now("dvc-fanout", "dvc-fanout@localhost").doing("make a signature")?;
        let message = format!("workspace at the plan of run {run}\n");
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        let commit = self
            .repository
            .commit(None, &signature, &signature, &message, &tree, &parents)
            .doing("commit the snapshot")?;
        Ok(Snapshot { commit: commit.to_string(), workspace: workspace.to_string() })
    }

    /// Whether git may keep other contents or modes than the work tree has.
    fn converts(&self, index: &Index) -> Result<bool, GitError> {
        let config = self.repository.config().and_then(|mut config| config.snapshot()).doing("read git's config")?;
        let has_attributes =
            index.iter().any(|entry| entry.path == b".gitattributes" || entry.path.ends_with(b"/.gitattributes"));
        let converts_lines = config.get_string("core.autocrlf").is_ok_and(|value| value != "false");
        let ignores_modes = config.get_bool("core.filemode").is_ok_and(|modes| !modes);
        let elsewhere = config.get_string("core.attributesfile").is_ok()
            || self.repository.commondir().join("info/attributes").exists();
        Ok(has_attributes || converts_lines || ignores_modes || elsewhere)
    }

    /// Gives a file the content and mode that it has in the work tree.
    fn take_as_it_is(&self, entry: &mut IndexEntry) -> Result<(), GitError> {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let at = self.workdir.join(&path);
        let Ok(metadata) = at.symlink_metadata() else { return Ok(()) };
        if !metadata.is_file() || (entry.mode != FILE && entry.mode != EXECUTABLE) {
            return Ok(());
        }
        entry.mode = if metadata.permissions().mode() & 0o100 == 0 { FILE } else { EXECUTABLE };
        let is_set = |name: &&str| {
            let value = self.repository.get_attr(Path::new(&path), name, AttrCheckFlags::FILE_THEN_INDEX);
            value.ok().flatten().is_some()
        };
        let by_config = self.repository.config().and_then(|config| config.get_string("core.autocrlf"));
        if by_config.is_ok_and(|value| value != "false") || CONVERTING.iter().any(is_set) {
            let bytes = std::fs::read(&at).map_err(|error| git2::Error::from_str(&error.to_string()));
            entry.id = bytes.and_then(|bytes| self.repository.blob(&bytes)).doing("record a file")?;
        }
        Ok(())
    }

    /// Adds the files in a submodule's work tree; none where it is not checked out.
    fn add_submodule(&self, entry: &IndexEntry, seen: &mut Index) -> Result<(), GitError> {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let workdir = self.workdir.join(&path);
        let Ok(repository) = Repository::open(&workdir) else { return Ok(()) };
        let inner = Git { repository, workdir };
        let files = inner.work_tree()?.index;
        let (from, to) = (&inner.repository.odb().doing("open a submodule")?, &self.repository);
        let to = to.odb().doing("open the repository")?;
        for mut file in files.iter() {
            copy_blob(from, &to, file.id).doing("record a submodule's file")?;
            file.path = [entry.path.as_slice(), b"/", &file.path].concat();
            seen.add(&file).doing("fill an index")?;
        }
        Ok(())
    }
}

fn copy_blob(from: &git2::Odb<'_>, to: &git2::Odb<'_>, id: Oid) -> Result<(), git2::Error> {
    if !to.exists(id) {
        to.write(ObjectType::Blob, from.read(id)?.data())?;
    }
    Ok(())
}
