//! The words of a run, each told once and written to disk as they are: what a work item asks for, what became of its
//! stages, and how an attempt at it ended.
//!
//! | who tells of an end | as | to whom |
//! |---|---|---|
//! | the worker | [`Outcome`], in its result | engines, and whoever reads results later |
//! | the engine | [`Ending`]: the worker's words, or what was seen of the machine where it left none | the journal |
//! | the journal | [`EndingKind`] with the same words | people, reports, the next launch |

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the stages of a phase are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PhaseKind {
    /// Stages from `foreach` or `matrix`.
    Map,
    /// All others.
    Shared,
}

impl PhaseKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            PhaseKind::Map => "map",
            PhaseKind::Shared => "shared",
        }
    }
}

/// What a work item asks for; `None` where nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resources {
    pub cpus: Option<f64>,
    pub memory_mib: Option<u64>,
    pub gpus: Option<u32>,
    #[serde(rename = "timeout_seconds", with = "seconds", default)]
    pub timeout: Option<Duration>,
    pub retries: Option<u32>,
    pub group: Option<String>,
    /// Whether what a command leaves running stays; of a work item, that of one of its stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_running: Option<bool>,
    /// Options of Slurm's `sbatch`, by their long name; empty where nothing was said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slurm: BTreeMap<String, String>,
}

/// A time as a number of whole seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}

/// What did a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Executed {
    /// This program.
    #[default]
    Native,
    /// DVC, and why it had to.
    Dvc { why: String },
    /// DVC, and this program before, so that both could be compared.
    Check,
}

/// What was not the same when a work item was done twice, by this program and by DVC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    /// The folder, in the run's, with the folders `native` and `dvc`: what each has left.
    pub kept: String,
    /// What differs, a line each.
    pub found: Vec<String>,
}

/// What became of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StageState {
    /// Its commands ran.
    Ran,
    /// Its outs were taken from the cache.
    Restored,
    /// It had not changed after all.
    Unchanged,
    Failed,
    /// A stage before it failed.
    NotRun,
}

impl StageState {
    pub(crate) const ALL: [StageState; 5] =
        [StageState::Ran, StageState::Restored, StageState::Unchanged, StageState::Failed, StageState::NotRun];

    pub(crate) fn name(self) -> &'static str {
        match self {
            StageState::Ran => "ran",
            StageState::Restored => "restored",
            StageState::Unchanged => "unchanged",
            StageState::Failed => "failed",
            StageState::NotRun => "not_run",
        }
    }

    /// Whether its lock entry and outs can be relied on.
    pub(crate) fn is_good(self) -> bool {
        match self {
            StageState::Ran | StageState::Restored | StageState::Unchanged => true,
            StageState::Failed | StageState::NotRun => false,
        }
    }
}

/// How it begins what is said of a stage that lacks a dep; DVC and commands say nothing like it.
const LACKS: &str = "dep `";

/// Says that a stage lacks a dep.
pub(crate) fn lacks(stage: &str, dep: &str) -> String {
    format!("{LACKS}{dep}` of `{stage}` does not exist")
}

/// How an attempt ended, as its worker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Outcome {
    Succeeded,
    /// A stage's command, or what DVC made of the stage, failed: trying again does not help by itself.
    StageFailed {
        /// The address of the first stage that failed.
        stage: String,
        /// DVC's words.
        message: String,
    },
    /// DVC, the disk or another service failed: worth another try.
    ToolFailed {
        message: String,
    },
    TimedOut {
        seconds: u64,
        /// Whether that was all the time that a job of the cluster had, not a limit of the work item's own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        with_its_job: bool,
    },
    Interrupted {
        message: String,
    },
}

impl Outcome {
    /// The same as an engine tells it.
    pub(crate) fn ending(&self) -> Ending {
        let message = self.to_string();
        match self {
            Outcome::Succeeded => Ending::Succeeded,
            Outcome::StageFailed { .. } | Outcome::TimedOut { .. } => Ending::Failed { message },
            Outcome::ToolFailed { .. } => Ending::ToolFailed { message },
            Outcome::Interrupted { .. } => Ending::Lost { message },
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Succeeded => f.write_str("succeeded"),
            // It names its stage itself.
            Outcome::StageFailed { message, .. } if message.starts_with(LACKS) => f.write_str(message),
            Outcome::StageFailed { stage, message } => write!(f, "stage `{stage}` {message}"),
            Outcome::ToolFailed { message } | Outcome::Interrupted { message } => f.write_str(message),
            Outcome::TimedOut { seconds, with_its_job: false } => write!(f, "it took longer than {seconds} s"),
            Outcome::TimedOut { seconds, with_its_job: true } => {
                write!(
                    f,
                    "it took longer than {seconds} s, all that the time limit of its task leaves it: raise `--time`"
                )
            }
        }
    }
}

/// How an attempt ended, as the engine can tell.
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

impl Ending {
    pub(crate) fn kind(&self) -> EndingKind {
        match self {
            Ending::Succeeded => EndingKind::Succeeded,
            Ending::Failed { .. } => EndingKind::Failed,
            Ending::ToolFailed { .. } => EndingKind::ToolFailed,
            Ending::Lost { .. } => EndingKind::Lost,
            Ending::Stopped => EndingKind::Stopped,
        }
    }

    /// Why it did not succeed; `None` where it did, or was only stopped.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Ending::Succeeded | Ending::Stopped => None,
            Ending::Failed { message } | Ending::ToolFailed { message } | Ending::Lost { message } => Some(message),
        }
    }

    /// The same in other words.
    pub(crate) fn in_words(self, message: String) -> Ending {
        match self {
            Ending::Succeeded | Ending::Stopped => self,
            Ending::Failed { .. } => Ending::Failed { message },
            Ending::ToolFailed { .. } => Ending::ToolFailed { message },
            Ending::Lost { .. } => Ending::Lost { message },
        }
    }
}

/// An [`Ending`] without its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndingKind {
    Succeeded,
    Failed,
    ToolFailed,
    Lost,
    Stopped,
}

impl EndingKind {
    pub(crate) const ALL: [EndingKind; 5] =
        [EndingKind::Succeeded, EndingKind::Failed, EndingKind::ToolFailed, EndingKind::Lost, EndingKind::Stopped];

    pub(crate) fn name(self) -> &'static str {
        match self {
            EndingKind::Succeeded => "succeeded",
            EndingKind::Failed => "failed",
            EndingKind::ToolFailed => "tool_failed",
            EndingKind::Lost => "lost",
            EndingKind::Stopped => "stopped",
        }
    }

    pub(crate) fn is_failure(self) -> bool {
        match self {
            EndingKind::Succeeded | EndingKind::Stopped => false,
            EndingKind::Failed | EndingKind::ToolFailed | EndingKind::Lost => true,
        }
    }
}

/// What went to an object store and came from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// Those to a server, with those that were tried again; of a folder, the calls.
    pub requests: u64,
    /// Bytes of objects.
    pub sent: u64,
    pub received: u64,
}

impl Traffic {
    pub(crate) fn plus(self, other: Traffic) -> Traffic {
        let Traffic { requests, sent, received } = other;
        Traffic {
            requests: self.requests.saturating_add(requests),
            sent: self.sent.saturating_add(sent),
            received: self.received.saturating_add(received),
        }
    }

    /// What came on top of an earlier count.
    pub(crate) fn since(self, before: Traffic) -> Traffic {
        Traffic {
            requests: self.requests.saturating_sub(before.requests),
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
        }
    }
}

/// What went between the cache and the project's remote, and which way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// How many objects this program has moved itself.
    pub native: u64,
    /// What that took of an object store.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// How many objects DVC was asked for, directories with all their files as one.
    pub by_dvc: u64,
    /// Why it was DVC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Moved {
    pub(crate) fn plus(self, other: Moved) -> Moved {
        Moved {
            native: self.native.saturating_add(other.native),
            traffic: self.traffic.plus(other.traffic),
            by_dvc: self.by_dvc.saturating_add(other.by_dvc),
            why: self.why.or(other.why),
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Moved::default()
    }
}

/// What the stages of an attempt used, and what its process may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub cpu_seconds: f64,
    /// How long they took.
    pub seconds: f64,
    pub cpus: Option<f64>,
    /// The most that this process and its stages had at a time, those of work items before it among them.
    pub memory_mib: Option<u64>,
    pub memory_limit_mib: Option<u64>,
}
