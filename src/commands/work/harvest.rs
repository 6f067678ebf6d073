//! What a work item's stages left in the workspace, taken into its result.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::Worker;
use crate::adapters::dvc::ReproLog;
use crate::adapters::fs::{self, FoundKind};
use crate::adapters::git::Git;
use crate::adapters::git::ignore::Ignores;
use crate::adapters::process::Ending;
use crate::commands::work::runner::Stopped;
use crate::diagnostic::Diagnostic;
use crate::dvc::ignore_lines;
use crate::state::format::{self, IgnoreLines, ResultFile, StageResult, StageState};
use crate::state::results::Draft;
use crate::state::workspace::{self, Workspace};

/// Bytes that a result brings at most of what failed stages had written.
const MAX_PARTIAL: u64 = 1 << 30;

/// What `dvc repro` left in the workspace.
#[derive(Default)]
pub(super) struct Left {
    pub stages: Vec<StageResult>,
    pub files: Vec<ResultFile>,
    pub partial: Vec<ResultFile>,
    pub deleted: Vec<String>,
    pub ignore: Vec<IgnoreLines>,
}

impl Worker<'_> {
    /// Takes what goes back to the project out of the workspace.
    pub(super) fn harvest(
        &self,
        workspace: &mut Workspace,
        draft: &Draft,
        ending: &Stopped,
        said: &ReproLog,
    ) -> Result<Left, Diagnostic> {
        let root = workspace.root();
        let mut entries: HashMap<&str, HashMap<String, String>> = HashMap::new();
        for stage in self.item.stages.iter().filter(|stage| stage.name.is_some()) {
            if !entries.contains_key(stage.file.as_str()) {
                entries.insert(&stage.file, workspace::read_entries(&root, &stage.file)?);
            }
        }
        let mut left = Left::default();
        for stage in &self.item.stages {
            let entry = stage.name.as_ref().and_then(|name| entries.get(stage.file.as_str())?.get(name)).cloned();
            // DVC does not say that it imported something.
            let is_imported = stage.name.is_none() && !stage.records && ending.is_success();
            let recorded = is_imported || stage.base.as_ref() != entry.as_ref();
            let state = stage_state(recorded, &stage.address, ending, said);
            let (mut executable, mut empty, mut dvc_file) = (vec![], vec![], None);
            if state.is_good() {
                for out in &stage.outs {
                    let at = root.join(&out.resolved);
                    empty.extend(empty_below(&root, &out.resolved)?);
                    for (path, found) in files_below(&root, &out.resolved)? {
                        if !out.cache {
                            left.files.push(publish_file(draft, &root, &path, left.files.len(), Some(&stage.address))?);
                        } else if at.is_dir() && found {
                            executable.push(path);
                        }
                    }
                }
                if stage.name.is_none() {
                    let file = publish_file(draft, &root, &stage.file, left.files.len(), Some(&stage.address))?;
                    left.files.push(file);
                    dvc_file = fs::read_text_if_any(&root.join(&stage.file))?;
                }
            }
            left.stages.push(StageResult { address: stage.address.clone(), state, entry, dvc_file, executable, empty });
        }
        self.harvest_others(workspace, draft, &mut left)?;
        self.harvest_partial(&root, draft, &mut left)?;
        Ok(left)
    }

    /// Takes what failed stages had written, up to a limit for all of it: somebody will want to look at it.
    fn harvest_partial(&self, root: &Path, draft: &Draft, left: &mut Left) -> Result<(), Diagnostic> {
        let has_failed = |stage: &&StageResult| stage.state == StageState::Failed;
        let failed: Vec<&str> = left.stages.iter().filter(has_failed).map(|stage| stage.address.as_str()).collect();
        let mut room = MAX_PARTIAL;
        for stage in self.item.stages.iter().filter(|stage| failed.contains(&stage.address.as_str())) {
            for out in &stage.outs {
                for (path, _) in files_below(root, &out.resolved)? {
                    let size = root.join(&path).symlink_metadata().map_or(0, |metadata| metadata.len());
                    let Some(rest) = room.checked_sub(size) else { continue };
                    room = rest;
                    let number = left.files.len() + left.partial.len();
                    left.partial.push(publish_file(draft, root, &path, number, Some(&stage.address))?);
                }
            }
        }
        Ok(())
    }

    /// Takes lines of `.gitignore` files and other files that changed and that git does not ignore.
    fn harvest_others(&self, workspace: &mut Workspace, draft: &Draft, left: &mut Left) -> Result<(), Diagnostic> {
        let root = workspace.root();
        let below =
            |path: &str, top: &str| path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let outs: Vec<&str> =
            self.item.stages.iter().flat_map(|stage| &stage.outs).map(|out| out.resolved.as_str()).collect();
        let inputs: Vec<&str> = self.item.inputs.iter().map(format::Input::path).collect();
        let written: Vec<&str> = self.item.files.iter().map(|file| file.path.as_str()).collect();
        let known = |path: &str| {
            path == ".dvc"
                || path.starts_with(".dvc/")
                || written.iter().any(|file| path == *file || path == workspace::lock_path(file))
                || outs.iter().chain(&inputs).any(|top| below(path, top))
        };
        let changes = workspace.changes(&known)?;
        let ignores = Git::discover(&root)?.ignores();
        // Of these there may be lines that were put in for the order of all.
        let stages = self.item.stages.iter().zip(&left.stages).filter(|(_, became)| !became.state.is_good());
        let not_made: HashSet<&str> =
            stages.flat_map(|(stage, _)| &stage.outs).map(|out| out.resolved.as_str()).collect();
        for path in changes.files {
            if path == ".gitignore" || path.ends_with("/.gitignore") {
                let before = workspace.original(&path)?.unwrap_or_default();
                let before = String::from_utf8_lossy(&before);
                let before: HashSet<&str> = before.lines().collect();
                let after = fs::read(&root.join(&path))?;
                let lines = String::from_utf8_lossy(&after)
                    .lines()
                    .filter(|line| !before.contains(line))
                    .filter(|line| !not_made.contains(ignore_lines::out_of(&path, line).as_str()))
                    .map(str::to_owned)
                    .collect();
                left.ignore.push(IgnoreLines { path, lines });
            } else if !ignores.is_ignored(&workspace::join(&self.sources.plan.prefix, &path))? {
                let mut file = publish_file(draft, &root, &path, left.files.len(), None)?;
                file.before = workspace.original(&path)?.map(|bytes| fs::digest_bytes(&bytes));
                left.files.push(file);
            }
        }
        left.deleted = changes.deleted;
        self.harvest_lines(&ignores, left)
    }

    /// Adds the `.gitignore` lines for outs of good stages that DVC took out again when another stage failed.
    fn harvest_lines(&self, ignores: &Ignores, left: &mut Left) -> Result<(), Diagnostic> {
        let good: Vec<&str> =
            left.stages.iter().filter(|stage| stage.state.is_good()).map(|stage| stage.address.as_str()).collect();
        if good.len() == left.stages.len() {
            return Ok(());
        }
        let is_good = |stage: &&format::PlannedStage| good.contains(&stage.address.as_str());
        let outs = self.item.stages.iter().filter(is_good).flat_map(|stage| &stage.outs).filter(|out| out.cache);
        for out in outs {
            let (path, line) = ignore_lines::line_of(&out.resolved);
            if ignores.is_ignored(&workspace::join(&self.sources.plan.prefix, &out.resolved))? {
                continue;
            }
            match left.ignore.iter_mut().find(|known| known.path == path) {
                Some(known) => known.lines.push(line),
                None => left.ignore.push(IgnoreLines { path, lines: vec![line] }),
            }
        }
        Ok(())
    }
}

/// What became of a stage.
///
/// | dvc | entry | said | state |
/// |---|---|---|---|
/// | exit 0 | any | running / cached / else | ran / restored / unchanged |
/// | failed | any | named as failed | failed |
/// | failed | new | any | ran (or restored): it was recorded before something else failed |
/// | failed | as before | unchanged | unchanged |
/// | failed | as before | running, others named | ran: it came out as before |
/// | failed | as before | else | not run |
fn stage_state(recorded: bool, address: &str, stopped: &Stopped, said: &ReproLog) -> StageState {
    let succeeded = stopped.is_success();
    let ended = matches!(stopped, Stopped::Ended(Ending::Exited(_)));
    if ended && !succeeded && said.has_failed(address) {
        return StageState::Failed;
    }
    if said.restored.contains(address) && (succeeded || recorded) {
        return StageState::Restored;
    }
    let ran = said.running.contains(address);
    if recorded || (ran && (succeeded || (ended && said.has_failures()))) {
        return StageState::Ran;
    }
    if succeeded || said.unchanged.contains(address) { StageState::Unchanged } else { StageState::NotRun }
}

/// The files at a path or below it, relative to the root, each with whether it has the executable bit.
fn files_below(root: &Path, path: &str) -> Result<Vec<(String, bool)>, Diagnostic> {
    let at = root.join(path);
    let Ok(metadata) = at.symlink_metadata() else { return Ok(vec![]) };
    if !metadata.is_dir() {
        use std::os::unix::fs::PermissionsExt as _;
        return Ok(vec![(path.to_owned(), metadata.permissions().mode() & 0o100 != 0)]);
    }
    let found = fs::walk(&at, &|_| false)?;
    let mut files: Vec<(String, bool)> = found
        .into_iter()
        .filter(|found| matches!(found.kind, FoundKind::File | FoundKind::Symlink))
        .map(|found| (format!("{path}/{}", found.path), found.kind == FoundKind::File && found.mode & 0o100 != 0))
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// The empty directories below a path, relative to the root.
fn empty_below(root: &Path, path: &str) -> Result<Vec<String>, Diagnostic> {
    let at = root.join(path);
    if at.is_symlink() || !at.is_dir() {
        return Ok(vec![]);
    }
    let found = fs::walk(&at, &|_| false)?;
    let mut empty: Vec<String> = fs::empty_directories(&found).map(|inside| format!("{path}/{inside}")).collect();
    empty.sort_unstable();
    Ok(empty)
}

/// Copies a file into the result, under the next number.
fn publish_file(
    draft: &Draft,
    root: &Path,
    path: &str,
    number: usize,
    stage: Option<&str>,
) -> Result<ResultFile, Diagnostic> {
    use std::os::unix::fs::PermissionsExt as _;
    let from = root.join(path);
    let blob = number.to_string();
    let to = draft.blob(&blob);
    let symlink = std::fs::read_link(&from).ok().map(|target| target.to_string_lossy().into_owned());
    if symlink.is_some() {
        fs::write_plain(&to, b"")?;
    } else {
        fs::copy(&from, &to)?;
    }
    let (md5, size) = fs::digest(&to)?;
    let executable =
        symlink.is_none() && from.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o100 != 0);
    Ok(ResultFile {
        path: path.to_owned(),
        blob,
        size,
        md5,
        executable,
        symlink,
        stage: stage.map(str::to_owned),
        before: None,
    })
}
