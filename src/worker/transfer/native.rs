//! Objects moved by this program itself: several at a time, each checked when it arrives.
//!
//! A directory's object comes last, here and in the remote: where it is, its files are.

use std::path::Path;

use rayon::prelude::*;

use super::{Object, sorted};
use crate::adapters::dvc::hash::forgetful;
use crate::adapters::dvc::place::object_path;
use crate::adapters::dvc::remote::{Remote, RemoteError};
use crate::adapters::dvc::store::Store;
use crate::adapters::fs;
use crate::adapters::machine;
use crate::diagnostic::Diagnostic;
use crate::dvc::changed::run_cache;
use crate::dvc::config::DvcConfig;
use crate::dvc::hash::{HashName, parse_directory_text};
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
    /// The folder of the cache.
    folder: String,
}

/// A directory's object.
struct Directory<'o> {
    object: &'o Object,
    text: String,
    members: Vec<Object>,
}

impl Native {
    pub(super) fn new(remote: Remote, config: &DvcConfig) -> Self {
        let folder = config.cache_dir.clone();
        let cache = Store::new(Path::new(&folder), &config.cache_types, config.cache_is_shared, machine::umask());
        Native { remote, cache, folder }
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.remote.traffic()
    }

    /// Brings objects, and entries of the run cache that are there; returns how many objects came. What can come does.
    pub(super) fn fetch(&self, objects: &[Object], runs: &[RunName]) -> Result<usize, Diagnostic> {
        let (directories, files): (Vec<&Object>, Vec<&Object>) =
            objects.iter().partition(|object| object.is_directory());
        let (directories, mut failed) = each(&directories, self.remote.jobs(), |object| self.directory(object));
        let mut wanted = with_members(files, &directories);
        wanted.retain(|object| !object.is_in(Path::new(&self.folder)));
        let fetch = |object: &&Object| self.remote.fetch(&object.md5, object.name(), &self.cache);
        let (came, others) = each(&wanted, self.remote.jobs(), fetch);
        failed.extend(others);
        let whole = self.whole(&directories);
        for directory in &whole {
            let Object { md5, .. } = directory.object;
            let added = self.cache.add_text(md5, directory.object.name(), &directory.text, &forgetful());
            added.map_err(RemoteError::from)?;
        }
        let (_, others) = each(runs, self.remote.jobs(), |run| self.fetch_run(run));
        failed.extend(others);
        said(failed)?;
        Ok(came.len() + whole.len())
    }

    fn directory<'o>(&self, object: &'o Object) -> Result<Directory<'o>, RemoteError> {
        let text = self.remote.text(&object.md5, object.name())?;
        let members = members(object, &text).ok_or_else(|| self.remote.no_directory(&object.md5, object.name()))?;
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
        let (directories, files): (Vec<&Object>, Vec<&Object>) =
            objects.iter().partition(|object| object.is_directory());
        let (directories, mut failed) = each(&directories, jobs, |object| self.absent_directory(object));
        let directories: Vec<Directory<'_>> = directories.into_iter().flatten().collect();
        let (large, small): (Vec<&Object>, Vec<&Object>) = with_members(files, &directories)
            .into_iter()
            .partition(|object| object.path(&self.folder).is_some_and(|path| fs::size(&path) > SMALL));
        let mut went = 0;
        for (objects, jobs) in [(small, jobs), (large, jobs.min(LARGE_AT_ONCE))] {
            let (pushed, others) = each(&objects, jobs, |object| self.push_one(object));
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
    fn whole<'d, 'o>(&self, directories: &'d [Directory<'o>]) -> Vec<&'d Directory<'o>> {
        let is_here = |member: &Object| member.is_in(Path::new(&self.folder));
        directories.iter().filter(|directory| directory.members.iter().all(is_here)).collect()
    }

    /// A directory of the cache that the remote does not have; where its object is, its files are, as DVC believes, too.
    fn absent_directory<'o>(&self, object: &'o Object) -> Result<Option<Directory<'o>>, RemoteError> {
        if self.remote.has(&object.md5, object.name())? {
            return Ok(None);
        }
        let Some(path) = object.path(&self.folder).filter(|path| fs::exists(path)) else { return Ok(None) };
        let text = fs::read(&path)?;
        let members = members(object, &text).ok_or_else(|| self.remote.no_directory(&object.md5, object.name()))?;
        Ok(Some(Directory { object, text: String::new(), members }))
    }

    /// Takes an object there, if the cache has it and the remote has not; says whether it did.
    fn push_one(&self, object: &Object) -> Result<bool, RemoteError> {
        let Some(path) = object.path(&self.folder).filter(|path| fs::exists(path)) else { return Ok(false) };
        if self.remote.has(&object.md5, object.name())? {
            return Ok(false);
        }
        self.remote.push(&object.md5, object.name(), &path).map(|()| true)
    }

    fn push_run(&self, RunName { key, value }: &RunName) -> Result<(), RemoteError> {
        match fs::read_text_if_any(&self.cache.run(key, value))? {
            Some(text) => self.remote.push_run(key, value, &text),
            None => Ok(()),
        }
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

impl Object {
    fn is_directory(&self) -> bool {
        self.md5.ends_with(".dir")
    }

    fn name(&self) -> HashName {
        if self.legacy { HashName::Md5Dos2unix } else { HashName::Md5 }
    }

    fn path(&self, cache: &str) -> Option<std::path::PathBuf> {
        object_path(Path::new(cache), &self.md5, self.legacy)
    }
}

/// Files, with those of directories, each once.
fn with_members<'o>(files: Vec<&'o Object>, directories: &'o [Directory<'_>]) -> Vec<&'o Object> {
    sorted(files.into_iter().chain(directories.iter().flat_map(|directory| &directory.members)).collect())
}

/// The files of a directory.
fn members(of: &Object, text: &[u8]) -> Option<Vec<Object>> {
    let members = parse_directory_text(text)?;
    Some(members.into_iter().map(|member| Object { md5: member.md5.to_string(), legacy: of.legacy }).collect())
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
