//! The Jenkins pipeline, executed: `jenkins/test/harness.groovy` stands in for Jenkins' steps, and its `sh` really runs
//! `dvc-fanout`. What counts is what arrives at the repository.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Project, Ran, tool};

/// A project, the repository that the job works for, and the folder of the shared volume.
struct Job {
    project: Project,
    groovy: PathBuf,
}

impl Job {
    /// `None` where groovy is missing.
    fn new(edit: impl FnOnce(&Project)) -> Option<Job> {
        let groovy = tool("groovy")?;
        let project = Project::from_fixture("sessions");
        edit(&project);
        let storage = project.path("../storage");
        project.dvc(["remote", "add", "--default", "storage", storage.to_str().expect("it is UTF-8")]);
        project.commit("the state before");
        project.git(["clone", "--quiet", "--bare", ".", "../origin.git"]);
        std::fs::create_dir(project.path("../shared")).expect("made");
        Some(Job { project, groovy })
    }

    /// Runs the pipeline and returns what it printed.
    fn build(&self, settings: &[&str]) -> String {
        let harness = Path::new(env!("CARGO_MANIFEST_DIR")).join("jenkins/test/harness.groovy");
        let programs = Path::new(env!("CARGO_BIN_EXE_dvc-fanout")).parent().expect("it has one");
        let path = std::env::var("PATH").expect("it is set");
        let mut command = self.project.command(&self.groovy);
        command.env("PATH", format!("{}:{path}", programs.display())).arg(harness);
        command.arg(self.project.path("../origin.git")).arg(self.project.path("../shared")).args(settings);
        let ran = Ran::of(&mut command);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        ran.stdout
    }

    /// What git says of the repository that was pushed to.
    fn origin<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        self.project.git(["--git-dir", "../origin.git"].into_iter().chain(arguments))
    }
}

#[test]
fn a_build_commits_and_pushes_what_dvc_repro_would_have_left() {
    let Some(job) = Job::new(|_| {}) else { return };
    let said = job.build(&["message=it's \"done\" $HOME", "gpu=reduce", "targetBranch=results"]);
    assert!(said.ends_with("result: SUCCESS\n"), "{said}");
    assert!(said.contains("pod: false") && said.contains("pod: true"), "the GPU is for the second pod: {said}");
    assert!(said.contains("archived: junit.xml report.html report.md"), "{said}");
    assert_eq!(job.origin(["log", "--format=%s", "results"]).lines().next(), Some("it's \"done\" $HOME"));
    assert_eq!(job.origin(["rev-list", "--count", "main..results"]), "1\n");
    let changed = job.origin(["diff", "--name-only", "main", "results"]);
    let scores = ["scores/s1.json", "scores/s2.json", "scores/s3.json", "scores/s4.json", "summary.json"];
    let others: Vec<&str> = changed.lines().filter(|path| !path.ends_with(".gitignore")).collect();
    assert_eq!(others, [&["dvc.lock"], &scores[..]].concat(), "{said}");
    let clone = job.project.clone_beside("clone");
    clone.git(["fetch", "--quiet", "../origin.git", "results"]);
    clone.git(["checkout", "--quiet", "FETCH_HEAD"]);
    clone.dvc(["pull", "--quiet"]);
    assert!(clone.dvc(["status"]).contains("up to date"), "another clone gets data and finds nothing to do");

    std::fs::remove_dir_all(job.project.path("../shared/team_project")).expect("removed");
    let said = job.build(&["branch=results"]);
    assert!(said.contains("echo: nothing to do") && said.ends_with("result: SUCCESS\n"), "{said}");
}

#[test]
fn a_failed_session_is_unstable_with_the_others_committed() {
    let fails = |project: &Project| {
        project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: test ${item} != s3 && mkdir -p work &&");
    };
    let Some(job) = Job::new(fails) else { return };
    let before = job.origin(["rev-list", "--count", "main"]);
    let said = job.build(&["amend=true"]);
    assert!(said.ends_with("result: UNSTABLE\n"), "{said}");
    assert!(said.contains("junit: 5 tests, 1 failures"), "{said}");
    assert_eq!(job.origin(["rev-list", "--count", "main"]), before, "the commit was amended: {said}");
    let lock = job.origin(["show", "main:dvc.lock"]);
    let has = |stage: &str| lock.contains(&format!("\n  {stage}:"));
    assert!(has("score@s1") && has("score@s2") && has("score@s4"), "{lock}");
    assert!(!has("extract@s3") && !has("summary"), "{lock}");
}

#[test]
fn a_failed_push_fails_the_build_and_leaves_the_branch() {
    let Some(job) = Job::new(|_| {}) else { return };
    let before = job.origin(["rev-parse", "main"]);
    let hook = job.project.path("../origin.git/hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho not today >&2\nexit 1\n").expect("written");
    job.project.command("chmod").arg("+x").arg(&hook).status().expect("changed");
    let said = job.build(&[]);
    assert!(said.ends_with("result: FAILURE\n"), "{said}");
    assert!(said.contains("not today") && said.contains("mail: team/project 1 failed"), "{said}");
    assert!(said.contains("archived: "), "the report is there all the same: {said}");
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
    assert!(said.ends_with("result: ABORTED\n"), "{said}");
    assert_eq!(job.origin(["rev-parse", "main"]), before);
    assert!(!said.contains("stage: Collect"), "{said}");
    let shells = std::fs::read_to_string(began).expect("a stage began");
    let limit = Instant::now() + Duration::from_secs(20);
    for shell in shells.lines() {
        while Path::new("/proc").join(shell).exists() {
            assert!(Instant::now() < limit, "stage {shell} still runs: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
