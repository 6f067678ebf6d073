//! The Job controller's loop: Jobs that come, go and are deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::pod::{is_deleted, is_true, uid};
use super::progress::Progress;
use super::store::{Kind, Store};
use super::{Cluster, State, api};

/// How long the controller sleeps when nothing changes: retries and deadlines come due.
const TICK: Duration = Duration::from_millis(20);

pub(super) fn run(cluster: &Cluster) {
    let mut jobs: BTreeMap<String, Progress> = BTreeMap::new();
    let mut state = cluster.lock();
    while !cluster.is_stopped() {
        let before = state.store.version();
        let found: Vec<Arc<Value>> = state.store.list(Kind::Job).cloned().collect();
        for job in &found {
            sync(cluster, &mut state, &mut jobs, job);
        }
        let gone: Vec<String> =
            jobs.keys().filter(|known| found.iter().all(|job| uid(job) != known.as_str())).cloned().collect();
        for uid in gone {
            jobs.remove(&uid);
            delete_pods(&mut state.store, &uid);
        }
        if state.store.version() == before {
            state = cluster.wait(state, TICK);
        } else {
            cluster.changed.notify_all();
        }
    }
}

fn sync(cluster: &Cluster, state: &mut State, jobs: &mut BTreeMap<String, Progress>, job: &Arc<Value>) {
    if is_deleted(job) {
        finalize(state, jobs, job);
    } else if !is_true(job, "Complete") && !is_true(job, "Failed") {
        let progress = jobs.entry(uid(job).to_owned()).or_default();
        progress.sync(state, &cluster.options.pace, job);
    }
}

/// Does what a deleted Job's finalizer asks for.
fn finalize(state: &mut State, jobs: &mut BTreeMap<String, Progress>, job: &Value) {
    let (name, uid) = (super::pod::name(job), uid(job));
    if job["metadata"]["finalizers"][0] == "orphan" {
        for pod in pods_of(&state.store, uid) {
            state.store.update(Kind::Pod, &pod, |pod| {
                pod["metadata"]["ownerReferences"] = Value::Null;
                pod["metadata"]["finalizers"] = Value::Null;
            });
        }
        jobs.remove(uid);
        state.store.delete(Kind::Job, name);
    } else if delete_pods(&mut state.store, uid) == 0 {
        jobs.remove(uid);
        state.store.delete(Kind::Job, name);
    }
}

fn pods_of(store: &Store, job: &str) -> Vec<String> {
    let owned = store.list(Kind::Pod).filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == job);
    owned.map(|pod| super::pod::name(pod).to_owned()).collect()
}

/// Marks the pods of a Job for deletion; returns how many are still there.
fn delete_pods(store: &mut Store, job: &str) -> usize {
    let pods = pods_of(store, job);
    for name in &pods {
        let pod = store.get(Kind::Pod, name).expect("it was listed");
        if !is_deleted(&pod) || !pod["metadata"]["finalizers"].is_null() {
            store.update(Kind::Pod, name, |pod| {
                pod["metadata"]["finalizers"] = Value::Null;
                api::mark_deleted(pod);
            });
        }
    }
    pods.len()
}
