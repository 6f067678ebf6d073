//! Flags of the Kubernetes engine. The section `kubernetes` of `.dvc/fanout/config.yaml` has the same names.
#![cfg_attr(doc, expect(rustdoc::broken_intra_doc_links, reason = "help texts write optional parts in brackets"))]

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::engine::args::as_text;
use crate::model::duration::{Limit, Wait};

/// What the Kubernetes engine keeps to; every flag may stand in `.dvc/fanout/config.yaml` instead, under `kubernetes:`.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Kubernetes engine (also in .dvc/fanout/config.yaml, under `kubernetes:`)")]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[group(skip)]
pub(crate) struct Args {
    /// The image of the workers: your stages' programs, git, DVC and `dvc-fanout`
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When nodes pull the image: `Always`, `IfNotPresent` or `Never`
    #[arg(long, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// A secret with the registry's credentials (can be repeated)
    #[arg(long = "pull-secret", value_name = "NAME")]
    #[serde(rename = "pull-secret", skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
    /// The kubeconfig; by default `KUBECONFIG_DATA` or `KUBERNETES_CONFIGURATION` (its text), else as kubectl looks for it
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// The context of the kubeconfig
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace; the context's by default
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What a pod gets: CPU-MEM[+GPU*N] (memory in M unless it has a unit, as in 8-32Gi), or s, m, l, xl, m+t4, …
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// CPUs of a pod, for work items that do not say: 2, 500m
    #[arg(long, value_name = "QUANTITY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_cpus: Option<String>,
    /// Memory of a pod, for work items that do not say: 4Gi
    #[arg(long, value_name = "QUANTITY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_memory: Option<String>,
    /// GPUs of a pod, for work items that do not say
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_gpus: Option<u32>,
    /// Scratch space of a pod: 20Gi
    #[arg(long, value_name = "QUANTITY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_disk: Option<String>,
    /// The name of the resource by which GPUs are requested; nvidia.com/gpu by default
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_resource: Option<String>,
    /// Request resources without limiting pods to them
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_limits: bool,
    /// A volume of the pods: pvc:NAME[/SUBPATH]:MOUNT[:ro], nfs:SERVER:PATH:MOUNT[:ro], hostPath:PATH[:MOUNT][:ro],
    /// new:CLASS:SIZE:MOUNT (a claim made for the run), emptyDir:MOUNT[:SIZE] (can be repeated)
    #[arg(long = "volume", value_name = "VOLUME")]
    #[serde(rename = "volume", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Where pods see a folder of this machine: LOCAL=POD (can be repeated); by default at the same path
    #[arg(long = "map", value_name = "LOCAL=POD")]
    #[serde(rename = "map", skip_serializing_if = "Vec::is_empty")]
    pub maps: Vec<String>,
    /// How data reach pods: through DVC's cache on a volume, or from the project's default remote and back to it
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataArg>,
    /// Only nodes with this label (can be repeated)
    #[arg(long = "node-selector", value_name = "KEY=VALUE")]
    #[serde(rename = "node-selector", skip_serializing_if = "Vec::is_empty")]
    pub node_selector: Vec<String>,
    /// A taint that pods tolerate: KEY[=VALUE][:EFFECT], or as JSON (can be repeated)
    #[arg(long = "toleration", value_name = "TAINT")]
    #[serde(rename = "toleration", skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<String>,
    /// The pods' affinity, as YAML or JSON
    #[arg(long, value_name = "YAML")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// How pods spread over nodes, as a YAML or JSON list of constraints
    #[arg(long, value_name = "YAML")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_spread: Option<String>,
    #[arg(long, value_name = "NAME", help = "The pods' priority class")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    #[arg(long, value_name = "NAME", help = "The pods' runtime class")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    #[arg(long, value_name = "NAME", help = "The scheduler that places pods")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// The service account of the pods; workers need no rights
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Mount the service account's token, for stages that use the cluster's API
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mount_token: bool,
    /// A label of all objects (can be repeated)
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    #[serde(rename = "tag", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A variable of the stages: NAME=VALUE, or NAME for the value it has here (can be repeated). Anyone who may read
    /// Jobs can read it
    #[arg(long = "pod-env", value_name = "NAME[=VALUE]")]
    #[serde(rename = "pod-env", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// A Secret whose keys are variables of the stages, such as credentials of a remote or of `--store` (can be repeated)
    #[arg(long = "env-secret", value_name = "NAME")]
    #[serde(rename = "env-secret", skip_serializing_if = "Vec::is_empty")]
    pub env_secrets: Vec<String>,
    /// The dvc-fanout of the image; `dvc-fanout` on its PATH by default
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_program: Option<String>,
    /// A shell script to run in the pod in place of the worker, which it is given as "$@"
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// A word of a command to put in front of the worker (can be repeated)
    #[arg(long = "entrypoint", value_name = "WORD", allow_hyphen_values = true)]
    #[serde(rename = "entrypoint", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// End a whole Job after this long: 15m, 2h
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub job_timeout: Option<Limit>,
    /// How long a pod that is told to end may take; 30s by default
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub grace: Option<Wait>,
    /// Which Jobs are kept in the cluster after they end; `failed` by default
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepArg>,
    /// Have the cluster delete a Job this long after it ends, if it is still there
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Wait>,
    /// Kueue's local queue; pods then have to ask for resources
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// What pods may do on their node; `restricted` (no root, no capabilities) by default
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<SecurityArg>,
    /// The user that workers run as; by default yours, or the image's where you are root
    #[arg(long, value_name = "UID[:GID]")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// The group that owns the volumes
    #[arg(long, value_name = "GID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<u32>,
    /// Changes to the pod template, as YAML or JSON: merged as `kubectl patch` does
    #[arg(long, value_name = "YAML")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<String>,
    /// Give up if pods cannot start for this long; 15m by default
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub stuck_timeout: Option<Limit>,
    /// Give up if the API server does not answer for this long; 15m by default
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub patience: Option<Limit>,
    /// Do not check from inside a pod whether it sees the run and the cache
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_check: bool,
}

/// Where the Jobs are that are to be ended.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(crate) struct CancelArgs {
    /// The kubeconfig of the cluster in which Jobs were left running
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// The context of the kubeconfig
    #[arg(long)]
    context: Option<String>,
    /// The namespace of the Jobs
    #[arg(long)]
    namespace: Option<String>,
}

impl From<CancelArgs> for Args {
    fn from(typed: CancelArgs) -> Args {
        let CancelArgs { kubeconfig, context, namespace } = typed;
        Args { kubeconfig, context, namespace, ..Args::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DataArg {
    Volume,
    Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeepArg {
    Always,
    Failed,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SecurityArg {
    Restricted,
    Image,
}
