//! Unites what several work items did to one text that no stage declares, as they would have done one after the other.
//!
//! | what they did | what becomes of it |
//! |---|---|
//! | added at the end | all of it, in the order of `dvc repro` |
//! | edited other lines | all of it |
//! | listed params, metrics or plots in a `dvc.yaml` | all of it, by item |
//! | wrote the whole anew, or edited the same lines | it cannot be united |
//! | wrote it as it was | what the others made of it, where that has anything of it |

use std::collections::{BTreeMap, HashMap, HashSet};

use similar::TextMerge;

use super::Believed;
use crate::adapters::fs;
use crate::adapters::git::{self, Store};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path;
use crate::dvc::stage_file;
use crate::state::format::{Plan, ResultFile};
use crate::state::home::ProjectHome;
use crate::state::published::Published;

/// Larger files are no texts that somebody edits.
const MAX_SIZE: u64 = 1 << 20;

/// The versions of files that no stage declares, in the order of `dvc repro`.
pub(super) struct Texts<'a> {
    versions: HashMap<&'a str, BTreeMap<usize, (&'a ResultFile, &'a Published)>>,
    /// The paths that work items have deleted.
    deleted: HashSet<&'a str>,
}

impl<'a> Texts<'a> {
    pub(super) fn of(believed: &'a [Believed<'a>]) -> Self {
        let mut versions: HashMap<&str, BTreeMap<usize, _>> = HashMap::new();
        for result in believed {
            for file in result.published.result.files.iter().filter(|file| file.is_own_beside()) {
                versions.entry(&file.path).or_default().insert(result.order(), (file, result.published.as_ref()));
            }
        }
        let deleted = believed.iter().flat_map(|result| &result.published.result.deleted);
        Texts { versions, deleted: deleted.map(String::as_str).collect() }
    }

    /// Whether several work items wrote a path.
    pub(super) fn are_several(&self, path: &str) -> bool {
        self.versions.get(path).is_some_and(|versions| versions.len() > 1)
    }

    /// What all versions of a path make of `ours`, the text that the project has: `None` where this run alone changed it.
    ///
    /// Returns `None` where they cannot be united.
    pub(super) fn unite(
        &self,
        project: &ProjectHome,
        plan: &Plan,
        prefix: &str,
        path: &str,
        ours: Option<&str>,
    ) -> Result<Option<String>, Diagnostic> {
        let Some(versions) = self.versions.get(path) else { return Ok(None) };
        let mut texts = HashMap::new();
        for (file, published) in versions.values() {
            let Some(text) = text_of(file, published)? else { return Ok(None) };
            texts.insert(file.md5.as_str(), text);
        }
        let planned = planned(project, plan, &path::join(prefix, path))?;
        let before = |file: &ResultFile| {
            let md5 = file.given.as_ref().or(file.before.as_ref())?;
            let known = planned.as_ref().filter(|(planned, _)| planned == md5).map(|(_, text)| text);
            known.or_else(|| texts.get(md5.as_str()))
        };
        let mut united = ours.map(str::to_owned);
        let is_as_before = |(file, _): &&(&ResultFile, &Published)| file.is_as_before();
        let some_as_before = versions.values().any(|version| is_as_before(&version));
        for (file, _) in versions.values().filter(|version| !is_as_before(version)) {
            let Some(base) = before(file) else { return Ok(None) };
            let theirs = &texts[file.md5.as_str()];
            if some_as_before && (self.deleted.contains(path) || !have_a_line_in_common(base, theirs)) {
                return Ok(None);
            }
            let so_far = united.unwrap_or_else(|| base.clone());
            let Some(merged) = merge(path, base, &so_far, theirs, ours.is_some()) else { return Ok(None) };
            united = Some(merged);
        }
        Ok(united)
    }
}

fn have_a_line_in_common(a: &str, b: &str) -> bool {
    let lines: HashSet<&str> = a.lines().collect();
    b.lines().any(|line| lines.contains(line))
}

/// The text of a version, if it is one.
fn text_of(file: &ResultFile, published: &Published) -> Result<Option<String>, Diagnostic> {
    if file.symlink.is_some() || file.size > MAX_SIZE {
        return Ok(None);
    }
    Ok(String::from_utf8(fs::read(&published.blob(file))?).ok())
}

/// The text that a path of the work tree had at the plan, with its digest.
fn planned(project: &ProjectHome, plan: &Plan, path: &str) -> Result<Option<(String, String)>, Diagnostic> {
    let Some(snapshot) = &plan.snapshot else { return Ok(None) };
    let Ok(store) = Store::open(&project.fanout().run(&plan.run).snapshot()) else { return Ok(None) };
    Ok(store.file_at(snapshot, path)?.and_then(|file| match file.content {
        git::Content::Bytes(bytes) => Some((fs::digest_bytes(&bytes), String::from_utf8(bytes).ok()?)),
        git::Content::Symlink(_) | git::Content::Linked => None,
    }))
}

/// Adds what was done to a text to another one; `may_be_there` says that it may have been added before.
fn merge(path: &str, base: &str, ours: &str, theirs: &str, may_be_there: bool) -> Option<String> {
    if path::file_name(path) == "dvc.yaml" {
        return stage_file::merge(base, ours, theirs);
    }
    // What adds at the end does so whatever others have done before.
    if let Some(added) = theirs.strip_prefix(base) {
        let is_there = may_be_there && ours.strip_prefix(base).unwrap_or(ours).contains(added);
        return Some(if is_there { ours.to_owned() } else { format!("{ours}{added}") });
    }
    let merged = TextMerge::from_lines(base, ours, theirs);
    (!merged.is_conflicted()).then(|| merged.to_string())
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[track_caller]
    fn check(base: &str, ours: &str, theirs: &str, may_be_there: bool, expected: Option<&str>) {
        assert_eq!(merge("notes.txt", base, ours, theirs, may_be_there).as_deref(), expected);
    }

    #[test]
    fn additions_and_edits_of_other_lines_are_united() {
        check("a\n", "a\np\n", "a\nq\n", false, Some("a\np\nq\n"));
        check("a\n", "a\ndone\n", "a\ndone\n", false, Some("a\ndone\ndone\n"));
        check("a\n", "a\np\nq\n", "a\np\n", true, Some("a\np\nq\n"));
        check("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", false, Some("A\nb\nC\n"));
        check("a\n", "p\n", "q\n", false, None);
        check("a\nb\n", "a\nb\np\n", "a\nB\n", false, None);
        check("a\nb\n", "a\nB\n", "a\nb\np\n", false, Some("a\nB\np\n"));
        // One that began with what another one had added.
        check("a\nq\n", "a\np\nq\nr\n", "a\nq\ns\n", false, Some("a\np\nq\nr\ns\n"));
    }
}
