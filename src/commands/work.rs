//! `work`: one work item in a slot's workspace, from its line in the worklist to a published result.

mod check;
mod harvest;
mod repro;
mod runner;
mod serve;

use std::path::Path;
use std::time::Duration;

use crate::adapters::clock;
use crate::adapters::dvc::{Dvc, ReproLog};
use crate::adapters::fs;
use crate::adapters::memory::{self, MemoryGroup};
use crate::adapters::process::{self, Ending};
use crate::cli::Cli;
use crate::cli::work::WorkArgs;
use crate::commands::transfer::{Object, Transfer};
use crate::commands::work::harvest::Left;
use crate::commands::work::repro::Scene;
use crate::commands::work::runner::{Place, Runner, Stopped};
use crate::diagnostic::Diagnostic;
use crate::env;
use crate::exit::Exit;
use crate::model::duration::Limit;
use crate::output::text;
use crate::state::dvc_version::DvcVersion;
use crate::state::format::{self, Input, Outcome, Plan, StageResult, StageState, VERSION, WorkItem, WorkResult};
use crate::state::home::ProjectHome;
use crate::state::paths::{RunDir, SlotDir};
use crate::state::results::{self, Draft};
use crate::state::shards;
use crate::state::worklist;
use crate::state::workspace::{Placing, Sources, Workspace};

/// The most slots that a worker without a number tries.
const MAX_SLOTS: usize = 10_000;

/// What was meant: the work items to do, one after another.
struct WorkConfig {
    run: RunDir,
    plan: Plan,
    indexes: Vec<usize>,
}

pub(crate) fn run(cli: &Cli, args: &WorkArgs) -> Result<Exit, Diagnostic> {
    if let Some(parent) = args.parent {
        process::tie_to(parent).map_err(|error| Diagnostic::tool("cannot tell when to end").source(&error))?;
    }
    let mut project = ProjectHome::find(cli.directory.as_deref())?;
    if let Some(cache) = &args.cache_dir {
        project.config.cache_dir = cache.to_string_lossy().into_owned();
    }
    if args.check {
        return check::run(&project, args);
    }
    let config = resolve(&project, args)?;
    let (git, _) = project.git()?;
    let dvc = Dvc::find()?;
    let slots = args.scratch.clone().unwrap_or_else(|| project.fanout().slots());
    let slots = std::path::absolute(&slots).unwrap_or(slots);
    let (slot, _lock) = take_slot(&slots, args)?;
    let texts = project.worker_config(&slot.workspace().join(&config.plan.prefix))?;
    let sources = Sources {
        plan: &config.plan,
        run: &config.run,
        git: &git,
        project: &project.root,
        placing: Placing { cache: Path::new(&project.config.cache_dir), links: &project.config.cache_types },
        config: (&texts.0, &texts.1),
    };
    // What a pod finds in the project may be of a program that only looks like its own.
    let file = args.scratch.as_ref().map(|scratch| scratch.join("dvc-version"));
    let file = file.unwrap_or_else(|| project.fanout().dvc_version());
    let version = DvcVersion::new(file);
    let transfer = Transfer { dvc: &dvc, project: &project, scratch: &slots };
    let transfer = args.use_remote.then_some(&transfer);
    let do_one = |index: usize, args: &WorkArgs, runner: &mut Runner| {
        if results::best(&config.run, index)?.is_some_and(|published| published.succeeded()) {
            text::note(&format!("work item {index} is done already"));
            return Ok(Outcome::Succeeded);
        }
        let item = worklist::read_one(&config.run, &config.plan, index)?;
        let worker =
            Worker { sources: &sources, dvc: &dvc, version: &version, transfer, item: &item, slot: &slot, args };
        worker.run(runner)
    };
    // One work item is not worth a DVC that stays loaded.
    let is_wanted = env::read(env::DVC_FANOUT_WARM).is_none_or(|value| value != "0");
    let mut runner = Runner::new(is_wanted && (args.serve || config.indexes.len() > 1))?;
    if args.serve {
        return serve::run(&config.run, runner, do_one);
    }
    let mut exit = Exit::Success;
    for &index in &config.indexes {
        let outcome = do_one(index, args, &mut runner)?;
        exit = worse(exit, &outcome);
        if let Some(asked) = runner.asked() {
            exit = Exit::Signal(asked.signal());
        }
        if matches!(exit, Exit::Signal(_)) || (args.stop_at_failure && exit != Exit::Success) {
            break;
        }
    }
    Ok(exit)
}

/// Looks up which work items are meant: the argument, else the index of a Job or array job; with `--shards`, the index
/// is that of a shard.
fn resolve(project: &ProjectHome, args: &WorkArgs) -> Result<WorkConfig, Diagnostic> {
    let (run, plan) = worklist::open(&project.fanout(), args.run.as_deref())?;
    if args.serve {
        return Ok(WorkConfig { run, plan, indexes: vec![] });
    }
    let from_environment = || {
        [env::JOB_COMPLETION_INDEX, env::SLURM_ARRAY_TASK_ID]
            .into_iter()
            .find_map(|name| env::read_text(name).map(|value| (name, value)))
    };
    let index = match (args.index, from_environment()) {
        (Some(index), _) => index,
        (None, Some((name, value))) => value
            .parse()
            .map_err(|_| Diagnostic::usage(format!("{name} is `{value}`, which is no index of a work item")))?,
        (None, None) => {
            return Err(Diagnostic::usage("no work item was named")
                .hint("give its index: `dvc-fanout work INDEX`")
                .hint(format!("or set {} or {}", env::JOB_COMPLETION_INDEX, env::SLURM_ARRAY_TASK_ID)));
        }
    };
    let out_of_range = |what: &str, count: usize| {
        Diagnostic::usage(format!("there is no {what} {index}: there are {count}, counted from 0"))
    };
    let phase = match args.phase {
        Some(phase) => Some(plan.phases.get(phase).ok_or_else(|| {
            Diagnostic::usage(format!("there is no phase {phase}: the run has {}", plan.phases.len()))
        })?),
        None => None,
    };
    if let Some(job) = &args.job {
        let indexes = job_indexes(&run, job, index)?;
        return Ok(WorkConfig { run, plan, indexes });
    }
    let range = phase.map_or(0..plan.work_items, format::Phase::indexes);
    let indexes: Vec<usize> = match args.shards {
        Some(shards) if index >= shards => return Err(out_of_range("shard", shards)),
        Some(shards) => range.skip(index).step_by(shards).collect(),
        None if index >= plan.work_items => return Err(out_of_range("work item", plan.work_items)),
        None => vec![index],
    };
    Ok(WorkConfig { run, plan, indexes })
}

/// The work items of a shard of a cluster Job that are to be done (again).
///
/// A shard is tried again as a whole; a work item whose command failed in an earlier try is left alone then, unless
/// such are to be tried again.
fn job_indexes(run: &RunDir, job: &str, shard: usize) -> Result<Vec<usize>, Diagnostic> {
    let shards = shards::read(run, job)?.ok_or_else(|| {
        Diagnostic::project(format!("the run's directory does not know the Job `{job}`"))
            .cause("this machine sees another copy of the run than the launcher, or an old state of it")
    })?;
    if shard >= shards.count {
        return Err(Diagnostic::usage(format!("there is no shard {shard} of the Job: there are {}", shards.count)));
    }
    let mut indexes = vec![];
    for item in shards.of(shard) {
        let has_failed = |published: &results::Published| {
            published.result.attempt >= item.attempt
                && matches!(published.result.outcome, Outcome::StageFailed { .. } | Outcome::TimedOut { .. })
        };
        if shards.retry_commands || !results::best(run, item.index)?.as_ref().is_some_and(has_failed) {
            indexes.push(item.index);
        }
    }
    Ok(indexes)
}

/// Takes the slot with a number, or the first free one.
fn take_slot(slots: &Path, args: &WorkArgs) -> Result<(SlotDir, fs::Locked), Diagnostic> {
    // Workspaces hold the settings of `.dvc/config.local`.
    fs::create_private_dir(slots)?;
    let numbers = args.slot.map_or(args.slot_from..MAX_SLOTS, |slot| slot..slot + 1);
    for number in numbers {
        let slot = SlotDir::new(slots, number);
        if let Some(lock) = fs::try_lock(&slot.lock())? {
            return Ok((slot, lock));
        }
        if args.slot.is_some() {
            let holder = fs::lock_holder(&slot.lock()).map_or_else(String::new, |id| format!(" by process {id}"));
            return Err(Diagnostic::tool(format!("slot {number} is in use{holder}"))
                .hint("leave `--slot` out to take a free one"));
        }
    }
    Err(Diagnostic::tool(format!("all {MAX_SLOTS} slots are in use")))
}

/// What to add to the failure of a command during which the kernel ended a process.
fn out_of_memory(memory: &MemoryGroup) -> String {
    let limit =
        memory.limit().map_or_else(String::new, |limit| format!(" at the limit of {}", memory::quantity(limit)));
    format!("; out of memory: the kernel ended a process{limit}")
}

/// DVC does not start for this user: no other try helps, but another environment does.
fn nameless_user(error: &str) -> Diagnostic {
    let (user, _) = process::user();
    Diagnostic::project(format!("DVC does not start for user {user}"))
        .cause(error)
        .cause("it asks for the user's name and home directory, which the system does not know of this user id")
        .hint("set USER to any name and HOME to a folder that this user may write to")
}

/// The worse of an exit so far and that of another outcome.
fn worse(exit: Exit, outcome: &Outcome) -> Exit {
    let own = match outcome {
        Outcome::Succeeded => Exit::Success,
        Outcome::StageFailed { .. } | Outcome::TimedOut { .. } => Exit::WorkItemsFailed,
        Outcome::ToolFailed { .. } => Exit::Tool,
        Outcome::Interrupted { .. } => Exit::Signal(15),
    };
    match (exit, own) {
        (Exit::Success, own) => own,
        (Exit::WorkItemsFailed, own) if own != Exit::Success => own,
        (exit, _) => exit,
    }
}

/// One attempt at one work item.
struct Worker<'a> {
    sources: &'a Sources<'a>,
    dvc: &'a Dvc,
    version: &'a DvcVersion,
    /// Where the cache is this machine's own.
    transfer: Option<&'a Transfer<'a>>,
    item: &'a WorkItem,
    slot: &'a SlotDir,
    args: &'a WorkArgs,
}

impl Worker<'_> {
    fn run(&self, runner: &mut Runner) -> Result<Outcome, Diagnostic> {
        let run = self.sources.run;
        let index = self.item.index;
        let attempt = match self.args.attempt {
            Some(attempt) => attempt,
            None => results::next_attempt(run, index)?,
        };
        let started = clock::now();
        let limit = Duration::from_secs(self.timeout_seconds().unwrap_or(u64::MAX));
        let dvc_version = self.version.of(self.dvc, limit)?;
        self.version.remember(self.dvc)?;
        let log_path = run.log(index, attempt);
        let log = fs::append(&log_path)?;
        let mut workspace = Workspace::open(self.slot.clone(), self.sources)?;
        if let Some(transfer) = self.transfer {
            transfer.fetch(self.inputs()?)?;
        }
        let place = Place { directory: &workspace.root(), log: &log, nice: self.args.nice };
        runner.prepare(self.dvc, self.slot, &self.program(None), &place);
        if let Err(error) = workspace.fill(self.item, self.sources) {
            // The disk may be full, and others write to it.
            drop(workspace.discard());
            return Err(error.into());
        }
        let memory = MemoryGroup::find();
        let kills_before = memory.as_ref().map_or(0, MemoryGroup::kills);
        let scene = Scene { workspace: &workspace, log: &log, log_path: &log_path };
        let (ending, said) = self.repro(&scene, runner)?;
        if let Some(error) = said.nameless_user().filter(|_| !ending.is_success()) {
            return Err(nameless_user(error));
        }
        let draft = Draft::begin(run, index, attempt)?;
        let (outcome, left) = match self.harvest(&mut workspace, &draft, &ending, &said) {
            Ok(left) => {
                let mut outcome = Self::outcome(&ending, &said, &left.stages);
                if let (Outcome::StageFailed { message, .. }, Some(memory)) = (&mut outcome, &memory)
                    && memory.kills() > kills_before
                {
                    message.push_str(&out_of_memory(memory));
                }
                (outcome, left)
            }
            // A command may have removed the workspace itself: the attempt failed, and says why.
            Err(error) => {
                let is_gone = !workspace.root().is_dir();
                let gone = "its workspace was removed while the stages ran".to_owned();
                (Outcome::ToolFailed { message: if is_gone { gone } else { error.one_line() } }, Left::default())
            }
        };
        if let Some(transfer) = self.transfer {
            transfer.push(self.outs(&left.stages))?;
        }
        let result = WorkResult {
            version: VERSION,
            run: self.sources.plan.run.clone(),
            index,
            id: self.item.id.clone(),
            attempt,
            outcome: outcome.clone(),
            stages: left.stages,
            files: left.files,
            partial: left.partial,
            deleted: left.deleted,
            ignore: left.ignore,
            dvc: dvc_version,
            host: process::host(),
            started,
            finished: clock::now(),
        };
        let is_published = draft.publish(&result)?;
        if !is_published && !results::best(run, index)?.is_some_and(|published| published.succeeded()) {
            let place = run.attempt(index, attempt);
            return Err(Diagnostic::tool(format!(
                "something else lies where the result belongs: `{}`",
                place.display()
            )));
        }
        // A workspace that cannot be reset is made anew by the next work item; this result stands.
        if workspace.reset().is_ok() {
            workspace.mark_clean(self.sources.plan)?;
        }
        Ok(outcome)
    }

    /// The cache objects that the work item needs.
    fn inputs(&self) -> Result<Vec<Object>, Diagnostic> {
        let mut objects = vec![];
        for input in &self.item.inputs {
            match input {
                Input::Cache { md5, legacy, .. } => objects.push(Object { md5: md5.clone(), legacy: *legacy }),
                Input::Result { index, stage, out, .. } => {
                    let published = results::best(self.sources.run, *index)?;
                    let recorded = published.and_then(|published| published.recorded_out(stage, out));
                    objects.extend(recorded.as_ref().and_then(Object::recorded));
                }
                Input::Snapshot { .. } | Input::Workspace { .. } | Input::Lock { .. } => {}
            }
        }
        Ok(objects)
    }

    /// The cache objects that good stages left; of outs that DVC does not cache, those that its run cache holds.
    fn outs(&self, stages: &[StageResult]) -> Vec<Object> {
        let outs = self.item.stages.iter().flat_map(|stage| stage.outs.iter().map(move |out| (stage, out)));
        let objects = outs.filter_map(|(stage, out)| {
            let object = Object::recorded(&results::recorded_out(stages, &stage.address, &out.path)?)?;
            (out.cache || object.is_in(self.sources.placing.cache)).then_some(object)
        });
        objects.collect()
    }

    /// How long the stages may take.
    fn timeout_seconds(&self) -> Option<u64> {
        self.args.timeout.map(Limit::seconds).or(self.item.resources.timeout_seconds)
    }

    fn outcome(stopped: &Stopped, said: &ReproLog, stages: &[StageResult]) -> Outcome {
        let failed = stages.iter().find(|stage| stage.state == StageState::Failed);
        match stopped {
            Stopped::TimedOut(seconds) => Outcome::TimedOut { seconds: *seconds },
            Stopped::Signalled(signal) => Outcome::Interrupted { message: format!("stopped by signal {signal}") },
            Stopped::Ended(Ending::Exited(0)) => Outcome::Succeeded,
            Stopped::Ended(ending) => match failed {
                Some(stage) => {
                    let (stage, message) = (stage.address.clone(), said.reason(&stage.address));
                    if said.is_own_failure(&stage) {
                        Outcome::ToolFailed { message: format!("stage `{stage}`: {message}") }
                    } else {
                        Outcome::StageFailed { stage, message }
                    }
                }
                None => Outcome::ToolFailed {
                    message: match &said.error {
                        Some(error) => format!("`dvc repro` {ending}: {error}"),
                        None => format!("`dvc repro` {ending}"),
                    },
                },
            },
        }
    }
}
