//! The executor `check`: work items are done twice, by this program and by DVC, and what both leave is compared.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::same::{assert_clean, assert_same, assert_same_after_failure, fails_with};
use crate::support::{Project, Ran, run_folder};

const RUN: [&str; 5] = ["run", "--executor", "check", "-j", "2"];

/// A map stage of two keys, whose command is this.
fn project(command: &str) -> Project {
    let project = Project::without_init();
    project.write(
        "dvc.yaml",
        &format!(
            "stages:\n  make:\n    foreach: [a, b]\n    do:\n      cmd: {command}\n      deps: [in]\n      \
             outs: ['${{item}}.txt']\n"
        ),
    );
    project.write("in", "1\n");
    project.commit("one map stage");
    project
}

/// A command that leaves something else each time for key `a`: it counts outside of every workspace.
fn counting(to: &str) -> (tempfile::TempDir, Project) {
    let outside = tempfile::tempdir().expect("made");
    let counter = outside.path().join("${item}");
    let counter = counter.display();
    let command = format!(
        "if test ${{item}} = a; then echo x >> {counter}; wc -l < {counter} > {to}; else echo same > {to}; fi; cp in ${{item}}.txt"
    );
    let command = if to == "${item}.txt" { command.replace("; cp in ${item}.txt", "") } else { command };
    (outside, project(&command))
}

fn report(project: &Project) -> Value {
    serde_json::from_str(&project.fanout(["report", "--format", "json"]).succeeded()).expect("JSON")
}

/// Where a run kept both sides of work items.
fn kept(project: &Project) -> Vec<PathBuf> {
    let items = std::fs::read_dir(run_folder(project).join("results")).expect("results");
    let inside = items.flat_map(|item| std::fs::read_dir(item.expect("listed").path()).expect("listed"));
    let paths = inside.map(|path| path.expect("listed").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "check")).collect()
}

#[track_caller]
fn assert_checked(make: &dyn Fn() -> Project, setting: &str, stages: usize) {
    let made = || {
        let project = make();
        project.write(".dvc/config", &format!("[cache]\n    {setting}\n"));
        project.commit("setting");
        project
    };
    let (serial, fanned) = (made(), made());
    for round in 0..2 {
        if round == 1 {
            for project in [&serial, &fanned] {
                std::fs::remove_file(project.path("dvc.lock")).expect("there");
            }
        }
        serial.dvc(["repro"]);
        let ran = fanned.fanout(RUN);
        assert_eq!(ran.code, Some(0), "round {round}: {ran:#?}");
        assert_same(&serial, &fanned, &format!("round {round}"));
        assert_clean(&fanned, &[]);
        let executors = &report(&fanned)["provenance"]["executors"];
        assert_eq!(*executors, json!({ "native": 0, "dvc": {}, "check": stages }));
        assert_eq!(kept(&fanned), Vec::<PathBuf>::new());
    }
}

#[test]
fn what_is_done_twice_is_what_dvc_leaves() {
    assert_checked(&|| Project::from_fixture("sessions"), "slow_link_warning = false", 9);
}

#[test]
fn what_is_done_twice_is_what_dvc_leaves_with_hard_links() {
    let made = || {
        let make = "mkdir -p d/${item}/empty && cp in d/${item}/x && chmod +x d/${item}/x && cp in ${item}.txt";
        let project = project(make);
        project.edit("dvc.yaml", "outs: ['${item}.txt']", "outs: ['${item}.txt', 'd/${item}']");
        project
    };
    assert_checked(&made, "type = hardlink", 2);
}

#[test]
fn what_is_done_twice_is_what_dvc_leaves_with_symlinks() {
    assert_checked(&|| Project::from_fixture("window"), "type = symlink", 14);
}

#[test]
fn a_difference_is_an_internal_error_and_both_sides_are_kept() {
    let (_outside, project) = counting("${item}.txt");
    let ran = fails_with(&project, 70, RUN);
    assert!(ran.stderr.contains("internal error: DVC did work item `a` differently"), "{ran:#?}");
    assert!(ran.stderr.contains("the command may not be deterministic"), "{ran:#?}");
    assert_eq!(project.read("a.txt"), "2\n", "what DVC made is the result");
    assert_eq!(project.read("b.txt"), "same\n");
    let command = ran.stderr.lines().find_map(|line| line.strip_prefix("hint: look at both sides: "));
    let command = command.expect("it says how to look").trim_matches('`');
    let seen = Ran::of(project.command("sh").args(["-c", command]));
    assert_eq!(seen.code, Some(1), "{seen:#?}");
    assert!(seen.stdout.contains("/dvc/workspace/a.txt\n1c1\n< 1\n---\n> 2\n"), "{seen:#?}");
    assert_eq!(kept(&project).len(), 1);
    let report = report(&project);
    assert_eq!(report["provenance"]["executors"]["check"], 2);
    let found: Vec<&str> = report["work_items"][0]["difference"]["found"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(found.iter().any(|line| line.starts_with("lock entry of `make@a`: ")), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("out `a.txt`: file, mode 644, md5 ")), "{found:?}");
    let metrics = project.fanout(["report", "--format", "prometheus"]).succeeded();
    assert!(metrics.contains("executor=\"check\"} 2\n"), "{metrics}");
    assert!(
        metrics.lines().any(|line| line.starts_with("dvc_fanout_differences{") && line.ends_with(" 1")),
        "{metrics}"
    );
    // The result stands: nothing is left to do.
    assert_clean(&project, &[]);
}

#[test]
fn files_that_no_stage_declares_are_compared_too() {
    let (_outside, project) = counting("beside.${item}");
    let ran = fails_with(&project, 70, RUN);
    assert!(ran.stderr.contains("  undeclared `beside.a`: md5 "), "{ran:#?}");
    assert_eq!(project.read("beside.a"), "2\n");
}

#[test]
fn a_dvc_yaml_that_a_command_edits_is_no_difference() {
    let project = project("cp in ${item}.txt && echo '# ${item}' >> dvc.yaml");
    project.fanout(RUN);
    assert_eq!(kept(&project), Vec::<PathBuf>::new());
}

#[test]
fn a_command_that_fails_fails_as_ever() {
    let command = "test ${item} = b && cp in ${item}.txt";
    let (serial, fanned) = (project(command), project(command));
    assert_ne!(Ran::of(serial.command("dvc").args(["repro", "--keep-going"])).code, Some(0));
    let ran = fails_with(&fanned, 1, RUN);
    assert!(!ran.stderr.contains("internal error"), "{ran:#?}");
    assert_same_after_failure(&serial, &fanned, "after a failure");
    assert_eq!(kept(&fanned), Vec::<PathBuf>::new());
}

#[test]
fn what_only_dvc_can_do_is_done_by_dvc_alone_and_counted_so() {
    let outside = tempfile::tempdir().expect("made");
    let dep = outside.path().join("dep");
    std::fs::write(&dep, "outside\n").expect("written");
    let made = || {
        let project = project("cp in ${item}.txt");
        project.edit(
            "dvc.yaml",
            "outs: ['${item}.txt']\n",
            "outs: ['${item}.txt']\n  reads:\n    foreach: [a, b]\n    do:\n      cmd: cat ${item}.txt DEP > ${item}.reads\n      \
             deps: ['${item}.txt', DEP]\n      outs: ['${item}.reads']\n  behind:\n    foreach: [a, b]\n    do:\n      \
             cmd: cp ${item}.reads ${item}.behind\n      deps: ['${item}.reads']\n      outs: ['${item}.behind']\n",
        );
        let yaml = project.read("dvc.yaml").replace("DEP", dep.to_str().expect("UTF-8"));
        project.write("dvc.yaml", &yaml);
        project.commit("it reads from elsewhere");
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    fanned.fanout(RUN).succeeded();
    assert_same(&serial, &fanned, "a dep is outside");
    let unusual = format!("its dep `{}` is not a path in the project", dep.display());
    let reasons = json!({ unusual: 2, "a stage that it needs is DVC's alone": 2 });
    let executors = &report(&fanned)["provenance"]["executors"];
    assert_eq!(*executors, json!({ "native": 0, "dvc": reasons, "check": 2 }));
}

#[test]
fn an_out_that_persists_grows_once() {
    let made = || {
        let project = project("cat in >> ${item}.txt");
        project.edit("dvc.yaml", "outs: ['${item}.txt']", "outs: ['${item}.txt': {persist: true}]");
        project.commit("it persists");
        project
    };
    let (serial, fanned) = (made(), made());
    for round in 1..3 {
        for project in [&serial, &fanned] {
            project.write("in", &format!("{round}\n"));
        }
        serial.dvc(["repro"]);
        fanned.fanout(RUN).succeeded();
        assert_same(&serial, &fanned, &format!("round {round}"));
    }
}

/// Then there are no entries to be compared.
#[test]
fn a_missing_dep_is_told_as_by_the_other_executors() {
    let project = project("cp in ${item}.txt");
    std::fs::remove_file(project.path("in")).expect("there");
    for executor in ["check", "auto"] {
        let ran = fails_with(&project, 1, ["run", "-f", "-j", "2", "--executor", executor]);
        assert!(ran.stderr.contains("stage `make@a` failed to run: cp in a.txt"), "{executor}: {ran:#?}");
    }
}
