//! What git ignores, as DVC decides it: which folders have stages, and which outs get a line in a `.gitignore`.

use crate::support::Project;
use crate::support::same::{assert_clean, assert_same};

/// Runs a project that is made by `make` with `dvc repro` and with `dvc-fanout run`.
#[track_caller]
fn same(make: &dyn Fn(&Project)) -> Project {
    let made = || {
        let project = Project::empty();
        make(&project);
        project.git(["add", "--force", "."]);
        project.git(["rm", "--quiet", "--cached", "--ignore-unmatch", "data/raw.txt"]);
        project.git(["commit", "--quiet", "--message=project"]);
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_same(&serial, &fanned, "at first");
    assert_clean(&fanned, &[]);
    fanned
}

const RAW: &str = "stages:
  work:
    foreach: [a, b]
    do:
      cmd: mkdir -p out && cat data/raw.txt > out/${item}.txt
      deps: [data/raw.txt]
      outs: [\"out/${item}.txt\"]
";

#[test]
fn a_folder_whose_contents_git_ignores_is_not_searched_for_stages() {
    for lines in ["data/**/*\n!data/**/*.dvc\n", "data/**\n!*.dvc\n", "/data/*\n!/data/*.dvc\n"] {
        let project = same(&|project| {
            project.write(".gitignore", lines);
            project.write("data/raw.txt", "raw");
            let md5 = "bdb8481c7f3bc2eb9a41b3d4e4b4a5f5";
            project
                .write("data/raw.txt.dvc", &format!("outs:\n- md5: {md5}\n  size: 3\n  hash: md5\n  path: raw.txt\n"));
            project.write("dvc.yaml", RAW);
        });
        let stages = project.fanout(["stages"]).succeeded();
        assert!(!stages.contains("raw.txt.dvc"), "{lines}: {stages}");
    }
}

#[test]
fn outs_that_a_line_takes_back_in_get_a_line_of_their_own() {
    same(&|project| {
        // DVC covers `a` and `c`, and gives `b` a line.
        project.write(".gitignore", "/out/*\n!/out/b.txt\n");
        project.write("out/.gitignore", "!c.txt\n*\n");
        project.write("data/raw.txt", "raw");
        project.write("dvc.yaml", &RAW.replace("[a, b]", "[c, a, b]"));
    });
}

#[test]
fn lines_of_outs_with_a_backslash_keep_their_place() {
    let project = same(&|project| {
        project.write(
            "dvc.yaml",
            r"stages:
  first:
    cmd: echo first > 'd\first.txt'
    outs: ['d\first.txt']
  work:
    foreach: [c, a, b]
    do:
      cmd: cat 'd\first.txt' > 'd\x${item}.txt'
      deps: ['d\first.txt']
      outs: ['d\x${item}.txt']
  second:
    foreach: [c, a, b]
    do:
      cmd: cat 'd\x${item}.txt' > 'e\x${item}.txt'
      deps: ['d\x${item}.txt']
      outs: ['e\x${item}.txt']
  last:
    cmd: cat 'e\xa.txt' 'e\xb.txt' 'e\xc.txt' > 'd\last.txt'
    deps: ['e\xa.txt', 'e\xb.txt', 'e\xc.txt']
    outs: ['d\last.txt']
",
        );
    });
    assert!(project.read(".gitignore").starts_with("/d\\\\first.txt\n/d\\\\xc.txt\n"));
}

const UNSEEN: &str = "stages:
  fetch:
    foreach: [a, b]
    do:
      cmd: mkdir -p c/${item}/.git && echo ref > c/${item}/.git/HEAD && echo 1 > c/${item}/f
      outs: ['c/${item}']
  use:
    foreach: [a, b]
    do:
      cmd: find -L c/${item} data -type f | sort > ${item}.use
      deps: ['c/${item}', data, '${item}.txt']
      outs: ['${item}.use']
  train:
    foreach: [a, b]
    do:
      cmd: mkdir -p m/${item} && find m/${item} -type f | sort > ${item}.log && cat ${item}.txt >> m/${item}/weights
      deps: ['${item}.txt']
      outs: ['${item}.log', 'm/${item}': {persist: true}]
";

/// The user's checkpoints beside those of a stage, the repository in a clone.
#[test]
fn what_dvc_does_not_see_in_an_out_is_there_for_commands() {
    let made = || {
        let project = Project::empty();
        project.write(".dvcignore", "*.ckpt\nkeep/\n!seen.ckpt\n");
        project.write("dvc.yaml", UNSEEN);
        project.write("data/sub/one", "one");
        for key in ["a", "b"] {
            project.write(&format!("{key}.txt"), key);
        }
        project.dvc(["add", "--quiet", "data"]);
        project.commit("project");
        project.dvc(["repro", "--quiet"]);
        for path in ["data/sub/x.ckpt", "data/keep/y", "m/a/best.ckpt", "m/a/keep/z/z", "m/b/.git"] {
            project.write(path, "the user's");
        }
        project.write("a.txt", "changed");
        project.write("b.txt", "changed");
        project
    };
    let serial = made();
    serial.dvc(["repro"]);
    for options in [&["--executor", "native"][..], &["--workspace", "linked"], &["--executor", "dvc"]] {
        let fanned = made();
        fanned.fanout(["run", "-j", "2"].into_iter().chain(options.iter().copied())).succeeded();
        assert_same(&serial, &fanned, &format!("{options:?}"));
        assert_clean(&fanned, &[]);
        assert_eq!(fanned.read("a.log"), "m/a/best.ckpt\nm/a/keep/z/z\nm/a/weights\n", "{options:?}");
    }
}

/// Else the next `git add --all` would have the cache.
#[test]
fn dvcs_own_files_are_kept_out_of_git() {
    for before in ["", "/tmp\n/cache\n"] {
        let made = || {
            let project = Project::without_init();
            project.write(".dvc/.gitignore", before);
            project.write(
                "dvc.yaml",
                "stages:\n  s:\n    foreach: [a, b]\n    do:\n      cmd: echo ${item} > ${item}\n      outs: ['${item}']\n",
            );
            project.commit("made");
            project
        };
        let (serial, fanned) = (made(), made());
        serial.dvc(["repro"]);
        fanned.fanout(["run"]).succeeded();
        assert_same(&serial, &fanned, before);
        assert_eq!(serial.read(".dvc/.gitignore"), fanned.read(".dvc/.gitignore"));
        let status = |project: &Project| project.git(["status", "--porcelain", "--untracked-files=all"]);
        assert_eq!(status(&fanned), status(&serial));
    }
}
