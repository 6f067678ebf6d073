//! The `dvc repro` of a work item in a slot's workspace: one for all stages, or some by name.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use super::Worker;
use crate::adapters::dvc::{ReproLog, ReproOptions};
use crate::adapters::fs::{self, At as _};
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
    /// The bytes that are in the log.
    fn length(&self) -> Result<u64, Diagnostic> {
        Ok(self.log.metadata().at("look at", self.log_path)?.len())
    }

    /// What a `dvc repro` has said that began when the log was this long.
    fn said(&self, begin: u64) -> Result<ReproLog, Diagnostic> {
        let own = self.length()?.saturating_sub(begin).min(LOG_TAIL);
        Ok(ReproLog::read(&String::from_utf8_lossy(&fs::read_tail(self.log_path, own)?)))
    }
}

impl Worker<'_> {
    /// Runs the work item's stages, and returns what DVC said of them.
    pub(super) fn repro(&self, scene: &Scene<'_>, runner: &mut Runner) -> Result<(Stopped, ReproLog), Diagnostic> {
        if self.item.one_by_one { self.one_by_one(scene, runner) } else { self.start(scene, None, runner) }
    }

    /// Has DVC run the stages by name; where one fails, those that do not need it go on, as under `--keep-going`.
    fn one_by_one(&self, scene: &Scene<'_>, runner: &mut Runner) -> Result<(Stopped, ReproLog), Diagnostic> {
        let stages = &self.item.stages;
        let mut failed: HashSet<usize> = HashSet::new();
        let mut failure = None;
        let mut all = ReproLog::default();
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
            let (stopped, said) = match failure.clone() {
                Some(failure) if targets.is_empty() => return Ok((failure, all)),
                Some(_) | None => self.start(scene, Some(&targets), runner)?,
            };
            let found = left.into_iter().find(|at| said.has_failed(&stages[*at].address));
            all.extend(said);
            if stopped.is_success() {
                return Ok((failure.unwrap_or(stopped), all));
            }
            let (Some(at), Stopped::Ended(Ending::Exited(_))) = (found, &stopped) else { return Ok((stopped, all)) };
            failed.insert(at);
            failure = Some(stopped);
            begin = at + 1;
        }
    }

    /// Runs one `dvc repro` to its end, and returns what it said.
    fn start(
        &self,
        scene: &Scene<'_>,
        one_by_one: Option<&[&str]>,
        runner: &mut Runner,
    ) -> Result<(Stopped, ReproLog), Diagnostic> {
        let begin = scene.length()?;
        let place = Place { directory: &scene.workspace.root(), log: scene.log, nice: self.args.nice };
        let stopped = runner.run(&self.program(one_by_one), &place, self.timeout_seconds())?;
        Ok((stopped, scene.said(begin)?))
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
