//! What happens in clusters, brought about by means that each one offers: the fake has to behave like a real one here,
//! and a real one is asked with `DVC_FANOUT_TEST_KUBECONFIG` (see `support/cluster.rs`).

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::Project;
use crate::support::apiserver::faults::Fate;
use crate::support::cluster::{Cluster, Started};

/// A project with the work items `k1`, `k2`, … that wait until a gate is opened.
struct Held {
    project: Project,
    gate: PathBuf,
}

impl Held {
    fn new(cluster: &Cluster, items: usize) -> Self {
        let project = Project::empty();
        let gate = project.root().with_file_name("gate");
        let seen = cluster.seen(project.root()).replace("/project", "/gate");
        write_stages(&project, items, &format!("echo at the gate; until test -e {seen}; do sleep 0.1; done"));
        project.fanout(["plan"]).succeeded();
        Held { project, gate }
    }

    fn open(&self) {
        std::fs::write(&self.gate, "").expect("written");
    }

    /// Starts a launch and waits until all of its work items have begun.
    fn launch(&self, cluster: &Cluster, items: usize) -> Started {
        let mut started = cluster.start(&self.project, &["launch", "--no-check"]);
        for item in 1..=items {
            started.wait_until_said(&format!("k{item}: started in"));
        }
        started
    }

    /// Launches again, to the end; every work item is done then, in so many attempts.
    #[track_caller]
    fn finish(&self, cluster: &Cluster, attempts: &[usize]) {
        self.open();
        let ran = cluster.fanout(&self.project, &["launch", "--no-check"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        self.check(cluster, attempts);
    }

    #[track_caller]
    fn check(&self, cluster: &Cluster, attempts: &[usize]) {
        let status: Value =
            serde_json::from_str(&self.project.fanout(["status", "--format", "json"]).succeeded()).expect("JSON");
        let items = status["items"].as_array().expect("items");
        let found: Vec<(&str, usize)> = items
            .iter()
            .map(|item| {
                let attempt = item["attempt"].as_u64().unwrap_or_default();
                (item["standing"].as_str().expect("a standing"), usize::try_from(attempt).expect("few"))
            })
            .collect();
        let expected: Vec<(&str, usize)> = attempts.iter().map(|attempt| ("done", *attempt)).collect();
        assert_eq!(found, expected, "{status:#}");
        assert_eq!(cluster.names("jobs"), [""; 0], "nothing is left");
    }
}

/// Writes and commits a stage for each work item, with a command to run first.
fn write_stages(project: &Project, items: usize, command: &str) {
    let stages = format!(
        "stages:\n  a:\n    foreach: ${{keys}}\n    do:\n      cmd: {command}; echo ${{item}} > ${{item}}.txt\n      outs:\n      - ${{item}}.txt\n"
    );
    let keys: Vec<String> = (1..=items).map(|item| format!("k{item}")).collect();
    project.write("dvc.yaml", &stages);
    project.write("params.yaml", &format!("keys: [{}]\n", keys.join(", ")));
    project.commit("stages");
}

/// A project whose work items just succeed, planned.
fn plain(items: usize) -> Project {
    let project = Project::empty();
    write_stages(&project, items, "true");
    project.fanout(["plan"]).succeeded();
    project
}

/// The pod of `k1`.
fn first_pod(cluster: &Cluster) -> String {
    let pods = cluster.names("pods");
    pods.into_iter().find(|name| name.contains("-p0-0-")).expect("its pod is there")
}

fn the_job(cluster: &Cluster) -> String {
    let [job] = &cluster.names("jobs")[..] else { panic!("one Job: {:?}", cluster.names("jobs")) };
    job.clone()
}

#[test]
fn an_evicted_pod_is_replaced_and_the_eviction_named() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 2);
    let mut launch = held.launch(&cluster, 2);
    let pod = first_pod(&cluster);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod, "namespace": cluster.namespace },
    });
    assert_eq!(cluster.call("POST", &cluster.core(&format!("pods/{pod}/eviction")), Some(&eviction)).0, 201);
    launch.wait_until_said("k1: lost: EvictionByEvictionAPI: Eviction API: evicting; next attempt in 10 s");
    launch.wait_until_said("attempt 2");
    held.open();
    let (code, said) = launch.wait();
    assert_eq!(code, Some(0), "{said}");
    held.check(&cluster, &[2, 1]);
}

#[test]
fn a_pod_that_somebody_deletes_is_replaced() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 2);
    let mut launch = held.launch(&cluster, 2);
    let pod = first_pod(&cluster);
    assert_eq!(cluster.call("DELETE", &cluster.core(&format!("pods/{pod}")), None).0, 200);
    launch.wait_until_said(&format!("k1: lost: pod `{pod}` was deleted; next attempt in 10 s"));
    held.open();
    let (code, said) = launch.wait();
    assert_eq!(code, Some(0), "{said}");
    held.check(&cluster, &[2, 1]);
}

#[test]
fn a_job_that_somebody_deletes_is_made_again_by_the_next_launch() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 2);
    let launch = held.launch(&cluster, 2);
    let job = the_job(&cluster);
    let background = json!({ "propagationPolicy": "Background" });
    assert_eq!(cluster.call("DELETE", &cluster.jobs(&format!("/{job}")), Some(&background)).0, 200);
    let (code, said) = launch.wait();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("Job `{job}` was deleted by somebody")), "{said}");
    cluster.wait_for("the pods to go", "pods", <[_]>::is_empty);
    held.finish(&cluster, &[2, 2]);
}

#[test]
fn a_launcher_that_is_killed_is_followed_by_one_that_goes_on() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 3);
    let launch = held.launch(&cluster, 2);
    let job = the_job(&cluster);
    launch.signal(Signal::KILL);
    assert_eq!(launch.wait().0, None);
    let status = held.project.fanout(["status"]).succeeded();
    assert!(status.contains(&format!("left to the cluster (Job {job} may still be running)")), "{status}");
    held.finish(&cluster, &[1, 1, 1]);
}

#[test]
fn an_interrupted_launcher_leaves_its_job_and_it_is_looked_after_later() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 2);
    let launch = held.launch(&cluster, 2);
    let job = the_job(&cluster);
    launch.signal(Signal::INT);
    let (code, said) = launch.wait();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains(&format!("Job `{job}` continues without this launcher")), "{said}");
    held.open();
    cluster.wait_for("the Job's end", "jobs", |jobs| !jobs[0]["status"]["completionTime"].is_null());
    held.finish(&cluster, &[1, 1]);
}

#[test]
fn a_terminated_launcher_ends_its_job() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 2);
    let launch = held.launch(&cluster, 2);
    launch.signal(Signal::TERM);
    let (code, said) = launch.wait();
    assert_eq!(code, Some(143), "{said}");
    assert_eq!((cluster.names("jobs"), cluster.names("pods")), (vec![], vec![]));
    held.finish(&cluster, &[2, 2]);
}

#[test]
fn what_is_detached_can_be_followed_and_cancelled() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 2);
    let ran = cluster.fanout(&held.project, &["launch", "--detach"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    cluster.wait_for("two pods that run", "pods", |pods| {
        pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count() == 2
    });
    let logs = |follow: &[&str]| cluster.other(&held.project, &[&["logs", "k1"], follow].concat());
    // Once it has begun.
    while logs(&[]).code != Some(0) {}
    let mut command = held.project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    command.args(["logs", "k1", "--follow"]);
    let mut follow = Started::new(command, held.project.root().parent().expect("it has one"));
    follow.wait_until_said("at the gate");
    let ran = cluster.other(&held.project, &["cancel"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("has ended"), "{ran:#?}");
    assert_eq!(follow.wait().0, Some(0), "nothing more will come");
    assert_eq!((cluster.names("jobs"), cluster.names("pods")), (vec![], vec![]));
    held.finish(&cluster, &[2, 2]);
}

#[test]
fn a_run_is_cancelled_from_another_terminal() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 2);
    let launch = held.launch(&cluster, 2);
    let ran = cluster.other(&held.project, &["cancel"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let (code, said) = launch.wait();
    assert!(code.is_some_and(|code| code > 128), "{code:?}: {said}");
    assert_eq!((cluster.names("jobs"), cluster.names("pods")), (vec![], vec![]));
    held.finish(&cluster, &[2, 2]);
}

#[test]
fn two_runs_share_a_namespace() {
    let cluster = Cluster::new();
    let projects = [plain(3), plain(3)];
    let started = [0, 1].map(|at| cluster.start(&projects[at], &["launch", "--no-check"]));
    for launch in started {
        let (code, said) = launch.wait();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("3 work items done"), "{said}");
    }
    assert_eq!(cluster.names("jobs"), [""; 0]);
}

/// Launches in vain: nothing moves until the launch gives up, and it says why in these words.
#[track_caller]
fn check_stuck(cluster: &Cluster, arguments: &[&str], expected: &str) {
    let project = plain(2);
    let ran = cluster.fanout(&project, &[&["launch", "--stuck-timeout", "25"], arguments].concat());
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(ran.stderr.contains("made no progress for 25 s"), "{ran:#?}");
    let said: Vec<&str> = ran.stderr.lines().filter(|line| line.contains(expected)).collect();
    assert_eq!(said.len(), 2, "once when it was noticed, and as the cause: {ran:#?}");
    assert!(said[1].starts_with("cause: "), "{ran:#?}");
}

#[test]
fn an_image_that_nobody_has_is_named() {
    check_stuck(&Cluster::new(), &["--image", "127.0.0.1:1/none:1"], "Failed to pull image \"127.0.0.1:1/none:1\"");
}

#[test]
fn more_than_any_node_has_is_named() {
    check_stuck(&Cluster::new(), &["--pod-cpus", "5000"], "Insufficient cpu");
}

#[test]
fn a_priority_class_that_does_not_exist_is_named() {
    let expected = "is forbidden: no PriorityClass with name nothing-like-it was found";
    check_stuck(&Cluster::new(), &["--priority-class", "nothing-like-it"], expected);
}

#[test]
fn a_claim_that_does_not_exist_is_named() {
    let cluster = Cluster::new();
    // Behind the volume that holds the project.
    let patch = json!({ "spec": { "volumes": [{ "name": "lost", "persistentVolumeClaim": { "claimName": "nothing-like-it" } }] } });
    check_stuck(
        &cluster,
        &["--pod-template", &patch.to_string()],
        "persistentvolumeclaim \"nothing-like-it\" not found",
    );
}

#[test]
fn a_folder_that_the_node_does_not_have_is_named() {
    let cluster = Cluster::new();
    let patch = json!({ "spec": {
        "volumes": [{ "name": "lost", "hostPath": { "path": "/nothing-like-it", "type": "Directory" } }],
        "containers": [{ "name": "worker", "volumeMounts": [{ "name": "lost", "mountPath": "/lost" }] }],
    } });
    let expected = "FailedMount: MountVolume.SetUp failed for volume \"lost\" : hostPath type check failed: /nothing-like-it is not a directory";
    check_stuck(&cluster, &["--pod-template", &patch.to_string()], expected);
}

#[test]
fn a_quota_that_leaves_no_room_is_named() {
    let cluster = Cluster::new();
    if !limit_pods(&cluster, 0) {
        return;
    }
    check_stuck(&cluster, &[], "exceeded quota: few, requested: pods=1, used: pods=0, limited: pods=0");
}

#[test]
fn a_quota_that_leaves_little_room_is_named_and_worked_with() {
    let cluster = Cluster::new();
    if !limit_pods(&cluster, 1) {
        return;
    }
    let held = Held::new(&cluster, 2);
    let mut launch = held.launch(&cluster, 1);
    launch.wait_until_said("has 1 pods instead of 2: FailedCreate: Error creating: pods");
    assert!(
        launch.said().contains("exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"),
        "{}",
        launch.said()
    );
    held.open();
    let (code, said) = launch.wait();
    assert_eq!(code, Some(0), "{said}");
    held.check(&cluster, &[1, 1]);
}

/// Allows so many pods in the namespace; `false` where it is not the test's own.
fn limit_pods(cluster: &Cluster, pods: u32) -> bool {
    if !cluster.has_own_namespace() {
        return false;
    }
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" },
        "spec": { "hard": { "pods": pods.to_string() } },
    });
    assert_eq!(cluster.call("POST", &cluster.core("resourcequotas"), Some(&quota)).0, 201);
    while cluster.call("GET", &cluster.core("resourcequotas/few"), None).1["status"]["hard"].is_null() {}
    true
}

#[test]
fn a_program_that_the_image_does_not_have_is_named_before_any_work() {
    let cluster = Cluster::new();
    let ran = cluster.fanout(&plain(2), &["launch", "--worker-program", "nothing-like-it"]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("pods do not see what they need"), "{ran:#?}");
    assert!(ran.stderr.contains("exec: \"nothing-like-it\": executable file not found in $PATH"), "{ran:#?}");
}

#[test]
fn a_pod_that_dies_before_its_worker_begins_is_told_by_the_end_of_its_log() {
    let cluster = Cluster::new();
    let project = plain(1);
    let script = cluster.folder().join("script");
    std::fs::write(&script, "echo 'no licence server' >&2; exit 7").expect("written");
    let script = script.to_str().expect("text");
    let ran = cluster.fanout(&project, &["launch", "--no-check", "--retries", "0", "--script", script]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let why = "the worker ended with exit code 7: no licence server";
    assert!(ran.stderr.contains(&format!("failed: k1 ({why})")), "{ran:#?}");
    assert!(project.fanout(["status"]).succeeded().contains(&format!("failed: k1 [0] ({why})")));
    let ran = cluster.other(&project, &["logs", "k1"]);
    assert!(ran.stderr.contains(&format!("cause: {why}")), "{ran:#?}");
}

#[test]
fn a_worker_out_of_memory_is_named_with_its_limit() {
    let cluster = Cluster::new();
    let project = plain(1);
    // It takes whatever it can get.
    let script = cluster.folder().join("script");
    std::fs::write(&script, "exec tail /dev/zero").expect("written");
    let script = script.to_str().expect("text");
    let mut arguments = vec!["launch", "--no-check", "--pod-memory", "64Mi", "--retries", "0"];
    match cluster.fake() {
        Some(server) => server.faults(|faults| faults.fates(0, &[Fate::OomKilled])),
        None => arguments.extend(["--script", script]),
    }
    let ran = cluster.fanout(&project, &arguments);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("OOMKilled: the worker was out of memory at its limit of 64Mi"), "{ran:#?}");
}

/// A kernel may end the command alone, or the worker with it.
#[test]
fn a_command_out_of_memory_is_named_with_the_limit() {
    let cluster = Cluster::new();
    if cluster.fake().is_some() {
        // Its pods are processes without limits.
        return;
    }
    let project = Project::empty();
    write_stages(&project, 1, "exec tail /dev/zero");
    project.fanout(["plan"]).succeeded();
    let ran = cluster.fanout(&project, &["launch", "--no-check", "--pod-memory", "300Mi", "--retries", "0"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let command = "out of memory: the kernel ended a process at the limit of 300Mi";
    let worker = "OOMKilled: the worker was out of memory at its limit of 300Mi";
    assert!(ran.stderr.contains(command) || ran.stderr.contains(worker), "{ran:#?}");
}

#[test]
fn a_job_that_takes_too_long_is_ended_by_the_cluster() {
    let cluster = Cluster::new();
    let held = Held::new(&cluster, 1);
    let ran = cluster.fanout(&held.project, &["launch", "--no-check", "--keep", "never", "--job-timeout", "8"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k1: FAILED: the Job took longer than its deadline"), "{ran:#?}");
    held.finish(&cluster, &[2]);
}

#[test]
fn the_sample_role_is_enough_and_less_is_named() {
    let cluster = Cluster::new();
    if cluster.fake().is_some() || !cluster.has_own_namespace() {
        // The fake grants rights verb by verb only, which `engine.rs` has it do.
        return;
    }
    let project = plain(2);
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "jenkins" } });
    assert_eq!(cluster.call("POST", &cluster.core("serviceaccounts"), Some(&account)).0, 201);
    let kubeconfig = cluster.kubeconfig_of("jenkins");
    let launch = ["launch", "--kubeconfig", kubeconfig.to_str().expect("text")];
    let ran = cluster.fanout(&project, &launch);
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(ran.stderr.contains("missing: create jobs of group `batch`"), "{ran:#?}");
    assert!(ran.stderr.contains("missing: list events"), "{ran:#?}");
    let group = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", cluster.namespace);
    let role = include_str!("../../contrib/kubernetes/role.yaml");
    for document in role.split("\n---\n") {
        let mut object: Value = serde_yaml::from_str(document).expect("YAML");
        let resource = if object["kind"] == "Role" { "roles" } else { "rolebindings" };
        if let Some(subject) = object["subjects"].get_mut(0) {
            subject["namespace"] = cluster.namespace.clone().into();
        }
        let (code, answer) = cluster.call("POST", &format!("{group}/{resource}"), Some(&object));
        assert_eq!(code, 201, "{answer}");
    }
    let ran = cluster.fanout(&project, &launch);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    std::fs::remove_file(kubeconfig).expect("it was written");
}
