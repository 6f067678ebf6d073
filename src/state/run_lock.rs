//! The lock that whoever launches, finalizes or removes a run holds meanwhile.

use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;
use crate::state::paths::RunDir;

/// Held from the first phase to the last; the kernel takes it back when the process ends, however it does.
#[derive(Debug)]
pub(crate) struct RunLock {
    run: RunDir,
    _locked: fs::Locked,
}

impl RunLock {
    /// Takes the lock of a run; fails where somebody holds it.
    pub(crate) fn acquire(run: &RunDir) -> Result<RunLock, Diagnostic> {
        if let Some(lock) = RunLock::try_acquire(run)? {
            return Ok(lock);
        }
        let holder = holder(run).map_or_else(String::new, |id| format!(", by process {id}"));
        Err(Diagnostic::tool(format!("run {} is being launched already{holder}", run.name()))
            .hint("wait for it, watch it with `dvc-fanout status`, or stop it with `dvc-fanout cancel`"))
    }

    /// Takes the lock unless somebody holds it.
    pub(crate) fn try_acquire(run: &RunDir) -> Result<Option<RunLock>, FsError> {
        Ok(fs::try_lock(&run.launch_lock())?.map(|locked| RunLock { run: run.clone(), _locked: locked }))
    }

    /// The run that is locked.
    pub(crate) fn run(&self) -> &RunDir {
        &self.run
    }
}

/// Whether somebody holds the lock of a run.
pub(crate) fn is_held(run: &RunDir) -> Result<bool, FsError> {
    fs::is_locked(&run.launch_lock())
}

/// The process that holds it, on the machine where it runs.
pub(crate) fn holder(run: &RunDir) -> Option<u32> {
    fs::lock_holder(&run.launch_lock())
}
