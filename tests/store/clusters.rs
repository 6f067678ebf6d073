//! Clusters whose pods and nodes share no folder with the launcher.

use std::process::Command;

use crate::support::s3::{Fate, Proxy, S3, command};
use crate::support::same::{assert_clean, assert_same};
use crate::support::slurm::{Slurm, keys};
use crate::support::{Project, Ran, attempts};

const STORE: &str = "s3://bucket/runs";

/// Lets a command reach a server as `command` of `s3.rs` does.
fn reaching(server: &S3, project: &Project, mut launcher: Command) -> Command {
    for (name, value) in command(project, project.root(), &server.endpoint()).get_envs() {
        if let (Some(value), true) = (value, name.to_string_lossy().starts_with("AWS_")) {
            launcher.env(name, value);
        }
    }
    launcher
}

/// Two projects of a fixture with a remote on the server, of which the first one is run by `dvc repro`.
fn both(server: &S3, fixture: &str) -> (Project, Project) {
    let (serial, fanned) = (Project::from_fixture(fixture), Project::from_fixture(fixture));
    for project in [&serial, &fanned] {
        server.add_remote(project);
    }
    serial.dvc(["repro"]);
    (serial, fanned)
}

/// A project of which one command fails.
fn failing(server: &S3) -> Project {
    let project = keys(3, "'test ${item} != k1 && echo ${item} > ${item}.txt'");
    server.add_remote(&project);
    project
}

#[track_caller]
fn check_failure(project: &Project, ran: &Ran) {
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k1: FAILED") && ran.stderr.contains("work@k1"), "{ran:#?}");
    assert!(project.path("k0.txt").is_file() && project.path("k2.txt").is_file());
    assert_eq!(attempts(project), [1, 1, 1], "{ran:#?}");
}

#[cfg(feature = "kubernetes")]
mod kubernetes {
    use super::*;
    use crate::support::cluster::Cluster;
    use crate::support::run_folder;

    /// What pods are told of the server; credentials come from a Secret.
    fn pods(endpoint: &str) -> Vec<String> {
        let words = ["--pod-env", &format!("AWS_ENDPOINT_URL={endpoint}"), "--pod-env", "AWS_DEFAULT_REGION=us-east-1"];
        words.into_iter().chain(["--env-secret", "bucket", "--store", STORE]).map(str::to_owned).collect()
    }

    fn fanout(server: &S3, cluster: &Cluster, project: &Project, words: &[&str], endpoint: &str) -> Ran {
        let all: Vec<String> = words.iter().map(|word| (*word).to_owned()).chain(pods(endpoint)).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Ran::of(&mut reaching(server, project, cluster.command(project, &all)))
    }

    #[test]
    fn pods_without_a_volume_end_as_dvc_repro_leaves_it() {
        let (Some(server), cluster) = (S3::start(), Cluster::new()) else { return };
        if cluster.fake().is_none() {
            return;
        }
        let (serial, fanned) = both(&server, "sessions");
        let ran = fanout(&server, &cluster, &fanned, &["run", "--keep", "always"], &server.endpoint());
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert_same(&serial, &fanned, "over a store");
        assert_clean(&fanned, &[]);
        let jobs = cluster.objects("jobs");
        assert!(!jobs.is_empty());
        for job in &jobs {
            let text = job.to_string();
            assert!(!text.contains("s3cr3t"), "{text}");
            assert!(!text.contains(fanned.root().to_str().expect("text")), "{text}");
            let volumes = job["spec"]["template"]["spec"]["volumes"].as_array().expect("volumes");
            assert!(volumes.iter().all(|volume| volume["emptyDir"].is_object()), "{text}");
        }
    }

    #[test]
    fn a_command_that_fails_in_a_pod_is_told_and_not_tried_again() {
        let (Some(server), cluster) = (S3::start(), Cluster::new()) else { return };
        if cluster.fake().is_none() {
            return;
        }
        let project = failing(&server);
        let ran = fanout(&server, &cluster, &project, &["run"], &server.endpoint());
        check_failure(&project, &ran);
    }

    /// Some stores list what was written only after a while.
    #[test]
    fn results_that_are_listed_late_are_waited_for() {
        let (Some(server), cluster) = (S3::start(), Cluster::new()) else { return };
        if cluster.fake().is_none() {
            return;
        }
        let project = failing(&server);
        let proxy = server.lagging(std::time::Duration::from_secs(5));
        let words: Vec<String> =
            ["run", "--no-check"].map(str::to_owned).into_iter().chain(pods(&server.endpoint())).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut launcher = reaching(&server, &project, cluster.command(&project, &words));
        let ran = Ran::of(launcher.env("AWS_ENDPOINT_URL", &proxy.endpoint));
        check_failure(&project, &ran);
        assert!(!ran.stderr.contains("a tool failed"), "{ran:#?}");
    }

    #[test]
    fn a_launch_is_left_to_pods_and_brought_home_by_another_clone() {
        let (Some(server), cluster) = (S3::start(), Cluster::new()) else { return };
        if cluster.fake().is_none() {
            return;
        }
        let (serial, project) = both(&server, "sessions");
        server.fanout(&project, &["plan"]).succeeded();
        let ran = fanout(&server, &cluster, &project, &["launch", "--detach"], &server.endpoint());
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        let run = run_folder(&project).file_name().expect("a name").to_string_lossy().into_owned();
        let other = project.clone_beside("other");
        other.git(["remote", "remove", "origin"]);
        let hidden = project.root().with_file_name("out-of-sight");
        std::fs::rename(project.root(), hidden).expect("moved");
        let ran = fanout(&server, &cluster, &other, &["launch", &run], &server.endpoint());
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        let ran = server.fanout(&other, &["finalize", &run]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert_same(&serial, &other, "in another clone");
        assert_eq!(cluster.names("jobs"), [""; 0], "nothing is left");
    }

    #[test]
    fn a_pod_says_that_it_does_not_reach_the_store() {
        let (Some(server), cluster) = (S3::start(), Cluster::new()) else { return };
        if cluster.fake().is_none() {
            return;
        }
        let project = Project::from_fixture("sessions");
        server.add_remote(&project);
        let proxy = Proxy::start(&server, |_, _| Fate::Status(403));
        let ran = fanout(&server, &cluster, &project, &["run"], &proxy.endpoint);
        assert_eq!(ran.code, Some(4), "{ran:#?}");
        assert!(ran.stderr.contains("pods do not see what they need"), "{ran:#?}");
        assert!(ran.stderr.contains("the object store refuses to read `s3://bucket/runs/"), "{ran:#?}");
    }

    #[test]
    fn a_dry_run_shows_pods_without_volumes_and_puts_nothing_in() {
        let (Some(server), cluster) = (S3::start(), Cluster::new()) else { return };
        if cluster.fake().is_none() {
            return;
        }
        let project = Project::from_fixture("sessions");
        server.add_remote(&project);
        server.fanout(&project, &["plan"]).succeeded();
        let ran = fanout(&server, &cluster, &project, &["launch", "--dry-run"], &server.endpoint());
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert!(ran.stdout.contains("emptyDir") && ran.stdout.contains(STORE), "{ran:#?}");
        assert!(!ran.stdout.contains("persistentVolumeClaim") && !ran.stdout.contains("s3cr3t"), "{ran:#?}");
        assert_eq!(server.keys(), [""; 0], "nothing is put in");
        assert_eq!(cluster.names("jobs"), [""; 0], "nothing is made");
    }

    #[test]
    fn data_on_a_volume_do_not_go_with_a_store() {
        let (Some(server), cluster) = (S3::start(), Cluster::new()) else { return };
        let project = Project::from_fixture("sessions");
        server.add_remote(&project);
        let ran = fanout(&server, &cluster, &project, &["run", "--data", "volume"], &server.endpoint());
        assert_eq!(ran.code, Some(2), "{ran:#?}");
        assert!(ran.stderr.contains("`--data volume` does not go with `--store`"), "{ran:#?}");
    }
}

#[test]
fn nodes_that_share_no_folder_end_as_dvc_repro_leaves_it() {
    let Some(server) = S3::start() else { return };
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (serial, fanned) = both(&server, "sessions");
    let arguments = ["run", "--store", STORE, "--job-env", "AWS_SECRET_ACCESS_KEY"];
    let ran = Ran::of(&mut reaching(&server, &fanned, slurm.command(&fanned, &arguments)));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "over a store");
    assert_clean(&fanned, &[]);
    let jobs = crate::support::run_folder(&fanned).join("jobs");
    for file in std::fs::read_dir(jobs).expect("listed").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("read");
        assert!(!text.contains("s3cr3t"), "{text}");
        let is_script = file.path().extension().is_some_and(|extension| extension == "sh");
        assert!(!is_script || !text.contains(fanned.root().to_str().expect("text")), "{text}");
    }
    let scratch = slurm.root().join("local");
    let left = std::process::Command::new("find").arg(scratch).args(["-name", "plan.json"]).output().expect("ran");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "tasks leave nothing on their nodes");
}

#[test]
fn a_command_that_fails_on_a_node_is_told_and_not_tried_again() {
    let Some(server) = S3::start() else { return };
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = failing(&server);
    let arguments = ["run", "--store", STORE];
    let ran = Ran::of(&mut reaching(&server, &project, slurm.command(&project, &arguments)));
    check_failure(&project, &ran);
}

/// What a task prints is lost with its node; what keeps its worker from beginning comes through the store, if that is
/// reached.
#[test]
fn nodes_on_which_no_worker_can_begin_are_told() {
    let Some(server) = S3::start() else { return };
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = Project::from_fixture("sessions");
    server.add_remote(&project);
    let fanout = |variable: &str| {
        // Where this program takes data itself, no worker needs DVC.
        let by_dvc = ["--job-env", "DVC_FANOUT_TRANSFER=dvc", "--job-env", variable];
        let arguments = [&["run", "--store", STORE, "--retries", "0"], &by_dvc[..]].concat();
        let ran = Ran::of(&mut reaching(&server, &project, slurm.command(&project, &arguments)));
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        ran.stderr
    };
    let said = fanout("PATH=/usr/bin:/bin");
    assert!(said.contains("the worker failed") && said.contains("no `dvc` on the PATH"), "{said}");
    let proxy = Proxy::start(&server, |_, _| Fate::Status(403));
    let said = fanout(&format!("AWS_ENDPOINT_URL={}", proxy.endpoint));
    assert!(said.contains("it may not reach `s3://bucket/runs`") || said.contains("refuses"), "{said}");
}
