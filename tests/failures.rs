//! What fails, what that keeps from running, and what is kept all the same.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::same::{assert_clean, assert_same, assert_same_after_failure, fails_with};
use crate::support::{Project, run_folder};

#[test]
fn a_failure_leaves_what_repro_keep_going_leaves() {
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    for project in [&serial, &fanned] {
        // Outs are written before the command fails.
        project.edit(
            "dvc.yaml",
            "raw/${item}.txt > work/${item}.txt",
            "raw/${item}.txt > work/${item}.txt && ! grep -q bad raw/${item}.txt",
        );
        project.commit("some fail");
    }
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    for project in [&serial, &fanned] {
        project.write("raw/s2.txt", "bad\n");
        project.write("raw/s4.txt", "good\n");
    }
    let kept = serial.try_dvc(["repro", "--keep-going"]);
    assert_ne!(kept.code, Some(0), "{kept:#?}");
    let ran = fails_with(&fanned, 1, ["run", "-j", "2"]);
    assert!(ran.stderr.contains("summary: skipped because s2 failed"), "{ran:#?}");
    assert_same(&serial, &fanned, "after a failure");
}

/// Of a key's stages those run that do not need what failed, be it all of a folder that one of them reads.
#[test]
fn what_does_not_need_a_failed_stage_runs_though_others_of_its_key_do() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  good:\n    cmd: mkdir -p parts && echo good > parts/good\n    outs: [parts/good]\n  bad:\n    cmd: mkdir -p parts && test -e cure && echo bad > parts/bad\n    \
             outs: [parts/bad]\n  alone:\n    foreach: [a, b]\n    do:\n      cmd: echo ${item} > ${item}.alone\n      \
             outs: ['${item}.alone']\n  reads:\n    foreach: [a, b]\n    do:\n      cmd: cat parts/* > ${item}.reads\n      \
             deps: [parts]\n      outs: ['${item}.reads']\n  behind:\n    foreach: [a, b]\n    do:\n      \
             cmd: cp ${item}.reads ${item}.behind\n      deps: ['${item}.reads']\n      outs: ['${item}.behind']\n",
        );
        project.commit("one shared stage fails");
        project
    };
    let (serial, fanned) = (made(), made());
    let kept = serial.try_dvc(["repro", "--keep-going"]);
    assert_ne!(kept.code, Some(0), "{kept:#?}");
    let ran = fails_with(&fanned, 1, ["run", "-j", "2"]);
    assert!(ran.stderr.contains("stage `reads@a` did not run because what it needs was not made"), "{ran:#?}");
    assert_same_after_failure(&serial, &fanned, "one shared stage fails");
    fanned.write("cure", "");
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(fanned.read("b.behind"), "bad\ngood\n");
    assert_clean(&fanned, &[]);
}

#[test]
fn what_a_command_says_of_stages_is_not_what_dvc_says() {
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    for project in [&serial, &fanned] {
        project.write("talk", "Running stage 'extract@s1':\nERROR: failed to reproduce 'extract@s2'\n");
        project.edit(
            "dvc.yaml",
            "cmd: mkdir -p scores &&",
            "cmd: cat talk && test ${item} != s2 && mkdir -p scores &&",
        );
        project.commit("a command talks like DVC");
    }
    let kept = serial.try_dvc(["repro", "--keep-going"]);
    assert_ne!(kept.code, Some(0), "{kept:#?}");
    let ran = fails_with(&fanned, 1, ["run", "-j", "2"]);
    assert!(ran.stderr.contains("failed: s2 (stage `score@s2` failed to run:"), "{ran:#?}");
    assert_same_after_failure(&serial, &fanned, "a command talks like DVC");
}

#[test]
fn what_is_committed_of_a_failed_run_is_not_its_data() {
    let project = Project::from_fixture("sessions");
    project.edit("dvc.yaml", "cmd: mkdir -p scores &&", "cmd: test ${item} != s3 && mkdir -p scores &&");
    project.commit("s3 fails half-way");
    fails_with(&project, 1, ["run", "-j", "2", "--commit=partial", "--commit-partial"]);
    let files = project.git(["ls-files"]);
    assert!(files.contains("scores/s1.json") && !files.contains("work/s1.txt"), "{files}");
    assert!(project.path("work/s3.txt").exists() && !files.contains("work/s3.txt"), "DVC took its line back:\n{files}");
}

#[test]
fn a_gathering_stage_runs_without_a_failed_key_only_if_asked_to() {
    let project = Project::from_fixture("sessions");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: test ${item} != s3 && mkdir -p work &&");
    project.commit("s3 fails");
    fails_with(&project, 1, ["run", "-j", "2"]);
    assert!(!project.path("summary.json").exists(), "one key is missing");
    fails_with(&project, 1, ["run", "-j", "2", "--allow-missing-keys"]);
    assert_eq!(project.read("summary.json").lines().count(), 3, "three keys are gathered");
    assert!(project.read("dvc.lock").contains("  summary:"));
}

#[test]
fn a_dep_that_is_not_there_is_named_as_in_the_project() {
    let project = Project::from_fixture("sessions");
    std::fs::remove_file(project.path("raw/s3.txt")).expect("removed");
    for (executor, why) in [
        ("auto", "dep `raw/s3.txt` of `extract@s3` does not exist"),
        ("dvc", "stage `extract@s3` [Errno 2] No such file or directory: 'raw/s3.txt'"),
    ] {
        let ran = fails_with(&project, 1, ["run", "-j", "2", "--executor", executor]);
        assert!(ran.stderr.contains(&format!("\ns3: FAILED: {why}\n")), "{ran:#?}");
        assert!(ran.stderr.contains(&format!("\nfailed: s3 ({why})\n")), "{ran:#?}");
        for command in ["status", "report"] {
            let said = project.fanout([command]).stdout;
            let failed = said.lines().find(|line| line.starts_with("failed: s3")).unwrap_or_else(|| panic!("{said}"));
            assert!(failed.contains(why) && !failed.contains("slots/"), "{said}");
        }
        let log = project.fanout(["logs", "s3"]).stdout;
        assert!(log.contains("/workspace/raw/s3.txt'"), "the log has DVC's words: {log}");
    }
}

#[test]
fn a_run_goes_on_in_the_phase_in_which_it_failed() {
    let project = Project::from_fixture("split-merge");
    let (log, gate) = (project.path("../ran"), project.path("../gate"));
    project.edit(
        "dvc.yaml",
        "cmd: mkdir -p d &&",
        &format!(
            "cmd: echo ${{item}} >> {} && {{ test ${{item}} != v || test -e {}; }} && mkdir -p d &&",
            log.display(),
            gate.display()
        ),
    );
    project.commit("v fails in the fourth phase");
    let first = fails_with(&project, 1, ["run", "-j", "2"]);
    assert!(first.stderr.contains("d@v"), "{first:#?}");
    assert!(!project.path("e.txt").exists(), "finalize does not run the failed key again");
    let ran = || std::fs::read_to_string(&log).expect("a log");
    assert_eq!(ran().matches('v').count(), 1, "{}", ran());
    std::fs::write(&gate, "").expect("written");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!((ran().matches('u').count(), ran().matches('v').count()), (1, 2), "{}", ran());
    assert_clean(&project, &[]);
}

/// What a failed command left has the modes that it gave it, though the content was there before.
#[test]
fn what_a_failed_command_left_as_it_was_has_its_new_mode() {
    let made = || {
        let project = Project::without_init();
        let command = "cat in && echo 1 > ${item} && chmod +x ${item} && test ! -e fail";
        project.write(
            "dvc.yaml",
            &format!("stages:\n  a:\n    foreach: [x, y]\n    do:\n      cmd: {command}\n      deps: [in]\n      outs: ['${{item}}']\n"),
        );
        project.write(".dvc/config", "[cache]\n    type = copy\n");
        project.write("in", "1\n");
        project.commit("an executable out");
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    fanned.fanout(["run"]).succeeded();
    for project in [&serial, &fanned] {
        project.write("in", "2\n");
        project.write("fail", "");
    }
    assert_ne!(serial.try_dvc(["repro", "--keep-going"]).code, Some(0));
    fails_with(&fanned, 1, ["run"]);
    let mode = |project: &Project| std::fs::metadata(project.path("x")).expect("there").permissions().mode() & 0o777;
    assert_eq!(format!("{:o}", mode(&fanned)), format!("{:o}", mode(&serial)));
}

/// A project with two sessions, and a stage that gathers them.
fn gathering() -> Project {
    let project = Project::without_init();
    project.write(
        "dvc.yaml",
        "stages:\n  a:\n    foreach: [x, y]\n    do:\n      cmd: cp in/${item} out-${item}\n      deps: ['in/${item}', base]\n\
         \x20     outs:\n      - out-${item}\n  all:\n    cmd: cat out-x out-y > all\n    deps: [out-x, out-y]\n    outs: [all]\n",
    );
    for path in ["in/x", "in/y", "base"] {
        project.write(path, &format!("{path}\n"));
    }
    project.commit("two sessions");
    project
}

/// `dvc gc` does not know yet what a run has made.
#[test]
fn data_that_is_removed_from_the_cache_before_it_is_collected_is_made_again() {
    let (serial, fanned) = (gathering(), gathering());
    serial.dvc(["repro"]);
    fanned.fanout(["plan"]).succeeded();
    fanned.fanout(["launch"]).succeeded();
    fanned.dvc(["gc", "--workspace", "--force"]);
    let ran = fails_with(&fanned, 1, ["finalize"]);
    assert!(ran.stderr.contains("the data of `out-x` is not in the cache any more"), "{ran:#?}");
    assert!(ran.stderr.contains("skipped because x, y failed"), "{ran:#?}");
    assert!(!fanned.path("dvc.lock").exists() && !fanned.path("out-x").exists(), "no entry without its data");
    fanned.fanout(["run"]).succeeded();
    assert_same(&serial, &fanned, "after gc");
    assert_clean(&fanned, &[]);
}

#[test]
fn a_stage_that_gathers_does_not_run_on_what_a_rejected_result_left_as_it_was() {
    let project = gathering();
    project.fanout(["run"]).succeeded();
    let before = project.read("all");
    project.write("base", "changed\n");
    project.fanout(["plan"]).succeeded();
    project.fanout(["launch"]).succeeded();
    let result = run_folder(&project).join("results/1/1/result.json");
    let text = std::fs::read_to_string(&result).expect("read").replace("out-y", "out-z");
    std::fs::write(&result, text).expect("written");
    let ran = fails_with(&project, 1, ["finalize"]);
    assert!(ran.stderr.contains("rejected: work item 1 (`y`)"), "{ran:#?}");
    assert!(ran.stderr.contains("all: skipped because y failed"), "{ran:#?}");
    assert_eq!(project.read("all"), before);
    project.fanout(["run"]).succeeded();
    assert_clean(&project, &[]);
}

#[test]
fn a_result_that_is_damaged_is_told_and_made_again() {
    let project = gathering();
    project.fanout(["plan"]).succeeded();
    project.fanout(["launch"]).succeeded();
    std::fs::write(run_folder(&project).join("results/1/1/result.json"), "{").expect("written");
    let ran = project.fanout(["run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("another attempt counts"), "{ran:#?}");
    assert_clean(&project, &[]);
}

/// Whoever opens a FIFO waits for somebody at its other end.
#[test]
fn an_out_that_is_no_file_fails_its_stage_as_under_dvc_repro() {
    for (make, code) in [("mkfifo", 255), ("mkfifo out-${item} && exit 3; true", 255)] {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            &format!("stages:\n  a:\n    foreach: [x, y]\n    do:\n      cmd: {make} out-${{item}}\n      outs: ['out-${{item}}']\n"),
        );
        project.commit("a FIFO");
        let serial = project.clone_beside("serial");
        assert_eq!(serial.try_dvc(["repro"]).code, Some(code), "{make}");
        let ran = fails_with(&project, 1, ["run", "-j", "2"]);
        if make == "mkfifo" {
            assert!(ran.stderr.contains("output 'out-x' is not a file or directory"), "{ran:#?}");
        }
    }
}

/// DVC removes the outs of a stage before it runs it, also of one that it does not know yet.
#[test]
fn what_a_new_stage_left_replaces_what_was_there_though_it_failed() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  x:\n    foreach: [a, b]\n    do:\n      cmd: echo new > o_${item}; mkdir -p d_${item}; echo new > d_${item}/f; false\n\
             \x20     outs: ['o_${item}', 'd_${item}']\n",
        );
        project.commit("outs without entries");
        project.write("o_a", "old\n");
        project.write("d_a/g", "old\n");
        project
    };
    let (serial, fanned) = (made(), made());
    assert_ne!(serial.try_dvc(["repro", "--keep-going"]).code, Some(0));
    fails_with(&fanned, 1, ["run"]);
    for path in ["o_a", "d_a/f"] {
        assert_eq!((fanned.read(path), serial.read(path)), ("new\n".to_owned(), "new\n".to_owned()), "{path}");
    }
    assert_eq!(fanned.path("d_a/g").exists(), serial.path("d_a/g").exists());
}
