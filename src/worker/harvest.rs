//! What a work item's stages left in the workspace, taken into its result.

use std::collections::HashSet;
use std::path::Path;

use crate::adapters::fs::{self, FoundKind};
use crate::adapters::git::ignore::Ignores;
use crate::diagnostic::Diagnostic;
use crate::dvc::ignore_lines;
use crate::dvc::pipeline::path;
use crate::state::format::{self, IgnoreLines, ResultFile, StageResult, StageState, WorkItem};
use crate::state::results::Draft;
use crate::worker::executor::Ran;
use crate::worker::workspace::{self, Sources, Workspace};

/// Bytes that a result brings at most of what failed stages had written.
const MAX_PARTIAL: u64 = 1 << 30;

/// What the stages left in the workspace.
#[derive(Default)]
pub(super) struct Left {
    pub stages: Vec<StageResult>,
    pub files: Vec<ResultFile>,
    pub partial: Vec<ResultFile>,
    pub deleted: Vec<String>,
    pub ignore: Vec<IgnoreLines>,
}

/// Takes things out of the workspace in which a work item's stages ran.
pub(super) struct Harvest<'a> {
    pub item: &'a WorkItem,
    pub sources: &'a Sources<'a>,
    /// The project's folder in the git work tree.
    pub prefix: &'a str,
    pub draft: &'a Draft,
}

impl Harvest<'_> {
    /// Takes what goes back to the project out of the workspace.
    pub(super) fn take(&self, workspace: &mut Workspace, ran: &Ran) -> Result<Left, Diagnostic> {
        let root = workspace.root();
        let mut left = self.take_stages(&root, ran, true)?;
        self.take_others(workspace, &mut left)?;
        self.take_partial(&root, &mut left)?;
        Ok(left)
    }

    /// Takes what became of the stages; `files` says whether what they declare and DVC does not cache comes along.
    pub(super) fn take_stages(&self, root: &Path, ran: &Ran, files: bool) -> Result<Left, Diagnostic> {
        let mut left = Left::default();
        let entries = workspace::entries(root, self.item)?;
        for ((stage, end), entry) in self.item.stages.iter().zip(&ran.stages).zip(entries) {
            let (mut executable, mut empty, mut dvc_file) = (vec![], vec![], None);
            if end.state.is_good() {
                for out in &stage.outs {
                    let at = root.join(&out.resolved);
                    empty.extend(empty_below(root, &out.resolved)?);
                    for (path, found) in files_below(root, &out.resolved)? {
                        if !out.cache {
                            if files {
                                let number = left.files.len();
                                left.files.push(publish_file(self.draft, root, &path, number, Some(&stage.address))?);
                            }
                        } else if at.is_dir() && found {
                            executable.push(path);
                        }
                    }
                }
                if stage.name.is_none() {
                    if files {
                        let number = left.files.len();
                        left.files.push(publish_file(self.draft, root, &stage.file, number, Some(&stage.address))?);
                    }
                    dvc_file = fs::read_text_if_any(&root.join(&stage.file))?;
                }
            }
            let (address, state) = (stage.address.clone(), end.state);
            left.stages.push(StageResult {
                address,
                state,
                entry,
                dvc_file,
                executable,
                empty,
                executor: end.executed.clone(),
            });
        }
        Ok(left)
    }

    /// Takes what failed stages had written, up to a limit for all of it: somebody will want to look at it.
    fn take_partial(&self, root: &Path, left: &mut Left) -> Result<(), Diagnostic> {
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
                    left.partial.push(publish_file(self.draft, root, &path, number, Some(&stage.address))?);
                }
            }
        }
        Ok(())
    }

    /// Takes lines of `.gitignore` files and other files that changed and that git does not ignore.
    fn take_others(&self, workspace: &mut Workspace, left: &mut Left) -> Result<(), Diagnostic> {
        let root = workspace.root();
        let below =
            |path: &str, top: &str| path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let outs: Vec<&str> =
            self.item.stages.iter().flat_map(|stage| &stage.outs).map(|out| out.resolved.as_str()).collect();
        // What else lies beside files with odd names is looked at.
        let is_named = |input: &&format::Input| !matches!(input, format::Input::OddNames { .. });
        let inputs: Vec<&str> = self.item.inputs.iter().filter(is_named).map(format::Input::path).collect();
        let written: Vec<&str> = self.item.files.iter().map(|file| file.path.as_str()).collect();
        let known = |path: &str| {
            path == ".dvc"
                || path.starts_with(".dvc/")
                || written.iter().any(|file| path == *file || path == path::lock_path(file))
                || outs.iter().chain(&inputs).any(|top| below(path, top))
        };
        let changes = workspace.changes(&known)?;
        let git = workspace.git()?;
        let ignores = git.ignores();
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
            } else if !ignores.is_ignored(&path::join(self.prefix, &path))? {
                let mut file = publish_file(self.draft, &root, &path, left.files.len(), None)?;
                file.before = workspace.original_md5(&path)?;
                left.files.push(file);
            }
        }
        left.deleted = changes.deleted;
        workspace.bring_leftovers(self.sources, &known)?;
        // Without git, DVC writes no such lines.
        if git.is_there() { self.take_lines(&ignores, left) } else { Ok(()) }
    }

    /// Adds the `.gitignore` lines for outs of good stages that DVC took out again when another stage failed.
    fn take_lines(&self, ignores: &Ignores, left: &mut Left) -> Result<(), Diagnostic> {
        let good: Vec<&str> =
            left.stages.iter().filter(|stage| stage.state.is_good()).map(|stage| stage.address.as_str()).collect();
        if good.len() == left.stages.len() {
            return Ok(());
        }
        let is_good = |stage: &&format::PlannedStage| good.contains(&stage.address.as_str());
        let outs = self.item.stages.iter().filter(is_good).flat_map(|stage| &stage.outs).filter(|out| out.cache);
        for out in outs {
            let (path, line) = ignore_lines::line_of(&out.resolved);
            if ignores.is_ignored(&path::join(self.prefix, &out.resolved))? {
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
