//! `work`: one work item in a slot's workspace, from its line in the worklist to a published result.

mod check;
mod serve;
mod turns;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::place::Placing;
use crate::adapters::git::Store;
use crate::adapters::memory::{MemoryGroup, RecentKills};
use crate::adapters::{fs, process};
use crate::cli::Cli;
use crate::cli::work::WorkArgs;
use crate::diagnostic::Diagnostic;
use crate::env;
use crate::exit::Exit;
use crate::model::duration::Limit;
use crate::model::executor::Executor as Choice;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::Outcome;
use crate::model::stdin::Stdin;
use crate::model::workspace_kind::WorkspaceKind;
use crate::output::text;
use crate::state::dvc_version::DvcVersion;
use crate::state::format::{self, Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::mailbox::{Mailbox, Site};
use crate::state::needs::Needed;
use crate::state::paths::{RunDir, SlotDir};
use crate::state::published::Published;
use crate::state::results::{self, Durability};
use crate::state::shards::{self, Shards};
use crate::state::worklist;
use crate::worker::check::Check;
use crate::worker::child::Watch;
use crate::worker::executor::Executor;
use crate::worker::executor::dvc::DvcExecutor;
use crate::worker::executor::native::{NativeExecutor, OnlyDvc};
use crate::worker::mounted::Mounting;
use crate::worker::transfer::Transfer;
use crate::worker::workspace::Sources;
use crate::worker::{self, Attempt, Bench};

/// The most slots that a worker without a number tries.
const MAX_SLOTS: usize = 10_000;
/// How long what a work item needs may be on its way through a shared file system.
const LAG_LIMIT: Duration = Duration::from_secs(70);
/// How long the object store may be away: what was computed is worth some waiting.
const PATIENCE: Duration = Duration::from_mins(10);
/// The same where somebody waits to hear whether it answers.
const CHECK_PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether it has come.
const LOOK: Duration = Duration::from_secs(1);

/// What was meant: the work items to do, one after another.
struct WorkConfig {
    run: RunDir,
    plan: Plan,
    indexes: Vec<ItemIndex>,
    /// Whether this process has begun a work item.
    has_begun: Cell<bool>,
    /// Whether it has waited in vain for what a work item needs.
    has_waited: Cell<bool>,
    /// All work items of the cluster Job that this is a part of.
    shards: Option<Shards>,
    /// Where this machine sees nothing of the launcher's.
    site: Option<Site>,
}

impl WorkConfig {
    fn new(run: RunDir, plan: Plan, indexes: Vec<ItemIndex>, site: Option<Site>) -> Self {
        let (has_begun, has_waited) = (Cell::new(false), Cell::new(false));
        WorkConfig { run, plan, indexes, has_begun, has_waited, shards: None, site }
    }
}

/// The project that is made of what is in an object store, where one is named.
fn site(cli: &Cli, args: &WorkArgs) -> Result<Option<Site>, Diagnostic> {
    let (Some(url), Some(run)) = (&args.store, &args.run) else { return Ok(None) };
    let mailbox = Mailbox::open(url, run, if args.check { CHECK_PATIENCE } else { PATIENCE })?;
    Ok(Some(Site::open(mailbox, cli.directory.as_deref().unwrap_or(Path::new(".")))?))
}

pub(crate) fn run(cli: &Cli, args: &WorkArgs) -> Result<Exit, Diagnostic> {
    if let Some(parent) = args.parent {
        process::tie_to(parent).map_err(|error| Diagnostic::tool("cannot tell when to end").source(&error))?;
    }
    let site = site(cli, args)?;
    let voice = site.as_ref().zip(args.job.as_deref()).map(|(site, job)| site.voice(job));
    let done = work(cli, args, site);
    if let (Err(error), Some(voice)) = (&done, voice) {
        // Where nobody sees what is printed here.
        drop(voice.say(&text::render_error(error)));
    }
    done
}

fn work(cli: &Cli, args: &WorkArgs, site: Option<Site>) -> Result<Exit, Diagnostic> {
    let mut project = match &site {
        Some(site) => ProjectHome::at(site.root())?,
        None => ProjectHome::find(cli.directory.as_deref())?,
    };
    if let Some(cache) = args.cache_dir.clone().or_else(|| site.as_ref().map(Site::cache)) {
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        project.config.cache_dir = cache.to_string_lossy().into_owned();
    }
    if let Some(links) = &args.link {
        project.link_by(links.0.clone());
    }
    if args.check {
        return check::run(&project, args, site.as_ref());
    }
    let config = resolve(&project, args, site)?;
    let choice = args.executor.unwrap_or(config.plan.options.executor);
    let (git, _) = project.git()?;
    let store = Store::open(&config.run.snapshot())?;
    // Where nothing is left to DVC, it need not be there.
    let dvc = Dvc::find();
    let slots = args.scratch.clone().unwrap_or_else(|| project.fanout().slots());
    let slots = std::path::absolute(&slots).unwrap_or(slots);
    let (slot, _lock) = take_slot(&slots, args)?;
    if args.check_first {
        let seen = check::first(&project, &config, args, &slots);
        seen.inspect_err(|_| drop(args.scratch.as_ref().map(|_| fs::remove(slot.path()))))?;
    }
    let kind = if args.in_project || choice.is_always_dvc() { WorkspaceKind::Linked } else { args.workspace };
    let mounting = Mounting::find(kind, &project, &config.plan.prefix)?;
    let texts = project.worker_config(&slot.workspace().join(&config.plan.prefix))?;
    let sources = Sources {
        plan: &config.plan,
        run: &config.run,
        git: &git,
        store: &store,
        project: &project.root,
        placing: Placing { cache: Path::new(&project.config.cache_dir), links: &project.config.cache_types },
        is_linked_otherwise: project.is_linked_otherwise,
        config: (&texts.0, &texts.1),
    };
    // What a pod finds in the project may be of a program that only looks like its own.
    let file = args.scratch.as_ref().map(|scratch| scratch.join("dvc-version"));
    let file = file.unwrap_or_else(|| project.fanout().dvc_version());
    let version = DvcVersion::new(file);
    let transfer = (args.use_remote || config.site.is_some()).then(|| Transfer::new(&project, &slots));
    transfer.iter().try_for_each(Transfer::check)?;
    let dvc = dvc.as_ref().ok();
    let fanout = project.fanout();
    let check = (choice == Choice::Check).then(|| Check::new(&project.config, &project.root, &version, &slot));
    let bench = Bench {
        sources: &sources,
        dvc,
        version: &version,
        transfer: transfer.as_ref(),
        check: check.as_ref(),
        slot: &slot,
        fanout: &fanout,
        mounting: mounting.as_ref(),
        last: RefCell::default(),
        memory: MemoryGroup::find(),
        kills: RecentKills::default(),
        // The launcher syncs what several workers have published, all at once.
        durability: if args.serve { Durability::Later } else { Durability::Now },
        stdin: args.stdin.as_ref(),
    };
    // One work item is not worth a DVC that stays loaded.
    let is_worth_it = args.serve || config.indexes.len() > 1;
    let is_wanted = env::read(env::DVC_FANOUT_WARM).is_none_or(|value| value != "0");
    let mut by_dvc = DvcExecutor::new(dvc, &version, is_wanted && is_worth_it && args.stdin.is_none());
    let mut native;
    let executor: &mut dyn Executor = match choice {
        Choice::Dvc | Choice::Check => &mut by_dvc,
        Choice::Auto | Choice::Native => {
            let only_dvc = if choice == Choice::Native { OnlyDvc::IsRefused } else { OnlyDvc::DoesIt };
            native = NativeExecutor::new(&project.config, &project.root, by_dvc, only_dvc);
            &mut native
        }
    };
    let mut watch = Watch::new(config.run.kept())?.with_last_grace(args.last_grace.map(|grace| grace.0));
    if args.serve {
        let is_inherited = args.stdin == Some(Stdin::Inherit);
        return serve::run(&config.run, is_inherited, &mut watch, |index, args, watch| {
            do_one(&config, &bench, index, args, executor, watch)
        });
    }
    let exit =
        turns::take(&config, args, |index, watch| do_one(&config, &bench, index, args, executor, watch), &mut watch);
    if args.scratch.is_some() {
        // It is on a disk of a machine that is others', too; the next worker there may never come.
        drop(fs::remove(slot.path()));
    }
    if let Some(site) = config.site.as_ref().filter(|_| args.job.is_some()) {
        drop(fs::remove(&slots));
        drop(site.remove());
    }
    exit
}

/// Makes an attempt at one work item, unless it is done already.
fn do_one(
    config: &WorkConfig,
    bench: &Bench<'_>,
    index: ItemIndex,
    args: &WorkArgs,
    executor: &mut dyn Executor,
    watch: &mut Watch,
) -> Result<Outcome, Diagnostic> {
    if let Some(site) = &config.site {
        site.bring_item(&config.plan, index)?;
        site.bring_attempts(index)?;
    }
    if results::is_done(&config.run, index)? {
        text::note(&format!("work item {index} is done already"));
        config.site.as_ref().map_or(Ok(()), |site| site.send(index))?;
        return Ok(Outcome::Succeeded);
    }
    if has_failed_before(config, index)? {
        return Ok(Outcome::Succeeded);
    }
    let item = worklist::read_one(&config.run, &config.plan, index)?;
    if let Some(job) = args.job.as_deref().filter(|_| args.if_ready)
        && !is_ready(config, &item, watch)?
    {
        text::note(&format!("work item {index} is left alone: what it needs is not there"));
        results::note_skipped(&config.run, index, job)?;
        return Ok(Outcome::Succeeded);
    }
    let number = match (&config.site, args.attempt) {
        (Some(site), first) => {
            site.bring_needs(&item)?;
            site.claim(index, first)?
        }
        (None, Some(attempt)) => attempt,
        (None, None) => results::claim_attempt(&config.run, index)?,
    };
    let environment: Vec<(OsString, OsString)> = args.environment().collect();
    let timeout_seconds = args.timeout.map(Limit::seconds).or(item.resources.timeout.map(|timeout| timeout.as_secs()));
    let is_first = !config.has_begun.replace(true);
    let attempt = Attempt { number, timeout_seconds, is_first, nice: args.nice, environment: &environment };
    if args.in_project {
        return worker::in_project(bench, &item, &attempt, executor, watch);
    }
    let logbook = config.site.as_ref().map(|site| site.keep_log(index, number));
    let outcome = worker::attempt(bench, &item, &attempt, executor, watch);
    drop(logbook);
    if let Some(site) = &config.site {
        // Also where it has no result: what was said tells why.
        if outcome.is_err() {
            drop(site.send_log(index, number));
        }
        site.send(index)?;
    }
    outcome
}

/// Whether what a work item needs is there, at least for some of its stages, after some time for a file system that lags behind.
fn is_ready(config: &WorkConfig, item: &WorkItem, watch: &mut Watch) -> Result<bool, Diagnostic> {
    let begun = Instant::now();
    loop {
        if let Some(site) = &config.site {
            item.needs.iter().try_for_each(|need| site.bring_attempts(*need))?;
        }
        let mut needed = Needed::default();
        let lacking = needed.lacking(&config.run, &config.plan, item)?;
        let mut may_come = false;
        for &need in &lacking {
            // Where there is a result, it is one that does not help; one that was left alone leaves none.
            may_come |=
                results::best(&config.run, need)?.is_none() && results::skipped_by(&config.run, need)?.is_none();
        }
        if !may_come || config.has_waited.get() || begun.elapsed() > LAG_LIMIT {
            config.has_waited.set(config.has_waited.get() || may_come);
            // Where some of its stages could run: whoever comes later knows whether the others ever will.
            return Ok(lacking.is_empty());
        }
        if watch.wait_for(async { tokio::time::sleep(LOOK).await }).is_err() {
            return Ok(false);
        }
    }
}

/// Looks up which work items are meant: the argument, else the index of a Job or array job; with `--shards`, the index
/// is that of a shard.
fn resolve(project: &ProjectHome, args: &WorkArgs, site: Option<Site>) -> Result<WorkConfig, Diagnostic> {
    let (run, plan) = worklist::open(&project.fanout(), args.run.as_deref())?;
    if args.serve {
        return Ok(WorkConfig::new(run, plan, vec![], site));
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
            .map_err(|_| Diagnostic::usage(format!("{name} is `{value}`, which is not the index of a work item")))?,
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
        site.as_ref().map_or(Ok(()), |site| site.bring_job(job))?;
        let shards = shards::read(&run, job)?.ok_or_else(|| {
            Diagnostic::project(format!("the run's directory does not know the Job `{job}`"))
                .cause("this machine sees another copy of the run than the launcher, or an old state of it")
        })?;
        if index >= shards.count {
            return Err(Diagnostic::usage(format!("there is no shard {index} of the Job: there are {}", shards.count)));
        }
        let indexes = shards.of(index).map(|item| item.index).collect();
        return Ok(WorkConfig { shards: Some(shards), ..WorkConfig::new(run, plan, indexes, site) });
    }
    let places = phase.map_or(0..plan.work_items, format::Phase::places);
    let indexes: Vec<ItemIndex> = match args.shards {
        Some(shards) if index >= shards => return Err(out_of_range("shard", shards)),
        Some(shards) => ItemIndex::each(places).skip(index).step_by(shards).collect(),
        None if index >= plan.work_items => return Err(out_of_range("work item", plan.work_items)),
        None => vec![ItemIndex::new(index)],
    };
    Ok(WorkConfig::new(run, plan, indexes, site))
}

/// Whether an earlier try of a cluster Job's shard found that the command of a work item fails: it is left alone then,
/// unless such are to be tried again.
fn has_failed_before(config: &WorkConfig, index: ItemIndex) -> Result<bool, Diagnostic> {
    let Some(shards) = config.shards.as_ref().filter(|shards| !shards.retry_commands) else { return Ok(false) };
    let first = shards.items.iter().find(|item| item.index == index).map_or(AttemptNumber::FIRST, |item| item.attempt);
    let has_failed = |published: &Published| {
        published.result.attempt >= first
            && matches!(published.result.outcome, Outcome::StageFailed { .. } | Outcome::TimedOut { .. })
    };
    Ok(results::best(&config.run, index)?.as_ref().is_some_and(has_failed))
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
