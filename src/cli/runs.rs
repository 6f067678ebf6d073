//! Flags of the commands that look at runs, and of those that steer them from another terminal.

use std::num::NonZeroU32;

use clap::{Args, Subcommand};

use crate::engine::EngineCancelArgs;
use crate::model::duration::Wait;

/// Where a run is that this clone of the project does not have.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ElsewhereArgs {
    /// The object store of a run that was launched with `--store` in another clone of the project: it is brought here
    #[arg(long, value_name = "URL", requires = "run")]
    pub store: Option<String>,
}

/// Show the state of a run: counts, what is running, and what failed and why
///
/// It only reads files, so it works during a run, from another terminal, and after a crash.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The run; the latest by default
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// List every work item, including those that are waiting or done
    #[arg(short, long)]
    pub all: bool,
    /// Show it again and again until the run ends, every 2s or as often as this says
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "2s", conflicts_with_all = ["all", "live"])]
    pub watch: Option<Wait>,
    /// Also ask the cluster about what is in its queue; without, only the run's files are looked at
    #[arg(long)]
    pub live: bool,
    #[command(flatten)]
    pub elsewhere: ElsewhereArgs,
}

/// Print the log of a work item
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The work item's id or index
    #[arg(value_name = "ITEM")]
    pub item: String,
    /// The run; the latest by default
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// The attempt, from 1; the last by default
    #[arg(long, value_name = "N")]
    pub attempt: Option<NonZeroU32>,
    /// Keep printing new output until the attempt ends
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub elsewhere: ElsewhereArgs,
}

/// Let the next launch run failed work items again
///
/// A launch does not repeat a work item whose command failed, since it would fail again. This asks for another attempt
/// at these work items, or at all that failed. Their results are kept until there are better ones.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Ids, indexes, or patterns of ids such as `s01*`; all failed work items by default
    #[arg(value_name = "ITEM")]
    pub items: Vec<String>,
    /// The run; the latest by default
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    #[command(flatten)]
    pub elsewhere: ElsewhereArgs,
}

/// Stop a run from another terminal
///
/// Running work items are stopped; published results are kept. `launch` and `run` resume from there. Jobs that were
/// left running in a cluster are deleted; the cluster is that of the launch, unless stated otherwise.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The run; the latest by default
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Only keep what waits from starting: what runs comes to its end first, and is waited for (not with Kubernetes)
    #[arg(long)]
    pub drain: bool,
    /// Wait at most this long until everything has ended: 90s, 15m; 1m by default, and with --drain as long as it takes
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<Wait>,
    #[command(flatten)]
    pub elsewhere: ElsewhereArgs,
    #[command(flatten)]
    pub engine: EngineCancelArgs,
}

/// List runs, or remove old ones
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub command: Option<RunsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List all runs, the oldest first
    List,
    Prune(PruneArgs),
}

/// Remove old runs with their results and snapshots, and workspaces that are not in use
///
/// A run in progress is never removed.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Keep this many of the latest runs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub keep: usize,
    /// Also remove runs with good results that have not been brought into the project
    #[arg(short, long)]
    pub force: bool,
    /// Only list what would be removed
    #[arg(long)]
    pub dry_run: bool,
}
