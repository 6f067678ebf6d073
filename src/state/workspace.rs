//! A slot's workspace: a git work tree that holds the snapshot without outs, made once and reset between work items.
//!
//! The file `clean` names the tree that the workspace holds. It is removed before anything is put in and written after
//! everything has been taken out again, so a workspace that a worker left in a hurry is made anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::adapters::dvc::cache::Cache;
use crate::adapters::fs::{self, Found, FoundKind, FsError};
use crate::adapters::git::{self, Beginning, Git, GitError, ManifestFile};
use crate::diagnostic::Diagnostic;
use crate::dvc::config::LinkType;
use crate::dvc::hash::HashName;
use crate::dvc::ignore_lines;
use crate::dvc::lockfile::{Lockfile, splice};
use crate::dvc::pipeline::path::is_within;
use crate::state::format::{Input, LockSource, Plan, PlannedOut, WorkItem};
use crate::state::paths::{RunDir, SlotDir};
use crate::state::{results, slots};

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("`{path}` is not in the cache: no object {md5}")]
    NotInCache { path: String, md5: String },
    #[error("the cache object {md5} of the directory `{path}` is not readable")]
    BrokenObject { path: String, md5: String },
    #[error("work item {index} has no good result, but its `{path}` is needed")]
    NoResult { index: usize, path: String },
    #[error("`{path}` is gone from the project since the plan was made")]
    Gone { path: String },
    #[error("the lock entries of `{path}` do not fit together")]
    Lock { path: String },
}

impl From<WorkspaceError> for Diagnostic {
    fn from(error: WorkspaceError) -> Self {
        match error {
            WorkspaceError::Fs(error) => error.into(),
            WorkspaceError::Git(error) => error.into(),
            WorkspaceError::NotInCache { .. } | WorkspaceError::BrokenObject { .. } => {
                Diagnostic::project(error.to_string()).hint("fetch it with `dvc fetch`, then plan again")
            }
            WorkspaceError::NoResult { .. } => Diagnostic::project(error.to_string()).hint("run that work item first"),
            WorkspaceError::Gone { .. } => Diagnostic::project(error.to_string()).hint("run `dvc-fanout plan` again"),
            WorkspaceError::Lock { .. } => Diagnostic::internal(error.to_string()),
        }
    }
}

/// Where the things come from that a workspace is filled with.
pub(crate) struct Sources<'a> {
    pub plan: &'a Plan,
    pub run: &'a RunDir,
    pub git: &'a Git,
    /// The project's root.
    pub project: &'a Path,
    pub placing: Placing<'a>,
    /// The text of `.dvc/config` and that of `.dvc/config.local`.
    pub config: (&'a str, &'a str),
}

/// Where cached data come from, and how.
pub(crate) struct Placing<'a> {
    /// The project's cache.
    pub cache: &'a Path,
    pub links: &'a [LinkType],
}

/// A workspace that is ready to be filled.
pub(crate) struct Workspace {
    slot: SlotDir,
    /// The work tree's top.
    top: PathBuf,
    /// The project's folder in it, `""` for the top.
    prefix: String,
    /// The files of the snapshot that are in it, sorted by path.
    manifest: Vec<ManifestFile>,
    /// What was found in it after the commands had ended, until the reset: looking again would take as long.
    found: Option<Vec<Found>>,
}

/// What the commands of a work item changed beside what they declare. Paths are relative to the project's root.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// New files, and files of the snapshot whose content or mode is another now.
    pub files: Vec<String>,
    /// Files of the snapshot that are gone.
    pub deleted: Vec<String>,
}

impl Workspace {
    /// Opens a slot's workspace, made anew if it holds another tree or is not clean. The slot's lock is held.
    pub(crate) fn open(slot: SlotDir, sources: &Sources<'_>) -> Result<Workspace, WorkspaceError> {
        let marker = marker(sources.plan);
        let top = slot.workspace();
        if fs::read_text_if_any(&slot.clean())?.as_deref() != Some(&marker) {
            fs::remove(&slot.clean())?;
            if fs::exists(&top) {
                slots::end_leftovers(&slot);
            }
            fs::remove(&top)?;
            let begin = Beginning {
                tree: sources.plan.workspace.as_deref().unwrap_or_default(),
                head: sources.plan.head.as_deref(),
                snapshot: sources.plan.snapshot.as_deref(),
            };
            sources.git.check_out(begin, &top, &slot.manifest())?;
            fs::create_dir(&slot.site_cache())?;
        }
        let manifest = git::read_manifest(&slot.manifest())?;
        fs::remove(&slot.clean())?;
        Ok(Workspace { slot, top, prefix: sources.plan.prefix.clone(), manifest, found: None })
    }

    /// The project's root in the workspace.
    pub(crate) fn root(&self) -> PathBuf {
        self.top.join(&self.prefix)
    }

    /// Puts in what a work item needs: DVC's config, projected stages, lock entries, inputs.
    pub(crate) fn fill(&self, item: &WorkItem, sources: &Sources<'_>) -> Result<(), WorkspaceError> {
        let root = self.root();
        fs::create_dir(&root.join(".dvc"))?;
        fs::write_plain(&root.join(".dvc/config"), sources.config.0.as_bytes())?;
        fs::write_plain(&root.join(".dvc/config.local"), sources.config.1.as_bytes())?;
        // A killed DVC leaves its claims on paths here, and another process may have its id by now.
        fs::remove(&root.join(".dvc/tmp/rwlock"))?;
        for directory in &item.directories {
            fs::create_dir(&root.join(directory))?;
        }
        for file in &item.files {
            fs::write_plain(&root.join(&file.path), file.text.as_bytes())?;
        }
        for (path, text) in base_locks(item)? {
            fs::write_plain(&root.join(path), text.as_bytes())?;
        }
        let mut results: HashMap<usize, results::Published> = HashMap::new();
        for &index in &item.needs {
            if let Some(published) = results::best(sources.run, index)? {
                results.insert(index, published);
            }
        }
        item.inputs.iter().try_for_each(|input| self.place(input, sources, &results))?;
        self.place_by_the_way(item, &results)
    }

    /// Puts in what earlier work items left beside their outs: lines of `.gitignore` files, and files that nobody
    /// declares. A directory that is a dep is hashed with them.
    fn place_by_the_way(
        &self,
        item: &WorkItem,
        results: &HashMap<usize, results::Published>,
    ) -> Result<(), WorkspaceError> {
        let root = self.root();
        let mut orders: HashMap<&str, usize> = HashMap::new();
        for input in &item.inputs {
            if let Input::Result { path, order, .. } = input {
                orders.insert(path, *order);
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
            for file in published.result.files.iter().filter(|file| file.stage.is_none()) {
                let to = root.join(&file.path);
                fs::remove(&to)?;
                published.place_file(file, &to)?;
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
        let ignores = Git::discover(&self.root())?.ignores();
        let is_covered = |out: &PlannedOut| ignores.is_ignored(&join(&self.prefix, &out.resolved));
        let mut lines = vec![];
        for (out, path, order, line) in own {
            if !is_covered(out)? {
                lines.push((path, order, line));
            }
        }
        Ok(lines)
    }

    fn place(
        &self,
        input: &Input,
        sources: &Sources<'_>,
        results: &HashMap<usize, results::Published>,
    ) -> Result<(), WorkspaceError> {
        let root = self.root();
        match input {
            Input::Cache { path, md5, legacy, isexec, executable, empty, member } => {
                let object = CachedOut { path, md5, legacy: *legacy, isexec: *isexec, executable, empty };
                place_cached(&root, &object, member.as_deref(), &sources.placing)
            }
            Input::Snapshot { path } => {
                let commit = sources.plan.snapshot.as_deref().unwrap_or_default();
                let inside = join(&self.prefix, path);
                for (file, content) in sources.git.files_at(commit, &inside)? {
                    let to = self.top.join(file);
                    make_parent(&to)?;
                    if content.symlink {
                        fs::symlink(&String::from_utf8_lossy(&content.bytes), &to)?;
                    } else {
                        fs::write_plain(&to, &content.bytes)?;
                        fs::set_executable(&to, content.executable)?;
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
                Ok(copy_tree(&from, &to)?)
            }
            Input::Lock { path, entries } => self.place_lock(path, entries, sources, results),
            Input::Result { path, index, stage, out, member, order: _ } => {
                let missing = || WorkspaceError::NoResult { index: *index, path: path.clone() };
                let Some(published) = results.get(index).filter(|published| published.is_good(stage)) else {
                    // Then it is up to DVC what the stage makes of it.
                    return if sources.plan.options.allow_missing_keys { Ok(()) } else { Err(missing()) };
                };
                let mut own = published.files_of(stage, path, member.as_deref()).peekable();
                if own.peek().is_some() {
                    for file in own {
                        published.place_file(file, &root.join(&file.path))?;
                    }
                    return make_empty(&root, path, member.as_deref(), published.empty_of(stage));
                }
                let recorded = published.recorded_out(stage, out).ok_or_else(missing)?;
                let md5 = recorded.md5.as_deref().ok_or_else(missing)?;
                let (executable, empty) = (published.executable_of(stage), published.empty_of(stage));
                let legacy = recorded.hash.is_none();
                let object = CachedOut { path, md5, legacy, isexec: recorded.isexec, executable, empty };
                place_cached(&root, &object, member.as_deref(), &sources.placing)
            }
        }
    }

    /// Puts in a lock file as it is after earlier work items were collected.
    fn place_lock(
        &self,
        path: &str,
        entries: &[LockSource],
        sources: &Sources<'_>,
        results: &HashMap<usize, results::Published>,
    ) -> Result<(), WorkspaceError> {
        let commit = sources.plan.snapshot.as_deref().unwrap_or_default();
        let before = sources.git.files_at(commit, &join(&self.prefix, path))?;
        let before = before.first().map(|(_, file)| String::from_utf8_lossy(&file.bytes).into_owned());
        let mut made = vec![];
        for source in entries {
            let entry = results.get(&source.index).and_then(|published| published.entry(&source.stage));
            made.extend(entry.map(|entry| (source.name.as_str(), entry)));
        }
        let text = splice(before.as_deref(), &made).map_err(|_| WorkspaceError::Lock { path: path.to_owned() })?;
        Ok(fs::write_plain(&self.root().join(path), text.as_bytes())?)
    }

    /// Compares the workspace with the snapshot. `skip` says which paths (relative to the project's root) are known
    /// already: inputs, declared outs, what `fill` wrote.
    pub(crate) fn changes(&mut self, skip: &dyn Fn(&str) -> bool) -> Result<Changes, WorkspaceError> {
        let in_project = |path: &str| {
            if self.prefix.is_empty() {
                Some(path.to_owned())
            } else {
                path.strip_prefix(&self.prefix)?.strip_prefix('/').map(str::to_owned)
            }
        };
        let all = self.walk()?;
        let mut is_there = vec![false; self.manifest.len()];
        let mut changes = Changes::default();
        for found in &all {
            let known = self.position(&found.path);
            if let Some(at) = known {
                is_there[at] = true;
            }
            let known = known.map(|at| &self.manifest[at]);
            if known.is_some_and(|file| is_untouched(file, found)) {
                continue;
            }
            let Some(path) = in_project(&found.path) else { continue };
            if found.kind == FoundKind::Directory || found.kind == FoundKind::Other || skip(&path) {
                continue;
            }
            if !self.is_same(known, found)? {
                changes.files.push(path);
            }
        }
        for (file, _) in self.manifest.iter().zip(is_there).filter(|(_, is_there)| !is_there) {
            if let Some(path) = in_project(&file.path).filter(|path| !skip(path)) {
                changes.deleted.push(path);
            }
        }
        changes.files.sort_unstable();
        changes.deleted.sort_unstable();
        self.found = Some(all);
        Ok(changes)
    }

    /// Everything in it but git's and DVC's own state.
    fn walk(&self) -> Result<Vec<Found>, FsError> {
        let own = join(&self.prefix, ".dvc/tmp");
        fs::walk(&self.top, &|path| path == ".git" || path == own)
    }

    /// The place of a path in the manifest.
    fn position(&self, path: &str) -> Option<usize> {
        self.manifest.binary_search_by(|file| file.path.as_str().cmp(path)).ok()
    }

    /// Whether the snapshot has something below a directory.
    fn has_below(&self, directory: &str) -> bool {
        let inside = format!("{directory}/");
        let first = self.manifest.partition_point(|file| file.path < inside);
        self.manifest.get(first).is_some_and(|file| file.path.starts_with(&inside))
    }

    /// Reads a file of the snapshot as the workspace began with it; `None` where it had none.
    pub(crate) fn original(&self, path: &str) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let file = self.position(&join(&self.prefix, path)).map(|at| &self.manifest[at]);
        Ok(file.map(|file| git::read_blob(&self.top, &file.blob)).transpose()?)
    }

    /// Removes the workspace, which gives its room back; the next work item makes it anew.
    pub(crate) fn discard(&self) -> Result<(), WorkspaceError> {
        Ok(fs::remove(&self.top)?)
    }

    /// Takes everything out again and says so; a failure leaves the slot to be made anew.
    pub(crate) fn reset(&mut self) -> Result<(), WorkspaceError> {
        let all = match self.found.take() {
            Some(found) => found,
            None => self.walk()?,
        };
        // DVC's own folder stays, since its state there does.
        let own = join(&self.prefix, ".dvc/tmp");
        let mut is_there = vec![false; self.manifest.len()];
        for found in all {
            let known = self.position(&found.path);
            let stays = match found.kind {
                FoundKind::Directory => self.has_below(&found.path) || is_within(&own, &found.path),
                FoundKind::File | FoundKind::Symlink => {
                    known.is_some_and(|at| is_untouched(&self.manifest[at], &found))
                }
                FoundKind::Other => false,
            };
            match known {
                Some(at) if stays => is_there[at] = true,
                Some(_) | None if stays => {}
                Some(_) | None => fs::remove(&self.top.join(&found.path))?,
            }
        }
        for (file, _) in self.manifest.iter().zip(is_there).filter(|(_, is_there)| !is_there) {
            let path = self.top.join(&file.path);
            let bytes = git::read_blob(&self.top, &file.blob)?;
            if file.symlink {
                make_parent(&path)?;
                fs::symlink(&String::from_utf8_lossy(&bytes), &path)?;
            } else {
                fs::write_plain(&path, &bytes)?;
                fs::set_executable(&path, file.executable)?;
            }
        }
        Ok(())
    }

    /// Marks a workspace that was reset as ready for the next work item.
    pub(crate) fn mark_clean(&self, plan: &Plan) -> Result<(), WorkspaceError> {
        Ok(fs::write(&self.slot.clean(), marker(plan).as_bytes())?)
    }

    /// Whether a file has the content and mode of the snapshot although it was touched.
    fn is_same(&self, file: Option<&ManifestFile>, found: &Found) -> Result<bool, WorkspaceError> {
        let Some(file) = file else { return Ok(false) };
        if file.symlink != (found.kind == FoundKind::Symlink) {
            return Ok(false);
        }
        let blob = git::read_blob(&self.top, &file.blob)?;
        let path = self.top.join(&found.path);
        if file.symlink {
            let target = std::fs::read_link(&path).unwrap_or_default();
            return Ok(target.as_os_str().as_encoded_bytes() == blob);
        }
        Ok(file.executable == (found.mode & 0o100 != 0) && fs::read(&path)? == blob)
    }
}

/// What the file `clean` holds: what the workspace was made from.
fn marker(plan: &Plan) -> String {
    let tree = plan.workspace.as_deref().unwrap_or_default();
    format!("{tree} {} {}\n", plan.head.as_deref().unwrap_or("-"), plan.setting)
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
    files
        .into_iter()
        .map(|(path, entries)| match splice(None, &entries) {
            Ok(text) => Ok((path, text)),
            Err(_) => Err(WorkspaceError::Lock { path }),
        })
        .collect()
}

/// The `dvc.lock` beside a `dvc.yaml`.
pub(crate) fn lock_path(file: &str) -> String {
    format!("{}.lock", file.strip_suffix(".yaml").unwrap_or(file))
}

/// Reads the lock entries that DVC left in a workspace, as `(stage name, bytes)`.
pub(crate) fn read_entries(root: &Path, file: &str) -> Result<HashMap<String, String>, WorkspaceError> {
    let path = lock_path(file);
    let Some(text) = fs::read_text_if_any(&root.join(&path))? else { return Ok(HashMap::new()) };
    let lock = Lockfile::parse(&text).map_err(|_| WorkspaceError::Lock { path })?;
    Ok(lock.names().filter_map(|name| Some((name.to_owned(), lock.entry(name)?.text().to_owned()))).collect())
}

/// An out whose content is in the cache.
pub(crate) struct CachedOut<'a> {
    /// Relative to the project's root.
    pub path: &'a str,
    pub md5: &'a str,
    pub legacy: bool,
    pub isexec: bool,
    /// Files with the executable bit inside of a directory, relative to the project's root.
    pub executable: &'a [String],
    /// Empty directories inside of it, likewise.
    pub empty: &'a [String],
}

/// Links a cached file or directory (or one member of it) to its path below `root`, which must be free.
pub(crate) fn place_cached(
    root: &Path,
    out: &CachedOut<'_>,
    member: Option<&str>,
    placing: &Placing<'_>,
) -> Result<(), WorkspaceError> {
    let object = |md5: &str, path: &str| {
        let object = object_path(placing.cache, md5, out.legacy).filter(|object| object.is_file());
        object.ok_or_else(|| WorkspaceError::NotInCache { path: path.to_owned(), md5: md5.to_owned() })
    };
    let to = root.join(out.path);
    if !out.md5.ends_with(".dir") {
        make_parent(&to)?;
        fs::link(&object(out.md5, out.path)?, &to, placing.links)?;
        if out.isexec {
            fs::set_executable(&to, true)?;
        }
        return Ok(());
    }
    let broken = || WorkspaceError::BrokenObject { path: out.path.to_owned(), md5: out.md5.to_owned() };
    let bytes = fs::read(&object(out.md5, out.path)?)?;
    let listing: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_slice(&bytes).map_err(|_| broken())?;
    let inside = |relpath: &str| {
        member.is_none_or(|member| {
            relpath == member || relpath.strip_prefix(member).is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let mut files = vec![];
    for entry in &listing {
        let text = |key: &str| entry.get(key).and_then(serde_json::Value::as_str);
        let (relpath, md5) = text("relpath").zip(text("md5")).ok_or_else(broken)?;
        if Path::new(relpath).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(broken());
        }
        if inside(relpath) {
            files.push((relpath, md5));
        }
    }
    fs::create_dir(&to)?;
    for parent in files
        .iter()
        .filter_map(|(relpath, _)| relpath.rsplit_once('/'))
        .map(|(parent, _)| parent)
        .collect::<HashSet<_>>()
    {
        fs::create_dir(&to.join(parent))?;
    }
    files.par_iter().try_for_each(|(relpath, md5)| {
        let path = format!("{}/{relpath}", out.path);
        let to = root.join(&path);
        if out.executable.contains(&path) {
            // A link has the mode of the object, which is no program elsewhere.
            fs::link(&object(md5, &path)?, &to, &[LinkType::Copy])?;
            return Ok(fs::set_executable(&to, true)?);
        }
        Ok::<_, WorkspaceError>(fs::link(&object(md5, &path)?, &to, placing.links)?)
    })?;
    make_empty(root, out.path, member, out.empty)
}

/// Makes the empty directories of a directory, or of one member of it, which is in place.
fn make_empty(root: &Path, path: &str, member: Option<&str>, empty: &[String]) -> Result<(), WorkspaceError> {
    let top = member.map_or_else(|| path.to_owned(), |member| format!("{path}/{member}"));
    let inside = empty.iter().filter(|directory| is_within(directory, &top));
    Ok(inside.map(|directory| root.join(directory)).try_for_each(|directory| fs::create_dir(&directory))?)
}

/// Where the cache keeps an object; `None` for what is no MD5.
pub(crate) fn object_path(cache: &Path, md5: &str, legacy: bool) -> Option<PathBuf> {
    let name = if legacy { HashName::Md5Dos2unix } else { HashName::Md5 };
    Cache::new(cache).object(md5, name)
}

fn make_parent(path: &Path) -> Result<(), FsError> {
    path.parent().map_or(Ok(()), fs::create_dir)
}

/// Copies a file, a symlink or a tree, with executable bits.
fn copy_tree(from: &Path, to: &Path) -> Result<(), FsError> {
    make_parent(to)?;
    if from.is_symlink() || from.is_file() {
        return copy_one(from, to);
    }
    fs::create_dir(to)?;
    for found in fs::walk(from, &|_| false)? {
        match found.kind {
            FoundKind::Directory => fs::create_dir(&to.join(&found.path))?,
            FoundKind::File | FoundKind::Symlink => copy_one(&from.join(&found.path), &to.join(&found.path))?,
            FoundKind::Other => {}
        }
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path) -> Result<(), FsError> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Ok(target) = std::fs::read_link(from) {
        // A relative target would mean another file in another directory; what is behind it is what counts.
        let behind = from.canonicalize().unwrap_or(target);
        return if from.is_file() { copy_one(&behind, to) } else { fs::symlink(&behind.to_string_lossy(), to) };
    }
    fs::copy(from, to)?;
    let executable = from.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o100 != 0);
    if executable { fs::set_executable(to, true) } else { Ok(()) }
}

/// Joins a project's prefix and a path of the project.
pub(crate) fn join(prefix: &str, path: &str) -> String {
    if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") }
}

/// Whether a file is the one that git wrote, by its stat data.
fn is_untouched(file: &ManifestFile, found: &Found) -> bool {
    let low = |number: u64| u32::try_from(number & u64::from(u32::MAX)).expect("masked");
    let seconds = i32::try_from(found.modified.0 & i64::from(i32::MAX)).expect("masked");
    file.size == low(found.size)
        && file.inode == low(found.inode)
        && file.modified.0 & i32::MAX == seconds
        && i64::from(file.modified.1) == found.modified.1
        && file.symlink == (found.kind == FoundKind::Symlink)
        && (file.symlink || file.executable == (found.mode & 0o100 != 0))
}
