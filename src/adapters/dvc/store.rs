//! DVC's cache on disk: writing it, safe beside other writers and kills (DVC 3.67, `dvc_data/hashfile/db/local.py`).
//!
//! | thing | made as | put in place by |
//! |---|---|---|
//! | object | `files/md5/HH/.TOKEN.tmp`, whole and of mode 0444 | a rename that replaces nothing |
//! | object that is the workspace's file (`hardlink`) | a hard link of it | `link`, which replaces nothing |
//! | entry of the run cache | `runs/KK/.TOKEN.tmp/VALUE` | renaming the directory to `KEY`, or the file into it |
//!
//! The names of temporary files are of DVC's own kind. Nothing ever opens an object's own path for writing, so that a
//! kill leaves an object whole or not there, and never an empty directory for a key, at which DVC would fail.

#![expect(clippy::disallowed_methods, reason = "an adapter that writes, links and removes files of the cache")]

use std::cell::RefCell;
use std::fs::{self as disk, File, Metadata, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::adapters::dvc::cache::{Cache, PROTECTED, inside};
use crate::adapters::dvc::hash::{HashError, Hasher};
use crate::adapters::fs::{self, At as _, FsError};
use crate::adapters::machine;
use crate::dvc::config::{DvcConfig, LinkType};
use crate::dvc::hash::{HashName, Md5};
use crate::dvc::oid::{ObjectKey, Oid};

/// The modes of directories and files in a cache that a group shares.
const SHARED: (u32, u32) = (0o2775, 0o664);

/// A cache that is written to.
pub(crate) struct Store {
    cache: Cache,
    dir: PathBuf,
    dir_mode: u32,
    file_mode: u32,
    umask: u32,
    types: Vec<LinkType>,
}

/// Why an object or a link could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error("No possible cache link types for '{0}'.")]
    NoLink(String),
}

/// The link types that have worked so far for one out, in their order.
pub(crate) struct Links(RefCell<Vec<LinkType>>);

impl Links {
    pub(crate) fn new(types: &[LinkType]) -> Links {
        Links(RefCell::new(types.to_vec()))
    }

    /// The type that is next. Where a copy would be next after a reflink, it is one that is a reflink if possible: a file that
    /// is made for nothing and removed again looks to a watch like one that may have been written to.
    fn first(&self) -> Option<LinkType> {
        match self.0.borrow().as_slice() {
            [LinkType::Reflink, LinkType::Copy, ..] => Some(LinkType::Copy),
            types => types.first().copied(),
        }
    }

    fn give_up(&self) {
        self.0.borrow_mut().remove(0);
    }
}

impl Store {
    /// The cache of a project with these settings.
    pub(crate) fn of(config: &DvcConfig) -> Store {
        Store::new(Path::new(&config.cache_dir), &config.cache_types, config.cache_is_shared, machine::umask())
    }

    /// The cache in `dir`; `types` are those of `cache.type`, `shared` says that `cache.shared` is `group`.
    pub(crate) fn new(dir: &Path, types: &[LinkType], shared: bool, umask: u32) -> Store {
        let (dir_mode, file_mode) = if shared { SHARED } else { (0o777 & !umask, 0o666 & !umask) };
        let (cache, dir) = (Cache::new(dir), dir.to_owned());
        Store { cache, dir, dir_mode, file_mode, umask, types: types.to_vec() }
    }

    /// The same with what is written in a folder of its own; what that does not have is read from where it was.
    #[must_use]
    pub(crate) fn apart(self, dir: &Path) -> Store {
        Store { cache: Cache::in_front_of(dir, self.dir), dir: dir.to_owned(), ..self }
    }

    /// Whether a path lies in the folder that is written to.
    pub(crate) fn is_own(&self, path: &Path) -> bool {
        path.starts_with(&self.dir) && path.exists()
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn types(&self) -> &[LinkType] {
        &self.types
    }

    /// The mode of files that DVC makes writable again, and of the run cache's.
    pub(crate) fn file_mode(&self) -> u32 {
        self.file_mode
    }

    /// The mode of copies in a workspace.
    pub(crate) fn copy_mode(&self) -> u32 {
        0o666 & !self.umask
    }

    /// Whether an object is there and right, for a directory with all its members, as DVC checks it: a wrong one is
    /// removed, a right one protected.
    pub(crate) fn check(&self, oid: Oid, hasher: &Hasher<'_>) -> Result<bool, StoreError> {
        if oid.is_directory() {
            let Some(members) = self.cache.members(oid.by(HashName::Md5)) else { return Ok(false) };
            for member in members {
                if !self.check_one(Oid::file(member.md5), hasher)? {
                    return Ok(false);
                }
            }
        }
        self.check_one(oid, hasher)
    }

    /// The same of one object alone.
    pub(super) fn check_one(&self, oid: Oid, hasher: &Hasher<'_>) -> Result<bool, StoreError> {
        let path = self.object(oid);
        match look(&path, oid.md5(), hasher)? {
            Look::Missing => Ok(false),
            Look::Protected => Ok(true),
            Look::Right => {
                protect(&path);
                Ok(true)
            }
            Look::Wrong => {
                // What lies behind this cache is not its own to remove.
                if self.is_own(&path) {
                    fs::remove(&path)?;
                }
                Ok(false)
            }
        }
    }

    /// Puts the content of a workspace's file into the cache, unless it is there; `hardlink` makes the file itself the
    /// object where no reflink can be made.
    pub(crate) fn add_file(
        &self,
        from: &Path,
        md5: Md5,
        hardlink: bool,
        hasher: &Hasher<'_>,
    ) -> Result<Added, StoreError> {
        let key = Oid::file(md5).by(HashName::Md5);
        let object = self.cache.object(key);
        match look(&object, md5, hasher)? {
            Look::Protected => return Ok(Added::Trusted),
            Look::Right => {
                protect(&object);
                return Ok(Added::Same);
            }
            Look::Missing | Look::Wrong => {}
        }
        let object = self.dir.join(inside(key));
        let parent = self.make_parent(&object)?;
        let temporary = parent.join(temporary_name());
        let made = new_object(from, &temporary, hardlink)?;
        if made == Made::Link {
            // The file's own mode, so that it is not to be seen without protection.
            protect(&temporary);
        }
        put(&temporary, &object, md5, hasher)?;
        Ok(Added::Same)
    }

    /// Puts the text of a directory's object into the cache, unless it is there; where an object of DVC 2 lies if it is one.
    pub(crate) fn add_text(&self, key: ObjectKey, text: &str, hasher: &Hasher<'_>) -> Result<(), StoreError> {
        let object = self.cache.object(key);
        match look(&object, key.oid.md5(), hasher)? {
            Look::Protected => return Ok(()),
            Look::Right => {
                protect(&object);
                return Ok(());
            }
            Look::Missing | Look::Wrong => {}
        }
        let object = self.dir.join(inside(key));
        let temporary = self.make_parent(&object)?.join(temporary_name());
        let mut file = create(&temporary, PROTECTED)?;
        file.write_all(text.as_bytes()).at("write", &temporary)?;
        set_mode(&file, PROTECTED, &temporary)?;
        put(&temporary, &object, key.oid.md5(), hasher)
    }

    /// Puts an object into the cache whose content `fill` writes; one that is not what its name says is not put there, and
    /// its own name is returned.
    pub(crate) fn add_by<E: From<StoreError>>(
        &self,
        key: ObjectKey,
        hasher: &Hasher<'_>,
        fill: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<Option<Md5>, E> {
        let object = self.dir.join(inside(key));
        let temporary = self.make_parent(&object).map_err(StoreError::from)?.join(temporary_name());
        let mut file = create(&temporary, PROTECTED).map_err(StoreError::from)?;
        let remove = || drop(disk::remove_file(&temporary));
        fill(&mut file).inspect_err(|_| remove())?;
        let kept = set_mode(&file, PROTECTED, &temporary).map_err(StoreError::from);
        let metadata = || file.metadata().at("look at", &temporary).map_err(StoreError::from);
        let shown = temporary.display().to_string();
        let md5 = kept.and_then(|()| Ok(hasher.hash_file(&temporary, &shown, &metadata()?, key.hash)?));
        let md5 = md5.inspect_err(|_| remove())?;
        if md5 != key.oid.md5() {
            remove();
            return Ok(Some(md5));
        }
        put(&temporary, &object, md5, hasher)?;
        Ok(None)
    }

    /// Puts an entry into the run cache, unless it is there.
    pub(crate) fn add_run(&self, key: &str, value: &str, text: &str) -> Result<(), StoreError> {
        let folder = self.dir.join("runs").join(&key[..2]);
        let place = folder.join(key);
        self.make_dirs(&folder)?;
        let temporary = folder.join(temporary_name());
        disk::DirBuilder::new().mode(0o777).create(&temporary).at("create the directory", &temporary)?;
        let made = self.write_run(&temporary, &place, value, text);
        if made.is_err() {
            drop(disk::remove_dir_all(&temporary));
        }
        made
    }

    fn write_run(&self, temporary: &Path, place: &Path, value: &str, text: &str) -> Result<(), StoreError> {
        let file = temporary.join(value);
        let mut open = create(&file, self.file_mode)?;
        open.write_all(text.as_bytes()).at("write", &file)?;
        set_mode(&open, self.file_mode, &file)?;
        fs::set_mode(temporary, self.dir_mode)?;
        // What stands in the way is another entry of the same key.
        match disk::rename(temporary, place) {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(error).at("rename a temporary directory to", place).map_err(StoreError::from),
        }
        fs::set_mode(place, self.dir_mode)?;
        fs::rename(&file, &place.join(value))?;
        Ok(disk::remove_dir(temporary).at("remove", temporary)?)
    }

    /// Where the entries of a key of the run cache lie.
    pub(crate) fn runs(&self, key: &str) -> PathBuf {
        self.cache.find(&Path::new("runs").join(&key[..2]).join(key))
    }

    /// Where an entry of the run cache lies.
    pub(crate) fn run(&self, key: &str, value: &str) -> PathBuf {
        self.runs(key).join(value)
    }

    pub(crate) fn object(&self, oid: Oid) -> PathBuf {
        self.cache.object(oid.by(HashName::Md5))
    }

    fn make_parent<'p>(&self, object: &'p Path) -> Result<&'p Path, FsError> {
        let parent = object.parent().expect("an object lies in a directory");
        self.make_dirs(parent)?;
        Ok(parent)
    }

    /// Makes a directory of the cache and those above it; the new ones get the cache's mode, without what they inherit.
    fn make_dirs(&self, path: &Path) -> Result<(), FsError> {
        match disk::DirBuilder::new().mode(0o777).create(path) {
            Ok(()) => fs::set_mode(path, self.dir_mode),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = path.parent().ok_or(error).at("create the directory", path)?;
                self.make_dirs(parent)?;
                self.make_dirs(path)
            }
            Err(error) => Err(error).at("create the directory", path),
        }
    }

    /// Makes a file of the workspace from an object, under a temporary name that is then renamed over what is there.
    ///
    /// A type that the file system refuses is not tried again for the same out.
    pub(crate) fn link(&self, oid: Oid, to: &Path, links: &Links) -> Result<(), StoreError> {
        let object = self.object(oid);
        let parent = to.parent().unwrap_or(Path::new("/"));
        let temporary = parent.join(temporary_name());
        loop {
            let Some(kind) = links.first() else { return Err(StoreError::NoLink(to.display().to_string())) };
            if kind == LinkType::Hardlink && is_same_file(&object, to) {
                // A rename between two links of one file would leave both.
                protect(&object);
                return Ok(());
            }
            match self.make_link(kind, &object, &temporary) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::NotFound && !parent.is_dir() => fs::create_dir(parent)?,
                Err(error) if kind != LinkType::Copy && is_refused(&error) => {
                    drop(disk::remove_file(&temporary));
                    links.give_up();
                }
                Err(error) => {
                    drop(disk::remove_file(&temporary));
                    return Err(error).at("link", to).map_err(StoreError::from);
                }
            }
        }
        fs::rename(&temporary, to)?;
        protect(&object);
        Ok(())
    }

    fn make_link(&self, kind: LinkType, object: &Path, to: &Path) -> io::Result<()> {
        let mode = self.copy_mode();
        match kind {
            LinkType::Symlink => std::os::unix::fs::symlink(object, to),
            LinkType::Hardlink => match disk::metadata(object)?.len() {
                0 => OpenOptions::new().write(true).create_new(true).mode(mode).open(to).map(drop),
                _ => disk::hard_link(object, to),
            },
            LinkType::Reflink => {
                let source = File::open(object)?;
                let target = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
                Ok(rustix::fs::ioctl_ficlone(&target, &source)?)
            }
            LinkType::Copy => {
                let mut source = File::open(object)?;
                let mut target = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
                copy_content(&mut source, &mut target)
            }
        }
    }
}

fn look(path: &Path, md5: Md5, hasher: &Hasher<'_>) -> Result<Look, StoreError> {
    let metadata = match disk::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Missing),
        Err(error) => return Err(error).at("look at", path).map_err(StoreError::from),
    };
    if metadata.mode() & 0o7777 == PROTECTED {
        return Ok(Look::Protected);
    }
    let found = hasher.hash_file(path, &path.display().to_string(), &metadata, HashName::Md5)?;
    Ok(if found == md5 { Look::Right } else { Look::Wrong })
}

/// Makes a protected copy of a file, or a link to it.
fn new_object(from: &Path, to: &Path, hardlink: bool) -> Result<Made, StoreError> {
    let mut source = File::open(from).at("read", from)?;
    let metadata = source.metadata().at("look at", from)?;
    if hardlink && metadata.len() > 0 {
        let target = create(to, PROTECTED)?;
        if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
            set_mode(&target, PROTECTED, to)?;
            return Ok(Made::Copy);
        }
        disk::remove_file(to).at("remove", to)?;
        let real = from.canonicalize().at("look at", from)?;
        match disk::hard_link(&real, to) {
            Ok(()) => return Ok(Made::Link),
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(error).at("link", to).map_err(StoreError::from),
        }
    }
    let mut target = create(to, PROTECTED)?;
    let copied = copy_content(&mut source, &mut target).at("copy to", to);
    if let Err(error) = copied.and_then(|()| set_mode(&target, PROTECTED, to)) {
        drop(disk::remove_file(to));
        return Err(error.into());
    }
    Ok(Made::Copy)
}

/// Gives a temporary file its place. What another has put there in the meantime stays, unless it is wrong.
fn put(temporary: &Path, object: &Path, md5: Md5, hasher: &Hasher<'_>) -> Result<(), StoreError> {
    match rename_to_free(temporary, object) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => {
            drop(disk::remove_file(temporary));
            return Err(error).at("rename a temporary file to", object).map_err(StoreError::from);
        }
    }
    if matches!(look(object, md5, hasher)?, Look::Protected | Look::Right) {
        protect(object);
        disk::remove_file(temporary).at("remove", temporary)?;
        return Ok(());
    }
    Ok(fs::rename(temporary, object)?)
}

/// What is known of an object after a file went into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It has the content of the file.
    Same,
    /// It was there, and was not read.
    Trusted,
}

/// What was found of an object.
enum Look {
    Missing,
    /// Trusted unread.
    Protected,
    Right,
    Wrong,
}

#[derive(PartialEq)]
enum Made {
    Copy,
    Link,
}

/// Makes a file of the workspace writable for its own: a link becomes a copy, and every file gets the cache's mode.
pub(crate) fn unprotect(path: &Path, mode: u32) -> Result<(), FsError> {
    let metadata = disk::symlink_metadata(path).at("look at", path)?;
    if metadata.is_symlink() || metadata.nlink() > 1 {
        let temporary = path.parent().unwrap_or(Path::new("/")).join(temporary_name());
        let mut source = File::open(path).at("read", path)?;
        let mut target = create(&temporary, 0o666)?;
        copy_content(&mut source, &mut target).at("copy to", &temporary)?;
        fs::rename(&temporary, path)?;
    }
    fs::set_mode(path, mode)
}

/// Protects an object; where that is not possible it works without, as for DVC.
pub(crate) fn protect(path: &Path) {
    let is_protected = |metadata: Metadata| metadata.mode() & 0o7777 == PROTECTED;
    if !disk::metadata(path).is_ok_and(is_protected) {
        drop(disk::set_permissions(path, disk::Permissions::from_mode(PROTECTED)));
    }
}

/// A name as DVC gives to temporary files.
pub(crate) fn temporary_name() -> String {
    thread_local! {
        static STATE: (RandomState, std::cell::Cell<u64>) = (RandomState::new(), std::cell::Cell::new(0));
    }
    STATE.with(|(state, count)| {
        count.set(count.get() + 1);
        let number = |part: u64| {
            let mut hasher = state.build_hasher();
            hasher.write_u64(count.get());
            hasher.write_u64(part);
            hasher.finish()
        };
        format!(".{:016x}{:06x}.tmp", number(0), number(1) & 0xff_ffff)
    })
}

fn create(path: &Path, mode: u32) -> Result<File, FsError> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path).at("create", path)
}

fn set_mode(file: &File, mode: u32, path: &Path) -> Result<(), FsError> {
    file.set_permissions(disk::Permissions::from_mode(mode)).at("set the mode of", path)
}

/// Copies what a file holds, by reflink where the file system can.
pub(super) fn copy_content(from: &mut File, to: &mut File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_err() {
        io::copy(from, to)?;
    }
    Ok(())
}

/// Renames without replacing anything, also where the file system has no such call.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, from, cwd, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            disk::hard_link(from, to)?;
            disk::remove_file(from)
        }
        done => Ok(done?),
    }
}

/// Whether the file system cannot make such a link at all, so that DVC tries the next type.
fn is_refused(error: &io::Error) -> bool {
    let refusals = [Errno::PERM, Errno::NOTSUP, Errno::XDEV, Errno::NOTTY, Errno::NOSYS, Errno::INVAL, Errno::AGAIN];
    Errno::from_io_error(error).is_some_and(|error| refusals.contains(&error))
}

/// Whether two paths are links of one file.
fn is_same_file(a: &Path, b: &Path) -> bool {
    let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match (disk::symlink_metadata(a), disk::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => place(a) == place(b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::dvc::hash::forgetful;
    use crate::adapters::watch::{Told, Watch};

    #[test]
    fn what_an_object_is_linked_to_is_all_that_happens_in_its_folder() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (types, workspace) = ([LinkType::Reflink, LinkType::Copy], dir.path().join("workspace"));
        let store = Store::new(&dir.path().join("cache"), &types, false, 0o022);
        fs::write(&workspace.join("out"), b"new").expect("written");
        let md5 = Md5::of(b"new");
        store.add_file(&workspace.join("out"), md5, false, &forgetful()).expect("added");
        let mut watch = Watch::begin(&workspace, &[]).expect("inotify is there");
        store.link(Oid::file(md5), &workspace.join("out"), &Links::new(&types)).expect("linked");
        assert!(matches!(watch.ask(), Told::Paths(paths) if paths.contains("out")), "nothing is unsure");
    }
}
