//! A project that was read: its stages, and the files they stand in.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::read::sections::TopLevel;
use super::stage::Stage;
use super::stage_index::{PerStage, StageIndex};
use crate::dvc::lockfile::LockEntry;

/// A DVC project.
#[derive(Debug)]
pub(crate) struct Project {
    /// The absolute path of its root.
    pub root: String,
    /// All stages, in the order in which DVC collects them.
    pub stages: PerStage<Stage>,
    /// The stage files, in that order too.
    pub files: Vec<StageFile>,
    /// Stages that DVC lists once more than they are.
    pub repeated: Vec<StageIndex>,
}

/// A `dvc.yaml` or `.dvc` file.
#[derive(Debug)]
pub(crate) struct StageFile {
    /// Relative to the project's root.
    pub path: String,
    /// The stages of the file in [`Project::stages`].
    pub stages: Range<StageIndex>,
    /// Its foreach and matrix definitions, those without stages included.
    pub groups: Vec<Group>,
    pub top: TopLevel,
    /// What its lock file has, if there is one and all of it is as DVC writes it.
    pub lock: Option<LockEntries>,
}

/// The entries of a lock file by the names of their stages.
pub(crate) type LockEntries = HashMap<String, Arc<LockEntry>>;

/// A `foreach` or `matrix`.
#[derive(Debug)]
pub(crate) struct Group {
    pub name: String,
    /// What its keys come from: axes of a matrix by name, and every text with a variable, as written.
    pub sources: Vec<String>,
}

impl Group {
    /// Whether the keys come from a variable or an axis: `sessions` is one of `${config.sessions}`, not of
    /// `${old_sessions}`.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        let name = name.strip_prefix("${").and_then(|name| name.strip_suffix('}')).unwrap_or(name).trim();
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let stands_alone = |source: &str, at: usize| {
            !source[..at].ends_with(is_word) && !source[at + name.len()..].starts_with(is_word)
        };
        !name.is_empty()
            && self.sources.iter().any(|source| source.match_indices(name).any(|(at, _)| stands_alone(source, at)))
    }
}

/// An output by its stage and its place among that stage's `outs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputRef {
    pub stage: StageIndex,
    pub out: usize,
}
