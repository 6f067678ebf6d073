//! DVC's cache on disk: reading it, never changing it.
//!
//! ```text
//! files/md5/HH/REST      an object, by its MD5; a directory's ends in `.dir`
//! HH/REST                an object of DVC 2
//! runs/KK/KEY/VALUE      lock entries of earlier runs, by what they depend on
//! ```
//!
//! An object of mode 0444 is trusted unread, as DVC does; any other is hashed. DVC would then delete a wrong one and
//! protect a right one; here it stays as it is.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::adapters::dvc::hash::{HashError, Hasher};
use crate::dvc::hash::{HashName, Member, parse_directory_text};
use crate::dvc::lockfile::{LockEntry, parse_run};
use crate::dvc::oid::ObjectKey;

/// The mode of objects that nobody has touched.
pub(super) const PROTECTED: u32 = 0o444;

/// Members of directories are checked on all cores from this number on.
const MANY: usize = 256;

/// The cache of a project.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// Another cache that has what this one has not.
    behind: Option<PathBuf>,
}

impl Cache {
    /// The cache in the directory `cache.dir`.
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Cache { dir: dir.into(), behind: None }
    }

    /// A cache in front of another one, which has what the first has not.
    pub(crate) fn in_front_of(dir: impl Into<PathBuf>, behind: impl Into<PathBuf>) -> Self {
        Cache { dir: dir.into(), behind: Some(behind.into()) }
    }

    /// Where a path in the cache lies.
    pub(super) fn find(&self, inside: &Path) -> PathBuf {
        let own = self.dir.join(inside);
        match &self.behind {
            Some(behind) if !own.exists() && behind.join(inside).exists() => behind.join(inside),
            _ => own,
        }
    }

    /// Where an object lies.
    pub(crate) fn object(&self, object: ObjectKey) -> PathBuf {
        self.find(&inside(object))
    }

    /// Whether an object is there, right or not.
    pub(crate) fn has(&self, object: ObjectKey) -> bool {
        self.object(object).is_file()
    }

    /// Whether an object is there and right, for a directory with all its members.
    pub(crate) fn is_intact(&self, object: ObjectKey, hasher: &Hasher<'_>) -> Result<bool, HashError> {
        if !object.oid.is_directory() {
            return self.is_object_intact(object, hasher);
        }
        let Some(members) = self.members(object) else { return Ok(false) };
        let is_intact = |member: &Member| self.is_object_intact(object.member(member), hasher);
        let missing = |result: &Result<bool, HashError>| !matches!(result, Ok(true));
        let first = if members.len() < MANY {
            members.iter().map(is_intact).find(missing)
        } else {
            members.par_iter().map(is_intact).find_any(missing)
        };
        first.unwrap_or_else(|| self.is_object_intact(object, hasher))
    }

    fn is_object_intact(&self, object: ObjectKey, hasher: &Hasher<'_>) -> Result<bool, HashError> {
        let path = self.object(object);
        let shown = || path.display().to_string();
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(HashError::Unreadable { path: shown(), source }),
        };
        if metadata.permissions().mode() & 0o7777 == PROTECTED {
            return Ok(true);
        }
        let md5 = hasher.hash_file(&path, &shown(), &metadata, object.hash)?;
        Ok(object.oid.md5() == md5)
    }

    /// Reads the object of a directory; `None` where it is not there or no such object.
    pub(crate) fn members(&self, object: ObjectKey) -> Option<Vec<Member>> {
        parse_directory_text(&std::fs::read(self.object(object)).ok()?)
    }

    /// Reads the newest entry under a key of the run cache; a damaged one counts as none, as for DVC.
    pub(crate) fn newest_run(&self, key: &str) -> Option<LockEntry> {
        parse_run(&std::fs::read(self.newest_run_file(key)?).ok()?)
    }

    /// Where the newest entry under a key of the run cache lies.
    pub(crate) fn newest_run_file(&self, key: &str) -> Option<PathBuf> {
        let dir = self.find(&Path::new("runs").join(key.get(..2)?).join(key));
        let entries = std::fs::read_dir(dir).ok()?;
        let newest = entries.flatten().max_by_key(|entry| {
            let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            (written, entry.file_name())
        })?;
        Some(newest.path())
    }
}

/// Where an object lies in a cache.
pub(super) fn inside(object: ObjectKey) -> PathBuf {
    let base = match object.hash {
        HashName::Md5 => Path::new("files/md5"),
        HashName::Md5Dos2unix => Path::new(""),
    };
    let name = object.oid.to_string();
    base.join(&name[..2]).join(&name[2..])
}
