//! Creates the Job of a class, or finds the one that an earlier launch made.
//!
//! | the Job of this name | then |
//! |---|---|
//! | is not there | create it |
//! | is not ours | refuse |
//! | is over | look at the next generation |
//! | is being deleted | wait until it is gone, then create it |
//! | goes on, made from the same options | go on with it |
//! | goes on, made from other options | refuse: nothing is changed behind the user's back |

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::engine::Channels;
use crate::engine::kubernetes::api::{Cluster, Created};
use crate::engine::kubernetes::job::Problem;
use crate::engine::kubernetes::job::machine::Resources;
use crate::engine::kubernetes::job::manifest::{Manifest, SPEC_HASH};
use crate::engine::kubernetes::job::observed::SeenJob;
use crate::engine::kubernetes::job::options::{JobPlan, PodOptions};
use crate::engine::kubernetes::submitted::{DELETION_LIMIT, DELETION_POLL, Submitted, cancel};
use crate::engine::kubernetes::{KubernetesConfig, drive};
use crate::engine::remote::classes::{Class, class_name};
use crate::engine::remote::files::RunFiles;
use crate::model::numbers::ItemIndex;
use crate::model::quantity::Quantity;
use crate::model::run;

/// How often one phase of a run may be launched again.
const MAX_GENERATIONS: u32 = 100;

pub(super) struct Submitter<'a> {
    pub config: &'a KubernetesConfig,
    pub files: &'a RunFiles,
    pub cluster: &'a Cluster,
    pub channels: Channels,
    pub phase: usize,
    /// Whether a pod has seen the volumes, so that no other need look.
    pub is_checked: Cell<bool>,
}

impl Submitter<'_> {
    /// Returns the Jobs that do the work items of a class: usually one; two where an earlier launch's still runs and
    /// does not have all of them.
    pub(super) async fn submit(&self, mut class: Class) -> Result<Vec<Submitted>, Diagnostic> {
        let mut jobs = vec![];
        let options = class_options(self.config, &class);
        for generation in 1..=MAX_GENERATIONS {
            if class.tasks.is_empty() {
                return Ok(jobs);
            }
            let dealt = class.shards(options.workers as usize, options.retry_commands);
            let mut plan = job_plan(self.config, self.phase, &class, generation, dealt.count);
            let name = Manifest::name(&plan);
            let found = self.find(&name).await?;
            let (seen, shards) = match found {
                Some(seen) if seen.end.is_some() => continue,
                Some(seen) => {
                    let shards = self.files.shards(&name)?.ok_or_else(|| self.unknown(&seen))?;
                    plan = job_plan(self.config, self.phase, &class, generation, shards.count);
                    self.check_same(&seen, &manifest(&options, &plan)?)?;
                    if seen.parallelism != options.workers.min(seen.completions) {
                        let message = format!("Job `{name}` keeps to {} pods at a time", seen.parallelism);
                        self.channels.notice(message);
                    }
                    (seen, shards)
                }
                None => {
                    self.check(&class).await?;
                    self.files.write_shards(&name, &dealt)?;
                    self.files.post_job(&name).await?;
                    (self.create(&manifest(&options, &plan)?).await?, dealt)
                }
            };
            let own: BTreeSet<ItemIndex> = shards.items.iter().map(|item| item.index).collect();
            let wanted = class.tasks.iter().map(|task| task.index).filter(|index| own.contains(index)).collect();
            class.tasks.retain(|task| !own.contains(&task.index));
            jobs.push(Submitted { seen, shards, wanted, retries: options.retries });
        }
        Err(Diagnostic::tool(format!("phase {} of the run was launched {MAX_GENERATIONS} times", self.phase))
            .hint("make a new plan: `dvc-fanout plan`"))
    }

    /// Returns the Job of a name if it is this run's; one that is being deleted is waited for.
    async fn find(&self, name: &str) -> Result<Option<SeenJob>, Diagnostic> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.cluster.job(name).await? {
                Some(seen) if seen.run.as_deref() != Some(&self.config.run) => return Err(self.foreign(&seen)),
                Some(seen) if seen.is_deleted && begun.elapsed() > DELETION_LIMIT => {
                    return Err(Diagnostic::tool(format!("Job `{name}` is being deleted and does not go")));
                }
                Some(seen) if seen.is_deleted => tokio::time::sleep(DELETION_POLL).await,
                found => return Ok(found),
            }
        }
    }

    /// Has a pod look whether it sees the run and the cache; said early, once, instead of by every worker.
    async fn check(&self, class: &Class) -> Result<(), Diagnostic> {
        if !self.config.check || self.is_checked.get() {
            return Ok(());
        }
        let mut options = class_options(self.config, class);
        options.retries = 0;
        let mut plan = job_plan(self.config, self.phase, class, 1, 1);
        "check".clone_into(&mut plan.part);
        plan.class = None;
        let name = Manifest::name(&plan);
        plan.arguments = ["work", "--run", &self.config.run, "--job", &name, "--check"].map(str::to_owned).to_vec();
        plan.arguments.extend(self.config.worker_arguments.iter().cloned());
        // One that an earlier launch left behind says nothing of today.
        if let Some(old) = self.find(&name).await? {
            cancel(self.cluster, &old, Duration::ZERO).await?;
        }
        self.files.forget_check(&name).await?;
        let seen = self.create(&manifest(&options, &plan)?).await?;
        drive::check(self.config, self.files, self.cluster, seen, self.channels.clone()).await?;
        self.is_checked.set(true);
        Ok(())
    }

    async fn create(&self, manifest: &Manifest) -> Result<SeenJob, Diagnostic> {
        for claim in &manifest.claims {
            self.cluster.create_claim(claim).await?;
        }
        let created = self.cluster.create_job(&manifest.job).await;
        let created = created.map_err(|error| refused_job(error.into(), &manifest.job))?;
        let seen = match created {
            Created::New(seen) => seen,
            // The answer to an earlier try was lost, or another launcher was faster.
            Created::Exists => {
                let name = manifest.job["metadata"]["name"].as_str().unwrap_or_default();
                let seen = self.find(name).await?;
                seen.ok_or_else(|| Diagnostic::tool(format!("Job `{name}` was there, and then it was not")))?
            }
        };
        self.check_same(&seen, manifest)?;
        Ok(seen)
    }

    /// Refuses a Job that was made from something else.
    fn check_same(&self, seen: &SeenJob, manifest: &Manifest) -> Result<(), Diagnostic> {
        if seen.run.as_deref() != Some(&self.config.run) {
            return Err(self.foreign(seen));
        }
        let wanted = manifest.job["metadata"]["annotations"][SPEC_HASH].as_str();
        if seen.spec_hash.as_deref() == wanted {
            return Ok(());
        }
        Err(Diagnostic::tool(format!("Job `{}` runs already, made from other options", seen.name))
            .cause("the image, resources, volumes or other flags differ from those it was launched with")
            .hint("launch with the same options to watch it")
            .hint(format!("or end it first: `dvc-fanout cancel {}`", self.config.run)))
    }

    fn foreign(&self, seen: &SeenJob) -> Diagnostic {
        let (name, namespace) = (&seen.name, &self.cluster.namespace);
        Diagnostic::tool(format!("there is a Job `{name}` in namespace `{namespace}` that this run did not create"))
            .hint("use another `--namespace`, or delete the Job if nobody needs it")
    }

    fn unknown(&self, seen: &SeenJob) -> Diagnostic {
        let name = &seen.name;
        Diagnostic::tool(format!("Job `{name}` runs already, but the run's directory does not know its work items"))
            .cause("it was launched from another copy of the project, or the directory was changed")
            .hint(format!("delete it first: `{}`", self.cluster.kubectl("delete", name)))
    }
}

fn refused_job(diagnostic: Diagnostic, job: &Value) -> Diagnostic {
    let namespace = job["metadata"]["namespace"].as_str().unwrap_or_default();
    diagnostic.detail(format!("in namespace `{namespace}`"))
}

/// Makes the manifest, or says everything that is wrong with it.
pub(super) fn manifest(options: &PodOptions, plan: &JobPlan) -> Result<Manifest, Diagnostic> {
    Manifest::new(options, plan).map_err(|problems: Vec<Problem>| {
        let wrong = Diagnostic::usage("the cluster would refuse the Job");
        problems.iter().fold(wrong, |wrong, problem| wrong.detail(problem.to_string()))
    })
}

/// The options of a class's Job.
pub(super) fn class_options(config: &KubernetesConfig, class: &Class) -> PodOptions {
    let mut options = config.pods.clone();
    // Retries that were asked for on the command line are for all.
    if let Some(retries) = class.resources.retries.filter(|_| !options.retry_commands) {
        options.retries = retries;
        options.retry_commands = true;
    }
    if let Some(limit) = class.resources.group.as_ref().and_then(|group| config.groups.get(group)) {
        options.workers = options.workers.min(u32::try_from(*limit).unwrap_or(u32::MAX));
    }
    // Kubernetes gives up when more than this many have failed.
    let max = config.max_failed.map(|limit| u32::try_from(limit.saturating_sub(1)).unwrap_or(u32::MAX));
    options.max_failed = max.or(options.max_failed);
    options
}

/// The plan of a class's Job.
pub(super) fn job_plan(
    config: &KubernetesConfig,
    phase: usize,
    class: &Class,
    generation: u32,
    shards: usize,
) -> JobPlan {
    let mut plan = JobPlan {
        run: config.run.clone(),
        part: format!("p{phase}"),
        class: class_name(&class.resources),
        generation,
        shards: u32::try_from(shards).unwrap_or(u32::MAX),
        resources: pod_resources(&class.resources),
        arguments: vec![],
    };
    let name = Manifest::name(&plan);
    plan.arguments = ["work", "--run", &config.run, "--job", &name].map(str::to_owned).to_vec();
    if let Some(timeout) = config.timeout {
        plan.arguments.extend(["--timeout".to_owned(), timeout.as_secs().to_string()]);
    }
    plan.arguments.extend(config.worker_arguments.iter().cloned());
    plan
}

fn pod_resources(resources: &run::Resources) -> Resources {
    let quantity = |text: String| Quantity::parse(&text).ok();
    Resources {
        cpus: resources.cpus.and_then(|cpus| quantity(cpus.to_string())),
        memory: resources.memory_mib.and_then(|memory| quantity(format!("{memory}Mi"))),
        gpus: resources.gpus.unwrap_or(0),
        ..Resources::default()
    }
}
