//! Workers that are started by hand, somewhere else, and what comes of what they put in.

use std::path::PathBuf;

use super::whole_job::add_remote;
use crate::support::s3::{S3, command};
use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran, run_folder};

/// A project whose run is in the store, planned and posted but not begun, with the name of the run.
pub(super) fn posted(server: &S3, project: &Project) -> String {
    server.add_remote(project);
    let ran = server.fanout(project, &["plan"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let run = run_folder(project).file_name().expect("a name").to_string_lossy().into_owned();
    let ran = server.fanout(project, &["launch", "--detach", "--store", "s3://bucket/runs"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("work --store s3://bucket/runs --run {run}")), "{ran:#?}");
    run
}

/// Does a part of a run in an empty folder, while the project is out of sight.
pub(super) fn work(server: &S3, project: &Project, run: &str, part: &str) -> PathBuf {
    let folder = project.root().with_file_name(format!("machine-{part}"));
    std::fs::create_dir(&folder).expect("made");
    let hidden = project.root().with_file_name("out-of-sight");
    std::fs::rename(project.root(), &hidden).expect("moved");
    let mut worker = command(project, &folder, &server.endpoint());
    worker.args(["work", "--store", "s3://bucket/runs", "--run", run, "--phase", "0", "--shards", "2", part]);
    let output = worker.output().expect("ran");
    std::fs::rename(&hidden, project.root()).expect("moved back");
    assert!(output.status.success(), "{output:#?}");
    folder
}

#[test]
fn two_machines_share_a_run_with_nothing_but_the_store() {
    let Some(server) = S3::start() else { return };
    let (serial, project) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    server.add_remote(&serial);
    serial.dvc(["repro"]);
    let run = posted(&server, &project);
    for part in ["0", "1"] {
        work(&server, &project, &run, part);
    }
    let ran = server.fanout(&project, &["runs", "prune", "--keep", "0"]);
    assert!(ran.stderr.contains("it has results that were not collected"), "nobody has them yet: {ran:#?}");
    let ran = server.fanout(&project, &["launch"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(!ran.stderr.contains("started in slot"), "all is done already: {ran:#?}");
    let ran = server.fanout(&project, &["finalize"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &project, "by hand");
    assert_clean(&project, &[]);
}

/// Whoever may write to the bucket may write what they want: it is held to the same rules as what workers publish.
#[test]
fn results_of_somebody_else_are_not_believed() {
    let Some(server) = S3::start() else { return };
    let project = Project::from_fixture("sessions");
    let run = posted(&server, &project);
    work(&server, &project, &run, "0");
    let key = |attempt: &str| format!("runs/{run}/results/0/{attempt}");
    let good = server.read(&key("1.json"));
    let other = good.replace("\"attempt\": 1", "\"attempt\": 2");
    for (attempt, text) in [
        ("2", other.replace("scores/", "../scores/")),
        ("3", good.clone()),
        ("4", "no document".to_owned()),
        ("5", other.replace("\"blob\": \"0\"", "\"blob\": \"../../../evil\"")),
    ] {
        server.send("PUT", &format!("/bucket/{}", key(&format!("{attempt}.json"))), text.as_bytes());
    }
    // The content of a good one is another than it says.
    server.send("PUT", &format!("/bucket/runs/{run}/results/2/1.files"), b"something else");
    server.send("PUT", "/bucket/runs/nonsense/results/x/y.json", b"{}");
    let ran = server.fanout(&project, &["collect"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    for words in ["is not in its shortest form", "it claims to be", "`result.json` is not readable", "it is missing"] {
        assert!(said.contains(words), "`{words}` in {said}");
    }
    assert!(!project.root().with_file_name("scores").exists() && !project.path("evil").exists());
}

#[test]
fn a_run_that_is_not_there_is_said_so() {
    let Some(server) = S3::start() else { return };
    let project = Project::from_fixture("sessions");
    let work = |store: &str| server.fanout(&project, &["work", "--store", store, "--run", "20240101-000000-0000", "0"]);
    let ran = work("s3://bucket/runs");
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("there is no run `20240101-000000-0000` in `s3://bucket/runs`"), "{ran:#?}");
    let ran = work("s3://another/runs");
    assert!(ran.stderr.contains("there is no"), "{ran:#?}");
}

/// In a job of a CI system nobody sees anything but what the worker prints.
#[test]
fn why_a_work_item_failed_is_printed_by_its_worker() {
    let project = Project::from_fixture("sessions");
    let folder = |name: &str| project.root().with_file_name(name).to_str().expect("text").to_owned();
    add_remote(&project, &project);
    project.edit(
        "dvc.yaml",
        "mkdir -p work &&",
        "test ${item} != s2 || { echo no such thing as s2 && exit 7; } && mkdir -p work &&",
    );
    project.commit("one fails");
    project.fanout(["plan"]).succeeded();
    let store = format!("file://{}", folder("bucket"));
    project.fanout(["launch", "--detach", "--store", &store]).succeeded();
    let run = run_folder(&project).file_name().expect("a name").to_string_lossy().into_owned();
    std::fs::create_dir(folder("machine")).expect("made");
    let mut worker = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    worker.current_dir(folder("machine"));
    let arguments = ["work", "--store", &store, "--run", &run, "--phase", "0", "--shards", "1", "0"];
    let ran = Ran::of(worker.args(arguments));
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("work item 1 (`s2`) failed: stage `extract@s2`"), "{ran:#?}");
    assert!(ran.stderr.contains("\n  no such thing as s2\n") && !ran.stderr.contains("`s1`"), "{ran:#?}");
}
