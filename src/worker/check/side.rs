//! What one side has left of a work item, as a list that can be compared, and as files that a person can look at.
//!
//! | in the list | as |
//! |---|---|
//! | a stage, its lock entry, its entry in the run cache | how it ended; their texts |
//! | outs, with all that lies in them | mode, kind of link, MD5 |
//! | objects in the cache | mode, and whether the content is right |
//! | files that no stage declares, deleted files, `.gitignore` lines | mode, MD5; the lines |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::adapters::dvc::store::Store;
use crate::adapters::fs::{self, FoundKind, FsError};
use crate::diagnostic::Diagnostic;
use crate::dvc::changed::run_cache;
use crate::dvc::hash::HashName;
use crate::dvc::ignore_lines;
use crate::dvc::lockfile::EntryRef;
use crate::dvc::oid::Oid;
use crate::model::run::StageState;
use crate::output::text;
use crate::state::format::{PlannedOut, PlannedStage, ResultFile, StageResult};
use crate::state::published;
use crate::worker::Begun;
use crate::worker::harvest::Left;

/// Differences that are told; the lists of both sides have all.
const TOLD: usize = 20;
/// Characters of a value that are told.
const LENGTH: usize = 160;

/// What is compared.
pub(super) struct Chosen {
    /// Of each stage whether it is.
    pub stages: Vec<bool>,
    /// Whether files are that no stage declares.
    pub others: bool,
}

/// What is there, by what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    of_stages: BTreeMap<String, String>,
    others: BTreeMap<String, String>,
}

impl Listing {
    /// The part that is chosen; the stages are so already.
    pub(super) fn chosen(&self, chosen: &Chosen) -> Listing {
        let others = if chosen.others { self.others.clone() } else { BTreeMap::new() };
        Listing { of_stages: self.of_stages.clone(), others }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.of_stages.get(name).or_else(|| self.others.get(name)).map(String::as_str)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.of_stages.keys().chain(self.others.keys())
    }

    /// What is not the same in that of DVC, a line each.
    pub(super) fn differences(&self, dvc: &Listing) -> Vec<String> {
        let names: BTreeSet<&String> = self.names().chain(dvc.names()).collect();
        let differing: Vec<&String> = names.into_iter().filter(|name| self.get(name) != dvc.get(name)).collect();
        let mut lines: Vec<String> = vec![];
        for name in differing.iter().take(TOLD) {
            let (own, other) = first_difference(self.get(name), dvc.get(name));
            lines.push(format!("{name}: {own} without DVC, {other} with DVC"));
        }
        if differing.len() > TOLD {
            lines.push(format!("… and {} more", differing.len() - TOLD));
        }
        lines
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.of_stages.iter().chain(&self.others) {
            let value = value.trim_end().replace('\n', "\n    ");
            writeln!(text, "{name}: {value}").expect("a String takes every text");
        }
        text
    }
}

/// The first lines of two texts that are not the same.
fn first_difference(one: Option<&str>, other: Option<&str>) -> (String, String) {
    let (Some(one), Some(other)) = (one, other) else {
        let said = |text: Option<&str>| if text.is_some() { "there" } else { "not there" }.to_owned();
        return (said(one), said(other));
    };
    let quoted = |line: String, of: &str| if of.lines().count() > 1 { format!("`{line}`") } else { line };
    let (own, theirs) = text::first_difference(one, other, LENGTH);
    (quoted(own, one), quoted(theirs, other))
}

/// What one side has left.
pub(in crate::worker) struct Side<'s, 'b> {
    pub(super) begun: &'s Begun<'b>,
    /// The project's root in its workspace, or the project.
    root: &'s Path,
    locks: &'s Path,
    left: &'s Left,
    /// Whether files that no stage declares were looked for.
    pub(super) has_others: bool,
}

impl<'s, 'b> Side<'s, 'b> {
    pub(in crate::worker) fn of(
        begun: &'s Begun<'b>,
        root: &'s Path,
        locks: &'s Path,
        left: &'s Left,
        has_others: bool,
    ) -> Self {
        Side { begun, root, locks, left, has_others }
    }

    /// The project's folder in the workspace.
    pub(super) fn prefix(&self) -> &str {
        &self.begun.bench.sources.plan.prefix
    }

    /// Lists what is chosen; `first` is the list of the side that was first.
    pub(super) fn list(&self, chosen: &Chosen, store: &Store, first: Option<&Listing>) -> Result<Listing, Diagnostic> {
        let mut list = Lister { side: self, store, first, found: BTreeMap::new() };
        for (stage, made) in self.chosen(chosen) {
            list.stage(stage, made)?;
        }
        let of_stages = std::mem::take(&mut list.found);
        if chosen.others {
            list.others();
        }
        Ok(Listing { of_stages, others: list.found })
    }

    fn chosen<'c>(&'c self, chosen: &'c Chosen) -> impl Iterator<Item = (&'c PlannedStage, &'c StageResult)> {
        let stages = self.begun.item.stages.iter().zip(&self.left.stages);
        stages.zip(&chosen.stages).filter(|(_, is_chosen)| **is_chosen).map(|(stage, _)| stage)
    }

    /// Copies what a person would look at into a folder.
    pub(super) fn keep(&self, folder: &Path, listing: &Listing) -> Result<(), FsError> {
        fs::create_dir(folder)?;
        fs::write_plain(&folder.join("listing"), listing.text().as_bytes())?;
        let outs = self.begun.item.stages.iter().flat_map(|stage| &stage.outs).map(|out| out.resolved.as_str());
        let files = self.left.files.iter().map(|file| file.path.as_str());
        let paths: BTreeSet<&str> = outs.chain(files).collect();
        for path in paths {
            fs::copy_all(&self.root.join(path), &folder.join("workspace").join(path), 0)?;
        }
        let files: BTreeSet<&str> = self.begun.item.stages.iter().map(|stage| stage.file.as_str()).collect();
        for path in files.into_iter().map(crate::dvc::pipeline::path::lock_path) {
            fs::copy_all(&self.locks.join(&path), &folder.join("locks").join(&path), 0)?;
        }
        Ok(())
    }
}

/// Makes the list of a side.
struct Lister<'l> {
    side: &'l Side<'l, 'l>,
    store: &'l Store,
    first: Option<&'l Listing>,
    found: BTreeMap<String, String>,
}

impl Lister<'_> {
    fn add(&mut self, name: String, value: impl Into<String>) {
        self.found.insert(name, value.into());
    }

    fn stage(&mut self, stage: &PlannedStage, made: &StageResult) -> Result<(), Diagnostic> {
        let address = &stage.address;
        self.add(format!("stage `{address}`"), made.state.name());
        if !made.state.is_good() {
            let partial = self.side.left.partial.iter().filter(|file| file.stage.as_deref() == Some(address));
            let lines: Vec<String> = partial.map(|file| format!("{}: {}", file.path, described(file))).collect();
            self.add(format!("what failed stage `{address}` left"), lines.join("\n"));
            return Ok(());
        }
        if let Some(entry) = made.entry.as_ref().or(made.dvc_file.as_ref()) {
            self.add(format!("lock entry of `{address}`"), entry);
        }
        for out in &stage.outs {
            self.out(&out.resolved)?;
        }
        if matches!(made.state, StageState::Ran | StageState::Restored) {
            stage.outs.iter().try_for_each(|out| self.objects(made, out))?;
            self.run(stage, made)?;
        }
        for lines in &self.side.left.ignore {
            let is_own = |line: &&String| {
                let out = ignore_lines::out_of(&lines.path, line);
                stage.outs.iter().any(|own| own.resolved == out)
            };
            for line in lines.lines.iter().filter(is_own) {
                self.add(format!("line `{line}` of `{}`", lines.path), "there");
            }
        }
        Ok(())
    }

    /// An out with all that lies in it.
    fn out(&mut self, path: &str) -> Result<(), Diagnostic> {
        let full = self.side.root.join(path);
        let said = self.path(&full)?;
        self.add(format!("out `{path}`"), said);
        if full.is_symlink() || !full.is_dir() {
            return Ok(());
        }
        for inside in fs::walk(&full, &|_| false)? {
            let said = match inside.kind {
                FoundKind::Directory => format!("directory, mode {:03o}", inside.mode & 0o7777),
                FoundKind::File | FoundKind::Symlink => self.path(&full.join(&inside.path))?,
                FoundKind::Other => "neither file nor directory".to_owned(),
            };
            self.add(format!("out `{path}/{}`", inside.path), said);
        }
        Ok(())
    }

    /// Kind, mode and content of what lies at a path.
    fn path(&self, path: &Path) -> Result<String, FsError> {
        let Ok(metadata) = path.symlink_metadata() else { return Ok("nothing".to_owned()) };
        let mode = metadata.mode() & 0o7777;
        if metadata.is_dir() {
            return Ok(format!("directory, mode {mode:03o}"));
        }
        if !path.is_file() {
            return Ok("no file".to_owned());
        }
        let (md5, _) = fs::digest(path)?;
        let object = Oid::parse(&md5).map(|oid| self.store.object(oid));
        if metadata.is_symlink() {
            let target = path.read_link().unwrap_or_default();
            let to =
                if object.as_ref() == Some(&target) { "its object".to_owned() } else { target.display().to_string() };
            return Ok(format!("symlink to {to}, md5 {md5}"));
        }
        let object = object.and_then(|object| object.metadata().ok());
        let is_object = object.is_some_and(|of| (of.dev(), of.ino()) == (metadata.dev(), metadata.ino()));
        let kind = if is_object { "link of its object" } else { "file" };
        Ok(format!("{kind}, mode {mode:03o}, md5 {md5}"))
    }

    /// The objects of an out in the cache.
    fn objects(&mut self, made: &StageResult, out: &PlannedOut) -> Result<(), FsError> {
        let recorded = published::recorded_out(std::slice::from_ref(made), &made.address, &out.path);
        let Some(oid) = recorded.and_then(|recorded| Oid::parse(&recorded.md5?)) else { return Ok(()) };
        let members = oid.is_directory().then(|| self.store.cache().members(oid.by(HashName::Md5))).flatten();
        let members = members.into_iter().flatten().map(|member| Oid::file(member.md5));
        for oid in members.chain([oid]) {
            let name = format!("object `{oid}`");
            // What is not cached may be there by another stage: then it says nothing that it is.
            let is_wanted = out.cache
                || match self.first {
                    None => self.store.is_own(&self.store.object(oid)),
                    Some(first) => first.get(&name).is_some(),
                };
            if is_wanted {
                let said = said_of_object(&self.store.object(oid), oid)?;
                self.add(name, said);
            }
        }
        Ok(())
    }

    /// A stage's entry in the run cache.
    fn run(&mut self, stage: &PlannedStage, made: &StageResult) -> Result<(), FsError> {
        let (Some(name), Some(entry)) = (&stage.name, &made.entry) else { return Ok(()) };
        let value = EntryRef::of(name, entry).value().ok();
        let Some((key, value)) = value.as_ref().and_then(|value| value.as_map()).and_then(run_cache::names) else {
            return Ok(());
        };
        let path: PathBuf = self.store.run(&key, &value);
        let text = fs::read_text_if_any(&path)?;
        let mode = || fs::mode(&path).map(|mode| mode & 0o7777);
        let said = text.map_or(Ok("none".to_owned()), |text| mode().map(|mode| format!("mode {mode:03o}\n{text}")))?;
        self.add(format!("run cache of `{}`", stage.address), said);
        Ok(())
    }

    /// What no stage declares.
    fn others(&mut self) {
        let left = self.side.left;
        // What DVC is shown is not there without it; changed deps are in the entries.
        let is_other = |file: &&ResultFile| file.stage.is_none() && !file.projected && !file.edited;
        for file in left.files.iter().filter(is_other) {
            self.add(format!("undeclared `{}`", file.path), described(file));
        }
        for path in &left.deleted {
            self.add(format!("deleted `{path}`"), "yes");
        }
        for made in &left.modes {
            self.add(format!("mode of `{}`", made.path), format!("{:03o}", made.mode));
        }
        for made in &left.empty {
            self.add(format!("empty directory `{}`", made.path), format!("{:03o}", made.mode));
        }
        for ignore in &left.ignore {
            self.add(format!("lines of `{}`", ignore.path), ignore.lines.join("\n"));
        }
    }
}

/// A file of a result.
fn described(file: &ResultFile) -> String {
    match (&file.symlink, file.mode) {
        (Some(target), _) => format!("symlink to {target}"),
        (None, Some(mode)) => format!("mode {mode:03o}, md5 {}", file.md5),
        (None, None) if file.executable => format!("executable, md5 {}", file.md5),
        (None, None) => format!("md5 {}", file.md5),
    }
}

fn said_of_object(path: &Path, oid: Oid) -> Result<String, FsError> {
    if !path.is_file() {
        return Ok("not there".to_owned());
    }
    let (md5, _) = fs::digest(path)?;
    let is_right = oid.md5().to_string() == md5;
    let content = if is_right { String::new() } else { format!(", but its md5 is {md5}") };
    Ok(format!("there, mode {:03o}{content}", fs::mode(path)? & 0o7777))
}
