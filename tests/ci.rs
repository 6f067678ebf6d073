//! The workflow for GitHub Actions and the pipeline for GitLab CI, executed: `tests/support/ci.py` stands in for the
//! services, commands are real, and each job has a machine of its own. What counts is what arrives at the repository.

use std::path::Path;
use std::process::Command;

use crate::support::same::assert_clean;
use crate::support::{Project, Ran, tool};

const SERVICES: [(&str, &str); 2] = [("github", "pull_request"), ("gitlab", "merge_request_event")];

fn file(service: &str) -> String {
    format!("{}/contrib/{service}/dvc-fanout.yml", env!("CARGO_MANIFEST_DIR"))
}

/// A project whose data are in a remote and whose branch `change` is to be run, and the repository it is pushed to.
struct Team {
    project: Project,
    service: &'static str,
    event: &'static str,
}

impl Team {
    fn new((service, event): (&'static str, &'static str), edit: impl FnOnce(&Project)) -> Team {
        let project = Project::from_fixture("sessions");
        // A shared stage before the sessions, and data that git does not have.
        let stages = project.read("dvc.yaml");
        let stages = stages.replace(
            "stages:\n",
            "stages:\n  prepare:\n    cmd: tr a-z A-Z < table.in > table\n    deps: [table.in]\n    outs: [table]\n",
        );
        project.write(
            "dvc.yaml",
            &stages.replace("      - raw/${item}.txt\n", "      - raw/${item}.txt\n      - table\n"),
        );
        project.write("table.in", "a table\n");
        edit(&project);
        project.git(["rm", "--quiet", "-r", "--cached", "raw"]);
        project.dvc(["add", "--quiet", "raw/s1.txt", "raw/s2.txt", "raw/s3.txt", "raw/s4.txt"]);
        let storage = project.root().with_file_name("storage").display().to_string();
        project.dvc(["remote", "add", "--quiet", "--default", "storage", &storage]);
        project.commit("a change");
        project.dvc(["push", "--quiet"]);
        project.git(["clone", "--quiet", "--bare", ".", "../origin.git"]);
        project.git(["--git-dir", "../origin.git", "branch", "change", "main"]);
        // As the services have it.
        project.git(["--git-dir", "../origin.git", "config", "receive.advertisePushOptions", "true"]);
        Team { project, service, event }
    }

    /// Runs the branch, and returns how the jobs ended, with the exit code.
    fn run(&self) -> Ran {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/ci.py");
        let programs = Path::new(env!("CARGO_BIN_EXE_dvc-fanout")).parent().expect("it has one");
        let known = std::env::var("PATH").expect("it is set");
        let bucket = self.project.root().with_file_name("bucket");
        let mut command = self.project.command("python3");
        command.env("PATH", format!("{}:{known}", programs.display()));
        command.arg(script).arg(self.service).arg(file(self.service)).args(["../origin.git", "../ci", "branch=change"]);
        command.arg(format!("event={}", self.event)).arg(format!("STORE=file://{}", bucket.display()));
        Ran::of(command.args(["number=12", "PUSH_TOKEN=secret-of-the-team"]))
    }

    /// What was written down by a job, or by a program that stands in for one.
    fn said(&self, by: &str) -> String {
        std::fs::read_to_string(self.project.path(&format!("../ci/said/{by}"))).unwrap_or_default()
    }

    /// All that was said, for a test that fails.
    fn logs(&self) -> String {
        Ran::of(self.project.command("sh").args(["-c", "tail -n +1 ../ci/said/*"])).stdout
    }

    fn origin<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        self.project.git(["--git-dir", "../origin.git"].into_iter().chain(arguments))
    }

    /// The branch holds what is committed where `dvc repro` runs instead.
    #[track_caller]
    fn assert_same_as_repro(&self) {
        self.project.try_dvc(["repro", "--keep-going"]);
        self.project.git(["add", "--all"]);
        let tree = self.project.git(["write-tree"]);
        self.project.git(["fetch", "--quiet", "../origin.git", "change"]);
        let difference = self.project.git(["diff", tree.trim(), "FETCH_HEAD"]);
        assert!(difference.is_empty(), "{difference}\n{}", self.logs());
    }
}

#[test]
fn a_branch_ends_as_dvc_repro_leaves_it_and_gets_the_report() {
    for service in SERVICES {
        let team = Team::new(service, |_| {});
        let ran = team.run();
        assert_eq!(ran.code, Some(0), "{ran:#?}\n{}", team.logs());
        let work = if team.service == "github" { ["work-0", "work-3"] } else { ["work-1", "work-4"] };
        for job in ["plan"].into_iter().chain(work).chain(["finish"]) {
            assert!(ran.stdout.contains(&format!("{job}: success\n")), "{job}: {ran:#?}\n{}", team.logs());
        }
        let log = team.said("finish.log");
        assert!(
            log.contains("5 results came from") && !log.contains("s1: started"),
            "machines did the sessions: {log}"
        );
        assert!(!log.contains("is not as this run left it"), "{log}");
        team.assert_same_as_repro();
        let clone = team.project.clone_beside("clone");
        clone.git(["fetch", "--quiet", "../origin.git", "change"]);
        clone.git(["checkout", "--quiet", "FETCH_HEAD"]);
        clone.dvc(["pull", "--quiet"]);
        assert_clean(&clone, &[]);
        let (program, asked) = match team.service {
            "github" => ("gh", "pr comment 12 --body-file report.md"),
            _ => ("curl", "https://gitlab.example/api/v4/projects/7/merge_requests/12/notes"),
        };
        let said = team.said(program);
        assert!(said.contains(asked) && said.contains("6 work items succeeded"), "{said}");
        assert!(!team.logs().replace(&said, "").contains("secret-of-the-team"), "{}", team.logs());

        let before = team.origin(["rev-parse", "change"]);
        let ran = team.run();
        assert_eq!(ran.code, Some(0), "{ran:#?}\n{}", team.logs());
        assert!(team.said("plan.log").contains("nothing to do"), "{}", team.logs());
        assert_eq!(team.origin(["rev-parse", "change"]), before);
    }
}

/// Changes what a stage is said to be on the branch, unless that was done before.
const PUSH_MEANWHILE: &str = "
set -e
cd \"$(dirname \"$0\")\"
test ! -e meanwhile || exit 0
git clone --quiet --branch change origin.git meanwhile 2>/dev/null && cd meanwhile
sed -i 's/^  prepare:$/&\\n    desc: a table for all/' dvc.yaml
git -c user.name=x -c user.email=x@x commit --quiet --all --message meanwhile && git push --quiet origin change
";

/// On GitHub, `finish` begins with the branch as it is by then, and somebody has pushed to it.
#[test]
fn a_session_that_fails_fails_the_pipeline_and_the_others_are_committed() {
    for service in SERVICES {
        let team = Team::new(service, |project| {
            project.write("../push.sh", PUSH_MEANWHILE);
            let push = project.root().with_file_name("push.sh").display().to_string();
            let command = format!("cmd: test ${{item}} != s3 && sh {push} && mkdir -p work &&");
            let command = if service.0 == "github" { &command } else { "cmd: test ${item} != s3 && mkdir -p work &&" };
            project.edit("dvc.yaml", "cmd: mkdir -p work &&", command);
        });
        let ran = team.run();
        let pushed = team.origin(["log", "--format=%s", "change"]).contains("meanwhile\n");
        assert_eq!(pushed, team.service == "github", "{}", team.logs());
        assert_eq!(ran.code, Some(1), "{ran:#?}\n{}", team.logs());
        assert!(ran.stdout.contains("plan: success\n") && ran.stdout.ends_with("finish: failure\n"), "{ran:#?}");
        let lock = team.origin(["show", "change:dvc.lock"]);
        let has = |stage: &str| lock.contains(&format!("\n  {stage}:"));
        assert!(has("prepare") && has("score@s1") && has("score@s2") && has("score@s4"), "{lock}\n{}", team.logs());
        assert!(!has("extract@s3") && !has("summary"), "{lock}");
        let said = team.said(if team.service == "github" { "gh" } else { "curl" });
        assert!(said.contains("failed: <code>s3</code>"), "{said}");
    }
}

#[test]
fn the_files_are_what_the_services_read() {
    let Some(checker) = tool("check-jsonschema") else { return };
    for (service, schema) in [("github", "vendor.github-workflows"), ("gitlab", "vendor.gitlab-ci")] {
        let mut check = Command::new(&checker);
        Ran::of(check.args(["--builtin-schema", schema, "--regex-variant", "nonunicode", &file(service)])).succeeded();
    }
}
