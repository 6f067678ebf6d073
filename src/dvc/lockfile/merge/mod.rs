//! Three-way merge of lock files, entry by entry.
//!
//! Per entry, with *base* at plan time, *ours* in the project now, *theirs* from a worker; absent is a value:
//!
//! | | result |
//! |---|---|
//! | theirs = base | ours |
//! | ours = base | theirs |
//! | ours = theirs | ours |
//! | otherwise | a conflict |
//!
//! An entry is merged whole: a mix of two entries would describe a run that never happened. Several workers' values are
//! merged at once, so that their order cannot matter: those that differ from base must agree.

use std::collections::HashMap;

use super::{Lockfile, entry};

/// The outcome for one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merge<V> {
    /// `None` where the value is absent in the end.
    Merged(Option<V>),
    /// More than one side changed it, each in its own way.
    Conflicted {
        base: Option<V>,
        ours: Option<V>,
        /// The different values that workers made of it, in their order; never empty.
        theirs: Vec<Option<V>>,
    },
}

/// Merges one value of any number of workers; `same` is equality of meaning.
pub(crate) fn merge_value<V: Copy>(
    base: Option<V>,
    ours: Option<V>,
    theirs: &[Option<V>],
    same: impl Fn(V, V) -> bool,
) -> Merge<V> {
    let same = |a: Option<V>, b: Option<V>| match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let mut changes: Vec<Option<V>> = Vec::new();
    for &value in theirs {
        if !same(value, base) && !changes.iter().any(|change| same(*change, value)) {
            changes.push(value);
        }
    }
    match changes[..] {
        [] => Merge::Merged(ours),
        [theirs] if same(ours, base) => Merge::Merged(theirs),
        [theirs] if same(ours, theirs) => Merge::Merged(ours),
        _ => Merge::Conflicted { base, ours, theirs: changes },
    }
}

/// What a worker, or a branch, says about one stage of a lock file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contribution<'t> {
    pub stage: &'t str,
    /// Its lines at plan time; the same in all contributions to a stage.
    pub base: Option<&'t str>,
    /// Its lines now; `None` where the entry was deleted.
    pub theirs: Option<&'t str>,
}

/// A lock file's merge.
#[derive(Debug, Default)]
pub(crate) struct LockMerge<'t> {
    /// The entries to write into ours (`None`: to delete), in the order of the contributions.
    pub changes: Vec<(&'t str, Option<&'t str>)>,
    /// The stages on which the sides do not agree, in the order of the contributions.
    pub conflicts: Vec<EntryConflict<'t>>,
}

/// A stage on which the sides do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryConflict<'t> {
    pub stage: &'t str,
    pub base: Option<&'t str>,
    pub ours: Option<&'t str>,
    pub theirs: Vec<Option<&'t str>>,
}

/// Merges contributions into `ours`; new entries are appended in the order in which their stages first appear.
pub(crate) fn merge<'t>(ours: &'t Lockfile<'_>, contributions: &[Contribution<'t>]) -> LockMerge<'t> {
    struct Stage<'t> {
        name: &'t str,
        base: Option<&'t str>,
        theirs: Vec<Option<&'t str>>,
    }
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(contributions.len());
    let mut stages: Vec<Stage<'t>> = Vec::with_capacity(contributions.len());
    for &Contribution { stage: name, base, theirs } in contributions {
        let place = *places.entry(name).or_insert(stages.len());
        if place == stages.len() {
            stages.push(Stage { name, base, theirs: Vec::with_capacity(1) });
        }
        stages[place].theirs.push(theirs);
    }
    let mut merged = LockMerge::default();
    for Stage { name: stage, base, theirs } in stages {
        let ours = ours.entry(stage).map(|entry| entry.text());
        match merge_value(base, ours, &theirs, |a, b| same_entry(stage, a, b)) {
            Merge::Merged(text) if text == ours => {}
            Merge::Merged(text) => merged.changes.push((stage, text)),
            Merge::Conflicted { base, ours, theirs } => {
                merged.conflicts.push(EntryConflict { stage, base, ours, theirs });
            }
        }
    }
    merged
}

/// Whether two entries of a stage mean the same to DVC; what cannot be read means nothing but itself.
pub(crate) fn same_entry(stage: &str, a: &str, b: &str) -> bool {
    a == b || matches!((entry::value(stage, a), entry::value(stage, b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests;
