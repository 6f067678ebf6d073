//! Objects as the API has them, reduced to what is looked at.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::engine::kubernetes::job::indexes::IndexSet;
use crate::engine::kubernetes::job::manifest::{CONTAINER, RUN, SPEC_HASH};
use crate::engine::kubernetes::job::observed::{ContainerEnd, JobEnd, PodPhase, Said, SeenJob, SeenPod, Warning};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const DISRUPTION: &str = "DisruptionTarget";

pub(super) fn job(job: &Job) -> SeenJob {
    let status = job.status.clone().unwrap_or_default();
    // A list that does not parse would be the server's bug; the pods and the results say the same.
    let indexes = |list: Option<String>| IndexSet::parse(&list.unwrap_or_default()).unwrap_or_default();
    let mut conditions = status.conditions.unwrap_or_default();
    conditions.retain(|condition| condition.status == "True");
    let failing = conditions.iter().find(|condition| condition.type_ == "FailureTarget");
    let failing = failing.map(|condition| condition.reason.clone().unwrap_or_default());
    let end = conditions.into_iter().find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed"));
    SeenJob {
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        run: job.annotations().get(RUN).cloned(),
        spec_hash: job.annotations().get(SPEC_HASH).cloned(),
        is_suspended: job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false),
        is_deleted: job.metadata.deletion_timestamp.is_some(),
        parallelism: number(job.spec.as_ref().and_then(|spec| spec.parallelism)),
        completions: number(job.spec.as_ref().and_then(|spec| spec.completions)),
        active: number(status.active),
        completed: indexes(status.completed_indexes),
        failed: indexes(status.failed_indexes),
        failing,
        end: end.map(|condition| JobEnd {
            is_complete: condition.type_ == "Complete",
            reason: condition.reason.unwrap_or_default(),
            message: condition.message.unwrap_or_default(),
        }),
    }
}

/// A count that is absent when it is 0.
fn number(count: Option<i32>) -> u32 {
    count.and_then(|count| count.try_into().ok()).unwrap_or(0)
}

pub(super) fn pod(pod: &Pod) -> SeenPod {
    let status = pod.status.clone().unwrap_or_default();
    // There may be others beside the worker: a cluster's own, or those of a patch.
    let statuses = status.container_statuses.unwrap_or_default();
    let state = statuses.into_iter().find(|status| status.name == CONTAINER).and_then(|status| status.state);
    let (waiting, terminated) = state.map_or((None, None), |state| (state.waiting, state.terminated));
    let conditions = status.conditions.unwrap_or_default();
    let condition = |kind: &str, value: &str| {
        let found = conditions.iter().find(|condition| condition.type_ == kind && condition.status == value);
        found.map(|condition| Said {
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        })
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let limits = containers
        .filter(|container| container.name == CONTAINER)
        .find_map(|container| container.resources.as_ref()?.limits.as_ref());
    SeenPod {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        index: pod.labels().get(INDEX).and_then(|index| index.parse().ok()),
        phase: match status.phase.as_deref() {
            Some("Succeeded") => PodPhase::Succeeded,
            Some("Failed") => PodPhase::Failed,
            // `Unknown` is a node that does not answer: the controller decides over its pods in time.
            Some("Running" | "Unknown") => PodPhase::Running,
            Some(_) | None => PodPhase::Pending,
        },
        failures_before: pod.annotations().get(FAILURES).and_then(|count| count.parse().ok()).unwrap_or(0),
        waiting: waiting.map(|waiting| Said {
            reason: waiting.reason.unwrap_or_default(),
            message: waiting.message.unwrap_or_default(),
        }),
        ended: terminated.map(|ended| ContainerEnd {
            code: ended.exit_code,
            reason: ended.reason.unwrap_or_default(),
            message: ended.message.unwrap_or_default(),
        }),
        unschedulable: condition("PodScheduled", "False").map(|said| said.message),
        is_deleted: pod.metadata.deletion_timestamp.is_some(),
        disrupted: condition(DISRUPTION, "True"),
        // A kubelet says both of a pod; of a node that is silent, the cluster takes back the first alone.
        lost_node: (condition("Ready", "False").is_some_and(|said| said.reason != "ReadinessGatesNotReady")
            && condition("ContainersReady", "True").is_some())
        .then(|| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()))
        .flatten(),
        failed: status.reason.map(|reason| Said { reason, message: status.message.unwrap_or_default() }),
        memory_limit: limits.and_then(|limits| limits.get("memory")).map(|limit| limit.0.clone()),
    }
}

/// Returns the warnings among the events of an object, the oldest first.
pub(super) fn warnings(events: &[Event]) -> Vec<Warning> {
    let mut events: Vec<&Event> = events.iter().collect();
    let is_warning = |event: &Event| event.type_.as_deref() == Some("Warning");
    // Most are dated to the second, within which a warning has the last word.
    events.sort_by_key(|event| (last_seen(event).map(Timestamp::as_second), is_warning(event)));
    let ordinary = events.iter().rposition(|event| !is_warning(event));
    let warning = |(at, event): (usize, &&Event)| {
        let message = event.message.clone().unwrap_or_default();
        let said = Said { reason: event.reason.clone().unwrap_or_default(), message };
        let is_overtaken = ordinary.is_some_and(|ordinary| at < ordinary);
        is_warning(event).then_some(Warning { said, is_overtaken })
    };
    events.iter().enumerate().filter_map(warning).collect()
}

/// Schedulers write other times than kubelets and controllers.
fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let plain = [&event.last_timestamp, &event.first_timestamp].into_iter().flatten().map(|time| time.0).next();
    series.or(plain).or_else(|| event.event_time.as_ref().map(|time| time.0))
}

#[cfg(test)]
mod tests;
