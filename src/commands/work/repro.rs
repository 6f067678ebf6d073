//! DVC at work in a slot's workspace, to its end, or to the timeout, or to a signal.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::{LOG_TAIL, Worker};
use crate::adapters::dvc::{ReproLog, ReproOptions};
use crate::adapters::fs;
use crate::adapters::process::{self, Ending, descendants};
use crate::adapters::signals::Signals;
use crate::diagnostic::Diagnostic;
use crate::env;
use crate::state::workspace::Workspace;

/// How long a stopped `dvc` gets between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// How long processes that a command left behind are chased.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// How a `dvc repro` came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    Ended(Ending),
    TimedOut(u64),
    Signalled(u8),
}

impl Stopped {
    fn is_success(&self) -> bool {
        *self == Stopped::Ended(Ending::Exited(0))
    }
}

impl Worker<'_> {
    /// Runs the work item's stages.
    pub(super) fn repro(
        &self,
        workspace: &Workspace,
        log: &File,
        path: &Path,
        signals: &mut Signals,
    ) -> Result<Stopped, Diagnostic> {
        if self.item.one_by_one {
            self.one_by_one(workspace, log, path, signals)
        } else {
            self.start(workspace, log, None, signals)
        }
    }

    /// Has DVC run the stages by name; where one fails, those that do not need it go on, as under `--keep-going`.
    fn one_by_one(
        &self,
        workspace: &Workspace,
        log: &File,
        path: &Path,
        signals: &mut Signals,
    ) -> Result<Stopped, Diagnostic> {
        let stages = &self.item.stages;
        let mut failed: HashSet<usize> = HashSet::new();
        let mut failure = None;
        let mut begin = 0;
        loop {
            let mut left = vec![];
            for (at, stage) in stages.iter().enumerate().skip(begin) {
                if stage.after.iter().any(|need| failed.contains(need)) {
                    failed.insert(at);
                } else {
                    left.push(at);
                }
            }
            let targets: Vec<&str> = left.iter().map(|at| stages[*at].address.as_str()).collect();
            let stopped = match failure.clone() {
                Some(failure) if targets.is_empty() => return Ok(failure),
                Some(_) | None => self.start(workspace, log, Some(&targets), signals)?,
            };
            if stopped.is_success() {
                return Ok(failure.unwrap_or(stopped));
            }
            let said = ReproLog::read(&String::from_utf8_lossy(&fs::read_tail(path, LOG_TAIL)?));
            let found = left.into_iter().find(|at| said.has_failed(&stages[*at].address));
            let (Some(at), Stopped::Ended(Ending::Exited(_))) = (found, &stopped) else { return Ok(stopped) };
            failed.insert(at);
            failure = Some(stopped);
            begin = at + 1;
        }
    }

    /// Starts `dvc repro` and waits for its end.
    fn start(
        &self,
        workspace: &Workspace,
        log: &File,
        one_by_one: Option<&[&str]>,
        signals: &mut Signals,
    ) -> Result<Stopped, Diagnostic> {
        if let Some(asked) = signals.came() {
            return Ok(Stopped::Signalled(asked.signal()));
        }
        let options = &self.sources.plan.options;
        let options = ReproOptions { force: options.force, no_run_cache: options.no_run_cache, pull: options.pull };
        let mut program = self.dvc.repro(&self.slot.site_cache(), options, one_by_one);
        program.environment.extend(self.args.environment());
        program = program.env(env::DVC_FANOUT_SLOT, self.slot.path());
        let timeout = self.timeout_seconds();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Diagnostic::tool("cannot start the async runtime").source(&error))?;
        descendants::adopt_orphans().map_err(|error| Diagnostic::tool("cannot adopt orphans").source(&error))?;
        let directory = workspace.root();
        let stopped = runtime.block_on(async {
            let mut child = process::start(&program, &directory, log, self.args.nice)?;
            let group = child.id();
            let limit = Duration::from_secs(timeout.unwrap_or(u64::MAX / 4));
            let stopped = tokio::select! {
                ending = process::wait(&mut child) => Stopped::Ended(ending),
                () = tokio::time::sleep(limit), if timeout.is_some() => {
                    process::stop(&mut child, GRACE).await;
                    Stopped::TimedOut(limit.as_secs())
                }
                asked = signals.next() => {
                    process::stop(&mut child, GRACE).await;
                    Stopped::Signalled(asked.signal())
                }
            };
            descendants::end_orphans(group, ORPHAN_GRACE).await;
            Ok::<_, std::io::Error>(stopped)
        });
        stopped.map_err(|error| Diagnostic::tool(format!("cannot run `{}`", program.shown())).source(&error))
    }
}
