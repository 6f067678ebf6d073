//! The executor `check`: a work item is done by this program, then by DVC, and what both have left is compared.
//!
//! | side | workspace | cache | what it leaves |
//! |---|---|---|---|
//! | this program, first | the slot's, put aside afterwards | one of its own in front of the project's | nothing |
//! | DVC | another, at the same path | the project's | the result |
//!
//! The stages that only DVC can do, and those that need them, are not compared. Where something differs, both sides are
//! kept beside the result. Commands run twice: what differs may be theirs.

mod side;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::store::Store;
use crate::adapters::fs::{self, FoundKind};
use crate::adapters::signals::Asked;
use crate::diagnostic::Diagnostic;
use crate::dvc::config::DvcConfig;
use crate::model::run::{Difference, Executed, StageState};
use crate::state::dvc_version::DvcVersion;
use crate::state::format::WorkItem;
use crate::state::paths::SlotDir;
use crate::worker::child::{Stopped, Watch};
use crate::worker::executor::dvc::DvcExecutor;
use crate::worker::executor::native::{NativeExecutor, OnlyDvc};
use crate::worker::executor::{Executor as _, Ran, Scene};
use crate::worker::first::{self, HeadStart};
use crate::worker::harvest::Left;
use crate::worker::workspace::Workspace;
use crate::worker::workspace::projection::Projection;
use crate::worker::{Begun, Earlier};
pub(super) use side::Side;
use side::{Chosen, Listing};

/// A request to end, or what makes others wait.
type Turn = Result<Option<HeadStart>, Asked>;

/// What does work items without DVC, to be compared.
pub(crate) struct Check<'a> {
    config: &'a DvcConfig,
    /// The project's.
    root: &'a Path,
    version: &'a DvcVersion,
    /// The cache of what is done without DVC.
    cache: PathBuf,
    project: Store,
}

impl<'a> Check<'a> {
    /// For the work items that are done in a slot.
    pub(crate) fn new(config: &'a DvcConfig, root: &'a Path, version: &'a DvcVersion, slot: &SlotDir) -> Self {
        let cache = own_cache(Path::new(&config.cache_dir), slot);
        Check { config, root, version, cache, project: Store::of(config) }
    }

    fn executor(&self) -> NativeExecutor<'_> {
        let by_dvc = DvcExecutor::new(None, self.version, false);
        NativeExecutor::new(self.config, self.root, by_dvc, OnlyDvc::DoesItElsewhere).apart(&self.cache)
    }

    /// The paths of all that went into its own cache.
    fn stored(&self) -> Result<Vec<String>, Diagnostic> {
        let found = if self.cache.is_dir() { fs::walk(&self.cache, &|_| false)? } else { vec![] };
        let files = found.into_iter().filter(|found| found.kind == FoundKind::File);
        Ok(files.map(|found| found.path).collect())
    }

    /// What of that DVC did not put into the project's.
    fn lost(&self, stored: &[String]) -> Vec<String> {
        let missing = stored.iter().filter(|path| !fs::exists(&Path::new(&self.config.cache_dir).join(path)));
        missing.map(|path| format!("`{path}` in the cache: there without DVC, not there with DVC")).collect()
    }

    /// Does a work item without DVC, in a workspace that is put aside.
    pub(super) fn try_first(
        &self,
        begun: &Begun<'_>,
        earlier: &Earlier,
        watch: &mut Watch,
    ) -> Result<Tried<'_>, Diagnostic> {
        let (bench, item) = (begun.bench, begun.item);
        let (sources, slot) = (bench.sources, bench.slot);
        fs::remove(&self.cache)?;
        fs::remove(&slot.aside())?;
        fs::create_dir(&slot.aside())?;
        let mut workspace = Workspace::open(slot.clone(), sources, bench.last.take(), None)?;
        let (root, projection) = (workspace.root(), Projection::of(&workspace, item));
        if let Err(error) = workspace.fill(item, sources).and_then(|()| workspace.go_on_from(&earlier.published)) {
            drop(workspace.discard());
            return Err(error.into());
        }
        let turn = first::wait_for_turn(sources, slot, watch)?;
        workspace.refresh(sources)?;
        begun.say("dvc-fanout does the work item before DVC does, to compare what both leave");
        // What its commands leave running ends: DVC's do the same again.
        let links = workspace.links(item);
        let scene =
            Scene { run: None, links: Some(&links), ..begun.scene(&root, &projection, &earlier.distrusted, None) };
        let mut native = self.executor();
        let ran = match &turn {
            Ok(_) => native.run(&scene, watch)?,
            Err(asked) => Ran::none(item, Stopped::Signalled(asked.signal())),
        };
        begun.say("DVC does the work item");
        let mut trials = trials(item, &ran);
        let draft = begun.draft()?;
        let cache = Cache::in_front_of(&self.cache, sources.placing.cache);
        let left = begun.harvest_from(&draft, cache).take(&mut workspace, None, &ran, &projection);
        let left = left.unwrap_or_else(|error| {
            // A command may have removed the workspace.
            trials.iter_mut().for_each(|trial| *trial = Trial::Dvc(error.one_line()));
            Left::default()
        });
        let chosen = Chosen { stages: trials.iter().map(|trial| *trial == Trial::Done).collect(), others: true };
        let listing = Side::of(begun, &root, projection.locks(), &left, true).list(&chosen, native.store(), None)?;
        let stored = if trials.iter().all(|trial| *trial == Trial::Done) { self.stored()? } else { vec![] };
        drop(draft);
        if fs::exists(&slot.workspace()) {
            fs::rename(&slot.workspace(), &slot.aside().join("workspace"))?;
        }
        // A work item whose stages were not even looked at has left no entries.
        let locks = slot.aside().join("locks");
        if fs::exists(&slot.locks()) {
            fs::rename(&slot.locks(), &locks)?;
        } else {
            fs::create_dir(&locks)?;
        }
        Ok(Tried { check: self, turn: Some(turn), trials, left, listing, stored })
    }
}

/// Where a cache can be that makes the same links as the project's: on the same file system.
fn own_cache(project: &Path, slot: &SlotDir) -> PathBuf {
    let device = |path: &Path| path.ancestors().find_map(|path| path.metadata().ok()).map(|metadata| metadata.dev());
    if device(project) == device(slot.path()) {
        return slot.aside().join("cache");
    }
    let name = fs::digest_bytes(slot.path().as_os_str().as_encoded_bytes());
    project.join(format!(".dvc-fanout-check-{name}"))
}

/// What became of a stage without DVC.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trial {
    /// It was done as far as it goes, and can be compared.
    Done,
    /// Only DVC does it, and why.
    Dvc(String),
}

/// What was done without DVC of each stage.
fn trials(item: &WorkItem, ran: &Ran) -> Vec<Trial> {
    let ended = match ran.stopped {
        Stopped::Ended(_) => None,
        Stopped::TimedOut(_) => Some("it took too long to be done twice"),
        Stopped::Signalled(_) => Some("its worker was to end before it was done twice"),
    };
    let mut trials: Vec<Trial> = vec![];
    for (stage, end) in item.stages.iter().zip(&ran.stages) {
        let needs_dvc = |need: &usize| matches!(trials.get(*need), Some(Trial::Dvc(_)));
        trials.push(match (&end.executed, ended) {
            (Executed::Dvc { why }, _) => Trial::Dvc(why.clone()),
            (_, Some(why)) => Trial::Dvc(why.to_owned()),
            _ if stage.after.iter().any(needs_dvc) => Trial::Dvc("a stage that it needs is DVC's alone".to_owned()),
            _ if end.is_own_failure => Trial::Dvc(format!("without DVC {}", end.message.clone().unwrap_or_default())),
            (Executed::Native | Executed::Check, None) => Trial::Done,
        });
    }
    trials
}

/// A work item that was done without DVC.
pub(super) struct Tried<'t> {
    check: &'t Check<'t>,
    turn: Option<Turn>,
    trials: Vec<Trial>,
    left: Left,
    listing: Listing,
    /// What went into the cache, if everything can be compared.
    stored: Vec<String>,
}

impl Tried<'_> {
    /// The turn that was waited for; only once.
    pub(super) fn turn(&mut self) -> Option<Turn> {
        self.turn.take()
    }

    /// Says of the stages that DVC did whether this program did them, too.
    pub(super) fn name_executors(&self, ran: &mut Ran) {
        for (end, trial) in ran.stages.iter_mut().zip(&self.trials) {
            end.executed = match trial {
                _ if end.state == StageState::NotRun => Executed::Native,
                Trial::Done => Executed::Check,
                Trial::Dvc(why) => Executed::Dvc { why: why.clone() },
            };
        }
    }

    /// Compares with what DVC has left; where something differs, both sides are kept.
    pub(super) fn compare(&self, dvc: &Side<'_, '_>, ran: &Ran) -> Result<Option<Difference>, Diagnostic> {
        let is_cut_off = !matches!(ran.stopped, Stopped::Ended(_)) || ran.stages.iter().any(|end| end.is_own_failure);
        let stages: Vec<bool> = self.trials.iter().map(|trial| *trial == Trial::Done).collect();
        if is_cut_off || !stages.contains(&true) {
            return Ok(None);
        }
        let chosen = Chosen { others: dvc.has_others && stages.iter().all(|is_done| *is_done), stages };
        let own = self.listing.chosen(&chosen);
        let listing = dvc.list(&chosen, &self.check.project, Some(&own))?;
        let mut found = own.differences(&listing);
        found.extend(self.check.lost(&self.stored));
        if found.is_empty() {
            return Ok(None);
        }
        let begun = dvc.begun;
        let (run, slot) = (begun.bench.sources.run, begun.bench.slot);
        let kept = run.both_sides(begun.item.index, begun.attempt.number);
        fs::remove(&kept)?;
        let root = slot.aside().join("workspace").join(dvc.prefix());
        let locks = slot.aside().join("locks");
        let native = Side::of(begun, &root, &locks, &self.left, true);
        native.keep(&kept.join("native"), &own)?;
        dvc.keep(&kept.join("dvc"), &listing)?;
        let inside = kept.strip_prefix(run.path()).unwrap_or(&kept).display().to_string();
        found.iter().for_each(|line| begun.say(&format!("done differently by DVC: {line}")));
        Ok(Some(Difference { kept: inside, found }))
    }
}
