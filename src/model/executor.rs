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
    /// Both, one after the other, to be compared; the result is DVC's
    Check,
}

impl Executor {
    /// Whether DVC does every stage.
    pub(crate) fn is_always_dvc(self) -> bool {
        match self {
            Executor::Dvc | Executor::Check => true,
            Executor::Auto | Executor::Native => false,
        }
    }
}
