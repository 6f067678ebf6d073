//! The lock that whoever launches, finalizes or removes a run holds meanwhile.
//!
//! It is a lock of the kernel, and a claim besides: on many shared file systems such a lock keeps out the processes of one
//! machine only, and some have none at all.

use std::time::Duration;

use crate::adapters::claim::{self, Claim, Pulse};
use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;
use crate::state::paths::RunDir;

/// How alive a holder on another machine, or in another clone, has to be.
pub(super) const PULSE: Pulse = Pulse { beat: Duration::from_secs(30), limit: Duration::from_mins(10) };

/// Held from the first phase to the last; it is free again when the process ends, however it does.
#[derive(Debug)]
pub(crate) struct RunLock {
    run: RunDir,
    _claim: Claim,
    /// `None` where the file system has no locks.
    _locked: Option<fs::Locked>,
}

impl RunLock {
    /// Takes the lock of a run; fails where somebody holds it.
    pub(crate) fn acquire(run: &RunDir) -> Result<RunLock, Diagnostic> {
        RunLock::try_acquire(run)?.ok_or_else(|| held(run))
    }

    /// Takes the lock unless somebody holds it.
    pub(crate) fn try_acquire(run: &RunDir) -> Result<Option<RunLock>, FsError> {
        if is_held_elsewhere(run) {
            return Ok(None);
        }
        let locked = match fs::try_lock(&run.launch_lock()) {
            Ok(Some(locked)) => Some(locked),
            Ok(None) => return Ok(None),
            Err(error) if error.is_unsupported() => None,
            Err(error) => return Err(error),
        };
        let claim = claim::take(&run.launch_claim(), PULSE)?;
        Ok(claim.ok().map(|claim| RunLock { run: run.clone(), _claim: claim, _locked: locked }))
    }

    /// The run that is locked.
    pub(crate) fn run(&self) -> &RunDir {
        &self.run
    }
}

/// The error where somebody else launches a run.
pub(super) fn held(run: &RunDir) -> Diagnostic {
    let holder = holder(run).map_or_else(String::new, |holder| format!(", by {holder}"));
    let diagnostic = Diagnostic::tool(format!("run {} is being launched already{holder}", run.name()))
        .hint("wait for it, watch it with `dvc-fanout status`, or stop it with `dvc-fanout cancel`");
    let minutes = PULSE.limit.as_secs() / 60;
    if is_held_elsewhere(run) {
        diagnostic
            .hint(format!("if that machine is gone, it counts as such {minutes} minutes after it last said anything"))
    } else if claim::holder(&run.launch_claim(), PULSE).is_some() {
        diagnostic.hint(format!(
            "if that machine is gone, its claim is void {minutes} minutes later; or remove `{}`",
            run.launch_claim().display()
        ))
    } else {
        diagnostic
    }
}

/// Whether somebody holds the lock of a run.
pub(crate) fn is_held(run: &RunDir) -> Result<bool, FsError> {
    match fs::is_locked(&run.launch_lock()) {
        Ok(true) => return Ok(true),
        Ok(false) => {}
        Err(error) if error.is_unsupported() => {}
        Err(error) => return Err(error),
    }
    Ok(claim::holder(&run.launch_claim(), PULSE).is_some() || is_held_elsewhere(run))
}

/// Whether somebody launches it in another clone of the project, as the object store said at the last look.
pub(crate) fn is_held_elsewhere(run: &RunDir) -> bool {
    claim::holder(&run.launch_elsewhere(), PULSE).is_some()
}

/// Who holds it: a process, and the machine where that is another one.
pub(crate) fn holder(run: &RunDir) -> Option<String> {
    let claims = [run.launch_claim(), run.launch_elsewhere()];
    let claimed = claims.iter().filter_map(|claim| claim::holder(claim, PULSE)).find(|holder| holder.process > 0);
    match claimed {
        Some(holder) if holder.host != crate::adapters::process::host() => {
            Some(format!("process {} on {}", holder.process, holder.host))
        }
        Some(holder) => Some(format!("process {}", holder.process)),
        None => fs::lock_holder(&run.launch_lock()).map(|id| format!("process {id}")),
    }
}
