//! Results of work items: how one is published, and which of several attempts counts.
//!
//! A result is written into a hidden directory beside its place and appears by one rename. Whatever else lies in a
//! work item's directory is no result.

use std::path::{Path, PathBuf};

use crate::adapters::beneath::Beneath;
use crate::adapters::fs::{self, FsError};
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::state::format::WorkResult;
use crate::state::paths::RunDir;
use crate::state::published::{FILES, Published};
use crate::state::vetting::{self, Rejection};

/// How the reason begins for which a result is rejected as a whole.
const REJECTED: &str = "its result is rejected: ";

/// The name of the document in a result's directory.
pub(super) const RESULT: &str = "result.json";

/// The attempts at a work item that have begun, ascending: each has a log.
pub(crate) fn attempts(run: &RunDir, index: ItemIndex) -> Result<Vec<AttemptNumber>, FsError> {
    let names = fs::names(&run.work_item(index))?;
    let mut attempts: Vec<AttemptNumber> =
        names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
    attempts.sort_unstable();
    Ok(attempts)
}

/// The number of the next attempt at a work item: neither a log nor a result has it, be it one that nobody believes.
pub(crate) fn next_attempt(run: &RunDir, index: ItemIndex) -> Result<AttemptNumber, FsError> {
    let names = fs::names(&run.work_item(index))?;
    let taken = names.iter().filter_map(|name| name.strip_suffix(".log").unwrap_or(name).parse::<AttemptNumber>().ok());
    Ok(taken.max().map_or(AttemptNumber::FIRST, AttemptNumber::next))
}

/// Takes the next attempt at a work item for this process, by making its log.
///
/// A batch system may do one work item on two machines at a time, each of which sees the folder as it was a moment ago:
/// listing it would give both the same number.
pub(crate) fn claim_attempt(run: &RunDir, index: ItemIndex) -> Result<AttemptNumber, FsError> {
    let mut attempt = next_attempt(run, index)?;
    while !fs::create_new(&run.log(index, attempt))? {
        attempt = attempt.next();
    }
    Ok(attempt)
}

/// Sets the failures of a work item's attempts so far aside: the next launch tries it again. The results stay.
pub(crate) fn set_failures_aside(run: &RunDir, index: ItemIndex) -> Result<(), FsError> {
    let last = attempts(run, index)?.last().map_or(0, |last| last.get());
    fs::write(&run.set_aside(index), format!("{last}\n").as_bytes())
}

/// The last attempt whose failure is set aside; the file says 0 where none had begun.
pub(crate) fn set_aside(run: &RunDir, index: ItemIndex) -> Result<Option<AttemptNumber>, FsError> {
    let text = fs::read_text_if_any(&run.set_aside(index))?.unwrap_or_default();
    Ok(text.trim().parse().ok().filter(|last| *last >= AttemptNumber::FIRST))
}

/// Notes why the result of an attempt did not come into the project as a whole, or that it did.
pub(crate) fn note_refusal(
    run: &RunDir,
    index: ItemIndex,
    attempt: AttemptNumber,
    reasons: &[String],
) -> Result<(), FsError> {
    let place = run.refusal(index);
    if reasons.is_empty() {
        return if fs::exists(&place) { fs::remove(&place) } else { Ok(()) };
    }
    fs::write(&place, format!("{attempt}\n{}\n", reasons.join("\n")).as_bytes())
}

/// Notes that the result of an attempt is rejected as a whole: nothing of it may be used.
pub(crate) fn note_rejection(
    run: &RunDir,
    index: ItemIndex,
    attempt: AttemptNumber,
    reason: &str,
) -> Result<(), FsError> {
    note_refusal(run, index, attempt, &[format!("{REJECTED}{reason}")])
}

/// Whether the result of an attempt was rejected as a whole when it was collected.
pub(crate) fn is_rejected(run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<bool, FsError> {
    Ok(refusal(run, index, attempt)?.is_some_and(|why| why.starts_with(REJECTED)))
}

/// Notes that a task of a job leaves a work item alone, since what it needs is not there.
pub(crate) fn note_skipped(run: &RunDir, index: ItemIndex, job: &str) -> Result<(), FsError> {
    fs::write(&run.skipped(index), job.as_bytes())
}

/// The job whose task was the last to leave a work item alone.
pub(crate) fn skipped_by(run: &RunDir, index: ItemIndex) -> Result<Option<String>, FsError> {
    fs::read_text_if_any(&run.skipped(index))
}

/// Why the result of an attempt did not come into the project as a whole; `None` where it did, or was not collected yet.
pub(crate) fn refusal(run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<Option<String>, FsError> {
    let text = fs::read_text_if_any(&run.refusal(index))?.unwrap_or_default();
    let mut lines = text.lines();
    let is_of_this = lines.next().and_then(|line| line.parse().ok()) == Some(attempt);
    Ok(lines.next().filter(|_| is_of_this).map(str::to_owned))
}

/// The published result that counts: the first attempt that succeeded, else the last one that published.
///
/// An attempt that arrives late never replaces a success.
pub(crate) fn best(run: &RunDir, index: ItemIndex) -> Result<Option<Published>, FsError> {
    Ok(examine(run, index)?.best)
}

/// Whether a work item has succeeded.
pub(crate) fn is_done(run: &RunDir, index: ItemIndex) -> Result<bool, FsError> {
    Ok(best(run, index)?.is_some_and(|published| published.succeeded()))
}

/// What lies in the directory of a work item.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    /// The result that counts.
    pub best: Option<Published>,
    /// The results that do not count since another one does, the earliest attempt first.
    pub others: Vec<Published>,
    /// The attempts whose results cannot be believed.
    pub rejected: Vec<(AttemptNumber, Rejection)>,
}

/// Reads all published results of a work item.
pub(crate) fn examine(run: &RunDir, index: ItemIndex) -> Result<Examined, FsError> {
    let mut numbers: Vec<AttemptNumber> =
        fs::names(&run.work_item(index))?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut examined = Examined::default();
    for attempt in numbers {
        match read(run, index, attempt) {
            Ok(None) => {}
            Ok(Some(published)) if examined.best.as_ref().is_some_and(Published::succeeded) => {
                examined.others.push(published);
            }
            Ok(Some(published)) => examined.others.extend(examined.best.replace(published)),
            Err(rejection) => examined.rejected.push((attempt, rejection)),
        }
    }
    Ok(examined)
}

/// Reads a result and checks what can be checked without its work item; `None` where a power cut took its content: the
/// attempt has published nothing then.
fn read(run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<Option<Published>, Rejection> {
    let directory = run.attempt(index, attempt);
    let unreadable = |error: FsError| Rejection::Unreadable(format!("{error}: {}", error.source));
    let tree = Beneath::open(&directory).map_err(unreadable)?;
    let bytes = tree.read(RESULT, vetting::MAX_DOCUMENT).map_err(unreadable)?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let mut result: WorkResult =
        serde_json::from_slice(&bytes).map_err(|error| Rejection::Unreadable(error.to_string()))?;
    result.shrink();
    let mut published = Published { directory, result, left_out: vec![] };
    vetting::sift(&mut published);
    vetting::sound(&published.result, run.name(), index, attempt)?;
    Ok(Some(published))
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
    index: ItemIndex,
    directory: PathBuf,
}

impl Draft {
    /// Begins a result of an attempt; its directory is hidden and named after this process.
    pub(crate) fn begin(run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<Draft, FsError> {
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

    /// Where all of it lies until then.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Publishes by one rename. Returns false where this attempt has a result already.
    pub(crate) fn publish(self, result: &WorkResult, durability: Durability) -> Result<bool, FsError> {
        let text = serde_json::to_vec_pretty(result).expect("a result is plain data");
        self.publish_as_is(result.attempt, &text, durability)
    }

    /// Publishes what somebody else says is the result of an attempt.
    pub(super) fn publish_as_is(
        self,
        attempt: AttemptNumber,
        text: &[u8],
        durability: Durability,
    ) -> Result<bool, FsError> {
        fs::write_plain(&self.directory.join(RESULT), text)?;
        if durability == Durability::Now {
            let files = self.directory.join(FILES);
            fs::names(&files)?.iter().try_for_each(|name| fs::sync_file(&files.join(name)))?;
            fs::sync_file(&self.directory.join(RESULT))?;
            fs::sync_dir(&files)?;
            fs::sync_dir(&self.directory)?;
        }
        let place = self.run.attempt(self.index, attempt);
        if place.exists() {
            return Ok(false);
        }
        match fs::rename(&self.directory, &place) {
            // Somebody else was faster.
            Err(_) if place.exists() => return Ok(false),
            moved => moved?,
        }
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
