//! The main job through a cluster: real DVC in pods that are real processes, and afterwards the project is what
//! `dvc repro` would have left.
//!
//! The cluster may be a real one: see `support/cluster.rs`.

use crate::support::Project;
use crate::support::apiserver::faults::Fate;
use crate::support::cluster::Cluster;
use crate::support::same::{assert_clean, assert_same};

/// Runs a fixture with `dvc repro` and through the cluster, and holds the two against each other.
#[track_caller]
fn same_through_a_cluster(fixture: &str, targets: &[&str]) {
    let cluster = Cluster::new();
    let (serial, fanned) = (Project::from_fixture(fixture), Project::from_fixture(fixture));
    serial.dvc([&["repro"], targets].concat());
    let ran = cluster.fanout(&fanned, &[&["run"], targets].concat());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, fixture);
    assert_clean(&fanned, targets);
}

#[test]
fn a_project_with_sessions_ends_as_dvc_repro_leaves_it() {
    same_through_a_cluster("sessions", &[]);
}

#[test]
fn pipelines_in_folders_end_as_dvc_repro_leaves_them() {
    same_through_a_cluster("nested", &["-P"]);
}

#[test]
fn pods_may_see_the_project_elsewhere() {
    let cluster = Cluster::new();
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    let Some((volume, map)) = cluster.volume_at(&fanned, "/mnt/project") else { return };
    serial.dvc(["repro"]);
    let ran = cluster.fanout(&fanned, &["run", "--volume", &volume, "--map", &map]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "mapped");
    assert_clean(&fanned, &[]);
}

/// Pods have caches of their own; data come from the remote and go back to it.
#[test]
fn pods_without_the_cache_use_the_remote() {
    let cluster = Cluster::new();
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    for project in [&serial, &fanned] {
        // Pods see it at the same path.
        let store = fanned.root().with_file_name("store");
        project.dvc(["remote", "add", "--quiet", "--local", "--default", "store", store.to_str().expect("text")]);
    }
    serial.dvc(["repro"]);
    let ran = cluster.fanout(&fanned, &["run", "--data", "remote"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "first");
    // `score` alone has changed: its inputs are outs that only the remote and this machine have.
    for project in [&serial, &fanned] {
        project.edit("params.yaml", "weight: 0.5", "weight: 0.7");
    }
    serial.dvc(["repro"]);
    let ran = cluster.fanout(&fanned, &["run", "--data", "remote"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "second");
    assert_clean(&fanned, &[]);
}

#[test]
fn a_volume_that_is_another_one_is_noticed_before_any_work() {
    let cluster = Cluster::new();
    let (project, other) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    let place = |project| cluster.volume_at(project, "/mnt/project");
    let (Some((volume, _)), Some((_, map))) = (place(&other), place(&project)) else { return };
    let ran = cluster.fanout(&project, &["run", "--volume", &volume, "--map", &map]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("pods do not see what they need"), "{ran:#?}");
    assert!(ran.stderr.contains("exit code 2: there is no run"), "with the worker's words: {ran:#?}");
    let [check] = &cluster.names("jobs")[..] else { panic!("only the check: {:?}", cluster.names("jobs")) };
    assert!(check.ends_with("-check"), "{check}");
}

#[test]
fn a_path_that_no_volume_holds_is_refused_on_the_command_line() {
    let cluster = Cluster::new();
    let project = Project::from_fixture("sessions");
    let ran = cluster.fanout(&project, &["run", "--volume", "pvc:projects:/elsewhere"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("pods would not see the project"), "{ran:#?}");
}

#[test]
fn evicted_pods_and_duplicates_change_nothing_in_the_result() {
    let cluster = Cluster::new();
    // A real one is drained in `anywhere.rs`.
    let Some(server) = cluster.fake() else { return };
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    serial.dvc(["repro"]);
    server.faults(|faults| {
        faults.fates(1, &[Fate::Evicted]);
        faults.fates(2, &[Fate::Duplicated]);
    });
    let ran = cluster.fanout(&fanned, &["run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "evicted");
}

#[test]
fn one_failed_session_keeps_the_results_of_the_others() {
    let cluster = Cluster::new();
    let project = Project::from_fixture("sessions");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: test ${item} != s3 && mkdir -p work &&");
    project.commit("s3 fails");
    let ran = cluster.fanout(&project, &["run"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let lock = project.read("dvc.lock");
    assert!(lock.contains("  score@s1:") && lock.contains("  score@s4:") && !lock.contains("  extract@s3:"), "{lock}");
}

#[test]
fn what_a_dry_run_prints_can_be_applied_and_is_gone_on_with() {
    let cluster = Cluster::new();
    let project = Project::from_fixture("sessions");
    project.fanout(["plan"]).succeeded();
    let printed = cluster.fanout(&project, &["launch", "--dry-run"]).succeeded();
    assert_eq!(cluster.names("jobs"), [""; 0]);
    let job: serde_json::Value = serde_yaml::from_str(printed.trim_start_matches("---\n")).expect("YAML");
    let (code, applied) = cluster.call("POST", &cluster.jobs("?fieldValidation=Strict"), Some(&job));
    assert_eq!(code, 201, "{applied}");
    let ran = cluster.fanout(&project, &["launch", "--keep", "always"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let jobs = cluster.objects("jobs");
    assert_eq!(jobs.len(), 1, "the Job that was applied is the one: {jobs:#?}");
    assert_eq!(jobs[0]["metadata"]["uid"], applied["metadata"]["uid"]);
}
