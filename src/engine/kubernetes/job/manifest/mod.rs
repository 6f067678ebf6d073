//! The manifest of an Indexed Job, in the order in which a person would write it.

use serde_json::{Map, Value, json};

use super::explain::final_codes;
use super::name::{job_name, label_value, object_name};
use super::options::{JobPlan, PodOptions, Security};
use super::volume::{Source, Volume};
use super::{Problem, patch, validate, yaml};
use crate::engine::remote::classes::digest;

/// Who made an object.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "dvc-fanout");
/// The label, and in full the annotation, with the run's id.
pub(crate) const RUN: &str = "dvc-fanout/run";
pub(crate) const PART: &str = "dvc-fanout/part";
/// The annotation with the digest of what was sent: the server fills in defaults, so specs are never compared.
pub(crate) const SPEC_HASH: &str = "dvc-fanout/spec-hash";
/// The one container of a worker's pod.
pub(crate) const CONTAINER: &str = "worker";
/// The pod's own scratch space: workspaces, home and temporary files.
pub(crate) const SCRATCH: &str = "/dvc-fanout";

const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// The objects of one Job, in the order in which they are made.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// Claims for `new:` volumes.
    pub claims: Vec<Value>,
    pub job: Value,
}

impl Manifest {
    /// Returns the manifest, or everything the API server would find wrong with it.
    pub(crate) fn new(options: &PodOptions, plan: &JobPlan) -> Result<Self, Vec<Problem>> {
        let mut template = pod_template(options, plan);
        if let Some(patch) = &options.patch {
            patch::apply(&mut template, patch);
        }
        let mut job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": Self::name(plan),
                "namespace": options.namespace,
                "labels": job_labels(options, plan),
                "annotations": annotations(options, plan),
            },
            "spec": job_spec(options, plan, template),
        });
        job["metadata"]["annotations"][SPEC_HASH] = spec_hash(&job).into();
        let problems = validate::job(&job);
        if problems.is_empty() { Ok(Manifest { claims: claims(options, &plan.run), job }) } else { Err(problems) }
    }

    /// The Job's name: the same for the same run, part, class and generation.
    pub(crate) fn name(plan: &JobPlan) -> String {
        let mut parts = vec!["fanout".to_owned(), plan.run.clone(), plan.part.clone()];
        parts.extend(plan.class.as_ref().map(|class| format!("c{class}")));
        parts.extend((plan.generation > 1).then(|| format!("g{}", plan.generation)));
        job_name(&parts.iter().map(String::as_str).collect::<Vec<_>>(), plan.shards)
    }

    /// Returns the objects as a stream of YAML documents for `kubectl apply`.
    pub(crate) fn to_yaml(&self) -> String {
        let documents = self.claims.iter().chain([&self.job]);
        documents.fold(String::new(), |text, document| text + "---\n" + &yaml::write(document))
    }
}

/// What makes a Job the one that is wanted; how many pods it has at a time does not.
fn spec_hash(job: &Value) -> String {
    let mut job = job.clone();
    job["spec"]["parallelism"].take();
    digest(&job.to_string())
}

/// The labels by which a run's objects are found.
fn labels(options: &PodOptions, run: &str) -> Map<String, Value> {
    let mut labels: Map<String, Value> =
        options.tags.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.into());
    labels.insert(RUN.to_owned(), label_value(run).into());
    labels
}

fn pod_labels(options: &PodOptions, plan: &JobPlan) -> Map<String, Value> {
    let mut labels = labels(options, &plan.run);
    labels.insert(PART.to_owned(), label_value(&plan.part).into());
    labels
}

fn job_labels(options: &PodOptions, plan: &JobPlan) -> Map<String, Value> {
    let mut labels = pod_labels(options, plan);
    if let Some(queue) = &options.queue {
        labels.insert(KUEUE_QUEUE.to_owned(), queue.as_str().into());
    }
    labels
}

fn annotations(options: &PodOptions, plan: &JobPlan) -> Map<String, Value> {
    let mut annotations: Map<String, Value> =
        options.tags.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    annotations.insert(RUN.to_owned(), plan.run.clone().into());
    annotations
}

fn job_spec(options: &PodOptions, plan: &JobPlan, template: Value) -> Value {
    let mut spec = json!({
        "completionMode": "Indexed",
        "completions": plan.shards,
        "parallelism": options.workers.min(plan.shards),
        "backoffLimitPerIndex": options.retries,
        "maxFailedIndexes": options.max_failed.unwrap_or(plan.shards).min(plan.shards),
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": { "rules": failure_rules(options) },
    });
    // Kueue's webhook suspends the Job too; it alone resumes it.
    set(&mut spec, "suspend", options.queue.as_ref().map(|_| true));
    set(&mut spec, "activeDeadlineSeconds", options.deadline_seconds);
    set(&mut spec, "ttlSecondsAfterFinished", options.ttl_seconds);
    spec["template"] = template;
    spec
}

/// A lost machine is not counted, a hopeless index is not tried again, everything else counts.
fn failure_rules(options: &PodOptions) -> Value {
    let codes = final_codes(options.retry_commands);
    json!([
        { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
        { "action": "FailIndex", "onExitCodes": { "containerName": CONTAINER, "operator": "In", "values": codes } },
    ])
}

fn pod_template(options: &PodOptions, plan: &JobPlan) -> Value {
    let mut spec = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": options.mount_token,
        "terminationGracePeriodSeconds": options.grace_seconds,
    });
    set(&mut spec, "serviceAccountName", options.service_account.as_deref());
    set(&mut spec, "priorityClassName", options.priority_class.as_deref());
    set(&mut spec, "runtimeClassName", options.runtime_class.as_deref());
    set(&mut spec, "schedulerName", options.scheduler.as_deref());
    set(&mut spec, "nodeSelector", some_map(node_selector(options, plan)));
    set(&mut spec, "tolerations", some_list(options.tolerations.clone()));
    set(&mut spec, "affinity", options.affinity.clone());
    set(&mut spec, "topologySpreadConstraints", some_list(options.topology_spread.clone()));
    let secrets = options.pull_secrets.iter().map(|name| json!({ "name": name })).collect();
    set(&mut spec, "imagePullSecrets", some_list(secrets));
    set(&mut spec, "securityContext", some_map(pod_security(options)));
    spec["containers"] = json!([container(options, plan)]);
    spec["volumes"] = volumes(options, &plan.run);
    json!({ "metadata": { "labels": pod_labels(options, plan) }, "spec": spec })
}

fn node_selector(options: &PodOptions, plan: &JobPlan) -> Map<String, Value> {
    let resources = plan.resources.clone().or(&options.resources);
    let accelerator = resources.accelerator.map(|model| ("accelerator".to_owned(), model));
    let selected = options.node_selector.iter().cloned().chain(accelerator);
    selected.map(|(key, value)| (key, value.into())).collect()
}

fn pod_security(options: &PodOptions) -> Map<String, Value> {
    let mut context = json!({});
    if options.security == Security::Restricted {
        context = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    }
    set(&mut context, "runAsUser", options.user.map(|user| user.uid));
    set(&mut context, "runAsGroup", options.user.and_then(|user| user.gid));
    set(&mut context, "fsGroup", options.fs_group);
    set(&mut context, "fsGroupChangePolicy", options.fs_group.map(|_| "OnRootMismatch"));
    object(context)
}

fn container(options: &PodOptions, plan: &JobPlan) -> Value {
    let mut container = json!({ "name": CONTAINER, "image": options.image });
    set(&mut container, "imagePullPolicy", options.image_pull_policy.as_deref());
    container["command"] = command(options, plan).into();
    container["workingDir"] = options.project.as_str().into();
    let secrets = options.env_secrets.iter().map(|name| json!({ "secretRef": { "name": name } })).collect();
    set(&mut container, "envFrom", some_list(secrets));
    container["env"] = env(options);
    set(&mut container, "resources", some_map(resources(options, plan)));
    if options.security == Security::Restricted {
        container["securityContext"] =
            json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    }
    container["volumeMounts"] = mounts(options);
    // The end of the worker's output explains a pod that died before it could write to the volume.
    container["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
    container
}

/// The worker, behind the entrypoint or the script if there is one.
fn command(options: &PodOptions, plan: &JobPlan) -> Vec<String> {
    let script = options.script.iter().flat_map(|script| ["sh", "-c", script.as_str(), "sh"]);
    let before = options.entrypoint.iter().map(String::as_str).chain(script);
    let worker = [options.program.as_str()].into_iter().chain(plan.arguments.iter().map(String::as_str));
    before.chain(worker).map(str::to_owned).collect()
}

fn env(options: &PodOptions) -> Value {
    // A user id that the image does not know has `/` for a home, where nothing can be written.
    let own = [("HOME", SCRATCH), ("TMPDIR", SCRATCH)];
    let missing = own.into_iter().filter(|(name, _)| options.env.iter().all(|variable| variable.name != *name));
    let given = options.env.iter().map(|variable| (variable.name.as_str(), variable.value.as_str()));
    missing.chain(given).map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

fn resources(options: &PodOptions, plan: &JobPlan) -> Map<String, Value> {
    let resources = plan.resources.clone().or(&options.resources);
    let amounts = [("cpu", resources.cpus), ("memory", resources.memory), ("ephemeral-storage", resources.disk)];
    let mut requests: Map<String, Value> =
        amounts.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), amount?.as_str().into()))).collect();
    // An extended resource can only be asked for by its limit.
    let gpus = (resources.gpus > 0).then(|| (options.gpu_resource.clone(), resources.gpus.to_string().into()));
    let mut limits = if options.no_limits { Map::new() } else { requests.clone() };
    limits.extend(gpus.clone());
    requests.extend(gpus);
    let mut all = json!({});
    set(&mut all, "requests", some_map(requests));
    set(&mut all, "limits", some_map(limits));
    object(all)
}

const SCRATCH_VOLUME: &str = "scratch";

fn volume_name(index: usize) -> String {
    format!("volume-{index}")
}

/// The claim made for the `new:` volume with this index.
fn claim_name(run: &str, index: usize) -> String {
    object_name(&["fanout", run, &volume_name(index)])
}

fn volumes(options: &PodOptions, run: &str) -> Value {
    let scratch = json!({ "name": SCRATCH_VOLUME, "emptyDir": {} });
    let own = options.volumes.iter().enumerate().map(|(index, volume)| {
        let (kind, source) = match &volume.source {
            Source::Claim { name, .. } => ("persistentVolumeClaim", json!({ "claimName": name })),
            Source::NewClaim { .. } => ("persistentVolumeClaim", json!({ "claimName": claim_name(run, index) })),
            Source::Nfs { server, path } => {
                ("nfs", json!({ "server": server, "path": path, "readOnly": volume.read_only }))
            }
            Source::HostPath { path } => ("hostPath", json!({ "path": path, "type": "Directory" })),
            Source::EmptyDir { size: Some(size) } => ("emptyDir", json!({ "sizeLimit": size.as_str() })),
            Source::EmptyDir { size: None } => ("emptyDir", json!({})),
        };
        json!({ "name": volume_name(index), kind: source })
    });
    [scratch].into_iter().chain(own).collect()
}

fn mounts(options: &PodOptions) -> Value {
    let scratch = json!({ "name": SCRATCH_VOLUME, "mountPath": SCRATCH });
    let own = options.volumes.iter().enumerate().map(|(index, volume)| {
        let mut mount = json!({ "name": volume_name(index), "mountPath": volume.mount });
        if let Source::Claim { sub_path, .. } = &volume.source {
            set(&mut mount, "subPath", sub_path.as_deref());
        }
        set(&mut mount, "readOnly", volume.read_only.then_some(true));
        mount
    });
    [scratch].into_iter().chain(own).collect()
}

fn claims(options: &PodOptions, run: &str) -> Vec<Value> {
    let claim = |(index, volume): (usize, &Volume)| {
        let Source::NewClaim { storage_class, size } = &volume.source else { return None };
        let access = if options.workers > 1 { "ReadWriteMany" } else { "ReadWriteOnce" };
        let mut spec = json!({
            "accessModes": [access],
            "resources": { "requests": { "storage": size.as_str() } },
        });
        set(&mut spec, "storageClassName", storage_class.as_deref());
        let metadata = json!({
            "name": claim_name(run, index),
            "namespace": options.namespace,
            "labels": labels(options, run),
            "annotations": { RUN: run },
        });
        Some(json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec }))
    };
    options.volumes.iter().enumerate().filter_map(claim).collect()
}

/// Sets a field that is there.
fn set(object: &mut Value, field: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[field] = value.into();
    }
}

fn some_map(map: Map<String, Value>) -> Option<Value> {
    (!map.is_empty()).then_some(Value::Object(map))
}

fn some_list(list: Vec<Value>) -> Option<Value> {
    (!list.is_empty()).then_some(Value::Array(list))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
