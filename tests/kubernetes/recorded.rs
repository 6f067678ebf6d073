//! Holds the fake API server to what a real one was seen to do.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::support::apiserver::client::{call, watch};
use crate::support::apiserver::faults::{Fate, Faults};
use crate::support::apiserver::{ApiServer, Options};

/// A line of a recording.
struct Line(Value);

impl Line {
    fn is(&self, what: &str, verb: &str) -> bool {
        self.0["what"] == what && self.0["verb"] == verb
    }

    /// The object of a watch event of this kind.
    fn watched(&self, kind: &str) -> Option<&Value> {
        let event = &self.0["body"];
        let is_change = self.0["what"] == "watch" && event["type"] != "BOOKMARK";
        Some(&event["object"]).filter(|object| is_change && object["kind"] == kind)
    }
}

fn recording(name: &str) -> Vec<Line> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kubernetes-recorded");
    let text = fs::read_to_string(folder.join(format!("{name}.jsonl"))).expect("the recording is there");
    text.lines().map(|line| Line(serde_json::from_str(line).expect("a line is JSON"))).collect()
}

/// The Job as it was sent, in the fake's namespace.
fn sent_job(lines: &[Line]) -> Value {
    let create = lines.iter().find(|line| line.is("request", "POST")).expect("the Job is created");
    create.0["body"].clone()
}

/// What a Job's status says, without times and what depends on speed.
fn shape_of_job(job: &Value) -> Value {
    let conditions: Vec<Value> = job["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|condition| json!([condition["type"], condition["status"], condition["reason"]]))
        .collect();
    json!({
        "conditions": conditions,
        "started": !job["status"]["startTime"].is_null(),
        "completed": !job["status"]["completionTime"].is_null(),
    })
}

/// The counts that stand in the end.
fn counts_of_job(job: &Value) -> Value {
    let status = &job["status"];
    // Of a Job that is given up, those that are killed count, and how many run then depends on speed.
    let given_up = |condition: &Value| condition["reason"] == "MaxFailedIndexesExceeded";
    let is_given_up = status["conditions"].as_array().is_some_and(|all| all.iter().any(given_up));
    json!([
        status["succeeded"],
        if is_given_up { &Value::Null } else { &status["failed"] },
        status["active"],
        status["completedIndexes"],
        status["failedIndexes"],
        status["terminating"]
    ])
}

fn shape_of_pod(pod: &Value) -> Value {
    let container = pod["status"]["containerStatuses"][0]["state"].as_object().and_then(|state| state.iter().next());
    let container = container.map(|(name, state)| json!([name, state["reason"], state["exitCode"]]));
    let conditions = pod["status"]["conditions"].as_array();
    let disrupted =
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "DisruptionTarget" && c["status"] == "True"));
    json!({
        "phase": pod["status"]["phase"],
        "container": container,
        "disrupted": disrupted,
        "deleted": !pod["metadata"]["deletionTimestamp"].is_null(),
        "tracked": !pod["metadata"]["finalizers"].is_null(),
        "failures": pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"],
        "ignored": pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-ignored-failure-count"],
    })
}

/// Appends a shape that differs from the last one.
fn note(shapes: &mut Vec<Value>, shape: Value) {
    if shapes.last() != Some(&shape) {
        shapes.push(shape);
    }
}

/// The shapes of a Job and of each of its pods, in order of creation, until the Job is over.
#[derive(Default)]
struct Seen {
    job: Vec<Value>,
    counts: Value,
    pods: IndexMap<String, Vec<Value>>,
}

impl Seen {
    fn job(&mut self, job: &Value) {
        note(&mut self.job, shape_of_job(job));
        self.counts = counts_of_job(job);
    }

    fn pod(&mut self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().expect("pods have names");
        note(self.pods.entry(name.to_owned()).or_default(), shape_of_pod(pod));
    }

    /// The shapes of an index's pods.
    fn pods_of(&self, job_and_index: &str) -> Vec<&Vec<Value>> {
        let own = |name: &str| name.rsplit_once('-').is_some_and(|(owner, _)| owner == job_and_index);
        self.pods.iter().filter(|(name, _)| own(name)).map(|(_, shapes)| shapes).collect()
    }

    fn in_recording(lines: &[Line]) -> Self {
        let mut seen = Seen::default();
        for line in lines {
            if let Some(job) = line.watched("Job") {
                seen.job(job);
            } else if let Some(pod) = line.watched("Pod") {
                seen.pod(pod);
            }
        }
        seen
    }
}

fn start() -> (tempfile::TempDir, ApiServer) {
    let node = tempfile::tempdir().expect("a temporary folder");
    let server = ApiServer::start(Options::new(node.path()));
    (node, server)
}

const JOBS: &str = "/apis/batch/v1/namespaces/test/jobs";
const PODS: &str = "/api/v1/namespaces/test/pods";

/// How long a node is silent when it has nothing left to say.
const QUIET: Duration = Duration::from_secs(3);

fn watch_from_now(address: SocketAddr, path: &str) -> impl Iterator<Item = Value> + use<> {
    let (_, list) = call(address, "GET", path, None);
    let version = list["metadata"]["resourceVersion"].as_str().expect("a list has a version");
    watch(address, &format!("{path}?watch=true&resourceVersion={version}"))
}

/// Runs the recorded Job on the fake and returns what a watcher sees.
fn run_on_fake(name: &str, prepare: impl FnOnce(&ApiServer)) -> Seen {
    let (_node, server) = start();
    prepare(&server);
    let address = server.address();
    let pods = watch_from_now(address, PODS);
    let (sender, seen_pods) = mpsc::channel();
    std::thread::spawn(move || pods.map(|event| event["object"].clone()).try_for_each(|pod| sender.send(pod)));
    let jobs = watch_from_now(address, JOBS);
    let (status, _) = call(address, "POST", JOBS, Some(&sent_job(&recording(name))));
    assert_eq!(status, 201);
    let mut seen = Seen::default();
    for event in jobs {
        seen.job(&event["object"]);
        let is_over = |shape: &Value| {
            ["Complete", "Failed"].iter().any(|kind| shape.to_string().contains(&format!("[\"{kind}\"")))
        };
        if seen.job.last().is_some_and(is_over) {
            break;
        }
    }
    // Pods that were told to end do so after the Job is over.
    while let Ok(pod) = seen_pods.recv_timeout(QUIET) {
        seen.pod(&pod);
    }
    drop(server);
    seen
}

/// The recording and the fake show the same.
#[track_caller]
fn check(name: &str, prepare: impl FnOnce(&ApiServer)) {
    let fake = run_on_fake(name, prepare);
    let real = Seen::in_recording(&recording(name));
    assert_eq!(fake.job, real.job, "{name}: the Job's conditions");
    assert_eq!(fake.counts, real.counts, "{name}: the Job's last counts");
    // Of a Job that is given up, which pods the failed ones leave time for depends on speed; the recorded ones are 0 and 1.
    let is_given_up = real.job.iter().any(|shape| shape.to_string().contains("MaxFailedIndexesExceeded"));
    for index in 0..if is_given_up { 2 } else { 6 } {
        let pods = format!("run-{index}");
        assert_eq!(fake.pods_of(&pods), real.pods_of(&pods), "{name}: pods of index {index}");
    }
}

#[test]
fn a_job_without_failures_goes_as_recorded() {
    check("01-all-succeed", |_| {});
}

#[test]
fn an_index_that_fails_twice_goes_as_recorded() {
    check("02-index-fails-twice", |_| {});
}

#[test]
fn an_index_out_of_memory_goes_as_recorded() {
    check("06-oom-killed", |server| server.faults(|faults| faults.fates(0, &[Fate::OomKilled, Fate::OomKilled])));
}

#[test]
fn a_job_beyond_its_deadline_goes_as_recorded() {
    check("09-active-deadline", |_| {});
}

#[test]
fn too_many_failed_indexes_go_as_recorded() {
    check("11-max-failed-indexes", |_| {});
}

#[test]
fn deleting_answers_as_recorded() {
    for (name, body) in [
        ("12a-delete-background", json!({ "propagationPolicy": "Background" })),
        ("12c-delete-without-policy", Value::Null),
    ] {
        let lines = recording(name);
        let (_node, server) = start();
        let (_, job) = call(server.address(), "POST", JOBS, Some(&sent_job(&lines)));
        let mut body = body;
        if body.is_object() {
            body["preconditions"] = json!({ "uid": job["metadata"]["uid"] });
        }
        let (status, answer) = call(server.address(), "DELETE", &format!("{JOBS}/run"), Some(&body));
        let real =
            lines.iter().find(|line| line.is("response", "DELETE") && line.0["status"] == 200).expect("it is deleted");
        assert_eq!(status, 200);
        assert_eq!(answer["kind"], real.0["body"]["kind"], "{name}");
        assert_eq!(answer["metadata"]["finalizers"], real.0["body"]["metadata"]["finalizers"], "{name}");
    }
}

#[test]
fn refusals_have_the_recorded_form() {
    let (_node, server) = start();
    let job = sent_job(&recording("01-all-succeed"));
    assert_eq!(call(server.address(), "POST", JOBS, Some(&job)).0, 201);
    let again = call(server.address(), "POST", JOBS, Some(&job));
    assert_eq!((again.0, &again.1["reason"]), (409, &json!("AlreadyExists")));
    let wrong = json!({ "propagationPolicy": "Background", "preconditions": { "uid": "00000000-0000-0000-0000-000000000000" } });
    let (status, answer) = call(server.address(), "DELETE", &format!("{JOBS}/run"), Some(&wrong));
    let lines = recording("12a-delete-background");
    let real = lines.iter().find(|line| line.is("response", "DELETE") && line.0["status"] == 409).expect("a conflict");
    assert_eq!((status, &answer["reason"]), (409, &real.0["body"]["reason"]));
    server.faults(|faults| faults.forbid("create", "jobs"));
    let (status, answer) = call(server.address(), "POST", JOBS, Some(&job));
    assert_eq!((status, &answer["reason"]), (403, &json!("Forbidden")));
}

#[test]
fn an_expired_watch_ends_with_the_recorded_error() {
    let (_node, server) = start();
    let address = server.address();
    let events =
        std::thread::spawn(move || watch(address, &format!("{JOBS}?watch=true&resourceVersion=0")).collect::<Vec<_>>());
    while server.requests("watch jobs") == 0 {
        std::thread::yield_now();
    }
    server.faults(Faults::expire_streams);
    let last = events.join().expect("the watch ends").pop().expect("an error");
    let lines = recording("16-watch-expiry");
    let real = lines.iter().find(|line| line.0["body"]["type"] == "ERROR").expect("an error");
    for field in ["kind", "reason", "code", "status"] {
        assert_eq!(last["object"][field], real.0["body"]["object"][field], "{field}");
    }
}
