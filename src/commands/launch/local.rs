//! From the flags to what the local engine keeps to, and the run's directory as the engine sees it.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use crate::adapters::{fs, machine};
use crate::cli::settings::RunningArgs;
use crate::diagnostic::Diagnostic;
use crate::engine::local::{LocalConfig, LocalEngine, LocalFiles};
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::{RunDir, SlotDir};
use crate::state::slots;

/// The local engine as asked for.
pub(super) fn engine(project: &ProjectHome, run: &RunDir, plan: &Plan, args: &RunningArgs) -> LocalEngine {
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, Into::into), Into::into);
    let config = LocalConfig {
        jobs,
        memory_mib: args.memory.map_or_else(machine::memory_mib, |memory| memory.mib),
        gpus: if args.gpus.is_empty() { machine::gpus() } else { args.gpus.clone() },
        hides_gpus: !args.gpus.is_empty(),
        groups: super::groups(args),
        retries: args.retries,
        backoff: Duration::from_secs(1),
        timeout: args.timeout.map(|limit| limit.0),
        nice: args.nice,
        max_failed: super::max_failed(args, plan),
        project: project.root.clone(),
        run: plan.run.clone(),
    };
    let files = Files { run: run.clone(), slots: project.fanout().slots() };
    LocalEngine::new(config, Box::new(files))
}

/// The files of a run and its project, for the local engine.
struct Files {
    run: RunDir,
    slots: PathBuf,
}

impl LocalFiles for Files {
    fn open_log(&self, index: usize, attempt: u32) -> Result<File, Diagnostic> {
        Ok(fs::append(&self.run.log(index, attempt))?)
    }

    fn is_taken(&self, slot: usize) -> bool {
        fs::is_locked(&SlotDir::new(&self.slots, slot).lock()).unwrap_or(false)
    }

    fn clear(&self, slot: usize) {
        slots::end_leftovers(&SlotDir::new(&self.slots, slot));
    }
}
