//! Deps that commands changed although another stage makes them, or a `.dvc` file records them.
//!
//! Under `dvc repro` such a change stays in the project. Without it the stage would be changed for ever, since its entry
//! records the dep with the change. So the files are taken along: data come into the project, and of an out, which other work
//! items may have read by now, a person decides.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use crate::adapters::dvc::cache::Cache;
use crate::adapters::fs::{self, FoundKind};
use crate::diagnostic::Diagnostic;
use crate::dvc::lockfile::EntryRef;
use crate::dvc::oid::ObjectKey;
use crate::dvc::pipeline::path::is_within;
use crate::dvc::pipeline::stage::Recorded;
use crate::model::run::StageState;
use crate::state::format::{Input, Object, StageResult, WorkItem};
use crate::state::{published, results};
use crate::worker::workspace::Sources;

/// Finds the files that are not as the stage that makes them, or the `.dvc` file, has recorded them, relative to the
/// project's root, each with the MD5 that was recorded; new ones have none. `made` is what became of the stages in the
/// workspace whose project is at `root`.
pub(super) fn find(
    item: &WorkItem,
    made: &[StageResult],
    sources: &Sources<'_>,
    root: &Path,
    cache: &Cache,
) -> Result<BTreeMap<String, Option<String>>, Diagnostic> {
    let mut found = BTreeMap::new();
    let own = own_outs(item, made);
    let new: HashSet<&str> = own.iter().map(|(_, object)| object.md5.as_str()).collect();
    for (planned, stage) in item.stages.iter().zip(made).filter(|(_, stage)| stage.state == StageState::Ran) {
        let (Some(name), Some(text)) = (&planned.name, &stage.entry) else { continue };
        let Ok(entry) = EntryRef::of(name, text).parse() else { continue };
        for dep in &entry.deps {
            let Some(now) = &dep.recorded.md5 else { continue };
            // What is in the cache is as somebody has recorded it, if it did not come there now.
            if !new.contains(now.as_str()) && ObjectKey::parse(now, false).is_none_or(|key| cache.has(key)) {
                continue;
            }
            for (path, object) in given(item, &own, sources, &dep.path)? {
                if object.md5 != *now && !object.legacy {
                    found.extend(differing(root, path, &object, cache)?);
                }
            }
        }
    }
    Ok(found)
}

/// What the workspace was given at a path as an entry writes it, by `.dvc` files and by other stages, and where that is.
fn given<'i>(
    item: &'i WorkItem,
    own: &[(&'i str, Object)],
    sources: &Sources<'_>,
    written: &str,
) -> Result<Vec<(&'i str, Object)>, Diagnostic> {
    let mut given = vec![];
    // Its own outs are there as they were, if it may find them unchanged.
    let is_own =
        |path: &str| item.stages.iter().flat_map(|stage| &stage.outs).any(|out| is_within(path, &out.resolved));
    let is_meant = |input: &&Input| input.member().is_none() && may_be(input.path(), written) && !is_own(input.path());
    for input in item.inputs.iter().filter(is_meant) {
        let object = match input {
            Input::Cache { .. } => input.object(),
            Input::Result { index, stage, out, .. } => {
                let published = results::best(sources.run, *index)?;
                let recorded = published.and_then(|published| published.recorded_out(stage, out));
                recorded.as_ref().and_then(Object::recorded)
            }
            _ => None,
        };
        given.extend(object.map(|object| (input.path(), object)));
    }
    given.extend(own.iter().filter(|(path, _)| may_be(path, written)).cloned());
    Ok(given)
}

/// The cached outs of a work item's good stages: where they are, and what their entries record.
fn own_outs<'i>(item: &'i WorkItem, made: &[StageResult]) -> Vec<(&'i str, Object)> {
    let mut own = vec![];
    for (planned, stage) in item.stages.iter().zip(made) {
        let recorded: HashMap<String, Recorded> = published::all_recorded(stage).into_iter().collect();
        own.extend(
            planned
                .outs
                .iter()
                .filter(|out| out.cache)
                .filter_map(|out| Some((out.resolved.as_str(), recorded.get(&out.path).and_then(Object::recorded)?))),
        );
    }
    own
}

/// Whether a path of the project may be the one that an entry has, as seen from the directory of the stage's commands.
fn may_be(path: &str, written: &str) -> bool {
    let inside = written.trim_start_matches("./").trim_start_matches("../").trim_end_matches('/');
    path == inside || path.strip_suffix(inside).is_some_and(|before| before.ends_with('/'))
}

/// The files of an object that are there in another way, or are new, each with the MD5 that it had.
fn differing(
    root: &Path,
    path: &str,
    object: &Object,
    cache: &Cache,
) -> Result<Vec<(String, Option<String>)>, Diagnostic> {
    let at = root.join(path);
    let is_as = |file: &Path, md5: &str| fs::digest(file).is_ok_and(|(now, _)| now == md5);
    let Some(key) = object.key() else { return Ok(vec![]) };
    if !key.oid.is_directory() {
        let differs = at.is_file() && !is_as(&at, &object.md5);
        return Ok(if differs { vec![(path.to_owned(), Some(object.md5.clone()))] } else { vec![] });
    }
    let Some(members) = cache.members(key).filter(|_| at.is_dir()) else { return Ok(vec![]) };
    let members: HashMap<&str, String> =
        members.iter().map(|member| (member.relpath.as_str(), member.md5.to_string())).collect();
    let is_member = |relative: &str| members.get(relative).is_some_and(|md5| is_as(&at.join(relative), md5));
    let files = fs::walk(&at, &|_| false)?.into_iter().filter(|found| found.kind != FoundKind::Directory);
    let others = files.filter(|found| found.kind != FoundKind::Other && !is_member(&found.path));
    Ok(others.map(|found| (format!("{path}/{}", found.path), members.get(found.path.as_str()).cloned())).collect())
}

#[cfg(test)]
mod tests {
    use super::may_be;

    #[test]
    fn a_dep_is_found_by_the_end_of_its_path() {
        assert!(may_be("data/a.h5", "data/a.h5") && may_be("sub/data/a", "../data/a") && may_be("sub/a", "./a/"));
        assert!(!may_be("data/a.h5", "a.h") && !may_be("data", "data/a") && !may_be("xa", "a"));
    }
}
