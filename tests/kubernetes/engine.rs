//! The engine against the fake API server: what it makes of what happens in a cluster.

use std::time::Duration;

use serde_json::json;

use super::bench::{Bench, Does};
use crate::support::apiserver::client::call;
use crate::support::apiserver::faults::{Fate, Faults};

const JOBS: &str = "/apis/batch/v1/namespaces/science/jobs";

#[track_caller]
fn terminate(child: &std::process::Child) {
    let id = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
}

/// Every attempt succeeds.
fn fine(_index: usize, _attempt: u32) -> Does {
    Does::Succeed
}

#[test]
fn a_phase_runs_as_one_job_and_leaves_nothing_behind() {
    let bench = Bench::new(5, fine);
    let ran = bench.launch(&["--jobs", "2"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let all: Vec<String> = (0..5).map(|index| format!("{index}.1 succeeded")).collect();
    assert_eq!(bench.endings(), all);
    assert!(bench.server.objects("jobs").is_empty());
    bench.server.wait_for("the pods to go", "pods", <[_]>::is_empty);
}

#[test]
fn a_second_launch_has_nothing_to_do() {
    let bench = Bench::new(3, fine);
    assert_eq!(bench.launch(&[]).code, Some(0));
    let created = bench.server.requests("create jobs");
    assert_eq!(bench.launch(&[]).code, Some(0));
    assert_eq!(bench.server.requests("create jobs"), created);
}

#[test]
fn a_failed_command_is_not_tried_again_and_the_others_run() {
    let bench = Bench::new(3, |index, _| if index == 1 { Does::Fail } else { Does::Succeed });
    let ran = bench.launch(&[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(bench.endings(), ["0.1 succeeded", "1.1 failed", "2.1 succeeded"]);
    assert_eq!(bench.job()["status"]["failedIndexes"], "1", "failed Jobs are kept");
}

#[test]
fn too_many_failures_in_one_job_end_the_phases_behind_it() {
    let bench = Bench::in_phases(&[1, 1], |_, _| Does::Fail);
    let ran = bench.launch(&["--fail-fast"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(bench.endings(), ["0.1 failed"], "the second phase does not run");
    assert!(ran.stderr.contains("too many work items have failed: starting no more"), "{ran:?}");
}

#[test]
fn failures_of_all_phases_count_together() {
    let bench = Bench::in_phases(&[2, 2, 1], |index, _| if index % 2 == 0 { Does::Fail } else { Does::Succeed });
    let ran = bench.launch(&["--no-check", "--jobs", "1", "--max-failed", "2"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(bench.endings()[..3], ["0.1 failed", "1.1 succeeded", "2.1 failed"], "{ran:?}");
    assert!(!bench.endings().iter().any(|ending| ending.starts_with("4.")), "the third phase does not run: {ran:?}");
    assert!(ran.stderr.contains("too many work items have failed: starting no more"), "{ran:?}");
}

#[test]
fn a_failed_job_is_followed_by_another_one_when_launched_again() {
    let bench = Bench::new(3, |index, attempt| if index == 1 && attempt == 1 { Does::Fail } else { Does::Succeed });
    assert_eq!(bench.launch(&[]).code, Some(1));
    bench.project.fanout(["retry"]).succeeded();
    let ran = bench.launch(&["--keep", "always"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(bench.endings(), ["0.1 succeeded", "1.1 failed", "1.2 succeeded", "2.1 succeeded"]);
    let jobs = bench.server.objects("jobs");
    assert_eq!(jobs.iter().map(|job| &job["spec"]["completions"]).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn a_service_that_fails_is_tried_again() {
    let bench = Bench::new(2, |index, attempt| if index == 0 && attempt < 3 { Does::BreakDown } else { Does::Succeed });
    let ran = bench.launch(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(bench.endings(), ["0.1 tool_failed again", "0.2 tool_failed again", "0.3 succeeded", "1.1 succeeded"]);
}

#[test]
fn a_command_is_tried_again_if_asked_for() {
    let bench = Bench::new(2, |index, attempt| if index == 0 && attempt < 2 { Does::Fail } else { Does::Succeed });
    assert_eq!(bench.launch(&["--retries", "1"]).code, Some(0));
    assert_eq!(bench.endings(), ["0.1 failed again", "0.2 succeeded", "1.1 succeeded"]);
}

#[test]
fn a_lost_worker_does_not_count_and_one_out_of_memory_is_named() {
    let bench = Bench::new(2, |index, attempt| if index == 0 && attempt == 1 { Does::Vanish } else { Does::Succeed });
    bench.server.faults(|faults| faults.fates(1, &[Fate::OomKilled, Fate::OomKilled, Fate::OomKilled]));
    let ran = bench.launch(&["--pod-memory", "64Mi"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("OOMKilled: the worker was out of memory at its limit of 64Mi"), "{ran:?}");
    assert_eq!(bench.endings(), ["0.1 tool_failed again", "0.2 succeeded", "1.1 failed"]);
}

#[test]
fn foreign_jobs_and_other_options_are_refused() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    assert_eq!(bench.launch(&["--detach", "--no-check"]).code, Some(0));
    let ran = bench.launch(&["--no-check", "--image", "worker:2"]);
    assert_eq!(ran.code, Some(2), "an image is given once: {ran:?}");
    let ran = bench.launch(&["--no-check", "--tag", "a=b"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("runs already, made from other options"), "{ran:?}");
    let name = bench.job()["metadata"]["name"].as_str().expect("a name").to_owned();
    let delete = json!({ "propagationPolicy": "Background" });
    call(bench.server.address(), "DELETE", &format!("{JOBS}/{name}"), Some(&delete));
    let foreign = json!({ "metadata": { "name": name }, "spec": { "completions": 1, "template": { "spec": { "containers": [] } } } });
    call(bench.server.address(), "POST", JOBS, Some(&foreign));
    let ran = bench.launch(&["--no-check"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("that this run did not create"), "{ran:?}");
}

#[test]
fn a_launch_finds_the_job_of_one_that_was_killed() {
    let bench = Bench::new(4, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let mut child = bench.start(&["--no-check", "--jobs", "2"]);
    bench.server.wait_for("two pods", "pods", |pods| pods.len() == 2);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let before = bench.job();
    let watches = bench.server.requests("watch pods");
    let mut child = bench.start(&["--no-check", "--jobs", "2", "--keep", "always"]);
    bench.wait_for_watches(watches + 1);
    bench.server.faults(|faults| faults.every_pod(None));
    for pod in bench.server.objects("pods") {
        let path = format!("/api/v1/namespaces/science/pods/{}", pod["metadata"]["name"].as_str().expect("a name"));
        call(bench.server.address(), "DELETE", &path, None);
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{}", bench.said());
    assert_eq!(bench.job()["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(bench.endings().len(), 4, "{:?}", bench.endings());
}

#[test]
fn a_lost_answer_to_a_creation_is_no_second_job() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.lose_answers(1));
    let ran = bench.launch(&["--no-check", "--keep", "always"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(bench.server.objects("jobs").len(), 1);
    assert_eq!(bench.server.requests("create jobs"), 2);
}

/// Launches with pods that do not start and waits until that is said; then cancels.
#[track_caller]
fn check_notice(fate: Option<Fate>, refused: Option<&str>, expected: &str) {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| {
        faults.every_pod(fate);
        faults.refuse_pods(refused);
    });
    let ran = bench.launch(&["--no-check", "--stuck-timeout", "12"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let notices = bench.notices();
    assert_eq!(notices.len(), 1, "said once: {notices:?}");
    assert!(notices[0].contains(expected), "{notices:?}");
    assert!(ran.stderr.contains("made no progress for 12 s"), "{ran:?}");
}

#[test]
fn an_image_that_cannot_be_pulled_is_explained() {
    check_notice(Some(Fate::ImagePullBackOff), None, "Failed to pull image \"worker:1\": failed to resolve");
}

#[test]
fn a_node_that_falls_silent_is_named() {
    check_notice(Some(Fate::NodeLost), None, "may be lost: node `node1` does not answer");
}

#[test]
fn pods_that_no_node_takes_are_explained() {
    let message = "0/3 nodes are available: 3 Insufficient memory.";
    let expected = "2 pods of Job `fanout-20261122-184000-abcd-p0` do not start: no node takes it: 0/3 nodes";
    check_notice(Some(Fate::Unschedulable(message.to_owned())), None, expected);
}

#[test]
fn an_unbound_claim_is_explained() {
    let message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
    check_notice(Some(Fate::Unschedulable(message.to_owned())), None, "unbound immediate PersistentVolumeClaims");
}

#[test]
fn a_container_that_cannot_be_made_is_explained() {
    let (reason, message) = ("CreateContainerConfigError".to_owned(), "secret \"keys\" not found".to_owned());
    let expected = "CreateContainerConfigError: secret \"keys\" not found";
    check_notice(Some(Fate::Waiting { reason, message }), None, expected);
}

#[test]
fn pods_that_the_server_refuses_are_explained() {
    let message = "exceeded quota: compute, requested: cpu=4, used: cpu=8, limited: cpu=10";
    let expected = format!(
        "has no pods: FailedCreate: Error creating: pods \"fanout-20261122-184000-abcd-p0-0-\" is forbidden: {message}"
    );
    check_notice(None, Some(message), &expected);
}

#[test]
fn missing_rights_are_named_before_anything_is_made() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| {
        faults.forbid("create", "jobs");
        faults.forbid("watch", "pods");
    });
    let ran = bench.launch(&[]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("missing: create jobs of group `batch`"), "{ran:?}");
    assert!(ran.stderr.contains("missing: watch pods\n"), "{ran:?}");
    assert_eq!(bench.server.requests("create jobs"), 0);
}

#[test]
fn an_old_cluster_and_wrong_credentials_are_refused() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.be_version(32));
    let ran = bench.launch(&[]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("Kubernetes 1.32, which is too old"), "{ran:?}");
    bench.server.faults(|faults| {
        faults.be_version(33);
        faults.refuse_credentials();
    });
    let ran = bench.launch(&[]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("log in to the cluster again"), "{ran:?}");
}

#[test]
fn a_server_that_is_not_trusted_is_not_waited_for() {
    let bench = Bench::new(2, fine);
    let kubeconfig = bench.server.kubeconfig("science").replace("http://", "https://");
    bench.project.write(".dvc/tmp/kubeconfig", &kubeconfig);
    let ran = bench.launch(&[]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let address = bench.server.address();
    let expected = format!("the connection to the API server at https://{address} is not usable");
    assert!(ran.stderr.contains(&expected), "{ran:?}");
}

#[test]
fn a_server_that_was_never_there_is_named_with_the_reason() {
    let bench = Bench::new(2, fine);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let kubeconfig =
        bench.server.kubeconfig("science").replace(&bench.server.address().to_string(), &address.to_string());
    bench.project.write(".dvc/tmp/kubeconfig", &kubeconfig);
    let ran = bench.launch(&["--patience", "1"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains(&format!("the API server at http://{address} did not tell its version")), "{ran:?}");
    assert!(ran.stderr.contains("Connection refused"), "{ran:?}");
    assert!(!ran.stderr.contains("kube_client"), "the client's own log is not for people: {ran:?}");
}

#[test]
fn an_absence_of_the_server_is_told_and_so_is_its_return() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let mut child = bench.start(&["--no-check"]);
    bench.server.wait_for("pods", "pods", |pods| pods.len() == 2);
    bench.server.faults(|faults| faults.go_away(true));
    bench.wait_until_said("does not answer (");
    bench.server.faults(|faults| faults.go_away(false));
    bench.wait_until_said("answers again");
    terminate(&child);
    assert_eq!(child.wait().expect("it ends").code(), Some(143), "{}", bench.said());
}

#[test]
fn a_check_that_cannot_start_is_not_left_behind() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let ran = bench.launch(&["--stuck-timeout", "10"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("made no progress for 10 s"), "{ran:?}");
    assert!(bench.server.objects("jobs").is_empty());
}

#[test]
fn fewer_workers_are_no_other_job() {
    let bench = Bench::new(4, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    assert_eq!(bench.launch(&["--detach", "--no-check", "--jobs", "3"]).code, Some(0));
    let mut child = bench.start(&["--no-check", "--jobs", "2"]);
    bench.wait_until_said("keeps to 3 pods at a time");
    terminate(&child);
    assert_eq!(child.wait().expect("it ends").code(), Some(143), "{}", bench.said());
}

#[test]
fn what_was_left_to_the_cluster_is_seen_and_can_be_ended() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let ran = bench.launch(&["--detach", "--no-check"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("2 left to the cluster"), "{ran:?}");
    let name = bench.job()["metadata"]["name"].as_str().expect("a name").to_owned();
    let status = bench.project.fanout(["status"]).succeeded();
    assert!(status.contains(&format!("left to the cluster (Job {name} may still be running)")), "{status}");
    let ran = bench.other(["runs", "prune", "--keep", "0"]);
    assert!(ran.stderr.contains("its Jobs may still be running in a cluster"), "{ran:?}");
    let ran = bench.other(["cancel"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("has ended"), "{ran:?}");
    assert!(bench.server.objects("jobs").is_empty() && bench.server.objects("pods").is_empty());
    let status = bench.project.fanout(["status"]).succeeded();
    assert!(status.contains(": not running"), "{status}");
    assert!(bench.other(["cancel"]).stdout.contains("is not on"));
}

#[test]
fn jobs_that_ended_unwatched_are_looked_after_by_the_next_launch() {
    let bench = Bench::new(3, fine);
    assert_eq!(bench.launch(&["--detach", "--no-check"]).code, Some(0));
    bench.server.wait_for("the Job to complete", "jobs", |jobs| {
        jobs.iter().all(|job| !job["status"]["completionTime"].is_null())
    });
    assert!(bench.project.fanout(["status"]).succeeded().contains("not running"), "all is done");
    let ran = bench.launch(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(bench.server.objects("jobs").is_empty());
}

#[test]
fn a_run_survives_expired_and_cut_streams_overload_and_an_absent_server() {
    let bench =
        Bench::new(6, |index, attempt| if index == 5 && attempt == 1 { Does::BreakDown } else { Does::Succeed });
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let mut child = bench.start(&["--no-check", "--jobs", "1"]);
    let pods = |count: usize| move |pods: &[serde_json::Value]| pods.len() >= count;
    bench.server.wait_for("a pod", "pods", pods(1));
    let wait_for_watches = |more: usize| bench.wait_for_watches(bench.server.requests("watch pods") + more);
    bench.server.faults(Faults::expire_streams);
    wait_for_watches(1);
    bench.server.faults(Faults::cut_streams);
    wait_for_watches(1);
    bench.server.faults(|faults| faults.go_away(true));
    std::thread::sleep(Duration::from_secs(2));
    bench.server.faults(|faults| faults.go_away(false));
    wait_for_watches(1);
    bench.server.faults(|faults| {
        faults.overload(4, 1);
        faults.every_pod(None);
    });
    let stuck = bench.server.objects("pods");
    let path = format!("/api/v1/namespaces/science/pods/{}", stuck[0]["metadata"]["name"].as_str().expect("a name"));
    while call(bench.server.address(), "DELETE", &path, None).0 == 429 {}
    let code = child.wait().expect("it ends").code();
    assert_eq!(code, Some(0), "{}", bench.said());
    let succeeded = bench.endings().iter().filter(|ending| ending.ends_with("succeeded")).count();
    assert_eq!(succeeded, 6, "{:?}", bench.endings());
}

#[test]
fn a_server_that_stays_away_is_given_up() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let mut child = bench.start(&["--no-check", "--patience", "3"]);
    bench.server.wait_for("pods", "pods", |pods| pods.len() == 2);
    bench.server.faults(|faults| faults.go_away(true));
    let code = child.wait().expect("it ends").code();
    assert_eq!(code, Some(5), "{}", bench.said());
    assert!(bench.said().contains("did not answer for 3 s"), "{}", bench.said());
    assert!(bench.said().contains("Jobs go on without the launcher"), "{}", bench.said());
}

#[test]
fn a_job_that_somebody_deletes_is_noticed() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let mut child = bench.start(&["--no-check"]);
    bench.server.wait_for("pods", "pods", |pods| pods.len() == 2);
    let name = bench.job()["metadata"]["name"].as_str().expect("a name").to_owned();
    let delete = json!({ "propagationPolicy": "Background" });
    call(bench.server.address(), "DELETE", &format!("{JOBS}/{name}"), Some(&delete));
    assert_eq!(child.wait().expect("it ends").code(), Some(1), "{}", bench.said());
    assert!(bench.said().contains("was deleted by somebody"), "{}", bench.said());
    assert_eq!(bench.endings(), ["0.1 lost", "1.1 lost"]);
}

#[test]
fn a_terminated_launcher_takes_its_job_along() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let mut child = bench.start(&["--no-check"]);
    bench.server.wait_for("pods", "pods", |pods| pods.len() == 2);
    terminate(&child);
    assert_eq!(child.wait().expect("it ends").code(), Some(143), "{}", bench.said());
    assert!(bench.server.objects("jobs").is_empty() && bench.server.objects("pods").is_empty());
}

#[test]
fn the_first_interrupt_leaves_the_job_alone() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.every_pod(Some(Fate::Unschedulable("no room".to_owned()))));
    let mut child = bench.start(&["--no-check"]);
    bench.server.wait_for("pods", "pods", |pods| pods.len() == 2);
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{}", bench.said());
    assert!(bench.said().contains("continues without this launcher"), "{}", bench.said());
    assert_eq!(bench.server.objects("jobs").len(), 1);
}

#[test]
fn two_pods_of_an_index_leave_one_result() {
    let bench = Bench::new(2, fine);
    bench.server.faults(|faults| faults.fates(0, &[Fate::Duplicated]));
    let ran = bench.launch(&["--no-check"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(bench.endings(), ["0.1 succeeded", "1.1 succeeded"]);
}
