//! The Slurm engine: a phase becomes job arrays whose tasks run `dvc-fanout work` on a shared file system, or over an object
//! store.
//!
//! | file | |
//! |---|---|
//! | `args.rs`, `resolve.rs` | flags, and what they mean |
//! | `array.rs` | names and index lists; pure |
//! | `room.rs` | how limits are shared out over arrays; pure |
//! | `script.rs` | the script of an array and the words of its `sbatch`; pure |
//! | `refused.rs` | what `sbatch` says where it refuses |
//! | `seen.rs` | what `squeue` says, and what it means; pure |
//! | `cluster.rs` | the calls of Slurm's programs |
//! | `limits.rs` | what the cluster keeps to, and what it would never run |
//! | `pace.rs` | how often Slurm is asked |
//! | `record.rs` | what the run's directory remembers of an array |
//! | `deal.rs` | from tasks to arrays |
//! | `submit.rs` | submit an array once, or go on with the one that is there |
//! | `handover.rs` | submit everything at once, and a job that sees to it |
//! | `watch.rs` | watch arrays to their end |
//! | `nodes.rs` | nodes on which task after task fails |
//! | `waiting.rs` | what tasks wait for that have not started |
//! | `first.rs` | first tasks that get nowhere |
//! | `end.rs` | cancel arrays |
//! | `output.rs` | where tasks print |
//! | `outage.rs` | a controller that does not answer |
//!
//! What counts is what workers publish; Slurm only says when to look, and why there is nothing. Its word alone never
//! makes a work item succeed. Two attempts at a time, or one after a success, do no harm.

mod args;
mod array;
mod cluster;
mod deal;
mod end;
mod first;
mod handover;
mod limits;
mod nodes;
mod outage;
mod output;
mod pace;
mod record;
mod refused;
mod resolve;
mod room;
mod script;
mod seen;
mod submit;
mod waiting;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::engine::remote::files::RunFiles;
pub(crate) use crate::engine::slurm::args::Args;
use crate::engine::slurm::args::Settle;
use crate::engine::slurm::cluster::Slurm;
use crate::engine::slurm::deal::Dealer;
use crate::engine::slurm::first::Firsts;
use crate::engine::slurm::limits::Limits;
use crate::engine::slurm::nodes::Nodes;
use crate::engine::slurm::output::Output;
use crate::engine::slurm::record::Record;
use crate::engine::slurm::submit::Submitter;
use crate::engine::slurm::watch::{Over, Watch};
use crate::engine::{Channels, Engine, Failures, Flags as _, HandedOver, PhaseEnd};
use crate::env;
use crate::model::event::{Stop, Task};
use crate::model::nice::Nice;
use crate::model::numbers::ItemIndex;
use crate::model::run::Resources;
use crate::model::workspace_kind::WorkspaceKind;
use crate::state::paths::RunDir;
use crate::state::run_lock::RunLock;

/// Tries after the first where a tool failed, unless somebody says otherwise.
const DEFAULT_RETRIES: u32 = 2;

/// What the engine is asked to keep to.
#[derive(Clone, Debug)]
pub(crate) struct SlurmConfig {
    pub args: Args,
    pub run: String,
    /// The project's root.
    pub project: String,
    /// The worker's program.
    pub program: String,
    /// Where slots lie, with variables for the shell; `None` for the project's own.
    pub scratch: Option<String>,
    /// Folders that a container is to see.
    pub binds: Vec<String>,
    pub output: Output,
    /// The links by which workspaces get what is in the cache, if not the project's own.
    pub link: Option<String>,
    pub prologue: Option<String>,
    pub epilogue: Option<String>,
    /// Where the launcher finds programs.
    pub path: Option<String>,
    /// The flags by which a launcher in the cluster is the same as this one.
    pub arguments: Vec<String>,
    /// Variables for the tasks, which nobody else may read.
    pub variables: Vec<(String, String)>,
    /// Whatever work items say.
    pub timeout: Option<Duration>,
    /// Seconds that work items may take, of those that say so.
    pub timeouts: BTreeMap<ItemIndex, u64>,
    pub nice: Option<Nice>,
    /// How many seconds before its time limit a worker is told to end.
    pub signal: u64,
    /// How many of them a command has for its end.
    pub grace: u64,
    pub workspace: Option<WorkspaceKind>,
    /// Tasks at a time; `None` leaves it to the scheduler.
    pub jobs: Option<usize>,
    /// Who counts failures of a run that was handed over.
    pub settle: Settle,
    /// The number of work items of a group that may run at the same time.
    pub groups: BTreeMap<String, usize>,
    /// End what runs after this many work items have failed.
    pub max_failed: Option<usize>,
    /// Tries after the first, whatever work items say; a failed command is tried again as well.
    pub retries: Option<u32>,
    /// The object store of workers that see no folder of the launcher's.
    pub store: Option<String>,
    /// Submit the arrays of the next phase and leave them alone, where nothing in the cluster can go on with the run.
    pub leaves: bool,
    /// The longest pause between two questions.
    pub poll: Duration,
    pub outage_limit: Duration,
    pub pending_limit: Duration,
}

impl SlurmConfig {
    /// The tries after the first that were asked for work items; a failed command is tried again as well then.
    fn retries(&self, resources: &Resources) -> Option<u32> {
        self.retries.or(resources.retries)
    }
}

pub(crate) struct SlurmEngine {
    config: SlurmConfig,
    run: RunDir,
    files: RunFiles,
    slurm: Slurm,
    failures: Failures,
    limits: Option<Limits>,
}

impl SlurmEngine {
    fn new(config: SlurmConfig, run: &RunDir, files: RunFiles, root: &Path) -> Self {
        let slurm = Slurm::new(config.args.clusters.clone(), root.to_owned());
        let slurm = if config.store.is_some() { slurm.with(&config.variables) } else { slurm };
        let failures = Failures::up_to(config.max_failed);
        SlurmEngine { config, run: run.clone(), files, slurm, failures, limits: None }
    }

    /// Asks once what the cluster keeps to, and checks what can be checked before anything is submitted.
    async fn limits(&mut self) -> Result<Limits, Diagnostic> {
        if let Some(limits) = &self.limits {
            return Ok(limits.clone());
        }
        let mut limits = Limits::of(&self.slurm.configuration().await?);
        limits.look_at(&self.slurm.partitions().await?, &self.config.args)?;
        self.limits = Some(limits.clone());
        Ok(limits)
    }

    fn submitter<'a>(&'a self, limits: &'a Limits, phase: usize, channels: Channels) -> Submitter<'a> {
        let dealer = Dealer {
            config: &self.config,
            run: &self.run,
            files: &self.files,
            limits,
            phase,
            excluded: vec![],
            is_ahead: false,
        };
        Submitter { dealer, slurm: &self.slurm, channels, behind: vec![], is_patient: true }
    }
}

impl SlurmEngine {
    /// Ends what else is in the queue of a run that was handed over: later phases, and whatever launches it.
    async fn end_rest(&self, limits: &Limits) -> Result<(), Diagnostic> {
        let own = env::read_text(env::SLURM_JOB_ID).and_then(|id| id.parse::<u64>().ok());
        let mut arrays = Record::open(&self.files)?;
        // This process may be the job's own.
        arrays.retain(|(_, record)| !own.is_some_and(|own| record.ids.contains(&own)));
        end::all(&self.slurm, &arrays, limits.kill_wait).await?;
        for (name, _) in &arrays {
            self.files.close_job(name)?;
        }
        Ok(())
    }
}

impl Engine for SlurmEngine {
    async fn hand_over(&mut self, phases: Vec<(usize, Vec<Task>)>, lock: RunLock) -> Result<HandedOver, Diagnostic> {
        if self.config.leaves {
            return Ok(HandedOver::Here(lock));
        }
        Ok(HandedOver::There(self.submit_all(phases, lock).await?))
    }

    fn name(&self) -> &'static str {
        Args::NAME
    }

    fn unsettled(&self) -> Result<HashSet<ItemIndex>, Diagnostic> {
        let mut found = HashSet::new();
        for name in self.files.open_jobs()? {
            found.extend(self.files.shards(&name)?.into_iter().flat_map(|shards| shards.items).map(|item| item.index));
        }
        Ok(found)
    }

    fn draining(&self) -> &'static str {
        "interrupted: the arrays go on without this launcher (again: cancel them)"
    }

    async fn run_phase(
        &mut self,
        phase: usize,
        mut tasks: Vec<Task>,
        channels: Channels,
    ) -> Result<PhaseEnd, Diagnostic> {
        let limits = self.limits().await?;
        let _round = if self.config.leaves { None } else { self.files.bring_results() };
        let mut by_index: BTreeMap<ItemIndex, Task> = tasks.iter().map(|task| (task.index, task.clone())).collect();
        let mut submitter = self.submitter(&limits, phase, channels.clone());
        let mut arrays = submitter.adopt(&mut tasks).await?;
        let (mut nodes, mut firsts) = (Nodes::of(limits.nodes), Firsts::of(limits.nodes));
        // Each round is a generation of arrays; what was lost, or not come to, in one is the next one's.
        for round in 1.. {
            arrays.extend(submitter.submit(std::mem::take(&mut tasks), round).await?);
            if self.config.leaves {
                return Ok(PhaseEnd::Detached);
            }
            let taken = std::mem::take(&mut arrays);
            let mut watch = Watch::new(self, &limits, channels.clone(), (&mut nodes, &mut firsts), taken);
            match watch.run().await? {
                Over::Ended => {}
                Over::Stopped => return self.end_rest(&limits).await.map(|()| PhaseEnd::Done),
                Over::GaveUp => return self.end_rest(&limits).await.map(|()| PhaseEnd::GaveUp),
                Over::Detached => return Ok(PhaseEnd::Detached),
            }
            for index in watch.left() {
                let Some(task) = by_index.get_mut(&index) else { continue };
                task.attempt = self.files.next_attempt(index)?;
                tasks.push(task.clone());
            }
            if tasks.is_empty() || *channels.stop.borrow() != Stop::No {
                break;
            }
            submitter.dealer.excluded = nodes.bad().map(str::to_owned).collect();
        }
        Ok(if self.failures.are_too_many() { PhaseEnd::GaveUp } else { PhaseEnd::Done })
    }

    /// Nobody needs the words of a controller that has come to this.
    async fn finish(&mut self) -> Result<(), Diagnostic> {
        self.files.close_job(&array::controller(&self.config.run))
    }

    /// The scripts and command lines of the arrays that a phase would be submitted as.
    ///
    /// Which work items they do is written to the run's directory; who runs the command lines gets the same arrays, and a
    /// launch goes on with them.
    async fn manifests(&mut self, phase: usize, tasks: Vec<Task>) -> Result<Vec<String>, Diagnostic> {
        // Slurm's defaults where it does not answer: somebody may want to look at them elsewhere.
        let limits = self.limits().await.unwrap_or_else(|_| Limits::of(&BTreeMap::new()));
        let (events, _nobody) = tokio::sync::mpsc::unbounded_channel();
        let stop = tokio::sync::watch::Sender::new(Stop::No);
        let channels = Channels { events, stop: stop.subscribe() };
        self.submitter(&limits, phase, channels).print(tasks)
    }
}
