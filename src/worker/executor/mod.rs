//! What runs the stages of a work item in a workspace that is filled.
//!
//! An executor keeps to this: it changes nothing outside of the workspace but DVC's cache and the log; afterwards the
//! lock files of the projection hold the entries of the stages that are good, and their outs are in the cache. What the
//! commands left in the workspace is nobody's business here; it is taken out by `harvest`.

pub(crate) mod dvc;
pub(crate) mod native;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::adapters::fs::{self, FsError};
use crate::adapters::process::Ending;
use crate::diagnostic::Diagnostic;
use crate::model::nice::Nice;
use crate::model::run::{self, Executed, StageState};
use crate::model::stdin::Stdin;
use crate::native::lacked;
use crate::state::format::{PlanOptions, WorkItem};
use crate::state::paths::{RunDir, SlotDir};
use crate::worker::child::{Stopped, Watch};
use crate::worker::mounted::Mounted;
use crate::worker::workspace::projection::Projection;
use crate::worker::workspace::{CopiedLinks, Watching};

/// Runs the stages of one work item after another.
pub(crate) trait Executor {
    /// Gets ready while the workspace is filled; nothing of the work item may run yet. What cannot be got ready is not an
    /// error here.
    fn prepare(&mut self, scene: &Scene<'_>, watch: &mut Watch);

    /// Runs the stages to their end, or to the timeout, or to a request to end.
    ///
    /// Fails only where nothing can be said of the stages.
    fn run(&mut self, scene: &Scene<'_>, watch: &mut Watch) -> Result<Ran, Diagnostic>;
}

/// What is run, where and how.
pub(crate) struct Scene<'a> {
    pub item: &'a WorkItem,
    pub options: &'a PlanOptions,
    /// The project's root in the workspace.
    pub root: &'a Path,
    /// Where commands see it, if not there.
    pub mounted: Option<&'a Mounted<'a>>,
    /// The watch on the workspace, if it is one.
    pub watching: Option<&'a Watching>,
    /// The links into the project that commands find there.
    pub links: Option<&'a CopiedLinks>,
    /// Where lock entries are, and what DVC is shown.
    pub projection: &'a Projection<'a>,
    pub slot: &'a SlotDir,
    /// Takes all that is printed, by commands and by the executor.
    pub log: &'a File,
    pub log_path: &'a Path,
    pub nice: Option<Nice>,
    /// What commands read.
    pub stdin: Option<&'a Stdin>,
    /// How long all stages together may take.
    pub timeout_seconds: Option<u64>,
    /// What commands find in their environment beside this process's own.
    pub environment: &'a [(OsString, OsString)],
    /// Of each stage whether the run cache must not be asked: what it knows may come from an attempt that was cut off, and
    /// nobody has the files that the stage makes beside its outs.
    pub distrusted: &'a [bool],
    /// The run, in which what stages leave running may stay; `None` where nothing may.
    pub run: Option<&'a RunDir>,
}

impl Scene<'_> {
    /// The project's root as commands see it.
    pub(crate) fn seen_root(&self) -> &Path {
        self.mounted.map_or(self.root, |mounted| mounted.root)
    }

    /// The folder of keepers, for a stage whose commands may leave something running.
    pub(crate) fn keeps(&self, stage: usize) -> Option<PathBuf> {
        self.run.filter(|_| self.item.stages[stage].keep_running).map(RunDir::kept)
    }

    /// Remembers what a stage left running and was ended: who depends on it may miss it. What cannot be remembered is not
    /// said.
    pub(crate) fn note_ended(&self, stage: usize, commands: &[String]) {
        if let Some(run) = self.run.filter(|_| !commands.is_empty()) {
            let text = format!("{}\n{}\n", self.item.stages[stage].address, commands.join("\n"));
            drop(fs::write_plain(&run.left_running(self.item.index), text.as_bytes()));
        }
    }

    /// Whether the workspace is the project itself, with all its stages.
    pub(crate) fn in_project(&self) -> bool {
        self.projection.is_none()
    }
}

/// What `dvc repro` exits with where stages failed.
pub(crate) const FAILED: i32 = 255;

/// How the stages of a work item came to their end.
pub(crate) struct Ran {
    pub stopped: Stopped,
    /// One for each stage, in the work item's order.
    pub stages: Vec<StageEnd>,
    /// The last words of a tool that failed, where no stage did.
    pub error: Option<String>,
}

impl Ran {
    /// Nothing ran.
    pub(crate) fn none(item: &WorkItem, stopped: Stopped) -> Ran {
        Ran { stopped, stages: vec![StageEnd::not_run(); item.stages.len()], error: None }
    }

    /// Has stages fail that DVC did where a command copied a link instead of what it leads to: DVC took nothing of that into
    /// its cache.
    pub(crate) fn without_copied_links(mut self, scene: &Scene<'_>) -> Result<Ran, FsError> {
        let Some(links) = scene.links else { return Ok(self) };
        for (stage, end) in scene.item.stages.iter().zip(&mut self.stages) {
            if end.state != StageState::Ran || !matches!(end.executed, Executed::Dvc { .. }) {
                continue;
            }
            for out in &stage.outs {
                if let Some((_, original)) = links.copies(&scene.root.join(&out.resolved))?.first() {
                    end.state = StageState::Failed;
                    end.message = Some(format!(
                        "its out `{}` has a link to `{original}`, which git ignores, in place of what is there: \
                         make `{original}` a dep of the stage",
                        out.path
                    ));
                    self.stopped = Stopped::Ended(Ending::Exited(FAILED));
                }
            }
        }
        Ok(self)
    }

    /// Has stages that failed say why as people know it: files by the paths that they have in the project, wherever the
    /// stages ran, and a dep that is not there by its name. The log has DVC's words.
    pub(crate) fn retold(mut self, scene: &Scene<'_>) -> Ran {
        let roots = [Some(scene.root.to_owned()), scene.root.canonicalize().ok(), Some(scene.seen_root().to_owned())];
        let roots: Vec<String> = roots.into_iter().flatten().map(|root| format!("{}/", root.display())).collect();
        for (stage, end) in scene.item.stages.iter().zip(&mut self.stages) {
            let Some(message) = end.message.as_mut().filter(|message| message.starts_with("[Errno ")) else { continue };
            let lacked = match &end.executed {
                Executed::Dvc { why } => lacked(why).filter(|_| message.starts_with("[Errno 2]")),
                Executed::Native | Executed::Check => None,
            };
            *message = match lacked {
                Some(dep) => run::lacks(&stage.address, dep),
                None => roots.iter().fold(message.clone(), |message, root| message.replace(root, "")),
            };
        }
        self
    }
}

/// What became of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageEnd {
    pub state: StageState,
    /// Whether its commands began.
    pub has_begun: bool,
    /// Why it failed, in DVC's words.
    pub message: Option<String>,
    /// Whether a tool failed at it, not its command: worth another try.
    pub is_own_failure: bool,
    pub executed: Executed,
}

impl StageEnd {
    /// The end of a stage that had no turn.
    pub(crate) fn not_run() -> Self {
        let (state, executed) = (StageState::NotRun, Executed::Native);
        StageEnd { state, has_begun: false, message: None, is_own_failure: false, executed }
    }
}
