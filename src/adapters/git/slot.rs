//! The repository in a slot's workspace: what git says there is what it says in the project.
//!
//! It is a repository of its own that borrows the project's objects. It has the same branch, refs, configuration and
//! ignore rules, and an index in which what the slot leaves out counts as unchanged (*skip-worktree*), so that commands
//! which ask git for a version (`git describe --dirty`) get the project's.

use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{FileMode, Index, IndexEntryExtendedFlag, IndexTime, ObjectType, Oid, Repository, RepositoryInitOptions};

use super::{Doing as _, Git, GitError, SUBMODULE, reference};
use crate::adapters::fs::{self, FsError};

/// Files of the project's repository that a slot's has too.
const COPIED: [&str; 3] = ["info/exclude", "info/attributes", "shallow"];

/// What a slot's repository begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning<'a> {
    /// The tree that is checked out.
    pub tree: &'a str,
    /// The commit that is HEAD, if there is any.
    pub head: Option<&'a str>,
    /// The commit of the whole work tree, of which the tree is a part.
    pub snapshot: Option<&'a str>,
}

impl Git {
    /// Makes a repository at `to`, which does not exist, and checks a tree out.
    ///
    /// `manifest` becomes an index that tells for each file what was written.
    pub(crate) fn check_out(&self, begin: Beginning<'_>, to: &Path, manifest: &Path) -> Result<(), GitError> {
        let mut options = RepositoryInitOptions::new();
        options.external_template(false).mkpath(true).no_reinit(true);
        let repository = Repository::init_opts(to, &options).doing("make a slot's repository")?;
        let objects = self.repository.commondir().join("objects");
        repository.odb().and_then(|odb| odb.add_disk_alternate(&objects.to_string_lossy())).doing("borrow objects")?;
        write(&repository, "objects/info/alternates", format!("{}\n", objects.display()).as_bytes())?;
        let tree = Oid::from_str(begin.tree).doing("read a tree's name")?;
        let tree = repository.find_object(tree, Some(ObjectType::Tree)).doing("read the workspace's tree")?;
        let mut checkout = CheckoutBuilder::new();
        checkout.force().update_index(true).disable_filters(true);
        repository.checkout_tree(&tree, Some(&mut checkout)).doing("check out the workspace")?;
        let index = repository.path().join("index");
        fs::read(&index).and_then(|bytes| fs::write(manifest, &bytes)).map_err(|error| broken(&error))?;
        self.imitate_index(begin, manifest, &index)?;
        self.imitate_refs(begin.head, &repository)?;
        self.imitate_settings(to, &repository)
    }

    /// Writes the project's index with the stat data of the slot's files.
    fn imitate_index(&self, begin: Beginning<'_>, manifest: &Path, to: &Path) -> Result<(), GitError> {
        let own = Index::open(manifest).doing("read a slot's manifest")?;
        let snapshot = begin.snapshot.map(|commit| self.find_commit(commit)?.tree().doing("read the snapshot's tree"));
        let snapshot = snapshot.transpose()?;
        let index = self.repository.index().doing("read the index")?;
        let mut imitated =
            Index::open(to).and_then(|mut index| index.clear().map(|()| index)).doing("write an index")?;
        for mut entry in index.iter().filter(|entry| super::stage_of(entry) == 0) {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let path = Path::new(&path);
            let written = own.get_path(path, 0);
            let planned = || snapshot.as_ref().and_then(|tree| tree.get_path(path).ok()).map(|found| found.id());
            match written {
                Some(written) if written.id == entry.id => {
                    let mode = entry.mode;
                    entry = written;
                    entry.mode = mode;
                }
                None if entry.mode == SUBMODULE || planned() == Some(entry.id) => {
                    entry.flags_extended |= IndexEntryExtendedFlag::SKIP_WORKTREE.bits();
                }
                // Git has to look for itself.
                Some(_) | None => {
                    (entry.ctime, entry.mtime) = (IndexTime::new(0, 0), IndexTime::new(0, 0));
                    (entry.ino, entry.file_size) = (0, 0);
                }
            }
            imitated.add(&entry).doing("fill an index")?;
        }
        imitated.write().doing("write an index")
    }

    /// The digest of what a slot's repository copies beside objects and index.
    pub(crate) fn setting(&self) -> Result<String, GitError> {
        let head = self.head()?;
        let (refs, head) = self.refs(head.as_deref())?;
        let mut all = format!("{refs}{head}").into_bytes();
        for name in COPIED {
            all.extend(std::fs::read(self.repository.commondir().join(name)).unwrap_or_default());
        }
        Ok(fs::digest_bytes(&all))
    }

    /// The text of `packed-refs` with the same refs and of `HEAD` on the same branch, where HEAD is that commit.
    fn refs(&self, head: Option<&str>) -> Result<(String, String), GitError> {
        let own = self.repository.find_reference("HEAD").doing("read HEAD")?;
        let branch = own.symbolic_target().doing("read HEAD")?;
        let mut refs = vec![];
        for found in self.repository.references().doing("list refs")? {
            let found = found.doing("list refs")?;
            // A name that is not UTF-8 cannot be asked for here either.
            if let (Ok(name), Some(target)) = (found.name(), found.target())
                && !name.starts_with(&reference(""))
                && Some(name) != branch
            {
                refs.push(format!("{target} {name}\n"));
            }
        }
        refs.extend(branch.zip(head).map(|(branch, head)| format!("{head} {branch}\n")));
        refs.sort_unstable_by(|a, b| a.split(' ').nth(1).cmp(&b.split(' ').nth(1)));
        let head = branch.map_or_else(|| head.unwrap_or_default().to_owned(), |branch| format!("ref: {branch}"));
        Ok((refs.concat(), format!("{head}\n")))
    }

    /// Has the same refs, the same branch, and HEAD as planned.
    fn imitate_refs(&self, head: Option<&str>, repository: &Repository) -> Result<(), GitError> {
        let (refs, head) = self.refs(head)?;
        write(repository, "packed-refs", refs.as_bytes())?;
        write(repository, "HEAD", head.as_bytes())
    }

    /// Has the same configuration and ignore rules.
    fn imitate_settings(&self, top: &Path, repository: &Repository) -> Result<(), GitError> {
        let project = self.repository.commondir();
        for name in COPIED {
            let from = project.join(name);
            if from.is_file() {
                let bytes = fs::read(&from).map_err(|error| broken(&error))?;
                write(repository, name, &bytes)?;
            }
        }
        let config = repository.path().join("config");
        let mut text = fs::read_text_if_any(&config).map_err(|error| broken(&error))?.unwrap_or_default();
        let is_elsewhere = self.repository.config().and_then(|config| config.get_string("core.worktree")).is_ok();
        let quoted =
            |path: &Path| format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""));
        text.push_str(&format!("[include]\n\tpath = {}\n", quoted(&project.join("config"))));
        // What the project says about its own work tree does not hold for this one.
        text.push_str("[core]\n\tbare = false\n\tfsmonitor = false\n");
        if is_elsewhere {
            text.push_str(&format!("\tworktree = {}\n", quoted(top)));
        }
        write(repository, "config", text.as_bytes())
    }
}

fn write(repository: &Repository, name: &str, bytes: &[u8]) -> Result<(), GitError> {
    fs::write_plain(&repository.path().join(name), bytes).map_err(|error| broken(&error))
}

fn broken(error: &FsError) -> GitError {
    let source = git2::Error::from_str(&format!("{error}: {}", error.source));
    GitError::Failed { action: "make a slot's repository", source }
}

/// A file that belongs in a workspace, as git wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestFile {
    pub path: String,
    /// The lower 32 bits.
    pub size: u32,
    /// The lower 32 bits.
    pub inode: u32,
    /// Seconds and nanoseconds; the lower 32 bits of the seconds.
    pub modified: (i32, u32),
    pub executable: bool,
    pub symlink: bool,
    /// The blob's object id.
    pub blob: String,
}

/// Reads the files that an index lists, in order of path.
pub(crate) fn read_manifest(index: &Path) -> Result<Vec<ManifestFile>, GitError> {
    let index = Index::open(index).doing("read a slot's manifest")?;
    Ok(index
        .iter()
        .map(|entry| ManifestFile {
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            size: entry.file_size,
            inode: entry.ino,
            modified: (entry.mtime.seconds(), entry.mtime.nanoseconds()),
            executable: entry.mode == u32::from(FileMode::BlobExecutable),
            symlink: entry.mode == u32::from(FileMode::Link),
            blob: entry.id.to_string(),
        })
        .collect())
}

/// Reads a blob of the repository in a slot's workspace.
pub(crate) fn read_blob(workspace: &Path, blob: &str) -> Result<Vec<u8>, GitError> {
    let repository = Repository::open(workspace).doing("open a slot's repository")?;
    let blob = Oid::from_str(blob).and_then(|oid| repository.find_blob(oid)).doing("read a blob")?;
    Ok(blob.content().to_vec())
}
