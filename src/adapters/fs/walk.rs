//! What lies at a path and below it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{At as _, FsError};

/// What a walk finds at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Relative to where the walk began, with `/`.
    pub path: String,
    pub kind: FoundKind,
    pub size: u64,
    pub mode: u32,
    pub inode: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundKind {
    File,
    Symlink,
    Directory,
    Other,
}

impl Found {
    fn of(path: String, metadata: &fs::Metadata) -> Found {
        let kind = match metadata.file_type() {
            kind if kind.is_symlink() => FoundKind::Symlink,
            kind if kind.is_dir() => FoundKind::Directory,
            kind if kind.is_file() => FoundKind::File,
            _ => FoundKind::Other,
        };
        Found {
            path,
            kind,
            size: metadata.size(),
            mode: metadata.mode(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Looks at one path below a directory, as a walk would; `None` where nothing is.
pub(crate) fn find(root: &Path, path: &str) -> Result<Option<Found>, FsError> {
    let absolute = root.join(path);
    match fs::symlink_metadata(&absolute) {
        Ok(metadata) => Ok(Some(Found::of(path.to_owned(), &metadata))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).at("look at", &absolute),
    }
}

/// Lists everything below a directory, parents before children, not following symlinks; paths that `skip` says are
/// left out with all below them, and so are names that are not UTF-8.
pub(crate) fn walk(root: &Path, skip: &dyn Fn(&str) -> bool) -> Result<Vec<Found>, FsError> {
    walk_and_tell(root, skip).map(|(found, _)| found)
}

/// The same, and what was left out since its name is not UTF-8, relative to the directory.
pub(crate) fn walk_and_tell(root: &Path, skip: &dyn Fn(&str) -> bool) -> Result<(Vec<Found>, Vec<PathBuf>), FsError> {
    let (mut found, mut odd) = (vec![], vec![]);
    let mut stack = vec![String::new()];
    while let Some(directory) = stack.pop() {
        let absolute = root.join(&directory);
        for entry in fs::read_dir(&absolute).at("list", &absolute)? {
            let entry = entry.at("list", &absolute)?;
            let name = match entry.file_name().into_string() {
                Ok(name) => name,
                Err(name) => {
                    odd.push(Path::new(&directory).join(name));
                    continue;
                }
            };
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            if skip(&path) {
                continue;
            }
            let found_here = Found::of(path, &entry.metadata().at("look at", &entry.path())?);
            if found_here.kind == FoundKind::Directory {
                stack.push(found_here.path.clone());
            }
            found.push(found_here);
        }
    }
    Ok((found, odd))
}

/// The directories of a walk with nothing in them.
pub(crate) fn empty_directories(found: &[Found]) -> impl Iterator<Item = &str> {
    let parents: HashSet<&str> = found.iter().filter_map(|found| Some(found.path.rsplit_once('/')?.0)).collect();
    let directories = found.iter().filter(|found| found.kind == FoundKind::Directory);
    directories.map(|found| found.path.as_str()).filter(move |path| !parents.contains(path))
}
