//! Changes several files of the project so that all of them happen or none.
//!
//! ```text
//! .dvc/fanout/apply/N              the new contents of change N, made first
//! .dvc/fanout/apply/journal.json   the changes; from here on they will happen
//! ```
//!
//! | killed | what the next [`recover`] does |
//! |---|---|
//! | before the journal is there | removes the folder: nothing happened |
//! | while it is there | completes the changes: what was moved out of the folder is done |
//! | while the folder goes | removes the rest of it |
//!
//! Each file is replaced by one rename, so that nobody reads half of one. A file that is not what it was when the change
//! was made (somebody edited it after a crash) is left alone and reported. Nothing is reached through a symlink. DVC's
//! repository lock is held meanwhile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::adapters::beneath::{Beneath, Seen, with_executable};
use crate::adapters::dvc::lock::RepositoryLock;
use crate::adapters::fs::{self, FsError};
use crate::diagnostic::{Diagnostic, Place};
use crate::exit::Exit;
use crate::state::paths::FanoutDir;

/// The version of the journal.
const VERSION: u32 = 1;
/// From this many files on the whole file system is synced instead of each file.
const SYNC_ALL_FROM: usize = 64;

/// A change of one path, relative to the project's root.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub path: String,
    /// What the change assumes to be there.
    pub before: Content,
    pub after: After,
    /// Sets or clears the executable bit; `None` keeps it.
    pub executable: Option<bool>,
    /// Sets all permission bits.
    pub mode: Option<u32>,
    /// Whether what is there was removed before it was made: its mode does not matter then.
    pub is_remade: bool,
    /// When a file that is copied there was written, in nanoseconds since 1970.
    pub modified: Option<i64>,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    Nothing,
    File {
        md5: String,
    },
    Symlink {
        target: String,
    },
    Directory,
    /// A FIFO, socket or device.
    Other,
}

/// What is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Bytes(Vec<u8>),
    /// A copy of a file that has this MD5.
    Copy {
        from: PathBuf,
        md5: String,
    },
    Symlink(String),
    Nothing,
    /// What is there already.
    Same,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Files(#[from] FsError),
    /// Nothing was changed.
    #[error("`{path}` changed while it was being collected into")]
    Moved { path: String },
    /// Nothing was changed.
    #[error("`{}` changed while it was being read", path.display())]
    Torn { path: PathBuf },
    #[error("`.dvc/fanout/apply/journal.json` is not readable")]
    Journal(#[source] serde_json::Error),
    #[error("`.dvc/fanout/apply/journal.json` is of version {0}, which this release does not know")]
    Version(u32),
}

impl From<ApplyError> for Diagnostic {
    fn from(error: ApplyError) -> Self {
        let journal = || Place::file(".dvc/fanout/apply/journal.json");
        let message = error.to_string();
        match error {
            ApplyError::Files(error) => error.into(),
            ApplyError::Moved { .. } => Diagnostic::tool(message).hint("run `dvc-fanout collect` again"),
            ApplyError::Torn { .. } => Diagnostic::tool(message).cause("something is writing to a published result"),
            ApplyError::Journal(source) => Diagnostic::new(Exit::Project, message).at(journal()).source(&source),
            ApplyError::Version(_) => {
                Diagnostic::new(Exit::Project, message).at(journal()).hint("use the release that started to collect")
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    version: u32,
    steps: Vec<Step>,
}

/// A change as the journal keeps it; its number is the name of its file in the folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Step {
    path: String,
    before: Content,
    kind: StepKind,
    executable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StepKind {
    /// Moves the file of the folder to the path.
    Replace,
    Delete,
    /// Keeps the content.
    Keep,
}

/// Makes all changes, in order, or none; an earlier call that was killed is completed or taken back first.
///
/// Returns the paths that [`recover`] left alone.
pub(crate) fn apply(root: &Path, changes: &[Change], lock: &RepositoryLock) -> Result<Vec<String>, ApplyError> {
    let left = recover(root, lock)?;
    let transaction = Transaction::new(root, changes)?;
    for action in transaction.actions() {
        transaction.perform(action)?;
    }
    Ok(left)
}

/// Completes or takes back what a killed [`apply`] began; returns the paths that were left alone since they are not
/// what they were.
pub(crate) fn recover(root: &Path, _lock: &RepositoryLock) -> Result<Vec<String>, ApplyError> {
    let folder = FanoutDir::of(root).apply();
    let Some(text) = fs::read_text_if_any(&folder.join("journal.json"))? else {
        fs::remove(&folder)?;
        return Ok(vec![]);
    };
    let journal: Journal = serde_json::from_str(&text).map_err(ApplyError::Journal)?;
    if journal.version != VERSION {
        return Err(ApplyError::Version(journal.version));
    }
    let transaction = Transaction { folder, tree: Beneath::open(root)?, changes: &[], steps: journal.steps };
    let mut left = vec![];
    for (number, step) in transaction.steps.iter().enumerate() {
        if !transaction.replay(number)? {
            left.push(step.path.clone());
        }
    }
    transaction.perform(Action::SyncTargets)?;
    transaction.perform(Action::Forget)?;
    Ok(left)
}

/// What lies at a path of a tree.
pub(crate) fn content(tree: &Beneath, path: &str) -> Result<Content, FsError> {
    Ok(match tree.look(path)? {
        None => Content::Nothing,
        Some(Seen::File { .. }) => Content::File { md5: fs::digest_open(&mut tree.open_file(path)?, path)?.0 },
        Some(Seen::Symlink { target }) => Content::Symlink { target },
        Some(Seen::Directory) => Content::Directory,
        Some(Seen::Other) => Content::Other,
    })
}

struct Transaction<'c> {
    folder: PathBuf,
    tree: Beneath,
    changes: &'c [Change],
    steps: Vec<Step>,
}

/// One step of [`apply`]; being killed in front of, within or behind any of them is what [`recover`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Makes the new contents of a change.
    Stage(usize),
    SyncStaged,
    /// Fails where a path is not what its change assumes.
    Check,
    /// Writes the journal.
    Commit,
    /// Makes a change.
    Change(usize),
    SyncTargets,
    /// Removes the journal, then the folder.
    Forget,
}

impl<'c> Transaction<'c> {
    fn new(root: &Path, changes: &'c [Change]) -> Result<Self, ApplyError> {
        let step = |change: &Change| Step {
            path: change.path.clone(),
            before: change.before.clone(),
            kind: match change.after {
                After::Bytes(_) | After::Copy { .. } | After::Symlink(_) => StepKind::Replace,
                After::Nothing => StepKind::Delete,
                After::Same => StepKind::Keep,
            },
            executable: change.executable,
            mode: change.mode,
        };
        let steps = changes.iter().map(step).collect();
        Ok(Transaction { folder: FanoutDir::of(root).apply(), tree: Beneath::open(root)?, changes, steps })
    }

    fn actions(&self) -> Vec<Action> {
        if self.steps.is_empty() {
            return vec![];
        }
        let numbers = || 0..self.steps.len();
        let staged = numbers().filter(|number| self.steps[*number].kind == StepKind::Replace).map(Action::Stage);
        let staged = staged.chain([Action::SyncStaged, Action::Check, Action::Commit]);
        staged.chain(numbers().map(Action::Change)).chain([Action::SyncTargets, Action::Forget]).collect()
    }

    fn perform(&self, action: Action) -> Result<(), ApplyError> {
        match action {
            Action::Stage(number) => self.stage(number),
            Action::SyncStaged => self.sync_staged(),
            Action::Check => self.check(),
            Action::Commit => {
                let journal = Journal { version: VERSION, steps: self.steps.clone() };
                let text = serde_json::to_vec(&journal).map_err(ApplyError::Journal)?;
                fs::write(&self.folder.join("journal.json"), &text)?;
                Ok(fs::sync_dir(&self.folder)?)
            }
            Action::Change(number) => self.replay(number).map(drop),
            Action::SyncTargets => self.sync_targets(),
            Action::Forget => {
                // Without its journal the folder is one that was not committed, and is only removed.
                fs::remove(&self.folder.join("journal.json"))?;
                Ok(fs::remove(&self.folder)?)
            }
        }
    }

    fn staged(&self, number: usize) -> PathBuf {
        self.folder.join(number.to_string())
    }

    fn stage(&self, number: usize) -> Result<(), ApplyError> {
        let change = &self.changes[number];
        let staged = self.staged(number);
        fs::create_dir(&self.folder)?;
        match &change.after {
            After::Bytes(bytes) => fs::write_plain(&staged, bytes)?,
            After::Copy { from, md5 } => {
                match change.mode {
                    Some(mode) => fs::copy_as(from, &staged, mode)?,
                    None => fs::copy(from, &staged)?,
                }
                if fs::digest(&staged)?.0 != *md5 {
                    fs::remove(&self.folder)?;
                    return Err(ApplyError::Torn { path: from.clone() });
                }
            }
            After::Symlink(target) => fs::symlink(target, &staged)?,
            After::Nothing | After::Same => {}
        }
        let is_file = matches!(change.after, After::Bytes(_) | After::Copy { .. });
        let old = match self.tree.look(&change.path)? {
            Some(Seen::File { mode, .. }) if !change.is_remade => Some(mode),
            _ => None,
        };
        if is_file && old.is_some() {
            self.tree.give_owner(&staged, &change.path)?;
        }
        let keeps_mode = change.mode.is_none() && (old.is_some() || change.executable.is_some());
        if keeps_mode && !matches!(change.after, After::Symlink(_)) {
            let mode = old.map_or_else(|| fs::mode(&staged), Ok)?;
            fs::set_mode(&staged, change.executable.map_or(mode, |executable| with_executable(mode, executable)))?;
        }
        match (&change.after, change.modified) {
            (After::Copy { .. }, Some(time)) => Ok(fs::set_modified_nanoseconds(&staged, time)?),
            _ => Ok(()),
        }
    }

    fn sync_staged(&self) -> Result<(), ApplyError> {
        let files = self.changes.iter().enumerate();
        let files = files.filter(|(_, change)| matches!(change.after, After::Bytes(_) | After::Copy { .. }));
        if self.changes.len() >= SYNC_ALL_FROM {
            return Ok(fs::sync_file_system(&self.folder)?);
        }
        for (number, _) in files {
            fs::sync_file(&self.staged(number))?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ApplyError> {
        for step in &self.steps {
            if content(&self.tree, &step.path)? != step.before {
                fs::remove(&self.folder)?;
                return Err(ApplyError::Moved { path: step.path.clone() });
            }
        }
        Ok(())
    }

    /// Makes a change unless it is made already; returns false where the path is neither as before nor as after.
    fn replay(&self, number: usize) -> Result<bool, ApplyError> {
        let step = &self.steps[number];
        let staged = self.staged(number);
        if step.kind == StepKind::Replace && !fs::exists(&staged) {
            return Ok(true);
        }
        let now = content(&self.tree, &step.path)?;
        // Earlier steps may have emptied a directory, which goes with its last file.
        let is_emptied = step.before == Content::Directory && now == Content::Nothing;
        if now != step.before && !is_emptied {
            let is_made_into_a_directory = now == Content::Directory && self.has_step_below(&step.path);
            return Ok(step.kind == StepKind::Delete && (now == Content::Nothing || is_made_into_a_directory));
        }
        match step.kind {
            StepKind::Replace => self.tree.move_in(&staged, &step.path)?,
            StepKind::Delete => self.tree.remove(&step.path)?,
            StepKind::Keep => {
                if let Some(mode) = step.mode {
                    self.tree.set_mode(&step.path, mode)?;
                } else if let Some(executable) = step.executable {
                    self.tree.set_executable(&step.path, executable)?;
                }
            }
        }
        Ok(true)
    }

    fn has_step_below(&self, path: &str) -> bool {
        self.steps.iter().any(|step| step.path.strip_prefix(path).is_some_and(|below| below.starts_with('/')))
    }

    fn sync_targets(&self) -> Result<(), ApplyError> {
        let folder = |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
        let mut seen = BTreeSet::new();
        let one_of_each: Vec<_> = self.steps.iter().filter(|step| seen.insert(folder(&step.path))).collect();
        if one_of_each.len() >= SYNC_ALL_FROM {
            return Ok(fs::sync_file_system(&self.folder)?);
        }
        for step in one_of_each {
            self.tree.sync_parent(&step.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
