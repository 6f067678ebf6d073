//! Flags of `work`, which engines start, and of the programs that watch over it and over what it starts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand};

use crate::dvc::config::LinkType;
use crate::engine::args::parse_pair;
use crate::model::duration::Limit;
use crate::model::executor::Executor;
use crate::model::nice::Nice;
use crate::model::numbers::AttemptNumber;
use crate::model::stdin::Stdin;
use crate::model::workspace_kind::WorkspaceKind;

/// Do one work item: run its stages as `dvc repro` would and publish the result
///
/// This is what engines start. The index comes from the argument, else from `JOB_COMPLETION_INDEX`, else from
/// `SLURM_ARRAY_TASK_ID`. A work item that has a good result already is left alone.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// The work item's index in the worklist, from 0 (with --shards: the shard's)
    #[arg(value_name = "INDEX")]
    pub index: Option<usize>,
    /// The run; the latest by default
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// With --shards: deal out only the work items of this phase, from 0
    #[arg(long, value_name = "N", requires = "shards")]
    pub phase: Option<usize>,
    /// Deal the work items out to this many shards and do those of one shard
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Do a shard of a cluster Job's work items, as the launcher dealt them out
    #[arg(long, value_name = "NAME", hide = true, conflicts_with_all = ["shards", "attempt"])]
    pub job: Option<String>,
    /// With --job: leave a work item alone for which what it needs is not there
    #[arg(long, hide = true, requires = "job")]
    pub if_ready: bool,
    /// Do work items one after another, as the launcher orders them on standard input
    #[arg(long, hide = true, conflicts_with_all = ["index", "shards", "job"])]
    pub serve: bool,
    /// With --job: only see whether this machine sees all that work items need
    #[arg(long, hide = true, requires = "job")]
    pub check: bool,
    /// With --job: see so first, unless another worker of the job has
    #[arg(long, hide = true, requires = "job", conflicts_with = "check")]
    pub check_first: bool,
    /// With --job: try work items again so often where a tool failed, once the others are done
    #[arg(long, value_name = "N", hide = true, requires = "job", default_value_t = 0)]
    pub retries: u32,
    /// Fetch inputs from the project's remote and push outs to it, for a machine with a cache of its own
    #[arg(long)]
    pub use_remote: bool,
    /// Work for a run that `launch --store URL` has put into an object store, in the current folder, which needs to hold
    /// nothing; data come from the project's remote and go back to it
    #[arg(long, value_name = "URL", requires = "run", conflicts_with = "in_project")]
    pub store: Option<String>,
    /// DVC's cache, where this machine sees it elsewhere than the project's configuration says
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Links by which workspaces get what is in the cache, in order of preference, where the project's own do not fit this
    /// machine: reflink, hardlink, symlink, copy
    #[arg(long, value_name = "TYPES", value_parser = parse_links, conflicts_with = "in_project")]
    pub link: Option<Links>,
    /// Run stages in the project itself, which they see as it is
    #[arg(long, hide = true, conflicts_with_all = ["shards", "job"])]
    pub in_project: bool,
    /// The number of this attempt; the next one by default
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).map(AttemptNumber::new))]
    pub attempt: Option<AttemptNumber>,
    /// The slot whose workspace is used; the first free one by default
    #[arg(long, value_name = "N")]
    pub slot: Option<usize>,
    /// The first slot to try
    #[arg(long, value_name = "N", hide = true, conflicts_with = "slot", default_value_t = 0)]
    pub slot_from: usize,
    /// Where slots keep their workspaces; `.dvc/fanout/slots` by default
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Stop the stages after this long: 90s, 15m, 2h
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<Limit>,
    /// How long stages may take that have to end since the time of a batch system is nearly over
    #[arg(long, value_name = "DURATION", hide = true)]
    pub last_grace: Option<Limit>,
    /// Lower the priority of the stages by this much, from 0 to 19, as nice(1) does
    #[arg(long, value_name = "N")]
    pub nice: Option<Nice>,
    /// What does the stages, if not what the plan says: auto, native, dvc or check
    #[arg(long, value_enum, value_name = "EXECUTOR")]
    pub executor: Option<Executor>,
    /// Where stages run: in a workspace that they see at the project's own path, or in one beside it
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub workspace: WorkspaceKind,
    /// What commands read on standard input, where they find its end by default: a file, which each stage reads from its
    /// beginning, or what this program would read (inherit)
    #[arg(long, value_name = "FILE|inherit")]
    pub stdin: Option<Stdin>,
    /// The process whose end ends this one
    #[arg(long, value_name = "ID", hide = true)]
    pub parent: Option<u32>,
    /// With --shards: leave the rest of the shard undone after a failure
    #[arg(long)]
    pub stop_at_failure: bool,
    /// Set a variable in the environment of the stages (can be repeated)
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub variables: Vec<(String, String)>,
}

/// A list of links, as `cache.type` of DVC has it.
#[derive(Clone, Debug)]
pub(crate) struct Links(pub Vec<LinkType>);

fn parse_links(text: &str) -> Result<Links, String> {
    LinkType::list(text).map(Links).ok_or_else(|| "it takes reflink, hardlink, symlink and copy".to_owned())
}

impl WorkArgs {
    /// The variables to set for the stages.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.variables.iter().map(|(name, value)| (name.into(), value.into()))
    }
}

/// The command line of `work` for one work item, as an order to a worker that serves.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
pub(crate) struct WorkOrder {
    #[command(flatten)]
    args: WorkArgs,
}

impl WorkOrder {
    pub(crate) fn read(words: &[String]) -> Result<WorkArgs, clap::Error> {
        Ok(Self::try_parse_from(words)?.args)
    }
}

/// What this program starts itself as.
#[derive(Debug, Subcommand)]
pub(crate) enum OwnCommand {
    #[command(hide = true)]
    Guard(GuardArgs),
    #[command(hide = true)]
    Oversee(OverseeArgs),
    #[command(hide = true)]
    Keep(KeepArgs),
    #[command(hide = true)]
    Inside(InsideArgs),
}

/// A command line with nothing but these: to read it costs little, and some are started once for each command of a stage.
#[derive(Debug, Parser)]
struct OwnCli {
    #[command(subcommand)]
    command: OwnCommand,
}

impl OwnCommand {
    /// Reads the command line, if it is one of these.
    pub(super) fn read() -> Option<OwnCommand> {
        let name = std::env::args_os().nth(1)?;
        OwnCommand::has_subcommand(name.to_str()?).then(|| OwnCli::parse().command)
    }
}

/// Become a program that ends when the process that started it does
#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// The process whose end ends the program
    #[arg(long)]
    pub parent: u32,
    #[arg(long)]
    pub nice: Option<Nice>,
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// Run a program, and end it with all that came of it when told to or when the process that started it ends
#[derive(Debug, Args)]
pub(crate) struct OverseeArgs {
    /// The process whose end ends everything
    #[arg(long)]
    pub parent: u32,
    /// Name this process to the program with `--parent`
    #[arg(long)]
    pub tied: bool,
    /// How long a program that was told to end may take
    #[arg(long)]
    pub grace_seconds: u64,
    /// How long the program may take at all
    #[arg(long)]
    pub limit_seconds: Option<u64>,
    /// The folder of the keepers that outlive it
    #[arg(long)]
    pub kept: Option<PathBuf>,
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// Run a program, say on standard output how it ended, and stay with what it leaves running
#[derive(Debug, Args)]
pub(crate) struct KeepArgs {
    /// The process whose end ends everything while the program runs
    #[arg(long)]
    pub parent: u32,
    /// The folder of keepers
    #[arg(long)]
    pub kept: PathBuf,
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// Enter a mount namespace and become a program in it
#[derive(Debug, Args)]
pub(crate) struct InsideArgs {
    /// Show one folder in the place of another (can be repeated)
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    pub bind: Vec<PathBuf>,
    /// Where the program begins, as it is seen within
    #[arg(long)]
    pub directory: PathBuf,
    /// Takes the reason where there is no such namespace
    #[arg(long)]
    pub failure: Option<PathBuf>,
    #[arg(last = true)]
    pub command: Vec<OsString>,
}
