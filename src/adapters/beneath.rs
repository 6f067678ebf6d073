//! The files below a folder, reached without ever following a symlink.
//!
//! Every step of a path is opened from the directory above it with `O_NOFOLLOW`, so that a link that appears between
//! two looks cannot lead out of the folder.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::fs::{At as _, FsError, HANDS_GROUP_ON, directory_mode};

/// A folder whose files are read and changed.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: PathBuf,
    directory: OwnedFd,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    File { mode: u32, size: u64, links: u64 },
    Symlink { target: String },
    Directory,
    Other,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Beneath {
    pub(crate) fn open(root: &Path) -> Result<Self, FsError> {
        let directory = rustix::fs::open(root, DIRECTORY, Mode::empty()).at("open", root)?;
        Ok(Beneath { root: root.to_owned(), directory })
    }

    /// Looks at a path; `None` where nothing is, also when something above it is a file or a symlink.
    pub(crate) fn look(&self, path: &str) -> Result<Option<Seen>, FsError> {
        let Some((parent, name)) = self.parent_if_any(path)? else { return Ok(None) };
        let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).at("look at", &self.root.join(path)),
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                Seen::File { mode: stat.st_mode & 0o7777, size, links: stat.st_nlink }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&parent, name, vec![]).at("read", &self.root.join(path))?;
                Seen::Symlink { target: target.to_string_lossy().into_owned() }
            }
            FileType::Directory => Seen::Directory,
            _ => Seen::Other,
        }))
    }

    /// Opens a regular file; anything else is an error.
    pub(crate) fn open_file(&self, path: &str) -> Result<File, FsError> {
        Ok(self.open_sized(path)?.0)
    }

    /// Opens a regular file, and tells its size.
    fn open_sized(&self, path: &str) -> Result<(File, u64), FsError> {
        let (parent, name) = self.parent(path)?;
        // Without `NONBLOCK` opening a FIFO would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let whole = self.root.join(path);
        let file = File::from(rustix::fs::openat(&parent, name, flags, Mode::empty()).at("read", &whole)?);
        let metadata = file.metadata().at("look at", &whole)?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file")).at("read", &whole);
        }
        Ok((file, metadata.len()))
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FsError> {
        let whole = self.root.join(path);
        let (file, size) = self.open_sized(path)?;
        // With room for it, and for what tells that there is no more, it is read at once.
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(limit)).unwrap_or_default() + 1);
        file.take(limit + 1).read_to_end(&mut bytes).at("read", &whole)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("larger than {limit} bytes"))).at("read", &whole);
        }
        Ok(bytes)
    }

    /// Gives a file from elsewhere the owner and the group of the one at a path, as if it were written into that: as far as this
    /// process may.
    pub(crate) fn give_owner(&self, from: &Path, path: &str) -> Result<(), FsError> {
        let Some((parent, name)) = self.parent_if_any(path)? else { return Ok(()) };
        let Ok(found) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        let (owner, group) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
        for (owner, group) in [(Some(owner), None), (None, Some(group))] {
            let _not_ours = rustix::fs::chownat(rustix::fs::CWD, from, owner, group, AtFlags::SYMLINK_NOFOLLOW);
        }
        Ok(())
    }

    /// Moves something from elsewhere to a path, over a file or symlink that is there; makes the directories above.
    ///
    /// From another file system it is copied to a temporary name beside the path first.
    pub(crate) fn move_in(&self, from: &Path, path: &str) -> Result<(), FsError> {
        let (parent, name) = self.make_parent(path)?;
        let whole = self.root.join(path);
        let above = rustix::fs::fstat(&parent).at("look at the directory of", &whole)?;
        if above.st_mode & HANDS_GROUP_ON != 0 && self.look(path)?.is_none() {
            // What is made there gets its group; who does not belong to it may not give it.
            let group = Some(Gid::from_raw(above.st_gid));
            let _not_ours = rustix::fs::chownat(rustix::fs::CWD, from, None, group, AtFlags::SYMLINK_NOFOLLOW);
        }
        match rustix::fs::renameat(rustix::fs::CWD, from, &parent, name) {
            Err(Errno::XDEV) => {}
            moved => return moved.at("move into place", &whole),
        }
        let temporary = format!(".{name}.dvc-fanout-tmp");
        remove_if_any(&parent, &temporary).at("remove the temporary file of", &whole)?;
        if let Ok(target) = std::fs::read_link(from) {
            rustix::fs::symlinkat(&target, &parent, temporary.as_str()).at("link", &whole)?;
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut source = File::open(from).at("read", from)?;
            let mode = Mode::from(rustix::fs::fstat(&source).at("look at", from)?.st_mode & 0o777);
            let copy = rustix::fs::openat(&parent, temporary.as_str(), flags, mode).at("create", &whole)?;
            let mut copy = File::from(copy);
            io::copy(&mut source, &mut copy).at("copy to", &whole)?;
            copy.sync_all().at("sync", &whole)?;
        }
        rustix::fs::renameat(&parent, temporary.as_str(), &parent, name).at("move into place", &whole)?;
        super::fs::remove(from)
    }

    /// Removes a file or symlink, and the directories above it that are empty then; nothing there is fine.
    pub(crate) fn remove(&self, path: &str) -> Result<(), FsError> {
        let Some((parent, name)) = self.parent_if_any(path)? else { return Ok(()) };
        remove_if_any(&parent, name).at("remove", &self.root.join(path))?;
        let mut below = path;
        while let Some((above, _)) = below.rsplit_once('/') {
            let Some((parent, name)) = self.parent_if_any(above)? else { break };
            match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => below = above,
                // What is not empty, or not ours to remove, stays.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Sets the permission bits of a regular file.
    pub(crate) fn set_mode(&self, path: &str, mode: u32) -> Result<(), FsError> {
        let file = self.open_file(path)?;
        rustix::fs::fchmod(&file, Mode::from(mode)).at("set the mode of", &self.root.join(path))
    }

    /// Sets or clears the executable bits of a regular file, as DVC and git do: for those who may read it.
    pub(crate) fn set_executable(&self, path: &str, executable: bool) -> Result<(), FsError> {
        let file = self.open_file(path)?;
        let whole = self.root.join(path);
        let mode = rustix::fs::fstat(&file).at("look at", &whole)?.st_mode & 0o7777;
        let wanted = with_executable(mode, executable);
        if mode == wanted {
            Ok(())
        } else {
            rustix::fs::fchmod(&file, Mode::from(wanted)).at("set the mode of", &whole)
        }
    }

    /// Makes the entries of the directory that holds a path durable.
    pub(crate) fn sync_parent(&self, path: &str) -> Result<(), FsError> {
        match self.parent_if_any(path)? {
            Some((parent, _)) => rustix::fs::fsync(parent).at("sync the directory of", &self.root.join(path)),
            None => Ok(()),
        }
    }

    fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), FsError> {
        match self.parent_if_any(path)? {
            Some(found) => Ok(found),
            None => Err(io::Error::from(io::ErrorKind::NotFound)).at("open", &self.root.join(path)),
        }
    }

    /// The directory that holds a path, and the name in it; `None` where there is no such directory.
    fn parent_if_any<'p>(&self, path: &'p str) -> Result<Option<(OwnedFd, &'p str)>, FsError> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory = self.directory.try_clone().at("open", &self.root)?;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            directory = match rustix::fs::openat(&directory, part, DIRECTORY, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(error) => return Err(error).at("open", &self.root.join(above)),
            };
        }
        Ok(Some((directory, name)))
    }

    /// Makes a directory with this mode, and those above it as usual, unless something is there.
    pub(crate) fn make_directory(&self, path: &str, mode: u32) -> Result<(), FsError> {
        let whole = self.root.join(path);
        let (parent, name) = self.make_parent(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from(0o700)) {
            Err(Errno::EXIST) => return Ok(()),
            made => made.at("create the directory", &whole)?,
        }
        // Whatever the umask says.
        let made = rustix::fs::openat(&parent, name, DIRECTORY, Mode::empty()).at("open", &whole)?;
        let own = rustix::fs::fstat(&made).at("look at", &whole)?.st_mode;
        let mode = directory_mode(mode) | (own & HANDS_GROUP_ON);
        rustix::fs::fchmod(&made, Mode::from(mode)).at("set the mode of", &whole)
    }

    fn make_parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), FsError> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory = self.directory.try_clone().at("open", &self.root)?;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            match rustix::fs::mkdirat(&directory, part, Mode::from(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).at("create a directory of", &self.root.join(path)),
            }
            directory = rustix::fs::openat(directory.as_fd(), part, DIRECTORY, Mode::empty())
                .at("open a directory of", &self.root.join(path))?;
        }
        Ok((directory, name))
    }
}

/// The mode with or without executable bits: wherever there is a read bit.
pub(crate) fn with_executable(mode: u32, executable: bool) -> u32 {
    if executable { mode | (mode & 0o444) >> 2 } else { mode & !0o111 }
}

fn remove_if_any(directory: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write files by themselves")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, Beneath) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("in")).expect("made");
        let beneath = Beneath::open(&dir.path().join("in")).expect("opened");
        (dir, beneath)
    }

    #[test]
    fn no_symlink_leads_out() {
        let (dir, beneath) = folder();
        fs::create_dir(dir.path().join("out")).expect("made");
        fs::write(dir.path().join("out/f"), "secret").expect("written");
        fs::write(dir.path().join("new"), "new").expect("written");
        symlink("../out", dir.path().join("in/d")).expect("linked");
        symlink("../out/f", dir.path().join("in/f")).expect("linked");

        assert_eq!(beneath.look("d/f").expect("no error"), None);
        assert_eq!(beneath.look("f").expect("no error"), Some(Seen::Symlink { target: "../out/f".into() }));
        assert!(beneath.read("f", 100).is_err() && beneath.read("d/f", 100).is_err());
        assert!(beneath.move_in(&dir.path().join("new"), "d/f").is_err());
        assert!(beneath.set_executable("f", true).is_err());
        beneath.remove("d/f").expect("nothing is there");
        beneath.move_in(&dir.path().join("new"), "f").expect("the link itself is replaced");
        assert_eq!(fs::read_to_string(dir.path().join("out/f")).expect("read"), "secret");
        assert_eq!(fs::read_to_string(dir.path().join("in/f")).expect("read"), "new");
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let (dir, beneath) = folder();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("in/p"), FileType::Fifo, Mode::from(0o600), 0)
            .expect("made");
        assert_eq!(beneath.look("p").expect("no error"), Some(Seen::Other));
        assert!(beneath.read("p", 10).is_err());
    }

    #[test]
    fn directories_come_and_go_with_their_files() {
        let (dir, beneath) = folder();
        fs::write(dir.path().join("x"), "x").expect("written");
        beneath.move_in(&dir.path().join("x"), "a/b/x").expect("moved");
        assert_eq!(beneath.read("a/b/x", 1).expect("read"), b"x");
        beneath.set_executable("a/b/x", true).expect("set");
        let mode = fs::metadata(dir.path().join("in/a/b/x")).expect("there").permissions().mode();
        assert_eq!(mode & 0o111, (mode & 0o444) >> 2);
        beneath.remove("a/b/x").expect("removed");
        assert_eq!(beneath.look("a").expect("no error"), None);
    }
}
