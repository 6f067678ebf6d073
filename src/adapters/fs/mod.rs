//! The file system: the only place that writes, links and removes files.

#![expect(clippy::disallowed_methods, reason = "the room that writes, moves and removes files")]

mod link;
mod lock;
mod walk;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

pub(crate) use link::link;
pub(crate) use lock::{Locked, is_locked, lock_holder, lock_within, try_lock};
pub(crate) use walk::{Found, FoundKind, empty_directories, find, walk, walk_and_tell};

/// Bytes read at a time when hashing and copying.
const BLOCK: usize = 1 << 16;

/// What to do where this user may not do something.
pub(super) const NO_ACCESS: &str = "give this user access there, then run the same command again";

/// The bit of a directory in which everything gets its group.
pub(crate) const HANDS_GROUP_ON: u32 = 0o2000;

/// A file operation that failed, with the path it was about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", path.display())]
pub(crate) struct FsError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl FsError {
    /// Whether the file system has no such thing.
    pub(crate) fn is_unsupported(&self) -> bool {
        let errno = self.source.raw_os_error();
        [Errno::NOSYS, Errno::NOLCK, Errno::OPNOTSUPP].iter().any(|no| errno == Some(no.raw_os_error()))
    }

    /// That what is to be written does not fit.
    pub(crate) fn full(path: &Path) -> FsError {
        let source = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
        FsError { action: "write all that is needed to", path: path.to_owned(), source }
    }

    /// Whether the disk or the quota is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl From<FsError> for crate::diagnostic::Diagnostic {
    fn from(error: FsError) -> Self {
        use crate::diagnostic::Diagnostic;
        match error.source.kind() {
            io::ErrorKind::PermissionDenied => {
                Diagnostic::project(error.to_string()).source(&error.source).hint(NO_ACCESS)
            }
            io::ErrorKind::ReadOnlyFilesystem => Diagnostic::project(error.to_string())
                .source(&error.source)
                .hint("run the command where the project can be written to, or mount its file system for writing"),
            _ if error.is_full() => {
                Diagnostic::tool(error.to_string()).source(&error.source).hint("free some space there, then continue")
            }
            _ => Diagnostic::tool(error.to_string()).source(&error.source),
        }
    }
}

/// Names the action and the path of an `io::Error`.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, FsError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, FsError> {
        self.map_err(|source| FsError { action, path: path.to_owned(), source })
    }
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, FsError> {
        self.map_err(io::Error::from).at(action, path)
    }
}

/// Creates a directory and those above it.
pub(crate) fn create_dir(path: &Path) -> Result<(), FsError> {
    fs::create_dir_all(path).at("create the directory", path)
}

/// Creates a directory that only its owner may look into, and those above it as usual; one that is there stays.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), FsError> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.at("create the directory", path),
    }
}

/// Writes a file that appears whole or not at all: a temporary file beside it, synced, then renamed.
///
/// Directories above it are created.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    write_by(path, |file| file.write_all(bytes))
}

/// Writes a file as [`write()`] does, bit by bit.
pub(crate) fn write_by(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), FsError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    create_dir(parent)?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".tmp-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .at("create a temporary file in", parent)?;
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    fill(&mut buffered).and_then(|()| buffered.flush()).at("write", path)?;
    drop(buffered);
    temporary.as_file().sync_all().at("sync", path)?;
    temporary.persist(path).map_err(|error| error.error).at("rename a temporary file to", path)?;
    Ok(())
}

/// Writes a file in place, where nobody else can see a half of it: inside a workspace or an unpublished result.
pub(crate) fn write_plain(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    match fs::write(path, bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), create_dir)?;
            fs::write(path, bytes).at("write", path)
        }
        written => written.at("write", path),
    }
}

/// Writes bytes into the middle of a file, which is made where it is not there.
pub(crate) fn write_at(path: &Path, bytes: &[u8], offset: u64) -> Result<(), FsError> {
    use std::os::unix::fs::FileExt as _;
    let file = File::options().write(true).create(true).truncate(false).open(path).at("write", path)?;
    file.write_all_at(bytes, offset).at("write", path)
}

/// Replaces a file by a new one with the same mode, whole at once but not made durable; one that is not there is made.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut temporary = tempfile::Builder::new()
        .prefix(".tmp-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .at("create a temporary file in", parent)?;
    temporary.write_all(bytes).at("write", path)?;
    if let Ok(there) = fs::metadata(path) {
        temporary.as_file().set_permissions(there.permissions()).at("set the mode of", path)?;
    }
    temporary.persist(path).map_err(|error| error.error).at("rename a temporary file to", path)?;
    Ok(())
}

/// Opens a file to append to, made if absent.
pub(crate) fn append(path: &Path) -> Result<File, FsError> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    OpenOptions::new().append(true).create(true).open(path).at("open", path)
}

/// Makes an empty file; returns whether it was not there before, which holds among machines that share it, too.
pub(crate) fn create_new(path: &Path) -> Result<bool, FsError> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).at("make", path),
    }
}

/// Appends a line to a file.
pub(crate) fn append_line(path: &Path, line: &str) -> Result<(), FsError> {
    writeln!(append(path)?, "{line}").at("write", path)
}

/// Appends a text in one step, so that several processes may.
pub(crate) fn append_text(path: &Path, text: &str) -> Result<(), FsError> {
    append(path)?.write_all(text.as_bytes()).at("write", path)
}

/// What became of a move to a free place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Yes,
    /// Something is there.
    Taken,
    /// The place is on another file system.
    Elsewhere,
}

/// Moves something to where nothing is, whoever else does so at the same moment.
pub(crate) fn move_to_free(from: &Path, to: &Path) -> Result<Moved, FsError> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Moved::Yes),
        Err(Errno::EXIST) => Ok(Moved::Taken),
        Err(Errno::XDEV) => Ok(Moved::Elsewhere),
        // A file system that cannot say so in one step: a file that comes in between is replaced.
        Err(Errno::INVAL) if !exists(to) => rename(from, to).map(|()| Moved::Yes),
        Err(Errno::INVAL) => Ok(Moved::Taken),
        Err(error) => Err(error).at("move something to", to),
    }
}

/// Has two things change places in one step; returns whether their file system can.
pub(crate) fn exchange(one: &Path, other: &Path) -> Result<bool, FsError> {
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::XDEV) => Ok(false),
        Err(error) => Err(error).at("move something to", other),
    }
}

/// Makes a directory that is removed when it is dropped.
pub(crate) fn temporary_dir(parent: &Path) -> Result<tempfile::TempDir, FsError> {
    tempfile::Builder::new().prefix(".tmp-").tempdir_in(parent).at("create a directory in", parent)
}

/// Renames; a directory only onto nothing or an empty one.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    fs::rename(from, to).at("move into place", to)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), FsError> {
    File::open(path).and_then(|dir| dir.sync_all()).at("sync the directory", path)
}

/// Makes the content of a file durable.
pub(crate) fn sync_file(path: &Path) -> Result<(), FsError> {
    File::open(path).and_then(|file| file.sync_all()).at("sync", path)
}

/// Makes everything durable that was written to the file system of a path.
pub(crate) fn sync_file_system(path: &Path) -> Result<(), FsError> {
    let file = File::open(path).at("open", path)?;
    rustix::fs::syncfs(file).at("sync the file system of", path)
}

/// Whether something is there, be it a broken symlink.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> Result<u32, FsError> {
    Ok(fs::symlink_metadata(path).at("look at", path)?.mode() & 0o7777)
}

/// Sets the time of modification of a file.
pub(crate) fn set_modified(path: &Path, time: std::time::SystemTime) -> Result<(), FsError> {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_modified(time)).at("set the time of", path)
}

/// When a file was last written to, in nanoseconds since 1970; `None` for a time that is too far from it.
pub(crate) fn modified(found: &fs::Metadata) -> Option<i64> {
    found.mtime().checked_mul(1_000_000_000)?.checked_add(found.mtime_nsec())
}

/// Sets when a file was last written to, in nanoseconds since 1970.
pub(crate) fn set_modified_nanoseconds(path: &Path, time: i64) -> Result<(), FsError> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

    let time = Timespec { tv_sec: time.div_euclid(1_000_000_000), tv_nsec: time.rem_euclid(1_000_000_000) };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from).at("set the time of", path)
}

/// Gives a file that stands for another one the mode and the time of modification of that, as long as they are alike: of
/// one size, both executable or not. A file that has second names is left.
pub(crate) fn imitate(from: &Path, to: &Path) -> Result<(), FsError> {
    let look = |path: &Path| path.symlink_metadata().ok().filter(fs::Metadata::is_file);
    let (Some(there), Some(here)) = (look(from), look(to)) else { return Ok(()) };
    let (wanted, own) = (there.mode() & 0o777, here.mode() & 0o777);
    let is_alike = there.len() == here.len() && (wanted ^ own) & 0o100 == 0 && wanted & 0o400 != 0;
    if !is_alike || here.nlink() > 1 {
        return Ok(());
    }
    let time = there.modified().at("look at", from)?;
    File::open(to).and_then(|file| file.set_modified(time)).at("set the time of", to)?;
    if wanted == own { Ok(()) } else { set_mode(to, wanted) }
}

/// Sets the permission bits of a file.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), FsError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the mode of", path)
}

/// Sets the permission bits of a directory, its sticky bit and that which hands its group on, which stays where it came from
/// the directory above.
pub(crate) fn set_directory_mode(path: &Path, wanted: u32) -> Result<(), FsError> {
    set_mode(path, directory_mode(wanted) | (mode(path)? & HANDS_GROUP_ON))
}

/// What counts of a directory's mode.
pub(crate) fn directory_mode(mode: u32) -> u32 {
    mode & (0o1777 | HANDS_GROUP_ON)
}

/// The number of names (hard links) that a file has; 0 where nothing is.
pub(crate) fn names_of(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |found| found.nlink())
}

/// Bytes of a file, behind symlinks; none where nothing is.
pub(crate) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// The inode of what is at a path, behind symlinks.
pub(crate) fn inode(path: &Path) -> Result<u64, FsError> {
    fs::metadata(path).map(|found| found.ino()).at("look at", path)
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FsError> {
    fs::read(path).at("read", path)
}

/// Reads a whole file; `None` where there is none.
pub(crate) fn read_if_any(path: &Path) -> Result<Option<Vec<u8>>, FsError> {
    if_any(fs::read(path), path)
}

/// Reads a whole file as text; `None` where there is none.
pub(crate) fn read_text_if_any(path: &Path) -> Result<Option<String>, FsError> {
    if_any(fs::read_to_string(path), path)
}

fn if_any<T>(read: io::Result<T>, path: &Path) -> Result<Option<T>, FsError> {
    match read {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).at("read", path),
    }
}

/// Reads at most the last `limit` bytes of a file.
pub(crate) fn read_tail(path: &Path, limit: u64) -> Result<Vec<u8>, FsError> {
    let mut file = File::open(path).at("read", path)?;
    let size = file.metadata().at("read", path)?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(limit))).at("read", path)?;
    let mut bytes = vec![];
    file.take(limit).read_to_end(&mut bytes).at("read", path)?;
    Ok(bytes)
}

/// The names in a directory, sorted; none where there is no directory.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, FsError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(error) => return Err(error).at("list", path),
    };
    let mut names = vec![];
    for entry in entries {
        names.extend(entry.at("list", path)?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a file, a symlink or a whole tree, also one with read-only directories; nothing there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), FsError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).at("remove", path),
    };
    if !metadata.is_dir() {
        return fs::remove_file(path).at("remove", path);
    }
    if fs::remove_dir_all(path).is_err() {
        make_writable(path);
        fs::remove_dir_all(path).at("remove", path)?;
    }
    Ok(())
}

/// Removes a directory unless something is in it; nothing there is fine.
pub(crate) fn remove_if_empty(path: &Path) -> Result<(), FsError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Ok(()),
        Err(error) => Err(error).at("remove", path),
    }
}

/// Gives the owner all rights on the directories of a tree, as far as that works.
fn make_writable(path: &Path) {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_dir && fs::set_permissions(path, fs::Permissions::from_mode(0o700)).is_ok() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            make_writable(&entry.path());
        }
    }
}

/// Sets or clears the executable bit for the owner, as DVC does.
pub(crate) fn set_executable(path: &Path, executable: bool) -> Result<(), FsError> {
    let mode = fs::metadata(path).at("look at", path)?.mode();
    let wanted = if executable { mode | 0o100 } else { mode & !0o111 };
    if mode == wanted {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(wanted)).at("set the mode of", path)
}

/// The MD5 and the size of a file, following symlinks.
pub(crate) fn digest(path: &Path) -> Result<(String, u64), FsError> {
    digest_open(&mut File::open(path).at("read", path)?, path)
}

/// The MD5 and the size of what is left to read in a file, which has this path.
pub(crate) fn digest_open(file: &mut File, path: impl AsRef<Path>) -> Result<(String, u64), FsError> {
    let path = path.as_ref();
    let mut hasher = Md5::new();
    let mut block = vec![0; BLOCK];
    let mut size = 0;
    loop {
        let read = file.read(&mut block).at("read", path)?;
        if read == 0 {
            return Ok((hex(&hasher.finalize()), size));
        }
        hasher.update(&block[..read]);
        size += read as u64;
    }
}

/// The MD5 of bytes.
pub(crate) fn digest_bytes(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every text");
        text
    })
}

/// Copies a file, by reflink where the file system can; the new file is writable for its owner.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), FsError> {
    let mut source = File::open(from).at("read", from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o666).open(to).at("create", to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        io::copy(&mut source, &mut target).at("copy to", to)?;
    }
    Ok(())
}

/// Makes a copy that shares its blocks with the original, where the file system can; says whether it did.
pub(crate) fn reflink(from: &Path, to: &Path) -> Result<bool, FsError> {
    let source = File::open(from).at("read", from)?;
    let target = OpenOptions::new().write(true).create_new(true).mode(0o666).open(to).at("create", to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(true);
    }
    fs::remove_file(to).at("remove", to)?;
    Ok(false)
}

/// Copies a file, a symlink or a tree with modes and times; `to` does not exist.
pub(crate) fn copy_exactly(from: &Path, to: &Path) -> Result<(), FsError> {
    let metadata = fs::symlink_metadata(from).at("look at", from)?;
    if metadata.is_symlink() {
        let target = fs::read_link(from).at("read", from)?;
        return std::os::unix::fs::symlink(target, to).at("link", to);
    }
    if metadata.is_dir() {
        create_dir(to)?;
        for name in names(from)? {
            copy_exactly(&from.join(&name), &to.join(&name))?;
        }
    } else if metadata.is_file() {
        copy(from, to)?;
        set_modified(to, metadata.modified().at("look at", from)?)?;
    } else {
        return Ok(());
    }
    set_mode(to, metadata.mode() & 0o7777)
}

/// Copies a file or a tree, and what symlinks lead to; what is there already stays. Their owner may read and write copies,
/// and they do not get the permissions in `without`.
pub(crate) fn copy_all(from: &Path, to: &Path, without: u32) -> Result<(), FsError> {
    if from.is_dir() {
        create_dir(to)?;
        return names(from)?.iter().try_for_each(|name| copy_all(&from.join(name), &to.join(name), without));
    }
    if !from.is_file() || exists(to) {
        return Ok(());
    }
    to.parent().map_or(Ok(()), create_dir)?;
    copy_as(from, to, (mode(from)? & 0o777 | 0o600) & !without)
}

/// Copies a file, by reflink where the file system can; the new file has this mode, and never a wider one.
pub(crate) fn copy_as(from: &Path, to: &Path, mode: u32) -> Result<(), FsError> {
    let mut source = File::open(from).at("read", from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).at("create", to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        io::copy(&mut source, &mut target).at("copy to", to)?;
    }
    target.set_permissions(fs::Permissions::from_mode(mode)).at("set the mode of", to)
}

/// Makes a symlink; the path must be free.
pub(crate) fn symlink(target: impl AsRef<Path>, path: &Path) -> Result<(), FsError> {
    std::os::unix::fs::symlink(target, path).at("link", path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn where_nothing_can_be_written_it_is_said_what_to_do() {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::StorageFull] {
            let error = FsError { action: "create the directory", path: "a".into(), source: kind.into() };
            let said = crate::diagnostic::Diagnostic::from(error);
            assert_eq!((said.message.as_str(), said.hints.len()), ("cannot create the directory `a`", 1), "{kind}");
        }
    }

    #[test]
    fn a_written_file_is_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a/b.json");
        write(&path, b"1").expect("written");
        write(&path, b"2").expect("written again");
        assert_eq!(read(&path).expect("read"), b"2");
        assert_eq!(names(path.parent().expect("it has one")).expect("listed"), ["b.json"]);
        assert_eq!(digest(&path).expect("hashed"), ("c81e728d9d4c2f636f067f89cc14862c".into(), 1));
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("x.lock");
        let held = try_lock(&path).expect("no error").expect("free");
        assert!(try_lock(&path).expect("no error").is_none());
        assert!(is_locked(&path).expect("no error"));
        assert_eq!(lock_holder(&path), Some(std::process::id()));
        drop(held);
        assert!(!is_locked(&path).expect("no error"));
        assert!(try_lock(&path).expect("no error").is_some());
    }

    #[test]
    fn a_lock_is_waited_for_up_to_a_limit() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("x.lock");
        let held = try_lock(&path).expect("no error").expect("free");
        assert!(lock_within(&path, Duration::from_millis(50)).expect("no error").is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock_within(&path, Duration::from_secs(600)).expect("no error").is_some());
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            drop(held);
            assert!(waiting.join().expect("waited"));
        });
    }

    #[test]
    fn a_tree_with_read_only_directories_is_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let inner = dir.path().join("t/u");
        write(&inner.join("f"), b"").expect("written");
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o500)).expect("mode");
        remove(&dir.path().join("t")).expect("removed");
        assert!(names(dir.path()).expect("listed").is_empty());
    }
}
