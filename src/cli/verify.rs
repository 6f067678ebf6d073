//! The flags of `verify`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

/// Check the promise on this project: do some stages with `dvc repro` and with `dvc-fanout run`, and compare
///
/// Makes two copies of the project in a scratch folder, does the same stages in both, whether they have changed or not,
/// and compares everything that is left. The project itself is not changed, nor are its cache and git.
///
/// Where something differs, `dvc repro` does the stages once more in a third copy: what differs there too comes of stages
/// that are not deterministic, and is named as such. The exit code is 0 where only such stages differ, 70 where
/// `dvc-fanout run` differs, and 1 where a command fails in both copies.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// What to check, written as for `dvc repro`; all pipelines by default
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// How many keys of each foreach and matrix are done
    #[arg(long, value_name = "N", default_value = "3")]
    pub sample: NonZeroUsize,
    /// How many work items `dvc-fanout run` does at a time
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Keep the copies, and say where they are
    #[arg(long)]
    pub keep: bool,
    /// Where the copies are made; the system's folder for temporary files by default
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}
