//! `dvc-fanout collect` in projects of real DVC, with results that another machine's DVC made.

use std::fmt::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::same::fails_with;
use crate::support::{Project, Ran};

const RUN: &str = "20240101-000000-0001";
/// How long a state is waited for.
const LIMIT: Duration = Duration::from_mins(1);

/// A project whose sessions all ran; commands wait while the file `gate` exists.
fn project() -> Project {
    let project = Project::from_fixture("sessions");
    let gate = "while test -e gate; do sleep 0.05; done; mkdir -p work";
    project.edit("dvc.yaml", "cmd: mkdir -p work", &format!("cmd: {gate}"));
    project.dvc(["repro", "--quiet"]);
    project.commit("all sessions ran");
    project
}

/// The lines of a stage's entry in a lock file that DVC wrote.
fn entry(lock: &str, name: &str) -> String {
    let mut lines = lock.lines().skip_while(|line| *line != format!("  {name}:"));
    let first = lines.next().unwrap_or_else(|| panic!("no entry of {name} in\n{lock}"));
    let rest = lines.take_while(|line| line.starts_with("   "));
    std::iter::once(first).chain(rest).flat_map(|line| [line, "\n"]).collect()
}

/// Runs a session's stages on another machine that shares the cache, and publishes what DVC left there as the result of
/// a run of one work item.
fn publish_session(project: &Project, session: &str) {
    let other = project.clone_beside("other");
    let input = format!("raw/{session}.txt");
    other.write(&input, &project.read(&input));
    let cache = project.path(".dvc/cache");
    other.dvc(["cache", "dir", "--local", cache.to_str().expect("it is UTF-8")]);
    other.dvc(["checkout", "--quiet"]);
    other.dvc(["repro", "--quiet", &format!("score@{session}")]);

    let (base, theirs) = (project.read("dvc.lock"), other.read("dvc.lock"));
    let score = format!("scores/{session}.json");
    let text = other.read(&score);
    let names = [format!("extract@{session}"), format!("score@{session}")];
    let out = |path: &str, cache: bool, before: Value| json!({"path": path, "resolved": path, "cache": cache, "persist": false, "before": before});
    let before = json!([{"path": score, "md5": md5(&project.read(&score))}]);
    let both = [out(&format!("work/{session}.txt"), true, json!([])), out(&score, false, before)];
    let stages: Vec<Value> = (0..2)
        .map(|at| {
            json!({
                "address": names[at], "file": "dvc.yaml", "name": names[at], "order": at, "base": entry(&base, &names[at]),
                "outs": [both[at]], "reason": "", "restores": false, "records": false,
            })
        })
        .collect();
    let resources = json!({
        "cpus": null, "memory_mib": null, "gpus": null, "timeout_seconds": null, "retries": null, "group": null,
    });
    let item = json!({
        "version": 1, "index": 0, "id": session, "phase": 0, "stages": stages, "files": [], "inputs": [],
        "directories": [], "needs": [], "resources": resources,
    });
    let plan = json!({
        "version": 1, "run": RUN, "created": "", "program": "0", "dvc": "3.67.1", "root": project.root(), "prefix": "",
        "head": null, "snapshot": null, "workspace": null, "targets": [], "base": [], "work_items": 1, "phases": [],
        "templates": [], "options": {
            "over": null, "force": false, "single_item": false, "pipeline": false, "all_pipelines": false,
            "recursive": false, "downstream": false, "glob": false, "no_run_cache": false, "pull": false,
            "allow_missing_keys": false, "cwd": "",
        },
    });
    let good =
        |name: &String| json!({"address": name, "state": "ran", "entry": entry(&theirs, name), "executable": []});
    let result = json!({
        "version": 1, "run": RUN, "index": 0, "id": session, "attempt": 1, "outcome": {"kind": "succeeded"},
        "stages": names.iter().map(good).collect::<Vec<_>>(), "deleted": [], "ignore": [], "dvc": "3.67.1", "host": "other",
        "started": "", "finished": "", "files": [{
            "path": score, "blob": "0", "size": text.len(), "md5": md5(&text), "executable": false, "symlink": null,
            "stage": names[1], "before": null,
        }],
    });
    let run = format!(".dvc/fanout/runs/{RUN}");
    project.write(".dvc/fanout/.gitignore", "*\n");
    project.write(&format!("{run}/results/0/1/files/0"), &text);
    project.write(&format!("{run}/results/0/1/result.json"), &result.to_string());
    project.write(&format!("{run}/worklist.jsonl"), &format!("{item}\n"));
    project.write(&format!("{run}/plan.json"), &plan.to_string());
}

fn md5(text: &str) -> String {
    use md5::{Digest as _, Md5};
    let mut digits = String::new();
    for byte in Md5::digest(text.as_bytes()) {
        write!(digits, "{byte:02x}").expect("a String takes every text");
    }
    digits
}

/// Starts a `dvc repro` and waits until its command runs, held back by the gate.
fn start_repro(project: &Project, target: &str) -> Child {
    project.write("gate", "");
    let mut command = project.command("dvc");
    command.args(["repro", "--no-run-cache", target]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("dvc is on the PATH");
    let start = Instant::now();
    let rwlock = || std::fs::read_to_string(project.path(".dvc/tmp/rwlock")).unwrap_or_default();
    // DVC has given the repository lock away once the paths stand in there and a command was started.
    while !(rwlock().contains("/work/") && children(child.id()) > 0) {
        assert!(start.elapsed() < LIMIT, "no stage runs: {}", rwlock());
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The number of child processes.
fn children(process: u32) -> usize {
    let path = format!("/proc/{process}/task/{process}/children");
    std::fs::read_to_string(path).unwrap_or_default().split_whitespace().count()
}

/// Opens the gate and lets the repro end.
fn finish_repro(project: &Project, child: Child) {
    std::fs::remove_file(project.path("gate")).expect("removed");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn after_a_collect_dvc_finds_nothing_to_do() {
    let project = project();
    project.write("raw/s1.txt", "another text\n");
    publish_session(&project, "s1");
    let said = project.fanout(["collect"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(said.stderr, format!("collected 2 stages and 1 file of run {RUN}\n"));
    project.dvc(["checkout", "--quiet"]);
    assert!(project.dvc(["status", "extract", "score"]).contains("up to date"));
    let lock = project.read("dvc.lock");
    assert!(project.dvc(["repro", "extract", "score"]).contains("didn't change"));
    assert_eq!(project.read("dvc.lock"), lock);
    assert_eq!(project.fanout(["collect"]).stderr, format!("nothing new to collect from run {RUN}\n"));
}

#[test]
fn a_dvc_repro_beside_a_collect_loses_nothing() {
    let project = project();
    project.write("raw/s1.txt", "another text\n");
    project.write("raw/s3.txt", "a third text\n");
    publish_session(&project, "s1");
    let repro = start_repro(&project, "extract@s3");
    let said = project.fanout(["collect"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    finish_repro(&project, repro);
    project.dvc(["checkout", "--quiet"]);
    assert!(project.dvc(["status", "extract", "score@s1"]).contains("up to date"));
}

#[test]
fn a_stage_that_runs_in_the_project_is_not_collected_before_it_ends() {
    let project = project();
    project.write("raw/s1.txt", "another text\n");
    publish_session(&project, "s1");
    let before = project.read("dvc.lock");
    let repro = start_repro(&project, "extract@s1");
    let said = project.fanout(["collect", "--lock-timeout", "0"]);
    assert_eq!(said.code, Some(5), "{said:#?}");
    assert!(said.stderr.contains(&format!("work/s1.txt` is in use by process {}", repro.id())), "{said:#?}");
    assert_eq!(project.read("dvc.lock"), before);
    finish_repro(&project, repro);
    // Both made the same of it.
    assert_eq!(project.fanout(["collect"]).code, Some(0));
    assert!(project.dvc(["status", "extract", "score"]).contains("up to date"));
}

#[test]
fn a_stage_that_both_sides_changed_is_explained_and_resolved_on_request() {
    let project = project();
    project.write("raw/s1.txt", "their text\n");
    publish_session(&project, "s1");
    project.write("raw/s1.txt", "my text\n");
    project.dvc(["repro", "--quiet", "score@s1"]);
    let (lock, score) = (project.read("dvc.lock"), project.read("scores/s1.json"));
    let said = project.fanout(["collect"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    for part in ["stage `extract@s1` changed on both sides", "dvc.lock:", "deps raw/s1.txt md5: base ", "--theirs"] {
        assert!(said.stderr.contains(part), "no {part} in {}", said.stderr);
    }
    assert_eq!((project.read("dvc.lock"), project.read("scores/s1.json")), (lock.clone(), score));

    let said = project.fanout(["collect", "--dry-run", "--format", "json"]);
    let document: Value = serde_json::from_str(&said.stdout).expect("it is JSON");
    let stages: Vec<_> = document["conflicts"].as_array().expect("a list").iter().map(|c| c["stage"].clone()).collect();
    assert!(stages.contains(&json!("extract@s1")), "{document}");

    assert_eq!(project.fanout(["collect", "--ours"]).code, Some(0));
    assert_eq!(project.read("dvc.lock"), lock);
    assert_eq!(project.fanout(["collect", "--theirs"]).code, Some(0));
    project.write("raw/s1.txt", "their text\n");
    project.dvc(["checkout", "--quiet", "--force"]);
    assert!(project.dvc(["status", "extract", "score"]).contains("up to date"));
    let unknown: Ran = project.fanout(["collect", "--only", "s9"]);
    assert_eq!(unknown.code, Some(2), "{unknown:#?}");
}

#[test]
fn a_collect_that_is_killed_at_any_moment_is_completed_by_the_next() {
    let project = project();
    project.write("raw/s1.txt", "another text\n");
    publish_session(&project, "s1");
    let files = ["dvc.lock", "scores/s1.json"];
    let read = || files.map(|path| project.read(path));
    let before = read();
    project.fanout(["collect"]).succeeded();
    let after = read();
    // Whenever the kill comes, before the first step or after the last, the end is the same.
    for delay in (0..40).step_by(2).map(Duration::from_millis) {
        files.iter().zip(&before).for_each(|(path, text)| project.write(path, text));
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        let mut child = command.arg("collect").stderr(Stdio::null()).spawn().expect("it is built");
        std::thread::sleep(delay);
        child.kill().and_then(|()| child.wait()).expect("killed");
        for (now, sides) in read().iter().zip(before.iter().zip(&after)) {
            assert!(now == sides.0 || now == sides.1, "half a file after {delay:?}:\n{now}");
        }
        let said = project.fanout(["collect"]);
        assert_eq!((said.code, read()), (Some(0), after.clone()), "killed after {delay:?}: {}", said.stderr);
        assert!(!project.path(".dvc/fanout/apply").exists());
    }
}

/// Whoever has decided for the project's own version is not asked again, and keeps what belongs to it.
#[test]
fn what_was_decided_for_the_project_stays_decided() {
    let project = Project::without_init();
    project.write("in", "1\n");
    project.write(
        "dvc.yaml",
        "stages:\n  s:\n    foreach: [a, b]\n    do:\n      cmd: cat in > ${item}.out && cp in ${item}.beside\n      \
         deps: [in]\n      outs: ['${item}.out']\n  sum:\n    cmd: cat a.out b.out > sum\n    deps: [a.out, b.out]\n    \
         outs: [sum]\n",
    );
    project.commit("two sessions");
    project.fanout(["plan"]).succeeded();
    project.fanout(["launch"]).succeeded();
    project.write("in", "2\n");
    project.dvc(["repro", "--quiet", "s@a"]);
    let mine = entry(&project.read("dvc.lock"), "s@a");
    fails_with(&project, 3, ["collect"]);
    project.fanout(["collect", "--ours"]).succeeded();
    let ran = project.fanout(["finalize"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(entry(&project.read("dvc.lock"), "s@a"), mine);
    assert_eq!((project.read("a.out"), project.read("a.beside")), ("2\n".into(), "2\n".into()));
    assert_eq!((project.read("b.out"), project.read("b.beside")), ("1\n".into(), "1\n".into()));
    project.fanout(["run"]).succeeded();
    assert_eq!(project.read("sum"), "2\n2\n");
    assert_eq!(project.dvc(["status"]), "Data and pipelines are up to date.\n");
}
