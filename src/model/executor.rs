//! What does the stages of work items.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What does stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Executor {
    /// This program where it is sure of the result, else DVC
    #[default]
    Auto,
    /// This program; a stage that only DVC can do fails
    Native,
    /// DVC
    Dvc,
}
