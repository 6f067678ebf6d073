//! What workers are to see although no snapshot holds it and no stage declares it: environments, built programs, tokens.
//!
//! A folder is carried as a whole, at the cost of a link, unless it holds outs, stage files or something of the snapshot;
//! then what is in it is looked at one by one.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::path::Path;

use super::{Situation, head_start, outs};
use crate::adapters::fs;
use crate::adapters::git::Git;
use crate::adapters::git::ignore::Ignores;
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path::{self, join};
use crate::model::carry::{Carry, has_below};
use crate::state::format::{Carried, Plan};

/// Finds everything in the git work tree that is in no snapshot and that DVC does not put there; of what it puts there, what
/// commands name (`named`, relative to the project's root).
pub(super) fn find(
    situation: &Situation<'_>,
    git: &Git,
    patterns: &[String],
    named: &BTreeSet<String>,
) -> Result<Carried, Diagnostic> {
    let carry = Carry::parse(patterns).map_err(|error| Diagnostic::usage(format!("`--carry`: {error}")))?;
    let root = &situation.home.root;
    let top = Plan::top_of(root, situation.prefix);
    let inside = |path: &str| join(situation.prefix, path);
    let mut taken: BTreeSet<String> = outs(situation.project).into_iter().map(inside).collect();
    taken.extend(situation.dvc_files.keys().filter(|path| path::is_inside(path)).map(|path| inside(path)));
    taken.insert(inside(".dvc"));
    let cache = Path::new(&situation.home.config.cache_dir).strip_prefix(top);
    taken.extend(cache.ok().map(|cache| cache.to_string_lossy().into_owned()));
    let ignores = git.ignores();
    let mut search =
        Search { situation, carry: &carry, ignores: &ignores, top, taken: &taken, found: Carried::default() };
    search.folder("");
    for path in named {
        search.leaf(inside(path), root.join(path).is_dir());
    }
    let mut found = search.found;
    found.linked.sort_unstable();
    found.left_out.sort_unstable();
    found.awaited = awaited(situation, git, &carry, top, &taken)?;
    found.head_start = head_start::expected(situation, &found.awaited);
    Ok(found)
}

/// The paths that stages declare, relative to the top of the git work tree: outs, deps, params files and stage files.
pub(super) fn declared(situation: &Situation<'_>) -> BTreeSet<String> {
    let stages = &situation.project.stages;
    let deps = stages.iter().flat_map(|stage| &stage.deps).filter_map(|dep| dep.resolved.as_deref());
    let params = stages.iter().flat_map(|stage| &stage.params).map(|params| params.resolved.as_str());
    let own = situation.dvc_files.keys().map(String::as_str);
    let all = outs(situation.project).into_iter().chain(deps).chain(params).chain(own);
    all.filter(|path| path::is_inside(path)).map(|path| join(situation.prefix, path)).collect()
}

/// The deps that are no out, relative to the top of the git work tree: what commands make in such a folder, as Python does in
/// one of sources, belongs to it from then on.
pub(super) fn deps(situation: &Situation<'_>) -> BTreeSet<String> {
    let outs = outs(situation.project);
    let deps = situation.project.stages.iter().flat_map(|stage| &stage.deps).filter_map(|dep| dep.resolved.as_deref());
    let is_made = |path: &str| path::at_and_above(path).any(|path| outs.contains(path));
    let own = deps.filter(|path| path::is_inside(path) && !is_made(path));
    own.map(|path| join(situation.prefix, path)).collect()
}

struct Search<'a> {
    situation: &'a Situation<'a>,
    carry: &'a Carry,
    ignores: &'a Ignores,
    /// The top of the git work tree.
    top: &'a Path,
    /// What DVC puts there, relative to the top.
    taken: &'a BTreeSet<String>,
    found: Carried,
}

impl Search<'_> {
    /// Looks at what is in a folder; one that cannot be listed counts as empty.
    fn folder(&mut self, folder: &str) {
        let entries = std::fs::read_dir(self.top.join(folder)).into_iter().flatten().flatten();
        let mut entries: Vec<(String, DirEntry)> =
            entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry))).collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, entry) in entries {
            let path = join(folder, &name);
            // A repository knows where its own `.git` is, and DVC writes no lines through a link.
            if ![".git", ".gitignore"].contains(&name.as_str()) && !self.taken.contains(&path) {
                self.entry(path, entry.file_type().is_ok_and(|kind| kind.is_dir()));
            }
        }
    }

    fn entry(&mut self, path: String, is_dir: bool) {
        let work_tree = self.situation.work_tree;
        if !is_dir {
            if !work_tree.has(&path) {
                self.leaf(path, false);
            }
            return;
        }
        let from_root = from_root(self.situation.prefix, &path);
        if work_tree.has_below(&path) || has_below(self.taken, &path) || self.carry.looks_into(from_root) {
            self.folder(&path);
        } else if !self.is_empty(&path) {
            self.leaf(path, true);
        }
    }

    /// Whether there is nothing but folders below a folder that git does not ignore: they are made, as a link would be no
    /// folder to who copies it.
    fn is_empty(&mut self, path: &str) -> bool {
        if self.ignores.is_ignored(&format!("{path}/")).unwrap_or(true) {
            return false;
        }
        let mut folders = vec![path.to_owned()];
        let mut at = 0;
        while let Some(folder) = folders.get(at).map(|folder| self.top.join(folder)) {
            for entry in folder.read_dir().into_iter().flatten() {
                let Ok(entry) = entry else { return false };
                let name = entry.file_name().into_string();
                let (Ok(name), true) = (name, entry.file_type().is_ok_and(|kind| kind.is_dir())) else { return false };
                folders.push(join(&folders[at], &name));
            }
            at += 1;
        }
        self.found.folders.extend(folders);
        true
    }

    fn leaf(&mut self, path: String, is_dir: bool) {
        if self.carry.takes(from_root(self.situation.prefix, &path), is_dir) {
            self.found.linked.push(path);
        } else {
            self.found.left_out.push(path);
        }
    }
}

/// A path as seen from the project's root where it lies in the project, else from the top of the work tree.
fn from_root<'p>(prefix: &str, path: &'p str) -> &'p str {
    path::inside(prefix, path).unwrap_or(path)
}

/// What ignore files name, without wildcards, and what is not there: beside an ignore file, in the project's root, and
/// where commands run.
fn awaited(
    situation: &Situation<'_>,
    git: &Git,
    carry: &Carry,
    top: &Path,
    taken: &BTreeSet<String>,
) -> Result<Vec<String>, Diagnostic> {
    let stages = &situation.project.stages;
    let ignores = git.ignores();
    let mut folders: BTreeSet<String> = BTreeSet::from([String::new(), situation.prefix.to_owned()]);
    let wdirs: BTreeSet<&str> = stages.iter().map(|stage| stage.wdir.as_str()).collect();
    let below = wdirs.into_iter().filter(|wdir| !wdir.is_empty() && path::is_inside(wdir));
    folders.extend(below.map(|wdir| join(situation.prefix, wdir)));
    let mut found = BTreeSet::new();
    for folder in &folders {
        let text = fs::read_text_if_any(&top.join(folder).join(".gitignore")).ok().flatten().unwrap_or_default();
        for line in text.lines().map(str::trim_end) {
            let name = line.trim_end_matches('/');
            if name.is_empty() || name.starts_with(['#', '!']) || name.contains(['*', '?', '[', '\\']) {
                continue;
            }
            let here = [folder.as_str()];
            let below = folders.iter().map(String::as_str).filter(|other| path::is_within(other, folder));
            let places: Vec<&str> = if name.contains('/') { here.to_vec() } else { below.collect() };
            for place in places {
                let path = join(place, name.trim_start_matches('/'));
                let is_free = !fs::exists(&top.join(&path)) && !taken.contains(&path) && !has_below(taken, &path);
                let is_wanted = is_free && carry.takes(from_root(situation.prefix, &path), true);
                if is_wanted && ignores.is_ignored(&format!("{path}/"))? {
                    found.insert(path);
                }
            }
        }
    }
    Ok(found.into_iter().collect())
}
