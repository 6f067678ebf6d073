//! Pods that do not start: noticed, explained once for each obstacle, and not waited for for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::kubernetes::api::{Cluster, KubeError};
use crate::engine::kubernetes::job::explain::{self, Obstacle};
use crate::engine::kubernetes::job::observed::{PodPhase, SeenJob, SeenPod};

/// How long a pod may be pending before anybody asks why.
const PENDING_GRACE: Duration = Duration::from_secs(8);
/// How often a Job that gets fewer pods than it may have is asked for the reason.
const REFUSALS: Duration = Duration::from_secs(30);
/// How many times as long as with a known obstacle is waited without one.
const UNEXPLAINED: u32 = 4;
/// Pods whose events are read in one look; those that wait usually wait for the same thing.
const MAX_ASKED: usize = 3;

/// What stands in the way of a Job.
#[derive(Debug)]
pub(super) struct Watchman {
    pending_since: BTreeMap<String, Instant>,
    /// Since when it has no pods, or too few.
    lacks_since: Option<Instant>,
    asked_at: Option<Instant>,
    told: BTreeSet<String>,
    progress: Instant,
    last: Option<Obstacle>,
}

impl Watchman {
    pub(super) fn new() -> Self {
        Watchman {
            pending_since: BTreeMap::new(),
            lacks_since: None,
            asked_at: None,
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

    /// Returns what nothing got past for too long, and for how long.
    pub(super) fn is_stuck(&self, limit: Duration) -> Option<(&str, Duration)> {
        let (cause, limit) = match &self.last {
            Some(obstacle) => (&*obstacle.text, limit),
            // It may be a large image; but not for ever.
            None => ("no pod runs, and the cluster does not say why", limit * UNEXPLAINED),
        };
        (self.progress.elapsed() >= limit).then_some((cause, limit))
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
        } else if let Some(obstacle) = self.refusal(cluster, job, pods).await? {
            note(obstacle);
        }
        for obstacle in self.pending(cluster, pods).await? {
            note(obstacle);
        }
        pods.values().filter_map(explain::running).for_each(&mut note);
        let waits_in_queue = job.is_suspended && has_queue;
        if waits_in_queue || pods.values().any(SeenPod::is_at_work) {
            self.progressed();
        } else if let Some((obstacle, _)) = found.values().next() {
            self.last = Some(obstacle.clone());
        }
        let new = found.into_values().filter(|(obstacle, _)| self.told.insert(obstacle.class.clone()));
        Ok(new.map(|(obstacle, count)| message(job, &obstacle, count)).collect())
    }

    /// Why pods of a Job are not even made, once it has lacked some for a while.
    async fn refusal(
        &mut self,
        cluster: &Cluster,
        job: &SeenJob,
        pods: &BTreeMap<String, SeenPod>,
    ) -> Result<Option<Obstacle>, KubeError> {
        if job.end.is_some() || job.active >= job.wanted() {
            self.lacks_since = None;
            return Ok(None);
        }
        if self.lacks_since.get_or_insert_with(Instant::now).elapsed() < PENDING_GRACE {
            return Ok(None);
        }
        // With none at all it may be stuck, which is looked at each time; else once in a while is enough.
        let has_some = job.active > 0 || pods.values().any(|pod| !pod.phase.is_over());
        if has_some && self.asked_at.is_some_and(|at| at.elapsed() < REFUSALS) {
            return Ok(None);
        }
        self.asked_at = Some(Instant::now());
        Ok(explain::without_pods(&cluster.warnings(&job.uid).await?))
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

fn message(seen: &SeenJob, obstacle: &Obstacle, pods: usize) -> String {
    let job = &seen.name;
    match obstacle.class.as_str() {
        "FailedCreate" if seen.active > 0 => {
            format!("Job `{job}` has {} pods instead of {}: {}", seen.active, seen.wanted(), obstacle.text)
        }
        "Suspended" => format!("Job `{job}` does not run: {}", obstacle.text),
        "FailedCreate" => format!("Job `{job}` has no pods: {}", obstacle.text),
        class if class.starts_with("NodeLost") => {
            format!("{pods} of the pods of Job `{job}` may be lost: {}", obstacle.text)
        }
        _ if pods == 1 => format!("1 pod of Job `{job}` does not start: {}", obstacle.text),
        _ => format!("{pods} pods of Job `{job}` do not start: {}", obstacle.text),
    }
}
