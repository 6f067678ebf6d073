//! Git's merging: its merge by lines, and the setting that makes it ask a driver instead.

use std::path::{Path, PathBuf};

use git2::{ConfigLevel, Repository};

use super::process::{self, Program};
use crate::diagnostic::Diagnostic;

/// Git could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitMergeError {
    #[error("git failed to set the merge driver")]
    Setting(#[source] git2::Error),
    #[error("cannot run `git merge-file`")]
    NotStarted(#[source] std::io::Error),
    #[error("`git merge-file` failed")]
    Failed(String),
}

impl From<GitMergeError> for Diagnostic {
    fn from(error: GitMergeError) -> Self {
        let diagnostic = Diagnostic::tool(error.to_string());
        match error {
            GitMergeError::Setting(source) => diagnostic.source(&source),
            GitMergeError::NotStarted(source) => diagnostic.source(&source),
            GitMergeError::Failed(said) => diagnostic.cause(said.trim().to_owned()),
        }
    }
}

/// Merges three versions of a file by lines; returns the text and whether it has no conflict markers.
///
/// By the program that asks for the merge, since libgit2's `merge_file` needs a repository to be open.
pub(crate) fn by_lines(
    base: &Path,
    ours: &Path,
    theirs: &Path,
    marker_size: usize,
) -> Result<(Vec<u8>, bool), GitMergeError> {
    let program = ["merge-file", "-p", "-L", "ours", "-L", "base", "-L", "theirs"]
        .into_iter()
        .fold(Program::new("git"), Program::arg)
        .arg(format!("--marker-size={marker_size}"))
        .arg(ours)
        .arg(base)
        .arg(theirs);
    let output = process::output(&program, None).map_err(GitMergeError::NotStarted)?;
    // The code is the number of conflicts up to 127, and more when something is wrong.
    match output.status.code() {
        Some(conflicts @ 0..=127) => Ok((output.stdout, conflicts == 0)),
        _ => Err(GitMergeError::Failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// Makes the merge driver `name` known to the repository around a directory; returns the file of the setting.
pub(crate) fn set_driver(
    directory: &Path,
    name: &str,
    description: &str,
    command: &str,
) -> Result<PathBuf, GitMergeError> {
    let repository = Repository::discover(directory).map_err(GitMergeError::Setting)?;
    let config = repository.config().map_err(GitMergeError::Setting)?;
    let mut local = config.open_level(ConfigLevel::Local).map_err(GitMergeError::Setting)?;
    local.set_str(&format!("merge.{name}.name"), description).map_err(GitMergeError::Setting)?;
    local.set_str(&format!("merge.{name}.driver"), command).map_err(GitMergeError::Setting)?;
    Ok(repository.commondir().join("config"))
}
