//! What a `collect` did, would do, or could not do.

use crate::dvc::lockfile::conflict::Conflict;
use crate::model::numbers::{AttemptNumber, ItemIndex};

/// The outcome of collecting a run's results into the project.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Collection {
    pub run: String,
    /// Nothing was written, by request.
    pub dry_run: bool,
    /// The addresses of the stages whose lock entries were written, in the order of `dvc repro`.
    pub stages: Vec<String>,
    /// The other files that were written or removed, sorted.
    pub files: Vec<String>,
    /// What the project and the results both changed; nothing was written then.
    pub conflicts: Vec<Conflict>,
    /// Of the files that were written, those that no stage declares and that several work items made differently: the
    /// last of them in the order of `dvc repro` counted.
    pub contested: Vec<String>,
    /// Results that were not believed.
    pub rejected: Vec<Rejected>,
    /// Single paths of results that may not come; the rest of each result was collected.
    pub left_out: Vec<LeftOut>,
    /// Files that an earlier, killed `collect` was to change and that somebody else changed since; left as they are.
    pub left_alone: Vec<String>,
    /// The number of work items that have no result yet.
    pub pending: usize,
}

impl Collection {
    /// Whether all that counts came: of each result, and of each work item that has one.
    pub(crate) fn is_whole(&self) -> bool {
        self.rejected.iter().all(|rejected| rejected.is_replaced) && self.left_out.is_empty()
    }
}

/// A path that no stage declares and that may not come into the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub index: ItemIndex,
    /// The work item's id.
    pub id: String,
    pub attempt: AttemptNumber,
    /// Relative to the project's root.
    pub path: String,
    pub why: String,
    /// Where its content lies, relative to the project's root; `None` where it is a removal.
    pub content: Option<String>,
    /// Where it leads, of a symlink.
    pub target: Option<String>,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is refused: {}", self.path, self.why)
    }
}

/// A result that was not believed; the others were collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub index: ItemIndex,
    /// The work item's id.
    pub id: String,
    pub attempt: AttemptNumber,
    pub reason: String,
    /// Whether the result of another attempt counts: then nothing is missing.
    pub is_replaced: bool,
}
