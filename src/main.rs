//! `dvc-fanout`: fans the `foreach` and `matrix` stages of a DVC project out and merges the results back.
//!
//! The map of the code; arrows only point down:
//!
//! | room | one responsibility |
//! |---|---|
//! | `main.rs` | parse, dispatch, print the one error, return the exit code |
//! | `commands/` | the order of a command's steps, and the way from typed to meant |
//! | `cli/` | flags and help texts |
//! | `plan/` | what would run and why, dealt out to work items |
//! | `engine/` | start, watch and cancel work items; every engine starts the same `dvc-fanout work` |
//! | `worker/` | one attempt at one work item: its workspace, what runs its stages, what it publishes |
//! | `collect/` | results merged into the project, all or nothing |
//! | `output/` | what people and programs read; alone prints |
//! | `native/` | does for a stage what `dvc repro` does, without DVC |
//! | `state/` | `.dvc/fanout`: paths, locks, journal, formats |
//! | `adapters/` | one file or folder for each outside thing: dvc, git, processes, files |
//! | `model/` | pure: what fanning out is about: plans, events, requests, reports |
//! | `dvc/` | pure: what DVC knows: stages and their graph, lock files and their merge, what has changed |
//! | `diagnostic.rs`, `exit.rs`, `env.rs` | errors, exit codes, environment variables |
//!
//! Invariants, kept by `.clippy.toml` and `tests/tidy.rs`:
//!
//! 1. `dvc` and `model` compute: no files, processes, clock, environment or randomness.
//! 2. Only `adapters::process` starts a program; only `adapters` write, link and remove files.
//! 3. One writer per file: a worker writes only in its slot, under its own item's directory, and in the project where git
//!    ignores it and no stage declares it; `collect` alone touches the project's `dvc.lock`. Only the journal has several, each of which appends whole lines.
//! 4. One loop orders what happens: journal the event, then show it.
//! 5. DVC decides what a stage is and whether it changed; what is inferred here is checked against DVC by a test.
//! 6. Any command may be killed at any instruction and run again; what to do next is read from disk.
//! 7. An engine is one folder of `engine/` and its lines in `engine/mod.rs`, the only list of engines.
//! 8. Everything has a limit: waits, retries, queue lengths, log tails.

mod adapters;
mod cli;
mod collect;
mod commands;
mod diagnostic;
mod dvc;
mod engine;
mod env;
mod exit;
#[cfg(test)]
mod fuzz;
mod model;
mod native;
mod output;
mod plan;
mod state;
mod worker;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is logged unless the environment says otherwise.
const QUIET: &str = "error,kube_client=off";
/// The same with `--verbose`.
const VERBOSE: &str = "error,kube_client=off,dvc_fanout=debug";

fn main() -> ExitCode {
    commands::complete();
    let cli = cli::Cli::read();
    // What the client of the cluster logs by itself says less than the errors that come of it.
    let filter = tracing_subscriber::EnvFilter::try_from_env(env::DVC_FANOUT_LOG)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(if cli.verbose { VERBOSE } else { QUIET }));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let exit = commands::dispatch(&cli).unwrap_or_else(|diagnostic| {
        output::text::error(&diagnostic);
        diagnostic.exit
    });
    ExitCode::from(exit.code())
}
