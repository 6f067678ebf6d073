//! What a work item's stages left in the workspace, taken into its result.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use crate::adapters::dvc::cache::Cache;
use crate::adapters::fs::{self, FoundKind, FsError};
use crate::adapters::git::ignore::Ignores;
use crate::diagnostic::Diagnostic;
use crate::dvc::config::LinkType;
use crate::dvc::ignore_lines;
use crate::dvc::pipeline::path;
use crate::model::making;
use crate::model::run::{Difference, Moved, StageState};
use crate::state::format::{self, IgnoreLines, PathMode, PlannedOut, ResultFile, StageResult, WorkItem};
use crate::state::published;
use crate::state::results::Draft;
use crate::worker::edited_deps;
use crate::worker::executor::Ran;
use crate::worker::workspace::projection::{Projection, is_stage_file};
use crate::worker::workspace::{self, Sources, Workspace};

/// Bytes that a result brings at most of what failed stages had written.
const MAX_PARTIAL: u64 = 1 << 30;

/// What the stages left in the workspace.
#[derive(Default)]
pub(super) struct Left {
    pub stages: Vec<StageResult>,
    pub files: Vec<ResultFile>,
    pub partial: Vec<ResultFile>,
    pub persisted: Vec<String>,
    pub modes: Vec<PathMode>,
    pub empty: Vec<PathMode>,
    pub deleted: Vec<String>,
    pub gone: Vec<String>,
    pub ignore: Vec<IgnoreLines>,
    /// Where the work item was done twice.
    pub difference: Option<Difference>,
    /// Where the cache is this machine's own.
    pub moved: Option<Moved>,
}

/// Takes things out of the workspace in which a work item's stages ran.
pub(super) struct Harvest<'a> {
    pub item: &'a WorkItem,
    /// The project's folder in the git work tree.
    pub prefix: &'a str,
    pub draft: &'a Draft,
    /// DVC's cache.
    pub cache: Cache,
    /// How files of the workspace are tied to it.
    pub links: &'a [LinkType],
}

impl Harvest<'_> {
    /// Takes what goes back to the project out of the workspace. `sources` is `None` where the stages were done only to be
    /// compared: then nothing comes into the project here.
    pub(super) fn take(
        &self,
        workspace: &mut Workspace,
        sources: Option<&Sources<'_>>,
        ran: &Ran,
        projection: &Projection<'_>,
    ) -> Result<Left, Diagnostic> {
        let root = workspace.root();
        let mut left = self.take_stages(&root, projection.locks(), ran, true)?;
        let are_projected = projection.is_shown();
        self.take_others(workspace, sources, are_projected, &mut left)?;
        self.take_partial(&root, ran, &mut left)?;
        for target in left.files.iter_mut().chain(&mut left.partial).filter_map(|file| file.symlink.as_mut()) {
            *target = workspace.at_home(Path::new(target)).to_string_lossy().into_owned();
        }
        for file in left.files.iter_mut().filter(|file| file.stage.is_none()) {
            if let Some(given) = workspace.given(&file.path) {
                file.passed = file.is_as(given);
                file.given = Some(given.content_md5());
            }
        }
        Ok(left)
    }

    /// Takes what became of the stages, whose entries lie below `locks`; `files` says whether what they declare and DVC
    /// does not cache comes along.
    pub(super) fn take_stages(&self, root: &Path, locks: &Path, ran: &Ran, files: bool) -> Result<Left, Diagnostic> {
        let mut left = Left::default();
        let entries = workspace::entries(locks, self.item)?;
        for ((stage, end), entry) in self.item.stages.iter().zip(&ran.stages).zip(entries) {
            let (address, state, executor) = (&stage.address, end.state, end.executed.clone());
            let mut made = StageResult { state, entry, executor, ..StageResult::not_run(address) };
            if state.is_good() {
                if stage.name.is_none() {
                    if files {
                        self.publish(root, &stage.file, Some(&stage.address), &mut left.files, 0)?;
                    }
                    made.dvc_file = fs::read_text_if_any(&root.join(&stage.file))?;
                }
                for out in &stage.outs {
                    self.take_out(root, out, files, &mut made, &mut left)?;
                }
            }
            left.stages.push(made);
        }
        Ok(left)
    }

    /// Takes of an out of a good stage what the cache does not hold: all of it, or what DVC does not see of it.
    fn take_out(
        &self,
        root: &Path,
        out: &PlannedOut,
        files: bool,
        made: &mut StageResult,
        left: &mut Left,
    ) -> Result<(), Diagnostic> {
        let at = root.join(&out.resolved);
        let is_directory = at.is_dir() && !at.is_symlink();
        made.empty.extend(empty_below(root, &out.resolved)?);
        // Of what is cached, the cache knows.
        if !out.cache && is_directory && fs::names(&at)?.is_empty() {
            made.empty.push(out.resolved.clone());
        }
        let is_new = matches!(made.state, StageState::Ran | StageState::Restored);
        let cached = if out.cache && is_directory && is_new { self.members(made, out) } else { None };
        let usual = self.draft.usual_mode()?;
        // Where copies are made, no file is a link anyway.
        let may_be_own = cached.is_some() && made.state == StageState::Ran && !LinkType::make_copies(self.links);
        let (mut own, mut is_all_own) = (vec![], may_be_own);
        let mut modes = directories_below(root, &out.resolved)?;
        modes.retain(|found| found.mode != usual);
        for (path, mode) in files_below(root, &out.resolved)? {
            let inside = path[out.resolved.len()..].trim_start_matches('/');
            let is_hidden = cached.as_ref().is_some_and(|cached| !cached.contains(inside));
            if !out.cache || is_hidden {
                if files {
                    self.publish(root, &path, Some(&made.address), &mut left.files, 0)?.hidden = is_hidden;
                }
                continue;
            }
            let unusual = mode.filter(|mode| is_directory && *mode != usual & 0o666);
            let may_matter = unusual.is_some() || (may_be_own && mode.is_some());
            let is_own = may_matter && fs::names_of(&root.join(&path)) == 1;
            made.executable.extend(unusual.filter(|mode| mode & 0o100 != 0).map(|_| path.clone()));
            // One that is linked has the mode of its object.
            modes.extend(unusual.filter(|_| is_own).map(|mode| PathMode { path: path.clone(), mode }));
            if may_be_own {
                is_all_own &= is_own;
                own.extend(is_own.then_some(path));
            }
        }
        made.own.extend(if is_all_own { vec![out.resolved.clone()] } else { own });
        modes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        left.modes.extend(modes);
        Ok(())
    }

    /// The files that the cache holds of a directory out.
    fn members(&self, made: &StageResult, out: &PlannedOut) -> Option<HashSet<String>> {
        let recorded = published::recorded_out(std::slice::from_ref(made), &made.address, &out.path)?;
        let members = self.cache.members(recorded.object()?)?;
        Some(members.into_iter().map(|member| member.relpath).collect())
    }

    /// Takes what stages that did not come to a good end had written: of those that failed up to a limit for all of it, as
    /// somebody will want to look at it; what persists as a whole, since the next attempt goes on from there.
    pub(super) fn take_partial(&self, root: &Path, ran: &Ran, left: &mut Left) -> Result<(), Diagnostic> {
        let mut room = MAX_PARTIAL;
        for (stage, end) in self.item.stages.iter().zip(&ran.stages).filter(|(_, end)| !end.state.is_good()) {
            let has_failed = end.state == StageState::Failed;
            for out in stage.outs.iter().filter(|out| has_failed || (out.persist && end.has_begun)) {
                for (path, _) in files_below(root, &out.resolved)? {
                    let size = root.join(&path).symlink_metadata().map_or(0, |metadata| metadata.len());
                    if !out.persist {
                        let Some(rest) = room.checked_sub(size) else { continue };
                        room = rest;
                    }
                    self.publish(root, &path, Some(&stage.address), &mut left.partial, left.files.len())?;
                }
                left.persisted.extend(out.persist.then(|| out.resolved.clone()));
            }
        }
        Ok(())
    }

    /// Copies a file into the result, under the next number; `before` of them are in another list.
    fn publish<'l>(
        &self,
        root: &Path,
        path: &str,
        stage: Option<&str>,
        list: &'l mut Vec<ResultFile>,
        before: usize,
    ) -> Result<&'l mut ResultFile, Diagnostic> {
        let number = before + list.len();
        list.push(publish_file(self.draft, root, path, number, stage)?);
        Ok(list.last_mut().expect("it was just pushed"))
    }

    /// Takes lines of `.gitignore` files and other files that changed and that git does not ignore.
    ///
    /// Where a command has changed the stage files that DVC was shown, these are not the project's.
    fn take_others(
        &self,
        workspace: &mut Workspace,
        sources: Option<&Sources<'_>>,
        are_projected: bool,
        left: &mut Left,
    ) -> Result<(), Diagnostic> {
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
                || (are_projected && is_stage_file(path))
                // The `.dvc` files come with their stages.
                || written.iter().any(|file| path == path::lock_path(file) || (path == *file && path::is_dvc_file(path)))
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
                let mut lines = new_lines(&before, &fs::read(&root.join(&path))?);
                lines.retain(|line| !not_made.contains(ignore_lines::out_of(&path, line).as_str()));
                left.ignore.push(IgnoreLines { path, lines });
            } else if !ignores.is_ignored(&path::join(self.prefix, &path))? {
                let before = workspace.original_md5(&path)?;
                let file = self.publish(&root, &path, None, &mut left.files, 0)?;
                // In the project a file that is written to keeps its mode, unless a command gives it another one.
                file.mode = if before.is_none() { file.mode } else { workspace.new_mode(&path) };
                file.before = before;
            }
        }
        // Where others have written something else before, this is the last word.
        let takes_turns = |path: &String| path::file_name(path) == ".gitignore" || is_stage_file(path);
        for path in changes.rewritten.iter().filter(|path| !takes_turns(path)) {
            if !ignores.is_ignored(&path::join(self.prefix, path))? {
                let before = workspace.original_md5(path)?;
                let file = self.publish(&root, path, None, &mut left.files, 0)?;
                (file.mode, file.before) = (None, before);
            }
        }
        if let Some(sources) = sources {
            if are_projected {
                self.take_edits(&root, left)?;
            }
            for (path, before) in edited_deps::find(self.item, &left.stages, sources, &root, &self.cache)? {
                let file = self.publish(&root, &path, None, &mut left.files, 0)?;
                (file.edited, file.before) = (true, before);
            }
        }
        (left.gone, left.deleted) = changes.deleted.into_iter().partition(|path| workspace.is_gone(path));
        let usual = self.draft.usual_mode()?;
        let stages = self.item.stages.iter().zip(&left.stages).filter(|(_, became)| became.state.is_good());
        let made: Vec<&str> = stages.flat_map(|(stage, _)| &stage.outs).map(|out| out.resolved.as_str()).collect();
        let mut unusual = vec![];
        for found in changes.directories {
            let is_empty =
                !self.item.directories.contains(&found.path) && fs::names(&root.join(&found.path))?.is_empty();
            if is_empty && !ignores.is_ignored(&format!("{}/", path::join(self.prefix, &found.path)))? {
                left.empty.push(found);
            } else if found.mode != usual {
                unusual.push(found);
            }
        }
        let comes_along = |path: &str| {
            left.files.iter().any(|file| file.stage.is_none() && path::is_within(&file.path, path))
                || left.empty.iter().any(|empty| path::is_within(&empty.path, path))
                || made.iter().any(|out| path::is_within(out, path))
        };
        unusual.retain(|found| comes_along(&found.path));
        left.modes.extend(unusual);
        if let Some(sources) = sources {
            workspace.bring_leftovers(sources, &known, &|| self.may_remove(&root))?;
            workspace.bring_odd_names(sources, &known)?;
        }
        // Without git, DVC writes no such lines.
        if git.is_there() { self.take_lines(&ignores, left) } else { Ok(()) }
    }

    /// Whether commands, or scripts that they name, may remove a folder before they make it anew.
    fn may_remove(&self, root: &Path) -> bool {
        let texts = self.item.files.iter().map(|file| file.text.as_str());
        texts.into_iter().any(|text| {
            let scripts = || making::paths(text).filter_map(|word| std::fs::read_to_string(root.join(word)).ok());
            making::may_remove(text) || scripts().any(|script| making::may_remove(&script))
        })
    }

    /// Takes what commands wrote into a `dvc.yaml` that shows DVC the stages of this work item alone: it cannot become
    /// the project's own, but nobody shall miss it.
    fn take_edits(&self, root: &Path, left: &mut Left) -> Result<(), Diagnostic> {
        for file in self.item.files.iter().filter(|file| path::file_name(&file.path) == "dvc.yaml") {
            if fs::read_text_if_any(&root.join(&file.path))?.is_some_and(|now| now != file.text) {
                self.publish(root, &file.path, None, &mut left.files, 0)?.projected = true;
            }
        }
        Ok(())
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

/// The `.gitignore` files beside a work item's outs, as they are in the project before its stages run there.
pub(super) struct IgnoresBefore(BTreeMap<String, Vec<u8>>);

impl IgnoresBefore {
    pub(super) fn read(root: &Path, item: &WorkItem) -> Result<IgnoresBefore, Diagnostic> {
        let outs = item.stages.iter().flat_map(|stage| &stage.outs);
        let paths: BTreeSet<String> = outs.map(|out| ignore_lines::line_of(&out.resolved).0).collect();
        let read = |path: String| {
            let text = read_if_any(&root.join(&path))?;
            Ok((path, text))
        };
        Ok(IgnoresBefore(paths.into_iter().map(read).collect::<Result<_, Diagnostic>>()?))
    }

    /// The lines that were added since.
    pub(super) fn added(self, root: &Path) -> Result<Vec<IgnoreLines>, Diagnostic> {
        let mut added = vec![];
        for (path, before) in self.0 {
            let lines = new_lines(&before, &read_if_any(&root.join(&path))?);
            if !lines.is_empty() {
                added.push(IgnoreLines { path, lines });
            }
        }
        Ok(added)
    }
}

/// The bytes of a file, or none where there is no file.
fn read_if_any(path: &Path) -> Result<Vec<u8>, FsError> {
    if fs::exists(path) { fs::read(path) } else { Ok(vec![]) }
}

/// The lines of a text that an earlier one does not have.
fn new_lines(before: &[u8], after: &[u8]) -> Vec<String> {
    let before = String::from_utf8_lossy(before);
    let before: HashSet<&str> = before.lines().collect();
    let after = String::from_utf8_lossy(after);
    after.lines().filter(|line| !before.contains(line)).map(str::to_owned).collect()
}

/// The files at a path or below it, relative to the root, each with its mode; symlinks have none.
fn files_below(root: &Path, path: &str) -> Result<Vec<(String, Option<u32>)>, Diagnostic> {
    use std::os::unix::fs::PermissionsExt as _;
    let at = root.join(path);
    let Ok(metadata) = at.symlink_metadata() else { return Ok(vec![]) };
    if !metadata.is_dir() {
        // Whoever opens a FIFO waits for who writes to it.
        let is_some = metadata.is_file() || metadata.is_symlink();
        let mode = metadata.is_file().then(|| metadata.permissions().mode() & 0o777);
        return Ok(if is_some { vec![(path.to_owned(), mode)] } else { vec![] });
    }
    let found = fs::walk(&at, &|_| false)?;
    let mut files: Vec<(String, Option<u32>)> = found
        .into_iter()
        .filter(|found| matches!(found.kind, FoundKind::File | FoundKind::Symlink))
        .map(|found| (format!("{path}/{}", found.path), (found.kind == FoundKind::File).then_some(found.mode & 0o777)))
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// The directories at a path and below it, relative to the root, each before those in it.
fn directories_below(root: &Path, path: &str) -> Result<Vec<PathMode>, Diagnostic> {
    use std::os::unix::fs::PermissionsExt as _;
    let at = root.join(path);
    let Some(metadata) = at.symlink_metadata().ok().filter(std::fs::Metadata::is_dir) else { return Ok(vec![]) };
    let mode = fs::directory_mode(metadata.permissions().mode());
    let mut directories = vec![PathMode { path: path.to_owned(), mode }];
    let found = fs::walk(&at, &|_| false)?.into_iter().filter(|found| found.kind == FoundKind::Directory);
    directories.extend(
        found.map(|found| PathMode { path: format!("{path}/{}", found.path), mode: fs::directory_mode(found.mode) }),
    );
    directories.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(directories)
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
    let usual = draft.usual_mode()?;
    let found = from.symlink_metadata().ok();
    let mode = found.as_ref().map_or(usual, |found| found.permissions().mode() & 0o777);
    let mode = (symlink.is_none() && mode != usual && mode != usual & 0o666).then_some(mode);
    match mode {
        _ if symlink.is_some() => fs::write_plain(&to, b"")?,
        Some(mode) => fs::copy_as(&from, &to, mode)?,
        None => fs::copy(&from, &to)?,
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
        mode,
        modified: found.filter(std::fs::Metadata::is_file).and_then(|found| fs::modified(&found)),
        hidden: false,
        symlink,
        projected: false,
        edited: false,
        passed: false,
        stage: stage.map(str::to_owned),
        before: None,
        given: None,
    })
}
