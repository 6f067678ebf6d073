//! Files of the work tree that are too large to be copied for each plan and each slot; stage files, lock files and
//! `.gitignore` files, which DVC and runs write, are copied however large.
//!
//! A tree of a snapshot has an entry for each, with the mode that git has for submodules: its id is no object's but the
//! digest of the file's stat data, so a file that was changed since makes another tree. In a slot such a file is
//!
//! | where the file system | | what a command writes into it |
//! |---|---|---|
//! | shares blocks (reflinks) | a copy | stays in the slot until it is collected, as with any file |
//! | does not | a symlink to the project's | goes into the project's file at once, as under `dvc repro` |
//!
//! A hard link is neither: whether the project's file changes would depend on how a program writes, and some (SQLite)
//! break files that have two names.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use git2::{ObjectType, Oid};

use crate::adapters::fs::{self, FsError};

/// What stands for a file's content: a digest of what changes when somebody writes to it.
pub(super) fn stamp(found: &Metadata) -> Oid {
    let text = format!("{} {} {}.{:09} {}", found.ino(), found.size(), found.mtime(), found.mtime_nsec(), found.mode());
    Oid::hash_object(ObjectType::Blob, text.as_bytes()).expect("a few bytes can be hashed")
}

/// Whether a file is still the one with this stamp.
pub(crate) fn is_as_planned(file: &Path, stamp: &str) -> bool {
    file.symlink_metadata().is_ok_and(|found| self::stamp(&found).to_string() == stamp)
}

/// Brings a file of the project into a slot; says whether it is there.
pub(crate) fn bring(from: &Path, to: &Path) -> Result<bool, FsError> {
    if !from.is_file() {
        return Ok(false);
    }
    if let Some(parent) = to.parent() {
        fs::create_dir(parent)?;
    }
    if fs::reflink(from, to)? {
        fs::set_mode(to, fs::mode(from)?)?;
    } else {
        fs::symlink(from, to)?;
    }
    Ok(true)
}
