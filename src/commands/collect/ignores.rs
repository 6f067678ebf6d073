//! Unites the lines of `.gitignore` files.

use std::collections::{BTreeMap, HashMap};

use super::{Believed, Good, Outcome, change};
use crate::adapters::beneath::{Beneath, Seen};
use crate::diagnostic::{self, Diagnostic};
use crate::state::apply::After;

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
        let directory = ignore.path.strip_suffix(".gitignore").unwrap_or_default();
        for line in &ignore.lines {
            let out = format!("{directory}{}", line.trim_start_matches('/'));
            let place = outs.get(out.as_str()).copied().unwrap_or((usize::MAX, 0));
            files.entry(&ignore.path).or_default().push((place, line));
        }
    }
    for (path, mut lines) in files {
        lines.sort_by_key(|(place, _)| *place);
        let text = read(tree, path)?;
        let united = unite(&text, lines.iter().map(|(_, line)| *line));
        if united != text {
            outcome.changes.push(change(path, After::Bytes(united.into_bytes()), None));
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

/// Appends the lines that a text does not have, once each.
fn unite<'l>(ours: &str, lines: impl Iterator<Item = &'l str>) -> String {
    let mut text = ours.to_owned();
    let mut known: std::collections::HashSet<&str> = ours.lines().collect();
    for line in lines.filter(|line| known.insert(line)) {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_once_and_none_is_lost() {
        assert_eq!(unite("/a\n/b", ["/b", "/c", "/c"].into_iter()), "/a\n/b\n/c\n");
        assert_eq!(unite("", ["/a"].into_iter()), "/a\n");
        assert_eq!(unite("/a", ["/a"].into_iter()), "/a");
    }
}
