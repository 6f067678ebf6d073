//! The stages of a work item without DVC, as far as the result is sure to be DVC's; the others are left to DVC, one by
//! one, in their order.
//!
//! | executor | a stage that only DVC can do |
//! |---|---|
//! | `auto` | DVC does it |
//! | `native` | it fails, and says why |
//! | `check` | it is left out here, with those that need it: DVC does all stages afterwards |
//!
//! The stages are read from the projected files of the work item alone, so that an item costs the same however many
//! there are.

mod files;

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::adapters::dvc::lock::RepositoryLock;
use crate::adapters::dvc::store::Store;
use crate::adapters::fs::FsError;
use crate::adapters::git::Git;
use crate::adapters::process::{self, Ending, Input, Program};
use crate::diagnostic::Diagnostic;
use crate::dvc::config::DvcConfig;
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::env;
use crate::model::run::{Executed, StageState};
use crate::native::repro::{self, Locks, Outcome, Turn};
use crate::native::{Became, Commands, Ignores, Interrupted, Log, OnFailure, Options, ParamsMemory, Place, Shell};
use crate::output::text;
use crate::worker::child::{Stopped, Watch};
use crate::worker::executor::dvc::{DvcExecutor, is_own_failure, with_kill};
use crate::worker::executor::{Executor, FAILED, Ran, Scene, StageEnd};
use crate::worker::mounted::Mounted;
use crate::worker::stdin;
use crate::worker::workspace::Watching;
use files::ItemFiles;

/// How long another `dvc` in the project is waited for.
const LOCK_LIMIT: Duration = Duration::from_mins(1);

/// What becomes of a stage that only DVC can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnlyDvc {
    DoesIt,
    IsRefused,
    /// It is not done here.
    DoesItElsewhere,
}

/// What a stage says whose command did not even begin, since there was no namespace for it: another try may get one.
const NO_NAMESPACE: &str = "its namespace could not be made";

/// Does stages without DVC.
pub(crate) struct NativeExecutor<'a> {
    config: &'a DvcConfig,
    store: Store,
    /// Why DVC has to do everything, whatever the stage.
    unusual: Option<String>,
    params: ParamsMemory,
    /// The repository of the workspace.
    git: Option<(PathBuf, Git)>,
    dvc: DvcExecutor<'a>,
    only_dvc: OnlyDvc,
}

impl<'a> NativeExecutor<'a> {
    /// The config is the project's at `root`, whose cache all workspaces share.
    pub(crate) fn new(config: &'a DvcConfig, root: &Path, dvc: DvcExecutor<'a>, only_dvc: OnlyDvc) -> Self {
        let store = Store::of(config);
        let unusual = repro::unusual_setting(config, root);
        NativeExecutor { config, store, unusual, params: ParamsMemory::default(), git: None, dvc, only_dvc }
    }

    /// The same with a cache of its own in a folder, in front of the project's: nobody else sees what it does.
    #[must_use]
    pub(crate) fn apart(self, cache: &Path) -> Self {
        NativeExecutor { store: self.store.apart(cache), ..self }
    }

    /// The cache that it writes to.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Why DVC has to do all stages of a work item.
    fn unusual(&self, scene: &Scene<'_>) -> Option<String> {
        let flags = [("--pull", scene.options.pull), ("--allow-missing", scene.options.allow_missing)];
        let asked = flags.iter().find(|(_, on)| *on).map(|(flag, _)| format!("`{flag}` is asked for"));
        self.unusual.clone().or(asked)
    }

    /// Opens the repository of the workspace, unless it is the one from before.
    fn open_git(&mut self, root: &Path) -> Result<(), Diagnostic> {
        if !self.config.no_scm && self.git.as_ref().is_none_or(|(known, _)| known != root) {
            self.git = Some((root.to_owned(), Git::discover(root)?));
        }
        Ok(())
    }

    /// Reads the work item's stages; `Err` says why DVC has to do that.
    fn load(&self, scene: &Scene<'_>) -> Result<Project, String> {
        let files = ItemFiles::new(scene.root, &scene.item.files);
        let files = files.ok_or("the path of the workspace is not UTF-8")?;
        let paths = scene.item.files.iter().map(|file| file.path.as_str());
        let project = Project::load_files(&files, self.config, paths);
        project.map_err(|error| format!("its stages cannot be read: {}", Diagnostic::from(error).one_line()))
    }

    /// Has DVC do the whole work item.
    fn leave(&mut self, scene: &Scene<'_>, watch: &mut Watch, why: &str) -> Result<Ran, Diagnostic> {
        match self.only_dvc {
            OnlyDvc::DoesIt => {}
            OnlyDvc::IsRefused => {
                return Err(Diagnostic::project(format!("only DVC can do work item {}", scene.item.index)).cause(why));
            }
            OnlyDvc::DoesItElsewhere => {
                let mut ran = Ran::none(scene.item, Stopped::Ended(Ending::Exited(0)));
                ran.stages.iter_mut().for_each(|end| end.executed = Executed::Dvc { why: why.to_owned() });
                return Ok(ran);
            }
        }
        say(scene, &format!("DVC does all stages: {why}"));
        self.dvc.prepare(scene, watch);
        let mut ran = self.dvc.run(scene, watch)?;
        for end in &mut ran.stages {
            end.executed = Executed::Dvc { why: why.to_owned() };
        }
        Ok(ran)
    }
}

impl Executor for NativeExecutor<'_> {
    /// DVC is loaded when a stage is found that it has to do.
    fn prepare(&mut self, _: &Scene<'_>, _: &mut Watch) {}

    fn run(&mut self, scene: &Scene<'_>, watch: &mut Watch) -> Result<Ran, Diagnostic> {
        if let Some(why) = self.unusual(scene) {
            return self.leave(scene, watch, &why);
        }
        let project = match self.load(scene) {
            Ok(project) => project,
            Err(why) => return self.leave(scene, watch, &why),
        };
        let by_address: HashMap<&str, StageIndex> =
            project.stages.indexed().map(|(index, stage)| (stage.address.0.as_str(), index)).collect();
        let found = scene.item.stages.iter().map(|planned| by_address.get(planned.address.as_str()).copied());
        let Some(stages) = found.collect::<Option<Vec<StageIndex>>>() else {
            return self.leave(scene, watch, "its stages are not those of the plan");
        };
        self.open_git(scene.root)?;
        let Some(root_text) = scene.root.to_str() else {
            return self.leave(scene, watch, "the path of the workspace is not UTF-8");
        };
        let shell = Shell::find(environment(scene));
        let place = Place {
            root: scene.root,
            seen_root: scene.seen_root(),
            locks: scene.projection.locks(),
            root_text,
            cwd: "",
            store: &self.store,
            params: &self.params,
            shell: &shell,
        };
        let prefix = prefix_of(scene, self.git.as_ref().map(|(_, git)| git));
        let git = self.git.as_ref().map(|(_, git)| (git, prefix.as_str()));
        let mut ignores = Ignores::new(scene.root, git);
        let lock = scene.in_project().then(|| lock_project(scene.root, self.config)).transpose()?;
        let locks = Locks::read(scene.projection.locks(), stages.iter().map(|at| &project.stages[*at]));
        let turn = |(at, stage): (usize, &StageIndex)| Turn {
            stage: &project.stages[*stage],
            entry: locks.entry(at),
            unusual: locks.unusual(at),
        };
        let turns: Vec<Turn<'_>> = stages.iter().enumerate().map(turn).collect();
        let no_run_cache = scene.options.no_run_cache || scene.distrusted.contains(&true);
        let options = Options { force: scene.options.force, no_run_cache, no_commit: false };
        let dependents = |failed: usize| dependents(scene, failed);
        let mut hands = Hands {
            scene,
            watch,
            dvc: &mut self.dvc,
            deadline: scene.timeout_seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            stopped: None,
            only_dvc: self.only_dvc,
            config: self.config,
            lock,
            input: None,
            stage: None,
        };
        let outcomes = repro::run(
            &place,
            &turns,
            options,
            OnFailure::KeepGoing(&dependents),
            &mut ignores,
            &mut hands,
            &mut Log(&mut |line| say(scene, line)),
        )?;
        let stopped = hands.stopped.take();
        let code = if outcomes.has_failed() { FAILED } else { 0 };
        let stopped = stopped.unwrap_or(Stopped::Ended(Ending::Exited(code)));
        Ok(Ran { stopped, stages: outcomes.stages.into_iter().map(end).collect(), error: None })
    }
}

/// What became of a stage, in the words of results.
fn end(outcome: Option<Outcome>) -> StageEnd {
    let Some(Outcome { became, by_dvc }) = outcome else { return StageEnd::not_run() };
    let executed = by_dvc.map_or(Executed::Native, |why| Executed::Dvc { why });
    let (state, message) = match became {
        Became::Unchanged => (StageState::Unchanged, None),
        Became::Ran => (StageState::Ran, None),
        Became::Restored => (StageState::Restored, None),
        Became::Failed(why) => (StageState::Failed, Some(why)),
        Became::Interrupted => return StageEnd { has_begun: true, ..StageEnd::not_run() },
        Became::ForDvc(_) => return StageEnd::not_run(),
    };
    let is_own_failure = message.as_deref().is_some_and(|why| is_own_failure(why) || why.starts_with(NO_NAMESPACE));
    let has_begun = matches!(state, StageState::Ran | StageState::Failed);
    StageEnd { state, has_begun, message: message.map(with_kill), is_own_failure, executed }
}

/// The stages that a failed one takes with it.
fn dependents(scene: &Scene<'_>, failed: usize) -> Vec<usize> {
    let mut lost: HashSet<usize> = HashSet::from([failed]);
    let mut dependents = vec![];
    for (at, stage) in scene.item.stages.iter().enumerate() {
        if stage.after.iter().any(|need| lost.contains(need)) && lost.insert(at) {
            dependents.push(at);
        }
    }
    dependents
}

/// What commands find in their environment, as under the `dvc` of a work item.
fn environment(scene: &Scene<'_>) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let mut environment = scene.environment.to_vec();
    let site_cache = scene.mounted.map_or_else(|| scene.slot.site_cache(), Mounted::site_cache);
    environment.extend(site_cache.map(|folder| (env::DVC_SITE_CACHE_DIR.into(), folder.into())));
    environment.push((env::DVC_NO_ANALYTICS.into(), "1".into()));
    environment.push((env::DVC_FANOUT_SLOT.into(), scene.slot.path().into()));
    environment
}

/// The project's folder in the work tree of git.
fn prefix_of(scene: &Scene<'_>, git: Option<&Git>) -> String {
    let slot = scene.slot.workspace();
    let top = if scene.in_project() { git.map(Git::workdir) } else { Some(slot.as_path()) };
    let prefix = top.and_then(|top| scene.root.strip_prefix(top).ok()).unwrap_or(Path::new(""));
    prefix.to_string_lossy().into_owned()
}

/// Takes DVC's lock of the project, in which another `dvc` may be at work.
fn lock_project(root: &Path, config: &DvcConfig) -> Result<RepositoryLock, Diagnostic> {
    let tell = |holder: &str| text::note(&format!("waiting for DVC's repository lock, which {holder} holds"));
    Ok(RepositoryLock::acquire(root, config.hardlink_lock, LOCK_LIMIT, &tell)?)
}

/// Writes a line to the log; one that cannot be written does not stop a stage.
fn say(scene: &Scene<'_>, line: &str) {
    let mut log = scene.log;
    drop(log.write_all(format!("{line}\n").as_bytes()));
}

/// Starts commands, and DVC where a stage needs it, under the work item's limits.
struct Hands<'h, 'a> {
    scene: &'h Scene<'h>,
    watch: &'h mut Watch,
    dvc: &'h mut DvcExecutor<'a>,
    deadline: Option<Instant>,
    /// How everything came to an early end.
    stopped: Option<Stopped>,
    only_dvc: OnlyDvc,
    config: &'h DvcConfig,
    /// DVC's lock, where the stages run in the project itself.
    lock: Option<RepositoryLock>,
    /// What the commands of the stage read, once one has begun.
    input: Option<Input>,
    /// The stage whose commands run.
    stage: Option<usize>,
}

impl Hands<'_, '_> {
    /// Does something without DVC's lock, as `dvc repro` runs commands: they may call `dvc` themselves.
    fn unlocked<T>(&mut self, something: impl FnOnce(&mut Self) -> T) -> Result<T, Diagnostic> {
        let was_locked = self.lock.take().is_some();
        let done = something(self);
        if was_locked {
            self.lock = Some(lock_project(self.scene.root, self.config)?);
        }
        Ok(done)
    }

    /// Notes an early end.
    fn ended(&mut self, stopped: Stopped) -> Result<Ending, Interrupted> {
        let stopped = match stopped {
            Stopped::Ended(ending) => return Ok(ending),
            Stopped::TimedOut(_) => Stopped::TimedOut(self.scene.timeout_seconds.unwrap_or_default()),
            signalled @ Stopped::Signalled(_) => signalled,
        };
        self.stopped = Some(stopped);
        Err(Interrupted)
    }
}

impl Commands for Hands<'_, '_> {
    fn begin_stage(&mut self, address: &str) {
        self.input = None;
        self.stage = self.scene.item.stages.iter().position(|stage| stage.address == address);
    }

    fn end_stage(&mut self) -> Result<(), FsError> {
        let (Some(links), Some(stage)) = (self.scene.links, self.stage) else { return Ok(()) };
        for out in &self.scene.item.stages[stage].outs {
            links.replace(&self.scene.root.join(&out.resolved))?;
        }
        Ok(())
    }

    fn run(&mut self, program: &Program, directory: &Path) -> Result<Ending, Interrupted> {
        let (scene, spared) = (self.scene, self.dvc.spared());
        let input = match self.input.take().map_or_else(|| stdin::open(scene.stdin), Ok) {
            Ok(input) => input,
            Err(error) => return Ok(Ending::NotStarted(error.to_string())),
        };
        self.input = Some(input.clone());
        let program = Program { input, ..program.clone() };
        let start = |program: &Program| match scene.mounted {
            Some(mounted) => {
                let directory = mounted.seen(directory, scene.root);
                mounted.namespace.start(program, &directory, scene.log, scene.nice)
            }
            None => process::start_directly(program, directory, scene.log, scene.nice),
        };
        let folder = self.stage.and_then(|stage| scene.keeps(stage));
        let start = || match &folder {
            Some(folder) => {
                let (keeper, line) = process::kept(
                    &program,
                    folder,
                    &scene.mounted.map_or_else(|| folder.clone(), |mounted| mounted.aside(folder)),
                )?;
                start(&keeper)?.into_keeper(line)
            }
            None => start(&program),
        };
        let begin = async { Ok((start()?, spared)) };
        let left = self.deadline.map(|end| end.saturating_duration_since(Instant::now()).as_secs().max(1));
        let ran = self.unlocked(|hands| hands.watch.watch(begin, spared, left));
        if let Some(stage) = self.stage {
            scene.note_ended(stage, &self.watch.take_ended());
        }
        // Files that the command has written may go into the cache now, and others come in their place.
        scene.watching.into_iter().for_each(Watching::note_written);
        match ran {
            Ok(Ok(stopped)) => match scene.mounted.and_then(Mounted::failure) {
                Some(why) => Ok(Ending::NotStarted(format!("{NO_NAMESPACE}: {why}"))),
                None => self.ended(stopped),
            },
            Ok(Err(error)) => Ok(Ending::NotStarted(error.to_string())),
            Err(error) => Ok(Ending::NotStarted(error.one_line())),
        }
    }
}

impl repro::Executor for Hands<'_, '_> {
    fn dvc(&mut self, at: usize, _: &str, why: &str) -> Became {
        if self.only_dvc != OnlyDvc::DoesIt {
            return Became::Failed(format!("only DVC can do it: {why}"));
        }
        let done = self.unlocked(|hands| {
            hands.dvc.prepare(hands.scene, hands.watch);
            hands.dvc.one(hands.scene, hands.watch, at)
        });
        match done.and_then(|done| done) {
            Ok((stopped, end)) => match (self.ended(stopped), end.state) {
                (Err(Interrupted), _) => Became::Interrupted,
                (Ok(_), StageState::Unchanged) => Became::Unchanged,
                (Ok(_), StageState::Restored) => Became::Restored,
                (Ok(_), StageState::Ran) => Became::Ran,
                (Ok(ending), StageState::Failed | StageState::NotRun) => {
                    Became::Failed(end.message.unwrap_or_else(|| format!("`dvc repro` {ending}")))
                }
            },
            Err(error) => Became::Failed(error.one_line()),
        }
    }
}
