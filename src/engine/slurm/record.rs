//! What the run's directory remembers of an array, in `cluster` of its file.

use serde::{Deserialize, Serialize};

use crate::adapters::clock;
use crate::diagnostic::Diagnostic;
use crate::engine::remote::classes::digest;
use crate::engine::remote::files::RunFiles;
use crate::engine::slurm::seen::Line;

/// An array that is to be submitted, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub nonce: String,
    /// The digest of what it was made from.
    pub spec: String,
    pub state: RecordState,
    pub ids: Vec<u64>,
    /// The cluster's name, where it was given.
    pub clusters: Option<String>,
    pub time: Option<String>,
    pub memory: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecordState {
    Printed,
    Submitting,
    Submitted,
}

impl Record {
    /// What is remembered of an array before anything is submitted.
    pub(super) fn new(name: &str, spec: String, state: RecordState, clusters: Option<String>) -> Record {
        let nonce = digest(&format!("{name} {} {}", clock::nanoseconds(), std::process::id()));
        let nonce = nonce.chars().take(12).collect();
        Record { nonce, spec, state, ids: vec![], clusters, time: None, memory: None }
    }

    pub(super) fn of(files: &RunFiles, name: &str) -> Result<Option<Record>, Diagnostic> {
        Ok(files.cluster_of(name)?.and_then(|json| serde_json::from_value(json).ok()))
    }

    /// The arrays of a run whose end nobody has taken in, by name.
    pub(super) fn open(files: &RunFiles) -> Result<Vec<(String, Record)>, Diagnostic> {
        let mut arrays = vec![];
        for name in files.open_jobs()? {
            arrays.extend(Record::of(files, &name)?.map(|record| (name, record)));
        }
        Ok(arrays)
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("it is plain data")
    }

    /// The same once it was submitted as these jobs.
    pub(super) fn submitted(self, ids: Vec<u64>) -> Record {
        Record { state: RecordState::Submitted, ids, ..self }
    }

    /// Whether a line of `squeue` is about this array.
    pub(super) fn owns(&self, line: &Line) -> bool {
        self.ids.contains(&line.array) || line.comment.split(' ').any(|word| word == self.nonce)
    }
}
