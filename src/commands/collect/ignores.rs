//! Unites the lines of `.gitignore` files, or takes them out again after a failure.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Believed, CollectConfig, Good, Outcome, change};
use crate::adapters::beneath::{Beneath, Seen};
use crate::diagnostic::{self, Diagnostic};
use crate::model::ignore_lines;
use crate::state::apply::After;

/// The largest `.gitignore` that is read.
const MAX_GITIGNORE: u64 = 64 << 20;

/// A place in the order of `dvc repro`: the stage's, and that of the out among its outs.
type Place = (usize, usize);

/// Adds the lines that DVC wrote into `.gitignore` files, in the order of `dvc repro`; or removes them.
pub(super) fn merge(
    tree: &Beneath,
    believed: &[Believed<'_>],
    good: &[Good<'_>],
    config: &CollectConfig,
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
        let after = if config.take_back_ignores {
            let lines: HashSet<&str> = lines.into_iter().map(|(_, line)| line).collect();
            ignore_lines::without(&text, &lines)
        } else {
            Some(ignore_lines::unite(&text, lines))
        };
        let is_same = after.as_deref().unwrap_or_default() == text;
        if !is_same {
            let after = after.map_or(After::Nothing, |text| After::Bytes(text.into_bytes()));
            outcome.changes.push(change(path, after, None));
        }
    }
    Ok(())
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
