//! What `dvc repro` would run, and why (`dvc/stage/__init__.py: changed`, DVC 3.67).
//!
//! [`observe()`] compares one stage with its lock entry as things are now: that is DVC's own `changed`. [`forecast()`]
//! goes through the stages in the order of `dvc repro` and says what will come of each when its turn comes, after
//! those before it have run or have been restored. Both ask [`Facts`] and change nothing.

mod definition;
mod expected;
mod forecast;
mod observe;
mod params;
pub(crate) mod run_cache;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

pub(crate) use expected::Expected;
pub(crate) use forecast::{Forecast, Forecasts, Outlook, Selection, forecast};
pub(crate) use observe::{FirstChange, Observation, are_params_recorded, first_change, observe, wanted};
pub(crate) use params::{ParamsFile, read as read_params};

use crate::dvc::hash::{HashName, Hashed, Member};
use crate::dvc::lockfile::LockEntry;
use crate::dvc::oid::ObjectKey;
use crate::dvc::pipeline::stage::{Dep, Stage};
use crate::dvc::value::Value;

/// Why a fact cannot be had; DVC fails there too.
#[derive(Clone, Debug)]
pub(crate) struct FactError(Arc<dyn Error + Send + Sync>);

impl FactError {
    pub(crate) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        FactError(Arc::new(error))
    }
}

impl fmt::Display for FactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for FactError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// What lies in the workspace and in the cache. Paths are relative to the project's root, absolute if outside.
pub(crate) trait Facts: Sync {
    /// Hashes what lies at a path; `None` where nothing does.
    fn hash(&self, path: &str, name: HashName) -> Result<Option<Hashed>, FactError>;

    /// The content of a params file; `None` where there is none.
    fn params(&self, path: &str) -> Result<Option<Arc<ParamsFile>>, FactError>;

    /// Whether the cache has an object intact, for a directory with all its members.
    fn is_cached(&self, object: ObjectKey) -> Result<bool, FactError>;

    /// The members of a directory's object in the cache; `None` where it is not there or damaged.
    fn cached_members(&self, object: ObjectKey) -> Option<Vec<Member>>;

    /// What is known of a dep outside of the file system.
    fn elsewhere(&self, _stage: &Stage, _dep: &Dep) -> Elsewhere {
        Elsewhere::Unknown
    }

    /// The newest entry of the run cache under a key.
    fn run_cache(&self, key: &str) -> Option<LockEntry>;

    /// The absolute path of the project's root.
    fn root(&self) -> &str;
}

/// A dep behind a URL, or a dataset: only DVC can compare it with what is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    Unchanged,
    /// In DVC's word for it: `modified`, say.
    Changed(String),
    /// DVC says when the stage's turn comes.
    Unknown,
}

/// A stage and what its `dvc.lock` has for it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub stage: &'a Stage,
    /// `None` where it was never run, and for a `.dvc` file.
    pub entry: Option<&'a LockEntry>,
}

/// One reason why a stage is changed as things are now. Paths are relative to the project's root.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reason {
    /// `dvc.lock` has no entry of the stage.
    New,
    Command {
        recorded: Value,
        now: Value,
    },
    /// A `.dvc` file that was edited since DVC wrote it.
    Definition,
    AlwaysChanged,
    /// A command without deps, params and outs.
    Callback,
    Dep {
        path: String,
        change: DataChange,
    },
    /// A dep outside of the file system, with DVC's word for what became of it; without one it could not say, and the
    /// stage may be unchanged.
    Elsewhere {
        path: String,
        said: Option<String>,
    },
    /// The whole params file: it is not there, or nothing is recorded of it.
    ParamsFile {
        path: String,
        change: ParamsFileChange,
    },
    Param {
        path: String,
        key: String,
        change: ParamChange,
    },
    Out {
        path: String,
        change: DataChange,
    },
}

/// What became of a dep or out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataChange {
    /// It is not in the workspace.
    Deleted {
        recorded: Option<Expected>,
    },
    /// The cache does not have it, whatever lies in the workspace.
    NotInCache {
        recorded: Expected,
    },
    Modified {
        recorded: Option<Expected>,
        now: Hashed,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParamsFileChange {
    Deleted,
    New,
}

/// What became of a param.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ParamChange {
    New { now: Value },
    Deleted { recorded: Option<Value> },
    Modified { recorded: Value, now: Value },
}

#[cfg(test)]
mod tests;
