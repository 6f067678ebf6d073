//! What `dvc::changed` asks, answered from the disk.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::hash::{HashError, Hasher, Memory};
use crate::adapters::dvc::status::ChangedDeps;
use crate::dvc::changed::{Elsewhere, FactError, Facts, ParamsFile, Subject, wanted};
use crate::dvc::formats;
use crate::dvc::hash::{HashName, Hashed, Member};
use crate::dvc::lockfile::LockEntry;
use crate::dvc::oid::ObjectKey;
use crate::dvc::pipeline::stage::{Dep, Stage};

/// A params file that cannot be used; DVC fails there too.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParamsError {
    #[error("`{0}` is a directory, not a params file")]
    Directory(String),
    #[error("cannot read the params file `{path}`")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the params file `{path}` is not valid")]
    Invalid {
        path: String,
        #[source]
        source: formats::FormatError,
    },
}

impl ParamsError {
    /// Why the file at a path could not be read.
    pub(crate) fn of(path: String, source: std::io::Error) -> Self {
        match source.kind() {
            ErrorKind::IsADirectory => ParamsError::Directory(path),
            _ => ParamsError::Unreadable { path, source },
        }
    }
}

type Answer<T> = Result<Option<T>, FactError>;

/// The facts of a project, with all hashes and params that some stages need gathered in advance on all cores.
pub(crate) struct DiskFacts<'a> {
    root: &'a str,
    hasher: Hasher<'a>,
    cache: &'a Cache,
    hashes: HashMap<(&'a str, HashName), Answer<Hashed>>,
    params: HashMap<&'a str, Answer<Arc<ParamsFile>>>,
    /// What DVC said of deps outside of the file system; `None` where it could not be asked.
    elsewhere: Option<ChangedDeps>,
}

impl<'a> DiskFacts<'a> {
    /// Gathers what the stages need; each file is read once, however many stages name it.
    ///
    /// `root` is the project's absolute path.
    pub(crate) fn gather(root: &'a str, memory: &'a dyn Memory, cache: &'a Cache, subjects: &[Subject<'a>]) -> Self {
        let hasher = Hasher::new(Path::new(root), memory);
        let mut facts =
            DiskFacts { root, hasher, cache, hashes: HashMap::new(), params: HashMap::new(), elsewhere: None };
        let wanted: Vec<_> = subjects.par_iter().map(|subject| wanted(*subject)).collect();
        let files: HashSet<&'a str> = wanted.iter().flat_map(|wanted| &wanted.params).copied().collect();
        facts.params = files.into_par_iter().map(|path| (path, facts.read_params(path))).collect();
        let paths: HashSet<(&'a str, HashName)> = wanted.into_iter().flat_map(|wanted| wanted.hashes).collect();
        facts.hashes = paths.into_par_iter().map(|(path, name)| ((path, name), facts.compute(path, name))).collect();
        facts
    }

    /// Adds what DVC said of the stages with deps outside of the file system.
    #[must_use]
    pub(crate) fn with_elsewhere(self, elsewhere: Option<ChangedDeps>) -> Self {
        DiskFacts { elsewhere, ..self }
    }

    fn compute(&self, path: &str, name: HashName) -> Answer<Hashed> {
        self.hasher.hash(path, name).map_err(FactError::new)
    }

    fn read_params(&self, path: &str) -> Answer<Arc<ParamsFile>> {
        let owned = || path.to_owned();
        let bytes = match std::fs::read(Path::new(self.root).join(path)) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(source) => return Err(FactError::new(ParamsError::of(owned(), source))),
        };
        let value = formats::load(path, &bytes);
        let value = value.map_err(|source| FactError::new(ParamsError::Invalid { path: owned(), source }))?;
        Ok(Some(Arc::new(ParamsFile::new(value, bytes.contains(&b'*')))))
    }
}

impl Facts for DiskFacts<'_> {
    fn hash(&self, path: &str, name: HashName) -> Answer<Hashed> {
        match self.hashes.get(&(path, name)) {
            Some(known) => known.clone(),
            None => self.compute(path, name),
        }
    }

    fn params(&self, path: &str) -> Answer<Arc<ParamsFile>> {
        self.params.get(path).map_or_else(|| self.read_params(path), Clone::clone)
    }

    fn is_cached(&self, object: ObjectKey) -> Result<bool, FactError> {
        self.cache.is_intact(object, &self.hasher).map_err(|error: HashError| FactError::new(error))
    }

    fn cached_members(&self, object: ObjectKey) -> Option<Vec<Member>> {
        self.cache.members(object)
    }

    fn elsewhere(&self, stage: &Stage, dep: &Dep) -> Elsewhere {
        let Some(changed) = &self.elsewhere else { return Elsewhere::Unknown };
        let word = changed.get(&stage.address.0).and_then(|deps| deps.get(&dep.path));
        word.map_or(Elsewhere::Unchanged, |word| Elsewhere::Changed(word.clone()))
    }

    fn run_cache(&self, key: &str) -> Option<LockEntry> {
        self.cache.newest_run(key)
    }

    fn root(&self) -> &str {
        self.root
    }
}
