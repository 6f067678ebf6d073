//! What a newcomer reads and types: man pages, examples, completion, `doctor`.

use std::path::Path;

use crate::support::{Project, Ran};

const COMMANDS_THAT_NEED_A_PLAN: [&str; 4] = ["launch", "work", "collect", "finalize"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program's folder in front of the path, so that a shell finds it by its name.
fn shell(project: &Project, program: &str, script: &str) -> Ran {
    let programs = Path::new(env!("CARGO_BIN_EXE_dvc-fanout")).parent().expect("it has one");
    let path = std::env::var("PATH").expect("it is set");
    let mut command = project.command(program);
    Ran::of(command.env("PATH", format!("{}:{path}", programs.display())).arg("-c").arg(script))
}

/// The command lines in the section EXAMPLES of a man page.
fn examples(page: &str) -> Vec<String> {
    let Some((_, section)) = page.split_once(".SH EXAMPLES\n") else { return vec![] };
    let section = section.split("\n.SH ").next().unwrap_or_default();
    let lines = section.lines().filter_map(|line| line.strip_prefix("\\fB")?.strip_suffix("\\fR"));
    lines.map(|line| line.replace("\\-", "-").replace("\\*(Aq", "'")).collect()
}

#[test]
#[cfg(feature = "kubernetes")]
fn the_man_pages_are_up_to_date() {
    let project = Project::bare();
    project.fanout(["debug", "man", "man"]).succeeded();
    let kept = root().join("man");
    let mut made: Vec<_> =
        std::fs::read_dir(project.path("man")).expect("made").map(|entry| entry.expect("listed")).collect();
    made.sort_by_key(std::fs::DirEntry::file_name);
    if std::env::var_os("DVC_FANOUT_UPDATE").is_some() {
        for page in &made {
            std::fs::copy(page.path(), kept.join(page.file_name())).expect("copied");
        }
    }
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).expect("listed").map(|entry| entry.expect("listed").file_name()).collect();
        names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "1"));
        names.sort();
        names
    };
    assert_eq!(names(&kept), names(&project.path("man")), "DVC_FANOUT_UPDATE=1 writes them anew");
    for page in made {
        let same =
            std::fs::read(page.path()).expect("read") == std::fs::read(kept.join(page.file_name())).expect("read");
        assert!(same, "man/{}: DVC_FANOUT_UPDATE=1 writes it anew", page.file_name().display());
    }
}

#[test]
fn every_example_of_the_man_pages_works() {
    let project = Project::from_fixture("sessions");
    let mut commands: Vec<String> = std::fs::read_dir(root().join("man"))
        .expect("listed")
        .filter_map(|entry| {
            entry
                .expect("listed")
                .file_name()
                .to_str()?
                .strip_prefix("dvc-fanout-")?
                .strip_suffix(".1")
                .map(str::to_owned)
        })
        .filter(|command| cfg!(feature = "kubernetes") || command != "launch")
        .collect();
    // First those that come first in a run; the others look at what they left.
    let place = |command: &String| COMMANDS_THAT_NEED_A_PLAN.iter().position(|other| other == command).unwrap_or(9);
    commands.sort_by_key(|command| (place(command), command.clone()));
    project.fanout(["plan"]).succeeded();
    let mut ran = 0;
    for command in commands {
        let page = std::fs::read_to_string(root().join("man").join(format!("dvc-fanout-{command}.1"))).expect("read");
        for line in examples(&page) {
            let said = shell(&project, "sh", &line);
            assert_eq!(said.code, Some(0), "{line}: {said:#?}");
            ran += 1;
        }
    }
    assert!(ran > 20, "{ran} examples");
}

#[test]
fn every_command_of_the_readme_that_can_be_typed_works() {
    let project = Project::from_fixture("sessions");
    let readme = std::fs::read_to_string(root().join("README.md")).expect("read");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(str::trim).filter(|line| line.starts_with("dvc-fanout "));
    let mut ran = 0;
    for line in lines {
        let said = shell(&project, "sh", line);
        assert_eq!(said.code, Some(0), "{line}: {said:#?}");
        ran += 1;
    }
    assert!(ran >= 2, "{ran} commands");
}

/// Types the commands of a chapter of the guide in order, with the settings that it shows, and returns how many there are.
/// What a line says of its exit code has to be true.
#[track_caller]
fn type_chapter(title: &str, project: &Project) -> usize {
    let guide = std::fs::read_to_string(root().join("man/guide.md")).expect("read");
    let (_, chapter) = guide.split_once(&format!("\n## {title}\n")).expect("it has that chapter");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let blocks = |kind: &str| {
        let start = format!("```{kind}\n");
        let blocks = chapter.split(start.as_str()).skip(1).filter_map(|rest| rest.split("```").next());
        blocks.map(str::to_owned).collect::<Vec<_>>()
    };
    for settings in blocks("yaml").iter().filter(|block| block.starts_with("# .dvc/fanout/config.yaml\n")) {
        project.write(".dvc/fanout/config.yaml", settings);
    }
    let commands = blocks("sh").join("");
    for line in commands.lines() {
        let said = shell(project, "sh", line);
        assert_eq!(said.code, Some(i32::from(line.contains("# exit code 1"))), "{line}: {said:#?}");
    }
    commands.lines().count()
}

#[test]
fn every_command_of_the_guide_about_trust_works() {
    assert_eq!(type_chapter("How do I trust it?", &Project::from_fixture("sessions")), 3);
}

#[test]
fn every_command_of_the_guide_about_what_stages_need_works() {
    let project = Project::from_fixture("sessions");
    assert_eq!(type_chapter("My stage needs a GPU, a licence, an API with a limit", &project), 4);
    let said = project.fanout(["config"]).succeeded();
    for (setting, value) in
        [("group ", "licence=2, api=1"), ("stages.score.gpus ", "1"), ("stages.extract.group ", "licence")]
    {
        let line = said.lines().find(|line| line.starts_with(setting)).expect(setting);
        assert!(line.contains(value), "{said}");
    }
}

#[test]
fn every_command_of_the_guide_about_a_bad_session_works() {
    let project = Project::from_fixture("sessions");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: test ${item} != s3 && mkdir -p work &&");
    project.commit("s3 is bad");
    assert_eq!(type_chapter("What if one session is bad?", &project), 11);
    let lock = project.read("dvc.lock");
    let has = |stage: &str| lock.contains(&format!("\n  {stage}:"));
    assert!(has("score@s4") && has("summary") && !has("extract@s3"), "{lock}");
    assert_eq!(project.read("summary.json").lines().count(), 3, "without s3");
    // Repaired, it runs with what needs it.
    project.edit("dvc.yaml", "test ${item} != s3 && ", "");
    project.fanout(["run"]).succeeded();
    assert_eq!(project.read("summary.json").lines().count(), 4);
}

#[test]
fn the_shell_completes_targets_runs_and_work_items() {
    let project = Project::from_fixture("sessions");
    project.fanout(["plan"]).succeeded();
    let script = root().join("contrib/completions/dvc-fanout.bash");
    let complete = |words: &str, last: usize| {
        let script = format!(
            "source {}; COMP_TYPE=9; COMP_WORDS=({words}); COMP_CWORD={last}; _clap_complete_dvc_fanout dvc-fanout \"${{COMP_WORDS[{last}]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        shell(&project, "bash", &script).succeeded()
    };
    assert_eq!(complete("dvc-fanout run extract@", 2).trim(), "extract@s1 extract@s2 extract@s3 extract@s4");
    assert_eq!(complete("dvc-fanout plan summ", 2).trim(), "summary");
    assert_eq!(complete("dvc-fanout logs s", 2).trim(), "s1 s2 s3 s4 summary");
    let run = complete("dvc-fanout status 2", 2);
    assert!(project.path(".dvc/fanout/runs").join(run.trim()).is_dir(), "{run}");
    assert!(complete("dvc-fanout fin", 1).contains("finalize"));
}

#[test]
fn doctor_says_what_works_and_what_to_do_about_the_rest() {
    let project = Project::from_fixture("sessions");
    let before = project.git(["status", "--porcelain", "--ignored"]);
    let said = project.fanout(["doctor"]).succeeded();
    for wanted in [
        "ok     dvc: 3.",
        "ok     git: ",
        "9 stages, 8 of them from foreach or matrix",
        "outs come from it by copy",
        "ok     runs: none yet",
    ] {
        assert!(said.contains(wanted), "`{wanted}` in\n{said}");
    }
    assert_eq!(project.git(["status", "--porcelain", "--ignored"]), before, "nothing was changed");
    project.write("dvc.yaml", "stages: {a: {cmd: x, dep: [y]}}\n");
    project.write(".dvc/fanout/config.yaml", "job: 1\n");
    let said = project.fanout(["doctor"]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    for wanted in
        ["error  pipelines: ", "dvc.yaml:1", "error  settings: there is no setting `job`", "did you mean `jobs`?"]
    {
        assert!(said.stdout.contains(wanted), "`{wanted}` in\n{}", said.stdout);
    }
    let wrapper = project.path("../wrapper");
    std::fs::write(&wrapper, "#!/bin/sh\nexec dvc \"$@\"\n").expect("written");
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let mut wrapped = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let said = Ran::of(wrapped.arg("doctor").env("DVC_FANOUT_DVC", &wrapper)).stdout;
    assert!(said.contains("note   dvc: 3.") && said.contains("set DVC_FANOUT_DVC to that script"), "{said}");
    let mut without = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let said = Ran::of(without.arg("doctor").env("DVC_FANOUT_DVC", "/nowhere")).stdout;
    assert!(said.contains("note   dvc: DVC_FANOUT_DVC is no program: `/nowhere`"), "{said}");
    let outside = Project::bare();
    let said = outside.fanout(["doctor", "--format", "json"]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    let json: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    let findings = json["findings"].as_array().expect("a list");
    assert!(findings.iter().any(|finding| finding["what"] == "project" && finding["state"] == "error"), "{json}");
}
