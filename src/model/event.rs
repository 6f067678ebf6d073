//! What engines report and what they are asked for.

use std::time::Duration;

use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::{Ending, Resources};

/// A work item as an engine sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    /// Its index in the worklist.
    pub index: ItemIndex,
    pub id: String,
    /// The number of the next attempt, from 1.
    pub attempt: AttemptNumber,
    pub resources: Resources,
    /// How long it took in an earlier run, in seconds.
    pub expected_seconds: Option<f64>,
}

/// Something that happened while an engine ran a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    AttemptStarted {
        index: ItemIndex,
        attempt: AttemptNumber,
        /// Where: `slot 3`, or a pod's name.
        place: String,
    },
    AttemptFinished {
        index: ItemIndex,
        attempt: AttemptNumber,
        ending: Ending,
        /// How long until the next attempt; `None` where there is none.
        retry_after: Option<Duration>,
    },
    /// Something a person should know: a pod that cannot be scheduled, a GPU that is not there.
    Noticed { message: String },
}

impl Event {
    /// The work item that has failed for good.
    pub(crate) fn failed(&self) -> Option<ItemIndex> {
        match self {
            Event::AttemptFinished { index, ending, retry_after: None, .. } if ending.kind().is_failure() => {
                Some(*index)
            }
            Event::AttemptFinished { .. } | Event::AttemptStarted { .. } | Event::Noticed { .. } => None,
        }
    }
}

/// How far an engine is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Go on.
    No,
    /// Start no more, and let what runs come to its end; what is in the queue of a cluster may go on without the launcher.
    Draining,
    /// The same, and what waits in the queue of a cluster is not to start.
    NothingNew,
    /// End what runs.
    Now,
}
