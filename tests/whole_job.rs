//! The main job end to end: plan, launch, work, collect, finalize, and `run`, which is all of them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::Project;
use crate::support::same::{assert_clean, assert_same, assert_same_after_failure, fails_with, same_as_dvc};

#[test]
fn a_project_with_sessions_ends_as_dvc_repro_leaves_it() {
    same_as_dvc(
        "sessions",
        &[],
        &[&|project| project.write("raw/s2.txt", "changed, not committed\n"), &|project| {
            project.edit("params.yaml", "s4", "s4, s5");
            project.write("raw/s5.txt", "five\n");
        }],
    );
}

#[test]
fn a_matrix_with_directories_ends_as_dvc_repro_leaves_it() {
    same_as_dvc("grid", &[], &[&|project| project.write("raw/west.csv", "west 2\n")]);
}

#[test]
fn pipelines_in_folders_end_as_dvc_repro_leaves_them() {
    same_as_dvc("nested", &["-P"], &[&|project| project.edit("sessions.yaml", "rate: 2", "rate: 3")]);
}

#[test]
fn entries_and_ignore_lines_come_in_the_order_of_dvc_repro() {
    same_as_dvc("two-pipelines", &[], &[]);
}

#[test]
fn the_commands_work_one_by_one_from_separate_shells() {
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    serial.dvc(["repro"]);
    let head = fanned.git(["rev-parse", "HEAD"]);
    fanned.fanout(["plan"]).succeeded();
    assert_eq!(fanned.git(["status", "--porcelain"]), "", "plan changes nothing that git sees");
    fanned.fanout(["launch", "-j", "2"]).succeeded();
    assert!(!fanned.path("dvc.lock").exists(), "only collect writes the lock file");
    fanned.fanout(["collect"]).succeeded();
    assert!(fanned.read("dvc.lock").contains("  score@s4:"));
    assert!(!fanned.read("dvc.lock").contains("  summary:"), "the stage that is left is for finalize");
    fanned.fanout(["collect"]).succeeded();
    fanned.fanout(["finalize"]).succeeded();
    assert_eq!(fanned.git(["rev-parse", "HEAD"]), head);
    assert_same(&serial, &fanned, "one by one");
    assert_clean(&fanned, &[]);
}

#[test]
fn a_run_that_nobody_launched_is_not_ended() {
    let project = Project::from_fixture("sessions");
    project.fanout(["plan"]).succeeded();
    let early = fails_with(&project, 1, ["finalize", "--commit"]);
    assert!(
        early.stderr.contains("error: 4 work items have not run\nhint: `dvc-fanout launch` runs them\n"),
        "{early:#?}"
    );
    assert!(!early.stderr.contains("failed") && early.stderr.contains("not committed"), "{early:#?}");
    assert!(project.fanout(["status"]).stdout.contains("planned"));
    let run = project.fanout(["launch", "-j", "2", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{run:#?}");
    project.fanout(["finalize"]).succeeded();
    assert_clean(&project, &[]);
}

#[test]
fn nothing_to_do_is_said_and_starts_nothing() {
    let project = Project::from_fixture("sessions");
    project.fanout(["run", "-j", "2"]).succeeded();
    let status = project.fanout(["status"]).succeeded();
    let again = project.fanout(["run"]).succeeded();
    assert!(again.contains("nothing to do"), "{again}");
    assert_eq!(project.fanout(["status"]).succeeded(), status, "the latest run is one that did something");
    project.fanout(["plan", "--exit-code"]).succeeded();
    let launched = project.fanout(["launch"]);
    assert!(launched.code == Some(0) && launched.stderr.contains("nothing to do"), "{launched:#?}");
    let launched = project.fanout(["launch", "--phase", "0"]);
    assert!(launched.code == Some(0) && launched.stderr.contains("nothing to do"), "{launched:#?}");
}

#[test]
fn one_failed_session_keeps_the_results_of_the_others() {
    let make = || {
        let project = Project::from_fixture("sessions");
        project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: test ${item} != s3 && mkdir -p work &&");
        project.write("scores/.gitignore", "/of-the-user\n");
        project.commit("s3 fails");
        project
    };
    let (serial, project) = (make(), make());
    let ran = fails_with(&project, 1, ["run", "-j", "2"]);
    let lock = project.read("dvc.lock");
    for stage in ["extract@s1", "score@s1", "extract@s2", "score@s4"] {
        assert!(lock.contains(&format!("  {stage}:")), "{stage} is kept:\n{lock}");
    }
    for stage in ["extract@s3", "score@s3", "summary"] {
        assert!(!lock.contains(&format!("  {stage}:")), "{stage} has no result:\n{lock}");
    }
    let last: Vec<&str> = ran.stderr.lines().rev().take(20).collect();
    let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    assert!(last.contains("failed: s3") && last.contains("extract@s3"), "the failed item is named last:\n{last}");
    assert!(last.contains("test s3 != s3"), "with its command:\n{last}");
    assert!(last.contains("results/2/1.log"), "and its log:\n{last}");
    let status = project.dvc(["status", "extract@s1", "score@s1", "extract@s2", "score@s2", "extract@s4", "score@s4"]);
    assert!(status.contains("up to date"), "{status}");
    let kept = serial.try_dvc(["repro", "--keep-going"]);
    assert_ne!(kept.code, Some(0), "{kept:#?}");
    assert_same_after_failure(&serial, &project, "after a failure");
    assert!(!serial.path("work/.gitignore").exists(), "DVC took its lines back");
    assert_eq!(project.read("work/.gitignore"), "/s1.txt\n/s2.txt\n/s4.txt\n");
}

#[test]
fn a_run_that_was_killed_goes_on_where_it_was() {
    let fanned = Project::from_fixture("sessions");
    // Every session but the first waits for a gate, and each says that it ran.
    let command = format!(
        "cmd: echo ${{item}} >> {} && if [ ${{item}} != s1 ]; then while [ ! -e {} ]; do sleep 0.05; done; fi && mkdir -p work &&",
        fanned.path("../ran").display(),
        fanned.path("../gate").display()
    );
    fanned.edit("dvc.yaml", "cmd: mkdir -p work &&", &command);
    fanned.commit("gated");
    let mut child = fanned
        .command(env!("CARGO_BIN_EXE_dvc-fanout"))
        .args(["run", "-j", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let limit = Instant::now() + Duration::from_mins(1);
    let ran = || std::fs::read_to_string(fanned.path("../ran")).unwrap_or_default();
    while !ran().contains("s2") {
        assert!(Instant::now() < limit, "the second session never began: {:?}", ran());
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    std::fs::write(fanned.path("../gate"), "").expect("written");
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(ran().matches("s1").count(), 1, "what had a result is not run again: {:?}", ran());
    assert_clean(&fanned, &[]);
}

#[test]
fn an_input_that_changed_after_the_plan_is_planned_anew() {
    let project = Project::from_fixture("sessions");
    project.fanout(["plan"]).succeeded();
    project.write("raw/s2.txt", "edited after the plan\n");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(project.read("work/s2.txt"), "EDITED AFTER THE PLAN\n");
    assert_clean(&project, &[]);
}

#[test]
fn bad_input_gets_a_clear_error_and_touches_nothing() {
    let project = Project::from_fixture("sessions");
    let check = |code: i32, arguments: &[&str], wanted: &[&str]| {
        let ran = fails_with(&project, code, arguments.iter().copied());
        for wanted in wanted {
            assert!(ran.stderr.contains(wanted), "{arguments:?} says `{wanted}`: {}", ran.stderr);
        }
    };
    check(4, &["launch"], &["there is no plan", "dvc-fanout plan"]);
    check(2, &["plan", "extrct@s1"], &["extrct", "extract"]);
    check(2, &["--cd", "no-such-folder", "plan"], &["no-such-folder"]);
    check(4, &["--cd", "..", "plan"], &["not in a DVC project"]);
    assert!(!project.path(".dvc/fanout").exists(), "nothing was written");

    project.fanout(["plan"]).succeeded();
    check(2, &["work"], &["no work item was named", "JOB_COMPLETION_INDEX"]);
    check(2, &["work", "99"], &["no work item 99"]);
    project.write("params.yaml", "sessions: [s1]\nweight: 2\n");
    check(4, &["launch"], &["out of date", "params.yaml", "dvc-fanout plan"]);
    project.git(["checkout", "--quiet", "params.yaml"]);

    project.edit("dvc.yaml", "foreach: ${sessions}", "foreach: ${sesions}");
    check(4, &["plan"], &["dvc.yaml:4", "sesions", "sessions"]);
    project.git(["checkout", "--quiet", "dvc.yaml"]);
    std::fs::remove_dir_all(project.path(".git")).expect("removed");
    check(4, &["plan"], &["not in a git work tree", "git init", "core.no_scm"]);
}

#[test]
fn a_missing_or_old_dvc_is_named() {
    let project = Project::from_fixture("sessions");
    let old = project.path("../old-dvc");
    std::fs::write(&old, "#!/bin/sh\necho 2.58.2\n").expect("written");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("set");
    let plan = |dvc: &str| {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        crate::support::Ran::of(command.args(["plan", "--executor", "dvc"]).env("DVC_FANOUT_DVC", dvc))
    };
    let ran = plan(&old.display().to_string());
    assert!(ran.code == Some(4) && ran.stderr.contains("DVC 2.58.2 is too old"), "{ran:#?}");
    let ran = plan("/no/such/dvc");
    assert!(ran.code == Some(4) && ran.stderr.contains("DVC_FANOUT_DVC is no program: `/no/such/dvc`"), "{ran:#?}");
}

#[test]
fn a_second_launch_of_the_same_run_is_told_so() {
    let project = Project::from_fixture("sessions");
    let gate = project.path("../gate");
    project.edit(
        "dvc.yaml",
        "cmd: mkdir -p work &&",
        &format!("cmd: while [ ! -e {} ]; do sleep 0.05; done; mkdir -p work &&", gate.display()),
    );
    project.commit("gated");
    project.fanout(["plan"]).succeeded();
    let mut first = project
        .command(env!("CARGO_BIN_EXE_dvc-fanout"))
        .args(["launch", "-j", "1"])
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let limit = Instant::now() + Duration::from_mins(1);
    let events = || {
        let mut runs = std::fs::read_dir(project.path(".dvc/fanout/runs")).expect("listed");
        let run = runs.find_map(Result::ok).expect("a run").path();
        std::fs::read_to_string(run.join("events.jsonl")).unwrap_or_default()
    };
    while !events().contains("attempt_started") {
        assert!(Instant::now() < limit, "nothing began: {}", events());
        std::thread::sleep(Duration::from_millis(50));
    }
    let second = fails_with(&project, 5, ["launch"]);
    assert!(second.stderr.contains("being launched already, by process"), "{second:#?}");
    std::fs::write(gate, "").expect("written");
    assert!(first.wait().expect("ended").success());
}

#[test]
fn workspaces_which_hold_private_settings_are_closed_to_others() {
    let project = Project::from_fixture("sessions");
    project.fanout(["plan"]).succeeded();
    project.fanout(["work", "0"]).succeeded();
    let slots = project.path(".dvc/fanout/slots");
    let mode = slots.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
