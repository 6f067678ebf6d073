//! A result on disk: what it says of each stage, and where its files are.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::adapters::fs::{self, FsError};
use crate::adapters::machine;
use crate::dvc::changed::run_cache;
use crate::dvc::lockfile::EntryRef;
use crate::dvc::pipeline::path::is_within;
use crate::dvc::pipeline::read::dvc_file::recorded_outs;
use crate::dvc::pipeline::stage::Recorded;
use crate::model::run::{Outcome, StageState};
use crate::state::format::{ResultFile, RunName, StageResult, WorkResult};

/// The folder of the contents of files.
pub(super) const FILES: &str = "files";

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
    /// Where it leads, of a symlink.
    pub target: Option<String>,
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
            None => {
                match file.mode {
                    Some(mode) => fs::copy_as(&self.blob(file), to, mode)?,
                    None => fs::copy(&self.blob(file), to)?,
                }
                // It has the usual mode: of a program, where it is one.
                if file.mode.is_none() && file.executable {
                    fs::set_mode(to, 0o777 & !machine::umask())?;
                }
                file.modified.map_or(Ok(()), |time| fs::set_modified_nanoseconds(to, time))
            }
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

    /// Gives files and directories at or below a path the modes that they were made with; those that are not there are
    /// left, and so are files that are linked to the cache.
    pub(crate) fn set_modes(&self, root: &Path, below: &str) -> Result<(), FsError> {
        // Inner ones first: outer ones may close the way.
        for made in self.result.modes.iter().rev().filter(|made| is_within(&made.path, below)) {
            let at = root.join(&made.path);
            let Ok(found) = at.symlink_metadata() else { continue };
            if found.is_dir() {
                fs::set_directory_mode(&at, made.mode)?;
            } else if found.is_file() && found.nlink() == 1 {
                fs::set_mode(&at, made.mode & 0o777)?;
            }
        }
        Ok(())
    }

    fn stage(&self, address: &str) -> Option<&StageResult> {
        self.result.stages.iter().find(|stage| stage.address == address && stage.state.is_good())
    }

    /// Whether a stage did not have to do anything.
    pub(crate) fn is_unchanged(&self, address: &str) -> bool {
        self.stage(address).is_some_and(|stage| stage.state == StageState::Unchanged)
    }

    /// What a good stage's lock entry, or its `.dvc` file, records of one of its outs.
    pub(crate) fn recorded_out(&self, address: &str, out: &str) -> Option<Recorded> {
        recorded_out(&self.result.stages, address, out)
    }

    /// The files with the executable bit in a good stage's directory outs.
    pub(crate) fn executable_of(&self, address: &str) -> &[String] {
        self.stage(address).map_or(&[], |stage| &stage.executable)
    }

    /// What a good stage left of its directory outs as its command made it.
    pub(crate) fn own_of(&self, address: &str) -> &[String] {
        self.stage(address).map_or(&[], |stage| &stage.own)
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

impl ResultFile {
    /// Whether no stage declares it, and this work item has made it what it is.
    pub(crate) fn is_own_beside(&self) -> bool {
        self.stage.is_none() && !self.passed
    }

    /// The MD5 of what it is for a work item that begins with it: of a symlink, its target's.
    pub(crate) fn content_md5(&self) -> String {
        self.symlink.as_ref().map_or_else(|| self.md5.clone(), |target| fs::digest_bytes(target.as_bytes()))
    }

    /// Whether it was written anew as the plan saw it.
    pub(crate) fn is_as_before(&self) -> bool {
        self.before.as_ref() == Some(&self.content_md5())
    }

    /// Whether it is the same file as another one.
    pub(crate) fn is_as(&self, other: &ResultFile) -> bool {
        self.symlink == other.symlink && self.md5 == other.md5 && self.executable == other.executable
    }
}

/// What a good stage's lock entry, or its `.dvc` file, records of one of its outs.
pub(crate) fn recorded_out(stages: &[StageResult], address: &str, out: &str) -> Option<Recorded> {
    let stage = stages.iter().find(|stage| stage.address == address)?;
    all_recorded(stage).into_iter().find(|(path, _)| path == out).map(|(_, recorded)| recorded)
}

/// What a good stage's lock entry, or its `.dvc` file, records of all its outs, by their paths as written there.
pub(crate) fn all_recorded(stage: &StageResult) -> Vec<(String, Recorded)> {
    if !stage.state.is_good() {
        return vec![];
    }
    if let Some(text) = &stage.dvc_file {
        return recorded_outs(text);
    }
    let text = stage.entry.as_deref().unwrap_or_default();
    let entry = EntryRef::of(stage_name(&stage.address), text).parse();
    entry.map_or_else(|_| vec![], |entry| entry.outs.into_iter().map(|item| (item.path, item.recorded)).collect())
}

/// The entry of the run cache that the run of a good stage belongs in; `None` for a `.dvc` file and for a stage without
/// inputs, of which none is kept.
pub(crate) fn run_of(stage: &StageResult) -> Option<RunName> {
    let entry = EntryRef::of(stage_name(&stage.address), stage.entry.as_deref()?).value().ok()?;
    let has_inputs = ["deps", "params"].iter().any(|inputs| entry.get(inputs).is_some());
    let (key, value) = run_cache::names(entry.as_map()?).filter(|_| stage.state.is_good() && has_inputs)?;
    Some(RunName { key, value })
}

/// The name of a stage in its lock file.
fn stage_name(address: &str) -> &str {
    address.split_once("dvc.yaml:").map_or(address, |(_, name)| name)
}
