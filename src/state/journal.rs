//! `events.jsonl`: the journal of a run, one event a line. `launch`, `collect` and `finalize` append, one at a time.
//!
//! A line that was cut off by a crash, or that is no event, is skipped when reading. Other clones of the project that go on
//! with the run have journals of their own; what came of them is read with this one.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapters::clock;
use crate::adapters::fs::{self, At as _, FsError};
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::{EndingKind, Moved, Traffic};
use crate::state::format::VERSION;
use crate::state::paths::RunDir;

/// The name of the engine whose work items end with their launcher.
pub(crate) const LOCAL: &str = "local";

/// Bytes at the end of a journal that tell whether the run has ended.
const TAIL: u64 = 4096;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub version: u32,
    /// RFC 3339.
    pub time: String,
    #[serde(flatten)]
    pub event: Journaled,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Journaled {
    /// A `launch` or `finalize` began.
    Launched {
        engine: String,
        /// What pods run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        host: String,
        process: u32,
    },
    /// What a launch took from an object store and put into it.
    Stored {
        url: String,
        #[serde(flatten)]
        traffic: Traffic,
    },
    /// What a launch or `finalize` moved between the cache and the project's remote.
    Moved {
        #[serde(flatten)]
        moved: Moved,
    },
    PhaseStarted {
        phase: usize,
        work_items: usize,
    },
    AttemptStarted {
        index: ItemIndex,
        id: String,
        attempt: AttemptNumber,
        place: String,
    },
    AttemptFinished {
        index: ItemIndex,
        id: String,
        attempt: AttemptNumber,
        ending: EndingKind,
        message: Option<String>,
        seconds: f64,
        retry_after_seconds: Option<f64>,
    },
    /// It did not run since something that it needs has failed.
    WorkItemSkipped {
        index: ItemIndex,
        id: String,
        because: Vec<ItemIndex>,
    },
    Noticed {
        message: String,
    },
    /// The run was told to stop.
    Stopping {
        now: bool,
    },
    /// The results so far were merged into the project.
    Collected {
        stages: usize,
        files: usize,
    },
    /// Everything is done; the snapshot's ref is gone.
    Finalized {
        failed: usize,
    },
}

/// The journal of a run, open for appending.
pub(crate) struct Journal {
    file: File,
    run: RunDir,
}

impl Journal {
    pub(crate) fn open(run: &RunDir) -> Result<Journal, FsError> {
        let mut file = fs::append(&run.events())?;
        let tail = fs::read_tail(&run.events(), 1)?;
        if tail.last().is_some_and(|byte| *byte != b'\n') {
            file.write_all(b"\n").at("write", &run.events())?;
        }
        Ok(Journal { file, run: run.clone() })
    }

    /// Appends an event; it is in the kernel's hands when this returns, so it survives the end of this process.
    pub(crate) fn append(&mut self, event: Journaled) -> Result<Line, FsError> {
        let line = Line { version: VERSION, time: clock::now(), event };
        let mut text = serde_json::to_vec(&line).expect("an event is plain data");
        text.push(b'\n');
        self.file.write_all(&text).at("write", &self.run.events())?;
        Ok(line)
    }
}

/// Whether the run was finalized, by the last lines of its journal.
pub(crate) fn has_ended(run: &RunDir) -> Result<bool, FsError> {
    for journal in all(run)? {
        let bytes = fs::read_tail(&journal, TAIL)?;
        if lines(&bytes).any(|line| matches!(line.event, Journaled::Finalized { .. })) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the events of a run, the oldest first.
pub(crate) fn read(run: &RunDir) -> Result<Vec<Line>, FsError> {
    let (all, mut read) = (all(run)?, vec![]);
    for journal in &all {
        read.extend(lines(&fs::read(journal)?));
    }
    if all.len() > 1 {
        read.sort_by(|a, b| a.time.cmp(&b.time));
    }
    Ok(read)
}

/// The journals that there are.
fn all(run: &RunDir) -> Result<Vec<PathBuf>, FsError> {
    let others = fs::names(&run.journals())?.into_iter().map(|name| run.journals().join(name));
    Ok(others.chain([run.events()].into_iter().filter(|own| fs::exists(own))).collect())
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = Line> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}
