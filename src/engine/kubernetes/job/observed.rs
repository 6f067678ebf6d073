//! What is seen of a run's Jobs and pods in a cluster, as little of it as is looked at.

use super::indexes::{CompletionIndex, IndexSet};

/// A Job as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenJob {
    pub name: String,
    pub uid: String,
    /// The annotations that say whose it is; `None` on a foreign Job.
    pub run: Option<String>,
    pub spec_hash: Option<String>,
    pub is_suspended: bool,
    pub is_deleted: bool,
    /// The most pods at a time, and the number of its indexes.
    pub parallelism: u32,
    pub completions: u32,
    /// Pods that are pending or running.
    pub active: u32,
    pub completed: IndexSet,
    pub failed: IndexSet,
    /// Why its pods are being ended: the condition that comes before a failure.
    pub failing: Option<String>,
    /// `None` while it goes on.
    pub end: Option<JobEnd>,
}

impl SeenJob {
    /// How many pods it would have now if nothing were in the way.
    pub(crate) fn wanted(&self) -> u32 {
        let ended = self.completed.len() + self.failed.len();
        self.parallelism.min(self.completions.saturating_sub(ended))
    }
}

/// The condition that says that a Job is over; `SuccessCriteriaMet` and `FailureTarget`, which come first, are not it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobEnd {
    pub is_complete: bool,
    /// Such as `FailedIndexes` or `DeadlineExceeded`.
    pub reason: String,
    pub message: String,
}

/// A pod as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenPod {
    pub name: String,
    pub uid: String,
    /// `None` on a pod of no Indexed Job.
    pub index: Option<CompletionIndex>,
    pub phase: PodPhase,
    /// How often its index had failed before.
    pub failures_before: u32,
    /// Why its container does not start: `ImagePullBackOff`, and what the node says to it.
    pub waiting: Option<Said>,
    /// How its container ended.
    pub ended: Option<ContainerEnd>,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// It was told to go, by somebody or by the Job's controller.
    pub is_deleted: bool,
    /// The condition `DisruptionTarget`: its machine was taken away.
    pub disrupted: Option<Said>,
    /// The node that it runs on and that does not answer.
    pub lost_node: Option<String>,
    /// The pod's own reason, such as `Evicted`.
    pub failed: Option<Said>,
    /// As in its container's limits.
    pub memory_limit: Option<String>,
}

impl SeenPod {
    /// Whether it runs, and on a node that says so.
    pub(crate) fn is_at_work(&self) -> bool {
        self.phase == PodPhase::Running && self.lost_node.is_none()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PodPhase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl PodPhase {
    pub(crate) fn is_over(self) -> bool {
        match self {
            PodPhase::Succeeded | PodPhase::Failed => true,
            PodPhase::Pending | PodPhase::Running => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerEnd {
    pub code: i32,
    /// Such as `Error` or `OOMKilled`.
    pub reason: String,
    /// The end of its output, where it left nothing else.
    pub message: String,
}

/// A reason and the sentence that goes with it, in the cluster's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub reason: String,
    pub message: String,
}

/// An event of type `Warning`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub said: Said,
    /// Something ordinary happened to the object since.
    pub is_overtaken: bool,
}
