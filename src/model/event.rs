//! What engines report and what they are asked for.

use std::time::Duration;

/// A work item as an engine sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    /// Its index in the worklist.
    pub index: usize,
    pub id: String,
    /// The number of the next attempt, from 1.
    pub attempt: u32,
    pub resources: Resources,
    /// How long it took in an earlier run, in seconds.
    pub expected_seconds: Option<f64>,
}

/// What a work item asks for; `None` where nothing was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resources {
    pub cpus: Option<f64>,
    pub memory_mib: Option<u64>,
    pub gpus: Option<u32>,
    pub timeout: Option<Duration>,
    pub retries: Option<u32>,
    pub group: Option<String>,
}

/// How an attempt at a work item ended, as the engine can tell.
///
/// | ending | tried again |
/// |---|---|
/// | `Failed`: a stage's command failed, or took too long | only if retries were asked for |
/// | `ToolFailed`: DVC, the disk or a service failed | yes |
/// | `Lost`: the machine or the worker went away | yes, and it does not count |
/// | `Stopped`: the run was cancelled | by the next `launch` |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Succeeded,
    Failed { message: String },
    ToolFailed { message: String },
    Lost { message: String },
    Stopped,
}

/// Something that happened while an engine ran a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    AttemptStarted {
        index: usize,
        attempt: u32,
        /// Where: `slot 3`, or a pod's name.
        place: String,
    },
    AttemptFinished {
        index: usize,
        attempt: u32,
        ending: Ending,
        /// How long until the next attempt; `None` where there is none.
        retry_after: Option<Duration>,
    },
    /// Something a person should know: a pod that cannot be scheduled, a GPU that is not there.
    Noticed { message: String },
}

impl Event {
    /// Whether a work item has failed for good.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Event::AttemptFinished { ending: Ending::Succeeded | Ending::Stopped, .. } => false,
            Event::AttemptFinished { retry_after, .. } => retry_after.is_none(),
            Event::AttemptStarted { .. } | Event::Noticed { .. } => false,
        }
    }
}

/// How far an engine is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Go on.
    No,
    /// Start no more; let what runs come to its end.
    Draining,
    /// End what runs.
    Now,
}
