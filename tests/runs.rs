//! The commands that look at runs and steer them from disk alone: `status`, `logs`, `retry`, `cancel`, `runs`.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::same::{assert_clean, fails_with};
use crate::support::{Project, run_folder};

/// How long a test waits for something that takes a second or two.
const LIMIT: Duration = Duration::from_mins(1);

fn status(project: &Project) -> Value {
    serde_json::from_str(&project.fanout(["status", "--format", "json"]).succeeded()).expect("JSON")
}

fn item<'s>(status: &'s Value, id: &str) -> &'s Value {
    let items = status["items"].as_array().expect("a list");
    items.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("no `{id}`: {status}"))
}

/// A launch in the background that is killed with the test.
pub(crate) struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn start<'a>(project: &Project, arguments: impl IntoIterator<Item = &'a str>) -> Background {
    let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    Background(command.spawn().expect("started"))
}

/// Waits until something holds; `what` says what and how things stand when the time is over.
#[track_caller]
pub(crate) fn wait_until(what: &dyn Fn() -> String, holds: &dyn Fn() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < limit, "this never came true: {}", what());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_failed_session_is_shown_left_alone_and_retried_when_asked_for() {
    let project = Project::from_fixture("sessions");
    let good = project.path("../good");
    project.edit(
        "dvc.yaml",
        "cmd: mkdir -p work &&",
        &format!(
            "cmd: echo ${{item}} >> {}; test ${{item}} != s3 -o -e {} && mkdir -p work &&",
            project.path("../ran").display(),
            good.display()
        ),
    );
    project.commit("s3 fails");
    project.fanout(["plan"]).succeeded();
    assert_eq!(status(&project)["state"], "planned");
    fails_with(&project, 1, ["launch", "-j", "2"]);

    let after = status(&project);
    assert_eq!(after["state"], "idle");
    assert_eq!(item(&after, "s1")["standing"], "done");
    assert_eq!(item(&after, "s3")["standing"], "failed");
    assert!(item(&after, "s3")["message"].as_str().expect("text").contains("extract@s3"), "{after}");
    let text = project.fanout(["status"]).succeeded();
    assert!(text.contains("3 done, 1 failed") && text.contains("failed: s3 [2]"), "{text}");
    assert!(text.trim_end().ends_with("results/2/1.log"), "the failure comes last, with its log:\n{text}");

    let again = fails_with(&project, 1, ["launch", "-j", "2"]);
    assert!(again.stderr.contains("1 work item failed before"), "{again:#?}");
    let ran = || std::fs::read_to_string(project.path("../ran")).unwrap_or_default();
    assert_eq!(ran().matches("s3").count(), 1, "a command that failed would fail again");

    std::fs::write(&good, "").expect("written");
    project.fanout(["collect"]).succeeded();
    assert!(project.read("dvc.lock").contains("extract@s1"), "collecting in between does not make the plan stale");
    assert!(fails_with(&project, 2, ["retry", "x*"]).stderr.contains("no work item `x*`"));
    let retried = project.fanout(["retry", "s[1-3]"]).succeeded();
    assert!(retried.contains("1 work item will run again"), "{retried}");
    project.fanout(["launch", "-j", "2"]).succeeded();
    assert_eq!(ran().matches("s3").count(), 2);
    assert_eq!(ran().matches("s1").count(), 1, "the others are left alone");
    assert_eq!(item(&status(&project), "s3")["attempt"], 2);
    assert!(project.fanout(["logs", "s3", "--attempt", "1"]).succeeded().contains("exited with 1"));
    assert!(project.fanout(["logs", "s3"]).succeeded().contains("Updating lock file"));
    let none = fails_with(&project, 2, ["logs", "s3", "--attempt", "9"]);
    assert!(none.stderr.contains("its attempts: 1, 2"), "{none:#?}");
    assert!(fails_with(&project, 2, ["logs", "s9"]).stderr.contains("no work item `s9`"));

    project.fanout(["finalize"]).succeeded();
    assert_clean(&project, &[]);
    assert_eq!(status(&project)["state"], "finalized");
    assert!(fails_with(&project, 4, ["retry"]).stderr.contains("is over"));
}

#[test]
fn runs_are_cancelled_from_another_terminal_listed_and_pruned() {
    let project = Project::from_fixture("sessions");
    let gate = project.path("../gate");
    project.edit(
        "dvc.yaml",
        "cmd: mkdir -p work &&",
        &format!("cmd: echo begun; while [ ! -e {} ]; do sleep 0.05; done; mkdir -p work &&", gate.display()),
    );
    project.commit("gated");
    project.fanout(["plan"]).succeeded();
    let mut launch = start(&project, ["launch", "-j", "1"]);
    let running = || item(&status(&project), "s1")["standing"] == "running";
    wait_until(&|| status(&project).to_string(), &running);
    let follow = start(&project, ["logs", "s1", "--follow"]);
    let log = || project.fanout(["logs", "s1"]).succeeded();
    wait_until(&log, &|| log().contains("begun"));
    let pruned = project.fanout(["runs", "prune", "--keep", "0", "--force"]);
    assert!(pruned.code == Some(0) && pruned.stderr.contains("it is on"), "{pruned:#?}");

    let cancelled = project.fanout(["cancel"]).succeeded();
    assert!(cancelled.contains("has ended"), "{cancelled}");
    assert_eq!(launch.0.wait().expect("ended").code(), Some(130));
    let after = status(&project);
    assert_eq!(after["state"], "idle");
    assert_eq!(item(&after, "s1")["standing"], "interrupted");
    assert_eq!(item(&after, "s2")["standing"], "waiting");
    let mut follow = follow;
    assert!(follow.0.wait().expect("ended").success(), "who follows a log is not left waiting");
    assert!(project.fanout(["cancel"]).succeeded().contains("is not on"));

    std::fs::write(&gate, "").expect("written");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_clean(&project, &[]);
    project.write("raw/s1.txt", "changed\n");
    project.fanout(["plan"]).succeeded();
    let listed = project.fanout(["runs"]).succeeded();
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("finalized: 5 done") && lines[1].contains("planned"), "{listed}");
    assert_eq!(snapshots(&project), 1, "that of the finalized run is gone");
    assert!(project.fanout(["runs", "prune"]).succeeded().contains("1 run removed"));
    assert!(project.fanout(["runs", "prune", "--keep", "0"]).succeeded().contains("1 run removed"));
    assert_eq!(project.fanout(["runs"]).succeeded().trim(), "no runs");
    assert_eq!(snapshots(&project), 0);
}

#[test]
fn a_run_is_not_drained_where_that_would_end_what_runs() {
    let project = Project::from_fixture("sessions");
    project.fanout(["plan"]).succeeded();
    let jobs = run_folder(&project).join("jobs");
    std::fs::create_dir_all(&jobs).expect("made");
    let job = r#"{"version": 1, "engine": "kubernetes", "shards": 1, "retry_commands": false, "items": []}"#;
    std::fs::write(jobs.join("job.json"), job).expect("written");
    let ran = fails_with(&project, 2, ["cancel", "--drain"]);
    assert!(ran.stderr.contains("the engine `kubernetes` cannot end what waits and nothing else"), "{}", ran.stderr);
}

/// The number of runs that have a snapshot.
fn snapshots(project: &Project) -> usize {
    let runs = project.path(".dvc/fanout/runs").read_dir();
    runs.into_iter().flatten().flatten().filter(|run| run.path().join("snapshot").is_dir()).count()
}

/// A plan with nothing to do is there for the commands that come after it, and for nobody who looks at what was done.
#[test]
fn a_plan_with_nothing_to_do_hides_no_run_that_did_something() {
    let project = Project::from_fixture("sessions");
    project.fanout(["run", "-j", "2"]).succeeded();
    let shown = |project: &Project| ["status", "report", "runs"].map(|command| project.fanout([command]).succeeded());
    let before = shown(&project);
    for _ in 0..2 {
        assert!(project.fanout(["plan"]).succeeded().contains("nothing to do"));
        assert_eq!(shown(&project), before);
    }
    let kept = project.path(".dvc/fanout/runs").read_dir().expect("listed").count();
    assert_eq!(kept, 2, "the run, and the last plan");
    for command in ["launch", "collect", "finalize"] {
        project.fanout([command]).succeeded();
    }
    assert_eq!(shown(&project), before);
}

#[test]
fn a_run_is_watched_until_it_ends() {
    let project = Project::empty();
    let stage = "stages:\n  make:\n    foreach: [p, q, r]\n    do:\n      cmd: sleep 1.5 && test ${item} != r && echo ${item} > \
                 ${item}.out\n      outs: [\"${item}.out\"]\n";
    project.write("dvc.yaml", stage);
    project.commit("one");
    let mut run = start(&project, ["run", "-j", "1"]);
    wait_until(&|| "no run".to_owned(), &|| project.path(".dvc/fanout/runs").is_dir());
    wait_until(&|| "not launched".to_owned(), &|| project.fanout(["status"]).stdout.contains("running in"));
    let watched = project.fanout(["status", "--watch", "1s"]);
    assert_eq!(watched.code, Some(0), "{watched:#?}");
    let screens: Vec<&str> = watched.stdout.trim_end().split("\n\n").collect();
    assert!(screens.len() > 2 && screens[0].contains("running for:\n"), "{screens:#?}");
    let last = screens.last().expect("there is one");
    assert!(last.contains("3 of 3: 2 done, 1 failed\n") && last.contains("failed:\n  r: "), "{last}");
    assert_eq!(run.0.wait().expect("waited for").code(), Some(1));
}
