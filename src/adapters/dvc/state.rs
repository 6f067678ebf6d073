//! DVC's own record of what it has put in a project, written as `dvc repro` would have written it (`dvc_data/hashfile/state.py`
//! of DVC 3.67, on diskcache 5.6).
//!
//! | database | key | value | who reads it |
//! |---|---|---|---|
//! | `links` | an out, relative to the project's root | inode and times, pickled | `dvc checkout`, which removes outs that another branch does not have, if they are as they were put there |
//! | `hashes/local` | a file, absolute | its stat data and MD5, as JSON | everything that would hash the file again |
//!
//! Both lie in a folder of DVC's site cache, whose name is made of the project's path, the time of `.dvc/tmp/btime`, the user,
//! and DVC's version. Without them all is right but slower, and `dvc checkout` leaves more than it has to.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, TransactionBehavior};

use crate::adapters::dvc::cache::Cache;
use crate::adapters::fs::{self, At as _, FsError};
use crate::adapters::{clock, process};
use crate::dvc::hash::HashName;
use crate::dvc::oid::ObjectKey;
use crate::dvc::python_text::{float_repr, repr};
use crate::dvc::value as dvc;
use crate::env;

/// Where the folders of all projects are, unless DVC is told otherwise (`dvc/dirs.py`).
const SITE_CACHE: &str = "/var/tmp/dvc";
/// The major version of DVC, a part of the folder's name.
const MAJOR: u32 = 3;
/// The mode of what all users share.
const FOR_ALL: u32 = 0o777;
/// How long another process that writes is waited for.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
/// How diskcache marks a value that is pickled, or text.
const PICKLED: u8 = 4;
const AS_IT_IS: u8 = 1;

/// What diskcache makes first; it adds what it finds missing.
const SCHEMA: &str = "
    PRAGMA auto_vacuum = 1;
    PRAGMA journal_mode = wal;
    BEGIN;
    CREATE TABLE IF NOT EXISTS Settings (key TEXT NOT NULL UNIQUE, value);
    INSERT OR IGNORE INTO Settings VALUES ('count', 0), ('hits', 0), ('misses', 0), ('size', 0);
    CREATE TABLE IF NOT EXISTS Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL,
        access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB, size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0,
        filename TEXT, value BLOB);
    CREATE UNIQUE INDEX IF NOT EXISTS Cache_key_raw ON Cache (key, raw);
    CREATE TRIGGER IF NOT EXISTS Settings_count_insert AFTER INSERT ON Cache FOR EACH ROW BEGIN
        UPDATE Settings SET value = value + 1 WHERE key = 'count'; END;
    COMMIT;";
const PUT: &str = "
    INSERT INTO Cache (key, raw, store_time, access_time, mode, value) VALUES (?1, 1, ?2, ?2, ?3, ?4)
    ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time, mode = excluded.mode, size = 0, filename = NULL,
        value = excluded.value";

#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("`{}`: {source}", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
}

/// What is put into the databases: keys with values.
#[derive(Default)]
pub(crate) struct Known {
    links: Vec<(String, Value)>,
    hashes: Vec<(String, Value)>,
}

impl Known {
    /// Looks at an out (relative to the project's root) that was just put there with the content of an object.
    pub(crate) fn add(&mut self, root: &Path, out: &str, object: ObjectKey, cache: &Cache) -> Result<(), FsError> {
        let full = root.join(out);
        let Some(own) = there(full.symlink_metadata(), &full)? else { return Ok(()) };
        let times = if own.is_dir() {
            let mut members = cache.members(object).unwrap_or_default();
            members.sort_unstable_by(|a, b| a.relpath.cmp(&b.relpath));
            let mut times = vec![];
            for member in members {
                let path = full.join(&member.relpath);
                if let Some(found) = there(path.metadata(), &path)?
                    && let Some(text) = path.to_str()
                {
                    times.push(format!("{}: {}", json(text), float_repr(modified(&found))));
                    self.add_hash(&path, &found, object.hash, &member.md5.to_string());
                }
            }
            fs::digest_bytes(format!("{{{}}}", times.join(", ")).as_bytes())
        } else {
            let Some(found) = there(full.metadata(), &full)? else { return Ok(()) };
            self.add_hash(&full, &found, object.hash, &object.oid.to_string());
            in_nanoseconds(modified(&found))
        };
        self.links.push((out.to_owned(), Value::Blob(pickled(own.ino(), &times))));
        Ok(())
    }

    /// The same with what others have looked at.
    #[must_use]
    pub(crate) fn and(mut self, other: Known) -> Known {
        self.links.extend(other.links);
        self.hashes.extend(other.hashes);
        self
    }

    /// Puts all of it into the databases of a project. `site_cache` is DVC's setting `core.site_cache_dir`. For a user without
    /// a name DVC cannot name the folder either, and nothing is written.
    pub(crate) fn write(&self, root: &Path, site_cache: Option<&str>) -> Result<(), StateError> {
        if self.links.is_empty() {
            return Ok(());
        }
        let Some(user) = user_name() else { return Ok(()) };
        let folder = folder(root, site_cache, &user)?;
        put(&folder.join("links"), PICKLED, &self.links)?;
        put(&folder.join("hashes/local"), AS_IT_IS, &self.hashes)
    }

    fn add_hash(&mut self, path: &Path, found: &Metadata, hash: HashName, md5: &str) {
        // Symlinks lead to what the cache knows by its name.
        let (HashName::Md5, Some(text), false) = (hash, path.to_str(), path.is_symlink()) else { return };
        let (size, checksum) = (found.len(), checksum(found));
        let entry =
            format!(r#"{{"version": 1, "checksum": "{checksum}", "size": {size}, "hash_info": {{"md5": "{md5}"}}}}"#);
        self.hashes.push((text.to_owned(), Value::Text(entry)));
    }
}

/// The folder of a project in DVC's site cache, made if it is not there (`dvc/repo/__init__.py: site_cache_dir`).
fn folder(root: &Path, site_cache: Option<&str>, user: &str) -> Result<PathBuf, FsError> {
    let asked = env::read_text(env::DVC_SITE_CACHE_DIR);
    let all = PathBuf::from(asked.as_deref().or(site_cache).unwrap_or(SITE_CACHE)).join("repo");
    let missing: Vec<&Path> = all.ancestors().take_while(|folder| !fs::exists(folder)).collect();
    for folder in missing.into_iter().rev() {
        fs::create_dir(folder)?;
        fs::set_mode(folder, FOR_ALL)?;
    }
    let born = root.join(".dvc/tmp/btime");
    if !fs::exists(&born) {
        fs::create_dir(&root.join(".dvc/tmp"))?;
        fs::create_new(&born)?;
    }
    let time = float_repr(modified(&born.metadata().at("look at", &born)?));
    let (root, user) = (repr(&dvc::Value::str(root.to_string_lossy())), repr(&dvc::Value::str(user)));
    let folder = all.join(fs::digest_bytes(format!("({root}, None, {time}, {user}, {MAJOR}, 0)").as_bytes()));
    fs::create_dir(&folder)?;
    Ok(folder)
}

/// The name of this user as Python finds it (`getpass.getuser`).
fn user_name() -> Option<String> {
    let named = env::USER_NAMES.iter().find_map(|name| env::read_text(name));
    named.or_else(|| process::name_of(process::user().0))
}

/// Puts rows into the database of a folder, in the place of those with the same keys.
fn put(folder: &Path, mode: u8, rows: &[(String, Value)]) -> Result<(), StateError> {
    fs::create_dir(folder)?;
    let path = folder.join("cache.db");
    let write = || -> rusqlite::Result<()> {
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_LIMIT)?;
        // As diskcache writes: after a crash of the machine the database is whole, and the last rows may be missing.
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        connection.execute_batch(SCHEMA)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            #[expect(clippy::cast_precision_loss, reason = "seconds, as Python has them")]
            let now = clock::nanoseconds() as f64 / 1e9;
            let mut statement = transaction.prepare(PUT)?;
            for (key, value) in rows {
                statement.execute((key, now, mode, value))?;
            }
        }
        transaction.commit()
    };
    write().map_err(|source| StateError::Database { path, source })
}

/// What is at a path, if something is.
fn there(found: io::Result<Metadata>, path: &Path) -> Result<Option<Metadata>, FsError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).at("look at", path),
    }
}

/// The time of modification as Python has it: seconds, as near as a number of 64 bits comes.
#[expect(clippy::cast_precision_loss, reason = "so does Python")]
fn modified(found: &Metadata) -> f64 {
    found.mtime() as f64 + 1e-9 * found.mtime_nsec() as f64
}

/// A time as a number of nanoseconds.
fn in_nanoseconds(time: f64) -> String {
    format!("{:.0}", (time * 1e9).round_ties_even())
}

/// What tells whether a file is still the one that was hashed (`_checksum`): the MD5 of inode, time and size as a number.
fn checksum(found: &Metadata) -> u128 {
    let all = format!("([{}, {}, {}],)", found.ino(), float_repr(modified(found)), found.len());
    u128::from_str_radix(&fs::digest_bytes(all.as_bytes()), 16).expect("32 hexadecimal digits")
}

/// A text as `json.dumps` writes it, in ASCII.
fn json(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    for character in serde_json::Value::from(text).to_string().chars() {
        if character.is_ascii() {
            json.push(character);
        } else {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| json.push_str(&format!("\\u{unit:04x}")));
        }
    }
    json
}

/// The pair of an inode and a short text, as `pickle` has it in protocol 4.
fn pickled(inode: u64, text: &str) -> Vec<u8> {
    const PROTOCOL: [u8; 2] = [0x80, 4];
    const LONG: [u8; 2] = [0x8a, 9];
    const SHORT_TEXT: u8 = 0x8c;
    const PAIR: u8 = 0x86;
    const STOP: u8 = b'.';
    let mut pickle = PROTOCOL.to_vec();
    pickle.extend(LONG);
    pickle.extend(inode.to_le_bytes());
    // The sign.
    pickle.push(0);
    pickle.push(SHORT_TEXT);
    pickle.push(u8::try_from(text.len()).expect("a number, or a digest"));
    pickle.extend(text.bytes());
    pickle.extend([PAIR, STOP]);
    pickle
}
