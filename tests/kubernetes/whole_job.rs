//! The main job through a cluster: real DVC in pods that are real processes, and afterwards the project is what
//! `dvc repro` would have left.
//!
//! With `DVC_FANOUT_TEST_KUBECONFIG`, `DVC_FANOUT_TEST_IMAGE` and `DVC_FANOUT_TEST_VOLUME` (as `--volume` takes it, for
//! example `hostPath:/data`) set, the cluster is a real one. `TMPDIR` must lie on that volume then.

use std::path::{Path, PathBuf};

use crate::support::apiserver::faults::Fate;
use crate::support::apiserver::{ApiServer, Options};
use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran};

/// Where pods run.
enum Cluster {
    Fake { server: ApiServer, node: tempfile::TempDir },
    Real { kubeconfig: PathBuf, image: String, volume: String },
}

impl Cluster {
    fn new() -> Self {
        let variable = |name: &str| std::env::var(format!("DVC_FANOUT_TEST_{name}")).ok();
        if let (Some(kubeconfig), Some(image), Some(volume)) =
            (variable("KUBECONFIG"), variable("IMAGE"), variable("VOLUME"))
        {
            return Cluster::Real { kubeconfig: kubeconfig.into(), image, volume };
        }
        let node = tempfile::tempdir().expect("a temporary folder");
        Cluster::Fake { server: ApiServer::start(Options::new(node.path())), node }
    }

    /// The fake one; `None` on a real cluster, where nothing goes wrong on demand.
    fn fake(&self) -> Option<(&ApiServer, &Path)> {
        match self {
            Cluster::Fake { server, node } => Some((server, node.path())),
            Cluster::Real { .. } => None,
        }
    }

    /// Runs a command of `dvc-fanout` that takes the engine's flags.
    fn fanout(&self, project: &Project, arguments: &[&str]) -> Ran {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(arguments).args(["--engine", "kubernetes", "--jobs", "2", "--pod-env", "DVC_NO_ANALYTICS=1"]);
        match self {
            Cluster::Fake { server, node } => {
                let kubeconfig = node.path().join("kubeconfig");
                server.write_kubeconfig(&kubeconfig, "science");
                command.env("KUBECONFIG", kubeconfig).args(["--image", "worker:1"]);
                command.args(["--worker-program", env!("CARGO_BIN_EXE_dvc-fanout")]);
                if !arguments.contains(&"--volume") {
                    command.arg("--volume").arg(format!("hostPath:{}", real(project.root()).display()));
                }
            }
            Cluster::Real { kubeconfig, image, volume } => {
                command.arg("--kubeconfig").arg(kubeconfig).args(["--image", image, "--volume", volume]);
                command.args(["--security", "image"]);
            }
        }
        Ran::of(&mut command)
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().expect("it is there")
}

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
    let Some((_, node)) = cluster.fake() else { return };
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    serial.dvc(["repro"]);
    // The claim is the same folder by another name, as a network share is.
    std::fs::create_dir_all(node.join("pvc")).expect("made");
    std::os::unix::fs::symlink(real(fanned.root()), node.join("pvc/projects")).expect("linked");
    let map = format!("{}=/mnt/project", real(fanned.root()).display());
    let ran = cluster.fanout(&fanned, &["run", "--volume", "pvc:projects:/mnt/project", "--map", &map]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "mapped");
    assert_clean(&fanned, &[]);
}

/// Pods have caches of their own; data come from the remote and go back to it.
#[test]
fn pods_without_the_cache_use_the_remote() {
    let cluster = Cluster::new();
    let Some((_, node)) = cluster.fake() else { return };
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    let store = node.join("store");
    for project in [&serial, &fanned] {
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
    let Some((server, node)) = cluster.fake() else { return };
    let project = Project::from_fixture("sessions");
    let other = Project::from_fixture("sessions");
    std::fs::create_dir_all(node.join("pvc")).expect("made");
    std::os::unix::fs::symlink(real(other.root()), node.join("pvc/projects")).expect("linked");
    let map = format!("{}=/mnt/project", real(project.root()).display());
    let ran = cluster.fanout(&project, &["run", "--volume", "pvc:projects:/mnt/project", "--map", &map]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("pods do not see what they need"), "{ran:#?}");
    assert!(ran.stderr.contains("exit code 2: there is no run"), "with the worker's words: {ran:#?}");
    assert_eq!(server.requests("create jobs"), 1, "only the check");
}

#[test]
fn a_path_that_no_volume_holds_is_refused_on_the_command_line() {
    let cluster = Cluster::new();
    if cluster.fake().is_none() {
        return;
    }
    let project = Project::from_fixture("sessions");
    let ran = cluster.fanout(&project, &["run", "--volume", "pvc:projects:/elsewhere"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("pods would not see the project"), "{ran:#?}");
}

#[test]
fn evicted_pods_and_duplicates_change_nothing_in_the_result() {
    let cluster = Cluster::new();
    let Some((server, _)) = cluster.fake() else { return };
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
    let Some((server, _)) = cluster.fake() else { return };
    let project = Project::from_fixture("sessions");
    project.fanout(["plan"]).succeeded();
    let printed = cluster.fanout(&project, &["launch", "--dry-run"]).succeeded();
    assert_eq!(server.requests("create jobs"), 0);
    let job: serde_json::Value = serde_yaml::from_str(printed.trim_start_matches("---\n")).expect("YAML");
    let jobs = "/apis/batch/v1/namespaces/science/jobs";
    assert_eq!(crate::support::apiserver::client::call(server.address(), "POST", jobs, Some(&job)).0, 201);
    let ran = cluster.fanout(&project, &["launch"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(server.requests("create jobs"), 1, "the Job that was applied is the one");
}
