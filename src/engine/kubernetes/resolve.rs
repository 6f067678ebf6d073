//! From the flags to what the engine keeps to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::adapters::{fs, process};
use crate::diagnostic::Diagnostic;
use crate::engine::args::RunningArgs;
use crate::engine::kubernetes::api::Access;
use crate::engine::kubernetes::args::{Args, CancelArgs, DataArg, KeepArg, SecurityArg};
use crate::engine::kubernetes::job::machine::Resources;
use crate::engine::kubernetes::job::manifest::SCRATCH;
use crate::engine::kubernetes::job::options::{EnvVar, PodOptions, Security, User};
use crate::engine::kubernetes::job::volume::Volume;
use crate::engine::kubernetes::{Keep, KubernetesConfig, KubernetesEngine};
use crate::engine::remote::files::RunFiles;
use crate::engine::{Flags, Scene};
use crate::env;
use crate::model::duration::{Limit, Wait};
use crate::model::quantity::Quantity;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::shards;

/// Pods at a time unless said otherwise.
const DEFAULT_WORKERS: u32 = 10;
const DEFAULT_GRACE_SECONDS: u32 = 30;
const DEFAULT_STUCK_LIMIT: Duration = Duration::from_mins(15);
const DEFAULT_PATIENCE: Duration = Duration::from_mins(15);
/// How long the cluster may take to answer where somebody only wants to know whether it does.
const EXAMINATION: Duration = Duration::from_secs(10);

impl Flags for Args {
    const NAME: &'static str = "kubernetes";
    const CALLED: &'static str = "the Kubernetes engine";
    /// An Indexed Job that is suspended, or has fewer pods, ends those that run.
    const DRAINS: bool = false;
    type Engine = KubernetesEngine;
    type Cancel = CancelArgs;

    fn resolve(&self, scene: &Scene<'_>) -> Result<KubernetesEngine, Diagnostic> {
        scene.running.refuse_stdin(Self::CALLED)?;
        let config = config(self, scene)?;
        let files = files(scene.run, &config.access).over(scene.mailbox, scene.plan);
        Ok(KubernetesEngine::new(config, files))
    }

    /// Deletes the Jobs that nobody watches. What is not said of the cluster is as it was at the launch.
    async fn cancel(&self, run: &RunDir, plan: &Plan) -> Result<Vec<String>, Diagnostic> {
        let open = shards::open_of(run, Self::NAME)?;
        let Some(first) = open.first() else { return Ok(vec![]) };
        let cluster = shards::cluster_of(run, first)?.unwrap_or_default();
        let first: Reach = serde_json::from_value(cluster).unwrap_or_default();
        let mut access = access(self);
        access.kubeconfig = access.kubeconfig.or(first.kubeconfig);
        access.context = access.context.or(first.context);
        access.namespace = access.namespace.or(first.namespace);
        let files = files(run, &access);
        super::cancel(&access, &plan.run, &files).await
    }

    async fn examine(&self, _project: &ProjectHome) -> Result<Option<String>, Diagnostic> {
        let access = Access { patience: EXAMINATION, ..access(self) };
        let ((major, minor), namespace) = super::examine(&access).await?;
        Ok(Some(format!("Kubernetes {major}.{minor}, namespace `{namespace}`, all rights are there")))
    }
}

/// How a launcher reached a cluster, as far as it was told; the rest is in the kubeconfig.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Reach {
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    namespace: Option<String>,
}

/// The run's directory, which remembers how the cluster is reached.
fn files(run: &RunDir, access: &Access) -> RunFiles {
    let Access { kubeconfig, context, namespace, .. } = access;
    // Whoever asks later may stand somewhere else.
    let kubeconfig = kubeconfig.as_ref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    let reach = Reach { kubeconfig, context: context.clone(), namespace: namespace.clone() };
    RunFiles::new(run, Args::NAME, serde_json::to_value(reach).expect("it is plain data"))
}

/// Looks up what was meant.
fn config(args: &Args, scene: &Scene<'_>) -> Result<KubernetesConfig, Diagnostic> {
    let Scene { plan, running, .. } = *scene;
    let volumes: Vec<Volume> = args
        .volumes
        .iter()
        .map(|volume| Volume::parse(volume).map_err(|error| Diagnostic::usage("a volume is wrong").source(&error)))
        .collect::<Result<_, _>>()?;
    let (pod_project, mut worker_arguments) = match scene.mailbox {
        Some(mailbox) => over_store(args, mailbox.url())?,
        None => on_volumes(args, scene, &volumes)?,
    };
    if let Some(kind) = running.workspace {
        worker_arguments.extend(["--workspace".to_owned(), kind.name().to_owned()]);
    }
    let workers = running.jobs.map_or(Ok(DEFAULT_WORKERS), |jobs| u32::try_from(jobs.get()));
    let workers = workers.map_err(|_| Diagnostic::usage("`--jobs` is more than any cluster takes"))?;
    Ok(KubernetesConfig {
        access: access(args),
        pods: pod_options(args, running, volumes, pod_project, workers)?,
        run: plan.run.clone(),
        groups: running.groups(),
        max_failed: running.max_failed(plan.work_items),
        timeout: running.timeout.map(|limit| limit.0),
        detach: scene.detach,
        check: !args.no_check,
        keep: match args.keep.unwrap_or(KeepArg::Failed) {
            KeepArg::Always => Keep::Always,
            KeepArg::Failed => Keep::Failed,
            KeepArg::Never => Keep::Never,
        },
        stuck_limit: args.stuck_timeout.map_or(DEFAULT_STUCK_LIMIT, |limit| limit.0),
        store: scene.mailbox.map(|mailbox| mailbox.url().to_owned()),
        worker_arguments,
    })
}

/// Where pods that see no folder of the launcher's work, and what their workers are told: all of it is in a place of their
/// own, which goes with the pod.
fn over_store(args: &Args, url: &str) -> Result<(String, Vec<String>), Diagnostic> {
    if args.data == Some(DataArg::Volume) {
        return Err(Diagnostic::usage("`--data volume` does not go with `--store`")
            .cause("without a volume, data go through the project's remote"));
    }
    let words = ["--store", url, "--scratch", &format!("{SCRATCH}/slots"), "--cache-dir", &format!("{SCRATCH}/cache")];
    Ok((SCRATCH.to_owned(), words.map(str::to_owned).to_vec()))
}

/// Where pods that share volumes with the launcher see the project, and what their workers are told.
fn on_volumes(args: &Args, scene: &Scene<'_>, volumes: &[Volume]) -> Result<(String, Vec<String>), Diagnostic> {
    let Scene { project, plan, .. } = *scene;
    let maps = Maps::parse(&args.maps)?;
    let (git, _) = project.git()?;
    let pod_project = seen_by_pods(&maps, volumes, &project.root, "the project")?;
    seen_by_pods(&maps, volumes, git.workdir(), "the git repository")?;
    let mut words = vec!["--scratch".to_owned(), format!("{SCRATCH}/slots"), "--cache-dir".to_owned()];
    match args.data.unwrap_or(DataArg::Volume) {
        DataArg::Volume => {
            let cache = Path::new(&project.config.cache_dir);
            words.push(seen_by_pods(&maps, volumes, cache, "DVC's cache")?);
        }
        DataArg::Remote => {
            fs::write(&project.fanout().run(&plan.run).remote(), b"")?;
            words.extend([format!("{SCRATCH}/cache"), "--use-remote".to_owned()]);
        }
    }
    Ok((pod_project, words))
}

/// Where the cluster is and who asks, by flags and environment.
fn access(args: &Args) -> Access {
    let contents = [env::KUBECONFIG_DATA, env::KUBERNETES_CONFIGURATION].into_iter().find_map(env::read_text);
    Access {
        kubeconfig: args.kubeconfig.as_ref().map(PathBuf::from),
        contents,
        context: args.context.clone(),
        namespace: args.namespace.clone(),
        patience: args.patience.map_or(DEFAULT_PATIENCE, |limit| limit.0),
    }
}

fn pod_options(
    args: &Args,
    running: &RunningArgs,
    volumes: Vec<Volume>,
    project: String,
    workers: u32,
) -> Result<PodOptions, Diagnostic> {
    let image = args.image.clone().ok_or_else(|| {
        Diagnostic::usage("no image was given for the workers")
            .hint("give `--image`, or `image:` under `kubernetes:` in .dvc/fanout/config.yaml")
    })?;
    let script = args.script.as_ref().map(|file| fs::read(Path::new(file))).transpose()?;
    let script = script.map(String::from_utf8).transpose();
    Ok(PodOptions {
        namespace: args.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        image,
        image_pull_policy: args.image_pull_policy.clone(),
        pull_secrets: args.pull_secrets.clone(),
        workers,
        resources: resources(args)?,
        gpu_resource: args.gpu_resource.clone().unwrap_or_else(|| "nvidia.com/gpu".to_owned()),
        no_limits: args.no_limits,
        node_selector: pairs("--node-selector", &args.node_selector)?,
        tolerations: args.tolerations.iter().map(|taint| toleration(taint)).collect::<Result<_, _>>()?,
        affinity: structure("--affinity", args.affinity.as_ref())?,
        topology_spread: match structure("--topology-spread", args.topology_spread.as_ref())? {
            Some(Json::Array(constraints)) => constraints,
            Some(constraint) => vec![constraint],
            None => vec![],
        },
        priority_class: args.priority_class.clone(),
        runtime_class: args.runtime_class.clone(),
        scheduler: args.scheduler.clone(),
        service_account: args.service_account.clone(),
        mount_token: args.mount_token,
        tags: pairs("--tag", &args.tags)?,
        env: args.env.iter().map(|variable| variable_of(variable)).collect::<Result<_, _>>()?,
        env_secrets: args.env_secrets.clone(),
        volumes,
        project,
        program: args.worker_program.clone().unwrap_or_else(|| "dvc-fanout".to_owned()),
        script: script.map_err(|error| Diagnostic::usage("the script is not UTF-8 text").source(&error))?,
        entrypoint: args.entrypoint.clone(),
        deadline_seconds: args.job_timeout.map(Limit::seconds),
        grace_seconds: seconds("--grace", args.grace)?.unwrap_or(DEFAULT_GRACE_SECONDS),
        retries: running.retries.unwrap_or(2),
        retry_commands: running.retries.is_some(),
        max_failed: None,
        ttl_seconds: seconds("--ttl", args.ttl)?,
        queue: args.queue.clone(),
        security: match args.security.unwrap_or(SecurityArg::Restricted) {
            SecurityArg::Restricted => Security::Restricted,
            SecurityArg::Image => Security::Image,
        },
        user: user(args.run_as.as_deref())?,
        fs_group: args.fs_group,
        patch: structure("--pod-template", args.pod_template.as_ref())?,
    })
}

/// The seconds of a duration, which have 32 bits in the cluster.
fn seconds(flag: &str, wait: Option<Wait>) -> Result<Option<u32>, Diagnostic> {
    let seconds = wait.map(|wait| u32::try_from(wait.seconds())).transpose();
    seconds.map_err(|_| Diagnostic::usage(format!("`{flag}` is longer than any cluster waits")))
}

/// The machine, with what the single flags say instead.
fn resources(args: &Args) -> Result<Resources, Diagnostic> {
    let machine = args.machine.as_deref().map(Resources::parse_machine).transpose();
    let machine =
        machine.map_err(|error| Diagnostic::usage("the machine is wrong").source(&error))?.unwrap_or_default();
    let quantity = |flag: &str, text: Option<&String>| {
        let parsed = text.map(|text| Quantity::parse(text)).transpose();
        parsed.map_err(|error| Diagnostic::usage(format!("`{flag}` is wrong")).source(&error))
    };
    let own = Resources {
        cpus: quantity("--pod-cpus", args.pod_cpus.as_ref())?,
        memory: quantity("--pod-memory", args.pod_memory.as_ref())?,
        gpus: args.pod_gpus.unwrap_or(0),
        disk: quantity("--pod-disk", args.pod_disk.as_ref())?,
        accelerator: None,
    };
    Ok(own.or(&machine))
}

fn pairs(flag: &str, texts: &[String]) -> Result<Vec<(String, String)>, Diagnostic> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    };
    let wrong = |text: &String| Diagnostic::usage(format!("`{flag} {text}` is not KEY=VALUE"));
    texts.iter().map(|text| pair(text).ok_or_else(|| wrong(text))).collect()
}

/// `KEY[=VALUE][:EFFECT]`, as kubectl writes taints, or JSON.
fn toleration(text: &str) -> Result<Json, Diagnostic> {
    if text.starts_with('{') {
        return serde_json::from_str(text)
            .map_err(|error| Diagnostic::usage(format!("`--toleration {text}` is not JSON")).source(&error));
    }
    let (taint, effect) = text.split_once(':').map_or((text, None), |(taint, effect)| (taint, Some(effect)));
    let mut toleration = match taint.split_once('=') {
        Some((key, value)) => serde_json::json!({ "key": key, "operator": "Equal", "value": value }),
        None => serde_json::json!({ "key": taint, "operator": "Exists" }),
    };
    if let Some(effect) = effect {
        toleration["effect"] = effect.into();
    }
    Ok(toleration)
}

/// A value given as YAML, which JSON is too.
fn structure(flag: &str, text: Option<&String>) -> Result<Option<Json>, Diagnostic> {
    let Some(text) = text else { return Ok(None) };
    let value = serde_yaml::from_str(text);
    value.map(Some).map_err(|error| Diagnostic::usage(format!("the value of `{flag}` is not YAML")).source(&error))
}

/// `NAME=VALUE`, or a name whose value is taken from here.
fn variable_of(text: &str) -> Result<EnvVar, Diagnostic> {
    if let Some((name, value)) = text.split_once('=') {
        return Ok(EnvVar { name: name.to_owned(), value: value.to_owned() });
    }
    let value = env::read_text(text).ok_or_else(|| {
        Diagnostic::usage(format!("the variable `{text}` is to be passed to pods, but it is not set here"))
            .hint(format!("set it, or give its value: `--pod-env {text}=…`"))
    })?;
    Ok(EnvVar { name: text.to_owned(), value })
}

/// By default the user who launches, so that files on a shared volume belong to who made the project.
fn user(text: Option<&str>) -> Result<Option<User>, Diagnostic> {
    let Some(text) = text else {
        let (uid, gid) = process::user();
        return Ok((uid != 0).then_some(User { uid, gid: Some(gid) }));
    };
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let wrong = || Diagnostic::usage(format!("`--run-as {text}` is not UID[:GID]"));
    let gid = gid.map(|gid| gid.parse().map_err(|_| wrong())).transpose()?;
    Ok(Some(User { uid: uid.parse().map_err(|_| wrong())?, gid }))
}

/// Where pods see folders of this machine; the longest local path first.
struct Maps(Vec<(PathBuf, String)>);

impl Maps {
    fn parse(texts: &[String]) -> Result<Self, Diagnostic> {
        let mut maps: Vec<(PathBuf, String)> = vec![];
        for (local, pod) in pairs("--map", texts)? {
            if !local.starts_with('/') || !pod.starts_with('/') {
                return Err(Diagnostic::usage(format!("`--map {local}={pod}`: both sides are absolute paths")));
            }
            // The project's root has its symlinks resolved.
            let local = PathBuf::from(&local).canonicalize().unwrap_or_else(|_| PathBuf::from(local));
            maps.push((local, pod.trim_end_matches('/').to_owned()));
        }
        maps.sort_by_key(|(local, _)| std::cmp::Reverse(local.as_os_str().len()));
        Ok(Maps(maps))
    }

    fn of(&self, path: &Path) -> String {
        let mapped = self.0.iter().find_map(|(local, pod)| {
            let rest = path.strip_prefix(local).ok()?;
            Some(Path::new(if pod.is_empty() { "/" } else { pod }).join(rest))
        });
        let mapped = mapped.unwrap_or_else(|| path.to_owned());
        mapped.to_string_lossy().trim_end_matches('/').to_owned()
    }
}

/// Where pods see a path; refused where no volume holds it.
fn seen_by_pods(maps: &Maps, volumes: &[Volume], path: &Path, what: &str) -> Result<String, Diagnostic> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let seen = maps.of(&path);
    if volumes.iter().any(|volume| Path::new(&seen).starts_with(&volume.mount)) {
        return Ok(seen);
    }
    Err(Diagnostic::usage(format!("pods would not see {what}: no volume is mounted at or above `{seen}`"))
        .cause(format!("here it is `{}`", path.display()))
        .hint("give the volume that holds it, as in `--volume pvc:NAME:/data`")
        .hint("if pods see it elsewhere than this machine, say so: `--map /here=/data`")
        .hint("without such a volume, an object store does: `--store s3://BUCKET/FOLDER`"))
}
