//! Flags of the commands that look at runs, and of those that steer them from another terminal.

use std::num::NonZeroU32;

use clap::{Args, Subcommand};

use crate::engine::EngineCancelArgs;
use crate::model::duration::Wait;

/// Say how a run stands: counts, what runs, and what failed and why
///
/// Reads files only, so it works while the run is on, from another terminal, and after a crash.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The run; the latest by default
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// List every work item, also those that wait or are done
    #[arg(short, long)]
    pub all: bool,
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
    /// Go on printing what is added, until the attempt ends
    #[arg(short, long)]
    pub follow: bool,
}

/// Let the next launch run failed work items again
///
/// A launch leaves a work item alone whose command failed, since it would fail again. This asks for another try, of
/// these work items or of all that failed. Their results so far stay until better ones are there.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Ids, indexes, or patterns of ids such as `s01*`; all failed work items by default
    #[arg(value_name = "ITEM")]
    pub items: Vec<String>,
    /// The run; the latest by default
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// End a run that is on, from another terminal
///
/// Work items that run are stopped; results that are published stay. `launch` and `run` go on from there. Jobs that
/// were left to a cluster are deleted; the cluster is that of the launch, unless said otherwise.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The run; the latest by default
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Wait at most this long until everything has ended: 90s, 15m
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub timeout: Wait,
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
/// A run that is on is never removed.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Keep this many of the latest runs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub keep: usize,
    /// Remove also runs that have good results which were not brought into the project
    #[arg(short, long)]
    pub force: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}
