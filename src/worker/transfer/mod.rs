//! Moves cache objects between the cache and the project's remote, by their digests alone.
//!
//! | the remote | moved by |
//! |---|---|
//! | is of a kind, with settings, that this program understands | this program: `native.rs` |
//! | any other | `dvc fetch` and `dvc push`: `by_dvc.rs` |

mod by_dvc;
mod native;

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::remote::Remote;
use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::stage::Recorded;
use crate::env;
use crate::model::run::Moved;
pub(crate) use crate::state::format::Object;
use crate::state::format::RunName;
use crate::state::home::ProjectHome;
use crate::worker::transfer::by_dvc::ByDvc;
use crate::worker::transfer::native::Native;

/// How long a remote that is away is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(10);

impl Object {
    /// The object of an out as a lock entry has it; `None` for one that is not in the cache by its MD5.
    pub(crate) fn recorded(recorded: &Recorded) -> Option<Self> {
        Some(Object { md5: recorded.md5.clone()?, legacy: recorded.hash.is_none() })
    }

    pub(crate) fn is_in(&self, cache: &Path) -> bool {
        self.key().is_some_and(|key| fs::exists(&Cache::new(cache).object(key)))
    }
}

/// A way between the cache and the remote.
pub(crate) struct Transfer<'a> {
    project: &'a ProjectHome,
    /// Where DVC finds a project that is made for the purpose.
    scratch: &'a Path,
    /// Found out when it is first needed: where a launcher moves nothing, nothing has to be understood.
    way: OnceLock<Way>,
    /// What has been moved and nobody was told of.
    untold: Mutex<Moved>,
}

enum Way {
    Native(Box<Native>),
    /// And why.
    ByDvc(String),
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(project: &'a ProjectHome, scratch: &'a Path) -> Self {
        Transfer { project, scratch, way: OnceLock::new(), untold: Mutex::default() }
    }

    /// Fails where DVC is to move data and is not there: better before any work than after it.
    pub(crate) fn check(&self) -> Result<(), Diagnostic> {
        match self.way() {
            Way::Native(_) => Ok(()),
            Way::ByDvc(_) => Dvc::find().map(drop).map_err(Into::into),
        }
    }

    /// Brings those objects into the cache that it does not have.
    pub(crate) fn fetch(&self, objects: Vec<Object>) -> Result<(), Diagnostic> {
        self.fetch_with_runs(objects, &[])
    }

    /// The same with entries of the run cache, as far as the remote has them; where DVC does it, with all that it has.
    pub(crate) fn fetch_with_runs(&self, objects: Vec<Object>, runs: &[RunName]) -> Result<(), Diagnostic> {
        let cache = Path::new(&self.project.config.cache_dir);
        let mut objects = sorted(objects);
        objects.retain(|object| !object.is_in(cache));
        if objects.is_empty() && runs.is_empty() {
            return Ok(());
        }
        match self.way() {
            Way::Native(native) => self.noting(native, || native.fetch(&objects, runs)),
            Way::ByDvc(why) if runs.is_empty() => self.by_dvc(&["fetch"], &objects, why),
            Way::ByDvc(why) => self.by_dvc(&["fetch", "--run-cache"], &objects, why),
        }
    }

    /// Takes objects to the remote, and entries of the run cache, which name the outs of stages that DVC does not cache;
    /// where DVC does it, all that the cache has.
    pub(crate) fn push(&self, objects: Vec<Object>, runs: &[RunName]) -> Result<(), Diagnostic> {
        let objects = sorted(objects);
        if objects.is_empty() && runs.is_empty() {
            return Ok(());
        }
        match self.way() {
            Way::Native(native) => self.noting(native, || native.push(&objects, runs)),
            Way::ByDvc(why) => self.by_dvc(&["push", "--run-cache"], &objects, why),
        }
    }

    /// What has been moved since this was last asked for.
    pub(crate) fn untold(&self) -> Moved {
        std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, moved: Moved) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        *untold = std::mem::take(&mut *untold).plus(moved);
    }

    fn noting(&self, native: &Native, act: impl FnOnce() -> Result<usize, Diagnostic>) -> Result<(), Diagnostic> {
        let before = native.traffic();
        let moved = act();
        let objects = *moved.as_ref().unwrap_or(&0) as u64;
        self.note(Moved { native: objects, traffic: native.traffic().since(before), ..Moved::default() });
        moved.map(drop)
    }

    fn by_dvc(&self, verb: &[&str], objects: &[Object], why: &str) -> Result<(), Diagnostic> {
        ByDvc { project: self.project, scratch: self.scratch }.run(verb, objects)?;
        let by_dvc = objects.len() as u64;
        self.note(Moved { by_dvc, why: (by_dvc > 0).then(|| why.to_owned()), ..Moved::default() });
        Ok(())
    }

    fn way(&self) -> &Way {
        self.way.get_or_init(|| match self.native() {
            Ok(native) => Way::Native(Box::new(native)),
            Err(why) => Way::ByDvc(why),
        })
    }

    fn native(&self) -> Result<Native, String> {
        if env::read(env::DVC_FANOUT_TRANSFER).is_some_and(|value| value == "dvc") {
            return Err(format!("`{}` asks for it", env::DVC_FANOUT_TRANSFER));
        }
        let config = &self.project.config;
        if let Some(key) = config.unusual_cache_key() {
            return Err(format!("the cache has a setting that only DVC knows: `{key}`"));
        }
        Ok(Native::new(Remote::open(&config.plain_remote()?, PATIENCE)?, config))
    }
}

/// Each object once.
fn sorted<T: Ord>(mut objects: Vec<T>) -> Vec<T> {
    objects.sort_unstable();
    objects.dedup();
    objects
}
