//! What is left of an earlier run's workspace in a slot: the files of the tree that is wanted now which are as they were
//! written. Nearly all of a large project is the same from one run to the next, and files cost more to write than to look at.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use git2::{Index, IndexEntry, IndexTime};

use super::store::TreeEntry;
use super::{Doing as _, GitError, SUBMODULE, low};
use crate::adapters::fs::{self, At as _};
use crate::dvc::pipeline::path::at_and_above;

/// Removes from a folder what is not a wanted file as an earlier checkout wrote it, by that one's manifest, with the time
/// that the file has below `top`; returns what stays, by path.
pub(super) fn keep(
    folder: &Path,
    manifest: &Path,
    wanted: &[TreeEntry],
    top: &Path,
) -> Result<HashMap<Vec<u8>, IndexEntry>, GitError> {
    let index = Index::open(manifest).doing("read a slot's manifest")?;
    let mut written: HashMap<Vec<u8>, IndexEntry> = index.iter().map(|entry| (entry.path.clone(), entry)).collect();
    let is_wanted: HashMap<&[u8], &TreeEntry> = wanted.iter().map(|file| (file.path.as_bytes(), file)).collect();
    let mut folders: HashSet<&[u8]> = HashSet::new();
    for file in wanted {
        // Those above a folder that is known are known.
        at_and_above(&file.path).skip(1).map(str::as_bytes).take_while(|path| folders.insert(path)).for_each(drop);
    }
    let usual_mode = folder.parent().map(fs::mode).transpose()?;
    let mut kept = HashMap::new();
    let mut to_look_into = vec![folder.to_owned()];
    while let Some(directory) = to_look_into.pop() {
        for entry in std::fs::read_dir(&directory).at("list", &directory)? {
            let at = entry.at("list", &directory)?.path();
            let path = at.strip_prefix(folder).expect("it lies there").as_os_str().as_bytes();
            let found = at.symlink_metadata().at("look at", &at)?;
            if found.is_dir() {
                if folders.contains(path) && usual_mode == Some(found.permissions().mode() & 0o7777) {
                    to_look_into.push(at);
                    continue;
                }
            } else if let (Some(file), Some(was)) = (is_wanted.get(path), written.remove(path))
                && file.mode != SUBMODULE
                && (file.id, file.mode) == (was.id, was.mode)
                && Stat::of(&found) == Stat::written(&was)
                && has_time_of(&top.join(&file.path), &found)
            {
                kept.insert(path.to_owned(), was);
                continue;
            }
            fs::remove(&at)?;
        }
    }
    Ok(kept)
}

/// Whether a file has the time and mode of the one that it stands for; of a symlink these do not count.
fn has_time_of(there: &Path, found: &Metadata) -> bool {
    let mode = |found: &Metadata| found.permissions().mode() & 0o777;
    !found.is_file()
        || there.symlink_metadata().is_ok_and(|there| {
            (there.mtime(), there.mtime_nsec(), mode(&there)) == (found.mtime(), found.mtime_nsec(), mode(found))
        })
}

/// What changes when somebody touches a file; the time of its last change nobody can set.
#[derive(PartialEq, Eq)]
pub(super) struct Stat {
    pub ctime: (i32, u32),
    pub mtime: (i32, u32),
    pub dev: u32,
    pub ino: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u32,
}

impl Stat {
    pub(super) fn of(found: &Metadata) -> Stat {
        let seconds = |seconds: i64| low(seconds.cast_unsigned()).cast_signed();
        let nanoseconds = |nanoseconds: i64| u32::try_from(nanoseconds).unwrap_or(0);
        Stat {
            ctime: (seconds(found.ctime()), nanoseconds(found.ctime_nsec())),
            mtime: (seconds(found.mtime()), nanoseconds(found.mtime_nsec())),
            dev: low(found.dev()),
            ino: low(found.ino()),
            uid: found.uid(),
            gid: found.gid(),
            size: low(found.size()),
        }
    }

    fn written(entry: &IndexEntry) -> Stat {
        let time = |time: IndexTime| (time.seconds(), time.nanoseconds());
        Stat {
            ctime: time(entry.ctime),
            mtime: time(entry.mtime),
            dev: entry.dev,
            ino: entry.ino,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.file_size,
        }
    }
}

/// How many files a workspace holds of a snapshot, and how many bytes they have, by its manifest.
pub(crate) fn size(manifest: &Path) -> Result<(usize, u64), GitError> {
    let index = Index::open(manifest).doing("read a slot's manifest")?;
    let bytes = index.iter().filter(|entry| entry.mode != SUBMODULE).map(|entry| u64::from(entry.file_size)).sum();
    Ok((index.len(), bytes))
}
