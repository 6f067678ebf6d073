//! Flags and help texts: what was typed, nothing looked up.
#![cfg_attr(doc, expect(rustdoc::broken_intra_doc_links, reason = "help texts write optional parts in brackets"))]

mod format;
pub(crate) mod manual;
pub(crate) mod runs;
pub(crate) mod settings;
pub(crate) mod verify;
pub(crate) mod work;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::dvc::hash::HashName;
use crate::engine::args::RunningArgs;
use crate::engine::{EngineArgs, EngineName};
use crate::model::duration::Wait;
use runs::ElsewhereArgs;
use settings::PlanningArgs;

pub(crate) use format::{Format, FormatArg};

/// Fan the foreach and matrix stages of a DVC project out over cores or a cluster
///
/// `dvc-fanout run` leaves the repository as a serial `dvc repro` would: the same dvc.lock, cache and files. It is
/// `plan`, `launch`, `collect` and `finalize` in order, which also work alone, from separate shells.
#[derive(Debug, Parser)]
#[command(name = "dvc-fanout", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Run as if started in this directory
    #[arg(long = "cd", value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// Say more of what is done, on stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// How results are printed; see [`format`].
    #[arg(skip)]
    pub typed_format: FormatArg,
    /// What that means to every command but `plan` and `report`.
    #[arg(skip)]
    pub format: Format,
    /// Where settings came from.
    #[arg(skip)]
    pub origins: settings::Origins,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The command line with everything that is added to what the types say.
    pub(crate) fn whole() -> clap::Command {
        manual::with_examples(settings::with_environment(Cli::typed())).long_version(build())
    }

    /// The same without the examples, and without what the environment sets.
    fn typed() -> clap::Command {
        format::with_formats(Cli::command())
    }

    /// A command without any flag that all have.
    fn of(command: Command) -> Cli {
        Cli {
            directory: None,
            verbose: false,
            typed_format: FormatArg::default(),
            format: Format::default(),
            origins: settings::Origins::default(),
            command,
        }
    }

    /// Reads the command line; a wrong one ends the process.
    pub(crate) fn read() -> Cli {
        if let Some(own) = work::OwnCommand::read() {
            return Cli::of(Command::Own(own));
        }
        let matches = Cli::whole()
            .try_get_matches()
            .unwrap_or_else(|error| settings::naming_the_variable(error, Cli::typed().try_get_matches().err()).exit());
        let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        cli.origins = settings::Origins::of(&matches);
        cli.typed_format = format::typed(&matches);
        cli.format = cli.typed_format.into();
        cli
    }
}

/// What `--version` says: the version, and how this program was built.
fn build() -> String {
    let engines = EngineName::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let engines = engines.map(|engine| engine.get_name().to_owned()).collect::<Vec<_>>().join(", ");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let (version, target) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    // Whoever packages it may say which commit it is.
    let commit = option_env!("DVC_FANOUT_COMMIT").unwrap_or("unknown");
    format!("{version}\nengines: {engines}\nbuild: {profile}, {target}, {libc}\ncommit: {commit}")
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Plan(PlanArgs),
    Launch(LaunchArgs),
    Stages(StagesArgs),
    Work(work::WorkArgs),
    Collect(CollectArgs),
    Finalize(FinalizeArgs),
    Report(ReportArgs),
    Status(runs::StatusArgs),
    Logs(runs::LogsArgs),
    Retry(runs::RetryArgs),
    Cancel(runs::CancelArgs),
    Runs(runs::RunsArgs),
    Config(ConfigArgs),
    Doctor(DoctorArgs),
    Verify(verify::VerifyArgs),
    MergeDriver(MergeDriverArgs),
    /// Make git merge `dvc.lock` files entry by entry
    ///
    /// Adds a line to `.gitattributes`, which applies to everyone, and configures this clone.
    InstallMergeDriver,
    #[command(subcommand, hide = true)]
    Debug(DebugCommand),
    #[command(flatten)]
    Own(work::OwnCommand),
}

/// Do the whole job: plan, launch, collect and finalize
///
/// Afterwards the repository is as a serial `dvc repro` would have left it. An interrupted run is resumed: work items
/// that have already succeeded are not run again.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Only say what would run, as `plan` does, and leave no run behind
    #[arg(long)]
    pub dry: bool,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub running: RunningArgs,
    #[command(flatten)]
    pub ending: EndingArgs,
}

/// Work out what would run and why, and divide it into work items
///
/// Writes the plan and a snapshot of the workspace to `.dvc/fanout/runs/RUN`. Nothing else is changed: not the workspace,
/// not git, not the cache.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Exit with 10 where there is something to do
    #[arg(long)]
    pub exit_code: bool,
    /// Say why each stage runs; only those of ITEM, a work item (its id or index), a stage or a template
    #[arg(long, value_name = "ITEM", num_args = 0..=1, default_missing_value = "")]
    pub explain: Option<String>,
    /// Only check for problems: outputs outside of the project or tracked by git, missing data, a merge in progress.
    /// Writes nothing. `plan` and `launch` always check for them
    #[arg(long, conflicts_with_all = ["explain", "exit_code"])]
    pub check: bool,
}

/// Which stages are meant and how they run; the flags of `dvc repro`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SelectionArgs {
    /// Stages, as `dvc repro` takes them: NAME, NAME@KEY, PATH/dvc.yaml[:NAME], PATH.dvc, or a
    /// pipeline's folder; `dvc.yaml` by default
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Everything in the project
    #[arg(short = 'P', long)]
    pub all_pipelines: bool,
    /// The whole pipelines of the targets
    #[arg(short, long)]
    pub pipeline: bool,
    /// Only the targets, without what they need
    #[arg(short, long)]
    pub single_item: bool,
    /// Targets may be folders: all stages of files in them
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// The targets and what needs them
    #[arg(long)]
    pub downstream: bool,
    /// Targets are shell patterns
    #[arg(long)]
    pub glob: bool,
    /// Run stages even if they have not changed
    #[arg(short, long)]
    pub force: bool,
    /// Do not take outs of stages from the run cache
    #[arg(long)]
    pub no_run_cache: bool,
    /// Fetch missing data from the remote instead of running stages
    #[arg(long)]
    pub pull: bool,
    /// Do not run stages for data that is only missing, as long as nothing else has changed
    #[arg(long)]
    pub allow_missing: bool,
    /// Keep going after a failure, as is always done (accepted for those who are used to `dvc repro -k`)
    #[arg(short, long)]
    pub keep_going: bool,
    #[command(flatten)]
    pub others: OtherReproArgs,
    #[command(flatten)]
    pub planning: PlanningArgs,
}

/// Flags of `dvc repro` that have no place here; each is answered with what does it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OtherReproArgs {
    #[arg(long, hide = true)]
    pub force_downstream: bool,
    #[arg(long, hide = true)]
    pub ignore_errors: bool,
    #[arg(long, hide = true)]
    pub no_commit: bool,
    #[arg(short, long, hide = true)]
    pub interactive: bool,
}

/// Run the work items of a plan and watch them until they finish
///
/// Results are published under `.dvc/fanout`; the project itself is not changed before `collect`. Launching again
/// resumes where an earlier launch stopped: work items that have already succeeded are not run again.
///
/// After the first Ctrl-C no more work items are started; the second stops those that are running.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// The run; the latest by default
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Run only this phase, counted from 0; by default all but those left to `finalize`
    #[arg(long, value_name = "N")]
    pub phase: Option<usize>,
    /// With an engine of a cluster: print what it would be given, Jobs for kubectl or scripts for sbatch, and launch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// With --engine kubernetes: create the Jobs of the next phase and return; launch again to watch them. With --engine
    /// slurm: submit all phases, each behind the one before, and a job that sees to the rest
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub running: RunningArgs,
}

/// List the stages that DVC sees, as it resolves them
///
/// Without a target: all stages of the project, those of one foreach or matrix on one line. A target is a stage, a
/// foreach or matrix, a `dvc.yaml` or a `.dvc` file, as for `dvc repro`. With `--format json` every stage is listed with
/// its command, paths and params, besides the edges and the order in which `dvc repro` would run them.
#[derive(Debug, Args)]
pub(crate) struct StagesArgs {
    /// What to select, written as for `dvc repro`
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Treat the names in targets as patterns (`build*`, `sub/dvc.yaml:g*`)
    #[arg(long)]
    pub glob: bool,
    /// If TARGET is a folder, select all stages of the files below it
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// Say which stages `dvc repro` would run, and why; without changing anything
    #[arg(long)]
    pub changed: bool,
    /// List every stage of a foreach or matrix on a line of its own
    #[arg(long)]
    pub expand: bool,
}

/// Look at one of the things that other commands rest on
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    Hash(HashArgs),
    /// Write the man pages into a folder
    Man {
        folder: PathBuf,
    },
    Repro(ReproArgs),
}

/// Do in place what `dvc repro` does, as a worker would
#[derive(Debug, Args)]
pub(crate) struct ReproArgs {
    #[arg(short, long)]
    pub force: bool,
    #[arg(short, long)]
    pub keep_going: bool,
    #[arg(short = 'P', long)]
    pub all_pipelines: bool,
    #[arg(short, long)]
    pub single_item: bool,
    #[arg(long)]
    pub no_run_cache: bool,
    #[arg(long)]
    pub no_commit: bool,
    #[arg(long)]
    pub ignore_errors: bool,
    #[arg(long)]
    pub downstream: bool,
    #[arg(long, value_enum, default_value_t = crate::model::executor::Executor::Auto, env = crate::env::DVC_FANOUT_EXECUTOR, value_name = "EXECUTOR")]
    pub executor: crate::model::executor::Executor,
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}

/// Hash a file or directory as DVC does
#[derive(Debug, Args)]
pub(crate) struct HashArgs {
    /// Which hash: `md5`, or `md5-dos2unix` as DVC 2 had it
    #[arg(long, value_name = "NAME", default_value = "md5", value_parser = parse_hash_name)]
    pub name: HashName,
    #[arg(value_name = "PATH")]
    pub path: String,
}

fn parse_hash_name(text: &str) -> Result<HashName, String> {
    let known = [HashName::Md5, HashName::Md5Dos2unix];
    known.into_iter().find(|name| name.name() == text).ok_or_else(|| "it is `md5` or `md5-dos2unix`".to_owned())
}

/// Merge the results of a run into the project
///
/// Lock entries are merged three ways with what the project holds now, as the bytes that DVC wrote; so are files that
/// DVC does not cache. It is all or nothing, can be run while other work items are still running, and running it twice
/// does no harm.
#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// The run; the latest by default
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Where both sides changed the same thing, keep what the project has
    #[arg(long, conflicts_with = "theirs")]
    pub ours: bool,
    /// Where both sides changed the same thing, take what the results have
    #[arg(long)]
    pub theirs: bool,
    /// Collect only this work item, by its id or index, or those whose ids match a pattern such as `s01*` (can be repeated)
    #[arg(long, value_name = "ITEM")]
    pub only: Vec<String>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave out files that no stage declares as an out
    #[arg(long)]
    pub declared_only: bool,
    /// Write to the branch that is checked out, be it another than the run was planned on
    #[arg(long)]
    pub any_branch: bool,
    /// Wait at most this long for DVC's repository lock and for stages that `dvc` runs in the project itself
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub lock_timeout: Wait,
    #[command(flatten)]
    pub elsewhere: ElsewhereArgs,
}

/// Bring collected outputs into the workspace, run the remaining stages, and finish the run
///
/// What workers published is collected first. Stages that depend on a failed work item do not run.
#[derive(Debug, Args)]
pub(crate) struct FinalizeArgs {
    /// The run; the latest by default
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    #[command(flatten)]
    pub running: RunningArgs,
    #[command(flatten)]
    pub ending: EndingArgs,
}

/// Report the outcome of a run
///
/// A summary as text; with `--format`: `junit` for Jenkins and other CI servers (a test case per work item), `markdown`
/// for a pull request, `html` for one page with everything, `prometheus` for metrics, or `json`. It may be run at any time;
/// `finalize` writes all of them to `.dvc/fanout/runs/RUN/report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The run; the latest by default
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Write to this file; to stdout by default
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Serve the HTML page at this address and port of this machine and print where: it stays up to date while the run is
    /// on, and logs can be followed in it. A port alone is one of the loopback; by default, one that is free. Whoever has
    /// the printed address can read the report and the logs, and change nothing
    #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:0",
        conflicts_with_all = ["output", "format"])]
    pub serve: Option<Serve>,
    #[command(flatten)]
    pub elsewhere: ElsewhereArgs,
}

/// Where pages are served: an address and a port, of which either may be left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Serve(pub SocketAddr);

impl FromStr for Serve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let loopback = || text.parse().map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).ok();
        let any_port = || text.parse().map(|address| SocketAddr::new(address, 0)).ok();
        let at = text.parse().ok().or_else(loopback).or_else(any_port);
        at.map(Serve).ok_or_else(|| "it is neither ADDRESS:PORT nor one of the two, as in 127.0.0.1:8000".to_owned())
    }
}

/// What happens after everything has run.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Ending")]
pub(crate) struct EndingArgs {
    /// Finally run plain `dvc repro` over the whole project, and say whether it found anything to do
    #[arg(long)]
    pub full: bool,
    /// Commit what runs changed and nothing else, with this message or a plain one
    #[arg(long, value_name = "MESSAGE", num_args = 0..=1, default_missing_value = "")]
    pub commit: Option<String>,
    /// Commit even if some work items failed
    #[arg(long, requires = "commit")]
    pub commit_partial: bool,
    /// Write to the branch that is checked out, be it another than the run was planned on
    #[arg(long)]
    pub any_branch: bool,
    /// After the commit, push data with `dvc push` and then commits with `git push`
    #[arg(long, requires = "commit")]
    pub push: bool,
}

/// Show the settings in effect, and where each one comes from
///
/// A flag wins over the environment (`DVC_FANOUT_` and the flag's name, as in `DVC_FANOUT_JOBS`), which wins over
/// `.dvc/fanout/config.yaml`, which wins over `meta: {fanout: {…}}` of a stage. Flags may be given to see what they
/// would change.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub planning: PlanningArgs,
    #[command(flatten)]
    pub running: RunningArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Print the JSON schema of the file instead
    #[arg(long)]
    pub schema: bool,
}

/// Check everything that a run depends on: the project, git, DVC, the cache and its links, this machine, the cluster
///
/// Each line says what was found; whatever is missing or broken comes with advice. The exit code is 4 if a run would
/// not work. Nothing is changed.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Merge three versions of a `dvc.lock` for git
///
/// This is what git runs after `install-merge-driver`. Branches that ran different stages merge automatically; a stage
/// that changed on both sides gets conflict markers around its two entries, and the exit code is 1.
#[derive(Debug, Args)]
pub(crate) struct MergeDriverArgs {
    /// The common ancestor's version (%O)
    #[arg(value_name = "BASE")]
    pub base: PathBuf,
    /// Our version, overwritten by the result (%A)
    #[arg(value_name = "OURS")]
    pub ours: PathBuf,
    /// The other branch's version (%B)
    #[arg(value_name = "THEIRS")]
    pub theirs: PathBuf,
    /// The file's path in the repository, for messages (%P)
    #[arg(value_name = "PATH", default_value = "dvc.lock")]
    pub path: PathBuf,
    /// The length of conflict markers (%L)
    #[arg(value_name = "N", default_value_t = 7)]
    pub marker_size: usize,
}
