//! The `dvc repro` of a work item in a slot's workspace: one for all stages, or some by name.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use super::Worker;
use crate::adapters::dvc::{ReproLog, ReproOptions};
use crate::adapters::fs;
use crate::adapters::process::{Ending, Program};
use crate::commands::work::runner::{Place, Runner, Stopped};
use crate::diagnostic::Diagnostic;
use crate::env;
use crate::state::workspace::Workspace;

/// Bytes at the end of a log that are searched for DVC's own lines.
const LOG_TAIL: u64 = 4 << 20;

/// Where the stages of an attempt run, and the log that they and DVC write to.
pub(super) struct Scene<'a> {
    pub workspace: &'a Workspace,
    pub log: &'a File,
    pub log_path: &'a Path,
}

impl Scene<'_> {
    /// What DVC has said so far.
    pub(super) fn said(&self) -> Result<ReproLog, Diagnostic> {
        Ok(ReproLog::read(&String::from_utf8_lossy(&fs::read_tail(self.log_path, LOG_TAIL)?)))
    }
}

impl Worker<'_> {
    /// Runs the work item's stages.
    pub(super) fn repro(&self, scene: &Scene<'_>, runner: &mut Runner) -> Result<Stopped, Diagnostic> {
        if self.item.one_by_one { self.one_by_one(scene, runner) } else { self.start(scene, None, runner) }
    }

    /// Has DVC run the stages by name; where one fails, those that do not need it go on, as under `--keep-going`.
    fn one_by_one(&self, scene: &Scene<'_>, runner: &mut Runner) -> Result<Stopped, Diagnostic> {
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
                Some(_) | None => self.start(scene, Some(&targets), runner)?,
            };
            if stopped.is_success() {
                return Ok(failure.unwrap_or(stopped));
            }
            let said = scene.said()?;
            let found = left.into_iter().find(|at| said.has_failed(&stages[*at].address));
            let (Some(at), Stopped::Ended(Ending::Exited(_))) = (found, &stopped) else { return Ok(stopped) };
            failed.insert(at);
            failure = Some(stopped);
            begin = at + 1;
        }
    }

    /// Runs one `dvc repro` to its end.
    fn start(
        &self,
        scene: &Scene<'_>,
        one_by_one: Option<&[&str]>,
        runner: &mut Runner,
    ) -> Result<Stopped, Diagnostic> {
        let place = Place { directory: &scene.workspace.root(), log: scene.log, nice: self.args.nice };
        runner.run(&self.program(one_by_one), &place, self.timeout_seconds())
    }

    /// The `dvc repro` of all stages, or of those that are named.
    pub(super) fn program(&self, one_by_one: Option<&[&str]>) -> Program {
        let options = &self.sources.plan.options;
        let options = ReproOptions { force: options.force, no_run_cache: options.no_run_cache, pull: options.pull };
        let mut program = self.dvc.repro(&self.slot.site_cache(), options, one_by_one);
        program.environment.extend(self.args.environment());
        program.env(env::DVC_FANOUT_SLOT, self.slot.path())
    }
}
