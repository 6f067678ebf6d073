//! Flags of `dvc repro` that decide what runs where data is missing, and those that only `dvc repro` has.

use crate::support::same::{assert_same, fails_with};
use crate::support::{Project, Ran};

const PIPELINE: &str = "stages:
  first:
    cmd: cat raw/p.txt > /dev/null && echo seed > seed.txt
    deps: [raw/p.txt]
    outs: [seed.txt]
  make:
    foreach: [p, q, r]
    do:
      cmd: cat raw/${item}.txt seed.txt > ${item}.made
      deps: [\"raw/${item}.txt\", seed.txt]
      outs: [\"${item}.made\"]
  score:
    foreach: [p, q, r]
    do:
      cmd: wc -c < ${item}.made > ${item}.score
      deps: [\"${item}.made\"]
      params: [alpha]
      outs:
      - ${item}.score:
          cache: false
";

/// A project that was run, committed and pushed to a remote of its own.
fn project() -> Project {
    let project = Project::without_init();
    project.write("dvc.yaml", PIPELINE);
    project.write("params.yaml", "alpha: 1\n");
    for key in ["p", "q", "r"] {
        project.write(&format!("raw/{key}.txt"), &format!("{key}\n"));
    }
    project.dvc(["add", "--quiet", "raw/r.txt"]);
    // Relative, so that the settings are the same in every copy.
    project.dvc(["remote", "add", "--quiet", "--default", "s", "../store"]);
    project.commit("one");
    project.dvc(["repro", "--quiet"]);
    project.commit("two");
    project.dvc(["push", "--quiet", "--run-cache"]);
    project
}

/// Runs both programs with the same flags after the same change, in a clone of the same project or in the project.
#[track_caller]
fn check(is_clone: bool, change: &dyn Fn(&Project), flags: &[&str]) {
    let projects = [project(), project()];
    let clones = projects.each_ref().map(|project| project.clone_beside("clone"));
    let [serial, fanned] = if is_clone { &clones } else { &projects };
    change(serial);
    change(fanned);
    let repro = serial.try_dvc(std::iter::once("repro").chain(flags.iter().copied()));
    assert_eq!(repro.code, Some(0), "{flags:?}: {repro:#?}");
    let ran = Ran::of(fanned.command(env!("CARGO_BIN_EXE_dvc-fanout")).args(["run", "-j", "2"]).args(flags));
    assert_eq!(ran.code, Some(0), "{flags:?}: {ran:#?}");
    assert_same(serial, fanned, &format!("{flags:?}"));
}

fn remove(project: &Project, paths: &[&str]) {
    for path in paths.iter().map(|path| project.path(path)) {
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("removed");
    }
}

#[test]
fn a_fresh_clone_pulls_what_a_single_item_needs() {
    let param: &dyn Fn(&Project) = &|project| project.write("params.yaml", "alpha: 2\n");
    check(true, param, &["--pull", "-s", "score@q"]);
    check(true, param, &["--pull", "--downstream", "score@r"]);
    check(
        true,
        &|project| project.write("dvc.yaml", &PIPELINE.replace("cat raw/${", "cat  raw/${")),
        &["--pull", "-s", "make@r"],
    );
}

#[test]
fn a_fresh_clone_pulls_what_changed_stages_need_and_allows_the_rest_to_be_missing() {
    let flags = ["--pull", "--allow-missing"];
    check(true, &|project| project.write("params.yaml", "alpha: 2\n"), &flags);
    check(true, &|project| project.write("dvc.yaml", &PIPELINE.replace("cat raw/${", "cat  raw/${")), &flags);
}

#[test]
fn data_that_is_only_missing_runs_nothing() {
    let edit = |project: &Project| project.write("raw/p.txt", "p\nmore\n");
    check(false, &|project| remove(project, &["q.made", ".dvc/cache"]), &["--allow-missing"]);
    check(false, &|project| remove(project, &["r.made", "raw/r.txt", ".dvc/cache"]), &["--allow-missing"]);
    check(
        false,
        &|project| {
            edit(project);
            remove(project, &["r.made", "raw/r.txt", ".dvc/cache"]);
        },
        &["--allow-missing"],
    );
}

#[test]
fn a_dry_run_shows_the_plan_and_leaves_nothing() {
    let project = project();
    project.write("raw/q.txt", "q\nmore\n");
    let before = project.git(["for-each-ref"]);
    let dry = project.fanout(["run", "--dry"]).succeeded();
    assert!(dry.contains("make: 1 of 3 changed"), "{dry}");
    assert_eq!(project.git(["for-each-ref"]), before);
    assert!(project.fanout(["runs"]).stdout.lines().count() <= 1);
    assert_eq!(project.read("q.score"), "7\n");
    let ran = project.fanout(["run", "-j", "2", "-v"]);
    assert_eq!((ran.code, project.read("q.score").as_str()), (Some(0), "12\n"), "{ran:#?}");
}

#[test]
fn flags_that_only_dvc_has_are_answered_with_what_does_it() {
    let project = Project::without_init();
    project.write("dvc.yaml", PIPELINE);
    for flag in ["--force-downstream", "--ignore-errors", "--no-commit", "--interactive", "-i"] {
        let ran = fails_with(&project, 2, ["run", flag]);
        assert!(ran.stderr.contains("is for `dvc repro`\ncause: ") && ran.stderr.contains("\nhint: "), "{ran:#?}");
    }
}
