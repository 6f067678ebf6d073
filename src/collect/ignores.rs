//! Unites the lines of `.gitignore` files, and takes them out again after failures.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Believed, Good, Outcome, change};
use crate::adapters::beneath::{Beneath, Seen};
use crate::adapters::fs;
use crate::collect::apply::After;
use crate::diagnostic::{self, Diagnostic};
use crate::dvc::ignore_lines;
use crate::state::format::{Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::workspace;

/// The largest `.gitignore` that is read.
const MAX_GITIGNORE: u64 = 64 << 20;

/// A place in the order of `dvc repro`: the stage's, and that of the out among its outs.
type Place = (usize, usize);

/// Adds the lines that DVC wrote into `.gitignore` files, in the order of `dvc repro`.
pub(super) fn merge(
    tree: &Beneath,
    believed: &[Believed<'_>],
    good: &[Good<'_>],
    outcome: &mut Outcome,
) -> Result<(), Diagnostic> {
    // A line belongs to the out that it names; lines that name none come last.
    let mut outs: HashMap<&str, Place> = HashMap::new();
    for good in good {
        for (position, out) in good.stage.outs.iter().enumerate() {
            outs.insert(&out.resolved, (good.stage.order, position));
        }
    }
    let mut files: BTreeMap<&str, Vec<(Place, &str)>> = BTreeMap::new();
    for ignore in believed.iter().flat_map(|result| &result.published.result.ignore) {
        for line in &ignore.lines {
            let out = ignore_lines::out_of(&ignore.path, line);
            let place = outs.get(out.as_str()).copied().unwrap_or((usize::MAX, 0));
            files.entry(&ignore.path).or_default().push((place, line));
        }
    }
    for (path, lines) in files {
        let text = read(tree, path)?;
        let united = ignore_lines::unite(&text, lines);
        if united != text {
            outcome.changes.push(change(path, After::Bytes(united.into_bytes()), None));
        }
    }
    Ok(())
}

/// Takes out the lines for outs of a run that were not there when it was planned, and says in how many files.
///
/// So does a `dvc repro` that fails, also with the lines of stages that succeeded (`dvc/repo/scm_context.py`, DVC 3.67).
pub(crate) fn take_out(project: &ProjectHome, plan: &Plan, items: &[WorkItem]) -> Result<usize, Diagnostic> {
    let Some(commit) = &plan.snapshot else { return Ok(0) };
    let (git, prefix) = project.git()?;
    let tree = Beneath::open(&project.root)?;
    let mut files: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for out in items.iter().flat_map(|item| &item.stages).flat_map(|stage| &stage.outs).filter(|out| out.cache) {
        let (path, line) = ignore_lines::line_of(&out.resolved);
        files.entry(path).or_default().insert(line);
    }
    let mut count = 0;
    for (path, mut lines) in files {
        let text = read(&tree, &path)?;
        let before = git.files_at(commit, &workspace::join(&prefix, &path))?;
        if let Some((_, before)) = before.first() {
            for line in String::from_utf8_lossy(&before.bytes).lines() {
                lines.remove(line.trim());
            }
        }
        let kept: String = text.split_inclusive('\n').filter(|line| !lines.contains(line.trim())).collect();
        if kept == text {
            continue;
        }
        count += 1;
        let at = project.root.join(&path);
        if kept.is_empty() { fs::remove(&at)? } else { fs::write(&at, kept.as_bytes())? }
    }
    Ok(count)
}

fn read(tree: &Beneath, path: &str) -> Result<String, Diagnostic> {
    match tree.look(path)? {
        None => Ok(String::new()),
        Some(Seen::File { .. }) => String::from_utf8(tree.read(path, MAX_GITIGNORE)?)
            .map_err(|_| Diagnostic::project(format!("`{path}` is not valid UTF-8")).at(diagnostic::Place::file(path))),
        Some(Seen::Symlink { .. } | Seen::Directory | Seen::Other) => {
            Err(Diagnostic::project(format!("`{path}` is not a regular file")).at(diagnostic::Place::file(path)))
        }
    }
}
