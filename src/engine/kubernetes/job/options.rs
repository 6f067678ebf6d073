//! What a user can say about the pods of a run; flags and config are resolved into this.

use std::fmt;

use serde_json::Value;

use super::machine::Resources;
use super::volume::Volume;

/// The options of a run's Jobs; everything that is not said is left to the cluster.
#[derive(Clone, Debug)]
pub(crate) struct PodOptions {
    pub namespace: String,
    pub image: String,
    pub image_pull_policy: Option<String>,
    pub pull_secrets: Vec<String>,
    /// The most pods at a time.
    pub workers: u32,
    /// For work items that do not say it themselves.
    pub resources: Resources,
    /// The extended resource that a GPU is asked for by.
    pub gpu_resource: String,
    /// Requests only: pods may use more than they asked for.
    pub no_limits: bool,
    pub node_selector: Vec<(String, String)>,
    pub tolerations: Vec<Value>,
    pub affinity: Option<Value>,
    pub topology_spread: Vec<Value>,
    pub priority_class: Option<String>,
    pub runtime_class: Option<String>,
    pub scheduler: Option<String>,
    pub service_account: Option<String>,
    /// Whether pods get the service account's token; a worker needs none.
    pub mount_token: bool,
    /// Labels and annotations of every object, labels of pods.
    pub tags: Vec<(String, String)>,
    pub env: Vec<EnvVar>,
    /// Secrets whose keys are variables too.
    pub env_secrets: Vec<String>,
    pub volumes: Vec<Volume>,
    /// The project as pods see it.
    pub project: String,
    /// The `dvc-fanout` of the image.
    pub program: String,
    /// Runs in place of the worker, which it is given as `"$@"`.
    pub script: Option<String>,
    /// Put before the worker's command line.
    pub entrypoint: Vec<String>,
    /// The whole Job's `activeDeadlineSeconds`.
    pub deadline_seconds: Option<u64>,
    pub grace_seconds: u32,
    /// How often a failed index is tried again; evictions do not count.
    pub retries: u32,
    /// Whether an index whose commands failed is tried again too.
    pub retry_commands: bool,
    /// How many indexes may fail before the Job is given up.
    pub max_failed: Option<u32>,
    /// How long the Job stays after its end.
    pub ttl_seconds: Option<u32>,
    /// Kueue's local queue.
    pub queue: Option<String>,
    pub security: Security,
    pub user: Option<User>,
    pub fs_group: Option<u32>,
    /// Merged into the pod template.
    pub patch: Option<Value>,
}

/// A variable of the worker's environment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EnvVar {
    pub name: String,
    pub value: String,
}

/// The value may be a secret.
impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// How much a pod may do on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// Pod Security's `restricted`: no root, no new privileges, no capabilities, the default seccomp profile.
    Restricted,
    /// As the image has it.
    Image,
}

/// Whom the worker runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: Option<u32>,
}

/// One Job of a run: the work items of a phase that ask for the same resources, or a check.
#[derive(Clone, Debug)]
pub(crate) struct JobPlan {
    pub run: String,
    /// What of the run it does: `p0` for its first phase, `check`.
    pub part: String,
    /// The name of the phase's resource class; `None` for work items that ask for nothing.
    pub class: Option<String>,
    /// 1, 2, …: a phase that is launched again after its Job ended gets a new Job.
    pub generation: u32,
    /// Completions: one index does one shard of the class's work items.
    pub shards: u32,
    /// What the work items of this class say themselves.
    pub resources: Resources,
    /// The worker's arguments, `work --run …`.
    pub arguments: Vec<String>,
}
