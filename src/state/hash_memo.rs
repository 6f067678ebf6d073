//! Hashes of files remembered between runs, in `.dvc/fanout/hashes.jsonl`.
//!
//! ```text
//! {"version":1,"root":[66306,1179650],"entries":2,"md5":"…"}      the md5 of everything below
//! [66306,1179655,1753000000000000000,1753000000000000000,4,"d3b0…",0,0]
//! ```
//!
//! An entry is device, inode, mtime and ctime in nanoseconds, size, digest, 1 for the old hash of DVC 2, and how many
//! saves ago it was used last. The file is only a memory: one that is damaged, of another version or of another place
//! (`root` is the device and inode of the project's root) is dropped, and every hash is computed anew.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::adapters::dvc::hash::Memory;
use crate::adapters::fs::{self, FsError};
use crate::dvc::hash::{HashName, Md5};

const VERSION: u32 = 1;

/// An entry that so many saves have not used is dropped.
const MAX_AGE: u8 = 16;

/// A file that changed less than this before it was hashed may change again without a new time stamp.
const SETTLED_NANOS: i64 = 2_000_000_000;

/// Device, inode, and whether the hash is the old one of DVC 2.
type Key = (u64, u64, bool);

/// What changes when somebody writes to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    mtime: i64,
    ctime: i64,
    size: u64,
}

struct Remembered {
    stamp: Stamp,
    md5: Md5,
    /// In saves.
    age: u8,
    used: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    root: (u64, u64),
    entries: usize,
    md5: String,
}

/// Device, inode, mtime, ctime, size, digest, old hash, age.
#[derive(Serialize, Deserialize)]
struct Line(u64, u64, i64, i64, u64, String, u8, u8);

/// The remembered hashes of one project; looking up needs no lock.
pub(crate) struct Memo {
    path: PathBuf,
    root: (u64, u64),
    now: i64,
    known: HashMap<Key, Remembered>,
    new: Mutex<Vec<(Key, Stamp, Md5)>>,
}

impl Memo {
    /// Reads the memo at `path` of the project at `root`; `now` is the time in nanoseconds since 1970.
    pub(crate) fn load(path: PathBuf, root: &Path, now: i64) -> Self {
        let root = std::fs::metadata(root).map_or((0, 0), |metadata| (metadata.dev(), metadata.ino()));
        let known = std::fs::read(&path).ok().and_then(|bytes| parse(&bytes, root)).unwrap_or_default();
        Memo { path, root, now, known, new: Mutex::new(Vec::new()) }
    }

    /// Whether saving would change anything.
    pub(crate) fn has_news(&self) -> bool {
        !self.new.lock().expect("nobody panics while holding it").is_empty()
    }

    /// Writes the memo if there is anything new in it.
    pub(crate) fn save(self) -> Result<(), FsError> {
        let new = self.new.into_inner().expect("nobody panics while holding it");
        if new.is_empty() {
            return Ok(());
        }
        let mut entries = self.known;
        for remembered in entries.values_mut() {
            remembered.age = if *remembered.used.get_mut() { 0 } else { remembered.age + 1 };
        }
        entries.retain(|_, remembered| remembered.age < MAX_AGE);
        let fresh = |stamp, md5| Remembered { stamp, md5, age: 0, used: AtomicBool::new(true) };
        entries.extend(new.into_iter().map(|(key, stamp, md5)| (key, fresh(stamp, md5))));
        let (header, body) = render(&entries, self.root);
        drop(entries);
        fs::write_by(&self.path, |file| {
            file.write_all(&header)?;
            file.write_all(&body)
        })
    }
}

impl Memory for Memo {
    fn get(&self, metadata: &Metadata, name: HashName) -> Option<Md5> {
        let remembered = self.known.get(&key(metadata, name)).filter(|known| known.stamp == stamp(metadata))?;
        remembered.used.store(true, Ordering::Relaxed);
        Some(remembered.md5)
    }

    fn remember(&self, before: &Metadata, after: &Metadata, name: HashName, md5: Md5) {
        let stamp = stamp(before);
        let settled = stamp.mtime.max(stamp.ctime) < self.now - SETTLED_NANOS;
        if settled && stamp == self::stamp(after) {
            let mut new = self.new.lock().expect("nobody panics while holding it");
            new.push((key(before, name), stamp, md5));
        }
    }
}

fn key(metadata: &Metadata, name: HashName) -> Key {
    (metadata.dev(), metadata.ino(), name == HashName::Md5Dos2unix)
}

fn stamp(metadata: &Metadata) -> Stamp {
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Stamp {
        mtime: nanos(metadata.mtime(), metadata.mtime_nsec()),
        ctime: nanos(metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
    }
}

/// Returns `None` for a memo that is damaged or not of this place.
fn parse(bytes: &[u8], root: (u64, u64)) -> Option<HashMap<Key, Remembered>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
    let body = &bytes[end + 1..];
    if header.version != VERSION || header.root != root || Md5::parse(&header.md5) != Some(Md5::of(body)) {
        return None;
    }
    let lines = body.strip_suffix(b"\n")?.par_split(|byte| *byte == b'\n');
    let entries: Option<Vec<_>> = lines
        .map(|line| {
            let Line(dev, inode, mtime, ctime, size, md5, old, age) = serde_json::from_slice(line).ok()?;
            let stamp = Stamp { mtime, ctime, size };
            let remembered = Remembered { stamp, md5: Md5::parse(&md5)?, age, used: AtomicBool::new(false) };
            Some(((dev, inode, old == 1), remembered))
        })
        .collect();
    entries.filter(|entries| entries.len() == header.entries).map(HashMap::from_iter)
}

/// Returns the first line and the others, which can be a lot.
fn render(entries: &HashMap<Key, Remembered>, root: (u64, u64)) -> (Vec<u8>, Vec<u8>) {
    let mut body = Vec::with_capacity(entries.len() * 128);
    for ((dev, inode, old), known) in entries {
        let Stamp { mtime, ctime, size } = known.stamp;
        let line = Line(*dev, *inode, mtime, ctime, size, known.md5.to_string(), u8::from(*old), known.age);
        serde_json::to_writer(&mut body, &line).expect("a Vec takes every line");
        body.push(b'\n');
    }
    let header = Header { version: VERSION, root, entries: entries.len(), md5: Md5::of(&body).to_string() };
    let mut header = serde_json::to_vec(&header).expect("numbers and a text");
    header.push(b'\n');
    (header, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: i64 = i64::MAX;

    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new() -> Self {
            let scene = Scene(tempfile::tempdir().expect("a temporary folder"));
            fs::write(&scene.0.path().join("f"), b"x").expect("a file in it");
            scene
        }

        fn memo(&self, now: i64) -> Memo {
            Memo::load(self.0.path().join("hashes.jsonl"), self.0.path(), now)
        }

        fn file(&self) -> Metadata {
            std::fs::metadata(self.0.path().join("f")).expect("it is there")
        }

        fn remembers(&self, name: HashName) -> bool {
            self.memo(LATER).get(&self.file(), name) == Some(Md5::of(b"x"))
        }

        fn remember(&self, now: i64) {
            let memo = self.memo(now);
            memo.remember(&self.file(), &self.file(), HashName::Md5, Md5::of(b"x"));
            memo.save().expect("it can be written");
        }
    }

    #[test]
    fn a_settled_file_is_remembered_until_it_is_written() {
        let scene = Scene::new();
        assert!(!scene.remembers(HashName::Md5));
        scene.remember(LATER);
        assert!(scene.remembers(HashName::Md5));
        assert!(!scene.remembers(HashName::Md5Dos2unix));
        fs::write(&scene.0.path().join("f"), b"y").expect("a file");
        assert!(!scene.remembers(HashName::Md5));
    }

    #[test]
    fn a_young_file_is_not_remembered() {
        let scene = Scene::new();
        scene.remember(stamp(&scene.file()).ctime + SETTLED_NANOS);
        assert!(!scene.remembers(HashName::Md5));
    }

    #[test]
    fn a_damaged_or_foreign_memo_is_dropped() {
        let scene = Scene::new();
        scene.remember(LATER);
        let path = scene.0.path().join("hashes.jsonl");
        let good = std::fs::read(&path).expect("it was saved");
        assert!(parse(&good, scene.memo(0).root).is_some_and(|entries| entries.len() == 1));
        assert!(parse(&good, (1, 2)).is_none());
        for position in 0..good.len() - 1 {
            assert!(parse(&good[..position], scene.memo(0).root).is_none_or(|entries| entries.is_empty()));
            let mut bad = good.clone();
            bad[position] ^= 1;
            assert!(parse(&bad, scene.memo(0).root).is_none(), "byte {position}");
        }
    }

    #[test]
    fn what_is_not_used_for_long_is_forgotten() {
        let scene = Scene::new();
        scene.remember(LATER);
        fs::write(&scene.0.path().join("g"), b"x").expect("a second file");
        let other = std::fs::metadata(scene.0.path().join("g")).expect("it is there");
        for save in 0..=MAX_AGE {
            let memo = scene.memo(LATER);
            assert_eq!(memo.known.len(), [1, 2, 1][usize::from(save > 0) + usize::from(save >= MAX_AGE)], "{save}");
            memo.remember(&other, &other, HashName::Md5, Md5::of(b"x"));
            memo.save().expect("it can be written");
        }
    }
}
