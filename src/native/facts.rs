//! What lies in a workspace while stages run. Of files nothing is remembered: commands change them.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

use crate::adapters::dvc::facts::ParamsError;
use crate::adapters::dvc::hash::{Forgetful, Hasher};
use crate::dvc::changed::{FactError, Facts, ParamsFile, read_params};
use crate::dvc::formats;
use crate::dvc::hash::{HashName, Hashed, Md5, Member};
use crate::dvc::lockfile::LockEntry;
use crate::dvc::oid::ObjectKey;
use crate::dvc::pipeline::stage::{ParamsDep, Stage};
use crate::dvc::value::Value;
use crate::native::Place;

/// Params files that were read, by their content: the same bytes are parsed once.
#[derive(Default)]
pub(crate) struct ParamsMemory(Mutex<HashMap<(String, Md5), Arc<ParamsFile>>>);

/// More contents than this are forgotten together.
const MAX_FILES: usize = 64;

impl ParamsMemory {
    fn parse(&self, path: &str, bytes: &[u8]) -> Result<Arc<ParamsFile>, formats::FormatError> {
        let key = (path.to_owned(), Md5::of(bytes));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = known.get(&key) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(ParamsFile::new(formats::load(path, bytes)?, bytes.contains(&b'*')));
        if known.len() >= MAX_FILES {
            known.clear();
        }
        known.insert(key, Arc::clone(&file));
        Ok(file)
    }
}

impl Place<'_> {
    pub(super) fn hasher(&self) -> Hasher<'_> {
        Hasher::new(self.root, &Forgetful)
    }

    /// The params files of a stage, in its order; `None` for one that is not there.
    pub(super) fn params_files(&self, stage: &Stage) -> Result<Vec<Option<Arc<ParamsFile>>>, FactError> {
        stage.params.iter().map(|dep| self.params(&dep.resolved)).collect()
    }
}

/// The values that a stage takes from its params files; the keys that are not there are told apart.
pub(super) struct Values<'f> {
    pub found: Vec<Vec<(&'f str, &'f Value)>>,
    /// File and key.
    pub missing: Vec<(&'f str, &'f str)>,
}

impl<'f> Values<'f> {
    pub(super) fn of(stage: &'f Stage, files: &'f [Option<Arc<ParamsFile>>]) -> Result<Values<'f>, FactError> {
        let mut values = Values { found: vec![], missing: vec![] };
        for (dep, file) in stage.params.iter().zip(files) {
            let found = match file {
                Some(file) => read_params(&dep.resolved, &dep.keys, file)?,
                None => vec![],
            };
            if file.is_none() && dep.keys.is_empty() {
                values.missing.push((&dep.path, ""));
            }
            let is_there = |key: &&String| found.iter().any(|(known, _)| known == key);
            values
                .missing
                .extend(dep.keys.iter().filter(|key| !is_there(key)).map(|key| (dep.path.as_str(), key.as_str())));
            values.found.push(found);
        }
        Ok(values)
    }
}

/// Whether two of a file's keys may lead to one object: one is a part of the other, or the file has aliases.
pub(super) fn may_share(dep: &ParamsDep, file: &ParamsFile) -> bool {
    let is_below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let keys = dep.keys.iter().enumerate();
    let mut pairs = keys.flat_map(|(at, a)| dep.keys[..at].iter().map(move |b| (a, b)));
    file.may_have_aliases || pairs.any(|(a, b)| a != b && (is_below(a, b) || is_below(b, a)))
}

impl Facts for Place<'_> {
    fn hash(&self, path: &str, name: HashName) -> Result<Option<Hashed>, FactError> {
        self.hasher().hash(path, name).map_err(FactError::new)
    }

    fn params(&self, path: &str) -> Result<Option<Arc<ParamsFile>>, FactError> {
        let owned = || path.to_owned();
        let bytes = match std::fs::read(self.root.join(path)) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(source) => return Err(FactError::new(ParamsError::of(owned(), source))),
        };
        let file = self.params.parse(path, &bytes);
        file.map(Some).map_err(|source| FactError::new(ParamsError::Invalid { path: owned(), source }))
    }

    /// Checks the object as DVC does: what is wrong goes, what is right gets protected. Those of DVC 2 are only looked at.
    fn is_cached(&self, object: ObjectKey) -> Result<bool, FactError> {
        match object.hash {
            HashName::Md5 => self.store.check(object.oid, &self.hasher()).map_err(FactError::new),
            HashName::Md5Dos2unix => self.store.cache().is_intact(object, &self.hasher()).map_err(FactError::new),
        }
    }

    fn cached_members(&self, object: ObjectKey) -> Option<Vec<Member>> {
        self.store.cache().members(object)
    }

    fn run_cache(&self, key: &str) -> Option<LockEntry> {
        self.store.cache().newest_run(key)
    }

    fn root(&self) -> &str {
        self.root_text
    }
}
