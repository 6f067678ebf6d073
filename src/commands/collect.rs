//! `collect`: merges what workers published into the project, all or nothing.
//!
//! Lock entries, files that DVC does not cache and `.gitignore` lines are merged with what the project holds now;
//! nothing is written while a conflict is left.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::adapters::beneath::Beneath;
use crate::adapters::dvc_lock::RepositoryLock;
use crate::adapters::fs;
use crate::cli::{Cli, CollectArgs, Format};
use crate::commands::project::ProjectHome;
use crate::diagnostic::{Diagnostic, Place};
use crate::exit::Exit;
use crate::model::lockfile::merge::{self, Contribution, Merge, merge_value};
use crate::model::lockfile::{Lockfile, LockfileError, splice};
use crate::output::text::{self, count};
use crate::state::apply::{self, After, Change, Content};
use crate::state::format::{PlannedStage, ResultFile, WorkItem};
use crate::state::journal::{Journal, Journaled};
use crate::state::paths::RunDir;
use crate::state::results::{self, Published};
use crate::state::{worklist, workspace};

/// How long another holder of DVC's repository lock is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// What a collection changed.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// The lock entries that were written.
    pub stages: usize,
    /// The other files that were written or removed.
    pub files: usize,
}

pub(crate) fn run(cli: &Cli, args: &CollectArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli)?;
    let (run, plan) = worklist::open(&project.fanout(), args.run.as_deref())?;
    let items = worklist::read_all(&run)?;
    let collected = collect(&project, &run, &items)?;
    match cli.format {
        Format::Text => text::note(&format!(
            "collected {} and {} of run {}",
            count(collected.stages, "stage"),
            count(collected.files, "file"),
            plan.run
        )),
        Format::Json => text::result(
            &serde_json::json!({
                "version": 1, "run": plan.run, "stages": collected.stages, "files": collected.files, "conflicts": [],
            })
            .to_string(),
        ),
    }
    Ok(Exit::Success)
}

/// A good stage of a result.
struct Good<'a> {
    stage: &'a PlannedStage,
    entry: Option<&'a str>,
    published: &'a Published,
}

/// Merges the good stages of all results so far into the project.
pub(crate) fn collect(project: &ProjectHome, run: &RunDir, items: &[WorkItem]) -> Result<Collected, Diagnostic> {
    let mut published: Vec<(&WorkItem, Published)> = vec![];
    for item in items {
        if let Some(best) = results::best(run, item.index)? {
            published.push((item, best));
        }
    }
    let mut good: Vec<Good<'_>> = vec![];
    for (item, published) in &published {
        for (planned, result) in item.stages.iter().zip(&published.result.stages) {
            if planned.address == result.address && result.state.is_good() {
                good.push(Good { stage: planned, entry: result.entry.as_deref(), published });
            }
        }
    }
    good.sort_by_key(|good| good.stage.order);
    let root = &project.root;
    let lock = RepositoryLock::acquire(root, LOCK_LIMIT, &|line| text::note(line))?;
    apply::recover(root, &lock)?;
    let tree = Beneath::open(root)?;
    let mut conflicts = vec![];
    let mut changes = vec![];
    let stages = merge_locks(root, &good, &mut changes, &mut conflicts)?;
    let locks = changes.len();
    merge_files(&tree, &published, &good, &mut changes, &mut conflicts)?;
    merge_ignores(root, &published, &good, &mut changes)?;
    if !conflicts.is_empty() {
        return Err(conflicts
            .into_iter()
            .fold(
                Diagnostic::new(
                    Exit::Conflicts,
                    "the project and the results changed the same things; nothing was written",
                ),
                Diagnostic::detail,
            )
            .hint("run `dvc-fanout plan` again"));
    }
    if changes.is_empty() {
        return Ok(Collected::default());
    }
    for change in &mut changes {
        change.before = apply::content(&tree, &change.path)?;
    }
    let paths: Vec<String> = changes.iter().map(|change| change.path.clone()).collect();
    apply::apply(root, &changes, &lock)?;
    if project.config.autostage {
        let (git, prefix) = project.git()?;
        let staged =
            |path: &String| path.ends_with("dvc.lock") || path.ends_with(".dvc") || path.ends_with(".gitignore");
        let staged: Vec<String> =
            paths.iter().filter(|path| staged(path)).map(|path| workspace::join(&prefix, path)).collect();
        git.stage(&staged)?;
    }
    let collected = Collected { stages, files: paths.len() - locks };
    Journal::open(run)?.append(Journaled::Collected { stages: collected.stages, files: collected.files })?;
    Ok(collected)
}

/// Merges lock entries; returns how many are written.
fn merge_locks(
    root: &std::path::Path,
    good: &[Good<'_>],
    changes: &mut Vec<Change>,
    conflicts: &mut Vec<String>,
) -> Result<usize, Diagnostic> {
    let mut by_lock: BTreeMap<String, Vec<Contribution<'_>>> = BTreeMap::new();
    for good in good {
        if let (Some(name), Some(entry)) = (&good.stage.name, good.entry) {
            let contribution = Contribution { stage: name, base: good.stage.base.as_deref(), theirs: Some(entry) };
            by_lock.entry(workspace::lock_path(&good.stage.file)).or_default().push(contribution);
        }
    }
    let mut written = 0;
    for (path, contributions) in by_lock {
        let ours = fs::read_text_if_any(&root.join(&path))?;
        let refused = |error: LockfileError| {
            let place = Place { path: path.clone(), line: Some(error.line), column: None };
            Diagnostic::project(format!("`{path}` is not a lock file that can be merged into: {error}")).at(place)
        };
        let empty = String::new();
        let parsed = match &ours {
            Some(text) => Lockfile::parse(text).map_err(refused)?,
            None => Lockfile::parse(&empty).map_err(refused)?,
        };
        let merged = merge::merge(&parsed, &contributions);
        for conflict in &merged.conflicts {
            let line = conflict.ours.and_then(|_| parsed.entry(conflict.stage)).map_or(0, |entry| entry.line());
            conflicts.push(format!("{path}:{line}: stage `{}` changed on both sides", conflict.stage));
        }
        let entries: Vec<(&str, &str)> =
            merged.changes.iter().filter_map(|(name, text)| Some((*name, (*text)?))).collect();
        if !entries.is_empty() {
            written += entries.len();
            let text = splice(ours.as_deref(), &entries).map_err(refused)?;
            changes.push(change(&path, After::Bytes(text.into_bytes()), None));
        }
    }
    Ok(written)
}

/// Merges files that DVC does not cache.
///
/// Of several workers that wrote one file that nobody declares, the last in the order of `dvc repro` counts, as it
/// would have been after that.
fn merge_files(
    tree: &Beneath,
    published: &[(&WorkItem, Published)],
    good: &[Good<'_>],
    changes: &mut Vec<Change>,
    conflicts: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    let order: HashMap<&str, usize> = good.iter().map(|good| (good.stage.address.as_str(), good.stage.order)).collect();
    let mut files: BTreeMap<&str, (usize, &ResultFile, &Published)> = BTreeMap::new();
    for (item, published) in published {
        let last = item.stages.iter().map(|stage| stage.order).max().unwrap_or(0);
        for file in &published.result.files {
            let place = match &file.stage {
                Some(stage) => match order.get(stage.as_str()) {
                    Some(order) => *order,
                    None => continue,
                },
                None => last,
            };
            let entry = files.entry(&file.path).or_insert((place, file, published));
            if entry.0 < place {
                *entry = (place, file, published);
            }
        }
    }
    let before: HashMap<&str, &str> = good
        .iter()
        .flat_map(|good| &good.stage.outs)
        .flat_map(|out| &out.before)
        .map(|file| (file.path.as_str(), file.md5.as_str()))
        .collect();
    for (path, (_, file, published)) in files {
        let ours = apply::content(tree, path)?;
        let theirs = match &file.symlink {
            Some(target) => Content::Symlink { target: target.clone() },
            None => Content::File { md5: file.md5.clone() },
        };
        let base = before.get(path).copied().or(file.before.as_deref());
        let base = base.map_or(Content::Nothing, |md5| Content::File { md5: md5.to_owned() });
        match merge_value(Some(&base), Some(&ours), &[Some(&theirs)], |a, b| a == b) {
            Merge::Merged(Some(merged)) if *merged == theirs => {
                let after = match &file.symlink {
                    Some(target) => After::Symlink(target.clone()),
                    None if ours == theirs => After::Same,
                    None => After::Copy { from: published.blob(file), md5: file.md5.clone() },
                };
                let executable = file.symlink.is_none().then_some(file.executable);
                if ours != theirs || is_executable(tree, path)? != file.executable {
                    changes.push(change(path, after, executable));
                }
            }
            Merge::Merged(_) => {}
            Merge::Conflicted { .. } => conflicts.push(format!("{path}: changed in the project and by a work item")),
        }
    }
    // Files of an out directory that its stage did not make again.
    for out in good.iter().flat_map(|good| good.stage.outs.iter().map(move |out| (good, out))) {
        let (good, out) = out;
        for old in &out.before {
            let again = good.published.files_of(&good.stage.address, &old.path, None).next().is_some();
            if !again && apply::content(tree, &old.path)? == (Content::File { md5: old.md5.clone() }) {
                changes.push(change(&old.path, After::Nothing, None));
            }
        }
    }
    Ok(())
}

fn is_executable(tree: &Beneath, path: &str) -> Result<bool, Diagnostic> {
    use crate::adapters::beneath::Seen;
    Ok(matches!(tree.look(path)?, Some(Seen::File { mode, .. }) if mode & 0o100 != 0))
}

/// Adds the lines that DVC wrote into `.gitignore` files, in the order of `dvc repro`.
fn merge_ignores(
    root: &std::path::Path,
    published: &[(&WorkItem, Published)],
    good: &[Good<'_>],
    changes: &mut Vec<Change>,
) -> Result<(), Diagnostic> {
    // A line belongs to the out that it names; lines that name none come last.
    let mut outs: HashMap<&str, (usize, usize)> = HashMap::new();
    for good in good {
        for (position, out) in good.stage.outs.iter().enumerate() {
            outs.insert(&out.resolved, (good.stage.order, position));
        }
    }
    let mut files: BTreeMap<&str, Vec<((usize, usize), &str)>> = BTreeMap::new();
    for ignore in published.iter().flat_map(|(_, published)| &published.result.ignore) {
        let directory = ignore.path.strip_suffix(".gitignore").unwrap_or_default();
        for line in &ignore.lines {
            let out = format!("{directory}{}", line.trim_start_matches('/'));
            let place = outs.get(out.as_str()).copied().unwrap_or((usize::MAX, 0));
            files.entry(&ignore.path).or_default().push((place, line));
        }
    }
    for (path, mut lines) in files {
        lines.sort_by_key(|(place, _)| *place);
        let ours = fs::read_text_if_any(&root.join(path))?.unwrap_or_default();
        let mut text = ours.clone();
        for (_, line) in lines {
            if text.lines().any(|other| other == line) {
                continue;
            }
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
        }
        if text != ours {
            changes.push(change(path, After::Bytes(text.into_bytes()), None));
        }
    }
    Ok(())
}

/// A change whose `before` is looked up just before it is made.
fn change(path: &str, after: After, executable: Option<bool>) -> Change {
    Change { path: path.to_owned(), before: Content::Nothing, after, executable }
}
