//! From the flags to what the engine keeps to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::adapters::{file_system, fs, process};
use crate::model::numbers::ItemIndex;
use serde_json::Value as Json;

use crate::diagnostic::Diagnostic;
use crate::dvc::config::LinkType;
use crate::engine::args::RunningArgs;
use crate::engine::remote::classes::digest;
use crate::engine::remote::files::RunFiles;
use crate::engine::slurm::args::{Args, CancelArgs, Settle};
use crate::engine::slurm::cluster::Slurm;
use crate::engine::slurm::limits::Limits;
use crate::engine::slurm::output::Output;
use crate::engine::slurm::record::Record;
use crate::engine::slurm::seen::{self, Line};
use crate::engine::slurm::{SlurmConfig, SlurmEngine, end, script};
use crate::engine::{Flags, Scene};
use crate::env;
use crate::model::duration::Limit;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::worklist;

const DEFAULT_POLL: Duration = Duration::from_secs(30);
const DEFAULT_LIMIT: Duration = Duration::from_mins(15);
/// What a worker takes that is told to end: its stage has some seconds, and then it publishes.
const PUBLISHING: Duration = Duration::from_secs(20);
/// How many seconds before its time limit a worker is told to end.
const SIGNAL: u64 = 120;
/// How many of them are the worker's own.
const LAST_STEPS: u64 = 60;
/// The fewest that a command has.
const GRACE: u64 = 10;
/// The word for workspaces on the project's file system.
const SHARED: &str = "shared";
/// Where workspaces lie unless said otherwise.
const SCRATCH: &str = "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}";

impl Flags for Args {
    const NAME: &'static str = "slurm";
    const CALLED: &'static str = "the Slurm engine";
    type Engine = SlurmEngine;
    type Cancel = CancelArgs;

    fn resolve(&self, scene: &Scene<'_>) -> Result<SlurmEngine, Diagnostic> {
        scene.running.refuse_stdin(Self::CALLED)?;
        let files = RunFiles::new(scene.run, Self::NAME, Json::Null).over(scene.mailbox, scene.plan);
        Ok(SlurmEngine::new(config(self, scene)?, scene.run, files, &scene.project.root))
    }

    /// Cancels the arrays that nobody watches.
    async fn cancel(&self, run: &RunDir, _plan: &Plan) -> Result<Vec<String>, Diagnostic> {
        let files = RunFiles::new(run, Self::NAME, Json::Null);
        let arrays = Record::open(&files)?;
        let Some((_, first)) = arrays.first() else { return Ok(vec![]) };
        let slurm = Slurm::new(self.clusters.clone().or_else(|| first.clusters.clone()), "/".into());
        // Nothing but how long tasks may take to end depends on it.
        let limits = Limits::of(&slurm.configuration().await.unwrap_or_default());
        end::all(&slurm, &arrays, limits.kill_wait).await?;
        for (name, _) in &arrays {
            files.close_job(name)?;
        }
        Ok(arrays.into_iter().map(|(name, _)| name).collect())
    }

    /// Cancels what waits of the arrays that nobody watches, and waits for the rest of them.
    async fn drain(&self, run: &RunDir, limit: Duration) -> Result<Vec<String>, Diagnostic> {
        let files = RunFiles::new(run, Self::NAME, Json::Null);
        let arrays = Record::open(&files)?;
        let Some((_, first)) = arrays.first() else { return Ok(vec![]) };
        let slurm = Slurm::new(self.clusters.clone().or_else(|| first.clusters.clone()), "/".into());
        end::drained(&slurm, &arrays, limit).await?;
        for (name, _) in &arrays {
            files.close_job(name)?;
        }
        Ok(arrays.into_iter().map(|(name, _)| name).collect())
    }

    async fn queued(&self, run: &RunDir) -> Result<Vec<String>, Diagnostic> {
        let files = RunFiles::new(run, Self::NAME, Json::Null);
        let arrays = Record::open(&files)?;
        let Some((_, first)) = arrays.first() else { return Ok(vec![]) };
        let slurm = Slurm::new(self.clusters.clone().or_else(|| first.clusters.clone()), "/".into());
        let names: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
        let lines = slurm.list(&names).await?;
        let own = |name: &str, record: &Record| {
            let own: Vec<&Line> = lines.iter().filter(|line| line.name == name && record.owns(line)).collect();
            format!("{name}: {}", seen::summary(&own))
        };
        Ok(arrays.iter().map(|(name, record)| own(name, record)).collect())
    }

    async fn examine(&self, project: &ProjectHome) -> Result<Option<String>, Diagnostic> {
        let slurm = Slurm::new(self.clusters.clone(), project.root.clone());
        let configuration = slurm.configuration().await?;
        let mut limits = Limits::of(&configuration);
        let value = |key: &str| configuration.get(key).map_or("?", String::as_str);
        limits.look_at(&slurm.partitions().await?, self)?;
        let accounting = if limits.has_accounting { "with accounting" } else { "without accounting" };
        let memory = if limits.confines_memory { "limited" } else { "not limited, because there are no cgroups" };
        let mut said = format!(
            "Slurm {} of `{}`, {accounting}, arrays of up to {} tasks, memory of tasks is {memory}",
            value("SLURM_VERSION"),
            value("ClusterName"),
            limits.array_size,
        );
        if limits.kill_wait < PUBLISHING {
            let seconds = limits.kill_wait.as_secs();
            said.push_str(&format!(
                "; tasks that are ended have {seconds} s (KillWait), which may be too short to publish what they did"
            ));
        }
        if let Some(kind) = file_system::of(&project.root) {
            let locks =
                if kind.has_local_locks { ", where locks may hold on one machine only: claims are used" } else { "" };
            said.push_str(&format!("; the project is on {}{locks}", kind.name));
        }
        Ok(Some(said))
    }
}

/// Looks up what was meant.
fn config(args: &Args, scene: &Scene<'_>) -> Result<SlurmConfig, Diagnostic> {
    let Scene { project, plan, running, .. } = *scene;
    if let Some((word, taken)) = args.sbatch_options.iter().find_map(|word| Some((word, script::taken(word)?))) {
        return Err(Diagnostic::usage(format!("`--sbatch-arg={word}` cannot be given"))
            .cause(format!("`{taken}` has a meaning for the engine itself")));
    }
    let root = project.root.display().to_string();
    let program = match &args.job_program {
        Some(program) => program.clone(),
        None => process::own_path()
            .map_err(|error| Diagnostic::tool("cannot tell where this program is").source(&error))?
            .display()
            .to_string(),
    };
    let scratch = scratch(args, scene)?;
    let commands =
        |flag: &'static str, text: &Option<String>| text.as_ref().map(|text| commands(flag, text)).transpose();
    let (prologue, epilogue) = (commands("prologue", &args.prologue)?, commands("epilogue", &args.epilogue)?);
    let items = worklist::read_all(scene.run)?;
    let timeouts: BTreeMap<ItemIndex, u64> =
        items.iter().filter_map(|item| Some((item.index, item.resources.timeout?.as_secs()))).collect();
    let folder_of = |program: &str| Path::new(program).parent().map(|folder| folder.display().to_string());
    let shared = [root.clone(), project.config.cache_dir.clone()].map(|path| scene.mailbox.is_none().then_some(path));
    let binds = shared.into_iter().chain([folder_of(&program)]);
    let (signal, grace) = ending(args)?;
    let max_failed = running.max_failed(plan.work_items);
    Ok(SlurmConfig {
        args: args.clone(),
        run: plan.run.clone(),
        project: root,
        program,
        scratch,
        binds: binds.flatten().filter(|path| Path::new(path).is_absolute()).collect(),
        link: args.job_link.as_deref().map(links).transpose()?,
        output: args.job_output.as_deref().map_or(Ok(Output::default()), Output::read)?,
        prologue,
        epilogue,
        path: env::read_text(env::PATH),
        arguments: arguments(args, running),
        variables: args.job_env.iter().map(|variable| variable_of(variable)).collect::<Result<_, _>>()?,
        timeout: running.timeout.map(|limit| limit.0),
        timeouts,
        nice: running.nice,
        signal,
        grace,
        workspace: running.workspace,
        jobs: running.jobs.map(usize::from),
        // Somebody has to count failures while there is something left to end.
        settle: match max_failed {
            Some(_) => Settle::EachPhase,
            None => args.settle.unwrap_or_default(),
        },
        groups: running.groups(),
        max_failed,
        retries: running.retries,
        store: scene.mailbox.map(|mailbox| mailbox.url().to_owned()),
        leaves: scene.detach && scene.mailbox.is_some(),
        poll: args.poll.map_or(DEFAULT_POLL, |limit: Limit| limit.0),
        outage_limit: args.outage_limit.map_or(DEFAULT_LIMIT, |limit| limit.0),
        pending_limit: args.pending_limit.map_or(DEFAULT_LIMIT, |limit| limit.0),
    })
}

/// How many seconds before the time limit a worker is told to end, and how many of them its command has.
fn ending(args: &Args) -> Result<(u64, u64), Diagnostic> {
    let asked = args.job_grace.map(Limit::seconds);
    let signal = args.signal.map_or_else(|| SIGNAL.max(asked.unwrap_or(0) + LAST_STEPS), u64::from);
    let grace = asked.unwrap_or_else(|| signal.saturating_sub(LAST_STEPS).max(GRACE));
    if asked.is_some() && grace + GRACE > signal {
        return Err(Diagnostic::usage(format!("`--job-grace {grace}s` does not go with `--signal {signal}`"))
            .cause(format!("a worker is told to end {signal} s before the time limit, and has to publish as well"))
            .hint(format!("leave `--signal` out, or make it at least {}", grace + LAST_STEPS)));
    }
    Ok((signal, grace))
}

/// A list of links as DVC has it.
fn links(text: &str) -> Result<String, Diagnostic> {
    let types = LinkType::list(text).ok_or_else(|| {
        Diagnostic::usage(format!("`--job-link {text}` is no list of links"))
            .hint("it takes reflink, hardlink, symlink and copy, as DVC's `cache.type` does: `--job-link symlink`")
    })?;
    Ok(types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","))
}

/// Where slots lie, with variables for the shell; `None` for the project's own.
fn scratch(args: &Args, scene: &Scene<'_>) -> Result<Option<String>, Diagnostic> {
    let (uid, _) = process::user();
    match (args.job_scratch.as_deref(), scene.mailbox) {
        (Some(SHARED), Some(_)) => Err(Diagnostic::usage("`--job-scratch shared` does not go with `--store`")
            .cause("nodes see no folder of the project then")
            .hint("name a folder of the nodes, or leave it out")),
        (Some(SHARED), None) => Ok(None),
        // What a task brings from the store goes with it.
        (folder, Some(_)) => Ok(Some(format!("{}/dvc-fanout-{uid}/$SLURM_JOB_ID", folder.unwrap_or(SCRATCH)))),
        (folder, None) => {
            // Slots of different projects have nothing in common.
            let project: String = digest(&scene.project.root.display().to_string()).chars().take(8).collect();
            Ok(Some(format!("{}/dvc-fanout-{uid}/{project}", folder.unwrap_or(SCRATCH))))
        }
    }
}

/// The flags that say what these say, but for what only concerns whoever hands the launch over.
fn arguments(args: &Args, running: &RunningArgs) -> Vec<String> {
    // Values of variables are in a file that only the user may read; their names suffice.
    let job_env = args.job_env.iter().map(|variable| variable.split('=').next().unwrap_or_default().to_owned());
    let args = Args {
        then: None,
        settle: None,
        controller_time: None,
        controller_partition: None,
        job_env: job_env.collect(),
        ..args.clone()
    };
    let flags = [serde_json::to_value(args), serde_json::to_value(running)];
    let entries = flags.into_iter().flatten().filter_map(|flags| match flags {
        Json::Object(entries) => Some(entries),
        _ => None,
    });
    let mut words = vec![];
    for (name, value) in entries.flatten() {
        let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match &value {
            Json::Bool(true) => words.push(format!("--{name}")),
            Json::Bool(false) | Json::Null => {}
            Json::Array(values) => words.extend(values.iter().map(|value| format!("--{name}={}", text(value)))),
            Json::Number(_) | Json::String(_) | Json::Object(_) => words.push(format!("--{name}={}", text(&value))),
        }
    }
    words
}

/// The text of a file, where it names one, else the text itself.
fn commands(flag: &str, text: &str) -> Result<String, Diagnostic> {
    let path = Path::new(text);
    if text.contains('\n') || !path.is_file() {
        return Ok(text.to_owned());
    }
    String::from_utf8(fs::read(path)?)
        .map_err(|error| Diagnostic::usage(format!("the {flag} `{text}` is not UTF-8 text")).source(&error))
}

/// `NAME=VALUE`, or a name whose value is taken from here.
fn variable_of(text: &str) -> Result<(String, String), Diagnostic> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, env::read_text(text)),
    };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Diagnostic::usage(format!("`--job-env {text}` does not begin with the name of a variable")));
    }
    let value = value.ok_or_else(|| {
        Diagnostic::usage(format!("the variable `{name}` is to be passed to tasks, but it is not set here"))
            .hint(format!("set it, or give its value: `--job-env {name}=…`"))
    })?;
    Ok((name.to_owned(), value))
}
