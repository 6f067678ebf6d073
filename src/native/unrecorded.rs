//! What DVC leaves of directories that a stage's entry does not have yet.
//!
//! Until it has hashed them, DVC takes deps and outs that the entry does not have for some of DVC 2 (`dvc/output.py:
//! update_legacy_hash_name`), and each time it hashes such a directory, the object that lists its files stays where those
//! of DVC 2 lie.
//!
//! | when | of which |
//! |---|---|
//! | it asks whether the stage is changed | the first dep or out that is |
//! | it looks for an earlier run | all deps |
//! | it records what the command left | all outs, and all deps unless it has looked for an earlier run |

use super::Place;
use crate::adapters::dvc::store::StoreError;
use crate::dvc::changed::{FirstChange, Subject};
use crate::dvc::hash::{HashName, Hashed};
use crate::dvc::lockfile::LockItem;
use crate::dvc::pipeline::path;

/// Leaves what DVC leaves when it finds a stage changed.
pub(super) fn note_change(place: &Place<'_>, subject: Subject<'_>, change: FirstChange) -> Result<(), StoreError> {
    match change {
        FirstChange::Dep(at) => note_dep(place, subject, at),
        FirstChange::Out(at) => note_out(place, subject, at),
        FirstChange::Other => Ok(()),
    }
}

/// Leaves what DVC leaves of all deps of a stage.
pub(super) fn note_deps(place: &Place<'_>, subject: Subject<'_>) -> Result<(), StoreError> {
    (0..subject.stage.deps.len()).try_for_each(|at| note_dep(place, subject, at))
}

fn note_dep(place: &Place<'_>, Subject { stage, entry }: Subject<'_>, at: usize) -> Result<(), StoreError> {
    let dep = &stage.deps[at];
    let is_known = entry.is_none_or(|entry| has(&entry.deps, &dep.path));
    note(place, dep.resolved.as_deref().filter(|_| !is_known))
}

/// Leaves what DVC leaves of one of a stage's outs.
pub(super) fn note_out(place: &Place<'_>, Subject { stage, entry }: Subject<'_>, at: usize) -> Result<(), StoreError> {
    let out = &stage.outs[at];
    let is_known = entry.is_none_or(|entry| has(&entry.outs, &out.path));
    note(place, out.resolved.as_deref().filter(|_| !is_known))
}

fn has(items: &[LockItem], path: &str) -> bool {
    items.iter().any(|item| item.path == path)
}

fn note(place: &Place<'_>, path: Option<&str>) -> Result<(), StoreError> {
    let Some(path) = path.filter(|path| path::is_inside(path) && place.root.join(path).is_dir()) else { return Ok(()) };
    let hasher = place.hasher();
    match hasher.content(path, HashName::Md5Dos2unix)? {
        Some(content) if matches!(content.hashed, Hashed::Directory { .. }) => {
            place.store.add_text(content.hashed.oid().by(HashName::Md5Dos2unix), &content.text, &hasher)
        }
        Some(_) | None => Ok(()),
    }
}
