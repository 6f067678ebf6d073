//! Flags and help texts: what was typed, nothing looked up.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Fan the foreach and matrix stages of a DVC project out over cores or a cluster
///
/// `dvc-fanout run` leaves the repository as a serial `dvc repro` would: the same dvc.lock, cache and files. It is
/// `plan`, `launch`, `collect` and `finalize` in order, which also work alone, from separate shells.
#[derive(Debug, Parser)]
#[command(name = "dvc-fanout", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Run as if started in this directory
    #[arg(long = "cd", value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    pub format: Format,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done or nothing to do · 1 some work items failed · 2 command line · 3 conflicts remain ·
4 the project is not usable as it is · 5 a tool or service failed, worth retrying · 70 internal error ·
128+n ended by signal n";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one document, or one event a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {}
