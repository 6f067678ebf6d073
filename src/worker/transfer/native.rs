//! Objects moved by this program itself: several at a time, each checked when it arrives.
//!
//! A directory's object comes last, here and in the remote: where it is, its files are.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Object, sorted};
use crate::adapters::dvc::hash::forgetful;
use crate::adapters::dvc::remote::{Remote, RemoteError};
use crate::adapters::dvc::store::Store;
use crate::adapters::fs;
use crate::adapters::machine;
use crate::diagnostic::Diagnostic;
use crate::dvc::changed::run_cache;
use crate::dvc::config::DvcConfig;
use crate::dvc::hash::parse_directory_text;
use crate::dvc::oid::ObjectKey;
use crate::dvc::yaml;
use crate::model::run::Traffic;
use crate::state::format::RunName;

/// Up to here an object is small: many of them go at a time, of others only some, since their parts are kept in memory.
const SMALL: u64 = 1 << 20;
const LARGE_AT_ONCE: usize = 4;

/// A remote, and the cache.
pub(super) struct Native {
    remote: Remote,
    cache: Store,
}

/// A directory's object.
struct Directory {
    object: ObjectKey,
    text: String,
    members: Vec<ObjectKey>,
}

impl Native {
    pub(super) fn new(remote: Remote, config: &DvcConfig) -> Self {
        let folder = Path::new(&config.cache_dir);
        let cache = Store::new(folder, &config.cache_types, config.cache_is_shared, machine::umask());
        Native { remote, cache }
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.remote.traffic()
    }

    /// Brings objects, and entries of the run cache that are there; returns how many objects came. What can come does.
    pub(super) fn fetch(&self, objects: &[Object], runs: &[RunName]) -> Result<usize, Diagnostic> {
        let (directories, files) = by_kind(objects);
        let (directories, mut failed) = each(&directories, self.remote.jobs(), |object| self.directory(*object));
        let odd = objects.iter().filter(|object| object.key().is_none());
        failed.extend(odd.map(|object| self.remote.missing(&object.md5)));
        let mut wanted = with_members(files, &directories);
        wanted.retain(|object| !self.has(*object));
        let fetch = |object: &ObjectKey| self.remote.fetch(*object, &self.cache);
        let (came, others) = each(&wanted, self.remote.jobs(), fetch);
        failed.extend(others);
        let whole = self.whole(&directories);
        for directory in &whole {
            let added = self.cache.add_text(directory.object, &directory.text, &forgetful());
            added.map_err(RemoteError::from)?;
        }
        let (_, others) = each(runs, self.remote.jobs(), |run| self.fetch_run(run));
        failed.extend(others);
        said(failed)?;
        Ok(came.len() + whole.len())
    }

    fn directory(&self, object: ObjectKey) -> Result<Directory, RemoteError> {
        let text = self.remote.text(object)?;
        let members = members(object, &text).ok_or_else(|| self.remote.no_directory(object))?;
        Ok(Directory { object, text: String::from_utf8_lossy(&text).into_owned(), members })
    }

    /// Brings an entry of the run cache, if it is there and what its name says.
    fn fetch_run(&self, RunName { key, value }: &RunName) -> Result<(), RemoteError> {
        if fs::exists(&self.cache.run(key, value)) {
            return Ok(());
        }
        let Some(text) = self.remote.run(key, value)? else { return Ok(()) };
        let entry = yaml::load(&text).ok();
        let names = entry.as_ref().and_then(|entry| entry.as_map()).and_then(run_cache::names);
        if names.is_some_and(|names| names == (key.clone(), value.clone())) {
            self.cache.add_run(key, value, &String::from_utf8_lossy(&text))?;
        }
        Ok(())
    }

    /// Takes those objects that the remote does not have there, and entries of the run cache; returns how many objects went.
    pub(super) fn push(&self, objects: &[Object], runs: &[RunName]) -> Result<usize, Diagnostic> {
        let jobs = self.remote.jobs();
        let (directories, files) = by_kind(objects);
        let (directories, mut failed) = each(&directories, jobs, |object| self.absent_directory(*object));
        let directories: Vec<Directory> = directories.into_iter().flatten().collect();
        let (large, small): (Vec<ObjectKey>, Vec<ObjectKey>) =
            with_members(files, &directories).into_iter().partition(|object| fs::size(&self.path(*object)) > SMALL);
        let mut went = 0;
        for (objects, jobs) in [(small, jobs), (large, jobs.min(LARGE_AT_ONCE))] {
            let (pushed, others) = each(&objects, jobs, |object| self.push_one(*object));
            went += pushed.into_iter().filter(|pushed| *pushed).count();
            failed.extend(others);
        }
        said(failed)?;
        // As DVC does: where a file is nowhere, whoever needs the directory is not to believe that it is whole.
        let (pushed, mut failed) = each(&self.whole(&directories), jobs, |directory| self.push_one(directory.object));
        let (_, others) = each(runs, jobs, |run| self.push_run(run));
        failed.extend(others);
        said(failed)?;
        Ok(went + pushed.len())
    }

    /// The directories of which the cache has all files.
    fn whole<'d>(&self, directories: &'d [Directory]) -> Vec<&'d Directory> {
        let is_here = |member: &ObjectKey| self.has(*member);
        directories.iter().filter(|directory| directory.members.iter().all(is_here)).collect()
    }

    /// A directory of the cache that the remote does not have; where its object is, its files are, as DVC believes, too.
    fn absent_directory(&self, object: ObjectKey) -> Result<Option<Directory>, RemoteError> {
        if self.remote.has(object)? || !self.has(object) {
            return Ok(None);
        }
        let text = fs::read(&self.path(object))?;
        let members = members(object, &text).ok_or_else(|| self.remote.no_directory(object))?;
        Ok(Some(Directory { object, text: String::new(), members }))
    }

    /// Takes an object there, if the cache has it and the remote has not; says whether it did.
    fn push_one(&self, object: ObjectKey) -> Result<bool, RemoteError> {
        if !self.has(object) || self.remote.has(object)? {
            return Ok(false);
        }
        self.remote.push(object, &self.path(object)).map(|()| true)
    }

    fn push_run(&self, RunName { key, value }: &RunName) -> Result<(), RemoteError> {
        match fs::read_text_if_any(&self.cache.run(key, value))? {
            Some(text) => self.remote.push_run(key, value, &text),
            None => Ok(()),
        }
    }

    /// Where the cache keeps an object.
    fn path(&self, object: ObjectKey) -> PathBuf {
        self.cache.cache().object(object)
    }

    fn has(&self, object: ObjectKey) -> bool {
        fs::exists(&self.path(object))
    }
}

/// Does something with each of some things, some at a time; returns what came of those that went well, and the errors.
fn each<'i, T: Sync, R: Send>(
    all: &'i [T],
    jobs: usize,
    act: impl Fn(&'i T) -> Result<R, RemoteError> + Sync + Send,
) -> (Vec<R>, Vec<RemoteError>) {
    let results: Vec<Result<R, RemoteError>> = match all {
        [] => vec![],
        [one] => vec![act(one)],
        // Threads of their own: they wait for a server more than they work.
        _ => match rayon::ThreadPoolBuilder::new().num_threads(jobs.min(all.len())).build() {
            Ok(pool) => pool.install(|| all.par_iter().with_max_len(1).map(act).collect()),
            Err(_) => all.iter().map(act).collect(),
        },
    };
    let (mut good, mut bad) = (vec![], vec![]);
    for result in results {
        match result {
            Ok(result) => good.push(result),
            Err(error) => bad.push(error),
        }
    }
    (good, bad)
}

/// Directories and files; what has no object's name is neither, and in no cache.
fn by_kind(objects: &[Object]) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
    objects.iter().filter_map(Object::key).partition(|object| object.oid.is_directory())
}

/// Files, with those of directories, each once.
fn with_members(files: Vec<ObjectKey>, directories: &[Directory]) -> Vec<ObjectKey> {
    sorted(files.into_iter().chain(directories.iter().flat_map(|directory| directory.members.clone())).collect())
}

/// The files of a directory.
fn members(of: ObjectKey, text: &[u8]) -> Option<Vec<ObjectKey>> {
    Some(parse_directory_text(text)?.iter().map(|member| of.member(member)).collect())
}

/// The first of some errors, with how many others there are.
fn said(mut errors: Vec<RemoteError>) -> Result<(), Diagnostic> {
    let others = errors.len().saturating_sub(1);
    if errors.is_empty() {
        return Ok(());
    }
    let first = Diagnostic::from(errors.swap_remove(0));
    Err(if others == 0 { first } else { first.detail(format!("and {others} more objects")) })
}
