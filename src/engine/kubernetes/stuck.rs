//! Pods that do not start: noticed, explained once for each obstacle, and not waited for for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::adapters::kube::{Cluster, KubeError};
use crate::model::job::explain::{self, Obstacle};
use crate::model::job::observed::{PodPhase, SeenJob, SeenPod};

/// How long a pod may be pending before anybody asks why.
const PENDING_GRACE: Duration = Duration::from_secs(8);
/// Pods whose events are read in one look; those that wait usually wait for the same thing.
const MAX_ASKED: usize = 3;

/// What stands in the way of a Job.
#[derive(Debug)]
pub(super) struct Watchman {
    pending_since: BTreeMap<String, Instant>,
    without_pods_since: Option<Instant>,
    told: BTreeSet<String>,
    progress: Instant,
    last: Option<Obstacle>,
}

impl Watchman {
    pub(super) fn new() -> Self {
        Watchman {
            pending_since: BTreeMap::new(),
            without_pods_since: None,
            told: BTreeSet::new(),
            progress: Instant::now(),
            last: None,
        }
    }

    /// Something went on: whatever was in the way is so no more.
    pub(super) fn progressed(&mut self) {
        self.progress = Instant::now();
        self.last = None;
    }

    /// Returns the obstacle that nothing got past for too long.
    pub(super) fn is_stuck(&self, limit: Duration) -> Option<&Obstacle> {
        self.last.as_ref().filter(|_| self.progress.elapsed() >= limit)
    }

    /// Looks for obstacles; returns what was not told before.
    pub(super) async fn look(
        &mut self,
        cluster: &Cluster,
        job: &SeenJob,
        pods: &BTreeMap<String, SeenPod>,
        has_queue: bool,
    ) -> Result<Vec<String>, KubeError> {
        let mut found: BTreeMap<String, (Obstacle, usize)> = BTreeMap::new();
        let mut note = |obstacle: Obstacle| {
            found.entry(obstacle.class.clone()).or_insert((obstacle, 0)).1 += 1;
        };
        if job.is_suspended {
            note(suspended(has_queue));
        } else if pods.values().all(|pod| pod.phase.is_over()) && job.active == 0 && job.end.is_none() {
            let since = *self.without_pods_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= PENDING_GRACE
                && let Some(obstacle) = explain::without_pods(&cluster.warnings(&job.uid).await?)
            {
                note(obstacle);
            }
        } else {
            self.without_pods_since = None;
        }
        for obstacle in self.pending(cluster, pods).await? {
            note(obstacle);
        }
        let waits_in_queue = job.is_suspended && has_queue;
        if waits_in_queue || pods.values().any(|pod| pod.phase == PodPhase::Running) {
            self.progressed();
        } else if let Some((obstacle, _)) = found.values().next() {
            self.last = Some(obstacle.clone());
        }
        let new = found.into_values().filter(|(obstacle, _)| self.told.insert(obstacle.class.clone()));
        Ok(new.map(|(obstacle, count)| message(&job.name, &obstacle, count)).collect())
    }

    /// The obstacles of pods that have been pending for a while.
    async fn pending(
        &mut self,
        cluster: &Cluster,
        pods: &BTreeMap<String, SeenPod>,
    ) -> Result<Vec<Obstacle>, KubeError> {
        self.pending_since.retain(|name, _| pods.get(name).is_some_and(|pod| pod.phase == PodPhase::Pending));
        let mut obstacles = vec![];
        let mut asked = 0;
        for pod in pods.values().filter(|pod| pod.phase == PodPhase::Pending) {
            let since = *self.pending_since.entry(pod.name.clone()).or_insert_with(Instant::now);
            if since.elapsed() < PENDING_GRACE {
                continue;
            }
            let warnings = if asked < MAX_ASKED && pod.unschedulable.is_none() {
                asked += 1;
                cluster.warnings(&pod.uid).await?
            } else {
                vec![]
            };
            obstacles.extend(explain::pending(pod, &warnings));
        }
        Ok(obstacles)
    }
}

/// Kueue admits a Job when its quota allows; that may take days, and is no fault.
fn suspended(has_queue: bool) -> Obstacle {
    let text = if has_queue { "it waits to be admitted by its queue" } else { "somebody suspended it" };
    Obstacle { class: "Suspended".to_owned(), text: text.to_owned() }
}

fn message(job: &str, obstacle: &Obstacle, pods: usize) -> String {
    match obstacle.class.as_str() {
        "Suspended" => format!("Job `{job}` does not run: {}", obstacle.text),
        "FailedCreate" => format!("Job `{job}` has no pods: {}", obstacle.text),
        _ if pods == 1 => format!("1 pod of Job `{job}` does not start: {}", obstacle.text),
        _ => format!("{pods} pods of Job `{job}` do not start: {}", obstacle.text),
    }
}
