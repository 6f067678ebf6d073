//! `uncommitted.jsonl`: which files of the project runs have changed since the last commit, for `--commit`.
//!
//! A line is a path and what HEAD has there at the time. It is written before the file is changed, so a kill in between
//! loses nothing; a line goes once HEAD has another content at its path, whoever committed that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::adapters::fs::{self, FsError};
use crate::adapters::git::Git;
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path::join;
use crate::state::home::ProjectHome;
use crate::state::paths::FanoutDir;

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// From the top of the git work tree.
    path: String,
    /// The object that HEAD has at the path; `None` for none.
    head: Option<String>,
}

/// The object at each path that some run changed.
pub(crate) type Uncommitted = BTreeMap<String, Option<String>>;

/// Reads all that is there; a line that a crash cut off is skipped, since its file was not changed yet.
pub(crate) fn read(fanout: &FanoutDir) -> Result<Uncommitted, FsError> {
    let text = fs::read_if_any(&fanout.uncommitted())?.unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(lines.map(|line| (line.path, line.head)).collect())
}

/// Replaces all that is there.
pub(crate) fn write(fanout: &FanoutDir, files: &Uncommitted) -> Result<(), FsError> {
    let mut text = vec![];
    for (path, head) in files {
        let line = Line { path: path.clone(), head: head.clone() };
        serde_json::to_writer(&mut text, &line).expect("a line is plain data");
        text.push(b'\n');
    }
    if text.is_empty() { fs::remove(&fanout.uncommitted()) } else { fs::write(&fanout.uncommitted(), &text) }
}

/// Notes files that are about to be changed, relative to the project's root.
pub(crate) fn note(project: &ProjectHome, paths: &[&str]) -> Result<(), Diagnostic> {
    if project.config.no_scm {
        return Ok(());
    }
    let (git, prefix) = project.git()?;
    let fanout = project.make_fanout()?;
    let mut files = still(&git, read(&fanout)?)?;
    for path in paths {
        let path = join(&prefix, path);
        let head = git.at_head(&path)?;
        files.insert(path, head);
    }
    Ok(write(&fanout, &files)?)
}

/// The files whose content in HEAD is what it was when a run changed them.
pub(crate) fn still(git: &Git, files: Uncommitted) -> Result<Uncommitted, Diagnostic> {
    let mut still = Uncommitted::new();
    for (path, head) in files {
        if git.at_head(&path)? == head {
            still.insert(path, head);
        }
    }
    Ok(still)
}
