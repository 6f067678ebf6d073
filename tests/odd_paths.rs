//! Projects in folders whose names mean something in the files that name them: DVC's config, git's alternates.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::support::{Project, Ran, same};

const PIPELINE: &str = "stages:
  use:
    foreach: [p, q]
    do:
      cmd: cat ${item}.txt > ${item}.out
      deps: [\"${item}.txt\"]
      outs: [\"${item}.out\"]
  all:
    cmd: cat p.out q.out > all.out
    deps: [p.out, q.out]
    outs: [all.out]
";

fn project(name: &OsStr) -> Project {
    let project = Project::in_folder(name);
    project.write("dvc.yaml", PIPELINE);
    project.write("p.txt", "p\n");
    project.write("q.txt", "q\n");
    project.commit("one");
    project
}

#[track_caller]
fn check(name: &str) {
    let project = project(OsStr::new(name));
    let ran = project.fanout(["run", "-j", "2"]);
    assert_eq!(ran.code, Some(0), "{name:?}: {ran:#?}");
    assert_eq!(project.read("all.out"), "p\nq\n", "{name:?}");
    same::assert_clean(&project, &[]);
    let cache = project.path(".dvc/cache/files/md5").read_dir().expect("the cache is the project's own");
    assert_eq!(cache.count(), 3, "{name:?}");
    for folder in project.root().ancestors().skip(1).take(2) {
        let beside: Vec<_> = folder.read_dir().expect("listed").map(|entry| entry.expect("listed").path()).collect();
        let way = |path: &std::path::PathBuf| project.root().starts_with(path);
        assert!(beside.iter().all(way), "{name:?}: written outside of the project: {beside:?}");
    }
}

#[test]
fn comments_and_lists_of_dvcs_config() {
    check("C# work");
    check("v1, final");
    check("#1");
    check("eq=uals; 'a', \"b\" # c");
}

#[test]
fn values_that_dvcs_config_would_replace() {
    check("%(here)s");
    check("100% %(dir)s, #2");
}

#[test]
fn quotes_and_blanks_at_the_ends() {
    check("it's \"so\"");
    check(" leading and trailing ");
    check("\"quoted\"");
}

#[test]
fn what_shells_and_globs_replace() {
    check("$HOME ~ `id` a;b&c");
    check("~");
    check("[x]*?");
    check("back\\slash\\");
    check("two\nlines");
}

/// What git has seen at rest is not read again, but borrowed from its objects.
#[test]
fn what_git_has_is_found_wherever_the_folders_are() {
    let settled = |name: &str| {
        let project = project(OsStr::new(name));
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        project.write("late.txt", "late\n");
        project.commit("two");
        project
    };
    let with_a_line_end = settled("two\nlines");
    let behind_a_symlink = settled("project");
    let elsewhere = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(elsewhere.path(), behind_a_symlink.path(".dvc/fanout")).expect("linked");
    for project in [with_a_line_end, behind_a_symlink] {
        let ran = project.fanout(["run", "-j", "2"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert_eq!(project.read("all.out"), "p\nq\n");
        same::assert_clean(&project, &[]);
    }
}

#[test]
fn a_store_with_an_odd_name_is_pulled_from() {
    let project = project(OsStr::new("%(a)s, # b"));
    std::fs::create_dir(project.path("../store")).expect("made");
    project.write(".dvc/config", "[core]\n    remote = s\n['remote \"s\"']\n    url = ../../store\n");
    project.dvc(["repro"]);
    project.dvc(["push"]);
    std::fs::remove_dir_all(project.path(".dvc/cache")).expect("removed");
    std::fs::remove_file(project.path("p.out")).expect("removed");
    project.write("q.txt", "more\n");
    let ran = project.fanout(["run", "-j", "2", "--pull"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(project.read("all.out"), "p\nmore\n");
}

#[test]
fn a_path_that_is_no_utf8_is_refused_by_name() {
    let project = project(OsStr::from_bytes(b"odd\xff"));
    let ran = same::fails_with(&project, 4, ["plan"]);
    assert!(ran.stderr.starts_with("error: the project's path is not UTF-8: `"), "{ran:#?}");
    assert!(ran.stderr.contains("hint: rename the folder"), "{ran:#?}");
}

#[test]
fn a_path_that_dvcs_config_cannot_have_is_refused_by_plan() {
    let project = project(OsStr::new("plain"));
    project.write(".dvc/config", "[core]\n    remote = s\n['remote \"s\"']\n    url = ~/store\n");
    let home = project.path("../%(home)s");
    let ran = Ran::of(project.command(env!("CARGO_BIN_EXE_dvc-fanout")).arg("plan").env("HOME", home));
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("a worker's copy cannot have `url`"), "{ran:#?}");
    assert!(ran.stderr.contains("hint: give the folders"), "{ran:#?}");
}
