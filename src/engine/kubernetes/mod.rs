//! The Kubernetes engine: a phase becomes Indexed Jobs whose pods run `dvc-fanout work` on a shared volume, or over an
//! object store.
//!
//! | file | |
//! |---|---|
//! | `args.rs`, `resolve.rs` | flags, and what they mean |
//! | `submit.rs` | create a Job or go on with the one that is there; clean up |
//! | `drive.rs` | watch a Job to its end |
//! | `stuck.rs` | pods that do not start, explained |
//! | `job/` | from a phase to the manifest of a Job; pure |
//! | `api/` | the calls to the cluster |
//!
//! What counts is what workers publish on the volume; the cluster only says when to look, and why there is nothing.

mod api;
mod args;
mod drive;
mod job;
mod resolve;
mod stuck;
mod submit;
mod submitted;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use crate::engine::kubernetes::args::Args;

use crate::diagnostic::Diagnostic;
use crate::engine::kubernetes::api::{Access, Cluster, KubeError, Right};
use crate::engine::kubernetes::job::manifest::Manifest;
use crate::engine::kubernetes::job::options::PodOptions;
use crate::engine::kubernetes::job::volume::Volume;
use crate::engine::remote::classes::{Class, split};
use crate::engine::remote::files::RunFiles;
use crate::engine::{Channels, Engine, Failures, Flags as _, PhaseEnd};
use crate::exit::Exit;
use crate::model::event::Task;

/// Since this minor version all that the Jobs use is generally available.
const MINIMUM_MINOR: u32 = 33;

/// What the launcher does in the cluster; `contrib/kubernetes/role.yaml` grants it.
const RIGHTS: [Right; 8] = [
    right("create", "batch", "jobs"),
    right("get", "batch", "jobs"),
    right("list", "batch", "jobs"),
    right("watch", "batch", "jobs"),
    right("delete", "batch", "jobs"),
    right("list", "", "pods"),
    right("watch", "", "pods"),
    right("list", "", "events"),
];
/// Needed as well where claims are made from a storage class.
const CLAIM_RIGHTS: [Right; 1] = [right("create", "", "persistentvolumeclaims")];

/// How long pods of a Job that is cancelled may take to end, beyond what their deletion takes.
const CANCELLATION: Duration = Duration::from_secs(30);

const fn right(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    Right { verb, group, resource }
}

/// What the engine is asked to keep to.
#[derive(Clone, Debug)]
pub(crate) struct KubernetesConfig {
    pub access: Access,
    pub pods: PodOptions,
    pub run: String,
    /// The number of work items of a group that may run at the same time.
    pub groups: BTreeMap<String, usize>,
    /// End what runs after this many work items have failed; the cluster itself counts for each Job.
    pub max_failed: Option<usize>,
    /// Seconds that a work item may take, for those that do not say.
    pub timeout: Option<Duration>,
    /// Create the Jobs and leave them alone.
    pub detach: bool,
    /// Have a pod look at the volumes before work begins.
    pub check: bool,
    pub keep: Keep,
    /// How long Jobs may make no progress while something is in their way.
    pub stuck_limit: Duration,
    /// The object store that takes the place of a volume.
    pub store: Option<String>,
    /// Arguments of every worker, behind those that say which work items it does.
    pub worker_arguments: Vec<String>,
}

/// Which Jobs are left in the cluster after their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Always,
    /// Those that did not complete.
    Failed,
    Never,
}

pub(crate) struct KubernetesEngine {
    config: KubernetesConfig,
    files: RunFiles,
    cluster: Option<Cluster>,
    failures: Failures,
    is_checked: bool,
}

impl KubernetesEngine {
    pub(crate) fn new(config: KubernetesConfig, files: RunFiles) -> Self {
        let failures = Failures::up_to(config.max_failed);
        KubernetesEngine { config, files, cluster: None, failures, is_checked: false }
    }

    /// Connects once and checks what can be checked before anything is made.
    async fn connect(&mut self) -> Result<Cluster, Diagnostic> {
        if let Some(cluster) = &self.cluster {
            return Ok(cluster.clone());
        }
        let cluster = Cluster::connect(&self.config.access).await?;
        check_version(cluster.version().await?)?;
        let claims = self.config.pods.volumes.iter().any(Volume::is_made);
        let needed: Vec<Right> = RIGHTS.into_iter().chain(CLAIM_RIGHTS.into_iter().filter(|_| claims)).collect();
        check_rights(&cluster.namespace, &cluster.missing_rights(&needed).await?)?;
        self.cluster = Some(cluster.clone());
        Ok(cluster)
    }
}

impl Engine for KubernetesEngine {
    fn name(&self) -> &'static str {
        Args::NAME
    }

    fn draining(&self) -> &'static str {
        "interrupted: the Jobs continue without this launcher (Ctrl-C again cancels them)"
    }

    fn image(&self) -> Option<&str> {
        Some(&self.config.pods.image)
    }

    async fn run_phase(&mut self, phase: usize, tasks: Vec<Task>, channels: Channels) -> Result<PhaseEnd, Diagnostic> {
        let cluster = self.connect().await?;
        self.config.pods.namespace.clone_from(&cluster.namespace);
        let _round = if self.config.detach { None } else { self.files.bring_results() };
        let submitter = submit::Submitter {
            config: &self.config,
            files: &self.files,
            cluster: &cluster,
            channels: channels.clone(),
            phase,
            is_checked: Cell::new(self.is_checked),
        };
        let mut jobs = vec![];
        for class in split(tasks) {
            jobs.extend(submitter.submit(class).await?);
        }
        self.is_checked = submitter.is_checked.get();
        if self.config.detach {
            for job in &jobs {
                channels.notice(format!("Job `{}` runs in namespace `{}`", job.seen.name, cluster.namespace));
            }
            return Ok(PhaseEnd::Detached);
        }
        let drives = jobs.into_iter().map(|job| {
            drive::Drive::new(&self.config, &self.files, &cluster, &self.failures, job, channels.clone()).run()
        });
        let ends = futures::future::join_all(drives).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(if ends.contains(&PhaseEnd::Detached) {
            PhaseEnd::Detached
        } else if self.failures.are_too_many() {
            PhaseEnd::GaveUp
        } else {
            PhaseEnd::Done
        })
    }

    /// The Jobs that a phase would be launched as.
    ///
    /// Which work items they do is written to the run's directory, so that Jobs made from these manifests find them; a
    /// launch then goes on with those Jobs.
    async fn manifests(&mut self, phase: usize, tasks: Vec<Task>) -> Result<Vec<String>, Diagnostic> {
        // The context's namespace where there is a kubeconfig; there need not be one.
        if let Ok(cluster) = Cluster::connect(&self.config.access).await {
            self.config.pods.namespace = cluster.namespace;
        }
        let (config, files) = (&self.config, &self.files);
        let manifest = |class: Class| {
            let options = submit::class_options(config, &class);
            let dealt = class.shards(options.workers as usize, options.retry_commands);
            let name = Manifest::name(&submit::job_plan(config, phase, &class, 1, dealt.count));
            let shards = if let Some(known) = files.shards(&name)? {
                known
            } else {
                files.write_shards(&name, &dealt)?;
                dealt
            };
            let plan = submit::job_plan(config, phase, &class, 1, shards.count);
            Ok(submit::manifest(&options, &plan)?.to_yaml())
        };
        split(tasks).into_iter().map(manifest).collect()
    }

    /// Looks after Jobs that came to their end while nobody watched.
    async fn finish(&mut self) -> Result<(), Diagnostic> {
        if self.files.open_jobs()?.is_empty() {
            return Ok(());
        }
        let cluster = self.connect().await?;
        for job in cluster.jobs_of(&self.config.run).await?.iter().filter(|job| job.end.is_some()) {
            submitted::clean_up(&self.config, &cluster, job, job.end.as_ref()).await?;
            self.files.close_job(&job.name)?;
        }
        for name in self.files.open_jobs()? {
            if cluster.job(&name).await?.is_none() {
                self.files.close_job(&name)?;
            }
        }
        Ok(())
    }
}

/// Ends the Jobs of a run that nobody watches; returns their names.
pub(crate) async fn cancel(access: &Access, run: &str, files: &RunFiles) -> Result<Vec<String>, Diagnostic> {
    let cluster = Cluster::connect(access).await?;
    cluster.version().await?;
    let mut ended = vec![];
    for job in cluster.jobs_of(run).await?.iter().filter(|job| job.end.is_none()) {
        submitted::cancel(&cluster, job, CANCELLATION).await?;
        ended.push(job.name.clone());
    }
    for name in files.open_jobs()? {
        files.close_job(&name)?;
    }
    Ok(ended)
}

/// Looks whether a cluster can be used, and returns its version and the namespace.
pub(crate) async fn examine(access: &Access) -> Result<((u32, u32), String), Diagnostic> {
    let cluster = Cluster::connect(access).await?;
    let version = cluster.version().await?;
    check_version(version)?;
    check_rights(&cluster.namespace, &cluster.missing_rights(&RIGHTS).await?)?;
    Ok((version, cluster.namespace))
}

fn check_version((major, minor): (u32, u32)) -> Result<(), Diagnostic> {
    if (major, minor) >= (1, MINIMUM_MINOR) {
        return Ok(());
    }
    Err(Diagnostic::tool(format!("the cluster runs Kubernetes {major}.{minor}, which is too old"))
        .cause(format!("Indexed Jobs with limits for each index are stable since 1.{MINIMUM_MINOR}")))
}

fn check_rights(namespace: &str, missing: &[Right]) -> Result<(), Diagnostic> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut diagnostic = Diagnostic::tool(format!("you lack permissions that are needed in namespace `{namespace}`"));
    for right in missing {
        let Right { verb, group, resource } = right;
        let group = if group.is_empty() { String::new() } else { format!(" of group `{group}`") };
        diagnostic = diagnostic.detail(format!("missing: {verb} {resource}{group}"));
    }
    Err(diagnostic.hint("have the Role of contrib/kubernetes/role.yaml bound to you, or use another `--namespace`"))
}

impl From<KubeError> for Diagnostic {
    fn from(error: KubeError) -> Self {
        let diagnostic = Diagnostic::new(Exit::Tool, error.to_string());
        let diagnostic = match std::error::Error::source(&error) {
            Some(source) => diagnostic.source(source),
            None => diagnostic,
        };
        match error {
            KubeError::Config(_) => diagnostic.hint("set KUBECONFIG, or name a file with `--kubeconfig`"),
            KubeError::Refused { code: 401, .. } => diagnostic.hint("log in to the cluster again"),
            KubeError::Refused { .. } | KubeError::Unusable { .. } => diagnostic,
            KubeError::Away { .. } => diagnostic
                .hint("launch again when the cluster answers: Jobs go on without the launcher, and are found again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_sample_role_grants_what_is_checked_and_no_more() {
        let role = include_str!("../../../contrib/kubernetes/role.yaml");
        let role = role.split("\n---\n").next().expect("a document");
        let role: serde_json::Value = serde_yaml::from_str(role).expect("YAML");
        let texts = |list: &serde_json::Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
        };
        let mut granted = BTreeSet::new();
        for rule in role["rules"].as_array().expect("rules") {
            for resource in texts(&rule["resources"]) {
                granted.extend(texts(&rule["verbs"]).into_iter().map(|verb| format!("{verb} {resource}")));
            }
        }
        let checked = RIGHTS.iter().chain(&CLAIM_RIGHTS).map(|right| format!("{} {}", right.verb, right.resource));
        assert_eq!(granted, checked.collect());
    }
}
