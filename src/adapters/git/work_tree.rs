//! The files of a work tree as they are: those that git tracks, and those that it does not ignore.
//!
//! | a file that | is taken |
//! |---|---|
//! | git tracks, unchanged by its stat data | as the blob that git has |
//! | git tracks, changed, or hidden from git (*skip-worktree*, *assume-unchanged*, *intent to add*, unmerged) | as it is |
//! | git tracks, in a repository that a list of paths cannot name | as it is |
//! | git keeps with other contents than the work tree has (line ends, filters) | as it is |
//! | git does not know | as it is |
//! | lies in a submodule, a clone or another work tree of its own | as the repository there sees it |
//! | cannot be read | not, and is named |
//! | is a FIFO, a socket or a device | not |
//!
//! Nothing is written into the repository, and what would make large copies is not copied but linked; see [`linked`].

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::{AttrCheckFlags, Index, IndexEntry, IndexEntryExtendedFlag, IndexEntryFlag, IndexTime, ObjectType, Oid};
use rayon::prelude::*;

use super::store::{Alternate, Store};
use super::{Doing as _, EXECUTABLE, FILE, Git, GitError, SUBMODULE, SYMLINK, linked, low, stage_of, users_file};
use crate::adapters::fs;
use crate::adapters::git::tree::{Skip, WorkTree};

/// Files of more than this are linked.
const LARGE: u64 = 4 << 20;
/// What files that are copied may come to; of more, the largest are linked.
const MAX_COPIED: u64 = 64 << 20;

impl Git {
    /// Reads the work tree, and records the contents that git does not have in a store, if there is one.
    pub(crate) fn work_tree(&self, store: Option<&Store>, skip: &Skip<'_>) -> Result<WorkTree, GitError> {
        let mut seen = Seen { own: store.map(Store::objects), ..Seen::default() };
        seen.read(self, b"", skip)?;
        if let Some(store) = store {
            store.borrow_from(&seen.lenders)?;
        }
        let linked = seen.set_links();
        let unreadable = seen.record(&self.workdir, store)?;
        let mut index = Index::new().doing("make an index")?;
        for (path, (id, mode)) in seen.files {
            index.add(&entry(path, id, mode)).doing("fill an index")?;
        }
        let nested = seen.nested.into_iter().map(|path| lossy(&path)).collect();
        Ok(WorkTree { index, unreadable, linked, nested })
    }
}

/// What was found so far; paths are bytes, relative to the top of the outermost work tree.
#[derive(Default)]
struct Seen {
    /// With the blob's id and the mode in a tree.
    files: BTreeMap<Vec<u8>, (Oid, u32)>,
    /// Those that have to be read, with what was found there.
    unread: Vec<(Vec<u8>, Metadata)>,
    nested: Vec<Vec<u8>>,
    /// The object directory of the store, if there is one.
    own: Option<PathBuf>,
    /// Those that it has blobs from.
    lenders: Vec<Alternate>,
}

impl Seen {
    /// Takes what a work tree has, whose top is at `prefix` (empty, or with a `/` at its end).
    fn read(&mut self, git: &Git, prefix: &[u8], skip: &Skip<'_>) -> Result<(), GitError> {
        let at = |path: &[u8]| [prefix, path].concat();
        let Some(opened) = &git.opened else {
            return self.take_all(&git.workdir, prefix, skip);
        };
        let is_lent = self.borrow_from(&opened.common.join("objects"));
        let index = opened.index()?;
        let tracked: Vec<IndexEntry> = index.iter().collect();
        let known: HashSet<&[u8]> = tracked.iter().map(|entry| entry.path.as_slice()).collect();
        let mut others = BTreeSet::new();
        for path in git.beside(&known)? {
            // A folder that is named as such has a repository of its own.
            if let Some(folder) = path.strip_suffix(b"/") {
                self.read_nested(git, &at(folder), folder, skip)?;
            } else if !skip(&lossy(&at(&path))) {
                others.insert(path);
            }
        }
        let top = &git.workdir;
        let found: Vec<Option<Metadata>> =
            tracked.par_iter().map(|entry| top.join(OsStr::from_bytes(&entry.path)).symlink_metadata().ok()).collect();
        let written = index.path().and_then(|path| path.metadata().ok());
        let converting = git.converting(&tracked)?;
        for (entry, found) in tracked.iter().zip(found) {
            let path = at(&entry.path);
            // Where a folder was replaced by something else, its files are only seen through that.
            let is_behind = |path: &[u8]| {
                let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
                slashes.into_iter().any(|slash| others.contains(&path[..slash]))
            };
            if skip(&lossy(&path)) || is_behind(&entry.path) {
                continue;
            }
            if entry.mode == SUBMODULE {
                self.read_nested(git, &path, &entry.path, skip)?;
                continue;
            }
            let Some(found) = found.filter(|found| mode(found).is_some()) else { continue };
            if is_lent && is_unchanged(entry, &found, written.as_ref()) && git.is_kept_as_is(entry, &found, converting)
            {
                self.files.insert(path, (entry.id, mode(&found).unwrap_or(entry.mode)));
            } else {
                self.unread.push((path, found));
            }
        }
        for path in others {
            if let Ok(found) = git.workdir.join(OsStr::from_bytes(&path)).symlink_metadata()
                && mode(&found).is_some()
            {
                self.unread.push((at(&path), found));
            }
        }
        Ok(())
    }

    /// Whether blobs of an object directory need not be recorded again.
    fn borrow_from(&mut self, objects: &Path) -> bool {
        let Some(own) = &self.own else { return true };
        let lender = Alternate::new(own, objects);
        let is_lent = lender.is_some();
        self.lenders.extend(lender);
        is_lent
    }

    /// Takes the files of a folder that has a repository of its own, at a path and at one relative to `git`'s top.
    fn read_nested(&mut self, git: &Git, path: &[u8], inside: &[u8], skip: &Skip<'_>) -> Result<(), GitError> {
        let folder = git.workdir.join(OsStr::from_bytes(inside));
        if !folder.is_dir() || folder.is_symlink() {
            return Ok(());
        }
        let prefix = [path, b"/"].concat();
        match Git::at(&folder) {
            Ok(Some(inner)) => {
                self.nested.push(path.to_owned());
                self.read(&inner, &prefix, skip)
            }
            // A submodule that is not checked out, or what only looks like a repository.
            Ok(None) | Err(_) => self.take_all(&folder, &prefix, skip),
        }
    }

    /// Takes all files below a folder, for which no git says otherwise.
    fn take_all(&mut self, top: &Path, prefix: &[u8], skip: &Skip<'_>) -> Result<(), GitError> {
        let mut stack = vec![Vec::new()];
        while let Some(directory) = stack.pop() {
            // What may not be looked into is not there for commands either.
            let Ok(entries) = top.join(OsStr::from_bytes(&directory)).read_dir() else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().into_vec();
                let path =
                    if directory.is_empty() { name.clone() } else { [&directory, b"/".as_slice(), &name].concat() };
                let full = [prefix, &path].concat();
                let Ok(found) = entry.metadata() else { continue };
                if name == b".git" || skip(&lossy(&full)) {
                    continue;
                }
                if !found.is_dir() {
                    if mode(&found).is_some() {
                        self.unread.push((full, found));
                    }
                } else if entry.path().join(".git").exists()
                    && let Ok(Some(inner)) = Git::at(&entry.path())
                {
                    self.nested.push(full.clone());
                    self.read(&inner, &[&full, b"/".as_slice()].concat(), skip)?;
                } else {
                    stack.push(path);
                }
            }
        }
        Ok(())
    }

    /// Decides which of the files that have to be read are linked instead, and returns their paths.
    fn set_links(&mut self) -> Vec<String> {
        self.unread.sort_by_key(|(_, found)| found.size());
        let mut room = MAX_COPIED;
        let mut links = vec![];
        let mut copied = vec![];
        for (path, found) in std::mem::take(&mut self.unread) {
            let size = found.size();
            let is_large = size > LARGE || size > room;
            if found.is_file() && is_large && !is_written_by_runs(&path) {
                links.push(lossy(&path));
                self.files.insert(path, (linked::stamp(&found), SUBMODULE));
            } else {
                room = room.saturating_sub(size);
                copied.push((path, found));
            }
        }
        self.unread = copied;
        links.sort_unstable();
        links.dedup();
        links
    }

    /// Reads what has to be read, and returns the paths of what cannot be.
    fn record(&mut self, top: &Path, store: Option<&Store>) -> Result<Vec<String>, GitError> {
        let store = store.map(Store::path);
        let record_all = |files: &[(Vec<u8>, Metadata)]| {
            // A store is for one thread.
            let store = store.map(Store::open).transpose()?;
            let record = |(path, found): &(Vec<u8>, Metadata)| match read(&top.join(OsStr::from_bytes(path)), found) {
                Ok(bytes) => match &store {
                    Some(store) => store.write_blob(&bytes).map(Some),
                    None => Oid::hash_object(ObjectType::Blob, &bytes).doing("hash a file").map(Some),
                },
                Err(_) => Ok(None),
            };
            files.iter().map(record).collect()
        };
        let unread = std::mem::take(&mut self.unread);
        let chunk = unread.len().div_ceil(rayon::current_num_threads()).max(1);
        let blobs: Vec<Vec<Option<Oid>>> = unread.par_chunks(chunk).map(record_all).collect::<Result<_, GitError>>()?;
        let mut unreadable = vec![];
        for ((path, found), blob) in unread.into_iter().zip(blobs.into_iter().flatten()) {
            match blob {
                Some(id) => {
                    self.files.insert(path, (id, mode(&found).unwrap_or(FILE)));
                }
                // It may also be gone by now.
                None if fs::exists(&top.join(OsStr::from_bytes(&path))) => unreadable.push(lossy(&path)),
                None => {}
            }
        }
        unreadable.sort_unstable();
        Ok(unreadable)
    }
}

/// Where git looks for attributes that hold for all users, as Linux distributions build it.
const SYSTEM_ATTRIBUTES: &str = "/etc/gitattributes";

/// How git may keep other contents than the work tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Converting {
    Never,
    /// By line ends and the like, which changes the size.
    InSize,
    /// By programs and encodings, where only a look at the attributes can tell.
    Anyhow,
}

/// Whether DVC and runs write into files of this name: through a link, a workspace would write into the project's.
fn is_written_by_runs(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    matches!(name, b"dvc.lock" | b"dvc.yaml" | b".gitignore") || name.ends_with(b".dvc")
}

impl Git {
    fn converting(&self, tracked: &[IndexEntry]) -> Result<Converting, GitError> {
        let Some(opened) = &self.opened else { return Ok(Converting::Never) };
        let config = opened.repository.config().and_then(|mut config| config.snapshot()).doing("read git's config")?;
        let mut converting = Converting::Never;
        if config.get_string("core.autocrlf").is_ok_and(|value| value != "false") {
            converting = Converting::InSize;
        }
        // Git reads one that it does not track, too, or ignores.
        let folder = |entry: &IndexEntry| {
            let end = entry.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            entry.path[..end].to_owned()
        };
        let folders: BTreeSet<Vec<u8>> = tracked.iter().map(folder).chain([vec![]]).collect();
        let own = folders.iter().map(|folder| self.workdir.join(OsStr::from_bytes(folder)).join(".gitattributes"));
        let users = config.get_path("core.attributesfile").ok().or_else(|| users_file("attributes"));
        let all = [opened.common.join("info/attributes"), PathBuf::from(SYSTEM_ATTRIBUTES)];
        for file in own.chain(all).chain(users) {
            let Ok(text) = std::fs::read(&file) else { continue };
            let text = String::from_utf8_lossy(&text);
            if text.contains("filter") || text.contains("working-tree-encoding") {
                return Ok(Converting::Anyhow);
            }
            converting = Converting::InSize;
        }
        Ok(converting)
    }

    /// Whether the blob of a file that git sees as unchanged has the content that the work tree has.
    fn is_kept_as_is(&self, entry: &IndexEntry, found: &Metadata, converting: Converting) -> bool {
        let Some(opened) = self.opened.as_ref().filter(|_| converting != Converting::Never && found.is_file()) else {
            return true;
        };
        let header = opened.repository.odb().and_then(|odb| odb.read_header(entry.id));
        if header.is_ok_and(|(size, _)| size as u64 != found.size()) {
            return false;
        }
        let path = PathBuf::from(OsStr::from_bytes(&entry.path));
        let is_set = |name: &str| {
            let value = opened.repository.get_attr(&path, name, AttrCheckFlags::FILE_THEN_INDEX);
            value.ok().flatten().is_some()
        };
        converting == Converting::InSize || !(is_set("filter") || is_set("working-tree-encoding"))
    }
}

/// Whether a file is the one that git last saw, by its stat data; the index was written at `written`.
fn is_unchanged(entry: &IndexEntry, found: &Metadata, written: Option<&Metadata>) -> bool {
    let hidden = IndexEntryExtendedFlag::SKIP_WORKTREE | IndexEntryExtendedFlag::INTENT_TO_ADD;
    let is_hidden = entry.flags & IndexEntryFlag::VALID.bits() != 0 || entry.flags_extended & hidden.bits() != 0;
    // A file that changed after git looked at it, but in the same moment, has the time stamp that git saw.
    let time = (found.mtime(), found.mtime_nsec());
    let is_settled = written.is_some_and(|written| time.0 < written.mtime());
    // What git is told to look away from is looked at all the same.
    let is_as_seen = stage_of(entry) == 0
        && is_settled
        && is_at(entry.mtime, time)
        && is_at(entry.ctime, (found.ctime(), found.ctime_nsec()))
        && entry.file_size == low(found.size())
        && entry.ino == low(found.ino())
        && (entry.mode == SYMLINK) == found.is_symlink();
    is_as_seen && !is_hidden
}

/// Whether a time of the index, which has whole seconds where git was built so, is the same.
fn is_at(time: IndexTime, found: (i64, i64)) -> bool {
    let (seconds, nanoseconds) = (time.seconds(), time.nanoseconds());
    seconds.cast_unsigned() == low(found.0.cast_unsigned()) && (nanoseconds == 0 || i64::from(nanoseconds) == found.1)
}

/// The mode in a tree; `None` for what is neither a file nor a symlink.
fn mode(found: &Metadata) -> Option<u32> {
    match found.file_type() {
        kind if kind.is_symlink() => Some(SYMLINK),
        kind if kind.is_file() => Some(if found.mode() & 0o100 == 0 { FILE } else { EXECUTABLE }),
        _ => None,
    }
}

fn read(path: &Path, found: &Metadata) -> io::Result<Vec<u8>> {
    if found.is_symlink() { Ok(std::fs::read_link(path)?.into_os_string().into_vec()) } else { std::fs::read(path) }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// An entry without stat data.
fn entry(path: Vec<u8>, id: Oid, mode: u32) -> IndexEntry {
    let never = IndexTime::new(0, 0);
    IndexEntry {
        ctime: never,
        mtime: never,
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path,
    }
}
