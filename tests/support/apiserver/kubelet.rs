//! Scheduler and kubelet of the one node: a pod from `Pending` to its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::faults::Fate;
use super::http::{Answer, Request, Response};
use super::pod::{self, event};
use super::process::{CANNOT_START, Process};
use super::store::{Kind, Store, now};
use super::{Cluster, State, api, status};

/// How often processes are looked at.
const TICK: Duration = Duration::from_millis(10);
/// What a container's status takes of its log.
const MESSAGE_LINES: usize = 80;
/// How long an evicted pod works before it is told.
const BEFORE_EVICTION: Duration = Duration::from_millis(50);

/// What the node has.
const NODE_CPUS: u32 = 64;

/// Where a pod is.
enum Stage {
    Running {
        process: Process,
        evicted_at: Option<Instant>,
    },
    /// Its container has ended, its phase lags behind.
    Ended {
        since: Instant,
    },
    /// It stays as it is until it is deleted.
    Stuck,
    Over,
}

pub(super) fn run(cluster: &Cluster) {
    let mut pods: BTreeMap<String, Stage> = BTreeMap::new();
    let mut read_to = 0;
    let mut state = cluster.lock();
    while !cluster.is_stopped() {
        let before = state.store.version();
        for change in state.store.changes_after(read_to, Kind::Pod) {
            let name = pod::name(&change.object).to_owned();
            if change.what == "ADDED" {
                let step = begin(cluster, &mut state, &change.object);
                pods.insert(name, step);
            } else if pod::is_deleted(&change.object) && change.what == "MODIFIED" {
                pods.entry(name).or_insert(Stage::Over);
            }
        }
        // What the kubelet itself has written since is news for it once more, and does nothing.
        read_to = before;
        pods.retain(|name, step| advance(cluster, &mut state, name, step));
        if state.store.version() == before {
            state = cluster.wait(state, TICK);
        } else {
            cluster.changed.notify_all();
        }
    }
}

/// What is in the way of a pod by what it asks for.
fn obstacle(cluster: &Cluster, store: &Store, pod: &Value) -> Option<Fate> {
    let container = &pod["spec"]["containers"][0];
    let nodes = |why: &str| Some(Fate::Unschedulable(format!("0/1 nodes are available: {why}")));
    let cpus: Option<u32> = container["resources"]["requests"]["cpu"].as_str().and_then(|cpus| cpus.parse().ok());
    if cpus.is_some_and(|cpus| cpus > NODE_CPUS) {
        return nodes(
            "1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 \
                      Preemption is not helpful for scheduling.",
        );
    }
    let volumes = || pod["spec"]["volumes"].as_array().into_iter().flatten();
    for claim in volumes().filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str()) {
        if store.get(Kind::Claim, claim).is_none() && !cluster.options.node.join("pvc").join(claim).is_dir() {
            return nodes(&format!("persistentvolumeclaim \"{claim}\" not found. not found"));
        }
    }
    for volume in volumes().filter(|volume| volume["hostPath"]["type"] == "Directory") {
        let path = volume["hostPath"]["path"].as_str().unwrap_or_default();
        if !Path::new(path).is_dir() {
            let name = volume["name"].as_str().unwrap_or_default();
            let what = format!("hostPath type check failed: {path} is not a directory");
            return Some(Fate::FailedMount(format!("MountVolume.SetUp failed for volume \"{name}\" : {what}")));
        }
    }
    // Nobody serves images at port 1 of loopback.
    let is_nowhere = container["image"].as_str().is_some_and(|image| image.starts_with("127.0.0.1:1/"));
    is_nowhere.then_some(Fate::ImagePullBackOff)
}

/// Schedules a pod and starts its container, unless its fate is another.
fn begin(cluster: &Cluster, state: &mut State, new: &Arc<Value>) -> Stage {
    let fate = pod::index(new).and_then(|index| state.faults.next_fate(index));
    let fate = fate.or_else(|| obstacle(cluster, &state.store, new));
    let (store, name) = (&mut state.store, pod::name(new));
    if let Some(Fate::Unschedulable(message)) = &fate {
        event(store, new, "Warning", "FailedScheduling", message);
        let condition =
            json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message });
        store.update(Kind::Pod, name, |pod| set_condition(pod, condition));
        return Stage::Stuck;
    }
    event(store, new, "Normal", "Scheduled", &format!("Successfully assigned {name} to node1"));
    store.update(Kind::Pod, name, |pod| {
        pod["spec"]["nodeName"] = "node1".into();
        set_condition(pod, json!({ "type": "PodScheduled", "status": "True" }));
    });
    match fate {
        Some(Fate::ImagePullBackOff) => {
            let image = &new["spec"]["containers"][0]["image"];
            let message =
                format!("Failed to pull image {image}: failed to resolve reference {image}: connection refused");
            event(store, new, "Warning", "Failed", &message);
            event(store, new, "Warning", "Failed", "Error: ErrImagePull");
            wait(store, name, "ErrImagePull", &message);
            event(store, new, "Normal", "BackOff", &format!("Back-off pulling image {image}"));
            wait(store, name, "ImagePullBackOff", &format!("Back-off pulling image {image}: ErrImagePull: {message}"));
            return Stage::Stuck;
        }
        Some(Fate::NodeLost) => {
            store.update(Kind::Pod, name, |pod| {
                pod["status"]["phase"] = "Running".into();
                set_container(pod, &json!({ "running": { "startedAt": now() } }));
                set_condition(pod, json!({ "type": "Ready", "status": "False" }));
                set_condition(pod, json!({ "type": "ContainersReady", "status": "True" }));
            });
            return Stage::Stuck;
        }
        Some(Fate::FailedMount(message)) => {
            event(store, new, "Warning", "FailedMount", &message);
            wait(store, name, "ContainerCreating", "");
            return Stage::Stuck;
        }
        Some(Fate::Waiting { reason, message }) => {
            event(store, new, "Warning", "Failed", &message);
            wait(store, name, &reason, &message);
            return Stage::Stuck;
        }
        Some(Fate::Duplicated) => duplicate(store, new),
        _ => {}
    }
    wait(store, name, "ContainerCreating", "");
    event(store, new, "Normal", "Pulled", "Container image already present on machine");
    let process = match fate {
        Some(Fate::OomKilled) => Process::ended(137),
        _ => Process::start(&cluster.options, new),
    };
    event(store, new, "Normal", "Started", "Container started");
    store.update(Kind::Pod, name, |pod| {
        pod["status"]["phase"] = "Running".into();
        pod["status"]["startTime"] = now();
        set_condition(pod, json!({ "type": "Ready", "status": "True" }));
        set_container(pod, &json!({ "running": { "startedAt": now() } }));
        if fate == Some(Fate::OomKilled) {
            pod["metadata"]["annotations"]["fake/oom"] = "true".into();
        }
    });
    let evicted_at = (fate == Some(Fate::Evicted)).then(|| Instant::now() + BEFORE_EVICTION);
    Stage::Running { process, evicted_at }
}

/// Moves a pod on; returns whether there is still something to do for it.
fn advance(cluster: &Cluster, state: &mut State, name: &str, step: &mut Stage) -> bool {
    let store = &mut state.store;
    let Some(pod) = store.get(Kind::Pod, name) else { return false };
    match step {
        Stage::Running { process, evicted_at } => {
            if evicted_at.is_some_and(|at| at <= Instant::now()) {
                *evicted_at = None;
                let condition = disruption("PreemptionByScheduler", "preempting to accommodate a higher priority pod");
                store.update(Kind::Pod, name, |pod| {
                    set_condition(pod, condition);
                    api::mark_deleted(pod);
                });
            }
            if pod::is_deleted(&pod) && process.stop(grace(&pod)) {
                event(store, &pod, "Normal", "Killing", "Stopping container worker");
            }
            if let Some(code) = process.exit_code() {
                store.update(Kind::Pod, name, |pod| {
                    end_container(cluster, pod, code);
                    // Of a deleted pod, the phase does not lag behind.
                    if pod::is_deleted(pod) {
                        end_pod(pod);
                    }
                });
                *step = if pod::is_deleted(&pod) { Stage::Over } else { Stage::Ended { since: Instant::now() } };
            }
        }
        Stage::Ended { since } if since.elapsed() >= cluster.options.pace.phase_lag => {
            store.update(Kind::Pod, name, end_pod);
            *step = Stage::Over;
        }
        Stage::Stuck if pod::is_deleted(&pod) => {
            store.update(Kind::Pod, name, |pod| pod["status"]["phase"] = "Failed".into());
            *step = Stage::Over;
        }
        Stage::Over if !pod::is_deleted(&pod) => return false,
        Stage::Over if pod["metadata"]["finalizers"].is_null() => {
            store.delete(Kind::Pod, name);
            return false;
        }
        Stage::Ended { .. } | Stage::Stuck | Stage::Over => {}
    }
    true
}

/// A second pod of the same index, as a node makes that was thought lost.
fn duplicate(store: &mut Store, original: &Value) {
    let mut twin = original.clone();
    twin["metadata"]["uid"] = store.new_uid().into();
    twin["metadata"]["name"] = format!("{}x", pod::name(original)).into();
    twin["metadata"]["finalizers"] = Value::Null;
    store.put(Kind::Pod, twin);
}

fn grace(pod: &Value) -> Duration {
    Duration::from_secs(pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30))
}

fn wait(store: &mut Store, name: &str, reason: &str, message: &str) {
    let mut waiting = json!({ "reason": reason });
    if !message.is_empty() {
        waiting["message"] = message.into();
    }
    store.update(Kind::Pod, name, |pod| set_container(pod, &json!({ "waiting": waiting })));
}

fn end_container(cluster: &Cluster, pod: &mut Value, code: i32) {
    let oom = pod["metadata"]["annotations"]["fake/oom"] == "true";
    let reason = match code {
        0 => "Completed",
        CANNOT_START => "StartError",
        _ if oom => "OOMKilled",
        _ => "Error",
    };
    set_condition(pod, json!({ "type": "Ready", "status": "False" }));
    let mut state = json!({ "terminated": { "exitCode": code, "reason": reason, "startedAt": pod["status"]["startTime"], "finishedAt": now() } });
    let falls_back = pod["spec"]["containers"][0]["terminationMessagePolicy"] == "FallbackToLogsOnError";
    if code != 0 && falls_back {
        let log = lines(&api::read_log(cluster, pod::uid(pod)), false, Some(MESSAGE_LINES));
        state["terminated"]["message"] = log.into();
    }
    set_container(pod, &state);
}

fn end_pod(pod: &mut Value) {
    let succeeded = pod::exit_code(pod) == Some(0);
    pod["status"]["phase"] = if succeeded { "Succeeded" } else { "Failed" }.into();
}

fn set_container(pod: &mut Value, state: &Value) {
    let container = &pod["spec"]["containers"][0];
    let status = json!({
        "name": container["name"], "image": container["image"], "imageID": "", "ready": state["running"].is_object(),
        "restartCount": 0, "state": state,
    });
    pod["status"]["containerStatuses"] = json!([status]);
}

pub(super) fn disruption(reason: &str, message: &str) -> Value {
    json!({ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message })
}

pub(super) fn set_condition(pod: &mut Value, mut condition: Value) {
    condition["lastTransitionTime"] = now();
    condition["lastProbeTime"] = Value::Null;
    let conditions = &mut pod["status"]["conditions"];
    let mut list = conditions.as_array().cloned().unwrap_or_default();
    list.retain(|known| known["type"] != condition["type"]);
    list.push(condition);
    *conditions = list.into();
}

/// Answers `pods/NAME/log`: whole, or followed to the pod's end.
pub(super) fn log(cluster: &Arc<Cluster>, name: &str, request: &Request) -> Answer {
    let state = cluster.lock();
    let Some(pod) = state.store.get(Kind::Pod, name) else { return Answer::Whole(status::not_found(Kind::Pod, name)) };
    drop(state);
    if pod["spec"]["nodeName"].is_null() {
        return Answer::Whole(Response { status: 204, headers: vec![], body: vec![] });
    }
    if let Some(reason) = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str() {
        let message = format!("container \"worker\" in pod \"{name}\" is waiting to start: {reason}");
        return Answer::Whole(status::bad_request(&message));
    }
    let (timestamps, tail) = (request.flag("timestamps"), request.query("tailLines").and_then(|t| t.parse().ok()));
    let uid = pod::uid(&pod).to_owned();
    if !request.flag("follow") {
        return Answer::Whole(Response::text(200, lines(&api::read_log(cluster, &uid), timestamps, tail).into_bytes()));
    }
    let (cluster, name) = (Arc::clone(cluster), name.to_owned());
    Answer::Stream(Box::new(move |chunks| {
        let mut sent = 0;
        loop {
            let state = cluster.lock();
            let over = state.store.get(Kind::Pod, &name).is_none_or(|pod| pod::is_over(&pod));
            let cut = cluster.is_stopped();
            drop(state);
            let text = api::read_log(&cluster, &uid);
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            chunks.send(lines(&text[sent..whole.max(sent)], timestamps, None).as_bytes())?;
            sent = whole.max(sent);
            if over || cut {
                return Ok(!cut);
            }
            std::thread::sleep(TICK);
        }
    }))
}

/// Log lines have a time in front, which is left out unless asked for.
fn lines(log: &str, timestamps: bool, tail: Option<usize>) -> String {
    let all: Vec<&str> = log.lines().collect();
    let skipped = tail.map_or(0, |tail| all.len().saturating_sub(tail));
    let shown = all[skipped..]
        .iter()
        .map(|line| if timestamps { line } else { line.split_once(' ').map_or("", |(_, text)| text) });
    shown.fold(String::new(), |text, line| text + line + "\n")
}
