//! Does for a stage what `dvc repro` does (DVC 3.67), with the same result to the byte, without starting DVC.
//!
//! | step of `dvc repro` | file |
//! |---|---|
//! | is the stage within the abilities of this room? else DVC does it, by itself | `fit.rs` |
//! | changed? outs removed, restored or made by the command, recorded | `stage.rs` |
//! | the shell, its words and its environment | `command.rs`, `locale.rs` |
//! | what is in the workspace: hashes, values of params | `facts.rs` |
//! | outs: removing them, hashing them, the cache, the links | `outs.rs` |
//! | lines of `.gitignore` files | `ignores.rs` |
//! | what it leaves of directories that the entry does not have | `unrecorded.rs` |
//! | one stage after another, with DVC where it is wanted | `repro.rs` |
//!
//! Whether DVC has to do a stage is decided before anything is touched, as far as that can be known then. Each thing
//! becomes visible when it is complete: objects before the entry of the run cache, both before the lock entry. A kill
//! between any two steps leaves what DVC would accept.

mod command;
mod facts;
mod fit;
mod ignores;
mod locale;
mod outs;
pub(crate) mod repro;
mod stage;
mod unrecorded;

use std::path::Path;

use crate::adapters::dvc::store::Store;
use crate::adapters::fs::FsError;
use crate::adapters::process::{Ending, Program};

pub(crate) use command::Shell;
pub(crate) use facts::ParamsMemory;
pub(crate) use ignores::Ignores;
pub(crate) use stage::lacked;

/// Starts the commands of stages, and watches them to their end.
pub(crate) trait Commands {
    /// Those of another stage come next.
    fn begin_stage(&mut self, _address: &str) {}

    /// All commands of the stage have run; what they made is looked at next.
    fn end_stage(&mut self) -> Result<(), FsError> {
        Ok(())
    }

    /// Runs one command in a directory; `Err` where this process is to end, or the time is over.
    fn run(&mut self, program: &Program, directory: &Path) -> Result<Ending, Interrupted>;
}

/// The commands were ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// Where stages are done.
pub(crate) struct Place<'a> {
    /// The project's root, absolute, without symlinks.
    pub root: &'a Path,
    /// The same as commands see it.
    pub seen_root: &'a Path,
    /// The folder below which lock files lie as in the project: the root, or another for them alone.
    pub locks: &'a Path,
    /// The root as text.
    pub root_text: &'a str,
    /// The directory that addresses are seen from, relative to the root.
    pub cwd: &'a str,
    pub store: &'a Store,
    pub params: &'a ParamsMemory,
    pub shell: &'a Shell,
}

/// How stages are done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub force: bool,
    pub no_run_cache: bool,
    /// Nothing goes into the cache.
    pub no_commit: bool,
}

/// What happens when a stage fails.
#[derive(Clone, Copy)]
pub(crate) enum OnFailure<'a> {
    Stop,
    /// The other turns that a failed one takes with it are told; the others go on, and all fails in the end.
    KeepGoing(&'a dyn Fn(usize) -> Vec<usize>),
    /// All go on, and nothing has failed in the end.
    Ignore,
}

/// Takes the lines that DVC would print.
pub(crate) struct Log<'a>(pub &'a mut dyn FnMut(&str));

impl Log<'_> {
    fn line(&mut self, text: &str) {
        (self.0)(text);
    }
}

/// What became of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    Unchanged,
    Ran,
    Restored,
    /// In DVC's words.
    Failed(String),
    /// Nothing was touched: DVC has to do it, for this reason.
    ForDvc(String),
    Interrupted,
}
