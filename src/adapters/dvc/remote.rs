//! A remote of DVC's that is reached without DVC: laid out as a cache is (`files/md5/HH/REST`, `HH/REST` of DVC 2,
//! `runs/KK/KEY/VALUE`), in a folder or in an object store.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::adapters::bucket::{Bucket, BucketError};
use crate::adapters::dvc::cache::inside;
use crate::adapters::dvc::hash::forgetful;
use crate::adapters::dvc::store::{Store, StoreError, copy_content};
use crate::adapters::fs::{self, At as _, FsError};
use crate::adapters::machine;
use crate::diagnostic::Diagnostic;
use crate::dvc::config::remote::{PlainRemote, RemoteKind};
use crate::dvc::hash::{HashName, Md5};
use crate::dvc::oid::ObjectKey;
use crate::model::run::Traffic;

/// Objects that go to and from an object store at a time, unless the remote's `jobs` says otherwise.
const JOBS: usize = 16;
/// The largest text that is read whole: that of a directory's object, or an entry of the run cache.
const MAX_TEXT: u64 = 1 << 30;

/// A remote.
pub(crate) struct Remote {
    url: String,
    jobs: Option<usize>,
    place: Place,
}

enum Place {
    /// A folder has the form of a cache.
    Folder(Box<Store>),
    Bucket(Bucket),
}

/// Why an object does not come or go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("`{address}` is not there")]
    Missing { address: String },
    #[error("`{address}` is not the object that its name says")]
    Wrong { address: String, found: Md5 },
    #[error("`{address}` does not list the files of a directory")]
    NoDirectory { address: String },
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl From<RemoteError> for Diagnostic {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Missing { .. } => Diagnostic::project(format!("an object is not in the remote: {error}"))
                .hint("push it from where it is: `dvc push`, with `--run-cache` for data of earlier runs"),
            RemoteError::NoDirectory { .. } => Diagnostic::project(error.to_string()),
            RemoteError::Wrong { found, .. } => Diagnostic::project(error.to_string())
                .cause(format!("what it holds has the MD5 {found}"))
                .hint("remove it there, and push it again from where it is whole: `dvc push`"),
            RemoteError::Bucket(error) => error.into(),
            RemoteError::Store(StoreError::Fs(error)) | RemoteError::Fs(error) => error.into(),
            RemoteError::Store(error) => Diagnostic::tool(error.to_string()),
        }
    }
}

impl Remote {
    /// Opens a remote; what fails for a while is tried again for as long as `patience`. `Err` says why only DVC can.
    pub(crate) fn open(remote: &PlainRemote, patience: Duration) -> Result<Remote, String> {
        let place = match &remote.kind {
            RemoteKind::Folder { path, is_shared } => {
                Place::Folder(Box::new(Store::new(Path::new(path), &[], *is_shared, machine::umask())))
            }
            RemoteKind::S3(_) | RemoteKind::Gs { .. } | RemoteKind::Azure(_) => {
                Place::Bucket(Bucket::of_remote(remote, patience)?)
            }
        };
        Ok(Remote { url: remote.url.trim_end_matches('/').to_owned(), jobs: remote.jobs, place })
    }

    /// How many objects go at a time.
    pub(crate) fn jobs(&self) -> usize {
        let usual = || match self.place {
            Place::Folder(_) => std::thread::available_parallelism().map_or(1, usize::from),
            Place::Bucket(_) => JOBS,
        };
        self.jobs.unwrap_or_else(usual)
    }

    /// What it took so far; of a folder, nothing is counted.
    pub(crate) fn traffic(&self) -> Traffic {
        match &self.place {
            Place::Folder(_) => Traffic::default(),
            Place::Bucket(bucket) => bucket.traffic(),
        }
    }

    /// Whether an object is there, as DVC finds out: a folder's is looked into unless it is protected.
    pub(crate) fn has(&self, object: ObjectKey) -> Result<bool, RemoteError> {
        match &self.place {
            Place::Folder(store) if object.hash == HashName::Md5 => Ok(store.check_one(object.oid, &forgetful())?),
            Place::Folder(store) => Ok(fs::exists(&store.cache().object(object))),
            Place::Bucket(bucket) => Ok(bucket.find(&key(object))?.is_some()),
        }
    }

    /// Brings an object into a cache, if it is what its name says.
    pub(crate) fn fetch(&self, object: ObjectKey, cache: &Store) -> Result<(), RemoteError> {
        let found = cache.add_by(object, &forgetful(), |file| self.copy_to(object, file))?;
        found.map_or(Ok(()), |found| Err(RemoteError::Wrong { address: self.address(object), found }))
    }

    fn copy_to(&self, object: ObjectKey, file: &mut File) -> Result<(), RemoteError> {
        let missing = || RemoteError::Missing { address: self.address(object) };
        match &self.place {
            Place::Folder(store) => {
                let object = store.cache().object(object);
                let mut source = match File::open(&object) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
                    opened => opened.at("read", &object)?,
                };
                Ok(copy_content(&mut source, file).at("copy", &object)?)
            }
            Place::Bucket(bucket) => {
                let is_there = bucket.get_by(&key(object), &mut |part| file.write_all(part))?;
                if is_there { Ok(()) } else { Err(missing()) }
            }
        }
    }

    /// Reads the text of a directory's object, if it is what its name says.
    pub(crate) fn text(&self, object: ObjectKey) -> Result<Vec<u8>, RemoteError> {
        let text = self.read(&key(object))?.ok_or_else(|| RemoteError::Missing { address: self.address(object) })?;
        let found = Md5::of(&text);
        if found == object.oid.md5() {
            return Ok(text);
        }
        Err(RemoteError::Wrong { address: self.address(object), found })
    }

    /// Takes an object of a cache there.
    pub(crate) fn push(&self, object: ObjectKey, from: &Path) -> Result<(), RemoteError> {
        match &self.place {
            Place::Folder(store) => {
                let copy = |file: &mut File| {
                    let mut source = File::open(from).at("read", from)?;
                    Ok::<_, RemoteError>(copy_content(&mut source, file).at("copy", from)?)
                };
                let found = store.add_by(object, &forgetful(), copy)?;
                let wrong = |found| RemoteError::Wrong { address: from.display().to_string(), found };
                found.map_or(Ok(()), |found| Err(wrong(found)))
            }
            Place::Bucket(bucket) => Ok(bucket.put_files(&key(object), &[from.to_owned()])?),
        }
    }

    /// Reads an entry of the run cache.
    pub(crate) fn run(&self, run: &str, value: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        self.read(&run_key(run, value))
    }

    /// Takes an entry of the run cache there.
    pub(crate) fn push_run(&self, run: &str, value: &str, text: &str) -> Result<(), RemoteError> {
        match &self.place {
            Place::Folder(store) => Ok(store.add_run(run, value, text)?),
            Place::Bucket(bucket) => Ok(bucket.put(&run_key(run, value), text.as_bytes().to_vec())?),
        }
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        match &self.place {
            Place::Folder(store) => {
                let path = store.cache().find(Path::new(key));
                if fs::exists(&path) { Ok(Some(fs::read(&path)?)) } else { Ok(None) }
            }
            Place::Bucket(bucket) => Ok(bucket.get(key, MAX_TEXT)?),
        }
    }

    /// The error where what is asked for has a name that no object has.
    pub(crate) fn missing(&self, name: &str) -> RemoteError {
        RemoteError::Missing { address: format!("{}/{name}", self.url) }
    }

    /// The error where the object of a directory is none.
    pub(crate) fn no_directory(&self, object: ObjectKey) -> RemoteError {
        RemoteError::NoDirectory { address: self.address(object) }
    }

    fn address(&self, object: ObjectKey) -> String {
        format!("{}/{}", self.url, key(object))
    }
}

/// Where an object lies in a remote.
fn key(object: ObjectKey) -> String {
    inside(object).to_string_lossy().into_owned()
}

fn run_key(run: &str, value: &str) -> String {
    format!("runs/{}/{run}/{value}", &run[..2])
}
