//! The local engine has no flags of its own; from those of all engines to what it keeps to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::adapters::process::Input;
use crate::adapters::{fs, machine};
use crate::diagnostic::Diagnostic;
use crate::engine::local::{LocalConfig, LocalEngine};
use crate::engine::{Flags, Scene};
use crate::model::executor::Executor;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::stdin::Stdin;
use crate::state::journal;
use crate::state::mailbox::Site;
use crate::state::paths::{RunDir, SlotDir};
use crate::state::slots;

/// What only the local engine keeps to: nothing.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(skip)]
pub(crate) struct Args {}

impl Flags for Args {
    const NAME: &'static str = journal::LOCAL;
    const CALLED: &'static str = "this machine";
    type Engine = LocalEngine;
    type Cancel = Args;

    fn resolve(&self, scene: &Scene<'_>) -> Result<LocalEngine, Diagnostic> {
        if scene.detach && scene.mailbox.is_none() {
            return Err(Diagnostic::usage("`--detach` is not for `--engine local`")
                .cause("its workers end with the launcher")
                .hint("with `--store` the work items can be left to workers elsewhere"));
        }
        let args = scene.running;
        let jobs = args.slots();
        let stdin = args.stdin.as_ref().map(|stdin| readable(stdin, scene)).transpose()?;
        let config = LocalConfig {
            jobs: if scene.in_project { 1 } else { jobs },
            in_project: scene.in_project,
            memory_mib: args.memory.map_or_else(machine::memory_mib, |memory| memory.mib),
            gpus: if args.gpus.is_empty() { machine::gpus() } else { args.gpus.clone() },
            hides_gpus: !args.gpus.is_empty(),
            groups: args.groups(),
            retries: args.retries,
            backoff: Duration::from_secs(1),
            timeout: args.timeout.map(|limit| limit.0),
            nice: args.nice,
            workspace: args.workspace.unwrap_or_default(),
            stdin,
            max_failed: args.max_failed(scene.plan.work_items),
            project: match scene.mailbox {
                Some(_) => scene.project.fanout().sites(),
                None => scene.project.root.clone(),
            },
            run: scene.plan.run.clone(),
        };
        let slots = match scene.mailbox {
            Some(_) => Site::slots(&scene.project.fanout().sites(), scene.plan),
            None => scene.project.fanout().slots(),
        };
        Ok(LocalEngine::new(config, Files::new(scene.run, slots), scene.mailbox.cloned()))
    }
}

/// What commands can read: files by paths that hold wherever a worker is.
fn readable(stdin: &Stdin, scene: &Scene<'_>) -> Result<Stdin, Diagnostic> {
    let refused = || Diagnostic::usage(format!("`--stdin {stdin}` cannot be done"));
    if scene.detach {
        return Err(refused().cause("with `--detach`, commands run elsewhere"));
    }
    let path = match stdin {
        Stdin::Inherit if scene.plan.options.executor == Executor::Check => {
            return Err(refused()
                .cause("with `--executor check` each command runs twice, and the first would have read the input")
                .hint("put the answers into a file: `--stdin FILE`"));
        }
        Stdin::Inherit if scene.in_project || scene.running.slots() == 1 => return Ok(Stdin::Inherit),
        Stdin::Inherit => {
            return Err(refused()
                .cause("several commands at a time would take the input from one another")
                .hint("run one after another: `-j 1`")
                .hint("or put the answers into a file, which each stage reads from its beginning: `--stdin FILE`"));
        }
        Stdin::File(path) => path,
    };
    match Input::is_for_many(path) {
        Ok(true) => Ok(Stdin::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))),
        Ok(false) => Err(refused()
            .cause("it is no file that each stage could read from its beginning")
            .hint("of a pipe or a terminal: `--stdin inherit -j 1`")),
        Err(error) => Err(refused().source(&error)),
    }
}

/// Makes the folder that workers are started in, where they see nothing of the project.
pub(super) fn make_sites(folder: &Path) -> Result<(), Diagnostic> {
    Ok(fs::create_private_dir(folder)?)
}

/// Removes it with all that is in it.
pub(super) fn remove_sites(folder: &Path) -> Result<(), Diagnostic> {
    Ok(fs::remove(folder)?)
}

/// The files of a run and its project.
pub(super) struct Files {
    run: RunDir,
    slots: PathBuf,
}

impl Files {
    /// Where workers publish.
    pub(super) fn results(&self) -> PathBuf {
        self.run.path().to_owned()
    }

    pub(super) fn new(run: &RunDir, slots: PathBuf) -> Self {
        Files { run: run.clone(), slots }
    }

    /// The folder of the run.
    pub(super) fn run(&self) -> &RunDir {
        &self.run
    }

    /// Opens the log of an attempt, which the worker and its stages write to.
    pub(super) fn open_log(&self, index: ItemIndex, attempt: AttemptNumber) -> Result<File, Diagnostic> {
        Ok(fs::append(&self.run.log(index, attempt))?)
    }

    /// Whether a worker of somebody else uses a slot.
    pub(super) fn is_taken(&self, slot: usize) -> bool {
        fs::is_locked(&SlotDir::new(&self.slots, slot).lock()).unwrap_or(false)
    }

    /// Ends what a killed worker left running in a slot.
    pub(super) fn clear(&self, slot: usize) {
        slots::end_leftovers(&SlotDir::new(&self.slots, slot));
    }
}
