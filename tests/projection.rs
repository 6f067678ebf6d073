//! A worker sees of the project what its commands would have seen in it, whatever the project is made of.

use std::os::unix::fs::symlink;

use crate::support::same::{assert_same, fails_with, same_as_dvc, same_when_made};
use crate::support::{Project, Ran};

#[test]
fn every_way_to_write_a_template_ends_as_dvc_repro_leaves_it() {
    same_as_dvc(
        "templates",
        &[],
        &[&|project| {
            project.edit("params.yaml", "sizes: [3]", "sizes: [4]");
            project.edit("params.yaml", "names: [a, b]", "names: [b, c]");
            project.edit("params.yaml", "n: 2", "n: 7");
            project.edit("consts.toml", "1.50", "2.25");
        }],
    );
}

#[test]
fn folders_with_stage_files_of_others_are_deps_like_any() {
    let track = |project: &Project| {
        project.write("raw/tracked.txt", "tracked\n");
        project.dvc(["add", "--quiet", "raw/tracked.txt"]);
        project.commit("track");
    };
    same_when_made(
        "folders",
        &["-P"],
        &track,
        &[&|project| {
            project.edit("model/params.yaml", "2", "3");
            project.write("common.txt", "another\n");
        }],
    );
}

#[test]
fn a_failed_stage_beside_stage_files_of_others_keeps_only_what_needs_it_from_running() {
    let (serial, fanned) = (Project::from_fixture("folders"), Project::from_fixture("folders"));
    for project in [&serial, &fanned] {
        project.write("raw/tracked.txt", "tracked\n");
        project.dvc(["add", "--quiet", "raw/tracked.txt"]);
        project.commit("track");
    }
    serial.dvc(["repro", "-P"]);
    fanned.fanout(["run", "-P", "-j", "2"]).succeeded();
    for project in [&serial, &fanned] {
        project.write("raw/b.txt", "bad\n");
        project.edit(
            "dvc.yaml",
            "raw/${item}.txt > fit-${item}.txt\n",
            "raw/${item}.txt > fit-${item}.txt && test ${item} = b\n",
        );
        project.commit("a fails at once, b in its test");
    }
    let kept = serial.try_dvc(["repro", "-P", "--keep-going"]);
    assert_ne!(kept.code, Some(0), "{kept:#?}");
    fails_with(&fanned, 1, ["run", "-P", "-j", "2"]);
    assert_same(&serial, &fanned, "after a failure");
}

/// `k2` makes its file after `k1`, in one work item with a stage that has the directory as a dep.
const ROLLING: &str = "stages:
  make:
    foreach: {k1: raw/k1.txt, k2: made/k1, k4: raw/k4.txt}
    do:
      cmd: mkdir -p made && cat ${item} > made/${key}
      deps: [\"${item}\"]
      outs: [\"made/${key}\"]
  look:
    foreach: [k2, k3]
    do:
      cmd: cat made/.gitignore > look-${item}
      deps: [made]
      outs: [\"look-${item}\"]
";

fn rolling() -> Project {
    let project = Project::from_fixture("sessions");
    project.write("dvc.yaml", ROLLING);
    project.write("raw/k1.txt", "1\n");
    project.write("raw/k4.txt", "4\n");
    project.commit("a rolling window");
    project
}

#[test]
fn a_directory_has_the_lines_for_git_in_serial_order_though_a_work_item_makes_one_of_its_files() {
    let (serial, fanned) = (rolling(), rolling());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(fanned.read("made/.gitignore"), "/k1\n/k2\n/k4\n");
    assert_same(&serial, &fanned, "at first");
}

#[test]
fn a_file_that_was_not_made_leaves_no_line_for_git() {
    let fanned = rolling();
    fanned.edit("dvc.yaml", "cat ${item} > made", "test ${key} != k2 && cat ${item} > made");
    fanned.fanout(["plan"]).succeeded();
    fails_with(&fanned, 1, ["launch", "-j", "2"]);
    fanned.fanout(["collect"]).succeeded();
    assert_eq!(fanned.read("made/.gitignore"), "/k1\n/k4\n");
}

#[test]
fn commands_find_what_lies_beside_what_they_declare() {
    let make = |project: &Project| {
        std::fs::create_dir_all(project.root().with_file_name("outside")).expect("made");
        std::fs::write(project.root().with_file_name("outside").join("file.txt"), "outside\n").expect("written");
        symlink("../outside", project.path("outside")).expect("linked");
        symlink("a.txt", project.path("raw/link.txt")).expect("linked");
        symlink("../scripts", project.path("raw/folder")).expect("linked");
        project.write("plain/p.txt", "plain\n");
        std::fs::create_dir(project.path("plain/empty")).expect("made");
        project.write(".gitignore", "/plain/\n");
        project.git(["config", "test.word", "configured"]);
        project.commit("make");
        project.git(["tag", "--annotate", "v1", "--message", "one"]);
    };
    same_when_made(
        "workspace",
        &[],
        &make,
        &[
            &|project| {
                project.edit("scripts/lib.sh", "says", "cries");
                project.edit("dvc.yaml", "foreach: [a, b]", "foreach: [a, b, c]");
                project.write("raw/c.txt", "untracked\n");
                project.write("plain/p.txt", "more\n");
            },
            &|project| {
                project.git(["checkout", "--quiet", "--detach"]);
                std::fs::remove_file(project.path("raw/link.txt")).expect("removed");
                symlink("b.txt", project.path("raw/link.txt")).expect("linked");
                project.git(["add", "raw/c.txt"]);
            },
        ],
    );
}

/// A cache elsewhere, and outs that are linked to it.
#[test]
fn a_shared_cache_with_links_ends_as_dvc_repro_leaves_it() {
    for kind in ["hardlink", "symlink"] {
        let configure = |project: &Project| {
            let config = format!(
                "[cache]\n    dir = ../../cache\n    type = {kind}\n    shared = group\n[core]\n    autostage = true\n"
            );
            project.write(".dvc/config", &config);
            project.write("big/1.csv", "one\n");
            project.write("big/deep/empty", "");
            project.dvc(["add", "--quiet", "big"]);
            project.edit("dvc.yaml", "    - raw/${item.region}.csv\n", "    - raw/${item.region}.csv\n    - big\n");
            project.edit("dvc.yaml", "cat raw/${item.region}.csv", "cat raw/${item.region}.csv big/*.csv");
            // Equal objects are one file, of which DVC links the first and not the second.
            project.edit("dvc.yaml", "echo ${item.depth}", "echo ${key}");
            project.edit("dvc.yaml", "do $d/b.sh", "do sh $d/b.sh");
            project.commit("a shared cache");
        };
        same_when_made("grid", &[], &configure, &[&|project| project.write("raw/east.csv", "east 2\n")]);
    }
}

#[test]
fn a_project_in_a_folder_of_the_repository_reads_beside_itself() {
    let (serial, fanned) = (Project::bare(), Project::bare());
    for project in [&serial, &fanned] {
        project.git(["init", "--quiet", "--initial-branch=main"]);
        project.write("common.txt", "common\n");
        project.write("sets/x.txt", "x\n");
        project.write("ignored.txt", "ignored\n");
        project.write(".gitignore", "/ignored.txt\n");
        project.write("deep/proj/raw/a.txt", "a\n");
        project.write("deep/proj/raw/b.txt", "b\n");
        project.write("deep/near.txt", "near\n");
        project.write(
            "deep/proj/dvc.yaml",
            "stages:\n  m:\n    foreach: [a, b]\n    do:\n      cmd: cat raw/${item}.txt ../near.txt ../../common.txt \
             ../../sets/x.txt > ${item}.out && git rev-parse --show-prefix >> ${item}.out\n      deps: [\"raw/${item}.txt\", \
             ../near.txt, ../../common.txt, ../../sets]\n      outs: [\"${item}.out\"]\n  all:\n    cmd: cat a.out b.out > all\n    \
             deps: [a.out, b.out]\n    outs: [all]\n",
        );
        let init = project.try_dvc(["--cd", "deep/proj", "init", "--quiet", "--subdir"]);
        init.succeeded();
        project.commit("in a folder");
    }
    for round in 0..2 {
        for project in [&serial, &fanned] {
            if round == 1 {
                project.write("common.txt", "another\n");
            }
        }
        serial.dvc(["--cd", "deep/proj", "repro"]);
        // From a folder of the project, as one would.
        let raw = fanned.path("deep/proj/raw");
        let ran = Ran::of(
            fanned.command(env!("CARGO_BIN_EXE_dvc-fanout")).args(["run", "-j", "2", "../dvc.yaml"]).current_dir(raw),
        );
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert_same(&serial, &fanned, &format!("round {round}"));
    }
    // What git ignores there is part of a dep for DVC, whose own ignore rules end at the project's folder.
    for project in [&serial, &fanned] {
        project.edit("deep/proj/dvc.yaml", "../../sets]", "../../sets, ../../ignored.txt]");
        project.write(".gitignore", "/ignored.txt\n*.pyc\n__pycache__/\n");
        project.write(".dvcignore", "*.pyc\n");
        project.write("deep/proj/.dvcignore", "*.pyc\n");
        project.write("sets/a.pyc", "compiled\n");
        project.write("sets/__pycache__/b.pyc", "compiled\n");
    }
    serial.dvc(["--cd", "deep/proj", "repro"]);
    let ran = Ran::of(fanned.command(env!("CARGO_BIN_EXE_dvc-fanout")).args(["--cd", "deep/proj", "run", "-j", "2"]));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "ignored files in deps above");
}

#[test]
fn submodules_come_along_as_they_are() {
    let add = |project: &Project| {
        let library = Project::bare();
        library.git(["init", "--quiet", "--initial-branch=main"]);
        library.write("tool.sh", "echo tool\n");
        library.write("data/x.txt", "x\n");
        library.write(".gitignore", "*.tmp\n");
        library.commit("library");
        let from = library.root().to_str().expect("UTF-8");
        project.git(["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", from, "library"]);
        project.git(["config", "--file", ".gitmodules", "submodule.library.url", "https://example.com/library"]);
        project.write("library/data/x.txt", "changed in place\n");
        project.write("library/untracked", "untracked\n");
        project.write("library/x.tmp", "ignored\n");
        project.write("crlf.txt", "one\r\ntwo\r\n");
        project.write(".gitattributes", "*.txt text=auto\n");
        project.write(
            "dvc.yaml",
            "stages:\n  m:\n    foreach: [a, b]\n    do:\n      cmd: mkdir -p m && (sh library/tool.sh; cat library/data/x.txt \
             library/untracked library/x.tmp crlf.txt) > m/${item}\n      deps: [library, crlf.txt]\n      outs: [\"m/${item}\"]\n",
        );
        project.commit("a submodule");
    };
    same_when_made("sessions", &[], &add, &[&|project| project.write("library/tool.sh", "echo another tool\n")]);
}
