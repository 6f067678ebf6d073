//! The Jenkins job, executed: `jenkins/test/harness.groovy` stands in for Jenkins' steps, and its `sh` really runs
//! `dvc-fanout`. What counts is what arrives at the repository.

#[cfg(feature = "kubernetes")]
mod cluster;
mod lint;
mod local;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Project, Ran, tool};

/// Options of a JVM that ends before its best compiler would have been worth the while.
const SHORT_LIVED: &str = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC";

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
        project.dvc(["remote", "add", "--default", "storage", path(&project, "../storage").as_str()]);
        project.commit("the state before");
        project.git(["clone", "--quiet", "--bare", ".", "../origin.git"]);
        for folder in ["../shared", "../pods"] {
            std::fs::create_dir(project.path(folder)).expect("made");
        }
        Some(Job { project, groovy })
    }

    /// The job with these parameters, and settings as the harness takes them.
    fn command(&self, arguments: &[&str]) -> Command {
        let harness = Path::new(env!("CARGO_MANIFEST_DIR")).join("jenkins/test/harness.groovy");
        let programs = Path::new(env!("CARGO_BIN_EXE_dvc-fanout")).parent().expect("it has one");
        let known = std::env::var("PATH").expect("it is set");
        let mut command = self.project.command(&self.groovy);
        command.env("JAVA_OPTS", SHORT_LIVED);
        command.env("PATH", format!("{}:{known}", programs.display())).arg(harness);
        for (name, folder) in [("REPOSITORY=", "../origin.git"), ("set:shared=", "../shared"), ("pods:", "../pods")] {
            command.arg(format!("{name}{}", path(&self.project, folder)));
        }
        command.args(arguments);
        command
    }

    /// Runs the job on this machine's cores, with an image that is there, and returns what it printed.
    fn build(&self, arguments: &[&str]) -> String {
        let settings = ["set:engine=local", "set:image=registry.example.com/team/project:1", "WORKERS=2"];
        said_by(&mut self.command(&[&settings, arguments].concat()))
    }

    /// What git says of the repository that was pushed to.
    fn origin<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        self.project.git(["--git-dir", "../origin.git"].into_iter().chain(arguments))
    }

    /// A branch that was pushed holds what is committed where `dvc repro` runs in place of the job.
    #[track_caller]
    fn assert_same_as_repro(&self, branch: &str) {
        Ran::of(self.project.command("dvc").args(["repro", "--keep-going"]));
        self.project.git(["add", "--all"]);
        let tree = self.project.git(["write-tree"]);
        self.project.git(["fetch", "--quiet", "../origin.git", branch]);
        let difference = self.project.git(["diff", tree.trim(), "FETCH_HEAD"]);
        assert!(difference.is_empty(), "{difference}");
    }

    /// A clone of a branch that was pushed.
    fn clone_of(&self, branch: &str) -> Project {
        let clone = self.project.clone_beside(&format!("clone-of-{branch}"));
        clone.git(["fetch", "--quiet", "../origin.git", branch]);
        clone.git(["checkout", "--quiet", "FETCH_HEAD"]);
        clone
    }
}

/// What a build printed. No secret is among it, whatever became of the build.
fn said_by(command: &mut Command) -> String {
    let ran = Ran::of(command);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains("secret-of-"), "{}", ran.stdout);
    ran.stdout
}

/// A path as text.
fn path(project: &Project, below: &str) -> String {
    let path = project.root().join(below);
    let path = if path.exists() { path.canonicalize().expect("it is there") } else { path };
    path.to_str().expect("it is UTF-8").to_owned()
}

/// The shells whose process ids are in a file have ended, or do so now.
#[track_caller]
fn assert_ended(began: &Path) {
    let shells = std::fs::read_to_string(began).expect("a stage began");
    let limit = Instant::now() + Duration::from_secs(20);
    for shell in shells.lines() {
        while Path::new("/proc").join(shell).exists() {
            assert!(Instant::now() < limit, "stage {shell} still runs");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
