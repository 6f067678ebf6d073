//! Data on their way between caches and the project's remote: by the program itself, or by DVC.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::s3::{S3, command};
use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran, run_folder};

/// A file and a folder that DVC tracks, outs that are folders, files or not cached, and a stage that gathers them.
const PIPELINE: &str = "stages:
  split:
    foreach: [a, b]
    do:
      cmd: mkdir -p parts/${item}/deep && cut -c1-3 in/${item}.txt > parts/${item}/head && cat base.txt in/${item}.txt >
        parts/${item}/deep/all && wc -c < in/${item}.txt > ${item}.size && true > ${item}.empty
      deps: [in, base.txt]
      outs:
      - parts/${item}
      - ${item}.empty
      metrics:
      - ${item}.size: {cache: false}
  gather:
    cmd: cat parts/*/deep/all parts/*/head > gathered
    deps: [parts/a, parts/b]
    outs: [gathered]
";

pub(super) fn project() -> Project {
    let project = Project::empty();
    project.write("in/a.txt", "one\n");
    project.write("in/b.txt", "two\nlines\n");
    project.write("base.txt", "base\n");
    project.write("dvc.yaml", PIPELINE);
    project.dvc(["add", "--quiet", "in", "base.txt"]);
    project.commit("made");
    project
}

/// The files below a folder, with their modes and contents.
fn files(folder: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inside) = folders.pop() {
        for entry in std::fs::read_dir(inside).expect("listed").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mode = path.metadata().expect("there").permissions().mode() & 0o7777;
            let name = path.strip_prefix(folder).expect("below").display().to_string();
            found.insert(name, (mode, std::fs::read(&path).expect("read")));
        }
    }
    found
}

/// What the report says of data: objects that were moved without DVC, and by it.
pub(super) fn moved(project: &Project) -> (u64, u64) {
    let report = project.fanout(["report", "--format", "json"]).succeeded();
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let data = &report["provenance"]["data"];
    (data["native_objects"].as_u64().expect("a number"), data["dvc_objects"].as_u64().expect("a number"))
}

/// The logs of all attempts of a project's run.
fn logs(project: &Project) -> String {
    let logs = files(&run_folder(project)).into_iter().filter(|(name, _)| name.ends_with(".log"));
    logs.map(|(_, (_, text))| String::from_utf8_lossy(&text).into_owned()).collect()
}

#[test]
fn both_ways_leave_the_same_results_and_the_same_folder() {
    let (serial, native, by_dvc) = (project(), project(), project());
    for project in [&native, &by_dvc] {
        let remote = project.root().with_file_name("remote");
        project.dvc(["remote", "add", "--quiet", "--local", "--default", "r", remote.to_str().expect("text")]);
    }
    serial.dvc(["repro"]);
    for (project, way) in [(&native, ""), (&by_dvc, "dvc")] {
        let store = format!("file://{}", project.root().with_file_name("bucket").display());
        let mut launcher = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        let ran = Ran::of(launcher.args(["run", "-j", "2", "--store", &store]).env("DVC_FANOUT_TRANSFER", way));
        assert_eq!(ran.code, Some(0), "{way}: {ran:#?}");
        std::fs::remove_file(project.path(".dvc/config.local")).expect("removed");
        assert_same(&serial, project, way);
        assert_clean(project, &[]);
    }
    assert!(matches!(moved(&native), (9.., 0)), "{:?}", moved(&native));
    assert!(matches!(moved(&by_dvc), (0, 5..)), "{:?}", moved(&by_dvc));
    assert!(logs(&native).contains("moved without DVC"), "{}", logs(&native));
    assert!(logs(&by_dvc).contains("moved by DVC: `DVC_FANOUT_TRANSFER` asks for it"), "{}", logs(&by_dvc));
    let left = |project: &Project| files(&project.root().with_file_name("remote"));
    assert_eq!(left(&native), left(&by_dvc));
}

#[test]
fn both_ways_leave_the_same_bucket() {
    let Some(server) = S3::start() else { return };
    let (serial, native, by_dvc) = (project(), project(), project());
    for (project, folder) in [(&serial, "none"), (&native, "native"), (&by_dvc, "dvc")] {
        project.dvc(["remote", "add", "--quiet", "--default", "store", &format!("s3://bucket/{folder}")]);
        project.dvc(["remote", "modify", "--quiet", "store", "endpointurl", &server.endpoint()]);
        project.commit("remote");
    }
    serial.dvc(["repro"]);
    for (project, way) in [(&native, ""), (&by_dvc, "dvc")] {
        let mut launcher = command(project, project.root(), &server.endpoint());
        let launcher = launcher.args(["run", "-j", "2", "--store", "s3://bucket/runs"]);
        let ran = Ran::of(launcher.env("DVC_FANOUT_TRANSFER", way));
        assert_eq!(ran.code, Some(0), "{way}: {ran:#?}");
        assert_eq!(project.read("dvc.lock"), serial.read("dvc.lock"));
        assert_eq!(project.read("gathered"), serial.read("gathered"));
        assert_clean(project, &[]);
    }
    assert!(matches!(moved(&native), (9.., 0)), "{:?}", moved(&native));
    let left = |folder: &str| -> BTreeMap<String, String> {
        let keys = server.keys().into_iter().filter(|key| key.starts_with(folder));
        keys.map(|key| (key[folder.len()..].to_owned(), server.read(&key))).collect()
    };
    assert!(left("native/").keys().any(|key| key.starts_with("runs/")), "{:?}", left("native/").keys());
    assert_eq!(left("native/"), left("dvc/"));
}

#[test]
fn an_object_that_is_not_what_its_name_says_is_refused_by_its_name() {
    let Some(server) = S3::start() else { return };
    let project = project();
    server.add_remote(&project);
    // Also where DVC finds credentials.
    project.write(".dvc/config.local", "['remote \"store\"']\naccess_key_id = key\nsecret_access_key = secret\n");
    project.dvc(["push", "--quiet"]);
    let keys = server.keys();
    let key = keys.iter().find(|key| server.read(key) == "base\n").expect("pushed");
    server.send("PUT", &format!("/bucket/{key}"), b"evil\n");
    let ran = server.fanout(&project, &["run", "--store", "s3://bucket/runs", "--retries", "0"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let said = format!("`s3://bucket/{key}` is not the object that its name says");
    assert!(ran.stderr.contains(&said), "{ran:#?}");
    // Where it is gone, it is pushed again.
    let answer = server.ask("DELETE", &format!("/bucket/{key}"));
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let ran = server.fanout(&project, &["run", "--store", "s3://bucket/runs"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
}

/// Where this program does all, DVC need not be where workers run.
#[test]
fn a_worker_starts_no_dvc_where_none_is_needed() {
    let Some(server) = S3::start() else { return };
    let (serial, fanned) = (project(), project());
    [&serial, &fanned].into_iter().for_each(|project| server.add_remote(project));
    serial.dvc(["repro"]);
    server.fanout(&fanned, &["plan"]).succeeded();
    let run = run_folder(&fanned).file_name().expect("a name").to_string_lossy().into_owned();
    server.fanout(&fanned, &["launch", "--detach", "--store", "s3://bucket/runs"]).succeeded();
    let folder = fanned.root().with_file_name("machine");
    std::fs::create_dir(&folder).expect("made");
    let (shim, called) = (folder.join("no-dvc"), folder.join("called"));
    std::fs::write(&shim, format!("#!/bin/sh\necho \"$@\" >> {}\nexit 1\n", called.display())).expect("written");
    std::fs::set_permissions(&shim, PermissionsExt::from_mode(0o755)).expect("set");
    for part in ["0", "1"] {
        let mut worker = command(&fanned, &folder, &server.endpoint());
        worker.args(["work", "--store", "s3://bucket/runs", "--run", &run, "--phase", "0", "--shards", "2", part]);
        let ran = Ran::of(worker.env("DVC_FANOUT_DVC", &shim));
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }
    assert!(!called.exists(), "{:?}", std::fs::read_to_string(&called));
    server.fanout(&fanned, &["launch"]).succeeded();
    server.fanout(&fanned, &["finalize"]).succeeded();
    assert_same(&serial, &fanned, "without DVC");
}

/// A stage that `dvc repro` takes from the run cache is not run by a worker either, though its cache has never had it.
#[test]
fn workers_have_the_run_cache_and_give_to_it() {
    for way in ["", "dvc"] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let ran = folder.path().join("ran");
        let made = || {
            let project = Project::from_fixture("sessions");
            let note = format!("cmd: echo ran >> {} && ", ran.display());
            let text = project.read("dvc.yaml").replacen("cmd: ", &note, 1);
            project.write("dvc.yaml", &text);
            project.commit("it tells when it runs");
            project
        };
        let (serial, fanned) = (made(), made());
        let remote = folder.path().join("remote");
        for project in [&serial, &fanned] {
            project.dvc(["remote", "add", "--quiet", "--default", "r", remote.to_str().expect("text")]);
            project.commit("remote");
        }
        let runs = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
        let store = format!("file://{}", folder.path().join("bucket").display());
        for (raw, is_known) in [("first\n", false), ("second\n", false), ("first\n", true)] {
            [&serial, &fanned].into_iter().for_each(|project| project.write("raw/s1.txt", raw));
            serial.dvc(["repro"]);
            let before = runs();
            if is_known {
                // Then only this machine has it.
                std::fs::remove_dir_all(&remote).expect("removed");
            }
            let mut launcher = fanned.command(env!("CARGO_BIN_EXE_dvc-fanout"));
            let launcher = launcher.args(["run", "-j", "2", "--store", &store]).env("DVC_FANOUT_TRANSFER", way);
            let ran = Ran::of(launcher);
            assert_eq!(ran.code, Some(0), "{way} {raw}: {ran:#?}");
            assert_eq!(runs() == before, is_known, "{way} {raw}: {ran:#?}");
            assert_same(&serial, &fanned, &format!("{way} {raw}"));
        }
    }
}

/// What DVC does not cache comes with results: the remote need not have it.
#[test]
fn outs_that_are_not_cached_reach_the_stages_that_need_them() {
    for fixture in ["split-merge", "window"] {
        let (serial, fanned) = (Project::from_fixture(fixture), Project::from_fixture(fixture));
        let (remote, store) = (fanned.root().with_file_name("remote"), fanned.root().with_file_name("bucket"));
        fanned.dvc(["remote", "add", "--quiet", "--global", "--default", "r", remote.to_str().expect("text")]);
        serial.dvc(["repro"]);
        let ran = fanned.fanout(["run", "-j", "2", "--store", &format!("file://{}", store.display())]);
        assert_eq!(ran.code, Some(0), "{fixture}: {ran:#?}");
        assert_same(&serial, &fanned, fixture);
    }
}
