//! How the Job controller drives one Indexed Job.
//!
//! As the recordings show: an index that waits for its retry keeps its worker slot; a failed pod is counted, and loses
//! its finalizer, only when its replacement exists; the condition that says how it will end comes before the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::pod::{self, Failures};
use super::store::{Kind, Store, now};
use super::{Pace, State, admission, api};

/// Delays double up to this many times.
const MAX_DOUBLINGS: u32 = 6;

/// A Job on its way.
#[derive(Default)]
pub(super) struct Progress {
    completed: BTreeSet<u32>,
    failed: BTreeSet<u32>,
    /// Pods that count as active, with their index.
    live: BTreeMap<String, u32>,
    /// Pods that were told to go.
    leaving: BTreeSet<String>,
    retries: BTreeMap<u32, Retry>,
    failures: BTreeMap<u32, Failures>,
    succeeded_pods: u32,
    failed_pods: u32,
    started: Option<Instant>,
    /// Type and reason of the condition that comes last.
    ending: Option<(&'static str, &'static str)>,
    announced: bool,
    refusals: u32,
    refused_until: Option<Instant>,
}

/// An index that waits; its failed pod is in no count yet.
struct Retry {
    pod: String,
    at: Instant,
    counts: bool,
}

impl Progress {
    pub(super) fn sync(&mut self, state: &mut State, pace: &Pace, job: &Value) {
        if job["spec"]["suspend"] == true {
            self.suspend(&mut state.store, job);
            return;
        }
        if pod::is_true(job, "Suspended") {
            set_job_condition(&mut state.store, job, "Suspended", "False", "JobResumed");
            pod::event(&mut state.store, job, "Normal", "Resumed", "Job resumed");
            self.started = None;
            return;
        }
        let started = *self.started.get_or_insert_with(Instant::now);
        self.observe(&mut state.store, pace, job);
        self.decide_end(&mut state.store, job, started);
        if self.ending.is_none() {
            self.create_pods(state, pace, job);
        }
        self.write_status(&mut state.store, job);
    }

    /// Looks at the pods: what ended, and how.
    fn observe(&mut self, store: &mut Store, pace: &Pace, job: &Value) {
        self.leaving.retain(|name| store.get(Kind::Pod, name).is_some_and(|pod| !pod::is_over(&pod)));
        let over: Vec<(String, u32)> = self
            .live
            .iter()
            .filter(|(name, _)| store.get(Kind::Pod, name).is_none_or(|pod| pod::is_over(&pod)))
            .map(|(name, index)| (name.clone(), *index))
            .collect();
        for (name, index) in over {
            self.live.remove(&name);
            let Some(ended) = store.get(Kind::Pod, &name) else { continue };
            if ended["status"]["phase"] == "Succeeded" {
                self.completed.insert(index);
                self.retries.remove(&index);
                self.succeeded_pods += 1;
                release(store, &name);
                continue;
            }
            let ignored = pod::is_true(&ended, "DisruptionTarget");
            let failures = self.failures.entry(index).or_default();
            if ignored {
                failures.ignored += 1;
            } else {
                failures.counted += 1;
            }
            let limit = job["spec"]["backoffLimitPerIndex"].as_u64().unwrap_or(u64::MAX);
            if !ignored && (fails_index(job, &ended) || u64::from(failures.counted) > limit) {
                self.failed.insert(index);
                self.failed_pods += 1;
                release(store, &name);
            } else {
                let doublings = failures.counted.clamp(1, MAX_DOUBLINGS) - 1;
                let at = Instant::now() + pace.backoff * 2u32.pow(doublings);
                self.retries.insert(index, Retry { pod: name, at, counts: !ignored });
            }
        }
    }

    /// Sets how the Job ends, once that is clear.
    fn decide_end(&mut self, store: &mut Store, job: &Value, started: Instant) {
        if self.ending.is_some() {
            return;
        }
        let completions = job["spec"]["completions"].as_u64().unwrap_or(1);
        let deadline = job["spec"]["activeDeadlineSeconds"].as_u64().map(Duration::from_secs);
        let max_failed = job["spec"]["maxFailedIndexes"].as_u64();
        let finished = (self.completed.len() + self.failed.len()) as u64;
        self.ending = if deadline.is_some_and(|deadline| started.elapsed() > deadline) {
            Some(("Failed", "DeadlineExceeded"))
        } else if max_failed.is_some_and(|max| self.failed.len() as u64 > max) {
            Some(("Failed", "MaxFailedIndexesExceeded"))
        } else if finished < completions {
            None
        } else if self.failed.is_empty() {
            Some(("Complete", "CompletionsReached"))
        } else {
            Some(("Failed", "FailedIndexes"))
        };
        if self.ending.is_some() {
            // The pods that are killed now count as failed, their indexes do not.
            self.failed_pods += u32::try_from(self.live.len()).expect("few pods");
            self.stop_pods(store);
        }
    }

    fn stop_pods(&mut self, store: &mut Store) {
        for name in std::mem::take(&mut self.live).into_keys() {
            store.update(Kind::Pod, &name, api::mark_deleted);
            release(store, &name);
            self.leaving.insert(name);
        }
        for retry in std::mem::take(&mut self.retries).into_values() {
            release(store, &retry.pod);
        }
    }

    /// Makes pods for the lowest unfinished indexes; those in back-off keep their slot empty.
    fn create_pods(&mut self, state: &mut State, pace: &Pace, job: &Value) {
        if self.refused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let completions = job["spec"]["completions"].as_u64().unwrap_or(1);
        let parallelism = usize::try_from(job["spec"]["parallelism"].as_u64().unwrap_or(1)).expect("it fits");
        let slots = parallelism.saturating_sub(self.live.len());
        let active: BTreeSet<u32> = self.live.values().copied().collect();
        let next: Vec<u32> = (0..u32::try_from(completions).expect("it fits"))
            .filter(|index| !self.completed.contains(index) && !self.failed.contains(index) && !active.contains(index))
            .take(slots)
            .filter(|index| self.retries.get(index).is_none_or(|retry| retry.at <= Instant::now()))
            .collect();
        for index in next {
            let refused = state.faults.refused_pods.clone();
            if let Some(message) = refused.or_else(|| admission::refusal(&state.store, job)) {
                let message = format!("Error creating: pods \"{}-{index}-\" is forbidden: {message}", pod::name(job));
                pod::event(&mut state.store, job, "Warning", "FailedCreate", &message);
                self.refusals += 1;
                self.refused_until = Some(Instant::now() + pace.backoff * 2u32.pow(self.refusals.min(MAX_DOUBLINGS)));
                return;
            }
            let failures = self.failures.get(&index).copied().unwrap_or_default();
            let new = pod::new(&mut state.store, job, index, failures);
            let name = pod::name(&new).to_owned();
            state.store.put(Kind::Pod, new);
            pod::event(&mut state.store, job, "Normal", "SuccessfulCreate", &format!("Created pod: {name}"));
            self.live.insert(name, index);
            if let Some(retry) = self.retries.remove(&index) {
                self.failed_pods += u32::from(retry.counts);
                release(&mut state.store, &retry.pod);
            }
        }
    }

    fn suspend(&mut self, store: &mut Store, job: &Value) {
        if self.started.take().is_some() || !pod::is_true(job, "Suspended") {
            self.stop_pods(store);
            set_job_condition(store, job, "Suspended", "True", "JobSuspended");
            pod::event(store, job, "Normal", "Suspended", "Job suspended");
        }
        self.leaving.retain(|name| store.get(Kind::Pod, name).is_some_and(|pod| !pod::is_over(&pod)));
        self.write_status(store, job);
    }

    fn write_status(&mut self, store: &mut Store, job: &Value) {
        let Some(stored) = store.get(Kind::Job, pod::name(job)) else { return };
        let mut status = stored["status"].clone();
        self.fill_counts(store, &mut status);
        if self.started.is_none() {
            status.as_object_mut().expect("a status is an object").remove("startTime");
        } else if status["startTime"].is_null() {
            status["startTime"] = now();
        }
        if let Some((kind, reason)) = self.ending {
            let first = if kind == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
            if !self.announced {
                add_condition(&mut status, first, reason);
                self.announced = true;
            } else if self.leaving.is_empty() {
                add_condition(&mut status, kind, reason);
                if kind == "Complete" {
                    status["completionTime"] = now();
                }
            }
        }
        if status == stored["status"] {
            return;
        }
        let ended = self.ending.filter(|(kind, _)| pod::is_true(&json!({ "status": status }), kind));
        store.update(Kind::Job, pod::name(job), |job| job["status"] = status);
        match ended {
            Some(("Complete", _)) => pod::event(store, job, "Normal", "Completed", "Job completed"),
            Some((_, reason)) => pod::event(store, job, "Warning", reason, "Job has failed"),
            None => {}
        }
    }

    fn fill_counts(&self, store: &Store, status: &mut Value) {
        let is_ready = |name: &&String| store.get(Kind::Pod, name).is_some_and(|pod| pod::is_true(&pod, "Ready"));
        let ready = self.live.keys().filter(is_ready).count();
        let counts = [
            ("active", self.live.len()),
            ("succeeded", self.succeeded_pods as usize),
            ("failed", self.failed_pods as usize),
        ];
        let fields = status.as_object_mut().expect("a status is an object");
        for (name, count) in counts {
            // Absent when 0.
            if count > 0 {
                fields.insert(name.to_owned(), count.into());
            } else {
                fields.remove(name);
            }
        }
        fields.insert("ready".to_owned(), ready.into());
        fields.insert("terminating".to_owned(), self.leaving.len().into());
        fields.insert("uncountedTerminatedPods".to_owned(), json!({}));
        fields.insert("failedIndexes".to_owned(), ranges(&self.failed).into());
        if !self.completed.is_empty() {
            fields.insert("completedIndexes".to_owned(), ranges(&self.completed).into());
        }
    }
}

/// Takes the controller's hold of a pod away.
fn release(store: &mut Store, name: &str) {
    store.update(Kind::Pod, name, |pod| pod["metadata"]["finalizers"] = Value::Null);
}

/// Whether a rule of the failure policy says that the index has failed for good.
fn fails_index(job: &Value, pod: &Value) -> bool {
    let Some(code) = pod::exit_code(pod) else { return false };
    let rules = job["spec"]["podFailurePolicy"]["rules"].as_array();
    rules.into_iter().flatten().filter(|rule| rule["action"] == "FailIndex").any(|rule| {
        rule["onExitCodes"]["values"].as_array().is_some_and(|values| values.iter().any(|value| *value == code))
    })
}

fn set_job_condition(store: &mut Store, job: &Value, kind: &str, status: &str, reason: &str) {
    store.update(Kind::Job, pod::name(job), |job| {
        let conditions = &mut job["status"]["conditions"];
        let mut list = conditions.as_array().cloned().unwrap_or_default();
        list.retain(|condition| condition["type"] != kind);
        list.push(json!({ "type": kind, "status": status, "reason": reason, "lastProbeTime": now(), "lastTransitionTime": now() }));
        *conditions = list.into();
    });
}

fn add_condition(status: &mut Value, kind: &str, reason: &str) {
    let condition = json!({ "type": kind, "status": "True", "reason": reason, "lastProbeTime": now(), "lastTransitionTime": now() });
    match status["conditions"].as_array_mut() {
        Some(conditions) if conditions.iter().any(|known| known["type"] == kind) => {}
        Some(conditions) => conditions.push(condition),
        None => status["conditions"] = json!([condition]),
    }
}

/// Runs of three or more as `a-b`, two neighbours as `a,b`.
fn ranges(indexes: &BTreeSet<u32>) -> String {
    let indexes: Vec<u32> = indexes.iter().copied().collect();
    let runs = indexes.chunk_by(|a, b| a + 1 == *b).flat_map(|run| match run {
        [first, _, .., last] => vec![format!("{first}-{last}")],
        short => short.iter().map(ToString::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(",")
}
