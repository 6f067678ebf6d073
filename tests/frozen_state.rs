//! What the first version of the state on disk left in a project: this program reads it, reports it, goes on with it and
//! collects it. See `fixtures/state/v1/README.md`.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::same::{assert_clean, assert_same, assert_same_after_failure};
use crate::support::{Project, dvc};

/// Where the project was, and the DVC that it was run with.
const ROOT: &str = "/home/user/project";
const DVC: &str = "3.67.1";

/// A project in which nothing was run.
fn committed() -> Project {
    let project = Project::without_init();
    thaw("project", &project, "");
    project.commit("fixture");
    project
}

/// The project with what a run left in it.
fn after(run: &str) -> Project {
    let project = committed();
    thaw(&format!("{run}/left"), &project, "");
    thaw(&format!("{run}/cache"), &project, ".dvc/cache");
    thaw(&format!("{run}/fanout"), &project, ".dvc/fanout");
    let dvc = project.dvc(["--version"]);
    for file in ["plan.json", "results/0/1/result.json", "results/1/1/result.json", "results/3/1/result.json"] {
        let run = std::fs::read_dir(project.path(".dvc/fanout/runs")).expect("listed").next().expect("one");
        let path = run.expect("listed").path().join(file);
        if let Ok(text) = std::fs::read_to_string(&path) {
            let root = project.root().to_str().expect("it is UTF-8");
            let text = text.replace(ROOT, root).replace(&format!("\"{DVC}\""), &format!("\"{}\"", dvc.trim()));
            std::fs::write(path, text).expect("written");
        }
    }
    project
}

/// Puts a frozen folder, if there is one, at a path of the project.
fn thaw(folder: &str, project: &Project, at: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/state/v1").join(folder);
    if from.exists() {
        thaw_folder(&from, &project.path(at));
    }
}

fn thaw_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let name = entry.file_name();
        match name.to_str() {
            _ if entry.path().is_dir() => thaw_folder(&entry.path(), &to.join(name)),
            Some("keep") => {}
            Some("gitignore") => drop(std::fs::copy(entry.path(), to.join(".gitignore")).expect("copied")),
            _ => drop(std::fs::copy(entry.path(), to.join(name)).expect("copied")),
        }
    }
}

fn document<'a>(project: &Project, arguments: impl IntoIterator<Item = &'a str>) -> Value {
    serde_json::from_str(&project.fanout(arguments).succeeded()).expect("JSON")
}

/// What a list of a document says under a key of each element.
fn each(list: &Value, key: &str) -> Vec<Value> {
    list.as_array().expect("a list").iter().map(|element| element[key].clone()).collect()
}

/// Goes on with the run to its end, where the launch has to run these work items alone.
#[track_caller]
fn go_on(project: &Project, begun: &[&str]) {
    let launched = project.fanout(["launch", "--format", "json"]).succeeded();
    let events: Vec<Value> = launched.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let started = events.iter().filter(|event| event["event"] == "attempt_started").map(|event| &event["id"]);
    assert_eq!(started.collect::<Vec<_>>(), begun, "work items that the launch ran");
    project.fanout(["collect"]).succeeded();
    project.fanout(["finalize"]).succeeded();
    let serial = committed();
    serial.dvc(["repro"]);
    assert_same(&serial, project, "a run that was cut off, to its end");
    assert_clean(project, &[]);
}

#[test]
fn a_run_that_failed_under_an_earlier_version_is_read_and_what_is_left_is_run() {
    let project = after("failed");
    let status = document(&project, ["status", "--format", "json"]);
    assert_eq!(each(&status["items"], "standing"), ["done", "done", "failed", "done", "skipped"], "{status}");
    let report = document(&project, ["report", "--format", "json"]);
    assert_eq!(report["counts"], json!({"failed": 1, "not_run": 0, "skipped": 1, "succeeded": 3}), "{report}");
    let failed = &report["work_items"][2];
    assert_eq!((&failed["outcome"], &failed["attempts"][0]["end"]), (&json!("failed"), &json!("failed")), "{failed}");
    let why = failed["message"].as_str().expect("a message");
    assert!(why.starts_with("stage `extract@s3` failed to run:") && why.ends_with("exited with 1"), "{why}");
    assert!(project.fanout(["logs", "s3"]).succeeded().contains("failed to reproduce 'extract@s3'"));

    // It is over: collecting it again does no harm, and another run does what is left.
    assert_eq!(project.fanout(["retry", "s3"]).code, Some(4));
    project.fanout(["collect"]).succeeded();
    let ran = project.fanout(["run", "--format", "json"]).succeeded();
    assert!(!ran.contains("\"id\":\"s1\""), "what had succeeded was run again: {ran}");
    let serial = committed();
    let failed = dvc::run(serial.command("dvc").args(["repro", "--keep-going"]).env("REFUSED", "s3"));
    assert_ne!(failed.code, Some(0), "{failed:#?}");
    serial.dvc(["repro"]);
    assert_same_after_failure(&serial, &project, "a run that failed, and what was left of it");
    assert_clean(&project, &[]);
}

#[test]
fn a_run_that_was_cut_off_under_an_earlier_version_is_resumed_and_collected() {
    let project = after("halfway");
    let status = document(&project, ["status", "--format", "json"]);
    assert_eq!(each(&status["items"], "standing"), ["done", "done", "interrupted", "waiting", "waiting"], "{status}");
    let report = document(&project, ["report", "--format", "json"]);
    assert_eq!(report["counts"], json!({"failed": 0, "not_run": 3, "skipped": 0, "succeeded": 2}), "{report}");
    let ends = each(&report["work_items"], "attempts").into_iter().map(|attempts| attempts[0]["end"].clone());
    let ends: Vec<Value> = ends.collect();
    assert_eq!(ends, [json!("succeeded"), json!("succeeded"), json!("unfinished"), Value::Null, Value::Null]);
    go_on(&project, &["s3", "s4"]);
}
