//! Puts into a workspace what a work item needs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Sources, Workspace, WorkspaceError, make_parent, projection};
use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::place::{CachedOut, make_empty, place_cached};
use crate::adapters::fs::{self, FoundKind, FsError};
use crate::adapters::git::{Content, linked};
use crate::adapters::mounts::Aside;
use crate::adapters::odd_names;
use crate::dvc::config::LinkType;
use crate::dvc::ignore_lines;
use crate::dvc::lockfile::splice;
use crate::dvc::pipeline::path::{from_top, is_within, join, lock_path};
use crate::model::making;
use crate::model::numbers::ItemIndex;
use crate::state::format::{Input, LockSource, PlannedOut, ResultFile, WorkItem};
use crate::state::published::Published;
use crate::state::results;

/// DVC's config, which stays in a workspace from one work item to the next.
pub(super) const CONFIG: [&str; 2] = [".dvc/config", ".dvc/config.local"];

/// Up to here, files of an input that are no links in the project are none in a workspace.
const MAX_OWN: u64 = 64 << 20;

impl Workspace {
    /// Puts in what a work item needs: DVC's config, inputs, and beside it the lock entries.
    pub(crate) fn fill(&mut self, item: &WorkItem, sources: &Sources<'_>) -> Result<(), WorkspaceError> {
        self.given.clear();
        self.gone.clear();
        let root = self.root();
        let inputs = item.inputs.iter().map(Input::path);
        let written = item.files.iter().map(|file| file.path.as_str());
        for path in inputs.chain(written).chain(item.directories.iter().map(String::as_str)) {
            self.make_way(path)?;
        }
        for path in item.files.iter().flat_map(|file| making::environments(&file.text)) {
            self.carried.copy_in_place(&join(&self.prefix, path))?;
        }
        fs::create_dir(&root.join(".dvc"))?;
        for (path, text) in CONFIG.into_iter().zip([sources.config.0, sources.config.1]) {
            let to = root.join(path);
            if !fs::read_text_if_any(&to).is_ok_and(|there| there.as_deref() == Some(text)) {
                fs::write_plain(&to, text.as_bytes())?;
            }
        }
        // A killed DVC leaves its claims on paths here, and another process may have its id by now.
        fs::remove(&root.join(".dvc/tmp/rwlock"))?;
        for directory in &item.directories {
            fs::create_dir(&root.join(directory))?;
        }
        projection::begin(&self.slot, &base_locks(item)?)?;
        let mut results: HashMap<ItemIndex, Published> = HashMap::new();
        for &index in &item.needs {
            if let Some(published) = results::best(sources.run, index)? {
                results.insert(index, published);
            }
        }
        item.inputs.iter().try_for_each(|input| self.place(input, sources, &results))?;
        self.place_by_the_way(item, &results)
    }

    /// Puts in what earlier work items left beside their outs: lines of `.gitignore` files, and files that nobody
    /// declares; takes out what they have deleted. A directory that is a dep is hashed with them.
    fn place_by_the_way(
        &mut self,
        item: &WorkItem,
        results: &HashMap<ItemIndex, Published>,
    ) -> Result<(), WorkspaceError> {
        let root = self.root();
        let mut orders: HashMap<&str, usize> = HashMap::new();
        for input in &item.inputs {
            if let Input::Result { path, order, .. } = input {
                orders.insert(path, *order);
            }
        }
        // What one has changed is newer than what another one has only passed on.
        for is_passed in [true, false] {
            for published in item.needs.iter().filter_map(|index| results.get(index)) {
                let is_one = |file: &&ResultFile| file.stage.is_none() && file.passed == is_passed;
                for file in published.result.files.iter().filter(is_one) {
                    self.make_way(&file.path)?;
                    let to = root.join(&file.path);
                    fs::remove(&to)?;
                    published.place_file(file, &to)?;
                    self.gone.remove(&file.path);
                    self.given.insert(file.path.clone(), file.clone());
                }
                let result = &published.result;
                for path in if is_passed { &result.gone } else { &result.deleted } {
                    let is_given = self.given.remove(path).is_some();
                    // Of nothing else it is known that no link leads out of the workspace on the way there.
                    if is_given || self.position(&join(&self.prefix, path)).is_some() {
                        fs::remove(&root.join(path))?;
                    }
                    self.gone.insert(path.clone());
                }
            }
        }
        let mut lines: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
        for index in &item.needs {
            let Some(published) = results.get(index) else { continue };
            for ignore in &published.result.ignore {
                let order = |line: &str| orders.get(ignore_lines::out_of(&ignore.path, line).as_str()).copied();
                let own = ignore.lines.iter().map(|line| (order(line).unwrap_or(usize::MAX), line.as_str()));
                lines.entry(&ignore.path).or_default().extend(own);
            }
            for directory in &published.result.empty {
                self.make_way(&directory.path)?;
                let at = root.join(&directory.path);
                fs::create_dir(&at)?;
                // Else the project would have it as whichever work item comes first has seen it.
                fs::set_directory_mode(&at, directory.mode)?;
            }
        }
        let own = self.own_lines(item, &lines)?;
        for (path, mut lines) in lines {
            lines.extend(own.iter().filter(|(of, _, _)| of == path).map(|(_, order, line)| (*order, line.as_str())));
            let before = fs::read_text_if_any(&root.join(path))?.unwrap_or_default();
            fs::write_plain(&root.join(path), ignore_lines::unite(&before, lines).as_bytes())?;
        }
        Ok(())
    }

    /// The `.gitignore` lines, as `(path of the file, order, line)`, that the work item's own stages would have added
    /// before earlier work items added theirs: DVC, which appends, must find them in their place.
    fn own_lines(
        &self,
        item: &WorkItem,
        earlier: &BTreeMap<&str, Vec<(usize, &str)>>,
    ) -> Result<Vec<(String, usize, String)>, WorkspaceError> {
        let mut own = vec![];
        for stage in &item.stages {
            for out in stage.outs.iter().filter(|out| out.cache) {
                let (path, line) = ignore_lines::line_of(&out.resolved);
                let lines = earlier.get(path.as_str()).map(Vec::as_slice).unwrap_or_default();
                if lines.iter().any(|(order, _)| *order != usize::MAX && *order > stage.order) {
                    own.push((out, path, stage.order, line));
                }
            }
        }
        if own.is_empty() {
            return Ok(vec![]);
        }
        // What a pattern of the user's covers gets no line.
        let ignores = self.git()?.ignores();
        let is_covered = |out: &PlannedOut| ignores.is_ignored(&join(&self.prefix, &out.resolved));
        let mut lines = vec![];
        for (out, path, order, line) in own {
            if !is_covered(out)? {
                lines.push((path, order, line));
            }
        }
        Ok(lines)
    }

    /// Makes a path of the project free of links into it, which what is put there would follow.
    fn make_way(&self, path: &str) -> Result<(), FsError> {
        self.carried.make_way(&from_top(&self.prefix, path))
    }

    fn place(
        &self,
        input: &Input,
        sources: &Sources<'_>,
        results: &HashMap<ItemIndex, Published>,
    ) -> Result<(), WorkspaceError> {
        let root = self.root();
        match input {
            Input::Cache { path, md5, legacy, isexec, executable, empty, member } => {
                let wanted = member.as_ref().map_or_else(|| path.clone(), |member| join(path, member));
                let own = own_files(sources, &wanted)?;
                let object = CachedOut { path, md5, legacy: *legacy, isexec: *isexec, executable, empty, own: &own };
                place_cached(&root, &object, member.as_deref(), &sources.placing)?;
                Ok(imitate(&sources.project.join(path), &root.join(path))?)
            }
            Input::Snapshot { path } => {
                let commit = sources.plan.snapshot.as_deref().unwrap_or_default();
                let inside = join(&self.prefix, path);
                for (file, found) in sources.store.files_at(commit, &inside)? {
                    let to = self.top.join(&file);
                    make_parent(&to)?;
                    match &found.content {
                        Content::Symlink(target) => fs::symlink(OsStr::from_bytes(target), &to)?,
                        Content::Bytes(bytes) => {
                            fs::write_plain(&to, bytes)?;
                            fs::set_executable(&to, found.executable)?;
                            fs::imitate(&self.project.join(&file), &to)?;
                        }
                        Content::Linked => {
                            if !linked::bring(&self.project.join(&file), &to)? {
                                return Err(WorkspaceError::Gone { path: path.clone() });
                            }
                        }
                    }
                }
                Ok(())
            }
            Input::Workspace { path } => {
                let from = sources.project.join(path);
                if from.symlink_metadata().is_err() {
                    return Err(WorkspaceError::Gone { path: path.clone() });
                }
                let to = root.join(path);
                // A symlink of the snapshot that leads nowhere from here.
                if to.is_symlink() {
                    fs::remove(&to)?;
                }
                Ok(copy_tree(&from, &to, self.aside.as_ref())?)
            }
            Input::Link { path } => {
                let (from, to) = (sources.project.join(path), root.join(path));
                make_parent(&to)?;
                Ok(fs::symlink(self.aside.as_ref().map_or_else(|| from.clone(), |aside| aside.of(&from)), &to)?)
            }
            Input::OddNames { path } => Ok(odd_names::copy(&sources.project.join(path), &root.join(path))?),
            Input::Lock { path, entries } => self.place_lock(path, entries, sources, results),
            Input::Result { path, index, stage, out, member, order: _ } => {
                let missing = || WorkspaceError::NoResult { index: *index, path: path.clone() };
                let Some(published) = results.get(index).filter(|published| published.is_good(stage)) else {
                    // Then it is up to DVC what the stage makes of it.
                    return if sources.plan.options.allow_missing_keys { Ok(()) } else { Err(missing()) };
                };
                let own = || published.files_of(stage, path, member.as_deref()).filter(|file| !file.hidden);
                if own().next().is_some() {
                    for file in own() {
                        published.place_file(file, &root.join(&file.path))?;
                    }
                    make_empty(&root, path, member.as_deref(), published.empty_of(stage))?;
                    return Ok(published.set_modes(&root, path)?);
                }
                let recorded = published.recorded_out(stage, out).ok_or_else(missing)?;
                let md5 = recorded.md5.as_deref().ok_or_else(missing)?;
                let (executable, empty) = (published.executable_of(stage), published.empty_of(stage));
                let legacy = recorded.hash.is_none();
                // What did not change has its data in the project, or is missing there too.
                let cache = Cache::new(sources.placing.cache);
                let is_in_cache = recorded.object().is_some_and(|object| fs::exists(&cache.object(object)));
                if sources.plan.options.allow_missing && !is_in_cache {
                    let from = sources.project.join(path);
                    let aside = self.aside.as_ref();
                    return if fs::exists(&from) { Ok(copy_tree(&from, &root.join(path), aside)?) } else { Ok(()) };
                }
                let (isexec, own) = (recorded.isexec, published.own_of(stage));
                let object = CachedOut { path, md5, legacy, isexec, executable, empty, own };
                place_cached(&root, &object, member.as_deref(), &sources.placing)?;
                for file in published.hidden_of(stage, path, member.as_deref()) {
                    published.place_file(file, &root.join(&file.path))?;
                }
                Ok(published.set_modes(&root, path)?)
            }
        }
    }

    /// Puts in what earlier attempts at the same work item left, the last one first: files that no stage declares, as a
    /// second `dvc repro` would find them, and outs that persist.
    pub(crate) fn go_on_from(&self, earlier: &[Published]) -> Result<(), WorkspaceError> {
        let root = self.root();
        let has_others = |published: &&Published| {
            let result = &published.result;
            !result.deleted.is_empty() || result.files.iter().any(|file| file.stage.is_none())
        };
        if let Some(last) = earlier.iter().find(has_others) {
            for file in last.result.files.iter().filter(|file| file.stage.is_none()) {
                let to = root.join(&file.path);
                fs::remove(&to)?;
                last.place_file(file, &to)?;
            }
            last.result.deleted.iter().try_for_each(|path| fs::remove(&root.join(path)))?;
        }
        let mut seen: HashSet<&str> = HashSet::new();
        for published in earlier {
            for out in published.result.persisted.iter().filter(|out| seen.insert(out)) {
                fs::remove(&root.join(out))?;
                for file in published.result.partial.iter().filter(|file| is_within(&file.path, out)) {
                    published.place_file(file, &root.join(&file.path))?;
                }
            }
        }
        Ok(())
    }

    /// Puts in a lock file as it is after earlier work items were collected.
    fn place_lock(
        &self,
        path: &str,
        entries: &[LockSource],
        sources: &Sources<'_>,
        results: &HashMap<ItemIndex, Published>,
    ) -> Result<(), WorkspaceError> {
        let commit = sources.plan.snapshot.as_deref().unwrap_or_default();
        let before = sources.store.files_at(commit, &join(&self.prefix, path))?;
        let before = before.first().map(|(_, file)| String::from_utf8_lossy(file.bytes()).into_owned());
        let mut made = vec![];
        for source in entries {
            let entry = results.get(&source.index).and_then(|published| published.entry(&source.stage));
            made.extend(entry.map(|entry| (source.name.as_str(), entry)));
        }
        let text = splice(before.as_deref(), &made).map_err(|_| WorkspaceError::Lock { path: path.to_owned() })?;
        Ok(fs::write_plain(&self.root().join(path), text.as_bytes())?)
    }
}

/// The files at a path that are no links in the project although it links: `dvc unprotect` leaves them so, and DVC itself
/// with some lists of types. A command may see that, or take over their modes; links stand for those that are large.
fn own_files(sources: &Sources<'_>, path: &str) -> Result<Vec<String>, FsError> {
    if sources.is_linked_otherwise || LinkType::make_copies(sources.placing.links) {
        return Ok(vec![]);
    }
    let at = sources.project.join(path);
    let is_directory = at.symlink_metadata().is_ok_and(|found| found.is_dir());
    let inside = if is_directory { fs::walk(&at, &|_| false)? } else { vec![] };
    let below = inside.into_iter().filter(|found| found.kind == FoundKind::File).map(|found| join(path, &found.path));
    let all = if is_directory { below.collect() } else { vec![path.to_owned()] };
    let (mut own, mut size) = (vec![], 0);
    for file in all {
        let Ok(found) = sources.project.join(&file).symlink_metadata() else { continue };
        if found.is_file() && found.nlink() == 1 {
            size += found.len();
            own.push(file);
        }
    }
    Ok(if size > MAX_OWN { vec![] } else { own })
}

/// The lock files of a work item with the entries that its stages had at plan time.
fn base_locks(item: &WorkItem) -> Result<Vec<(String, String)>, WorkspaceError> {
    let mut files: Vec<(String, Vec<(&str, &str)>)> = vec![];
    for stage in &item.stages {
        if let (Some(name), Some(base)) = (&stage.name, &stage.base) {
            let path = lock_path(&stage.file);
            match files.iter_mut().find(|(other, _)| *other == path) {
                Some((_, entries)) => entries.push((name, base)),
                None => files.push((path, vec![(name, base)])),
            }
        }
    }
    for file in &item.datasets {
        if files.iter().all(|(path, _)| *path != file.path) {
            files.push((file.path.clone(), vec![]));
        }
    }
    let others = |path: &str| item.datasets.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    files
        .into_iter()
        .map(|(path, entries)| match splice(others(&path), &entries) {
            Ok(text) => Ok((path, text)),
            Err(_) => Err(WorkspaceError::Lock { path }),
        })
        .collect()
}

/// Copies a file, a symlink or a tree, with modes and times.
fn copy_tree(from: &Path, to: &Path, aside: Option<&Aside>) -> Result<(), FsError> {
    make_parent(to)?;
    if from.is_symlink() || from.is_file() {
        return copy_one(from, to, aside);
    }
    if !from.is_dir() {
        return odd_names::stand_in(to);
    }
    fs::create_dir(to)?;
    for found in fs::walk(from, &|_| false)? {
        match found.kind {
            FoundKind::Directory => fs::create_dir(&to.join(&found.path))?,
            FoundKind::File | FoundKind::Symlink => copy_one(&from.join(&found.path), &to.join(&found.path), aside)?,
            FoundKind::Other => odd_names::stand_in(&to.join(&found.path))?,
        }
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path, aside: Option<&Aside>) -> Result<(), FsError> {
    // A nested repository of the workspace's own may be there already.
    if to.file_name().is_some_and(|name| name == ".git") && fs::exists(to) {
        return Ok(());
    }
    if let Ok(target) = std::fs::read_link(from) {
        // A relative target would mean another file in another directory; what is behind it is what counts.
        let behind = from.canonicalize().unwrap_or(target);
        if from.is_file() {
            return copy_one(&behind, to, aside);
        }
        return fs::symlink(aside.map_or_else(|| behind.clone(), |aside| aside.of(&behind)), to);
    }
    fs::copy_as(from, to, fs::mode(from)? & 0o777)?;
    fs::imitate(from, to)
}

/// Gives files of their own the modes and times that they have in the project.
fn imitate(from: &Path, to: &Path) -> Result<(), FsError> {
    if !to.is_dir() {
        return fs::imitate(from, to);
    }
    let inside = fs::walk(to, &|_| false)?;
    inside.iter().try_for_each(|found| fs::imitate(&from.join(&found.path), &to.join(&found.path)))
}
