//! The whole job over an S3 server, with the DVC remote on the same one, and over a folder.

use crate::support::Project;
use crate::support::s3::S3;
use crate::support::same::{assert_clean, assert_same};

/// Gives a project a remote that is a folder beside a project.
pub(super) fn add_remote(project: &Project, of: &Project) {
    let remote = of.root().with_file_name("remote");
    project.dvc(["remote", "add", "--quiet", "--default", "store", remote.to_str().expect("text")]);
    project.commit("remote");
}

/// The address of a folder beside a project.
fn store_of(project: &Project) -> String {
    format!("file://{}", project.root().with_file_name("bucket").display())
}

#[test]
fn a_project_ends_as_dvc_repro_leaves_it_where_all_goes_through_s3() {
    let Some(server) = S3::start() else { return };
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    for project in [&serial, &fanned] {
        server.add_remote(project);
        let secrets = "    access_key_id = key\n    secret_access_key = s3cr3t-of-the-test\n";
        project.write(".dvc/config.local", &format!("['remote \"store\"']\n{secrets}"));
    }
    for (round, weight) in [("first", "0.5"), ("second", "0.7")] {
        // Its inputs are outs of the first round.
        for project in [&serial, &fanned] {
            project.edit("params.yaml", "weight: 0.5", &format!("weight: {weight}"));
        }
        serial.dvc(["repro"]);
        let ran = server.fanout(&fanned, &["run", "-j", "2", "--store", "s3://bucket/runs"]);
        assert_eq!(ran.code, Some(0), "{round}: {ran:#?}");
        assert_same(&serial, &fanned, round);
        assert_clean(&fanned, &[]);
    }
    let keys = server.keys();
    assert!(keys.iter().any(|key| key.ends_with("plan.json")), "{keys:?}");
    for key in keys.iter().filter(|key| key.starts_with("runs/")) {
        assert!(!server.read(key).contains("s3cr3t"), "`{key}` holds a credential");
    }
    let runs = server.fanout(&fanned, &["runs", "prune", "--keep", "0"]);
    assert_eq!(runs.code, Some(0), "{runs:#?}");
    let left: Vec<String> = server.keys().into_iter().filter(|key| key.starts_with("runs/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn pipelines_in_folders_end_as_dvc_repro_leaves_them() {
    let (serial, fanned) = (Project::from_fixture("nested"), Project::from_fixture("nested"));
    add_remote(&fanned, &fanned);
    add_remote(&serial, &fanned);
    serial.dvc(["repro", "-P"]);
    let ran = fanned.fanout(["run", "-P", "-j", "2", "--store", &store_of(&fanned)]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "nested");
    assert_clean(&fanned, &["-P"]);
    assert!(!fanned.path(".dvc/fanout/sites").exists(), "workers' folders go");
    fanned.fanout(["runs", "prune", "--keep", "0"]).succeeded();
    let left = std::fs::read_dir(fanned.root().with_file_name("bucket")).expect("it is a folder");
    let left: Vec<_> = left.map(|found| found.expect("listed").path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Files that only the launcher's machine has reach workers; a project may lie below the top of its repository.
#[test]
fn workers_see_what_neither_git_nor_dvc_has() {
    let pipeline = "stages:
  use:
    foreach: [a, b]
    do:
      cmd: cat ${item}.in ../settings.ini hidden/table.csv > ${item}.out && git log --format=%s >> ${item}.out
      deps: [hidden/table.csv, '${item}.in']
      outs: ['${item}.out']
";
    let folder = tempfile::tempdir().expect("a temporary directory");
    let made = || {
        let project = Project::bare();
        project.git(["init", "--quiet", "--initial-branch=main"]);
        project.write(".gitignore", "hidden/\n/settings.ini\n");
        project.write("settings.ini", "colour = green\n");
        project.write("sub/hidden/table.csv", "1,2\n");
        for key in ["a", "b"] {
            project.write(&format!("sub/{key}.in"), key);
        }
        project.write("sub/dvc.yaml", pipeline);
        project.write("sub/.dvc/config", "");
        project.write("sub/.dvc/.gitignore", "/config.local\n/tmp\n/cache\n");
        project.write("sub/.dvcignore", "");
        project.commit("made");
        let remote = folder.path().join("remote");
        let add =
            ["--cd", "sub", "remote", "add", "--quiet", "--local", "--default", "r", remote.to_str().expect("text")];
        project.dvc(add);
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["--cd", "sub", "repro"]);
    let ran = fanned.fanout(["--cd", "sub", "run", "-j", "2", "--store", &store_of(&fanned)]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(fanned.read("sub/a.out"), serial.read("sub/a.out"));
    assert_same(&serial, &fanned, "below the top");
}

#[test]
fn without_a_remote_nothing_is_begun() {
    let project = Project::from_fixture("sessions");
    let ran = project.fanout(["run", "--store", &store_of(&project)]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("default remote") && ran.stderr.contains("dvc remote add --default"), "{ran:#?}");
}
