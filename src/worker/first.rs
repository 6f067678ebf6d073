//! The worker that runs before the others, where the first command may make what all will use: an environment, say.
//!
//! Git ignores a path that is not there: perhaps nobody needs it, perhaps each command makes it unless it is there, as
//! `uv run` does. Under `dvc repro` the first makes it and the others find it. So where a command may make it, by what the
//! plan found in commands and scripts, the first work item gets a head start:
//! the others wait until it has ended, unless it has made nothing there within some seconds.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::adapters::claim::{self, Claim, Pulse};
use crate::adapters::fs;
use crate::adapters::signals::Asked;
use crate::diagnostic::Diagnostic;
use crate::output::text;
use crate::state::paths::SlotDir;
use crate::worker::child::Watch;
use crate::worker::workspace::Sources;

/// How long the first work item may take before it makes what the others would wait for.
const HEAD_START: Duration = Duration::from_secs(10);
/// How often a waiting worker looks.
const LOOK: Duration = Duration::from_millis(20);
/// How often it looks whether the first one is gone, before that one is done.
const CLAIM_LOOK: Duration = Duration::from_secs(1);
/// How alive a first one on another machine has to be.
const PULSE: Pulse = Pulse { beat: Duration::from_secs(5), limit: Duration::from_secs(60) };

/// Bytes at the end of a log in which files are looked for that were missing.
const LAST_WORDS: u64 = 4096;

/// A work item that runs before the others, until this is dropped.
pub(super) struct HeadStart {
    over: PathBuf,
    end: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
    _claim: Claim,
}

impl HeadStart {
    /// Begins; `places` are where the others' reason to wait would appear.
    fn begin(over: PathBuf, places: Vec<PathBuf>, claim: Claim) -> HeadStart {
        let (end, ended) = mpsc::channel();
        let seen = over.clone();
        let watch = std::thread::spawn(move || {
            let is_late = ended.recv_timeout(HEAD_START) == Err(RecvTimeoutError::Timeout);
            if is_late && !places.iter().any(|place| fs::exists(place)) {
                finish(&seen);
            }
        });
        HeadStart { over, end: Some(end), watch: Some(watch), _claim: claim }
    }
}

impl Drop for HeadStart {
    fn drop(&mut self) {
        drop(self.end.take());
        drop(self.watch.take().map(JoinHandle::join));
        finish(&self.over);
    }
}

/// Lets the others run. Where this cannot be said, each of them runs alone.
fn finish(over: &Path) {
    drop(fs::write(over, b""));
}

/// Waits until it may run; returns what makes others wait where it is the first, or the request to end that came.
pub(super) fn wait_for_turn(
    sources: &Sources<'_>,
    slot: &SlotDir,
    watch: &mut Watch,
) -> Result<Result<Option<HeadStart>, Asked>, Diagnostic> {
    let run = sources.run;
    let mut said = false;
    let mut next_try = Instant::now();
    loop {
        let awaited = missing(sources);
        if awaited.is_empty() || fs::exists(&run.first_over()) {
            return Ok(Ok(None));
        }
        let is_due = Instant::now() >= next_try;
        if is_due {
            next_try = Instant::now() + CLAIM_LOOK;
        }
        if is_due && let Ok(claim) = claim::take(&run.first_claim(), PULSE)? {
            // The one before may have ended in between.
            let is_first = !missing(sources).is_empty() && !fs::exists(&run.first_over());
            if !is_first {
                return Ok(Ok(None));
            }
            let workspace = slot.workspace();
            let places = sources.plan.carry.head_start.iter().map(|path| workspace.join(path)).collect();
            return Ok(Ok(Some(HeadStart::begin(run.first_over(), places, claim))));
        }
        if !said {
            said = true;
            text::note(&format!(
                "waiting for another work item, which may make `{}`: git ignores it, and it is not there",
                awaited.join("`, `")
            ));
        }
        if let Err(asked) = watch.wait_for(async { tokio::time::sleep(LOOK).await }) {
            return Ok(Err(asked));
        }
    }
}

/// The end of an attempt's log.
pub(super) fn last_words(log: &Path) -> Result<String, Diagnostic> {
    Ok(String::from_utf8_lossy(&fs::read_tail(log, LAST_WORDS)?).into_owned())
}

/// What to add to the failure of a command whose last words name something that git ignores and that it did not have.
pub(super) fn missed(sources: &Sources<'_>, log: &Path) -> Result<Option<String>, Diagnostic> {
    let carried = &sources.plan.carry;
    let words = last_words(log)?;
    let is_named = |path: &&String| words.contains(path.as_str());
    let top = sources.git.workdir();
    if let Some(path) = carried.left_out.iter().find(is_named) {
        return Ok(Some(format!("; git ignores `{path}`, and `carry` leaves it out of workspaces")));
    }
    let elsewhere = carried.linked.iter().chain(&carried.awaited);
    let missing = elsewhere.filter(is_named).find(|path| !fs::exists(&top.join(path)));
    Ok(missing.map(|path| format!("; git ignores `{path}`, and the project seen here does not have it")))
}

/// What a command may make that is not in the project.
fn missing<'a>(sources: &Sources<'a>) -> Vec<&'a str> {
    let awaited = &sources.plan.carry.head_start;
    let top = sources.git.workdir();
    awaited.iter().map(String::as_str).filter(|path| !fs::exists(&top.join(path))).collect()
}
