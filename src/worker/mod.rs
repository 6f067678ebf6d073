//! One attempt at one work item: a slot's workspace is filled, an executor runs the stages in it, and what they left is
//! published as a result.

pub(crate) mod check;
pub(crate) mod child;
mod earlier;
mod edited_deps;
pub(crate) mod executor;
mod first;
mod harvest;
mod left_running;
pub(crate) mod mounted;
pub(crate) mod salvage;
mod stdin;
pub(crate) mod transfer;
mod usage;
pub(crate) mod workspace;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::cache::Cache;
use crate::adapters::memory::{self, MemoryGroup, RecentKills};
use crate::adapters::usage::children_cpu_seconds;
use crate::adapters::{clock, fs, process, signals};
use crate::diagnostic::Diagnostic;
use crate::model::nice::Nice;
use crate::model::numbers::AttemptNumber;
use crate::model::run::{Executed, Outcome, StageState, Usage};
use crate::model::stdin::Stdin;
use crate::output::text;
use crate::state::dvc_version::DvcVersion;
use crate::state::format::{Input, RunName, StageResult, VERSION, WorkItem, WorkResult};
use crate::state::needs::{self, Blocked, Needed};
use crate::state::paths::{FanoutDir, SlotDir};
use crate::state::published;
use crate::state::results::{self, Draft, Durability};
use crate::worker::check::{Check, Side, Tried};
use crate::worker::child::{Stopped, Watch};
use crate::worker::earlier::Earlier;
use crate::worker::executor::dvc::killed_by_somebody;
use crate::worker::executor::{Executor, Ran, Scene, StageEnd};
use crate::worker::harvest::{Harvest, IgnoresBefore, Left};
use crate::worker::mounted::{Mounted, Mounting};
use crate::worker::transfer::{Object, Transfer};
use crate::worker::workspace::projection::Projection;
use crate::worker::workspace::{Sources, Workspace};

/// The object of a directory in which there is no file.
const EMPTY_DIRECTORY: &str = "d751713988987e9331980363e24189ce.dir";

/// What all attempts of a worker share.
pub(crate) struct Bench<'a> {
    pub sources: &'a Sources<'a>,
    /// `None` where there is none.
    pub dvc: Option<&'a Dvc>,
    pub version: &'a DvcVersion,
    /// Where the cache is this machine's own.
    pub transfer: Option<&'a Transfer<'a>>,
    /// Where work items are done twice, to be compared.
    pub check: Option<&'a Check<'a>>,
    pub slot: &'a SlotDir,
    pub fanout: &'a FanoutDir,
    /// Where commands are to see workspaces in the project's place.
    pub mounting: Option<&'a Mounting>,
    /// The workspace as the last attempt of this process left it.
    pub last: RefCell<Option<Workspace>>,
    /// The control group of this process.
    pub memory: Option<MemoryGroup>,
    pub kills: RecentKills,
    pub durability: Durability,
    /// What commands read.
    pub stdin: Option<&'a Stdin>,
}

/// How one attempt is made.
pub(crate) struct Attempt<'a> {
    pub number: AttemptNumber,
    /// How long the stages may take.
    pub timeout_seconds: Option<u64>,
    /// Whether its process has done no other work item: another job would have no more time for this one.
    pub is_first: bool,
    pub nice: Option<Nice>,
    /// What commands find in their environment beside this process's own.
    pub environment: &'a [(OsString, OsString)],
}

/// Makes an attempt and publishes what came of it; stages that cannot run are left out, and the others run.
pub(crate) fn attempt(
    bench: &Bench<'_>,
    item: &WorkItem,
    attempt: &Attempt<'_>,
    executor: &mut dyn Executor,
    watch: &mut Watch,
) -> Result<Outcome, Diagnostic> {
    let sources = bench.sources;
    let whole = item;
    let blocked = match whole.stages.len() {
        0 | 1 => Blocked::default(),
        _ => Needed::default().blocked(sources.run, sources.plan, whole)?,
    };
    // Where nothing can run, what is missing is said when it is looked for.
    let is_part = !blocked.stages.is_empty() && !blocked.is_all;
    let part = is_part.then(|| needs::without(whole, &blocked.stages));
    let item = part.as_ref().unwrap_or(whole);
    let begun = Begun::new(bench, item, attempt)?;
    // Before the slot is made anew, and before this attempt could begin without what is left elsewhere.
    salvage::take(bench.fanout, bench.slot, sources.placing.cache)?;
    if attempt.number > AttemptNumber::FIRST && salvage::persists(item) {
        let slots = bench.slot.path().parent().unwrap_or(bench.slot.path());
        salvage::all(bench.fanout, slots, sources.placing.cache)?;
    }
    let earlier = Earlier::of(sources.run, item, attempt.number)?;
    if let Some(transfer) = bench.transfer {
        // Of a directory without files, nothing tells whether DVC caches it.
        let (empty, needed): (Vec<Object>, Vec<Object>) =
            inputs(item, sources)?.into_iter().partition(|object| object.md5 == EMPTY_DIRECTORY);
        if let Err(error) = transfer.fetch(needed) {
            return begun.without_data(whole, &error);
        }
        fetch_what_is_there(transfer, &begun, empty);
    }
    let mut tried = bench.check.map(|check| check.try_first(&begun, &earlier, watch)).transpose()?;
    let (mut workspace, mounted) = open(bench, item)?;
    let (root, projection, watching) = (workspace.root(), Projection::of(&workspace, item), workspace.watching());
    let scene =
        Scene { watching: Some(&watching), ..begun.scene(&root, &projection, &earlier.distrusted, mounted.as_ref()) };
    executor.prepare(&scene, watch);
    let filled = workspace.fill(item, sources).and_then(|()| workspace.go_on_from(&earlier.published));
    if let Err(error) = filled {
        // The disk may be full, and others write to it.
        drop(workspace.discard());
        return Err(error.into());
    }
    let kills_before = bench.memory.as_ref().map_or(0, MemoryGroup::kills);
    salvage::begin(bench.slot, sources.plan, item, attempt.number)?;
    let turn = match tried.as_mut().and_then(Tried::turn) {
        Some(turn) => turn,
        None => first::wait_for_turn(sources, bench.slot, watch)?,
    };
    // What the first work item has made is there now.
    workspace.refresh(sources)?;
    watching.note_written();
    let links = workspace.links(item);
    let scene = Scene { links: Some(&links), ..scene };
    let mut ran = match turn.as_ref() {
        Ok(_) => executor.run(&scene, watch)?.without_copied_links(&scene)?.retold(&scene),
        Err(asked) => Ran::none(item, Stopped::Signalled(asked.signal())),
    };
    tried.iter().for_each(|tried| tried.name_executors(&mut ran));
    let dvc_version = begun.version(&ran)?;
    let draft = begun.draft()?;
    let (mut outcome, mut left) = match begun.harvest(&draft).take(&mut workspace, Some(sources), &ran, &projection) {
        Ok(mut left) => {
            if let Some(tried) = &tried {
                left.difference = tried.compare(&Side::of(&begun, &root, projection.locks(), &left, true), &ran)?;
            }
            let killed = bench.memory.as_ref().filter(|memory| memory.kills() > kills_before);
            (begun.explained(outcome(item, &ran), killed, mounted.is_some())?, left)
        }
        // A command may have removed the workspace itself: the attempt failed, and says why.
        Err(error) => {
            let is_gone = !workspace.root().is_dir();
            let gone = "its workspace was removed while the stages ran".to_owned();
            (Outcome::ToolFailed { message: if is_gone { gone } else { error.one_line() } }, Left::default())
        }
    };
    if let Outcome::TimedOut { .. } = &outcome {
        begun.say(&format!("ERROR: {outcome}: its commands were ended"));
    }
    if is_part {
        for &at in &blocked.stages {
            left.stages.insert(at.min(left.stages.len()), StageResult::not_run(&whole.stages[at].address));
        }
        outcome = with_blocked(outcome, whole, &blocked);
    }
    if let Some(transfer) = bench.transfer {
        let runs: Vec<RunName> = left.stages.iter().filter_map(published::run_of).collect();
        if let Err(error) = transfer.push(outs(item, &left.stages, sources), &runs) {
            return begun.without_data(whole, &error);
        }
        left.moved = Some(transfer.untold()).filter(|moved| !moved.is_nothing());
        left.moved.iter().for_each(|moved| begun.say(&format!("data: {}", text::moved(moved))));
    }
    begun.publish(draft, &outcome, left, false, dvc_version)?;
    salvage::end(bench.slot)?;
    if item.stages.iter().any(|stage| stage.keep_running) && workspace.leave(sources.run, attempt.number) {
        return Ok(outcome);
    }
    // A workspace that cannot be reset is made anew by the next work item; this result stands.
    if workspace.reset().is_ok() {
        workspace.mark_clean(sources)?;
        bench.last.replace(Some(workspace));
    }
    Ok(outcome)
}

/// Opens the slot's workspace, and the namespace in which commands see it in the project's place, where they are to.
fn open<'a>(bench: &Bench<'a>, item: &WorkItem) -> Result<(Workspace, Option<Mounted<'a>>), Diagnostic> {
    let (sources, slot) = (bench.sources, bench.slot);
    let is_wanted = |mounting: &&Mounting| !mounting.is_off(sources.run) && !mounting.would_mislead(item);
    if let Some(mounting) = bench.mounting.filter(is_wanted) {
        let workspace = Workspace::open(slot.clone(), sources, bench.last.take(), Some(mounting))?;
        if let Some(namespace) = mounting.enter(slot)? {
            return Ok((workspace, Some(Mounted { namespace, mounting, root: sources.project })));
        }
    }
    Ok((Workspace::open(slot.clone(), sources, bench.last.take(), None)?, None))
}

/// Runs the stages in the project itself and publishes what became of them; what they left is where it belongs already.
pub(crate) fn in_project(
    bench: &Bench<'_>,
    item: &WorkItem,
    attempt: &Attempt<'_>,
    executor: &mut dyn Executor,
    watch: &mut Watch,
) -> Result<Outcome, Diagnostic> {
    let project = bench.sources.project;
    let begun = Begun::new(bench, item, attempt)?;
    fs::create_dir(bench.slot.path())?;
    let earlier = Earlier::of(bench.sources.run, item, attempt.number)?;
    let tried = bench.check.map(|check| check.try_first(&begun, &earlier, watch)).transpose()?;
    // What an earlier attempt left in the project is there.
    let projection = Projection::none(project, item);
    let distrusted: Vec<bool> = item.stages.iter().map(|stage| stage.distrusted).collect();
    let scene = begun.scene(project, &projection, &distrusted, None);
    executor.prepare(&scene, watch);
    let ignores = IgnoresBefore::read(project, item)?;
    let mut ran = executor.run(&scene, watch)?.retold(&scene);
    tried.iter().for_each(|tried| tried.name_executors(&mut ran));
    let dvc_version = begun.version(&ran)?;
    let draft = begun.draft()?;
    let mut left = begun.harvest(&draft).take_stages(project, project, &ran, false)?;
    left.ignore = ignores.added(project)?;
    if let Some(tried) = &tried {
        left.difference = tried.compare(&Side::of(&begun, project, project, &left, false), &ran)?;
    }
    let outcome = begun.explained(outcome(item, &ran), None, false)?;
    begun.publish(draft, &outcome, left, true, dvc_version)?;
    Ok(outcome)
}

/// An attempt that has begun: its log is there.
struct Begun<'a> {
    bench: &'a Bench<'a>,
    item: &'a WorkItem,
    attempt: &'a Attempt<'a>,
    /// RFC 3339.
    started: String,
    /// The CPU seconds of this process's children before.
    cpu_before: f64,
    /// How many processes the machine had ended by then for want of memory.
    kills: Option<u64>,
    log: File,
    log_path: PathBuf,
}

impl<'a> Begun<'a> {
    fn new(bench: &'a Bench<'a>, item: &'a WorkItem, attempt: &'a Attempt<'a>) -> Result<Self, Diagnostic> {
        let started = clock::now();
        let log_path = bench.sources.run.log(item.index, attempt.number);
        let log = fs::append(&log_path)?;
        let (cpu_before, kills) = (children_cpu_seconds(), bench.kills.of_machine());
        Ok(Begun { bench, item, attempt, started, cpu_before, kills, log, log_path })
    }

    /// What an executor is told: the stages run at `root`, which is the project itself or a workspace.
    fn scene<'s>(
        &'s self,
        root: &'s Path,
        projection: &'s Projection<'s>,
        distrusted: &'s [bool],
        mounted: Option<&'s Mounted<'s>>,
    ) -> Scene<'s> {
        Scene {
            item: self.item,
            options: &self.bench.sources.plan.options,
            root,
            mounted,
            watching: None,
            links: None,
            projection,
            slot: self.bench.slot,
            log: &self.log,
            log_path: &self.log_path,
            nice: self.attempt.nice,
            stdin: self.bench.stdin,
            timeout_seconds: self.attempt.timeout_seconds,
            environment: self.attempt.environment,
            distrusted,
            run: Some(self.bench.sources.run),
        }
    }

    /// The version of DVC, where it did a stage; else nothing.
    fn version(&self, ran: &Ran) -> Result<String, Diagnostic> {
        let is_by_dvc = |end: &StageEnd| end.executed != Executed::Native;
        let Some(dvc) = self.bench.dvc.filter(|_| ran.stages.iter().any(is_by_dvc)) else { return Ok(String::new()) };
        let limit = Duration::from_secs(self.attempt.timeout_seconds.unwrap_or(u64::MAX));
        let version = self.bench.version.of(dvc, limit)?;
        self.bench.version.remember(dvc)?;
        Ok(version)
    }

    fn draft(&self) -> Result<Draft, Diagnostic> {
        Ok(Draft::begin(self.bench.sources.run, self.item.index, self.attempt.number)?)
    }

    fn harvest<'d>(&'d self, draft: &'d Draft) -> Harvest<'d> {
        self.harvest_from(draft, Cache::new(self.bench.sources.placing.cache))
    }

    /// The same where outs went into another cache than the project's.
    fn harvest_from<'d>(&'d self, draft: &'d Draft, cache: Cache) -> Harvest<'d> {
        let sources = self.bench.sources;
        Harvest { item: self.item, prefix: &sources.plan.prefix, draft, cache, links: sources.placing.links }
    }

    /// Writes a line to the log; one that cannot be written does not stop the attempt.
    fn say(&self, line: &str) {
        let mut log = &self.log;
        drop(log.write_all(format!("{line}\n").as_bytes()));
    }

    /// Whether the kernel may have ended a command for want of memory since the attempt began.
    fn may_lack_memory(&self) -> bool {
        self.kills.is_none() || memory::kills_of_machine() != self.kills
    }

    /// Adds to an outcome what the stages themselves could not say; `killed` is where the kernel ended processes meanwhile.
    fn explained(
        &self,
        mut outcome: Outcome,
        killed: Option<&MemoryGroup>,
        is_mounted: bool,
    ) -> Result<Outcome, Diagnostic> {
        // Another job would have no more time for it.
        if signals::is_time_up() && self.attempt.is_first && matches!(outcome, Outcome::Interrupted { .. }) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of seconds")]
            let seconds = clock::seconds_between(&self.started, &clock::now()) as u64;
            outcome = Outcome::TimedOut { seconds, with_its_job: true };
        }
        if let Outcome::StageFailed { stage, message } = &outcome
            && let Some(message) = killed_by_somebody(message)
            && killed.is_none()
            && !self.may_lack_memory()
        {
            // Whoever ended the command (an administrator, or this worker's own end): trying again helps.
            return Ok(Outcome::ToolFailed { message: format!("stage `{stage}`: {message}") });
        }
        if let Outcome::StageFailed { stage, message } = &mut outcome
            && let Some(mounting) = self.bench.mounting.filter(|_| is_mounted)
            && let Some(blame) = mounting.blame(&first::last_words(&self.log_path)?)
        {
            if blame.is_tried_again {
                fs::write(&self.bench.sources.run.linked_only(), b"")?;
                let message = format!("stage `{stage}`: {message}; {}: again in a workspace beside it", blame.what);
                return Ok(Outcome::ToolFailed { message });
            }
            message.push_str(&format!("; {}: try `--workspace linked`", blame.what));
        }
        if let Outcome::StageFailed { stage, message } = &mut outcome {
            message.extend(killed.map(out_of_memory));
            message.extend(first::missed(self.bench.sources, &self.log_path)?);
            message.extend(left_running::missed(self.bench.sources.run, self.item, stage));
            message.extend(stdin::missed(self.bench.stdin, &first::last_words(&self.log_path)?));
        }
        Ok(outcome)
    }

    /// What the stages have used so far.
    fn usage(&self) -> Usage {
        let seconds = clock::seconds_between(&self.started, &clock::now());
        usage::of(self.bench.memory.as_ref(), &self.item.resources, self.cpu_before, seconds)
    }

    /// Publishes that data did not come or did not go: nobody can do anything with what stages have made, if they ran.
    fn without_data(&self, item: &WorkItem, error: &Diagnostic) -> Result<Outcome, Diagnostic> {
        self.say(&text::render_error(error));
        let outcome = Outcome::ToolFailed { message: error.one_line() };
        let stages = item.stages.iter().map(|stage| StageResult::not_run(&stage.address)).collect();
        self.publish(self.draft()?, &outcome, Left { stages, ..Left::default() }, false, String::new())?;
        Ok(outcome)
    }

    /// Publishes the result.
    fn publish(
        &self,
        draft: Draft,
        outcome: &Outcome,
        left: Left,
        in_project: bool,
        dvc: String,
    ) -> Result<(), Diagnostic> {
        let (run, index) = (self.bench.sources.run, self.item.index);
        let result = WorkResult {
            version: VERSION,
            run: self.bench.sources.plan.run.clone(),
            index,
            id: self.item.id.clone(),
            attempt: self.attempt.number,
            outcome: outcome.clone(),
            stages: left.stages,
            files: left.files,
            partial: left.partial,
            persisted: left.persisted,
            modes: left.modes,
            empty: left.empty,
            deleted: left.deleted,
            gone: left.gone,
            ignore: left.ignore,
            difference: left.difference,
            in_project,
            usage: Some(self.usage()),
            moved: left.moved,
            traffic: None,
            slurm: usage::slurm_task(),
            dvc,
            host: process::host(),
            started: self.started.clone(),
            finished: clock::now(),
        };
        let is_published = draft.publish(&result, self.bench.durability)?;
        if !is_published && !results::is_done(run, index)? {
            let place = run.attempt(index, self.attempt.number);
            return Err(Diagnostic::tool(format!("something else is where the result belongs: `{}`", place.display())));
        }
        Ok(())
    }
}

/// The cache objects that a work item needs.
fn inputs(item: &WorkItem, sources: &Sources<'_>) -> Result<Vec<Object>, Diagnostic> {
    let mut objects = vec![];
    for input in &item.inputs {
        match input {
            Input::Cache { .. } => objects.extend(input.object()),
            Input::Result { index, stage, out, path, .. } => {
                let Some(published) = results::best(sources.run, *index)? else { continue };
                // What DVC does not cache comes with the result itself.
                let comes_with_it = published.files_of(stage, path, None).any(|file| !file.hidden);
                let recorded = published.recorded_out(stage, out).filter(|_| !comes_with_it);
                objects.extend(recorded.as_ref().and_then(Object::recorded));
            }
            Input::Snapshot { .. }
            | Input::Workspace { .. }
            | Input::Link { .. }
            | Input::OddNames { .. }
            | Input::Lock { .. } => {}
        }
    }
    Ok(objects)
}

/// Brings what may be needed, and what stages are restored from; where that does not come, their commands run.
fn fetch_what_is_there(transfer: &Transfer<'_>, begun: &Begun<'_>, objects: Vec<Object>) {
    let from = || begun.item.stages.iter().filter_map(|stage| stage.from.as_ref());
    let objects: Vec<Object> = from().flat_map(|from| from.objects.clone()).chain(objects).collect();
    let runs: Vec<RunName> = from().filter_map(|from| from.run.clone()).collect();
    if let Err(error) = transfer.fetch_with_runs(objects, &runs) {
        begun.say(&format!("what an earlier run left did not come: {}", error.one_line()));
    }
}

/// The cache objects that good stages left; of outs that DVC does not cache, those that its run cache holds.
fn outs(item: &WorkItem, stages: &[StageResult], sources: &Sources<'_>) -> Vec<Object> {
    let outs = item.stages.iter().flat_map(|stage| stage.outs.iter().map(move |out| (stage, out)));
    let objects = outs.filter_map(|(stage, out)| {
        let object = Object::recorded(&published::recorded_out(stages, &stage.address, &out.path)?)?;
        (out.cache || object.is_in(sources.placing.cache)).then_some(object)
    });
    objects.collect()
}

/// How the attempt ended, by what became of the stages.
fn outcome(item: &WorkItem, ran: &Ran) -> Outcome {
    let ending = match &ran.stopped {
        Stopped::TimedOut(seconds) => return Outcome::TimedOut { seconds: *seconds, with_its_job: false },
        Stopped::Signalled(signals::TIME_IS_UP) => {
            return Outcome::Interrupted { message: "stopped because the time limit of its job was near".to_owned() };
        }
        Stopped::Signalled(signal) => return Outcome::Interrupted { message: format!("stopped by signal {signal}") },
        Stopped::Ended(_) if ran.stopped.is_success() => return Outcome::Succeeded,
        Stopped::Ended(ending) => ending,
    };
    let failed = item.stages.iter().zip(&ran.stages).find(|(_, end)| end.state == StageState::Failed);
    match failed {
        Some((stage, end)) => {
            let (stage, message) = (stage.address.clone(), end.message.clone().unwrap_or_default());
            if end.is_own_failure {
                Outcome::ToolFailed { message: format!("stage `{stage}`: {message}") }
            } else {
                Outcome::StageFailed { stage, message }
            }
        }
        None => Outcome::ToolFailed {
            message: match &ran.error {
                Some(error) => format!("`dvc repro` {ending}: {error}"),
                None => format!("`dvc repro` {ending}"),
            },
        },
    }
}

/// How an attempt ended some of whose stages could not run.
fn with_blocked(outcome: Outcome, item: &WorkItem, blocked: &Blocked) -> Outcome {
    match (outcome, blocked.stages.first()) {
        (Outcome::Succeeded, Some(&first)) => Outcome::StageFailed {
            stage: item.stages[first].address.clone(),
            message: "did not run because what it needs was not made".to_owned(),
        },
        (outcome, _) => outcome,
    }
}

/// What to add to the failure of a command during which the kernel ended a process.
fn out_of_memory(memory: &MemoryGroup) -> String {
    let limit =
        memory.limit().map_or_else(String::new, |limit| format!(" at the limit of {}", memory::quantity(limit)));
    format!("; out of memory: the kernel ended a process{limit}")
}
