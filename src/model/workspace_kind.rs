//! Where the stages of work items run.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Where stages run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkspaceKind {
    /// At the project's own path where this machine allows mounts, else beside it
    #[default]
    Auto,
    /// In a workspace that is mounted over the project, for the stage's commands alone
    Mounted,
    /// In a workspace at a path of its own
    Linked,
}

impl WorkspaceKind {
    /// The word that says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            WorkspaceKind::Auto => "auto",
            WorkspaceKind::Mounted => "mounted",
            WorkspaceKind::Linked => "linked",
        }
    }
}
