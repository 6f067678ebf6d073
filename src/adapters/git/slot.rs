//! The repository in a slot's workspace: what git says there is what it says in the project.
//!
//! It is a repository of its own that borrows the project's objects; so has each nested repository one. It has the same branch, refs, configuration and
//! ignore rules, and an index in which what the slot leaves out counts as unchanged (*skip-worktree*), so that commands
//! which ask git for a version (`git describe --dirty`) get the project's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{Index, IndexEntry, IndexEntryExtendedFlag, IndexTime, Repository, RepositoryInitOptions};
use rayon::prelude::*;

use super::kept::{self, Stat};
use super::refs::Refs;
use super::store::{Alternate, Store, TreeEntry};
use super::{Doing as _, EXECUTABLE, Git, GitError, SUBMODULE, SYMLINK, linked};
use crate::adapters::fs::{self, At as _};
use crate::adapters::mounts::Aside;

/// Files of the project's repository that a slot's has too.
const COPIED: [&str; 3] = ["info/exclude", "info/attributes", "shallow"];
/// What is there of a sparse work tree; each of a repository's work trees has its own.
const SPARSE: &str = "info/sparse-checkout";
/// The settings of one work tree, which hold where `extensions.worktreeConfig` is set.
const OF_WORK_TREE: &str = "config.worktree";

/// What a slot begins with.
#[derive(Clone, Copy)]
pub(crate) struct Beginning<'a> {
    pub store: &'a Store,
    /// The tree that is put in.
    pub tree: &'a str,
    /// The commit that is HEAD, if there is any.
    pub head: Option<&'a str>,
    /// The commit of the whole work tree, of which the tree is a part.
    pub snapshot: Option<&'a str>,
    /// The folders that have a repository of their own.
    pub nested: &'a [String],
    /// The project's second name, where the slot's workspace is to hide the first.
    pub aside: Option<&'a Aside>,
}

impl Beginning<'_> {
    /// Where the slot finds what lies at a path.
    fn as_seen(&self, path: &Path) -> PathBuf {
        let real = || path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.aside.map_or_else(|| path.to_owned(), |aside| aside.of(&real()))
    }
}

impl Git {
    /// Fills a directory with the files of a tree, and makes it look to git as the project does.
    ///
    /// `manifest` becomes an index that tells for each file what was written. Where both are of an earlier call, what is
    /// still as it is to be stays, and everything else goes.
    pub(crate) fn check_out(&self, begin: Beginning<'_>, to: &Path, manifest: &Path) -> Result<(), GitError> {
        fs::create_dir(to)?;
        self.put_in(begin, to, manifest)?;
        if self.opened.is_some() {
            self.imitate(begin, begin.head, "", to, manifest)?;
        }
        for folder in begin.nested {
            let at = to.join(folder);
            if let Some(inner) = Git::at(&self.workdir.join(folder))?.filter(|_| at.is_dir()) {
                let head = inner.head()?;
                inner.imitate(begin, head.as_deref(), &format!("{folder}/"), &at, manifest)?;
            }
        }
        Ok(())
    }

    /// Writes the files of a tree, and what was written into the manifest.
    fn put_in(&self, begin: Beginning<'_>, to: &Path, manifest: &Path) -> Result<(), GitError> {
        let files = begin.store.entries(begin.tree)?;
        let top = &begin.as_seen(&self.workdir);
        let kept = kept::keep(to, manifest, &files, top)?;
        let mut folders: Vec<&str> = files.iter().filter_map(|file| Some(file.path.rsplit_once('/')?.0)).collect();
        folders.dedup();
        folders.iter().try_for_each(|folder| fs::create_dir(&to.join(folder)))?;
        let missing: Vec<&TreeEntry> = files.iter().filter(|file| !kept.contains_key(file.path.as_bytes())).collect();
        // A store is for one thread.
        let store = begin.store.path();
        let chunk = missing.len().div_ceil(rayon::current_num_threads()).max(1);
        let put_all = |files: &[&TreeEntry]| {
            let store = Store::open(store)?;
            files.iter().map(|file| put(&store, file, top, to)).collect()
        };
        let written: Vec<Vec<Option<IndexEntry>>> =
            missing.par_chunks(chunk).map(put_all).collect::<Result<_, GitError>>()?;
        fs::remove(manifest)?;
        let mut index = Index::open(manifest).doing("write a slot's manifest")?;
        for entry in kept.values().chain(written.iter().flatten().flatten()) {
            index.add(entry).doing("write a slot's manifest")?;
        }
        index.write().doing("write a slot's manifest")
    }

    /// Makes a repository at `to`, which is at `prefix` in the slot, that says what this one says.
    fn imitate(
        &self,
        begin: Beginning<'_>,
        head: Option<&str>,
        prefix: &str,
        to: &Path,
        manifest: &Path,
    ) -> Result<(), GitError> {
        let opened = self.opened()?;
        let mut options = RepositoryInitOptions::new();
        options.external_template(false).mkpath(true).no_reinit(true);
        let repository = Repository::init_opts(to, &options).doing("make a slot's repository")?;
        let (own, objects) = (repository.path().join("objects"), opened.common.join("objects"));
        let line = match begin.aside {
            // A relative path would lead elsewhere from where the workspace is seen.
            Some(_) => begin.as_seen(&objects).to_str().filter(|line| !line.contains('\n')).map(str::to_owned),
            None => Alternate::new(&own, &objects).map(|objects| objects.line),
        };
        let line = line.map(|line| line + "\n").unwrap_or_default();
        write(&repository, "objects/info/alternates", line.as_bytes())?;
        self.imitate_index(begin, prefix, manifest, &repository.path().join("index"))?;
        self.imitate_refs(head, &repository)?;
        self.imitate_settings(begin, &repository)
    }

    /// Writes the project's index with the stat data of the slot's files.
    fn imitate_index(&self, begin: Beginning<'_>, prefix: &str, manifest: &Path, to: &Path) -> Result<(), GitError> {
        let own = Index::open(manifest).doing("read a slot's manifest")?;
        let snapshot = begin.snapshot.map(|commit| begin.store.tree_of(commit)).transpose()?;
        let index = self.opened()?.repository.index().doing("read the index")?;
        let mut imitated =
            Index::open(to).and_then(|mut index| index.clear().map(|()| index)).doing("write an index")?;
        for mut entry in index.iter().filter(|entry| super::stage_of(entry) == 0) {
            let path = format!("{prefix}{}", String::from_utf8_lossy(&entry.path));
            let path = Path::new(&path);
            let written = own.get_path(path, 0);
            let planned = || snapshot.as_ref().and_then(|tree| tree.get_path(path).ok()).map(|found| found.id());
            match written {
                Some(written) if written.id == entry.id => {
                    let mode = entry.mode;
                    let path = std::mem::take(&mut entry.path);
                    let flags = (entry.flags, entry.flags_extended);
                    entry = IndexEntry { path, mode, flags: flags.0, flags_extended: flags.1, ..written };
                }
                // Git asks the one that is there.
                None if entry.mode == SUBMODULE && begin.nested.iter().any(|nested| Path::new(nested) == path) => {}
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
        let Some(opened) = &self.opened else { return Ok(String::new()) };
        let found = Refs::of(&opened.repository)?;
        let (refs, head) = found.texts(self.head()?.as_deref());
        let mut all = format!("{refs}{head}{:?}", found.symbolic).into_bytes();
        for path in
            COPIED.map(|name| opened.common.join(name)).into_iter().chain([opened.repository.path().join(SPARSE)])
        {
            all.extend(std::fs::read(path).unwrap_or_default());
        }
        Ok(fs::digest_bytes(&all))
    }

    /// Has the same refs, the same branch, and HEAD as planned.
    fn imitate_refs(&self, head: Option<&str>, repository: &Repository) -> Result<(), GitError> {
        let found = Refs::of(&self.opened()?.repository)?;
        let (refs, head) = found.texts(head);
        write(repository, "packed-refs", refs.as_bytes())?;
        for (name, target) in &found.symbolic {
            write(repository, name, format!("ref: {target}\n").as_bytes())?;
        }
        write(repository, "HEAD", head.as_bytes())
    }

    /// Has the same configuration and ignore rules.
    fn imitate_settings(&self, begin: Beginning<'_>, repository: &Repository) -> Result<(), GitError> {
        let opened = self.opened()?;
        let project = &opened.common;
        let common = COPIED.map(|name| (project.join(name), name));
        for (from, name) in common.into_iter().chain([(opened.repository.path().join(SPARSE), SPARSE)]) {
            if from.is_file() {
                let bytes = fs::read(&from)?;
                write(repository, name, &bytes)?;
            }
        }
        let config = repository.path().join("config");
        let mut text = fs::read_text_if_any(&config)?.unwrap_or_default();
        let is_elsewhere = opened.repository.config().and_then(|config| config.get_string("core.worktree")).is_ok();
        let quoted = |path: &Path| {
            format!(
                "\"{}\"",
                path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
            )
        };
        let mut include =
            |path: &Path| text.push_str(&format!("[include]\n\tpath = {}\n", quoted(&begin.as_seen(path))));
        include(&project.join("config"));
        let settings = opened.repository.config().and_then(|config| config.get_bool("extensions.worktreeConfig"));
        if settings.unwrap_or(false)
            && let Ok(own) = opened.repository.path().join(OF_WORK_TREE).canonicalize()
        {
            include(&own);
        }
        // What the project says about its own work tree does not hold for this one.
        text.push_str("[core]\n\tbare = false\n\tfsmonitor = false\n");
        if is_elsewhere {
            text.push_str("\tworktree = ..\n");
        }
        write(repository, "config", text.as_bytes())
    }
}

/// Writes one file of the work tree with this top into the slot's; `None` where it lies in the project alone and is gone from there.
fn put(store: &Store, file: &TreeEntry, top: &Path, to: &Path) -> Result<Option<IndexEntry>, GitError> {
    let at = to.join(&file.path);
    match file.mode {
        SUBMODULE => {
            if !linked::bring(&top.join(&file.path), &at)? {
                return Ok(None);
            }
        }
        SYMLINK => {
            let target = store.read_blob(file.id)?;
            fs::symlink(OsStr::from_bytes(&target), &at)?;
        }
        _ => {
            fs::write_plain(&at, &store.read_blob(file.id)?)?;
            if file.mode == EXECUTABLE {
                fs::set_executable(&at, true)?;
            }
            // Build tools look at times, and programs that pack files record them.
            fs::imitate(&top.join(&file.path), &at)?;
        }
    }
    let Stat { ctime, mtime, dev, ino, uid, gid, size } = Stat::of(&at.symlink_metadata().at("look at", &at)?);
    Ok(Some(IndexEntry {
        ctime: IndexTime::new(ctime.0, ctime.1),
        mtime: IndexTime::new(mtime.0, mtime.1),
        dev,
        ino,
        mode: file.mode,
        uid,
        gid,
        file_size: size,
        id: file.id,
        flags: 0,
        flags_extended: 0,
        path: file.path.clone().into_bytes(),
    }))
}

fn write(repository: &Repository, name: &str, bytes: &[u8]) -> Result<(), GitError> {
    Ok(fs::write_plain(&repository.path().join(name), bytes)?)
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
    /// Whether it was brought from the project, see `linked`; then the blob is a stamp.
    pub linked: bool,
    /// The blob's object id.
    pub blob: String,
}

/// Reads the files that an index lists, in order of path.
pub(crate) fn read_manifest(index: &Path) -> Result<Vec<ManifestFile>, GitError> {
    let index = Index::open(index).doing("read a slot's manifest")?;
    Ok(index
        .iter()
        .filter_map(|entry| Some((String::from_utf8(entry.path.clone()).ok()?, entry)))
        .map(|(path, entry)| ManifestFile {
            path,
            size: entry.file_size,
            inode: entry.ino,
            modified: (entry.mtime.seconds(), entry.mtime.nanoseconds()),
            executable: entry.mode == EXECUTABLE,
            symlink: entry.mode == SYMLINK,
            linked: entry.mode == SUBMODULE,
            blob: entry.id.to_string(),
        })
        .collect())
}
