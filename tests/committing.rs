//! `--commit` and `--push`: what runs changed becomes a commit, nothing else does, and what was refused is made up for.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::same::fails_with;
use crate::support::{Project, Ran};

const PIPELINE: &str = "stages:
  use:
    foreach: [p, q]
    do:
      cmd: cat ${item}.txt > ${item}.out && cat ${item}.txt > ${item}.json && echo ${item} > log-${item}
      deps: [\"${item}.txt\"]
      outs: [\"${item}.out\"]
      metrics:
      - ${item}.json:
          cache: false
";
const MADE: &str = ".gitignore\ndvc.lock\nlog-p\nlog-q\np.json\nq.json\n";

/// A project in which somebody is in the middle of something.
fn project() -> Project {
    let project = Project::without_init();
    project.write("dvc.yaml", PIPELINE);
    for name in ["p.txt", "q.txt", "script.py", "staged.py"] {
        project.write(name, "1\n");
    }
    project.commit("one");
    project.write("script.py", "half-done\n");
    project.write("notes-with-password.txt", "secret\n");
    project.write("staged.py", "staged\n");
    project.git(["add", "staged.py"]);
    project.write("staged.py", "staged and edited\n");
    project
}

fn hook(project: &Project, name: &str, script: &str) {
    let path = format!(".git/hooks/{name}");
    project.write(&path, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(project.path(&path), std::fs::Permissions::from_mode(0o755)).expect("set");
}

fn committed(project: &Project) -> String {
    project.git(["show", "--format=", "--name-only", "HEAD"])
}

/// What the user was in the middle of is as it was.
#[track_caller]
fn assert_left_alone(project: &Project) {
    let status = project.git(["status", "--porcelain", "-uall"]);
    assert_eq!(status, " M script.py\nMM staged.py\n?? notes-with-password.txt\n");
}

#[test]
fn what_the_run_changed_is_committed_and_nothing_else() {
    let project = project();
    project.fanout(["run", "-j", "2", "--commit", "Results"]).succeeded();
    assert_eq!(committed(&project), MADE);
    assert_eq!(project.git(["log", "-1", "--format=%s"]), "Results\n");
    assert_left_alone(&project);
    // Metrics that changed, and one that goes.
    project.write("q.txt", "2\n");
    project.edit("dvc.yaml", "log-${item}", "/dev/null && rm -f log-${item}");
    project.fanout(["run", "-j", "2", "--commit"]).succeeded();
    assert_eq!(committed(&project), "dvc.lock\nlog-p\nlog-q\nq.json\n");
    let status = project.git(["status", "--porcelain", "-uall"]);
    assert_eq!(status, " M dvc.yaml\n M q.txt\n M script.py\nMM staged.py\n?? notes-with-password.txt\n");
    assert!(project.fanout(["run", "--commit"]).stderr.contains("nothing to commit"));
}

#[test]
fn what_a_hook_refused_is_committed_by_the_next_run() {
    let project = project();
    hook(&project, "pre-commit", "echo nope >&2; exit 1");
    let refused = fails_with(&project, 5, ["run", "-j", "2", "--commit"]);
    assert!(refused.stderr.contains("nope") && refused.stderr.contains("hint: the next"), "{refused:#?}");
    // The tree is as the run left it, and still nobody takes that for "nothing to do".
    let again = fails_with(&project, 5, ["run", "-j", "2", "--commit"]);
    assert!(!again.stdout.contains("nothing to do"), "{again:#?}");
    hook(&project, "pre-commit", "exit 0");
    project.fanout(["run", "-j", "2", "--commit"]).succeeded();
    assert_eq!(committed(&project), MADE);
    assert_left_alone(&project);
}

#[test]
fn finalize_makes_up_for_a_commit_without_identity() {
    let project = project();
    let mut run = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
        run.env_remove(name);
    }
    run.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "user.useConfigOnly").env("GIT_CONFIG_VALUE_0", "true");
    let ran = Ran::of(run.args(["run", "-j", "2", "--commit"]));
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    project.fanout(["finalize", "--commit"]).succeeded();
    assert_eq!(committed(&project), MADE);
    assert_left_alone(&project);
}

#[test]
fn a_hook_that_formats_what_it_refuses_is_content_with_the_next_commit() {
    let project = project();
    hook(&project, "pre-commit", "grep -q formatted log-p || { echo formatted >> log-p; exit 1; }");
    fails_with(&project, 5, ["run", "-j", "2", "--commit"]);
    project.fanout(["run", "-j", "2", "--commit"]).succeeded();
    assert_eq!(project.git(["show", "HEAD:log-p"]), "p\nformatted\n");
    assert_left_alone(&project);
}

#[test]
fn a_push_that_failed_is_made_up_for() {
    let project = project();
    fails_with(&project, 5, ["run", "-j", "2", "--commit", "--push"]);
    assert_eq!(committed(&project), MADE);
    let (up, store) = (project.path("../up.git"), project.path("../store"));
    let (up, store) = (up.to_str().expect("UTF-8"), store.to_str().expect("UTF-8"));
    project.git(["init", "--quiet", "--bare", up]);
    project.git(["remote", "add", "origin", up]);
    project.git(["push", "--quiet", "--set-upstream", "origin", "main~1:refs/heads/main"]);
    project.git(["branch", "--quiet", "--set-upstream-to", "origin/main"]);
    project.dvc(["remote", "add", "--quiet", "--local", "--default", "s", store]);
    project.fanout(["run", "-j", "2", "--commit", "--push"]).succeeded();
    assert_eq!(project.git(["rev-list", "--count", "origin/main..HEAD"]), "0\n");
    assert!(project.path("../store/files/md5").is_dir());
}

#[test]
fn results_that_came_before_a_failure_go_into_the_commit_that_follows_it() {
    let project = project();
    project.write("q.txt", "");
    project.edit("dvc.yaml", "cmd: cat", "cmd: test -s ${item}.txt && cat");
    let failed = fails_with(&project, 1, ["run", "-j", "2", "--commit"]);
    assert!(failed.stderr.contains("not committed"), "{failed:#?}");
    project.write("q.txt", "2\n");
    project.fanout(["run", "-j", "2", "--commit"]).succeeded();
    assert_eq!(committed(&project), MADE);
}

#[test]
fn what_the_user_committed_is_the_users_again() {
    let project = project();
    project.fanout(["run", "-j", "2"]).succeeded();
    project.git(["add", "log-p", "log-q"]);
    project.git(["commit", "--quiet", "--message", "logs", "--", "log-p", "log-q"]);
    project.write("log-p", "edited by hand\n");
    project.fanout(["run", "-j", "2", "--commit"]).succeeded();
    assert_eq!(committed(&project), ".gitignore\ndvc.lock\np.json\nq.json\n");
    assert!(project.git(["status", "--porcelain"]).contains(" M log-p"));
}

#[test]
fn what_the_last_word_of_dvc_changes_is_committed_too() {
    let project = project();
    let text = project.read("dvc.yaml");
    let always = "  always:
    cmd: echo tick >> ticks.log && wc -l < ticks.log > ticks.txt
    always_changed: true
    outs:
    - ticks.txt:
        cache: false
";
    project.write("dvc.yaml", &(text + always));
    project.fanout(["run", "-j", "2", "--full", "--commit"]).succeeded();
    assert_eq!(project.git(["show", "HEAD:ticks.txt"]), "2\n");
    assert_eq!(project.git(["show", "HEAD:ticks.log"]), "tick\ntick\n");
    project.git(["checkout", "--quiet", "dvc.yaml"]);
    assert_left_alone(&project);
}
