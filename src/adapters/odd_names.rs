//! Files whose names are not UTF-8. No plan or result can name them, so they are taken with the directory they lie in.

use std::fs::FileType;
use std::path::Path;

use crate::adapters::fs::{self, At as _, FsError};

/// Copies what has such a name below a directory, or lies in a directory that has; what is there already stays.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), FsError> {
    for entry in std::fs::read_dir(from).at("list", from)? {
        let entry = entry.at("list", from)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().at("look at", &from)?;
        if entry.file_name().to_str().is_none() {
            copy_all(&from, &to, kind)?;
        } else if kind.is_dir() {
            copy(&from, &to)?;
        }
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path, kind: FileType) -> Result<(), FsError> {
    if !kind.is_dir() {
        return if to.symlink_metadata().is_ok() { Ok(()) } else { copy_one(from, to, kind) };
    }
    fs::create_dir(to)?;
    for entry in std::fs::read_dir(from).at("list", from)? {
        let entry = entry.at("list", from)?;
        let kind = entry.file_type().at("look at", &entry.path())?;
        copy_all(&entry.path(), &to.join(entry.file_name()), kind)?;
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path, kind: FileType) -> Result<(), FsError> {
    if let Some(parent) = to.parent() {
        fs::create_dir(parent)?;
    }
    if kind.is_file() {
        fs::copy(from, to)
    } else if kind.is_symlink() {
        fs::symlink(std::fs::read_link(from).at("look at", from)?, to)
    } else {
        stand_in(to)
    }
}

/// Puts something in the place of a FIFO, socket or device: DVC fails at it as well, and waits for no writer.
pub(crate) fn stand_in(to: &Path) -> Result<(), FsError> {
    fs::symlink("nothing (here lies a FIFO, socket or device)", to)
}
