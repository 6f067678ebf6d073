//! Inputs that DVC fails at: they cost the stages that need them, and no others.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::support::same::fails_with;
use crate::support::{Project, Ran};

const STAGES: &str = "stages:
  count:
    foreach: [plain, odd, hidden, link, folder]
    do:
      cmd: find in/${item} -type f | wc -l > ${item}.out
      deps: [\"in/${item}\"]
      outs: [\"${item}.out\"]
  params:
    foreach: {good: [good.yaml, a], broken: [broken.yaml, a], many: [good.yaml, \"m.*\"], one: [good.yaml, \"n.*\"]}
    do:
      cmd: echo ${key} > ${key}.out
      params: [{\"${item[0]}\": [\"${item[1]}\"]}]
      outs: [\"${key}.out\"]
  out:
    foreach: {x: x, odd: '\\0351'}
    do:
      cmd: mkdir out-${key} && echo > \"out-${key}/$(printf '%b' '${item}')\"
      outs: [\"out-${key}\"]
";

fn project() -> Project {
    let project = Project::empty();
    project.write("dvc.yaml", STAGES);
    project.write(".dvcignore", "*.hidden\n");
    project.write("good.yaml", "a: 1\nm: {x: 1, y: 2}\nn: {x: 1}\n");
    project.write("broken.yaml", "a: [1\n");
    for key in ["plain", "odd", "hidden", "link", "folder"] {
        project.write(&format!("in/{key}/a.txt"), key);
    }
    project.write("in/link/b.txt", "b");
    std::os::unix::fs::symlink("nowhere", project.path("in/link/broken")).expect("linked");
    let write = |folder: &str, name: &[u8]| {
        let path = project.path(folder).join(OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("made");
        std::fs::write(path, "odd").expect("written");
    };
    write("in/odd", b"caf\xe9.txt");
    write("in/hidden", b"caf\xe9.hidden");
    write("in/folder", b"caf\xe9/b.txt");
    write("beside", b"caf\xe9.txt");
    project
}

/// An input stays as it is, so another try would fail as well.
fn assert_tried_once(project: &Project) {
    let logs = Ran::of(project.command("find").args([".dvc/fanout/runs", "-name", "2.log"])).succeeded();
    assert_eq!(logs, "", "work items that were tried again");
}

#[test]
fn inputs_that_dvc_fails_at_fail_their_own_stages() {
    for is_tracked in [true, false] {
        let make = || {
            let project = project();
            if is_tracked {
                project.commit("inputs");
            }
            project
        };
        let (serial, fanned) = (make(), make());
        let repro = serial.try_dvc(["repro", "--keep-going"]);
        assert_ne!(repro.code, Some(0), "{repro:#?}");
        fails_with(&fanned, 1, ["run", "-j", "1"]);
        assert_tried_once(&fanned);
        assert_eq!(fanned.read("dvc.lock"), serial.read("dvc.lock"), "tracked: {is_tracked}");
        assert_eq!(fanned.read("hidden.out").trim(), "2", "the command sees what DVC does not");
        let again = fails_with(&fanned, 1, ["run", "-j", "1"]);
        assert!(again.stderr.contains("stage `count@odd` is going to fail: `in/odd` has an entry"), "{again:#?}");
    }
}

#[test]
fn a_stage_whose_dep_is_a_fifo_fails_and_waits_for_nobody() {
    let project = project();
    let made = std::process::Command::new("mkfifo").arg(project.path("in/plain/pipe")).status();
    assert!(made.expect("mkfifo starts").success());
    fails_with(&project, 1, ["run", "-j", "2", "count@plain", "count@hidden"]);
    assert_tried_once(&project);
    assert!(project.read("dvc.lock").contains("count@hidden") && !project.path("plain.out").exists());
}
