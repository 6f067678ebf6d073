//! Pods as the Job controller makes them.

use serde_json::{Value, json};

use super::store::{Store, now};

pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// How often an index failed before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    pub(super) counted: u32,
    pub(super) ignored: u32,
}

/// Returns the next pod of an index.
pub(super) fn new(store: &mut Store, job: &Value, index: u32, failures: Failures) -> Value {
    let uid = store.new_uid();
    let name = job["metadata"]["name"].as_str().expect("a Job has a name");
    let template = &job["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["name"] = format!("{name}-{index}-{}", suffix(&uid)).into();
    metadata["generateName"] = format!("{name}-{index}-").into();
    metadata["namespace"] = job["metadata"]["namespace"].clone();
    metadata["uid"] = uid.into();
    metadata["creationTimestamp"] = now();
    metadata["labels"][INDEX] = index.to_string().into();
    metadata["annotations"][INDEX] = index.to_string().into();
    metadata["annotations"]["batch.kubernetes.io/job-index-failure-count"] = failures.counted.to_string().into();
    if failures.ignored > 0 {
        metadata["annotations"]["batch.kubernetes.io/job-index-ignored-failure-count"] =
            failures.ignored.to_string().into();
    }
    metadata["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }]);
    metadata["finalizers"] = json!([TRACKING]);
    let mut spec = template["spec"].clone();
    spec["hostname"] = format!("{name}-{index}").into();
    let variable = json!({
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": format!("metadata.labels['{INDEX}']") } },
    });
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        match container["env"].as_array_mut() {
            Some(env) => env.push(variable.clone()),
            None => container["env"] = json!([variable]),
        }
    }
    let status = json!({ "phase": "Pending", "qosClass": "BestEffort" });
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status })
}

/// Returns five characters as Kubernetes puts them behind a pod's name, the same for the same uid.
fn suffix(uid: &str) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = u64::from_str_radix(&uid[24..], 16).expect("uids end in hex").wrapping_mul(7_919_777);
    let mut text = String::new();
    for _ in 0..5 {
        text.push(char::from(LETTERS[usize::try_from(number % 27).expect("below 27")]));
        number /= 27;
    }
    text
}

/// Returns the index that a pod works on; `None` for one of no Job.
pub(super) fn index(pod: &Value) -> Option<u32> {
    pod["metadata"]["labels"][INDEX].as_str()?.parse().ok()
}

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("objects have names")
}

pub(super) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().expect("objects have uids")
}

pub(super) fn is_deleted(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Whether its phase is an end.
pub(super) fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

pub(super) fn exit_code(pod: &Value) -> Option<i64> {
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
}

/// Records an event; the same one again raises its count.
pub(super) fn event(store: &mut Store, about: &Value, kind: &str, reason: &str, message: &str) {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    let mut hash = DefaultHasher::new();
    (uid(about), reason, message).hash(&mut hash);
    let name = format!("{}.{:016x}", name(about), hash.finish());
    let scheduler = matches!(reason, "Scheduled" | "FailedScheduling");
    if !scheduler && store.get(super::store::Kind::Event, &name).is_some() {
        store.update(super::store::Kind::Event, &name, |event| {
            event["count"] = (event["count"].as_u64().unwrap_or(1) + 1).into();
            event["lastTimestamp"] = now();
        });
        return;
    }
    let mut event = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": { "name": name, "namespace": about["metadata"]["namespace"], "uid": store.new_uid(), "creationTimestamp": now() },
        "involvedObject": {
            "kind": about["kind"], "namespace": about["metadata"]["namespace"], "name": about["metadata"]["name"],
            "uid": about["metadata"]["uid"], "apiVersion": about["apiVersion"],
        },
        "reason": reason, "message": message, "type": kind, "source": {},
        "firstTimestamp": null, "lastTimestamp": null, "eventTime": null, "reportingComponent": "", "reportingInstance": "",
    });
    if scheduler {
        event["eventTime"] = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into();
    } else {
        event["firstTimestamp"] = now();
        event["lastTimestamp"] = now();
        event["count"] = 1.into();
    }
    store.put(super::store::Kind::Event, event);
}
