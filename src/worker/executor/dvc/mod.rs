//! Real DVC as the executor: `dvc repro`, once for all stages of a work item or for some by name, forked from a DVC that is
//! loaded or started; what became of the stages is read from its log and from the lock files that it left.

mod log;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::adapters::dvc::warm::WarmDvc;
use crate::adapters::dvc::{Dvc, DvcError, ReproOptions};
use crate::adapters::fs::{self, At as _};
use crate::adapters::process::{self, Ending, Program};
use crate::diagnostic::Diagnostic;
use crate::env;
use crate::model::run::{Executed, StageState};
use crate::model::stdin::Stdin;
use crate::state::dvc_version::DvcVersion;
use crate::state::format::PlannedStage;
use crate::worker::child::{Begun, Stopped, Watch};
use crate::worker::executor::{Executor, Ran, Scene, StageEnd};
use crate::worker::{stdin, workspace};
use log::ReproLog;
use rustix::process::Pid;

pub(crate) use log::{is_own_failure, killed_by_somebody, with_kill};

/// Bytes at the end of what a `dvc repro` printed that are searched for DVC's own lines.
const LOG_TAIL: u64 = 4 << 20;

/// Runs `dvc repro`.
pub(crate) struct DvcExecutor<'a> {
    /// `None` where there is none.
    dvc: Option<&'a Dvc>,
    version: &'a DvcVersion,
    /// What runs the `dvc` script, where it is one.
    script: Option<Program>,
    warm: Warm,
}

/// Whether there is a DVC to fork from.
enum Warm {
    /// Each `dvc` is started.
    Off,
    Wanted,
    Loading(Box<WarmDvc>),
}

impl<'a> DvcExecutor<'a> {
    /// `warm` says whether loading a DVC for all work items is worth it.
    pub(crate) fn new(dvc: Option<&'a Dvc>, version: &'a DvcVersion, warm: bool) -> Self {
        DvcExecutor { dvc, version, script: None, warm: if warm { Warm::Wanted } else { Warm::Off } }
    }

    /// The process that stages' DVCs are forked from, which lives on when one of them ends.
    pub(crate) fn spared(&self) -> Option<Pid> {
        if let Warm::Loading(warm) = &self.warm { warm.id() } else { None }
    }

    /// Has DVC do one stage of the work item; what it needs is done.
    pub(crate) fn one(
        &mut self,
        scene: &Scene<'_>,
        watch: &mut Watch,
        at: usize,
    ) -> Result<(Stopped, StageEnd), Diagnostic> {
        let stage = &scene.item.stages[at];
        let (stopped, said) = self.start(scene, Some(&[at]), scene.distrusted[at], watch)?;
        let entries = workspace::entries(scene.projection.locks(), scene.item);
        let entry = entries.ok().and_then(|mut entries| entries.swap_remove(at));
        let mut end = end(stage, entry.as_ref(), &stopped, &said);
        if !stopped.is_success() && end.message.is_none() {
            end.message = said.error;
        }
        Ok((stopped, end))
    }

    /// Has DVC run the stages by name; where one fails, those that do not need it go on, as under `--keep-going`.
    ///
    /// A call takes as many stages as there are that are trusted, or distrusted, in a row.
    fn one_by_one(&mut self, scene: &Scene<'_>, watch: &mut Watch) -> Result<(Stopped, ReproLog), Diagnostic> {
        let stages = &scene.item.stages;
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
            let Some(&first) = left.first() else {
                return Ok((failure.unwrap_or(Stopped::Ended(Ending::Exited(0))), all));
            };
            // Each stage reads a file from its beginning, and DVC opens nothing for its stages.
            let is_alone = matches!(scene.stdin, Some(Stdin::File(_)));
            left.retain(|at| (first..=*at).all(|at| scene.distrusted[at] == scene.distrusted[first]));
            // Nor does anybody know of which of several stages something is left.
            let keeps = |at: &usize| scene.keeps(*at).is_some();
            let alone = if keeps(&first) { Some(1) } else { left.iter().position(keeps) };
            left.truncate(if is_alone { 1 } else { alone.unwrap_or(left.len()) });
            let (stopped, said) = self.start(scene, Some(&left), scene.distrusted[first], watch)?;
            let found = left.iter().find(|at| said.has_failed(&stages[**at].address));
            all.extend(said);
            begin = match (found, &stopped) {
                _ if stopped.is_success() => left.last().map_or(stages.len(), |last| last + 1),
                (Some(&at), Stopped::Ended(Ending::Exited(_))) => {
                    failed.insert(at);
                    failure = Some(stopped);
                    at + 1
                }
                _ => return Ok((stopped, all)),
            };
        }
    }

    /// Runs one `dvc repro` to its end, and returns what it said.
    fn start(
        &mut self,
        scene: &Scene<'_>,
        one_by_one: Option<&[usize]>,
        is_distrusted: bool,
        watch: &mut Watch,
    ) -> Result<(Stopped, ReproLog), Diagnostic> {
        let first = one_by_one.and_then(|stages| stages.first()).copied();
        let named = one_by_one.map(|stages| -> Vec<&str> {
            stages.iter().map(|stage| scene.item.stages[*stage].address.as_str()).collect()
        });
        let limit = Duration::from_secs(scene.timeout_seconds.unwrap_or(u64::MAX));
        self.version.of(self.dvc.ok_or_else(DvcError::missing)?, limit)?;
        let length = || scene.log.metadata().at("look at", scene.log_path).map(|metadata| metadata.len());
        let before = length()?;
        let mut program = self.program(scene, named.as_deref(), is_distrusted)?;
        program.input = stdin::open(scene.stdin)
            .map_err(|error| Diagnostic::project(format!("cannot run `{}`", program.shown())).source(&error))?;
        scene.projection.enter()?;
        // The DVC that is forked or started through the script has commands see the project's own.
        if let Some(aside) = scene.projection.aside().filter(|_| self.script.is_some()) {
            program = program.env(env::DVC_FANOUT_STAGE_FILES, aside);
        }
        let spared = self.spared();
        let folder = first.and_then(|stage| scene.keeps(stage));
        let begin = begin(&mut self.warm, self.script.as_ref(), &program, folder.as_deref(), scene);
        let stopped = watch.watch(begin, spared, scene.timeout_seconds);
        scene.note_ended(first.unwrap_or_default(), &watch.take_ended());
        // Whatever it was: the next one does not depend on it.
        if matches!(stopped, Ok(Stopped::Ended(Ending::Signalled(_)))) {
            self.warm = Warm::Off;
        }
        let stopped =
            stopped.map_err(|error| Diagnostic::tool(format!("cannot run `{}`", program.shown())).source(&error))?;
        // A command may have removed the workspace: then no stage is done, and that is said where the result is made.
        drop(scene.projection.leave());
        let own = length()?.saturating_sub(before).min(LOG_TAIL);
        Ok((stopped, ReproLog::read(&String::from_utf8_lossy(&fs::read_tail(scene.log_path, own)?))))
    }

    /// The `dvc repro` of all stages, or of those that are named.
    fn program(
        &self,
        scene: &Scene<'_>,
        one_by_one: Option<&[&str]>,
        is_distrusted: bool,
    ) -> Result<Program, Diagnostic> {
        // In the project DVC finds what it remembers of it.
        let site_cache = (!scene.in_project()).then(|| scene.slot.site_cache()).flatten();
        let options = ReproOptions {
            force: scene.options.force,
            no_run_cache: scene.options.no_run_cache || is_distrusted,
            pull: scene.options.pull,
            allow_missing: scene.options.allow_missing,
        };
        let dvc = self.dvc.ok_or_else(DvcError::missing)?;
        let mut program = dvc.repro(site_cache.as_deref(), options, one_by_one);
        program.environment.extend(scene.environment.iter().cloned());
        Ok(program.env(env::DVC_FANOUT_SLOT, scene.slot.path()))
    }
}

impl Executor for DvcExecutor<'_> {
    /// Begins to load DVC, if that is wanted and possible.
    fn prepare(&mut self, scene: &Scene<'_>, watch: &mut Watch) {
        let folder = scene.slot.dvc_process();
        let Ok(program) = self.program(scene, None, false) else { return };
        if self.script.is_none() {
            match self.dvc.and_then(Dvc::script).map(|script| script.process(&folder)) {
                Some(Ok(script)) => self.script = Some(script),
                Some(Err(error)) => tracing::debug!("`{}` is started as it is: {error}", program.shown()),
                None => tracing::debug!("`{}` is not a script that only starts DVC", program.shown()),
            }
        }
        if !matches!(self.warm, Warm::Wanted) {
            return;
        }
        self.warm = Warm::Off;
        let Some(script) = self.script.clone() else { return };
        match watch.within(|| WarmDvc::load(&script, folder.join("said"), &program, scene.root, scene.nice)) {
            Ok(warm) => self.warm = Warm::Loading(Box::new(warm)),
            Err(error) => tracing::debug!("cannot load DVC: {error}"),
        }
    }

    fn run(&mut self, scene: &Scene<'_>, watch: &mut Watch) -> Result<Ran, Diagnostic> {
        let is_read = matches!(scene.stdin, Some(Stdin::File(_)));
        let keeps = (0..scene.item.stages.len()).any(|stage| scene.keeps(stage).is_some());
        let by_name =
            scene.item.one_by_one || scene.in_project() || scene.distrusted.contains(&true) || is_read || keeps;
        let (stopped, said) =
            if by_name { self.one_by_one(scene, watch)? } else { self.start(scene, None, false, watch)? };
        if let Some(error) = said.nameless_user().filter(|_| !stopped.is_success()) {
            return Err(nameless_user(error));
        }
        // A command may have removed the workspace; what is said of its stages then does not matter.
        let entries = workspace::entries(scene.projection.locks(), scene.item)
            .unwrap_or_else(|_| vec![None; scene.item.stages.len()]);
        let ends =
            scene.item.stages.iter().zip(entries).map(|(stage, entry)| end(stage, entry.as_ref(), &stopped, &said));
        let stages = ends.collect();
        Ok(Ran { stopped, stages, error: said.error })
    }
}

/// DVC does not start for this user: no other try helps, but another environment does.
fn nameless_user(error: &str) -> Diagnostic {
    let (user, _) = process::user();
    Diagnostic::project(format!("DVC does not start for user {user}"))
        .cause(error)
        .cause("it asks for the user's name and home directory, which the system does not know of this user id")
        .hint("set USER to any name and HOME to a folder that this user may write to")
}

/// What became of a stage by its entry and by what DVC said.
fn end(stage: &PlannedStage, entry: Option<&String>, stopped: &Stopped, said: &ReproLog) -> StageEnd {
    // DVC does not say that it imported something.
    let is_imported = stage.name.is_none() && !stage.records && stopped.is_success();
    let is_verified = stage.records && stopped.is_success() && said.verified.contains(&stage.address);
    let recorded = is_imported || is_verified || stage.base.as_ref() != entry;
    let state = stage_state(recorded, &stage.address, stopped, said);
    let has_failed = state == StageState::Failed;
    StageEnd {
        state,
        has_begun: said.running.contains(&stage.address),
        message: has_failed.then(|| said.reason(&stage.address)),
        is_own_failure: has_failed && said.is_own_failure(&stage.address),
        executed: Executed::Dvc { why: "it is asked for".to_owned() },
    }
}

/// Forks the program from the loaded DVC, or starts it where there is none; a DVC that fails is not asked again.
async fn begin(
    warm: &mut Warm,
    script: Option<&Program>,
    program: &Program,
    kept: Option<&Path>,
    scene: &Scene<'_>,
) -> io::Result<Begun> {
    if let Warm::Loading(loaded) = warm
        && kept.is_none()
    {
        match loaded.call(program, scene.root, scene.log).await {
            Ok(child) => return Ok((child, loaded.id())),
            Err(error) => tracing::debug!("`{}` is started from now on: {error}", program.shown()),
        }
        *warm = Warm::Off;
    }
    let through = script.map(|script| {
        let mut script = script.clone().arg("run");
        script.arguments.extend(program.arguments.iter().cloned());
        script.environment.clone_from(&program.environment);
        script.input = program.input.clone();
        script
    });
    let program = through.as_ref().unwrap_or(program);
    let start = |program: &Program| process::start(program, scene.root, scene.log, scene.nice);
    let child = match kept {
        Some(folder) => {
            let (keeper, line) = process::kept(program, folder, folder)?;
            start(&keeper)?.into_keeper(line)?
        }
        None => start(program)?,
    };
    let spared = if let Warm::Loading(loaded) = warm { loaded.id() } else { None };
    Ok((child, spared))
}

/// What became of a stage.
///
/// | dvc | entry | said | state |
/// |---|---|---|---|
/// | exit 0 | any | running / cached / else | ran / restored / unchanged |
/// | failed | any | named as failed | failed |
/// | failed | new | any | ran (or restored): it was recorded before something else failed |
/// | failed | as before | unchanged | unchanged |
/// | failed | as before | running, others named | ran: it came out as before |
/// | failed | as before | else | not run |
fn stage_state(recorded: bool, address: &str, stopped: &Stopped, said: &ReproLog) -> StageState {
    let succeeded = stopped.is_success();
    let ended = matches!(stopped, Stopped::Ended(Ending::Exited(_)));
    if ended && !succeeded && said.has_failed(address) {
        return StageState::Failed;
    }
    if said.restored.contains(address) && (succeeded || recorded) {
        return StageState::Restored;
    }
    let ran = said.running.contains(address);
    if recorded || (ran && (succeeded || (ended && said.has_failures()))) {
        return StageState::Ran;
    }
    if succeeded || said.unchanged.contains(address) { StageState::Unchanged } else { StageState::NotRun }
}
