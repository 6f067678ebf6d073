//! Results of work items: how one is published, and which of several attempts counts.
//!
//! A result is written into a hidden directory beside its place and appears by one rename. Whatever else lies in a
//! work item's directory is no result.

use std::path::{Path, PathBuf};

use crate::adapters::beneath::Beneath;
use crate::adapters::fs::{self, FsError};
use crate::dvc::lockfile::Lockfile;
use crate::dvc::pipeline::path::is_within;
use crate::dvc::pipeline::read::dvc_file::recorded_outs;
use crate::dvc::pipeline::stage::Recorded;
use crate::state::format::{Outcome, ResultFile, StageResult, WorkResult};
use crate::state::paths::RunDir;
use crate::state::vetting::{self, Rejection};

/// The name of the document in a result's directory.
const RESULT: &str = "result.json";
/// The folder of the contents of files.
const FILES: &str = "files";

/// A result on disk.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub directory: PathBuf,
    /// Without what may not come.
    pub result: WorkResult,
    /// What may not come; the rest is not the worse for it.
    pub left_out: Vec<LeftOut>,
}

/// A path of a result that may not come into the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub path: String,
    /// Its content, where it has one.
    pub file: Option<PathBuf>,
    pub why: String,
}

impl Published {
    pub(crate) fn succeeded(&self) -> bool {
        self.result.outcome == Outcome::Succeeded
    }

    /// Where the content of a file lies.
    pub(crate) fn blob(&self, file: &ResultFile) -> PathBuf {
        self.directory.join(FILES).join(&file.blob)
    }

    /// Puts a file where it belongs, or elsewhere; nothing is there yet.
    pub(crate) fn place_file(&self, file: &ResultFile, to: &Path) -> Result<(), FsError> {
        if let Some(parent) = to.parent() {
            fs::create_dir(parent)?;
        }
        match &file.symlink {
            Some(target) => fs::symlink(target, to),
            None => match file.mode {
                Some(mode) => fs::copy_as(&self.blob(file), to, mode),
                None => {
                    fs::copy(&self.blob(file), to)?;
                    if file.executable { fs::set_executable(to, true) } else { Ok(()) }
                }
            },
        }
    }

    /// The files that a stage declares at a path or below it, or only at or below a member of it.
    pub(crate) fn files_of(&self, stage: &str, path: &str, member: Option<&str>) -> impl Iterator<Item = &ResultFile> {
        let wanted = member.map_or_else(|| path.to_owned(), |member| format!("{path}/{member}"));
        self.result.files.iter().filter(move |file| {
            file.stage.as_deref() == Some(stage)
                && file.path.strip_prefix(&wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The files that DVC does not see in a cached out of a stage, or only at or below a member of it.
    pub(crate) fn hidden_of(&self, stage: &str, path: &str, member: Option<&str>) -> impl Iterator<Item = &ResultFile> {
        self.files_of(stage, path, member).filter(|file| file.hidden)
    }

    /// Gives directories at or below a path the modes that they were made with; those that are not there are left.
    pub(crate) fn set_modes(&self, root: &Path, below: &str) -> Result<(), FsError> {
        // Inner ones first: outer ones may close the way.
        for directory in self.result.modes.iter().rev().filter(|directory| is_within(&directory.path, below)) {
            let at = root.join(&directory.path);
            if at.is_dir() && !at.is_symlink() {
                fs::set_mode(&at, directory.mode)?;
            }
        }
        Ok(())
    }

    fn stage(&self, address: &str) -> Option<&StageResult> {
        self.result.stages.iter().find(|stage| stage.address == address && stage.state.is_good())
    }

    /// What a good stage's lock entry, or its `.dvc` file, records of one of its outs.
    pub(crate) fn recorded_out(&self, address: &str, out: &str) -> Option<Recorded> {
        recorded_out(&self.result.stages, address, out)
    }

    /// The files with the executable bit in a good stage's directory outs.
    pub(crate) fn executable_of(&self, address: &str) -> &[String] {
        self.stage(address).map_or(&[], |stage| &stage.executable)
    }

    /// The empty directories in a good stage's outs.
    pub(crate) fn empty_of(&self, address: &str) -> &[String] {
        self.stage(address).map_or(&[], |stage| &stage.empty)
    }

    /// A good stage's lock entry.
    pub(crate) fn entry(&self, address: &str) -> Option<&str> {
        self.stage(address)?.entry.as_deref()
    }

    /// The addresses of all good stages.
    pub(crate) fn into_good_stages(self) -> Vec<String> {
        let good = self.result.stages.into_iter().filter(|stage| stage.state.is_good());
        good.map(|stage| stage.address).collect()
    }

    /// Whether a stage's entry and outs can be relied on.
    pub(crate) fn is_good(&self, address: &str) -> bool {
        self.stage(address).is_some()
    }
}

/// What a good stage's lock entry, or its `.dvc` file, records of one of its outs.
pub(crate) fn recorded_out(stages: &[StageResult], address: &str, out: &str) -> Option<Recorded> {
    let stage = stages.iter().find(|stage| stage.address == address && stage.state.is_good())?;
    if let Some(text) = &stage.dvc_file {
        return recorded_outs(text).into_iter().find(|(path, _)| path == out).map(|(_, recorded)| recorded);
    }
    let text = crate::dvc::lockfile::splice(None, &[(stage_name(address), stage.entry.as_deref()?)]).ok()?;
    let lock = Lockfile::parse(&text).ok()?;
    let entry = lock.entry(stage_name(address))?.parse().ok()?;
    entry.outs.into_iter().find(|item| item.path == out).map(|item| item.recorded)
}

/// The name of a stage in its lock file.
fn stage_name(address: &str) -> &str {
    address.split_once("dvc.yaml:").map_or(address, |(_, name)| name)
}

/// The attempts at a work item that have begun, ascending: each has a log.
pub(crate) fn attempts(run: &RunDir, index: usize) -> Result<Vec<u32>, FsError> {
    let names = fs::names(&run.work_item(index))?;
    let mut attempts: Vec<u32> = names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
    attempts.sort_unstable();
    Ok(attempts)
}

/// The number of the next attempt at a work item: neither a log nor a result has it, be it one that nobody believes.
pub(crate) fn next_attempt(run: &RunDir, index: usize) -> Result<u32, FsError> {
    let names = fs::names(&run.work_item(index))?;
    let taken = names.iter().filter_map(|name| name.strip_suffix(".log").unwrap_or(name).parse::<u32>().ok());
    Ok(taken.max().unwrap_or(0).saturating_add(1))
}

/// Takes the next attempt at a work item for this process, by making its log.
///
/// A batch system may do one work item on two machines at a time, each of which sees the folder as it was a moment ago:
/// listing it would give both the same number.
pub(crate) fn claim_attempt(run: &RunDir, index: usize) -> Result<u32, FsError> {
    let mut attempt = next_attempt(run, index)?;
    while !fs::create_new(&run.log(index, attempt))? {
        attempt = attempt.saturating_add(1);
    }
    Ok(attempt)
}

/// Sets the failures of a work item's attempts so far aside: the next launch tries it again. The results stay.
pub(crate) fn set_failures_aside(run: &RunDir, index: usize) -> Result<(), FsError> {
    let last = attempts(run, index)?.last().copied().unwrap_or(0);
    fs::write(&run.set_aside(index), format!("{last}\n").as_bytes())
}

/// The last attempt whose failure is set aside; 0 where none is.
pub(crate) fn set_aside(run: &RunDir, index: usize) -> Result<u32, FsError> {
    let text = fs::read_text_if_any(&run.set_aside(index))?.unwrap_or_default();
    Ok(text.trim().parse().unwrap_or(0))
}

/// Notes why the result of an attempt did not come into the project as a whole, or that it did.
pub(crate) fn note_refusal(run: &RunDir, index: usize, attempt: u32, reasons: &[String]) -> Result<(), FsError> {
    let place = run.refusal(index);
    if reasons.is_empty() {
        return if fs::exists(&place) { fs::remove(&place) } else { Ok(()) };
    }
    fs::write(&place, format!("{attempt}\n{}\n", reasons.join("\n")).as_bytes())
}

/// Why the result of an attempt did not come into the project as a whole; `None` where it did, or was not collected yet.
pub(crate) fn refusal(run: &RunDir, index: usize, attempt: u32) -> Result<Option<String>, FsError> {
    let text = fs::read_text_if_any(&run.refusal(index))?.unwrap_or_default();
    let mut lines = text.lines();
    let is_of_this = lines.next().and_then(|line| line.parse().ok()) == Some(attempt);
    Ok(lines.next().filter(|_| is_of_this).map(str::to_owned))
}

/// The published result that counts: the first attempt that succeeded, else the last one that published.
///
/// An attempt that arrives late never replaces a success.
pub(crate) fn best(run: &RunDir, index: usize) -> Result<Option<Published>, FsError> {
    Ok(examine(run, index)?.best)
}

/// What lies in the directory of a work item.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    /// The result that counts.
    pub best: Option<Published>,
    /// The results that do not count since another one does, the earliest attempt first.
    pub others: Vec<Published>,
    /// The attempts whose results cannot be believed.
    pub rejected: Vec<(u32, Rejection)>,
}

/// Reads all published results of a work item.
pub(crate) fn examine(run: &RunDir, index: usize) -> Result<Examined, FsError> {
    let mut numbers: Vec<u32> = fs::names(&run.work_item(index))?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut examined = Examined::default();
    for attempt in numbers {
        match read(run, index, attempt) {
            Ok(published) if examined.best.as_ref().is_some_and(Published::succeeded) => {
                examined.others.push(published);
            }
            Ok(published) => examined.others.extend(examined.best.replace(published)),
            Err(rejection) => examined.rejected.push((attempt, rejection)),
        }
    }
    Ok(examined)
}

/// Reads a result and checks what can be checked without its work item.
fn read(run: &RunDir, index: usize, attempt: u32) -> Result<Published, Rejection> {
    let directory = run.attempt(index, attempt);
    let unreadable = |error: FsError| Rejection::Unreadable(format!("{error}: {}", error.source));
    let tree = Beneath::open(&directory).map_err(unreadable)?;
    let bytes = tree.read(RESULT, vetting::MAX_DOCUMENT).map_err(unreadable)?;
    let result: WorkResult =
        serde_json::from_slice(&bytes).map_err(|error| Rejection::Unreadable(error.to_string()))?;
    let mut published = Published { directory, result, left_out: vec![] };
    vetting::sift(&mut published);
    vetting::sound(&published.result, run.name(), index, attempt)?;
    Ok(published)
}

/// Who sees to it that a published result outlives the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Whoever publishes it, before it can be seen.
    Now,
    /// Whoever counts on it.
    Later,
}

/// A result in the making; it goes, and gives its room back, where it is not published.
pub(crate) struct Draft {
    run: RunDir,
    index: usize,
    directory: PathBuf,
}

impl Draft {
    /// Begins a result of an attempt; its directory is hidden and named after this process.
    pub(crate) fn begin(run: &RunDir, index: usize, attempt: u32) -> Result<Draft, FsError> {
        let name = format!(".{attempt}-{}-{}", crate::adapters::process::host(), std::process::id());
        let directory = run.work_item(index).join(name);
        fs::remove(&directory)?;
        fs::create_dir(&directory.join(FILES))?;
        Ok(Draft { run: run.clone(), index, directory })
    }

    /// Where the content of the file with this name goes.
    pub(crate) fn blob(&self, name: &str) -> PathBuf {
        self.directory.join(FILES).join(name)
    }

    /// The mode of directories that this process makes, and, but for their executable bits, of files.
    pub(crate) fn usual_mode(&self) -> Result<u32, FsError> {
        fs::mode(&self.directory.join(FILES))
    }

    /// Publishes by one rename. Returns false where this attempt has a result already.
    pub(crate) fn publish(self, result: &WorkResult, durability: Durability) -> Result<bool, FsError> {
        let text = serde_json::to_vec_pretty(result).expect("a result is plain data");
        fs::write_plain(&self.directory.join(RESULT), &text)?;
        if durability == Durability::Now {
            for file in result.files.iter().chain(&result.partial) {
                fs::sync_file(&self.blob(&file.blob))?;
            }
            fs::sync_file(&self.directory.join(RESULT))?;
            fs::sync_dir(&self.directory.join(FILES))?;
            fs::sync_dir(&self.directory)?;
        }
        let place = self.run.attempt(self.index, result.attempt);
        if place.exists() {
            return Ok(false);
        }
        fs::rename(&self.directory, &place)?;
        if durability == Durability::Now {
            fs::sync_dir(&self.run.work_item(self.index))?;
        }
        Ok(true)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _gone_is_fine = fs::remove(&self.directory);
    }
}
