//! Locks that the kernel lets go of when their holder ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{At as _, FsError, create_dir};

/// How long a look at a lock may keep it from being taken.
const LOOK: Duration = Duration::from_millis(5);
/// How long is waited before a lock that is held is tried again: the longer, the longer it was held.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);

/// A file that is locked by this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    _file: File,
}

/// Takes an exclusive lock without waiting; `None` if somebody else holds it.
///
/// The holder's process id is written into the file, for messages.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Locked>, FsError> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let mut looked_again = false;
    loop {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).at("open", path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // Perhaps only `is_locked` has it, for a moment.
            Err(rustix::io::Errno::WOULDBLOCK) if !looked_again => {
                looked_again = true;
                std::thread::sleep(LOOK);
                continue;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(io::Error::from(error)).at("lock", path),
        }
        // The holder before may have removed the file; then this lock would keep nobody out.
        let own = file.metadata().at("look at", path)?.ino();
        if fs::metadata(path).is_ok_and(|there| there.ino() == own) {
            file.set_len(0).at("write", path)?;
            writeln!(file, "{}", std::process::id()).at("write", path)?;
            return Ok(Some(Locked { _file: file }));
        }
    }
}

/// Takes an exclusive lock as soon as nobody else holds it; `None` if that takes longer than `limit`.
pub(crate) fn lock_within(path: &Path, limit: Duration) -> Result<Option<Locked>, FsError> {
    let (begun, mut pause) = (Instant::now(), SHORTEST);
    loop {
        let lock = try_lock(path)?;
        if lock.is_some() || begun.elapsed() >= limit {
            return Ok(lock);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

/// Whether somebody holds a lock.
pub(crate) fn is_locked(path: &Path) -> Result<bool, FsError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).at("open", path),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(io::Error::from(error)).at("look at the lock", path),
    }
}

/// The process id that the holder of a lock left in its file.
pub(crate) fn lock_holder(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
