//! Flags of the Slurm engine. The section `slurm` of `.dvc/fanout/config.yaml` has the same names, which are those of
//! `sbatch` where it has one.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::engine::args::as_text;
use crate::model::duration::Limit;

/// What the Slurm engine keeps to; every flag may stand in `.dvc/fanout/config.yaml` instead, under `slurm:`.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Slurm engine (also in .dvc/fanout/config.yaml, under `slurm:`)")]
#[group(skip)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(crate) struct Args {
    /// The partition, as for `sbatch`; the cluster's default by default
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The account that is charged
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The quality of service
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// A reservation to run in
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Features that nodes must have
    #[arg(long, value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// Nodes that are not used
    #[arg(long, value_name = "NODES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<String>,
    /// Nodes of which some are used
    #[arg(long, value_name = "NODES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodelist: Option<String>,
    /// Licenses that each task holds
    #[arg(long, value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licenses: Option<String>,
    /// The workload characterization key
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wckey: Option<String>,
    /// The cluster, where a site has several
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clusters: Option<String>,
    /// Share nodes with nobody
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
    /// About which events Slurm writes mail
    #[arg(long, value_name = "TYPES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail_type: Option<String>,
    /// To whom Slurm writes mail
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail_user: Option<String>,
    /// The time limit of a task: minutes or D-HH:MM:SS as for `sbatch`, or 36h. By default the timeouts of its work
    /// items where all have one, else the partition's
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// CPUs of a task, for work items that do not say
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus_per_task: Option<u32>,
    /// Memory of a task, for work items that do not say, as for `sbatch`; `none` asks for none at all
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<String>,
    /// Memory for each CPU, for work items that do not say
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_per_cpu: Option<String>,
    /// Generic resources of a task, for work items that ask for no GPU: gpu:a100:1
    #[arg(long, value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gres: Option<String>,
    /// How GPUs are asked for: by `--gres=gpu:N`, which is the default, `--gpus` or `--gpus-per-node`
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_flag: Option<GpuFlag>,
    /// Room on the node's own disk
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmp: Option<String>,
    /// Any other option of `sbatch`, as in --sbatch-arg=--nice=100 (can be repeated)
    #[arg(long = "sbatch-arg", value_name = "OPTION", allow_hyphen_values = true)]
    #[serde(rename = "sbatch-arg", skip_serializing_if = "Vec::is_empty")]
    pub sbatch_options: Vec<String>,
    /// An environment module that is loaded before the worker starts (can be repeated)
    #[arg(long = "module", visible_alias = "modules", value_name = "NAME")]
    #[serde(rename = "module", skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// A conda environment, by name or path, that is activated before the worker starts
    #[arg(long, value_name = "ENV")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conda: Option<String>,
    /// Shell commands before the worker starts, or a file of them; where one fails, the task does
    #[arg(long, value_name = "COMMANDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prologue: Option<String>,
    /// Shell commands after the worker has ended, however it ended, or a file of them; where one fails, a warning says so
    #[arg(long, value_name = "COMMANDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epilogue: Option<String>,
    /// Words in front of the worker, such as a container's: apptainer exec image.sif
    #[arg(long, value_name = "WORDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<String>,
    /// An image that workers run in, with Apptainer; the project and the cache are bound into it
    #[arg(long, value_name = "IMAGE", conflicts_with = "wrapper")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// More options of `apptainer exec`, separated by spaces
    #[arg(long = "container-args", value_name = "OPTIONS", allow_hyphen_values = true)]
    #[serde(rename = "container-args", skip_serializing_if = "Option::is_none")]
    pub container_options: Option<String>,
    /// What runs the image: `apptainer` by default, or `singularity`
    #[arg(long, value_name = "PROGRAM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_runtime: Option<String>,
    /// Whether tasks get the environment of the launcher, as `sbatch` has it by default, or that of a login
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// A variable for the tasks: NAME=VALUE, or NAME to pass its value here; kept in a file that only you can read (can
    /// be repeated)
    #[arg(long = "job-env", value_name = "NAME[=VALUE]")]
    #[serde(rename = "job-env", skip_serializing_if = "Vec::is_empty")]
    pub job_env: Vec<String>,
    /// Where workspaces lie: a folder of the node's own disk, in which shell variables are replaced, or `shared` for the
    /// project's file system; by default in `SLURM_TMPDIR`, `TMPDIR` or /tmp
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_scratch: Option<String>,
    /// Links by which workspaces get what is in the cache, as in DVC's `cache.type`, where nodes have another file system
    /// for them: symlink; by default those of the project, of which a copy is what works between two file systems
    #[arg(long, value_name = "TYPES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_link: Option<String>,
    /// Where Slurm writes what tasks say before their workers have logs: `array` for one file an array in the run's folder,
    /// which is the default, `task` for one a task, or a path as for `sbatch --output`, with %A for the array's job and %a
    /// for the task
    #[arg(long, value_name = "WHERE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_output: Option<String>,
    /// The `dvc-fanout` that tasks start; this one by default
    #[arg(long, value_name = "PROGRAM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_program: Option<String>,
    /// Leave tasks that lost their node, or gave way to others, to the launcher instead of having Slurm start them again
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_requeue: bool,
    /// Seconds before the time limit at which a worker is told to end and publish what it has; 120 by default
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
    /// How long a command may take then from TERM to its end, to save what it has; by default all but a minute of --signal,
    /// and at least 10s
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub job_grace: Option<Limit>,
    /// Ask Slurm at least this often how tasks stand; every 30s by default
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub poll: Option<Limit>,
    /// Give up when Slurm did not answer for this long; 15m by default
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub outage_limit: Option<Limit>,
    /// Give up when something has kept all tasks from starting for this long; 15m by default
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub pending_limit: Option<Limit>,
    /// With `launch --detach`: what the job that launches the run does after it
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
    /// With `launch --detach`: whether all phases are submitted at once and a job sees to the rest at the end, which is
    /// the default, or a job submits one phase after another; the latter also with `--max-failed` and `--fail-fast`
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<Settle>,
    /// With `launch --detach`: the time limit of the job that launches the run; the partition's by default
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller_time: Option<String>,
    /// With `launch --detach`: the partition of the job that launches the run; that of `--partition` by default
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller_partition: Option<String>,
    /// The most tasks of one array; as many as the cluster allows by default
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array_size: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GpuFlag {
    Gres,
    Gpus,
    GpusPerNode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Then {
    /// Merge the results into the project.
    Collect,
    /// That, and run what is left.
    Finalize,
}

/// When what became of a run's work items is taken in, where no launcher watches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Settle {
    #[default]
    End,
    EachPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Export {
    All,
    None,
}

/// Nothing more is said of a cluster whose jobs are to be ended: what a launch said of it is remembered.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(crate) struct CancelArgs {}

impl From<CancelArgs> for Args {
    fn from(_: CancelArgs) -> Args {
        Args::default()
    }
}
