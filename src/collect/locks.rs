//! Merges lock entries.

use std::collections::{BTreeMap, HashMap};

use super::{CollectConfig, Good, Resolution, change};
use crate::adapters::beneath::{Beneath, Seen};
use crate::collect::apply::{After, Change};
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::lockfile::conflict::Conflict;
use crate::dvc::lockfile::merge::{self, Contribution, same_entry};
use crate::dvc::lockfile::{Lockfile, LockfileError, move_to_end, splice};
use crate::dvc::pipeline::path;
use crate::state::decided::Decided;

/// The largest lock file that is read.
const MAX_LOCK: u64 = 1 << 30;

/// What merging lock entries comes to.
#[derive(Default)]
pub(super) struct Merged {
    pub changes: Vec<Change>,
    pub conflicts: Vec<Conflict>,
    /// The addresses of the stages whose entries are new, in the order of `dvc repro`.
    pub stages: Vec<String>,
    /// The stages that kept the project's entry by request.
    pub decided: Decided,
}

/// Returns the change of every lock file that gets new entries; entries that the results agree about with the project, or
/// that one side alone changed, are no conflict.
///
/// `all` are the good stages with those whose entries are there already: these take part in the order alone.
pub(super) fn merge(
    tree: &Beneath,
    good: &[Good<'_>],
    all: &[Good<'_>],
    config: &CollectConfig,
    decided: &Decided,
) -> Result<Merged, Diagnostic> {
    let mut whole = Merged::default();
    let mut good = by_lock(good);
    let mut written: Vec<(usize, String)> = vec![];
    for (path, all) in by_lock(all) {
        let good = good.remove(&path).unwrap_or_default();
        let text = read(tree, &path)?;
        let file = Lockfile::parse(&text).map_err(|error| refused(&path, &error))?;
        let merged = merge_one(&path, &file, &good, config, decided, &mut whole);
        if !merged.is_empty() || good.len() < all.len() {
            let spliced = splice(Some(&text), &merged).map_err(|error| refused(&path, &error))?;
            let spliced = in_order(spliced, &all).map_err(|error| refused(&path, &error))?;
            if spliced != text {
                whole.changes.push(change(&path, After::Bytes(spliced.into_bytes()), None));
            }
            let planned: HashMap<_, _> = good.iter().map(|good| (good.stage.name.as_deref(), good.stage)).collect();
            let stages = merged.iter().filter_map(|(name, _)| planned.get(&Some(*name)));
            written.extend(stages.map(|stage| (stage.order, stage.address.clone())));
        }
    }
    written.sort_unstable();
    whole.stages = written.into_iter().map(|(_, address)| address).collect();
    Ok(whole)
}

/// The stages that have an entry, under the path of its lock file.
fn by_lock<'a>(good: &[Good<'a>]) -> BTreeMap<String, Vec<Good<'a>>> {
    let mut by_lock: BTreeMap<String, Vec<Good<'_>>> = BTreeMap::new();
    for good in good.iter().filter(|good| good.stage.name.is_some() && good.entry.is_some()) {
        by_lock.entry(path::lock_path(&good.stage.file)).or_default().push(*good);
    }
    by_lock
}

/// Puts the entries that this run added, by this collection and those before it, into the order of `dvc repro`.
fn in_order(text: String, good: &[Good<'_>]) -> Result<String, LockfileError> {
    let order: HashMap<&str, usize> = good
        .iter()
        .filter(|good| good.stage.base.is_none())
        .filter_map(|good| Some((good.stage.name.as_deref()?, good.stage.order)))
        .collect();
    let file = Lockfile::parse(&text)?;
    let mut added: Vec<&str> = file.names().filter(|name| order.contains_key(name)).collect();
    if added.is_sorted_by_key(|name| order[name]) {
        return Ok(text);
    }
    added.sort_by_key(|name| order[name]);
    move_to_end(&text, &added)
}

/// Returns the entries to write into one lock file; conflicts and decisions go to the whole.
fn merge_one<'a>(
    path: &str,
    file: &'a Lockfile<'_>,
    good: &[Good<'a>],
    config: &CollectConfig,
    decided: &Decided,
    whole: &mut Merged,
) -> Vec<(&'a str, &'a str)> {
    let contribution = |good: &Good<'a>| {
        let stage = good.stage.name.as_deref()?;
        Some(Contribution { stage, base: good.stage.base.as_deref(), theirs: good.entry })
    };
    let contributions: Vec<_> = good.iter().filter_map(contribution).collect();
    let merged = merge::merge(file, &contributions);
    let mut entries: Vec<_> = merged.changes.iter().filter_map(|(name, text)| Some((*name, (*text)?))).collect();
    let is_new = |(name, _): &(&str, &str)| file.entry(name).is_none();
    let by_name: HashMap<&str, &Good<'_>> =
        good.iter().filter_map(|good| Some((good.stage.name.as_deref()?, good))).collect();
    for conflict in merged.conflicts {
        let theirs = conflict.theirs.last().copied().flatten();
        let takes_theirs = match config.resolution {
            Resolution::Theirs => true,
            Resolution::Ours => false,
            Resolution::Report => {
                conflict.ours.is_some_and(|ours| is_of_another_attempt(by_name[conflict.stage], ours))
            }
        };
        let address = &by_name[conflict.stage].stage.address;
        match theirs {
            Some(theirs) if takes_theirs => entries.push((conflict.stage, theirs)),
            _ if config.resolution == Resolution::Ours => {
                whole.decided.keep_stage(address, theirs.unwrap_or_default());
            }
            _ if decided.keeps_stage(address, theirs.unwrap_or_default()) => {}
            _ => {
                let line = file.entry(conflict.stage).map(|entry| entry.line());
                let place = Place { path: path.to_owned(), line, column: None };
                whole.conflicts.push(Conflict::explain(address, place, &conflict));
            }
        }
    }
    // What a resolution added takes its place among the new entries.
    if entries.iter().any(is_new) {
        entries.sort_by_key(|(name, _)| by_name[name].stage.order);
    }
    entries
}

/// Whether the project's entry is what an earlier attempt of this run left: then only this run changed it.
fn is_of_another_attempt(good: &Good<'_>, ours: &str) -> bool {
    let name = good.stage.name.as_deref().unwrap_or_default();
    let stages = good.result.others.iter().flat_map(|other| &other.result.stages);
    let mut entries =
        stages.filter(|stage| stage.address == good.stage.address).filter_map(|stage| stage.entry.as_deref());
    entries.any(|entry| same_entry(name, entry, ours))
}

fn read(tree: &Beneath, path: &str) -> Result<String, Diagnostic> {
    match tree.look(path)? {
        None => Ok(String::new()),
        Some(Seen::File { .. }) => String::from_utf8(tree.read(path, MAX_LOCK)?)
            .map_err(|_| Diagnostic::project(format!("`{path}` is not valid UTF-8")).at(Place::file(path))),
        Some(Seen::Symlink { .. } | Seen::Directory | Seen::Other) => {
            Err(Diagnostic::project(format!("`{path}` is not a regular file")).at(Place::file(path)))
        }
    }
}

fn refused(path: &str, error: &LockfileError) -> Diagnostic {
    Diagnostic::project(format!("`{path}` cannot be merged into: {error}"))
        .at(Place { path: path.to_owned(), line: Some(error.line), column: None })
        .cause("it is not in the layout that DVC writes, so entries cannot be put in without touching others")
        .hint("bring that line into DVC's layout, then run `dvc-fanout collect` again")
}
