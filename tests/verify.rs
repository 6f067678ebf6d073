//! `verify`: the promise, checked by users on their own project.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::runs::wait_until;
use crate::support::same::{fails_with, listing};
use crate::support::{Project, Ran};

/// A map stage of six keys whose command is this, and a stage that gathers them.
fn project(command: &str) -> Project {
    let project = Project::without_init();
    project.write(
        "dvc.yaml",
        &format!(
            "stages:\n  make:\n    foreach: [a, b, c, d, e, f]\n    do:\n      cmd: {command}\n      deps: [in]\n      \
             outs: ['made/${{item}}']\n  gather:\n    cmd: cat made/* > all\n    deps: [made]\n    outs: [all]\n"
        ),
    );
    project.write("in", "1\n");
    project.write("made/.keep", "");
    project.commit("a map stage");
    project
}

/// Everything of a project that must stay as it is.
fn everything(project: &Project) -> (Value, String, bool) {
    let refs = project.git(["for-each-ref"]) + &project.git(["status", "--porcelain", "-uall"]);
    (json!(listing(project)), refs, project.path(".dvc/fanout").exists())
}

#[test]
fn a_project_that_comes_out_the_same_is_said_to_and_stays_untouched() {
    let project = project("cp in made/${item}");
    let before = everything(&project);
    let said = project.fanout(["verify", "--sample", "2"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.starts_with("2 stages: `dvc-fanout run` leaves what `dvc repro` leaves\n"), "{said:#?}");
    assert!(said.stdout.contains("compared:\n  make@a\n  make@d\n"), "{said:#?}");
    assert!(said.stdout.contains("  gather: it needs `make@b`, which is not done here\n"), "{said:#?}");
    assert!(said.stdout.contains("  make: 4 more keys, not in the sample\n"), "{said:#?}");
    assert_eq!(everything(&project), before);
    let said = project.fanout(["verify", "--sample", "6", "--format", "json"]).succeeded();
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["same"], &said["not_compared"]), (&json!(true), &json!({})));
    assert_eq!(said["compared"].as_array().map(Vec::len), Some(7), "{said}");
    assert_eq!(everything(&project), before);
}

#[test]
fn data_that_dvc_has_is_brought_along_and_the_cache_is_left_alone() {
    let project = Project::without_init();
    project.write(".dvc/config", "[cache]\n    type = symlink\n");
    project.write("data/a", "a\n");
    project.write("data/b", "b\n");
    project.write("raw", "raw\n");
    project.write(
        "dvc.yaml",
        "stages:\n  first:\n    cmd: mkdir first && cat raw > first/x\n    deps: [raw]\n    outs: [first]\n  grow:\n    \
         foreach: [a, b]\n    do:\n      cmd: cat data/${item} first/x >> ${item}.grown\n      \
         deps: [data, first/x]\n      outs: ['${item}.grown': {persist: true}]\n",
    );
    project.dvc(["add", "--quiet", "data", "raw"]);
    project.dvc(["repro", "--quiet"]);
    project.commit("made");
    // One is only in the cache.
    std::fs::remove_file(project.path("raw")).expect("there");
    let before = everything(&project);
    let said = project.fanout(["verify", "--sample", "1"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("compared:\n  first\n  grow@a\n"), "{said:#?}");
    let said = project.fanout(["verify", "grow@b"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(everything(&project), before);
}

#[test]
fn a_stage_that_makes_something_else_each_time_is_named_as_such() {
    let project =
        project("if test ${item} = a; then od -An -N8 -tx1 /dev/urandom > made/a; else cp in made/${item}; fi");
    let said = project.fanout(["verify"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let (_, named) =
        said.stdout.split_once("not deterministic (two `dvc repro` differ as well):\n").expect("it says so");
    assert!(named.starts_with("  `make@a`: "), "{said:#?}");
    assert!(!named.contains("make@c") && !said.stdout.contains("\ndifferent:\n"), "{said:#?}");
}

#[test]
fn a_difference_that_is_not_the_commands_is_an_internal_error_and_the_copies_are_kept() {
    // Such a variable is this program's own.
    let project = project(r#"echo "\${DVC_FANOUT_SLOT:+here}" > made/${item}"#);
    let said = fails_with(&project, 70, ["verify", "--sample", "1"]);
    assert!(said.stdout.contains("\ndifferent:\n"), "{said:#?}");
    assert!(said.stderr.contains("internal error: `dvc-fanout run` left something else than `dvc repro`"), "{said:#?}");
    let command = said.stderr.lines().find_map(|line| line.strip_prefix("hint: look at both sides: "));
    let command = command.expect("it says how to look").trim_matches('`').to_owned();
    let seen = Ran::of(project.command("sh").args(["-c", &command]));
    assert!(seen.stdout.contains("made/a\n"), "{seen:#?}");
    let folder = command.split(' ').nth(2).and_then(|path| std::path::Path::new(path).parent()).expect("a folder");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn copies_are_kept_where_asked_to() {
    let project = project("cp in made/${item}");
    let scratch = tempfile::tempdir().expect("made");
    let path = scratch.path().to_str().expect("UTF-8");
    let said = project.fanout(["verify", "--sample", "1", "--keep", "--scratch", path]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let kept = said.stderr.lines().find_map(|line| line.strip_prefix("the copies are in `")).expect("it says where");
    let kept = std::path::Path::new(kept.trim_end_matches('`'));
    assert!(kept.join("dvc/made/a").is_file() && kept.join("fanout/made/a").is_file(), "{said:#?}");
    assert!(kept.join("dvc.log").is_file() && kept.join("fanout.log").is_file(), "{said:#?}");
}

#[test]
fn a_project_that_cannot_be_copied_says_so() {
    let project = project("cp in made/${item}");
    for path in ["in/there", "nowhere"] {
        let said = fails_with(&project, 2, ["verify", "--scratch", path]);
        assert!(said.stderr.contains(&format!("{path}` is no folder\n")), "{said:#?}");
        assert!(said.stderr.contains("`--scratch DIR`"), "{said:#?}");
        assert!(!project.path("nowhere").exists());
    }
    // A file system that is full before anything is written to it.
    let said = fails_with(&project, 5, ["verify", "--scratch", "/proc/self"]);
    assert!(said.stderr.starts_with("error: the project cannot be copied\n"), "{said:#?}");
}

#[test]
fn a_command_that_fails_whoever_runs_it_is_told() {
    let project = project("cp nothing made/${item}");
    let said = fails_with(&project, 1, ["verify", "--sample", "1"]);
    assert!(said.stderr.contains("error: `dvc repro` failed in a copy of the project\n"), "{said:#?}");
    assert!(said.stderr.contains("failed to run: cp nothing made/a"), "{said:#?}");
}

#[test]
fn a_check_that_is_cut_off_leaves_neither_copies_nor_processes() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let project = project("echo > made/${item}; sleep 300");
        let scratch = project.path("../scratch");
        std::fs::create_dir(&scratch).expect("made");
        let log = std::fs::File::create(project.path("../stderr")).expect("created");
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(["verify", "make@a", "--scratch", "../scratch"]).stderr(log);
        let mut running = command.spawn().expect("started");
        let made = || Ran::of(project.command("find").arg(&scratch).args(["-path", "*/made/a"])).stdout;
        wait_until(&made, &|| !made().is_empty());
        kill_process(Pid::from_child(&running), signal).expect("sent");
        assert_eq!(running.wait().expect("ended").code(), Some(code));
        let left: Vec<_> = scratch.read_dir().expect("it was there before").collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(project.processes().is_empty(), "{:#?}", project.processes());
        let said = project.read("../stderr");
        assert!(said.contains("error: stopped before everything was compared; the copies are removed\n"), "{said}");
    }
}
