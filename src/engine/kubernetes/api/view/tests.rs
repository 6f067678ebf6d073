//! The recorded traffic of a real cluster: every line is understood, and the views say what happened.

use kube::api::{ObjectList, WatchEvent};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;

fn recording(name: &str) -> Vec<Value> {
    let path = format!("{}/fixtures/kubernetes-recorded/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the recording is there");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// The watched objects of a kind, in order.
fn watched<K: DeserializeOwned + Clone>(name: &str, kind: &str) -> Vec<K> {
    let lines = recording(name);
    let own = lines.iter().filter(|line| line["what"] == "watch" && line["body"]["object"]["kind"] == kind);
    own.filter_map(|line| match serde_json::from_value(line["body"].clone()).expect("an event") {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => Some(object),
        WatchEvent::Bookmark(_) => None,
        WatchEvent::Error(status) => panic!("{status:?}"),
    })
    .collect()
}

fn jobs(name: &str) -> Vec<SeenJob> {
    watched::<Job>(name, "Job").iter().map(job).collect()
}

fn pods(name: &str) -> Vec<SeenPod> {
    watched::<Pod>(name, "Pod").iter().map(pod).collect()
}

#[test]
fn every_recorded_line_is_understood() {
    let folder = format!("{}/fixtures/kubernetes-recorded", env!("CARGO_MANIFEST_DIR"));
    let names = std::fs::read_dir(folder).expect("the recordings are there");
    let mut lines = 0;
    for name in names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")) {
        let Some(name) = name.strip_suffix(".jsonl") else { continue };
        for line in recording(name) {
            let (body, place) = (line["body"].clone(), format!("{name}: {line}"));
            let understood = match (line["what"].as_str(), body["kind"].as_str()) {
                (Some("watch"), _) => match body["object"]["kind"].as_str() {
                    Some("Job") => serde_json::from_value::<WatchEvent<Job>>(body).map(drop),
                    Some("Pod") => serde_json::from_value::<WatchEvent<Pod>>(body).map(drop),
                    _ => serde_json::from_value::<WatchEvent<Event>>(body).map(drop),
                },
                (Some("response"), Some("JobList")) => serde_json::from_value::<ObjectList<Job>>(body).map(drop),
                (Some("response"), Some("PodList")) => serde_json::from_value::<ObjectList<Pod>>(body).map(drop),
                (Some("response"), Some("EventList")) => serde_json::from_value::<ObjectList<Event>>(body).map(drop),
                (Some("response"), Some("Job")) => serde_json::from_value::<Job>(body).map(drop),
                (Some("response"), Some("Status")) => serde_json::from_value::<kube::core::Status>(body).map(drop),
                _ => continue,
            };
            understood.unwrap_or_else(|error| panic!("{error}: {place}"));
            lines += 1;
        }
    }
    assert!(lines > 400, "only {lines} lines were looked at");
}

#[test]
fn the_conditions_that_come_first_are_not_the_end() {
    let ends: Vec<bool> = jobs("02-index-fails-twice").iter().map(|job| job.end.is_some()).collect();
    assert_eq!(ends.iter().filter(|end| **end).count(), 1, "only the last update is the end");
    let last = jobs("02-index-fails-twice").pop().expect("updates");
    let end = last.end.expect("it is over");
    assert_eq!((end.is_complete, end.reason.as_str()), (false, "FailedIndexes"));
    assert_eq!(last.completed.iter().collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(last.failed.iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_resumed_job_is_not_suspended_although_its_condition_stays() {
    let suspended: Vec<bool> = jobs("10-suspend-resume").iter().map(|job| job.is_suspended).collect();
    assert!(suspended.contains(&true));
    assert_eq!(suspended.last(), Some(&false));
}

#[test]
fn an_evicted_pod_is_disrupted_and_one_out_of_memory_says_so() {
    let evicted = pods("04-eviction").into_iter().find(|pod| pod.phase == PodPhase::Failed).expect("an end");
    assert_eq!(evicted.disrupted.expect("it was evicted").reason, "EvictionByEvictionAPI");
    let killed = pods("06-oom-killed").into_iter().find(|pod| pod.phase == PodPhase::Failed).expect("an end");
    assert_eq!(killed.ended.expect("it ended").reason, "OOMKilled");
    assert_eq!(killed.memory_limit.as_deref(), Some("16Mi"));
}

#[test]
fn a_pod_with_a_terminated_container_still_runs() {
    let lagging = |pod: &SeenPod| pod.phase == PodPhase::Running && pod.ended.is_some();
    assert!(pods("01-all-succeed").iter().any(lagging));
}

#[test]
fn what_a_pod_waits_for_is_known() {
    let unschedulable = pods("08-unschedulable").into_iter().find_map(|pod| pod.unschedulable).expect("a message");
    assert!(unschedulable.starts_with("0/1 nodes are available"), "{unschedulable}");
    let mut waits: Vec<String> =
        pods("07b-image-pull-back-off").into_iter().filter_map(|pod| Some(pod.waiting?.reason)).collect();
    waits.dedup();
    assert_eq!(waits, ["ContainerCreating", "ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"]);
}

#[test]
fn the_worker_is_told_from_the_other_containers_of_its_pod() {
    let limits = |memory: &str| serde_json::json!({ "limits": { "memory": memory } });
    let ended = |code: i32| serde_json::json!({ "terminated": { "exitCode": code } });
    let status = |name: &str, state: Value| serde_json::json!({ "name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0 });
    let seen = serde_json::json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [
            { "name": "mesh", "resources": limits("64Mi") }, { "name": "worker", "resources": limits("4Gi") },
        ] },
        "status": { "containerStatuses": [status("mesh", ended(0)), status("worker", ended(5))] },
    });
    let seen = pod(&serde_json::from_value(seen).expect("a pod"));
    assert_eq!(seen.ended.expect("it ended").code, 5);
    assert_eq!(seen.memory_limit.as_deref(), Some("4Gi"));
}

#[test]
fn events_that_warn_are_told_from_ordinary_ones() {
    let events = watched::<Event>("18-failed-create", "Event");
    let warned = warnings(&events);
    let last = warned.last().expect("it warns");
    assert_eq!((last.said.reason.as_str(), last.is_overtaken), ("FailedCreate", false));
    let ordinary = watched::<Event>("04-eviction", "Event");
    assert!(!ordinary.is_empty() && warnings(&ordinary).is_empty());
}
