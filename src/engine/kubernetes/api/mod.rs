//! A Kubernetes cluster: the calls that the engine makes, and nothing decided about them.
//!
//! `watch.rs` follows what changes, `view.rs` reduces objects to what is looked at.

mod view;
mod watch;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions, PropagationPolicy};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource as _, ResourceExt as _};
use serde_json::Value;

use crate::engine::kubernetes::job::manifest::RUN;
use crate::engine::kubernetes::job::name::label_value;
use crate::engine::kubernetes::job::observed::{SeenJob, SeenPod, Warning};
pub(crate) use watch::{Change, Following};

/// The limit of one call, the client's own retries included.
const CALL_LIMIT: Duration = Duration::from_mins(2);
/// How long a server that was never heard of may take to answer: its address may be wrong.
const FIRST_CONTACT: Duration = Duration::from_secs(30);
/// How long a Job that is to be ended is tried to be deleted while the server is away: somebody waits for it.
const DELETION_PATIENCE: Duration = Duration::from_mins(1);
/// The limit of a question that is asked again soon anyway.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);
/// The wait before a call that failed is made again; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Events of one object that are looked at.
const MAX_EVENTS: u32 = 200;

/// Why a call to the cluster failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeError {
    #[error("the kubeconfig is not usable")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the API server refused to {what}")]
    Refused { what: String, code: u16, reason: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// Not for want of an answer: a certificate that is not trusted, credentials that cannot be had.
    #[error("the connection to the API server at {server} is not usable")]
    Unusable { server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the API server at {server} did not {what} for {} s", .limit.as_secs())]
    Away { what: String, server: String, limit: Duration, source: Option<Box<dyn std::error::Error + Send + Sync>> },
}

/// What the server said to a request that it refused.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code} {reason})")]
struct Said {
    message: String,
    code: u16,
    reason: String,
}

/// Where the cluster is and who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub kubeconfig: Option<PathBuf>,
    /// The text of a kubeconfig, from the environment.
    pub contents: Option<String>,
    pub context: Option<String>,
    pub namespace: Option<String>,
    /// How long calls are repeated while the server is away.
    pub patience: Duration,
}

/// A right that the launcher needs: verb, API group, resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    pub verb: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
}

/// What came of creating an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Created<T> {
    New(T),
    /// One of that name is there.
    Exists,
}

/// How an object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// It goes at once, its pods after it.
    Background,
    /// It goes after its pods.
    Foreground,
}

/// A namespace of a cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    /// Its address.
    pub server: String,
    pub namespace: String,
    patience: Duration,
}

impl Cluster {
    /// Reads the kubeconfig (a file, the text from the environment, `KUBECONFIG`, the user's, in-cluster); no request.
    pub(crate) async fn connect(access: &Access) -> Result<Self, KubeError> {
        let config = configuration(access).await?;
        let namespace = access.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| KubeError::Config(error.into()))?;
        Ok(Cluster { client, server, namespace, patience: access.patience })
    }

    /// Returns the server's major and minor version; the first call, which is not repeated for long.
    pub(crate) async fn version(&self) -> Result<(u32, u32), KubeError> {
        let patience = self.patience.min(FIRST_CONTACT);
        let version = self.call_for(patience, "tell its version", || self.client.apiserver_version()).await?;
        // Some providers write `33+`.
        let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
        Ok((number(&version.major), number(&version.minor)))
    }

    /// Returns those of the rights that the launcher does not have.
    pub(crate) async fn missing_rights(&self, rights: &[Right]) -> Result<Vec<Right>, KubeError> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let mut missing = vec![];
        for right in rights {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let attributes = ResourceAttributes {
                namespace: Some(self.namespace.clone()),
                verb: some(right.verb),
                group: some(right.group),
                resource: some(right.resource),
                ..ResourceAttributes::default()
            };
            let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
            let review = SelfSubjectAccessReview { spec, ..Default::default() };
            let params = PostParams::default();
            let answer = self.call("review access rights", || reviews.create(&params, &review)).await?;
            if !answer.status.is_some_and(|status| status.allowed) {
                missing.push(*right);
            }
        }
        Ok(missing)
    }

    /// Creates a Job; unknown fields are refused. What the server did before its answer was lost counts as `Exists`.
    pub(crate) async fn create_job(&self, manifest: &Value) -> Result<Created<SeenJob>, KubeError> {
        let body = manifest.to_string().into_bytes();
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        let url = Job::url_path(&(), Some(&self.namespace));
        let create = || async {
            let request = kube::api::Request::new(url.clone()).create(&PostParams::default(), body.clone());
            let mut request = request.map_err(kube::Error::BuildRequest)?;
            let strict = format!("{url}?fieldValidation=Strict");
            *request.uri_mut() = strict.parse().expect("a path of the API is a URI");
            self.client.request::<Job>(request).await
        };
        created(self.call(&format!("create the Job `{name}`"), create).await, |job| view::job(&job))
    }

    /// Creates a claim; one that is there already is left as it is.
    pub(crate) async fn create_claim(&self, manifest: &Value) -> Result<Created<()>, KubeError> {
        let claim: PersistentVolumeClaim =
            serde_json::from_value(manifest.clone()).map_err(|error| KubeError::Config(error.into()))?;
        let (claims, params) = (self.api::<PersistentVolumeClaim>(), PostParams::default());
        let what = format!("create the claim `{}`", claim.name_any());
        created(self.call(&what, || claims.create(&params, &claim)).await, |_| ())
    }

    /// Returns a Job; `None` where there is none of that name.
    pub(crate) async fn job(&self, name: &str) -> Result<Option<SeenJob>, KubeError> {
        let jobs = self.api::<Job>();
        let found = self.call(&format!("show the Job `{name}`"), || jobs.get_opt(name)).await?;
        Ok(found.map(|job| view::job(&job)))
    }

    /// Returns the Jobs of a run.
    pub(crate) async fn jobs_of(&self, run: &str) -> Result<Vec<SeenJob>, KubeError> {
        let (jobs, params) = (self.api::<Job>(), ListParams::default().labels(&format!("{RUN}={}", label_value(run))));
        let list = self.call("list Jobs", || jobs.list(&params)).await?;
        Ok(list.items.iter().map(view::job).filter(|job| job.run.as_deref() == Some(run)).collect())
    }

    /// Deletes a Job if it is still the one with this uid; one that is gone is fine.
    pub(crate) async fn delete_job(&self, job: &SeenJob, propagation: Propagation) -> Result<(), KubeError> {
        let policy = match propagation {
            Propagation::Background => PropagationPolicy::Background,
            Propagation::Foreground => PropagationPolicy::Foreground,
        };
        // Without a policy, a Job's pods would be left running.
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions { uid: Some(job.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        let (jobs, what) = (self.api::<Job>(), format!("delete the Job `{}`", job.name));
        let patience = self.patience.min(DELETION_PATIENCE);
        match self.call_for(patience, &what, || jobs.delete(&job.name, &params)).await {
            // 409: another Job has the name now, so this one is gone.
            Err(KubeError::Refused { code: 404 | 409, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Returns the warnings about an object, the oldest first; none while the server is away.
    pub(crate) async fn warnings(&self, uid: &str) -> Result<Vec<Warning>, KubeError> {
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(MAX_EVENTS);
        let events = self.api::<Event>();
        match tokio::time::timeout(QUESTION_LIMIT, events.list(&params)).await {
            Ok(Ok(list)) => Ok(view::warnings(&list.items)),
            Ok(Err(error)) if !watch::is_passing(&error) => Err(self.refused("list events", error)),
            Ok(Err(_)) | Err(_) => Ok(vec![]),
        }
    }

    /// Returns the pods of a Job as they are now.
    pub(crate) async fn pods(&self, job: &SeenJob) -> Result<Vec<SeenPod>, KubeError> {
        let (pods, params) = (self.api::<Pod>(), pods_of(job));
        let list = self.call("list pods", || pods.list(&params)).await?;
        Ok(list.items.iter().map(view::pod).collect())
    }

    /// What a person would type to do something with a Job.
    pub(crate) fn kubectl(&self, verb: &str, job: &str) -> String {
        format!("kubectl --namespace {} {verb} job/{job}", self.namespace)
    }

    /// Follows one Job.
    pub(crate) fn follow_job(&self, name: &str) -> Following<SeenJob> {
        let selector = ListParams::default().fields(&format!("metadata.name={name}"));
        watch::follow(self, self.api::<Job>(), selector, view::job)
    }

    /// Follows the pods of a Job.
    pub(crate) fn follow_pods(&self, job: &SeenJob) -> Following<SeenPod> {
        watch::follow(self, self.api::<Pod>(), pods_of(job), view::pod)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes a call, and makes it again while the server is away, as long as the patience lasts.
    async fn call<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T, KubeError>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        self.call_for(self.patience, what, call).await
    }

    async fn call_for<T, F>(&self, patience: Duration, what: &str, call: impl Fn() -> F) -> Result<T, KubeError>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let begun = tokio::time::Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let failed = match tokio::time::timeout(CALL_LIMIT, call()).await {
                Ok(Ok(result)) => return Ok(result),
                Ok(Err(error)) if !watch::is_passing(&error) => return Err(self.refused(what, error)),
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            if begun.elapsed() >= patience {
                return Err(self.away(what, patience, failed.as_ref()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn away(&self, what: &str, limit: Duration, error: Option<&kube::Error>) -> KubeError {
        let source = error.map(|error| watch::exact(error).into());
        KubeError::Away { what: what.to_owned(), server: self.server.clone(), limit, source }
    }

    /// A failure that trying again cannot mend.
    fn refused(&self, what: &str, error: kube::Error) -> KubeError {
        match error {
            kube::Error::Api(status) => {
                let said = Said { message: status.message, code: status.code, reason: status.reason.clone() };
                let (what, reason) = (what.to_owned(), status.reason);
                KubeError::Refused { what, code: status.code, reason, source: said.into() }
            }
            other => KubeError::Unusable { server: self.server.clone(), source: watch::exact(&other).into() },
        }
    }
}

/// By the Job's uid: a former Job of the same name may still have pods.
fn pods_of(job: &SeenJob) -> ListParams {
    ListParams::default().labels(&format!("batch.kubernetes.io/controller-uid={}", job.uid))
}

/// Tells an object that was made from one that was there.
fn created<K, V>(answer: Result<K, KubeError>, view: impl Fn(K) -> V) -> Result<Created<V>, KubeError> {
    match answer {
        Ok(object) => Ok(Created::New(view(object))),
        Err(KubeError::Refused { code: 409, .. }) => Ok(Created::Exists),
        Err(error) => Err(error),
    }
}

async fn configuration(access: &Access) -> Result<Config, KubeError> {
    let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| KubeError::Config(error);
    let given = match (&access.kubeconfig, &access.contents) {
        (Some(file), _) => Some(Kubeconfig::read_from(file).map_err(|error| wrong(error.into()))?),
        (None, Some(text)) => Some(Kubeconfig::from_yaml(text).map_err(|error| wrong(error.into()))?),
        (None, None) => None,
    };
    match given {
        Some(kubeconfig) => {
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| wrong(error.into()))
        }
        None if access.context.is_some() => {
            Config::from_kubeconfig(&options).await.map_err(|error| wrong(error.into()))
        }
        None => Config::infer().await.map_err(|error| wrong(error.into())),
    }
}
