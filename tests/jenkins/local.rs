//! Builds whose workers are this machine's cores.

use super::{Job, assert_ended};
use crate::support::Project;
use crate::support::same::assert_clean;

#[test]
fn a_build_commits_and_pushes_what_dvc_repro_would_have_left() {
    let Some(job) = Job::new(|_| {}) else { return };
    let message = "set:message=it's \"done\" $HOME";
    let said = job.build(&[message, "GPU=reduce", "TARGET_BRANCH=results"]);
    assert!(said.ends_with("result: SUCCESS\n"), "{said}");
    assert!(said.contains("junit: 5 tests, 0 failures") && said.contains("archived: report.html"), "{said}");
    let commits = job.origin(["log", "--format=%an <%ae> %s", "main..results"]);
    assert_eq!(commits, "dvc-fanout <team@example.com> it's \"done\" $HOME\n");
    job.assert_same_as_repro("results");
    let clone = job.clone_of("results");
    clone.dvc(["pull", "--quiet"]);
    assert_clean(&clone, &[]);

    // Another machine, whose cache has nothing: data comes from the remote.
    std::fs::remove_dir_all(job.project.path("../shared")).expect("removed");
    let said = job.build(&["BRANCH=results"]);
    assert!(said.contains("echo: nothing to do") && said.ends_with("result: SUCCESS\n"), "{said}");
}

#[test]
fn a_failed_session_is_unstable_with_the_others_committed() {
    let fails = |project: &Project| {
        project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: test ${item} != s3 && mkdir -p work &&");
    };
    let Some(job) = Job::new(fails) else { return };
    let before = job.origin(["rev-list", "--count", "main"]);
    let said = job.build(&["AMEND=true"]);
    assert!(said.ends_with("mail: team/project 1 is unstable\nresult: UNSTABLE\n"), "{said}");
    assert!(said.contains("junit: 5 tests, 1 failures"), "{said}");
    assert_eq!(job.origin(["rev-list", "--count", "main"]), before, "the commit was amended: {said}");
    assert_eq!(job.origin(["log", "-1", "--format=%s", "main"]), "the state before\n");
    let lock = job.origin(["show", "main:dvc.lock"]);
    let has = |stage: &str| lock.contains(&format!("\n  {stage}:"));
    assert!(has("score@s1") && has("score@s2") && has("score@s4"), "{lock}");
    assert!(!has("extract@s3") && !has("summary"), "{lock}");
    assert_eq!(job.origin(["show", "main:work/.gitignore"]), "/s1.txt\n/s2.txt\n/s4.txt\n");
}

#[test]
fn a_failed_push_fails_the_build_and_the_next_one_makes_up_for_it() {
    let Some(job) = Job::new(|_| {}) else { return };
    let before = job.origin(["rev-parse", "main"]);
    let hook = job.project.path("../origin.git/hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho not today >&2\nexit 1\n").expect("written");
    job.project.command("chmod").arg("+x").arg(&hook).status().expect("changed");
    let said = job.build(&[]);
    assert!(said.contains("mail: team/project 1 failed\n") && said.ends_with("result: FAILURE\n"), "{said}");
    assert!(said.contains("not today"), "{said}");
    assert!(said.contains("archived: "), "the report is there all the same: {said}");
    assert_eq!(job.origin(["rev-parse", "main"]), before);

    std::fs::remove_file(hook).expect("removed");
    std::fs::write(job.project.path("../shared/team_project/left-over.txt"), "no result\n").expect("written");
    let said = job.build(&[]);
    assert!(said.ends_with("result: SUCCESS\n"), "{said}");
    assert_eq!(job.origin(["rev-list", "--count", &format!("{}..main", before.trim())]), "1\n");
    job.assert_same_as_repro("main");
}

#[test]
fn a_tool_that_fails_fails_the_build_which_reports_and_commits_nothing() {
    let Some(job) = Job::new(|_| {}) else { return };
    let before = job.origin(["rev-parse", "main"]);
    let said = job.build(&["set:launchArguments=['--no-such-flag']"]);
    assert!(said.contains("ended with exit code 2") && said.ends_with("result: FAILURE\n"), "{said}");
    assert!(said.contains("stage: Report") && said.contains("archived: "), "{said}");
    assert!(!said.contains("stage: Collect"), "{said}");
    assert_eq!(job.origin(["rev-parse", "main"]), before);
}

#[test]
fn an_abort_stops_the_workers_and_pushes_nothing() {
    let waits = |project: &Project| {
        let began = project.path("../began");
        let command = format!("cmd: echo $$ >> {}; sleep 300; mkdir -p work &&", began.display());
        project.edit("dvc.yaml", "cmd: mkdir -p work &&", &command);
    };
    let Some(job) = Job::new(waits) else { return };
    let before = job.origin(["rev-parse", "main"]);
    let began = job.project.path("../began");
    let said = job.build(&[&format!("abort:dvc-fanout launch={}", began.display())]);
    assert!(said.ends_with("result: ABORTED\n") && !said.contains("mail:"), "{said}");
    assert_eq!(job.origin(["rev-parse", "main"]), before);
    assert!(!said.contains("stage: Collect"), "{said}");
    assert_ended(&began);
}

#[test]
fn the_first_build_only_learns_the_parameters() {
    let Some(job) = Job::new(|_| {}) else { return };
    let said = job.build(&["REPOSITORY="]);
    assert!(said.starts_with("echo: ") && said.ends_with("result: SUCCESS\n"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}
