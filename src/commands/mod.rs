//! The subcommands: each file has the order of a command's steps and the way from typed to meant.

mod cancel;
mod collect;
mod commit;
mod complete;
mod config;
mod debug;
mod differences;
mod doctor;
mod earlier;
mod finalize;
mod guard;
mod launch;
mod logs;
mod merge_driver;
mod plan;
mod report;
mod retry;
mod run;
mod runs;
mod settings;
mod stages;
mod status;
mod store;
mod summary;
mod verify;
mod work;

use crate::cli::work::OwnCommand;
use crate::cli::{Cli, Command};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;

/// Answers the shell where it asks for completions, and ends the process then.
pub(crate) fn complete() {
    clap_complete::CompleteEnv::with_factory(|| complete::with_candidates(Cli::whole())).complete();
}

/// Runs the command that was typed.
pub(crate) fn dispatch(cli: &Cli) -> Result<Exit, Diagnostic> {
    match &cli.command {
        Command::Run(args) => run::run(cli, args),
        Command::Plan(args) => plan::run(cli, args),
        Command::Launch(args) => launch::run(cli, args),
        Command::Stages(args) => stages::run(cli, args),
        Command::Work(args) => work::run(cli, args),
        Command::Collect(args) => collect::run(cli, args),
        Command::Finalize(args) => finalize::run(cli, args),
        Command::Status(args) => status::run(cli, args),
        Command::Logs(args) => logs::run(cli, args),
        Command::Retry(args) => retry::run(cli, args),
        Command::Cancel(args) => cancel::run(cli, args),
        Command::Runs(args) => runs::run(cli, args),
        Command::Config(args) => config::run(cli, args),
        Command::Doctor(args) => Ok(doctor::run(cli, args)),
        Command::Verify(args) => verify::run(cli, args),
        Command::Report(args) => report::run(cli, args),
        Command::MergeDriver(args) => merge_driver::run(args),
        Command::InstallMergeDriver => merge_driver::install(cli),
        Command::Debug(args) => debug::run(cli, args),
        Command::Own(OwnCommand::Guard(args)) => guard::run(args),
        Command::Own(OwnCommand::Oversee(args)) => guard::oversee(args),
        Command::Own(OwnCommand::Keep(args)) => guard::keep(args),
        Command::Own(OwnCommand::Inside(args)) => guard::inside(args),
    }
}
