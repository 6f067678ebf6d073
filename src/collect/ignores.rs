//! Unites the lines of `.gitignore` files.
//!
//! Whatever is collected brings its lines with it, be the run a success or not. A `dvc repro` that fails takes back the
//! lines of stages that succeeded too (treeverse/dvc#11091), and no later one adds them: the data would be what the next
//! `git add` takes.

use std::collections::{BTreeMap, HashMap};

use super::{Believed, Good, change};
use crate::adapters::beneath::{Beneath, Seen};
use crate::collect::apply::{After, Change};
use crate::diagnostic::{self, Diagnostic};
use crate::dvc::ignore_lines;

/// The largest `.gitignore` that is read.
const MAX_GITIGNORE: u64 = 64 << 20;

/// A place in the order of `dvc repro`: the stage's, and that of the out among its outs.
type Place = (usize, usize);

/// Returns the changes that add the lines that DVC wrote into `.gitignore` files, in the order of `dvc repro`.
pub(super) fn merge<'a>(
    tree: &Beneath,
    results: impl Iterator<Item = &'a Believed<'a>>,
    good: &[Good<'_>],
) -> Result<Vec<Change>, Diagnostic> {
    // A line belongs to the out that it names; lines that name none come last.
    let mut outs: HashMap<&str, Place> = HashMap::new();
    for good in good {
        for (position, out) in good.stage.outs.iter().enumerate() {
            outs.insert(&out.resolved, (good.stage.order, position));
        }
    }
    let mut files: BTreeMap<&str, Vec<(Place, &str)>> = BTreeMap::new();
    for ignore in results.flat_map(|result| &result.published.result.ignore) {
        for line in &ignore.lines {
            let out = ignore_lines::out_of(&ignore.path, line);
            let place = outs.get(out.as_str()).copied().unwrap_or((usize::MAX, 0));
            files.entry(&ignore.path).or_default().push((place, line));
        }
    }
    let mut changes = vec![];
    for (path, lines) in files {
        let text = read(tree, path)?;
        let united = ignore_lines::unite(&text, lines);
        if united != text {
            changes.push(change(path, After::Bytes(united.into_bytes()), None));
        }
    }
    Ok(changes)
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
